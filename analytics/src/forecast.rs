//! Forecasts of intermittent demand from consumption alone: the law of what each part at each depot takes in coming periods.
//!
//! No single method is best for all series, so a forecast is a mixture of laws: Poisson-gamma laws around discounted means,
//! hurdle laws (whether there is demand, and how much then), the laws that are common in the fleet and likely for the series, and the
//! series' own past smoothed by those. All of them borrow strength from the whole set of series. How much each counts is learned in a
//! rolling back-test over all series, shrunk towards its class of demand for a class, and towards that for a series.
//!
//! A forecast for a period uses only the periods before it.

use std::ops::Range;

use rayon::prelude::*;

use crate::demand::{DemandLaw, pattern};

mod components;
mod cover;
mod fleet;
mod history;
mod season;
mod weights;

pub use cover::Cover;
pub use history::{Error, Histories, histories};
pub use season::cycle;

use components::{COMPONENTS, Components, Pool};
use fleet::{DISCOUNTS, Filter, Fleet};
use weights::{maximum_likelihood, of_series};

/// So many last periods judge the laws: two years of months. Half as many did a little worse on every set tried.
const BACKTEST_PERIODS: usize = 24;

/// What the fleet teaches is learned again when there are so many times as many periods.
const LEARN_AGAIN_AFTER: f64 = 13.0 / 12.0;

/// So many cells' worth of the weights of all series stand behind the weights of a class.
const CLASS_PRIOR_CELLS: f64 = 200.0;

/// The law of demand of a period, counted in lots of some pieces where demand is large.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    law: DemandLaw,
    lot: f64,
}

impl Forecast {
    /// Expected pieces.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.law.mean() * self.lot
    }

    /// The least number of pieces that demand stays within with at least this probability.
    #[must_use]
    pub fn quantile(&self, probability: f64) -> f64 {
        f64::from(self.law.quantile(probability)) * self.lot
    }
}

/// What the laws of a series at an origin said of what came: a probability a law; `None` where nothing was known or came.
type Cell = Option<[f64; COMPONENTS]>;

/// Forecasts every series at every origin and hands each law to `summary`.
///
/// `series` are quantities per period on one grid, oldest first, all as long; NaN is not known, and leading NaN is not yet
/// there. Demand may repeat itself after [`cycle`] periods, 0 for none. An origin is the number of periods before it; what is forecast
/// are the periods `ahead` of it, `0..1` being the next one: the law of one of them on average, judged by what laws said of the first.
/// The result is by series, then by origin; `None` where a series has no known period before the origin.
pub fn forecast<R: Send>(
    series: &[Vec<f64>],
    cycle: usize,
    origins: &[usize],
    ahead: Range<usize>,
    summary: impl Fn(&Forecast) -> R + Sync,
) -> Vec<Vec<Option<R>>> {
    let Range { start, end } = ahead;
    let first = origins.iter().copied().min().unwrap_or(0).saturating_sub(BACKTEST_PERIODS + start).max(1);
    let last = origins.iter().copied().max().unwrap_or(0).max(first);
    let pools: Vec<Pool> = (first..=last).into_par_iter().map(|at| Pool::before(series, at)).collect();
    let learned = Learned::from_on(series, cycle, first..=last, end);
    let cells: Vec<Vec<Cell>> = series.par_iter().map(|of| cells(of, first..last, start, &pools, &learned)).collect();
    let known: Vec<Weighing> = origins
        .par_iter()
        .map(|&origin| {
            let from = origin.saturating_sub(BACKTEST_PERIODS + start).max(first);
            let until = origin.saturating_sub(start).max(from);
            Weighing::learn(series, origin, cells.iter().map(|of| &of[from - first..until - first]))
        })
        .collect();
    (0..series.len())
        .into_par_iter()
        .map(|row| {
            origins
                .iter()
                .zip(&known)
                .map(|(&origin, weighing)| {
                    let pool = pools.get(origin.checked_sub(first)?)?;
                    let history = &series[row][..origin];
                    let components = Components::of(history, pool)?;
                    let fleet = Filter::after(learned.before(origin), history);
                    let (law, lot) = components.mixture(&weighing.by_series[row], &fleet, origin + start..origin + end);
                    Some(summary(&Forecast { law, lot }))
                })
                .collect()
        })
        .collect()
}

/// What was learned of the fleet, at some of the origins.
struct Learned(Vec<(usize, Fleet)>);

impl Learned {
    /// For `origins`: at those of a sequence that is the same whichever are asked for, from the last one that is no later.
    fn from_on(series: &[Vec<f64>], cycle: usize, origins: std::ops::RangeInclusive<usize>, ahead: usize) -> Self {
        let (first, last) = origins.into_inner();
        let next = |&at: &usize| Some((at as f64 * LEARN_AGAIN_AFTER).ceil() as usize).map(|next| next.max(at + 1));
        let sequence: Vec<usize> = std::iter::successors(Some(1), next).take_while(|&at| at <= last).collect();
        let begin = sequence.partition_point(|&at| at <= first).saturating_sub(1);
        Self(
            sequence
                .into_iter()
                .skip(begin)
                .map(|at| (at, Fleet::before(series, at, cycle, last + ahead + 1)))
                .collect(),
        )
    }

    /// What was known at an origin.
    fn before(&self, origin: usize) -> &Fleet {
        let known = self.0.partition_point(|(at, _)| *at <= origin).max(1);
        &self.0[known - 1].1
    }
}

/// What laws said at each of the origins, of the period so far ahead.
fn cells(series: &[f64], origins: Range<usize>, ahead: usize, pools: &[Pool], learned: &Learned) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(origins.len());
    let mut watched: Option<(&Fleet, Filter<'_>)> = None;
    for at in origins.clone() {
        let fleet = learned.before(at);
        // The same knowledge goes on with the next period; new knowledge looks at all again.
        let filter = match &mut watched {
            Some((same, filter)) if std::ptr::eq(*same, fleet) => {
                filter.step(series[at - 1]);
                filter
            }
            _ => &mut watched.insert((fleet, Filter::after(fleet, &series[..at]))).1,
        };
        let taken = series.get(at + ahead).copied().filter(|y| y.is_finite());
        let components = taken.and_then(|_| Components::of(&series[..at], &pools[at - origins.start]));
        cells.push(taken.zip(components).map(|(taken, components)| {
            let of_fleet: [f64; DISCOUNTS.len()] = filter.probabilities(at + ahead, taken);
            components.probabilities(taken, of_fleet)
        }));
    }
    cells
}

/// How much each law counts, by series, as the back-test before an origin says.
struct Weighing {
    by_series: Vec<[f64; COMPONENTS]>,
}

impl Weighing {
    fn learn<'a>(series: &[Vec<f64>], origin: usize, cells: impl Iterator<Item = &'a [Cell]>) -> Self {
        let cells: Vec<Vec<&[f64; COMPONENTS]>> = cells.map(|of| of.iter().flatten().collect()).collect();
        let classes: Vec<&'static str> = series.iter().map(|of| class(&of[..origin.min(of.len())])).collect();
        let even = [1.0 / COMPONENTS as f64; COMPONENTS];
        let all: Vec<&[f64; COMPONENTS]> = cells.iter().flatten().copied().collect();
        let of_all = maximum_likelihood(&all, &even, 1.0);
        let mut names = classes.clone();
        names.sort_unstable();
        names.dedup();
        let of_class: Vec<[f64; COMPONENTS]> = names
            .iter()
            .map(|name| {
                let members = cells.iter().zip(&classes).filter(|(_, class)| *class == name);
                let rows: Vec<&[f64; COMPONENTS]> = members.flat_map(|(rows, _)| rows.iter().copied()).collect();
                maximum_likelihood(&rows, &of_all, CLASS_PRIOR_CELLS)
            })
            .collect();
        let by_series = cells
            .iter()
            .zip(&classes)
            .map(|(rows, class)| {
                let place = names.binary_search(class).unwrap_or_default();
                of_series(rows, &of_class[place])
            })
            .collect();
        Self { by_series }
    }
}

/// The Syntetos-Boylan class of what is known of a series.
fn class(history: &[f64]) -> &'static str {
    let known: Vec<f64> = history.iter().copied().filter(|y| y.is_finite()).collect();
    pattern(&known).name()
}

#[cfg(test)]
mod tests;
