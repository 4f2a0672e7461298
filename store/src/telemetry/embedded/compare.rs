//! Comparing what arrives with what is held: new, a repeat, or a correction.
//!
//! A reading later than all of its device is new without a look; the others are looked up in the group at hand, in the
//! tail, and last in the chunk that covers them - decoded once, since repeats come in series.

use std::{collections::HashMap, sync::Arc};

use rusqlite::Connection;

use super::{
    chunk::{self, ChunkKey},
    log::{Group, GroupReading},
    reader::chunk_covering,
    shared::Shared,
};
use crate::telemetry::{
    catalog::DeviceNumber,
    rows::{Outcome, Rows, classify},
};

/// Cells of decoded chunks that are kept: 32 MiB. Beyond it all are let go, which costs decoding them again.
const CACHED_CELLS_MAX: usize = 4 << 20;

/// The chunk last looked at of each device.
#[derive(Debug, Default)]
pub(super) struct ChunkCache {
    chunks: HashMap<DeviceNumber, (ChunkKey, Rows)>,
    cells: usize,
}

impl ChunkCache {
    /// Forgets a device's chunk: it was rewritten.
    pub(super) fn remove(&mut self, device: DeviceNumber) {
        if let Some((_, rows)) = self.chunks.remove(&device) {
            self.cells -= cells(&rows);
        }
    }

    /// The readings of the chunk that covers `ts`, where there is one.
    fn covering(&mut self, connection: &Connection, device: DeviceNumber, ts: i64) -> rusqlite::Result<Option<&Rows>> {
        let hit = self.chunks.get(&device).is_some_and(|(key, _)| (key.start..key.end()).contains(&ts));
        if !hit {
            let Some((key, body)) = chunk_covering(connection, device, ts)? else { return Ok(None) };
            match chunk::decode(&key, &body) {
                Ok(rows) => self.insert(key, rows),
                Err(reason) => {
                    // Nothing of a damaged chunk is served, so nothing of it can be a repeat.
                    tracing::error!(row = key.row_name(), reason, "damaged chunk: its readings cannot be compared");
                    return Ok(None);
                }
            }
        }
        Ok(self.chunks.get(&device).map(|(_, rows)| rows))
    }

    fn insert(&mut self, key: ChunkKey, rows: Rows) {
        self.remove(key.device);
        if self.cells + cells(&rows) > CACHED_CELLS_MAX {
            self.chunks.clear();
            self.cells = 0;
        }
        self.cells += cells(&rows);
        self.chunks.insert(key.device, (key, rows));
    }
}

fn cells(rows: &Rows) -> usize {
    rows.len() * (rows.signals().len() + 1)
}

/// Readings that are held elsewhere, where a caller knows of them: what a remote server has.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<DeviceNumber, Rows>);

impl Known {
    pub(super) fn new(devices: impl Iterator<Item = (DeviceNumber, Rows)>) -> Self {
        Self(devices.collect())
    }

    fn sample(&self, device: DeviceNumber, ts: i64, signal: u32) -> Option<f64> {
        self.0.get(&device)?.sample(ts, signal)
    }
}

/// What becomes of each reading of a group, in order of arrival.
pub(super) fn outcomes(
    group: &Group,
    shared: &Shared,
    connection: &Connection,
    cache: &mut ChunkCache,
    elsewhere: &[Arc<Known>],
) -> rusqlite::Result<Vec<Outcome>> {
    let later_than_all: Vec<bool> = {
        let tail = shared.tail();
        group.readings().map(|reading| tail.newest(reading.device).is_none_or(|newest| newest < reading.ts)).collect()
    };
    let mut earlier = EarlierInGroup::new(group);
    let mut outcomes = Vec::with_capacity(group.len());
    for (place, (reading, later)) in (0..).zip(group.readings().zip(later_than_all)) {
        let before = earlier.add(place, &reading);
        outcomes.push(match (later, before) {
            (true, None) => Outcome::Stored,
            (true, before) => classify(reading.signals, reading.values, |signal| earlier.sample(before, signal)),
            (false, before) => {
                let mut held: Vec<Option<f64>> =
                    reading.signals.iter().map(|&signal| earlier.sample(before, signal)).collect();
                fill_from_tail(&mut held, &reading, shared);
                if held.iter().any(Option::is_none)
                    && let Some(rows) = cache.covering(connection, reading.device, reading.ts)?
                {
                    fill(&mut held, &reading, |signal| rows.sample(reading.ts, signal));
                }
                for known in elsewhere {
                    fill(&mut held, &reading, |signal| known.sample(reading.device, reading.ts, signal));
                }
                let by_signal = |signal| {
                    let place = reading.signals.iter().position(|&known| known == signal)?;
                    held.get(place).copied().flatten()
                };
                classify(reading.signals, reading.values, by_signal)
            }
        });
    }
    Ok(outcomes)
}

fn fill_from_tail(held: &mut [Option<f64>], reading: &GroupReading<'_>, shared: &Shared) {
    let tail = shared.tail();
    fill(held, reading, |signal| tail.sample(reading.device, reading.ts, signal));
}

/// Fills what is still unknown.
fn fill(held: &mut [Option<f64>], reading: &GroupReading<'_>, sample: impl Fn(u32) -> Option<f64>) {
    for (place, &signal) in held.iter_mut().zip(reading.signals).filter(|(place, _)| place.is_none()) {
        *place = sample(signal);
    }
}

/// The readings of the group so far, by device and time: each knows the one before it.
struct EarlierInGroup<'a> {
    group: &'a Group,
    newest: HashMap<(DeviceNumber, i64), u32>,
    before: Vec<Option<u32>>,
}

impl<'a> EarlierInGroup<'a> {
    fn new(group: &'a Group) -> Self {
        Self { group, newest: HashMap::with_capacity(group.len()), before: Vec::with_capacity(group.len()) }
    }

    /// Adds a reading; the place of the one before it at the same device and time.
    fn add(&mut self, place: u32, reading: &GroupReading<'_>) -> Option<u32> {
        let before = self.newest.insert((reading.device, reading.ts), place);
        self.before.push(before);
        before
    }

    /// The newest sample of a signal from the reading at `place` back.
    fn sample(&self, mut place: Option<u32>, signal: u32) -> Option<f64> {
        while let Some(at) = place {
            let reading = self.group.reading(at as usize)?;
            let mut samples = reading.signals.iter().zip(reading.values).rev();
            if let Some((_, value)) = samples.find(|(known, _)| **known == signal) {
                return Some(*value);
            }
            place = self.before.get(at as usize).copied().flatten();
        }
        None
    }
}
