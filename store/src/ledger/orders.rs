//! Transfers and purchases: proposed by a plan, then approved, picked, shipped, received, in parts perhaps, and used.
//!
//! Both kinds live the same life ([`OrderState`]) in a table each; [`OrderKind`] says which. A transfer moves pieces
//! between depots, a purchase brings them from the supplier. Every step is one conditional `UPDATE ... WHERE state = ...`
//! inside the caller's transaction, so of two who try the same step one gets [`Error::WrongState`].

use harbinger_core::{ComponentId, DepotId, DeviceId, PartId, Probability, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{
    Connection, Error,
    alerts::Order as Sequence,
    column,
    words::{in_states, words},
};

mod life;
mod overdue;
mod positions;
mod proposals;
mod receipts;
mod steps;
mod uses;

pub use life::{OrderState, OrderStep};
pub use overdue::chase;
pub(super) use overdue::mark_overdue;
pub use positions::{Position, positions, received_since};
pub use proposals::{NewOrder, Proposed, propose};
pub(super) use receipts::order_of;
pub use receipts::{Receipt, receive};
pub use steps::{Departure, approve, cancel, pick, ship};
pub(super) use steps::{days_between, whole_millis};
pub use uses::{PartUse, UseCounts, UseFilter, Used, get_use, use_counts, use_part, uses};

/// Which table an order stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// From one depot to another.
    Transfer,
    /// From the supplier to a depot.
    Purchase,
}

words!(OrderKind, "a kind of order", Transfer = "transfer", Purchase = "purchase");

impl OrderKind {
    fn id_prefix(self) -> &'static str {
        match self {
            Self::Transfer => "trf",
            Self::Purchase => "pur",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Transfer => "transfers",
            Self::Purchase => "purchases",
        }
    }

    fn id_column(self) -> &'static str {
        match self {
            Self::Transfer => "transfer_id",
            Self::Purchase => "purchase_id",
        }
    }

    fn target_column(self) -> &'static str {
        match self {
            Self::Transfer => "to_depot",
            Self::Purchase => "depot",
        }
    }

    /// What both tables have in common, under the same names.
    fn columns(self) -> String {
        let own = match self {
            Self::Transfer => "transfer_id AS order_id, from_depot, to_depot, consumed, picked_at",
            Self::Purchase => "purchase_id AS order_id, depot AS to_depot",
        };
        format!(
            "{own}, plan_id, part, quantity, state, worth, cost, reasons, proposed_at, approved_at, approved_by, \
             shipped_at, due_at, received_at, received_quantity, overdue_told_at, cancelled_at"
        )
    }
}

/// Why an order is wanted: a device whose component is likely to need the part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The device.
    pub device: DeviceId,
    /// Its component.
    pub component: ComponentId,
    /// P(it needs the part before the next order could arrive).
    pub probability: Probability,
    /// The prediction it comes from, whose decision record holds the readings behind it; none where only age is known.
    pub prediction_id: Option<String>,
    /// The work order that plans to replace it; none where it is only likely to fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_order_id: Option<String>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Order {
    /// `trf_...` or `pur_...`; later orders sort later.
    pub order_id: String,
    /// Transfer or purchase.
    pub kind: OrderKind,
    /// The plan that last wanted it.
    pub plan_id: String,
    /// Which part.
    pub part: PartId,
    /// Where the pieces come from; `None` for a purchase.
    pub from: Option<DepotId>,
    /// Where they go.
    pub to: DepotId,
    /// Pieces ordered.
    pub quantity: u32,
    /// Where it is in its life.
    pub state: OrderState,
    /// Expected cost that it saves.
    pub worth: f64,
    /// What it costs.
    pub cost: f64,
    /// The devices behind it, most likely first.
    pub reasons: Vec<Reason>,
    /// When it was first proposed.
    pub proposed_at: Timestamp,
    /// When it was approved.
    pub approved_at: Option<Timestamp>,
    /// By whom, or which policy.
    pub approved_by: Option<String>,
    /// When the pieces were set aside; `None` where they were not, and for a purchase.
    pub picked_at: Option<Timestamp>,
    /// When the pieces left.
    pub shipped_at: Option<Timestamp>,
    /// When they should arrive; `None` where the days on the way are not known.
    pub due_at: Option<Timestamp>,
    /// When the last of them arrived.
    pub received_at: Option<Timestamp>,
    /// How many arrived, so far where it is shipped and the rest follows.
    pub received_quantity: Option<u32>,
    /// When somebody was told that it is overdue.
    pub overdue_told_at: Option<Timestamp>,
    /// When it was called off.
    pub cancelled_at: Option<Timestamp>,
    /// How many of a received transfer have gone into devices; 0 for a purchase.
    pub consumed: u32,
}

impl Order {
    /// Pieces that were ordered and have not come.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.quantity.saturating_sub(self.received_quantity.unwrap_or(0))
    }
}

/// Which orders a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OrderFilter {
    /// Only these states; all where empty.
    pub states: Vec<OrderState>,
    /// Only this part.
    pub part: Option<PartId>,
    /// Only to this depot.
    pub to: Option<DepotId>,
    /// Only those that are on the way and were told to be overdue, or only the others.
    pub overdue: Option<bool>,
}

/// The order with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
) -> Result<Order, Error> {
    let sql =
        format!("SELECT {} FROM {} WHERE {} = $1 AND tenant = $2", kind.columns(), kind.table(), kind.id_column());
    let row = sqlx::query(AssertSqlSafe(sql)).bind(order_id).bind(tenant.as_str()).fetch_optional(connection).await?;
    row.as_ref()
        .map_or_else(|| Err(Error::NotFound { what: kind.as_str(), id: order_id.to_owned() }), |row| order(kind, row))
}

/// At most `limit` orders that pass the filter, after the one with id `after`, in order of id.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    filter: &OrderFilter,
    sequence: Sequence,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Order>, Error> {
    let (beyond, direction) = match sequence {
        Sequence::NewestFirst => ("<", "DESC"),
        Sequence::OldestFirst => (">", "ASC"),
    };
    let id = kind.id_column();
    // Empty texts stand for "no bound".
    let states = in_states(&filter.states);
    let overdue = match filter.overdue {
        None => "",
        Some(true) => "AND (state = 'shipped' AND overdue_told_at IS NOT NULL)",
        Some(false) => "AND (state <> 'shipped' OR overdue_told_at IS NULL)",
    };
    let sql = format!(
        "SELECT {} FROM {} WHERE tenant = $1 AND ($2 = '' OR part = $2) AND ($3 = '' OR {} = $3) \
         AND ($4 = '' OR {id} {beyond} $4) {states} {overdue} ORDER BY {id} {direction} LIMIT $5",
        kind.columns(),
        kind.table(),
        kind.target_column(),
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(filter.part.as_ref().map_or("", PartId::as_str))
        .bind(filter.to.as_ref().map_or("", DepotId::as_str))
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| order(kind, row)).collect()
}

fn order(kind: OrderKind, row: &AnyRow) -> Result<Order, Error> {
    let (from, consumed, picked_at) = match kind {
        OrderKind::Transfer => (
            Some(column::parse(row, "from_depot")?),
            column::count(row, "consumed")?,
            column::time_optional(row, "picked_at")?,
        ),
        OrderKind::Purchase => (None, 0, None),
    };
    Ok(Order {
        order_id: column::get(row, "order_id")?,
        kind,
        plan_id: column::get(row, "plan_id")?,
        part: column::parse(row, "part")?,
        from,
        to: column::parse(row, "to_depot")?,
        quantity: column::count(row, "quantity")?,
        state: column::parse(row, "state")?,
        worth: column::get(row, "worth")?,
        cost: column::get(row, "cost")?,
        reasons: column::json(row, "reasons")?,
        proposed_at: column::time(row, "proposed_at")?,
        approved_at: column::time_optional(row, "approved_at")?,
        approved_by: column::get(row, "approved_by")?,
        picked_at,
        shipped_at: column::time_optional(row, "shipped_at")?,
        due_at: column::time_optional(row, "due_at")?,
        received_at: column::time_optional(row, "received_at")?,
        received_quantity: column::count_optional(row, "received_quantity")?,
        overdue_told_at: column::time_optional(row, "overdue_told_at")?,
        cancelled_at: column::time_optional(row, "cancelled_at")?,
        consumed,
    })
}

#[cfg(test)]
mod tests;
