//! Reading: the tail from memory, chunks from the data file, laid over each other.
//!
//! Everything here runs on blocking threads. Queries are paged by key: each page is a read transaction of its own that ends
//! with it, so none lasts long and the WAL can be folded back.

use std::{ops::Range, sync::atomic::Ordering};

use harbinger_core::{DeviceEvent, DeviceId, DeviceKey, SignalId, TenantId, TimeRange, Timestamp, history::Readings};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    chunk::{self, ChunkKey, Span},
    inserts::{event_crc, quarantine_crc},
    load::is_sound,
    shared::Shared,
    shipping,
};
use crate::telemetry::{
    Error, QuarantineEntry, Quarantined, catalog::DeviceNumber, columns::Columns, rows::SignalNumber,
};

/// Chunks a page: some hundred kilobytes.
const CHUNKS_A_PAGE: i64 = 32;
/// Events a page.
const EVENTS_A_PAGE: usize = 5000;

/// Readings of a device in `range`, the earliest `limit` of them.
pub(super) fn page(
    shared: &Shared,
    connection: &Connection,
    key: &DeviceKey,
    range: TimeRange,
    signals: Option<&[SignalId]>,
    limit: usize,
    damage: OnDamage,
) -> Result<Readings, Error> {
    let Some(device) = shared.tail().catalog.find_device(key) else { return Ok(Readings::default()) };
    let numbers = signals.map(|signals| signal_numbers(shared, signals));
    let range = range.from.millis()..range.to.millis();
    let wanted = Wanted { range, signals: numbers.as_deref(), limit, damage };
    let mut readings = named(shared, columns(shared, connection, device, &wanted)?);
    readings.truncate(limit);
    Ok(readings)
}

/// The numbers of the signals that have one.
pub(super) fn signal_numbers(shared: &Shared, signals: &[SignalId]) -> Vec<SignalNumber> {
    let held = shared.tail();
    signals.iter().filter_map(|signal| held.catalog.find_signal(signal)).collect()
}

/// Columns under their signals' names.
pub(super) fn named(shared: &Shared, columns: Columns) -> Readings {
    let held = shared.tail();
    columns.into_readings(|number| held.catalog.signal(number).cloned())
}

/// What a read does where a chunk is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// Refuses, naming the row: whoever asks for one device is told that there is a hole.
    Refuse,
    /// Leaves the chunk out and logs it: one device must not stop what is read of all.
    Skip,
}

/// Which rows of a device are read.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) range: Range<i64>,
    /// All where it is `None`.
    pub(super) signals: Option<&'a [SignalNumber]>,
    /// At least the earliest so many readings that have a sample, and of the others as many as come with them.
    pub(super) limit: usize,
    pub(super) damage: OnDamage,
}

impl Wanted<'_> {
    /// The part of a chunk that is wanted.
    fn of(&self, mut chunk: Columns) -> Columns {
        chunk.clip(self.range.start, self.range.end);
        if self.signals.is_some() {
            chunk.drop_empty();
        }
        chunk
    }
}

/// Readings of a device in the range: its chunks, and the tail laid over them.
pub(super) fn columns(
    shared: &Shared,
    connection: &Connection,
    device: DeviceNumber,
    wanted: &Wanted<'_>,
) -> Result<Columns, Error> {
    let fail = |source| shared.failure("read chunks")(source);
    let Range { start: from, end: to } = wanted.range;
    // The tail first: what leaves it meanwhile is in chunks already.
    let tail = shared.tail().slice(device, from, to);
    if wanted.damage == OnDamage::Refuse && shared.damaged.load(Ordering::Relaxed) > 0 {
        refuse_damaged(connection, device, from, to).map_err(fail)?.map_or(Ok(()), Err)?;
    }
    let mut all = Columns::default();
    let mut after = from.saturating_sub(Span::Month.millis());
    let complete_until = loop {
        let (mut chunks, mut newest, mut refused) = (0, None, None);
        let mut take = |key: Result<ChunkKey, String>, body: &[u8]| {
            chunks += 1;
            newest = key.as_ref().ok().copied().or(newest);
            match (decode(&key, body, wanted.signals), wanted.damage) {
                (Ok(of_chunk), _) => all.append(wanted.of(of_chunk)),
                (Err(error), OnDamage::Refuse) => refused = Some(error),
                (Err(error), OnDamage::Skip) => tracing::error!(%error, "left out of a read of many devices"),
            }
            refused.is_none() && all.len() < wanted.limit
        };
        each_chunk(connection, device, after, from, to, &mut take).map_err(fail)?;
        refused.map_or(Ok(()), Err)?;
        match newest {
            Some(key) if all.len() >= wanted.limit => break key.end().min(to),
            Some(key) if chunks == CHUNKS_A_PAGE => after = key.start,
            _ => break to,
        }
    };
    if shared.options.is_spool {
        // The spool after the chunks: what moves from there to here meanwhile is met twice, not missed.
        let held = shipping::held_rows(connection, device, (from, complete_until)).map_err(fail)??;
        let above = std::mem::replace(&mut all, Columns::of(&held));
        all.overlay(&above.into_rows());
    }
    all.overlay(&tail.slice(from, complete_until));
    all.clip(from, to);
    if let Some(signals) = wanted.signals {
        all.select(signals);
    }
    Ok(all)
}

/// The chunk's readings, or the error that names its row.
pub(super) fn decode(
    key: &Result<ChunkKey, String>,
    body: &[u8],
    wanted: Option<&[SignalNumber]>,
) -> Result<Columns, Error> {
    let damaged = |row: String, reason: &str| Error::Damaged { row, reason: reason.to_owned() };
    let key = key.as_ref().map_err(|row| damaged(row.clone(), "its span is unknown"))?;
    chunk::decode_columns(key, body, wanted).map_err(|reason| damaged(key.row_name(), reason))
}

/// A chunk as it lies in the file; the row's name where its key makes no sense.
pub(super) type KeyAndBody = (Result<ChunkKey, String>, Vec<u8>);

/// Device, start and span in the first columns; the row's name where the span is none of ours.
fn chunk_key(row: &Row<'_>) -> rusqlite::Result<Result<ChunkKey, String>> {
    let (device, start): (DeviceNumber, i64) = (row.get(0)?, row.get(1)?);
    Ok(match Span::from_millis(row.get(2)?) {
        Some(span) => Ok(ChunkKey { device, start, span }),
        None => Err(format!("chunks ({device}, {start})")),
    })
}

/// Takes a chunk's key - its row's name where that makes no sense - and body; whether it wants more.
type Visitor<'v> = dyn FnMut(Result<ChunkKey, String>, &[u8]) -> bool + 'v;

/// Visits the next chunks that start after `after` and touch `from..to`, for as long as the visitor says that it wants more.
fn each_chunk(
    connection: &Connection,
    device: DeviceNumber,
    after: i64,
    from: i64,
    to: i64,
    visit: &mut Visitor<'_>,
) -> rusqlite::Result<()> {
    let query = "SELECT device, start_ms, span_ms, body FROM chunks
        WHERE device = ?1 AND start_ms > ?2 AND start_ms < ?3 AND last_ms >= ?4 ORDER BY start_ms LIMIT ?5";
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(params![device, after, to, from, CHUNKS_A_PAGE])?;
    while let Some(row) = rows.next()? {
        // A body that is no blob is as unreadable as an empty one.
        if !visit(chunk_key(row)?, row.get_ref(3)?.as_blob().unwrap_or_default()) {
            break;
        }
    }
    Ok(())
}

/// The next chunks that start after `after` and touch `from..to`, to be kept.
pub(super) fn chunk_page(
    connection: &Connection,
    device: DeviceNumber,
    after: i64,
    from: i64,
    to: i64,
) -> rusqlite::Result<Vec<KeyAndBody>> {
    let mut page = Vec::new();
    each_chunk(connection, device, after, from, to, &mut |key, body| {
        page.push((key, body.to_vec()));
        true
    })?;
    Ok(page)
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

/// The newest chunks that start before `before`, at most `limit`, the newest first.
pub(super) fn newest_chunks_before(
    connection: &Connection,
    device: DeviceNumber,
    before: i64,
    limit: i64,
) -> rusqlite::Result<Vec<KeyAndBody>> {
    let query = "SELECT device, start_ms, span_ms, body FROM chunks
        WHERE device = ?1 AND start_ms < ?2 ORDER BY start_ms DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(params![device, before, limit], |row| Ok((chunk_key(row)?, row.get(3)?)))?;
    rows.collect()
}

/// The key of a device's newest chunk.
pub(super) fn newest_chunk(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Option<ChunkKey>> {
    let query = "SELECT device, start_ms, span_ms FROM chunks WHERE device = ?1 ORDER BY start_ms DESC LIMIT 1";
    let found = connection.prepare_cached(query)?.query_row(params![device], chunk_key).optional()?;
    Ok(found.and_then(Result::ok))
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
            match row.into_event(tenant) {
                Ok(event) => all.push(event),
                Err(error) if device.is_none() => tracing::error!(%error, "left out of a read of many devices"),
                Err(error) => return Err(error),
            }
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
    is_sound: bool,
}

impl EventRow {
    fn into_event(self, tenant: &TenantId) -> Result<DeviceEvent, Error> {
        let row = format!("events ({}, {}, {})", self.device, self.ts, self.code);
        let damaged = |reason: String| Error::Damaged { row: row.clone(), reason };
        if !self.is_sound {
            return Err(damaged("its checksum does not match".to_owned()));
        }
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
    let select = "SELECT e.ts_ms, d.device, e.code, e.severity, e.message, e.device, e.crc
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
        let (ts, code): (i64, String) = (row.get(0)?, row.get(2)?);
        let (severity, message): (String, Option<String>) = (row.get(3)?, row.get(4)?);
        let crc = event_crc(row.get(5)?, ts, &code, &severity, message.as_deref());
        let is_sound = is_sound(row.get(6)?, crc);
        Ok(EventRow { ts, device: row.get(1)?, code, severity, message, is_sound })
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
    let with_tenant = |(tenant, crc, mut entry): QuarantineRow| {
        if !is_sound(crc, quarantine_crc(tenant.as_deref(), &entry.message)) {
            // One message that nobody can read any more must not hide all the others.
            entry.message.reason =
                format!("damaged on disk, its checksum does not match; it was: {}", entry.message.reason);
            entry.message.payload.clear();
        }
        let parsed = tenant.map(|text| TenantId::parse(&text)).transpose();
        entry.message.tenant =
            parsed.map_err(|e| Error::Damaged { row: format!("quarantine ({})", entry.id), reason: e.to_string() })?;
        Ok(entry)
    };
    rows.into_iter().map(with_tenant).collect()
}

/// Tenant, checksum and the message without its tenant.
type QuarantineRow = (Option<String>, Option<u32>, QuarantineEntry);

fn quarantine_rows(
    connection: &Connection,
    tenant: Option<&TenantId>,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<QuarantineRow>> {
    let query = "SELECT id, tenant, received_ms, topic, payload, reason, readings, crc FROM quarantine
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
        Ok((row.get(1)?, row.get(7)?, QuarantineEntry { id: row.get(0)?, message }))
    })?;
    rows.collect()
}
