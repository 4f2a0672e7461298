//! Taking in what a plan wants: new proposals are added, the same ones kept, those no longer wanted cancelled.

use harbinger_core::{DepotId, PartId, TenantId, Timestamp, ids::new_id};
use serde::Serialize;
use sqlx::{Acquire, AssertSqlSafe};

use super::{Connection, Error, Order, OrderFilter, OrderKind, OrderState, Reason, Sequence, get, list};

/// An order that a plan wants.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOrder {
    /// Which part.
    pub part: PartId,
    /// Where pieces come from: `Some` makes it a transfer, `None` a purchase.
    pub from: Option<DepotId>,
    /// Where they go.
    pub to: DepotId,
    /// Pieces; zero is no order and is passed over.
    pub quantity: u32,
    /// Expected cost that it saves.
    pub worth: f64,
    /// What it costs.
    pub cost: f64,
    /// The devices behind it, most likely first.
    pub reasons: Vec<Reason>,
}

impl NewOrder {
    fn kind(&self) -> OrderKind {
        if self.from.is_some() { OrderKind::Transfer } else { OrderKind::Purchase }
    }

    fn is_same_as(&self, order: &Order) -> bool {
        (&self.part, &self.from, &self.to, self.quantity) == (&order.part, &order.from, &order.to, order.quantity)
    }
}

/// What became of the proposals.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Proposed {
    /// Added by this call.
    pub added: Vec<Order>,
    /// Proposed before and wanted still; reasons and worth are those of the new plan.
    pub kept: Vec<Order>,
    /// Proposed before and no longer wanted: cancelled by this call.
    pub cancelled: Vec<Order>,
}

/// Makes the open proposals those of a plan. Orders that were approved are not touched.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`], [`Error::Full`].
pub async fn propose(
    connection: &mut Connection,
    tenant: &TenantId,
    plan_id: &str,
    at: Timestamp,
    wanted: &[NewOrder],
) -> Result<Proposed, Error> {
    let mut step = connection.begin().await?;
    let mut result = Proposed::default();
    for kind in [OrderKind::Transfer, OrderKind::Purchase] {
        let open = OrderFilter { states: vec![OrderState::Proposed], ..OrderFilter::default() };
        let mut before = list(&mut step, tenant, kind, &open, Sequence::OldestFirst, None, u32::MAX).await?;
        for new in wanted.iter().filter(|new| new.kind() == kind && new.quantity > 0) {
            match before.iter().position(|old| new.is_same_as(old)) {
                Some(place) => {
                    let old = before.swap_remove(place);
                    result.kept.push(refresh(&mut step, tenant, plan_id, new, old).await?);
                }
                None => result.added.push(insert(&mut step, tenant, plan_id, at, new).await?),
            }
        }
        before.sort_by(|a, b| a.order_id.cmp(&b.order_id));
        for old in before {
            result.cancelled.push(super::cancel(&mut step, tenant, kind, &old.order_id, at).await?);
        }
    }
    step.commit().await?;
    Ok(result)
}

async fn refresh(
    connection: &mut Connection,
    tenant: &TenantId,
    plan_id: &str,
    new: &NewOrder,
    old: Order,
) -> Result<Order, Error> {
    let kind = new.kind();
    sqlx::query(AssertSqlSafe(format!(
        "UPDATE {} SET plan_id = $3, worth = $4, cost = $5, reasons = $6 \
         WHERE {} = $1 AND tenant = $2 AND state = 'proposed'",
        kind.table(),
        kind.id_column()
    )))
    .bind(&old.order_id)
    .bind(tenant.as_str())
    .bind(plan_id)
    .bind(new.worth)
    .bind(new.cost)
    .bind(reasons_text(&new.reasons))
    .execute(connection)
    .await?;
    let reasons = new.reasons.clone();
    Ok(Order { plan_id: plan_id.to_owned(), worth: new.worth, cost: new.cost, reasons, ..old })
}

async fn insert(
    connection: &mut Connection,
    tenant: &TenantId,
    plan_id: &str,
    at: Timestamp,
    new: &NewOrder,
) -> Result<Order, Error> {
    let kind = new.kind();
    let order_id = new_id(kind.id_prefix());
    // A purchase has no source: its statement leaves the column and its parameter out, both at the end.
    let (column, parameter) = if new.from.is_some() { (", from_depot", ", $11") } else { ("", "") };
    let sql = format!(
        "INSERT INTO {} ({}, tenant, plan_id, part, {}, quantity, state, worth, cost, reasons, proposed_at{column}) \
         VALUES ($1, $2, $3, $4, $5, $6, 'proposed', $7, $8, $9, $10{parameter})",
        kind.table(),
        kind.id_column(),
        kind.target_column(),
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(&order_id)
        .bind(tenant.as_str())
        .bind(plan_id)
        .bind(new.part.as_str())
        .bind(new.to.as_str())
        .bind(i64::from(new.quantity))
        .bind(new.worth)
        .bind(new.cost)
        .bind(reasons_text(&new.reasons))
        .bind(at.millis());
    if let Some(from) = &new.from {
        query = query.bind(from.as_str());
    }
    query.execute(&mut *connection).await?;
    get(connection, tenant, kind, &order_id).await
}

fn reasons_text(reasons: &[Reason]) -> String {
    serde_json::to_string(reasons).expect("ids and probabilities always serialize")
}
