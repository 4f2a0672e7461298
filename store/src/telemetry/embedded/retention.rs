//! What passes its retention: readings go by whole days, and leave the summaries of their hours and days behind.

use rusqlite::{Connection, params};

use super::{
    changes::NewSummary,
    chunk,
    reader::chunks_starting,
    summaries::{self, BucketKey, Level},
};
use crate::telemetry::{catalog::DeviceNumber, columns::Columns};

/// Days of a device that one transaction forgets: at a reading every 10 s some 700 chunks, a megabyte.
const DAYS_A_TRANSACTION: i64 = 30;

/// Chunks of one device that are past their retention, and what is to stay of them.
#[derive(Debug)]
pub(super) struct Expired {
    pub(super) device: DeviceNumber,
    /// Chunks that start before this and ...
    pub(super) until: i64,
    /// ... have no reading at or after this go. The device's readings count as forgotten up to the earlier of the two.
    pub(super) before: i64,
    /// Summaries of their hours and days, for buckets that have none yet.
    pub(super) summaries: Vec<NewSummary>,
}

/// The oldest chunks of a device that are past retention; `None` where there are none (any more).
///
/// * `before`: the start of a day.
/// * `summarises`: whether they leave summaries behind.
pub(super) fn expired(
    connection: &Connection,
    device: DeviceNumber,
    before: i64,
    summarises: bool,
) -> rusqlite::Result<Option<Expired>> {
    let oldest = "SELECT min(start_ms) FROM chunks WHERE device = ?1 AND start_ms < ?2 AND last_ms < ?2";
    let oldest: Option<i64> =
        connection.prepare_cached(oldest)?.query_row(params![device, before], |row| row.get(0))?;
    let Some(oldest) = oldest else { return Ok(None) };
    let until = (Level::Day.floor(oldest) + DAYS_A_TRANSACTION * Level::Day.millis()).min(before);
    let mut all = Columns::default();
    for (key, body) in chunks_starting(connection, device, oldest, until)? {
        match chunk::decode_columns(&key, &body, None) {
            Ok(of_chunk) if of_chunk.times().last().is_some_and(|last| last.millis() < before) => all.append(of_chunk),
            Ok(_) => {}
            Err(reason) => {
                tracing::error!(row = key.row_name(), reason, "damaged chunk passes its retention unsummarised")
            }
        }
    }
    let of_level = |level| {
        summaries::buckets(&all, level).into_iter().map(move |(start, bucket)| {
            let key = BucketKey { device, level, start };
            (key, summaries::encode(&key, &bucket))
        })
    };
    let summaries = if summarises { Level::ALL.into_iter().flat_map(of_level).collect() } else { Vec::new() };
    Ok(Some(Expired { device, until, before, summaries }))
}
