//! Orders that should have come and have not: each is told of once.

use harbinger_core::{TenantId, Timestamp};
use sqlx::{Acquire, AssertSqlSafe};

use super::{Connection, Error, Order, OrderKind, get};

/// Shipped orders that were due by `due_by` and that nobody has been told of, in order of their due time; they are marked as told
/// at `at`. Called again, it finds others only.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn chase(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    due_by: Timestamp,
    at: Timestamp,
) -> Result<Vec<Order>, Error> {
    let mut step = connection.begin().await?;
    let place = (kind.table(), kind.id_column(), "state = 'shipped'");
    let mut told = Vec::new();
    for order_id in mark_overdue(&mut step, tenant, place, due_by, at).await? {
        told.push(get(&mut step, tenant, kind, &order_id).await?);
    }
    step.commit().await?;
    Ok(told)
}

/// Marks what was due by `due_by`, is still open and has not been told of, as told at `at`; its ids in order of due time.
///
/// * `place`: the table, its column of ids, and the condition of what is open; our own constants, never a caller's text.
pub(in crate::ledger) async fn mark_overdue(
    connection: &mut Connection,
    tenant: &TenantId,
    (table, id, open): (&str, &str, &str),
    due_by: Timestamp,
    at: Timestamp,
) -> Result<Vec<String>, Error> {
    let waiting = format!(
        "SELECT {id} FROM {table} WHERE tenant = $1 AND {open} AND due_at <= $2 AND overdue_told_at IS NULL \
         ORDER BY due_at, {id}"
    );
    let late: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(waiting))
        .bind(tenant.as_str())
        .bind(due_by.millis())
        .fetch_all(&mut *connection)
        .await?;
    let mark = format!("UPDATE {table} SET overdue_told_at = $3 WHERE {id} = $1 AND tenant = $2");
    for (order_id,) in &late {
        sqlx::query(AssertSqlSafe(mark.as_str()))
            .bind(order_id)
            .bind(tenant.as_str())
            .bind(at.millis())
            .execute(&mut *connection)
            .await?;
    }
    Ok(late.into_iter().map(|(order_id,)| order_id).collect())
}
