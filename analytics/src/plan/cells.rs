//! A cell of the plan: one part at one depot, its demand over a window and its prices.

use std::{borrow::Cow, collections::BTreeMap};

use harbinger_core::{ContractId, Probability, Timestamp, fleet::Consumption};

use super::{
    CriticalLevel, DepotId, PlanInput, PlanOptions, Reason, SlotForecast,
    lead_time::LeadTime,
    network::{Network, Way},
};
use crate::{
    demand::{self, BackgroundForecast, DemandLaw, Method, Trial, background_law, common_factor, forecast_background},
    inventory::{CellCost, Holding, probability_unused},
};
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
    /// Each slot's probability to need the part in the window.
    in_window: Vec<f64>,
    background: BackgroundForecast,
    background_days: f64,
    /// O: time until a piece that is sent now is there; of the hub, until the supplier delivers.
    pub(super) lead: LeadTime,
    /// O + R: mean days until the next decision could arrive.
    pub(super) window_days: f64,
    review_days: f64,
}

impl<'a> Cell<'a> {
    pub(super) fn new(
        input: &PlanInput<'a>,
        depot: &'a DepotId,
        way: Way,
        lead: LeadTime,
        slots: Vec<&'a SlotForecast>,
        consumption: &[&Consumption],
    ) -> Self {
        let period = input.options.background_period.millis().max(1);
        let window_days = lead.days + input.options.review.days();
        Self {
            depot,
            way,
            in_window: slots.iter().map(|slot| slot.probability(0.0, window_days)).collect(),
            slots,
            background: background(input.as_of, depot, consumption, period),
            background_days: input.options.background_period.days().max(f64::MIN_POSITIVE),
            lead,
            window_days,
            review_days: input.options.review.days(),
        }
    }

    /// Each slot's probability to need the part between two days from now.
    fn probabilities(&self, from: f64, to: f64) -> Cow<'_, [f64]> {
        if from == 0.0 && to == self.window_days {
            return Cow::Borrowed(&self.in_window);
        }
        Cow::Owned(self.slots.iter().map(|slot| slot.probability(from, to)).collect())
    }

    /// Slots as trials of the window between two days from now.
    pub(super) fn trials(&self, from: f64, to: f64) -> Vec<Trial> {
        let probabilities = self.probabilities(from, to);
        self.slots.iter().zip(probabilities.iter()).map(|(slot, &p)| trial(slot, p)).collect()
    }

    pub(super) fn background_mean(&self, days: f64) -> f64 {
        self.background.mean * days / self.background_days
    }

    /// Law of demand until the decision after one on day `from` could arrive: the slots' with their common factor, and the
    /// background; where `lead` is not certain, the mixture over its lengths (section 5.10).
    pub(super) fn demand(&self, from: f64, lead: LeadTime, common: f64) -> Result<DemandLaw, demand::Error> {
        let within = |days: f64| self.demand_within(from, days + self.review_days, common);
        match lead.lengths().as_slice() {
            [(days, _)] => within(*days),
            lengths => {
                let laws = lengths.iter().map(|&(days, weight)| Ok((weight, within(days)?)));
                Ok(DemandLaw::mixture(&laws.collect::<Result<Vec<_>, demand::Error>>()?))
            }
        }
    }

    /// Law of demand in so many days from day `from` on.
    pub(super) fn demand_within(&self, from: f64, days: f64, common: f64) -> Result<DemandLaw, demand::Error> {
        Ok(common_factor(&self.trials(from, from + days), common)?.convolve(&self.background_over(days)?))
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
        let slots = self
            .slots
            .iter()
            .zip(&self.in_window)
            .map(|(slot, &p)| (weight(p), network.waiting_cost(slot.contract.as_ref(), wait_days)));
        let shortage = self.emergency(options) + weighted_mean(slots);
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

    /// What it costs to bring a piece at once, whoever waits for it.
    fn emergency(&self, options: &PlanOptions) -> f64 {
        options.emergency_cost + self.way.cost_out
    }

    /// How many pieces each lesser contract must leave on the shelf to those whose wait costs more (section 5.6); contracts that may
    /// take the last piece are not named. Contracts in order of what their wait costs, the dearest first.
    ///
    /// # Errors
    /// As [`Cell::demand`].
    pub(super) fn critical_levels(
        &self,
        input: &PlanInput<'_>,
        network: &Network<'_>,
        holding: f64,
        common: f64,
    ) -> Result<Vec<CriticalLevel>, demand::Error> {
        let mut classes: BTreeMap<Option<&ContractId>, (f64, Vec<Trial>)> = BTreeMap::new();
        for (slot, &p) in self.slots.iter().zip(&self.in_window) {
            let contract = slot.contract.as_ref();
            let class = || (network.waiting_cost(contract, self.lead.days), Vec::new());
            classes.entry(contract).or_insert_with(class).1.push(trial(slot, p));
        }
        let mut classes: Vec<_> = classes.into_iter().collect();
        classes.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
        let mut levels = Vec::new();
        for (contract, (price, _)) in &classes {
            let dearer = classes.iter().map(|(_, class)| class).take_while(|(above, _)| above > price);
            let above: Vec<(f64, Trial)> =
                dearer.flat_map(|(price, trials)| trials.iter().map(move |trial| (*price, *trial))).collect();
            if above.is_empty() {
                continue;
            }
            let trials: Vec<Trial> = above.iter().map(|(_, trial)| *trial).collect();
            let demand = common_factor(&trials, common)?;
            let waiting = weighted_mean(above.iter().map(|(price, trial)| (weight(trial.probability), *price)));
            let shortage = self.emergency(input.options) + waiting;
            let lesser = self.emergency(input.options) + price;
            // gamma falls, so the pieces that are worth more to those above come first.
            let keep = (0..).take_while(|&y| CellCost { holding, shortage }.gain_of_next(&demand, y) > lesser).count();
            let keep = u32::try_from(keep).unwrap_or(u32::MAX);
            levels.extend((keep > 0).then(|| CriticalLevel { contract: contract.cloned(), keep }));
        }
        Ok(levels)
    }

    /// Slots and their probability within `days`, for the reasons of a proposal.
    pub(super) fn likely(&self, days: f64) -> impl Iterator<Item = (f64, &'a SlotForecast)> + '_ {
        let probabilities = self.probabilities(0.0, days);
        (0..self.slots.len()).map(move |place| (probabilities[place], self.slots[place]))
    }
}

fn trial(slot: &SlotForecast, probability: f64) -> Trial {
    Trial { probability: probability.clamp(0.0, 1.0), quantity: slot.quantity }
}

/// How much a slot's contract counts in the price of a shortage. The floor gives devices with no probability at all the same say, so
/// that the price is never 0 / 0.
fn weight(probability: f64) -> f64 {
    probability.max(1e-9)
}

/// Mean of the second numbers, weighted by the first; 0 of none.
fn weighted_mean(values: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (weights, sum) =
        values.fold((0.0, 0.0), |(weights, sum), (weight, value)| (weights + weight, sum + weight * value));
    if weights > 0.0 { sum / weights } else { 0.0 }
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
            work_order_id: slot.work_order_id.clone(),
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
