//! Alerts as rows: one open alert per device, component and failure mode, and its history.
//!
//! The rules of the life cycle stand in the alerts crate; here rows are kept. The table's partial unique index is the
//! last guard of "never two open alerts": a second one fails the whole transaction.

use harbinger_core::{ComponentId, DeviceId, Probability, TenantId, Timestamp};
use sqlx::{AssertSqlSafe, Row, any::AnyRow};

use super::{Connection, Error, column, words::in_states};

mod model;

pub use model::{Alert, AlertState, Ended, HistoryStep, NewStep, Outcome};

/// Which alerts a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertFilter {
    /// Only these states; all where empty.
    pub states: Vec<AlertState>,
    /// Only this device.
    pub device: Option<DeviceId>,
    /// Only this component.
    pub component: Option<ComponentId>,
}

/// Order of a list by id, which is order of raising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first.
    #[default]
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

const COLUMNS: &str = "alert_id, device, component, failure_mode, state, severity, summary, reasons, probability, \
    peak_probability, prediction_id, raised_at, updated_at, below_since, acknowledged_at, acknowledged_by, resolved_at, \
    closed_at, closed_by, outcome, outcome_component, comment";
const STANDING: &str = "state IN ('open', 'acknowledged', 'in_progress')";

/// Writes a new alert.
///
/// # Errors
/// [`Error::Database`]: also where an alert for the same device, component and failure mode stands already.
pub async fn insert(connection: &mut Connection, tenant: &TenantId, alert: &Alert) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO alerts (tenant, alert_id, device, component, failure_mode, state, severity, summary, reasons, \
         probability, peak_probability, prediction_id, raised_at, updated_at, below_since, acknowledged_at, \
         acknowledged_by, resolved_at, closed_at, closed_by, outcome, outcome_component, comment) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
    )
    .bind(tenant.as_str())
    .bind(&alert.alert_id)
    .bind(alert.device.as_str())
    .bind(alert.component.as_str())
    .bind(&alert.failure_mode)
    .bind(alert.state.as_str())
    .bind(alert.severity.as_str())
    .bind(&alert.summary)
    .bind(reasons_text(alert))
    .bind(alert.probability.get())
    .bind(alert.peak_probability.get())
    .bind(alert.prediction_id.as_deref())
    .bind(alert.raised_at.millis())
    .bind(alert.updated_at.millis())
    .bind(alert.below_since.map(Timestamp::millis))
    .bind(alert.acknowledged_at.map(Timestamp::millis))
    .bind(alert.acknowledged_by.as_deref())
    .bind(alert.resolved_at.map(Timestamp::millis))
    .bind(alert.closed_at.map(Timestamp::millis))
    .bind(alert.closed_by.as_deref())
    .bind(alert.outcome.map(Outcome::as_str))
    .bind(alert.outcome_component.as_ref().map(ComponentId::as_str))
    .bind(alert.comment.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes everything of an alert that may change after it was raised.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn update(connection: &mut Connection, tenant: &TenantId, alert: &Alert) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE alerts SET state = $3, severity = $4, summary = $5, reasons = $6, probability = $7, \
         peak_probability = $8, updated_at = $9, below_since = $10, acknowledged_at = $11, acknowledged_by = $12, \
         resolved_at = $13, closed_at = $14, closed_by = $15, outcome = $16, outcome_component = $17, comment = $18, \
         prediction_id = $19 \
         WHERE alert_id = $1 AND tenant = $2",
    )
    .bind(&alert.alert_id)
    .bind(tenant.as_str())
    .bind(alert.state.as_str())
    .bind(alert.severity.as_str())
    .bind(&alert.summary)
    .bind(reasons_text(alert))
    .bind(alert.probability.get())
    .bind(alert.peak_probability.get())
    .bind(alert.updated_at.millis())
    .bind(alert.below_since.map(Timestamp::millis))
    .bind(alert.acknowledged_at.map(Timestamp::millis))
    .bind(alert.acknowledged_by.as_deref())
    .bind(alert.resolved_at.map(Timestamp::millis))
    .bind(alert.closed_at.map(Timestamp::millis))
    .bind(alert.closed_by.as_deref())
    .bind(alert.outcome.map(Outcome::as_str))
    .bind(alert.outcome_component.as_ref().map(ComponentId::as_str))
    .bind(alert.comment.as_deref())
    .bind(alert.prediction_id.as_deref())
    .execute(connection)
    .await?;
    if done.rows_affected() == 0 { Err(not_found(&alert.alert_id)) } else { Ok(()) }
}

/// The alert with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, alert_id: &str) -> Result<Alert, Error> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM alerts WHERE alert_id = $1 AND tenant = $2")))
        .bind(alert_id)
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Err(not_found(alert_id)), alert)
}

/// The standing alert of a device, component and failure mode.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn find_open(
    connection: &mut Connection,
    tenant: &TenantId,
    device: &DeviceId,
    component: &ComponentId,
    failure_mode: &str,
) -> Result<Option<Alert>, Error> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM alerts \
         WHERE tenant = $1 AND device = $2 AND component = $3 AND failure_mode = $4 AND {STANDING}"
    )))
    .bind(tenant.as_str())
    .bind(device.as_str())
    .bind(component.as_str())
    .bind(failure_mode)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(alert).transpose()
}

/// All standing alerts of a tenant, oldest first.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn standing(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<Alert>, Error> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM alerts WHERE tenant = $1 AND {STANDING} ORDER BY alert_id"
    )))
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(alert).collect()
}

/// The alerts of a tenant that ended or were closed at or after `since`.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn ended_since(
    connection: &mut Connection,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<Vec<Ended>, Error> {
    let rows = sqlx::query(
        "SELECT a.device AS device, a.component AS component, a.failure_mode AS failure_mode, \
         COALESCE(a.closed_at, a.resolved_at) AS ended_at, h.actor AS actor \
         FROM alerts a JOIN alert_history h ON h.alert_id = a.alert_id \
         WHERE a.tenant = $1 AND a.state IN ('resolved', 'closed') AND COALESCE(a.closed_at, a.resolved_at) >= $2 \
         AND h.step = (SELECT max(l.step) FROM alert_history l WHERE l.alert_id = a.alert_id) ORDER BY a.alert_id",
    )
    .bind(tenant.as_str())
    .bind(since.millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(ended).collect()
}

/// At most `limit` alerts that pass the filter, after the one with id `after`, in order of id.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &AlertFilter,
    order: Order,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Alert>, Error> {
    let (beyond, direction) = match order {
        Order::NewestFirst => ("<", "DESC"),
        Order::OldestFirst => (">", "ASC"),
    };
    let mut sql = format!("SELECT {COLUMNS} FROM alerts WHERE tenant = $1");
    let mut texts: Vec<&str> = Vec::new();
    let mut condition = |sql: &mut String, column_and_operator: &str, value| {
        texts.push(value);
        *sql += &format!(" AND {column_and_operator} ${}", texts.len() + 1);
    };
    if let Some(device) = &filter.device {
        condition(&mut sql, "device =", device.as_str());
    }
    if let Some(component) = &filter.component {
        condition(&mut sql, "component =", component.as_str());
    }
    if let Some(after) = after {
        condition(&mut sql, &format!("alert_id {beyond}"), after);
    }
    let states = in_states(&filter.states);
    sql += &format!(" {states} ORDER BY alert_id {direction} LIMIT ${}", texts.len() + 2);
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
    for text in texts {
        query = query.bind(text);
    }
    let rows = query.bind(i64::from(limit)).fetch_all(connection).await?;
    rows.iter().map(alert).collect()
}

/// How many alerts a tenant has in each state, in the order of [`AlertState::ALL`], zeros included.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn counts(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<(AlertState, u64)>, Error> {
    let rows = sqlx::query("SELECT state, count(*) AS alerts FROM alerts WHERE tenant = $1 GROUP BY state")
        .bind(tenant.as_str())
        .fetch_all(connection)
        .await?;
    let mut counts: Vec<(AlertState, u64)> = AlertState::ALL.iter().map(|&state| (state, 0)).collect();
    for row in &rows {
        let state: AlertState = column::parse(row, "state")?;
        let number = u64::from(column::count(row, "alerts")?);
        counts.iter_mut().filter(|(known, _)| *known == state).for_each(|(_, count)| *count = number);
    }
    Ok(counts)
}

/// Adds a step to the history of an alert.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn append_history(
    connection: &mut Connection,
    tenant: &TenantId,
    alert_id: &str,
    step: NewStep<'_>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO alert_history (tenant, alert_id, step, at, at_wall, state, actor, comment) \
         SELECT $1, $2, count(*) + 1, $3, $4, $5, $6, $7 FROM alert_history WHERE alert_id = $2",
    )
    .bind(tenant.as_str())
    .bind(alert_id)
    .bind(step.at.millis())
    .bind(step.at_wall.millis())
    .bind(step.state.as_str())
    .bind(step.actor)
    .bind(step.comment)
    .execute(connection)
    .await?;
    Ok(())
}

/// The history of an alert, oldest first; empty for an alert of another tenant.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn history(
    connection: &mut Connection,
    tenant: &TenantId,
    alert_id: &str,
) -> Result<Vec<HistoryStep>, Error> {
    let rows = sqlx::query(
        "SELECT step, at, at_wall, state, actor, comment FROM alert_history \
         WHERE alert_id = $1 AND tenant = $2 ORDER BY step",
    )
    .bind(alert_id)
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(history_step).collect()
}

fn not_found(alert_id: &str) -> Error {
    Error::NotFound { what: "alert", id: alert_id.to_owned() }
}

fn reasons_text(alert: &Alert) -> String {
    serde_json::to_string(&alert.reasons).expect("JSON values always serialize")
}

fn ended(row: &AnyRow) -> Result<Ended, Error> {
    Ok(Ended {
        device: column::parse(row, "device")?,
        component: column::parse(row, "component")?,
        failure_mode: row.try_get("failure_mode")?,
        at: column::time(row, "ended_at")?,
        by: row.try_get("actor")?,
    })
}

fn history_step(row: &AnyRow) -> Result<HistoryStep, Error> {
    Ok(HistoryStep {
        step: column::count(row, "step")?,
        at: column::time(row, "at")?,
        at_wall: column::time(row, "at_wall")?,
        state: column::parse(row, "state")?,
        actor: row.try_get("actor")?,
        comment: row.try_get("comment")?,
    })
}

fn alert(row: &AnyRow) -> Result<Alert, Error> {
    Ok(Alert {
        alert_id: row.try_get("alert_id")?,
        device: column::parse(row, "device")?,
        component: column::parse(row, "component")?,
        failure_mode: row.try_get("failure_mode")?,
        state: column::parse(row, "state")?,
        severity: column::parse(row, "severity")?,
        summary: row.try_get("summary")?,
        reasons: column::json(row, "reasons")?,
        probability: Probability::saturating(row.try_get("probability")?),
        peak_probability: Probability::saturating(row.try_get("peak_probability")?),
        prediction_id: row.try_get("prediction_id")?,
        raised_at: column::time(row, "raised_at")?,
        updated_at: column::time(row, "updated_at")?,
        below_since: column::time_optional(row, "below_since")?,
        acknowledged_at: column::time_optional(row, "acknowledged_at")?,
        acknowledged_by: row.try_get("acknowledged_by")?,
        resolved_at: column::time_optional(row, "resolved_at")?,
        closed_at: column::time_optional(row, "closed_at")?,
        closed_by: row.try_get("closed_by")?,
        outcome: column::parse_optional(row, "outcome")?,
        outcome_component: column::parse_optional(row, "outcome_component")?,
        comment: row.try_get("comment")?,
    })
}

#[cfg(test)]
mod tests;
