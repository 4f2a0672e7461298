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
    let (table, id) = (kind.table(), kind.id_column());
    let waiting = format!(
        "SELECT {id} FROM {table} WHERE tenant = $1 AND state = 'shipped' AND due_at <= $2 AND overdue_told_at IS NULL \
         ORDER BY due_at, {id}"
    );
    let late: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(waiting))
        .bind(tenant.as_str())
        .bind(due_by.millis())
        .fetch_all(&mut *step)
        .await?;
    let mut told = Vec::with_capacity(late.len());
    for (order_id,) in late {
        sqlx::query(AssertSqlSafe(format!("UPDATE {table} SET overdue_told_at = $3 WHERE {id} = $1 AND tenant = $2")))
            .bind(&order_id)
            .bind(tenant.as_str())
            .bind(at.millis())
            .execute(&mut *step)
            .await?;
        told.push(get(&mut step, tenant, kind, &order_id).await?);
    }
    step.commit().await?;
    Ok(told)
}
