//! The laws that a forecast mixes: what each says of a period of a series, from the past and from the whole set of series.
//!
//! Laws around a series' own discounted means and shares of periods with demand, its own past smoothed by those, the laws that the fleet
//! shows to be likely ([`super::fleet`]), and its own past smoothed by them.
//!
//! All count in lots: one piece, or more where a series took thousands in a period, so that laws stay short.

use std::ops::Range;

use super::fleet::{DISCOUNTS, Filter, Likely, SMOOTHER};
use crate::demand::DemandLaw;

/// Weights of a period relative to the one after it, for means: from all the past alike to the last few periods.
const MEAN_DISCOUNTS: [f64; 4] = [1.0, 0.96, 0.9, 0.75];

/// Shapes r of the gamma laws that means are spread by: variance = mean + mean^2 / r.
const MEAN_SHAPES: [f64; 5] = [0.15, 0.4, 1.0, 3.0, 12.0];

/// Discounts of the probability that there is demand.
const HURDLE_DISCOUNTS: [f64; 2] = [0.97, 0.88];

/// Shapes of the sizes beyond one piece.
const HURDLE_SHAPES: [f64; 2] = [0.4, 1.5];

/// Discounts of a series' own past values.
const EMPIRICAL_DISCOUNTS: [f64; 3] = [1.0, 0.95, 0.85];

const MEANS: usize = MEAN_DISCOUNTS.len() * MEAN_SHAPES.len();
const HURDLES: usize = HURDLE_DISCOUNTS.len() * HURDLE_SHAPES.len();

const SHAPES: usize = MEANS + HURDLES;

/// Discounts of a series' own past values where the fleet's law smooths them, and periods' worth of that law behind them.
const OWN_PAST: [(f64, f64); 4] = [(1.0, 4.0), (1.0, 16.0), (0.93, 4.0), (0.93, 16.0)];

/// The places of the laws in their order, behind those of shapes.
const OF_FLEET: usize = SHAPES + EMPIRICAL_DISCOUNTS.len();
const OF_OWN_PAST: usize = OF_FLEET + DISCOUNTS.len();

/// How many laws there are.
pub(super) const COMPONENTS: usize = OF_OWN_PAST + OWN_PAST.len();

/// The laws whose even mixture smooths a series' own past: means with discount 0.96, hurdles with discount 0.88.
const SMOOTHERS: [usize; 4] = [6, 7, MEANS + 2, MEANS + 3];

/// Periods' worth of a series' long mean behind its discounted ones.
const MEAN_PRIOR: f64 = 1.0;

/// Periods' worth of the whole set behind a series' long mean.
const POOL_PRIOR: f64 = 0.5;

/// Periods' worth of a series' long share of periods with demand behind its discounted ones.
const HURDLE_PRIOR: f64 = 1.5;

/// Periods' worth of the smooth law behind a series' own past.
const EMPIRICAL_PRIOR: f64 = 3.0;

/// Series with a mean below this count with this in the mean of the whole set.
const LEAST_POOLED_MEAN: f64 = 0.02;

/// The least mean that a series is taken to have, in pieces a period.
const LEAST_MEAN: f64 = 1e-6;

/// The least excess of sizes over one piece.
const LEAST_EXCESS: f64 = 0.05;

/// Most lots that a period of the past may hold.
const MOST_LOTS: f64 = 2048.0;

/// Longest law, in lots.
const MOST_ENTRIES: usize = 65_536;

/// Laws with less weight are left out of a mixture.
const LEAST_WEIGHT: f64 = 1e-3;
/// The same of those of the fleet, which are many.
const LEAST_WEIGHT_OF_FLEET: f64 = 1e-5;

/// What the whole set of series is like before an origin, in pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    /// Geometric mean of the series' means per period.
    mean: f64,
    /// Geometric mean of what periods with demand took.
    size: f64,
    /// Share of periods with demand.
    share: f64,
}

impl Pool {
    /// Of what is known before `origin`.
    pub(super) fn before(series: &[Vec<f64>], origin: usize) -> Self {
        let (mut logs_of_means, mut logs_of_sizes) = (Average::default(), Average::default());
        let mut share = Average::default();
        for of in series {
            let history = &of[..origin.min(of.len())];
            let mut mean = Average::default();
            for &y in history.iter().filter(|y| y.is_finite()) {
                mean.add(y);
                share.add(f64::from(u8::from(y > 0.0)));
                if y > 0.0 {
                    logs_of_sizes.add(y.ln());
                }
            }
            if mean.count > 0.0 {
                logs_of_means.add(mean.value(0.0).max(LEAST_POOLED_MEAN).ln());
            }
        }
        Self { mean: logs_of_means.value(0.0).exp(), size: logs_of_sizes.value(0.0).exp(), share: share.value(0.5) }
    }
}

/// A running mean.
#[derive(Debug, Default)]
struct Average {
    sum: f64,
    count: f64,
}

impl Average {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn value(&self, without: f64) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { without }
    }
}

/// A law with few parameters.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Negative binomial.
    Spread { mean: f64, shape: f64 },
    /// Nothing, or with `share` one lot and a negative binomial number more.
    Hurdle { share: f64, excess: f64, shape: f64 },
}

impl Shape {
    /// P(D = 0), P(D = 1), ... without end.
    fn entries(self) -> impl Iterator<Item = f64> {
        let (first, scale, mean, shape) = match self {
            Self::Spread { mean, shape } => (None, 1.0, mean, shape),
            Self::Hurdle { share, excess, shape } => (Some(1.0 - share), share, excess, shape),
        };
        let ratio = mean / (shape + mean);
        let start = scale * (-shape * (mean / shape).ln_1p()).exp();
        let rest = (0_u32..).scan(start, move |mass, n| {
            let now = *mass;
            *mass *= (f64::from(n) + shape) / f64::from(n + 1) * ratio;
            Some(now)
        });
        first.into_iter().chain(rest)
    }

    fn mean(self) -> f64 {
        match self {
            Self::Spread { mean, .. } => mean,
            Self::Hurdle { share, excess, .. } => share * (1.0 + excess),
        }
    }

    fn probability(self, value: usize) -> f64 {
        self.entries().nth(value).unwrap_or(0.0)
    }
}

/// The laws of a period of one series.
#[derive(Debug)]
pub(super) struct Components {
    lot: f64,
    shapes: [Shape; SHAPES],
    /// The past in lots, the latest first; NaN is not known.
    past: Vec<f64>,
}

impl Components {
    /// From the periods before an origin; `None` where none is known.
    pub(super) fn of(history: &[f64], pool: &Pool) -> Option<Self> {
        let most = history.iter().copied().filter(|y| y.is_finite()).reduce(f64::max)?;
        let lot = (most / MOST_LOTS).ceil().max(1.0);
        let past: Vec<f64> = history.iter().rev().map(|y| (y / lot).ceil()).collect();
        let known = history.iter().rev().map(|y| y / lot);
        let (total, count) = discounted(known.clone(), 1.0);
        let long_mean = (total + POOL_PRIOR * pool.mean / lot) / (count + POOL_PRIOR);
        let with_demand = past.iter().map(|&y| if y.is_nan() { y } else { f64::from(u8::from(y > 0.0)) });
        let (demands, periods) = discounted(with_demand.clone(), 1.0);
        let long_share = (demands + pool.share) / (periods + 1.0);
        let taken: f64 = past.iter().filter(|y| y.is_finite()).sum();
        let size = (taken + (pool.size / lot).max(1.0)) / (demands + 1.0);
        let mut shapes = [Shape::Spread { mean: long_mean, shape: 1.0 }; SHAPES];
        let mut places = shapes.iter_mut();
        for discount in MEAN_DISCOUNTS {
            let (sum, count) = discounted(known.clone(), discount);
            let mean = ((sum + MEAN_PRIOR * long_mean) / (count + MEAN_PRIOR)).max(LEAST_MEAN);
            for (shape, place) in MEAN_SHAPES.into_iter().zip(places.by_ref()) {
                *place = Shape::Spread { mean, shape };
            }
        }
        for discount in HURDLE_DISCOUNTS {
            let (sum, count) = discounted(with_demand.clone(), discount);
            let share = (sum + HURDLE_PRIOR * long_share) / (count + HURDLE_PRIOR);
            for (shape, place) in HURDLE_SHAPES.into_iter().zip(places.by_ref()) {
                *place = Shape::Hurdle { share, excess: (size - 1.0).max(LEAST_EXCESS), shape };
            }
        }
        Some(Self { lot, shapes, past })
    }

    /// P(the period takes `pieces`), by law; `of_fleet`: that by the laws of the fleet.
    pub(super) fn probabilities(&self, pieces: f64, of_fleet: [f64; DISCOUNTS.len()]) -> [f64; COMPONENTS] {
        let lots = (pieces / self.lot).ceil();
        // Saturates; what lies beyond the longest law has no probability worth telling apart.
        let place = (lots as usize).min(MOST_ENTRIES);
        let mut probabilities = [0.0; COMPONENTS];
        for (p, shape) in probabilities.iter_mut().zip(&self.shapes) {
            *p = shape.probability(place);
        }
        let smooth = SMOOTHERS.iter().map(|&law| probabilities[law]).sum::<f64>() / SMOOTHERS.len() as f64;
        let past = |discount: f64, prior: f64, smooth: f64| {
            let mut same = 0.0;
            let all = self.each_past(discount, |y, weight| same += if y == lots { weight } else { 0.0 });
            (same + prior * smooth) / (all + prior)
        };
        for (p, discount) in probabilities[SHAPES..].iter_mut().zip(EMPIRICAL_DISCOUNTS) {
            *p = past(discount, EMPIRICAL_PRIOR, smooth);
        }
        probabilities[OF_FLEET..OF_OWN_PAST].copy_from_slice(&of_fleet);
        for (p, (discount, prior)) in probabilities[OF_OWN_PAST..].iter_mut().zip(OWN_PAST) {
            *p = past(discount, prior, of_fleet[SMOOTHER]);
        }
        probabilities
    }

    /// Calls `take` with each known period of the past and its weight; gives the sum of weights.
    fn each_past(&self, discount: f64, mut take: impl FnMut(f64, f64)) -> f64 {
        let (mut weight, mut all) = (1.0, 0.0);
        for &y in &self.past {
            if y.is_finite() {
                take(y, weight);
                all += weight;
            }
            weight *= discount;
        }
        all
    }

    /// The mixture of the laws of a run of periods, and the pieces of a lot.
    ///
    /// * `fleet`: what it knows of the series after its past.
    pub(super) fn mixture(
        &self,
        weights: &[f64; COMPONENTS],
        fleet: &Filter<'_>,
        periods: Range<usize>,
    ) -> (DemandLaw, f64) {
        let mut of_shapes = [0.0; SHAPES];
        of_shapes.copy_from_slice(&weights[..SHAPES]);
        let mut of_fleet = [0.0; DISCOUNTS.len()];
        of_fleet.copy_from_slice(&weights[OF_FLEET..OF_OWN_PAST]);
        let mut of_past = Vec::with_capacity((EMPIRICAL_DISCOUNTS.len() + OWN_PAST.len()) * self.past.len());
        // Gives the past its weights, and what each period's worth of the law behind it weighs.
        let mut weigh = |discount: f64, prior: f64, weight: f64| {
            let of_each = weight / (self.each_past(discount, |_, _| ()) + prior);
            self.each_past(discount, |y, weight| of_past.push((y, weight * of_each)));
            of_each
        };
        for (discount, weight) in EMPIRICAL_DISCOUNTS.into_iter().zip(&weights[SHAPES..]) {
            let of_each = weigh(discount, EMPIRICAL_PRIOR, *weight);
            for law in SMOOTHERS {
                of_shapes[law] += of_each * EMPIRICAL_PRIOR / SMOOTHERS.len() as f64;
            }
        }
        for ((discount, prior), weight) in OWN_PAST.into_iter().zip(&weights[OF_OWN_PAST..]) {
            of_fleet[SMOOTHER] += weigh(discount, prior, *weight) * prior;
        }
        let laws = fleet.mixed(&of_fleet, periods, LEAST_WEIGHT_OF_FLEET);
        let largest = self.past.iter().copied().filter(|y| y.is_finite()).fold(0.0, f64::max);
        let expected = laws.iter().map(|law| law.weight * law.mean).sum::<f64>() / self.lot;
        let mean = self.shapes.iter().map(|shape| shape.mean()).fold(expected, f64::max);
        let length = ((64.0 + 2.0 * largest + 16.0 * mean) as usize).min(MOST_ENTRIES);
        let mut pmf = vec![0.0; length];
        let mut total = 0.0;
        for (shape, weight) in self.shapes.iter().zip(of_shapes).filter(|(_, weight)| *weight >= LEAST_WEIGHT) {
            pmf.iter_mut().zip(shape.entries()).for_each(|(sum, mass)| *sum += weight * mass);
            total += weight;
        }
        for Likely { weight, idle, mean, shape } in laws {
            let law = Shape::Spread { mean: mean / self.lot, shape };
            let working = weight * (1.0 - idle);
            pmf.iter_mut().zip(law.entries()).for_each(|(sum, mass)| *sum += working * mass);
            pmf[0] += weight * idle;
            total += weight;
        }
        for (lots, weight) in of_past {
            if let Some(entry) = pmf.get_mut(lots as usize) {
                *entry += weight;
            }
            total += weight;
        }
        pmf.iter_mut().for_each(|mass| *mass /= total);
        let tail = (1.0 - pmf.iter().rev().sum::<f64>()).max(0.0);
        (DemandLaw::new(pmf, tail), self.lot)
    }
}

/// Sum of `values`, latest first, each weighted by `discount` to the power of its age, and the sum of the weights; NaN has
/// no value and no weight.
fn discounted(values: impl Iterator<Item = f64>, discount: f64) -> (f64, f64) {
    let (mut sum, mut all, mut weight) = (0.0, 0.0, 1.0);
    for value in values {
        if value.is_finite() {
            sum += weight * value;
            all += weight;
        }
        weight *= discount;
    }
    (sum, all)
}
