//! `Moments`: what `avg`, `sum`, `min`, `max`, `count`, `stddev` and their `_over_time` forms are made of.
//!
//! A monoid, so that a sliding window joins the moments of its halves and an aggregation those of its series, and nothing
//! is ever subtracted. Sums carry their rounding error with them (Neumaier 1974), as Prometheus' do; the spread is kept
//! centred (Chan, Golub, LeVeque 1979, eq. 1.5). `core::Summary` is not used here: its sum is mean times count, which
//! shows whole numbers with a fraction.

/// Count, sum, spread and extremes of some values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    count: u64,
    sum: f64,
    sum_error: f64,
    /// Sum of (value - mean)^2.
    centred: f64,
    min: f64,
    max: f64,
}

/// Which figure is asked of moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// Mean.
    Average,
    /// Sum.
    Sum,
    /// Smallest value that is a number.
    Minimum,
    /// Largest value that is a number.
    Maximum,
    /// How many.
    Count,
    /// Population standard deviation.
    Deviation,
    /// Population variance.
    Variance,
    /// 1 where there is anything.
    Presence,
}

impl Moments {
    /// Of nothing.
    pub(super) const EMPTY: Self =
        Self { count: 0, sum: 0.0, sum_error: 0.0, centred: 0.0, min: f64::NAN, max: f64::NAN };

    /// Of one value.
    pub(super) fn of(value: f64) -> Self {
        Self { count: 1, sum: value, sum_error: 0.0, centred: 0.0, min: value, max: value }
    }

    /// Of both together.
    pub(super) fn merge(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let (sum, lost) = exact_sum(self.sum, other.sum);
        let (n, m) = (self.count as f64, other.count as f64);
        let apart = other.mean() - self.mean();
        Self {
            count: self.count + other.count,
            sum,
            sum_error: self.sum_error + other.sum_error + lost,
            centred: self.centred + other.centred + apart * apart * (n * m / (n + m)),
            // These pass over what is not a number while there is a number.
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn total(self) -> f64 {
        // Where the sum is infinite its error is not a number.
        if self.sum.is_finite() { self.sum + self.sum_error } else { self.sum }
    }

    fn mean(self) -> f64 {
        self.total() / self.count as f64
    }

    /// A figure; none of nothing.
    pub(super) fn figure(self, figure: Figure) -> Option<f64> {
        let of_some = match figure {
            Figure::Average => self.mean(),
            Figure::Sum => self.total(),
            Figure::Minimum => self.min,
            Figure::Maximum => self.max,
            Figure::Count => self.count as f64,
            Figure::Deviation => (self.centred / self.count as f64).sqrt(),
            Figure::Variance => self.centred / self.count as f64,
            Figure::Presence => 1.0,
        };
        (self.count > 0).then_some(of_some)
    }
}

/// The rounded sum and what rounding took from it.
fn exact_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let lost = if a.abs() >= b.abs() { (a - sum) + b } else { (b - sum) + a };
    (sum, lost)
}

/// The quantile of sorted values as Prometheus interpolates it; none of no values.
pub(super) fn quantile(q: f64, sorted: &[f64]) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    if q.is_nan() {
        return Some(f64::NAN);
    }
    if !(0.0..=1.0).contains(&q) {
        return Some(if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let rank = q * last as f64;
    let below = rank.floor();
    let weight = rank - below;
    let (lower, upper) = (sorted.get(below as usize)?, sorted.get((below as usize + 1).min(last))?);
    Some(lower * (1.0 - weight) + upper * weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Moments {
        values.iter().fold(Moments::EMPTY, |all, &value| all.merge(Moments::of(value)))
    }

    #[track_caller]
    fn check(values: &[f64], figure: Figure, expected: f64) {
        let found = of(values).figure(figure).unwrap();
        assert!(found == expected || found.is_nan() && expected.is_nan(), "{figure:?} of {values:?}: {found}");
    }

    #[test]
    fn figures_of_literals() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        check(&values, Figure::Average, 5.0);
        check(&values, Figure::Sum, 40.0);
        check(&values, Figure::Minimum, 2.0);
        check(&values, Figure::Maximum, 9.0);
        check(&values, Figure::Count, 8.0);
        check(&values, Figure::Deviation, 2.0);
        check(&values, Figure::Variance, 4.0);
        check(&values, Figure::Presence, 1.0);
        assert_eq!(Moments::EMPTY.figure(Figure::Sum), None);
    }

    #[test]
    fn a_sum_keeps_what_rounding_takes() {
        check(&[1e100, 1.0, -1e100], Figure::Sum, 1.0);
        check(&[0.1; 10], Figure::Sum, 1.0);
        check(&[1e12 + 0.25, 1e12 + 0.75], Figure::Deviation, 0.25);
    }

    #[test]
    fn what_is_no_number_or_no_end_passes_as_in_prometheus() {
        check(&[f64::NAN, 1.0, 3.0], Figure::Minimum, 1.0);
        check(&[3.0, f64::NAN, 1.0], Figure::Maximum, 3.0);
        check(&[f64::NAN], Figure::Maximum, f64::NAN);
        check(&[f64::NAN, 1.0], Figure::Sum, f64::NAN);
        check(&[f64::INFINITY, 1.0], Figure::Sum, f64::INFINITY);
        check(&[1.0, f64::NEG_INFINITY], Figure::Average, f64::NEG_INFINITY);
    }

    #[test]
    fn quantiles_interpolate_and_run_off_both_ends() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (q, expected) in [(0.0, 1.0), (0.5, 3.0), (0.75, 5.0), (1.0, 8.0)] {
            assert_eq!(quantile(q, &sorted), Some(expected), "{q}");
        }
        assert_eq!(quantile(-0.1, &sorted), Some(f64::NEG_INFINITY));
        assert_eq!(quantile(1.1, &sorted), Some(f64::INFINITY));
        assert!(quantile(f64::NAN, &sorted).unwrap().is_nan());
        assert_eq!(quantile(0.5, &[]), None);
    }
}
