//! A small world: tenant `acme` with a bit of everything, tenant `globex` with nothing, and a key of each scope for both.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
    middleware::from_fn_with_state,
};
use harbinger_alerts::{Alerts, HysteresisOptions, Observation, webhook::Guard};
use harbinger_api::{
    ApiState, Authorize, Control, ControlError, Erasure, Gone, Parts, Readiness, Recomputed, app_with, authorize,
    intake_description,
    standing::{Example, Outcome, PointView, ShadowSideView, ShadowView, Standing},
};
use harbinger_core::{
    Clock, DeviceEvent, DeviceKey, Duration, ManualClock, Probability, Reading, Severity, TenantId, TimeRange,
    Timestamp, fleet::Maintenance,
};
use harbinger_store::{
    Batch, Ledger, Quarantined,
    ledger::{
        Connection,
        keys::{self, NewKey, Scope},
        models::{self, Model},
        orders::{self, NewOrder, PartUse, Reason},
        plans::{self, PlanRow},
        predictions::{self, Decision, Prediction, PredictionKey},
        returns::{self, Failed},
        work_orders::{self, NewWorkOrder},
    },
    telemetry::{MemoryStore, SharedStore},
};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Event time of every tenant: noon of the second day.
pub(crate) const NOW: i64 = 1_420_113_600_000 + 86_400_000;

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

/// What the binary would do, as far as the routes can tell: it keeps a plan that says when it was made.
pub(crate) struct TestControl {
    ledger: Ledger,
    erasure: Erasure,
    /// Plans wait here while it is locked.
    pub(crate) gate: Arc<tokio::sync::Semaphore>,
}

#[async_trait]
impl Control for TestControl {
    fn event_time(&self, _: &TenantId) -> Timestamp {
        at(NOW)
    }
    async fn run_plan(&self, tenant: &TenantId, as_of: Option<Timestamp>) -> Result<String, ControlError> {
        let _pass = self.gate.acquire().await.unwrap();
        let as_of = as_of.unwrap_or(at(NOW));
        let mut tx = self.ledger.write().await?;
        let plan_id = harbinger_core::ids::new_id("pln");
        plans::insert(&mut tx, tenant, &plan(&plan_id, as_of)).await?;
        tx.commit().await.unwrap();
        Ok(plan_id)
    }
    async fn replay_quarantined(&self, _: &TenantId, _: i64) -> Result<u64, ControlError> {
        Err(ControlError::Conflict("still no JSON".to_owned()))
    }
    async fn delete_device(&self, key: &DeviceKey, actor: &str) -> Result<Gone, ControlError> {
        self.erasure.delete(key, actor, at(NOW)).await
    }
    async fn retrain(&self, _: &TenantId) -> Result<String, ControlError> {
        panic!("training fell over");
    }
    async fn import_onnx(&self, _: &TenantId, file: Vec<u8>, card: Value) -> Result<String, ControlError> {
        match card["name"].as_str() {
            Some(name) => Ok(name.to_owned()),
            None => Err(ControlError::Refused(format!("{} bytes without a card", file.len()))),
        }
    }
    async fn recompute(
        &self,
        _: &TenantId,
        _: &PredictionKey,
        decision: &Decision,
    ) -> Result<Option<Recomputed>, ControlError> {
        let again: Option<(Vec<f64>, f64)> = serde_json::from_value(decision.body["again"].clone()).unwrap();
        let reasons = ["similar_cases", "counterfactual"].map(|name| (name.to_owned(), decision.body[name].clone()));
        let reasons = reasons.into_iter().collect();
        Ok(again.map(|(probabilities, score)| Recomputed { probabilities, score, reasons }))
    }
    async fn scoreboard(&self, _: &TenantId, _: TimeRange) -> Result<Vec<Standing>, ControlError> {
        Ok(Vec::new())
    }
    async fn shadow(&self, tenant: &TenantId, version: &str) -> Result<Option<ShadowView>, ControlError> {
        let challenger = models::challenger(&mut *self.ledger.read().await?, tenant).await?;
        let side = |brier| ShadowSideView { brier, alarms: 2, hits: 1 };
        let (champion, challenging) = (side(0.03), side(0.02));
        let view = ShadowView {
            rows: 7,
            failures: 1,
            champion,
            challenger: challenging,
            difference: -0.01,
            interval: (-0.02, 0.0),
        };
        Ok(challenger.filter(|row| row.version == version).map(|_| view))
    }
    async fn examples(&self, _: &TenantId, _: TimeRange, version: &str) -> Result<Vec<Example>, ControlError> {
        let point = |hours: i64, value: f64| PointView { ts: at(NOW - hours * 3_600_000), value };
        Ok(vec![Example {
            outcome: Outcome::Foreseen,
            device: "acme-d1".parse().unwrap(),
            component: "fan".parse().unwrap(),
            at: at(NOW),
            threshold: Some(0.25),
            prediction_id: None,
            because: Some(version.to_owned()),
            signal: Some("rpm".to_owned()),
            probabilities: vec![point(2, 0.1), point(1, 0.7)],
            values: vec![point(1, 7990.5)],
        }])
    }
    async fn maintenance_recorded(
        &self,
        _: &mut Connection,
        _: &TenantId,
        records: &[Maintenance],
    ) -> Result<(), ControlError> {
        if records.iter().any(|record| record.component.as_str() == "refused") {
            return Err(ControlError::Conflict("refused".to_owned()));
        }
        Ok(())
    }
}

/// Stands where the binary mounts the intake: takes everything.
fn intake(state: &ApiState) -> Router {
    let guard = Authorize::new(state.clone(), Scope::Ingest);
    let taken = || async { axum::Json(json!({ "accepted": 0, "quarantined": [] })) };
    Router::new()
        .route("/api/v1/telemetry", axum::routing::post(taken))
        .route("/write", axum::routing::post(taken))
        .route("/api/v2/write", axum::routing::post(taken))
        .route_layer(from_fn_with_state(guard, authorize))
}

fn plan(plan_id: &str, as_of: Timestamp) -> PlanRow {
    let cell = |part: &str, depot: &str| json!({ "part": part, "depot": depot, "mean": 0.5 });
    let cells = [cell("fan-part", "hub"), cell("fan-part", "acme-north")];
    let body = json!({ "cells": cells });
    PlanRow { plan_id: plan_id.to_owned(), as_of, degraded: false, body, created_wall: at(NOW) }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The answer's JSON, which must have come with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The code of a problem, which must have come as one.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        let problem = self.expect(status);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(problem["status"], status);
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("/problems/{code}"));
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
        code.to_owned()
    }
}

pub(crate) struct World {
    pub(crate) app: Router,
    pub(crate) ledger: Ledger,
    pub(crate) store: SharedStore,
    pub(crate) erasure: Erasure,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) gate: Arc<tokio::sync::Semaphore>,
    keys: BTreeMap<(&'static str, Scope), String>,
    /// Ids of what acme has, by the name of the path's parameter; orders as `transfer` and `purchase`.
    pub(crate) ids: BTreeMap<&'static str, String>,
}

impl World {
    /// A world in which both tenants have nothing but keys.
    pub(crate) async fn bare() -> Self {
        Self::bare_on(Arc::new(MemoryStore::new())).await
    }

    /// The same on a store of your choice.
    pub(crate) async fn bare_on(store: SharedStore) -> Self {
        let ledger = Ledger::in_memory().await.unwrap();
        let clock = Arc::new(ManualClock::new(at(1_700_000_000_000)));
        let readiness = Arc::new(Readiness::default());
        let gate = Arc::new(tokio::sync::Semaphore::new(1_000));
        let mut registry = Registry::default();
        let metrics = harbinger_alerts::Metrics::register(&mut registry);
        let wall: Arc<dyn Clock> = clock.clone();
        let alerts = Alerts::new(HysteresisOptions::default(), wall.clone(), metrics);
        let erasure =
            Erasure { ledger: ledger.clone(), telemetry: store.clone(), alerts: alerts.clone(), clock: wall.clone() };
        let state = ApiState::new(Parts {
            ledger: ledger.clone(),
            telemetry: store.clone(),
            clock: wall,
            control: Arc::new(TestControl { ledger: ledger.clone(), erasure: erasure.clone(), gate: gate.clone() }),
            alerts,
            webhook_guard: Guard::default(),
            serials_from: Some(500.0),
            readiness: readiness.clone(),
            registry,
        });
        let mut keys = BTreeMap::new();
        let mut tx = ledger.write().await.unwrap();
        for name in ["acme", "globex"] {
            for scope in Scope::ALL {
                let new = NewKey { name: scope.as_str(), scopes: &[scope], expires_wall: None };
                let (plain, key) = keys::create(&mut tx, &tenant(name), &new, clock.now()).await.unwrap();
                // As if used just now: no note of the first use is then written beside what a test does.
                keys::note_use(&mut tx, &key.key_id, clock.now()).await.unwrap();
                keys.insert((name, scope), plain.reveal().to_owned());
            }
        }
        tx.commit().await.unwrap();
        let app = app_with(state.clone(), intake(&state), Some(intake_description()));
        Self { app, ledger, erasure, store, clock, readiness, gate, keys, ids: BTreeMap::new() }
    }

    /// The world with a bit of everything for acme.
    pub(crate) async fn new() -> Self {
        let mut world = Self::bare().await;
        world.post("/api/v1/fleet", acme_fleet()).await.expect(200);
        let records = json!({ "items": [
            { "ts": "2015-01-01T13:00:00Z", "device": "acme-d2", "component": "fan", "action": "replaced", "reason": "failure" }
        ] });
        world.post("/api/v1/maintenance", records).await.expect(200);
        world.store_telemetry().await;
        world.keep_predictions().await;
        world.raise_an_alert().await;
        world.propose_orders().await;
        world.plan_a_replacement().await;
        let quarantined = world.get("/api/v1/quarantine").await.expect(200);
        world.ids.insert("id", quarantined["items"][0]["id"].to_string());
        let keys = world.get("/api/v1/keys").await.expect(200);
        world.ids.insert("key_id", keys["items"][0]["key_id"].as_str().unwrap().to_owned());
        world.ids.insert("code", "not-found".to_owned());
        world.ids.insert("use_id", "use_none".to_owned());
        world.ids.insert("device", "acme-d1".to_owned());
        world.ids.insert("name", "device".to_owned());
        world
    }

    async fn store_telemetry(&self) {
        let key = DeviceKey::new(tenant("acme"), "acme-d1".parse().unwrap());
        let reading = |hour: i64| Reading {
            key: key.clone(),
            ts: at(NOW - hour * 3_600_000),
            arrival: false,
            values: vec![("rpm".parse().unwrap(), 8000.0 - hour as f64), ("inlet".parse().unwrap(), 24.5)],
        };
        let event = DeviceEvent {
            key: key.clone(),
            ts: at(NOW - 60_000),
            code: "E42".into(),
            severity: Severity::Warning,
            message: Some("slow".to_owned()),
        };
        let quarantined = Quarantined {
            tenant: Some(tenant("acme")),
            received_at: at(NOW),
            topic: "harbinger/v1/acme/acme-d1/telemetry".to_owned(),
            payload: b"{".to_vec(),
            reason: "no JSON".to_owned(),
            readings: 1,
        };
        let readings = (0..24).rev().map(reading).collect();
        let batch = Batch { readings, events: vec![event], quarantined: vec![quarantined] };
        self.store.append(batch).await.unwrap();
    }

    async fn keep_predictions(&mut self) {
        let model = Model {
            version: "acme-v1".to_owned(),
            state: models::State::Candidate,
            trained_until: at(NOW),
            trained_wall: at(NOW),
            horizons: vec![Duration::from_hours(24), Duration::from_days(7)],
            summary: json!({ "threshold": 0.25, "shadow": {
                "rows": 3, "failures": 1, "difference": 0.01, "interval": [0.0, 0.02],
                "champion": { "brier": 0.01, "alarms": 1, "hits": 1 },
                "challenger": { "brier": 0.02, "alarms": 0, "hits": 0 },
            } }),
        };
        let rows = acme_predictions();
        let decision = Decision {
            prediction_id: rows[0].id(),
            model_version: "acme-v1".to_owned(),
            body: json!({
                "features": { "rpm.mean": 7990.5 },
                "again": [rows[0].probabilities, rows[0].score],
                "similar_cases": [{
                    "device": "acme-d2", "ts": at(0), "similarity": 0.75, "probability": 0.5,
                    "ended": { "replaced_after_hours": 8.0 },
                }],
                "counterfactual": {
                    "changes": [{ "name": "rpm", "feature": "newest rpm", "value": 7990.5, "usual": [9000.0, 9100.0] }],
                    "probability": 0.03125,
                    "suffices": true,
                },
                "threshold": 0.25,
            }),
        };
        let mut tx = self.ledger.write().await.unwrap();
        models::insert_candidate(&mut tx, &tenant("acme"), &model).await.unwrap();
        predictions::insert_many(&mut tx, &tenant("acme"), &rows).await.unwrap();
        predictions::insert_decisions(&mut tx, &tenant("acme"), &[decision]).await.unwrap();
        plans::insert(&mut tx, &tenant("acme"), &plan("pln_acme", at(NOW))).await.unwrap();
        tx.commit().await.unwrap();
        self.ids.insert("prediction_id", rows[0].id());
        self.ids.insert("version", "acme-v1".to_owned());
    }

    async fn raise_an_alert(&mut self) {
        let hook = json!({ "url": "https://example.com/acme" });
        let hook = self.post("/api/v1/webhooks", hook).await.expect(201);
        self.ids.insert("webhook_id", hook["webhook_id"].as_str().unwrap().to_owned());
        let observation = Observation {
            device: "acme-d1".parse().unwrap(),
            component: "fan".parse().unwrap(),
            failure_mode: "predicted".into(),
            ts: at(NOW),
            probability: Probability::new(0.8).unwrap(),
            alarm: true,
            threshold: Probability::new(0.25).unwrap(),
            severity: Severity::Warning,
            summary: "acme-d1 fan is likely to fail".to_owned(),
            reasons: vec![json!({ "signal": "rpm" })],
            prediction_id: self.ids.get("prediction_id").cloned(),
        };
        let metrics = harbinger_alerts::Metrics::register(&mut Registry::default());
        // No minimum count or hold stands between a single observation and its alert.
        let alerts = Alerts::new(HysteresisOptions::default(), self.clock.clone(), metrics);
        let mut tx = self.ledger.write().await.unwrap();
        alerts.apply(&mut tx, &tenant("acme"), &[observation]).await.unwrap();
        tx.commit().await.unwrap();
        let alerts = self.get("/api/v1/alerts").await.expect(200);
        self.ids.insert("alert_id", alerts["items"][0]["alert_id"].as_str().unwrap().to_owned());
        let path = format!("/api/v1/webhooks/{}/deliveries", self.ids["webhook_id"]);
        let deliveries = self.get(&path).await.expect(200);
        self.ids.insert("delivery_id", deliveries["items"][0]["delivery_id"].as_str().unwrap().to_owned());
    }

    async fn propose_orders(&mut self) {
        let reason = Reason {
            device: "acme-d1".parse().unwrap(),
            component: "fan".parse().unwrap(),
            probability: Probability::new(0.8).unwrap(),
            prediction_id: self.ids.get("prediction_id").cloned(),
            work_order_id: None,
        };
        let order = |from: Option<&str>, to: &str| NewOrder {
            part: "fan-part".parse().unwrap(),
            from: from.map(|from| from.parse().unwrap()),
            to: to.parse().unwrap(),
            quantity: 2,
            worth: 100.0,
            cost: 10.0,
            reasons: vec![reason.clone()],
        };
        let wanted = [order(Some("hub"), "acme-north"), order(None, "hub")];
        let mut tx = self.ledger.write().await.unwrap();
        let made = orders::propose(&mut tx, &tenant("acme"), "pln_acme", at(NOW), &wanted).await.unwrap();
        tx.commit().await.unwrap();
        self.ids.insert("transfer", made.added[0].order_id.clone());
        self.ids.insert("purchase", made.added[1].order_id.clone());
        self.return_pieces().await;
    }

    /// One failed piece waits at the depot, another is in repair.
    async fn return_pieces(&mut self) {
        let (acme, part, depot) = (tenant("acme"), "fan-part".parse().unwrap(), "acme-north".parse().unwrap());
        let mut tx = self.ledger.write().await.unwrap();
        let mut opened = Vec::new();
        for use_id in ["use_a", "use_b"] {
            let failed = Failed { use_id, ts: at(NOW), part: &part, depot: &depot, quantity: 1 };
            let order = returns::open(&mut tx, &acme, &failed, Duration::from_days(7)).await.unwrap();
            opened.push(order.unwrap().order_id);
        }
        returns::ship(&mut tx, &acme, &opened[1], &["acme-s1".to_owned()], at(NOW)).await.unwrap();
        let (_, repair) = returns::receive_return(&mut tx, &acme, &opened[1], None, &[], at(NOW)).await.unwrap();
        tx.commit().await.unwrap();
        self.ids.insert("return", opened.swap_remove(0));
        self.ids.insert("repair", repair.unwrap().order_id);
    }

    /// A replacement that took a piece.
    pub(crate) async fn use_a_piece(&mut self) {
        let wanted = PartUse {
            ts: at(NOW),
            device: "acme-d1".parse().unwrap(),
            component: "fan".parse().unwrap(),
            part: "fan-part".parse().unwrap(),
            depot: "acme-north".parse().unwrap(),
            quantity: 1,
            predicted: false,
        };
        let mut tx = self.ledger.write().await.unwrap();
        let (_, used) = orders::use_part(&mut tx, &tenant("acme"), &wanted).await.unwrap();
        tx.commit().await.unwrap();
        self.ids.insert("use_id", used.use_id);
    }

    async fn plan_a_replacement(&mut self) {
        let mut tx = self.ledger.write().await.unwrap();
        let (device, component) = ("acme-d1".parse().unwrap(), "fan".parse().unwrap());
        let new = NewWorkOrder { device, component, due_at: at(NOW + 86_400_000), note: None };
        let opened = work_orders::open(&mut tx, &tenant("acme"), &new, "acme", at(NOW)).await.unwrap();
        tx.commit().await.unwrap();
        self.ids.insert("work_order_id", opened.work_order_id);
    }

    pub(crate) fn key(&self, tenant: &'static str, scope: Scope) -> &str {
        &self.keys[&(tenant, scope)]
    }

    /// Fills the parameters of a documented path with acme's ids.
    pub(crate) fn filled(&self, path: &str) -> String {
        let kinds = [("/purchases/", "purchase"), ("/returns/", "return"), ("/repairs/", "repair")];
        let order = kinds.iter().find(|(part, _)| path.contains(part)).map_or("transfer", |(_, kind)| kind);
        let mut filled = path.replace("{order_id}", self.ids.get(order).map_or("x", String::as_str));
        for (name, id) in &self.ids {
            filled = filled.replace(&format!("{{{name}}}"), id);
        }
        assert!(!filled.contains('{'), "{filled}: nothing to fill in");
        filled
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, Some(self.key("acme", Scope::Admin)), None)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(request(Method::POST, path, Some(self.key("acme", Scope::Admin)), Some(body))).await
    }

    /// All items of a list, page by page.
    pub(crate) async fn walk(&self, path: &str, limit: usize) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let joiner = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{joiner}limit={limit}{cursor}")).await.expect(200);
            let rows = page["items"].as_array().unwrap().clone();
            assert!(rows.len() <= limit);
            items.extend(rows);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

/// A text as the value of a parameter in a URL or a form.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

pub(crate) fn request(method: Method, path: &str, key: Option<&str>, body: Option<Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    match body {
        Some(body) => {
            let request = request.header(header::CONTENT_TYPE, "application/json");
            request.body(Body::from(body.to_string())).unwrap()
        }
        None => request.body(Body::empty()).unwrap(),
    }
}

pub(crate) fn acme_fleet() -> Value {
    json!({
        "models": [{ "model": "acme-m", "kind": "server" }],
        "signals": [{ "model": "acme-m", "signal": "rpm", "unit": "1/min", "low_limit": 7999.5 }],
        "components": [{ "model": "acme-m", "component": "fan", "part": "fan-part" }],
        "parts": [{
            "part": "fan-part", "unit_cost": 12.5, "supplier_lead_days": 30, "repairable": true, "repair_days": 10
        }],
        "depots": [{ "depot": "hub", "echelon": "hub" }, { "depot": "acme-north", "echelon": "forward" }],
        "lanes": [{ "from": "hub", "to": "acme-north", "days": 1.5 }],
        "contracts": [{ "contract": "gold", "respond_hours": 2, "resolve_hours": 24 }],
        "devices": [
            { "device": "acme-d1", "model": "acme-m", "depot": "acme-north", "contract": "gold" },
            { "device": "acme-d2", "model": "acme-m", "depot": "acme-north", "installed_at": "2014-01-01T00:00:00Z" }
        ],
        "stock": [{ "part": "fan-part", "depot": "hub", "on_hand": 4 }]
    })
}

pub(crate) fn acme_predictions() -> Vec<Prediction> {
    let row = |hours: i64, device: &str, p: f64| Prediction {
        ts: at(NOW - hours * 3_600_000),
        device: device.parse().unwrap(),
        component: "fan".parse().unwrap(),
        probabilities: vec![p, (p + 0.2) / 1.3],
        score: p / 3.0,
        alarm: p > 0.5,
        rul_mean: 1_234.567_890_123_456_7 * p,
        rul_p05: 0.1 + 0.2,
        rul_p50: 700.0,
        rul_p95: 1e22,
        top_signals: vec![("rpm".to_owned(), 0.25)],
        model_version: "acme-v1".to_owned(),
    };
    (1..=5).rev().flat_map(|hours| [row(hours, "acme-d1", 1.0 / hours as f64), row(hours, "acme-d2", 0.01)]).collect()
}
