//! The way of a failed piece back to the shelf: returned to the hub, repaired there.
//!
//! A return begins with a use of a repairable part, once a use; a repair begins when a return is received, with the pieces that
//! came. Both are orders of a kind ([`Leg`]) in one table, with the states of orders that they can have. A piece on this way is no
//! stock: it is counted on a shelf when its repair is received as usable, and not before.
//!
//! Source: maths of pre-positioning, sections 3.3, 4.5 and 5.1.

use std::collections::BTreeMap;

use harbinger_core::{DepotId, PartId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{
    Connection, Error,
    alerts::Order as Sequence,
    column,
    orders::OrderState,
    words::{in_states, words},
};

mod opening;
mod steps;

pub use opening::{Failed, open};
pub use steps::{cancel, chase, receive_repair, receive_return, ship};

/// A stretch of the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// From the depot that serves the device to its hub: approved, shipped, received; or cancelled, where the piece is lost.
    Return,
    /// At the hub: shipped while it is being repaired, then received.
    Repair,
}

words!(Leg, "a leg of the way back", Return = "return", Repair = "repair");

impl Leg {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Return, Self::Repair];

    fn id_prefix(self) -> &'static str {
        match self {
            Self::Return => "ret",
            Self::Repair => "rep",
        }
    }
}

/// Pieces on their way back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReturnOrder {
    /// `ret_...` or `rep_...`; later ones sort later.
    pub order_id: String,
    /// Return or repair.
    #[serde(rename = "kind")]
    pub leg: Leg,
    /// Which part.
    pub part: PartId,
    /// Where the pieces are when it begins: the hub itself for a repair.
    pub from: DepotId,
    /// The hub.
    pub to: DepotId,
    /// Pieces.
    pub quantity: u32,
    /// Where it is in its life.
    pub state: OrderState,
    /// The use (`use_...`) that a return comes from; the return (`ret_...`) that a repair comes from.
    pub cause: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// When the pieces left, or their repair began.
    pub shipped_at: Option<Timestamp>,
    /// When they should be there, or repaired; `None` where that is not known.
    pub due_at: Option<Timestamp>,
    /// When they came, or their repair ended.
    pub received_at: Option<Timestamp>,
    /// How many came; of a repair, how many are usable.
    pub received_quantity: Option<u32>,
    /// When they were given up.
    pub cancelled_at: Option<Timestamp>,
    /// When somebody was told that it is overdue.
    pub overdue_told_at: Option<Timestamp>,
}

/// Which of them a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReturnFilter {
    /// Only these states; all where empty.
    pub states: Vec<OrderState>,
    /// Only this part.
    pub part: Option<PartId>,
    /// Only to this depot.
    pub to: Option<DepotId>,
    /// Only those that are open and were told to be overdue, or only the others.
    pub overdue: Option<bool>,
}

const COLUMNS: &str = "order_id, leg, part, from_depot, to_depot, quantity, state, cause, opened_at, shipped_at, due_at, \
                       received_at, received_quantity, cancelled_at, overdue_told_at";

/// The one with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get(
    connection: &mut Connection,
    tenant: &TenantId,
    leg: Leg,
    order_id: &str,
) -> Result<ReturnOrder, Error> {
    let sql = format!("SELECT {COLUMNS} FROM returns WHERE order_id = $1 AND tenant = $2 AND leg = $3");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(leg.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Err(Error::NotFound { what: leg.as_str(), id: order_id.to_owned() }), return_order)
}

/// At most `limit` that pass the filter, after the one with id `after`, in order of id.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    leg: Leg,
    filter: &ReturnFilter,
    sequence: Sequence,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<ReturnOrder>, Error> {
    let (beyond, direction) = match sequence {
        Sequence::NewestFirst => ("<", "DESC"),
        Sequence::OldestFirst => (">", "ASC"),
    };
    // Empty texts stand for "no bound".
    let states = in_states(&filter.states);
    let overdue = match filter.overdue {
        None => "",
        Some(true) => "AND (state IN ('approved', 'shipped') AND overdue_told_at IS NOT NULL)",
        Some(false) => "AND (state NOT IN ('approved', 'shipped') OR overdue_told_at IS NULL)",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM returns WHERE tenant = $1 AND leg = $2 AND ($3 = '' OR part = $3) \
         AND ($4 = '' OR to_depot = $4) AND ($5 = '' OR order_id {beyond} $5) {states} {overdue} \
         ORDER BY order_id {direction} LIMIT $6"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(leg.as_str())
        .bind(filter.part.as_ref().map_or("", PartId::as_str))
        .bind(filter.to.as_ref().map_or("", DepotId::as_str))
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(return_order).collect()
}

/// Pieces in repair by part and hub, each lot with the time at which it is due; lots without one are left out.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn in_repair(
    connection: &mut Connection,
    tenant: &TenantId,
) -> Result<BTreeMap<(PartId, DepotId), Vec<(Timestamp, u32)>>, Error> {
    let filter = ReturnFilter { states: vec![OrderState::Shipped], ..ReturnFilter::default() };
    let mut lots: BTreeMap<(PartId, DepotId), Vec<(Timestamp, u32)>> = BTreeMap::new();
    for order in list(connection, tenant, Leg::Repair, &filter, Sequence::OldestFirst, None, u32::MAX).await? {
        if let Some(due_at) = order.due_at {
            lots.entry((order.part, order.to)).or_default().push((due_at, order.quantity));
        }
    }
    Ok(lots)
}

fn return_order(row: &AnyRow) -> Result<ReturnOrder, Error> {
    Ok(ReturnOrder {
        order_id: column::get(row, "order_id")?,
        leg: column::parse(row, "leg")?,
        part: column::parse(row, "part")?,
        from: column::parse(row, "from_depot")?,
        to: column::parse(row, "to_depot")?,
        quantity: column::count(row, "quantity")?,
        state: column::parse(row, "state")?,
        cause: column::get(row, "cause")?,
        opened_at: column::time(row, "opened_at")?,
        shipped_at: column::time_optional(row, "shipped_at")?,
        due_at: column::time_optional(row, "due_at")?,
        received_at: column::time_optional(row, "received_at")?,
        received_quantity: column::count_optional(row, "received_quantity")?,
        cancelled_at: column::time_optional(row, "cancelled_at")?,
        overdue_told_at: column::time_optional(row, "overdue_told_at")?,
    })
}

#[cfg(test)]
mod tests;
