//! Answers kept by Idempotency-Key, so that a repeated request is the same request.
//!
//! A request begins (its key and hash are noted with status 0), is done, and finishes (its answer is kept). A repeat gets
//! the kept answer. Where the process died in between, the key frees itself after [`BUSY_MILLIS`].

use harbinger_core::{TenantId, Timestamp};

use super::{Connection, Error, column};

/// How long a begun request keeps its key busy without finishing.
pub const BUSY_MILLIS: i64 = 60_000;
/// How long an answer is kept: 24 hours, what clients of such interfaces expect.
pub const KEPT_MILLIS: i64 = 24 * 3_600_000;

/// What a key says of a request that wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is new: do it.
    New,
    /// The same request was answered before: answer so again.
    Answered {
        /// The answer's HTTP status.
        status: u16,
        /// The answer's body.
        body: String,
    },
    /// The same request is being done now.
    Busy,
    /// Another request used this key.
    Other,
}

/// Begins a request under a key. `request_hash` stands for method, path and body.
///
/// # Errors
/// [`Error::Database`].
pub async fn begin(
    connection: &mut Connection,
    tenant: &TenantId,
    key: &str,
    request_hash: &str,
    now_wall: Timestamp,
) -> Result<Begun, Error> {
    let now = now_wall.millis();
    sqlx::query(
        "DELETE FROM idempotency_keys WHERE tenant = $1 AND (created_wall < $2 OR (status = 0 AND created_wall < $3))",
    )
    .bind(tenant.as_str())
    .bind(now - KEPT_MILLIS)
    .bind(now - BUSY_MILLIS)
    .execute(&mut *connection)
    .await?;
    let new = sqlx::query(
        "INSERT INTO idempotency_keys (tenant, idempotency_key, request_hash, status, body, created_wall) \
         VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT (tenant, idempotency_key) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(key)
    .bind(request_hash)
    .bind(now)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if new == 1 {
        return Ok(Begun::New);
    }
    let row = sqlx::query(
        "SELECT request_hash, status, body FROM idempotency_keys WHERE tenant = $1 AND idempotency_key = $2",
    )
    .bind(tenant.as_str())
    .bind(key)
    .fetch_one(connection)
    .await?;
    if column::get::<String>(&row, "request_hash")? != request_hash {
        return Ok(Begun::Other);
    }
    let status: i64 = column::get(&row, "status")?;
    match u16::try_from(status) {
        Ok(0) => Ok(Begun::Busy),
        Ok(status) => Ok(Begun::Answered { status, body: column::get(&row, "body")? }),
        Err(_) => Err(Error::Damaged { column: "idempotency_keys.status", value: status.to_string() }),
    }
}

/// Keeps the answer.
///
/// # Errors
/// [`Error::Database`].
pub async fn finish(
    connection: &mut Connection,
    tenant: &TenantId,
    key: &str,
    status: u16,
    body: &str,
) -> Result<(), Error> {
    sqlx::query("UPDATE idempotency_keys SET status = $3, body = $4 WHERE tenant = $1 AND idempotency_key = $2")
        .bind(tenant.as_str())
        .bind(key)
        .bind(i64::from(status))
        .bind(body)
        .execute(connection)
        .await?;
    Ok(())
}

/// Frees the key of a request that failed in a way that a repeat may mend.
///
/// # Errors
/// [`Error::Database`].
pub async fn abandon(connection: &mut Connection, tenant: &TenantId, key: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM idempotency_keys WHERE tenant = $1 AND idempotency_key = $2 AND status = 0")
        .bind(tenant.as_str())
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::fixture::on_both_engines;

    on_both_engines!(a_repeat_gets_the_kept_answer_and_another_body_is_refused, a_key_whose_request_died_frees_itself,);

    async fn a_repeat_gets_the_kept_answer_and_another_body_is_refused(ledger: Ledger) {
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let mut tx = ledger.write().await.unwrap();
        let at = Timestamp::from_millis;
        assert_eq!(begin(&mut tx, &acme, "k", "h1", at(0)).await.unwrap(), Begun::New);
        assert_eq!(begin(&mut tx, &acme, "k", "h1", at(1)).await.unwrap(), Begun::Busy);
        assert_eq!(begin(&mut tx, &other, "k", "h2", at(1)).await.unwrap(), Begun::New);
        finish(&mut tx, &acme, "k", 201, "{}").await.unwrap();
        let answered = Begun::Answered { status: 201, body: "{}".to_owned() };
        assert_eq!(begin(&mut tx, &acme, "k", "h1", at(KEPT_MILLIS)).await.unwrap(), answered);
        assert_eq!(begin(&mut tx, &acme, "k", "h2", at(2)).await.unwrap(), Begun::Other);
        assert_eq!(begin(&mut tx, &acme, "k", "h2", at(KEPT_MILLIS + 1)).await.unwrap(), Begun::New);
    }

    async fn a_key_whose_request_died_frees_itself(ledger: Ledger) {
        let acme = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        let at = Timestamp::from_millis;
        assert_eq!(begin(&mut tx, &acme, "k", "h", at(0)).await.unwrap(), Begun::New);
        assert_eq!(begin(&mut tx, &acme, "k", "h", at(BUSY_MILLIS)).await.unwrap(), Begun::Busy);
        assert_eq!(begin(&mut tx, &acme, "k", "h", at(BUSY_MILLIS + 1)).await.unwrap(), Begun::New);
        abandon(&mut tx, &acme, "k").await.unwrap();
        assert_eq!(begin(&mut tx, &acme, "k", "h", at(BUSY_MILLIS + 2)).await.unwrap(), Begun::New);
    }
}
