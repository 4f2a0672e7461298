//! Reading: the tail from memory, chunks from the data file, laid over each other.
//!
//! Everything here runs on blocking threads. Queries are paged by key: each page is a read transaction of its own that ends
//! before the page is decoded, so none lasts long and the WAL can be folded back.

use std::collections::HashMap;

use harbinger_core::{DeviceEvent, DeviceId, DeviceKey, SignalId, TenantId, TimeRange, Timestamp, history::Readings};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    chunk::{self, ChunkKey, Span},
    shared::Shared,
    shipping, summaries,
};
use crate::telemetry::{
    Error, Latest, QuarantineEntry, Quarantined,
    catalog::DeviceNumber,
    rows::{Rows, SignalNumber},
};

/// Chunks a page: some hundred kilobytes.
const CHUNKS_A_PAGE: i64 = 32;
/// Events a page.
const EVENTS_A_PAGE: usize = 5000;

/// Readings of a device in `range`.
pub(super) fn scan(
    shared: &Shared,
    connection: &Connection,
    key: &DeviceKey,
    range: TimeRange,
    signals: Option<&[SignalId]>,
) -> Result<Readings, Error> {
    let (from, to) = (range.from.millis(), range.to.millis());
    // The tail first: what leaves it meanwhile is in chunks already.
    let (device, tail) = {
        let held = shared.tail();
        let Some(device) = held.catalog.find_device(key) else { return Ok(Readings::default()) };
        (device, held.slice(device, from, to))
    };
    let mut rows = chunk_rows(shared, connection, device, from, to)?;
    if rows.is_empty() {
        rows = tail
    } else {
        rows.overlay(&tail)
    }
    let held = shared.tail();
    Ok(rows.to_readings(range, signals, |number| held.catalog.signal(number).cloned()))
}

/// Readings of a device in chunks that touch `from..to`.
fn chunk_rows(
    shared: &Shared,
    connection: &Connection,
    device: DeviceNumber,
    from: i64,
    to: i64,
) -> Result<Rows, Error> {
    let fail = |source| shared.failure("read chunks")(source);
    refuse_damaged(connection, device, from, to).map_err(fail)?.map_or(Ok(()), Err)?;
    let mut all = Rows::default();
    let mut after = from.saturating_sub(Span::Month.millis());
    loop {
        let page = chunk_page(connection, device, after, from, to).map_err(fail)?;
        for (key, body) in &page {
            let rows = decode(key.as_ref().map_err(Clone::clone), body)?;
            all.overlay(&rows);
        }
        match page.last() {
            Some((Ok(key), _)) if page.len() as i64 == CHUNKS_A_PAGE => after = key.start,
            _ => break,
        }
    }
    // The spool after the chunks: what moves from there to here meanwhile is met twice, not missed.
    let mut below = shipping::held_rows(connection, device, (from, to)).map_err(fail)??;
    below.overlay(&all);
    Ok(below)
}

/// The chunk's readings, or the error that names its row.
fn decode(key: Result<&ChunkKey, String>, body: &[u8]) -> Result<Rows, Error> {
    let key = key.map_err(|row| Error::Damaged { row, reason: "its span is unknown".to_owned() })?;
    chunk::decode(key, body).map_err(|reason| Error::Damaged { row: key.row_name(), reason: reason.to_owned() })
}

type KeyAndBody = (Result<ChunkKey, String>, Vec<u8>);

/// Device, start and span in the first columns; the row's name where the span is none of ours.
fn chunk_key(row: &Row<'_>) -> rusqlite::Result<Result<ChunkKey, String>> {
    let (device, start): (DeviceNumber, i64) = (row.get(0)?, row.get(1)?);
    Ok(match Span::from_millis(row.get(2)?) {
        Some(span) => Ok(ChunkKey { device, start, span }),
        None => Err(format!("chunks ({device}, {start})")),
    })
}

/// The next chunks that start after `after` and touch `from..to`.
fn chunk_page(
    connection: &Connection,
    device: DeviceNumber,
    after: i64,
    from: i64,
    to: i64,
) -> rusqlite::Result<Vec<KeyAndBody>> {
    let query = "SELECT device, start_ms, span_ms, body FROM chunks
        WHERE device = ?1 AND start_ms > ?2 AND start_ms < ?3 AND last_ms >= ?4 ORDER BY start_ms LIMIT ?5";
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(params![device, after, to, from, CHUNKS_A_PAGE], |row| {
        Ok((chunk_key(row)?, row.get::<_, Vec<u8>>(3)?))
    })?;
    rows.collect()
}

/// The error for a range that touches a chunk known to be damaged.
fn refuse_damaged(
    connection: &Connection,
    device: DeviceNumber,
    from: i64,
    to: i64,
) -> rusqlite::Result<Option<Error>> {
    let query = "SELECT start_ms, reason FROM damaged
        WHERE device = ?1 AND start_ms < ?2 AND start_ms + span_ms > ?3 LIMIT 1";
    let found: Option<(i64, String)> = connection
        .prepare_cached(query)?
        .query_row(params![device, to, from], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(start, reason)| Error::Damaged { row: format!("damaged ({device}, {start})"), reason }))
}

/// The chunk that covers `ts`.
pub(super) fn chunk_covering(
    connection: &Connection,
    device: DeviceNumber,
    ts: i64,
) -> rusqlite::Result<Option<(ChunkKey, Vec<u8>)>> {
    let query = "SELECT device, start_ms, span_ms, body FROM chunks
        WHERE device = ?1 AND start_ms <= ?2 ORDER BY start_ms DESC LIMIT 1";
    let found = connection
        .prepare_cached(query)?
        .query_row(params![device, ts], |row| Ok((chunk_key(row)?, row.get::<_, Vec<u8>>(3)?)))
        .optional()?;
    Ok(found.and_then(|(key, body)| Some((key.ok()?, body))).filter(|(key, _)| ts < key.end()))
}

/// The chunks that start in `from..to`.
pub(super) fn chunks_starting(
    connection: &Connection,
    device: DeviceNumber,
    from: i64,
    to: i64,
) -> rusqlite::Result<Vec<(ChunkKey, Vec<u8>)>> {
    let query = "SELECT device, start_ms, span_ms, body FROM chunks
        WHERE device = ?1 AND start_ms >= ?2 AND start_ms < ?3 ORDER BY start_ms";
    let mut statement = connection.prepare_cached(query)?;
    let rows =
        statement.query_map(params![device, from, to], |row| Ok((chunk_key(row)?, row.get::<_, Vec<u8>>(3)?)))?;
    rows.filter_map(|row| row.map(|(key, body)| Some((key.ok()?, body))).transpose()).collect()
}

/// The newest sample of each signal of a device.
///
/// Chunks are looked through from the newest back, their summaries only, until every signal the device has was met.
pub(super) fn latest(shared: &Shared, connection: &Connection, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
    let (device, tail, mut missing) = {
        let held = shared.tail();
        let Some(device) = held.catalog.find_device(key) else { return Ok(Vec::new()) };
        let tail = held.slice(device, i64::MIN, i64::MAX);
        (device, tail, held.device(device).map(|d| d.chunk_signals.clone()).unwrap_or_default())
    };
    let mut newest: HashMap<SignalNumber, (i64, f64)> = HashMap::new();
    let mut before = i64::MAX;
    while !missing.is_empty() {
        let page = summary_page(connection, device, before).map_err(shared.failure("read summaries"))?;
        let Some((oldest, _)) = page.last() else { break };
        before = *oldest;
        for (start, blob) in &page {
            let row = || format!("chunks ({device}, {start})");
            let of_chunk =
                summaries::decode(blob).map_err(|reason| Error::Damaged { row: row(), reason: reason.to_owned() })?;
            for (signal, summary) in of_chunk {
                newest.entry(signal).or_insert((summary.last_ts, summary.last));
            }
        }
        missing.retain(|signal| !newest.contains_key(signal));
    }
    let spooled = shipping::held_rows(connection, device, (i64::MIN, i64::MAX));
    for (signal, ts, value) in spooled.map_err(shared.failure("read its spool"))??.latest() {
        let known = newest.entry(signal).or_insert((ts, value));
        if ts > known.0 {
            *known = (ts, value);
        }
    }
    for (signal, ts, value) in tail.latest() {
        let known = newest.entry(signal).or_insert((ts, value));
        if ts >= known.0 {
            *known = (ts, value);
        }
    }
    let held = shared.tail();
    let named = newest.into_iter().filter_map(|(signal, (ts, value))| {
        Some(Latest { signal: held.catalog.signal(signal)?.clone(), ts: Timestamp::from_millis(ts), value })
    });
    let mut named: Vec<Latest> = named.collect();
    named.sort_by(|a, b| a.signal.cmp(&b.signal));
    Ok(named)
}

/// Start and summaries of the newest chunks that start before `before`.
fn summary_page(connection: &Connection, device: DeviceNumber, before: i64) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let query = "SELECT start_ms, summaries FROM chunks
        WHERE device = ?1 AND start_ms < ?2 ORDER BY start_ms DESC LIMIT 16";
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(params![device, before], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Events of a tenant in `range`, of one device or of all, in order of time, device, code.
pub(super) fn events(
    shared: &Shared,
    connection: &Connection,
    tenant: &TenantId,
    device: Option<&DeviceId>,
    range: TimeRange,
) -> Result<Vec<DeviceEvent>, Error> {
    let number = match device {
        Some(device) => match shared.tail().catalog.find_device(&DeviceKey::new(tenant.clone(), device.clone())) {
            Some(number) => Some(number),
            None => return Ok(Vec::new()),
        },
        None => None,
    };
    let mut all: Vec<DeviceEvent> = Vec::new();
    let mut after = (range.from.millis(), String::new(), String::new());
    loop {
        let page =
            event_page(connection, tenant, number, &after, range.to.millis()).map_err(shared.failure("read events"))?;
        let full = page.len() == EVENTS_A_PAGE;
        if let Some(last) = page.last() {
            after = (last.ts, last.device.clone(), last.code.clone());
        }
        for row in page {
            all.push(row.into_event(tenant)?);
        }
        if !full {
            return Ok(all);
        }
    }
}

/// A row of `events` with the id of its device.
struct EventRow {
    ts: i64,
    device: String,
    code: String,
    severity: String,
    message: Option<String>,
}

impl EventRow {
    fn into_event(self, tenant: &TenantId) -> Result<DeviceEvent, Error> {
        let row = format!("events ({}, {}, {})", self.device, self.ts, self.code);
        let damaged = |reason: String| Error::Damaged { row: row.clone(), reason };
        let device = DeviceId::parse(&self.device).map_err(|e| damaged(e.to_string()))?;
        Ok(DeviceEvent {
            key: DeviceKey::new(tenant.clone(), device),
            ts: Timestamp::from_millis(self.ts),
            code: self.code.into(),
            severity: self
                .severity
                .parse()
                .map_err(|e: harbinger_core::sample::InvalidSeverity| damaged(e.to_string()))?,
            message: self.message,
        })
    }
}

/// The next events after the key `(ts, device, code)`; no event has an empty code, so the first key is before all.
fn event_page(
    connection: &Connection,
    tenant: &TenantId,
    device: Option<DeviceNumber>,
    (ts, after_device, after_code): &(i64, String, String),
    to: i64,
) -> rusqlite::Result<Vec<EventRow>> {
    let select = "SELECT e.ts_ms, d.device, e.code, e.severity, e.message
        FROM events e JOIN devices d ON d.number = e.device
        WHERE d.tenant = ?1 AND e.ts_ms >= ?2 AND e.ts_ms < ?3 AND (e.ts_ms, d.device, e.code) > (?2, ?4, ?5)";
    let order = "ORDER BY e.ts_ms, d.device, e.code LIMIT ?6";
    let limit = EVENTS_A_PAGE as i64;
    let (query, number) = match device {
        Some(number) => (format!("{select} AND e.device = ?7 {order}"), Some(number)),
        None => (format!("{select} {order}"), None),
    };
    let mut statement = connection.prepare_cached(&query)?;
    let read = |row: &Row<'_>| {
        let (ts, device, code) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(EventRow { ts, device, code, severity: row.get(3)?, message: row.get(4)? })
    };
    let tenant = tenant.as_str();
    match number {
        Some(n) => statement.query_map(params![tenant, ts, to, after_device, after_code, limit, n], read)?.collect(),
        None => statement.query_map(params![tenant, ts, to, after_device, after_code, limit], read)?.collect(),
    }
}

/// Quarantined messages with a number above `after`.
pub(super) fn quarantine(
    shared: &Shared,
    connection: &Connection,
    tenant: Option<&TenantId>,
    after: i64,
    limit: usize,
) -> Result<Vec<QuarantineEntry>, Error> {
    let rows = quarantine_rows(connection, tenant, after, limit).map_err(shared.failure("read the quarantine"))?;
    let with_tenant = |(tenant, mut entry): (Option<String>, QuarantineEntry)| {
        let parsed = tenant.map(|text| TenantId::parse(&text)).transpose();
        entry.message.tenant =
            parsed.map_err(|e| Error::Damaged { row: format!("quarantine ({})", entry.id), reason: e.to_string() })?;
        Ok(entry)
    };
    rows.into_iter().map(with_tenant).collect()
}

fn quarantine_rows(
    connection: &Connection,
    tenant: Option<&TenantId>,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(Option<String>, QuarantineEntry)>> {
    let query = "SELECT id, tenant, received_ms, topic, payload, reason, readings FROM quarantine
        WHERE id > ?1 AND (?2 IS NULL OR tenant = ?2) ORDER BY id LIMIT ?3";
    let mut statement = connection.prepare_cached(query)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, tenant.map(TenantId::as_str), limit], |row| {
        let message = Quarantined {
            tenant: None,
            received_at: Timestamp::from_millis(row.get(2)?),
            topic: row.get(3)?,
            payload: row.get(4)?,
            reason: row.get(5)?,
            readings: row.get(6)?,
        };
        Ok((row.get(1)?, QuarantineEntry { id: row.get(0)?, message }))
    })?;
    rows.collect()
}
