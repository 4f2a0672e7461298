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

    /// The summary of samples in order of time; a NaN is none. The same as merging them one by one, to rounding, in two passes
    /// without a division a sample.
    #[must_use]
    pub fn of_samples(times: &[Timestamp], values: &[f64]) -> Self {
        if !has_missing(values) {
            return Self::of_present(times, values);
        }
        let present = times.iter().zip(values).filter(|(_, value)| !value.is_nan());
        let (times, values): (Vec<Timestamp>, Vec<f64>) = present.unzip();
        Self::of_present(&times, &values)
    }

    fn of_present(times: &[Timestamp], values: &[f64]) -> Self {
        let (Some(&first_ts), Some(&last_ts)) = (times.first(), times.last()) else { return Self::EMPTY };
        let (Some(&first), Some(&last)) = (values.first(), values.last()) else { return Self::EMPTY };
        if values.len() == 1 {
            return Self::of(first_ts, first);
        }
        let n = values.len() as f64;
        // Both means from the first sample, so that neither a large counter nor a late year costs digits.
        let (mut min, mut max, mut sum) = (first, first, 0.0);
        for &value in values {
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            sum += value - first;
        }
        let mean = first + sum / n;
        if !mean.is_finite() {
            let samples = times.iter().zip(values).map(|(&ts, &value)| Self::of(ts, value));
            return samples.fold(Self::EMPTY, |all, sample| all.merge(&sample));
        }
        let millis = |ts: Timestamp| ts.millis() - first_ts.millis();
        let per_hour = 1.0 / MILLIS_PER_HOUR as f64;
        let hours_mean = times.iter().map(|&ts| millis(ts)).sum::<i64>() as f64 / n * per_hour;
        let (mut value_m2, mut hours_m2, mut co_moment) = (0.0, 0.0, 0.0);
        let (mut value_rest, mut hours_rest) = (0.0, 0.0);
        for (&ts, &value) in times.iter().zip(values) {
            let value = value - mean;
            let hours = millis(ts) as f64 * per_hour - hours_mean;
            value_m2 += value * value;
            hours_m2 += hours * hours;
            co_moment += value * hours;
            value_rest += value;
            hours_rest += hours;
        }
        // Squares of values beyond 1e154 are infinite: then nothing is left to be put right.
        let rest = if value_m2.is_finite() { value_rest * value_rest / n } else { 0.0 };
        // What the means lack by rounding (Chan, Golub, LeVeque 1983, *Algorithms for computing the sample variance*, eq. 1.7).
        Self {
            count: values.len() as u64,
            min,
            max,
            first,
            last,
            first_ts: first_ts.millis(),
            last_ts: last_ts.millis(),
            mean,
            value_m2: (value_m2 - rest).max(0.0),
            hours_mean,
            hours_m2: (hours_m2 - hours_rest * hours_rest / n).max(0.0),
            co_moment: co_moment - value_rest * hours_rest / n,
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

    /// Whether both can be of the same samples: counts, times, extremes, first and last are the same, and moments as close as
    /// rounding leaves them, whatever the order in which samples were merged.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let exact = |s: &Self| {
            let values = [s.min, s.max, s.first, s.last].map(f64::to_bits);
            (s.count, s.first_ts, s.last_ts, values)
        };
        let close = |a: f64, b: f64, scale: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * scale;
        let n = self.count as f64;
        let largest = self.min.abs().max(self.max.abs());
        let hours = (self.last_ts.wrapping_sub(self.first_ts)) as f64 / MILLIS_PER_HOUR as f64;
        exact(self) == exact(other)
            && close(self.mean, other.mean, largest)
            && close(self.value_m2.sqrt(), other.value_m2.sqrt(), largest * n.sqrt())
            && close(self.hours_mean, other.hours_mean, hours)
            && close(self.hours_m2.sqrt(), other.hours_m2.sqrt(), hours * n.sqrt())
            && close(self.co_moment, other.co_moment, largest * hours * n)
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

/// Whether a column has a NaN, which stands for no sample.
#[must_use]
pub fn has_missing(column: &[f64]) -> bool {
    // A block at a time without leaving it early, so that the compiler compares several values at once.
    column.chunks(64).any(|block| block.iter().fold(false, |found, value| found | value.is_nan()))
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

    /// Sums of squares of such values would have no digit of the spread left.
    #[test]
    fn the_spread_of_a_large_counter_keeps_its_digits() {
        let times: Vec<Timestamp> = (0..1000).map(at).collect();
        let values: Vec<f64> = (0..1000).map(|i| 1e15 + f64::from(i % 10)).collect();
        let s = Summary::of_samples(&times, &values);
        close(s.stddev().unwrap(), 8.25f64.sqrt());
        assert_eq!(Summary::of_samples(&times, &[7.25; 1000]).value_m2, 0.0);
    }

    #[test]
    fn what_is_not_finite_is_summarised_as_it_is_merged() {
        let values = [f64::INFINITY, 1.0, f64::NEG_INFINITY, f64::MAX, f64::MAX];
        for n in 1..=values.len() {
            let times: Vec<Timestamp> = (0..n as i64).map(at).collect();
            let merged = values[..n]
                .iter()
                .zip(&times)
                .fold(Summary::EMPTY, |all, (&value, &ts)| all.merge(&Summary::of(ts, value)));
            let whole = Summary::of_samples(&times, &values[..n]);
            assert_eq!((whole.min, whole.max, whole.count), (merged.min, merged.max, merged.count));
            assert_eq!(whole.mean.to_bits(), merged.mean.to_bits(), "{n}");
        }
    }

    #[test]
    fn a_spread_beyond_all_numbers_is_not_none() {
        let (times, values) = ([at(0), at(1), at(2)], [1e200, -1e200, 3e200]);
        assert_eq!(Summary::of_samples(&times, &values).stddev(), Some(f64::INFINITY));
    }

    #[test]
    fn one_sample_has_no_slope_and_none_has_no_mean() {
        assert_eq!(summary(&[(0, 5.0)]).slope_per_hour(), None);
        assert_eq!(Summary::EMPTY.mean(), None);
        assert_eq!(Summary::EMPTY.stddev(), None);
    }

    proptest! {
        /// Samples in one go are what they are one by one, and a NaN is none of them.
        #[test]
        fn samples_in_one_go_are_the_samples_merged(
            samples in proptest::collection::vec((1i64..100, -1e6f64..1e6, proptest::bool::weighted(0.2)), 0..60),
        ) {
            let (mut hour, mut times, mut values, mut present) = (0, Vec::new(), Vec::new(), Vec::new());
            for (step, value, is_missing) in samples {
                hour += step;
                times.push(at(hour));
                values.push(if is_missing { f64::NAN } else { value });
                present.extend((!is_missing).then_some((hour, value)));
            }
            let (whole, merged) = (Summary::of_samples(&times, &values), summary(&present));
            prop_assert!(whole.agrees_with(&merged), "{whole:?} is not {merged:?}");
            let other = Summary { mean: whole.mean + 1.0, ..whole };
            prop_assert!(!whole.agrees_with(&other) || whole.is_empty());
            prop_assert_eq!(
                (whole.count, whole.min, whole.max, whole.first_ts, whole.last_ts),
                (merged.count, merged.min, merged.max, merged.first_ts, merged.last_ts)
            );
            close(whole.mean, merged.mean);
            close(whole.value_m2, merged.value_m2);
            close(whole.hours_mean, merged.hours_mean);
            close(whole.hours_m2, merged.hours_m2);
            prop_assert!((whole.co_moment - merged.co_moment).abs() <= 1e-9 * (whole.value_m2 * whole.hours_m2).sqrt() + 1e-9);
        }

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
