//! `check`: whether everything in a data file is what it was when it was written.
//!
//! Reads only, beside a running service too. Each device is read in a transaction of its own, so that its chunks and
//! summaries belong together.

use std::path::Path;

use harbinger_core::{DeviceId, DeviceKey, SignalId, TenantId};
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use super::{
    inserts::{device_crc, event_crc, quarantine_crc, signal_crc},
    load::is_sound,
    log::Group,
    rebuild::{self, Days},
    schema, shipping,
    summaries::{self, Bucket, BucketKey, Level, Piece},
};
use crate::telemetry::{
    Error, Quarantined,
    catalog::{DeviceNumber, is_nameless},
    rows::SignalNumber,
};

const WRONG_CHECKSUM: &str = "its checksum does not match";
const RESTORE: &str = "restore a backup, or let the row be: it is never served";

/// Something in a file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Table and key of the row, or the file.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn row(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy: RESTORE.to_owned() }
    }
}

/// How far long work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Devices done.
    pub done: u64,
    /// Of so many.
    pub all: u64,
}

/// Verifies the data file at `path`: SQLite's own structure, the checksum of every row, that chunks do not overlap and hold
/// what their rows say, and that stored summaries are those of the readings. Empty where all is well.
///
/// # Errors
/// [`Error::UnknownFormat`], and [`Error::Engine`] where the file cannot be opened at all.
pub fn check(path: &Path, progress: &dyn Fn(Progress)) -> Result<Vec<Finding>, Error> {
    let name = path.display().to_string();
    let fail = |source| schema::failure(&name, "check its data file", source);
    let connection = schema::open_existing(path)?;
    let mut findings = Vec::new();
    let structure = connection.prepare("PRAGMA integrity_check(100)").and_then(|mut statement| {
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<String>>>()
    });
    match structure {
        Ok(lines) => findings.extend(lines.into_iter().filter(|line| line != "ok").map(|line| file(&name, line))),
        Err(error) => findings.push(file(&name, error.to_string())),
    }
    let tables: [Table; 6] = [names, log, set_aside, spool, events, quarantine];
    for table in tables {
        match table(&connection) {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(file(&name, error.to_string())),
        }
    }
    let devices: Vec<DeviceNumber> = connection
        .prepare("SELECT DISTINCT device FROM chunks UNION SELECT DISTINCT device FROM summaries")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(fail)?;
    let all = devices.len() as u64;
    for (done, device) in (0..).zip(devices) {
        progress(Progress { done, all });
        match check_device(&connection, device) {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(file(&name, error.to_string())),
        }
    }
    progress(Progress { done: all, all });
    findings.extend(check_count(&connection).unwrap_or_default());
    Ok(findings)
}

fn file(name: &str, problem: String) -> Finding {
    let remedy = "start the service: it saves what can be read into a new file and keeps this one beside it; \
        or restore a backup";
    Finding { place: name.to_owned(), problem, remedy: remedy.to_owned() }
}

/// What verifies one table or some.
type Table = fn(&Connection) -> rusqlite::Result<Vec<Finding>>;

/// Chunks on their way to a server.
fn spool(connection: &Connection) -> rusqlite::Result<Vec<Finding>> {
    let query = "SELECT id, device, start_ms, span_ms, late, counted, body FROM held ORDER BY id";
    unsound(connection, query, |row| {
        Ok(shipping::read_held(row)?.err().map(|error| Finding::row("held", error.to_string())))
    })
}

/// Every row of a query that is not sound.
fn unsound(
    connection: &Connection,
    query: &str,
    judge: impl Fn(&Row<'_>) -> rusqlite::Result<Option<Finding>>,
) -> rusqlite::Result<Vec<Finding>> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next()? {
        findings.extend(judge(row)?);
    }
    Ok(findings)
}

fn names(connection: &Connection) -> rusqlite::Result<Vec<Finding>> {
    let devices = unsound(connection, "SELECT number, tenant, device, crc FROM devices", |row| {
        let (number, tenant, device): (u32, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let place = format!("devices ({number})");
        let key = TenantId::parse(&tenant).and_then(|tenant| Ok(DeviceKey::new(tenant, DeviceId::parse(&device)?)));
        let crc = row.get(3)?;
        Ok(match key {
            Ok(key) if is_nameless(&key) => Some(Finding::row(place, "its name was damaged and is lost")),
            Ok(key) => (!is_sound(crc, device_crc(number, &key))).then(|| Finding::row(place, WRONG_CHECKSUM)),
            Err(error) => Some(Finding::row(place, error.to_string())),
        })
    })?;
    let signals = unsound(connection, "SELECT number, signal, crc FROM signals", |row| {
        let (number, signal): (u32, String) = (row.get(0)?, row.get(1)?);
        let place = format!("signals ({number})");
        let crc = row.get(2)?;
        Ok(match SignalId::parse(&signal) {
            Ok(signal) => (!is_sound(crc, signal_crc(number, &signal))).then(|| Finding::row(place, WRONG_CHECKSUM)),
            Err(error) => Some(Finding::row(place, error.to_string())),
        })
    })?;
    Ok([devices, signals].concat())
}

fn log(connection: &Connection) -> rusqlite::Result<Vec<Finding>> {
    unsound(connection, "SELECT sequence, body FROM log", |row| {
        let place = format!("log ({})", row.get::<_, i64>(0)?);
        let body: Vec<u8> = row.get(1)?;
        Ok(Group::decode(&body).err().map(|reason| Finding::row(place, reason)))
    })
}

/// What was found damaged before and is kept out of the way.
fn set_aside(connection: &Connection) -> rusqlite::Result<Vec<Finding>> {
    let chunks = unsound(connection, "SELECT device, start_ms, reason FROM damaged", |row| {
        let place = format!("damaged ({}, {})", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
        Ok(Some(Finding::row(place, format!("a chunk was set aside: {}", row.get::<_, String>(2)?))))
    })?;
    let log = unsound(connection, "SELECT sequence, reason FROM damaged_log", |row| {
        let place = format!("damaged_log ({})", row.get::<_, i64>(0)?);
        Ok(Some(Finding::row(place, format!("a log row was set aside: {}", row.get::<_, String>(1)?))))
    })?;
    Ok([chunks, log].concat())
}

fn events(connection: &Connection) -> rusqlite::Result<Vec<Finding>> {
    unsound(connection, "SELECT device, ts_ms, code, severity, message, crc FROM events", |row| {
        let (device, ts, code): (u32, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (severity, message): (String, Option<String>) = (row.get(3)?, row.get(4)?);
        let sound = is_sound(row.get(5)?, event_crc(device, ts, &code, &severity, message.as_deref()));
        Ok((!sound).then(|| Finding::row(format!("events ({device}, {ts}, {code})"), WRONG_CHECKSUM)))
    })
}

fn quarantine(connection: &Connection) -> rusqlite::Result<Vec<Finding>> {
    let query = "SELECT id, tenant, received_ms, topic, payload, reason, readings, crc FROM quarantine";
    unsound(connection, query, |row| {
        let (id, tenant): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
        let message = Quarantined {
            tenant: None,
            received_at: harbinger_core::Timestamp::from_millis(row.get(2)?),
            topic: row.get(3)?,
            payload: row.get(4)?,
            reason: row.get(5)?,
            readings: row.get(6)?,
        };
        let sound = is_sound(row.get(7)?, quarantine_crc(tenant.as_deref(), &message));
        Ok((!sound).then(|| Finding::row(format!("quarantine ({id})"), WRONG_CHECKSUM)))
    })
}

/// The chunks of a device, and its stored summaries against them.
fn check_device(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Vec<Finding>> {
    let transaction = connection.unchecked_transaction()?;
    let mut findings = row_columns(&transaction, device)?;
    let unreadable = std::cell::RefCell::new(Vec::new());
    let mut stale = Vec::new();
    rebuild::each_days(
        &transaction,
        device,
        |row, reason| unreadable.borrow_mut().push(Finding::row(row, reason)),
        |days| -> rusqlite::Result<()> {
            stale.extend(compare_summaries(&transaction, device, &days)?);
            Ok(())
        },
    )?;
    findings.append(&mut unreadable.borrow_mut());
    findings.append(&mut stale);
    findings.extend(undecodable_summaries(&transaction, device)?);
    Ok(findings)
}

/// Whether chunks overlap, and whether their rows say the extent and number of samples that they have.
fn row_columns(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Vec<Finding>> {
    let query = format!(
        "SELECT start_ms, span_ms, first_ms, last_ms, lag(start_ms + span_ms) OVER (ORDER BY start_ms)
            FROM chunks WHERE device = {device} ORDER BY start_ms"
    );
    unsound(connection, &query, |row| {
        let (start, span, first, last): (i64, i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let end_before: Option<i64> = row.get(4)?;
        let place = format!("chunks ({device}, {start})");
        if end_before.is_some_and(|end| end > start) {
            return Ok(Some(Finding::row(place, "it overlaps the chunk before it")));
        }
        let inside = start <= first && first <= last && last < start.saturating_add(span);
        Ok((!inside).then(|| Finding::row(place, "its first and last reading lie outside of it")))
    })
}

/// Stored summaries of some days that are not those of their readings.
fn compare_summaries(connection: &Connection, device: DeviceNumber, days: &Days) -> rusqlite::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if days.is_incomplete {
        return Ok(findings);
    }
    let query = "SELECT body FROM summaries WHERE device = ?1 AND level_ms = ?2 AND start_ms = ?3";
    let mut statement = connection.prepare_cached(query)?;
    for (key, bucket) in days.buckets(device) {
        let mut rows = statement.query(rusqlite::params![device, key.level.millis(), key.start])?;
        let Some(row) = rows.next()? else { continue };
        let body: Vec<u8> = row.get(0)?;
        if summaries::decode(&key, &body).is_ok_and(|stored| !agree(stored, bucket)) {
            findings.push(Finding::row(key.row_name(), "it is not the summary of its readings"));
        }
    }
    Ok(findings)
}

/// Whether both hold the same signals, in whatever order, with pieces that are those of the same samples.
fn agree(mut stored: Bucket, mut made: Bucket) -> bool {
    stored.sort_by_key(|(signal, _)| *signal);
    made.sort_by_key(|(signal, _)| *signal);
    let bits = |piece: &Piece| piece.at.map(f64::to_bits);
    let alike = |((one, a), (other, b)): (&(SignalNumber, Piece), &(SignalNumber, Piece))| {
        one == other && bits(a) == bits(b) && a.rest.agrees_with(&b.rest)
    };
    stored.len() == made.len() && stored.iter().zip(&made).all(alike)
}

fn undecodable_summaries(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Vec<Finding>> {
    let query = format!("SELECT level_ms, start_ms, body FROM summaries WHERE device = {device}");
    unsound(connection, &query, |row| {
        let (level_ms, start, body): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(level) = Level::ALL.into_iter().find(|level| level.millis() == level_ms) else {
            return Ok(Some(Finding::row(
                format!("summaries ({device}, {level_ms}, {start})"),
                "its level is unknown",
            )));
        };
        let key = BucketKey { device, level, start };
        Ok(summaries::decode(&key, &body).err().map(|reason| Finding::row(key.row_name(), reason)))
    })
}

/// Whether the number of samples that the file says is that of its chunks.
fn check_count(connection: &Connection) -> rusqlite::Result<Option<Finding>> {
    let transaction = connection.unchecked_transaction()?;
    let said = schema::meta(&transaction, "samples_in_chunks")?.unwrap_or(0);
    let there: i64 = transaction.query_row("SELECT total(samples) FROM chunks", [], |row| row.get::<_, f64>(0))? as i64;
    let problem = || format!("it says {said} samples in chunks, and there are {there}");
    Ok((said != there).then(|| Finding::row("meta (samples_in_chunks)", problem())))
}
