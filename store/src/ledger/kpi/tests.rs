//! Results of a small network, by hand: read from both engines, and grouped.

use harbinger_core::{ComponentId, DepotId, DeviceId, PartId, Timestamp, fleet::StockLevel};
use serde_json::json;

use super::{
    fixture::{cell, day, days, depot, level, moved, named_part, part, shipment, used},
    *,
};
use crate::{
    Ledger,
    ledger::{
        fixture::on_both_engines,
        orders::{self, Departure, NewOrder, PartUse, Receipt},
        plans::{self, PlanRow},
        stock,
    },
};

on_both_engines!(
    results_are_reckoned_from_what_the_ledger_holds,
    a_span_holds_what_happened_in_it,
    what_no_plan_says_is_left_out,
);

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// A piece or more sent from depot to depot.
async fn send(tx: &mut Connection, from: &str, to: &str, quantity: u32, (left, arrived): (i64, i64)) {
    let kind = OrderKind::Transfer;
    let (from, to) = (Some(depot(from)), depot(to));
    let wanted = NewOrder { part: part(), from, to, quantity, worth: 9.0, cost: 1.0, reasons: Vec::new() };
    let proposed = orders::propose(tx, &tenant(), "pln", day(left), &[wanted]).await.unwrap();
    let id = &proposed.added[0].order_id;
    orders::approve(tx, &tenant(), kind, id, "me", day(left)).await.unwrap();
    orders::ship(tx, &tenant(), kind, id, Departure::default(), day(left)).await.unwrap();
    orders::receive(tx, &tenant(), kind, id, Receipt::default(), day(arrived)).await.unwrap();
}

async fn replace(tx: &mut Connection, at: i64, (device, depot): (&str, DepotId), quantity: u32, predicted: bool) {
    let device = DeviceId::parse(device).unwrap();
    let component = ComponentId::parse("fan1").unwrap();
    let wanted = PartUse { ts: day(at), device, component, part: part(), depot, quantity, predicted };
    orders::use_part(tx, &tenant(), &wanted).await.unwrap();
}

async fn keep_plan(tx: &mut Connection, plan_id: &str, as_of: i64, cells: serde_json::Value) {
    let plan = PlanRow {
        plan_id: plan_id.to_owned(),
        as_of: day(as_of),
        degraded: false,
        body: json!({ "as_of": day(as_of), "cells": cells, "transfers": [] }),
        created_wall: day(0),
    };
    plans::insert(tx, &tenant(), &plan).await.unwrap();
}

fn plan_cell(depot: &str, mean: f64, p95: u32) -> serde_json::Value {
    json!({ "part": "fan", "depot": depot, "slots": 4, "window_days": 5.0, "demand_mean": mean, "demand_p95": p95 })
}

/// Four weeks: a hub of 13 pieces, a depot `north` with device d1 under contract, a depot `south` with d2 without one.
async fn four_weeks(ledger: &Ledger) {
    let mut tx = ledger.write().await.unwrap();
    for sql in [
        "INSERT INTO parts (tenant, part, unit_cost, supplier_lead_days, repairable) VALUES ('acme', 'fan', 9, 14, 0)",
        "INSERT INTO depots (tenant, depot, echelon, region) VALUES ('acme', 'hub', 'hub', 'centre'), \
         ('acme', 'north', 'forward', 'nord'), ('acme', 'south', 'forward', NULL)",
        "INSERT INTO lanes (tenant, from_depot, to_depot, days) VALUES ('acme', 'hub', 'north', 2), \
         ('acme', 'hub', 'south', 2)",
        "INSERT INTO contracts (tenant, contract, respond_hours, resolve_hours) VALUES ('acme', 'gold', 2, 48)",
        "INSERT INTO devices (tenant, device, model, depot, contract) VALUES ('acme', 'd1', 'm', 'north', 'gold'), \
         ('acme', 'd2', 'm', 'south', NULL)",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    let hub = StockLevel { part: part(), depot: depot("hub"), on_hand: 13, in_transit: 0 };
    stock::import(&mut tx, &tenant(), day(0), &[hub], "imp").await.unwrap();
    send(&mut tx, "hub", "north", 2, (1, 3)).await;
    keep_plan(&mut tx, "pln_1", 9, json!([plan_cell("north", 7.0, 9)])).await;
    keep_plan(&mut tx, "pln_2", 9, json!([plan_cell("north", 2.5, 3), plan_cell("south", 0.25, 1)])).await;
    replace(&mut tx, 10, ("d1", depot("north")), 1, true).await;
    replace(&mut tx, 11, ("d1", depot("north")), 2, false).await;
    send(&mut tx, "hub", "north", 1, (12, 13)).await;
    send(&mut tx, "north", "hub", 1, (14, 16)).await;
    replace(&mut tx, 20, ("d2", depot("south")), 1, false).await;
    keep_plan(&mut tx, "pln_3", 25, json!([plan_cell("north", 0.01, 1)])).await;
    tx.commit().await.unwrap();
}

async fn read(ledger: &Ledger, range: TimeRange) -> Facts {
    Facts::read(&mut ledger.read().await.unwrap(), &tenant(), range, day(28)).await.unwrap()
}

async fn results_are_reckoned_from_what_the_ledger_holds(ledger: Ledger) {
    four_weeks(&ledger).await;
    let facts = read(&ledger, TimeRange::ALL).await;
    let found = results(&facts, By::Whole);
    assert_eq!(found.known, Some(days(0, 28)));
    let [whole] = &found.groups[..] else { panic!("{found:?}") };
    let Group { name, predicted, not_predicted, all, stock, dead, forecast, churn } = whole;
    assert_eq!(*name, None);
    assert_eq!((all.uses, all.pieces, all.cost, all.at_once), (3, 4, 36.0, 1));
    // Of two pieces needed on day 11 one lay there, and the other came on day 13: 48 hours are the limit. d2 waits still.
    assert_eq!((all.with_limit, all.within_limit, all.waiting, all.emergencies), (2, 2, 1, 2));
    assert_eq!(all.mean_wait_hours(), Some(24.0));
    assert_eq!((predicted.uses, predicted.fill_rate(), predicted.mean_wait_hours()), (1, Some(1.0), Some(0.0)));
    assert_eq!((not_predicted.uses, not_predicted.fill_rate(), not_predicted.limit_kept()), (2, Some(0.0), Some(1.0)));
    // 13 x 28 - 2 x 27 + 2 x 25 - 18 - 17 - 16 + 15 - 14 + 12 are 322 piece-days.
    assert_eq!((stock.value, stock.mean_value, stock.days), (99.0, Some(322.0 / 28.0 * 9.0), 28.0));
    assert_eq!(stock.turns, Some(36.0 * 365.25 / 28.0 / 103.5));
    // 4 used in reach of the hub: P(X >= 8) = .0511 at mean 4, P(X >= 9) = .0214. It holds 11.
    assert_eq!(*dead, Some(DeadStock { pieces: 3, value: 27.0 }));
    // The second plan of day 9 counts: north used 3, south none. That of day 25 reaches beyond event time.
    assert_eq!((forecast.windows, forecast.expected, forecast.used), (2, 2.75, 3.0));
    assert_eq!((forecast.bias(), forecast.mean_absolute_error()), (Some(-0.125), Some(0.375)));
    assert_eq!(forecast.p95_coverage(), Some(1.0));
    assert_eq!(*churn, Churn { moved: 4, moved_back: 1 });
    let regions = results(&facts, By::Region).groups;
    let shown: Vec<(Option<&str>, u64, f64, u64)> = regions
        .iter()
        .map(|group| (group.name.as_deref(), group.all.uses, group.stock.value, group.churn.moved))
        .collect();
    assert_eq!(shown, [(None, 1, 0.0, 0), (Some("centre"), 0, 99.0, 1), (Some("nord"), 2, 0.0, 3)]);
    assert_eq!(regions[1].dead, *dead);
    let other = TenantId::parse("other").unwrap();
    let none = Facts::read(&mut ledger.read().await.unwrap(), &other, TimeRange::ALL, day(28)).await.unwrap();
    assert_eq!(results(&none, By::Whole), Results { known: None, groups: vec![Group::default()] });
}

async fn a_span_holds_what_happened_in_it(ledger: Ledger) {
    four_weeks(&ledger).await;
    let found = results(&read(&ledger, days(11, 14)).await, By::Whole);
    assert_eq!(found.known, Some(days(11, 14)));
    let Group { all, stock, forecast, churn, .. } = &found.groups[0];
    assert_eq!((all.uses, all.at_once, all.emergencies, all.within_limit), (1, 0, 1, 1));
    // One day of 11, as the piece of day 11 was gone from its beginning, one of 10 while a piece was on its way, one of 11.
    assert_eq!((stock.value, stock.mean_value, stock.days), (99.0, Some(96.0), 3.0));
    assert_eq!((forecast.windows, churn.moved), (0, 1));
}

async fn what_no_plan_says_is_left_out(ledger: Ledger) {
    four_weeks(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    keep_plan(&mut tx, "pln_4", 26, json!([{ "part": "fan", "depot": "north", "mean": 0.5 }])).await;
    tx.commit().await.unwrap();
    let found = results(&read(&ledger, TimeRange::ALL).await, By::Whole);
    assert_eq!((found.groups[0].dead, found.groups[0].forecast.windows), (None, 2));
}

/// What the tests below begin with: two parts, no rows.
fn empty(range: TimeRange, now: i64) -> Facts {
    Facts {
        tenant: "acme".parse().unwrap(),
        range,
        now: day(now),
        uses: Vec::new(),
        consumption: Vec::new(),
        movements: Vec::new(),
        shipments: Vec::new(),
        expected: Vec::new(),
        latest: None,
        levels: Vec::new(),
        parts: vec![named_part("fan", 9.0), named_part("disk", 5.0)],
        depots: Vec::new(),
        lanes: Vec::new(),
    }
}

/// January 1970 has 31 days and February 28: 10 pieces from day 10, 4 used on day 40, event time is day 51.
#[test]
fn months_have_stock_of_their_own_and_no_dead_stock() {
    let facts = Facts {
        uses: vec![used(12, "north", 1, 0), used(40, "north", 4, 4)],
        movements: vec![moved(10, "north", 10), moved(40, "north", -4)],
        shipments: vec![shipment("hub", "north", 2, 33, None)],
        expected: vec![cell("north", 30, 3.0, 1.0, 2), cell("north", 49, 3.0, 1.0, 2)],
        latest: Some(Vec::new()),
        levels: vec![level("north", 6)],
        ..empty(days(5, 400), 51)
    };
    let found = results(&facts, By::Month);
    assert_eq!(found.known, Some(days(10, 51)));
    let names: Vec<&str> = found.groups.iter().map(|group| group.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["1970-01", "1970-02"]);
    let [january, february] = &found.groups[..] else { panic!("{found:?}") };
    assert_eq!((january.all.uses, january.all.at_once, february.all.at_once), (1, 0, 1));
    assert_eq!((january.stock.value, january.stock.mean_value, january.stock.days), (90.0, Some(90.0), 21.0));
    // 9 days of 10 and 11 of 6 are 156 piece-days in 20 days.
    assert_eq!((february.stock.value, february.stock.mean_value, february.stock.days), (54.0, Some(70.2), 20.0));
    assert_eq!((january.dead, february.dead), (None, None));
    // The window from day 30 ends in February and counts where it begins; that from day 49 has not ended.
    assert_eq!((january.forecast.windows, february.forecast.windows), (1, 0));
    assert_eq!((january.churn.moved, february.churn.moved), (0, 2));
    let whole = results(&facts, By::Whole);
    let mut of_tenant = results(&facts, By::Tenant);
    assert_eq!(of_tenant.groups[0].name.take().as_deref(), Some("acme"));
    assert_eq!(of_tenant, whole);
    assert_eq!(whole.groups[0].dead, Some(DeadStock { pieces: 0, value: 0.0 }));
}

/// One fan in each of January and February and one disk in all of two months: 18 of 23, so that the disk is of class A too.
#[test]
fn classes_are_those_of_the_span() {
    let disk = PartId::parse("disk").unwrap();
    let facts = Facts {
        uses: vec![used(0, "north", 1, 1), used(40, "north", 1, 0), UseFact { part: disk, ..used(41, "north", 1, 1) }],
        ..empty(TimeRange::ALL, 70)
    };
    let found = results(&facts, By::Class);
    let shown: Vec<(&str, u64, u64)> =
        found.groups.iter().map(|group| (group.name.as_deref().unwrap(), group.all.uses, group.all.at_once)).collect();
    assert_eq!(shown, [("AX", 2, 1), ("AY", 1, 1)]);
    let early = results(&Facts { range: TimeRange { from: Timestamp::MIN, to: day(35) }, ..facts }, By::Class);
    let shown: Vec<(&str, u64)> = early.groups.iter().map(|g| (g.name.as_deref().unwrap(), g.all.uses)).collect();
    // One whole month tells no variability; the disk was not used.
    assert_eq!(shown, [("AZ", 1), ("CZ", 0)]);
}
