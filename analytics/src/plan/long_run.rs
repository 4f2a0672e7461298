//! Demand in the long run: what each depot takes of each part a day, and how long its network takes to bring it again.
//!
//! The same records, priors and network as the daily plan, but without today's signals: each slot counts with the rate of its
//! class, and consumption that no device explains with its forecast (section 3). Demand for a part that another one replaces counts for
//! the newest of them, which is the one that is bought (section 5.4).

use std::collections::BTreeMap;

use harbinger_core::{
    ComponentId, DepotId, Duration, PartId, Timestamp,
    fleet::{Consumption, Fleet, Part},
};

use super::{PlanOptions, Rejected, cells::background, network::Network, quality::Counter};
use crate::{
    base_stock::{self, ReturnLoop, repair_sojourn_days},
    failure::{Subject, class_rate, kind_of, kinds},
};

/// A device whose observation ended so long ago is gone.
const GONE_AFTER: Duration = Duration::from_days(30);

/// What long-run demand is made from.
#[derive(Debug, Clone, Copy)]
pub struct LongRunInput<'a> {
    /// Nothing after this is used.
    pub at: Timestamp,
    /// Models, parts, depots, lanes, contracts.
    pub fleet: &'a Fleet,
    /// The devices.
    pub subjects: &'a [Subject<'a>],
    /// Consumption that no device record explains.
    pub consumption: &'a [Consumption],
    /// Lead time of parts that have none, and the period of consumption.
    pub options: &'a PlanOptions,
}

/// A part under one hub.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRunPart {
    /// Which part.
    pub part: PartId,
    /// Its hub; a depot is its own where the network has no hub at all.
    pub hub: DepotId,
    /// c.
    pub unit_cost: f64,
    /// T0.
    pub resupply_days: f64,
    /// q.
    pub pack_size: u32,
    /// Depots that take it, in order; the hub among them where it serves devices.
    pub cells: Vec<LongRunCell>,
}

/// A part at a depot.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRunCell {
    /// Which depot.
    pub depot: DepotId,
    /// O: days from the hub; none at the hub itself.
    pub order_days: Option<f64>,
    /// m: pieces a day.
    pub rate_per_day: f64,
    /// The same by what was promised.
    pub promises: Vec<Promise>,
}

/// Demand under one promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// Days until the device must work again; 0 where nothing was promised.
    pub days: f64,
    /// Pieces a day.
    pub rate_per_day: f64,
}

/// Demand of a part at a depot by promise; the key orders days as their bits, which are those of a number >= 0.
type Rates = BTreeMap<u64, f64>;

/// Long-run demand by part and hub in order, and what could not be used: records that cannot be true, and demand that no lane
/// serves.
///
/// # Errors
/// [`base_stock::Error`] for a repair that cannot be.
pub fn long_run(input: &LongRunInput<'_>) -> Result<(Vec<LongRunPart>, Vec<Rejected>), base_stock::Error> {
    let mut quality = Counter::default();
    let network = Network::new(input.fleet, &mut quality);
    // What has no demand needs no lane: those that do are told below.
    let mut rejected = quality.finish(0).rejected;
    rejected.retain(|rejected| rejected.record != "depot");
    let mut quality = Counter::default();
    let mut demand: BTreeMap<(&PartId, &DepotId), Rates> = BTreeMap::new();
    add_slots(input, &network, &mut demand);
    add_consumption(input, &network, &mut demand, &mut quality);
    let alone = network.hubs().next().is_none();
    let mut parts: BTreeMap<(&PartId, &DepotId), LongRunPart> = BTreeMap::new();
    for ((part, depot), rates) in demand {
        let hub = if alone { Some(depot) } else { network.hub_of(depot) };
        let (Some(hub), Some(&of)) = (hub.filter(|_| network.depots.contains(depot)), network.parts.get(part)) else {
            quality.reject("demand", "no lane leads from a hub to its depot; add one to the lanes", || {
                format!("{part} at {depot}")
            });
            continue;
        };
        let promises: Vec<Promise> = rates
            .into_iter()
            .map(|(days, rate_per_day)| Promise { days: f64::from_bits(days), rate_per_day })
            .collect();
        let cell = LongRunCell {
            depot: depot.clone(),
            order_days: (hub != depot).then(|| network.way(hub, depot).lead.days),
            rate_per_day: promises.iter().map(|promise| promise.rate_per_day).sum(),
            promises,
        };
        match parts.get_mut(&(part, hub)) {
            Some(known) => known.cells.push(cell),
            None => drop(parts.insert((part, hub), empty(of, hub, cell))),
        }
    }
    for ((part, _), planned) in &mut parts {
        let Some(&of) = network.parts.get(part) else { continue };
        planned.resupply_days = resupply_days(of, planned, input.options, &mut quality)?;
    }
    rejected.extend(quality.finish(0).rejected);
    Ok((parts.into_values().collect(), rejected))
}

fn empty(of: &Part, hub: &DepotId, first: LongRunCell) -> LongRunPart {
    LongRunPart {
        part: of.part.clone(),
        hub: hub.clone(),
        unit_cost: of.unit_cost,
        // Follows from the demand of all cells.
        resupply_days: 0.0,
        pack_size: of.pack_size.unwrap_or(1).max(1),
        cells: vec![first],
    }
}

/// T0 of a part: pieces are mended, after a wait where repair has few places, or bought. Where more come than can be mended, all count
/// as bought.
fn resupply_days(
    of: &Part,
    planned: &LongRunPart,
    options: &PlanOptions,
    quality: &mut Counter,
) -> Result<f64, base_stock::Error> {
    let lead_days = of.supplier_lead_days.unwrap_or(options.supplier_lead.days());
    let mut mended = if of.repairable { of.repair_yield.unwrap_or(1.0) } else { 0.0 };
    let mut repair_days = of.repair_days.unwrap_or(lead_days);
    if let Some(places) = of.repair_places.filter(|_| of.repairable) {
        let failed_per_day: f64 = planned.cells.iter().map(|cell| cell.rate_per_day).sum();
        match repair_sojourn_days(failed_per_day, repair_days, places) {
            Ok(days) => repair_days = days,
            Err(base_stock::Error::Overloaded { .. }) => {
                mended = 0.0;
                quality.reject(
                    "part",
                    "more pieces fail than its repair_places can mend, planned as if all were bought",
                    || of.part.to_string(),
                );
            }
            Err(error) => return Err(error),
        }
    }
    ReturnLoop { mended, repair_days, lead_days }.resupply_days()
}

/// Each slot of each device that is there, with the rate of its class.
fn add_slots<'a>(
    input: &LongRunInput<'a>,
    network: &Network<'a>,
    demand: &mut BTreeMap<(&'a PartId, &'a DepotId), Rates>,
) {
    let kinds = kinds(input.fleet);
    let mut classes: BTreeMap<&str, Vec<&Subject<'_>>> = BTreeMap::new();
    for subject in input.subjects {
        classes.entry(kind_of(&kinds, subject.device)).or_default().push(subject);
    }
    let mut rates: BTreeMap<(&str, &ComponentId), f64> = BTreeMap::new();
    for subject in input.subjects.iter().filter(|subject| is_there(subject, input.at)) {
        let device = subject.device;
        let kind = kind_of(&kinds, device);
        let contract = device.contract.as_ref().and_then(|contract| network.contracts.get(contract));
        let days = contract.map_or(0.0, |contract| contract.resolve_hours / 24.0);
        for slot in input.fleet.components.iter().filter(|slot| slot.model == device.model) {
            let rate = *rates.entry((kind, &slot.component)).or_insert_with(|| {
                let of_model = |subject: &&&Subject<'_>| {
                    let model = &subject.device.model;
                    input.fleet.components.iter().any(|c| c.model == *model && c.component == slot.component)
                };
                let class = classes.get(kind).into_iter().flatten().filter(of_model).copied();
                class_rate(class, &slot.component, input.at).1
            });
            let cell = demand.entry((network.newest(&slot.part), device.depot_at(input.at))).or_default();
            *cell.entry(days.to_bits()).or_default() += rate * f64::from(slot.quantity);
        }
    }
}

/// Whether a device is installed then, as far as is known.
fn is_there(subject: &Subject<'_>, at: Timestamp) -> bool {
    let begun = subject.observed.map(|observed| observed.from).or(subject.device.installed_at);
    let ended = subject.device.observed_until;
    begun.is_none_or(|begun| begun <= at) && ended.is_none_or(|ended| ended + GONE_AFTER >= at)
}

fn add_consumption<'a>(
    input: &LongRunInput<'a>,
    network: &Network<'a>,
    demand: &mut BTreeMap<(&'a PartId, &'a DepotId), Rates>,
    quality: &mut Counter,
) {
    let period = input.options.background_period;
    let known = super::quality::known_consumption(input.consumption, input.at, network, quality);
    for (part, rows) in known {
        for &depot in &network.depots {
            let rate = background(input.at, depot, &rows, period.millis().max(1)).mean / period.days();
            if rate > 0.0 {
                let cell = demand.entry((network.newest(part), depot)).or_default();
                *cell.entry(0.0_f64.to_bits()).or_default() += rate;
            }
        }
    }
}
