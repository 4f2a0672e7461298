//! What a simulated fleet is made of, and why one cannot be made.

use harbinger_core::{Duration, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::network::FORWARD_DEPOTS;

/// Why a fleet cannot be simulated, or be told what was done to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An option is outside its range.
    #[error("cannot simulate with {option} = {value}: {allowed}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A device or slot that the fleet does not have.
    #[error("the simulated fleet has no component {component:?} in a device {device:?}")]
    Unknown {
        /// The device that was named.
        device: String,
        /// The component that was named.
        component: String,
    },
}

/// Size, times and wear of a simulated fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Who owns the fleet.
    pub tenant: TenantId,
    /// Number of servers (half of each of two hardware models).
    pub servers: u32,
    /// Number of refrigerators.
    pub refrigerators: u32,
    /// Number of air conditioners.
    pub air_conditioners: u32,
    /// Number of forward depots beside the hub, 1..=6.
    pub forward_depots: u32,
    /// Event time at which the simulation begins; the first step ends one `cadence` later.
    pub start: Timestamp,
    /// Event time between two readings of a device, and the length of a step: 1 s to 1 d.
    pub cadence: Duration,
    /// Component lives are divided by this, > 0. At 1 a drive lives about four years; at 20, ten weeks.
    pub wear_acceleration: f64,
    /// The days a piece degrades before it fails are multiplied by this, > 0.
    pub warning_scale: f64,
    /// Share of pieces that fail without any sign, 0..=1. A fifth: between a quarter and a half of failed drives show no
    /// SMART sign in the published field studies, and fans and compressors show more than drives.
    pub silent_failure_share: f64,
    /// Share of readings that never arrive, 0..=1.
    pub lost_reading_share: f64,
    /// Event time from a piece being at hand to the device working again.
    pub repair_time: Duration,
}

impl Default for Options {
    /// A fleet that a demonstration can watch: 120 devices at a reading each 15 minutes, lives shortened twelvefold, so that
    /// about two components fail each day.
    fn default() -> Self {
        Self {
            tenant: TenantId::parse("demo").expect("the name holds no reserved character"),
            servers: 60,
            refrigerators: 30,
            air_conditioners: 30,
            forward_depots: 5,
            start: Timestamp::from_millis(1_767_225_600_000), // 2026-01-01T00:00:00Z
            cadence: Duration::from_secs(15 * 60),
            wear_acceleration: 12.0,
            warning_scale: 1.0,
            silent_failure_share: 0.2,
            lost_reading_share: 0.002,
            repair_time: Duration::from_hours(4),
        }
    }
}

impl Options {
    /// Number of devices.
    #[must_use]
    pub fn devices(&self) -> u32 {
        self.servers.saturating_add(self.refrigerators).saturating_add(self.air_conditioners)
    }

    /// Whether a fleet can be made of these.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first option that is out of its range.
    pub fn check(&self) -> Result<(), Error> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let most_depots = FORWARD_DEPOTS.len() as u32;
        let wrong = |option, value: String, allowed| Err(Error::Option { option, value, allowed });
        if self.devices() == 0 {
            return wrong("devices", "0".to_owned(), "at least one device");
        }
        if !(1..=most_depots).contains(&self.forward_depots) {
            return wrong("forward_depots", self.forward_depots.to_string(), "1 to 6");
        }
        if self.cadence < Duration::from_secs(1) || self.cadence > Duration::from_days(1) {
            return wrong("cadence", self.cadence.to_string(), "1s to 24h");
        }
        if !positive(self.wear_acceleration) {
            return wrong("wear_acceleration", self.wear_acceleration.to_string(), "a number above 0");
        }
        if !positive(self.warning_scale) {
            return wrong("warning_scale", self.warning_scale.to_string(), "a number above 0");
        }
        if !share(self.silent_failure_share) {
            return wrong("silent_failure_share", self.silent_failure_share.to_string(), "0 to 1");
        }
        if !share(self.lost_reading_share) {
            return wrong("lost_reading_share", self.lost_reading_share.to_string(), "0 to 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_each_range_is_checked() {
        assert_eq!(Options::default().check(), Ok(()));
        let broken = [
            Options { servers: 0, refrigerators: 0, air_conditioners: 0, ..Options::default() },
            Options { forward_depots: 7, ..Options::default() },
            Options { cadence: Duration::ZERO, ..Options::default() },
            Options { wear_acceleration: 0.0, ..Options::default() },
            Options { warning_scale: f64::NAN, ..Options::default() },
            Options { silent_failure_share: 1.5, ..Options::default() },
            Options { lost_reading_share: -0.1, ..Options::default() },
        ];
        for options in broken {
            assert!(matches!(options.check(), Err(Error::Option { .. })), "{options:?}");
        }
    }
}
