//! What cannot be taken is acknowledged, kept with its reason and counted; what is no MQTT ends its own connection only.

use std::process::Command;

use harbinger_tests::{
    http::Client,
    mqtt::Connection,
    server::{SCOPES, Server},
};
use serde_json::{Value, json};

/// Topic, payload, and a word of the reason.
const BAD: &[(&str, &str, &str)] = &[
    ("harbinger/v1/acme/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":1"#, "eof"),
    ("harbinger/v1/acme/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":NaN}}"#, ""),
    ("harbinger/v1/acme/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":1e999}}"#, ""),
    ("harbinger/v1/acme/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":"inf"}}"#, ""),
    ("harbinger/v1/acme/d-1/telemetry", r#"{"ts":"2099-01-01T00:00:00Z","values":{"x":1}}"#, "future"),
    ("harbinger/v1/acme/d-1/telemetry", "", ""),
    ("harbinger/v1/acme/d-1/nothing", r#"{"ts":1767225600000,"values":{"x":1}}"#, ""),
    ("weather/today", "rain", "topic"),
    ("harbinger/v1/other/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":1}}"#, "tenant"),
];

#[test]
fn what_cannot_be_taken_is_acknowledged_and_listed_with_its_reason() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", SCOPES).unwrap();
    let client = server.client(&key);
    let mut connection = Connection::open(server.mqtt, "careless", Some(&key)).unwrap();
    for (topic, payload, _) in BAD {
        connection.deliver(topic, payload).unwrap();
    }
    // Between two bad ones, a good one: nothing dams the stream.
    connection.deliver("harbinger/v1/acme/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":1}}"#).unwrap();

    let listed = client.items("/api/v1/quarantine").unwrap();
    let listed: Vec<(&str, &str, &str)> = listed.iter().map(words).collect();
    assert_eq!(listed.len(), BAD.len(), "{listed:#?}");
    for ((topic, payload, word), (found_topic, found_payload, reason)) in BAD.iter().zip(&listed) {
        assert_eq!((topic, payload), (found_topic, found_payload));
        assert!(!reason.is_empty() && reason.to_lowercase().contains(word), "{payload}: {reason}");
    }
    let telemetry = client.items("/api/v1/devices/d-1/telemetry").unwrap();
    assert_eq!(telemetry, [json!({"ts": "2026-01-01T00:00:00Z", "values": {"x": 1.0}})]);
    assert_balanced(&client, 1 + BAD.len(), BAD.len());

    // Whoever mends nothing gets it refused again, and it stays where it was.
    let first = client.items("/api/v1/quarantine").unwrap()[0]["id"].clone();
    let again = client.post(&format!("/api/v1/quarantine/{first}/replay"), &Value::Null).unwrap();
    assert_eq!(again.status, 409, "{}", again.text());
    assert_eq!(client.items("/api/v1/quarantine").unwrap().len(), BAD.len());
}

fn words(entry: &Value) -> (&str, &str, &str) {
    (entry["topic"].as_str().unwrap(), entry["payload"].as_str().unwrap(), entry["reason"].as_str().unwrap())
}

/// `received = stored + duplicate + corrected + quarantined + refused + in flight`, all of it read from `/metrics`.
#[track_caller]
fn assert_balanced(client: &Client, received: usize, quarantined: usize) {
    let metric =
        |name: &str, labels: &str| client.metric(&format!("harbinger_ingest_{name}"), labels).unwrap() as usize;
    assert_eq!(metric("readings_received_total", ""), received);
    assert_eq!(metric("readings_total", "outcome=\"quarantined\""), quarantined);
    assert_eq!(metric("readings_total", "") + metric("readings_in_flight", ""), received, "not all is accounted for");
}

#[test]
fn a_malformed_packet_ends_its_own_connection_and_no_other() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", SCOPES).unwrap();
    let client = server.client(&key);
    let mut good = Connection::open(server.mqtt, "good", Some(&key)).unwrap();
    // Packet type 0 is reserved; a PUBLISH at QoS 3 is malformed; a length of five bytes does not exist.
    for bytes in [&[0x00, 0x00][..], &[0x36, 0x05, 0, 1, b'a', 0, 1], &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]] {
        let mut bad = Connection::open(server.mqtt, "bad", Some(&key)).unwrap();
        bad.send(bytes).unwrap();
        assert!(bad.is_closed().unwrap(), "{bytes:?} is taken");
        good.deliver("harbinger/v1/acme/d-1/telemetry", r#"{"ts":1767225600000,"values":{"x":1}}"#).unwrap();
    }
    let closed = client.metric("harbinger_ingest_mqtt_connections_closed_total", "cause=\"protocol\"").unwrap();
    assert_eq!(closed, 3.0);
    assert_eq!(client.items("/api/v1/devices").unwrap().len(), 1);
}

/// The client that everybody has.
#[test]
fn mosquitto_pub_registers_a_device_by_publishing() {
    if Command::new("mosquitto_pub").arg("--help").output().is_err() {
        eprintln!("left out: mosquitto_pub is not installed");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", SCOPES).unwrap();
    let client = server.client(&key);
    let publish = |topic: &str, message: &str| {
        let (host, port) = (server.mqtt.ip().to_string(), server.mqtt.port().to_string());
        let arguments = ["-V", "mqttv311", "-q", "1", "-h", &host, "-p", &port, "-u", "any", "-P", &key];
        let ended = Command::new("mosquitto_pub").args(arguments).args(["-t", topic, "-m", message]).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    publish("harbinger/v1/acme/fridge-7/telemetry", r#"{"ts":"2026-01-31T10:00:00Z","values":{"current_a":1.2}}"#);
    publish("harbinger/v1/acme/fridge-7/telemetry", "{");
    publish("harbinger/v1/acme/fridge-7/events", r#"{"ts":"2026-01-31T10:00:05Z","code":"E42","severity":"warning"}"#);
    let device = client.get("/api/v1/devices/fridge-7").unwrap().json().unwrap();
    assert_eq!(device["device"], "fridge-7");
    let telemetry = client.items("/api/v1/devices/fridge-7/telemetry").unwrap();
    assert_eq!(telemetry, [json!({"ts": "2026-01-31T10:00:00Z", "values": {"current_a": 1.2}})]);
    assert_eq!(client.items("/api/v1/events").unwrap().len(), 1);
    assert_eq!(client.items("/api/v1/quarantine").unwrap().len(), 1);
    assert_balanced(&client, 3, 1);
}
