//! The HTTP intake without a socket.

mod common;

use std::sync::Arc;

use axum::{Router, body::Body};
use common::{Gated, accounted};
use harbinger_core::{DeviceKey, SystemClock, TimeRange};
use harbinger_ingest::{
    DeviceAdmission, OpenRegistrar, Options, Pipeline,
    http::{IngestTenant, router},
    options::ByteSize,
};
use harbinger_store::telemetry::TelemetryStore;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const LINES: &str = "application/x-ndjson";

struct Intake {
    store: Arc<Gated>,
    pipeline: Pipeline,
    app: Router,
}

fn intake(options: Options) -> Intake {
    let store = Gated::opened();
    let pipeline = Pipeline::new(options.pipeline, store.clone(), Arc::new(SystemClock), Arc::new(OpenRegistrar));
    let app = router(pipeline.clone(), &options.http);
    Intake { store, pipeline, app }
}

impl Intake {
    /// Posts a body as tenant acme; returns status, `Retry-After` and body.
    async fn post(&self, content_type: &str, body: &str) -> (u16, Option<String>, Value) {
        let app = self.app.clone().layer(axum::Extension(IngestTenant("acme".parse().unwrap())));
        send(app, content_type, body).await
    }
}

async fn send(app: Router, content_type: &str, body: &str) -> (u16, Option<String>, Value) {
    let request = axum::http::Request::post("/api/v1/telemetry")
        .header("content-type", content_type)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, retry, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_line_with_a_code_is_an_event() {
    let intake = intake(Options::default());
    let body = concat!(
        r#"{"device":"d1","ts":1,"values":{"a":1}}"#,
        "\n",
        r#"{"ts":2,"code":"E42","severity":"warning","message":"fan slow","device":"d1"}"#,
        "\n",
        r#"{"device":"d1","ts":2,"code":"E43","message":null}"#,
        "\n",
        r#"{"device":"d1","ts":3,"code":"E44","values":{"a":1}}"#,
        "\n",
        r#"{"device":"d1","ts":3,"code":""}"#,
        "\n",
        r#"{"device":"d1","ts":3,"severity":"warning","values":{"a":1}}"#,
    );
    let (status, _, report) = intake.post(LINES, body).await;
    let quarantined = json!([
        {"line": 4, "reason": "code: a line is a reading with values or an event with code"},
        {"line": 5, "reason": "code: must have 1 to 200 bytes"},
        {"line": 6, "reason": "severity: a field of events, which have a code at line 1 column 60"},
    ]);
    assert_eq!((status, report), (200, json!({"accepted": 3, "quarantined": quarantined})));
    let events = intake.store.events(&"acme".parse().unwrap(), None, TimeRange::ALL).await.unwrap();
    let told: Vec<_> =
        events.iter().map(|e| (e.ts.millis(), &*e.code, e.severity.as_str(), e.message.as_deref())).collect();
    assert_eq!(told, [(2, "E42", "warning", Some("fan slow")), (2, "E43", "info", None)]);
    let found = intake.pipeline.metrics().snapshot();
    accounted(found);
    assert_eq!((found.received, found.stored, found.quarantined), (6, 3, 3));
}

#[tokio::test]
async fn good_lines_are_stored_and_bad_ones_are_listed() {
    let intake = intake(Options::default());
    let body = concat!(
        r#"{"device":"d1","ts":1,"values":{"a":1}}"#,
        "\r\n\n",
        r#"{"device":"d2","ts":1,"values":{"a":"x"}}"#,
        "\n",
        r#"{"ts":1,"values":{"a":2}}"#,
        "\n",
        r#"{"device":"d2","ts":1,"values":{"a":2,"b":null}}"#,
    );
    let (status, _, report) = intake.post(LINES, body).await;
    let quarantined = json!([
        {"line": 3, "reason": "values.a: the text \"x\" is no number at line 1 column 39"},
        {"line": 4, "reason": "device: missing, the line must name its device"},
    ]);
    assert_eq!((status, report), (200, json!({"accepted": 2, "quarantined": quarantined})));
    let d2 = DeviceKey::new("acme".parse().unwrap(), "d2".parse().unwrap());
    assert_eq!(intake.store.scan(&d2, TimeRange::ALL, None).await.unwrap().len(), 1);
    let found = intake.pipeline.metrics().snapshot();
    accounted(found);
    assert_eq!((found.received, found.stored, found.quarantined), (4, 2, 2));
}

#[tokio::test]
async fn an_array_is_taken_element_by_element() {
    let intake = intake(Options::default());
    let body = r#"[{"device":"d1","ts":1,"values":{"a":1}}, 7, {"device":"d1","ts":2,"values":{"a":1}}]"#;
    let (status, _, report) = intake.post("application/json; charset=utf-8", body).await;
    assert_eq!((status, &report["accepted"], &report["quarantined"][0]["line"]), (200, &json!(2), &json!(2)));
    let (status, _, report) = intake.post("application/json", "{").await;
    assert_eq!((status, &report["accepted"]), (200, &json!(0)));
    assert_eq!(intake.store.quarantine(None, 0, 10).await.unwrap().len(), 2);
}

/// A body beyond the size that is decoded on the spot takes the other way and gives the same.
#[tokio::test]
async fn a_large_body_is_taken_whole() {
    let intake = intake(Options::default());
    let body: String =
        (0..5_000).map(|ts| format!("{{\"device\":\"d1\",\"ts\":{ts},\"values\":{{\"a\":1}}}}\n")).collect();
    let (status, _, report) = intake.post(LINES, &body).await;
    assert_eq!((status, report), (200, json!({"accepted": 5000, "quarantined": []})));
}

#[tokio::test]
async fn refusals_are_problems() {
    let mut options = Options::default();
    options.http.body_bytes_max = ByteSize(100);
    options.http.inflight_bytes_max = ByteSize(60);
    let intake = intake(options);
    let line = r#"{"device":"d1","ts":1,"values":{"a":1}}"#;
    let (status, _, problem) = send(intake.app.clone(), LINES, line).await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
    let (status, _, problem) = intake.post("text/plain", line).await;
    assert_eq!((status, &problem["code"]), (415, &json!("unsupported_media_type")));
    let (status, _, problem) = intake.post(LINES, &" ".repeat(101)).await;
    assert_eq!((status, &problem["code"]), (413, &json!("body_too_large")));
    intake.store.fill_disk(true);
    let (status, retry, problem) = intake.post(LINES, line).await;
    assert_eq!((status, retry.as_deref(), &problem["code"]), (507, Some("30"), &json!("storage_full")));
    intake.store.fill_disk(false);
    assert_eq!(intake.post(LINES, line).await.0, 200);
    let found = intake.pipeline.metrics().snapshot();
    accounted(found);
    assert_eq!((found.received, found.stored, found.refused), (2, 1, 1));
}

/// While one request waits for its commit and holds the bytes allowed, the next is told to come back.
#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let mut options = Options::default();
    options.http.inflight_bytes_max = ByteSize(60);
    let gated = Gated::new();
    let pipeline = Pipeline::new(options.pipeline, gated.clone(), Arc::new(SystemClock), Arc::new(OpenRegistrar));
    let app = router(pipeline.clone(), &options.http).layer(axum::Extension(IngestTenant("acme".parse().unwrap())));
    let line = r#"{"device":"d1","ts":1,"values":{"a":1}}"#;
    let with_length = |app: Router| async move {
        let request = axum::http::Request::post("/api/v1/telemetry")
            .header("content-type", LINES)
            .header("content-length", line.len())
            .body(Body::from(line))
            .unwrap();
        app.oneshot(request).await.unwrap()
    };
    let first = tokio::spawn(with_length(app.clone()));
    common::deadline(gated.held(1)).await;
    let second = with_length(app.clone()).await;
    assert_eq!((second.status().as_u16(), second.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    gated.open();
    assert_eq!(first.await.unwrap().status().as_u16(), 200);
    assert_eq!(with_length(app).await.status().as_u16(), 200);
}

/// A device that nobody registered waits in quarantine where the policy says so, and comes out of it when it is known.
#[tokio::test]
async fn unknown_devices_wait_in_quarantine_and_are_replayed() {
    let mut options = Options::default();
    options.pipeline.unknown_devices = DeviceAdmission::Quarantine;
    let strict = intake(options);
    let line = r#"{"device":"d1","ts":1,"values":{"a":1}}"#;
    let (status, _, report) = strict.post(LINES, line).await;
    assert_eq!(status, 200);
    assert_eq!(
        report["quarantined"][0]["reason"],
        json!("device d1 is not registered; register it and replay this message")
    );
    let entry = strict.store.quarantine(None, 0, 1).await.unwrap().remove(0);
    assert!(strict.pipeline.replay(&entry).await.is_err());
    let open = Pipeline::new(
        Options::default().pipeline,
        strict.store.clone(),
        Arc::new(SystemClock),
        Arc::new(OpenRegistrar),
    );
    assert_eq!(open.replay(&entry).await.unwrap().stored, 1);
    assert!(strict.store.quarantine(None, 0, 1).await.unwrap().is_empty());
    accounted(open.metrics().snapshot());
}
