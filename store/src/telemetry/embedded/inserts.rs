//! What an append inserts beside its log row: names, events, quarantined messages.

use rusqlite::{Connection, params};

use crate::telemetry::{Appended, Batch, catalog::Catalog};

/// Records the devices and signals that were given numbers since `(devices, signals)`.
pub(super) fn insert_names(
    connection: &Connection,
    catalog: &Catalog,
    (devices, signals): (usize, usize),
) -> rusqlite::Result<()> {
    for (number, key) in catalog.devices_from(devices) {
        connection
            .prepare_cached("INSERT INTO devices (number, tenant, device) VALUES (?1, ?2, ?3)")?
            .execute(params![number, key.tenant.as_str(), key.device.as_str()])?;
    }
    for (number, signal) in catalog.signals_from(signals) {
        connection
            .prepare_cached("INSERT INTO signals (number, signal) VALUES (?1, ?2)")?
            .execute(params![number, signal.as_str()])?;
    }
    Ok(())
}

/// Inserts the events that are not there yet, and counts which were. The first arrival of an event stays.
pub(super) fn insert_events(
    connection: &Connection,
    catalog: &Catalog,
    batch: &Batch,
    done: &mut Appended,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO events (device, ts_ms, code, severity, message) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO NOTHING";
    for event in &batch.events {
        let severity = event.severity.as_str();
        let values = params![catalog.find_device(&event.key), event.ts.millis(), &*event.code, severity, event.message];
        let new = connection.prepare_cached(insert)?.execute(values)? > 0;
        *if new { &mut done.events_stored } else { &mut done.events_duplicate } += 1;
    }
    Ok(())
}

/// Inserts the messages that could not be taken.
pub(super) fn insert_quarantined(connection: &Connection, batch: &Batch, done: &mut Appended) -> rusqlite::Result<()> {
    let insert = "INSERT INTO quarantine (tenant, received_ms, topic, payload, reason, readings)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    for message in &batch.quarantined {
        let tenant = message.tenant.as_ref().map(|tenant| tenant.as_str());
        let received = message.received_at.millis();
        let values = params![tenant, received, message.topic, message.payload, message.reason, message.readings];
        connection.prepare_cached(insert)?.execute(values)?;
        done.quarantined += 1;
    }
    Ok(())
}
