//! Policies of stock compared: what does prediction-driven pre-positioning save, at which quality of alerts?
//!
//! A service network - a hub, depots, devices under contract - is simulated day by day under several policies. Failures are the same
//! under each of them (common random numbers), so that what differs is the policy alone. No policy is given a rate: each
//! estimates its own from the failures that it has seen. Each has two settings, chosen from a grid of like size for the least
//! cost on seeds that the comparison never uses.
//!
//! Source: maths of pre-positioning, sections 4 and 6.

mod base_stock;
mod compare;
mod history;
mod luck;
mod network;
mod perfect;
mod predictive;
mod record;
mod sba_ss;
mod simulation;
mod statistics;
mod stock;
#[cfg(test)]
mod tests;
mod vari_metric;

use harbinger_analytics::{base_stock as levels, demand, lifetime};
use harbinger_core::ids::InvalidId;

pub use compare::{Comparison, CurvePoint, Difference, Plan, Run, Tuned, compare};
pub use history::{Forecast, History};
pub use luck::{Alert, Failure, Luck};
pub use network::{Contract, Depot, Device, Network, Part};
pub use simulation::{Controller, Evening, Span, simulate};
pub use statistics::{Interval, interval};
pub use stock::{Order, Stock, Tally};

/// How good a model's alerts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quality {
    /// Half of the failures are named, half of the alerts are right.
    Fair,
    /// Three quarters are named, 60 % are right.
    Good,
    /// 90 % are named, 80 % are right.
    VeryGood,
    /// As many alerts as [`Quality::Good`] gives, with the same claims, independent of failures.
    Worthless,
}

impl Quality {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Fair, Self::Good, Self::VeryGood, Self::Worthless];

    /// Recall and precision that the model claims, and has unless it is worthless.
    #[must_use]
    pub fn claims(self) -> (f64, f64) {
        match self {
            Self::Fair => (0.5, 0.5),
            Self::Good | Self::Worthless => (0.75, 0.6),
            Self::VeryGood => (0.9, 0.8),
        }
    }

    /// As results name it: `recall/precision`, or `worthless`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fair => "0.5/0.5",
            Self::Good => "0.75/0.6",
            Self::VeryGood => "0.9/0.8",
            Self::Worthless => "worthless",
        }
    }

    /// The quality whose settings it is run with: that it is worthless is for the policy to find out.
    fn tuned_as(self) -> Self {
        if self == Self::Worthless { Self::Good } else { self }
    }
}

/// A way to keep stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// (s, S) by the forecast of Syntetos and Boylan.
    SbaSs,
    /// Base stock by VARI-METRIC.
    VariMetric,
    /// Pre-positioning by alerts of this quality.
    Predictive(Quality),
    /// Every failure known beforehand.
    Perfect,
}

impl Policy {
    /// All, in the order of results.
    pub const ALL: [Self; 7] = [
        Self::SbaSs,
        Self::VariMetric,
        Self::Predictive(Quality::Fair),
        Self::Predictive(Quality::Good),
        Self::Predictive(Quality::VeryGood),
        Self::Predictive(Quality::Worthless),
        Self::Perfect,
    ];

    /// As results name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SbaSs => "sba_ss",
            Self::VariMetric => "vari_metric",
            Self::Predictive(_) => "predictive",
            Self::Perfect => "perfect",
        }
    }

    /// Quality of its alerts; none where it has none.
    #[must_use]
    pub fn quality(self) -> Option<Quality> {
        match self {
            Self::Predictive(quality) => Some(quality),
            Self::SbaSs | Self::VariMetric | Self::Perfect => None,
        }
    }
}

/// What a policy is tuned by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How well depots serve: a factor on deviations for `sba_ss`, else a share of shortage costs avoided.
    pub service: f64,
    /// How full the hub is: a factor on deviations, or on what holding costs.
    pub hub: f64,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Rates that cannot be estimated.
    #[error("failed to estimate rates from the history")]
    Rates(#[from] lifetime::Error),
    /// Levels that cannot be chosen.
    #[error("failed to choose base stock")]
    Levels(#[from] levels::Error),
    /// A law that cannot be held.
    #[error("failed to reckon demand")]
    Demand(#[from] demand::Error),
    /// A part or depot whose name is no id.
    #[error("failed to name parts and depots")]
    Name(#[from] InvalidId),
    /// Too few seeds to compare on.
    #[error("a comparison needs at least 2 seeds, not {0}: of one no interval can be told")]
    Seeds(u32),
}
