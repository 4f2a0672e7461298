//! How fast event time goes by.

use std::{str::FromStr, time::Duration as WallDuration};

use harbinger_core::{Duration, Timestamp};
use tokio::time::{Instant, sleep_until};

/// The longest slice: devices report hourly or slower in most fleets, and analytics looks at hours.
const SLICE_MAX: Duration = Duration::from_hours(1);

/// Event time against wall time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// As fast as acknowledgements come.
    Max,
    /// So many times faster than it happened.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.parse().ok().filter(|times: &f64| times.is_finite() && *times > 0.0);
        times.map(Self::Times).ok_or_else(|| "it must be a number above zero, or max".to_owned())
    }
}

impl Speed {
    /// The event time that is sent at once: what passes in a second of wall time, and never over an hour.
    pub(crate) fn slice_length(self) -> Duration {
        match self {
            Self::Max => SLICE_MAX,
            Self::Times(times) => {
                Duration::from_millis((times * 1000.0) as i64).clamp(Duration::from_millis(1), SLICE_MAX)
            }
        }
    }

    /// The wall time that a length of event time takes.
    fn wall(self, length: Duration) -> WallDuration {
        match self {
            Self::Max => WallDuration::ZERO,
            Self::Times(times) => {
                WallDuration::try_from_secs_f64(length.millis() as f64 / 1000.0 / times).unwrap_or(WallDuration::MAX)
            }
        }
    }
}

/// Holds slices back until they are due. The first in which a device speaks is due at once, and the others count from it.
pub(crate) struct Pace {
    speed: Speed,
    began: Option<(Timestamp, Instant)>,
}

impl Pace {
    /// A pace that begins with the first slice that is waited for.
    pub(crate) fn new(speed: Speed) -> Self {
        Self { speed, began: None }
    }

    /// Waits until a slice that ends at `last` is due.
    pub(crate) async fn wait_for(&mut self, last: Timestamp, devices_speak: bool) {
        let Some((first, began)) = self.began else {
            if devices_speak {
                self.began = Some((last, Instant::now()));
            }
            return;
        };
        let passed = Duration::from_millis(last.millis() - first.millis());
        // Beyond what an instant can hold, a year does as well: it is waited for again.
        let wall = self.speed.wall(passed).min(WallDuration::from_secs(365 * 86_400));
        if wall > WallDuration::ZERO {
            sleep_until(began + wall).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_and_slices_follow() {
        assert_eq!("max".parse::<Speed>(), Ok(Speed::Max));
        assert_eq!("3600".parse::<Speed>(), Ok(Speed::Times(3600.0)));
        for text in ["", "0", "-1", "NaN", "inf", "fast"] {
            assert!(text.parse::<Speed>().is_err(), "{text:?}");
        }
        let length = |text: &str| text.parse::<Speed>().unwrap().slice_length();
        assert_eq!(length("max"), Duration::from_hours(1));
        assert_eq!(length("1e9"), Duration::from_hours(1));
        assert_eq!(length("60"), Duration::from_secs(60));
        assert_eq!(length("0.0001"), Duration::from_millis(1));
    }

    #[test]
    fn an_hour_at_3600_takes_a_second() {
        let hour = Duration::from_hours(1);
        assert_eq!(Speed::Times(3600.0).wall(hour), WallDuration::from_secs(1));
        assert_eq!(Speed::Max.wall(hour), WallDuration::ZERO);
    }

    #[tokio::test]
    async fn what_is_older_than_the_first_word_is_not_waited_for() {
        let at = |hours: i64| Timestamp::from_millis(0) + Duration::from_hours(hours);
        let mut pace = Pace::new(Speed::Times(1e-3));
        pace.wait_for(at(0), false).await;
        pace.wait_for(at(9_000), true).await;
        assert_eq!(pace.began.map(|(first, _)| first), Some(at(9_000)));
        let mut fast = Pace::new(Speed::Max);
        fast.wait_for(at(0), true).await;
        fast.wait_for(at(1_000_000), true).await;
    }
}
