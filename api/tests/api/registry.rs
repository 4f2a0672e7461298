//! The registry and the history through the interface.

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn what_was_imported_is_listed_in_every_kind() {
    let world = World::new().await;
    let items = |list: &'static str| {
        let world = &world;
        async move { world.get(&format!("/api/v1/{list}")).await.expect(200)["items"].clone() }
    };
    assert_eq!(items("hardware-models").await[0]["kind"], "server");
    assert_eq!(items("signals").await[0]["low_limit"], 7999.5);
    assert_eq!(items("components").await[0]["quantity"], 1);
    assert_eq!(items("parts").await[0]["supplier_lead_days"], 30.0);
    assert_eq!(items("depots").await[1]["echelon"], "hub");
    assert_eq!(items("lanes").await[0]["days"], 1.5);
    assert_eq!(items("contracts").await[0]["resolve_hours"], 24.0);
    assert_eq!(items("stock").await, json!([{ "part": "fan-part", "depot": "hub", "on_hand": 4, "in_transit": 0 }]));
    let device = world.get("/api/v1/devices/acme-d2").await.expect(200);
    assert_eq!(device["installed_at"], "2014-01-01T00:00:00Z");
    assert_eq!(device["tenant"], "acme");
    let movements = items("stock/movements").await;
    assert_eq!((&movements[0]["kind"], &movements[0]["quantity"]), (&json!("import"), &json!(4)));
}

#[tokio::test]
async fn pages_to_the_end_are_the_whole_list_in_order() {
    let world = World::new().await;
    let row = |i: usize| json!({ "device": format!("n{i:03}"), "model": "acme-m", "depot": "hub" });
    let rows: Vec<Value> = (0..257).map(row).collect();
    assert_eq!(world.post("/api/v1/devices", json!({ "items": rows })).await.expect(200)["written"], 257);
    for limit in [1, 7, 100, 259, 10_000] {
        let ids: Vec<String> = world
            .walk("/api/v1/devices", limit)
            .await
            .iter()
            .map(|row| row["device"].as_str().unwrap().to_owned())
            .collect();
        let mut expected: Vec<String> = (0..257).map(|i| format!("n{i:03}")).collect();
        expected.splice(0..0, ["acme-d1".to_owned(), "acme-d2".to_owned()]);
        assert_eq!(ids, expected, "limit {limit}");
        if limit == 1 {
            assert_eq!(world.walk("/api/v1/depots", 1).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn maintenance_is_taken_once_pages_and_may_be_refused_whole() {
    let world = World::new().await;
    let row = |minute: u32, device: &str| {
        let ts = format!("2015-01-01T10:{minute:02}:00Z");
        json!({ "ts": ts, "device": device, "component": "fan", "action": "inspected", "reason": "planned" })
    };
    let rows: Vec<Value> = (0..5).flat_map(|minute| [row(minute, "acme-d1"), row(minute, "acme-d2")]).collect();
    for _ in 0..2 {
        world.post("/api/v1/maintenance", json!({ "items": rows })).await.expect(200);
    }
    let listed = world.walk("/api/v1/maintenance", 3).await;
    assert_eq!(listed[..10], rows[..]);
    assert_eq!(listed.len(), 11);
    let some = world.get("/api/v1/maintenance?device=acme-d2&from=2015-01-01T10:01:00Z&to=2015-01-01T10:03:00Z").await;
    assert_eq!(some.expect(200)["items"], json!([row(1, "acme-d2"), row(2, "acme-d2")]));
    let unknown = world.post("/api/v1/maintenance", json!({ "items": [row(9, "acme-d1"), row(9, "none")] })).await;
    assert!(unknown.problem(409) == "conflict" && unknown.text.contains("none"));
    assert_eq!(world.walk("/api/v1/maintenance", 100).await.len(), 11);
    // Where the process refuses, the records are not kept either.
    let slot = json!({ "items": [{ "model": "acme-m", "component": "refused", "part": "fan-part" }] });
    world.post("/api/v1/components", slot).await.expect(200);
    let mut refused = row(10, "acme-d1");
    refused["component"] = json!("refused");
    world.post("/api/v1/maintenance", json!({ "items": [refused] })).await.problem(409);
    assert_eq!(world.walk("/api/v1/maintenance", 100).await.len(), 11);
    let taken = json!({ "ts": "2015-01-01T00:00:00Z", "part": "fan-part", "depot": "hub", "quantity": 2 });
    // Two pieces taken at one instant are two records, also where a page ends between them.
    let later = json!({ "ts": "2015-01-02T00:00:00Z", "part": "fan-part", "depot": "hub", "quantity": 1.0 });
    world.post("/api/v1/consumption", json!({ "items": [taken, later, taken] })).await.expect(200);
    let taken = json!({ "ts": "2015-01-01T00:00:00Z", "part": "fan-part", "depot": "hub", "quantity": 2.0 });
    assert_eq!(world.walk("/api/v1/consumption", 1).await, [taken.clone(), taken, later.clone()]);
    let some = world.get("/api/v1/consumption?from=2015-01-02T00:00:00Z").await;
    assert_eq!(some.expect(200)["items"], json!([later]));
}
