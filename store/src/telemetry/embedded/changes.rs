//! Changes of chunks: what the compactor works out off the writer thread and the writer applies in one short transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    chunk::{ChunkKey, Span},
    retention::Expired,
    shipping,
    summaries::{BucketKey, Level},
    tail::Extent,
};
use crate::telemetry::{
    DataClass, Deleted,
    catalog::{DeviceNumber, widen},
    rows::SignalNumber,
};

/// A chunk to be written.
#[derive(Debug)]
pub(super) struct NewChunk {
    pub(super) key: ChunkKey,
    /// Its earliest and latest reading, milliseconds.
    pub(super) extent: (i64, i64),
    pub(super) samples: u64,
    pub(super) body: Vec<u8>,
}

/// A row of summaries: which bucket, and its blob.
pub(super) type NewSummary = (BucketKey, Vec<u8>);

/// What becomes of a device's stored summaries.
#[derive(Debug)]
pub(super) struct NewSummaries {
    /// Spans of time whose buckets go, unless they are put anew.
    pub(super) clear: Vec<(i64, i64)>,
    pub(super) put: Vec<NewSummary>,
}

/// What becomes of a device's chunks.
#[derive(Debug)]
pub(super) struct DeviceChange {
    pub(super) device: DeviceNumber,
    /// The span of its newest chunks from now on.
    pub(super) span: Span,
    /// Every signal in its chunks from now on.
    pub(super) signals: Vec<SignalNumber>,
    /// Whether `span` or `signals` are news.
    pub(super) changes_device: bool,
    /// Chunks that could not be decoded, and why: set aside.
    pub(super) damaged: Vec<(ChunkKey, &'static str)>,
    /// Starts of the chunks that give way to `put`.
    pub(super) delete: Vec<i64>,
    pub(super) put: Vec<NewChunk>,
    pub(super) summaries: NewSummaries,
}

/// Applies changes; how many samples more there are in chunks (fewer: negative).
///
/// Each device's newest chunk comes after all others: it is still filling, so that the next compaction writes it anew, and
/// then the pages that hold nothing else are free. Between chunks that stay they would be holes.
pub(super) fn install(connection: &Connection, changes: &[DeviceChange]) -> rusqlite::Result<i64> {
    let mut more = 0;
    for change in changes {
        for (key, reason) in &change.damaged {
            set_aside(connection, key, reason)?;
        }
        for start in &change.delete {
            let delete = "DELETE FROM chunks WHERE device = ?1 AND start_ms = ?2 RETURNING samples";
            let samples = delete_counting(connection, delete, params![change.device, start])?;
            more -= i64::try_from(samples).unwrap_or(i64::MAX);
        }
    }
    let newest = changes.iter().filter_map(|change| change.put.last());
    let others = changes.iter().filter_map(|change| change.put.split_last()).flat_map(|(_, others)| others);
    for chunk in others.chain(newest) {
        insert_chunk(connection, chunk)?;
        more += i64::try_from(chunk.samples).unwrap_or(i64::MAX);
    }
    for change in changes {
        for &(from, to) in &change.summaries.clear {
            clear_summaries(connection, change.device, from, to)?;
        }
        put_summaries(connection, &change.summaries.put, "REPLACE")?;
        if change.changes_device {
            let signals: Vec<u8> = change.signals.iter().flat_map(|signal| signal.to_le_bytes()).collect();
            connection
                .prepare_cached("UPDATE devices SET span_ms = ?2, signals = ?3 WHERE number = ?1")?
                .execute(params![change.device, change.span.millis(), signals])?;
        }
    }
    add_samples(connection, more)?;
    Ok(more)
}

fn insert_chunk(connection: &Connection, chunk: &NewChunk) -> rusqlite::Result<usize> {
    let insert = "INSERT INTO chunks (device, start_ms, span_ms, first_ms, last_ms, samples, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let ChunkKey { device, start, span } = chunk.key;
    let (first, last) = chunk.extent;
    let samples = i64::try_from(chunk.samples).unwrap_or(i64::MAX);
    let values = params![device, start, span.millis(), first, last, samples, chunk.body];
    connection.prepare_cached(insert)?.execute(values)
}

/// Deletes the rows of all buckets that touch `from..to`.
fn clear_summaries(connection: &Connection, device: DeviceNumber, from: i64, to: i64) -> rusqlite::Result<()> {
    let clear = "DELETE FROM summaries WHERE device = ?1 AND level_ms = ?2 AND start_ms >= ?3 AND start_ms < ?4";
    for level in Level::ALL {
        connection.prepare_cached(clear)?.execute(params![device, level.millis(), level.floor(from), to])?;
    }
    Ok(())
}

/// Writes rows of summaries; where there is one already, `conflict` says what becomes of it: `REPLACE` or `IGNORE`.
fn put_summaries(connection: &Connection, rows: &[NewSummary], conflict: &str) -> rusqlite::Result<()> {
    let put = format!("INSERT OR {conflict} INTO summaries (device, level_ms, start_ms, body) VALUES (?1, ?2, ?3, ?4)");
    for (BucketKey { device, level, start }, body) in rows {
        connection.prepare_cached(&put)?.execute(params![device, level.millis(), start, body])?;
    }
    Ok(())
}

/// Deletes chunks that are past their retention and puts the summaries that they leave; how many samples went.
pub(super) fn expire(connection: &Connection, expired: &Expired) -> rusqlite::Result<u64> {
    let Expired { device, until, before, summaries } = expired;
    put_summaries(connection, summaries, "IGNORE")?;
    let chunks = "DELETE FROM chunks WHERE device = ?1 AND start_ms < ?2 AND last_ms < ?3 RETURNING samples";
    let samples = delete_counting(connection, chunks, params![device, until, before])?;
    let damaged = "DELETE FROM damaged WHERE device = ?1 AND start_ms + span_ms <= ?2";
    connection.prepare_cached(damaged)?.execute(params![device, until])?;
    let forgotten = "UPDATE devices SET forgotten_ms = max(ifnull(forgotten_ms, ?2), ?2) WHERE number = ?1";
    connection.prepare_cached(forgotten)?.execute(params![device, until.min(before)])?;
    add_samples(connection, -i64::try_from(samples).unwrap_or(i64::MAX))?;
    Ok(samples)
}

/// Runs a deletion that returns the samples of each row; their sum.
fn delete_counting(connection: &Connection, delete: &str, values: impl rusqlite::Params) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(delete)?;
    let samples = statement.query_map(values, |row| row.get::<_, i64>(0))?;
    Ok(samples.sum::<rusqlite::Result<i64>>()?.unsigned_abs())
}

fn set_aside(connection: &Connection, key: &ChunkKey, reason: &str) -> rusqlite::Result<usize> {
    let keep = "INSERT OR REPLACE INTO damaged (device, start_ms, span_ms, reason, body)
        SELECT device, start_ms, span_ms, ?3, body FROM chunks WHERE device = ?1 AND start_ms = ?2";
    connection.prepare_cached(keep)?.execute(params![key.device, key.start, reason])
}

fn add_samples(connection: &Connection, more: i64) -> rusqlite::Result<usize> {
    let add = "UPDATE meta SET value = value + ?1 WHERE name = 'samples_in_chunks'";
    connection.prepare_cached(add)?.execute(params![more])
}

/// Log rows that one trimming deletes: some megabytes, so that appends between do not wait long.
const LOG_ROWS_A_TRIM: i64 = 64;

/// Deletes the oldest log rows up to `through`; whether there are more of them.
///
/// Oldest first: what a crash leaves is the newest part of the log, and to lay that over the chunks again changes nothing.
pub(super) fn trim_log(connection: &Connection, through: i64) -> rusqlite::Result<bool> {
    let delete = "DELETE FROM log WHERE sequence IN
        (SELECT sequence FROM log WHERE sequence <= ?1 ORDER BY sequence LIMIT ?2)";
    let deleted = connection.prepare_cached(delete)?.execute(params![through, LOG_ROWS_A_TRIM])?;
    connection
        .prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE name = 'log_deleted'")?
        .execute(params![through])?;
    Ok(deleted as i64 == LOG_ROWS_A_TRIM)
}

/// Deletes the events or the summaries of a level that devices have from before `before`.
pub(super) fn forget(
    connection: &Connection,
    devices: &[DeviceNumber],
    class: DataClass,
    before: i64,
) -> rusqlite::Result<()> {
    let summaries = "DELETE FROM summaries WHERE device = ?1 AND level_ms = ?3 AND start_ms <= ?2 - ?3";
    for device in devices {
        match class {
            DataClass::Events => connection
                .prepare_cached("DELETE FROM events WHERE device = ?1 AND ts_ms < ?2")?
                .execute(params![device, before])?,
            DataClass::HourlySummaries => {
                connection.prepare_cached(summaries)?.execute(params![device, before, Level::Hour.millis()])?
            }
            DataClass::DailySummaries => {
                connection.prepare_cached(summaries)?.execute(params![device, before, Level::Day.millis()])?
            }
            // Readings expire with what they leave behind or are forgotten by the spool, and quarantined messages belong to no
            // device.
            DataClass::Readings | DataClass::Quarantine => 0,
        };
    }
    Ok(())
}

/// Deletes everything of a device but its number.
pub(super) fn delete_device(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Deleted> {
    let chunks = "DELETE FROM chunks WHERE device = ?1 RETURNING samples";
    let samples = delete_counting(connection, chunks, params![device])?;
    for table in ["summaries", "damaged"] {
        connection.execute(&format!("DELETE FROM {table} WHERE device = ?1"), params![device])?;
    }
    let events = connection.prepare_cached("DELETE FROM events WHERE device = ?1")?.execute(params![device])? as u64;
    let reset = "UPDATE devices SET span_ms = NULL, signals = x'', forgotten_ms = NULL WHERE number = ?1";
    connection.prepare_cached(reset)?.execute(params![device])?;
    add_samples(connection, -i64::try_from(samples).unwrap_or(i64::MAX))?;
    Ok(Deleted { samples, events })
}

/// Earliest and latest reading of a device in chunks or shipped, and earliest and latest event.
pub(super) fn extents(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<(Extent, Extent)> {
    let read = |query: &str| -> rusqlite::Result<Option<i64>> {
        let first = connection.prepare_cached(query)?.query_row(params![device], |row| row.get(0)).optional()?;
        Ok(first.flatten())
    };
    // Chunks of a device do not overlap, so the first one holds the earliest reading and the last one the latest.
    let first = read("SELECT first_ms FROM chunks WHERE device = ?1 ORDER BY start_ms LIMIT 1")?;
    let last = read("SELECT last_ms FROM chunks WHERE device = ?1 ORDER BY start_ms DESC LIMIT 1")?;
    let first_event = read("SELECT min(ts_ms) FROM events WHERE device = ?1")?;
    let last_event = read("SELECT max(ts_ms) FROM events WHERE device = ?1")?;
    let mut readings = shipping::extent(connection, device)?;
    for ts in first.into_iter().chain(last) {
        widen(&mut readings, ts);
    }
    Ok((readings, first_event.zip(last_event)))
}
