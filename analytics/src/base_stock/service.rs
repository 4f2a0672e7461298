//! What levels give: fill rate, backorders, service within a time limit, availability (sections 3.1, 3.2 and 3.4).

use super::{
    Cell, Error, Hub, HubBackorders, Item, Levels, Measure, Pipeline, Place, exact_pipeline, masses::Masses,
    vari_metric,
};
use crate::demand;

/// Share of the mean below which expected backorders are summed from the tail, as a difference would lose their digits.
const CANCELS: f64 = 1e-8;

/// Least share of a depot's slots that works: of more backorders than slots no logarithm can be taken.
const LEAST_WORKING: f64 = 1e-9;

/// How a depot's pipeline is reckoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Negative binomial by mean and variance: what levels are chosen with.
    VariMetric,
    /// Exact for constant order-and-ship times: what a chosen plan is judged by.
    Exact,
}

/// An item with its levels.
#[derive(Debug)]
pub struct Evaluation<'a> {
    item: &'a Item,
    levels: &'a Levels,
    hub: Hub,
    hub_rate_per_day: f64,
    backorders: HubBackorders,
    /// Law of what the hub owes; empty where it is not needed.
    owed: Vec<f64>,
}

impl<'a> Evaluation<'a> {
    /// Reckons the hub.
    ///
    /// # Errors
    /// [`Error`] naming the part and depot whose amounts cannot be true.
    ///
    /// # Panics
    /// In debug builds, where there is not one level for each cell.
    pub fn new(item: &'a Item, levels: &'a Levels, method: Method) -> Result<Self, Error> {
        item.check(usize::MAX)?;
        debug_assert_eq!(item.cells.len(), levels.cells.len(), "one level for each cell");
        let hub_rate_per_day = item.hub_rate_per_day();
        let hub = item.hub(0.0, hub_rate_per_day)?;
        let owed = match method {
            Method::VariMetric => Vec::new(),
            Method::Exact => hub.law_for_depots(levels.hub),
        };
        Ok(Self { item, levels, hub_rate_per_day, backorders: hub.backorders(levels.hub), owed, hub })
    }

    /// What the hub owes.
    #[must_use]
    pub fn hub_backorders(&self) -> HubBackorders {
        self.backorders
    }

    /// P(a piece is there within `days` after a demand at a cell). A limit beyond the order-and-ship time counts as that time,
    /// a lower bound; one below zero is never met.
    ///
    /// # Errors
    /// [`Error::Demand`] for a law that cannot be held.
    pub fn within_limit(&self, cell: usize, days: f64) -> Result<f64, Error> {
        if days < 0.0 {
            return Ok(0.0);
        }
        let (of, level) = (&self.item.cells[cell], self.levels.cells[cell]);
        match of.place {
            Place::Hub => self.hub_within_limit(days),
            Place::Depot { .. } => Ok(self.masses(of, days, level)?.iter().fold(0.0, |sum, mass| sum + mass).min(1.0)),
        }
    }

    /// P(the hub has a piece within `days` after a demand or an order).
    ///
    /// # Errors
    /// Those of [`Evaluation::within_limit`].
    pub fn hub_within_limit(&self, days: f64) -> Result<f64, Error> {
        if days == 0.0 {
            return Ok(self.hub.ready_rate(self.levels.hub));
        }
        Ok(self.item.hub(days, self.hub_rate_per_day)?.ready_rate(self.levels.hub))
    }

    /// Share of the demand of a cell that is served at once from its stock.
    ///
    /// # Errors
    /// Those of [`Evaluation::within_limit`].
    pub fn fill_rate(&self, cell: usize) -> Result<f64, Error> {
        self.within_limit(cell, 0.0)
    }

    /// Expected backorders of a cell.
    ///
    /// # Errors
    /// Those of [`Evaluation::within_limit`].
    pub fn expected_backorders(&self, cell: usize) -> Result<f64, Error> {
        let (of, level) = (&self.item.cells[cell], self.levels.cells[cell]);
        let share = of.share_of(self.hub_rate_per_day);
        if of.place == Place::Hub {
            return Ok(share * self.backorders.expected);
        }
        let pipeline = vari_metric(of.own_pipeline(0.0), share, self.backorders);
        let mut served = 0.0;
        let (mut expected, masses) = (pipeline.mean, self.masses(of, 0.0, level)?);
        for mass in &masses {
            served += mass;
            expected -= (1.0 - served).max(0.0);
        }
        if expected > CANCELS * pipeline.mean {
            return Ok(expected);
        }
        let end = self.end(pipeline);
        let masses = self.masses(of, 0.0, end)?;
        let beyond = masses.iter().enumerate().skip(level as usize + 1).rev();
        Ok(beyond.fold(0.0, |sum, (n, mass)| sum + (n - level as usize) as f64 * mass))
    }

    /// What is counted of a cell.
    ///
    /// # Errors
    /// Those of [`Evaluation::within_limit`].
    pub fn measure(&self, cell: usize, measure: Measure) -> Result<f64, Error> {
        match measure {
            Measure::WithinLimit { days } => self.within_limit(cell, days),
            Measure::Backorders => Ok(-self.expected_backorders(cell)?),
            Measure::Availability { slots, per_device } => {
                Ok(log_availability(self.expected_backorders(cell)?, slots, per_device))
            }
        }
    }

    /// Sum of weight times measure over the claims of each group.
    ///
    /// # Errors
    /// Those of [`Evaluation::within_limit`].
    pub fn add_totals(&self, totals: &mut [f64]) -> Result<(), Error> {
        for (place, cell) in self.item.cells.iter().enumerate() {
            for claim in cell.claims.iter().filter(|claim| claim.weight > 0.0) {
                totals[claim.group] += claim.weight * self.measure(place, claim.measure)?;
            }
        }
        Ok(())
    }

    /// A number of pieces beyond which a pipeline has nothing.
    fn end(&self, pipeline: Pipeline) -> u32 {
        let deviations = 12.0 * pipeline.variance.max(1.0).sqrt();
        // A pipeline is at most MOST_IN_PIPELINE and the hub's: far below u32.
        (2.0 * (pipeline.mean + deviations) + 40.0) as u32
    }

    /// The first `count` masses of what a depot still waits for `days` after a demand; fewer where no more are left.
    fn masses(&self, cell: &Cell, days: f64, count: u32) -> Result<Vec<f64>, Error> {
        let (own, share) = (cell.own_pipeline(days), cell.share_of(self.hub_rate_per_day));
        let pipeline = vari_metric(own, share, self.backorders);
        let count = count.min(self.end(pipeline)) as usize;
        let law = if self.owed.is_empty() {
            Masses::new(pipeline.mean, pipeline.variance).map(|mut masses| (0..count).map(|_| masses.step()).collect())
        } else {
            exact_pipeline(&self.owed, share, own, count)
        };
        law.map_err(|source| Error::Demand { of: self.item.name(cell), source })
    }
}

impl Item {
    /// The hub as a demand sees it `days` later: what is on order then of what was ordered before.
    pub(super) fn hub(&self, days: f64, hub_rate_per_day: f64) -> Result<Hub, Error> {
        let mean = hub_rate_per_day * (self.resupply_days - days).max(0.0);
        let demand = |source: demand::Error| Error::Demand { of: self.part.to_string(), source };
        Hub::new(mean, self.pack_size).map_err(demand)
    }
}

/// `Z ln(1 - EBO / N)`.
pub(super) fn log_availability(expected_backorders: f64, slots: f64, per_device: f64) -> f64 {
    let broken = if slots > 0.0 { expected_backorders / slots } else { 0.0 };
    per_device * (-broken.min(1.0 - LEAST_WORKING)).ln_1p()
}
