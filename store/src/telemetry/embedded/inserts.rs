//! What an append inserts beside its log row: names, events, quarantined messages.

use harbinger_core::{DeviceKey, SignalId};
use rusqlite::{Connection, params};

use super::schema::row_checksum;
use crate::telemetry::{
    Appended, Batch, Quarantined,
    catalog::{Catalog, DeviceNumber},
    rows::SignalNumber,
};

/// Checksum of a row of `devices`: of what names the device.
pub(super) fn device_crc(number: DeviceNumber, key: &DeviceKey) -> u32 {
    row_checksum(&[&number.to_le_bytes(), key.tenant.as_str().as_bytes(), key.device.as_str().as_bytes()])
}

/// Checksum of a row of `signals`.
pub(super) fn signal_crc(number: SignalNumber, signal: &SignalId) -> u32 {
    row_checksum(&[&number.to_le_bytes(), signal.as_str().as_bytes()])
}

/// Checksum of a row of `events`.
pub(super) fn event_crc(device: DeviceNumber, ts: i64, code: &str, severity: &str, message: Option<&str>) -> u32 {
    let message =
        [u8::from(message.is_some()).to_le_bytes().as_slice(), message.unwrap_or_default().as_bytes()].concat();
    row_checksum(&[&device.to_le_bytes(), &ts.to_le_bytes(), code.as_bytes(), severity.as_bytes(), &message])
}

/// Checksum of a row of `quarantine`.
pub(super) fn quarantine_crc(tenant: Option<&str>, message: &Quarantined) -> u32 {
    let Quarantined { received_at, topic, payload, reason, readings, .. } = message;
    let received = received_at.millis().to_le_bytes();
    let fields: [&[u8]; 6] = [
        tenant.unwrap_or_default().as_bytes(),
        &received,
        topic.as_bytes(),
        payload,
        reason.as_bytes(),
        &readings.to_le_bytes(),
    ];
    row_checksum(&fields)
}

/// Records the devices and signals that were given numbers since `(devices, signals)`.
pub(super) fn insert_names(
    connection: &Connection,
    catalog: &Catalog,
    (devices, signals): (usize, usize),
) -> rusqlite::Result<()> {
    for (number, key) in catalog.devices_from(devices) {
        connection
            .prepare_cached("INSERT INTO devices (number, tenant, device, crc) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![number, key.tenant.as_str(), key.device.as_str(), device_crc(number, key)])?;
    }
    for (number, signal) in catalog.signals_from(signals) {
        connection
            .prepare_cached("INSERT INTO signals (number, signal, crc) VALUES (?1, ?2, ?3)")?
            .execute(params![number, signal.as_str(), signal_crc(number, signal)])?;
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
    let insert = "INSERT INTO events (device, ts_ms, code, severity, message, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT DO NOTHING";
    for event in &batch.events {
        let device =
            catalog.find_device(&event.key).expect("every device of a batch is numbered before its transaction");
        let (ts, severity, message) = (event.ts.millis(), event.severity.as_str(), event.message.as_deref());
        let crc = event_crc(device, ts, &event.code, severity, message);
        let values = params![device, ts, &*event.code, severity, message, crc];
        let new = connection.prepare_cached(insert)?.execute(values)? > 0;
        *if new { &mut done.events_stored } else { &mut done.events_duplicate } += 1;
    }
    Ok(())
}

/// Inserts the messages that could not be taken.
pub(super) fn insert_quarantined(connection: &Connection, batch: &Batch, done: &mut Appended) -> rusqlite::Result<()> {
    let insert = "INSERT INTO quarantine (tenant, received_ms, topic, payload, reason, readings, crc)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    for message in &batch.quarantined {
        let tenant = message.tenant.as_ref().map(|tenant| tenant.as_str());
        let received = message.received_at.millis();
        let crc = quarantine_crc(tenant, message);
        let values = params![tenant, received, message.topic, message.payload, message.reason, message.readings, crc];
        connection.prepare_cached(insert)?.execute(values)?;
        done.quarantined += 1;
    }
    Ok(())
}
