//! Alerts, webhooks, orders, plans, figures: what people and the loop do to each other.

use axum::http::Method;
use harbinger_core::Duration;
use harbinger_store::ledger::keys::Scope;
use serde_json::{Value, json};

use crate::world::{World, request};

#[tokio::test]
async fn an_alert_is_seen_worked_on_resolved_and_closed_with_what_it_was() {
    let world = World::new().await;
    let path = world.filled("/api/v1/alerts/{alert_id}");
    for (step, state) in [("acknowledge", "acknowledged"), ("start", "in_progress"), ("resolve", "resolved")] {
        let answer = world.post(&format!("{path}/{step}"), json!({ "comment": step })).await.expect(200);
        assert_eq!(answer["state"], state);
    }
    let wrong = world.post(&format!("{path}/acknowledge"), json!({})).await;
    assert_eq!(wrong.problem(409), "conflict");
    let outcome = json!({ "outcome": "other_component" });
    world.post(&format!("{path}/close"), outcome).await.problem(409);
    let closed = world.post(&format!("{path}/close"), json!({ "outcome": "confirmed", "comment": "worn" })).await;
    assert_eq!(closed.expect(200)["outcome"], "confirmed");
    let detail = world.get(&path).await.expect(200);
    let states: Vec<&str> =
        detail["history"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["open", "acknowledged", "in_progress", "resolved", "closed"]);
    let kpi = world.get("/api/v1/kpi").await.expect(200);
    assert_eq!((&kpi["alert_precision"], &kpi["outcomes"]["confirmed"]), (&json!(1.0), &json!(1)));
    assert_eq!(world.get("/api/v1/alerts?state=open,acknowledged").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_webhook_is_told_of_each_step_and_its_secret_is_shown_once() {
    let world = World::new().await;
    let path = world.filled("/api/v1/webhooks/{webhook_id}");
    world.post(&world.filled("/api/v1/alerts/{alert_id}/acknowledge"), json!({})).await.expect(200);
    let deliveries = world.walk(&format!("{path}/deliveries"), 1).await;
    let types: Vec<&str> = deliveries.iter().map(|delivery| delivery["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["alert.acknowledged", "alert.raised"]);
    let shown = world.get(&path).await.expect(200);
    assert!(shown.get("secret").is_none(), "{shown}");
    let rotated = world.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200);
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_"));
    assert!(rotated["previous_secret_until"].is_string());
    let admin = world.key("acme", Scope::Admin);
    let patch = |change: Value| request(Method::PATCH, &path, Some(admin), Some(change));
    world.send(patch(json!({ "url": "http://10.0.0.1/" }))).await.problem(422);
    let changed = world.send(patch(json!({ "event_types": ["transfer.*"], "enabled": false }))).await.expect(200);
    assert_eq!((&changed["state"], &changed["event_types"]), (&json!("disabled"), &json!(["transfer.*"])));
    assert_eq!(
        world.get(&format!("{path}/deliveries?state=dead")).await.expect(200)["items"].as_array().unwrap().len(),
        2
    );
    let dead = world.filled("/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver");
    world.post(&dead, json!({})).await.problem(409);
    world.send(patch(json!({ "enabled": true }))).await.expect(200);
    assert_eq!(world.post(&dead, json!({})).await.expect(200)["state"], "pending");
    let rest = world.post(&format!("{path}/redeliver-dead"), json!({})).await.expect(200);
    assert_eq!(rest["redelivered"], 1);
    world.send(request(Method::DELETE, &path, Some(admin), None)).await.expect(204);
    world.get(&path).await.problem(404);
}

#[tokio::test]
async fn a_transfer_moves_stock_from_shelf_to_shelf_and_tells_the_device_behind_it() {
    let world = World::new().await;
    let path = world.filled("/api/v1/transfers/{order_id}");
    let proposed = world.get(&path).await.expect(200);
    assert_eq!(proposed["reasons"][0]["prediction_id"], world.ids["prediction_id"]);
    world.post(&format!("{path}/ship"), json!({})).await.problem(409);
    assert_eq!(world.post(&format!("{path}/approve"), json!({})).await.expect(200)["state"], "approved");
    let shipped = world.post(&format!("{path}/ship"), json!({ "at": "2015-01-02T00:00:00Z" })).await.expect(200);
    assert_eq!(shipped["due_at"], "2015-01-03T12:00:00Z", "the lane takes a day and a half");
    world.post(&format!("{path}/receive"), json!({ "quantity": 3 })).await.problem(409);
    world.post(&format!("{path}/receive"), json!({})).await.expect(200);
    let stock = world.get("/api/v1/stock?part=fan-part").await.expect(200);
    let on_hand: Vec<(&str, u64)> = stock["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|level| (level["depot"].as_str().unwrap(), level["on_hand"].as_u64().unwrap()))
        .collect();
    assert_eq!(on_hand, [("acme-north", 2), ("hub", 2)]);
    let cancel = world.filled("/api/v1/purchases/{order_id}").replace("transfers", "purchases");
    assert_eq!(world.post(&format!("{cancel}/cancel"), json!({})).await.expect(200)["state"], "cancelled");
    let kpi = world.get("/api/v1/kpi").await.expect(200);
    assert_eq!(kpi["stock_value"], 50.0);
    assert_eq!((&kpi["transfers"], &kpi["purchases"]), (&json!({ "received": 1 }), &json!({ "cancelled": 1 })));
    let list = world.get("/api/v1/transfers?state=received&to=acme-north").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let level = json!({ "items": [{ "part": "fan-part", "depot": "hub", "on_hand": 9 }] });
    world
        .send(request(Method::PUT, "/api/v1/stock", Some(world.key("acme", Scope::Operate)), Some(level)))
        .await
        .expect(200);
    assert_eq!(world.get("/api/v1/stock?depot=hub").await.expect(200)["items"][0]["on_hand"], 9);
}

#[tokio::test]
async fn a_transfer_is_picked_and_comes_in_parts_that_a_repeated_request_books_once() {
    let world = World::new().await;
    let path = world.filled("/api/v1/transfers/{order_id}");
    world.post(&format!("{path}/approve"), json!({})).await.expect(200);
    let picked = world.post(&format!("{path}/pick"), json!({ "at": "2015-01-02T00:00:00Z" })).await.expect(200);
    assert_eq!((&picked["state"], &picked["picked_at"]), (&json!("picked"), &json!("2015-01-02T00:00:00Z")));
    world.post(&format!("{path}/ship"), json!({})).await.expect(200);
    let part = json!({ "quantity": 1, "rest": "follows" });
    let receive = format!("{path}/receive");
    let keyed = |body: &Value| {
        let mut sent = request(Method::POST, &receive, Some(world.key("acme", Scope::Operate)), Some(body.clone()));
        sent.headers_mut().insert("idempotency-key", "first-box".parse().unwrap());
        sent
    };
    let first = world.send(keyed(&part)).await.expect(200);
    assert_eq!((&first["state"], &first["received_quantity"]), (&json!("shipped"), &json!(1)));
    // Where the answer is no longer kept, as where the process died before it was, the booking itself knows the request.
    world.clock.advance(Duration::from_days(2));
    assert_eq!(world.send(keyed(&part)).await.expect(200), first);
    let too_many = world.post(&receive, json!({ "quantity": 2, "rest": "follows" })).await;
    too_many.problem(409);
    assert!(too_many.text.contains("1 outstanding"), "{}", too_many.text);
    world.post(&receive, json!({ "rest": "lost" })).await.problem(422);
    let last = world.post(&receive, json!({ "rest": "follows" })).await.expect(200);
    assert_eq!((&last["state"], &last["received_quantity"]), (&json!("received"), &json!(2)));
    let bought = world.filled("/api/v1/purchases/{order_id}/approve");
    world.post(&bought, json!({})).await.expect(200);
    world.post(&bought.replace("approve", "pick"), json!({})).await.problem(404);
}

#[tokio::test]
async fn a_failed_piece_goes_to_the_hub_is_repaired_and_lies_on_its_shelf() {
    let world = World::new().await;
    let path = world.filled("/api/v1/returns/{order_id}");
    let opened = world.get(&path).await.expect(200);
    assert_eq!((&opened["state"], &opened["to"]), (&json!("approved"), &json!("hub")));
    assert_eq!(opened["due_at"], "2015-01-11T00:00:00Z", "a week to send it, a day and a half on the lane");
    world.post(&format!("{path}/receive"), json!({})).await.problem(409);
    let shipped = world.post(&format!("{path}/ship"), json!({ "at": "2015-01-03T00:00:00Z" })).await.expect(200);
    assert_eq!(shipped["due_at"], "2015-01-04T12:00:00Z");
    world.post(&format!("{path}/receive"), json!({ "quantity": 2 })).await.problem(409);
    let came = world.post(&format!("{path}/receive"), json!({ "at": "2015-01-05T00:00:00Z" })).await.expect(200);
    assert_eq!(came["state"], "received");
    let repairs = world.get("/api/v1/repairs?state=shipped&part=fan-part").await.expect(200);
    assert_eq!(repairs["items"].as_array().unwrap().len(), 2);
    let begun = &repairs["items"][0];
    assert_eq!((&begun["cause"], &begun["due_at"]), (&came["order_id"], &json!("2015-01-15T00:00:00Z")));
    let on_hand = async || world.get("/api/v1/stock?depot=hub").await.expect(200)["items"][0]["on_hand"].clone();
    assert_eq!(on_hand().await, 4);
    let path = format!("/api/v1/repairs/{}", begun["order_id"].as_str().unwrap());
    let mended = world.post(&format!("{path}/receive"), json!({})).await.expect(200);
    assert_eq!((&mended["state"], &mended["received_quantity"]), (&json!("received"), &json!(1)));
    assert_eq!(on_hand().await, 5);
    let condemned = world.filled("/api/v1/repairs/{order_id}/receive");
    world.post(&condemned, json!({ "quantity": 0 })).await.expect(200);
    assert_eq!(on_hand().await, 5);
    world.post(&condemned.replace("receive", "cancel"), json!({})).await.problem(404);
    assert_eq!(world.get("/api/v1/returns?overdue=true").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_serial_is_at_one_place_and_who_names_it_elsewhere_is_told_where() {
    let mut world = World::new().await;
    let path = world.filled("/api/v1/transfers/{order_id}");
    world.post(&format!("{path}/approve"), json!({})).await.expect(200);
    let in_repair = world.post(&format!("{path}/ship"), json!({ "serials": ["acme-s1", "s2"] })).await;
    in_repair.problem(409);
    assert!(in_repair.text.contains("is on the way with"), "{}", in_repair.text);
    world.post(&format!("{path}/ship"), json!({ "serials": ["s2", "s3"] })).await.expect(200);
    let s2 = "/api/v1/pieces?part=fan-part&serial=s2";
    let piece = world.get(s2).await.expect(200)["items"][0].clone();
    assert_eq!((&piece["place"], &piece["order_id"]), (&json!("order"), &json!(world.ids["transfer"])));
    let part = json!({ "quantity": 1, "rest": "follows", "serials": ["s2"] });
    world.post(&format!("{path}/receive"), part).await.expect(200);
    let piece = world.get(s2).await.expect(200)["items"][0].clone();
    assert_eq!((&piece["depot"], &piece["order_id"]), (&json!("acme-north"), &Value::Null));
    // It goes into a device, and is asked for by the device.
    world.use_a_piece().await;
    let serials = world.filled("/api/v1/part-uses/{use_id}/serials");
    let name = |serial: &str| {
        let body = json!({ "serials": [serial] });
        world.send(request(Method::PUT, &serials, Some(world.key("acme", Scope::Operate)), Some(body)))
    };
    name("acme-s1").await.problem(409);
    name("s2").await.expect(200);
    let inside = world.get("/api/v1/pieces?device=acme-d1").await.expect(200)["items"][0].clone();
    assert_eq!((&inside["serial"], &inside["place"], &inside["depot"]), (&json!("s2"), &json!("device"), &Value::Null));
    let serials: Vec<Value> =
        world.walk("/api/v1/pieces", 1).await.iter().map(|piece| piece["serial"].clone()).collect();
    assert_eq!(serials, ["acme-s1", "s2", "s3"]);
}

#[tokio::test]
async fn a_plan_is_made_kept_and_asked_for_as_of_then() {
    let world = World::new().await;
    assert_eq!(world.get("/api/v1/plan").await.expect(200)["plan_id"], "pln_acme");
    let later = json!({ "as_of": "2015-02-01T00:00:00Z" });
    let made = world.post("/api/v1/plan", later).await.expect(201);
    assert_eq!(world.get("/api/v1/plan").await.expect(200), made);
    assert_eq!(world.get("/api/v1/plan?as_of=2015-01-20T00:00:00Z").await.expect(200)["plan_id"], "pln_acme");
    world.get("/api/v1/plan?as_of=2014-01-20T00:00:00Z").await.problem(404);
    assert_eq!(world.get("/api/v1/demand").await.expect(200)["items"].as_array().unwrap().len(), 2);
    let one = world.get("/api/v1/demand?part=fan-part&depot=hub").await.expect(200);
    assert_eq!(one["items"], json!([{ "part": "fan-part", "depot": "hub", "mean": 0.5 }]));
}

#[tokio::test]
async fn a_model_tries_to_take_the_champions_place_and_what_it_said_in_shadow_is_seen() {
    let world = World::new().await;
    let path = "/api/v1/models/acme-v1";
    let decided = world.get(&format!("{path}/shadow")).await.expect(200);
    assert_eq!(decided["rows"], 3, "what was found when it was in shadow before");
    assert_eq!(world.post(&format!("{path}/challenge"), json!({})).await.expect(200)["state"], "challenger");
    let so_far = world.get(&format!("{path}/shadow")).await.expect(200);
    assert_eq!((&so_far["rows"], &so_far["interval"]), (&json!(7), &json!([-0.02, 0.0])));
    assert_eq!(world.get(path).await.expect(200)["state"], "challenger");
    assert_eq!(world.post(&format!("{path}/promote"), json!({})).await.expect(200)["state"], "champion");
    world.post(&format!("{path}/challenge"), json!({})).await.problem(409);
    world.get("/api/v1/models/none/shadow").await.problem(404);
}

#[tokio::test]
async fn a_model_is_promoted_once_and_quarantine_is_looked_at_and_emptied() {
    let world = World::new().await;
    let promote = "/api/v1/models/acme-v1/promote";
    assert_eq!(world.post(promote, json!({})).await.expect(200)["state"], "champion");
    world.post(promote, json!({})).await.problem(409);
    assert_eq!(world.get("/api/v1/models").await.expect(200)["items"][0]["horizons"], json!(["24h", "7d"]));
    let import = |body| world.post("/api/v1/models/onnx", body);
    let taken = import(json!({ "file_base64": "AAAA", "card": { "name": "acme-v1" } })).await.expect(201);
    assert_eq!(taken["version"], "acme-v1");
    for (body, complaint) in [
        (json!({ "file_base64": "AAAA", "card": {} }), "3 bytes without a card"),
        (json!({ "file_base64": "?", "card": {} }), "file_base64"),
        (json!({ "card": {} }), "file_base64"),
    ] {
        let refused = import(body).await;
        refused.problem(422);
        assert!(refused.text.contains(complaint), "{}", refused.text);
    }
    let held = world.get("/api/v1/quarantine").await.expect(200);
    assert_eq!((&held["items"][0]["payload"], &held["items"][0]["reason"]), (&json!("{"), &json!("no JSON")));
    let path = world.filled("/api/v1/quarantine/{id}");
    assert!(world.post(&format!("{path}/replay"), json!({})).await.problem(409) == "conflict");
    world.send(request(Method::DELETE, &path, Some(world.key("acme", Scope::Operate)), None)).await.expect(204);
    assert_eq!(world.get("/api/v1/quarantine").await.expect(200)["items"], json!([]));
}
