//! Counters of intake, and the equation that they keep.
//!
//! Counted in readings, at any instant when no message is being handed over:
//!
//! ```text
//! received = stored + duplicate + corrected + quarantined + refused + in flight
//! ```
//!
//! A device event counts as one reading. What cannot be decoded counts as one reading for each part that was put into
//! quarantine by itself: the whole message, or the bad elements of an array. A reading whose every value is `null` adds
//! nothing and counts as a duplicate. A message that is sent again after it was refused is received again, and so is one
//! that is replayed out of quarantine.

use std::{fmt::Write, sync::Arc};

use harbinger_store::Appended;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Stored,
    Duplicate,
    Corrected,
    Quarantined,
    Refused,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Corrected => "corrected",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

/// Why a connection ended that its client did not end itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// Bytes that are no MQTT 3.1.1, or a packet out of turn.
    Protocol,
    /// A packet above the limit.
    TooLarge,
    /// Not let in.
    Refused,
    /// Silence beyond keep alive or the connect timeout.
    Timeout,
    /// Intake was full for too long, or the client did not take its acknowledgements.
    Stalled,
    /// The store did not take what the client sent.
    Store,
    /// The same client id connected again.
    TakenOver,
    /// More connections than allowed.
    TooMany,
}

impl CloseCause {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::Store => "store",
            Self::TakenOver => "taken_over",
            Self::TooMany => "too_many",
        }
    }
}

impl EncodeLabelValue for CloseCause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: CloseCause,
}

/// The counters; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    messages: Counter,
    received: Counter,
    outcomes: Family<OutcomeLabel, Counter>,
    // Handles of `outcomes`, so that the hot path takes no lock.
    stored: Counter,
    duplicate: Counter,
    corrected: Counter,
    quarantined: Counter,
    refused: Counter,
    in_flight: Gauge,
    closed: Family<CauseLabel, Counter>,
    connections: Gauge,
    connections_opened: Counter,
    acknowledged: Counter,
    undelivered: Counter,
    devices_registered: Counter,
    texts_left_out: Counter,
}

/// The counters at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Messages handed over by all doors.
    pub messages: u64,
    /// Readings received.
    pub received: u64,
    /// Readings with something new.
    pub stored: u64,
    /// Readings that were there.
    pub duplicate: u64,
    /// Readings that changed a value.
    pub corrected: u64,
    /// Readings put into quarantine.
    pub quarantined: u64,
    /// Readings neither stored nor acknowledged: the sender has them still.
    pub refused: u64,
    /// Readings received and not settled yet.
    pub in_flight: u64,
    /// MQTT messages acknowledged with PUBACK.
    pub acknowledged: u64,
    /// MQTT connections open.
    pub connections: u64,
}

impl Snapshot {
    /// Whether every reading is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.received
            == self.stored + self.duplicate + self.corrected + self.quarantined + self.refused + self.in_flight
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let outcomes = Family::<OutcomeLabel, Counter>::default();
        let of = |outcome| outcomes.get_or_create(&OutcomeLabel { outcome }).clone();
        Self {
            stored: of(Outcome::Stored),
            duplicate: of(Outcome::Duplicate),
            corrected: of(Outcome::Corrected),
            quarantined: of(Outcome::Quarantined),
            refused: of(Outcome::Refused),
            outcomes,
            messages: Counter::default(),
            received: Counter::default(),
            in_flight: Gauge::default(),
            closed: Family::default(),
            connections: Gauge::default(),
            connections_opened: Counter::default(),
            acknowledged: Counter::default(),
            undelivered: Counter::default(),
            devices_registered: Counter::default(),
            texts_left_out: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds the counters to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("harbinger_ingest");
        r.register("messages", "Messages handed over by all doors", self.messages.clone());
        r.register("readings_received", "Readings received, events included", self.received.clone());
        r.register("readings", "Readings by what became of them, events included", self.outcomes.clone());
        r.register("readings_in_flight", "Readings received and not settled yet", self.in_flight.clone());
        r.register("mqtt_connections", "MQTT connections open", self.connections.clone());
        r.register("mqtt_connections_opened", "MQTT connections accepted", self.connections_opened.clone());
        r.register("mqtt_connections_closed", "MQTT connections closed by us, by cause", self.closed.clone());
        r.register("mqtt_acknowledged", "MQTT messages acknowledged by PUBACK", self.acknowledged.clone());
        r.register("mqtt_undelivered", "Messages of ours that a subscriber was too slow for", self.undelivered.clone());
        r.register("devices_registered", "Devices registered because they reported", self.devices_registered.clone());
        let help = "Fields of line protocol left out since they are texts";
        r.register("text_fields_left_out", help, self.texts_left_out.clone());
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let gauge = |g: &Gauge| u64::try_from(g.get()).unwrap_or(0);
        Snapshot {
            messages: self.messages.get(),
            received: self.received.get(),
            stored: self.stored.get(),
            duplicate: self.duplicate.get(),
            corrected: self.corrected.get(),
            quarantined: self.quarantined.get(),
            refused: self.refused.get(),
            in_flight: gauge(&self.in_flight),
            acknowledged: self.acknowledged.get(),
            connections: gauge(&self.connections),
        }
    }

    /// How many connections were closed for `cause`.
    #[must_use]
    pub fn closed(&self, cause: CloseCause) -> u64 {
        self.closed.get_or_create(&CauseLabel { cause }).get()
    }

    pub(crate) fn handed_over(&self, messages: usize) {
        self.messages.inc_by(messages as u64);
    }

    pub(crate) fn connection_closed(&self, cause: CloseCause) {
        self.closed.get_or_create(&CauseLabel { cause }).inc();
    }

    pub(crate) fn acknowledged(&self, messages: usize) {
        self.acknowledged.inc_by(messages as u64);
    }

    pub(crate) fn undelivered(&self) {
        self.undelivered.inc();
    }

    pub(crate) fn texts_left_out(&self, fields: u64) {
        self.texts_left_out.inc_by(fields);
    }

    pub(crate) fn registered(&self, devices: usize) {
        self.devices_registered.inc_by(devices as u64);
    }

    /// Counts one connection until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> ConnectionGuard {
        self.connections.inc();
        self.connections_opened.inc();
        ConnectionGuard(Arc::clone(self))
    }
}

/// One open connection.
pub(crate) struct ConnectionGuard(Arc<Metrics>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// Readings received and not settled yet. Dropped without being settled they count as refused: the append was given up,
/// nothing was acknowledged, and the sender still has them.
#[derive(Debug)]
pub(crate) struct InFlight {
    metrics: Arc<Metrics>,
    readings: u64,
}

impl InFlight {
    /// Counts `readings` as received.
    pub(crate) fn new(metrics: &Arc<Metrics>, readings: u64) -> Self {
        metrics.in_flight.inc_by(i64::try_from(readings).unwrap_or(i64::MAX));
        metrics.received.inc_by(readings);
        Self { metrics: Arc::clone(metrics), readings }
    }

    /// Settles what was appended; `quarantined` in readings, `empty` readings that had nothing to store.
    pub(crate) fn settle(mut self, appended: &Appended, quarantined: u64, empty: u64) {
        let m = &self.metrics;
        m.stored.inc_by(appended.stored + appended.events_stored);
        m.duplicate.inc_by(appended.duplicate + appended.events_duplicate + empty);
        m.corrected.inc_by(appended.corrected);
        m.quarantined.inc_by(quarantined);
        let settled = appended.stored
            + appended.events_stored
            + appended.duplicate
            + appended.events_duplicate
            + appended.corrected
            + quarantined
            + empty;
        debug_assert_eq!(settled, self.readings, "the store must account for every reading");
        m.in_flight.dec_by(i64::try_from(self.readings).unwrap_or(i64::MAX));
        self.readings = 0;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.readings > 0 {
            self.metrics.refused.inc_by(self.readings);
            self.metrics.in_flight.dec_by(i64::try_from(self.readings).unwrap_or(i64::MAX));
        }
    }
}
