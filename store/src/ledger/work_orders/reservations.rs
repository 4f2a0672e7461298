//! Which pieces of a shelf are kept for which work order.

use harbinger_core::{DepotId, PartId, TenantId};
use sqlx::AssertSqlSafe;

use super::{COLUMNS, Connection, Error, WorkOrder, column, work_order};
use crate::ledger::stock;

/// Pieces of a shelf that are kept for work orders.
pub(in crate::ledger) async fn reserved_at(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<u32, Error> {
    Ok(of_shelf(connection, tenant, part, depot).await?.iter().map(|order| order.reserved).sum())
}

/// The open work orders of a shelf, first due first.
async fn of_shelf(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<Vec<WorkOrder>, Error> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM work_orders WHERE tenant = $1 AND part = $2 AND depot = $3 AND state = 'open' \
         ORDER BY due_at, work_order_id"
    )))
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(depot.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(work_order).collect()
}

/// Reserves the free pieces of a shelf, and frees reserved ones that are no longer there.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn share_out(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<(), Error> {
    let orders = of_shelf(connection, tenant, part, depot).await?;
    if orders.is_empty() {
        return Ok(());
    }
    let on_hand = stock::level(connection, tenant, part, depot).await?.on_hand;
    let leaving = approved_to_leave(connection, tenant, part, depot).await?;
    for (order, share) in orders.iter().zip(shares(&orders, on_hand, leaving)) {
        if share == order.reserved {
            continue;
        }
        sqlx::query("UPDATE work_orders SET reserved = $3 WHERE work_order_id = $1 AND tenant = $2")
            .bind(&order.work_order_id)
            .bind(tenant.as_str())
            .bind(i64::from(share))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// What each of `orders`, first due first, has reserved of a shelf. None loses a piece that is there; of pieces that are not
/// there any more the last due loses first, and free ones go to the first due.
fn shares(orders: &[WorkOrder], on_hand: u32, leaving: u32) -> Vec<u32> {
    let mut shares: Vec<u32> = orders.iter().map(|order| order.reserved.min(order.quantity)).collect();
    let mut gone = shares.iter().sum::<u32>().saturating_sub(on_hand);
    for share in shares.iter_mut().rev() {
        let lost = gone.min(*share);
        *share -= lost;
        gone -= lost;
    }
    let mut free = on_hand.saturating_sub(leaving).saturating_sub(shares.iter().sum());
    for (share, order) in shares.iter_mut().zip(orders) {
        let won = free.min(order.quantity - *share);
        *share += won;
        free -= won;
    }
    shares
}

/// Pieces of a shelf that approved transfers will take away.
async fn approved_to_leave(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<u32, Error> {
    let rows = sqlx::query(
        "SELECT quantity FROM transfers WHERE tenant = $1 AND part = $2 AND from_depot = $3 \
         AND state IN ('approved', 'picked')",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(depot.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| column::count(row, "quantity")).sum()
}
