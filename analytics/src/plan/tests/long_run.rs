//! Long-run demand of a small fleet, by hand.

use harbinger_core::{
    DeviceId,
    fleet::{ComponentSlot, Device, Failure},
    history::DeviceHistory,
};

use super::*;
use crate::failure::subjects;

const DAY: i64 = 24 * 3_600_000;

fn day(n: i64) -> Timestamp {
    Timestamp::from_millis(n * DAY)
}

fn device(name: &str, depot: &str, observed: (i64, i64), contract: Option<&str>) -> Device {
    Device {
        device: name.parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        model: "m1".parse().unwrap(),
        depot: depot_id(depot),
        serial: None,
        site: None,
        contract: contract.map(|contract| contract.parse().unwrap()),
        installed_at: None,
        observed_from: Some(day(observed.0)),
        observed_until: Some(day(observed.1)),
        moves_to: None,
        moves_at: None,
    }
}

/// Three devices with two disks each; one fails once, one is gone long before day 1000.
fn with_devices() -> (Fleet, BTreeMap<DeviceId, DeviceHistory>) {
    let mut fleet = fleet();
    fleet.components = vec![ComponentSlot {
        model: "m1".parse().unwrap(),
        component: "disk".parse().unwrap(),
        part: part_id("disk"),
        quantity: 2,
        description: None,
    }];
    fleet.devices = vec![
        device("a", "north", (0, 1000), Some("gold")),
        device("b", "north", (0, 1000), None),
        device("c", "hub", (0, 500), None),
    ];
    let mut histories: BTreeMap<DeviceId, DeviceHistory> =
        fleet.devices.iter().map(|device| (device.device.clone(), DeviceHistory::default())).collect();
    let failed = DeviceId::parse("a").unwrap();
    histories.get_mut(&failed).unwrap().failures.push(Failure {
        ts: day(700),
        device: failed.clone(),
        component: "disk".parse().unwrap(),
    });
    (fleet, histories)
}

fn reckon(
    fleet: &Fleet,
    histories: &BTreeMap<DeviceId, DeviceHistory>,
    consumption: &[Consumption],
    at: i64,
) -> (Vec<LongRunPart>, Vec<Rejected>) {
    let options = PlanOptions::default();
    let subjects = subjects(fleet, histories);
    long_run(&LongRunInput { at: day(at), fleet, subjects: &subjects, consumption, options: &options }).unwrap()
}

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-12 * expected.abs(), "{actual} is not {expected}");
}

#[test]
fn slots_count_with_the_rate_of_their_class_under_their_promise() {
    let (fleet, histories) = with_devices();
    let (parts, rejected) = reckon(&fleet, &histories, &[], 1000);
    assert!(rejected.is_empty() && parts.len() == 1, "{rejected:?} {parts:?}");
    let [cell] = parts[0].cells.as_slice() else { panic!("{parts:?}") };
    // Half a failure in ten years before, one in 2,500 device-days since; two devices of two pieces are there.
    let rate = 2.0 * (0.5 + 1.0) / (3652.5 + 2500.0);
    close(cell.rate_per_day, 2.0 * rate);
    assert_eq!((cell.depot.as_str(), cell.order_days, parts[0].resupply_days), ("north", Some(2.0), 14.0));
    assert_eq!(cell.promises.iter().map(|promise| promise.days).collect::<Vec<_>>(), [0.0, 1.0]);
    close(cell.promises[1].rate_per_day, rate);
    // Before the failure nothing of it is known, and the third device is there.
    let (parts, _) = reckon(&fleet, &histories, &[], 400);
    assert_eq!(parts[0].cells.len(), 2);
    close(parts[0].cells[1].rate_per_day, 4.0 * 0.5 / (3652.5 + 1200.0));
    assert_eq!(parts[0].cells[0].order_days, None);
}

#[test]
fn consumption_joins_and_what_no_lane_serves_is_told() {
    let (mut fleet, histories) = with_devices();
    let used = |depot: &str, ago: i64| Consumption {
        ts: day(1000 - 30 * ago),
        part: part_id("fan"),
        depot: depot_id(depot),
        quantity: 3.0,
    };
    let monthly: Vec<Consumption> = (0..12).map(|ago| used("south", ago)).collect();
    let (parts, rejected) = reckon(&fleet, &histories, &monthly, 1000);
    assert!(rejected.is_empty());
    close(parts[1].cells[0].rate_per_day, 3.0 / 30.0);
    fleet.lanes.retain(|lane| lane.to.as_str() != "south");
    let (parts, rejected) = reckon(&fleet, &histories, &monthly, 1000);
    assert_eq!((parts.len(), rejected[0].example.as_str()), (1, "fan at south"));
    // Without any hub each depot orders from the supplier.
    fleet.depots.iter_mut().for_each(|depot| depot.echelon = Echelon::Forward);
    let (parts, rejected) = reckon(&fleet, &histories, &monthly, 1000);
    assert!(rejected.is_empty());
    assert_eq!((parts[1].hub.as_str(), parts[1].cells[0].order_days), ("south", None));
}

#[test]
fn a_mended_part_comes_back_from_the_shop() {
    let (mut fleet, histories) = with_devices();
    fleet.parts[0] =
        Part { repairable: true, repair_days: Some(4.0), repair_yield: Some(0.75), pack_size: Some(5), ..part("disk") };
    let (parts, _) = reckon(&fleet, &histories, &[], 1000);
    close(parts[0].resupply_days, 0.75 * 4.0 + 0.25 * 14.0);
    assert_eq!(parts[0].pack_size, 5);
    // Four pieces are in repair on average: five places make them wait, three cannot mend them all.
    let per_day = parts[0].cells[0].rate_per_day;
    fleet.parts[0].repair_days = Some(4.0 / per_day);
    fleet.parts[0].repair_places = Some(5);
    let (parts, rejected) = reckon(&fleet, &histories, &[], 1000);
    assert!(rejected.is_empty());
    // Erlang's C of 5 places at a load of 4: .5541.
    let wait = 0.554_112_554_112_554 * 4.0 / per_day;
    close(parts[0].resupply_days, 0.75 * (4.0 / per_day + wait) + 0.25 * 14.0);
    fleet.parts[0].repair_places = Some(3);
    let (parts, rejected) = reckon(&fleet, &histories, &[], 1000);
    close(parts[0].resupply_days, 14.0);
    assert!(rejected[0].cause.contains("repair_places"), "{rejected:?}");
    fleet.parts[0].unit_cost = -1.0;
    let (_, rejected) = reckon(&fleet, &histories, &[], 1000);
    assert_eq!((rejected[0].record.as_str(), rejected[0].example.as_str()), ("part", "disk"));
}

#[test]
fn demand_for_an_older_part_counts_for_the_newest() {
    let (mut fleet, histories) = with_devices();
    let (apart, _) = reckon(&fleet, &histories, &[], 1000);
    fleet.parts[0].successor = Some(part_id("fan"));
    let (parts, rejected) = reckon(&fleet, &histories, &[], 1000);
    assert!(rejected.is_empty());
    assert_eq!((parts.len(), parts[0].part.as_str()), (1, "fan"));
    close(parts[0].cells[0].rate_per_day, apart[0].cells[0].rate_per_day);
}
