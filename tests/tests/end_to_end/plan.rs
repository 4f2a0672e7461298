//! `harbinger plan`: the daily plan of a bundle, the same for any number of threads and whatever came later; plans in shadow, and
//! failed pieces that come back.

use std::{fmt::Write, path::Path, time::Duration};

use harbinger_core::{Duration as Length, Timestamp, fleet::Device};
use harbinger_tests::{
    http::Client,
    server::{SCOPES, Server, harbinger, harbinger_with, until},
};
use serde_json::{Value, json};

use crate::fleet::Folder;

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

/// A season can be watched before anything moves; and failed pieces come back meanwhile.
#[test]
fn plans_in_shadow_propose_nothing_and_failed_pieces_come_back() {
    let data = tempfile::tempdir().unwrap();
    let at_once = [("ORDERS__RETURN_WITHIN", "0s"), ("ORDERS__OVERDUE_AFTER", "0s")];
    let settings = [&[("ANALYTICS__EVERY", "6h"), ("PLAN__SHADOW", "true")], &at_once[..]].concat();
    let server = Server::start(data.path(), &settings).unwrap();
    let bundle = crate::fleet::small("acme", 1, 12);
    crate::fleet::import(&server, &bundle, "acme");
    let client = server.client(&server.key("acme", SCOPES).unwrap());
    let as_of = plans_propose_nothing(&client);
    failed_pieces_come_back(&client, &bundle, as_of);
}

/// When the plan is for.
fn plans_propose_nothing(client: &Client) -> Timestamp {
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
    text(&plan, "as_of").parse().unwrap()
}

/// A replacement six days ago has opened a return, which nobody sent: it is told of as time goes on. It is sent, comes and is repaired,
/// and lies on the hub's shelf.
fn failed_pieces_come_back(client: &Client, bundle: &Folder, as_of: Timestamp) {
    let fleet = &bundle.bundle.fleet;
    let repairable = |part| fleet.parts.iter().any(|known| known.part == part && known.repairable);
    let (device, slot) = fleet
        .devices
        .iter()
        .find_map(|device| {
            let slots = fleet.components.iter().filter(|slot| slot.model == device.model);
            Some((device, slots.into_iter().find(|slot| repairable(slot.part.clone()))?))
        })
        .unwrap();
    let replaced = json!({
        "ts": as_of - Length::from_days(6), "device": device.device, "component": slot.component, "action": "replaced",
        "reason": "failure"
    });
    // The replacement was planned, and ends its work order.
    let planned = json!({ "device": device.device, "component": slot.component, "due_at": as_of });
    let opened = client.post("/api/v1/work-orders", &planned).unwrap().json().unwrap();
    assert_eq!((text(&opened, "state"), text(&opened, "part")), ("open", slot.part.as_str()));
    client.post("/api/v1/maintenance", &json!({ "items": [replaced] })).unwrap().json().unwrap();
    let done = client.get(&format!("/api/v1/work-orders/{}", text(&opened, "work_order_id"))).unwrap().json().unwrap();
    assert_eq!((text(&done, "state"), &done["reserved"]), ("done", &json!(0)));
    let later = |device: &Device| {
        let signal = &fleet.signals.iter().find(|signal| signal.model == device.model).unwrap().signal;
        let at = |hours: i64| as_of + Length::from_hours(hours);
        let reading =
            |hours| json!({"device": device.device, "ts": at(hours), "values": {signal.as_str(): 1.0}}).to_string();
        [6, 12, 18].map(reading).join("\n")
    };
    let lines: Vec<String> = fleet.devices.iter().map(later).collect();
    client.telemetry(&lines.join("\n")).unwrap().json().unwrap();
    let overdue = until(Duration::from_secs(60), "a return that is overdue", || {
        Ok(client.items("/api/v1/returns?overdue=true")?.into_iter().next())
    });
    let overdue = overdue.unwrap();
    assert_eq!((text(&overdue, "part"), text(&overdue, "from")), (slot.part.as_str(), device.depot.as_str()));
    let (id, part, hub) = (text(&overdue, "order_id"), text(&overdue, "part"), text(&overdue, "to"));
    let on_hand = || {
        let level = client.items(&format!("/api/v1/stock?part={part}&depot={hub}")).unwrap();
        level.first().map_or(0, |level| level["on_hand"].as_u64().unwrap())
    };
    let take = |path: &str, body: &Value| {
        let answer = client.post(path, body).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    };
    let before = on_hand();
    take(&format!("/api/v1/returns/{id}/ship"), &json!({}));
    take(&format!("/api/v1/returns/{id}/receive"), &json!({}));
    assert_eq!(on_hand(), before, "a piece in repair is no stock");
    let repairs = client.items(&format!("/api/v1/repairs?part={part}")).unwrap();
    let repair = repairs.iter().find(|repair| repair["cause"] == id).unwrap_or_else(|| panic!("{repairs:?}"));
    take(&format!("/api/v1/repairs/{}/receive", text(repair, "order_id")), &json!({ "quantity": 1 }));
    assert_eq!(on_hand(), before + 1);
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}
