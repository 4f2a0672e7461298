//! A group of readings as columns, and as the blob of one `log` row.
//!
//! Built once from what callers append, then compared, written, laid into the tail and - after a restart - read back, always
//! in this shape: a few long vectors, nothing allocated a reading.
//!
//! ```text
//!  0         1            5                9
//! ┌─────────┬────────────┬────────────────┬──────────────────────────────┐
//! │ format 1│ crc32 u32le│ raw bytes u32le│ zstd level 1 of the columns  │
//! └─────────┴────────────┴────────────────┴──────────────────────────────┘
//!            of all that follows the checksum
//!
//! columns, little endian, for n readings with m samples:
//!   n u32 │ m u32 │ devices n × u32 │ times n × i64, each less the one before │ samples a reading n × u32
//!   │ signals m × u32 │ values m × f64
//! ```
//! Devices and signals are numbers from the tables of those names, committed no later than the row.

use harbinger_core::Reading;

use super::bytes::{Cursor, Reason};
use crate::telemetry::{
    catalog::{Catalog, DeviceNumber},
    rows::SignalNumber,
};

const FORMAT: u8 = 1;

/// Length of the fields before the compressed columns.
const HEADER: usize = 9;

/// Fast and already a third of the size: the log is read once, and deleted soon.
const ZSTD_LEVEL: i32 = 1;

/// More raw bytes than one group can have.
const RAW_BYTES_MAX: usize = 1 << 30;

/// Readings in order of arrival, as columns.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Group {
    devices: Vec<DeviceNumber>,
    times: Vec<i64>,
    /// Where the samples of each reading end.
    ends: Vec<u32>,
    signals: Vec<SignalNumber>,
    values: Vec<f64>,
}

/// One reading of a [`Group`].
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupReading<'a> {
    pub(super) device: DeviceNumber,
    pub(super) ts: i64,
    pub(super) signals: &'a [SignalNumber],
    pub(super) values: &'a [f64],
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Adds a reading and gives numbers to what is new in it; whether it has any samples: one without is left out.
    pub(super) fn push(&mut self, catalog: &mut Catalog, reading: &Reading) -> bool {
        let before = self.signals.len();
        catalog.number_samples(reading, &mut self.signals, &mut self.values);
        if self.signals.len() == before {
            return false;
        }
        self.devices.push(catalog.number_device(&reading.key));
        self.times.push(reading.ts.millis());
        self.ends.push(u32::try_from(self.signals.len()).expect("a group is far smaller than four billion samples"));
        true
    }

    /// The reading at `place`.
    pub(super) fn reading(&self, place: usize) -> Option<GroupReading<'_>> {
        let end = *self.ends.get(place)? as usize;
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&end| end as usize);
        Some(GroupReading {
            device: *self.devices.get(place)?,
            ts: *self.times.get(place)?,
            signals: self.signals.get(start..end)?,
            values: self.values.get(start..end)?,
        })
    }

    /// All readings, in order of arrival.
    pub(super) fn readings(&self) -> impl Iterator<Item = GroupReading<'_>> {
        (0..self.len()).filter_map(|place| self.reading(place))
    }

    /// The blob of the log row.
    ///
    /// # Errors
    /// Where the group is larger than what [`Group::decode`] takes back, or cannot be compressed.
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let (n, m) = (self.len(), self.signals.len());
        let raw_length = 8 + 16 * n + 12 * m;
        if raw_length > RAW_BYTES_MAX {
            return Err(std::io::Error::other(format!("a batch of {m} samples is too large: append it in parts")));
        }
        let mut raw = Vec::with_capacity(raw_length);
        raw.extend((n as u32).to_le_bytes());
        raw.extend((m as u32).to_le_bytes());
        raw.extend(self.devices.iter().flat_map(|device| device.to_le_bytes()));
        let mut before = 0;
        for &ts in &self.times {
            raw.extend(ts.wrapping_sub(before).to_le_bytes());
            before = ts;
        }
        let mut start = 0;
        for &end in &self.ends {
            raw.extend((end - start).to_le_bytes());
            start = end;
        }
        raw.extend(self.signals.iter().flat_map(|signal| signal.to_le_bytes()));
        raw.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));

        let mut body = vec![0; HEADER];
        body.append(&mut zstd::bulk::compress(&raw, ZSTD_LEVEL)?);
        let raw_length = (raw.len() as u32).to_le_bytes();
        if let Some((header, _)) = body.split_first_chunk_mut::<HEADER>() {
            let [format, _, _, _, _, length @ ..] = header;
            (*format, *length) = (FORMAT, raw_length);
        }
        let checksum = crc32fast::hash(body.get(5..).unwrap_or_default()).to_le_bytes();
        if let Some(field) = body.get_mut(1..5) {
            field.copy_from_slice(&checksum);
        }
        Ok(body)
    }

    /// Reads the blob of a log row.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Reason> {
        let mut cursor = Cursor(body);
        if cursor.u8()? != FORMAT {
            return Err("its format is unknown");
        }
        if cursor.u32()? != crc32fast::hash(cursor.0) {
            return Err("its checksum does not match");
        }
        let raw_length = cursor.u32()? as usize;
        if raw_length > RAW_BYTES_MAX {
            return Err("its length is beyond reason");
        }
        let raw = zstd::bulk::decompress(cursor.0, raw_length).map_err(|_| "it cannot be decompressed")?;
        let mut cursor = Cursor(&raw);
        let (n, m) = (cursor.u32()? as usize, cursor.u32()? as usize);
        if raw.len() != 8 + 16 * n + 12 * m {
            return Err("its columns have the wrong length");
        }
        let devices = (0..n).map(|_| cursor.u32()).collect::<Result<_, _>>()?;
        let mut times: Vec<i64> = (0..n).map(|_| cursor.i64()).collect::<Result<_, _>>()?;
        let mut before = 0i64;
        for ts in &mut times {
            *ts = before.wrapping_add(*ts);
            before = *ts;
        }
        let mut ends: Vec<u32> = (0..n).map(|_| cursor.u32()).collect::<Result<_, _>>()?;
        let mut end = 0u32;
        for samples in &mut ends {
            end = end.checked_add(*samples).ok_or("its sample counts are beyond reason")?;
            *samples = end;
        }
        if end as usize != m {
            return Err("its sample counts do not add up");
        }
        let signals = (0..m).map(|_| cursor.u32()).collect::<Result<_, _>>()?;
        let values = (0..m).map(|_| cursor.f64()).collect::<Result<_, _>>()?;
        Ok(Self { devices, times, ends, signals, values })
    }
}

#[cfg(test)]
mod tests {
    use harbinger_core::{DeviceId, DeviceKey, SignalId, TenantId, Timestamp};

    use super::*;

    fn group() -> Group {
        let (mut group, mut catalog) = (Group::default(), Catalog::default());
        for i in 0..50i64 {
            let device = DeviceId::parse(&format!("device-{}", i % 7)).unwrap();
            let values = (0..i % 4).map(|s| (SignalId::parse(&format!("signal-{s}")).unwrap(), i as f64 / 10.0));
            let reading = Reading {
                key: DeviceKey::new(TenantId::parse("acme").unwrap(), device),
                ts: Timestamp::from_millis(1_420_070_400_000 - i * 977),
                arrival: i % 9 == 0,
                values: values.collect(),
            };
            let has_samples = reading.arrival || !reading.values.is_empty();
            assert_eq!(group.push(&mut catalog, &reading), has_samples);
        }
        group
    }

    #[test]
    fn a_group_comes_back_as_it_was() {
        let group = group();
        assert_eq!(Group::decode(&group.encode().unwrap()), Ok(group));
    }

    #[test]
    fn no_changed_byte_is_accepted() {
        let body = group().encode().unwrap();
        for place in 0..body.len() {
            let mut damaged = body.clone();
            damaged[place] ^= 1;
            assert!(Group::decode(&damaged).is_err(), "byte {place}");
        }
    }
}
