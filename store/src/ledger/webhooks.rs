//! Webhook endpoints and, in [`outbox`], the deliveries owed to them.

use std::fmt;

use harbinger_core::{TenantId, Timestamp};
use sqlx::{AssertSqlSafe, Row, any::AnyRow};

use super::{Connection, Error, column, words::words};

pub mod outbox;

/// A signing secret as the ledger keeps it: never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as a secret; what it must look like is the signer's business.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text: for signing, and for showing it once to the person who made the endpoint.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Whether an endpoint is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookState {
    /// It is.
    Active,
    /// It is not: switched off by a person, by answering 410, or by failing for days.
    Disabled,
}

words!(WebhookState, "a webhook state", Active = "active", Disabled = "disabled");

/// An endpoint that is told of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// `whk_...`; later endpoints sort later.
    pub webhook_id: String,
    /// Who it belongs to.
    pub tenant: TenantId,
    /// Where requests go.
    pub url: String,
    /// Signs every request.
    pub secret: Secret,
    /// The secret before the last rotation: signs beside the new one until `previous_until_wall`.
    pub previous_secret: Option<Secret>,
    /// When the previous secret ceases to sign.
    pub previous_until_wall: Option<Timestamp>,
    /// Event types that it wants: whole types (`alert.raised`) or families (`alert.*`); empty for all.
    pub event_types: Vec<String>,
    /// Whether it is sent to.
    pub state: WebhookState,
    /// Why it is not.
    pub disabled_reason: Option<String>,
    /// When it was made.
    pub created_wall: Timestamp,
}

impl Webhook {
    /// Whether the endpoint wants events of this type.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        let matches = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => event_type.starts_with(family),
            None => wanted == event_type,
        };
        self.event_types.is_empty() || self.event_types.iter().any(matches)
    }

    /// The secrets that sign at `now`, newest first: two during a rotation.
    #[must_use]
    pub fn secrets_at(&self, now: Timestamp) -> Vec<&Secret> {
        let previous =
            self.previous_secret.as_ref().filter(|_| self.previous_until_wall.is_some_and(|until| now < until));
        std::iter::once(&self.secret).chain(previous).collect()
    }
}

const COLUMNS: &str = "webhook_id, tenant, url, secret, previous_secret, previous_until_wall, event_types, state, \
    disabled_reason, created_wall";

/// Writes a new endpoint.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn insert(connection: &mut Connection, webhook: &Webhook) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO webhooks (webhook_id, tenant, url, secret, previous_secret, previous_until_wall, event_types, \
         state, disabled_reason, created_wall) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&webhook.webhook_id)
    .bind(webhook.tenant.as_str())
    .bind(&webhook.url)
    .bind(webhook.secret.expose())
    .bind(webhook.previous_secret.as_ref().map(Secret::expose))
    .bind(webhook.previous_until_wall.map(Timestamp::millis))
    .bind(event_types_text(webhook))
    .bind(webhook.state.as_str())
    .bind(webhook.disabled_reason.as_deref())
    .bind(webhook.created_wall.millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes everything of an endpoint but its id, owner and time of making. To switch one off use [`disable`], which
/// also settles what it is owed.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn update(connection: &mut Connection, webhook: &Webhook) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE webhooks SET url = $3, secret = $4, previous_secret = $5, previous_until_wall = $6, event_types = $7, \
         state = $8, disabled_reason = $9 WHERE webhook_id = $1 AND tenant = $2",
    )
    .bind(&webhook.webhook_id)
    .bind(webhook.tenant.as_str())
    .bind(&webhook.url)
    .bind(webhook.secret.expose())
    .bind(webhook.previous_secret.as_ref().map(Secret::expose))
    .bind(webhook.previous_until_wall.map(Timestamp::millis))
    .bind(event_types_text(webhook))
    .bind(webhook.state.as_str())
    .bind(webhook.disabled_reason.as_deref())
    .execute(connection)
    .await?;
    if done.rows_affected() == 0 { Err(not_found(&webhook.webhook_id)) } else { Ok(()) }
}

/// The endpoint with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, webhook_id: &str) -> Result<Webhook, Error> {
    find(connection, webhook_id).await?.filter(|webhook| webhook.tenant == *tenant).ok_or_else(|| not_found(webhook_id))
}

/// The endpoint with this id, whoever owns it: for delivery, which serves all tenants.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn find(connection: &mut Connection, webhook_id: &str) -> Result<Option<Webhook>, Error> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM webhooks WHERE webhook_id = $1")))
        .bind(webhook_id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(webhook).transpose()
}

/// At most `limit` endpoints of a tenant after the one with id `after`, oldest first.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Webhook>, Error> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM webhooks WHERE tenant = $1 AND webhook_id > $2 ORDER BY webhook_id LIMIT $3"
    )))
    .bind(tenant.as_str())
    .bind(after.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(webhook).collect()
}

/// All active endpoints of a tenant.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn active(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<Webhook>, Error> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM webhooks WHERE tenant = $1 AND state = 'active' ORDER BY webhook_id"
    )))
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(webhook).collect()
}

/// Switches an endpoint off. What it is still owed becomes dead letters that name the reason, so nothing waits unseen;
/// they can be redelivered after [`enable`].
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn disable(
    connection: &mut Connection,
    tenant: &TenantId,
    webhook_id: &str,
    reason: &str,
) -> Result<(), Error> {
    set_state(connection, tenant, webhook_id, WebhookState::Disabled, Some(reason)).await?;
    sqlx::query("UPDATE deliveries SET state = 'dead', last_error = $2 WHERE webhook_id = $1 AND state = 'pending'")
        .bind(webhook_id)
        .bind(format!("not sent: the endpoint was switched off: {reason}"))
        .execute(connection)
        .await?;
    Ok(())
}

/// Switches an endpoint on again. What died meanwhile stays dead until it is redelivered.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn enable(connection: &mut Connection, tenant: &TenantId, webhook_id: &str) -> Result<(), Error> {
    set_state(connection, tenant, webhook_id, WebhookState::Active, None).await
}

/// Removes an endpoint and its deliveries.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn delete(connection: &mut Connection, tenant: &TenantId, webhook_id: &str) -> Result<(), Error> {
    let done = sqlx::query("DELETE FROM webhooks WHERE webhook_id = $1 AND tenant = $2")
        .bind(webhook_id)
        .bind(tenant.as_str())
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(not_found(webhook_id));
    }
    sqlx::query("DELETE FROM deliveries WHERE webhook_id = $1").bind(webhook_id).execute(connection).await?;
    Ok(())
}

async fn set_state(
    connection: &mut Connection,
    tenant: &TenantId,
    webhook_id: &str,
    state: WebhookState,
    reason: Option<&str>,
) -> Result<(), Error> {
    let done =
        sqlx::query("UPDATE webhooks SET state = $3, disabled_reason = $4 WHERE webhook_id = $1 AND tenant = $2")
            .bind(webhook_id)
            .bind(tenant.as_str())
            .bind(state.as_str())
            .bind(reason)
            .execute(connection)
            .await?;
    if done.rows_affected() == 0 { Err(not_found(webhook_id)) } else { Ok(()) }
}

fn not_found(webhook_id: &str) -> Error {
    Error::NotFound { what: "webhook", id: webhook_id.to_owned() }
}

fn event_types_text(webhook: &Webhook) -> String {
    serde_json::to_string(&webhook.event_types).expect("texts always serialize")
}

fn webhook(row: &AnyRow) -> Result<Webhook, Error> {
    let previous_secret: Option<String> = row.try_get("previous_secret")?;
    Ok(Webhook {
        webhook_id: row.try_get("webhook_id")?,
        tenant: column::parse(row, "tenant")?,
        url: row.try_get("url")?,
        secret: Secret::new(row.try_get("secret")?),
        previous_secret: previous_secret.map(Secret::new),
        previous_until_wall: column::time_optional(row, "previous_until_wall")?,
        event_types: column::json(row, "event_types")?,
        state: column::parse(row, "state")?,
        disabled_reason: row.try_get("disabled_reason")?,
        created_wall: column::time(row, "created_wall")?,
    })
}

#[cfg(test)]
mod tests;
