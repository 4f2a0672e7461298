//! What a plan will not build on: records that cannot be true, or that name what is not there. Counted, with an example.

use std::collections::{BTreeMap, HashMap};

use harbinger_core::{ContractId, PartId, Timestamp, fleet::Consumption};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ByDepot, PlanInput, SlotForecast, StockPosition, network::Network};

/// A plan over more than this share of rejected forecasts is degraded (section 5.12).
const DEGRADED_ABOVE: f64 = 0.05;

/// Counts and quantities from other systems beyond this are errors, and sums of accepted ones stay exact.
const MOST_PIECES: i64 = 1_000_000_000;

/// Records that were rejected for one cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// What they are: `forecast`, `stock`, `consumption`, `part`, `lane`, `contract`.
    pub record: String,
    /// Why, in words.
    pub cause: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub example: String,
}

/// How good the data of a plan was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataQuality {
    /// Forecasts given.
    pub forecasts: u64,
    /// Forecasts rejected.
    pub forecasts_rejected: u64,
    /// More than 5 % of the forecasts were rejected: the plan is to be read with care.
    pub degraded: bool,
    /// Everything rejected, by record and cause.
    pub rejected: Vec<Rejected>,
}

/// Counts rejections.
#[derive(Debug, Default)]
pub(super) struct Counter {
    causes: BTreeMap<(&'static str, &'static str), (u64, String)>,
    forecasts_rejected: u64,
}

impl Counter {
    pub(super) fn reject(&mut self, record: &'static str, cause: &'static str, example: impl FnOnce() -> String) {
        self.causes.entry((record, cause)).or_insert_with(|| (0, example())).0 += 1;
    }

    /// Cells whose demand is beyond what a law can hold.
    pub(super) fn unusable_laws(&mut self, examples: Vec<String>) {
        for example in examples {
            self.reject("cell", "demand is beyond a million pieces", || example);
        }
    }

    pub(super) fn finish(self, forecasts: usize) -> DataQuality {
        let rejected = self.causes.into_iter().map(|((record, cause), (count, example))| Rejected {
            record: record.to_owned(),
            cause: cause.to_owned(),
            count,
            example,
        });
        DataQuality {
            forecasts: forecasts as u64,
            forecasts_rejected: self.forecasts_rejected,
            degraded: self.forecasts_rejected as f64 > DEGRADED_ABOVE * forecasts as f64,
            rejected: rejected.collect(),
        }
    }
}

fn slot_fault(slot: &SlotForecast) -> Option<&'static str> {
    if !(0.0..=1.0).contains(&slot.probability_main) {
        Some("probability is not in 0..=1")
    } else if slot.quantity == 0 || i64::from(slot.quantity) > 1000 {
        Some("quantity is not in 1..=1000")
    } else {
        None
    }
}

/// What keeps all slots of a part at a depot out of the plan.
fn place_fault(slot: &SlotForecast, network: &Network<'_>) -> Option<&'static str> {
    if !network.parts.contains_key(&slot.part) {
        Some("unknown part")
    } else if !network.depots.contains(&slot.depot) {
        Some("unknown depot")
    } else if network.hub_of(&slot.depot).is_none() {
        Some("no lane from a hub to its depot")
    } else {
        None
    }
}

/// Slots that can be planned for, by part, in order of device and component.
pub(super) fn accepted_slots<'a>(
    input: &PlanInput<'a>,
    network: &Network<'a>,
    quality: &mut Counter,
) -> BTreeMap<&'a PartId, Vec<&'a SlotForecast>> {
    // A fleet has millions of slots: neighbours that go to one place are judged together, in parallel, and counted in order.
    struct Judged<'a> {
        alike: &'a [SlotForecast],
        place: Option<&'static str>,
        knows_contract: bool,
        is_sound: bool,
    }
    let judged: Vec<Judged<'a>> = input
        .forecasts
        .par_chunk_by(|a, b| a.part == b.part && a.depot == b.depot && a.contract == b.contract)
        .map(|alike| {
            let known = |contract: &ContractId| network.contracts.contains_key(contract);
            Judged {
                alike,
                place: place_fault(&alike[0], network),
                knows_contract: alike[0].contract.as_ref().is_none_or(known),
                is_sound: alike.iter().all(|slot| slot_fault(slot).is_none()),
            }
        })
        .collect();
    let mut by_part: HashMap<&PartId, Vec<&SlotForecast>> = HashMap::new();
    for Judged { alike, place, knows_contract, is_sound } in judged {
        if is_sound && place.is_none() {
            by_part.entry(&alike[0].part).or_default().extend(alike);
        } else {
            for slot in alike {
                match slot_fault(slot).or(place) {
                    Some(cause) => {
                        quality.forecasts_rejected += 1;
                        quality.reject("forecast", cause, || format!("{} {}", slot.device, slot.component));
                    }
                    None => by_part.entry(&slot.part).or_default().push(slot),
                }
            }
        }
        // An unknown contract costs the slots their price of downtime, not their place in the plan.
        for slot in alike.iter().filter(|_| !knows_contract) {
            quality.reject("forecast", "unknown contract, planned without one", || slot.device.to_string());
        }
    }
    let mut accepted: BTreeMap<&PartId, Vec<&SlotForecast>> = by_part.into_iter().collect();
    let given_twice: Vec<(&PartId, usize)> = accepted
        .par_iter_mut()
        .map(|(part, slots)| {
            let order = |a: &SlotForecast, b: &SlotForecast| {
                let of_slot = a.device.cmp(&b.device).then_with(|| a.component.cmp(&b.component));
                // A device that moves is forecast at each of its depots.
                of_slot.then_with(|| a.depot.cmp(&b.depot))
            };
            let before = slots.len();
            if !slots.windows(2).all(|pair| order(pair[0], pair[1]).is_lt()) {
                slots.sort_by(|a, b| order(a, b));
                slots.dedup_by(|later, first| order(later, first).is_eq());
            }
            (*part, before - slots.len())
        })
        .collect();
    for (part, times) in given_twice {
        for _ in 0..times {
            quality.forecasts_rejected += 1;
            quality.reject("forecast", "slot given twice", || part.to_string());
        }
    }
    accepted
}

/// Stock that can be true, by part and depot.
pub(super) fn accepted_positions<'a>(
    input: &PlanInput<'a>,
    network: &Network<'a>,
    quality: &mut Counter,
) -> BTreeMap<&'a PartId, ByDepot<'a, &'a StockPosition>> {
    let mut accepted: BTreeMap<&PartId, ByDepot<'_, &StockPosition>> = BTreeMap::new();
    for stock in input.positions {
        let counts = [stock.on_hand, stock.in_transit, stock.on_order, stock.reserved, stock.backorders];
        let fault = if counts.iter().any(|count| !(0..=MOST_PIECES).contains(count)) {
            Some("negative or absurd count")
        } else if !network.parts.contains_key(&stock.part) {
            Some("unknown part")
        } else if !network.depots.contains(&stock.depot) {
            Some("unknown depot")
        } else if accepted.get(&stock.part).is_some_and(|depots| depots.contains_key(&stock.depot)) {
            Some("stock given twice")
        } else {
            None
        };
        match fault {
            Some(cause) => quality.reject("stock", cause, || format!("{} at {}", stock.part, stock.depot)),
            None => {
                accepted.entry(&stock.part).or_default().insert(&stock.depot, stock);
            }
        }
    }
    accepted
}

/// Consumption that was known at the plan's time, by part.
pub(super) fn accepted_consumption<'a>(
    input: &PlanInput<'a>,
    network: &Network<'a>,
    quality: &mut Counter,
) -> BTreeMap<&'a PartId, Vec<&'a Consumption>> {
    known_consumption(input.consumption, input.as_of, network, quality)
}

/// Consumption that was known at a time, by part.
pub(super) fn known_consumption<'a>(
    consumption: &'a [Consumption],
    at: Timestamp,
    network: &Network<'_>,
    quality: &mut Counter,
) -> BTreeMap<&'a PartId, Vec<&'a Consumption>> {
    let mut accepted: BTreeMap<&PartId, Vec<&Consumption>> = BTreeMap::new();
    for taken in consumption.iter().filter(|taken| taken.ts <= at) {
        let fault = if !(0.0..=MOST_PIECES as f64).contains(&taken.quantity) {
            Some("quantity is negative or no number")
        } else if !network.parts.contains_key(&taken.part) {
            Some("unknown part")
        } else if !network.depots.contains(&taken.depot) {
            Some("unknown depot")
        } else {
            None
        };
        match fault {
            Some(cause) => quality.reject("consumption", cause, || format!("{} at {}", taken.part, taken.depot)),
            None => accepted.entry(&taken.part).or_default().push(taken),
        }
    }
    accepted
}
