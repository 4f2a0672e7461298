//! InfluxDB's line protocol over HTTP, without a socket: what its clients send, and what they are told.

mod common;

use std::{io::Write, sync::Arc};

use axum::{Router, body::Body, http::Request};
use common::{Gated, accounted};
use flate2::{Compression, write::GzEncoder};
use harbinger_core::{DeviceKey, ManualClock, TimeRange};
use harbinger_ingest::{
    DeviceAdmission, OpenRegistrar, Options, Pipeline, Snapshot,
    http::{IngestTenant, influx_credentials, router},
    options::ByteSize,
};
use harbinger_store::telemetry::TelemetryStore;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

struct Intake {
    store: Arc<Gated>,
    pipeline: Pipeline,
    app: Router,
}

fn intake(options: Options) -> Intake {
    let store = Gated::opened();
    let clock = Arc::new(ManualClock::new("2026-01-31T10:00:00Z".parse().unwrap()));
    let pipeline = Pipeline::new(options.pipeline, store.clone(), clock, Arc::new(OpenRegistrar));
    let app = router(pipeline.clone(), &options.http);
    Intake { store, pipeline, app: app.layer(axum::Extension(IngestTenant("acme".parse().unwrap()))) }
}

impl Intake {
    async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn write(&self, path: &str, body: &str) -> (u16, Value) {
        self.send(Request::post(path).body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn write_gzip(&self, body: Vec<u8>) -> (u16, Value) {
        let request = Request::post("/write?precision=ms").header("content-encoding", "gzip");
        self.send(request.header("content-length", body.len()).body(Body::from(body)).unwrap()).await
    }

    /// Samples of a device as `ts signal=value`.
    async fn samples(&self, device: &str) -> Vec<String> {
        let key = DeviceKey::new("acme".parse().unwrap(), device.parse().unwrap());
        let readings = self.store.scan(&key, TimeRange::ALL, None).await.unwrap();
        let mut samples = Vec::new();
        for (row, ts) in readings.times.iter().enumerate() {
            for (signal, column) in readings.columns.iter().filter(|(_, column)| !column[row].is_nan()) {
                samples.push(format!("{} {signal}={}", ts.millis(), column[row]));
            }
        }
        samples.sort_unstable();
        samples
    }

    fn counted(&self) -> Snapshot {
        let counted = self.pipeline.metrics().snapshot();
        accounted(counted);
        counted
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn both_versions_of_the_route_take_the_same_lines() {
    let intake = intake(Options::default());
    let first = intake.write("/write?db=plant&rp=autogen&precision=s&u=a&p=b", "cpu,host=d idle=1 1").await;
    let second = intake.write("/api/v2/write?org=o&bucket=b&precision=ms", "cpu,host=d idle=2 2000\n").await;
    let third = intake.write("/write", "cpu,host=d idle=3 3000000000\n\n").await;
    assert_eq!([first, second, third], [(204, Value::Null), (204, Value::Null), (204, Value::Null)]);
    assert_eq!(intake.samples("d").await, ["1000 cpu_idle=1", "2000 cpu_idle=2", "3000 cpu_idle=3"]);
}

/// An agent sends a line a measurement: what it says of one time is one reading, and what it says twice is counted.
#[tokio::test]
async fn lines_of_one_device_and_time_are_one_reading() {
    let intake = intake(Options::default());
    let body = "cpu,host=d,cpu=cpu0 idle=1 5\ncpu,host=d,cpu=cpu1 idle=2 5\nmem,host=d free=3 5\nmem,host=e free=4 5";
    assert_eq!(intake.write("/write?precision=ms", body).await.0, 204);
    assert_eq!(intake.samples("d").await, ["5 cpu_idle;cpu=cpu0=1", "5 cpu_idle;cpu=cpu1=2", "5 mem_free=3"]);
    let counted = intake.counted();
    assert_eq!((counted.messages, counted.received, counted.stored), (4, 2, 2));

    assert_eq!(intake.write("/write?precision=ms", "m,host=f a=1 5\nm,host=f a=1 5\nm,host=f a=2 5").await.0, 204);
    assert_eq!(intake.samples("f").await, ["5 m_a=2"]);
    let counted = intake.counted();
    assert_eq!((counted.received, counted.stored, counted.duplicate, counted.corrected), (5, 3, 1, 1));
}

#[tokio::test]
async fn bad_lines_are_told_and_kept_and_the_others_stored() {
    let intake = intake(Options::default());
    let body = "cpu,host=d a=1 5\ncpu a=1 5\n\ncpu,host=ghost a=x 5\ncpu,host=d b=2 6";
    let (status, answer) = intake.write("/api/v2/write?precision=ms", body).await;
    let message = answer["message"].as_str().unwrap();
    assert_eq!((status, &answer["error"], &answer["code"]), (400, &answer["message"], &Value::from("invalid")));
    assert!(message.starts_with("partial write: line 2: no device"), "{message}");
    assert!(message.contains("line 4: field cpu_a: \"x\"") && message.ends_with("dropped=2"), "{message}");
    assert_eq!(intake.samples("d").await, ["5 cpu_a=1", "6 cpu_b=2"]);
    let kept = intake.store.quarantine(None, 0, 10).await.unwrap();
    let kept: Vec<(&str, &[u8])> = kept.iter().map(|entry| (&*entry.message.topic, &*entry.message.payload)).collect();
    let expected: [(&str, &[u8]); 2] =
        [("/write?precision=ms", b"cpu a=1 5"), ("/write?precision=ms", b"cpu,host=ghost a=x 5")];
    assert_eq!(kept, expected);
    let counted = intake.counted();
    assert_eq!((counted.received, counted.stored, counted.quarantined), (4, 2, 2));
}

/// Whoever is refused for a line of its own is not let in by it.
#[tokio::test]
async fn a_refused_line_registers_no_device() {
    let mut options = Options::default();
    options.pipeline.devices_per_tenant_max = 1;
    let intake = intake(options);
    assert_eq!(intake.write("/write?precision=ms", "cpu,host=ghost a=x 5").await.0, 400);
    assert_eq!(intake.write("/write?precision=ms", "cpu,host=d a=1 5").await.0, 204);
}

#[tokio::test]
async fn a_kept_line_is_replayed_in_its_own_unit() {
    let mut options = Options::default();
    options.pipeline.unknown_devices = DeviceAdmission::Quarantine;
    let strict = intake(options);
    let (status, _) = strict.write("/write?precision=s", "cpu,host=d a=1 7\ncpu,host=d b=2 7").await;
    assert_eq!(status, 400);
    let clock = Arc::new(ManualClock::new("2026-01-31T10:00:00Z".parse().unwrap()));
    let open = Pipeline::new(Options::default().pipeline, strict.store.clone(), clock, Arc::new(OpenRegistrar));
    for entry in strict.store.quarantine(None, 0, 10).await.unwrap() {
        open.replay(&entry).await.unwrap();
    }
    assert_eq!(strict.samples("d").await, ["7000 cpu_a=1", "7000 cpu_b=2"]);
    assert!(strict.store.quarantine(None, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn lines_of_texts_alone_are_done_and_hold_nothing() {
    let intake = intake(Options::default());
    assert_eq!(intake.write("/write", "system,host=d uptime=\"1 day\" 5\n# nothing\n").await.0, 204);
    assert_eq!(intake.counted().received, 1);
    assert!(intake.samples("d").await.is_empty());
}

#[tokio::test]
async fn gzip_is_inflated_within_bounds() {
    let mut options = Options::default();
    options.http.body_bytes_max = ByteSize(200_000);
    options.http.inflight_bytes_max = ByteSize(300_000);
    let intake = intake(options);
    let lines: String = (0..5_000).map(|ts| format!("cpu,host=d idle={ts} {ts}\n")).collect();
    assert!(lines.len() > 100_000);
    assert_eq!(intake.write_gzip(gzip(lines.as_bytes())).await, (204, Value::Null));
    assert_eq!(intake.samples("d").await.len(), 5_000);
    // Two members are one body.
    let members = [gzip(b"cpu,host=e idle=1 1\n"), gzip(b"cpu,host=e idle=2 2\n")].concat();
    assert_eq!(intake.write_gzip(members).await.0, 204);
    assert_eq!(intake.samples("e").await.len(), 2);

    let bomb = gzip(&vec![b'\n'; 10 << 20]);
    assert!(bomb.len() < 200_000, "it is the inflated size that is refused");
    let (status, problem) = intake.write_gzip(bomb).await;
    assert_eq!((status, &problem["code"]), (413, &Value::from("body_too_large")));
    let mut cut = gzip(lines.as_bytes());
    cut.truncate(cut.len() / 2);
    for body in [cut, b"cpu,host=d idle=1 1".to_vec()] {
        let (status, problem) = intake.write_gzip(body).await;
        assert_eq!((status, &problem["code"]), (400, &Value::from("bad_encoding")));
    }
    // All permits came back.
    assert_eq!(intake.write_gzip(gzip(lines.as_bytes())).await.0, 204);
    let other = Request::post("/write").header("content-encoding", "br").body(Body::from("x")).unwrap();
    let (status, problem) = intake.send(other).await;
    assert_eq!((status, &problem["code"]), (415, &Value::from("unsupported_encoding")));
}

/// Inflated bytes count as in flight, whatever the length of the request said. The refusal is no 4xx, after which some of
/// InfluxDB's clients give up the batch.
#[tokio::test]
async fn inflated_bytes_are_in_flight() {
    let mut options = Options::default();
    options.http.inflight_bytes_max = ByteSize(100_000);
    let store = Gated::new();
    let pipeline = Pipeline::new(
        options.pipeline,
        store.clone(),
        Arc::new(ManualClock::new("2026-01-31T10:00:00Z".parse().unwrap())),
        Arc::new(OpenRegistrar),
    );
    let app = router(pipeline.clone(), &options.http).layer(axum::Extension(IngestTenant("acme".parse().unwrap())));
    let lines: String = (0..3_000).map(|ts| format!("cpu,host=d idle={ts} {ts}\n")).collect();
    let body = gzip(lines.as_bytes());
    let send = |app: Router| {
        let request = Request::post("/write").header("content-encoding", "gzip").header("content-length", body.len());
        let request = request.body(Body::from(body.clone())).unwrap();
        async move { app.oneshot(request).await.unwrap().status().as_u16() }
    };
    let first = tokio::spawn(send(app.clone()));
    common::deadline(store.held(1)).await;
    assert_eq!(send(app.clone()).await, 503);
    store.open();
    assert_eq!(first.await.unwrap(), 204);
    assert_eq!(send(app).await, 204);
}

#[tokio::test]
async fn unknown_parameters_and_units_are_refused_by_name() {
    let intake = intake(Options::default());
    for (query, word) in [("precision=d", "precision"), ("extra_label=a", "extra_label")] {
        let (status, problem) = intake.write(&format!("/write?{query}"), "cpu,host=d a=1 5").await;
        assert_eq!((status, &problem["code"]), (400, &Value::from("bad_parameter")));
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
}

#[tokio::test]
async fn a_key_is_found_wherever_a_client_of_influxdb_puts_it() {
    let key = |path: &'static str, header: Option<&'static str>| async move {
        let mut request = Request::post(path);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let request = influx_credentials(request.body(Body::empty()).unwrap()).await;
        request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned())
    };
    let bearer = Some("Bearer hbr_k".to_owned());
    assert_eq!(key("/api/v2/write", Some("Token hbr_k")).await, bearer);
    assert_eq!(key("/api/v2/write", Some("Token name:hbr_k")).await, bearer);
    assert_eq!(key("/write?db=x&u=name&p=hbr_k", None).await, bearer);
    assert_eq!(key("/write?p=other", Some("Bearer hbr_k")).await, bearer);
    assert_eq!(key("/write", Some("Basic bmFtZTpoYnJfaw==")).await, Some("Basic bmFtZTpoYnJfaw==".to_owned()));
    assert_eq!(key("/write", None).await, None);
    assert_eq!(key("/api/v1/telemetry?p=hbr_k", None).await, None);
    assert_eq!(key("/api/v1/telemetry", Some("Token hbr_k")).await, Some("Token hbr_k".to_owned()));
}
