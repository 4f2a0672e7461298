//! The summaries of a chunk: one [`Summary`] a signal, beside the samples they were made of.
//!
//! Field by field, not signal by signal: the count, times and time moments of most signals are the same, and so cost nothing.
//!
//! ```text
//!  0         1            5               6…
//! ┌─────────┬────────────┬────────────────┬───────────────────────────────────────────────────────┐
//! │ format 1│ crc32 u32le│ signals varint │ zstd level 3 of: signals m × u32le, then of the twelve │
//! └─────────┴────────────┴────────────────┴ fields of Summary in order, each m × 8 bytes le ───────┘
//!            of all that follows the checksum
//! ```

use harbinger_core::{Summary, Timestamp};

use super::bytes::{Cursor, Reason, put_varint};
use crate::telemetry::rows::{Rows, SignalNumber};

const FORMAT: u8 = 1;
const ZSTD_LEVEL: i32 = 3;
const FIELDS: usize = 12;
const SIGNALS_MAX: usize = 1 << 20;

/// The summary of each signal that has samples, merged in order of time.
pub(super) fn summarise(rows: &Rows) -> Vec<(SignalNumber, Summary)> {
    let of_column = |place: usize| {
        let samples = rows.times().iter().zip(rows.column(place)).filter(|(_, value)| !value.is_nan());
        samples.fold(Summary::EMPTY, |all, (&ts, value)| all.merge(&Summary::of(Timestamp::from_millis(ts), value)))
    };
    let all = (0..).zip(rows.signals()).map(|(place, &signal)| (signal, of_column(place)));
    all.filter(|(_, summary)| !summary.is_empty()).collect()
}

/// The bits of each field, in the order in which they are stored.
fn fields(s: &Summary) -> [u64; FIELDS] {
    [
        s.count,
        s.min.to_bits(),
        s.max.to_bits(),
        s.first.to_bits(),
        s.last.to_bits(),
        s.first_ts as u64,
        s.last_ts as u64,
        s.mean.to_bits(),
        s.value_m2.to_bits(),
        s.hours_mean.to_bits(),
        s.hours_m2.to_bits(),
        s.co_moment.to_bits(),
    ]
}

fn from_fields(fields: [u64; FIELDS]) -> Summary {
    let [count, min, max, first, last, first_ts, last_ts, mean, value_m2, hours_mean, hours_m2, co_moment] = fields;
    Summary {
        count,
        min: f64::from_bits(min),
        max: f64::from_bits(max),
        first: f64::from_bits(first),
        last: f64::from_bits(last),
        first_ts: first_ts as i64,
        last_ts: last_ts as i64,
        mean: f64::from_bits(mean),
        value_m2: f64::from_bits(value_m2),
        hours_mean: f64::from_bits(hours_mean),
        hours_m2: f64::from_bits(hours_m2),
        co_moment: f64::from_bits(co_moment),
    }
}

/// The blob.
pub(super) fn encode(summaries: &[(SignalNumber, Summary)]) -> std::io::Result<Vec<u8>> {
    let mut raw: Vec<u8> = summaries.iter().flat_map(|(signal, _)| signal.to_le_bytes()).collect();
    let by_signal: Vec<[u64; FIELDS]> = summaries.iter().map(|(_, summary)| fields(summary)).collect();
    for field in 0..FIELDS {
        raw.extend(by_signal.iter().filter_map(|fields| fields.get(field)).flat_map(|bits| bits.to_le_bytes()));
    }
    let mut content = Vec::with_capacity(raw.len() / 2);
    put_varint(&mut content, summaries.len() as u64);
    content.append(&mut zstd::bulk::compress(&raw, ZSTD_LEVEL)?);
    let mut blob = vec![FORMAT];
    blob.extend(crc32fast::hash(&content).to_le_bytes());
    blob.append(&mut content);
    Ok(blob)
}

/// Reads the blob.
pub(super) fn decode(blob: &[u8]) -> Result<Vec<(SignalNumber, Summary)>, Reason> {
    let mut cursor = Cursor(blob);
    if cursor.u8()? != FORMAT {
        return Err("the format of its summaries is unknown");
    }
    if cursor.u32()? != crc32fast::hash(cursor.0) {
        return Err("the checksum of its summaries does not match");
    }
    let count = cursor.count(SIGNALS_MAX)?;
    let length = count * (4 + 8 * FIELDS);
    let raw = zstd::bulk::decompress(cursor.0, length).map_err(|_| "its summaries cannot be decompressed")?;
    if raw.len() != length {
        return Err("its summaries have the wrong length");
    }
    let mut cursor = Cursor(&raw);
    let signals = (0..count).map(|_| cursor.u32()).collect::<Result<Vec<_>, _>>()?;
    let mut by_signal = vec![[0u64; FIELDS]; count];
    for field in 0..FIELDS {
        for fields in &mut by_signal {
            let bits = cursor.i64()? as u64;
            if let Some(place) = fields.get_mut(field) {
                *place = bits;
            }
        }
    }
    Ok(signals.into_iter().zip(by_signal.into_iter().map(from_fields)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_come_back_and_damage_is_seen() {
        let mut rows = Rows::default();
        for i in 0..100i64 {
            rows.put(1_420_070_400_000 + i * 60_000, &[4, 2], &[i as f64 / 10.0, 7.0]);
        }
        let summaries = summarise(&rows);
        assert_eq!(summaries.iter().map(|(signal, s)| (*signal, s.count)).collect::<Vec<_>>(), [(4, 100), (2, 100)]);
        let blob = encode(&summaries).unwrap();
        assert_eq!(decode(&blob), Ok(summaries));
        for place in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[place] ^= 4;
            assert!(decode(&damaged).is_err(), "byte {place}");
        }
    }
}
