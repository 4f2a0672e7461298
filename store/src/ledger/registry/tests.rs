//! What the registry keeps, refuses and pages.

use harbinger_core::{
    PartId, TimeRange,
    fleet::{Consumption, Device, Maintenance, MaintenanceAction, MaintenanceReason, Part},
};

use super::*;
use crate::ledger::Ledger;
use crate::ledger::fixture::on_both_engines;

on_both_engines!(
    what_was_written_is_read_and_a_second_write_replaces,
    a_row_that_names_what_is_not_there_is_refused_by_name,
    parts_that_replace_one_another_in_a_circle_are_refused,
    a_stranger_is_registered_at_the_hub_once,
    maintenance_is_kept_once_and_listed_by_range,
    consumption_sent_twice_counts_once_and_two_takings_count_twice,
    a_large_fleet_is_registered_in_one_quick_transaction_and_paged_to_its_end,
);

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn part(name: &str, successor: Option<&str>) -> Part {
    Part {
        part: PartId::parse(name).unwrap(),
        unit_cost: 12.5,
        description: Some("a thing".to_owned()),
        supplier_lead_days: Some(30.0),
        repairable: true,
        repair_days: None,
        repair_yield: Some(0.8),
        pack_size: Some(4),
        minimum_order: None,
        successor: successor.map(|name| PartId::parse(name).unwrap()),
        shelf_life_days: Some(730.0),
        supplier_lead_days_p95: None,
        repair_places: None,
    }
}

fn model(name: &str) -> HardwareModel {
    HardwareModel { model: HardwareModelId::parse(name).unwrap(), kind: "server".to_owned(), description: None }
}

fn depot(name: &str, echelon: Echelon) -> Depot {
    Depot {
        depot: DepotId::parse(name).unwrap(),
        echelon,
        region: None,
        latitude: Some(52.5),
        longitude: None,
        timezone: None,
        capacity: None,
    }
}

fn device(name: &str, model: &str, depot: &str) -> Device {
    Device {
        device: DeviceId::parse(name).unwrap(),
        tenant: tenant(),
        model: HardwareModelId::parse(model).unwrap(),
        depot: DepotId::parse(depot).unwrap(),
        serial: None,
        site: None,
        contract: None,
        installed_at: Some(Timestamp::from_millis(5)),
        observed_from: None,
        observed_until: None,
        moves_to: None,
        moves_at: None,
    }
}

async fn what_was_written_is_read_and_a_second_write_replaces(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let rows = [part("a", Some("c")), part("b", None), part("c", None), Part { unit_cost: 1.0, ..part("a", None) }];
    upsert(&mut tx, &tenant(), &rows).await.unwrap();
    upsert(&mut tx, &tenant(), &rows).await.unwrap();
    let all: Vec<Part> = list(&mut tx, &tenant(), None, 10).await.unwrap();
    assert_eq!(all, [rows[3].clone(), rows[1].clone(), rows[2].clone()]);
    let second: Vec<Part> = list(&mut tx, &tenant(), Some(&["a".to_owned()]), 1).await.unwrap();
    assert_eq!(second, [rows[1].clone()]);
    assert_eq!(get::<Part>(&mut tx, &tenant(), &["b"]).await.unwrap(), rows[1]);
    let other = TenantId::parse("other").unwrap();
    assert!(matches!(get::<Part>(&mut tx, &other, &["b"]).await, Err(Error::NotFound { .. })));
    assert!(list::<Part>(&mut tx, &other, None, 10).await.unwrap().is_empty());
}

async fn a_row_that_names_what_is_not_there_is_refused_by_name(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    upsert(&mut tx, &tenant(), &[model("m")]).await.unwrap();
    let refused = upsert(&mut tx, &tenant(), &[device("d", "m", "nowhere")]).await.unwrap_err();
    assert_eq!(refused.to_string(), r#"device "d" names depot "nowhere", which does not exist"#);
    let stranger = Device { tenant: TenantId::parse("other").unwrap(), ..device("d", "m", "x") };
    assert!(upsert(&mut tx, &tenant(), &[stranger]).await.is_err());
}

async fn parts_that_replace_one_another_in_a_circle_are_refused(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    upsert(&mut tx, &tenant(), &[part("a", Some("b")), part("b", None)]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = ledger.write().await.unwrap();
    let refused = upsert(&mut tx, &tenant(), &[part("b", Some("c")), part("c", Some("a"))]).await.unwrap_err();
    let words = r#"successors lead from part "a" round in a circle: leave that of the newest part empty"#;
    assert_eq!(refused.to_string(), words);
    drop(tx);
    let mut tx = ledger.write().await.unwrap();
    assert_eq!(get::<Part>(&mut tx, &tenant(), &["b"]).await.unwrap().successor, None);
    upsert(&mut tx, &tenant(), &[part("b", Some("c")), part("c", None)]).await.unwrap();
}

/// The largest fleet of the acceptance run has 17,135 devices; it must register in well under two seconds.
async fn a_large_fleet_is_registered_in_one_quick_transaction_and_paged_to_its_end(ledger: Ledger) {
    let devices: Vec<Device> = (0..17_135).map(|i| device(&format!("d{i:05}"), "m", "hub")).collect();
    let start = std::time::Instant::now();
    let mut tx = ledger.write().await.unwrap();
    let fleet = Fleet {
        models: vec![model("m")],
        depots: vec![depot("hub", Echelon::Hub)],
        devices: devices.clone(),
        ..Fleet::default()
    };
    upsert_fleet(&mut tx, &tenant(), &fleet).await.unwrap();
    tx.commit().await.unwrap();
    println!("17,135 devices in {:?}", start.elapsed());
    let mut read = ledger.read().await.unwrap();
    assert_eq!(load_fleet(&mut read, &tenant()).await.unwrap(), fleet);
    let mut paged: Vec<Device> = Vec::new();
    loop {
        let after = paged.last().map(|last| vec![last.device.to_string()]);
        let page: Vec<Device> = list(&mut read, &tenant(), after.as_deref(), 4_000).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, devices);
}

async fn a_stranger_is_registered_at_the_hub_once(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let (first, second) = (DeviceId::parse("s1").unwrap(), DeviceId::parse("s2").unwrap());
    assert!(auto_register(&mut tx, &tenant(), &first).await.unwrap());
    upsert(&mut tx, &tenant(), &[depot("h", Echelon::Hub)]).await.unwrap();
    assert!(auto_register(&mut tx, &tenant(), &second).await.unwrap());
    assert!(!auto_register(&mut tx, &tenant(), &second).await.unwrap());
    let fleet = load_fleet(&mut tx, &tenant()).await.unwrap();
    let depots: Vec<&str> = fleet.devices.iter().map(|device| device.depot.as_str()).collect();
    assert_eq!(depots, [UNASSIGNED_DEPOT, "h"]);
    assert!(known_device(&mut tx, &tenant(), &first).await.unwrap());
}

async fn maintenance_is_kept_once_and_listed_by_range(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let row = |ts, device: &str| Maintenance {
        ts: Timestamp::from_millis(ts),
        device: DeviceId::parse(device).unwrap(),
        component: "fan".parse().unwrap(),
        action: MaintenanceAction::Replaced,
        reason: MaintenanceReason::Failure,
    };
    let rows = [row(1, "a"), row(1, "b"), row(2, "a"), row(2, "a")];
    assert!(record_maintenance(&mut tx, &tenant(), &rows).await.is_err(), "no such device");
    upsert(&mut tx, &tenant(), &[model("m")]).await.unwrap();
    upsert(&mut tx, &tenant(), &[part("p", None)]).await.unwrap();
    upsert(&mut tx, &tenant(), &[depot("h", Echelon::Hub)]).await.unwrap();
    upsert(&mut tx, &tenant(), &[device("a", "m", "h"), device("b", "m", "h")]).await.unwrap();
    let refused = record_maintenance(&mut tx, &tenant(), &rows).await.unwrap_err().to_string();
    assert_eq!(refused, r#"maintenance names component "fan", which does not exist"#);
    let slot = harbinger_core::fleet::ComponentSlot {
        model: "m".parse().unwrap(),
        component: "fan".parse().unwrap(),
        part: "p".parse().unwrap(),
        quantity: 1,
        description: None,
    };
    upsert(&mut tx, &tenant(), &[slot]).await.unwrap();
    assert_eq!(record_maintenance(&mut tx, &tenant(), &rows).await.unwrap(), 3);
    assert_eq!(record_maintenance(&mut tx, &tenant(), &rows).await.unwrap(), 0);
    let all = list_maintenance(&mut tx, &tenant(), None, TimeRange::ALL, None, 10).await.unwrap();
    assert_eq!(all, rows[..3]);
    let key = (all[0].ts, "a".to_owned(), "fan".to_owned(), "replaced".to_owned());
    let rest = list_maintenance(&mut tx, &tenant(), None, TimeRange::ALL, Some(&key), 10).await.unwrap();
    assert_eq!(rest, rows[1..3]);
    let device = DeviceId::parse("a").unwrap();
    let first = TimeRange { from: Timestamp::from_millis(1), to: Timestamp::from_millis(2) };
    let one = list_maintenance(&mut tx, &tenant(), Some(&device), first, None, 10).await.unwrap();
    assert_eq!(one, rows[..1]);
}

async fn consumption_sent_twice_counts_once_and_two_takings_count_twice(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    upsert(&mut tx, &tenant(), &[part("p", None)]).await.unwrap();
    upsert(&mut tx, &tenant(), &[depot("h", Echelon::Hub)]).await.unwrap();
    let taken = Consumption {
        ts: Timestamp::from_millis(1),
        part: "p".parse().unwrap(),
        depot: "h".parse().unwrap(),
        quantity: 2.0,
    };
    for _ in 0..2 {
        record_consumption(&mut tx, &tenant(), &[taken.clone(), taken.clone()]).await.unwrap();
    }
    let all = list_consumption(&mut tx, &tenant(), TimeRange::ALL).await.unwrap();
    assert_eq!(all, [taken.clone(), taken]);
}
