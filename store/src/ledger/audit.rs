//! Who did what: an append-only record of every change that a person or a key made.

use harbinger_core::{TenantId, Timestamp, ids::new_id};

use super::{Connection, Error, column};

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its id; ids rise with time.
    pub audit_id: String,
    /// When, wall clock.
    pub at_wall: Timestamp,
    /// Who: the id of a key, or `harbinger` itself.
    pub actor: String,
    /// What, such as `alert.close`.
    pub action: String,
    /// To what: an id.
    pub subject: String,
    /// What was given with it.
    pub detail: serde_json::Value,
}

/// Records that `actor` did `action` to `subject`; returns the entry's id.
///
/// # Errors
/// [`Error::Database`].
pub async fn append(
    connection: &mut Connection,
    tenant: &TenantId,
    at_wall: Timestamp,
    (actor, action, subject): (&str, &str, &str),
    detail: &serde_json::Value,
) -> Result<String, Error> {
    let audit_id = new_id("aud");
    sqlx::query(
        "INSERT INTO audit (audit_id, tenant, at_wall, actor, action, subject, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(audit_id.as_str())
    .bind(tenant.as_str())
    .bind(at_wall.millis())
    .bind(actor)
    .bind(action)
    .bind(subject)
    .bind(detail.to_string())
    .execute(connection)
    .await?;
    Ok(audit_id)
}

/// Entries from the newest back, from before the entry `before` on, at most `limit`.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    before: Option<&str>,
    limit: usize,
) -> Result<Vec<Entry>, Error> {
    sqlx::query(
        "SELECT audit_id, at_wall, actor, action, subject, detail FROM audit \
         WHERE tenant = $1 AND ($2 = '' OR audit_id < $2) ORDER BY audit_id DESC LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(before.unwrap_or_default())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(Entry {
            audit_id: column::get(row, "audit_id")?,
            at_wall: column::time(row, "at_wall")?,
            actor: column::get(row, "actor")?,
            action: column::get(row, "action")?,
            subject: column::get(row, "subject")?,
            detail: column::json(row, "detail")?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::fixture::on_both_engines;

    on_both_engines!(the_newest_entry_comes_first_and_pages_go_back,);

    async fn the_newest_entry_comes_first_and_pages_go_back(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        for step in 0..5 {
            let what = ("key_1", "part.upsert", format!("p{step}"));
            let detail = serde_json::json!({ "step": step });
            append(&mut tx, &tenant, Timestamp::from_millis(step), (what.0, what.1, &what.2), &detail).await.unwrap();
        }
        let first = list(&mut tx, &tenant, None, 3).await.unwrap();
        let rest = list(&mut tx, &tenant, first.last().map(|entry| entry.audit_id.as_str()), 3).await.unwrap();
        let subjects: Vec<&str> = first.iter().chain(&rest).map(|entry| entry.subject.as_str()).collect();
        assert_eq!(subjects, ["p4", "p3", "p2", "p1", "p0"]);
        assert_eq!(rest[1].detail, serde_json::json!({ "step": 0 }));
    }
}
