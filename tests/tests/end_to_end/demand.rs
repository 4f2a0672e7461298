//! Forecasts of demand and levels of stock from consumption: no look-ahead, the same for any number of threads, and one clear
//! sentence for what cannot be done.

use std::{fmt::Write, path::Path};

use harbinger_tests::server::{harbinger, harbinger_with};

/// A network of a hub and two depots, with consumption by month from 2020 on.
fn bundle(months: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("parts.csv", "part,unit_cost\nfan,20\ndisk,90\n");
    write("depots.csv", "depot,echelon\ncentral,hub\nnorth,forward\nsouth,forward\n");
    write("lanes.csv", "from,to,days\ncentral,north,2\ncentral,south,2\n");
    let mut text = "ts,part,depot,quantity\n".to_owned();
    for month in 0..months {
        let ts = format!("20{}-{:02}-10T08:00:00Z", 20 + month / 12, month % 12 + 1);
        writeln!(text, "{ts},fan,north,{}", 1 + month * 7 % 5).unwrap();
        if month % 4 == 1 {
            writeln!(text, "{ts},disk,south,{}", 1 + month % 3).unwrap();
        }
    }
    write("consumption.csv", &text);
    folder
}

/// What a command writes, with so many threads.
fn written(command: &str, bundle: &Path, arguments: &[&str], threads: &str) -> String {
    let out = bundle.join("out.csv");
    let places = [command, bundle.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let ended = harbinger_with(&[&places[..], arguments].concat(), &[("RAYON_NUM_THREADS", threads)]).unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    std::fs::read_to_string(&out).unwrap()
}

const LEVELS: [&str; 6] = ["--period=month", "--lead", "1", "--review=1", "--quantiles", ".5,.9,.99"];

#[test]
fn rolling_forecasts_know_nothing_later() {
    let (whole, before) = (bundle(30), bundle(26));
    let month = ["--period", "month"];
    for (command, rest) in [("demand", &month[..]), ("stock", &LEVELS[..])] {
        let all = written(command, whole.path(), &[rest, &["--rolling", "8"][..]].concat(), "1");
        assert_eq!(all, written(command, whole.path(), &[rest, &["--rolling", "8"][..]].concat(), "2"));
        let cut = written(command, before.path(), &[rest, &["--rolling", "4"][..]].concat(), "2");
        let early = |line: &&str| line.split(',').nth(2).is_some_and(|start| start < "2022-03");
        let (all, cut): (Vec<&str>, Vec<&str>) = (all.lines().filter(early).collect(), cut.lines().skip(1).collect());
        assert!(!cut.is_empty());
        assert_eq!(all, cut);
    }
}

#[test]
fn a_hub_has_levels_for_the_depots_that_it_serves() {
    let folder = bundle(30);
    let text = written("stock", folder.path(), &[&LEVELS[..], &["--rolling", "2"][..]].concat(), "2");
    assert_eq!(text.lines().count(), 1 + 4 * 2 * 3, "{text}");
    for depot in ["fan,central", "fan,north", "disk,central", "disk,south"] {
        let rows = text.lines().filter(|line| line.starts_with(depot));
        let levels: Vec<f64> = rows.map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
        assert!(levels.len() == 6 && levels[..3].is_sorted() && levels[3..].is_sorted(), "{depot}: {levels:?}");
        assert!(levels[2] >= 1.0, "{depot}: {levels:?}");
    }
}

#[test]
fn periods_beyond_the_end_follow_it() {
    let folder = bundle(30);
    let text = written("demand", folder.path(), &["--periods", "2", "--period", "month"], "2");
    let starts: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').nth(2)).collect();
    assert_eq!(starts, ["2022-07-01T00:00:00Z", "2022-08-01T00:00:00Z"].repeat(2));
}

#[track_caller]
fn refused(bundle: &Path, arguments: &[&str], code: i32, word: &str) {
    let folder = bundle.to_str().unwrap();
    let ended = harbinger(&[&arguments[..1], &[folder], &arguments[1..], &["--out", "nowhere.csv"]].concat()).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(word), "{arguments:?}: {said}");
}

#[test]
fn what_cannot_be_forecast_is_told() {
    let folder = bundle(12);
    let path = folder.path();
    refused(path, &["demand", "--rolling", "12", "--period", "month"], 1, "take at most 11");
    refused(path, &["demand", "--rolling", "3", "--period", "year"], 2, "month");
    refused(path, &["demand", "--period", "month"], 2, "--periods");
    let levels = ["stock", "--rolling", "3", "--period", "month", "--lead", "2", "--quantiles"];
    refused(path, &[&levels[..], &["1.5"][..]].concat(), 2, "between 0 and 1");
    for (row, word) in [
        ("2021-01-01T00:00:00Z,fan,north,-1", "line 2 column quantity"),
        ("2021-01-01T00:00:00Z,pump,north,1", "line 2 column part"),
        ("", "no consumption"),
    ] {
        std::fs::write(path.join("consumption.csv"), format!("ts,part,depot,quantity\n{row}\n")).unwrap();
        refused(path, &["demand", "--periods", "3", "--period", "month"], 1, word);
        refused(path, &[&levels[..], &[".9"][..]].concat(), 1, word);
    }
}

#[test]
fn stock_for_a_target_asks_for_no_periods() {
    let fleet = crate::fleet::small("acme", 3, 42);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("stock.csv");
    let arguments = ["stock", fleet.argument(), "--target", "fill=0.95", "--out", out.to_str().unwrap()];
    let ended = harbinger(&arguments).unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("part,depot,target,fill_rate,expected_backorders,within_limit\n"), "{text}");
    assert!(text.lines().count() > 3, "{text}");
    let both =
        [&arguments[..], &["--rolling", "2", "--period", "month", "--lead", "1", "--quantiles", ".9"][..]].concat();
    assert_eq!(harbinger(&both).unwrap().status.code(), Some(2));
    assert_eq!(harbinger(&["stock", fleet.argument(), "--out", "x"]).unwrap().status.code(), Some(2));
}
