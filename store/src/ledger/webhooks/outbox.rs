//! The outbox: one row per event and endpoint, written in the transaction that changed what the event tells of.
//!
//! **Invariant**: a delivery is `pending` until an attempt succeeded (`delivered`) or it was given up (`dead`); it
//! leaves `pending` by [`record`] or by its endpoint being switched off, and comes back only by [`redeliver`]. Attempts
//! are recorded after the request: a crash between the two sends again, which is what at least once means.

use harbinger_core::{Timestamp, ids::new_id};
use sqlx::{AssertSqlSafe, Row, any::AnyRow};

use super::Webhook;
use crate::ledger::{Connection, Error, column, words::words};

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be sent at its next attempt.
    Pending,
    /// Answered with 2xx.
    Delivered,
    /// Given up: a dead letter.
    Dead,
}

words!(DeliveryState, "a delivery state", Pending = "pending", Delivered = "delivered", Dead = "dead");

/// One event owed to one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// `dlv_...`; later deliveries sort later.
    pub delivery_id: String,
    /// The endpoint.
    pub webhook_id: String,
    /// `msg_...`: the same for every endpoint and every attempt, so that receivers can tell a repeat.
    pub message_id: String,
    /// What happened.
    pub event_type: String,
    /// The request body, as it is signed.
    pub body: String,
    /// Where it is.
    pub state: DeliveryState,
    /// Attempts made since it was enqueued or last redelivered.
    pub attempts: u32,
    /// When it may be attempted next.
    pub next_attempt_wall: Timestamp,
    /// When it was enqueued.
    pub created_wall: Timestamp,
    /// When it was answered with 2xx.
    pub delivered_wall: Option<Timestamp>,
    /// HTTP status of the last attempt; `None` where there was no answer.
    pub last_status: Option<u16>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// Answered with 2xx.
    Delivered {
        /// The answer.
        status: u16,
    },
    /// Failed; to be tried again.
    Retry {
        /// The answer, where there was one.
        status: Option<u16>,
        /// Why it failed.
        error: String,
        /// When to try again.
        next_attempt_wall: Timestamp,
    },
    /// Failed; given up.
    Dead {
        /// The answer, where there was one.
        status: Option<u16>,
        /// Why it failed.
        error: String,
    },
}

const COLUMNS: &str = "delivery_id, webhook_id, message_id, event_type, body, state, attempts, next_attempt_wall, \
    created_wall, delivered_wall, last_status, last_error";

/// Enqueues an event for those of `endpoints` that want it, due at once, and returns how many did. Call it in the
/// transaction that makes the event true, with the endpoints of the tenant from [`super::active`].
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn enqueue(
    connection: &mut Connection,
    endpoints: &[Webhook],
    event_type: &str,
    body: &str,
    now_wall: Timestamp,
) -> Result<u32, Error> {
    let message_id = new_id("msg");
    let mut enqueued = 0;
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.wants(event_type)) {
        sqlx::query(
            "INSERT INTO deliveries (delivery_id, tenant, webhook_id, message_id, event_type, body, state, attempts, \
             next_attempt_wall, created_wall) VALUES ($1, $2, $3, $4, $5, $6, 'pending', 0, $7, $7)",
        )
        .bind(new_id("dlv"))
        .bind(endpoint.tenant.as_str())
        .bind(&endpoint.webhook_id)
        .bind(&message_id)
        .bind(event_type)
        .bind(body)
        .bind(now_wall.millis())
        .execute(&mut *connection)
        .await?;
        enqueued += 1;
    }
    Ok(enqueued)
}

/// Ids of the active endpoints, of all tenants, that have a delivery due at `now_wall`.
///
/// # Errors
/// [`Error::Database`].
pub async fn endpoints_due(connection: &mut Connection, now_wall: Timestamp) -> Result<Vec<String>, Error> {
    let rows = sqlx::query(
        "SELECT DISTINCT webhook_id FROM deliveries WHERE state = 'pending' AND next_attempt_wall <= $1 \
         AND webhook_id IN (SELECT webhook_id FROM webhooks WHERE state = 'active') ORDER BY webhook_id",
    )
    .bind(now_wall.millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("webhook_id")?)).collect()
}

/// The oldest delivery of an endpoint that is due at `now_wall`.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn next_due(
    connection: &mut Connection,
    webhook_id: &str,
    now_wall: Timestamp,
) -> Result<Option<Delivery>, Error> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 AND state = 'pending' AND next_attempt_wall <= $2 \
         ORDER BY delivery_id LIMIT 1"
    )))
    .bind(webhook_id)
    .bind(now_wall.millis())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(delivery).transpose()
}

/// Writes what became of an attempt. `seen` is the delivery as it was when the attempt began: where it was redelivered,
/// switched off or removed meanwhile, that stands and `false` is returned.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn record(
    connection: &mut Connection,
    seen: &Delivery,
    outcome: &Recorded,
    now_wall: Timestamp,
) -> Result<bool, Error> {
    let (state, status, error, next, delivered) = match outcome {
        Recorded::Delivered { status } => (DeliveryState::Delivered, Some(*status), None, now_wall, Some(now_wall)),
        Recorded::Retry { status, error, next_attempt_wall } => {
            (DeliveryState::Pending, *status, Some(error.as_str()), *next_attempt_wall, None)
        }
        Recorded::Dead { status, error } => (DeliveryState::Dead, *status, Some(error.as_str()), now_wall, None),
    };
    let done = sqlx::query(
        "UPDATE deliveries SET state = $3, attempts = attempts + 1, next_attempt_wall = $4, delivered_wall = $5, \
         last_status = $6, last_error = $7 WHERE delivery_id = $1 AND state = 'pending' AND attempts = $2",
    )
    .bind(&seen.delivery_id)
    .bind(i64::from(seen.attempts))
    .bind(state.as_str())
    .bind(next.millis())
    .bind(delivered.map(Timestamp::millis))
    .bind(status.map(i64::from))
    .bind(error)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets everything that an endpoint is owed wait until `until_wall` at least, and returns how much that was: where the
/// endpoint is down, trying one delivery after another would only write one failure after another.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn postpone(connection: &mut Connection, webhook_id: &str, until_wall: Timestamp) -> Result<u64, Error> {
    let done = sqlx::query(
        "UPDATE deliveries SET next_attempt_wall = $2 \
         WHERE webhook_id = $1 AND state = 'pending' AND next_attempt_wall < $2",
    )
    .bind(webhook_id)
    .bind(until_wall.millis())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// At most `limit` deliveries of an endpoint before the one with id `before`, newest first; only those in `state` where
/// one is given (dead letters: [`DeliveryState::Dead`]). The caller has made sure whose endpoint it is.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    webhook_id: &str,
    state: Option<DeliveryState>,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<Delivery>, Error> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM deliveries WHERE webhook_id = $1 AND ($2 = '' OR state = $2) \
         AND ($3 = '' OR delivery_id < $3) ORDER BY delivery_id DESC LIMIT $4"
    )))
    .bind(webhook_id)
    .bind(state.map_or("", DeliveryState::as_str))
    .bind(before.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(delivery).collect()
}

/// The delivery of an endpoint with this id.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`], [`Error::Damaged`].
pub async fn get(connection: &mut Connection, webhook_id: &str, delivery_id: &str) -> Result<Delivery, Error> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM deliveries WHERE delivery_id = $1 AND webhook_id = $2"
    )))
    .bind(delivery_id)
    .bind(webhook_id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map_or_else(|| Err(not_found(delivery_id)), delivery)
}

/// Makes a delivery pending again, whatever became of it, with all its attempts before it. The message id stays.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongState`] where the endpoint is switched off; [`Error::Database`].
pub async fn redeliver(
    connection: &mut Connection,
    endpoint: &Webhook,
    delivery_id: &str,
    now_wall: Timestamp,
) -> Result<(), Error> {
    refuse_disabled(endpoint)?;
    let done = sqlx::query(
        "UPDATE deliveries SET state = 'pending', attempts = 0, next_attempt_wall = $3, delivered_wall = NULL, \
         last_status = NULL, last_error = NULL WHERE delivery_id = $1 AND webhook_id = $2",
    )
    .bind(delivery_id)
    .bind(&endpoint.webhook_id)
    .bind(now_wall.millis())
    .execute(connection)
    .await?;
    if done.rows_affected() == 0 { Err(not_found(delivery_id)) } else { Ok(()) }
}

/// Makes all dead letters of an endpoint pending again and returns how many there were.
///
/// # Errors
/// [`Error::WrongState`] where the endpoint is switched off; [`Error::Database`].
pub async fn redeliver_dead(
    connection: &mut Connection,
    endpoint: &Webhook,
    now_wall: Timestamp,
) -> Result<u64, Error> {
    refuse_disabled(endpoint)?;
    let done = sqlx::query(
        "UPDATE deliveries SET state = 'pending', attempts = 0, next_attempt_wall = $2, last_status = NULL, \
         last_error = NULL WHERE webhook_id = $1 AND state = 'dead'",
    )
    .bind(&endpoint.webhook_id)
    .bind(now_wall.millis())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Since when nothing has reached an endpoint: when the oldest event was enqueued that was attempted in vain after the
/// last success. `None` where the last attempt succeeded or there was none.
///
/// # Errors
/// [`Error::Database`].
pub async fn failing_since(connection: &mut Connection, webhook_id: &str) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(
        "SELECT created_wall FROM deliveries WHERE webhook_id = $1 AND state IN ('pending', 'dead') AND attempts > 0 \
         AND created_wall > COALESCE((SELECT max(delivered_wall) FROM deliveries WHERE webhook_id = $1), -1) \
         ORDER BY created_wall LIMIT 1",
    )
    .bind(webhook_id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| column::time(row, "created_wall")).transpose()
}

/// How many deliveries of all tenants are pending and dead.
///
/// # Errors
/// [`Error::Database`].
pub async fn backlog(connection: &mut Connection) -> Result<(u64, u64), Error> {
    let (pending, dead): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending'), \
         (SELECT count(*) FROM deliveries WHERE state = 'dead')",
    )
    .fetch_one(connection)
    .await?;
    Ok((pending.unsigned_abs(), dead.unsigned_abs()))
}

/// Forgets what was delivered or died before `before_wall` and returns how many rows there were.
///
/// # Errors
/// [`Error::Database`].
pub async fn prune(connection: &mut Connection, before_wall: Timestamp) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM deliveries WHERE state <> 'pending' AND created_wall < $1")
        .bind(before_wall.millis())
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

fn refuse_disabled(endpoint: &Webhook) -> Result<(), Error> {
    match endpoint.state {
        super::WebhookState::Active => Ok(()),
        super::WebhookState::Disabled => Err(Error::WrongState {
            what: "webhook",
            id: endpoint.webhook_id.clone(),
            state: endpoint.state.to_string(),
            attempt: "redelivered to",
        }),
    }
}

fn not_found(delivery_id: &str) -> Error {
    Error::NotFound { what: "delivery", id: delivery_id.to_owned() }
}

fn delivery(row: &AnyRow) -> Result<Delivery, Error> {
    let status: Option<i64> = row.try_get("last_status")?;
    Ok(Delivery {
        delivery_id: row.try_get("delivery_id")?,
        webhook_id: row.try_get("webhook_id")?,
        message_id: row.try_get("message_id")?,
        event_type: row.try_get("event_type")?,
        body: row.try_get("body")?,
        state: column::parse(row, "state")?,
        attempts: column::count(row, "attempts")?,
        next_attempt_wall: column::time(row, "next_attempt_wall")?,
        created_wall: column::time(row, "created_wall")?,
        delivered_wall: column::time_optional(row, "delivered_wall")?,
        last_status: status.and_then(|status| u16::try_from(status).ok()),
        last_error: row.try_get("last_error")?,
    })
}
