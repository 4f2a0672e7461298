//! The feed of everything that happened, in order; the live stream reads it.
//!
//! A change is appended in the transaction that made it, so the feed never tells of what was rolled back, and its
//! sequence number is what `Last-Event-ID` resumes from.

use harbinger_core::{TenantId, Timestamp};
use serde_json::Value;
use sqlx::{Row, any::AnyRow};

use super::{Connection, Error, column};

/// Something that happened, not yet in the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChange<'a> {
    /// Who it belongs to.
    pub tenant: &'a TenantId,
    /// What happened, as `subject.verb`: `alert.raised`, `transfer.received`.
    pub kind: &'a str,
    /// Id of what it happened to.
    pub subject: &'a str,
    /// Event time.
    pub at: Timestamp,
    /// Wall-clock time.
    pub at_wall: Timestamp,
    /// What a reader of the stream gets.
    pub body: &'a Value,
}

/// A row of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its place in the feed: rises with every change of any tenant, without being dense.
    pub seq: i64,
    /// What happened, as `subject.verb`.
    pub kind: String,
    /// Id of what it happened to.
    pub subject: String,
    /// Event time.
    pub at: Timestamp,
    /// Wall-clock time.
    pub at_wall: Timestamp,
    /// What a reader of the stream gets.
    pub body: Value,
}

/// Appends a change in the caller's transaction and returns its sequence number.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn append(connection: &mut Connection, change: NewChange<'_>) -> Result<i64, Error> {
    let row = sqlx::query(
        "INSERT INTO changes (tenant, kind, subject, at, at_wall, body) VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq",
    )
    .bind(change.tenant.as_str())
    .bind(change.kind)
    .bind(change.subject)
    .bind(change.at.millis())
    .bind(change.at_wall.millis())
    .bind(change.body.to_string())
    .fetch_one(connection)
    .await?;
    Ok(row.try_get("seq")?)
}

/// At most `limit` changes of a tenant after `seq` (0 for all), oldest first.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn after(connection: &mut Connection, tenant: &TenantId, seq: i64, limit: u32) -> Result<Vec<Change>, Error> {
    let rows = sqlx::query(
        "SELECT seq, kind, subject, at, at_wall, body FROM changes WHERE tenant = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(seq)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(change).collect()
}

/// Sequence number of the newest change of a tenant; 0 where there is none.
///
/// # Errors
/// [`Error::Database`].
pub async fn latest(connection: &mut Connection, tenant: &TenantId) -> Result<i64, Error> {
    // ORDER BY and LIMIT rather than max(): the column keeps its declared type, which `Any` needs to decode it.
    let row = sqlx::query("SELECT seq FROM changes WHERE tenant = $1 ORDER BY seq DESC LIMIT 1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(0), |row| Ok(row.try_get("seq")?))
}

/// Sequence number of the oldest change of a tenant that is still kept; `None` where there is none. A reader that asks
/// to resume from before it has missed something.
///
/// # Errors
/// [`Error::Database`].
pub async fn oldest(connection: &mut Connection, tenant: &TenantId) -> Result<Option<i64>, Error> {
    let row = sqlx::query("SELECT seq FROM changes WHERE tenant = $1 ORDER BY seq LIMIT 1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(row.try_get("seq")?)).transpose()
}

/// Forgets the changes of all tenants made before `before_wall` and returns how many there were.
///
/// # Errors
/// [`Error::Database`].
pub async fn prune(connection: &mut Connection, before_wall: Timestamp) -> Result<u64, Error> {
    let done =
        sqlx::query("DELETE FROM changes WHERE at_wall < $1").bind(before_wall.millis()).execute(connection).await?;
    Ok(done.rows_affected())
}

fn change(row: &AnyRow) -> Result<Change, Error> {
    Ok(Change {
        seq: row.try_get("seq")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        at: column::time(row, "at")?,
        at_wall: column::time(row, "at_wall")?,
        body: column::json(row, "body")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ledger;
    use crate::ledger::fixture::on_both_engines;
    use serde_json::json;

    on_both_engines!(a_reader_resumes_after_what_it_has_seen_and_sees_its_tenant_only,);

    async fn a_reader_resumes_after_what_it_has_seen_and_sees_its_tenant_only(ledger: Ledger) {
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let mut tx = ledger.write().await.unwrap();
        let mut seqs = Vec::new();
        for (n, tenant) in [&acme, &other, &acme, &acme].into_iter().enumerate() {
            let body = json!({ "n": n });
            let at = Timestamp::from_millis(n as i64);
            let change = NewChange { tenant, kind: "alert.raised", subject: "alr_1", at, at_wall: at, body: &body };
            seqs.push(append(&mut tx, change).await.unwrap());
        }
        assert!(seqs.is_sorted());
        let seen: Vec<_> = after(&mut tx, &acme, seqs[0], 1).await.unwrap();
        assert_eq!(seen.iter().map(|c| c.seq).collect::<Vec<_>>(), [seqs[2]]);
        assert_eq!(seen[0].body, json!({ "n": 2 }));
        assert_eq!(after(&mut tx, &acme, 0, 100).await.unwrap().len(), 3);
        assert_eq!(latest(&mut tx, &acme).await.unwrap(), seqs[3]);
        assert_eq!(latest(&mut tx, &TenantId::parse("nobody").unwrap()).await.unwrap(), 0);
        assert_eq!(prune(&mut tx, Timestamp::from_millis(2)).await.unwrap(), 2);
        assert_eq!(oldest(&mut tx, &acme).await.unwrap(), Some(seqs[2]));
    }
}
