//! Lifetimes: how long components live, from histories that end before the failure or begin after the birth.
//!
//! Weibull by maximum likelihood with right censoring and left truncation, Kaplan-Meier as the curve without a model, and
//! the gamma-Poisson rate where a class has seen (almost) no failure. What comes out is a [`SurvivalCurve`] from an age
//! on: the prior of a slot whose signals say nothing.
//!
//! Source: maths of pre-positioning, sections 2.1, 2.2 and 5.7.

use serde::{Deserialize, Serialize};

use crate::survival::{self, SurvivalCurve};

mod kaplan_meier;
mod weibull;

pub use kaplan_meier::KaplanMeier;
pub use weibull::{Weibull, WeibullFit, fit_weibull, fit_weibull_in_class};

/// Grid in days of the curves that lifetimes give: dense at first, where stock is decided; ten years at last.
const CURVE_GRID_DAYS: [f64; 22] = [
    0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 14.0, 21.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 270.0, 365.0, 545.0,
    730.0, 1460.0, 3650.0,
];

/// One slot's life as far as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Age when it failed, or when it was last seen working; days, > 0.
    pub duration: f64,
    /// Whether it failed at that age; else the life is right-censored there.
    pub event_observed: bool,
    /// Age of delayed entry (left truncation); 0 where it was seen from new, below `duration`.
    pub entry: f64,
}

impl Lifetime {
    /// A life seen from new.
    #[must_use]
    pub fn from_new(duration: f64, event_observed: bool) -> Self {
        Self { duration, event_observed, entry: 0.0 }
    }
}

/// Why a lifetime law could not be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No failure was seen: the class's rate prior is all that can be said.
    #[error("failed to fit a lifetime to {lifetimes} lives without a failure")]
    NoFailures {
        /// How many lives there were.
        lifetimes: usize,
    },
    /// A life whose ages are no ages.
    #[error("life {position} lasted {duration} from entry at {entry}; 0 <= entry < duration must hold")]
    Lifetime {
        /// Its position.
        position: usize,
        /// Its duration.
        duration: f64,
        /// Its age of entry.
        entry: f64,
    },
    /// An argument that must be above zero.
    #[error("{name} is {value}, not a finite number above zero")]
    NotPositive {
        /// Which argument.
        name: &'static str,
        /// What was given.
        value: f64,
    },
}

fn check(lifetimes: &[Lifetime]) -> Result<(), Error> {
    let wrong = |life: &Lifetime| !(life.duration.is_finite() && life.entry >= 0.0 && life.entry < life.duration);
    match lifetimes.iter().position(wrong) {
        Some(position) => {
            let Lifetime { duration, entry, .. } = lifetimes[position];
            Err(Error::Lifetime { position, duration, entry })
        }
        None => Ok(()),
    }
}

fn positive(name: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Error::NotPositive { name, value }) }
}

/// Failure rate of a class before its own history says much: gamma(`failures`, `exposure_days`).
///
/// A group with no failure in a short exposure gets about the class's rate, one with a long exposure its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatePrior {
    /// Prior failures (a), > 0.
    pub failures: f64,
    /// Prior exposure (b) in device-days, > 0.
    pub exposure_days: f64,
}

impl RatePrior {
    /// The prior of a class that saw `failures` in `exposure_days`, counting as much as `weight` failures would.
    ///
    /// Half a failure is added (Jeffreys), so that a class without any still has a rate.
    ///
    /// # Errors
    /// [`Error::NotPositive`] where exposure or weight is not above zero.
    pub fn of_class(failures: u32, exposure_days: f64, weight: f64) -> Result<Self, Error> {
        let exposure_days = positive("exposure_days", exposure_days)?;
        let weight = positive("weight", weight)?;
        let rate_per_day = (f64::from(failures) + 0.5) / exposure_days;
        Ok(Self { failures: weight, exposure_days: weight / rate_per_day })
    }

    /// Rate per day after `failures` in `exposure_days`: (a + failures) / (b + exposure).
    #[must_use]
    pub fn rate_per_day(&self, failures: u32, exposure_days: f64) -> f64 {
        (self.failures + f64::from(failures)) / (self.exposure_days + exposure_days.max(0.0))
    }

    /// The constant-hazard curve of that rate.
    ///
    /// # Errors
    /// [`survival::Error::Rate`] where the prior itself is no rate.
    pub fn curve(&self, failures: u32, exposure_days: f64) -> Result<SurvivalCurve, survival::Error> {
        SurvivalCurve::exponential(self.rate_per_day(failures, exposure_days))
    }
}

#[cfg(test)]
mod tests;
