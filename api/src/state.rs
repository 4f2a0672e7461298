//! What the routes work with, handed in by the binary.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use harbinger_alerts::{Alerts, webhook::Guard};
use harbinger_core::{Clock, DeviceKey, TenantId, TimeRange, Timestamp, fleet::Maintenance};
use harbinger_store::{
    Ledger,
    ledger::{
        self, Connection,
        predictions::{Decision, PredictionKey},
    },
    telemetry::{self, SharedStore},
};
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};

use crate::{
    erasure::Gone,
    metrics::Metrics,
    standing::{Example, ShadowView, Standing},
};

/// Requests that may be in the works at once; more are told to come back.
pub const REQUESTS_AT_ONCE: usize = 256;
/// Live streams that may be open at once.
pub const STREAMS_AT_ONCE: usize = 256;
/// Queries of the Prometheus routes that are evaluated at once; more wait. Each may hold a large answer.
pub const QUERIES_AT_ONCE: usize = 4;

/// What the running process could not do.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The process runs without the part that could do it, or that part is stopping.
    #[error("{0}")]
    Unavailable(String),
    /// The state of things stands in the way, in words for the caller.
    #[error("{0}")]
    Conflict(String),
    /// What was sent does not fit, in words for the caller.
    #[error("{0}")]
    Refused(String),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The telemetry store failed.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// Something else failed.
    #[error("failed to {attempt}")]
    Failed {
        /// What was attempted.
        attempt: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A prediction that was reckoned again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recomputed {
    /// One a horizon of the model, in its order.
    pub probabilities: Vec<f64>,
    /// The rank behind the main horizon.
    pub score: f64,
    /// Why, under the names that the record of the decision has for it.
    pub reasons: serde_json::Map<String, serde_json::Value>,
}

/// What only the running process can do: it owns the clocks of event time and the background work.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Event time of a tenant: where its watermark stands. What is acknowledged, shipped or received now happens then.
    fn event_time(&self, tenant: &TenantId) -> Timestamp;

    /// Makes a plan as of an event time (`None`: now) and keeps it; its id.
    async fn run_plan(&self, tenant: &TenantId, as_of: Option<Timestamp>) -> Result<String, ControlError>;

    /// Decodes a quarantined message again and, where that works, stores its readings and removes it from quarantine.
    /// How many readings were stored; [`ControlError::Conflict`] with the reason where it still cannot be taken.
    async fn replay_quarantined(&self, tenant: &TenantId, id: i64) -> Result<u64, ControlError>;

    /// Trains now; the new model's version.
    async fn retrain(&self, tenant: &TenantId) -> Result<String, ControlError>;

    /// Puts a classifier that was trained elsewhere into the champion, to score in shadow first; the new model's version.
    /// [`ControlError::Refused`] where file or card do not fit.
    ///
    /// * `file`: ONNX.    * `card`: what it was learnt from and promises.
    async fn import_onnx(
        &self,
        tenant: &TenantId,
        file: Vec<u8>,
        card: serde_json::Value,
    ) -> Result<String, ControlError>;

    /// Reckons again what was decided, from the features that were kept and the model that decided; `None` where either is no
    /// longer there or cannot be read.
    async fn recompute(
        &self,
        tenant: &TenantId,
        key: &PredictionKey,
        decision: &Decision,
    ) -> Result<Option<Recomputed>, ControlError>;

    /// Judges the predictions of a span of event time by what came of them. [`ControlError::Conflict`] where the span has too
    /// many.
    async fn scoreboard(&self, tenant: &TenantId, range: TimeRange) -> Result<Vec<Standing>, ControlError>;

    /// What a challenger said so far beside the champion, and what came of it; `None` where the version is not in shadow.
    async fn shadow(&self, tenant: &TenantId, version: &str) -> Result<Option<ShadowView>, ControlError>;

    /// A few failures that a version of the model foresaw or missed in a span of event time, and false alarms of it, as
    /// [`scoreboard`](Self::scoreboard) judges them.
    async fn examples(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        model_version: &str,
    ) -> Result<Vec<Example>, ControlError>;

    /// Deletes everything of a device, between two cycles of analytics: see [`Erasure`](crate::Erasure).
    async fn delete_device(&self, key: &DeviceKey, actor: &str) -> Result<Gone, ControlError>;

    /// Maintenance was recorded on `connection`, whose transaction is committed only if this succeeds: the place to count
    /// pieces as used and to resolve alerts.
    async fn maintenance_recorded(
        &self,
        connection: &mut Connection,
        tenant: &TenantId,
        records: &[Maintenance],
    ) -> Result<(), ControlError>;

    /// The outbox of webhooks may have grown: wakes the delivery, which would otherwise look by itself a little later.
    fn outbox_grew(&self) {}
}

/// Which parts of the process are ready, and why those that are not are not.
#[derive(Debug, Default)]
pub struct Readiness(RwLock<BTreeMap<&'static str, Result<(), String>>>);

impl Readiness {
    /// Notes that a part is ready, or why it is not.
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(part, state);
    }

    /// All parts that have been noted.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<&'static str, Result<(), String>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the binary hands in.
pub struct Parts {
    /// The ledger.
    pub ledger: Ledger,
    /// The telemetry store.
    pub telemetry: SharedStore,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// What only the process can do.
    pub control: Arc<dyn Control>,
    /// The life cycle of alerts, which also tells the change feed and the webhooks.
    pub alerts: Alerts,
    /// Which addresses a webhook may have.
    pub webhook_guard: Guard,
    /// Unit cost from which the pieces of a part are named by serial when they leave a shelf; none need be where it is `None`.
    pub serials_from: Option<f64>,
    /// Which parts are ready.
    pub readiness: Arc<Readiness>,
    /// The metrics of the rest of the process; the interface adds its own.
    pub registry: Registry,
}

/// Everything that the routes share.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) ledger: Ledger,
    pub(crate) telemetry: SharedStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) alerts: Alerts,
    pub(crate) webhook_guard: Guard,
    pub(crate) serials_from: Option<f64>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Metrics,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) news: watch::Sender<u64>,
}

impl ApiState {
    /// Joins what the routes need.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { ledger, telemetry, clock, control, alerts, webhook_guard, serials_from, readiness, mut registry } =
            parts;
        let metrics = Metrics::register(&mut registry);
        Self {
            ledger,
            telemetry,
            clock,
            control,
            alerts,
            webhook_guard,
            serials_from,
            readiness,
            registry: Arc::new(registry),
            metrics,
            requests: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)),
            streams: Arc::new(Semaphore::new(STREAMS_AT_ONCE)),
            queries: Arc::new(Semaphore::new(QUERIES_AT_ONCE)),
            news: watch::Sender::new(0),
        }
    }

    /// After a commit that told the change feed and the outbox something.
    pub(crate) fn changed(&self) {
        self.wake_streams();
        self.control.outbox_grew();
    }

    /// Tells the live streams that the feed of changes has grown. They also look twice a second by themselves.
    pub fn wake_streams(&self) {
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }

    /// Ends the live streams, which would never end by themselves, and opens no new ones: the server is stopping.
    pub fn end_streams(&self) {
        self.streams.close();
        self.wake_streams();
    }

    /// What wakes the live streams, for whoever writes changes and does not hold the state.
    #[must_use]
    pub fn waker(&self) -> watch::Sender<u64> {
        self.news.clone()
    }
}
