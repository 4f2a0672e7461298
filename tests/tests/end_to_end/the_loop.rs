//! The loop, closed: readings over real MQTT become predictions, alerts and transfers, and one id leads all the way back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use harbinger_core::{Duration as Length, Timestamp};
use harbinger_tests::{
    http::Client,
    server::{Place, SCOPES, Server, harbinger, until},
};
use serde_json::{Value, json};

use crate::fleet::{self, Folder};

const PATIENCE: Duration = Duration::from_secs(180);
const SETTINGS: [(&str, &str); 1] = [("ANALYTICS__EVERY", "6h")];
const EVERY: Length = Length::from_hours(6);

/// Waits until a tenant's last grid step is scored; its time. How long all of it takes is the machine's affair, which trains a
/// model a week: patience is for a week at a time.
fn all_scored(client: &Client, bundle: &Folder) -> Timestamp {
    let times = || bundle.bundle.histories.values().map(|known| &known.readings.times);
    let (first, last) =
        (times().filter_map(|t| t.first()).min().unwrap(), times().filter_map(|t| t.last()).max().unwrap());
    let last = last.floor_to(EVERY);
    let weeks = (1..).map(|week| *first + Length::from_days(7 * week)).take_while(|&week| week < last);
    for step in weeks.chain([last]) {
        let path = format!("/api/v1/predictions?from={step}&limit=1");
        let arrived = || Ok((!client.get(&path)?.json()?["items"].as_array().unwrap().is_empty()).then_some(()));
        until(PATIENCE, &format!("{step} to be scored"), arrived).unwrap();
    }
    last
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Two tenants report at the same time, each from its own bundle, one hourly and one every 20 minutes.
#[test]
fn two_fleets_replayed_side_by_side_close_the_loop() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &SETTINGS).unwrap();
    let acme = fleet::small("acme", 3, 42);
    let other = fleet::with("other", 2, 14, Length::from_millis(20 * 60_000), 5);
    let failures: usize = acme.bundle.histories.values().map(|known| known.failures.len()).sum();
    assert!(failures >= 20, "{failures} failures");
    let place: &Place = &server;
    std::thread::scope(|scope| {
        scope.spawn(|| fleet::replay(place, &acme, "acme"));
        scope.spawn(|| fleet::replay(place, &other, "other"));
    });
    let acme_client = server.client(&server.key("acme", SCOPES).unwrap());
    let other_client = server.client(&server.key("other", SCOPES).unwrap());
    let scored_until = all_scored(&acme_client, &acme);
    all_scored(&other_client, &other);

    trains_by_itself(&acme_client);
    raises_and_resolves_alerts(&acme_client);
    alerts_explain_themselves(&acme_client);
    for (client, bundle, tenant) in [(&acme_client, &acme, "acme"), (&other_client, &other, "other")] {
        live_rows_equal_scored_rows(client, bundle, tenant, data.path());
    }
    the_scoreboard_counts_what_came_of_predictions(&acme_client);
    tenants_do_not_mix(&acme_client, &acme, &other_client, &other);
    one_id_leads_from_the_shelf_to_the_readings(&acme_client, scored_until);
    import_gives_the_same_telemetry(&acme_client, &acme);
}

fn trains_by_itself(client: &Client) {
    let models = client.items("/api/v1/models").unwrap();
    assert!(models.len() >= 2, "trained once and never again: {models:?}");
    let champions: Vec<_> = models.iter().filter(|model| model["state"] == "champion").collect();
    assert_eq!(champions.len(), 1);
    assert!(champions[0]["summary"]["failures"].as_u64().unwrap() >= 10, "{}", champions[0]);
    // Each model was in use at once, is in shadow, or was compared with the one in use on rows that neither had seen.
    assert!(models.iter().all(|model| model["state"] != "candidate"), "{models:?}");
    let compared: Vec<&Value> = models.iter().filter(|model| model["summary"]["shadow"].is_object()).collect();
    assert!(!compared.is_empty(), "no model was tried in shadow: {models:?}");
    for model in compared {
        let shadow = client.get(&format!("/api/v1/models/{}/shadow", text(model, "version"))).unwrap().json().unwrap();
        assert_eq!(shadow, model["summary"]["shadow"]);
        assert!(shadow["rows"].as_u64().unwrap() > 100 && shadow["failures"].as_u64().unwrap() > 0, "{shadow}");
        let promoted = shadow["difference"].as_f64().unwrap() <= 0.0;
        assert!(promoted || text(model, "state") == "retired", "{model}");
    }
}

fn raises_and_resolves_alerts(client: &Client) {
    let alerts = client.items("/api/v1/alerts").unwrap();
    assert!(!alerts.is_empty(), "no alert was raised");
    assert!(alerts.iter().any(|alert| alert["resolved_at"].is_string()), "no alert was resolved");
    let mut open = BTreeSet::new();
    for alert in &alerts {
        assert!(!text(alert, "summary").is_empty() && !alert["reasons"].as_array().unwrap().is_empty(), "{alert}");
        if !matches!(text(alert, "state"), "resolved" | "closed") {
            let slot = (text(alert, "device"), text(alert, "component"), text(alert, "failure_mode"));
            assert!(open.insert(slot), "two open alerts for {slot:?}");
        }
    }
    eprintln!("{} alerts, {} open", alerts.len(), open.len());
}

/// What the service scored as time went by is what `harbinger score` says afterwards, byte for byte.
fn live_rows_equal_scored_rows(client: &Client, bundle: &Folder, tenant: &str, data: &Path) {
    let out = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for model in client.items("/api/v1/models").unwrap() {
        let version = text(&model, "version");
        let live = client.csv(&format!("/api/v1/predictions?model_version={version}")).unwrap();
        let Some((first, last)) = span(&live) else { continue };
        let file = out.path().join(version);
        let folder = data.join("models").join(tenant).join(version);
        let [folder, file_text] = [&folder, &file].map(|path| path.to_str().unwrap());
        let mut arguments = vec!["score", bundle.argument(), "--models", folder, "--out", file_text];
        if model["state"] != "champion" {
            // A model of the past is asked for its own time only, to save time; the champion for all.
            arguments.extend(["--from", &first, "--to", &last]);
        }
        let ended = harbinger(&arguments).unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let scored = std::fs::read_to_string(&file).unwrap();
        assert_eq!(live.lines().next(), scored.lines().next(), "the columns differ");
        let by_slot = |text: &str| -> BTreeMap<String, String> {
            text.lines()
                .skip(1)
                .map(|line| (line.splitn(4, ',').take(3).collect::<Vec<_>>().join(","), line.to_owned()))
                .collect()
        };
        let (live, scored) = (by_slot(&live), by_slot(&scored));
        let different: Vec<_> = live.iter().filter(|(slot, line)| scored.get(*slot) != Some(line)).collect();
        let shown: Vec<_> = different.iter().take(4).map(|(slot, line)| (line, scored.get(*slot))).collect();
        assert!(different.is_empty(), "{tenant} {version}: {} of {} differ: {shown:#?}", different.len(), live.len());
        // Where the model was in charge it left nothing out: every slot of every step between its first and last.
        let instant = |slot: &str| slot.split(',').next().unwrap().to_owned();
        let between = scored.keys().filter(|slot| (first.clone()..=last.clone()).contains(&instant(slot)));
        let missing: Vec<_> = between.filter(|slot| !live.contains_key(*slot)).take(5).collect();
        assert!(missing.is_empty(), "{tenant} {version}: never scored: {missing:?}");
        compared += live.len();
    }
    eprintln!("{tenant}: {compared} rows are the same");
    assert!(compared > 0);
}

/// Every version answers for its own predictions and the failures of its time, counted here again from the lists.
fn the_scoreboard_counts_what_came_of_predictions(client: &Client) {
    let scoreboard = client.get("/api/v1/scoreboard").unwrap().json().unwrap();
    let standings = scoreboard["items"].as_array().unwrap();
    let maintenance = client.items("/api/v1/maintenance").unwrap();
    let time = |value: &Value, key: &str| text(value, key).parse::<Timestamp>().unwrap();
    let mut found = 0;
    for standing in standings.iter().filter(|standing| standing["hardware_model"].is_null()) {
        let version = text(standing, "model_version");
        let horizon = Length::from_hours(standing["horizon_hours"].as_f64().unwrap() as i64);
        let (from, to) = (time(standing, "from"), time(standing, "to"));
        let live = client.csv(&format!("/api/v1/predictions?model_version={version}")).unwrap();
        let times = live.lines().skip(1).map(|line| line.split(',').next().unwrap().parse::<Timestamp>().unwrap());
        let known = times.filter(|&ts| ts + horizon <= to).count();
        assert_eq!(standing["predictions"], json!(known), "{version}");
        let failed = |record: &&Value| record["action"] == "replaced" && record["reason"] == "failure";
        let inside = |record: &&Value| (from + horizon..=to).contains(&time(record, "ts"));
        let failures = maintenance.iter().filter(failed).filter(inside).count();
        assert_eq!(standing["failures"], json!(failures), "{version}");
        let flagged = standing["flagged"][0]["failures"].as_u64().unwrap() as usize;
        let bars = standing["lead_times"].as_array().unwrap().iter();
        assert_eq!(bars.map(|bar| bar["failures"].as_u64().unwrap() as usize).sum::<usize>(), flagged, "{version}");
        assert!(flagged <= failures, "{version}");
        let split = standings.iter().filter(|of| of["model_version"] == version && of["hardware_model"].is_string());
        let parts: Vec<u64> = split.map(|of| of["predictions"].as_u64().unwrap()).collect();
        assert_eq!(parts.iter().sum::<u64>(), known as u64, "{version}: {parts:?}");
        found += flagged;
        let alarms = standing["false_alarms"].as_u64().unwrap() as usize;
        shows_examples(client, version, [flagged, failures - flagged, alarms]);
    }
    assert!(found > 0, "no failure was flagged by any version");
}

/// At most three of each kind, each with its curve, and what was read of the signal that it is about.
///
/// * `counts`: failures foreseen, failures missed, false alarms.
fn shows_examples(client: &Client, version: &str, counts: [usize; 3]) {
    let answer = client.get(&format!("/api/v1/scoreboard/{version}/examples")).unwrap().json().unwrap();
    let examples = answer["items"].as_array().unwrap();
    let of = |outcome: &str| examples.iter().filter(|example| example["outcome"] == outcome).count();
    let shown = ["foreseen", "missed", "false_alarm"].map(of);
    assert_eq!(shown, counts.map(|count| count.min(3)), "{version}");
    let points = |example: &Value, curve: &str| example[curve].as_array().unwrap().len();
    for example in examples.iter().filter(|example| example["outcome"] != "missed") {
        assert!((1..=301).contains(&points(example, "probabilities")) && example["threshold"].is_number(), "{example}");
        assert!(example["because"].is_string() && example["prediction_id"].is_string(), "{example}");
    }
    let with_values = examples.iter().filter(|example| points(example, "values") > 1).count();
    // A version that never alarmed names no signal.
    assert!(with_values > 0 || counts[0] + counts[2] == 0, "{examples:#?}");
}

/// What raised an alert tells past cases, and what would have to change where the model learnt from rows; all of it is reckoned
/// again to the last digit.
fn alerts_explain_themselves(client: &Client) {
    let alerts = client.items("/api/v1/alerts").unwrap();
    let (mut similar, mut changed) = (0, 0);
    for alert in alerts.iter().filter(|alert| alert["failure_mode"] == "predicted") {
        let path = format!("/api/v1/predictions/{}", text(alert, "prediction_id"));
        let prediction = client.get(&path).unwrap().json().unwrap();
        assert_eq!(prediction["recomputed"]["identical"], true, "{prediction}");
        let explanation = &prediction["explanation"];
        similar += explanation["similar_cases"].as_array().unwrap().len();
        changed += usize::from(explanation["counterfactual"]["suffices"] == true);
    }
    eprintln!("{} alerts: {similar} similar cases, {changed} would end by few signals", alerts.len());
    assert!(similar > 0 && changed > 0);
}

/// The times of a table's first and last row.
fn span(csv: &str) -> Option<(String, String)> {
    let times: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    Some(((*times.first()?).to_owned(), (*times.last()?).to_owned()))
}

fn tenants_do_not_mix(acme: &Client, acme_bundle: &Folder, other: &Client, other_bundle: &Folder) {
    for (client, bundle) in [(acme, acme_bundle), (other, other_bundle)] {
        let found = client.items("/api/v1/devices").unwrap();
        let found: BTreeSet<&str> = found.iter().map(|device| text(device, "device")).collect();
        let own: BTreeSet<&str> = bundle.bundle.fleet.devices.iter().map(|device| device.device.as_str()).collect();
        assert_eq!(found, own);
        let maintenance = client.items("/api/v1/maintenance").unwrap().len();
        let expected: usize = bundle.bundle.histories.values().map(|known| known.maintenance.len()).sum();
        assert_eq!(maintenance, expected);
    }
    // The same device names stand in both fleets: a reading of one tenant is not one of the other's.
    let device = &other_bundle.bundle.fleet.devices[0].device;
    let count = |client: &Client| {
        client.items(&format!("/api/v1/devices/{device}/telemetry?from=2025-01-01T00:00:00Z")).unwrap().len()
    };
    assert_eq!(count(other), other_bundle.bundle.histories[device].readings.len());
    assert_eq!(count(acme), acme_bundle.bundle.histories[device].readings.len());
    let plan = text(&acme.items("/api/v1/transfers").unwrap()[0], "order_id").to_owned();
    assert_eq!(other.get(&format!("/api/v1/transfers/{plan}")).unwrap().status, 404);
}

/// From a piece that was used to the transfer that brought it, to the prediction that asked for it, to its readings.
fn one_id_leads_from_the_shelf_to_the_readings(client: &Client, scored_until: Timestamp) {
    let proposed = client.items("/api/v1/transfers?state=proposed").unwrap();
    let with_reason = |transfer: &&Value| transfer["reasons"][0]["prediction_id"].is_string();
    let transfer =
        proposed.iter().find(with_reason).unwrap_or_else(|| panic!("none names a prediction: {proposed:#?}"));
    let id = text(transfer, "order_id");
    let reason = &transfer["reasons"][0];
    let (device, component) = (text(reason, "device"), text(reason, "component"));
    for step in ["approve", "ship", "receive"] {
        let answer = client.post(&format!("/api/v1/transfers/{id}/{step}"), &json!({})).unwrap();
        assert_eq!(answer.status, 200, "{step}: {}", answer.text());
    }
    let at = scored_until + Length::from_hours(24);
    let record = json!({"ts": at, "device": device, "component": component, "action": "replaced", "reason": "failure"});
    let batch = json!({ "items": [record] });
    client.post("/api/v1/maintenance", &batch).unwrap().json().unwrap();

    // The piece that was used names the transfer, and the shelf's books agree.
    let used = client.items(&format!("/api/v1/part-uses?device={device}")).unwrap();
    let used = used.iter().find(|used| used["ts"] == json!(at)).unwrap_or_else(|| panic!("not used: {used:#?}"));
    let facts = [&used["component"], &used["transfer_id"], &used["from_stock"], &used["predicted"]];
    assert_eq!(facts, [&json!(component), &json!(id), &json!(true), &json!(true)], "{used}");
    let path = format!("/api/v1/stock/movements?part={}&depot={}", text(transfer, "part"), text(transfer, "to"));
    let movements = client.items(&path).unwrap();
    let booked = |reference: &str| movements.iter().filter(|m| m["reference"] == reference).count();
    assert_eq!((booked(id), booked(text(used, "use_id"))), (1, 1), "{movements:#?}");

    // From here on only ids lead on: the transfer's, the prediction's, the device's.
    let id = text(used, "transfer_id");
    let consumed = client.get(&format!("/api/v1/transfers/{id}")).unwrap().json().unwrap();
    assert_eq!((&consumed["consumed"], &consumed["state"]), (&json!(1), &json!("received")), "{consumed}");
    let prediction_id = text(&consumed["reasons"][0], "prediction_id");
    let prediction = client.get(&format!("/api/v1/predictions/{prediction_id}")).unwrap().json().unwrap();
    assert_eq!((text(&prediction, "device"), text(&prediction, "component")), (device, component));
    let decision = &prediction["decision"];
    let features = decision["features"].as_array().unwrap_or_else(|| panic!("no decision: {prediction}"));
    assert!(!features.is_empty() && !decision["top_signals"].as_array().unwrap().is_empty(), "{decision}");
    let again = &prediction["recomputed"];
    assert_eq!(again["identical"], true, "{prediction}");
    assert_eq!((&again["probabilities"], &again["score"]), (&prediction["probabilities"], &prediction["score"]));
    let models = client.items("/api/v1/models").unwrap();
    assert!(models.iter().any(|model| model["version"] == prediction["model_version"]));

    let ts: Timestamp = text(&prediction, "ts").parse().unwrap();
    let from = ts - Length::from_days(3);
    let path = format!("/api/v1/devices/{device}/telemetry?from={from}&to={}", ts + Length::from_millis(1));
    let readings = client.items(&path).unwrap();
    assert!(readings.len() > 48, "{} readings lie behind the prediction", readings.len());
    let signals: BTreeSet<&str> =
        readings.iter().flat_map(|reading| reading["values"].as_object().unwrap().keys().map(String::as_str)).collect();
    let named = |feature: &Value| signals.iter().any(|signal| text(feature, "name").contains(signal));
    assert!(features.iter().any(named), "no feature names a signal of {signals:?}: {features:?}");
    let wrong = client.get("/api/v1/predictions/prd_nothing").unwrap();
    assert_eq!(wrong.status, 404);
}

/// The same bundle in bulk, in another instance: the same telemetry, whatever way it came.
fn import_gives_the_same_telemetry(replayed: &Client, bundle: &Folder) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &SETTINGS).unwrap();
    fleet::import(&server, bundle, "acme");
    let imported = server.client(&server.key("acme", SCOPES).unwrap());
    for device in bundle.bundle.fleet.devices.iter().step_by(5).map(|device| &device.device) {
        let path = format!("/api/v1/devices/{device}/telemetry?from=2025-01-01T00:00:00Z");
        let (one, two) = (replayed.items(&path).unwrap(), imported.items(&path).unwrap());
        assert_eq!(one.len(), bundle.bundle.histories[device].readings.len(), "{device}");
        assert!(one == two, "{device}: import and replay differ");
        let path = format!("/api/v1/events?device={device}");
        assert_eq!(replayed.items(&path).unwrap(), imported.items(&path).unwrap(), "{device}");
    }
}
