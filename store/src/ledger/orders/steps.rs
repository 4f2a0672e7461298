//! The steps of an order until it is on the way: approve, pick, ship, cancel; each with the stock that moves.
//!
//! A step is a savepoint of its own inside the caller's transaction: where it fails, nothing of it stays, even if the
//! caller goes on.

use harbinger_core::{DepotId, Duration, TenantId, Timestamp, fleet::Part};
use sqlx::{Acquire, AssertSqlSafe};

use super::{Connection, Error, Order, OrderKind, OrderStep, column, get};
use crate::ledger::{
    pieces::{self, Leaving},
    registry,
    stock::{self, MovementKind, NewMovement},
    work_orders,
};

/// Approves a proposed order; `by` is a person or a policy.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Database`].
pub async fn approve(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
    by: &str,
    at: Timestamp,
) -> Result<Order, Error> {
    let mut step = connection.begin().await?;
    let order = advance(&mut step, tenant, kind, order_id, OrderStep::Approve, at).await?;
    let sql = format!("UPDATE {} SET approved_by = $3 WHERE {} = $1 AND tenant = $2", kind.table(), kind.id_column());
    sqlx::query(AssertSqlSafe(sql)).bind(order_id).bind(tenant.as_str()).bind(by).execute(&mut *step).await?;
    step.commit().await?;
    Ok(Order { approved_by: Some(by.to_owned()), ..order })
}

/// Sets the pieces of an approved transfer aside: they stay on the shelf and reserved, and may still be called off.
///
/// # Errors
/// [`Error::Conflict`] for a purchase, [`Error::NotFound`], [`Error::WrongState`], [`Error::Database`].
pub async fn pick(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
    at: Timestamp,
) -> Result<Order, Error> {
    if kind == OrderKind::Purchase {
        let reason = format!("purchase {order_id:?} cannot be picked: its supplier picks it; ship it when it has left");
        return Err(Error::Conflict { reason });
    }
    advance(connection, tenant, kind, order_id, OrderStep::Pick, at).await
}

/// What is told of pieces that leave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Departure<'a> {
    /// Their serials, as far as they are known.
    pub serials: &'a [String],
    /// Pieces of parts that cost so much or more are all named when they leave a shelf; none need be where it is `None`.
    pub serials_from: Option<f64>,
}

impl Departure<'_> {
    /// Refuses a transfer of a dear part whose pieces are not all named.
    async fn refuse_unnamed(&self, connection: &mut Connection, tenant: &TenantId, order: &Order) -> Result<(), Error> {
        let Some(bound) = self.serials_from.filter(|_| order.from.is_some()) else { return Ok(()) };
        let part: Part = registry::get(connection, tenant, &[order.part.as_str()]).await?;
        if part.unit_cost < bound || u32::try_from(self.serials.len()) == Ok(order.quantity) {
            return Ok(());
        }
        let (quantity, named) = (order.quantity, self.serials.len());
        let reason = format!(
            "part {:?} costs {}, so each of the {quantity} pieces of {:?} is named by its serial when it ships: {named} serials \
             are named",
            order.part.as_str(),
            part.unit_cost,
            order.order_id
        );
        Err(Error::Conflict { reason })
    }
}

/// Ships an approved or picked order: pieces leave the source's shelf (a purchase has none) and are on the way to the target,
/// due after the lane's days or the supplier's.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Conflict`] where the source has not enough pieces, one
/// that is named is elsewhere, or not all are named that must be, [`Error::Database`].
pub async fn ship(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
    departure: Departure<'_>,
    at: Timestamp,
) -> Result<Order, Error> {
    let mut step = connection.begin().await?;
    let order = advance(&mut step, tenant, kind, order_id, OrderStep::Ship, at).await?;
    departure.refuse_unnamed(&mut step, tenant, &order).await?;
    let leaving = Leaving {
        part: &order.part,
        order_id,
        quantity: order.quantity,
        from: order.from.as_ref(),
        have_failed: false,
        at,
    };
    pieces::leave(&mut step, tenant, leaving, departure.serials).await?;
    if let Some(from) = &order.from {
        let movement = NewMovement {
            ts: at,
            part: &order.part,
            depot: from,
            quantity: -i64::from(order.quantity),
            kind: MovementKind::Ship,
            reference: order_id,
        };
        stock::book(&mut step, tenant, movement).await?;
    }
    stock::change_in_transit(&mut step, tenant, &order.part, &order.to, i64::from(order.quantity)).await?;
    let due_at = days_on_the_way(&mut step, tenant, &order).await?.map(|days| at + whole_millis(days));
    let sql = format!("UPDATE {} SET due_at = $3 WHERE {} = $1 AND tenant = $2", kind.table(), kind.id_column());
    sqlx::query(AssertSqlSafe(sql))
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(due_at.map(Timestamp::millis))
        .execute(&mut *step)
        .await?;
    step.commit().await?;
    Ok(Order { due_at, ..order })
}

/// Calls off an order that has not shipped.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Database`].
pub async fn cancel(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
    at: Timestamp,
) -> Result<Order, Error> {
    let mut step = connection.begin().await?;
    let order = advance(&mut step, tenant, kind, order_id, OrderStep::Cancel, at).await?;
    // Pieces that stay after all may be wanted for a work order.
    if let Some(from) = &order.from {
        work_orders::share_out(&mut step, tenant, &order.part, from).await?;
    }
    step.commit().await?;
    Ok(order)
}

/// Moves an order to the state after `step`, if it is still in the state that was read.
pub(super) async fn advance(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
    step: OrderStep,
    at: Timestamp,
) -> Result<Order, Error> {
    let order = get(connection, tenant, kind, order_id).await?;
    let attempt = step.past_participle();
    let wrong = |state: &str| Error::WrongState {
        what: kind.as_str(),
        id: order_id.to_owned(),
        state: state.to_owned(),
        attempt,
    };
    let next = order.state.after(step).ok_or_else(|| wrong(order.state.as_str()))?;
    // Each step has a time column named after it.
    let sql = format!(
        "UPDATE {} SET state = $3, {attempt}_at = $4 WHERE {} = $1 AND tenant = $2 AND state = $5",
        kind.table(),
        kind.id_column()
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(next.as_str())
        .bind(at.millis())
        .bind(order.state.as_str())
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        let now = get(connection, tenant, kind, order_id).await?;
        return Err(wrong(now.state.as_str()));
    }
    get(connection, tenant, kind, order_id).await
}

/// Days on the way: of the lane, or of the supplier; `None` where they are not known.
async fn days_on_the_way(connection: &mut Connection, tenant: &TenantId, order: &Order) -> Result<Option<f64>, Error> {
    if let Some(from) = &order.from {
        return days_between(connection, tenant, from, &order.to).await;
    }
    let row = sqlx::query("SELECT supplier_lead_days AS days FROM parts WHERE tenant = $1 AND part = $2")
        .bind(tenant.as_str())
        .bind(order.part.as_str())
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(None), |row| column::get(&row, "days"))
}

/// Days of the lane from one depot to another, where there is one.
pub(in crate::ledger) async fn days_between(
    connection: &mut Connection,
    tenant: &TenantId,
    from: &DepotId,
    to: &DepotId,
) -> Result<Option<f64>, Error> {
    let row = sqlx::query("SELECT days FROM lanes WHERE tenant = $1 AND from_depot = $2 AND to_depot = $3")
        .bind(tenant.as_str())
        .bind(from.as_str())
        .bind(to.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| column::get(&row, "days")).transpose()
}

pub(in crate::ledger) fn whole_millis(days: f64) -> Duration {
    // `as` saturates; the length is held at zero or more.
    Duration::from_millis((days * 86_400_000.0).round() as i64)
}
