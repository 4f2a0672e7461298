//! What a store is kept busy with until it is killed: known without having seen it, so that whoever looks at what the kill
//! left knows each reading that may be there, and what the process said of itself says which must.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};
use harbinger_core::{DeviceId, DeviceKey, Reading, SignalId, TenantId, Timestamp};

/// Devices whose readings are kept for ever.
pub const KEPT_DEVICES: usize = 5;
/// Devices whose older readings are forgotten.
pub const AGED_DEVICES: usize = 3;
/// Signals of each device.
pub const SIGNALS: usize = 2;
/// Callers that append at the same time.
pub const CALLERS: u64 = 4;
/// Readings of each device in a batch.
pub const BEATS_A_BATCH: u64 = 10;
/// Beats of a day: what retention forgets at a time.
pub const BEATS_A_DAY: u64 = 24 * 60;
/// Readings of a device that is made to be deleted.
pub const DOOMED_BEATS: u64 = 60;

/// 2026-01-01T00:00:00Z; one reading a minute.
const START_MS: i64 = 1_767_225_600_000;
const BEAT_MS: i64 = 60_000;

/// The tenant of a kind of device; retention is told tenant by tenant.
///
/// # Panics
/// Where `kind` is no id.
#[must_use]
pub fn tenant(kind: &str) -> TenantId {
    TenantId::parse(kind).expect("a kind of device is an id")
}

/// A device.
///
/// # Panics
/// As [`tenant`].
#[must_use]
pub fn key(kind: &str, device: usize) -> DeviceKey {
    DeviceKey::new(tenant(kind), DeviceId::parse(&format!("{kind}-{device}")).expect("letters and digits"))
}

/// Every device that batches are made of, in order.
#[must_use]
pub fn devices() -> Vec<DeviceKey> {
    let kept = (0..KEPT_DEVICES).map(|device| key("kept", device));
    kept.chain((0..AGED_DEVICES).map(|device| key("aged", device))).collect()
}

/// The beat of an event time; `None` where there was none then.
#[must_use]
pub fn beat_of(ts: Timestamp) -> Option<u64> {
    let since = u64::try_from(ts.millis() - START_MS).ok()?;
    (since % BEAT_MS as u64 == 0).then_some(since / BEAT_MS as u64)
}

/// Event time of a beat.
#[must_use]
pub fn time(beat: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + beat as i64 * BEAT_MS)
}

/// What a signal of a device shows at a beat. It uses all its bits, so that a rounded value is noticed.
#[must_use]
pub fn value(key: &DeviceKey, signal: usize, beat: u64) -> f64 {
    let seed = key.device.as_str().bytes().fold(beat, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    ((seed % (1 << 40) * SIGNALS as u64 + signal as u64) as f64 * 0.754_877_666_246_692_8).fract() * 100.0
}

/// The one reading that a device may have at a beat.
///
/// # Panics
/// Never: the ids are letters and digits.
#[must_use]
pub fn reading(key: &DeviceKey, beat: u64) -> Reading {
    let signal = |signal: usize| SignalId::parse(&format!("s{signal}")).expect("letters and digits");
    let values = (0..SIGNALS).map(|number| (signal(number), value(key, number, beat))).collect();
    Reading { key: key.clone(), ts: time(beat), arrival: false, values }
}

/// The beats of a batch; of each two batches the later beats come first, as from a device that was out of reach.
#[must_use]
pub fn beats(batch: u64) -> std::ops::Range<u64> {
    let place = batch ^ 1;
    place * BEATS_A_BATCH..(place + 1) * BEATS_A_BATCH
}

/// The readings of a batch: some beats of every device.
#[must_use]
pub fn batch(number: u64) -> Vec<Reading> {
    devices().iter().flat_map(|key| beats(number).map(|beat| reading(key, beat))).collect()
}

/// The readings of a device that is made to be deleted.
#[must_use]
pub fn doomed(device: usize) -> Vec<Reading> {
    let key = key("doomed", device);
    (0..DOOMED_BEATS).map(|beat| reading(&key, beat)).collect()
}

/// The folder that copies of a data file are made in.
#[must_use]
pub fn copies_of(file: &Path) -> PathBuf {
    file.with_extension("copies")
}

/// Where the copy of that number of a data file is made.
#[must_use]
pub fn copy_of(file: &Path, number: u64) -> PathBuf {
    copies_of(file).join(format!("{number}.db"))
}

/// What the busy process says of itself, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A batch was acknowledged.
    Durable(u64),
    /// All before a beat is about to be forgotten.
    Forgetting(u64),
    /// It was.
    Forgot(u64),
    /// All readings of a device that will be deleted were acknowledged.
    Made(u64),
    /// Its deletion begins.
    Deleting(u64),
    /// Its deletion was acknowledged.
    Deleted(u64),
    /// A copy of the data file, of that number, begins.
    Copying(u64),
    /// It is whole.
    Copied(u64),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, number) = match self {
            Self::Durable(number) => ("durable", number),
            Self::Forgetting(number) => ("forgetting", number),
            Self::Forgot(number) => ("forgot", number),
            Self::Made(number) => ("made", number),
            Self::Deleting(number) => ("deleting", number),
            Self::Deleted(number) => ("deleted", number),
            Self::Copying(number) => ("copying", number),
            Self::Copied(number) => ("copied", number),
        };
        write!(f, "{word} {number}")
    }
}

impl FromStr for Said {
    type Err = anyhow::Error;
    fn from_str(line: &str) -> anyhow::Result<Self> {
        let (word, number) = line.split_once(' ').with_context(|| format!("not a word and a number: {line:?}"))?;
        let number = number.parse()?;
        Ok(match word {
            "durable" => Self::Durable(number),
            "forgetting" => Self::Forgetting(number),
            "forgot" => Self::Forgot(number),
            "made" => Self::Made(number),
            "deleting" => Self::Deleting(number),
            "deleted" => Self::Deleted(number),
            "copying" => Self::Copying(number),
            "copied" => Self::Copied(number),
            _ => bail!("{word:?} is not known"),
        })
    }
}
