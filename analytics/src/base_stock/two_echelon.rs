//! A depot's pipeline behind a hub: METRIC, VARI-METRIC and exact (section 3.2).

use super::{Cell, Hub, HubBackorders, masses::Masses};
use crate::demand;

/// Mean and variance of the pieces that a depot waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pipeline {
    /// mu.
    pub mean: f64,
    /// sigma^2.
    pub variance: f64,
}

/// METRIC: Poisson with the right mean, too sure of itself. For comparison only.
///
/// # Source
/// Sherbrooke (1968).
#[must_use]
pub fn metric(own: f64, share: f64, hub: HubBackorders) -> Pipeline {
    let mean = own + share * hub.expected;
    Pipeline { mean, variance: mean }
}

/// VARI-METRIC: negative binomial with the right mean and variance.
///
/// * `own`: pieces under way or under repair, m O    * `share`: f, the depot's share of the hub's demand
///
/// # Source
/// Graves (1985), Sherbrooke (1986): `sigma^2 = m O + f (1 - f) E_0 + f^2 V_0`.
#[must_use]
pub fn vari_metric(own: f64, share: f64, hub: HubBackorders) -> Pipeline {
    Pipeline {
        mean: own + share * hub.expected,
        variance: own + share * (1.0 - share) * hub.expected + share * share * hub.variance,
    }
}

/// P(the depot waits for n pieces) for n = 0..`count`, exact for constant order-and-ship times and a hub that serves first come
/// first served: what the hub owes is split at random over its depots, and joined by what is under way.
///
/// * `backorders`: law of what the hub owes    * `own`: mean of what is under way
///
/// # Errors
/// [`demand::Error`] for a mean that no law holds.
/// # Source
/// Simon (1971), Graves (1985).
pub fn exact_pipeline(backorders: &[f64], share: f64, own: f64, count: usize) -> Result<Vec<f64>, demand::Error> {
    let owed = thinned(backorders, share, count);
    let mut under_way = Masses::new(own, own)?;
    let under_way: Vec<f64> = (0..count).map(|_| under_way.step()).collect();
    let sum = |n: usize| (0..=n).map(|k| owed[k] * under_way[n - k]).sum();
    Ok((0..count).map(sum).collect())
}

/// The first `count` masses of Binomial(B, share) where B has the law `backorders`.
fn thinned(backorders: &[f64], share: f64, count: usize) -> Vec<f64> {
    let mut law = vec![0.0; count];
    if share >= 1.0 {
        law.iter_mut().zip(backorders).for_each(|(to, from)| *to = *from);
        return law;
    }
    let odds = share / (1.0 - share);
    let log_miss = (-share).ln_1p();
    for (owed, &weight) in backorders.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        let exponent = owed as f64 * log_miss;
        if exponent > -700.0 {
            let mut mass = weight * exponent.exp();
            for (n, sum) in law.iter_mut().take(owed + 1).enumerate() {
                *sum += mass;
                mass *= odds * (owed - n) as f64 / (n + 1) as f64;
            }
        } else {
            // e^-700 is no number any more: by logarithms.
            let mut log_mass = exponent;
            for (n, sum) in law.iter_mut().take(owed + 1).enumerate() {
                *sum += weight * log_mass.exp();
                log_mass += (odds * (owed - n) as f64 / (n + 1) as f64).ln();
            }
        }
    }
    law
}

/// What a cell's law is made of, apart from its place in the time limit.
impl Cell {
    /// Share of the hub's demand that is this cell's; 0 where nobody takes anything.
    pub(super) fn share_of(&self, hub_rate_per_day: f64) -> f64 {
        if hub_rate_per_day > 0.0 { (self.hub_rate_per_day() / hub_rate_per_day).min(1.0) } else { 0.0 }
    }
}

impl Hub {
    /// Law of what the hub owes, cut where the rest cannot be told from nothing.
    pub(super) fn law_for_depots(&self, level: u32) -> Vec<f64> {
        let mut law = self.law_of_backorders(level);
        while law.len() > 1 && law.last().is_some_and(|&mass| mass < 1e-18) {
            law.pop();
        }
        law
    }
}
