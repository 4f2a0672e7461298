//! A device's share of a compaction: its new readings merged into the chunks they fall into, and the summaries of the hours
//! and days that are over. No I/O: the compactor reads what is needed before and hands the change to the writer after, so
//! this runs on every core.

use std::collections::BTreeSet;

use super::{
    changes::{DeviceChange, NewChunk, NewSummaries},
    chunk::{self, ChunkKey, READINGS_BEFORE_SPLIT, Span},
    summaries::{self, BucketKey, Level},
    tail::Device,
};
use crate::telemetry::{
    catalog::DeviceNumber,
    columns::Columns,
    rows::{Rows, SignalNumber},
};

/// New readings of one chunk's span, and the chunks that are there: one that covers the whole span, or finer ones.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) key: ChunkKey,
    pub(super) rows: Rows,
    pub(super) existing: Vec<(ChunkKey, Vec<u8>)>,
}

/// A device's share of a compaction.
#[derive(Debug)]
pub(super) struct DeviceWork {
    pub(super) device: DeviceNumber,
    pub(super) known: Device,
    pub(super) span: Span,
    /// What is rewritten.
    pub(super) cells: Vec<Cell>,
    /// The newest chunk that was there.
    pub(super) newest: Option<ChunkKey>,
    /// Chunks that stay and lie in days of which summaries are to be made again.
    pub(super) neighbours: Vec<(ChunkKey, Vec<u8>)>,
    /// Whether summaries are kept: not where chunks move on to a server, since a late reading would summarise only itself.
    pub(super) summarises: bool,
}

impl DeviceWork {
    /// Merges and encodes.
    pub(super) fn rewrite(self) -> DeviceChange {
        let mut signals: Vec<SignalNumber> = self.known.chunk_signals.clone();
        let (mut damaged, mut delete, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
        let mut span = self.span;
        for cell in &self.cells {
            let mut all = Columns::default();
            for (key, body) in &cell.existing {
                delete.push(key.start);
                match chunk::decode_columns(key, body, None) {
                    Ok(of_chunk) => all.append(of_chunk),
                    Err(reason) => {
                        tracing::error!(row = key.row_name(), reason, "damaged chunk set aside: it is never served");
                        damaged.push((*key, reason));
                    }
                }
            }
            all.overlay(&cell.rows);
            let all_signals = all.iter().map(|(signal, _)| signal);
            signals.extend(all_signals.filter(|signal| !self.known.chunk_signals.contains(signal)));
            for (key, readings) in split(&cell.key, all) {
                span = self.span.min(key.span);
                chunks.push((key, readings));
            }
        }
        signals.sort_unstable();
        signals.dedup();
        let changes_device = self.known.span != Some(span) || self.known.chunk_signals != signals;
        let summaries = self.summaries(&chunks);
        let put = chunks.iter().map(|(key, readings)| new_chunk(*key, readings)).collect();
        DeviceChange { device: self.device, span, signals, changes_device, damaged, delete, put, summaries }
    }

    /// The rows of summaries that follow from the chunks written anew: of hours with a chunk of their own, and of days with
    /// chunks no coarser than a day, all before what is still filling. Where a chunk changes, rows that are not made again go.
    fn summaries(&self, chunks: &[(ChunkKey, Columns)]) -> NewSummaries {
        let forgotten = self.known.forgotten.unwrap_or(i64::MIN);
        let clear = self.cells.iter().map(|cell| (cell.key.start.max(forgotten), cell.key.end())).collect();
        let newest = chunks.iter().map(|(key, _)| key.start).chain(self.newest.map(|key| key.start)).max();
        let Some(newest) = newest.filter(|_| self.summarises) else { return NewSummaries { clear, put: Vec::new() } };
        let mut undecoded = BTreeSet::new();
        let neighbours: Vec<(ChunkKey, Columns)> = self
            .neighbours
            .iter()
            .filter_map(|(key, body)| {
                let readings = chunk::decode_columns(key, body, None);
                if readings.is_err() {
                    undecoded.insert(Level::Day.floor(key.start));
                }
                Some((*key, readings.ok()?))
            })
            .collect();
        let fine = || chunks.iter().chain(&neighbours).filter(|(key, _)| key.span <= Span::Day);
        let changed = |key: &ChunkKey| Some(*key) == self.newest || chunks.iter().any(|(new, _)| new == key);

        let mut put = Vec::new();
        let mut add = |readings: &Columns, level: Level| {
            for (start, bucket) in summaries::buckets(readings, level) {
                let key = BucketKey { device: self.device, level, start };
                put.push((key, summaries::encode(&key, &bucket)));
            }
        };
        for (_, readings) in fine().filter(|(key, _)| key.span == Span::Hour && key.start < newest && changed(key)) {
            add(readings, Level::Hour);
        }
        let days: BTreeSet<i64> = fine().map(|(key, _)| Level::Day.floor(key.start)).collect();
        for day in days.into_iter().filter(|day| *day < Level::Day.floor(newest) && !undecoded.contains(day)) {
            let mut parts: Vec<&(ChunkKey, Columns)> =
                fine().filter(|(key, _)| Level::Day.floor(key.start) == day).collect();
            parts.sort_by_key(|(key, _)| key.start);
            let mut all = Columns::default();
            parts.into_iter().for_each(|(_, readings)| all.append(readings.clone()));
            add(&all, Level::Day);
        }
        NewSummaries { clear, put }
    }
}

/// One chunk, or chunks of a finer span where one would hold too many readings.
fn split(key: &ChunkKey, all: Columns) -> Vec<(ChunkKey, Columns)> {
    let finer = key.span.finer().filter(|_| all.len() > READINGS_BEFORE_SPLIT);
    let Some(finer) = finer else { return vec![(*key, all)] };
    let times: Vec<i64> = all.times().iter().map(|ts| ts.millis()).collect();
    let span = Span::for_cadence(&times).map_or(finer, |span| span.min(finer));
    let mut parts = Vec::new();
    let mut next = times.first().copied();
    while let Some(ts) = next {
        let part = ChunkKey::holding(key.device, ts, span);
        let after = times.partition_point(|&ts| ts < part.end());
        next = times.get(after).copied();
        let mut readings = all.clone();
        readings.clip(part.start, part.end());
        parts.push((part, readings));
    }
    parts
}

fn new_chunk(key: ChunkKey, readings: &Columns) -> NewChunk {
    let extent = readings.extent().unwrap_or((key.start, key.start));
    NewChunk { key, extent, samples: readings.samples(), body: chunk::encode(&key, readings) }
}
