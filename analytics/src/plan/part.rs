//! The plan of one part: its cells under each hub, the pieces that move between them, the purchase.

use std::collections::BTreeMap;

use harbinger_core::{
    PartId,
    fleet::{Consumption, Part},
};

use super::{
    ByDepot, CellReport, DepotId, PlanInput, PurchaseProposal, SlotForecast, StockPosition,
    cells::{Cell, reasons},
    moves::Moved,
    network::Network,
    shared::{Bought, Sent},
};
use crate::{
    demand::{self, DemandLaw, Trial, common_factor, poisson},
    inventory::{CellCost, Holding},
    placement::{PurchaseNeed, order_quantity},
};

/// Share of slots whose probability counts as usual; what is above is an alert, which will be over when the reserve is needed.
const USUAL_SHARE: f64 = 0.9;

/// What is known of a part.
pub(super) struct Known<'k, 'a> {
    pub(super) slots: &'k [&'a SlotForecast],
    pub(super) positions: Option<&'k ByDepot<'a, &'a StockPosition>>,
    pub(super) consumption: &'k [&'a Consumption],
}

/// What the plan says of a part.
#[derive(Default)]
pub(super) struct Planned {
    pub(super) transfers: Vec<Sent>,
    pub(super) purchases: Vec<Bought>,
    pub(super) cells: Vec<Seen>,
    /// Cells whose demand no law can hold.
    pub(super) unusable: Vec<String>,
}

/// What is told of a cell, with what its figures after the plan are reckoned from.
pub(super) struct Seen {
    pub(super) report: CellReport,
    demand: DemandLaw,
    cost: CellCost,
}

impl Seen {
    /// Reckons what depends on the pieces that come and go.
    pub(super) fn reckon(&mut self) {
        let report = &mut self.report;
        let after = report.position + i64::from(report.sent) - i64::from(report.taken);
        report.worth_of_next = self.cost.gain_of_next(&self.demand, after);
        report.expected_cost = self.cost.of_position(&self.demand, after);
    }
}

/// A cell with its law and price.
pub(super) struct Priced<'a> {
    pub(super) cell: Cell<'a>,
    pub(super) demand: DemandLaw,
    pub(super) cost: CellCost,
    pub(super) position: i64,
    /// Pieces that may leave.
    pub(super) movable: u32,
}

pub(super) fn plan_part<'a>(
    input: &PlanInput<'a>,
    network: &Network<'a>,
    part: &'a PartId,
    known: &Known<'_, 'a>,
) -> Planned {
    let mut planned = Planned::default();
    let Some(&properties) = network.parts.get(part) else { return planned };
    let mut by_depot: ByDepot<'_, Vec<&SlotForecast>> = BTreeMap::new();
    for alike in known.slots.chunk_by(|a, b| a.depot == b.depot) {
        by_depot.entry(&alike[0].depot).or_default().extend(alike);
    }
    for hub in network.hubs() {
        let group = Group { input, network, part: properties, hub, known };
        if let Err(unusable) = group.plan(&mut by_depot, &mut planned) {
            planned.unusable.push(unusable);
        }
    }
    planned.cells.sort_by(|a, b| a.report.depot.cmp(&b.report.depot));
    planned
}

/// A part under one hub.
pub(super) struct Group<'p, 'a> {
    pub(super) input: &'p PlanInput<'a>,
    pub(super) network: &'p Network<'a>,
    pub(super) part: &'a Part,
    pub(super) hub: &'a DepotId,
    known: &'p Known<'p, 'a>,
}

impl<'a> Group<'_, 'a> {
    fn plan(&self, by_depot: &mut ByDepot<'_, Vec<&'a SlotForecast>>, planned: &mut Planned) -> Result<(), String> {
        let unusable = |depot: &DepotId| format!("{} at {depot}", self.part.part);
        let mut cells = Vec::new();
        for depot in self.network.depots_of(self.hub) {
            let slots = by_depot.remove(depot).unwrap_or_default();
            match self.priced(depot, slots) {
                Ok(priced) => cells.push(priced),
                // A cell without a law is left out of the plan; the others are planned.
                Err(_) => planned.unusable.push(unusable(depot)),
            }
        }
        let usual_means = self.usual_means(&cells);
        let moved = self.moves(&cells, &usual_means);
        planned.transfers.extend(self.transfers(&cells, &moved));
        let bought = self.purchase(&cells, &usual_means);
        let reports: Vec<Option<CellReport>> =
            (0..cells.len()).map(|place| self.report(&cells, place, &moved)).collect();
        for (priced, report) in cells.into_iter().zip(reports) {
            let Some(report) = report else { continue };
            let mut seen = Seen { report, demand: priced.demand, cost: priced.cost };
            seen.reckon();
            planned.cells.push(seen);
        }
        planned.purchases.extend(bought.map_err(|_| unusable(self.hub))?);
        Ok(())
    }

    pub(super) fn stock(&self, depot: &DepotId) -> Option<&'a StockPosition> {
        self.known.positions.and_then(|positions| positions.get(depot)).copied()
    }

    /// Variance of the factor that the part's forecasts share.
    pub(super) fn common_factor(&self) -> f64 {
        self.input.options.common_factor_of(&self.part.part)
    }

    fn supplier_lead_days(&self) -> f64 {
        self.part.supplier_lead_days.unwrap_or(self.input.options.supplier_lead.days())
    }

    fn priced(&self, depot: &'a DepotId, slots: Vec<&'a SlotForecast>) -> Result<Priced<'a>, demand::Error> {
        let options = self.input.options;
        let way = self.network.way(self.hub, depot);
        // The hub's own pieces are replaced by the supplier, a depot's by the hub.
        let lead_days = if depot == self.hub { self.supplier_lead_days() } else { way.days };
        let window_days = lead_days + options.review.days();
        let cell = Cell::new(self.input, depot, way, window_days, slots, self.known.consumption);
        let demand = cell.demand(window_days, self.common_factor())?;
        let cost = cell.cost(self.input, self.network, self.part.unit_cost, lead_days);
        let stock = self.stock(depot);
        let position = stock.map_or(0, StockPosition::position);
        let settled = |stock: &&StockPosition| {
            let received = stock.last_received.filter(|_| depot != self.hub);
            stock.backorders == 0 && received.is_none_or(|at| at + options.settle <= self.input.as_of)
        };
        let movable = stock.filter(settled).map_or(0, StockPosition::available);
        Ok(Priced { cell, demand, cost, position, movable })
    }

    /// What the plan saw of a cell; nothing where there is nothing to see.
    fn report(&self, cells: &[Priced<'a>], place: usize, moved: &Moved) -> Option<CellReport> {
        let priced = &cells[place];
        let cell = &priced.cell;
        if cell.slots.is_empty() && priced.demand.mean() == 0.0 && self.stock(cell.depot).is_none() {
            return None;
        }
        let (sent, taken) = (moved.to(place), moved.out_of(place));
        let after = priced.position + i64::from(sent) - i64::from(taken);
        Some(CellReport {
            part: self.part.part.clone(),
            depot: cell.depot.clone(),
            slots: u32::try_from(cell.slots.len()).unwrap_or(u32::MAX),
            window_days: cell.window_days,
            demand_mean: priced.demand.mean(),
            demand_p95: priced.demand.quantile(0.95),
            background_mean: cell.background_mean(cell.window_days),
            position: priced.position,
            target: priced.cost.best_position(&priced.demand),
            sent,
            taken,
            verdict: self.verdict(cells, place, after),
            // Both follow from the pieces above.
            worth_of_next: 0.0,
            expected_cost: 0.0,
            holding_cost: priced.cost.holding,
            shortage_cost: priced.cost.shortage,
        })
    }

    /// What the system under this hub should buy (section 4.5).
    fn purchase(&self, cells: &[Priced<'a>], usual_means: &[f64]) -> Result<Option<Bought>, demand::Error> {
        let options = self.input.options;
        let protection_days = self.supplier_lead_days() + options.review.days();
        let window_days = protection_days + mean_depot_days(cells);
        let trials: Vec<Trial> = cells
            .iter()
            .flat_map(|priced| priced.cell.likely(window_days))
            .map(|(p, slot)| Trial { probability: p.clamp(0.0, 1.0), quantity: slot.quantity })
            .collect();
        let mut demand = common_factor(&trials, self.common_factor())?;
        for priced in cells {
            demand = demand.convolve(&priced.cell.background_over(window_days)?);
        }
        let cost = self.system_cost(cells);
        let system_position = cells.iter().map(|priced| priced.position).sum();
        let mut spatial_reserve = 0_u32;
        for (priced, &mean) in cells.iter().zip(usual_means).filter(|(priced, _)| priced.cell.depot != self.hub) {
            spatial_reserve = spatial_reserve.saturating_add(self.reserve(priced, mean)?);
        }
        let demand_quantile = demand.quantile(cost.critical_ratio());
        let need = PurchaseNeed { demand_quantile, spatial_reserve, system_position };
        let quantity = order_quantity(need.need(), self.part.minimum_order, self.part.pack_size);
        if quantity == 0 {
            return Ok(None);
        }
        // Pieces of the spatial reserve serve depots, not the sum of demand: worth is told against what is left of the position.
        let usable = system_position - i64::from(spatial_reserve);
        let cost_if_not = cost.of_position(&demand, usable);
        let cost_if_bought = cost.of_position(&demand, usable + i64::from(quantity));
        let likely = cells.iter().flat_map(|priced| priced.cell.likely(window_days));
        let proposal = PurchaseProposal {
            part: self.part.part.clone(),
            to: self.hub.clone(),
            quantity,
            worth: cost_if_not - cost_if_bought,
            cost: self.part.unit_cost * f64::from(quantity),
            reasons: reasons(likely, options.reasons),
            cost_if_bought,
            cost_if_not,
            demand_quantile,
            spatial_reserve,
            system_position,
        };
        let (minimum, pack) = (self.part.minimum_order, self.part.pack_size);
        Ok(Some(Bought { proposal, demand, price: cost, usable, unit_cost: self.part.unit_cost, minimum, pack }))
    }

    /// Shelf cost of a piece, and the price of a demand that waits for the supplier, weighted over cells by demand.
    fn system_cost(&self, cells: &[Priced<'a>]) -> CellCost {
        let options = self.input.options;
        let lead_days = self.supplier_lead_days();
        let (mut weight, mut shortage) = (0.0, 0.0);
        for priced in cells {
            let mean = priced.demand.mean().max(f64::MIN_POSITIVE);
            let wait_days = lead_days + priced.cell.way.days;
            weight += mean;
            shortage += mean * priced.cell.cost(self.input, self.network, self.part.unit_cost, wait_days).shortage;
        }
        let holding = Holding {
            unit_cost: self.part.unit_cost,
            rate_per_year: options.holding_rate_per_year,
            review_days: options.review.days(),
            transport_out: 0.0,
            transport_back: 0.0,
            unused: 0.0,
        };
        CellCost { holding: holding.shelf_cost(), shortage: if weight > 0.0 { shortage / weight } else { 0.0 } }
    }

    /// Position that a depot wants by its usual demand: today's alerts will be over when the supplier has delivered.
    fn reserve(&self, priced: &Priced<'a>, usual_mean: f64) -> Result<u32, demand::Error> {
        let cell = &priced.cell;
        let demand = poisson(usual_mean)?.convolve(&cell.background_over(cell.window_days)?);
        Ok(priced.cost.best_position(&demand))
    }

    /// Of each cell, expected demand of its slots over a window that begins when the supplier has delivered, without what only
    /// an alert explains.
    fn usual_means(&self, cells: &[Priced<'a>]) -> Vec<f64> {
        let days = self.supplier_lead_days() + self.input.options.review.days();
        let later = |slot: &SlotForecast, window: f64| {
            let hazard = slot.survival.cumulative_hazard(days + window) - slot.survival.cumulative_hazard(days);
            -(-hazard).exp_m1() * f64::from(slot.quantity)
        };
        // The usual level is taken over the part: one depot may have few slots. Few windows differ.
        let mut usual: BTreeMap<u64, f64> = BTreeMap::new();
        let mean = |priced: &Priced<'a>| {
            let window = priced.cell.window_days;
            let usual = *usual.entry(window.to_bits()).or_insert_with(|| {
                let mut all: Vec<f64> = self.known.slots.iter().map(|slot| later(slot, window)).collect();
                let place = (all.len() as f64 * USUAL_SHARE) as usize;
                if place < all.len() { *all.select_nth_unstable_by(place, f64::total_cmp).1 } else { f64::INFINITY }
            });
            priced.cell.slots.iter().map(|slot| later(slot, window).min(usual)).sum()
        };
        cells.iter().map(mean).collect()
    }
}

/// Mean days from hub to depot, weighted by demand.
fn mean_depot_days(cells: &[Priced<'_>]) -> f64 {
    let total: f64 = cells.iter().map(|priced| priced.demand.mean()).sum();
    if total > 0.0 {
        cells.iter().map(|priced| priced.demand.mean() * priced.cell.way.days).sum::<f64>() / total
    } else {
        0.0
    }
}
