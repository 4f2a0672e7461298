//! Prometheus' protocol: what Grafana asks at its start, what is refused and where, and whose series are seen.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use harbinger_core::{DeviceKey, Reading};
use harbinger_store::{Batch, ledger::keys::Scope};
use serde_json::{Value, json};

use crate::world::{Answer, NOW, World, at, escaped, request, tenant};

async fn query(world: &World, expression: &str) -> Answer {
    let path = format!("/prometheus/api/v1/query?time={}&query={}", NOW / 1000, escaped(expression));
    world.send(request(Method::GET, &path, Some(world.key("acme", Scope::Read)), None)).await
}

#[tokio::test]
async fn a_signal_is_a_metric_with_its_devices_labels() {
    let world = World::new().await;
    let answer = query(&world, "rpm").await.expect(200);
    let metric =
        json!({ "__name__": "rpm", "device": "acme-d1", "model": "acme-m", "kind": "server", "depot": "acme-north" });
    let row = json!({ "metric": metric, "value": [NOW / 1000, "8000"] });
    assert_eq!(answer, json!({ "status": "success", "data": { "resultType": "vector", "result": [row] } }));
    // Readings come every hour: between them an instant sees nothing, unless it looks further back.
    let key = world.key("acme", Scope::Read);
    for (lookback, rows) in [("", 0), ("&lookback_delta=1h", 1), ("&lookback_delta=600", 0)] {
        let path = format!("/prometheus/api/v1/query?query=rpm&time={}{lookback}", NOW / 1000 - 1000);
        let answer = world.send(request(Method::GET, &path, Some(key), None)).await.expect(200);
        assert_eq!(answer["data"]["result"].as_array().unwrap().len(), rows, "{lookback}");
    }
    // Without a time it is the tenant's own now, which is event time.
    let now = world.get("/prometheus/api/v1/query?query=max_over_time(inlet%5B2h%5D)").await.expect(200);
    assert_eq!(now["data"]["result"][0]["value"], json!([NOW / 1000, "24.5"]));
}

#[tokio::test]
async fn any_signal_can_be_selected_whatever_its_name_holds() {
    let world = World::bare().await;
    let names = ["fan 1", "temp.inlet", "größe \"x\"", "0", "sum", "__name__", "{}"];
    let values = names.iter().map(|name| (name.parse().unwrap(), 1.0)).collect();
    let key = DeviceKey::new(tenant("acme"), "d".parse().unwrap());
    let reading = Reading { key, ts: at(NOW), arrival: false, values };
    world.store.append(Batch { readings: vec![reading], ..Batch::default() }).await.unwrap();
    for name in names {
        let quoted = name.replace('"', "\\\"");
        for expression in [format!("{{__name__=\"{quoted}\"}}"), format!("{{\"{quoted}\"}}")] {
            let answer = query(&world, &expression).await.expect(200);
            assert_eq!(
                answer["data"]["result"][0]["metric"],
                json!({ "__name__": name, "device": "d" }),
                "{expression}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_beyond_the_subset_is_refused_with_its_place() {
    let world = World::new().await;
    for (expression, position, says) in [
        ("rate(rpm[5m])", 1, "function \"rate\""),
        ("1 + sum by (rate) (rate(rpm[5m]))", 20, "function \"rate\""),
        ("rpm + rpm", 5, "operator \"+\" between two vectors"),
        ("rpm and inlet", 5, "operator \"and\""),
        ("rpm * on (device) group_left inlet", 5, "operator \"*\" with matching"),
        ("rpm offset -5m - rpm", 16, "operator \"-\" between two vectors"),
        ("rpm + fill(0) 1", 5, "operator \"+\" with matching"),
        ("topk(3, rpm)", 1, "aggregation \"topk\""),
        ("  rpm[5m]", 3, "a range selector"),
        ("avg_over_time(rpm[1h:5m])", 18, "a subquery"),
        ("max_over_time(avg_over_time(rpm[5m])[1h:5m])", 37, "a subquery"),
        ("rpm[1h:5m]", 4, "a subquery"),
        ("\"text\"", 1, "a text"),
        ("rpm{a=\"b\" or c=\"d\"}", 1, "\"or\" in a selector"),
        ("abs(rpm) > time()", 1, "function \"abs\""),
        ("rpm > time()", 7, "function \"time\""),
        ("quantile(scalar(rpm), rpm)", 10, "function \"scalar\""),
        ("rpm{", 5, "unexpected end"),
        ("rpm rpm", 5, "unexpected \"rpm\""),
        ("rpm{a=~\"(\"}", 8, "illegal regex"),
        ("", 0, "invalid parameter \"query\""),
    ] {
        let answer = query(&world, expression).await.expect(400);
        assert_eq!((&answer["status"], &answer["errorType"]), (&json!("error"), &json!("bad_data")), "{expression}");
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains(says), "{expression}: {text}");
        assert!(position == 0 || text.contains(&format!(" at position {position}: ")), "{expression}: {text}");
    }
    let same = query(&world, "sum(avg_over_time({device=\"acme-d1\"}[1h]))").await.expect(422);
    assert_eq!(same["errorType"], "execution");
}

#[tokio::test]
async fn parameters_that_cannot_be_read_are_named() {
    let world = World::new().await;
    for (path, says) in [
        ("query?query=rpm&time=yesterday", "\"time\": cannot parse \"yesterday\""),
        ("query?query=rpm&timeout=x", "\"timeout\""),
        ("query?query=rpm&lookback_delta=x", "\"lookback_delta\""),
        ("query_range?query=rpm&start=0&end=1", "\"step\": it is missing"),
        ("query_range?query=rpm&start=1&end=0&step=1", "before start time"),
        ("query_range?query=rpm&start=0&end=1&step=0", "zero or negative"),
        ("query_range?query=rpm&start=0&end=100000&step=1", "11,000 points"),
        ("series", "no match[]"),
        ("series?match[]=rate(rpm[5m])", "function \"rate\" at position 1"),
        ("series?match[]=rpm%20offset%205m", "no selector at position 1"),
        ("labels?match[]=%7B%7D", "at least one non-empty matcher"),
        ("labels?limit=few", "\"limit\""),
    ] {
        let answer = world.get(&format!("/prometheus/api/v1/{path}")).await.expect(400);
        let text = answer["error"].as_str().unwrap();
        assert!(answer["errorType"] == "bad_data" && text.contains(says), "{path}: {text}");
    }
    let late = world.get("/prometheus/api/v1/query?query=rpm&timeout=0").await.expect(503);
    assert_eq!(late["errorType"], "timeout");
}

/// As Grafana's data source does when it is saved and tested, with the key as password.
#[tokio::test]
async fn grafana_finds_what_it_asks_for() {
    let world = World::new().await;
    let basic = STANDARD.encode(format!("grafana:{}", world.key("acme", Scope::Read)));
    let ask = async |method: Method, path: &str, form: &str| -> Value {
        let sent = Request::builder()
            .method(method)
            .uri(format!("/prometheus/api/v1/{path}"))
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        world.send(sent.body(Body::from(form.to_owned())).unwrap()).await.expect(200)["data"].clone()
    };
    let tested = ask(Method::POST, "query", "query=1%2B1&time=1700000000").await;
    assert_eq!(tested, json!({ "resultType": "scalar", "result": [1_700_000_000, "2"] }));
    assert_eq!(ask(Method::GET, "status/buildinfo", "").await["version"], "2.42.0");
    assert_eq!(ask(Method::GET, "rules", "").await, json!({ "groups": [] }));
    assert_eq!(ask(Method::POST, "query_exemplars", "query=rpm").await, json!([]));
    let metadata = json!({ "rpm": [{ "type": "gauge", "help": "", "unit": "1/min" }] });
    assert_eq!(ask(Method::GET, "metadata", "").await, metadata);
    assert_eq!(ask(Method::GET, "metadata?metric=inlet", "").await, json!({}));
    assert_eq!(ask(Method::GET, "label/__name__/values", "").await, json!(["inlet", "rpm"]));
    let labels = json!(["__name__", "depot", "device", "kind", "model"]);
    assert_eq!(ask(Method::POST, "labels", "start=0&end=1700000000").await, labels);
    let series = ask(Method::POST, "series?match[]=inlet", "match%5B%5D=rpm").await;
    assert_eq!(series.as_array().unwrap().len(), 2);
    let range = format!("query=rpm&start={}&end={}&step=3600", NOW / 1000 - 7200, NOW / 1000);
    let values = ask(Method::POST, "query_range", &range).await["result"][0]["values"].clone();
    let seconds = NOW / 1000;
    assert_eq!(values, json!([[seconds - 7200, "7998"], [seconds - 3600, "7999"], [seconds, "8000"]]));
    let limited = world.get("/prometheus/api/v1/labels?limit=2").await.expect(200);
    assert_eq!((&limited["data"], limited["warnings"].is_array()), (&json!(["__name__", "depot"]), true));
}

#[tokio::test]
async fn no_tenant_sees_anothers_series() {
    let world = World::new().await;
    let key = world.key("globex", Scope::Admin);
    for path in [
        "query?query=%7Bdevice%3D~%22.%2B%22%7D",
        "query?query=count(%7Bdevice%3D~%22.%2B%22%7D)",
        "query_range?query=rpm&start=1420100000&end=1420200000&step=3600",
        "series?match[]=%7Bdevice%3D~%22.%2B%22%7D",
        "labels",
        "label/device/values",
        "label/__name__/values",
        "metadata",
    ] {
        let answer = world.send(request(Method::GET, &format!("/prometheus/api/v1/{path}"), Some(key), None)).await;
        let data = answer.expect(200)["data"].clone();
        let items = data.get("result").unwrap_or(&data);
        assert!(items == &json!([]) || items == &json!({}), "{path}: {items}");
        let open = world.send(request(Method::GET, &format!("/prometheus/api/v1/{path}"), None, None)).await;
        assert_eq!(open.problem(401), "unauthenticated", "{path}");
    }
    let form = world.send(request(Method::POST, "/prometheus/api/v1/query", None, None)).await;
    assert_eq!(form.problem(401), "unauthenticated");
    let only_ingest = Some(world.key("acme", Scope::Ingest));
    let form = world.send(request(Method::POST, "/prometheus/api/v1/query", only_ingest, None)).await;
    assert_eq!(form.problem(403), "forbidden");
}
