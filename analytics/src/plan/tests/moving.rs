//! Devices that move between depots, and suppliers that are late at times.

use std::collections::{BTreeMap, HashSet};

use harbinger_core::{
    fleet::{ComponentSlot, Device, HardwareModel},
    history::DeviceHistory,
};

use super::*;
use crate::{
    demand::DemandLaw,
    failure::{TrainOptions, subjects, train},
};

const AS_OF: &str = "2026-03-01T00:00:00Z";
const RATE_PER_DAY: f64 = 0.02;

fn mean_at(plan: &Plan, depot: &str) -> f64 {
    plan.cells.iter().find(|cell| cell.depot.as_str() == depot).map_or(0.0, |cell| cell.demand_mean)
}

/// North decides for 3 days, south for 5.
#[test]
fn a_device_that_moves_counts_where_it_is_when_it_fails() {
    let survival = SurvivalCurve::exponential(RATE_PER_DAY).unwrap();
    let at = |depot: &str, served| SlotForecast { survival: survival.clone(), served, ..slot("d1", depot, 0.5) };
    let moves_on = |days: f64| {
        let first = Served { until_days: days, ..Served::ALWAYS };
        let later = Served { from_days: days, ..Served::ALWAYS };
        plan_of(&fleet(), &[at("south", later), at("north", first)], &[])
    };
    let fails = |from: f64, to: f64| (-RATE_PER_DAY * from).exp() - (-RATE_PER_DAY * to).exp();
    let plan = moves_on(1.0);
    assert_eq!(plan.data_quality.forecasts_rejected, 0);
    close(mean_at(&plan, "north"), fails(0.0, 1.0));
    close(mean_at(&plan, "south"), fails(1.0, 5.0));
    let plan = moves_on(40.0);
    close(mean_at(&plan, "north"), fails(0.0, 3.0));
    assert_eq!(mean_at(&plan, "south"), 0.0);
    assert!(plan.purchases.iter().all(|bought| bought.spatial_reserve <= 1), "{:?}", plan.purchases);
}

#[test]
fn a_forecast_is_made_for_each_depot_of_a_device_that_moves() {
    let as_of: Timestamp = AS_OF.parse().unwrap();
    let mut fleet = fleet();
    fleet.models = vec![HardwareModel { model: "m".parse().unwrap(), kind: "server".to_owned(), description: None }];
    fleet.components = vec![ComponentSlot {
        model: "m".parse().unwrap(),
        component: "fan1".parse().unwrap(),
        part: part_id("fan"),
        quantity: 1,
        description: None,
    }];
    fleet.devices = vec![Device {
        device: "d1".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        model: "m".parse().unwrap(),
        depot: depot_id("north"),
        moves_to: Some(depot_id("south")),
        moves_at: Some(as_of + Duration::from_days(6)),
        serial: None,
        site: None,
        contract: None,
        installed_at: None,
        observed_from: Some(as_of - Duration::from_days(90)),
        observed_until: None,
    }];
    let histories: BTreeMap<DeviceId, DeviceHistory> = [("d1".parse().unwrap(), DeviceHistory::default())].into();
    let model = train(&fleet, &subjects(&fleet, &histories), &TrainOptions::new(as_of));
    let depots = |days: i64| -> Vec<(String, Served)> {
        let now = as_of + Duration::from_days(days);
        let made = forecasts(&fleet, &model, &[], &HashSet::new(), now);
        made.into_iter().map(|slot| (slot.depot.to_string(), slot.served)).collect()
    };
    let later = Served { from_days: 6.0, ..Served::ALWAYS };
    let first = Served { until_days: 6.0, ..Served::ALWAYS };
    assert_eq!(depots(0), [("south".to_owned(), later), ("north".to_owned(), first)]);
    assert_eq!(depots(6), [("south".to_owned(), Served::ALWAYS)]);
    fleet.devices[0].moves_to = None;
    fleet.devices[0].moves_at = None;
    let made = forecasts(&fleet, &model, &[], &HashSet::new(), as_of);
    assert_eq!((made.len(), made[0].depot.as_str()), (1, "north"));
}

/// The law until a late supplier delivers is the mixture over its lengths: as much demand in the middle, more of it in the tail.
#[test]
fn a_supplier_that_is_late_at_times_is_bought_from_sooner() {
    let survival = SurvivalCurve::exponential(RATE_PER_DAY).unwrap();
    let slots: Vec<SlotForecast> =
        (0..30).map(|n| SlotForecast { survival: survival.clone(), ..slot(&format!("d{n:02}"), "hub", 0.1) }).collect();
    let with = |days_p95: Option<f64>| {
        let mut fleet = fleet();
        fleet.parts[1].supplier_lead_days_p95 = days_p95;
        plan_of(&fleet, &slots, &[])
    };
    let (certain, late) = (with(None), with(Some(28.0)));
    let law = |lead: f64| {
        let p = -(-RATE_PER_DAY * (lead + 1.0)).exp_m1();
        poisson_binomial(&vec![Trial::one(p); slots.len()]).unwrap()
    };
    let lengths = lead_time::LeadTime::new(14.0, Some(28.0)).lengths();
    let mixed = DemandLaw::mixture(&lengths.iter().map(|&(lead, weight)| (weight, law(lead))).collect::<Vec<_>>());
    close(mean_at(&certain, "hub"), law(14.0).mean());
    close(mean_at(&late, "hub"), mixed.mean());
    let (certain, late) = (&certain.purchases[0], &late.purchases[0]);
    // The price of a shortage is that of a wait for the supplier's mean in both.
    let share = |quantile: u32| (law(14.0).cdf(quantile.into()), mixed.cdf(quantile.into()));
    assert!(late.demand_quantile > certain.demand_quantile + 2, "{certain:?} {late:?}");
    assert!(share(late.demand_quantile).1 < share(late.demand_quantile).0);
    assert!((share(late.demand_quantile).1 - share(certain.demand_quantile).0).abs() < 0.01, "{certain:?} {late:?}");
    // Below the mean it is told and not used.
    let told = with(Some(3.0));
    assert_eq!(told.purchases[0].demand_quantile, certain.demand_quantile);
    assert_eq!(told.data_quality.rejected[0].example, "fan");
}
