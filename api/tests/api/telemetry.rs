//! Range queries over telemetry: many devices, functions, calendar steps, gaps, pages, and what is refused.

use axum::http::{Method, header};
use harbinger_core::{DeviceKey, Reading};
use harbinger_store::{Batch, ledger::keys::Scope};
use serde_json::{Value, json};

use crate::world::{Answer, World, at, request, tenant};

/// 2015-03-28T00:00:00Z: the day before clocks go forward in Berlin.
const BEGIN: i64 = 1_427_500_800_000;

/// acme-d1 and acme-d2 report half a wave a quarter of an hour, over three days; acme-d2 is silent on the second.
async fn world() -> World {
    let world = World::bare().await;
    world.post("/api/v1/fleet", crate::world::acme_fleet()).await.expect(200);
    let reading = |device: &str, quarter: i64| Reading {
        key: DeviceKey::new(tenant("acme"), device.parse().unwrap()),
        ts: at(BEGIN + quarter * 900_000),
        arrival: false,
        values: vec![("load".parse().unwrap(), (quarter % 96) as f64), ("temp".parse().unwrap(), 20.0)],
    };
    let all = (0..3 * 96).map(|quarter| reading("acme-d1", quarter));
    let some = (0..3 * 96).filter(|quarter| quarter / 96 != 1).map(|quarter| reading("acme-d2", quarter));
    let readings = all.chain(some).collect();
    world.store.append(Batch { readings, ..Batch::default() }).await.unwrap();
    world
}

async fn as_kind(world: &World, path: &str, kind: &str) -> Answer {
    let mut sent = request(Method::GET, path, Some(world.key("acme", Scope::Read)), None);
    sent.headers_mut().insert(header::ACCEPT, kind.parse().unwrap());
    world.send(sent).await
}

const RANGE: &str = "from=2015-03-28T00:00:00Z&to=2015-03-31T00:00:00Z";

#[tokio::test]
async fn functions_of_many_devices_come_in_order_of_device_time_and_signal() {
    let world = world().await;
    let path = format!("/api/v1/telemetry?{RANGE}&step=24h&functions=count,mean,p50,slope&closed=left");
    let page = world.get(&path).await.expect(200);
    let items = page["items"].as_array().unwrap();
    let places: Vec<String> = items.iter().map(|i| format!("{} {} {}", i["device"], i["from"], i["signal"])).collect();
    assert!(places.is_sorted() && items.len() == (3 + 2) * 2, "{places:#?}");
    // Quarters 0 to 95: load rises by 4 an hour.
    let load = json!({ "count": 96, "mean": 47.5, "p50": 47.5, "slope": 4.0 });
    let first = &items[0];
    assert_eq!((&first["from"], &first["to"]), (&json!("2015-03-28T00:00:00Z"), &json!("2015-03-29T00:00:00Z")));
    assert_eq!((&first["device"], &first["signal"]), (&json!("acme-d1"), &json!("load")));
    for (name, value) in load.as_object().unwrap() {
        assert!((first["values"][name].as_f64().unwrap() - value.as_f64().unwrap()).abs() < 1e-9, "{first}");
    }
    let filtered = world.get(&format!("{path}&signal=temp&device=acme-d2")).await.expect(200);
    assert_eq!(filtered["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.get(&format!("{path}&depot=hub")).await.expect(200)["items"], json!([]));
    assert_eq!(world.get(&format!("{path}&depot=acme-north&model=acme-m")).await.expect(200), page);
}

/// Once it is names between commas; repeated it is a name each time, and what a name holds is its own affair.
#[tokio::test]
async fn a_device_whose_name_holds_a_comma_is_asked_for_by_repeating_the_parameter() {
    let world = world().await;
    let reading = |device: &str| Reading {
        key: DeviceKey::new(tenant("acme"), device.parse().unwrap()),
        ts: at(BEGIN),
        arrival: false,
        values: vec![("load".parse().unwrap(), 1.0)],
    };
    let readings = vec![reading("rack 7, slot 2"), reading("50 % & more")];
    world.store.append(Batch { readings, ..Batch::default() }).await.unwrap();
    let devices = async |parameters: &str| -> Vec<String> {
        let page = world.get(&format!("/api/v1/telemetry?{RANGE}&step=3d&{parameters}")).await.expect(200);
        let devices = page["items"].as_array().unwrap().iter().map(|item| item["device"].as_str().unwrap().to_owned());
        let mut devices: Vec<String> = devices.collect();
        devices.dedup();
        devices
    };
    let [comma, percent] = ["rack%207,%20slot%202", "50+%25+%26+more"];
    assert_eq!(devices(&format!("device={comma}&device={percent}")).await, ["50 % & more", "rack 7, slot 2"]);
    let encoded = comma.replace(',', "%2C");
    assert_eq!(devices(&format!("device={encoded}&signal=load&device={encoded}")).await, ["rack 7, slot 2"]);
    assert_eq!(devices("signal=load&device=acme-d1,acme-d2").await, ["acme-d1", "acme-d2"]);
}

/// Berlin's 29 March 2015 has 23 hours: 92 quarters.
#[tokio::test]
async fn days_are_those_of_the_zone_that_is_named() {
    let world = world().await;
    let path = "/api/v1/telemetry?device=acme-d1&signal=load&from=2015-03-28T00:00:00%2B01:00\
        &to=2015-03-31T00:00:00%2B02:00&step=day&closed=left&functions=count&timezone=";
    let counts = |page: Value| -> Vec<u64> {
        page["items"].as_array().unwrap().iter().map(|item| item["values"]["count"].as_u64().unwrap()).collect()
    };
    assert_eq!(counts(world.get(&format!("{path}Europe/Berlin")).await.expect(200)), [92, 92, 96]);
    assert_eq!(counts(world.get(&format!("{path}UTC")).await.expect(200)), [96, 96, 96]);
}

#[tokio::test]
async fn pages_are_the_whole_in_pieces_also_while_the_newest_reading_moves() {
    let world = world().await;
    for path in [
        format!("/api/v1/telemetry?{RANGE}&step=5h&functions=p95&gaps=true"),
        format!("/api/v1/telemetry?{RANGE}"),
        "/api/v1/telemetry?step=day&timezone=Asia/Kolkata".to_owned(),
        "/api/v1/telemetry?device=acme-d2&gaps=true".to_owned(),
    ] {
        let whole = world.get(&format!("{path}&limit=10000")).await.expect(200)["items"].as_array().unwrap().clone();
        assert!(!whole.is_empty());
        for limit in [1, 7] {
            assert_eq!(world.walk(&path, limit).await, whole, "{path}");
        }
    }
    let first = world.get("/api/v1/telemetry?signal=load").await.expect(200);
    let late = Reading {
        key: DeviceKey::new(tenant("acme"), "acme-d1".parse().unwrap()),
        ts: at(BEGIN + 30 * 86_400_000),
        arrival: false,
        values: vec![("load".parse().unwrap(), 1.0)],
    };
    world.store.append(Batch { readings: vec![late], ..Batch::default() }).await.unwrap();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&format!("/api/v1/telemetry?signal=load&cursor={cursor}")).await.expect(200);
    assert_eq!(second["items"][0]["ts"], at(BEGIN + 100 * 900_000).to_string(), "the span is that of the first page");
}

#[tokio::test]
async fn gaps_are_marked_in_readings_and_filled_in_buckets() {
    let world = world().await;
    let marked = |page: Value| -> Vec<(String, f64)> {
        let items = page["items"].as_array().unwrap().clone();
        let marks = items.iter().filter_map(|item| Some((item["ts"].to_string(), item["gap_seconds"].as_f64()?)));
        marks.collect()
    };
    let day = 86_400.0 + 900.0;
    let path = format!("/api/v1/telemetry?{RANGE}&device=acme-d2&limit=1000");
    let expected = [("\"2015-03-30T00:00:00Z\"".to_owned(), day)];
    assert_eq!(marked(world.get(&format!("{path}&gaps=true")).await.expect(200)), expected);
    assert_eq!(marked(world.get(&format!("{path}&gap_after=1h")).await.expect(200)), expected);
    assert_eq!(marked(world.get(&format!("{path}&gap_after=2d")).await.expect(200)), []);
    assert_eq!(marked(world.get(&path).await.expect(200)), []);
    let page = world.get(&format!("{path}&step=day&closed=left&gaps=true&functions=count,max,p99&signal=load")).await;
    let page = page.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    assert_eq!(page["items"][1]["values"], json!({ "count": 0, "max": null, "p99": null }));
}

#[tokio::test]
async fn csv_and_ndjson_hold_the_same_rows_whole() {
    let world = world().await;
    let path = format!("/api/v1/telemetry?{RANGE}&step=day&functions=count,max&gaps=true&device=acme-d2&signal=load");
    let csv = as_kind(&world, &format!("{path}&closed=left"), "text/csv").await;
    let expected = "device,signal,from,to,count,max\n\
        acme-d2,load,2015-03-28T00:00:00Z,2015-03-29T00:00:00Z,96,95\n\
        acme-d2,load,2015-03-29T00:00:00Z,2015-03-30T00:00:00Z,0,\n\
        acme-d2,load,2015-03-30T00:00:00Z,2015-03-31T00:00:00Z,96,95\n";
    assert_eq!(csv.text, expected);
    let raw = as_kind(&world, &format!("/api/v1/telemetry?{RANGE}&gap_after=1h"), "text/csv").await;
    assert_eq!(raw.text.lines().count(), 1 + (3 + 2) * 96 * 2);
    assert!(raw.text.contains("\nacme-d2,2015-03-30T00:00:00Z,temp,20,87300\n"), "{}", &raw.text[..200]);
    let paged = world.walk(&path, 2).await;
    let lines = as_kind(&world, &path, "application/x-ndjson").await;
    assert_eq!(lines.headers[header::CONTENT_TYPE], "application/x-ndjson");
    let lines: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, paged);
}

#[tokio::test]
async fn what_cannot_be_answered_names_its_parameter() {
    let world = world().await;
    for (parameters, status, named) in [
        ("step=day&timezone=Mars/Olympus", 400, "timezone"),
        ("step=24h&timezone=Europe/Berlin", 400, "timezone"),
        ("timezone=Europe/Berlin", 400, "timezone"),
        ("functions=mean", 400, "functions"),
        ("devices=fridge-1", 400, "devices"),
        ("step=fortnight", 400, "step"),
        ("step=0s", 400, "step"),
        ("step=1ms", 400, "step"),
        ("step=1h&functions=mean,p42", 400, "functions"),
        ("from=2015-03-29T00:00:00Z&to=2015-03-28T00:00:00Z", 400, "from"),
        ("to=yesterday", 400, "to"),
        ("closed=both", 400, "closed"),
        ("gap_after=long", 400, "gap_after"),
        ("limit=0", 400, "limit"),
        ("signal=a,,b", 400, "signal"),
        ("device=acme-d1,nobody", 404, "nobody"),
        ("device=acme-d1&device=acme-d1,acme-d2", 404, "acme-d1,acme-d2"),
        ("device=acme-d1&device=", 400, "device"),
        ("device=acme-d1&device=acme-d2&step=1h&step=2h", 400, "step"),
    ] {
        let refused = world.get(&format!("/api/v1/telemetry?{parameters}")).await;
        refused.problem(status);
        assert!(refused.json()["detail"].as_str().unwrap().contains(named), "{parameters}: {}", refused.text);
    }
    let other = world.get("/api/v1/predictions?cursor=WyJ0ZWxlbWV0cnkiXQ").await;
    assert_eq!(other.problem(400), "bad-cursor");
    assert_eq!(world.get("/api/v1/telemetry?cursor=WyJ0ZWxlbWV0cnkiXQ").await.problem(400), "bad-cursor");
}

#[tokio::test]
async fn a_device_keeps_its_own_view_of_the_same() {
    let world = world().await;
    let path = "/api/v1/devices/acme-d1/telemetry?step=day&timezone=Europe/Berlin&from=2015-03-27T23:00:00Z";
    let page = world.get(path).await.expect(200);
    let ends: Vec<&str> = page["items"].as_array().unwrap().iter().map(|item| item["ts"].as_str().unwrap()).collect();
    // Signal by signal; the day that is not over is not shown.
    let days = ["2015-03-28T23:00:00Z", "2015-03-29T22:00:00Z", "2015-03-30T22:00:00Z"];
    assert_eq!(ends, [days, days].concat());
    assert_eq!(page["items"][1]["count"], 92);
    assert!(page["items"][0].get("device").is_none());
}
