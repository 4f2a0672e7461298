//! Receiving an order: all of it, less than all with the rest written off, or a part with the rest to follow.

use harbinger_core::{TenantId, Timestamp};
use sqlx::{Acquire, AssertSqlSafe};

use super::{Connection, Error, Order, OrderKind, OrderState, OrderStep, get, steps::advance};
use crate::ledger::{
    pieces::{self, Arriving, Place},
    stock::{self, Booked, MovementKind, NewMovement},
};

/// What arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// Pieces; all that are outstanding where it is `None`.
    pub quantity: Option<u32>,
    /// Whether what is short is still on the way; else it is written off, and the order is over.
    pub rest_follows: bool,
    /// The caller's name for this receipt. The same again changes nothing, so that a request can be repeated after a crash.
    pub key: Option<&'a str>,
    /// Serials of the pieces, as far as they are known.
    pub serials: &'a [String],
}

/// Receives a shipped order: its pieces go on the target's shelf, at once. What is short is written off, or stays on the way where
/// the rest follows; the order is received when nothing is outstanding.
///
/// Returns whether it was booked now, and the order.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Conflict`] where more pieces are to be received than are outstanding, or
/// none while the rest follows, or a piece that is named is elsewhere, [`Error::Database`].
pub async fn receive(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    order_id: &str,
    receipt: Receipt<'_>,
    at: Timestamp,
) -> Result<(Booked, Order), Error> {
    let mut step = connection.begin().await?;
    let order = get(&mut step, tenant, kind, order_id).await?;
    let before = order.received_quantity.unwrap_or(0);
    let outstanding = order.outstanding();
    let arrived = receipt.quantity.unwrap_or(outstanding);
    let reference = reference(order_id, before, receipt.key);
    let movement = NewMovement {
        ts: at,
        part: &order.part,
        depot: &order.to,
        quantity: i64::from(arrived),
        kind: MovementKind::Receive,
        reference: &reference,
    };
    if receipt.key.is_some() && stock::is_booked(&mut step, tenant, movement).await? {
        return Ok((Booked::Before, order));
    }
    let ends = !receipt.rest_follows || arrived >= outstanding;
    // A part leaves the order shipped, and is refused where it is not.
    if ends || order.state != OrderState::Shipped {
        advance(&mut step, tenant, kind, order_id, OrderStep::Receive, at).await?;
    }
    if arrived > outstanding {
        let reason = format!(
            "{arrived} pieces cannot be received of {order_id:?}, which shipped {} and has {outstanding} outstanding",
            order.quantity
        );
        return Err(Error::Conflict { reason });
    }
    if arrived == 0 && !ends {
        let reason = format!("no pieces of {order_id:?} came: receive it when some have");
        return Err(Error::Conflict { reason });
    }
    let no_longer_on_the_way = if ends { outstanding } else { arrived };
    let gone = -i64::from(no_longer_on_the_way);
    stock::change_in_transit(&mut step, tenant, &order.part, &order.to, gone).await?;
    stock::book(&mut step, tenant, movement).await?;
    let into = Place::Depot(order.to.clone());
    let arriving = Arriving { part: &order.part, order_id, outstanding, quantity: arrived, ends, into: &into, at };
    pieces::arrive(&mut step, tenant, arriving, receipt.serials).await?;
    let sql =
        format!("UPDATE {} SET received_quantity = $3 WHERE {} = $1 AND tenant = $2", kind.table(), kind.id_column());
    sqlx::query(AssertSqlSafe(sql))
        .bind(order_id)
        .bind(tenant.as_str())
        .bind(i64::from(before) + i64::from(arrived))
        .execute(&mut *step)
        .await?;
    let received = get(&mut step, tenant, kind, order_id).await?;
    step.commit().await?;
    Ok((Booked::Now, received))
}

/// The order that the movement of a receipt belongs to.
pub(in crate::ledger) fn order_of(reference: &str) -> &str {
    reference.split(['/', ':']).next().unwrap_or(reference)
}

/// What the movement of a receipt refers to: the order, and what tells its parts apart - the caller's key, else how many pieces had
/// come before. No key can pass for a count.
fn reference(order_id: &str, before: u32, key: Option<&str>) -> String {
    match (key, before) {
        (Some(key), _) => format!("{order_id}/{key}"),
        (None, 0) => order_id.to_owned(),
        (None, before) => format!("{order_id}:{before}"),
    }
}
