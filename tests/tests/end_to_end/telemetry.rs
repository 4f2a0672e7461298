//! Telemetry sent to and asked of the same path, and a device deleted for good.

use std::time::Duration;

use harbinger_tests::server::{Server, until};
use serde_json::json;

const ALL_SCOPES: &str = "ingest,read,operate,admin";
const PATH: &str = "/api/v1/telemetry?step=day&timezone=Asia/Kolkata&functions=count,p50&closed=left";

/// A reading an hour of two devices from midnight in India on, two days long.
fn lines() -> String {
    let hour = |device: &str, hour: i64| {
        let ts = 1_767_205_800_000 + hour * 3_600_000;
        json!({ "device": device, "ts": ts, "values": { "x": hour } }).to_string() + "\n"
    };
    ["keep", "gone"].iter().flat_map(|device| (0..48).map(|h| hour(device, h)).collect::<Vec<_>>()).collect()
}

#[test]
fn what_is_posted_is_asked_for_and_what_is_deleted_stays_deleted_after_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", ALL_SCOPES).unwrap();
    let client = server.client(&key);
    let sent = client.telemetry(&lines()).unwrap().json().unwrap();
    assert_eq!(sent["accepted"], 96);
    let bucket = |device: &str, from: &str, to: &str, p50: f64| json!({ "device": device, "signal": "x", "from": from, "to": to, "values": { "count": 24, "p50": p50 } });
    let days = |device| {
        [
            bucket(device, "2025-12-31T18:30:00Z", "2026-01-01T18:30:00Z", 11.5),
            bucket(device, "2026-01-01T18:30:00Z", "2026-01-02T18:30:00Z", 35.5),
        ]
    };
    assert_eq!(client.items(PATH).unwrap(), [days("gone"), days("keep")].concat());
    let document = client.get("/openapi.json").unwrap().json().unwrap();
    let methods: Vec<&String> = document["paths"]["/api/v1/telemetry"].as_object().unwrap().keys().collect();
    assert_eq!(methods, ["get", "post"]);

    let deleted = client.ask("DELETE", "/api/v1/devices/gone", &[], &[]).unwrap().json().unwrap();
    assert_eq!((&deleted["device"], &deleted["samples"]), (&json!("gone"), &json!(48)));
    // What comes later is kept, and registers the device again.
    let again = lines().lines().rev().find(|line| line.contains("gone")).unwrap().to_owned();
    client.telemetry(&again).unwrap().json().unwrap();
    assert_eq!(client.get("/api/v1/devices/gone").unwrap().status, 200);
    let deleted = client.ask("DELETE", "/api/v1/devices/gone", &[], &[]).unwrap().json().unwrap();
    assert_eq!(deleted["samples"], 1);
    server.kill().unwrap();

    let server = Server::start(data.path(), &[]).unwrap();
    let client = server.client(&key);
    assert_eq!(client.items(PATH).unwrap(), days("keep"));
    assert_eq!(client.get("/api/v1/devices/gone").unwrap().status, 404);
    assert_eq!(client.items("/api/v1/devices").unwrap().len(), 1);
    let audit = client.items("/api/v1/audit").unwrap();
    assert_eq!((&audit[0]["action"], &audit[0]["subject"]), (&json!("device.delete"), &json!("gone")));
}

/// Two days of event time are kept, though all of it is long ago by the wall.
#[test]
fn readings_past_their_retention_in_event_time_are_forgotten_at_start() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", ALL_SCOPES).unwrap();
    let day = |day: i64| {
        json!({ "device": "d", "ts": 1_420_070_400_000 + day * 86_400_000, "values": { "x": day } }).to_string() + "\n"
    };
    server.client(&key).telemetry(&(0..400).map(day).collect::<String>()).unwrap().json().unwrap();
    server.kill().unwrap();
    let server = Server::start(data.path(), &[("TELEMETRY__RETENTION__READINGS", "2d")]).unwrap();
    let client = server.client(&key);
    let path = "/api/v1/telemetry?from=2015-01-01T00:00:00Z";
    until(Duration::from_secs(20), "old readings to go", || {
        let left = client.items(path)?;
        Ok((left.len() < 100 && left.last().is_some_and(|last| last["values"]["x"] == 399.0)).then_some(()))
    })
    .unwrap();
}
