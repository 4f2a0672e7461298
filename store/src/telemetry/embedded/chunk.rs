//! A chunk: the readings of one device in one span of time, as one blob.
//!
//! Invariants: chunks of a device never overlap; spans are aligned since 1970 and nest; times rise strictly inside
//! `start..start + span`; every column has at least one sample; NaN is never stored. The checksum covers the row's key
//! too, so that a blob under the wrong key is as damaged as a changed one.
//!
//! ```text
//!  0         1            5
//! ┌─────────┬────────────┬─────────────────┬────────────────┬───────┬──────────┬───┬───────────┐
//! │ format 1│ crc32 u32le│ readings varint │ signals varint │ times │ column 0 │ … │ column m-1│
//! └─────────┴────────────┴─────────────────┴────────────────┴───────┴──────────┴───┴───────────┘
//!            of device u32le, start i64le, span i64le and of all that follows the checksum
//!
//! times  = block of integers: milliseconds after start            (blocks: column.rs)
//! column = signal varint │ samples varint │ presence │ block of floats, one a sample
//! presence = one bit a reading, least first, where samples < readings; else nothing
//! ```

use harbinger_core::{Duration, Timestamp, summary::has_missing};

use super::{
    bytes::{Cursor, Reason, put_varint},
    column::{put_floats, put_integers, skip_floats, take_floats, take_integers},
};
use crate::telemetry::{
    catalog::DeviceNumber,
    columns::Columns,
    rows::{Rows, SignalNumber},
};

const FORMAT: u8 = 1;

/// More readings than a chunk can have: an hour of a reading every millisecond.
const READINGS_MAX: usize = 3_600_000;

/// More signals than a device can have.
const SIGNALS_MAX: usize = 1 << 20;

/// How many readings a chunk should hold: enough to compress well, few enough to be read for a short range.
const READINGS_WANTED: f64 = 1000.0;

/// A chunk with more readings than this is split into finer spans: more than [`Span::for_cadence`] ever aims at.
pub(super) const READINGS_BEFORE_SPLIT: usize = 8000;

/// How much time a chunk covers. Finer spans nest in coarser ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    Hour,
    Day,
    /// 30 days: months are not of one length.
    Month,
}

impl Span {
    pub(super) const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    pub(super) const fn millis(self) -> i64 {
        match self {
            Self::Hour => Duration::from_hours(1).millis(),
            Self::Day => Duration::from_days(1).millis(),
            Self::Month => Duration::from_days(30).millis(),
        }
    }

    pub(super) fn from_millis(millis: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.millis() == millis)
    }

    /// The next finer one.
    pub(super) fn finer(self) -> Option<Self> {
        match self {
            Self::Hour => None,
            Self::Day => Some(Self::Hour),
            Self::Month => Some(Self::Day),
        }
    }

    /// The span whose chunks come nearest to [`READINGS_WANTED`] (as a ratio) at the usual interval between `times`;
    /// `None` where there are too few to tell.
    pub(super) fn for_cadence(times: &[i64]) -> Option<Self> {
        if times.len() < 8 {
            return None;
        }
        let mut intervals: Vec<i64> = times.iter().zip(times.iter().skip(1)).map(|(a, b)| b - a).collect();
        let middle = intervals.len() / 2;
        let (_, &mut median, _) = intervals.select_nth_unstable(middle);
        let distance = |span: Self| (span.millis() as f64 / median.max(1) as f64 / READINGS_WANTED).ln().abs();
        Self::ALL.into_iter().min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
    }
}

/// Which chunk: the key of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkKey {
    pub(super) device: DeviceNumber,
    /// First instant inside, milliseconds.
    pub(super) start: i64,
    pub(super) span: Span,
}

impl ChunkKey {
    /// The chunk of `span` that holds `ts`.
    pub(super) fn holding(device: DeviceNumber, ts: i64, span: Span) -> Self {
        let start = Timestamp::from_millis(ts).floor_to(Duration::from_millis(span.millis())).millis();
        Self { device, start, span }
    }

    /// First instant after.
    pub(super) fn end(&self) -> i64 {
        self.start + self.span.millis()
    }

    fn checksum(&self, content: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.device.to_le_bytes());
        crc.update(&self.start.to_le_bytes());
        crc.update(&self.span.millis().to_le_bytes());
        crc.update(content);
        crc.finalize()
    }

    /// What the row is called in errors.
    pub(super) fn row_name(&self) -> String {
        format!("chunks ({}, {})", self.device, self.start)
    }
}

/// Encodes the readings of a chunk; all lie inside its span.
pub(super) fn encode(key: &ChunkKey, readings: &Columns) -> Vec<u8> {
    let columns: Vec<(SignalNumber, &[f64])> =
        readings.iter().filter(|(_, column)| column.iter().any(|value| !value.is_nan())).collect();
    let mut content = Vec::with_capacity(64 + readings.len() * columns.len());
    put_varint(&mut content, readings.len() as u64);
    put_varint(&mut content, columns.len() as u64);
    let offsets: Vec<i64> = readings.times().iter().map(|ts| ts.millis() - key.start).collect();
    put_integers(&mut content, &offsets, 0);
    for (signal, column) in columns {
        put_column(&mut content, signal, column);
    }
    let mut body = Vec::with_capacity(content.len() + 5);
    body.push(FORMAT);
    body.extend(key.checksum(&content).to_le_bytes());
    body.append(&mut content);
    body
}

/// Decodes the readings of a chunk, to merge others into them.
pub(super) fn decode(key: &ChunkKey, body: &[u8]) -> Result<Rows, Reason> {
    decode_columns(key, body, None).map(Columns::into_rows)
}

/// Decodes the readings of a chunk with the signals that are wanted; all where it is `None`. The others' columns are passed
/// over, which costs next to nothing; times without a wanted sample stay.
pub(super) fn decode_columns(key: &ChunkKey, body: &[u8], wanted: Option<&[SignalNumber]>) -> Result<Columns, Reason> {
    let mut cursor = Cursor(body);
    if cursor.u8()? != FORMAT {
        return Err("its format is unknown");
    }
    if cursor.u32()? != key.checksum(cursor.0) {
        return Err("its checksum does not match");
    }
    let readings = cursor.count(READINGS_MAX)?;
    let signal_count = cursor.count(SIGNALS_MAX)?;
    let offsets = take_integers(&mut cursor, readings)?;
    let inside = offsets.first().is_none_or(|&offset| offset >= 0)
        && offsets.last().is_none_or(|&offset| offset < key.span.millis());
    if !inside || !offsets.is_sorted_by(|a, b| a < b) {
        return Err("its times are out of order");
    }
    let times = offsets.into_iter().map(|offset| Timestamp::from_millis(key.start + offset)).collect();
    let (mut signals, mut columns) = (Vec::with_capacity(signal_count), Vec::with_capacity(signal_count));
    for _ in 0..signal_count {
        let signal = SignalNumber::try_from(cursor.varint()?).map_err(|_| "a signal has an impossible number")?;
        if wanted.is_none_or(|wanted| wanted.contains(&signal)) {
            columns.push(take_column(&mut cursor, readings)?);
            signals.push(signal);
        } else {
            skip_column(&mut cursor, readings)?;
        }
    }
    Ok(Columns::new(signals, times, columns))
}

fn put_column(out: &mut Vec<u8>, signal: SignalNumber, column: &[f64]) {
    put_varint(out, u64::from(signal));
    if !has_missing(column) {
        put_varint(out, column.len() as u64);
        put_floats(out, column);
        return;
    }
    let present: Vec<f64> = column.iter().copied().filter(|value| !value.is_nan()).collect();
    put_varint(out, present.len() as u64);
    let bits = |eight: &[f64]| (0..).zip(eight).map(|(bit, value)| u8::from(!value.is_nan()) << bit).sum::<u8>();
    out.extend(column.chunks(8).map(bits));
    put_floats(out, &present);
}

fn take_column(cursor: &mut Cursor<'_>, readings: usize) -> Result<Vec<f64>, Reason> {
    let samples = cursor.count(readings)?;
    if samples == readings {
        return take_floats(cursor, readings);
    }
    let presence = cursor.bytes(readings.div_ceil(8))?;
    let mut present = take_floats(cursor, samples)?.into_iter();
    let is_present = |reading: usize| presence.get(reading / 8).is_some_and(|bits| bits >> (reading % 8) & 1 == 1);
    (0..readings)
        .map(|reading| if is_present(reading) { present.next().ok_or("samples are missing") } else { Ok(f64::NAN) })
        .collect()
}

fn skip_column(cursor: &mut Cursor<'_>, readings: usize) -> Result<(), Reason> {
    let samples = cursor.count(readings)?;
    if samples < readings {
        cursor.bytes(readings.div_ceil(8))?;
    }
    skip_floats(cursor, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ChunkKey {
        ChunkKey::holding(7, 1_420_070_400_000, Span::Day)
    }

    fn rows(readings: i64) -> Rows {
        let mut rows = Rows::default();
        for i in 0..readings {
            let ts = key().start + i * 10_000;
            rows.put(ts, &[3, 1], &[20.0 + (i % 17) as f64 / 10.0, -0.0]);
            if i % 5 == 0 {
                rows.put(ts, &[9], &[(i as f64).sqrt()]);
            }
        }
        rows
    }

    /// Rows compare by value, and NaN is not itself: compare the bits.
    #[track_caller]
    fn check_same(a: &Rows, b: &Rows) {
        assert_eq!((a.signals(), a.times()), (b.signals(), b.times()));
        for place in 0..a.signals().len() {
            let bits = |rows: &Rows| rows.column(place).map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(a), bits(b));
        }
    }

    #[test]
    fn readings_come_back_whatever_their_number() {
        for readings in [1, 2, 7, 8, 9, 47, 48, 1000] {
            let rows = rows(readings);
            check_same(&decode(&key(), &encode(&key(), &Columns::of(&rows))).unwrap(), &rows);
        }
    }

    #[test]
    fn a_signal_by_itself_is_what_it_is_among_all() {
        for readings in [1, 7, 9, 48, 300] {
            let body = encode(&key(), &Columns::of(&rows(readings)));
            let all = decode(&key(), &body).unwrap();
            for (place, &signal) in all.signals().iter().enumerate() {
                let one = decode_columns(&key(), &body, Some(&[signal, 77])).unwrap().into_rows();
                assert_eq!((one.signals(), one.times()), ([signal].as_slice(), all.times()));
                let bits = |rows: &Rows, place| rows.column(place).map(f64::to_bits).collect::<Vec<_>>();
                assert_eq!(bits(&one, 0), bits(&all, place));
            }
        }
    }

    #[test]
    fn a_chunk_of_one_reading_is_small() {
        assert!(encode(&key(), &Columns::of(&rows(1))).len() < 48, "{}", encode(&key(), &Columns::of(&rows(1))).len());
    }

    #[test]
    fn no_changed_byte_and_no_other_key_is_accepted() {
        let body = encode(&key(), &Columns::of(&rows(20)));
        for place in 0..body.len() {
            let mut damaged = body.clone();
            damaged[place] ^= 0x10;
            assert!(decode(&key(), &damaged).is_err(), "byte {place}");
            assert!(decode(&key(), &body[..place]).is_err(), "cut at {place}");
        }
        assert!(decode(&ChunkKey { device: 8, ..key() }, &body).is_err());
    }

    #[test]
    fn spans_follow_the_cadence() {
        let every = |millis: i64| Span::for_cadence(&(0..20).map(|i| i * millis).collect::<Vec<_>>());
        assert_eq!(every(1000), Some(Span::Hour));
        assert_eq!(every(60_000), Some(Span::Day));
        assert_eq!(every(3_600_000), Some(Span::Month));
        assert_eq!(Span::for_cadence(&[1, 2, 3]), None);
    }

    /// Bytes written by the first release of this format still load.
    #[test]
    fn the_first_format_is_still_read() {
        let stored = [
            0x01, 0x9f, 0xcb, 0x37, 0x2f, 0x02, 0x02, 0x01, 0x00, 0x04, 0x00, 0xa0, 0x9c, 0x01, 0x03, 0x02, 0x01, 0x01,
            0x03, 0x90, 0x03, 0x02, 0x01, 0x02, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x80,
        ];
        let mut expected = Rows::default();
        expected.put(key().start, &[3, 1], &[20.0, -0.0]);
        expected.put(key().start + 10_000, &[3, 1], &[20.1, -0.0]);
        check_same(&decode(&key(), &stored).unwrap(), &expected);
    }
}
