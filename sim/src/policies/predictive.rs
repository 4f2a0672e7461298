//! Policy of prediction-driven pre-positioning: base stock for what no alert names, and pieces sent ahead where alerts make it pay.
//!
//! Base stock is VARI-METRIC's for the failures that alerts do not name in time. Each evening every cell with an alert that
//! alone would justify a piece gets the position that its law of demand asks for (4.2), the hub's pieces going where they are
//! worth most (4.3). A piece that nobody needed goes back where keeping it costs more than moving it (4.4, 4.7). The system buys up
//! to a quantile of all demand until the supplier delivers, alerts included, and the spatial reserve of the depots (4.5).
//!
//! What alerts are worth is learnt from those that have ended, see [`Record`]. Until they have shown it, and whenever they
//! no longer do, the policy is plain VARI-METRIC with the settings of that policy.
//!
//! Source: maths of pre-positioning, section 4.

use harbinger_analytics::{
    demand::{DemandLaw, Trial, common_factor, poisson},
    inventory::{CellCost, Holding, probability_unused},
    placement::{self, PurchaseNeed, allocate_hub, order_quantity, pieces_per_cell},
    plan::PlanOptions,
};

use super::{
    Alert, Controller, Error, Evening, Network, Order, Settings,
    base_stock::{Known, Levels, levels, replenish},
    luck::mean_lead_days,
    network::DAYS_PER_YEAR,
    record::Record,
    vari_metric::{REVIEW_DAYS, VariMetric},
};

/// R: days between two evenings.
const REVIEW: f64 = 1.0;
/// A piece stays at least so many days where it came (section 4.7).
const KEEP_DAYS: usize = 14;
/// A way back must save so many times the transport there and back (section 4.7).
const RETURN_MARGIN: f64 = 2.0;

/// The policy.
#[derive(Debug)]
pub(crate) struct Predictive<'a> {
    settings: Settings,
    fallback: VariMetric<'a>,
    known: &'a Known,
    options: PlanOptions,
    /// All alerts by their first day; what begins after today is not looked at.
    alerts: &'a [Alert],
    next: usize,
    /// Those that hold today, by cell.
    active: Vec<Vec<Alert>>,
    record: Record,
    rates: Rates,
    levels: Option<Levels>,
    /// pi of each depot, mean over its devices.
    shortage: Vec<f64>,
}

/// Estimated rates, and since when.
#[derive(Debug, Default)]
struct Rates {
    since: Option<usize>,
    /// Of each cell, a day.
    cells: Vec<f64>,
    /// Share of failures that are named in time.
    recall: f64,
}

/// What a cell asks for today.
struct Wish {
    cell: usize,
    demand: DemandLaw,
    cost: CellCost,
}

impl<'a> Predictive<'a> {
    /// * `settings.service`: as for VARI-METRIC, of the failures that no alert names.
    /// * `settings.hub`: what a piece in the system costs a day is multiplied with this.
    /// * `fallback`: settings of VARI-METRIC.
    pub(crate) fn new(
        network: &Network,
        settings: Settings,
        fallback: Settings,
        alerts: &'a [Alert],
        known: &'a Known,
    ) -> Self {
        Self {
            settings,
            fallback: VariMetric::new(fallback, known),
            known,
            options: PlanOptions::default(),
            alerts,
            next: 0,
            active: vec![Vec::new(); network.cells()],
            record: Record::default(),
            rates: Rates::default(),
            levels: None,
            shortage: network.shortage_costs(),
        }
    }

    /// Takes the day's failures and signals into the record.
    fn learn(&mut self, evening: &Evening<'_>) {
        let Evening { day, network, .. } = *evening;
        let slots_of = |cell: usize| network.depots[cell % network.depots.len()].devices.max(1) as f64;
        let by_chance = self.active.iter().enumerate().map(|(cell, alerts)| match self.rates.cells.get(cell) {
            Some(rate) => alerts.len() as f64 * rate / slots_of(cell),
            None => 0.0,
        });
        self.record.pass_day(by_chance.sum());
        for failure in evening.failures {
            let depot = network.devices[failure.device].depot;
            let mut named = false;
            let record = &mut self.record;
            self.active[network.cell(failure.part, depot)].retain(|alert| {
                let of_it = alert.device == failure.device;
                if of_it {
                    record.end(alert.probability, true);
                    named |= alert.from + network.depots[depot].ship_days < day;
                }
                !of_it
            });
            record.fail(named);
        }
        for alerts in &mut self.active {
            alerts.retain(|alert| {
                let holds = alert.to > day;
                if !holds {
                    self.record.end(alert.probability, false);
                }
                holds
            });
        }
        while let Some(alert) = self.alerts.get(self.next).filter(|alert| alert.from <= day) {
            // What was over before the network opened was never seen.
            if alert.from == day {
                self.active[network.cell(alert.part, network.devices[alert.device].depot)].push(*alert);
            }
            self.next += 1;
        }
    }

    /// Reckons rates and levels anew where it is time.
    fn review(&mut self, evening: &Evening<'_>) -> Result<(), Error> {
        let due = self.rates.since.is_none_or(|since| evening.day >= since + REVIEW_DAYS);
        if due {
            let cells = evening.history.rates_per_day()?;
            self.rates = Rates { since: Some(evening.day), cells, recall: self.record.recall() };
            self.levels = None;
        }
        if !self.record.is_trusted() {
            self.levels = None;
        } else if self.levels.is_none() {
            self.rates.recall = self.record.recall();
            let silent: Vec<f64> = self.rates.cells.iter().map(|rate| rate * (1.0 - self.rates.recall)).collect();
            self.levels = Some(levels(evening.network, &silent, self.settings.service, 0.0, self.known)?);
        }
        Ok(())
    }

    /// Each alert of a cell: P(failure within `days`), corrected by what such alerts were worth.
    fn trials(&self, cell: usize, day: usize, days: usize) -> Vec<Trial> {
        let correction = self.record.correction();
        let p = |alert: &Alert| (correction * alert.probability_within(day, days)).clamp(0.0, 1.0);
        self.active[cell].iter().map(|alert| Trial::one(p(alert))).collect()
    }

    /// Law and price of a cell that has an alert which alone would justify a piece.
    fn wish(&self, evening: &Evening<'_>, cell: usize) -> Result<Option<Wish>, Error> {
        let network = evening.network;
        let (part, depot) = (cell / network.depots.len(), cell % network.depots.len());
        let at = &network.depots[depot];
        let days = at.ship_days + 1;
        let trials = self.trials(cell, evening.day, days);
        let weight: f64 = trials.iter().map(|trial| trial.probability).sum();
        if weight <= 0.0 {
            return Ok(None);
        }
        let silent = self.rates.cells[cell] * (1.0 - self.rates.recall);
        // The price of a shortage is that of the devices which make up the forecast.
        let priced = self.active[cell].iter().zip(&trials);
        let shortage =
            priced.map(|(alert, trial)| trial.probability * network.shortage_cost(alert.device)).sum::<f64>();
        let holding = Holding {
            unit_cost: network.parts[part].unit_cost,
            rate_per_year: network.holding_rate_per_year,
            review_days: REVIEW,
            transport_out: at.ship_cost,
            transport_back: at.ship_cost,
            unused: probability_unused(self.rates.cells[cell], self.options.keep.days()),
        };
        let cost = CellCost { holding: holding.cost(), shortage: shortage / weight };
        if trials.iter().all(|trial| trial.probability <= cost.single_alert_threshold()) {
            return Ok(None);
        }
        let law = common_factor(&trials, self.options.common_factor)?;
        Ok(Some(Wish { cell, demand: law.convolve(&poisson(silent * days as f64)?), cost }))
    }

    /// Orders of a part while alerts are believed.
    fn plan_part(&self, evening: &Evening<'_>, part: usize, levels: &Levels) -> Result<Vec<Order>, Error> {
        let Evening { day, network, stock, .. } = *evening;
        let cells = network.cell(part, 0)..network.cell(part + 1, 0);
        let mut wishes = Vec::new();
        for cell in cells.clone().filter(|&cell| !self.active[cell].is_empty()) {
            wishes.extend(self.wish(evening, cell)?);
        }
        let asking: Vec<placement::Cell<'_>> = wishes
            .iter()
            .map(|wish| placement::Cell {
                demand: &wish.demand,
                cost: wish.cost,
                position: i64::from(stock.position(wish.cell)),
                transport: 0.0,
            })
            .collect();
        let given = pieces_per_cell(&allocate_hub(&asking, stock.at_hub(part)), asking.len());
        let mut sent = vec![0; network.cells()];
        let mut orders = Vec::new();
        for (wish, &pieces) in wishes.iter().zip(&given).filter(|(_, pieces)| **pieces > 0) {
            sent[wish.cell] = pieces;
            orders.push(Order::Send { cell: wish.cell, pieces });
        }
        replenish(network, stock, part, &levels.cells, &sent, &mut orders);
        for cell in cells.filter(|&cell| self.active[cell].is_empty()) {
            let unneeded = stock.position(cell).saturating_sub(levels.cells[cell]).min(stock.on_hand(cell));
            let kept = day >= stock.last_arrival(cell) + KEEP_DAYS;
            if unneeded > 0 && kept && self.is_worth_returning(network, part, cell) {
                orders.push(Order::Return { cell, pieces: unneeded });
            }
        }
        let pieces = order_quantity(self.purchase(evening, part, levels)?.need(), None, None);
        if pieces > 0 {
            orders.push(Order::Buy { part, pieces });
        }
        Ok(orders)
    }

    /// Whether keeping a piece until it is used here costs more than moving it, by the margin.
    fn is_worth_returning(&self, network: &Network, part: usize, cell: usize) -> bool {
        let years_until_used = 1.0 / (self.rates.cells[cell] * DAYS_PER_YEAR).max(f64::MIN_POSITIVE);
        let keeping = network.parts[part].unit_cost * network.holding_rate_per_year * years_until_used;
        let there_and_back = 2.0 * network.depots[cell % network.depots.len()].ship_cost;
        keeping > RETURN_MARGIN * there_and_back
    }

    /// What the system should hold and has (section 4.5).
    fn purchase(&self, evening: &Evening<'_>, part: usize, levels: &Levels) -> Result<PurchaseNeed, Error> {
        let Evening { day, network, stock, .. } = *evening;
        let of = &network.parts[part];
        let cells = network.cell(part, 0)..network.cell(part + 1, 0);
        let (mut rate, mut on_the_way, mut shortage) = (0.0, 0.0, 0.0);
        for cell in cells.clone() {
            let depot = cell % network.depots.len();
            rate += self.rates.cells[cell];
            on_the_way += self.rates.cells[cell] * network.depots[depot].ship_days as f64;
            shortage += self.rates.cells[cell] * self.shortage[depot];
        }
        let days = of.supplier_days as f64 + REVIEW + on_the_way / rate;
        let trials: Vec<Trial> = cells.clone().flat_map(|cell| self.trials(cell, day, days.round() as usize)).collect();
        // Alerts that have not fired yet: of what they will name, the failures after the usual lead; and all that none names.
        let named_already = self.rates.recall * days.min(mean_lead_days());
        let demand =
            common_factor(&trials, self.options.common_factor)?.convolve(&poisson(rate * (days - named_already))?);
        let holding = of.unit_cost * network.holding_rate_per_year / DAYS_PER_YEAR * REVIEW;
        let cost = CellCost { holding: self.settings.hub * holding, shortage: shortage / rate };
        Ok(PurchaseNeed {
            demand_quantile: cost.best_position(&demand),
            spatial_reserve: levels.cells[cells].iter().sum(),
            system_position: stock.system_position(part),
        })
    }
}

impl Controller for Predictive<'_> {
    fn decide(&mut self, evening: &Evening<'_>) -> Result<Vec<Order>, Error> {
        self.learn(evening);
        self.review(evening)?;
        let Some(levels) = &self.levels else { return self.fallback.decide(evening) };
        let mut orders = Vec::new();
        for part in 0..evening.network.parts.len() {
            orders.extend(self.plan_part(evening, part, levels)?);
        }
        Ok(orders)
    }
}
