//! A cell of the plan: one part at one depot, its demand over a window and its prices.

use std::collections::BTreeMap;

use harbinger_core::{Timestamp, fleet::Consumption};

use super::{
    DepotId, PlanInput, Reason, SlotForecast,
    network::{Network, Way},
};
use crate::{
    demand::{self, BackgroundForecast, DemandLaw, Method, Trial, background_law, common_factor, forecast_background},
    inventory::{CellCost, Holding, probability_unused},
};
use harbinger_core::Probability;

/// Longest background series that is looked at, in periods.
const MOST_PERIODS: i64 = 36;

/// Devices named as reasons even if they are unlikely, and the probability above which others are named too.
const FEW_REASONS: usize = 3;
const LIKELY: f64 = 0.01;

/// A part at a depot.
pub(super) struct Cell<'a> {
    pub(super) depot: &'a DepotId,
    pub(super) way: Way,
    pub(super) slots: Vec<&'a SlotForecast>,
    background: BackgroundForecast,
    background_days: f64,
    /// O + R: days until the next decision could arrive.
    pub(super) window_days: f64,
}

impl<'a> Cell<'a> {
    pub(super) fn new(
        input: &PlanInput<'a>,
        depot: &'a DepotId,
        way: Way,
        window_days: f64,
        slots: Vec<&'a SlotForecast>,
        consumption: &[&Consumption],
    ) -> Self {
        let period = input.options.background_period.millis().max(1);
        Self {
            depot,
            way,
            slots,
            background: background(input.as_of, depot, consumption, period),
            background_days: input.options.background_period.days().max(f64::MIN_POSITIVE),
            window_days,
        }
    }

    /// Each slot's probability to need the part between two days from now.
    fn trials(&self, from: f64, to: f64) -> Vec<Trial> {
        let trial = |slot: &&SlotForecast| Trial {
            probability: slot.survival.window_probability(from, to).clamp(0.0, 1.0),
            quantity: slot.quantity,
        };
        self.slots.iter().map(trial).collect()
    }

    pub(super) fn background_mean(&self, days: f64) -> f64 {
        self.background.mean * days / self.background_days
    }

    /// Law of demand within `days`: the slots' with their common factor, and the background.
    pub(super) fn demand(&self, days: f64, common: f64) -> Result<DemandLaw, demand::Error> {
        self.demand_between(0.0, days, common)
    }

    /// The same between two days from now.
    pub(super) fn demand_between(&self, from: f64, to: f64, common: f64) -> Result<DemandLaw, demand::Error> {
        Ok(common_factor(&self.trials(from, to), common)?.convolve(&self.background_over(to - from)?))
    }

    pub(super) fn background_over(&self, days: f64) -> Result<DemandLaw, demand::Error> {
        background_law(&self.background, days / self.background_days)
    }

    /// H and pi, where a demand that is not met waits `wait_days` (section 4.2).
    ///
    /// Downtime and penalty are those of the devices that make up the forecast, weighted by their probability.
    pub(super) fn cost(
        &self,
        input: &PlanInput<'_>,
        network: &Network<'_>,
        unit_cost: f64,
        wait_days: f64,
    ) -> CellCost {
        let options = input.options;
        let (mut weight, mut waiting) = (0.0, 0.0);
        for slot in &self.slots {
            // The floor gives devices with no probability at all the same say, so that the price is never 0 / 0.
            let p = slot.survival.window_probability(0.0, self.window_days).max(1e-9);
            let contract = slot.contract.as_ref().and_then(|contract| network.contracts.get(contract));
            let cost = contract.map_or(0.0, |contract| {
                let missed = wait_days * 24.0 > contract.resolve_hours;
                let penalty = if missed { contract.miss_penalty.unwrap_or(0.0) } else { 0.0 };
                contract.downtime_cost_per_day.unwrap_or(0.0) * wait_days + penalty
            });
            weight += p;
            waiting += p * cost;
        }
        let emergency = options.emergency_cost + self.way.cost_out;
        let shortage = emergency + if weight > 0.0 { waiting / weight } else { 0.0 };
        let holding = Holding {
            unit_cost,
            rate_per_year: options.holding_rate_per_year,
            review_days: options.review.days(),
            transport_out: self.way.cost_out,
            transport_back: self.way.cost_back,
            unused: probability_unused(self.background_mean(1.0), options.keep.days()),
        };
        CellCost { holding: holding.cost(), shortage }
    }

    /// Slots and their probability within `days`, for the reasons of a proposal.
    pub(super) fn likely(&self, days: f64) -> impl Iterator<Item = (f64, &'a SlotForecast)> + '_ {
        self.slots.iter().map(move |&slot| (slot.survival.window_probability(0.0, days), slot))
    }
}

/// The most likely slots as reasons: a few in any case, then those that are likely at all.
pub(super) fn reasons<'a>(likely: impl Iterator<Item = (f64, &'a SlotForecast)>, most: usize) -> Vec<Reason> {
    let mut slots: Vec<(f64, &SlotForecast)> = likely.filter(|(p, _)| *p > 0.0).collect();
    // Slots come in order of device and component, and the sort is stable: ties stay in it.
    slots.sort_by(|a, b| b.0.total_cmp(&a.0));
    let named = slots.into_iter().enumerate().take_while(|(place, (p, _))| *place < FEW_REASONS || *p >= LIKELY);
    named
        .take(most)
        .map(|(_, (p, slot))| Reason {
            device: slot.device.clone(),
            component: slot.component.clone(),
            probability: Probability::saturating(p),
            prediction_id: slot.prediction_id.clone(),
        })
        .collect()
}

/// Forecast of the background of a part at a depot, from its consumption per period, counted back from `as_of`.
///
/// A part with any zero row tells its periods itself: one without rows is unknown and left out. A part without zero rows
/// was not used where it has no rows (fleet bundle format).
pub(super) fn background(
    as_of: Timestamp,
    depot: &DepotId,
    consumption: &[&Consumption],
    period: i64,
) -> BackgroundForecast {
    let ago = |row: &Consumption| (as_of.millis() - row.ts.millis()) / period;
    let tells_zeros = consumption.iter().any(|row| row.quantity == 0.0);
    let mut taken: BTreeMap<i64, f64> = BTreeMap::new();
    for row in consumption.iter().filter(|row| &row.depot == depot && ago(row) < MOST_PERIODS) {
        *taken.entry(ago(row)).or_default() += row.quantity;
    }
    if taken.is_empty() {
        return BackgroundForecast { mean: 0.0, mean_squared_error: 0.0, method: Method::TeunterSyntetosBabai };
    }
    let series: Vec<f64> = if tells_zeros {
        taken.values().rev().copied().collect()
    } else {
        // The part's history begins where any depot first used it.
        let oldest = consumption.iter().map(|row| ago(row)).max().unwrap_or(0).min(MOST_PERIODS - 1);
        (0..=oldest).rev().map(|age| taken.get(&age).copied().unwrap_or(0.0)).collect()
    };
    forecast_background(&series, None)
}
