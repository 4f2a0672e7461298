//! Opening: the catalogue, what each device has, and the tail read back from the log.

use std::path::Path;

use harbinger_core::{DeviceId, DeviceKey, SignalId, TenantId};
use rusqlite::{Connection, Row, params};

use super::{
    bytes::Reason,
    changes,
    chunk::Span,
    inserts::{device_crc, signal_crc},
    log::{Group, GroupReading},
    schema::{self, failure},
    tail::Tail,
};
use crate::telemetry::{
    Error,
    catalog::{DeviceNumber, is_nameless, nameless_signal},
    rows::SignalNumber,
};

/// What was found in the data file.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) tail: Tail,
    /// Of the newest log row there is or was.
    pub(super) sequence: i64,
    pub(super) log_bytes: u64,
    pub(super) samples_in_chunks: i64,
    /// Rows set aside because they cannot be read.
    pub(super) damaged: u64,
}

/// Reads everything that is held in memory.
pub(super) fn load(connection: &Connection, path: &Path) -> Result<Loaded, Error> {
    let name = path.display().to_string();
    let failed = |attempt| {
        let name = &name;
        move |source| failure(name, attempt, source)
    };
    let mut tail = Tail::default();
    let nameless = load_names(connection, &mut tail).map_err(failed("read its devices and signals"))?;
    let samples = schema::meta(connection, "samples_in_chunks").map_err(failed("read its counters"))?;
    let deleted = schema::meta(connection, "log_deleted").map_err(failed("read its counters"))?;
    let (newest, log_bytes, unreadable) = replay(connection, &mut tail).map_err(failed("read its log"))?;
    for (sequence, reason) in unreadable {
        tracing::error!(path = name, sequence, reason, "damaged log row set aside: readings in it are lost");
        set_aside(connection, sequence, reason).map_err(failed("set a damaged log row aside"))?;
    }
    let count = "SELECT (SELECT count(*) FROM damaged) + (SELECT count(*) FROM damaged_log)";
    let damaged: i64 = connection.query_row(count, [], |row| row.get(0)).map_err(failed("count damaged rows"))?;
    let sequence = newest.max(deleted.unwrap_or(0));
    let samples_in_chunks = samples.unwrap_or(0);
    Ok(Loaded { tail, sequence, log_bytes, samples_in_chunks, damaged: nameless + damaged.unsigned_abs() })
}

/// Whether a row is what its checksum says; rows of format 1 say nothing.
pub(super) fn is_sound(stored: Option<u32>, computed: u32) -> bool {
    stored.is_none_or(|stored| stored == computed)
}

/// The devices and signals, numbered as they were; how many names cannot be read.
///
/// What is stored under such a name stays in the file and is served to nobody; whoever bears the name gets a new number.
fn load_names(connection: &Connection, tail: &mut Tail) -> rusqlite::Result<u64> {
    let query = "SELECT number, tenant, device, span_ms, signals, forgotten_ms, crc FROM devices ORDER BY number";
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut nameless = Vec::new();
    while let Some(row) = rows.next()? {
        let number: DeviceNumber = row.get(0)?;
        nameless.extend(tail.catalog.number_nameless_devices(number));
        match device_key(row, number)? {
            Some(key) => tail.catalog.number_device(&key),
            None => {
                nameless.push(number);
                tail.catalog.number_nameless_device()
            }
        };
        let (readings, events) = changes::extents(connection, number)?;
        let known = tail.device_mut(number);
        (known.readings, known.events) = (readings, events);
        known.span = row.get::<_, Option<i64>>(3)?.and_then(Span::from_millis);
        known.forgotten = row.get(5)?;
        let signals: Vec<u8> = row.get(4)?;
        known.chunk_signals = signals.as_chunks().0.iter().map(|&bytes| SignalNumber::from_le_bytes(bytes)).collect();
    }
    for number in &nameless {
        tracing::error!(
            row = format!("devices ({number})"),
            "damaged name set aside: its readings are served to nobody"
        );
        free_name(connection, tail.catalog.device(*number), *number)?;
    }
    let unreadable_signals = load_signals(connection, tail)?;
    Ok(nameless.len() as u64 + unreadable_signals)
}

/// The device that a row names; `None` where its name cannot be read.
fn device_key(row: &Row<'_>, number: DeviceNumber) -> rusqlite::Result<Option<DeviceKey>> {
    let (tenant, device): (String, String) = (row.get(1)?, row.get(2)?);
    let key = TenantId::parse(&tenant).and_then(|tenant| Ok(DeviceKey::new(tenant, DeviceId::parse(&device)?)));
    let Ok(key) = key else { return Ok(None) };
    Ok((is_nameless(&key) || is_sound(row.get(6)?, device_crc(number, &key))).then_some(key))
}

/// Makes the row of a nameless device say so, so that the name is free for who bears it.
fn free_name(connection: &Connection, nameless: Option<&DeviceKey>, number: DeviceNumber) -> rusqlite::Result<()> {
    let Some(key) = nameless else { return Ok(()) };
    let free = "INSERT INTO devices (number, tenant, device) VALUES (?1, ?2, ?3)
        ON CONFLICT (number) DO UPDATE SET tenant = ?2, device = ?3, crc = NULL";
    connection.execute(free, params![number, key.tenant.as_str(), key.device.as_str()]).map(drop)
}

fn load_signals(connection: &Connection, tail: &mut Tail) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare("SELECT number, signal, crc FROM signals ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut nameless = Vec::new();
    while let Some(row) = rows.next()? {
        let (number, text): (SignalNumber, String) = (row.get(0)?, row.get(1)?);
        nameless.extend(tail.catalog.number_nameless_signals(number));
        let crc: Option<u32> = row.get(2)?;
        match SignalId::parse(&text).ok().filter(|signal| is_sound(crc, signal_crc(number, signal))) {
            Some(signal) => tail.catalog.number_signal(&signal),
            None => {
                nameless.push(number);
                tail.catalog.number_nameless_signal()
            }
        };
    }
    for number in &nameless {
        tracing::error!(
            row = format!("signals ({number})"),
            "damaged name set aside: its samples are served to nobody"
        );
        let free = "INSERT INTO signals (number, signal) VALUES (?1, ?2)
            ON CONFLICT (number) DO UPDATE SET signal = ?2, crc = NULL";
        connection.execute(free, params![number, nameless_signal(*number).as_str()])?;
    }
    Ok(nameless.len() as u64)
}

/// Newest sequence, bytes of all rows, and the rows that cannot be read with the reasons.
type Replayed = (i64, u64, Vec<(i64, Reason)>);

/// Lays the log into the tail, oldest row first.
///
/// A row that cannot be read holds readings that were acknowledged and are lost now. To refuse opening would lose all that
/// devices send meanwhile, too: the row is set aside, and `harbinger check` and the metrics go on telling of it.
fn replay(connection: &Connection, tail: &mut Tail) -> rusqlite::Result<Replayed> {
    let mut statement = connection.prepare("SELECT sequence, body FROM log ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    let (mut newest, mut bytes, mut unreadable) = (0, 0, Vec::new());
    while let Some(row) = rows.next()? {
        newest = row.get(0)?;
        let body = row.get_ref(1)?.as_bytes().unwrap_or_default();
        match Group::decode(body).and_then(|group| lay(&group, tail)) {
            Ok(()) => bytes += body.len() as u64,
            Err(reason) => unreadable.push((newest, reason)),
        }
    }
    Ok((newest, bytes, unreadable))
}

fn lay(group: &Group, tail: &mut Tail) -> Result<(), Reason> {
    let (devices, signals) = tail.catalog.mark();
    let is_known = |reading: &GroupReading<'_>| {
        (reading.device as usize) < devices && reading.signals.iter().all(|&signal| (signal as usize) < signals)
    };
    if !group.readings().all(|reading| is_known(&reading)) {
        return Err("it speaks of devices or signals that are not there");
    }
    group.readings().for_each(|reading| tail.put(&reading));
    Ok(())
}

fn set_aside(connection: &Connection, sequence: i64, reason: Reason) -> rusqlite::Result<()> {
    let keep = "INSERT OR REPLACE INTO damaged_log SELECT sequence, ?2, body FROM log WHERE sequence = ?1";
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(keep, params![sequence, reason])?;
    transaction.execute("DELETE FROM log WHERE sequence = ?1", params![sequence])?;
    transaction.commit()
}
