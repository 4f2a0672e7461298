//! How far the telemetry store is with sending to its server, as metrics.

use std::sync::atomic::AtomicU64;

use harbinger_core::Clock;
use harbinger_store::telemetry::{SharedStore, Spool};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio_util::sync::CancellationToken;

/// How often they are read.
const EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// What an operator watches of a spool; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct SpoolMetrics {
    waiting: Gauge,
    sent: Gauge,
    failing_seconds: Gauge<f64, AtomicU64>,
}

impl SpoolMetrics {
    /// Adds them to `registry`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let waiting = "Samples that the telemetry server was not sent yet";
        registry.register("harbinger_spool_samples_waiting", waiting, metrics.waiting.clone());
        let sent = "Samples sent to the telemetry server since the start";
        registry.register("harbinger_spool_samples_sent", sent, metrics.sent.clone());
        let failing = "For how long the telemetry server has taken nothing; 0 while it does";
        registry.register("harbinger_spool_failing_seconds", failing, metrics.failing_seconds.clone());
        metrics
    }

    fn set(&self, spool: &Spool, now: harbinger_core::Timestamp) {
        self.waiting.set(i64::try_from(spool.samples_waiting).unwrap_or(i64::MAX));
        self.sent.set(i64::try_from(spool.samples_sent).unwrap_or(i64::MAX));
        let failing = spool.failing.as_ref().map_or(0, |(since, _)| now.millis() - since.millis());
        self.failing_seconds.set(failing as f64 / 1000.0);
    }

    /// Follows the store until `stop`.
    pub(super) async fn follow(
        self,
        telemetry: SharedStore,
        clock: std::sync::Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        loop {
            // The store tells of its own failures.
            if let Ok(Some(spool)) = telemetry.spool().await {
                self.set(&spool, clock.now());
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}
