//! A fleet that reports without end: six signals a device, one decimal as sensors round, one reading a device every ten
//! seconds. Also used by the benches of the whole (`tests/examples`), so that all measure the same points.

use harbinger_core::{DeviceId, DeviceKey, Reading, SignalId, TenantId, Timestamp, ids::InvalidId};

/// Signals of a device.
pub(crate) const SIGNALS: usize = 6;
/// Between two readings of a device.
pub(crate) const BEAT_MS: i64 = 10_000;
/// Time of beat 0: 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

/// What the values do from beat to beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Values {
    /// A walk in steps of at most three tenths, on the beat: what a warm room does, and a kind case for any codec.
    Walk,
    /// Noise with a deviation of 1.0 around the signal's level, up to 50 ms off the beat: an unkind case, since nothing in
    /// it can be foretold.
    Noise,
}

impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Walk => "walk",
            Self::Noise => "noise",
        })
    }
}

/// Devices and where they stand. Iterating gives their readings beat by beat, in order of device.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    keys: Vec<DeviceKey>,
    signals: Vec<SignalId>,
    values: Values,
    /// Where each walk is, in tenths.
    tenths: Vec<i32>,
    beat: i64,
    device: usize,
}

impl Fleet {
    /// Devices named after `name`, whose first reading is of beat `beat`.
    pub(crate) fn new(name: &str, devices: usize, values: Values, beat: i64) -> Result<Self, InvalidId> {
        let tenant = TenantId::parse("bench")?;
        let key = |i| Ok(DeviceKey::new(tenant.clone(), DeviceId::parse(&format!("{name}-{i:05}"))?));
        let keys = (0..devices).map(key).collect::<Result<_, _>>()?;
        let signals = (0..SIGNALS).map(|i| SignalId::parse(&format!("signal_{i}"))).collect::<Result<_, _>>()?;
        Ok(Self { keys, signals, values, tenths: vec![240; devices * SIGNALS], beat, device: 0 })
    }

    /// Its devices.
    pub(crate) fn keys(&self) -> &[DeviceKey] {
        &self.keys
    }

    /// The signals of each device.
    pub(crate) fn signals(&self) -> &[SignalId] {
        &self.signals
    }

    /// The time that a beat is due.
    pub(crate) fn time_of(beat: i64) -> Timestamp {
        Timestamp::from_millis(START_MS + beat * BEAT_MS)
    }

    /// The first beat behind a time.
    pub(crate) fn beat_after(ts: Timestamp) -> i64 {
        (ts.millis() - START_MS).div_euclid(BEAT_MS) + 1
    }

    /// What a noisy signal shows at a beat: known without all that went before.
    pub(crate) fn noise(device: usize, signal: usize, beat: i64) -> f64 {
        let series = device * SIGNALS + signal;
        let drawn = scramble(series as u64, beat as u64);
        // The sum of eight numbers out of 0..=12: nearly normal, with a deviation of ten tenths.
        let dice: u64 = (0..8).map(|die| (drawn >> (die * 8)) % 13).sum();
        f64::from(200 + (series % 97) as i32 + dice as i32 - 48) / 10.0
    }

    /// What a signal of the present device shows at the present beat.
    fn value(&mut self, signal: usize) -> f64 {
        let series = self.device * SIGNALS + signal;
        match self.values {
            Values::Walk => {
                let Some(tenths) = self.tenths.get_mut(series) else { return f64::NAN };
                *tenths += (scramble(series as u64, self.beat as u64) % 7) as i32 - 3;
                f64::from(*tenths) / 10.0
            }
            Values::Noise => Self::noise(self.device, signal, self.beat),
        }
    }

    fn jitter_ms(&self) -> i64 {
        match self.values {
            Values::Walk => 0,
            Values::Noise => (scramble(self.device as u64, !self.beat as u64) % 101) as i64 - 50,
        }
    }
}

impl Iterator for Fleet {
    type Item = Reading;

    fn next(&mut self) -> Option<Reading> {
        let key = self.keys.get(self.device)?.clone();
        let ts = Timestamp::from_millis(Self::time_of(self.beat).millis() + self.jitter_ms());
        let values: [f64; SIGNALS] = std::array::from_fn(|signal| self.value(signal));
        let values = self.signals.iter().cloned().zip(values).collect();
        self.device += 1;
        if self.device == self.keys.len() {
            (self.device, self.beat) = (0, self.beat + 1);
        }
        Some(Reading { key, ts, arrival: false, values })
    }
}

/// A number that looks drawn and depends on nothing but its place: splitmix64.
fn scramble(series: u64, beat: u64) -> u64 {
    let mut z = series.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ beat.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
