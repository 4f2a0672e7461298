//! What the next pieces at each cell are worth while the hub keeps a given stock.
//!
//! Service within a limit is no concave function of the level while the level is below the pipeline's mode, so gains are joined
//! until they fall: a step is one piece or, at first, several.

use super::{
    Cell, Claim, Error, Hub, HubBackorders, Item, Measure, Pipeline, Place, masses::Masses, service::log_availability,
    vari_metric,
};

/// With several claims in one cell, each is followed until its gain is this share of what counts, so that their sum is whole.
const SHARE_OF_LIMIT: f64 = 1e-3;

/// Share of a claim's weight below which a gain cannot be told from rounding.
const ROUNDING: f64 = 1e-13;

/// An item with what all its hub levels have in common.
pub(super) struct Prepared<'a> {
    pub(super) item: &'a Item,
    /// Worth of each group.
    pub(super) weights: &'a [f64],
    pub(super) hub: Hub,
    hub_rate_per_day: f64,
    /// The hub as each claim of a cell at the hub sees it, in order of cell and claim; empty for others.
    hubs_in_time: Vec<Hub>,
    /// Gain of one piece below which nothing is looked at.
    limit: f64,
}

/// A group and what the first, second, ... piece gives it.
type GroupGains = (usize, Vec<f64>);

/// Pieces that go to a cell together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Gain a piece.
    pub(super) slope: f64,
    pub(super) pieces: u32,
    pub(super) cell: u32,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(item: &'a Item, weights: &'a [f64], limit: f64) -> Result<Self, Error> {
        let hub_rate_per_day = item.hub_rate_per_day();
        let mut hubs_in_time = Vec::new();
        for cell in item.cells.iter().filter(|cell| cell.place == Place::Hub) {
            for claim in &cell.claims {
                let days = if let Measure::WithinLimit { days } = claim.measure { days.max(0.0) } else { 0.0 };
                hubs_in_time.push(item.hub(days, hub_rate_per_day)?);
            }
        }
        let hub = item.hub(0.0, hub_rate_per_day)?;
        Ok(Self { item, weights, hub, hub_rate_per_day, hubs_in_time, limit })
    }

    /// Levels of the hub that are looked at: up to four standard deviations above the mean of its pipeline, all of them while
    /// they are few.
    pub(super) fn hub_levels(&self) -> impl Iterator<Item = u32> + use<> {
        const MOST_LEVELS: u32 = 512;
        let mean = self.hub_rate_per_day * self.item.resupply_days;
        // Serving devices itself, a hub may need the far end of the law as a depot does.
        let deviations = if self.hubs_in_time.is_empty() { 4.0 } else { 8.0 };
        // At most MOST_IN_PIPELINE and a little.
        let most = (mean + deviations * mean.sqrt() + 3.0).ceil() as u32;
        (0..=most).step_by((most / MOST_LEVELS + 1) as usize)
    }

    /// Value of the hub's level without a piece at any depot, and the steps of all cells, the best first; of equals the first
    /// cell. `steps` and `gains` are room to work in.
    pub(super) fn steps(&self, level: u32, steps: &mut Vec<Step>, gains: &mut Vec<f64>) -> Result<f64, Error> {
        steps.clear();
        let backorders = self.hub.backorders(level);
        let mut value = 0.0;
        let mut hubs = self.hubs_in_time.iter();
        for (place, cell) in (0..).zip(&self.item.cells) {
            gains.clear();
            let few = if cell.claims.len() > 1 { SHARE_OF_LIMIT } else { 1.0 };
            for claim in &cell.claims {
                let weight = self.weights[claim.group] * claim.weight;
                let in_time = if cell.place == Place::Hub { hubs.next() } else { None };
                if weight > 0.0 {
                    value += weight * self.base_value(cell, claim, level, backorders, in_time);
                    self.add_gains(cell, claim, backorders, (weight, self.limit * few), gains)?;
                }
            }
            push_hull(gains, place, self.limit, steps);
        }
        // A stable sort: of equals the first cell, and within a cell the first step.
        steps.sort_by(|a, b| b.slope.total_cmp(&a.slope));
        Ok(value)
    }

    /// What each group counts without a piece at any depot, and for each cell the gains of its claims, with their groups.
    pub(super) fn claims(&self, level: u32, groups: usize) -> Result<(Vec<f64>, Vec<Vec<GroupGains>>), Error> {
        let backorders = self.hub.backorders(level);
        let mut totals = vec![0.0; groups];
        let mut hubs = self.hubs_in_time.iter();
        let mut of_cells = Vec::with_capacity(self.item.cells.len());
        for cell in &self.item.cells {
            let mut of_cell = Vec::new();
            for claim in &cell.claims {
                let in_time = if cell.place == Place::Hub { hubs.next() } else { None };
                totals[claim.group] += claim.weight * self.base_value(cell, claim, level, backorders, in_time);
                let mut gains = Vec::new();
                self.add_gains(cell, claim, backorders, (claim.weight, 0.0), &mut gains)?;
                of_cell.push((claim.group, gains));
            }
            of_cells.push(of_cell);
        }
        Ok((totals, of_cells))
    }

    /// What a claim counts without a piece at the cell.
    fn base_value(
        &self,
        cell: &Cell,
        claim: &Claim,
        level: u32,
        backorders: HubBackorders,
        hub_in_time: Option<&Hub>,
    ) -> f64 {
        let mean = || match cell.place {
            Place::Hub => cell.share_of(self.hub_rate_per_day) * backorders.expected,
            Place::Depot { .. } => self.pipeline(cell, 0.0, backorders).mean,
        };
        match claim.measure {
            Measure::WithinLimit { days } if days >= 0.0 => hub_in_time.map_or(0.0, |hub| hub.ready_rate(level)),
            Measure::WithinLimit { .. } => 0.0,
            Measure::Backorders => -mean(),
            Measure::Availability { slots, per_device } => log_availability(mean(), slots, per_device),
        }
    }

    fn pipeline(&self, cell: &Cell, days: f64, backorders: HubBackorders) -> Pipeline {
        vari_metric(cell.own_pipeline(days), cell.share_of(self.hub_rate_per_day), backorders)
    }

    /// Adds what the first, second, ... piece at a depot gives a claim, times `weight`, until it is below `limit`.
    fn add_gains(
        &self,
        cell: &Cell,
        claim: &Claim,
        backorders: HubBackorders,
        (weight, limit): (f64, f64),
        gains: &mut Vec<f64>,
    ) -> Result<(), Error> {
        if cell.place == Place::Hub || cell.rate_per_day == 0.0 {
            return Ok(());
        }
        let days = if let Measure::WithinLimit { days } = claim.measure { days } else { 0.0 };
        if days < 0.0 {
            return Ok(());
        }
        let limit = limit.max(ROUNDING * weight);
        let pipeline = self.pipeline(cell, days, backorders);
        let demand = |source| Error::Demand { of: self.item.name(cell), source };
        let mut masses = Masses::new(pipeline.mean, pipeline.variance).map_err(demand)?;
        let (mut served, mut expected) = (0.0, pipeline.mean);
        for level in 0.. {
            let mass = masses.step();
            served += mass;
            let exceedance = (1.0 - served).max(0.0);
            let gain = match claim.measure {
                Measure::WithinLimit { .. } => mass,
                Measure::Backorders => exceedance,
                Measure::Availability { slots, per_device } => {
                    let before = log_availability(expected, slots, per_device);
                    expected = (expected - exceedance).max(0.0);
                    log_availability(expected, slots, per_device) - before
                }
            } * weight;
            // Beyond the mean, and so beyond the mode, gains fall.
            if gain < limit && f64::from(level) >= pipeline.mean {
                return Ok(());
            }
            match gains.get_mut(level as usize) {
                Some(sum) => *sum += gain,
                None => gains.push(gain),
            }
        }
        Ok(())
    }
}

/// Joins gains until they fall, and appends those that are worth `limit` a piece.
fn push_hull(gains: &[f64], cell: u32, limit: f64, steps: &mut Vec<Step>) {
    let first = steps.len();
    for &gain in gains {
        let mut step = Step { slope: gain, pieces: 1, cell };
        while let Some(last) = steps[first..].last().copied().filter(|last| last.slope < step.slope) {
            steps.pop();
            let pieces = last.pieces + step.pieces;
            let gain = last.slope * f64::from(last.pieces) + step.slope * f64::from(step.pieces);
            step = Step { slope: gain / f64::from(pieces), pieces, cell };
        }
        steps.push(step);
    }
    let worth = steps[first..].iter().take_while(|step| step.slope >= limit).count();
    steps.truncate(first + worth);
}
