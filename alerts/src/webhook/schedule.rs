//! When a delivery is attempted: ten times over three days, with jitter, and never sooner than the receiver asked for.

use harbinger_core::{Duration, Timestamp};

/// Waiting time before each attempt, counted from the one before it. The sum is 75 h 35 min: long enough for a receiver
/// that is down over a weekend. The growing steps follow the example schedule of the Standard Webhooks specification.
pub const DELAYS: [Duration; 10] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// A delay is stretched or shortened by up to this share, so that what failed together does not come back together.
pub const JITTER: f64 = 0.2;

/// The longest wait that a receiver may ask for by Retry-After: a day, as the longest step of ours.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The longest rest of an endpoint that is down before the next of its deliveries is tried: the most that its recovery
/// goes unnoticed.
pub const MAX_REST: Duration = Duration::from_secs(5 * 60);

/// When to try again after `attempts` (at least 1) have failed, the last of them at `now`; `None`: give up.
///
/// * `retry_after`: what the receiver asked for    * `unit`: a random number in 0..1
#[must_use]
pub fn next_attempt(attempts: u32, now: Timestamp, retry_after: Option<Duration>, unit: f64) -> Option<Timestamp> {
    let delay = DELAYS.get(usize::try_from(attempts).ok()?)?;
    let stretched = delay.millis() as f64 * (1.0 + JITTER * (2.0 * unit - 1.0));
    let asked = retry_after.unwrap_or(Duration::ZERO).min(MAX_RETRY_AFTER);
    Some(now + Duration::from_millis(stretched.round() as i64).max(asked))
}

/// Reads a Retry-After header: seconds or an HTTP date. Source: RFC 9110, section 10.2.3.
#[must_use]
pub fn parse_retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return Some(Duration::from_secs(i64::from(seconds)));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?;
    Some(Duration::from_millis(date.timestamp().as_millisecond() - now.millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn ten_attempts_over_three_days_then_it_is_given_up() {
        let (mut now, mut attempts) = (at(0), 1);
        while let Some(next) = next_attempt(attempts, now, None, 0.5) {
            (now, attempts) = (next, attempts + 1);
        }
        assert_eq!(attempts, 10);
        assert_eq!(now, at(5 + 5 * 60 + 30 * 60 + 75 * 3600));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        assert_eq!(next_attempt(4, at(0), None, 0.0), Some(at(7200 * 8 / 10)));
        assert_eq!(next_attempt(4, at(0), None, 1.0), Some(at(7200 * 12 / 10)));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_up_to_a_day_but_not_for_less() {
        let asked = |secs| next_attempt(2, at(0), Some(Duration::from_secs(secs)), 0.5);
        assert_eq!(asked(600), Some(at(600)));
        assert_eq!(asked(1), Some(at(300)));
        assert_eq!(asked(1_000_000), Some(at(86_400)));
        assert_eq!(next_attempt(10, at(0), Some(Duration::from_secs(1)), 0.5), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2015-10-21T07:00:00Z".parse().unwrap();
        assert_eq!(parse_retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(28 * 60)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 06:28:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("later", now), None);
    }
}
