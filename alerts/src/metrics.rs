//! Counters of alerts and of webhook delivery. Labels have few values: never a device, a tenant or an endpoint.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::event::AlertEvent;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// How a delivery attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// Answered with 2xx.
    Delivered,
    /// Failed, to be tried again.
    Retry,
    /// Failed for the last time.
    Dead,
}

impl AttemptResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Dead => "dead",
        }
    }
}

/// The metrics of this crate. Clones count into the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: Family<EventLabel, Counter>,
    attempts: Family<ResultLabel, Counter>,
    attempt_seconds: Histogram,
    disabled: Counter,
    pub(crate) pending: Gauge,
    pub(crate) dead: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a receiver in the same rack to the timeout of 20 s.
        let buckets = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 20.0];
        Self {
            events: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Histogram::new(buckets),
            disabled: Counter::default(),
            pending: Gauge::default(),
            dead: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics and enters them in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("harbinger_alerts_events", "What happened to alerts, by event type", metrics.events.clone());
        registry.register(
            "harbinger_webhook_attempts",
            "Delivery attempts, by how they ended",
            metrics.attempts.clone(),
        );
        registry.register(
            "harbinger_webhook_attempt_duration_seconds",
            "Time from sending a request to its answer or failure",
            metrics.attempt_seconds.clone(),
        );
        registry.register(
            "harbinger_webhook_disabled",
            "Endpoints switched off because they answered 410 or failed for days",
            metrics.disabled.clone(),
        );
        registry.register("harbinger_webhook_pending", "Deliveries that wait for an attempt", metrics.pending.clone());
        registry.register("harbinger_webhook_dead_letters", "Deliveries given up", metrics.dead.clone());
        metrics
    }

    pub(crate) fn alert_event(&self, event: AlertEvent) {
        self.events.get_or_create(&EventLabel { event: event.as_str() }).inc();
    }

    pub(crate) fn attempt(&self, result: AttemptResult, seconds: f64) {
        self.attempts.get_or_create(&ResultLabel { result: result.as_str() }).inc();
        self.attempt_seconds.observe(seconds);
    }

    pub(crate) fn endpoint_disabled(&self) {
        self.disabled.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_shown_under_the_crates_names() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.alert_event(AlertEvent::Raised);
        metrics.attempt(AttemptResult::Retry, 0.2);
        metrics.endpoint_disabled();
        metrics.pending.set(3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "harbinger_alerts_events_total{event=\"alert.raised\"} 1",
            "harbinger_webhook_attempts_total{result=\"retry\"} 1",
            "harbinger_webhook_attempt_duration_seconds_count 1",
            "harbinger_webhook_disabled_total 1",
            "harbinger_webhook_pending 3",
            "harbinger_webhook_dead_letters 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
