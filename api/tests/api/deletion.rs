//! Deleting a device: everything that describes it goes, from both stores; the tenant's books stay.

use axum::http::Method;
use harbinger_core::{DeviceKey, TimeRange};
use harbinger_store::ledger::{changes, erasure, keys::Scope};
use serde_json::json;

use crate::world::{World, at, request, tenant};

async fn delete(world: &World, device: &str, scope: Scope) -> crate::world::Answer {
    let path = format!("/api/v1/devices/{device}");
    world.send(request(Method::DELETE, &path, Some(world.key("acme", scope)), None)).await
}

#[tokio::test]
async fn everything_that_describes_a_device_goes_and_its_neighbour_stays() {
    let world = World::new().await;
    let whole = TimeRange::ALL;
    let purchases = world.get("/api/v1/purchases").await.expect(200);
    let gone = delete(&world, "acme-d1", Scope::Admin).await.expect(200);
    let expected = json!({
        "device": "acme-d1", "samples": 48, "events": 1, "predictions": 5, "decisions": 1, "alerts": 1, "maintenance": 0
    });
    assert_eq!(gone, expected);

    let key = DeviceKey::new(tenant("acme"), "acme-d1".parse().unwrap());
    assert!(world.store.scan(&key, whole, None).await.unwrap().is_empty());
    for path in ["/api/v1/devices/acme-d1", "/api/v1/devices/acme-d1/telemetry", "/api/v1/devices/acme-d1/health"] {
        world.get(path).await.problem(404);
    }
    assert_eq!(world.get(&world.filled("/api/v1/predictions/{prediction_id}")).await.problem(404), "not-found");
    assert_eq!(world.get(&world.filled("/api/v1/alerts/{alert_id}")).await.problem(404), "not-found");
    assert_eq!(world.get("/api/v1/work-orders").await.expect(200)["items"], json!([]));
    for path in ["/api/v1/events", "/api/v1/alerts", "/api/v1/telemetry"] {
        assert_eq!(world.get(path).await.expect(200)["items"], json!([]), "{path}");
    }
    assert_eq!(
        world.get(&world.filled("/api/v1/webhooks/{webhook_id}/deliveries")).await.text.matches("d1 fan").count(),
        0
    );
    // The neighbour, and the books.
    assert_eq!(world.get("/api/v1/predictions").await.expect(200)["items"].as_array().unwrap().len(), 5);
    assert_eq!(world.get("/api/v1/maintenance").await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/api/v1/purchases").await.expect(200), purchases);

    let mut connection = world.ledger.read().await.unwrap();
    let told = changes::after(&mut connection, &tenant("acme"), 0, 100).await.unwrap();
    drop(connection);
    let told: Vec<(&str, &str)> = told.iter().map(|change| (change.kind.as_str(), change.subject.as_str())).collect();
    assert_eq!(told, [("device.deleted", "acme-d1")]);
    let audit = world.get("/api/v1/audit").await.expect(200);
    assert_eq!(
        (&audit["items"][0]["action"], &audit["items"][0]["subject"]),
        (&json!("device.delete"), &json!("acme-d1"))
    );
}

#[tokio::test]
async fn deleting_again_finds_nothing_left_and_a_device_that_never_was_is_not_found() {
    let world = World::new().await;
    delete(&world, "acme-d1", Scope::Admin).await.expect(200);
    let again = delete(&world, "acme-d1", Scope::Admin).await.expect(200);
    assert_eq!((&again["samples"], &again["alerts"]), (&json!(0), &json!(0)));
    assert_eq!(delete(&world, "acme-d9", Scope::Admin).await.problem(404), "not-found");
    assert_eq!(delete(&world, "acme-d2", Scope::Operate).await.problem(403), "forbidden");
}

/// The process died after the ledger's commit: the note leads whoever starts next to the telemetry that is left.
#[tokio::test]
async fn a_deletion_that_was_interrupted_is_finished_at_the_next_start() {
    let world = World::new().await;
    let key = DeviceKey::new(tenant("acme"), "acme-d1".parse().unwrap());
    let mut tx = world.ledger.write().await.unwrap();
    erasure::begin(&mut tx, &key, at(7)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!world.store.scan(&key, TimeRange::ALL, None).await.unwrap().is_empty());
    assert_eq!(world.erasure.finish_pending().await.unwrap(), 1);
    assert!(world.store.scan(&key, TimeRange::ALL, None).await.unwrap().is_empty());
    assert_eq!(world.erasure.finish_pending().await.unwrap(), 0);
}
