//! Results of a span: service, stock, forecasts and moves, as a whole and in groups.

use axum::http::Method;
use harbinger_store::ledger::{
    orders::{self, PartUse},
    plans::{self, PlanRow},
};
use serde_json::{Value, json};

use crate::world::{NOW, World, at, request, tenant};

const DAY: i64 = 86_400_000;

/// A world in which acme's transfer of two pieces came to `acme-north` and three replacements asked for them.
async fn served() -> World {
    let world = World::new().await;
    let path = world.filled("/api/v1/transfers/{order_id}");
    world.post(&format!("{path}/approve"), json!({})).await.expect(200);
    world.post(&format!("{path}/ship"), json!({ "at": at(NOW - 20 * DAY).to_string() })).await.expect(200);
    world.post(&format!("{path}/receive"), json!({ "at": at(NOW - 18 * DAY).to_string() })).await.expect(200);
    let mut tx = world.ledger.write().await.unwrap();
    // The first two take the pieces that came, on the day after and two weeks later; a third finds nothing.
    for (ago, device, predicted) in [(17, "acme-d1", true), (3, "acme-d2", false), (2, "acme-d1", false)] {
        let wanted = PartUse {
            ts: at(NOW - ago * DAY),
            device: device.parse().unwrap(),
            component: "fan".parse().unwrap(),
            part: "fan-part".parse().unwrap(),
            depot: "acme-north".parse().unwrap(),
            quantity: 1,
            predicted,
        };
        orders::use_part(&mut tx, &tenant("acme"), &wanted).await.unwrap();
    }
    tx.commit().await.unwrap();
    world
}

#[tokio::test]
async fn results_tell_service_by_whether_it_was_foreseen() {
    let world = served().await;
    let kpi = world.get("/api/v1/kpi?by=none").await.expect(200);
    assert_eq!(kpi["replacements"]["fill_rate"], kpi["results"]["groups"][0]["service"]["all"]["fill_rate"]);
    let results = &kpi["results"];
    assert_eq!((&results["by"], &results["groups"][0]["group"]), (&json!("none"), &Value::Null));
    let service = &results["groups"][0]["service"];
    let all = json!({
        "replacements": 3, "pieces": 3, "cost": 37.5, "at_once": 2, "fill_rate": 2.0 / 3.0,
        // d1's contract says 24 hours: one was served at once, one waits for two days already.
        "with_limit": 2, "within_limit": 1, "within_limit_share": 0.5,
        "mean_wait_hours": 0.0, "waiting": 1, "emergencies": 1,
    });
    assert_eq!(service["all"], all);
    assert_eq!((&service["predicted"]["replacements"], &service["predicted"]["fill_rate"]), (&json!(1), &json!(1.0)));
    assert_eq!((&service["not_predicted"]["at_once"], &service["not_predicted"]["waiting"]), (&json!(1), &json!(1)));
    let whole = &results["groups"][0];
    assert_eq!((&whole["moves"]["pieces"], &whole["moves"]["churn"]), (&json!(2), &json!(0.0)));
    assert_eq!(whole["stock"]["value"], kpi["stock_value"]);
    // The only plan does not say what it expects.
    assert_eq!((&whole["dead_stock"], &whole["forecast"]["windows"]), (&Value::Null, &json!(0)));
    assert_eq!(whole["forecast"]["bias"], Value::Null);
}

#[tokio::test]
async fn results_are_told_by_month_region_and_class_within_a_span() {
    let world = served().await;
    let groups = |by: &'static str| {
        let world = &world;
        async move {
            let kpi = world.get(&format!("/api/v1/kpi?by={by}")).await.expect(200);
            let groups = kpi["results"]["groups"].as_array().unwrap().clone();
            let shown = |group: &Value| (group["group"].clone(), group["service"]["all"]["replacements"].clone());
            groups.iter().map(shown).collect::<Vec<_>>()
        }
    };
    // Noon of the second of January, 2015, less 17 days is in December.
    let months = groups("month").await;
    assert_eq!(months, [(json!("2014-12"), json!(3)), (json!("2015-01"), json!(0))]);
    assert_eq!(groups("region").await, [(Value::Null, json!(3))]);
    assert_eq!(groups("class").await, [(json!("AZ"), json!(3))]);
    let late = world.get(&format!("/api/v1/kpi?from={}&by=none", at(NOW - 3 * DAY))).await.expect(200);
    assert_eq!(late["results"]["groups"][0]["service"]["all"]["replacements"], 2);
    assert_eq!(late["results"]["from"], at(NOW - 3 * DAY).to_string());
    assert_eq!(world.get("/api/v1/kpi?by=device").await.problem(400), "bad-request");
    assert!(
        world.get("/api/v1/kpi").await.expect(200).get("results").is_none(),
        "a page that asks often reads no plans"
    );
}

/// Four days ago a plan in shadow wanted a piece at north; the third replacement, that found nothing, would have had it.
#[tokio::test]
async fn plans_in_shadow_tell_what_would_have_been() {
    let world = served().await;
    let none = world.get("/api/v1/plan/shadow").await.expect(200);
    assert_eq!(
        (&none["plans"], &none["replacements"], &none["would_be_fill_rate"]),
        (&json!(0), &json!(0), &Value::Null)
    );
    let transfer = json!({
        "part": "fan-part", "kind": "forward", "from": "hub", "to": "acme-north", "quantity": 1, "cost": 5.0
    });
    let mut tx = world.ledger.write().await.unwrap();
    let plan = PlanRow {
        plan_id: "pln_shadow".to_owned(),
        as_of: at(NOW - 5 * DAY),
        degraded: false,
        body: json!({ "shadow": true, "transfers": [transfer], "purchases": [], "cells": [] }),
        created_wall: at(NOW),
    };
    plans::insert(&mut tx, &tenant("acme"), &plan).await.unwrap();
    tx.commit().await.unwrap();
    let told = world.get("/api/v1/plan/shadow").await.expect(200);
    let expected = json!({
        "plans": 1, "replacements": 2, "at_once": 1, "fill_rate": 0.5, "more_at_once": 1, "would_be_fill_rate": 1.0,
        "sent": 1, "unused": 0, "transport_cost": 5.0, "bought": 0, "purchase_cost": 0.0,
    });
    assert_eq!(told, expected);
    let later = world.get(&format!("/api/v1/plan/shadow?from={}", at(NOW - 4 * DAY))).await.expect(200);
    assert_eq!((&later["plans"], &later["replacements"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn another_tenant_has_no_results() {
    let world = served().await;
    let theirs = request(
        Method::GET,
        "/api/v1/kpi?by=month",
        Some(world.key("globex", harbinger_store::ledger::keys::Scope::Read)),
        None,
    );
    let results = world.send(theirs).await.expect(200)["results"].clone();
    assert_eq!(results, json!({ "by": "month", "from": null, "to": null, "groups": [] }));
}
