//! The plan on small networks worked out by hand, on bad data, and on a large fleet against the clock.

use std::time::Instant;

use harbinger_core::fleet::{Contract, Depot, Echelon, Lane, Part};

use super::*;
use crate::{
    demand::{Trial, poisson_binomial},
    inventory::CellCost,
};

mod classes;
mod long_run;
mod moves;
mod moving;
mod perishables;
mod replacements;
mod substitution;

fn part_id(name: &str) -> PartId {
    PartId::parse(name).unwrap()
}

fn depot_id(name: &str) -> DepotId {
    DepotId::parse(name).unwrap()
}

fn part(name: &str) -> Part {
    Part {
        part: part_id(name),
        unit_cost: 365.0,
        description: None,
        supplier_lead_days: Some(14.0),
        repairable: false,
        repair_days: None,
        repair_yield: None,
        pack_size: None,
        minimum_order: None,
        successor: None,
        shelf_life_days: None,
        supplier_lead_days_p95: None,
        repair_places: None,
    }
}

fn depot(name: &str, echelon: Echelon) -> Depot {
    Depot {
        depot: depot_id(name),
        echelon,
        region: None,
        latitude: None,
        longitude: None,
        timezone: None,
        capacity: None,
    }
}

fn lane(from: &str, to: &str, days: f64) -> Lane {
    Lane {
        from: depot_id(from),
        to: depot_id(to),
        days,
        days_p95: None,
        cost_per_piece: Some(10.0),
        fixed_cost: None,
        capacity: None,
    }
}

/// A hub, `north` at 2 days and `south` at 4, two parts, one contract that a wait of 2 days misses.
fn fleet() -> Fleet {
    Fleet {
        parts: vec![part("disk"), part("fan")],
        depots: vec![depot("hub", Echelon::Hub), depot("north", Echelon::Forward), depot("south", Echelon::Forward)],
        lanes: vec![lane("hub", "north", 2.0), lane("hub", "south", 4.0), lane("north", "hub", 3.0)],
        contracts: vec![Contract {
            contract: ContractId::parse("gold").unwrap(),
            respond_hours: 2.0,
            resolve_hours: 24.0,
            downtime_cost_per_day: Some(800.0),
            miss_penalty: Some(1500.0),
        }],
        ..Fleet::default()
    }
}

/// A slot of a fan at a depot that fails within the next 3 days with probability `p`.
fn slot(device: &str, at: &str, p: f64) -> SlotForecast {
    SlotForecast {
        device: DeviceId::parse(device).unwrap(),
        component: ComponentId::parse("fan1").unwrap(),
        part: part_id("fan"),
        quantity: 1,
        depot: depot_id(at),
        served: Served::ALWAYS,
        contract: Some(ContractId::parse("gold").unwrap()),
        survival: SurvivalCurve::from_survival(&[3.0, 30.0, 31.0], &[1.0 - p, 1.0 - p, (1.0 - p) * 0.999]).unwrap(),
        prediction_id: Some(format!("prediction of {device}")),
        work_order_id: None,
        probability_main: p,
    }
}

fn stock(at: &str, on_hand: i64) -> StockPosition {
    StockPosition {
        part: part_id("fan"),
        depot: depot_id(at),
        on_hand,
        in_transit: 0,
        on_order: 0,
        reserved: 0,
        backorders: 0,
        last_received: None,
        in_repair: Vec::new(),
    }
}

fn options() -> PlanOptions {
    PlanOptions { common_factor: 0.0, ..PlanOptions::default() }
}

fn plan_of(fleet: &Fleet, forecasts: &[SlotForecast], positions: &[StockPosition]) -> Plan {
    let options = options();
    let as_of = "2026-03-01T00:00:00Z".parse().unwrap();
    plan(&PlanInput { as_of, fleet, forecasts, positions, consumption: &[], options: &options })
}

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-9 * expected.abs(), "{actual} is not {expected}");
}

/// One alert at north. By hand: pi = 100 + 10 + 2 x 800 + 1500 = 3210; H = 0.25 x 365 / 365 + 10 + 10 = 20.25.
#[test]
fn one_alert_brings_one_piece_and_says_why() {
    let plan = plan_of(&fleet(), &[slot("d1", "north", 0.6), slot("d2", "north", 0.001)], &[stock("hub", 5)]);
    let [transfer] = plan.transfers.as_slice() else { panic!("{:?}", plan.transfers) };
    assert_eq!((transfer.from.as_str(), transfer.to.as_str(), transfer.quantity), ("hub", "north", 1));
    let demand = poisson_binomial(&[Trial::one(0.6), Trial::one(0.001)]).unwrap();
    let cost = CellCost { holding: 20.25, shortage: 3210.0 };
    close(transfer.worth, cost.gain_of_next(&demand, 0));
    close(transfer.cost_if_not - transfer.cost_if_sent, transfer.worth);
    close(transfer.cost, 10.0);
    assert_eq!(transfer.reasons[0].device.as_str(), "d1");
    close(transfer.reasons[0].probability.get(), 0.6);
    assert_eq!(transfer.reasons[0].prediction_id.as_deref(), Some("prediction of d1"));
    let cell = plan.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap();
    assert_eq!((cell.slots, cell.position, cell.target, cell.sent), (2, 0, 1, 1));
    close(cell.window_days, 3.0);
    close(cell.shortage_cost, 3210.0);
    close(cell.holding_cost, 20.25);
    close(cell.expected_cost, transfer.cost_if_sent);
}

#[test]
fn a_piece_on_the_way_or_approved_is_not_sent_again() {
    let forecasts = [slot("d1", "north", 0.6)];
    for inbound in [
        StockPosition { on_hand: 1, ..stock("north", 0) },
        StockPosition { in_transit: 1, ..stock("north", 0) },
        StockPosition { on_order: 1, ..stock("north", 0) },
    ] {
        assert_eq!(plan_of(&fleet(), &forecasts, &[stock("hub", 5), inbound]).transfers, []);
    }
    let spoken_for = StockPosition { reserved: 5, ..stock("hub", 5) };
    assert_eq!(plan_of(&fleet(), &forecasts, &[spoken_for]).transfers, []);
    let owed = StockPosition { backorders: 1, ..stock("north", 0) };
    assert_eq!(plan_of(&fleet(), &forecasts, &[stock("hub", 5), owed]).transfers[0].quantity, 2);
}

/// The dearer wait (4 days against 2) gets the last piece, and what the hub has not is bought.
#[test]
fn the_last_piece_goes_where_it_is_worth_most_and_the_rest_is_bought() {
    let forecasts = [slot("d1", "north", 0.6), slot("d2", "south", 0.6)];
    let plan = plan_of(&fleet(), &forecasts, &[stock("hub", 1)]);
    assert_eq!(plan.transfers.len(), 1);
    assert_eq!(plan.transfers[0].to.as_str(), "south");
    let [purchase] = plan.purchases.as_slice() else { panic!("{:?}", plan.purchases) };
    // Both fail with 0.36: a quantile near 1 wants both pieces; reserves follow from the usual rates.
    assert_eq!((purchase.to.as_str(), purchase.demand_quantile, purchase.system_position), ("hub", 2, 1));
    assert_eq!(u64::from(purchase.quantity), u64::from(purchase.spatial_reserve) + 1);
    assert!(purchase.worth > 0.0 && purchase.reasons.len() == 2);
    close(purchase.cost, 365.0 * f64::from(purchase.quantity));
    let mut packed = fleet();
    packed.parts[1].pack_size = Some(6);
    packed.parts[1].minimum_order = Some(4);
    assert_eq!(plan_of(&packed, &forecasts, &[stock("hub", 1)]).purchases[0].quantity % 6, 0);
    let ordered = StockPosition { on_order: 99, ..stock("hub", 1) };
    assert_eq!(plan_of(&fleet(), &forecasts, &[ordered]).purchases, []);
}

/// The supplier takes 14 days and the next plan comes in one: repairs that are due within 15 days count.
#[test]
fn pieces_in_repair_that_will_be_done_in_time_are_not_bought() {
    let forecasts: Vec<SlotForecast> = (0..40).map(|n| slot(&format!("d{n}"), "north", 0.2)).collect();
    let as_of: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let in_repair = |days: i64, quantity: u32| InRepair { due_at: as_of + Duration::from_days(days), quantity };
    let bought = |lots: Vec<InRepair>, mended: f64| {
        let mut fleet = fleet();
        fleet.parts.iter_mut().for_each(|part| part.repair_yield = Some(mended));
        let hub = StockPosition { in_repair: lots, ..stock("hub", 1) };
        let mut plan = plan_of(&fleet, &forecasts, &[hub]);
        let transferred: u32 = plan.transfers.iter().map(|transfer| transfer.quantity).sum();
        assert_eq!(transferred, 1, "what is in repair cannot be sent");
        plan.purchases.remove(0)
    };
    let without = bought(Vec::new(), 1.0);
    let certain = bought(vec![in_repair(15, 3), in_repair(0, 1)], 0.96);
    assert_eq!((certain.quantity + 4, certain.system_position), (without.quantity, without.system_position + 4));
    close(certain.cost_if_not - certain.worth, certain.cost_if_bought);
    // Too late, and overdue.
    let overdue = InRepair { due_at: as_of - Duration::from_days(1), quantity: 3 };
    assert_eq!(bought(vec![in_repair(16, 3), overdue], 0.96), without);
    // Of four, each mended or not as a coin falls: demand less what is mended, as a sum over how many are. No device fails between
    // the third day and the thirtieth.
    let uncertain = bought(vec![in_repair(9, 4)], 0.5);
    let demand = poisson_binomial(&vec![Trial::one(0.2); 40]).unwrap();
    let mended = [1.0, 4.0, 6.0, 4.0, 1.0].map(|ways: f64| ways / 16.0);
    let net_at_most = |n: i64| (n..).zip(mended).map(|(n, share)| share * demand.cdf(n)).sum::<f64>();
    let (certain_quantile, quantile) = (i64::from(without.demand_quantile), i64::from(uncertain.demand_quantile) - 4);
    // The critical ratio lies between these of either law.
    assert!(demand.cdf(certain_quantile - 1) < net_at_most(quantile));
    assert!(net_at_most(quantile - 1) < demand.cdf(certain_quantile));
    assert_eq!(uncertain.system_position, without.system_position + 4);
    assert!((certain.quantity..=without.quantity).contains(&uncertain.quantity), "{}", uncertain.quantity);
}

#[test]
fn devices_that_the_hub_serves_keep_their_pieces_there() {
    let plan = plan_of(&fleet(), &[slot("d1", "hub", 0.9), slot("d2", "north", 0.05)], &[stock("hub", 1)]);
    assert_eq!(plan.transfers, []);
    let hub = plan.cells.iter().find(|cell| cell.depot.as_str() == "hub").unwrap();
    assert_eq!((hub.slots, hub.target, hub.sent), (1, 1, 0));
}

#[test]
fn background_demand_alone_brings_pieces() {
    let (fleet, options) = (fleet(), options());
    let as_of: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let taken = |days_ago: i64, quantity: f64| Consumption {
        ts: as_of - Duration::from_days(days_ago),
        part: part_id("fan"),
        depot: depot_id("north"),
        quantity,
    };
    let consumption: Vec<Consumption> = (0..360).step_by(15).map(|days| taken(days, 3.0)).collect();
    let later = Consumption { ts: as_of + Duration::from_days(1), ..taken(0, 1e6) };
    let with = |consumption: &[Consumption]| {
        plan(&PlanInput {
            as_of,
            fleet: &fleet,
            forecasts: &[],
            positions: &[stock("hub", 9)],
            consumption,
            options: &options,
        })
    };
    let planned = with(&consumption);
    // 6 in 30 days, a window of 3 days.
    let cell = planned.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap();
    close(cell.background_mean, 0.6);
    assert_eq!(planned.transfers.len(), 1);
    assert_eq!(planned.transfers[0].reasons, []);
    let mut with_later = consumption;
    with_later.push(later);
    assert_eq!(with(&with_later), planned, "what comes after as_of is not known");
}

#[test]
fn bad_records_are_rejected_and_counted() {
    let mut forecasts: Vec<SlotForecast> = (0..40).map(|n| slot(&format!("d{n}"), "north", 0.01)).collect();
    assert!(!plan_of(&fleet(), &forecasts, &[]).data_quality.degraded);
    forecasts[0].probability_main = f64::NAN;
    forecasts[1].probability_main = 1.5;
    let two = plan_of(&fleet(), &forecasts, &[]).data_quality;
    assert_eq!((two.forecasts, two.forecasts_rejected, two.degraded), (40, 2, false), "5 % is not above 5 %");
    forecasts[2].part = part_id("unheard-of");
    forecasts[3].depot = depot_id("nowhere");
    forecasts[4].quantity = 0;
    forecasts[5] = forecasts[6].clone();
    forecasts[7].contract = Some(ContractId::parse("none").unwrap());
    let mut fleet = fleet();
    fleet.depots.push(depot("island", Echelon::Forward));
    forecasts[8].depot = depot_id("island");
    fleet.lanes.push(lane("hub", "island", f64::NAN));
    fleet.parts.push(Part { unit_cost: f64::INFINITY, ..part("bad") });
    let mut positions = vec![stock("hub", 3), stock("hub", 3), stock("north", -1), stock("nowhere", 1)];
    positions.push(StockPosition { part: part_id("bad"), ..stock("north", 1) });
    let plan = plan_of(&fleet, &forecasts, &positions);
    let quality = &plan.data_quality;
    assert_eq!((quality.forecasts_rejected, quality.degraded), (7, true));
    let causes: Vec<(&str, &str, u64)> =
        quality.rejected.iter().map(|r| (r.record.as_str(), r.cause.as_str(), r.count)).collect();
    assert_eq!(
        causes,
        [
            ("depot", "no lane from a hub", 1),
            ("forecast", "no lane from a hub to its depot", 1),
            ("forecast", "probability is not in 0..=1", 2),
            ("forecast", "quantity is not in 1..=1000", 1),
            ("forecast", "slot given twice", 1),
            ("forecast", "unknown contract, planned without one", 1),
            ("forecast", "unknown depot", 1),
            ("forecast", "unknown part", 1),
            ("lane", "days or cost is negative or no number", 1),
            ("part", "cost, lead time or shelf life is negative or no number", 1),
            ("stock", "negative or absurd count", 1),
            ("stock", "stock given twice", 1),
            ("stock", "unknown depot", 1),
            ("stock", "unknown part", 1),
        ]
    );
    let text = serde_json::to_string(&plan).unwrap();
    assert!(!text.contains("null"), "every number is finite: {text}");
}

#[test]
fn nothing_known_makes_an_empty_plan() {
    let plan = plan_of(&Fleet::default(), &[slot("d", "north", 0.5)], &[]);
    assert_eq!((plan.transfers.len(), plan.purchases.len(), plan.cells.len()), (0, 0, 0));
    assert!(plan.data_quality.degraded);
    assert_eq!(plan.orders(), []);
    let empty = plan_of(&Fleet::default(), &[], &[]);
    assert!(!empty.data_quality.degraded);
}

/// 17,000 slots over 30 parts and 6 depots with fixed probabilities of many sizes.
fn large() -> (Fleet, Vec<SlotForecast>, Vec<StockPosition>) {
    let mut fleet = fleet();
    fleet.parts = (0..30).map(|n| part(&format!("part{n:02}"))).collect();
    let depots: Vec<String> = (0..5).map(|n| format!("depot{n}")).collect();
    fleet.depots = vec![depot("hub", Echelon::Hub)];
    fleet.depots.extend(depots.iter().map(|name| depot(name, Echelon::Forward)));
    fleet.lanes = depots.iter().enumerate().map(|(n, name)| lane("hub", name, 1.0 + n as f64)).collect();
    let forecasts = (0..17_000)
        .map(|n: usize| {
            let p = if n.is_multiple_of(101) { 0.4 } else { 0.0005 * (1 + n % 7) as f64 };
            SlotForecast {
                part: fleet.parts[n % 30].part.clone(),
                depot: depot_id(&depots[n / 30 % 5]),
                ..slot(&format!("device{n:05}"), "north", p)
            }
        })
        .collect();
    let positions =
        fleet.parts.iter().map(|part| StockPosition { part: part.part.clone(), ..stock("hub", 12) }).collect();
    (fleet, forecasts, positions)
}

/// Order of input and number of threads do not show in the plan; and it is quick enough to be made again whenever something
/// changes. The bound is ten times what was measured, for slow machines.
#[test]
fn a_large_fleet_is_planned_quickly_and_always_alike() {
    let (fleet, mut forecasts, mut positions) = large();
    let text = |forecasts: &[SlotForecast], positions: &[StockPosition]| {
        serde_json::to_string(&plan_of(&fleet, forecasts, positions)).unwrap()
    };
    let first = text(&forecasts, &positions);
    let started = Instant::now();
    let plan = plan_of(&fleet, &forecasts, &positions);
    let took = started.elapsed();
    println!("17,000 slots, 30 parts, 6 depots: {took:?}, {} transfers", plan.transfers.len());
    assert!(took.as_millis() < 1000, "{took:?}");
    assert_eq!(plan.orders().len(), plan.transfers.len() + plan.purchases.len());
    forecasts.reverse();
    positions.reverse();
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one_thread.install(|| text(&forecasts, &positions)), first);
    let back: Plan = serde_json::from_str(&first).unwrap();
    assert_eq!(back.transfers.len(), plan.transfers.len());
}
