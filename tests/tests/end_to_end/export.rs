//! What goes out is what is there: as a bundle that comes back the same, as Parquet that pandas and DuckDB read, and whole or
//! not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use harbinger_bundle::Bundle;
use harbinger_core::Timestamp;
use harbinger_tests::{
    http::Client,
    process::{Process, harbinger_binary, python},
    server::{Place, SCOPES, Server, harbinger, until},
    workspace_root,
};
use serde_json::{Value, json};

use crate::fleet;

/// Names that are hard on column headers.
const NAMES: [&str; 8] = ["ts", "Device", "temp", "Temp", "fan.rpm", "a \"b\", c; d", "温度 'x'", "\\n%s"];
/// Readings with such names: more than a page of the API holds.
const READINGS: usize = 12_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A service with a small fleet of the past and one device that is hard on headers.
struct Full {
    server: Server,
    client: Client,
    key: String,
    _data: tempfile::TempDir,
}

fn full() -> Full {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]).unwrap();
    let bundle = fleet::small("acme", 1, 20);
    fleet::import(&server, &bundle, "acme");
    let key = server.key("acme", SCOPES).unwrap();
    let client = server.client(&key);
    let device = bundle.bundle.fleet.devices[0].device.as_str();
    let line = |number: usize| {
        let at = Timestamp::from_millis(1_750_000_000_000 + number as i64 * 1_001);
        // One signal is missing in each, so that every column has holes.
        let values = NAMES.iter().enumerate().filter(|(place, _)| !(number + place).is_multiple_of(NAMES.len()));
        let values: BTreeMap<&str, f64> =
            values.map(|(place, name)| (*name, number as f64 / 7.0 + place as f64)).collect();
        json!({"device": device, "ts": at.to_string(), "values": values}).to_string()
    };
    let event = json!({"device": device, "ts": "2025-06-15T00:00:00Z", "code": "E,\"1\"", "severity": "critical", "message": "a\nb"});
    let lines: Vec<String> = (0..READINGS).map(line).chain([event.to_string()]).collect();
    let answer = client.telemetry(&lines.join("\n")).unwrap();
    let taken = answer.json().unwrap();
    assert_eq!(taken["accepted"], READINGS + 1, "{}", taken["quarantined"][0]);
    Full { server, client, key, _data: data }
}

/// Exports; what was said on the way.
fn export(place: &Place, key: &str, out: &Path, more: &[&str]) -> String {
    let api = format!("http://{}", place.api);
    let arguments = ["export", "--api", &api, "--key", key, "--out", out.to_str().unwrap()];
    let ended = harbinger(&[&arguments, more].concat()).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    said
}

#[track_caller]
fn assert_same(one: &Bundle, other: &Bundle) {
    assert!(one.fleet == other.fleet, "{:#?}\n{:#?}", one.fleet, other.fleet);
    assert_eq!(one.histories.keys().collect::<Vec<_>>(), other.histories.keys().collect::<Vec<_>>());
    for (device, known) in &one.histories {
        // By text, since not a number is not equal to itself.
        assert!(format!("{known:?}") == format!("{:?}", other.histories[device]), "{device} differs");
    }
    assert_eq!(one.consumption, other.consumption);
}

#[test]
fn an_export_comes_back_the_same() {
    let full = full();
    let place = tempfile::tempdir().unwrap();
    let [first, second, part] = ["first", "second", "part"].map(|name| place.path().join(name));
    export(&full.server, &full.key, &first, &[]);
    let bundle = harbinger_bundle::read(&first).unwrap();
    let device = &bundle.fleet.devices[0].device;
    let signals = bundle.histories[device].readings.columns.iter().map(|(signal, _)| signal.as_str());
    let signals: Vec<&str> = signals.collect();
    assert!(NAMES.iter().all(|name| signals.contains(name)), "{signals:?}");

    let data = tempfile::tempdir().unwrap();
    let fresh = Server::start(data.path(), &[]).unwrap();
    let key = fresh.key("acme", SCOPES).unwrap();
    let api = format!("http://{}", fresh.api);
    let ended = harbinger(&["import", first.to_str().unwrap(), "--api", &api, "--key", &key]).unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    export(&fresh, &key, &second, &[]);
    assert_same(&bundle, &harbinger_bundle::read(&second).unwrap());

    let (from, to) = (Timestamp::from_millis(1_750_000_000_000), Timestamp::from_millis(1_750_000_100_000));
    let span = ["--from", &from.to_string(), "--to", &to.to_string(), "--device", device.as_str()];
    export(&full.server, &full.key, &part, &span);
    let part = harbinger_bundle::read(&part).unwrap();
    let known = &part.histories[device].readings;
    let inside = &bundle.histories[device].readings.times;
    let inside: Vec<_> = inside.iter().filter(|&&ts| from <= ts && ts < to).collect();
    assert_eq!((part.fleet.devices.len(), known.times.iter().collect::<Vec<_>>()), (1, inside));
    assert_eq!(part.fleet.parts, bundle.fleet.parts);
}

/// Goal: an export of a live fleet is one of its beginning: what comes later is left out, a new signal by name. Method: readings
/// newer than all before and new signals at old times come without a pause, until an export has met a new signal.
#[test]
fn an_export_of_a_live_fleet_leaves_out_what_is_new() {
    let full = full();
    let place = tempfile::tempdir().unwrap();
    let client = &full.client;
    let devices = client.items("/api/v1/devices").unwrap();
    let is_over = AtomicBool::new(false);
    let load = || {
        let mut number = 0;
        while !is_over.load(Ordering::SeqCst) {
            let old = Timestamp::from_millis(1_749_000_000_000 + number).to_string();
            let late = Timestamp::from_millis(1_760_000_000_000 + number).to_string();
            let lines = devices.iter().flat_map(|device| {
                let (device, new) = (&device["device"], format!("new{number}"));
                [
                    json!({"device": device, "ts": old, "values": {new: 1.0}}),
                    json!({"device": device, "ts": late, "values": {"temp": 1.0}}),
                ]
            });
            let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
            assert_eq!(client.telemetry(&lines.join("\n")).unwrap().json().unwrap()["accepted"], lines.len());
            number += 1;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(load);
        let mut round = 0;
        let left_out = || {
            round += 1;
            let out = place.path().join(round.to_string());
            let said = export(&full.server, &full.key, &out, &[]);
            let bundle = harbinger_bundle::read(&out).unwrap();
            let columns = bundle.histories.values().flat_map(|history| &history.readings.columns);
            let columns: BTreeSet<String> = columns.map(|(signal, _)| signal.to_string()).collect();
            assert!(NAMES.iter().all(|name| columns.contains(*name)), "{columns:?}");
            let line =
                said.lines().find(|line| line.starts_with("left out, first seen while the export ran: signals "));
            if let Some(named) = line.and_then(|line| line.split('"').nth(1)) {
                assert!(named.starts_with("new") && !columns.contains(named), "{said}");
            }
            Ok(line.map(drop))
        };
        let found = until(PATIENCE, "an export that meets a new signal", left_out);
        is_over.store(true, Ordering::SeqCst);
        found.unwrap();
    });
}

/// What the API says of all readings and events, in the words of `tests/python/read_parquet.py`.
fn truth(client: &Client) -> Value {
    let (mut rows, mut rows_of_devices) = (0, BTreeMap::new());
    let (mut counts, mut sums) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, f64>::new());
    let mut times: Vec<Timestamp> = Vec::new();
    for device in client.items("/api/v1/devices").unwrap() {
        let device = device["device"].as_str().unwrap();
        let path = format!("/api/v1/devices/{device}/telemetry?from={}", Timestamp::MIN);
        let readings = client.items(&path).unwrap();
        rows += readings.len();
        rows_of_devices.insert(device.to_owned(), readings.len());
        for reading in &readings {
            times.push(reading["ts"].as_str().unwrap().parse().unwrap());
            for (signal, value) in reading["values"].as_object().unwrap() {
                *counts.entry(signal.clone()).or_default() += 1;
                *sums.entry(signal.clone()).or_default() += value.as_f64().unwrap();
            }
        }
    }
    let events = client.items(&format!("/api/v1/events?from={}", Timestamp::MIN)).unwrap();
    let critical = events.iter().filter(|event| event["severity"] == "critical").count();
    json!({
        "rows": rows, "joined": rows, "rows_of_devices": rows_of_devices, "counts": counts, "sums": sums,
        "first": times.iter().min().unwrap().to_string(), "last": times.iter().max().unwrap().to_string(),
        "events": events.len(), "critical": critical, "in_order": true,
    })
}

/// Compares what a reader made of the files with the truth, whose signals stand in the columns that `signals` names.
fn check_reader(read: &Value, truth: &Value, signals: &Value) {
    for key in ["rows", "joined", "rows_of_devices", "events", "critical", "in_order"] {
        assert_eq!(read[key], truth[key], "{key}");
    }
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!((time(&read["first"]), time(&read["last"])), (time(&truth["first"]), time(&truth["last"])));
    let columns = signals.as_object().unwrap();
    assert_eq!(columns.len(), truth["counts"].as_object().unwrap().len());
    for (column, signal) in columns {
        let signal = signal.as_str().unwrap();
        assert_eq!(read["counts"][column], truth["counts"][signal], "{signal}");
        let sums = [&read["sums"][column], &truth["sums"][signal]].map(|sum| sum.as_f64().unwrap());
        assert!((sums[0] - sums[1]).abs() <= 1e-9 * sums[1].abs().max(1.0), "{signal}: {sums:?}");
    }
}

#[test]
fn pandas_and_duckdb_read_what_the_api_says() {
    let Some(python) = python("duckdb, pandas, pyarrow") else { return };
    let full = full();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("fleet");
    export(&full.server, &full.key, &out, &["--format", "parquet"]);
    let script = workspace_root().join("tests/python/read_parquet.py");
    let ended = Command::new(python).arg(script).arg(&out).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let read: Value = serde_json::from_slice(&ended.stdout).unwrap();

    assert_eq!(read["pandas"]["time_type"], "datetime64[ms, UTC]");
    assert_eq!(read["pandas"]["signal_types"], json!(["float64"]));
    assert_eq!(read["duckdb"]["time_type"], "TIMESTAMP WITH TIME ZONE");
    assert_eq!(read["duckdb"]["signal_types"], json!(["DOUBLE"]));
    assert_eq!(read["metadata"]["harbinger.tenant"], "acme");
    let signals: Value = serde_json::from_str(read["metadata"]["harbinger.signals"].as_str().unwrap()).unwrap();
    assert!(NAMES.iter().all(|name| signals.as_object().unwrap().values().any(|signal| signal == name)), "{signals}");
    let truth = truth(&full.client);
    check_reader(&read["pandas"], &truth, &signals);
    check_reader(&read["duckdb"], &truth, &signals);
}

/// Bytes in all files of the hidden folder that an export fills.
pub(crate) fn partial_bytes(place: &Path) -> u64 {
    let files = harbinger_tests::files(place, "").unwrap_or_default();
    let hidden = fs_err::read_dir(place).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let inside =
        hidden.filter(|path| path.is_dir()).flat_map(|folder| harbinger_tests::files(&folder, "").unwrap_or_default());
    files.into_iter().chain(inside).filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[test]
fn a_killed_export_leaves_nothing_that_looks_whole() {
    let full = full();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("fleet");
    let api = format!("http://{}", full.server.api);
    for (round, format) in ["bundle", "parquet", "bundle", "parquet"].into_iter().enumerate() {
        let mut command = Command::new(harbinger_binary().unwrap());
        command.args(["export", "--api", &api, "--key", &full.key, "--format", format, "--out"]).arg(&out);
        let before = partial_bytes(place.path());
        let mut process = Process::start(&mut command).unwrap();
        let enough = || Ok((partial_bytes(place.path()) > before + 1_000 * round as u64).then_some(()));
        until(PATIENCE, "the export to begin", enough).unwrap();
        process.kill().unwrap();
        assert!(!out.exists(), "killed in round {round}, and there is a folder with the export's name");
    }
    export(&full.server, &full.key, &out, &[]);
    assert_eq!(harbinger_bundle::read(&out).unwrap().fleet.devices.len(), 12);
}
