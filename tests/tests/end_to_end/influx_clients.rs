//! InfluxDB's own clients write to us as they would to InfluxDB; what they were told is stored is there after `kill -9`.

use std::process::Command;

use harbinger_tests::{
    process::python,
    server::{SCOPES, Server},
    workspace_root,
};
use serde_json::json;

#[test]
fn clients_of_either_version_write_unchanged() {
    let Some(python) = python("influxdb, influxdb_client") else { return };
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", SCOPES).unwrap();
    let script = workspace_root().join("tests/python/write_influx.py");
    let address = [server.api.ip().to_string(), server.api.port().to_string()];
    let ended = Command::new(python).arg(script).args(address).arg(&key).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

    server.kill().unwrap();
    let server = Server::start(data.path(), &[]).unwrap();
    let client = server.client(&key);
    let tags = "cpu=cpu 0%2Cx%3Dy";
    let first = json!({ "ts": "2026-01-01T00:00:00Z", "values": {
        format!("cpu_idle;{tags}"): 1.5, format!("cpu_on;{tags}"): 1.0, format!("cpu_count;{tags}"): 7.0,
    }});
    let second = json!({ "ts": "2026-01-01T00:00:00.001Z", "values": { "room temp_in side": 21.0 } });
    let third = json!({ "ts": "2026-01-01T00:00:05Z", "values": { "cpu_idle": 2.0 } });
    for (device, expected) in [
        ("one-False", vec![&first, &second]),
        ("one-True", vec![&first, &second]),
        ("two-False", vec![&first, &second, &third]),
        ("two-True", vec![&first, &second, &third]),
    ] {
        let readings = client.items(&format!("/api/v1/devices/{device}/telemetry")).unwrap();
        assert_eq!(readings.iter().collect::<Vec<_>>(), expected, "{device}");
    }
    // The good line of the partial writes came twice and is there once; the bad one waits twice.
    assert_eq!(client.items("/api/v1/devices/three/telemetry").unwrap().len(), 1);
    let kept = client.items("/api/v1/quarantine").unwrap();
    assert!(kept.len() == 2 && kept.iter().all(|entry| entry["topic"] == "/write?precision=ms"), "{kept:?}");
}
