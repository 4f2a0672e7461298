//! The command line: exit codes, and the promise on real data.

use harbinger_core::Duration;
use harbinger_tests::{browser, server::harbinger, shared};
use serde_json::Value;

use crate::fleet;

#[track_caller]
fn check(arguments: &[&str], code: i32) {
    let ended = harbinger(arguments).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(code == 0 || !said.trim().is_empty(), "{arguments:?} fails without a word");
}

#[test]
fn exit_codes_tell_wrong_usage_from_failure() {
    check(&["--version"], 0);
    check(&["--help"], 0);
    check(&[], 2);
    check(&["dance"], 2);
    check(&["score"], 2);
    check(&["train", "somewhere", "--horizons", "soon", "--out", "nowhere"], 2);
    check(&["replay", "/nowhere", "--speed", "fast"], 2);
    check(&["simulate-policies", "--seeds", "1", "--out", "nowhere"], 2);
    check(
        &["simulate-policies", "--seeds", "2", "--report", "/nowhere/report.html", "--out", "/nowhere/policies.csv"],
        1,
    );
    check(&["train", "/nowhere", "--out", "nowhere"], 1);
    check(&["score", "/nowhere", "--models", "/nowhere", "--out", "nowhere"], 1);
    check(&["run", "--config", "/nowhere.toml"], 1);
}

/// A back-test as a page: drawn by a real browser, with nothing from elsewhere.
#[test]
fn a_back_test_is_a_page_of_pictures() {
    let fleet = fleet::small("acme", 2, 30);
    let until = (fleet.bundle.last_time().unwrap() - Duration::from_days(10)).to_string();
    let page = fleet.path().join("report.html");
    let grid = ["--horizon", "3d", "--every", "6h", "--report", page.to_str().unwrap()];
    check(&[&["evaluate", fleet.argument(), "--until", &until][..], &grid].concat(), 0);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains("src=\"") && !text.contains("@import"), "the page asks for something");
    let Some(drawn) = browser::drawn(&page).unwrap() else { return };
    // The data and the script that draws them come last.
    let drawn = drawn.split("<script").next().unwrap();
    let charts = drawn.matches("<svg").count();
    let examples = drawn.matches("class=\"third\"").count();
    let words: Vec<&str> = drawn.split("aria-label=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(examples > 0 && charts >= 4 + examples, "{charts} charts, {examples} examples: {words:?}");
    for (what, place) in [("reliability", "<circle class=\"dot\""), ("lead times", "<rect class=\"bar\"")] {
        assert!(drawn.contains(place), "no {what}");
    }
    assert!(!drawn.contains("NaN") && !drawn.contains("undefined"), "a figure or a place that is none");
}

/// Policies compared: a row for each policy and seed, the bound below all, and a page of pictures.
#[test]
fn policies_are_compared_on_the_same_failures() {
    let folder = tempfile::tempdir().unwrap();
    let (file, page) = (folder.path().join("policies.csv"), folder.path().join("report.html"));
    let (out, report) = (file.to_str().unwrap(), page.to_str().unwrap());
    let few = ["--seeds", "2", "--tuning-seeds", "1"];
    let ended = harbinger(&[&["simulate-policies"], &few[..], &["--report", report, "--out", out]].concat()).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let table = String::from_utf8_lossy(&ended.stdout);
    assert!(table.contains("vari_metric") && table.contains("0.9/0.8") && table.contains("worthless"), "{table}");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let columns = "policy,alert_quality,seed,stock_value,fill_rate,within_limit,emergency,transports,total_cost";
    assert_eq!(rows.next().unwrap().join(","), columns);
    let rows: Vec<Vec<&str>> = rows.collect();
    assert_eq!(rows.len(), 14, "seven policies under two seeds");
    let cost = |row: &[&str]| row[8].parse::<f64>().unwrap();
    for seed in ["1", "2"] {
        let of_seed: Vec<&Vec<&str>> = rows.iter().filter(|row| row[2] == seed).collect();
        let bound = of_seed.iter().find(|row| row[0] == "perfect").unwrap();
        assert!(of_seed.iter().all(|row| cost(row) >= cost(bound)), "{of_seed:?}");
    }
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains("src=\"") && !text.contains("@import"), "the page asks for something");
    let Some(drawn) = browser::drawn(&page).unwrap() else { return };
    let drawn = drawn.split("<script").next().unwrap();
    assert_eq!(drawn.matches("<svg").count(), 4);
    assert!(!drawn.contains("NaN") && !drawn.contains("undefined"), "a figure or a place that is none");
}

/// Trained before March, a forest flags at least six of March's seven failures twelve hours ahead, with at most two false
/// alarms.
#[test]
fn march_s_failures_are_foreseen() {
    let Some(bundle) = shared("data/bundles/azure_machines") else { return };
    let span = ["--until", "2015-03-01T00:00:00Z", "--to", "2015-04-01T00:00:00Z"];
    let grid = ["--horizon", "24h", "--every", "3h", "--json"];
    let arguments = [&["evaluate", bundle.to_str().unwrap()][..], &span, &grid].concat();
    let ended = harbinger(&arguments).unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let flagged = report["flagged"].as_array().unwrap();
    let twelve_hours = flagged.iter().find(|flagged| flagged["hours_ahead"] == 12).unwrap();
    assert_eq!(report["failures"], 7, "{report:#}");
    assert!(twelve_hours["flagged"].as_u64().unwrap() >= 6, "{report:#}");
    assert!(report["false_alarms"].as_u64().unwrap() <= 2, "{report:#}");
    assert!(report["brier"].as_f64() < report["brier_base"].as_f64(), "{report:#}");
}
