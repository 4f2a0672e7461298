//! Readings, health and predictions as they are read.

use axum::http::{Method, header};
use harbinger_store::ledger::keys::Scope;
use serde_json::json;

use crate::world::{NOW, World, acme_predictions, at, request};

#[tokio::test]
async fn readings_page_in_order_of_time_and_filter_by_signal_and_span() {
    let world = World::new().await;
    let all = world.walk("/api/v1/devices/acme-d1/telemetry", 5).await;
    assert_eq!(all.len(), 24);
    assert_eq!(all[23], json!({ "ts": at(NOW).to_string(), "values": { "rpm": 8000.0, "inlet": 24.5 } }));
    assert!(all.is_sorted_by_key(|row| row["ts"].as_str().unwrap().to_owned()));
    let path = format!("/api/v1/devices/acme-d1/telemetry?signal=rpm&from={}&to={}", at(NOW - 2 * 3_600_000), at(NOW));
    let some = world.get(&path).await.expect(200);
    let values: Vec<_> = some["items"].as_array().unwrap().iter().map(|row| row["values"].clone()).collect();
    assert_eq!(values, [json!({ "rpm": 7998.0 }), json!({ "rpm": 7999.0 })]);
    assert_eq!(world.get("/api/v1/devices/acme-d2/telemetry").await.expect(200)["items"], json!([]));
}

/// Readings at 13:00 of one day to 12:00 of the next; buckets hold their end: one up to 18:00 has six of them.
#[tokio::test]
async fn with_a_step_summaries_come_instead() {
    let world = World::new().await;
    let path = "/api/v1/devices/acme-d1/telemetry?step=6h&signal=rpm";
    let page = world.get(path).await.expect(200);
    let buckets = page["items"].as_array().unwrap();
    assert_eq!(buckets.len(), 4, "{page}");
    let first = &buckets[0];
    assert_eq!((&first["count"], &first["first"], &first["last"]), (&json!(6), &json!(7977.0), &json!(7982.0)));
    assert_eq!((&first["min"], &first["max"], &first["mean"]), (&json!(7977.0), &json!(7982.0), &json!(7979.5)));
    assert!((first["slope_per_hour"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    for step in ["0s", "1ms"] {
        let path = format!("/api/v1/devices/acme-d1/telemetry?step={step}");
        assert_eq!(world.get(&path).await.problem(400), "bad-request");
    }
}

#[tokio::test]
async fn health_shows_what_is_known_of_a_device_now() {
    let world = World::new().await;
    let health = world.get("/api/v1/devices/acme-d1/health").await.expect(200);
    assert_eq!(health["last_seen"], at(NOW).to_string());
    assert_eq!(health["device"]["contract"], "gold");
    let rpm = health["latest"].as_array().unwrap().iter().find(|latest| latest["signal"] == "rpm").unwrap();
    assert_eq!((&rpm["value"], &rpm["unit"], &rpm["out_of_limits"]), (&json!(8000.0), &json!("1/min"), &json!(false)));
    assert_eq!(health["predictions"].as_array().unwrap().len(), 1);
    assert_eq!(health["predictions"][0]["probabilities"]["p_24h"], 1.0);
    assert_eq!(health["alerts"][0]["state"], "open");
    let events = world.get("/api/v1/events?device=acme-d1").await.expect(200);
    assert_eq!((&events["items"][0]["code"], &events["items"][0]["severity"]), (&json!("E42"), &json!("warning")));
}

#[tokio::test]
async fn predictions_page_to_the_whole_with_every_bit() {
    let world = World::new().await;
    let kept = acme_predictions();
    let listed = world.walk("/api/v1/predictions", 3).await;
    assert_eq!(listed.len(), kept.len());
    for (shown, kept) in listed.iter().zip(&kept) {
        assert_eq!(shown["prediction_id"], kept.id());
        assert_eq!(shown["ts"], kept.ts.to_string());
        // Read as JSON text by Rust's own exact reader: serde_json's may be off by the last bit.
        let number = |text: &serde_json::Value| text.to_string().parse::<f64>().unwrap();
        assert_eq!(number(&shown["probabilities"]["p_24h"]).to_bits(), kept.probabilities[0].to_bits());
        assert_eq!(shown["alarm"], kept.alarm);
    }
    let newest = world.get("/api/v1/predictions?latest=true").await.expect(200);
    assert_eq!(newest["items"].as_array().unwrap().len(), 2);
    assert_eq!(newest["items"][0]["prediction_id"], kept[8].id());
    let one = world.get("/api/v1/predictions?device=acme-d2&component=fan&model_version=acme-v1").await.expect(200);
    assert_eq!(one["items"].as_array().unwrap().len(), 5);
    let detail = world.get(&world.filled("/api/v1/predictions/{prediction_id}")).await.expect(200);
    assert_eq!(detail["decision"]["features"]["rpm.mean"], 7990.5);
    assert_eq!(detail["device"], "acme-d1");
    assert_eq!(detail["recomputed"]["identical"], true, "{detail}");
    assert_eq!(detail["recomputed"]["probabilities"], detail["probabilities"]);
    let expected = [
        "if newest rpm were back at its usual 9000 to 9100 rather than 7990, the probability would be 3 % (alarms begin above 25 %)",
        "acme-d2 at 1970-01-01T00:00:00Z was 75 % alike and was replaced 8 h later",
    ];
    assert_eq!(detail["explanation"]["in_words"], json!(expected));
    for field in ["similar_cases", "counterfactual"] {
        assert_eq!(detail["explanation"][field], detail["decision"][field], "{field}");
    }
    let other = world.get(&format!("/api/v1/predictions/{}", kept[1].id())).await.expect(200);
    assert_eq!((&other["decision"], &other["recomputed"]), (&json!(null), &json!(null)));
    assert_eq!(other["explanation"], json!(null));
}

#[tokio::test]
async fn a_version_shows_examples_of_what_it_foresaw_and_missed() {
    let world = World::new().await;
    let shown = world.get("/api/v1/scoreboard/acme-v1/examples").await.expect(200);
    let example = &shown["items"][0];
    assert_eq!((&example["outcome"], &example["because"]), (&json!("foreseen"), &json!("acme-v1")));
    assert_eq!(example["probabilities"][1], json!({ "ts": at(NOW - 3_600_000), "value": 0.7 }));
    world.get("/api/v1/scoreboard/never/examples").await.expect(404);
}

#[tokio::test]
async fn predictions_as_csv_are_the_result_file_to_the_letter() {
    let world = World::new().await;
    let mut sent = request(Method::GET, "/api/v1/predictions", Some(world.key("acme", Scope::Read)), None);
    sent.headers_mut().insert(header::ACCEPT, "text/csv, application/json;q=0.5".parse().unwrap());
    let answer = world.send(sent).await;
    assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/csv"));
    let mut lines = answer.text.lines();
    let header = "ts,device,component,p_24h,p_168h,score,alarm,rul_mean,rul_p05,rul_p50,rul_p95,model_version";
    assert_eq!(lines.next(), Some(header));
    let expected: Vec<String> = acme_predictions()
        .iter()
        .map(|row| {
            let (p, q) = (row.probabilities[0], row.probabilities[1]);
            format!(
                "{},{},{},{p},{q},{},{},{},{},{},{},{}",
                row.ts,
                row.device,
                row.component,
                row.score,
                u8::from(row.alarm),
                row.rul_mean,
                row.rul_p05,
                row.rul_p50,
                row.rul_p95,
                row.model_version
            )
        })
        .collect();
    assert_eq!(lines.map(str::to_owned).collect::<Vec<_>>(), expected);
}
