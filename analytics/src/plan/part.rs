//! The plan of a part and of those that it replaces: their cells under each hub, the pieces that move between them, the purchase.
//!
//! Parts whose pieces serve one another's devices are planned as one (section 5.4): a newer one may take the place of an older
//! one, never the other way. The older is used while it lasts, and what it lacks is bought of the newest.

use std::collections::BTreeMap;

use harbinger_core::{
    PartId,
    fleet::{Consumption, Lane, Part},
};

use super::{
    ByDepot, CellReport, CriticalLevel, DepotId, PlanInput, PurchaseProposal, SlotForecast, StockPosition,
    cells::{Cell, reasons},
    lead_time::LeadTime,
    moves::{Changes, Moved},
    network::{Network, Reach},
    shared::{Bought, Sent},
};
use crate::{
    demand::{self, DemandLaw, Trial, common_factor, poisson},
    inventory::{CellCost, Holding, Valuation},
    placement::{PurchaseNeed, order_quantity},
};

/// Share of slots whose probability counts as usual; what is above is an alert, which will be over when the reserve is needed.
const USUAL_SHARE: f64 = 0.9;

/// What is known of a part.
#[derive(Clone, Copy)]
pub(super) struct Known<'k, 'a> {
    pub(super) slots: &'k [&'a SlotForecast],
    pub(super) positions: Option<&'k ByDepot<'a, &'a StockPosition>>,
    pub(super) consumption: &'k [&'a Consumption],
}

/// A part of a family.
pub(super) struct Member<'k, 'a> {
    pub(super) part: &'a Part,
    pub(super) known: Known<'k, 'a>,
}

/// What the plan says of a family.
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
    value: Valuation,
}

impl Seen {
    /// Position after the plan.
    fn after(&self) -> i64 {
        let came = i64::from(self.report.sent) + i64::from(self.report.substituted);
        let went = i64::from(self.report.taken) + i64::from(self.report.substitutes);
        self.report.position + came - went
    }

    /// Reckons what depends on the pieces that come and go.
    pub(super) fn reckon(&mut self) {
        let after = self.after();
        self.report.worth_of_next = self.value.gain_of_next(after);
        self.report.expected_cost = self.value.of_position(after);
    }

    /// What the last piece of the position after the plan saves.
    pub(super) fn gain_of_last(&self) -> f64 {
        self.value.gain_of_next(self.after() - 1)
    }
}

/// A cell with its law and price.
pub(super) struct Priced<'a> {
    pub(super) part: &'a Part,
    /// Its depot's place under the hub.
    pub(super) place: usize,
    pub(super) is_hub: bool,
    pub(super) cell: Cell<'a>,
    pub(super) demand: DemandLaw,
    pub(super) cost: CellCost,
    /// By what its positions are compared: the same, with what perishes.
    pub(super) value: Valuation,
    pub(super) position: i64,
    /// Pieces that may leave.
    pub(super) movable: u32,
    /// Whether its stock was told.
    is_stocked: bool,
}

pub(super) fn plan_family<'a>(
    input: &PlanInput<'a>,
    (network, reaches): (&Network<'a>, &[Reach<'a>]),
    members: &[Member<'_, 'a>],
    newest: &'a Part,
) -> Planned {
    let mut planned = Planned::default();
    let mut by_place: BTreeMap<(&PartId, &DepotId), Vec<&SlotForecast>> = BTreeMap::new();
    for member in members {
        for alike in member.known.slots.chunk_by(|a, b| a.depot == b.depot) {
            by_place.entry((&member.part.part, &alike[0].depot)).or_default().extend(alike);
        }
    }
    for reach in reaches {
        let group = Group { input, network, members, newest, reach };
        if let Err(unusable) = group.plan(&mut by_place, &mut planned) {
            planned.unusable.push(unusable);
        }
    }
    planned
}

/// A family under one hub.
pub(super) struct Group<'p, 'a> {
    pub(super) input: &'p PlanInput<'a>,
    pub(super) network: &'p Network<'a>,
    /// The older first.
    members: &'p [Member<'p, 'a>],
    /// The one that is bought: the last of the members.
    newest: &'a Part,
    pub(super) reach: &'p Reach<'a>,
}

impl<'a> Group<'_, 'a> {
    fn plan(
        &self,
        by_place: &mut BTreeMap<(&'a PartId, &'a DepotId), Vec<&'a SlotForecast>>,
        planned: &mut Planned,
    ) -> Result<(), String> {
        let unusable = |part: &Part, depot: &DepotId| format!("{} at {depot}", part.part);
        let mut cells = Vec::new();
        for member in self.members {
            for (place, &depot) in self.reach.depots.iter().enumerate() {
                let slots = by_place.remove(&(&member.part.part, depot)).unwrap_or_default();
                match self.priced(member, place, slots) {
                    Ok(priced) => cells.push(priced),
                    // A cell without a law is left out of the plan; the others are planned.
                    Err(_) => planned.unusable.push(unusable(member.part, depot)),
                }
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
            let mut seen = Seen { report, value: priced.value };
            seen.reckon();
            planned.cells.push(seen);
        }
        planned.purchases.extend(bought.map_err(|_| unusable(self.newest, self.reach.hub))?);
        Ok(())
    }

    /// The lane from one cell's depot to another's.
    pub(super) fn lane(&self, from: &Priced<'a>, to: &Priced<'a>) -> Option<&'a Lane> {
        self.reach.lane(from.place, to.place)
    }

    /// Variance of the factor that a part's forecasts share.
    pub(super) fn common_factor(&self, part: &Part) -> f64 {
        self.input.options.common_factor_of(&part.part)
    }

    fn supplier_lead_days(&self) -> f64 {
        self.supplier_lead().days
    }

    fn supplier_lead(&self) -> LeadTime {
        let days = self.newest.supplier_lead_days.unwrap_or(self.input.options.supplier_lead.days());
        LeadTime::new(days, self.newest.supplier_lead_days_p95)
    }

    fn priced(
        &self,
        member: &Member<'_, 'a>,
        place: usize,
        slots: Vec<&'a SlotForecast>,
    ) -> Result<Priced<'a>, demand::Error> {
        let (part, options) = (member.part, self.input.options);
        let (hub, depot) = (self.reach.hub, self.reach.depots[place]);
        let is_hub = depot == hub;
        let way = self.network.way(hub, depot);
        // The hub's own pieces are replaced by the supplier, a depot's by the hub.
        let lead = if is_hub { self.supplier_lead() } else { way.lead };
        let cell = Cell::new(self.input, depot, way, lead, slots, member.known.consumption);
        let demand = cell.demand(0.0, lead, self.common_factor(part))?;
        let cost = cell.cost(self.input, self.network, part.unit_cost, lead.days);
        let value = match part.shelf_life_days {
            Some(life) => {
                let in_life = cell.demand_within(0.0, life, self.common_factor(part))?;
                Valuation::perishable(&demand, cost, in_life, part.unit_cost)
            }
            None => Valuation::new(demand.clone(), cost),
        };
        let stock = member.known.positions.and_then(|positions| positions.get(depot)).copied();
        let position = stock.map_or(0, StockPosition::position);
        let settled = |stock: &&StockPosition| {
            let received = stock.last_received.filter(|_| !is_hub);
            stock.backorders == 0 && received.is_none_or(|at| at + options.settle <= self.input.as_of)
        };
        let movable = stock.filter(settled).map_or(0, StockPosition::available);
        Ok(Priced { part, place, is_hub, cell, demand, cost, value, position, movable, is_stocked: stock.is_some() })
    }

    /// What the plan saw of a cell; nothing where there is nothing to see.
    fn report(&self, cells: &[Priced<'a>], place: usize, moved: &Moved) -> Option<CellReport> {
        let priced = &cells[place];
        let cell = &priced.cell;
        let changes = moved.changes(place);
        if cell.slots.is_empty() && priced.demand.mean() == 0.0 && !priced.is_stocked && changes == Changes::default() {
            return None;
        }
        Some(CellReport {
            part: priced.part.part.clone(),
            depot: cell.depot.clone(),
            slots: u32::try_from(cell.slots.len()).unwrap_or(u32::MAX),
            window_days: cell.window_days,
            demand_mean: priced.demand.mean(),
            demand_p95: priced.demand.quantile(0.95),
            background_mean: cell.background_mean(cell.window_days),
            position: priced.position,
            target: priced.value.best_position(),
            sent: changes.sent,
            taken: changes.taken,
            substituted: changes.substituted,
            substitutes: changes.substitutes,
            critical_levels: self.critical_levels(priced),
            verdict: self.verdict(cells, place, priced.position + changes.net()),
            // Both follow from the pieces above.
            worth_of_next: 0.0,
            expected_cost: 0.0,
            holding_cost: priced.cost.holding,
            shortage_cost: priced.cost.shortage,
        })
    }

    fn critical_levels(&self, priced: &Priced<'a>) -> Vec<CriticalLevel> {
        if priced.position <= 0 {
            return Vec::new();
        }
        let common = self.common_factor(priced.part);
        // Its law of all slots was made, so that of some can be.
        priced.cell.critical_levels(self.input, self.network, priced.cost.holding, common).unwrap_or_default()
    }

    /// What the system under this hub should buy (section 4.5): pieces of the newest part, for its own devices and for what older
    /// parts lack. Pieces that an older part has beyond its own want serve nobody else.
    fn purchase(&self, cells: &[Priced<'a>], usual_means: &[f64]) -> Result<Option<Bought>, demand::Error> {
        let options = self.input.options;
        let protection_days = self.supplier_lead_days() + options.review.days();
        let window_days = protection_days + mean_depot_days(cells);
        let cost = self.system_cost(cells);
        let mut system = SystemNeed::default();
        for member in self.members {
            let own: Vec<(&Priced<'a>, &f64)> =
                cells.iter().zip(usual_means).filter(|(priced, _)| std::ptr::eq(priced.part, member.part)).collect();
            // Where the supplier is not always as late, the law is the mixture over what it may be (section 5.10).
            let within = |&(lead, weight): &(f64, f64)| {
                let days = window_days + lead - self.supplier_lead_days();
                Ok((weight, self.demand_of(own.iter().map(|(priced, _)| *priced), member.part, days)?))
            };
            let lengths = self.supplier_lead().lengths();
            let demand = DemandLaw::mixture(&lengths.iter().map(within).collect::<Result<Vec<_>, demand::Error>>()?);
            let mut reserve = 0_u32;
            for (priced, mean) in own.iter().filter(|(priced, _)| !priced.is_hub) {
                reserve = reserve.saturating_add(self.reserve(priced, **mean)?);
            }
            let repaired = self.repaired_within(member, protection_days)?;
            let demand = demand.convolve(&repaired.condemned);
            let shelves: i64 = own.iter().map(|(priced, _)| priced.position).sum();
            let position = shelves + i64::from(repaired.pieces);
            system.add(self.network, member.part, demand, reserve, position, cost.critical_ratio());
        }
        let SystemNeed { demand, reserve: spatial_reserve, position: system_position, .. } = system;
        let value = match self.newest.shelf_life_days {
            Some(life) => {
                let mut in_life = DemandLaw::zero();
                for member in self.members {
                    let own = cells.iter().filter(|priced| std::ptr::eq(priced.part, member.part));
                    in_life = in_life.convolve(&self.demand_of(own, member.part, window_days + life)?);
                }
                Valuation::perishable(&demand, cost, in_life, self.newest.unit_cost)
            }
            None => Valuation::new(demand, cost),
        };
        let demand_quantile = value.best_position();
        let need = PurchaseNeed { demand_quantile, spatial_reserve, system_position };
        let part = self.newest;
        let quantity = order_quantity(need.need(), part.minimum_order, part.pack_size);
        if quantity == 0 {
            return Ok(None);
        }
        // Pieces of the spatial reserve serve depots, not the sum of demand: worth is told against what is left of the position.
        let usable = system_position - i64::from(spatial_reserve);
        let cost_if_not = value.of_position(usable);
        let cost_if_bought = value.of_position(usable + i64::from(quantity));
        let likely = cells.iter().flat_map(|priced| priced.cell.likely(window_days));
        let proposal = PurchaseProposal {
            part: part.part.clone(),
            to: self.reach.hub.clone(),
            quantity,
            worth: cost_if_not - cost_if_bought,
            cost: part.unit_cost * f64::from(quantity),
            reasons: reasons(likely, options.reasons),
            cost_if_bought,
            cost_if_not,
            demand_quantile,
            spatial_reserve,
            system_position,
        };
        let (minimum, pack) = (part.minimum_order, part.pack_size);
        Ok(Some(Bought { proposal, value, usable, unit_cost: part.unit_cost, minimum, pack }))
    }

    /// Demand for a part at all its cells in so many days.
    fn demand_of<'c>(
        &self,
        cells: impl Iterator<Item = &'c Priced<'a>>,
        part: &Part,
        days: f64,
    ) -> Result<DemandLaw, demand::Error>
    where
        'a: 'c,
    {
        let (mut trials, mut background) = (Vec::new(), DemandLaw::zero());
        for priced in cells {
            let trial =
                |(p, slot): (f64, &SlotForecast)| Trial { probability: p.clamp(0.0, 1.0), quantity: slot.quantity };
            trials.extend(priced.cell.likely(days).map(trial));
            background = background.convolve(&priced.cell.background_over(days)?);
        }
        Ok(common_factor(&trials, self.common_factor(part))?.convolve(&background))
    }

    /// Shelf cost of a piece, and the price of a demand that waits for the supplier, weighted over cells by demand.
    fn system_cost(&self, cells: &[Priced<'a>]) -> CellCost {
        let options = self.input.options;
        let lead_days = self.supplier_lead_days();
        let (mut weight, mut shortage) = (0.0, 0.0);
        for priced in cells {
            let mean = priced.demand.mean().max(f64::MIN_POSITIVE);
            let wait_days = lead_days + priced.cell.way.lead.days;
            weight += mean;
            shortage += mean * priced.cell.cost(self.input, self.network, priced.part.unit_cost, wait_days).shortage;
        }
        let holding = Holding {
            unit_cost: self.newest.unit_cost,
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
        match priced.part.shelf_life_days {
            Some(life) => {
                let mean = usual_mean * life / cell.window_days.max(f64::MIN_POSITIVE);
                let in_life = poisson(mean)?.convolve(&cell.background_over(life)?);
                let unit_cost = priced.part.unit_cost;
                Ok(Valuation::perishable(&demand, priced.cost, in_life, unit_cost).best_position())
            }
            None => Ok(priced.cost.best_position(&demand)),
        }
    }

    /// Of each cell, expected demand of its slots over a window that begins when the supplier has delivered, without what only
    /// an alert explains.
    fn usual_means(&self, cells: &[Priced<'a>]) -> Vec<f64> {
        let days = self.supplier_lead_days() + self.input.options.review.days();
        // A planned replacement is in the system's demand, and over when the reserve is needed; a device that moves is then where
        // it has moved to.
        let until = |slot: &SlotForecast, upto: f64| match slot.work_order_id {
            None if slot.served.is_on(days) => slot.survival.cumulative_hazard(upto),
            _ => 0.0,
        };
        let mean = |hazard: f64, slot: &SlotForecast| -(-hazard).exp_m1() * f64::from(slot.quantity);
        // The usual level is taken over the part: one depot may have few slots. Few windows differ.
        let mut usual: BTreeMap<(&PartId, u64), f64> = BTreeMap::new();
        let mut delivered: BTreeMap<&PartId, Vec<f64>> = BTreeMap::new();
        let of_cell = |priced: &Priced<'a>| {
            let (part, window) = (priced.part, priced.cell.window_days);
            if priced.cell.slots.is_empty() {
                return 0.0;
            }
            let usual = *usual.entry((&part.part, window.to_bits())).or_insert_with(|| {
                let members = self.members.iter().filter(|member| std::ptr::eq(member.part, part));
                let slots = || members.clone().flat_map(|member| member.known.slots);
                let before =
                    delivered.entry(&part.part).or_insert_with(|| slots().map(|slot| until(slot, days)).collect());
                let hazards = slots().zip(before.iter()).map(|(slot, before)| until(slot, days + window) - before);
                // Of slots that take one piece the order of hazards is that of means.
                let alike = slots().all(|slot| slot.quantity == 1);
                let mut all: Vec<f64> = match alike {
                    true => hazards.collect(),
                    false => hazards.zip(slots()).map(|(hazard, slot)| mean(hazard, slot)).collect(),
                };
                let place = (all.len() as f64 * USUAL_SHARE) as usize;
                if place >= all.len() {
                    return f64::INFINITY;
                }
                let level = *all.select_nth_unstable_by(place, f64::total_cmp).1;
                if alike { -(-level).exp_m1() } else { level }
            });
            let own = |slot: &&SlotForecast| mean(until(slot, days + window) - until(slot, days), slot).min(usual);
            priced.cell.slots.iter().map(own).sum()
        };
        cells.iter().map(of_cell).collect()
    }
}

/// Mean days from hub to depot, weighted by demand.
fn mean_depot_days(cells: &[Priced<'_>]) -> f64 {
    let total: f64 = cells.iter().map(|priced| priced.demand.mean()).sum();
    if total > 0.0 {
        cells.iter().map(|priced| priced.demand.mean() * priced.cell.way.lead.days).sum::<f64>() / total
    } else {
        0.0
    }
}

/// What a system wants and has over the time until its supplier delivers, part by part of a family.
struct SystemNeed {
    /// Demand of all parts.
    demand: DemandLaw,
    /// Positions that their depots want at the end of it.
    reserve: u32,
    /// Pieces that can serve it.
    position: i64,
    /// What each part lacks, by the part that replaces it.
    lacking: BTreeMap<PartId, i64>,
}

impl Default for SystemNeed {
    fn default() -> Self {
        Self { demand: DemandLaw::zero(), reserve: 0, position: 0, lacking: BTreeMap::new() }
    }
}

impl SystemNeed {
    /// Adds a part; older ones come before those that replace them.
    fn add(
        &mut self,
        network: &Network<'_>,
        part: &Part,
        demand: DemandLaw,
        reserve: u32,
        position: i64,
        critical_ratio: f64,
    ) {
        let of_older = self.lacking.get(&part.part).copied().unwrap_or(0);
        let wanted = i64::from(demand.quantile(critical_ratio)) + i64::from(reserve) + of_older;
        match network.next(&part.part) {
            Some(next) => {
                *self.lacking.entry(next.clone()).or_default() += (wanted - position).max(0);
                self.position += position.min(wanted);
            }
            None => self.position += position,
        }
        self.reserve = self.reserve.saturating_add(reserve);
        self.demand = self.demand.convolve(&demand);
    }
}
