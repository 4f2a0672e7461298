//! The same questions to us and to a real Prometheus that holds the same samples: the answers must be the same.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use harbinger_core::{DeviceKey, Reading};
use harbinger_store::{
    Batch,
    ledger::keys::Scope,
    telemetry::{EmbeddedStore, Options},
};
use serde_json::{Value, json};

use crate::world::{World, at, escaped, request, tenant};

/// The first sample, on a whole hour.
const START: i64 = 1_420_110_000_000;
const MINUTE: i64 = 60_000;
/// Device, model, kind, depot, site.
const DEVICES: [[&str; 5]; 5] = [
    ["d1", "m1", "server", "north", "a"],
    ["d2", "m1", "server", "south", "a"],
    ["d3", "m2", "server", "north", "b"],
    ["d4", "m3", "fridge", "south", ""],
    ["d 5\"\\", "m3", "fridge", "south", "b"],
];

/// A real server on a free port, killed when it goes out of scope.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().expect("the server runs until here");
        self.child.wait().expect("a killed server ends");
    }
}

impl Prometheus {
    async fn start(folder: &Path, openmetrics: &str) -> Self {
        let (samples, data, config) = (folder.join("samples"), folder.join("data"), folder.join("prometheus.yml"));
        std::fs::write(&samples, openmetrics).unwrap();
        std::fs::write(&config, "global: {}\n").unwrap();
        let mut fill = Command::new("promtool");
        let filled = fill.args(["tsdb", "create-blocks-from", "openmetrics"]).args([&samples, &data]).output();
        let filled = filled.expect("promtool comes with prometheus");
        assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus was found before");
        let server = Self { child, port };
        let ready = || server.send("GET", "/-/ready", "").is_some_and(|answer| answer.starts_with("HTTP/1.0 200"));
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let listening = async {
            while !ready() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), listening).await.expect("prometheus is ready within a minute");
        server
    }

    /// The whole answer; none where nobody listens.
    fn send(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let head = format!("{method} {path} HTTP/1.0\r\n{kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn ask(&self, method: &str, path: &str, form: &str) -> Value {
        let answer = self.send(method, path, form).expect("the server is ready");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

/// Numbers that look random and are the same every time.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Readings of all devices over five hours: every minute or so, some on the whole minute, with gaps of one signal, of all, and
/// of a whole hour.
fn readings() -> Vec<Reading> {
    let mut noise = Noise(42);
    let mut all = Vec::new();
    for (number, [device, ..]) in (0..).zip(DEVICES) {
        let key = DeviceKey::new(tenant("acme"), device.parse().unwrap());
        let mut minute = 0;
        while minute < 300 {
            let off = if noise.below(3) == 0 { noise.below(50_000) as i64 } else { 0 };
            let mut values = Vec::new();
            for (signal, scale) in [("rpm", 8000.0), ("inlet_c", 24.0), ("counter_total", 1e9)] {
                if noise.below(10) > 0 {
                    values.push((signal.parse().unwrap(), scale + noise.below(100_000) as f64 / 1000.0));
                }
            }
            all.push(Reading { key: key.clone(), ts: at(START + minute * MINUTE + off), arrival: false, values });
            minute += if minute == 100 + 10 * number { 61 } else { 1 + noise.below(4) as i64 / 3 * 7 };
        }
    }
    all
}

fn openmetrics(readings: &[Reading]) -> String {
    let mut text = String::new();
    for signal in ["counter_total", "inlet_c", "rpm"] {
        writeln!(text, "# TYPE {signal} gauge").unwrap();
        for [device, model, kind, depot, site] in DEVICES {
            let device_text = device.replace('\\', "\\\\").replace('"', "\\\"");
            let site = if site.is_empty() { String::new() } else { format!(",site=\"{site}\"") };
            let labels = format!("device=\"{device_text}\",model=\"{model}\",kind=\"{kind}\",depot=\"{depot}\"{site}");
            for reading in readings.iter().filter(|reading| reading.key.device.as_str() == device) {
                for (_, value) in reading.values.iter().filter(|(name, _)| name.as_str() == signal) {
                    let millis = reading.ts.millis();
                    let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
                    writeln!(text, "{signal}{{{labels}}} {value} {seconds}").unwrap();
                }
            }
        }
    }
    text + "# EOF\n"
}

/// The same on the embedded engine: two thirds in chunks, the rest in its log.
async fn world(folder: &Path, mut readings: Vec<Reading>) -> World {
    let store = EmbeddedStore::open(Options::at(folder.join("telemetry.db"))).unwrap();
    let world = World::bare_on(store).await;
    let devices = DEVICES.map(|[device, model, _, depot, site]| {
        let site = if site.is_empty() { Value::Null } else { json!(site) };
        json!({ "device": device, "model": model, "depot": depot, "site": site })
    });
    let fleet = json!({
        "models": [{ "model": "m1", "kind": "server" }, { "model": "m2", "kind": "server" }, { "model": "m3", "kind": "fridge" }],
        "depots": [{ "depot": "north", "echelon": "hub" }, { "depot": "south", "echelon": "forward" }],
        "devices": devices,
    });
    world.post("/api/v1/fleet", fleet).await.expect(200);
    let later = readings.split_off(readings.len() * 2 / 3);
    world.store.append(Batch { readings, ..Batch::default() }).await.unwrap();
    world.store.compact().await.unwrap();
    world.store.append(Batch { readings: later, ..Batch::default() }).await.unwrap();
    world
}

/// A form as clients send it.
fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    pairs.join("&")
}

async fn ours(world: &World, path: &str, form: &str) -> Value {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/prometheus{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", world.key("acme", Scope::Read)))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    world.send(request.body(Body::from(form.to_owned())).unwrap()).await.json()
}

/// Whether two answers say the same: values to 1e-12 of their size, everything else to the letter, rows in any order.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (Value::String(a), Value::String(b)) if a != b => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => (a - b).abs() <= 1e-12 * b.abs(),
            _ => false,
        },
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// The answer with its rows in order of their labels: a real server gives an instant's rows in any order.
fn in_order(mut answer: Value) -> Value {
    if let Some(rows) =
        answer["data"]["result"].as_array_mut().filter(|rows| rows.iter().all(|row| row["metric"].is_object()))
    {
        rows.sort_by_key(|row| row["metric"].to_string());
    }
    answer
}

/// What both must answer alike.
const EXPRESSIONS: &[&str] = &[
    "rpm",
    "rpm{device=\"d1\"}",
    "rpm{device=~\"d[12]\"}",
    "rpm{device!~\"d[12]\",site!=\"\"}",
    "rpm{site=\"\"}",
    "rpm{device=\"d 5\\\"\\\\\"}",
    "rpm{device=~\"d\"}",
    "{__name__=~\"rpm|inlet_c\",model=\"m3\"}",
    "nothing_such",
    "inlet_c offset 7m",
    "inlet_c offset -13m30s",
    "inlet_c @ 1420115000.5",
    "inlet_c @ start()",
    "inlet_c @ end() offset 1h",
    "avg_over_time(rpm[10m])",
    "avg_over_time(counter_total[1h])",
    "min_over_time(inlet_c[7m])",
    "max_over_time(inlet_c[33m] offset 5m)",
    "sum_over_time(rpm[1h])",
    "count_over_time(rpm[5m])",
    "count_over_time(rpm[1m])",
    "stddev_over_time(inlet_c[20m])",
    "stdvar_over_time(rpm[2h])",
    "quantile_over_time(0.9, inlet_c[1h])",
    "quantile_over_time(0.123, rpm{site=\"b\"}[15m])",
    "quantile_over_time(-1, rpm[15m])",
    "quantile_over_time(2 - 0.5, rpm[15m])",
    "last_over_time(rpm[30m])",
    "present_over_time(inlet_c[30m])",
    "sum(rpm)",
    "sum by (model) (rpm)",
    "avg by (kind, site) (inlet_c)",
    "min without (device, model) (rpm)",
    "max without (device) (max_over_time(rpm[1h]))",
    "count by (__name__) ({__name__=~\".+\"})",
    "stddev by (kind) (inlet_c)",
    "stdvar(rpm)",
    "quantile by (depot) (0.75, inlet_c)",
    "quantile(0.5, avg_over_time(inlet_c[15m]))",
    "group by (site) (rpm)",
    "avg(sum by (depot) (count_over_time(rpm[10m])))",
    "inlet_c * 1.8 + 32",
    "-inlet_c ^ 2 % 7",
    "100 / (inlet_c - 24)",
    "inlet_c > 24.05",
    "24.05 >= inlet_c",
    "inlet_c == bool 24.5",
    "sum by (site) (inlet_c > 24.05) != 0",
    "max by (model) (rpm) < bool 8050",
    "(1 + 2) * 3 ^ 2 > bool 4",
    "sum by (nothing) (inlet_c) / 0",
    "0x1F - Inf",
    "NaN",
];

#[tokio::test]
async fn a_real_prometheus_answers_the_same() {
    if ["prometheus", "promtool"].iter().any(|name| Command::new(name).arg("--version").output().is_err()) {
        println!("left out: prometheus is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let readings = readings();
    let server = Prometheus::start(folder.path(), &openmetrics(&readings)).await;
    let world = world(folder.path(), readings).await;
    compare_queries(&world, &server).await;
    compare_lists(&world, &server).await;
}

async fn compare_queries(world: &World, server: &Prometheus) {
    let minute = |minutes: i64| ((START + minutes * MINUTE) / 1000).to_string();
    let mut wrong = Vec::new();
    let mut rows = 0;
    let mut compare = async |path: &str, parameters: &[(&str, &str)]| {
        let form = form(parameters);
        let (ours, theirs) = (in_order(ours(world, path, &form).await), in_order(server.ask("POST", path, &form)));
        rows += theirs["data"]["result"].as_array().map_or(0, Vec::len);
        if !same(&ours, &theirs) {
            wrong.push(format!("{path} {parameters:?}\nours   {ours}\ntheirs {theirs}"));
        }
    };
    for expression in EXPRESSIONS {
        for time in ["1420113600", "1420118700.25", "2015-01-01T12:00:00.001Z", "2015-01-02T00:00:00Z"] {
            compare("/api/v1/query", &[("query", expression), ("time", time)]).await;
        }
        for (start, end, step) in [(-10, 310, "1m"), (0, 300, "150"), (55, 60, "7.5"), (-100, 400, "1h40m")] {
            let (start, end) = (minute(start), minute(end));
            let parameters = [("query", *expression), ("start", &start), ("end", &end), ("step", step)];
            compare("/api/v1/query_range", &parameters).await;
        }
    }
    assert!(rows > 1000, "only {rows} rows were compared");
    assert!(wrong.is_empty(), "{} differ, the first:\n{:.4000}", wrong.len(), wrong[0]);
}

async fn compare_lists(world: &World, server: &Prometheus) {
    let in_order = |mut answer: Value| {
        answer["data"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        answer
    };
    let lists: [(&str, &[&str]); 10] = [
        ("series", &["rpm"]),
        ("series", &["rpm{site=\"b\"}", "{device=~\"d[1-3]\",__name__!=\"rpm\"}"]),
        ("series", &["{site!=\"a\",site!=\"\"}", "nothing_such"]),
        ("labels", &[]),
        ("labels", &["rpm{site=\"\"}"]),
        ("labels", &["nothing_such"]),
        ("label/device/values", &[]),
        ("label/site/values", &["inlet_c{kind=\"server\"}"]),
        ("label/__name__/values", &["{device=\"d1\"}"]),
        ("label/nothing/values", &[]),
    ];
    for (list, selectors) in lists {
        let selected = selectors.iter().map(|selector| ("match[]", *selector));
        let during = [("start", "2015-01-01T11:00:00Z"), ("end", "1420128000")];
        let path = format!("/api/v1/{list}?{}", form(&selected.chain(during).collect::<Vec<_>>()));
        let key = world.key("acme", Scope::Read);
        let ours = world.send(request(Method::GET, &format!("/prometheus{path}"), Some(key), None)).await;
        assert_eq!(in_order(ours.expect(200)), in_order(server.ask("GET", &path, "")), "{list} {selectors:?}");
    }
}
