//! Demand for a part at a depot in a window of time, as a law: P(D = n).
//!
//! The signal gives a Poisson-binomial law (each slot fails or not), a common factor widens it for errors that forecasts
//! share, and the background - demand that no signal can see - is convolved with it. Nothing is subtracted on the way, so
//! tails keep their relative precision.
//!
//! Source: maths of pre-positioning, sections 2.3 to 2.5 and 8.

use serde::{Deserialize, Serialize};

mod aggregation;
mod background;
mod laws;

pub use aggregation::{aggregate_disaggregate, croston_optimized, multiple_aggregation};
pub use background::{
    BackgroundForecast, Method, Pattern, background_law, croston, exponential_smoothing, forecast_background, pattern,
    syntetos_boylan, teunter_syntetos_babai,
};
pub use laws::{
    BacktestWindow, Trial, common_factor, compound_poisson, estimate_common_factor, negative_binomial, poisson,
    poisson_binomial, updated_common_factor,
};

/// A quantile is the smallest n with F(n) at least this close to the wanted probability (section 8).
const QUANTILE_SLACK: f64 = 1e-12;

/// Mass at the far end of a law below this is counted in the tail instead of in entries of its own.
const NEGLIGIBLE: f64 = 1e-18;

/// Longest law, in pieces: a million of one part in one window is an error in the data.
const MOST_PIECES: f64 = 1_048_576.0;

/// What is no law of demand.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A probability outside 0..=1.
    #[error("trial {position} has probability {value}, not in 0..=1")]
    NotAProbability {
        /// Its position.
        position: usize,
        /// What was given.
        value: f64,
    },
    /// A mean, variance or rate that is negative, not finite, or beyond a million pieces.
    #[error("{name} of demand is {value}, not a number of pieces in 0..=1048576")]
    Moment {
        /// Which one.
        name: &'static str,
        /// What was given.
        value: f64,
    },
}

fn moment(name: &'static str, value: f64) -> Result<f64, Error> {
    if (0.0..=MOST_PIECES).contains(&value) { Ok(value) } else { Err(Error::Moment { name, value }) }
}

/// Last piece that gets an entry of its own: `mean + 8 sd + 10` (section 2.3).
fn truncation(mean: f64, variance: f64) -> usize {
    // Bounded by MOST_PIECES where moments are checked, so the cast is exact.
    (mean + 8.0 * variance.max(1.0).sqrt() + 10.0).ceil().min(2.0 * MOST_PIECES) as usize
}

/// The law of a number of pieces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DemandLaw {
    /// P(D = n) for n = 0, 1, ...; never empty.
    pmf: Vec<f64>,
    /// P(D is beyond the last entry); counted as one piece beyond it.
    tail: f64,
}

impl DemandLaw {
    /// No demand at all.
    #[must_use]
    pub fn zero() -> Self {
        Self { pmf: vec![1.0], tail: 0.0 }
    }

    /// Takes entries and tail; trailing entries that are negligible join the tail.
    pub(crate) fn new(mut pmf: Vec<f64>, mut tail: f64) -> Self {
        while pmf.len() > 1 && pmf.last().is_some_and(|&mass| mass < NEGLIGIBLE) {
            tail += pmf.pop().unwrap_or_default();
        }
        Self { pmf, tail: tail.max(0.0) }
    }

    /// P(D = n) for n = 0, 1, ...
    #[must_use]
    pub fn pmf(&self) -> &[f64] {
        &self.pmf
    }

    /// P(D is beyond the last entry of the pmf).
    #[must_use]
    pub fn tail(&self) -> f64 {
        self.tail
    }

    /// E D.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.expected_backorders(0)
    }

    /// Var D.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        let square = |n: usize| (n as f64 - mean) * (n as f64 - mean);
        let entries = self.pmf.iter().enumerate().rev().map(|(n, mass)| square(n) * mass);
        entries.fold(square(self.pmf.len()) * self.tail, |sum, term| sum + term)
    }

    /// F(n) = P(D <= n); 0 for n < 0.
    #[must_use]
    pub fn cdf(&self, n: i64) -> f64 {
        match usize::try_from(n) {
            Ok(n) => self.pmf.iter().take(n.saturating_add(1)).sum::<f64>().min(1.0),
            Err(_) => 0.0,
        }
    }

    /// P(D > n), summed from the tail, so that small values keep their digits; 1 for n < 0.
    #[must_use]
    pub fn exceedance(&self, n: i64) -> f64 {
        let Ok(n) = usize::try_from(n) else { return 1.0 };
        let beyond = self.pmf.iter().skip(n.saturating_add(1)).rev();
        beyond.fold(self.tail, |sum, mass| sum + mass)
    }

    /// Smallest n with F(n) >= `probability` - 1e-12; one beyond the entries where the law has no more.
    #[must_use]
    pub fn quantile(&self, probability: f64) -> u32 {
        let mut sum = 0.0;
        let reached = self.pmf.iter().position(|mass| {
            sum += mass;
            sum >= probability - QUANTILE_SLACK
        });
        u32::try_from(reached.unwrap_or(self.pmf.len())).unwrap_or(u32::MAX)
    }

    /// E (D - level)^+: pieces that `level` cannot serve. Summed from the tail.
    #[must_use]
    pub fn expected_backorders(&self, level: i64) -> f64 {
        let Ok(start) = usize::try_from(level) else {
            return self.mean() - level as f64;
        };
        let short = |n: usize| (n - start) as f64;
        let beyond = if self.pmf.len() > start { self.tail * short(self.pmf.len()) } else { 0.0 };
        let entries = self.pmf.iter().enumerate().skip(start.saturating_add(1)).rev();
        entries.fold(beyond, |sum, (n, mass)| sum + short(n) * mass)
    }

    /// E [(D - level)^+]^2.
    #[must_use]
    pub fn expected_backorders_squared(&self, level: u32) -> f64 {
        let start = level as usize;
        let short = |n: usize| ((n - start) * (n - start)) as f64;
        let beyond = if self.pmf.len() > start { self.tail * short(self.pmf.len()) } else { 0.0 };
        let entries = self.pmf.iter().enumerate().skip(start.saturating_add(1)).rev();
        entries.fold(beyond, |sum, (n, mass)| sum + short(n) * mass)
    }

    /// E (level - D)^+: pieces that `level` has too many.
    #[must_use]
    pub fn expected_excess(&self, level: i64) -> f64 {
        match usize::try_from(level) {
            Ok(end) => self.pmf.iter().take(end).enumerate().map(|(n, mass)| (end - n) as f64 * mass).sum(),
            Err(_) => 0.0,
        }
    }

    /// The law of the sum of two independent demands.
    #[must_use]
    pub fn convolve(&self, other: &Self) -> Self {
        let mut pmf = vec![0.0; self.pmf.len() + other.pmf.len() - 1];
        for (n, a) in self.pmf.iter().enumerate() {
            for (sum, b) in pmf[n..].iter_mut().zip(&other.pmf) {
                *sum += a * b;
            }
        }
        // 1 - (1 - a)(1 - b) without a subtraction of nearly equal numbers.
        Self::new(pmf, self.tail + other.tail - self.tail * other.tail)
    }

    /// The law that is each of `laws` with its weight; weights sum to 1.
    pub(crate) fn mixture(laws: &[(f64, Self)]) -> Self {
        let length = laws.iter().map(|(_, law)| law.pmf.len()).max().unwrap_or(1);
        let mut pmf = vec![0.0; length];
        let mut tail = 0.0;
        for (weight, law) in laws {
            for (sum, mass) in pmf.iter_mut().zip(&law.pmf) {
                *sum += weight * mass;
            }
            tail += weight * law.tail;
        }
        Self::new(pmf, tail)
    }
}

#[cfg(test)]
mod tests;
