//! `Summary`: the one aggregate of a signal's samples, merged from readings to buckets to windows.
//!
//! Dashboards, features, baselines and training all read summaries, so that serving and training cannot disagree.
//! It is a monoid: [`Summary::EMPTY`] is neutral and [`Summary::merge`] is associative up to rounding. Moments are kept
//! centred (Chan, Golub, LeVeque 1979, *Updating formulae and a pairwise algorithm for computing sample variances*,
//! eq. 1.5), because sums of squares of a counter near 10^12, or of time in milliseconds since 1970, lose every digit
//! of the spread.

use serde::{Deserialize, Serialize};

use crate::time::{MILLIS_PER_HOUR, Timestamp};

/// Count, mean, spread, extremes, first, last and trend of the samples of one signal in one span of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub count: u64,
    /// Smallest value; +infinity where there is none.
    pub min: f64,
    /// Largest value; -infinity where there is none.
    pub max: f64,
    /// Value at `first_ts`.
    pub first: f64,
    /// Value at `last_ts`.
    pub last: f64,
    /// Event time of the earliest sample in milliseconds.
    pub first_ts: i64,
    /// Event time of the latest sample in milliseconds.
    pub last_ts: i64,
    /// Mean of the values.
    pub mean: f64,
    /// Sum of (value - mean)^2.
    pub value_m2: f64,
    /// Mean of event time, in hours after `first_ts`: small, so that it keeps every digit of the spread.
    pub hours_mean: f64,
    /// Sum of (time - mean time)^2, hours^2.
    pub hours_m2: f64,
    /// Sum of (value - mean)(time - mean time), value x hours.
    pub co_moment: f64,
}

impl Summary {
    /// No samples.
    pub const EMPTY: Self = Self {
        count: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        first: f64::NAN,
        last: f64::NAN,
        first_ts: i64::MAX,
        last_ts: i64::MIN,
        mean: 0.0,
        value_m2: 0.0,
        hours_mean: 0.0,
        hours_m2: 0.0,
        co_moment: 0.0,
    };

    /// The summary of one sample.
    #[must_use]
    pub fn of(ts: Timestamp, value: f64) -> Self {
        let millis = ts.millis();
        Self {
            count: 1,
            min: value,
            max: value,
            first: value,
            last: value,
            first_ts: millis,
            last_ts: millis,
            mean: value,
            value_m2: 0.0,
            hours_mean: 0.0,
            hours_m2: 0.0,
            co_moment: 0.0,
        }
    }

    /// The summary of both sets of samples. The sets must not share a sample.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        if other.count == 0 {
            return *self;
        }
        if self.count == 0 {
            return *other;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let total = n + m;
        let value_delta = other.mean - self.mean;
        // Both means from the first sample of `self`.
        let later = other.first_ts.wrapping_sub(self.first_ts) as f64 / MILLIS_PER_HOUR as f64;
        let hours_delta = later + other.hours_mean - self.hours_mean;
        let weight = n * m / total;
        let (first, first_ts) =
            if other.first_ts < self.first_ts { (other.first, other.first_ts) } else { (self.first, self.first_ts) };
        let (last, last_ts) =
            if other.last_ts > self.last_ts { (other.last, other.last_ts) } else { (self.last, self.last_ts) };
        Self {
            count: self.count + other.count,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            first,
            last,
            first_ts,
            last_ts,
            mean: self.mean + value_delta * m / total,
            value_m2: self.value_m2 + other.value_m2 + value_delta * value_delta * weight,
            hours_mean: self.hours_mean + hours_delta * m / total - later.min(0.0),
            hours_m2: self.hours_m2 + other.hours_m2 + hours_delta * hours_delta * weight,
            co_moment: self.co_moment + other.co_moment + value_delta * hours_delta * weight,
        }
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sum of the values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.mean * self.count as f64
    }

    /// Mean of the values; `None` without samples.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Population standard deviation (divisor n); `None` without samples.
    #[must_use]
    pub fn stddev(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.value_m2 / self.count as f64).max(0.0).sqrt())
    }

    /// Least-squares slope in value per hour; `None` where the samples span no time.
    #[must_use]
    pub fn slope_per_hour(&self) -> Option<f64> {
        (self.count > 1 && self.hours_m2 > 0.0).then(|| self.co_moment / self.hours_m2)
    }
}

impl Default for Summary {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_millis(1_420_070_400_000 + hour * MILLIS_PER_HOUR)
    }

    fn summary(samples: &[(i64, f64)]) -> Summary {
        samples.iter().fold(Summary::EMPTY, |all, &(hour, v)| all.merge(&Summary::of(at(hour), v)))
    }

    #[track_caller]
    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs())), "{a} is not {b}");
    }

    /// By hand: values 1, 3, 8 at hours 0, 1, 3. Mean 4, squares 9 + 1 + 16; mean hour 4/3,
    /// slope = (-3)(-4/3) + (-1)(-1/3) + 4(5/3) over 16/9 + 1/9 + 25/9 = 11 / (42/9).
    #[test]
    fn three_samples_by_hand() {
        let s = summary(&[(0, 1.0), (1, 3.0), (3, 8.0)]);
        assert_eq!((s.count, s.min, s.max, s.first, s.last), (3, 1.0, 8.0, 1.0, 8.0));
        close(s.sum(), 12.0);
        close(s.stddev().unwrap(), (26.0f64 / 3.0).sqrt());
        close(s.slope_per_hour().unwrap(), 11.0 / (42.0 / 9.0));
    }

    #[test]
    fn one_sample_has_no_slope_and_none_has_no_mean() {
        assert_eq!(summary(&[(0, 5.0)]).slope_per_hour(), None);
        assert_eq!(Summary::EMPTY.mean(), None);
        assert_eq!(Summary::EMPTY.stddev(), None);
    }

    proptest! {
        /// Splitting the samples anywhere, and merging the parts in either nesting, gives the same summary.
        #[test]
        fn any_grouping_gives_the_same(
            values in proptest::collection::vec(-1e6f64..1e6, 3..60), a in 0usize..60, b in 0usize..60,
        ) {
            let samples: Vec<(i64, f64)> = values.iter().enumerate().map(|(i, &v)| (i as i64, v)).collect();
            let (i, j) = (a.min(b) % samples.len(), a.max(b) % samples.len());
            let (i, j) = (i.min(j), i.max(j));
            let (x, y, z) = (summary(&samples[..i]), summary(&samples[i..j]), summary(&samples[j..]));
            let whole = summary(&samples);
            for merged in [x.merge(&y).merge(&z), x.merge(&y.merge(&z)), z.merge(&x).merge(&y)] {
                prop_assert_eq!(merged.count, whole.count);
                prop_assert_eq!(merged.min, whole.min);
                prop_assert_eq!(merged.max, whole.max);
                prop_assert_eq!(merged.first, whole.first);
                prop_assert_eq!(merged.last, whole.last);
                close(merged.mean, whole.mean);
                close(merged.stddev().unwrap(), whole.stddev().unwrap());
                close(merged.slope_per_hour().unwrap(), whole.slope_per_hour().unwrap());
            }
        }
    }
}
