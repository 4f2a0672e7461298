//! A device's right to be forgotten: what the ledger knows of it alone goes, what the tenant's books need stays.
//!
//! Gone are its registration, maintenance, work orders, predictions, those of shadow too, with what they were made from, alerts
//! with their history, and what the feed and the outbox tell of those. Kept are stock movements, part uses, transfers, purchases,
//! returns and repairs, pieces, plans and the audit record: what was bought, shipped and used remains true without the device.
//!
//! Telemetry lies in the other store, so an erasure is noted in the transaction that begins it, and the note goes when the other
//! store is done: whoever starts after a crash finds it and goes on.

use harbinger_core::{DeviceId, DeviceKey, TenantId, Timestamp};
use sqlx::{AssertSqlSafe, Row as _};

use super::{Connection, Error, column, predictions::PredictionKey, progress, work_orders};

/// What was erased, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Its predictions.
    pub predictions: u64,
    /// Records of what they were made from.
    pub decisions: u64,
    /// Its alerts.
    pub alerts: u64,
    /// Its maintenance.
    pub maintenance: u64,
}

/// An erasure that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Whose.
    pub key: DeviceKey,
    /// Event time at which it was asked for.
    pub at: Timestamp,
}

/// Names of notes begin with this; the device follows.
const NOTE: &str = "erase/";

fn note(device: &DeviceId) -> String {
    format!("{NOTE}{device}")
}

/// Erases a device from the ledger and notes that its telemetry is to follow.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`]; the caller then drops the transaction.
pub async fn begin(connection: &mut Connection, key: &DeviceKey, at: Timestamp) -> Result<Erased, Error> {
    const ALERTS: &str = "(SELECT alert_id FROM alerts WHERE tenant = $1 AND device = $2)";
    const WORK_ORDERS: &str = "(SELECT work_order_id FROM work_orders WHERE tenant = $1 AND device = $2)";
    let DeviceKey { tenant, device } = key;
    progress::set(connection, tenant, &note(device), at.millis()).await?;
    let decisions = erase_decisions(connection, tenant, device).await?;
    let told = format!(
        "DELETE FROM changes WHERE tenant = $1 AND (subject = $2 OR subject IN {ALERTS} OR subject IN {WORK_ORDERS})"
    );
    run(connection, told, tenant, device.as_str()).await?;
    let outbox = "DELETE FROM deliveries WHERE tenant = $1 \
        AND (event_type LIKE 'alert.%' OR event_type LIKE 'work!_order.%' ESCAPE '!') AND body LIKE $2 ESCAPE '!'";
    run(connection, outbox.to_owned(), tenant, &mention(device)).await?;
    let history = format!("DELETE FROM alert_history WHERE tenant = $1 AND alert_id IN {ALERTS}");
    run(connection, history, tenant, device.as_str()).await?;
    let planned = work_orders::open_of_device(connection, tenant, device).await?;
    let mut counts = [0; 6];
    let tables = ["predictions", "alerts", "maintenance", "devices", "shadow_predictions", "work_orders"];
    for (count, table) in counts.iter_mut().zip(tables) {
        let rows = format!("DELETE FROM {table} WHERE tenant = $1 AND device = $2");
        *count = run(connection, rows, tenant, device.as_str()).await?;
    }
    for order in planned {
        work_orders::share_out(connection, tenant, &order.part, &order.depot).await?;
    }
    let [predictions, alerts, maintenance, ..] = counts;
    Ok(Erased { predictions, decisions, alerts, maintenance })
}

async fn run(connection: &mut Connection, statement: String, tenant: &TenantId, second: &str) -> Result<u64, Error> {
    let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant.as_str()).bind(second).execute(connection).await?;
    Ok(done.rows_affected())
}

/// A pattern of `LIKE` for a body that names the device, as JSON writes it without spaces.
fn mention(device: &DeviceId) -> String {
    let name = serde_json::Value::from(device.as_str()).to_string();
    let escaped = name.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%\"device\":{escaped}%")
}

/// Decisions stand under the ids of predictions, which hold the device.
async fn erase_decisions(connection: &mut Connection, tenant: &TenantId, device: &DeviceId) -> Result<u64, Error> {
    let query = sqlx::query("SELECT ts, component FROM predictions WHERE tenant = $1 AND device = $2");
    let rows = query.bind(tenant.as_str()).bind(device.as_str()).fetch_all(&mut *connection).await?;
    let mut erased = 0;
    for row in &rows {
        let component = column::parse(row, "component")?;
        let id = PredictionKey { ts: column::time(row, "ts")?, device: device.clone(), component }.encode();
        let one = "DELETE FROM decisions WHERE tenant = $1 AND prediction_id = $2";
        erased += run(connection, one.to_owned(), tenant, &id).await?;
    }
    Ok(erased)
}

/// Erasures of all tenants whose telemetry may still be there.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn pending(connection: &mut Connection) -> Result<Vec<Pending>, Error> {
    let rows = sqlx::query("SELECT tenant, name, value FROM progress WHERE name LIKE 'erase/%' ORDER BY tenant, name");
    let rows = rows.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get("name")?;
            let damaged = |_| Error::Damaged { column: "progress.name", value: name.clone() };
            let device = DeviceId::parse(name.strip_prefix(NOTE).unwrap_or_default()).map_err(damaged)?;
            let key = DeviceKey::new(column::parse(row, "tenant")?, device);
            Ok(Pending { key, at: column::time(row, "value")? })
        })
        .collect()
}

/// Notes that the telemetry is gone too.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn end(connection: &mut Connection, key: &DeviceKey) -> Result<(), Error> {
    let note = note(&key.device);
    run(connection, "DELETE FROM progress WHERE tenant = $1 AND name = $2".to_owned(), &key.tenant, &note).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ledger, ledger::fixture::on_both_engines};

    on_both_engines!(
        a_note_leads_back_to_its_device_until_it_is_ended,
        only_messages_that_name_this_very_device_leave_the_outbox,
    );

    fn key(device: &str) -> DeviceKey {
        DeviceKey::new("acme".parse().unwrap(), device.parse().unwrap())
    }

    async fn a_note_leads_back_to_its_device_until_it_is_ended(ledger: Ledger) {
        let mut tx = ledger.write().await.unwrap();
        let at = Timestamp::from_millis(1_420_070_400_000);
        for device in ["a", "b%"] {
            begin(&mut tx, &key(device), at).await.unwrap();
        }
        progress::set(&mut tx, &key("a").tenant, "scored_until", 7).await.unwrap();
        let expected = ["a", "b%"].map(|device| Pending { key: key(device), at });
        assert_eq!(pending(&mut tx).await.unwrap(), expected);
        end(&mut tx, &key("a")).await.unwrap();
        assert_eq!(pending(&mut tx).await.unwrap(), expected[1..]);
    }

    async fn only_messages_that_name_this_very_device_leave_the_outbox(ledger: Ledger) {
        let mut tx = ledger.write().await.unwrap();
        let insert = "INSERT INTO deliveries (delivery_id, tenant, webhook_id, message_id, event_type, body, state, attempts, \
            next_attempt_wall, created_wall) VALUES ($1, 'acme', 'w', 'm', $2, $3, 'pending', 0, 0, 0)";
        let messages = [
            ("1", "alert.raised", r#"{"data":{"device":"d_1"}}"#),
            ("2", "alert.raised", r#"{"data":{"device":"dx1"}}"#),
            ("3", "alert.raised", r#"{"data":{"device":"d_10"}}"#),
            ("4", "transfer.proposed", r#"{"data":{"reasons":[{"device":"d_1"}]}}"#),
            ("5", "work_order.opened", r#"{"data":{"device":"d_1"}}"#),
        ];
        for (id, kind, body) in messages {
            sqlx::query(insert).bind(id).bind(kind).bind(body).execute(&mut *tx).await.unwrap();
        }
        begin(&mut tx, &key("d_1"), Timestamp::from_millis(0)).await.unwrap();
        let left = sqlx::query_as("SELECT delivery_id FROM deliveries ORDER BY delivery_id").fetch_all(&mut *tx).await;
        let left: Vec<(String,)> = left.unwrap();
        assert_eq!(left.iter().map(|(id,)| id.as_str()).collect::<Vec<_>>(), ["2", "3", "4"]);
    }
}
