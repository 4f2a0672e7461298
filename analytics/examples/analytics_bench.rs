//! How fast the analytics are: `cargo run --release -p harbinger-analytics --example analytics_bench`.
//!
//! One instant of a fleet of 100,000 devices of four components, from readings to probabilities; and readings of 38 signals a
//! second through a screen, on one thread. Three rounds each. With the argument `base-stock` only the base stock of networks of
//! hub and depots, to 95 % within half a day.

use std::{collections::BTreeMap, time::Instant};

use harbinger_analytics::{
    base_stock::{Cell, Claim, Goal, Item, Levels, Measure, Place, optimise},
    demand::{DemandLaw, Trial, poisson_binomial},
    failure::{Subject, TrainOptions, score, subjects, train},
    plan::{PlanInput, PlanOptions, Served, SlotForecast, StockPosition, plan},
    screen::Screen,
    survival::SurvivalCurve,
};
use harbinger_core::{
    DepotId, DeviceId, Duration, PartId, SignalId, Timestamp,
    fleet::{ComponentSlot, Depot, Device, Echelon, Failure, Fleet, HardwareModel, Lane, Part},
    history::{DeviceHistory, Readings},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const COMPONENTS: [&str; 4] = ["disk", "fan", "power", "pump"];
const SIGNALS: usize = 6;
const HOURS: i64 = 24 * 9;
const DISTINCT: usize = 500;
const DEVICES: usize = 100_000;

fn main() {
    let asked = |section: &str| std::env::args().nth(1).is_none_or(|argument| argument == section);
    if asked("base-stock") {
        base_stock(1, 2);
        base_stock(1, 5);
        base_stock(500, 60);
        base_stock(5_000, 200);
    }
    if asked("plan") {
        daily_plan(500, 60, 40);
    }
    if asked("fleet") {
        fleet_at_one_instant();
        screen();
    }
}

fn hour(n: i64) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000) + Duration::from_hours(n)
}

fn device(n: usize) -> Device {
    Device {
        device: format!("device-{n:06}").parse().expect("an id"),
        tenant: "acme".parse().expect("an id"),
        model: "m1".parse().expect("an id"),
        depot: "north".parse().expect("an id"),
        serial: None,
        site: None,
        contract: None,
        installed_at: Some(hour(-5_000)),
        observed_from: None,
        observed_until: None,
        moves_to: None,
        moves_at: None,
    }
}

/// Each of the first devices fails in one component, with one of its signals rising for two days before.
fn history(n: usize, device: &DeviceId) -> DeviceHistory {
    let mut random = ChaCha8Rng::seed_from_u64(n as u64);
    let mut history = DeviceHistory::default();
    let fails = (n < DISTINCT / 2).then(|| (n % COMPONENTS.len(), HOURS - 100 + n as i64 % 90));
    for t in 0..HOURS {
        let values: Vec<(SignalId, f64)> = (0..SIGNALS)
            .map(|signal| {
                let rising = fails.filter(|&(component, at)| component == signal && (0..48).contains(&(at - t)));
                let value = random.random::<f64>() + rising.map_or(0.0, |(_, at)| (48 - (at - t)) as f64 / 48.0);
                (format!("s{signal}").parse().expect("an id"), value)
            })
            .collect();
        history.readings.push(hour(t), &values);
    }
    if let Some((component, at)) = fails {
        let component = COMPONENTS[component].parse().expect("an id");
        history.failures.push(Failure { ts: hour(at), device: device.clone(), component });
    }
    history
}

fn fleet_at_one_instant() {
    let slots = COMPONENTS.map(|component| ComponentSlot {
        model: "m1".parse().expect("an id"),
        component: component.parse().expect("an id"),
        part: component.parse().expect("an id"),
        quantity: 1,
        description: None,
    });
    let model = HardwareModel { model: "m1".parse().expect("an id"), kind: "server".to_owned(), description: None };
    let mut fleet = Fleet { models: vec![model], components: slots.to_vec(), ..Fleet::default() };
    fleet.devices = (0..DISTINCT).map(device).collect();
    let histories: BTreeMap<DeviceId, DeviceHistory> =
        fleet.devices.iter().enumerate().map(|(n, d)| (d.device.clone(), history(n, &d.device))).collect();
    let start = Instant::now();
    let options = TrainOptions {
        horizons: vec![Duration::from_hours(24), Duration::from_days(3)],
        every: Some(Duration::from_hours(6)),
        ..TrainOptions::new(hour(HOURS))
    };
    let model = train(&fleet, &subjects(&fleet, &histories), &options);
    println!("train_seconds {:.1}", start.elapsed().as_secs_f64());
    for (component, predictor) in model.families.iter().flat_map(|family| &family.components) {
        println!("predictor {component} {}", predictor.name());
    }
    fleet.devices = (0..DEVICES).map(device).collect();
    let known: Vec<&DeviceHistory> = histories.values().collect();
    let whole = subjects(&fleet, &histories).first().and_then(|subject| subject.observed);
    let subjects: Vec<Subject<'_>> = fleet
        .devices
        .iter()
        .enumerate()
        .map(|(n, device)| Subject { device, history: known[n % DISTINCT], observed: whole })
        .collect();
    for _ in 0..3 {
        let start = Instant::now();
        let rows = score(&model, &fleet, &subjects, |_| vec![hour(HOURS - 1)]);
        println!("devices {DEVICES} rows {} score_seconds {:.2}", rows.len(), start.elapsed().as_secs_f64());
    }
}

fn screen() {
    const ROWS: usize = 30_000;
    const WATCHED: usize = 38;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let times: Vec<Timestamp> = (0..ROWS as i64).map(|n| Timestamp::from_millis(n * 60_000)).collect();
    let columns = (0..WATCHED as u8).map(|signal| {
        let column = (0..ROWS)
            .map(|n| (n as f64 * std::f64::consts::TAU / 1_440.0 + f64::from(signal)).sin() + random.random::<f64>())
            .collect();
        (format!("s{signal:02}").parse().expect("an id"), column)
    });
    let readings = Readings { columns: columns.collect(), times };
    let start = Instant::now();
    let (screen, _) = Screen::learn_and_apply(&readings, readings.times[ROWS - 1]).expect("it can be learnt");
    println!("screen_learn_seconds {:.2} rows {ROWS}", start.elapsed().as_secs_f64());
    let rows: Vec<Vec<f64>> =
        (0..ROWS).map(|n| readings.columns.iter().map(|(_, column)| column[n]).collect()).collect();
    for _ in 0..3 {
        let mut watch = screen.watch();
        let start = Instant::now();
        let alarms = readings.times.iter().zip(&rows).filter(|(ts, row)| watch.step(**ts, row).alarm).count();
        let seconds = start.elapsed().as_secs_f64();
        println!("screen_rows_a_second {:.0} alarms {alarms}", ROWS as f64 / seconds);
    }
}

/// Parts of very different demand and price; the same depots one to four days away.
fn base_stock(parts: usize, depots: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let order_days: Vec<f64> = (0..depots).map(|_| f64::from(random.random_range(2..9_u8)) / 2.0).collect();
    let part = |n: usize| {
        let scale = 10.0_f64.powf(random.random_range(-3.5..-1.5));
        let cell = |(depot, &order_days): (usize, &f64)| {
            let rate_per_day = scale * random.random_range(0.2..2.0);
            let claim = Claim { group: 0, weight: rate_per_day, measure: Measure::WithinLimit { days: 0.5 } };
            Cell {
                depot: format!("depot-{depot:03}").parse().expect("an id"),
                rate_per_day,
                place: Place::Depot { order_days, repair: None },
                claims: vec![claim],
            }
        };
        let cells = order_days.iter().enumerate().map(cell).collect();
        Item {
            part: format!("part-{n:04}").parse().expect("an id"),
            unit_cost: 10.0_f64.powf(random.random_range(1.0..3.5)).round(),
            resupply_days: f64::from(random.random_range(10..40_u8)),
            pack_size: 1,
            cells,
        }
    };
    let items: Vec<Item> = (0..parts).map(part).collect();
    let demand: f64 = items.iter().flat_map(|item| &item.cells).map(|cell| cell.rate_per_day).sum();
    let start = Instant::now();
    let found = optimise(&items, &Goal::Totals(vec![0.95 * demand])).expect("it can be met");
    let seconds = start.elapsed().as_secs_f64();
    let pieces: u64 = found.levels.iter().map(Levels::pieces).sum();
    println!(
        "base_stock parts {parts} depots {depots} seconds {seconds:.4} pieces {pieces} cost {:.0} gap {:.5} within {:.5}",
        found.cost,
        found.gap,
        found.totals[0] / demand
    );
}

/// Each depot serves slots of every part, one in a hundred of which is in alert; lanes lead from the hub and to the six next
/// depots. Before each round one probability of a hundred is drawn anew.
fn daily_plan(parts: usize, depots: usize, slots: usize) {
    const ROUNDS: usize = 5;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let depot_id = |n: usize| -> DepotId { format!("depot-{n:03}").parse().expect("an id") };
    let part_id = |n: usize| -> PartId { format!("part-{n:04}").parse().expect("an id") };
    let hub: DepotId = "hub".parse().expect("an id");
    let depot = |depot: DepotId, echelon| Depot {
        depot,
        echelon,
        region: None,
        latitude: None,
        longitude: None,
        timezone: None,
        capacity: None,
    };
    let lane = |from: DepotId, to: DepotId, days, cost| Lane {
        from,
        to,
        days,
        days_p95: None,
        cost_per_piece: Some(cost),
        fixed_cost: None,
        capacity: None,
    };
    let mut fleet = Fleet::default();
    fleet.depots.push(depot(hub.clone(), Echelon::Hub));
    for n in 0..depots {
        fleet.depots.push(depot(depot_id(n), Echelon::Forward));
        let days = 2.0 + (n % 4) as f64;
        fleet.lanes.extend([lane(hub.clone(), depot_id(n), days, 8.0), lane(depot_id(n), hub.clone(), days, 8.0)]);
        fleet.lanes.extend((1..=6).map(|next| lane(depot_id(n), depot_id((n + next) % depots), 2.0, 6.0)));
    }
    fleet.parts = (0..parts)
        .map(|n| Part {
            part: part_id(n),
            unit_cost: 10.0_f64.powf(random.random_range(1.0..3.5)).round(),
            description: None,
            supplier_lead_days: Some(20.0),
            repairable: false,
            repair_days: None,
            repair_yield: None,
            pack_size: None,
            minimum_order: None,
            successor: None,
            shelf_life_days: None,
            supplier_lead_days_p95: None,
            repair_places: None,
        })
        .collect();
    let curve = |random: &mut ChaCha8Rng| {
        let alert = random.random_bool(0.01);
        let p: f64 = if alert { random.random_range(0.1..0.9) } else { random.random_range(0.0001..0.003) };
        let at = |days: f64| (1.0 - p).powf(days / 7.0);
        SurvivalCurve::from_survival(&[7.0, 30.0], &[at(7.0), at(30.0)]).expect("it falls")
    };
    let mut forecasts = Vec::with_capacity(parts * depots * slots);
    let mut positions = Vec::with_capacity(parts * (depots + 1));
    let position = |part: usize, depot: DepotId, on_hand: i64| StockPosition {
        part: part_id(part),
        depot,
        on_hand,
        in_transit: 0,
        on_order: 0,
        reserved: 0,
        backorders: 0,
        last_received: None,
        in_repair: Vec::new(),
    };
    for part in 0..parts {
        positions.push(position(part, hub.clone(), 10));
        for depot in 0..depots {
            positions.push(position(part, depot_id(depot), i64::from(random.random_range(0..3_u8))));
            forecasts.extend((0..slots).map(|slot| SlotForecast {
                device: format!("device-{depot:03}-{slot:02}").parse().expect("an id"),
                component: format!("slot-{part:04}").parse().expect("an id"),
                part: part_id(part),
                quantity: 1,
                depot: depot_id(depot),
                contract: None,
                survival: curve(&mut random),
                prediction_id: None,
                served: Served::ALWAYS,
                work_order_id: None,
                probability_main: 0.01,
            }));
        }
    }
    let trials: Vec<Vec<Trial>> = forecasts
        .chunks(slots)
        .map(|cell| cell.iter().map(|slot| Trial::one(slot.survival.probability_within(5.0))).collect())
        .collect();
    let options = PlanOptions::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let laws: Vec<DemandLaw> =
            trials.par_iter().map(|cell| poisson_binomial(cell).expect("probabilities")).collect();
        println!("demand_laws cells {} slots {slots} seconds {:.4}", laws.len(), start.elapsed().as_secs_f64());
        for _ in 0..forecasts.len() / 100 {
            let place = random.random_range(0..forecasts.len());
            forecasts[place].survival = curve(&mut random);
        }
        let (fleet, forecasts, positions) = (&fleet, &forecasts, &positions);
        let input = PlanInput { as_of: hour(0), fleet, forecasts, positions, consumption: &[], options: &options };
        let start = Instant::now();
        let made = plan(&input);
        println!(
            "plan parts {parts} depots {depots} seconds {:.4} transfers {} purchases {}",
            start.elapsed().as_secs_f64(),
            made.transfers.len(),
            made.purchases.len()
        );
    }
}
