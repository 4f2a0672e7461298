//! A bundle's streams merged in order of time, slice by slice, without copying them.
//!
//! Within a slice the order of devices does not matter; between slices it does: the receiver's event time is honest when
//! all of a slice has arrived before anything of the next is sent, and what people recorded in a slice (maintenance, part
//! use) comes after what devices said in it.

use std::{cmp::Reverse, collections::BTreeMap, collections::BinaryHeap, ops::Range};

use harbinger_core::{
    DeviceId, Duration, Timestamp,
    fleet::{Consumption, Maintenance},
    history::DeviceHistory,
};

/// The streams of a bundle.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Each device with what it reported, in order of id.
    pub(crate) devices: Vec<(DeviceId, DeviceHistory)>,
    /// Part use, in order of time.
    consumption: Vec<Consumption>,
}

/// What one device said in one slice: places in its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which of [`Feed::devices`].
    pub(crate) device: usize,
    /// Its readings.
    pub(crate) readings: Range<usize>,
    /// Its events.
    pub(crate) events: Range<usize>,
}

/// All that happened in one span of time.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// The latest instant in it.
    pub(crate) last: Timestamp,
    /// What devices said, in no order.
    pub(crate) pieces: Vec<Piece>,
    /// What was done to devices, in order of time.
    pub(crate) maintenance: Vec<Maintenance>,
    /// Part use, in order of time.
    pub(crate) consumption: Vec<Consumption>,
}

impl Feed {
    /// Takes the streams out of a bundle.
    pub(crate) fn new(histories: BTreeMap<DeviceId, DeviceHistory>, mut consumption: Vec<Consumption>) -> Self {
        consumption.sort_by_key(|used| used.ts);
        Self { devices: histories.into_iter().collect(), consumption }
    }

    /// Number of readings.
    pub(crate) fn readings(&self) -> u64 {
        self.devices.iter().map(|(_, history)| history.readings.len() as u64).sum()
    }

    /// Number of events.
    pub(crate) fn events(&self) -> u64 {
        self.devices.iter().map(|(_, history)| history.events.len() as u64).sum()
    }

    /// Everything in slices of `length`, whose ends are multiples of it since 1970 and belong to them, as the steps at which a
    /// service scores do; empty slices are left out. What is
    /// older than the first word of a device comes as one slice, whatever its length.
    pub(crate) fn slices(&self, length: Duration) -> Slices<'_> {
        let cursors = vec![Cursor::default(); self.devices.len()];
        let spoken = |(_, history): &(DeviceId, DeviceHistory)| {
            earlier(history.readings.times.first().copied(), history.events.first().map(|event| event.ts))
        };
        let opening = self.devices.iter().filter_map(spoken).min();
        let due = |(place, (_, history)): (usize, &(DeviceId, DeviceHistory))| {
            Some(Reverse((Cursor::default().next(history)?, place)))
        };
        let waiting = self.devices.iter().enumerate().filter_map(due).collect();
        Slices { feed: self, length, cursors, waiting, consumed: 0, opening }
    }
}

/// How far a device's streams have been told.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    readings: usize,
    events: usize,
    maintenance: usize,
}

impl Cursor {
    /// When the device has something next.
    fn next(self, history: &DeviceHistory) -> Option<Timestamp> {
        let reading = history.readings.times.get(self.readings).copied();
        let event = history.events.get(self.events).map(|event| event.ts);
        let maintenance = history.maintenance.get(self.maintenance).map(|record| record.ts);
        earlier(earlier(reading, event), maintenance)
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// Moves `from` behind the leading items that are `inside`.
fn advance<T>(items: &[T], from: &mut usize, inside: impl Fn(&T) -> bool) -> Range<usize> {
    let start = (*from).min(items.len());
    *from = start + items.split_at(start).1.partition_point(inside);
    start..*from
}

/// Slices in order of time: a merge of all streams by a heap over the devices.
pub(crate) struct Slices<'a> {
    feed: &'a Feed,
    length: Duration,
    cursors: Vec<Cursor>,
    /// When each device that has something left has it.
    waiting: BinaryHeap<Reverse<(Timestamp, usize)>>,
    consumed: usize,
    /// When the first device speaks, until the slice before that has been given.
    opening: Option<Timestamp>,
}

impl Slices<'_> {
    /// The end of the last grid cell that the next slice covers.
    fn bound(&mut self, earliest: Timestamp) -> Timestamp {
        let end = earliest.ceil_to(self.length);
        match self.opening.take().map(|first| first.ceil_to(self.length)) {
            Some(first) if end < first => first - Duration::from_millis(1),
            _ => end,
        }
    }
}

impl Iterator for Slices<'_> {
    type Item = Slice;

    fn next(&mut self) -> Option<Slice> {
        let feed = self.feed;
        let recorded = feed.consumption.get(self.consumed).map(|used| used.ts);
        let earliest = earlier(self.waiting.peek().map(|Reverse((ts, _))| *ts), recorded)?;
        let bound = self.bound(earliest);
        let length = self.length;
        let inside = |ts: Timestamp| ts.ceil_to(length) <= bound;
        let mut slice = Slice { last: earliest, pieces: Vec::new(), maintenance: Vec::new(), consumption: Vec::new() };
        while let Some(&Reverse((ts, device))) = self.waiting.peek()
            && inside(ts)
        {
            self.waiting.pop();
            let (Some((_, history)), Some(cursor)) = (feed.devices.get(device), self.cursors.get_mut(device)) else {
                continue;
            };
            let readings = advance(&history.readings.times, &mut cursor.readings, |&ts| inside(ts));
            let events = advance(&history.events, &mut cursor.events, |event| inside(event.ts));
            let records = advance(&history.maintenance, &mut cursor.maintenance, |record| inside(record.ts));
            slice.maintenance.extend_from_slice(history.maintenance.get(records).unwrap_or_default());
            let spoken = history.readings.times.get(readings.clone()).and_then(|times| times.last().copied());
            let spoken = spoken.max(history.events.get(events.clone()).and_then(|e| e.last()).map(|event| event.ts));
            slice.last = slice.last.max(spoken.unwrap_or(slice.last));
            if !(readings.is_empty() && events.is_empty()) {
                slice.pieces.push(Piece { device, readings, events });
            }
            self.waiting.extend(cursor.next(history).map(|ts| Reverse((ts, device))));
        }
        let used = advance(&feed.consumption, &mut self.consumed, |used| inside(used.ts));
        slice.consumption.extend_from_slice(feed.consumption.get(used).unwrap_or_default());
        slice.maintenance.sort_by(|a, b| (a.ts, &a.device, &a.component).cmp(&(b.ts, &b.device, &b.component)));
        let recorded = slice.maintenance.last().map(|record| record.ts);
        let recorded = recorded.max(slice.consumption.last().map(|used| used.ts));
        slice.last = slice.last.max(recorded.unwrap_or(slice.last));
        Some(slice)
    }
}

#[cfg(test)]
mod tests;
