//! Reading summaries: stored hours and days where there are any, readings where there are none.
//!
//! A stored bucket is taken as it is unless the tail holds a reading of it, which may correct what it was made of. Every
//! other stretch of time is folded from readings, so that the answer never depends on which rows there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use harbinger_core::{
    DeviceKey, Duration, SignalId, Summary, TimeRange, Timestamp,
    history::{Closed, Timeline},
};
use rusqlite::{Connection, params};

use super::{
    chunk::Span,
    reader::{self, OnDamage, Wanted},
    shared::Shared,
    summaries::{self, Bucket, BucketKey, Level},
};
use crate::telemetry::{Error, Windows, catalog::DeviceNumber, columns::Columns, rows::SignalNumber};

const HOUR: Duration = Duration::from_hours(1);

/// Summaries of a device in buckets that end at multiples of `step` and in `(range.from, range.to]`.
pub(super) fn timeline(
    shared: &Shared,
    connection: &Connection,
    key: &DeviceKey,
    range: TimeRange,
    signals: Option<&[SignalId]>,
    step: Duration,
    closed: Closed,
) -> Result<Timeline, Error> {
    let times = closed.times_of_buckets(range, step);
    let Some(level) = Level::dividing(step) else {
        let readings = reader::page(shared, connection, key, times, signals, usize::MAX, OnDamage::Refuse)?;
        return Ok(Timeline::closed(&readings, step, closed));
    };
    let Some(device) = shared.tail().catalog.find_device(key) else {
        return Ok(Timeline { step, signals: Vec::new() });
    };
    let ends = range.from.floor_to(step)..range.to.floor_to(step);
    let wanted = signals.map(|signals| reader::signal_numbers(shared, signals));
    let mut signals: BTreeMap<SignalNumber, Vec<(Timestamp, Summary)>> = BTreeMap::new();
    let mut add = |signal: SignalNumber, ts: i64, part: Summary| {
        let end = closed.bucket_end(Timestamp::from_millis(ts), step);
        if part.is_empty() || end <= ends.start || end > ends.end {
            return;
        }
        let buckets = signals.entry(signal).or_default();
        match buckets.last_mut() {
            Some((last, summary)) if *last == end => *summary = summary.merge(&part),
            _ => buckets.push((end, part)),
        }
    };
    let read = Read { shared, connection, device, signals: wanted.as_deref(), damage: OnDamage::Refuse };
    for (start, bucket) in read.buckets(level, level.floor(times.from.millis())..times.to.millis())? {
        for (signal, piece) in bucket {
            add(signal, start, piece.at_start(start));
            add(signal, start + 1, piece.rest);
        }
    }
    let held = shared.tail();
    let name = |number| held.catalog.signal(number).cloned();
    let mut signals: Vec<(SignalId, Vec<(Timestamp, Summary)>)> =
        signals.into_iter().filter_map(|(number, buckets)| Some((name(number)?, buckets))).collect();
    signals.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Timeline { step, signals })
}

/// The windows of a device that end at `at`.
///
/// Part of a read of many devices: a damaged chunk is logged and left out, so that one device does not stop all others.
pub(super) fn windows(
    shared: &Shared,
    connection: &Connection,
    key: &DeviceKey,
    at: Timestamp,
    lengths: &[Duration],
) -> Result<Windows, Error> {
    let (device, by_hours) = {
        let tail = shared.tail();
        let Some(device) = tail.catalog.find_device(key) else { return Ok(Windows::default()) };
        let known = tail.device(device);
        // A device of which no rows are stored is read as readings: there are few.
        let has_rows = known.is_some_and(|d| d.forgotten.is_some() || d.span.is_some_and(|span| span < Span::Month));
        (device, has_rows)
    };
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let is_whole = |millis: i64| millis % HOUR.millis() == 0;
    let read = Read { shared, connection, device, signals: None, damage: OnDamage::Skip };
    if !by_hours || !is_whole(at.millis()) || !lengths.iter().all(|length| is_whole(length.millis())) {
        let times = (at - longest).millis() + 1..at.millis() + 1;
        return Ok(Windows::of(&reader::named(shared, read.columns(times)?), at, lengths));
    }
    read.windows_by_hours(at, lengths)
}

/// What is read of which device.
struct Read<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    device: DeviceNumber,
    /// All where it is `None`.
    signals: Option<&'a [SignalNumber]>,
    damage: OnDamage,
}

impl Read<'_> {
    fn columns(&self, range: Range<i64>) -> Result<Columns, Error> {
        let wanted = Wanted { range, signals: self.signals, limit: usize::MAX, damage: self.damage };
        reader::columns(self.shared, self.connection, self.device, &wanted)
    }

    /// Each window is made of whole days where it holds any, and of hours at its borders.
    fn windows_by_hours(&self, at: Timestamp, lengths: &[Duration]) -> Result<Windows, Error> {
        let today = Level::Day.floor(at.millis());
        let yesterday = today - Level::Day.millis();
        let starts: Vec<i64> = lengths.iter().map(|length| (at - *length).millis()).collect();
        // Hours up to a day before today are read in one go; windows that reach further back begin with hours of their own.
        let recent = starts.iter().copied().filter(|start| *start >= yesterday).min().unwrap_or(today).min(today);
        let recent = self.buckets(Level::Hour, recent..at.millis() + 1)?;
        let first_day = |start: i64| Level::Day.floor(start + Level::Day.millis() - 1);
        let days = match starts.iter().copied().filter(|start| *start < yesterday).min() {
            Some(earliest) => self.buckets(Level::Day, first_day(earliest)..today)?,
            None => Vec::new(),
        };
        let mut signals: BTreeMap<SignalNumber, Vec<Summary>> = BTreeMap::new();
        for (window, &start) in starts.iter().enumerate() {
            let mut add = |buckets: &[(i64, Bucket)], from: i64| {
                for (bucket_start, bucket) in buckets.iter().filter(|(bucket_start, _)| *bucket_start >= from) {
                    for (signal, piece) in bucket {
                        let summaries = signals.entry(*signal).or_insert_with(|| vec![Summary::EMPTY; lengths.len()]);
                        let Some(summary) = summaries.get_mut(window) else { continue };
                        // The window holds its end, not its start.
                        if *bucket_start > start {
                            *summary = summary.merge(&piece.at_start(*bucket_start));
                        }
                        if *bucket_start < at.millis() {
                            *summary = summary.merge(&piece.rest);
                        }
                    }
                }
            };
            if start < yesterday {
                add(&self.buckets(Level::Hour, start..first_day(start))?, start);
                add(&days, first_day(start));
                add(&recent, today);
            } else {
                add(&recent, start);
            }
        }
        let held = self.shared.tail();
        let named = signals.into_iter().filter(|(_, summaries)| summaries.iter().any(|summary| !summary.is_empty()));
        let named = named.filter_map(|(number, summaries)| Some((held.catalog.signal(number)?.clone(), summaries)));
        let mut signals: Vec<(SignalId, Vec<Summary>)> = named.collect();
        signals.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Windows { signals })
    }

    /// The buckets of a level that start in `range` and have samples in it, rising in time. `range` starts with a bucket.
    fn buckets(&self, level: Level, range: Range<i64>) -> Result<Vec<(i64, Bucket)>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (in_tail, held) = {
            let tail = self.shared.tail();
            let rows = tail.slice(self.device, range.start, range.end);
            let in_tail: BTreeSet<i64> = rows.times().iter().map(|&ts| level.floor(ts)).collect();
            (in_tail, tail.device(self.device).and_then(|device| device.readings))
        };
        let mut buckets = Vec::new();
        let mut from = range.start;
        let fold = |from: i64, to: i64, buckets: &mut Vec<(i64, Bucket)>| -> Result<(), Error> {
            // Nothing is held outside of what the device has reported, so nothing is looked for there.
            let Some((first, last)) = held else { return Ok(()) };
            let times = from.max(first)..to.min(last.saturating_add(1));
            if !times.is_empty() {
                buckets.extend(summaries::buckets(&self.columns(times)?, level));
            }
            Ok(())
        };
        for (start, bucket) in self.stored(level, &range)? {
            if in_tail.contains(&start) {
                continue;
            }
            fold(from, start, &mut buckets)?;
            buckets.push((start, bucket));
            from = start + level.millis();
        }
        fold(from, range.end, &mut buckets)?;
        Ok(buckets)
    }

    fn stored(&self, level: Level, range: &Range<i64>) -> Result<Vec<(i64, Bucket)>, Error> {
        let rows = stored_rows(self.connection, self.device, level, range);
        let rows = rows.map_err(self.shared.failure("read summaries"))?;
        let mut buckets = Vec::with_capacity(rows.len());
        for (start, body) in rows {
            let key = BucketKey { device: self.device, level, start };
            match summaries::decode(&key, &body) {
                Ok(mut bucket) => {
                    bucket.retain(|(signal, _)| self.signals.is_none_or(|wanted| wanted.contains(signal)));
                    buckets.push((start, bucket));
                }
                // It is made of the readings again, where they are still there.
                Err(reason) => tracing::error!(row = key.row_name(), reason, "damaged summaries: left out"),
            }
        }
        Ok(buckets)
    }
}

fn stored_rows(
    connection: &Connection,
    device: DeviceNumber,
    level: Level,
    range: &Range<i64>,
) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let query = "SELECT start_ms, body FROM summaries
        WHERE device = ?1 AND level_ms = ?2 AND start_ms >= ?3 AND start_ms < ?4 ORDER BY start_ms";
    let mut statement = connection.prepare_cached(query)?;
    let values = params![device, level.millis(), range.start, range.end];
    let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
