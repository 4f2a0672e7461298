//! The chunks of the spool, as they are read.

use rusqlite::{Connection, Row, params};

use super::{
    super::chunk::{self, ChunkKey, Span},
    ROWS_A_PAGE, SAMPLES_A_PAGE, State,
};
use crate::telemetry::{Error, catalog::DeviceNumber, rows::Rows};

/// A chunk in the spool.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Held {
    pub(in crate::telemetry) id: i64,
    pub(in crate::telemetry::embedded) key: ChunkKey,
    /// Whether the server may have some of its readings already.
    pub(in crate::telemetry) late: bool,
    /// Whether its samples are counted in [`Shipped::samples`].
    pub(in crate::telemetry) counted: bool,
    pub(in crate::telemetry) rows: Rows,
}

/// Which chunks of the spool.
#[derive(Debug, Clone, Copy)]
pub(in crate::telemetry::embedded) struct Which {
    /// Ids from here on.
    pub(in crate::telemetry::embedded) from: i64,
    /// Ids before this.
    pub(in crate::telemetry::embedded) below: i64,
    /// Only those that the server was asked for, and did not give back.
    pub(in crate::telemetry::embedded) kept: bool,
}

impl Which {
    pub(in crate::telemetry::embedded) const ALL: Self = Self { from: 0, below: i64::MAX, kept: false };
}

/// A device's chunks in the spool that touch `from..to`, in the order in which they were taken; one that is damaged as the
/// error that names it.
pub(in crate::telemetry::embedded) fn held(
    connection: &Connection,
    device: DeviceNumber,
    (from, to): (i64, i64),
    which: Which,
) -> rusqlite::Result<Vec<Result<Held, Error>>> {
    let query = "SELECT id, device, start_ms, span_ms, late, counted, body FROM held
        WHERE device = ?1 AND first_ms < ?3 AND last_ms >= ?2 AND id >= ?4 AND id < ?5 AND state >= ?6 ORDER BY id";
    let mut statement = connection.prepare_cached(query)?;
    let state = if which.kept { State::Kept } else { State::ToBeSent };
    let held = statement.query_map(params![device, from, to, which.from, which.below, state as i64], read_held)?;
    held.collect()
}

/// The readings of chunks, the later laid over the earlier.
pub(in crate::telemetry::embedded) fn overlaid(chunks: impl IntoIterator<Item = Held>) -> Rows {
    let mut all = Rows::default();
    chunks.into_iter().for_each(|held| all.overlay(&held.rows));
    all
}

/// All readings of a device in the spool that lie in chunks that touch `from..to`; the error where one of them is damaged.
pub(in crate::telemetry::embedded) fn held_rows(
    connection: &Connection,
    device: DeviceNumber,
    times: (i64, i64),
) -> rusqlite::Result<Result<Rows, Error>> {
    let chunks = held(connection, device, times, Which::ALL)?;
    Ok(chunks.into_iter().collect::<Result<Vec<_>, _>>().map(overlaid))
}

/// What can be read: a damaged chunk stays where it is, is named to readers, and holds nothing up.
pub(in crate::telemetry::embedded) fn readable(chunks: Vec<Result<Held, Error>>) -> Vec<Held> {
    let readable = chunks.into_iter().filter_map(|held| {
        held.inspect_err(|error| tracing::error!(%error, "damaged chunk in the spool: it is not sent")).ok()
    });
    readable.collect()
}

/// The next chunks that are to be sent, oldest first.
pub(in crate::telemetry::embedded) fn to_be_sent(
    connection: &Connection,
) -> rusqlite::Result<Vec<Result<Held, Error>>> {
    let query = "SELECT id, device, start_ms, span_ms, late, counted, body, samples FROM held
        WHERE id IN (SELECT id FROM held WHERE state IN (0, 3) ORDER BY id LIMIT ?1) ORDER BY id";
    let mut statement = connection.prepare_cached(query)?;
    page(statement.query([ROWS_A_PAGE])?)
}

/// The next chunks sent no later than `sent_ms`, in order of device and id, after one of them.
pub(in crate::telemetry::embedded) fn sent_until(
    connection: &Connection,
    (device, id): (DeviceNumber, i64),
    sent_ms: i64,
) -> rusqlite::Result<Vec<Result<Held, Error>>> {
    let query = "SELECT id, device, start_ms, span_ms, late, counted, body, samples FROM held
        INDEXED BY held_by_device
        WHERE state IN (1, 4) AND (device, id) > (?1, ?2) AND sent_ms <= ?3 ORDER BY device, id LIMIT ?4";
    let mut statement = connection.prepare_cached(query)?;
    page(statement.query(params![device, id, sent_ms, ROWS_A_PAGE])?)
}

/// The first rows, up to some samples: a chunk may be large.
fn page(mut rows: rusqlite::Rows<'_>) -> rusqlite::Result<Vec<Result<Held, Error>>> {
    let (mut page, mut samples) = (Vec::new(), 0);
    while samples < SAMPLES_A_PAGE
        && let Some(row) = rows.next()?
    {
        samples += row.get::<_, i64>(7)?;
        page.push(read_held(row)?);
    }
    Ok(page)
}

pub(in crate::telemetry::embedded) fn read_held(row: &Row<'_>) -> rusqlite::Result<Result<Held, Error>> {
    let (id, device, start): (i64, DeviceNumber, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let damaged = |reason: &str| Error::Damaged { row: format!("held ({id})"), reason: reason.to_owned() };
    let Some(span) = Span::from_millis(row.get(3)?) else { return Ok(Err(damaged("its span is unknown"))) };
    let key = ChunkKey { device, start, span };
    let (late, counted) = (row.get(4)?, row.get(5)?);
    let decoded = chunk::decode(&key, row.get_ref(6)?.as_bytes().unwrap_or_default());
    Ok(decoded.map(|rows| Held { id, key, late, counted, rows }).map_err(damaged))
}
