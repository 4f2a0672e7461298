//! The summaries that belong to the chunks of a device, made of them anew: to compare with what is stored, and to fill a
//! copy.

use rusqlite::Connection;

use super::{
    chunk::{self, ChunkKey, Span},
    reader::{KeyAndBody, chunk_page},
    summaries::{self, Bucket, BucketKey, Level},
};
use crate::telemetry::{catalog::DeviceNumber, columns::Columns};

/// The readings of some whole days of a device, and how they lie in chunks.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// Keys of the chunks that they come from, rising.
    pub(super) chunks: Vec<ChunkKey>,
    pub(super) readings: Columns,
    /// A chunk could not be read, so that readings may be missing.
    pub(super) is_incomplete: bool,
}

impl Days {
    /// Every bucket of both levels that has readings.
    pub(super) fn buckets(&self, device: DeviceNumber) -> Vec<(BucketKey, Bucket)> {
        let of_level = |level: Level| {
            summaries::buckets(&self.readings, level)
                .into_iter()
                .map(move |(start, bucket)| (BucketKey { device, level, start }, bucket))
        };
        Level::ALL.into_iter().flat_map(of_level).collect()
    }

    /// Whether the row of a bucket is made when it is over: hours with a chunk of their own, days of chunks no coarser.
    pub(super) fn is_stored(&self, key: &BucketKey, newest: i64) -> bool {
        let span_max = match key.level {
            Level::Hour => Span::Hour,
            Level::Day => Span::Day,
        };
        let is_over = key.start + key.level.millis() <= newest;
        let end = key.start + key.level.millis();
        let touches = |chunk: &&ChunkKey| chunk.start < end && chunk.end() > key.start;
        is_over && !self.is_incomplete && self.chunks.iter().filter(touches).all(|chunk| chunk.span <= span_max)
    }
}

/// Goes through a device's chunks in groups that share no day, the oldest first; `unreadable` hears of those that cannot be
/// decoded. Gives the start of the newest chunk.
pub(super) fn each_days<E: From<rusqlite::Error>>(
    connection: &Connection,
    device: DeviceNumber,
    mut unreadable: impl FnMut(String, &'static str),
    mut visit: impl FnMut(Days) -> Result<(), E>,
) -> Result<Option<i64>, E> {
    let (mut after, mut newest) = (i64::MIN, None);
    let mut days = Days::default();
    loop {
        let page = chunk_page(connection, device, after, i64::MIN, i64::MAX)?;
        for (key, body) in &page {
            let Ok(key) = key else {
                unreadable(format!("chunks of device {device}"), "its span is unknown");
                continue;
            };
            (after, newest) = (key.start, Some(key.start));
            let ends_before = |known: &ChunkKey| Level::Day.floor(known.end() - 1) < Level::Day.floor(key.start);
            if days.chunks.last().is_some_and(ends_before) {
                visit(std::mem::take(&mut days))?;
            }
            match chunk::decode_columns(key, body, None) {
                Ok(of_chunk) => days.readings.append(of_chunk),
                Err(reason) => {
                    unreadable(key.row_name(), reason);
                    days.is_incomplete = true;
                }
            }
            days.chunks.push(*key);
        }
        if page.is_empty() || page.iter().all(|(key, _): &KeyAndBody| key.is_err()) {
            if !days.chunks.is_empty() {
                visit(days)?;
            }
            return Ok(newest);
        }
    }
}
