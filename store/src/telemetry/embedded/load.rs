//! Opening: the catalogue, what each device has, and the tail read back from the log.

use std::path::Path;

use harbinger_core::{DeviceId, DeviceKey, SignalId, TenantId};
use rusqlite::{Connection, Row};

use super::{
    changes,
    chunk::Span,
    log::Group,
    schema::{self, failure},
    tail::Tail,
};
use crate::telemetry::{Error, rows::SignalNumber};

/// What was found in the data file.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) tail: Tail,
    /// Of the newest log row there is or was.
    pub(super) sequence: i64,
    pub(super) log_bytes: u64,
    pub(super) samples_in_chunks: i64,
}

/// Reads everything that is held in memory.
pub(super) fn load(connection: &Connection, path: &Path) -> Result<Loaded, Error> {
    let name = path.display().to_string();
    let failed = |attempt| {
        let name = &name;
        move |source| failure(name, attempt, source)
    };
    let mut tail = Tail::default();
    load_names(connection, &mut tail).map_err(failed("read its devices and signals"))??;
    let samples = schema::meta(connection, "samples_in_chunks").map_err(failed("read its counters"))?;
    let deleted = schema::meta(connection, "log_deleted").map_err(failed("read its counters"))?;
    let (newest, log_bytes) = replay(connection, &mut tail).map_err(failed("read its log"))??;
    let sequence = newest.max(deleted.unwrap_or(0));
    Ok(Loaded { tail, sequence, log_bytes, samples_in_chunks: samples.unwrap_or(0) })
}

/// The outer result is SQLite's, the inner one tells of rows that make no sense.
type Checked<T> = rusqlite::Result<Result<T, Error>>;

fn damaged(row: String, reason: impl ToString) -> Error {
    Error::Damaged { row, reason: reason.to_string() }
}

fn load_names(connection: &Connection, tail: &mut Tail) -> Checked<()> {
    let mut statement =
        connection.prepare("SELECT number, tenant, device, span_ms, signals FROM devices ORDER BY number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(error) = load_device(connection, row, tail)? {
            return Ok(Err(error));
        }
    }
    let mut statement = connection.prepare("SELECT number, signal FROM signals ORDER BY number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, text): (SignalNumber, String) = (row.get(0)?, row.get(1)?);
        let parsed = SignalId::parse(&text);
        match parsed.as_ref().map(|signal| tail.catalog.number_signal(signal)) {
            Ok(given) if given == number => {}
            Ok(_) => return Ok(Err(damaged(format!("signals ({number})"), "numbers do not follow each other"))),
            Err(e) => return Ok(Err(damaged(format!("signals ({number})"), e))),
        }
    }
    Ok(Ok(()))
}

fn load_device(connection: &Connection, row: &Row<'_>, tail: &mut Tail) -> Checked<()> {
    let (number, tenant, device): (u32, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (span, signals): (Option<i64>, Vec<u8>) = (row.get(3)?, row.get(4)?);
    let key = TenantId::parse(&tenant).and_then(|tenant| Ok(DeviceKey::new(tenant, DeviceId::parse(&device)?)));
    let key = match key {
        Ok(key) => key,
        Err(e) => return Ok(Err(damaged(format!("devices ({number})"), e))),
    };
    if tail.catalog.number_device(&key) != number {
        return Ok(Err(damaged(format!("devices ({number})"), "numbers do not follow each other")));
    }
    let (readings, events) = changes::extents(connection, number)?;
    let known = tail.device_mut(number);
    (known.readings, known.events) = (readings, events);
    known.span = span.and_then(Span::from_millis);
    known.chunk_signals = signals.as_chunks().0.iter().map(|&bytes| SignalNumber::from_le_bytes(bytes)).collect();
    Ok(Ok(()))
}

/// Lays the log into the tail, oldest row first; the newest sequence and the bytes of all rows.
///
/// A row that cannot be read holds readings that were acknowledged: opening is refused and names it, since to go on without
/// it would lose them in silence.
fn replay(connection: &Connection, tail: &mut Tail) -> Checked<(i64, u64)> {
    let mut statement = connection.prepare("SELECT sequence, body FROM log ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    let (mut newest, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        newest = row.get(0)?;
        let body = row.get_ref(1)?.as_bytes().unwrap_or_default();
        bytes += body.len() as u64;
        let group = match Group::decode(body) {
            Ok(group) => group,
            Err(reason) => return Ok(Err(damaged(format!("log ({newest})"), reason))),
        };
        let (devices, signals) = tail.catalog.mark();
        for reading in group.readings() {
            let known = (reading.device as usize) < devices && reading.signals.iter().all(|&s| (s as usize) < signals);
            if !known {
                return Ok(Err(damaged(
                    format!("log ({newest})"),
                    "it speaks of devices or signals that are not there",
                )));
            }
            tail.put(&reading);
        }
    }
    Ok(Ok((newest, bytes)))
}
