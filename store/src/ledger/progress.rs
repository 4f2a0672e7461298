//! How far each piece of background work has come: a named number a tenant, such as `scored_until`.

use harbinger_core::TenantId;

use super::{Connection, Error, column};

/// The number under `name`; `None` where nothing was noted yet.
///
/// # Errors
/// [`Error::Database`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, name: &str) -> Result<Option<i64>, Error> {
    let query = sqlx::query("SELECT value FROM progress WHERE tenant = $1 AND name = $2");
    let row = query.bind(tenant.as_str()).bind(name).fetch_optional(connection).await?;
    row.map(|row| column::get(&row, "value")).transpose()
}

/// Notes `value` under `name`, whatever stood there.
///
/// # Errors
/// [`Error::Database`].
pub async fn set(connection: &mut Connection, tenant: &TenantId, name: &str, value: i64) -> Result<(), Error> {
    write(
        connection,
        "INSERT INTO progress (tenant, name, value) VALUES ($1, $2, $3) \
         ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value",
        (tenant, name, value),
    )
    .await
}

/// Notes `value` under `name` unless a greater one stands there: progress that never goes back.
///
/// # Errors
/// [`Error::Database`].
pub async fn advance(connection: &mut Connection, tenant: &TenantId, name: &str, value: i64) -> Result<(), Error> {
    write(
        connection,
        "INSERT INTO progress (tenant, name, value) VALUES ($1, $2, $3) \
         ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value WHERE progress.value < excluded.value",
        (tenant, name, value),
    )
    .await
}

async fn write(
    connection: &mut Connection,
    statement: &'static str,
    (tenant, name, value): (&TenantId, &str, i64),
) -> Result<(), Error> {
    sqlx::query(statement).bind(tenant.as_str()).bind(name).bind(value).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::fixture::on_both_engines;

    on_both_engines!(advance_never_goes_back_and_set_does,);

    async fn advance_never_goes_back_and_set_does(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        assert_eq!(get(&mut tx, &tenant, "scored_until").await.unwrap(), None);
        for (value, now) in [(5, 5), (3, 5), (9, 9)] {
            advance(&mut tx, &tenant, "scored_until", value).await.unwrap();
            assert_eq!(get(&mut tx, &tenant, "scored_until").await.unwrap(), Some(now));
        }
        set(&mut tx, &tenant, "scored_until", 1).await.unwrap();
        assert_eq!(get(&mut tx, &tenant, "scored_until").await.unwrap(), Some(1));
        let other = TenantId::parse("other").unwrap();
        assert_eq!(get(&mut tx, &other, "scored_until").await.unwrap(), None);
    }
}
