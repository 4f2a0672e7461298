//! What the interface counts: requests by route, how long they take, how many are refused.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

/// The interface's metrics; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
    shed: Counter,
    streams: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // From a lookup by key to a page of 10,000 rows: 1 ms doubled up to about 8 s.
        let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.001, 2.0, 14);
        let metrics = Self {
            requests: Family::default(),
            seconds: Histogram::new(buckets),
            in_flight: Gauge::default(),
            shed: Counter::default(),
            streams: Gauge::default(),
        };
        registry.register(
            "harbinger_api_requests",
            "Requests answered, by method, route and status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "harbinger_api_request_duration",
            "Time from a request's head to its answer's head",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register("harbinger_api_requests_in_flight", "Requests in the works", metrics.in_flight.clone());
        registry.register(
            "harbinger_api_requests_shed",
            "Requests refused because too many were in the works",
            metrics.shed.clone(),
        );
        registry.register("harbinger_api_streams_open", "Live streams open", metrics.streams.clone());
        metrics
    }

    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method: method.to_owned(), route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn refused(&self) {
        self.shed.inc();
    }

    /// Counts a request as in the works until the guard is dropped.
    pub(crate) fn request_guard(&self) -> GaugeGuard {
        GaugeGuard::new(self.in_flight.clone())
    }

    /// Counts a stream as open until the guard is dropped.
    pub(crate) fn stream_guard(&self) -> GaugeGuard {
        GaugeGuard::new(self.streams.clone())
    }
}

/// Holds a gauge one higher while it lives.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
