//! Work orders through the interface: planned, told of, listed, called off.

use serde_json::{Value, json};

use crate::world::World;

fn planned(device: &str) -> Value {
    json!({ "device": device, "component": "fan", "due_at": "2015-01-09T08:00:00Z", "note": "bring a ladder" })
}

#[tokio::test]
async fn a_replacement_is_planned_with_what_lies_there_and_called_off() {
    let world = World::new().await;
    let path = world.filled("/api/v1/work-orders/{work_order_id}");
    let of_alert = world.get(&path).await.expect(200);
    assert_eq!((&of_alert["alert_id"], &of_alert["reserved"]), (&json!(world.ids["alert_id"]), &json!(0)));
    let twice = world.post("/api/v1/work-orders", planned("acme-d1")).await;
    assert!(twice.problem(409) == "conflict" && twice.text.contains(&world.ids["work_order_id"]), "{}", twice.text);

    let second = world.post("/api/v1/work-orders", planned("acme-d2")).await.expect(201);
    let expected = json!({
        "work_order_id": second["work_order_id"], "device": "acme-d2", "component": "fan", "part": "fan-part",
        "depot": "acme-north", "quantity": 1, "due_at": "2015-01-09T08:00:00Z", "state": "open", "reserved": 0,
        "alert_id": null, "note": "bring a ladder", "opened_at": second["opened_at"], "opened_by": second["opened_by"],
        "done_at": null, "cancelled_at": null,
    });
    assert_eq!(second, expected);
    // Pieces that come are kept for whoever is due first.
    let transfer = world.filled("/api/v1/transfers/{order_id}");
    for step in ["approve", "ship"] {
        world.post(&format!("{transfer}/{step}"), json!({})).await.expect(200);
    }
    world.post(&format!("{transfer}/receive"), json!({ "quantity": 1 })).await.expect(200);
    let list = world.get("/api/v1/work-orders?state=open").await.expect(200);
    let kept = |list: &Value, place: usize| list["items"][place]["reserved"].clone();
    assert_eq!((kept(&list, 0), kept(&list, 1)), (json!(0), json!(1)), "newest first");
    let cancelled = world.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    assert_eq!((&cancelled["state"], &cancelled["reserved"]), (&json!("cancelled"), &json!(0)));
    world.post(&format!("{path}/cancel"), json!({})).await.problem(409);
    let left = world.get("/api/v1/work-orders?state=open&device=acme-d2").await.expect(200);
    assert_eq!(kept(&left, 0), 1, "what was kept goes to the next");
    assert_eq!(world.walk("/api/v1/work-orders", 1).await.len(), 2);

    let deliveries = world.walk(&world.filled("/api/v1/webhooks/{webhook_id}/deliveries"), 100).await;
    let types: Vec<&str> = deliveries.iter().map(|delivery| delivery["event_type"].as_str().unwrap()).collect();
    assert_eq!(types[0], "work_order.cancelled");
    assert!(types.contains(&"work_order.opened"), "{types:?}");
    let audit = world.get("/api/v1/audit").await.expect(200);
    assert_eq!(audit["items"][0]["action"], "work_order.cancelled");
}

#[tokio::test]
async fn what_cannot_be_planned_is_refused_with_the_reason() {
    let world = World::new().await;
    let refused = |change: Value| {
        let mut body = planned("acme-d2");
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        world.post("/api/v1/work-orders", body)
    };
    let unknown = refused(json!({ "device": "acme-d9" })).await;
    assert!(unknown.problem(409) == "conflict" && unknown.text.contains("acme-d9"), "{}", unknown.text);
    refused(json!({ "component": "wheel" })).await.problem(409);
    refused(json!({ "due_at": "soon" })).await.problem(422);
    refused(json!({ "note": "x".repeat(2_001) })).await.problem(422);
    refused(json!({ "part": "fan-part" })).await.problem(422);
    world.get("/api/v1/work-orders?state=late").await.problem(400);
    assert_eq!(world.get("/api/v1/work-orders").await.expect(200)["items"].as_array().unwrap().len(), 1);
}
