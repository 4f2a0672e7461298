//! Event time: an instant in milliseconds, RFC 3339 at every border, and lengths of time as users write them.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Serialize};

/// Milliseconds in an hour.
pub const MILLIS_PER_HOUR: i64 = 3_600_000;
/// Milliseconds in a day of 24 hours.
pub const MILLIS_PER_DAY: i64 = 24 * MILLIS_PER_HOUR;
/// A month of device time in hours: 365.25 days / 12, as service contracts and AFR figures count it.
pub const HOURS_PER_MONTH: f64 = 730.5;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// Not an RFC 3339 instant.
    #[error("{text:?} is not an RFC 3339 time such as 2026-01-31T10:00:00Z")]
    Timestamp {
        /// What was given.
        text: String,
    },
    /// Not a length of time.
    #[error("{text:?} is not a length of time such as 30s, 15m, 24h or 7d")]
    Duration {
        /// What was given.
        text: String,
    },
}

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant that RFC 3339 can write (year 0 to 9999 bound what we accept).
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// The latest instant that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// From milliseconds since 1970; held inside [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    #[must_use]
    #[inline]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Milliseconds since 1970.
    #[must_use]
    #[inline]
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Hours from `earlier` to this instant; negative if this one is the earlier.
    #[must_use]
    pub fn hours_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / MILLIS_PER_HOUR as f64
    }

    /// Days from `earlier` to this instant.
    #[must_use]
    pub fn days_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / MILLIS_PER_DAY as f64
    }

    /// The greatest multiple of `step` since 1970 that is not after this instant.
    #[must_use]
    pub fn floor_to(self, step: Duration) -> Self {
        let step = step.millis().max(1);
        Self(self.0.div_euclid(step) * step)
    }

    /// The least multiple of `step` since 1970 that is not before this instant.
    #[must_use]
    pub fn ceil_to(self, step: Duration) -> Self {
        let step = step.millis().max(1);
        Self(-((-self.0).div_euclid(step)) * step)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, length: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(length.0))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, length: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(length.0))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime::Timestamp { text: text.to_owned() };
        let instant: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        Ok(Self::from_millis(instant.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC; milliseconds only where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity("2026-01-31T10:00:00.000Z".len());
        let printed =
            jiff::Timestamp::from_millisecond(self.0).and_then(|instant| PRINTER.print_timestamp(&instant, &mut text));
        match printed {
            Ok(()) => serializer.serialize_str(&text),
            Err(_) => serializer.collect_str(self),
        }
    }
}

/// What `Display` prints with, without the detour through a formatter: answers hold times by the thousand.
const PRINTER: DateTimePrinter = DateTimePrinter::new();

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A length of time in whole milliseconds, never negative. Written `30s`, `15m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(i64);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From milliseconds; a negative length is held at zero.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(if millis < 0 { 0 } else { millis })
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// From hours.
    #[must_use]
    pub const fn from_hours(hours: i64) -> Self {
        Self::from_millis(hours.saturating_mul(MILLIS_PER_HOUR))
    }

    /// From days of 24 hours.
    #[must_use]
    pub const fn from_days(days: i64) -> Self {
        Self::from_hours(days.saturating_mul(24))
    }

    /// Milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Hours.
    #[must_use]
    pub fn hours(self) -> f64 {
        self.0 as f64 / MILLIS_PER_HOUR as f64
    }

    /// Days of 24 hours.
    #[must_use]
    pub fn days(self) -> f64 {
        self.0 as f64 / MILLIS_PER_DAY as f64
    }
}

impl FromStr for Duration {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime::Duration { text: text.to_owned() };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, unit) = text.split_at(split);
        let number: i64 = number.parse().map_err(|_| invalid())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => MILLIS_PER_HOUR,
            "d" => MILLIS_PER_DAY,
            _ => return Err(invalid()),
        };
        number.checked_mul(millis).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Duration {
    /// The largest unit that is whole: `24h` stays `24h` below two days, `7d` above.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            n if n % MILLIS_PER_DAY == 0 && n > MILLIS_PER_DAY => write!(f, "{}d", n / MILLIS_PER_DAY),
            n if n % MILLIS_PER_HOUR == 0 => write!(f, "{}h", n / MILLIS_PER_HOUR),
            n if n % 60_000 == 0 => write!(f, "{}m", n / 60_000),
            n if n % 1000 == 0 => write!(f, "{}s", n / 1000),
            n => write!(f, "{n}ms"),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A span of event time that holds its start and not its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeRange {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { from: Timestamp::MIN, to: Timestamp::MAX };

    /// Whether `ts` lies inside.
    #[must_use]
    pub fn contains(&self, ts: Timestamp) -> bool {
        self.from <= ts && ts < self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn rfc3339_is_read_with_any_offset_and_written_in_utc() {
        assert_eq!(time("2015-01-05T06:00:00Z").to_string(), "2015-01-05T06:00:00Z");
        assert_eq!(time("2015-01-05T14:00:00.250+08:00").to_string(), "2015-01-05T06:00:00.25Z");
        assert!("2015-01-05 06:00".parse::<Timestamp>().is_err());
    }

    #[test]
    fn grid_times_are_multiples_since_1970() {
        let step = Duration::from_hours(3);
        assert_eq!(time("2015-01-05T07:10:00Z").floor_to(step), time("2015-01-05T06:00:00Z"));
        assert_eq!(time("2015-01-05T07:10:00Z").ceil_to(step), time("2015-01-05T09:00:00Z"));
        assert_eq!(time("2015-01-05T06:00:00Z").ceil_to(step), time("2015-01-05T06:00:00Z"));
        assert_eq!(time("1969-12-31T23:00:00Z").floor_to(step), time("1969-12-31T21:00:00Z"));
    }

    #[test]
    fn lengths_are_read_and_written_as_users_write_them() {
        for text in ["250ms", "30s", "15m", "24h", "7d", "0s"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("48h".parse::<Duration>().unwrap().to_string(), "2d");
        for text in ["", "7", "d", "-3h", "3 h", "9999999999999999999d"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }
}
