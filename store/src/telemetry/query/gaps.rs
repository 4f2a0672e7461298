//! Where data is missing: pauses between readings, and buckets without samples.

use harbinger_core::{Duration, Timestamp};

use super::Bucket;

/// A pause is a gap where it is longer than so many of the device's usual intervals.
pub const GAP_INTERVALS: i64 = 3;

/// Readings that the usual interval is taken from: the first ones of the range, so that every page sees the same.
pub(super) const READINGS: usize = 1_001;

/// The longest pause that is not a gap: [`GAP_INTERVALS`] times the median interval between readings at `times`, which
/// rise; `None` where there are fewer than two.
#[must_use]
pub fn usual_gap(times: &[Timestamp]) -> Option<Duration> {
    let mut intervals: Vec<i64> =
        times.iter().zip(times.iter().skip(1)).map(|(a, b)| b.millis() - a.millis()).collect();
    let middle = intervals.len() / 2;
    intervals.sort_unstable();
    intervals.get(middle).map(|median| Duration::from_millis(median * GAP_INTERVALS))
}

/// How long there was nothing before `ts`.
pub(super) fn between(previous: Option<Timestamp>, ts: Timestamp) -> Option<Duration> {
    previous.map(|previous| Duration::from_millis(ts.millis() - previous.millis()))
}

/// `found`, and whatever of `empty` has no counterpart in it; both in order of time and signal.
pub(super) fn laid_over(found: Vec<Bucket>, empty: impl Iterator<Item = Bucket>) -> impl Iterator<Item = Bucket> {
    let mut found = found.into_iter().peekable();
    let mut empty = empty.peekable();
    fn place(bucket: &Bucket) -> (Timestamp, &harbinger_core::SignalId) {
        (bucket.span.from, &bucket.signal)
    }
    std::iter::from_fn(move || {
        let (Some(present), Some(absent)) = (found.peek(), empty.peek()) else {
            return found.next().or_else(|| empty.next());
        };
        match place(present).cmp(&place(absent)) {
            std::cmp::Ordering::Less => found.next(),
            std::cmp::Ordering::Equal => {
                empty.next();
                found.next()
            }
            std::cmp::Ordering::Greater => empty.next(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_gap_is_three_times_the_median_interval() {
        let at = |minutes: &[i64]| -> Vec<Timestamp> {
            minutes.iter().map(|minute| Timestamp::from_millis(minute * 60_000)).collect()
        };
        // Intervals 10, 10, 10, 90, 10.
        assert_eq!(usual_gap(&at(&[0, 10, 20, 30, 120, 130])), Some(Duration::from_millis(30 * 60_000)));
        assert_eq!(usual_gap(&at(&[7])), None);
        assert_eq!(usual_gap(&[]), None);
    }
}
