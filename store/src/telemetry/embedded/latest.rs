//! The newest sample of each signal of a device: from the tail, from chunks from the newest back, and - where readings are
//! past their retention - from the summaries of days.

use std::collections::HashMap;

use harbinger_core::{DeviceKey, Timestamp};
use rusqlite::{Connection, params};

use super::{
    reader::{decode, newest_chunks_before},
    shared::Shared,
    shipping,
    summaries::{self, BucketKey, Level},
};
use crate::telemetry::{Error, Latest, catalog::DeviceNumber, rows::SignalNumber};

/// Chunks of the first page: mostly every signal is met there.
const FIRST_PAGE: i64 = 1;
/// Chunks of the later pages, of which only the columns still missing are decoded.
const LATER_PAGES: i64 = 64;

/// The newest sample of each signal, sorted by signal.
pub(super) fn latest(shared: &Shared, connection: &Connection, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
    let (device, tail, mut missing, forgotten) = {
        let held = shared.tail();
        let Some(device) = held.catalog.find_device(key) else { return Ok(Vec::new()) };
        let known = held.device(device).cloned().unwrap_or_default();
        (device, held.slice(device, i64::MIN, i64::MAX), known.chunk_signals, known.forgotten)
    };
    let mut newest: HashMap<SignalNumber, (i64, f64)> = HashMap::new();
    let (mut before, mut page_size) = (i64::MAX, FIRST_PAGE);
    while !missing.is_empty() {
        let page =
            newest_chunks_before(connection, device, before, page_size).map_err(shared.failure("read chunks"))?;
        for (key, body) in &page {
            for (signal, ts, value) in decode(key, body, Some(&missing))?.latest() {
                newest.entry(signal).or_insert((ts, value));
            }
            missing.retain(|signal| !newest.contains_key(signal));
        }
        match page.last() {
            Some((Ok(key), _)) => (before, page_size) = (key.start, LATER_PAGES),
            _ => break,
        }
    }
    if !missing.is_empty() && forgotten.is_some() {
        from_summaries(shared, connection, device, &mut missing, &mut newest)?;
    }
    if shared.options.is_spool {
        let spooled = shipping::held_rows(connection, device, (i64::MIN, i64::MAX));
        for (signal, ts, value) in spooled.map_err(shared.failure("read its spool"))??.latest() {
            let known = newest.entry(signal).or_insert((ts, value));
            if ts > known.0 {
                *known = (ts, value);
            }
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

/// Of signals that no chunk holds any more: the last of the newest day that has them.
fn from_summaries(
    shared: &Shared,
    connection: &Connection,
    device: DeviceNumber,
    missing: &mut Vec<SignalNumber>,
    newest: &mut HashMap<SignalNumber, (i64, f64)>,
) -> Result<(), Error> {
    let mut before = i64::MAX;
    while !missing.is_empty() {
        let page = days_before(connection, device, before).map_err(shared.failure("read summaries"))?;
        for (start, body) in &page {
            let key = BucketKey { device, level: Level::Day, start: *start };
            let damaged = |reason: &str| Error::Damaged { row: key.row_name(), reason: reason.to_owned() };
            for (signal, piece) in summaries::decode(&key, body).map_err(damaged)? {
                let last = piece.at_start(*start).merge(&piece.rest);
                newest.entry(signal).or_insert((last.last_ts, last.last));
            }
            missing.retain(|signal| !newest.contains_key(signal));
        }
        match page.last() {
            Some((oldest, _)) => before = *oldest,
            None => break,
        }
    }
    Ok(())
}

fn days_before(connection: &Connection, device: DeviceNumber, before: i64) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let query = "SELECT start_ms, body FROM summaries
        WHERE device = ?1 AND level_ms = ?2 AND start_ms < ?3 ORDER BY start_ms DESC LIMIT 64";
    let mut statement = connection.prepare_cached(query)?;
    let rows =
        statement.query_map(params![device, Level::Day.millis(), before], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
