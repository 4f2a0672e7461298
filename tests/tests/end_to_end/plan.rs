//! `harbinger plan`: the daily plan of a bundle, the same for any number of threads and whatever came later; and plans in shadow.

use std::{fmt::Write, path::Path, time::Duration};

use harbinger_tests::server::{SCOPES, Server, harbinger, harbinger_with, until};
use serde_json::Value;

/// A hub and two depots with lanes between them and back; north takes two fans a week, south has fans that nobody takes.
fn bundle(weeks: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("parts.csv", "part,unit_cost,supplier_lead_days\nfan,20,10\n");
    write("depots.csv", "depot,echelon\ncentral,hub\nnorth,forward\nsouth,forward\n");
    write(
        "lanes.csv",
        "from,to,days,cost_per_piece\ncentral,north,6,4\ncentral,south,6,4\nsouth,north,6,2\nnorth,south,6,2\n",
    );
    write("stock.csv", "part,depot,on_hand,in_transit\nfan,central,1,0\nfan,south,3,0\n");
    let mut text = "ts,part,depot,quantity\n".to_owned();
    for day in (0..weeks * 7).step_by(7) {
        let (month, of_month) = (day / 28 + 1, day % 28 + 1);
        writeln!(text, "2022-{month:02}-{of_month:02}T08:00:00Z,fan,north,2").unwrap();
    }
    write("consumption.csv", &text);
    folder
}

fn planned(bundle: &Path, more: &[&str], threads: &str) -> String {
    let out = bundle.join("plan.json");
    let (folder, out_) = (bundle.to_str().unwrap(), out.to_str().unwrap());
    let arguments = [&["plan", folder, "--at", "2022-09-01T00:00:00Z", "--out", out_], more].concat();
    let ended = harbinger_with(&arguments, &[("RAYON_NUM_THREADS", threads)]).unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    std::fs::read_to_string(&out).unwrap()
}

fn list<'a>(plan: &'a Value, name: &str) -> &'a Vec<Value> {
    plan[name].as_array().unwrap()
}

#[test]
fn a_bundle_is_planned_as_it_was_known_then() {
    // 32 weeks of 28 days a month end in August.
    let (whole, before) = (bundle(44), bundle(32));
    let text = planned(whole.path(), &[], "1");
    assert_eq!(text, planned(whole.path(), &[], "2"), "threads show");
    assert_eq!(text, planned(before.path(), &[], "2"), "what came later shows");
    let plan: Value = serde_json::from_str(&text).unwrap();
    let moved: Vec<(&str, &str)> = list(&plan, "transfers")
        .iter()
        .map(|one| (one["kind"].as_str().unwrap(), one["from"].as_str().unwrap()))
        .collect();
    assert_eq!(moved, [("forward", "central"), ("lateral", "south")], "{text}");
    let north = list(&plan, "cells").iter().find(|cell| cell["depot"] == "north").unwrap();
    let south = list(&plan, "cells").iter().find(|cell| cell["depot"] == "south").unwrap();
    assert_eq!(north["sent"].as_u64().unwrap(), 1 + south["taken"].as_u64().unwrap());
    assert_eq!(list(&plan, "purchases").len(), 1);
    let bought = |text: &str| -> u64 {
        let plan: Value = serde_json::from_str(text).unwrap();
        list(&plan, "purchases").iter().map(|one| one["quantity"].as_u64().unwrap()).sum()
    };
    assert!(bought(&text) > 2);
    assert_eq!(bought(&planned(whole.path(), &["--budget", "45"], "2")), 2);
}

#[test]
fn a_plan_that_cannot_be_made_is_told() {
    let folder = bundle(32);
    let path = folder.path().to_str().unwrap();
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let ended = harbinger(arguments).unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    };
    let at = ["--at", "2022-09-01T00:00:00Z", "--out", "nowhere/plan.json"];
    refused(&[&["plan", path], &at[..]].concat(), 1, "nowhere");
    refused(&[&["plan", path, "--budget=-1"], &at[..]].concat(), 2, "amount of money");
    refused(&["plan", path, "--out", "x"], 2, "--at");
    refused(&[&["plan", path, "--models", "/nowhere"], &at[..]].concat(), 1, "/nowhere");
    let fleet = crate::fleet::small("acme", 1, 3);
    let model = folder.path().join("model");
    let model = model.to_str().unwrap();
    assert!(harbinger(&["train", fleet.argument(), "--out", model]).unwrap().status.success());
    let early = ["--at", "2001-01-01T00:00:00Z", "--out", "x"];
    refused(&[&["plan", fleet.argument(), "--models", model], &early[..]].concat(), 1, "which is after");
}

/// A season can be watched before anything moves.
#[test]
fn plans_in_shadow_are_kept_and_propose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[("ANALYTICS__EVERY", "6h"), ("PLAN__SHADOW", "true")]).unwrap();
    crate::fleet::import(&server, &crate::fleet::small("acme", 1, 12), "acme");
    let client = server.client(&server.key("acme", SCOPES).unwrap());
    let wants_something = || {
        let answer = client.get("/api/v1/plan")?;
        if answer.status != 200 {
            return Ok(None);
        }
        let plan = answer.json()?["plan"].clone();
        let wanted = list(&plan, "transfers").len() + list(&plan, "purchases").len();
        Ok((wanted > 0).then_some(plan))
    };
    let plan = until(Duration::from_secs(180), "a plan that wants something", wants_something).unwrap();
    assert_eq!(plan["shadow"], true);
    for orders in ["/api/v1/transfers", "/api/v1/purchases"] {
        assert_eq!(client.items(orders).unwrap(), [Value::Null; 0], "{orders}");
    }
    let told = client.get("/api/v1/plan/shadow").unwrap().json().unwrap();
    assert!(
        told["plans"].as_u64().unwrap() > 0 && told["sent"].as_u64().unwrap() + told["bought"].as_u64().unwrap() > 0,
        "{told}"
    );
}
