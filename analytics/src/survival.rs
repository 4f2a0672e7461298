//! The survival curve: from now on, how long a component slot goes without a replacement.
//!
//! It is the one type between failure models and plans: calibrated probabilities at a few horizons, or an age-conditional
//! lifetime prior, become a curve; the plan asks it for windows, the API for remaining life. Kept as cumulative hazard
//! `-ln S` on a grid, because it is linear between grid points and small probabilities lose no digits.
//!
//! Source: maths of pre-positioning, section 2.1.

use harbinger_core::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// Hours in a day: the curve counts days, remaining life is told in hours.
const HOURS_PER_DAY: f64 = 24.0;

/// Cumulative hazard is held at this (S = 2e-22, beyond the precision of 1 - S): a certain failure stays finite.
const CERTAIN: f64 = 50.0;

/// How long something takes that happens at one moment: about a second.
const MOMENT_DAYS: f64 = 1e-5;

/// Why something is no survival curve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Horizons and values differ in number, or there are none.
    #[error("failed to build a survival curve from {grid} grid points and {values} values")]
    Shape {
        /// Grid points given.
        grid: usize,
        /// Values given.
        values: usize,
    },
    /// A grid point that is not a finite number of days above zero and above the one before it.
    #[error("survival grid must rise from above zero, but point {position} is {days} days")]
    Grid {
        /// Its position.
        position: usize,
        /// Its days.
        days: f64,
    },
    /// A value that is no probability.
    #[error("survival curve got {value} at grid point {position}, not a probability in 0..=1")]
    NotAProbability {
        /// Its position.
        position: usize,
        /// What was given.
        value: f64,
    },
    /// A survival value above the one before it.
    #[error("survival rises at grid point {position}")]
    Rising {
        /// Its position.
        position: usize,
    },
    /// A rate that is negative or not finite.
    #[error("failure rate {rate_per_day} per day is not a finite number >= 0")]
    Rate {
        /// What was given.
        rate_per_day: f64,
    },
}

/// Remaining useful life in hours: restricted mean, and the times by which failure has happened with probability 0.05,
/// 0.5 and 0.95; all held at the cap, where the label stops counting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RemainingLife {
    /// Restricted mean life.
    pub mean: f64,
    /// Lower end of the 90 % interval.
    pub p05: f64,
    /// Median.
    pub p50: f64,
    /// Upper end of the 90 % interval.
    pub p95: f64,
}

/// S(u) = P(no replacement of the slot within `u` days from now): S(0) = 1, never rising.
///
/// Between grid points `ln S` is linear (constant hazard), beyond the last one the last interval's hazard goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Points", into = "Points")]
pub struct SurvivalCurve {
    /// Grid in days; the first is 0.
    days: Vec<f64>,
    /// `-ln S` at each grid point; the first is 0, never falling, at most [`CERTAIN`].
    hazard: Vec<f64>,
}

/// A curve as written: days and cumulative hazard.
#[derive(Serialize, Deserialize)]
struct Points {
    days: Vec<f64>,
    cumulative_hazard: Vec<f64>,
}

impl From<SurvivalCurve> for Points {
    fn from(curve: SurvivalCurve) -> Self {
        Self { days: curve.days, cumulative_hazard: curve.hazard }
    }
}

impl TryFrom<Points> for SurvivalCurve {
    type Error = Error;
    fn try_from(points: Points) -> Result<Self, Error> {
        let Points { days, cumulative_hazard: hazard } = points;
        if days.len() != hazard.len() || days.len() < 2 || days.first() != Some(&0.0) || hazard.first() != Some(&0.0) {
            return Err(Error::Shape { grid: days.len(), values: hazard.len() });
        }
        check_grid(&days[1..])?;
        for (position, pair) in hazard.windows(2).enumerate() {
            if !(pair[0] <= pair[1] && pair[1] <= CERTAIN) {
                return Err(Error::Rising { position: position + 1 });
            }
        }
        Ok(Self { days, hazard })
    }
}

fn check_grid(days: &[f64]) -> Result<(), Error> {
    let mut before = 0.0;
    for (position, &days) in days.iter().enumerate() {
        if !(days.is_finite() && days > before) {
            return Err(Error::Grid { position, days });
        }
        before = days;
    }
    Ok(())
}

fn check_probabilities(values: &[f64]) -> Result<(), Error> {
    match values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(position) => Err(Error::NotAProbability { position, value: values[position] }),
        None => Ok(()),
    }
}

impl SurvivalCurve {
    /// From calibrated P(failure within horizon), one a horizon, in any order of horizons.
    ///
    /// A running maximum makes them coherent: a longer horizon is never less likely to see the failure.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Grid`] for a horizon of no length or given twice, [`Error::NotAProbability`] for a value
    /// outside 0..=1 or NaN.
    pub fn from_probabilities(horizons: &[Duration], p: &[f64]) -> Result<Self, Error> {
        if horizons.len() != p.len() || horizons.is_empty() {
            return Err(Error::Shape { grid: horizons.len(), values: p.len() });
        }
        check_probabilities(p)?;
        let mut points: Vec<(Duration, f64)> = horizons.iter().copied().zip(p.iter().copied()).collect();
        points.sort_by_key(|(horizon, _)| *horizon);
        let days: Vec<f64> = points.iter().map(|(horizon, _)| horizon.days()).collect();
        check_grid(&days)?;
        let hazard = points.iter().scan(0.0_f64, |top, (_, p)| {
            *top = top.max(-(-p).ln_1p());
            Some(*top)
        });
        Ok(Self::from_parts(&days, hazard))
    }

    /// From survival values at `days` (> 0, rising); S(0) = 1 is understood.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Grid`], [`Error::NotAProbability`], and [`Error::Rising`] where survival rises.
    pub fn from_survival(days: &[f64], survival: &[f64]) -> Result<Self, Error> {
        if days.len() != survival.len() || days.is_empty() {
            return Err(Error::Shape { grid: days.len(), values: survival.len() });
        }
        check_grid(days)?;
        check_probabilities(survival)?;
        if let Some(position) = survival.windows(2).position(|pair| pair[1] > pair[0]) {
            return Err(Error::Rising { position: position + 1 });
        }
        Ok(Self::from_parts(days, survival.iter().map(|s| -s.ln())))
    }

    /// Certain, as a planned replacement is: S is 1 before `days`, 0 from then on, and nothing comes after. What is due is due
    /// now.
    #[must_use]
    pub fn certain_at(days: f64) -> Self {
        let at = days.max(2.0 * MOMENT_DAYS);
        Self::from_parts(&[at - MOMENT_DAYS, at, at + 1.0], [0.0, CERTAIN, CERTAIN].into_iter())
    }

    /// Constant hazard: `S(u) = exp(-rate u)`.
    ///
    /// # Errors
    /// [`Error::Rate`] where the rate is negative or not finite.
    pub fn exponential(rate_per_day: f64) -> Result<Self, Error> {
        if !(rate_per_day.is_finite() && rate_per_day >= 0.0) {
            return Err(Error::Rate { rate_per_day });
        }
        // One interval is enough, as its hazard goes on for ever; short where the rate is wild, so that the cap on the
        // cumulative hazard does not bend it.
        let end = 1.0_f64.min(1.0 / rate_per_day.max(f64::MIN_POSITIVE));
        Ok(Self::from_parts(&[end], std::iter::once(rate_per_day * end)))
    }

    /// From a non-decreasing cumulative hazard function of days, read at `days` (> 0, rising).
    ///
    /// # Errors
    /// [`Error::Grid`], and [`Error::Rising`] where the function falls or is not a number.
    pub fn from_cumulative_hazard(days: &[f64], hazard: impl Fn(f64) -> f64) -> Result<Self, Error> {
        if days.is_empty() {
            return Err(Error::Shape { grid: 0, values: 0 });
        }
        check_grid(days)?;
        let values: Vec<f64> = days.iter().map(|&u| hazard(u)).collect();
        let mut before = 0.0;
        for (position, &value) in values.iter().enumerate() {
            if value.is_nan() || value < before {
                return Err(Error::Rising { position });
            }
            before = value;
        }
        Ok(Self::from_parts(days, values.into_iter()))
    }

    fn from_parts(days: &[f64], hazard: impl Iterator<Item = f64>) -> Self {
        Self {
            days: std::iter::once(0.0).chain(days.iter().copied()).collect(),
            // The comparison also turns -0.0 of ln(1) and what is no number into 0.0.
            hazard: std::iter::once(0.0).chain(hazard.map(|h| if h > 0.0 { h.min(CERTAIN) } else { 0.0 })).collect(),
        }
    }

    fn last_hazard_per_day(&self) -> f64 {
        let n = self.days.len() - 1;
        (self.hazard[n] - self.hazard[n - 1]) / (self.days[n] - self.days[n - 1])
    }

    /// `-ln S(u)`; zero for `u <= 0`.
    #[must_use]
    pub fn cumulative_hazard(&self, days: f64) -> f64 {
        if days.is_nan() || days <= 0.0 {
            return 0.0;
        }
        let n = self.days.len() - 1;
        if days >= self.days[n] {
            let rate = self.last_hazard_per_day();
            // 0 x infinity is no number; a hazard of zero adds nothing however long.
            return if rate > 0.0 { self.hazard[n] + rate * (days - self.days[n]) } else { self.hazard[n] };
        }
        let after = self.days.partition_point(|&grid| grid <= days);
        let (a, b) = (self.days[after - 1], self.days[after]);
        self.hazard[after - 1] + (self.hazard[after] - self.hazard[after - 1]) * (days - a) / (b - a)
    }

    /// S(u): P(no failure within `u` days).
    #[must_use]
    pub fn survival(&self, days: f64) -> f64 {
        (-self.cumulative_hazard(days)).exp()
    }

    /// P(failure within `u` days from now).
    #[must_use]
    pub fn probability_within(&self, days: f64) -> f64 {
        -(-self.cumulative_hazard(days)).exp_m1()
    }

    /// P(failure in `(a, b]` days from now) = S(a) - S(b); zero where `b <= a`.
    #[must_use]
    pub fn window_probability(&self, a: f64, b: f64) -> f64 {
        let (from, to) = (self.cumulative_hazard(a), self.cumulative_hazard(b));
        // As S(a) (1 - e^-(..)): a difference of two numbers near 1 would lose the digits of a small probability.
        if to > from { (-from).exp() * -(from - to).exp_m1() } else { 0.0 }
    }

    /// Days by which failure has happened with probability `p`; infinite where it never gets that likely.
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        let wanted = -(-p.clamp(0.0, 1.0)).ln_1p();
        let n = self.days.len() - 1;
        if wanted > self.hazard[n] {
            let rate = self.last_hazard_per_day();
            return if rate > 0.0 { self.days[n] + (wanted - self.hazard[n]) / rate } else { f64::INFINITY };
        }
        let after = self.hazard.partition_point(|&h| h < wanted);
        if after == 0 {
            return 0.0;
        }
        let (low, high) = (self.hazard[after - 1], self.hazard[after]);
        self.days[after - 1] + (self.days[after] - self.days[after - 1]) * (wanted - low) / (high - low)
    }

    /// Mean of min(remaining life, cap) in days: the integral of S from 0 to the cap, exact for the curve.
    #[must_use]
    pub fn restricted_mean(&self, cap_days: f64) -> f64 {
        let mut area = 0.0;
        let mut from = 0.0;
        for &grid in self.days.iter().skip(1).chain(std::iter::once(&f64::INFINITY)) {
            let to = grid.min(cap_days);
            if to <= from {
                break;
            }
            area += self.interval_area(from, to);
            from = to;
        }
        area
    }

    /// Integral of S over an interval of constant hazard.
    fn interval_area(&self, from: f64, to: f64) -> f64 {
        let start = self.cumulative_hazard(from);
        let length = to - from;
        let rise = if length.is_finite() { self.cumulative_hazard(to) - start } else { f64::INFINITY };
        if length.is_infinite() {
            let rate = self.last_hazard_per_day();
            return if rate > 0.0 { (-start).exp() / rate } else { f64::INFINITY };
        }
        // (1 - e^-x) / x tends to 1.
        let mean_share = if rise < 1e-12 { 1.0 } else { -(-rise).exp_m1() / rise };
        (-start).exp() * length * mean_share
    }

    /// The curve of a slot that has survived `days` more: `S(u + days) / S(days)`.
    #[must_use]
    pub fn after(&self, days: f64) -> Self {
        let days = if days.is_finite() { days.max(0.0) } else { 0.0 };
        let start = self.cumulative_hazard(days);
        let mut grid: Vec<f64> = self.days.iter().map(|g| g - days).filter(|&g| g > 0.0).collect();
        if grid.is_empty() {
            grid.push(1.0);
        }
        let hazard: Vec<f64> = grid.iter().map(|g| self.cumulative_hazard(g + days) - start).collect();
        Self::from_parts(&grid, hazard.into_iter())
    }

    /// `ln S = w ln S_self + (1 - w) ln S_prior`, for telemetry that is present only in share `w` (held in 0..=1).
    #[must_use]
    pub fn blend(&self, prior: &Self, weight: f64) -> Self {
        let weight = if weight.is_nan() { 0.0 } else { weight.clamp(0.0, 1.0) };
        let grid = union(&self.days, &prior.days);
        let hazard = |&u: &f64| weight * self.cumulative_hazard(u) + (1.0 - weight) * prior.cumulative_hazard(u);
        let values: Vec<f64> = grid.iter().map(hazard).collect();
        Self::from_parts(&grid, values.into_iter())
    }

    /// This curve up to `days`, then the hazard of `prior` (a curve from now, too): a signal says nothing of what lies
    /// beyond twice its horizon (section 4.5).
    #[must_use]
    pub fn then(&self, prior: &Self, days: f64) -> Self {
        if !(days.is_finite() && days > 0.0) {
            return prior.clone();
        }
        let own = self.days.iter().copied().filter(|&g| g > 0.0 && g < days);
        let later = prior.days.iter().copied().filter(|&g| g > days);
        let mut grid: Vec<f64> = own.chain(std::iter::once(days)).chain(later).collect();
        if grid.last() == Some(&days) {
            grid.push(days + 1.0);
        }
        let (own_end, prior_end) = (self.cumulative_hazard(days), prior.cumulative_hazard(days));
        let hazard = |&u: &f64| {
            if u <= days { self.cumulative_hazard(u) } else { own_end + prior.cumulative_hazard(u) - prior_end }
        };
        let values: Vec<f64> = grid.iter().map(hazard).collect();
        Self::from_parts(&grid, values.into_iter())
    }

    /// Remaining useful life in hours, held at `cap`.
    #[must_use]
    pub fn rul(&self, cap: Duration) -> RemainingLife {
        let hours = |days: f64| (days * HOURS_PER_DAY).min(cap.hours());
        RemainingLife {
            mean: hours(self.restricted_mean(cap.days())),
            p05: hours(self.quantile(0.05)),
            p50: hours(self.quantile(0.5)),
            p95: hours(self.quantile(0.95)),
        }
    }

    /// When, counted from `now`, the failure has happened with probability `p`; `None` where it never gets that likely.
    #[must_use]
    pub fn expected_by(&self, now: Timestamp, p: f64) -> Option<Timestamp> {
        let days = self.quantile(p);
        // `as` saturates, and adding to a timestamp holds it inside what RFC 3339 can write.
        days.is_finite().then(|| now + Duration::from_millis((days * HOURS_PER_DAY * 3_600_000.0) as i64))
    }
}

/// Sorted union of two grids without their zeros.
fn union(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut grid: Vec<f64> = a.iter().chain(b).copied().filter(|&g| g > 0.0).collect();
    grid.sort_by(f64::total_cmp);
    grid.dedup();
    grid
}

#[cfg(test)]
mod tests;
