//! Stored summaries: one row a device, level and bucket, made of the samples of all its signals in that hour or day.
//!
//! A bucket is kept in two parts: the sample exactly at its start, and the summary of all after it. With both, buckets that
//! hold their start - `at` and `rest` - and buckets that hold their end - `rest`, and `at` of the next - are answered
//! exactly ([`Closed`](harbinger_core::history::Closed)).
//!
//! Rows are made for hours and days that are over, where that saves reading many chunks: hours of devices with a chunk an
//! hour, days of devices with a chunk an hour or a day. Other buckets have no row and are made of readings when asked for;
//! they get their row when their readings pass their retention. A row that is there is always that of all its samples.
//!
//! ```text
//!  0         1            5
//! ┌─────────┬────────────┬────────────────┬──────────┬───┬────────────┐
//! │ format 2│ crc32 u32le│ signals varint │ signal 0 │ … │ signal m-1 │
//! └─────────┴────────────┴────────────────┴──────────┴───┴────────────┘
//!            of device u32le, level i64le, start i64le and of all that follows the checksum
//!
//! signal  = number varint │ flags u8 │ at f64 (flag 1) │ rest (flag 2)
//! rest    = times (unless flag 4: those of the signal before) │ floats: min, max, first, last (column.rs) │ moments
//!           │ co_moment f64
//! moments = mean f64 │ value_m2 f64, or with flag 8: decimals u8 │ mean and value_m2 as steps and apart, zigzag varints
//! times   = count varint │ first and last, milliseconds after start, varints │ hours_mean f64 │ hours_m2 f64
//! ```
//!
//! The mean of n values of d decimals is a multiple of 1 / (n 10^d), and `value_m2` one of 1 / (n 10^2d), but for what the
//! arithmetic rounded: so each is that many steps, and so many floats apart from there. Any float comes back bit for bit.

use harbinger_core::{Duration, Summary, Timestamp, time::MILLIS_PER_HOUR};

use super::{
    bytes::{Cursor, Reason, put_varint, unzigzag, zigzag},
    column::{put_floats, take_floats},
};
use crate::telemetry::{catalog::DeviceNumber, columns::Columns, rows::SignalNumber};

const FORMAT: u8 = 2;
const SIGNALS_MAX: usize = 1 << 20;

const HAS_AT: u8 = 1;
const HAS_REST: u8 = 2;
const SAME_TIMES: u8 = 4;
const IN_STEPS: u8 = 8;

/// More decimals are not looked for: their steps are no smaller than the floats.
const DECIMALS_MAX: u8 = 4;

/// How long the buckets of a level are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Level {
    Hour,
    Day,
}

impl Level {
    pub(super) const ALL: [Self; 2] = [Self::Hour, Self::Day];

    pub(super) const fn millis(self) -> i64 {
        match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => 24 * MILLIS_PER_HOUR,
        }
    }

    /// The coarsest level whose buckets make up buckets of `step`.
    pub(super) fn dividing(step: Duration) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|level| step.millis() > 0 && step.millis() % level.millis() == 0)
    }

    /// The start of the bucket that holds `ts`.
    pub(super) fn floor(self, ts: i64) -> i64 {
        ts.div_euclid(self.millis()) * self.millis()
    }
}

/// Which bucket: the key of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BucketKey {
    pub(super) device: DeviceNumber,
    pub(super) level: Level,
    /// First instant inside, milliseconds.
    pub(super) start: i64,
}

impl BucketKey {
    fn checksum(&self, content: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.device.to_le_bytes());
        crc.update(&self.level.millis().to_le_bytes());
        crc.update(&self.start.to_le_bytes());
        crc.update(content);
        crc.finalize()
    }

    /// What the row is called in errors.
    pub(super) fn row_name(&self) -> String {
        format!("summaries ({}, {}, {})", self.device, self.level.millis(), self.start)
    }
}

/// One signal in one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    /// The sample exactly at the bucket's start.
    pub(super) at: Option<f64>,
    /// All samples after the start.
    pub(super) rest: Summary,
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.at.is_none() && self.rest.is_empty()
    }

    /// The sample at `start`, the bucket's start, as a summary; empty where there is none.
    pub(super) fn at_start(&self, start: i64) -> Summary {
        self.at.map_or(Summary::EMPTY, |value| Summary::of(Timestamp::from_millis(start), value))
    }
}

/// The signals of a bucket that have samples in it.
pub(super) type Bucket = Vec<(SignalNumber, Piece)>;

/// The buckets of a level that readings fall into, rising in time.
pub(super) fn buckets(readings: &Columns, level: Level) -> Vec<(i64, Bucket)> {
    let times = readings.times();
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(first) = times.get(from) {
        let start = level.floor(first.millis());
        let to = times.partition_point(|ts| ts.millis() < start + level.millis());
        // The sample at the start is kept apart.
        let is_at_start = first.millis() == start;
        let rest = from + usize::from(is_at_start)..to;
        let piece = |column: &[f64]| Piece {
            at: column.get(from).copied().filter(|value| is_at_start && !value.is_nan()),
            rest: Summary::of_samples(
                times.get(rest.clone()).unwrap_or_default(),
                column.get(rest.clone()).unwrap_or_default(),
            ),
        };
        let pieces = readings.iter().map(|(signal, column)| (signal, piece(column)));
        let bucket: Bucket = pieces.filter(|(_, piece)| !piece.is_empty()).collect();
        all.push((start, bucket));
        from = to;
    }
    all
}

/// The blob of a row.
pub(super) fn encode(key: &BucketKey, bucket: &Bucket) -> Vec<u8> {
    let mut content = Vec::with_capacity(16 + 64 * bucket.len());
    put_varint(&mut content, bucket.len() as u64);
    let mut before: Option<Summary> = None;
    for (signal, piece) in bucket {
        put_varint(&mut content, u64::from(*signal));
        let same_times = before.is_some_and(|before| times(&before) == times(&piece.rest));
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let has_rest = !piece.rest.is_empty();
        let in_steps = moments_in_steps(&piece.rest).filter(|_| has_rest);
        content.push(
            flag(piece.at.is_some(), HAS_AT)
                | flag(has_rest, HAS_REST)
                | flag(has_rest && same_times, SAME_TIMES)
                | flag(in_steps.is_some(), IN_STEPS),
        );
        content.extend(piece.at.into_iter().flat_map(f64::to_le_bytes));
        if has_rest {
            if !same_times {
                put_times(&mut content, key.start, &piece.rest);
            }
            put_floats(&mut content, &[piece.rest.min, piece.rest.max, piece.rest.first, piece.rest.last]);
            content.extend(in_steps.unwrap_or_else(|| moments(&piece.rest).map(f64::to_le_bytes).concat()));
            content.extend(piece.rest.co_moment.to_le_bytes());
            before = Some(piece.rest);
        }
    }
    let mut blob = Vec::with_capacity(content.len() + 5);
    blob.push(FORMAT);
    blob.extend(key.checksum(&content).to_le_bytes());
    blob.append(&mut content);
    blob
}

/// What signals that are reported together have in common.
fn times(s: &Summary) -> (u64, i64, i64, u64, u64) {
    (s.count, s.first_ts, s.last_ts, s.hours_mean.to_bits(), s.hours_m2.to_bits())
}

fn put_times(out: &mut Vec<u8>, start: i64, rest: &Summary) {
    put_varint(out, rest.count);
    put_varint(out, (rest.first_ts - start).unsigned_abs());
    put_varint(out, (rest.last_ts - start).unsigned_abs());
    out.extend(rest.hours_mean.to_le_bytes());
    out.extend(rest.hours_m2.to_le_bytes());
}

fn moments(rest: &Summary) -> [f64; 2] {
    [rest.mean, rest.value_m2]
}

/// Mean and `value_m2` in steps of the decimals that take fewest bytes, where those are fewer than of two floats.
fn moments_in_steps(rest: &Summary) -> Option<Vec<u8>> {
    let in_steps = |decimals: u8| {
        let mut out = vec![decimals];
        for (moment, unit) in moments(rest).into_iter().zip(units(rest.count, decimals)) {
            let steps = (moment * unit).round() as i64;
            let apart = moment.to_bits().wrapping_sub((steps as f64 / unit).to_bits()) as i64;
            put_varint(&mut out, zigzag(steps));
            put_varint(&mut out, zigzag(apart));
        }
        out
    };
    (0..=DECIMALS_MAX).map(in_steps).min_by_key(Vec::len).filter(|out| out.len() < 2 * size_of::<f64>())
}

fn take_moments_in_steps(cursor: &mut Cursor<'_>, count: u64) -> Result<[f64; 2], Reason> {
    let units = units(count, cursor.u8()?);
    let mut moments = [0.0; 2];
    for (moment, unit) in moments.iter_mut().zip(units) {
        let (steps, apart) = (unzigzag(cursor.varint()?), unzigzag(cursor.varint()?));
        *moment = f64::from_bits((steps as f64 / unit).to_bits().wrapping_add_signed(apart));
    }
    Ok(moments)
}

/// How many steps there are in one: of the mean, and of `value_m2`.
fn units(count: u64, decimals: u8) -> [f64; 2] {
    let power = 10f64.powi(i32::from(decimals));
    [count as f64 * power, count as f64 * power * power]
}

/// Reads the blob of a row.
pub(super) fn decode(key: &BucketKey, blob: &[u8]) -> Result<Bucket, Reason> {
    let mut cursor = Cursor(blob);
    if cursor.u8()? != FORMAT {
        return Err("its format is unknown");
    }
    if cursor.u32()? != key.checksum(cursor.0) {
        return Err("its checksum does not match");
    }
    let count = cursor.count(SIGNALS_MAX)?;
    let mut bucket = Vec::with_capacity(count);
    let mut before = Summary::EMPTY;
    for _ in 0..count {
        let signal = SignalNumber::try_from(cursor.varint()?).map_err(|_| "a signal has an impossible number")?;
        let flags = cursor.u8()?;
        let at = if flags & HAS_AT == 0 { None } else { Some(cursor.f64()?) };
        let rest = if flags & HAS_REST == 0 {
            Summary::EMPTY
        } else {
            before = take_rest(&mut cursor, key.start, flags, before)?;
            before
        };
        bucket.push((signal, Piece { at, rest }));
    }
    Ok(bucket)
}

fn take_rest(cursor: &mut Cursor<'_>, start: i64, flags: u8, before: Summary) -> Result<Summary, Reason> {
    let mut rest = if flags & SAME_TIMES != 0 {
        before
    } else {
        let count = cursor.varint()?;
        let first_ts = start.saturating_add_unsigned(cursor.varint()?);
        let last_ts = start.saturating_add_unsigned(cursor.varint()?);
        Summary { count, first_ts, last_ts, hours_mean: cursor.f64()?, hours_m2: cursor.f64()?, ..Summary::EMPTY }
    };
    let extremes = take_floats(cursor, 4)?;
    let [min, max, first, last] = <[f64; 4]>::try_from(extremes).map_err(|_| "its extremes are incomplete")?;
    (rest.min, rest.max, rest.first, rest.last) = (min, max, first, last);
    [rest.mean, rest.value_m2] =
        if flags & IN_STEPS != 0 { take_moments_in_steps(cursor, rest.count)? } else { [cursor.f64()?, cursor.f64()?] };
    rest.co_moment = cursor.f64()?;
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::rows::Rows;

    const START: i64 = 1_420_070_400_000;

    fn readings() -> Columns {
        let mut rows = Rows::default();
        for i in 0..200i64 {
            rows.put(START + i * 60_000, &[4, 2], &[(i as f64 * 1.7).sin(), i as f64 / 10.0]);
            if i % 50 == 0 {
                rows.put(START + i * 60_000 + 7, &[9], &[-0.0]);
            }
        }
        Columns::of(&rows)
    }

    #[test]
    fn the_start_is_kept_apart_from_what_follows() {
        let hours = buckets(&readings(), Level::Hour);
        let second = &hours[1].1;
        assert_eq!(hours.iter().map(|(start, _)| (start - START) / 60_000).collect::<Vec<_>>(), [0, 60, 120, 180]);
        assert_eq!(second.iter().map(|(signal, _)| *signal).collect::<Vec<_>>(), [4, 2, 9]);
        let (_, piece) = second[1];
        assert_eq!((piece.at, piece.rest.count, piece.rest.first, piece.rest.last), (Some(6.0), 59, 6.1, 11.9));
        assert_eq!((second[2].1.at, second[2].1.rest.count), (None, 1));
    }

    #[test]
    fn buckets_come_back_bit_for_bit_and_damage_is_seen() {
        for level in Level::ALL {
            for (start, bucket) in buckets(&readings(), level) {
                let key = BucketKey { device: 7, level, start };
                let blob = encode(&key, &bucket);
                assert_eq!(decode(&key, &blob), Ok(bucket));
                for place in 0..blob.len() {
                    let mut damaged = blob.clone();
                    damaged[place] ^= 4;
                    assert!(decode(&key, &damaged).is_err(), "byte {place}");
                    assert!(decode(&key, &blob[..place]).is_err(), "cut at {place}");
                }
                assert!(decode(&BucketKey { device: 8, ..key }, &blob).is_err());
            }
        }
    }

    #[test]
    fn signals_reported_together_share_their_times() {
        let mut rows = Rows::default();
        for i in 1..361i64 {
            rows.put(START + i * 10_000 - 5_000, &[0, 1, 2, 3, 4, 5], &[20.0 + (i % 17) as f64 / 10.0; 6]);
        }
        let (start, bucket) = buckets(&Columns::of(&rows), Level::Hour).remove(0);
        let blob = encode(&BucketKey { device: 7, level: Level::Hour, start }, &bucket);
        assert!(blob.len() < 220, "{} bytes for 2160 samples", blob.len());
    }

    #[test]
    fn moments_come_back_bit_for_bit_whatever_they_are() {
        let odd = [0.0, -0.0, 0.1 + 0.2, -7.3e-310, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, 1e15 + 0.3, -24.55];
        for (count, mean, value_m2) in odd.iter().flat_map(|&a| odd.iter().map(move |&b| (360, a, b))) {
            let rest = Summary { count, mean, value_m2, ..Summary::of(Timestamp::from_millis(START + 1), 1.0) };
            let key = BucketKey { device: 7, level: Level::Hour, start: START };
            let back = decode(&key, &encode(&key, &vec![(3, Piece { at: None, rest })])).unwrap()[0].1.rest;
            assert_eq!((back.mean.to_bits(), back.value_m2.to_bits()), (mean.to_bits(), value_m2.to_bits()));
        }
    }

    #[test]
    fn steps_of_whole_hours_and_days_have_their_level() {
        let of = |text: &str| Level::dividing(text.parse().unwrap());
        assert_eq!((of("1h"), of("3h"), of("36h")), (Some(Level::Hour), Some(Level::Hour), Some(Level::Hour)));
        assert_eq!((of("24h"), of("7d")), (Some(Level::Day), Some(Level::Day)));
        assert_eq!((of("5m"), of("0s"), of("90m")), (None, None, None));
    }
}
