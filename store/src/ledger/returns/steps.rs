//! The steps of returns and repairs; each with what follows from it.
//!
//! A step is a savepoint of its own inside the caller's transaction, as those of other orders are.

use harbinger_core::{TenantId, Timestamp};
use sqlx::Acquire;

use super::{Connection, Error, Leg, OrderState, ReturnOrder, get, opening};
use crate::ledger::{
    orders::mark_overdue,
    pieces::{self, Arriving, Leaving, Place},
    stock::{self, MovementKind, NewMovement},
};

/// A step: the state that it leads to, and those that it may be taken from.
struct Step {
    into: OrderState,
    from: &'static [OrderState],
    attempt: &'static str,
}

const SHIP: Step = Step { into: OrderState::Shipped, from: &[OrderState::Approved], attempt: "shipped" };
const RECEIVE: Step = Step { into: OrderState::Received, from: &[OrderState::Shipped], attempt: "received" };
const CANCEL: Step =
    Step { into: OrderState::Cancelled, from: &[OrderState::Approved, OrderState::Shipped], attempt: "cancelled" };

/// Sends failed pieces to the hub, due after the lane's days.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Database`].
pub async fn ship(
    connection: &mut Connection,
    tenant: &TenantId,
    order_id: &str,
    serials: &[String],
    at: Timestamp,
) -> Result<ReturnOrder, Error> {
    let mut step = connection.begin().await?;
    let order = advance(&mut step, tenant, (Leg::Return, order_id), &SHIP, at).await?;
    let leaving = Leaving {
        part: &order.part,
        order_id,
        quantity: order.quantity,
        from: Some(&order.from),
        have_failed: true,
        at,
    };
    pieces::leave(&mut step, tenant, leaving, serials).await?;
    let due_at = at + opening::time_back(&mut step, tenant, &order.from, &order.to).await?;
    sqlx::query("UPDATE returns SET due_at = $3 WHERE order_id = $1 AND tenant = $2")
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(due_at.millis())
        .execute(&mut *step)
        .await?;
    step.commit().await?;
    Ok(ReturnOrder { due_at: Some(due_at), ..order })
}

/// Receives failed pieces at the hub, `quantity` of them (all for `None`); what is short is given up. Their repair begins.
///
/// Returns the return, and the repair where any came.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Conflict`] where more came than were sent, [`Error::Database`].
pub async fn receive_return(
    connection: &mut Connection,
    tenant: &TenantId,
    order_id: &str,
    quantity: Option<u32>,
    serials: &[String],
    at: Timestamp,
) -> Result<(ReturnOrder, Option<ReturnOrder>), Error> {
    let mut step = connection.begin().await?;
    let order = receive(&mut step, tenant, (Leg::Return, order_id), quantity, at).await?;
    let came = order.received_quantity.unwrap_or(0);
    let repair = if came > 0 { opening::open_repair(&mut step, tenant, &order, came, at).await? } else { None };
    let into = repair.as_ref().map_or(Place::Gone, |repair| Place::Order(repair.order_id.clone()));
    pieces::arrive(&mut step, tenant, arriving(&order, came, &into, at), serials).await?;
    step.commit().await?;
    Ok((order, repair))
}

/// Ends a repair: `usable` pieces (all for `None`) go on the hub's shelf; the others are condemned.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Conflict`] where more are usable than were in repair,
/// [`Error::Database`].
pub async fn receive_repair(
    connection: &mut Connection,
    tenant: &TenantId,
    order_id: &str,
    usable: Option<u32>,
    serials: &[String],
    at: Timestamp,
) -> Result<ReturnOrder, Error> {
    let mut step = connection.begin().await?;
    let order = receive(&mut step, tenant, (Leg::Repair, order_id), usable, at).await?;
    let mended = order.received_quantity.unwrap_or(0);
    let movement = NewMovement {
        ts: at,
        part: &order.part,
        depot: &order.to,
        quantity: i64::from(mended),
        kind: MovementKind::Receive,
        reference: order_id,
    };
    stock::book(&mut step, tenant, movement).await?;
    let into = Place::Depot(order.to.clone());
    pieces::arrive(&mut step, tenant, arriving(&order, mended, &into, at), serials).await?;
    step.commit().await?;
    Ok(order)
}

/// Gives up pieces that were to be returned, or are on the way: they are lost, or scrapped where they are.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Database`].
pub async fn cancel(
    connection: &mut Connection,
    tenant: &TenantId,
    order_id: &str,
    at: Timestamp,
) -> Result<ReturnOrder, Error> {
    let mut step = connection.begin().await?;
    let order = advance(&mut step, tenant, (Leg::Return, order_id), &CANCEL, at).await?;
    pieces::give_up(&mut step, tenant, order_id, at).await?;
    step.commit().await?;
    Ok(order)
}

/// Returns and repairs that were due by `due_by` and that nobody has been told of, in order of their due time; they are marked as
/// told at `at`. Called again, it finds others only. A return that nobody has sent is due, too.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn chase(
    connection: &mut Connection,
    tenant: &TenantId,
    leg: Leg,
    due_by: Timestamp,
    at: Timestamp,
) -> Result<Vec<ReturnOrder>, Error> {
    let mut step = connection.begin().await?;
    let open = match leg {
        Leg::Return => "leg = 'return' AND state IN ('approved', 'shipped')",
        Leg::Repair => "leg = 'repair' AND state = 'shipped'",
    };
    let mut told = Vec::new();
    for order_id in mark_overdue(&mut step, tenant, ("returns", "order_id", open), due_by, at).await? {
        told.push(get(&mut step, tenant, leg, &order_id).await?);
    }
    step.commit().await?;
    Ok(told)
}

/// Pieces of a return or a repair that is over.
fn arriving<'a>(order: &'a ReturnOrder, quantity: u32, into: &'a Place, at: Timestamp) -> Arriving<'a> {
    let (part, order_id, outstanding) = (&order.part, order.order_id.as_str(), order.quantity);
    Arriving { part, order_id, outstanding, quantity, ends: true, into, at }
}

async fn receive(
    connection: &mut Connection,
    tenant: &TenantId,
    (leg, order_id): (Leg, &str),
    quantity: Option<u32>,
    at: Timestamp,
) -> Result<ReturnOrder, Error> {
    let order = advance(connection, tenant, (leg, order_id), &RECEIVE, at).await?;
    let arrived = quantity.unwrap_or(order.quantity);
    if arrived > order.quantity {
        let reason = format!("{arrived} pieces cannot be received of {order_id:?}, which holds {}", order.quantity);
        return Err(Error::Conflict { reason });
    }
    sqlx::query("UPDATE returns SET received_quantity = $3 WHERE order_id = $1 AND tenant = $2")
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(i64::from(arrived))
        .execute(connection)
        .await?;
    Ok(ReturnOrder { received_quantity: Some(arrived), ..order })
}

/// Takes a step, if it is still in the state that was read.
async fn advance(
    connection: &mut Connection,
    tenant: &TenantId,
    (leg, order_id): (Leg, &str),
    step: &Step,
    at: Timestamp,
) -> Result<ReturnOrder, Error> {
    let order = get(connection, tenant, leg, order_id).await?;
    let wrong = |state: OrderState| Error::WrongState {
        what: leg.as_str(),
        id: order_id.to_owned(),
        state: state.as_str().to_owned(),
        attempt: step.attempt,
    };
    if !step.from.contains(&order.state) {
        return Err(wrong(order.state));
    }
    // Each step has a time column named after it.
    let sql = format!(
        "UPDATE returns SET state = $3, {}_at = $4 WHERE order_id = $1 AND tenant = $2 AND state = $5",
        step.attempt
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(step.into.as_str())
        .bind(at.millis())
        .bind(order.state.as_str())
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        let now = get(connection, tenant, leg, order_id).await?;
        return Err(wrong(now.state));
    }
    get(connection, tenant, leg, order_id).await
}
