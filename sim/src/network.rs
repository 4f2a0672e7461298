//! The network around the devices: hub, forward depots, lanes, parts, contracts, stock; and where each device stands.

use harbinger_core::{
    ComponentId, ContractId, DepotId, DeviceId, HardwareModelId, PartId, SignalId, Timestamp,
    fleet::{
        ComponentSlot, Contract, Depot, Device, Echelon, Fleet, HardwareModel, Lane, Part, SignalSpec, StockLevel,
    },
};

use crate::{
    blueprint::{AIR_CONDITIONER, BLUEPRINTS, Blueprint, PARTS, REFRIGERATOR, SERVERS},
    life::after_days,
    noise::{Noise, Purpose},
    options::Options,
};

/// A place where a depot may stand.
#[derive(Debug)]
pub(crate) struct Place {
    depot: &'static str,
    region: &'static str,
    timezone: &'static str,
    latitude: f64,
    pub(crate) longitude: f64,
    /// Days from the hub, mean and 95 % quantile.
    days: (f64, f64),
    /// Share of devices that it serves, relative to the others.
    weight: f64,
}

const HUB: Place = place("hub-frankfurt", "DE", "Europe/Berlin", 50.11, 8.68, (0.0, 0.0), 0.0);

/// Forward depots in the order in which a fleet opens them.
pub(crate) static FORWARD_DEPOTS: [Place; 6] = [
    place("madrid", "ES", "Europe/Madrid", 40.42, -3.70, (2.0, 3.0), 1.4),
    place("warsaw", "PL", "Europe/Warsaw", 52.23, 21.01, (1.5, 2.5), 1.0),
    place("milan", "IT", "Europe/Rome", 45.46, 9.19, (1.0, 2.0), 1.2),
    place("stockholm", "SE", "Europe/Stockholm", 59.33, 18.07, (2.0, 3.5), 0.7),
    place("athens", "GR", "Europe/Athens", 37.98, 23.73, (3.0, 5.0), 0.6),
    place("lisbon", "PT", "Europe/Lisbon", 38.72, -9.14, (2.5, 4.0), 0.5),
];

const fn place(
    depot: &'static str,
    region: &'static str,
    timezone: &'static str,
    latitude: f64,
    longitude: f64,
    days: (f64, f64),
    weight: f64,
) -> Place {
    Place { depot, region, timezone, latitude, longitude, days, weight }
}

/// Sites that a depot serves.
const SITES_PER_DEPOT: f64 = 3.0;
/// The oldest device, in days without acceleration: most pieces of the first generation are still in place.
const OLDEST_DEVICE_DAYS: f64 = 1200.0;

/// Where a simulated device stands and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) device: Device,
    /// Number of its random streams.
    pub(crate) stream: u32,
    /// Position in [`BLUEPRINTS`].
    pub(crate) blueprint: usize,
    /// Hours that the sun is ahead of UTC there.
    pub(crate) solar_hours: f64,
}

/// Ids of the simulated world are literals without reserved characters.
macro_rules! id {
    ($kind:ty, $text:expr) => {
        <$kind>::parse($text).expect("simulated ids hold no reserved character")
    };
}
pub(crate) use id;

/// The devices of a fleet, in order of id, as a bundle lists them.
pub(crate) fn devices(options: &Options, seed: u64) -> Vec<Placed> {
    let second_half = options.servers / 2;
    let counts = [
        (SERVERS[0], options.servers - second_half),
        (SERVERS[1], second_half),
        (REFRIGERATOR, options.refrigerators),
        (AIR_CONDITIONER, options.air_conditioners),
    ];
    let mut devices: Vec<Placed> = counts
        .iter()
        .flat_map(|&(blueprint, count)| (1..=count).map(move |number| (blueprint, number)))
        .zip(0u32..)
        .map(|((blueprint, number), stream)| placed(options, blueprint, number, seed, stream))
        .collect();
    devices.sort_by(|a, b| a.device.device.cmp(&b.device.device));
    devices
}

fn placed(options: &Options, index: usize, number: u32, seed: u64, stream: u32) -> Placed {
    let mut noise = Noise::at(seed, stream, Purpose::Traits, 1);
    let blueprint = &BLUEPRINTS[index];
    let place = draw_place(options.forward_depots as usize, &mut noise);
    let site = (noise.uniform() * SITES_PER_DEPOT).floor() + 1.0;
    let contract = draw_contract(blueprint, &mut noise);
    let age_days = noise.uniform() * OLDEST_DEVICE_DAYS / options.wear_acceleration;
    let name = format!("{}{number:03}", blueprint.prefix);
    let device = Device {
        serial: Some(format!("{}-{:08.0}", blueprint.model, noise.uniform() * 1e8)),
        device: id!(DeviceId, &name),
        tenant: options.tenant.clone(),
        model: id!(HardwareModelId, blueprint.model),
        depot: id!(DepotId, place.depot),
        site: Some(format!("{}-site-{site:.0}", place.depot)),
        contract: Some(id!(ContractId, contract)),
        installed_at: Some(after_days(options.start, -age_days)),
        observed_from: Some(options.start),
        observed_until: None,
        moves_to: None,
        moves_at: None,
    };
    Placed { device, stream, blueprint: index, solar_hours: place.longitude / 15.0 }
}

fn draw_place(forward_depots: usize, noise: &mut Noise) -> &'static Place {
    let open = &FORWARD_DEPOTS[..forward_depots.clamp(1, FORWARD_DEPOTS.len())];
    let mut left = noise.uniform() * open.iter().map(|place| place.weight).sum::<f64>();
    for place in open {
        left -= place.weight;
        if left < 0.0 {
            return place;
        }
    }
    &open[open.len() - 1]
}

/// Servers are mostly under the strict contract, household appliances mostly under the lenient one.
fn draw_contract(blueprint: &Blueprint, noise: &mut Noise) -> &'static str {
    let strict_share = if blueprint.kind == "server" { 0.6 } else { 0.2 };
    if noise.uniform() < strict_share { "gold" } else { "silver" }
}

/// The registry and network of a fleet with these devices.
pub(crate) fn fleet(options: &Options, devices: Vec<Device>) -> Fleet {
    let open = &FORWARD_DEPOTS[..options.forward_depots as usize];
    Fleet {
        models: BLUEPRINTS.iter().map(hardware_model).collect(),
        signals: BLUEPRINTS.iter().flat_map(signals).collect(),
        components: BLUEPRINTS.iter().flat_map(components).collect(),
        parts: parts(),
        depots: std::iter::once(depot(&HUB, Echelon::Hub))
            .chain(open.iter().map(|place| depot(place, Echelon::Forward)))
            .collect(),
        lanes: lanes(open),
        contracts: contracts(),
        stock: stock(open, &devices, options.wear_acceleration),
        devices,
    }
}

fn hardware_model(blueprint: &Blueprint) -> HardwareModel {
    HardwareModel {
        model: id!(HardwareModelId, blueprint.model),
        kind: blueprint.kind.to_owned(),
        description: Some(blueprint.description.to_owned()),
    }
}

fn signals(blueprint: &Blueprint) -> impl Iterator<Item = SignalSpec> {
    blueprint.signals.iter().map(|signal| SignalSpec {
        model: id!(HardwareModelId, blueprint.model),
        signal: id!(SignalId, signal.name),
        unit: signal.unit.to_owned(),
        description: Some(signal.description.to_owned()),
        low_limit: signal.low_limit,
        high_limit: signal.high_limit,
    })
}

fn components(blueprint: &Blueprint) -> impl Iterator<Item = ComponentSlot> {
    blueprint.slots.iter().map(|slot| ComponentSlot {
        model: id!(HardwareModelId, blueprint.model),
        component: id!(ComponentId, slot.component),
        part: id!(PartId, slot.part),
        quantity: 1,
        description: Some(slot.description.to_owned()),
    })
}

fn parts() -> Vec<Part> {
    let part = |spec: &crate::blueprint::PartSpec| Part {
        part: id!(PartId, spec.part),
        unit_cost: spec.unit_cost,
        description: Some(spec.description.to_owned()),
        supplier_lead_days: Some(spec.supplier_lead_days),
        repairable: spec.repair.is_some(),
        repair_days: spec.repair.map(|(days, _)| days),
        repair_yield: spec.repair.map(|(_, share)| share),
        pack_size: None,
        minimum_order: None,
        successor: None,
        shelf_life_days: None,
        supplier_lead_days_p95: None,
        repair_places: None,
    };
    PARTS.iter().map(part).collect()
}

fn depot(place: &Place, echelon: Echelon) -> Depot {
    Depot {
        depot: id!(DepotId, place.depot),
        echelon,
        region: Some(place.region.to_owned()),
        latitude: Some(place.latitude),
        longitude: Some(place.longitude),
        timezone: Some(place.timezone.to_owned()),
        capacity: None,
    }
}

/// Hub to depot and back, and between depots (through the hub's carrier, hence the sum of the ways less half a day).
fn lanes(open: &[Place]) -> Vec<Lane> {
    let lane = |from: &str, to: &str, (days, p95): (f64, f64), piece: f64, fixed: f64| Lane {
        from: id!(DepotId, from),
        to: id!(DepotId, to),
        days,
        days_p95: Some(p95),
        cost_per_piece: Some(piece),
        fixed_cost: Some(fixed),
        capacity: None,
    };
    let mut lanes = Vec::new();
    for place in open {
        let piece = 3.0 + 2.0 * place.days.0;
        lanes.push(lane(HUB.depot, place.depot, place.days, piece, 12.0));
        lanes.push(lane(place.depot, HUB.depot, (place.days.0 + 1.0, place.days.1 + 1.5), piece, 12.0));
    }
    for from in open {
        for to in open.iter().filter(|to| to.depot != from.depot) {
            let days = (from.days.0 + to.days.0 - 0.5, from.days.1 + to.days.1 - 0.5);
            lanes.push(lane(from.depot, to.depot, days, 5.0 + 2.0 * days.0, 18.0));
        }
    }
    lanes
}

fn contracts() -> Vec<Contract> {
    let contract = |name: &str, respond_hours, resolve_hours, downtime, penalty| Contract {
        contract: id!(ContractId, name),
        respond_hours,
        resolve_hours,
        downtime_cost_per_day: Some(downtime),
        miss_penalty: Some(penalty),
    };
    vec![contract("gold", 2.0, 24.0, 900.0, 400.0), contract("silver", 8.0, 72.0, 120.0, 60.0)]
}

/// The hub holds what its devices will need over the supplier lead time and two standard deviations more; each forward depot
/// one piece where it is likely to need one within a month, so that prediction has something to improve on.
fn stock(open: &[Place], devices: &[Device], wear_acceleration: f64) -> Vec<StockLevel> {
    const MONTH_DAYS: f64 = 30.0;
    let mut levels = Vec::new();
    for spec in &PARTS {
        let failures_per_day = |device: &Device| -> f64 {
            BLUEPRINTS
                .iter()
                .filter(|blueprint| blueprint.model == device.model.as_str())
                .flat_map(|blueprint| &blueprint.slots)
                .filter(|slot| slot.part == spec.part)
                .map(|slot| wear_acceleration / slot.life.scale_days)
                .sum()
        };
        let over_lead: f64 = devices.iter().map(failures_per_day).sum::<f64>() * spec.supplier_lead_days;
        let mut add = |depot: &str, on_hand: f64| {
            let (part, depot) = (id!(PartId, spec.part), id!(DepotId, depot));
            levels.push(StockLevel { part, depot, on_hand: on_hand as u32, in_transit: 0 });
        };
        add(HUB.depot, (over_lead + 2.0 * over_lead.sqrt()).ceil());
        for place in open {
            let here = devices.iter().filter(|device| device.depot.as_str() == place.depot);
            let in_month = here.map(failures_per_day).sum::<f64>() * MONTH_DAYS;
            add(place.depot, if in_month > 1.0 { 1.0 } else { 0.0 });
        }
    }
    levels
}

/// Days from `earlier` to `later`, never negative.
pub(crate) fn age_days(earlier: Option<Timestamp>, later: Timestamp) -> f64 {
    earlier.map_or(0.0, |earlier| later.days_since(earlier).max(0.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_that_a_table_names_stands_in_its_own_table() {
        let options = Options::default();
        let placed = devices(&options, 5);
        let fleet = fleet(&options, placed.into_iter().map(|placed| placed.device).collect());
        let parts: BTreeSet<_> = fleet.parts.iter().map(|part| &part.part).collect();
        let depots: BTreeSet<_> = fleet.depots.iter().map(|depot| &depot.depot).collect();
        let models: BTreeSet<_> = fleet.models.iter().map(|model| &model.model).collect();
        let contracts: BTreeSet<_> = fleet.contracts.iter().map(|contract| &contract.contract).collect();
        assert!(fleet.components.iter().all(|slot| parts.contains(&slot.part) && models.contains(&slot.model)));
        assert!(fleet.signals.iter().all(|signal| models.contains(&signal.model)));
        assert!(fleet.lanes.iter().all(|lane| depots.contains(&lane.from) && depots.contains(&lane.to)));
        assert!(fleet.stock.iter().all(|level| parts.contains(&level.part) && depots.contains(&level.depot)));
        assert!(fleet.devices.iter().all(|device| {
            models.contains(&device.model)
                && depots.contains(&device.depot)
                && device.contract.as_ref().is_some_and(|contract| contracts.contains(contract))
        }));
        let ids: BTreeSet<_> = fleet.devices.iter().map(|device| &device.device).collect();
        assert_eq!(ids.len(), 120);
        assert_eq!(fleet.depots.len(), 6);
    }
}
