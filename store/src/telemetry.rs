//! The telemetry store: what devices reported, kept by device and event time.
//!
//! [`TelemetryStore`] is the seam: behind it stand the embedded engine, the in-memory one, and the embedded one as the spool
//! before InfluxDB or VictoriaMetrics. One generic suite (`telemetry/suite.rs`) runs on every one of them.

use std::sync::Arc;

use async_trait::async_trait;
use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, Duration, Reading, SignalId, Summary, TenantId, TimeRange, Timestamp,
    history::{Closed, Readings, Timeline},
};
use serde::{Deserialize, Serialize};

mod catalog;
mod columns;
mod embedded;
mod memory;
pub mod query;
mod remote;
mod rows;
#[cfg(test)]
mod servers;
mod spooled;
#[cfg(test)]
mod suite;

pub use catalog::ARRIVAL_SIGNAL;
pub use embedded::{Copied, EmbeddedStore, Finding, Options, Progress, backup, check};
pub use memory::MemoryStore;
pub use remote::{Failure, InfluxDb, Remote, Settings, VictoriaMetrics, WriteApi, line_protocol};
pub use spooled::{SpoolOptions, SpooledStore};

/// What a telemetry store could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The medium has no room: nothing of the batch was taken; the same append may succeed when there is room again.
    #[error("no room left on the device that holds {path}: nothing was stored")]
    Full {
        /// The data file.
        path: String,
    },
    /// A sync or commit failed in a way that leaves the writer's state unknown: all later appends are refused until restart.
    #[error("telemetry writer stopped by an earlier failed commit; restart to recover")]
    Poisoned,
    /// The store is shutting down.
    #[error("telemetry store is shutting down")]
    Closed,
    /// A row cannot be decoded: it is named, and never served.
    #[error("damaged telemetry row {row}: {reason}")]
    Damaged {
        /// Table and key.
        row: String,
        /// What is wrong.
        reason: String,
    },
    /// The data file was written by a newer version: nothing of it was read or changed.
    #[error("{path} has format {found}, and this version knows formats up to {known}: it was written by a newer one")]
    UnknownFormat {
        /// The data file.
        path: String,
        /// Its format.
        found: i64,
        /// The newest format that is known.
        known: i64,
    },
    /// The data file is of an older format, or holds nothing yet.
    #[error("{path} is not of the newest format: start the service on it once, which brings it up to date")]
    OldFormat {
        /// The data file.
        path: String,
    },
    /// Readings of this file lie on a remote server, and none is configured.
    #[error(
        "readings of {devices} devices in {path} lie on a telemetry server: name it in the settings ([telemetry] remote)"
    )]
    ServerMissing {
        /// The data file.
        path: String,
        /// How many devices.
        devices: u64,
    },
    /// The remote server did not do what was asked; what it has could not be read or deleted. Appends do not need it.
    #[error("failed to {attempt} on the telemetry server")]
    Remote {
        /// What was attempted.
        attempt: &'static str,
        /// What the server did.
        source: Failure,
    },
    /// The engine beneath failed.
    #[error("telemetry store failed to {attempt}")]
    Engine {
        /// What was attempted.
        attempt: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Remote { .. })
    }
}

/// A message that could not be taken as telemetry, kept with its reason until it is replayed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Whose it is, where the topic or the connection says so.
    pub tenant: Option<TenantId>,
    /// When it arrived, wall clock.
    pub received_at: Timestamp,
    /// MQTT topic name, or the HTTP path.
    pub topic: String,
    /// The payload as it came.
    pub payload: Vec<u8>,
    /// Why it was not taken: the place and the remedy.
    pub reason: String,
    /// How many readings it was counted as: at least 1.
    pub readings: u32,
}

/// What is appended in one durable step: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Readings, in order of arrival: where two share device, signal and event time the later one wins.
    pub readings: Vec<Reading>,
    /// Device events.
    pub events: Vec<DeviceEvent>,
    /// Messages that could not be taken.
    pub quarantined: Vec<Quarantined>,
}

impl Batch {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty() && self.events.is_empty() && self.quarantined.is_empty()
    }

    /// Moves everything of `other` behind what is here.
    pub fn absorb(&mut self, mut other: Self) {
        self.readings.append(&mut other.readings);
        self.events.append(&mut other.events);
        self.quarantined.append(&mut other.quarantined);
    }
}

/// What became of a batch: `readings.len() == stored + duplicate + corrected`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// Readings with at least one sample that was not there, and none that differed.
    pub stored: u64,
    /// Readings all of whose samples were there with the same values.
    pub duplicate: u64,
    /// Readings with a sample that was there with another value: the new value holds.
    pub corrected: u64,
    /// Events that were not there.
    pub events_stored: u64,
    /// Events that were.
    pub events_duplicate: u64,
    /// Messages put into quarantine.
    pub quarantined: u64,
}

impl Appended {
    /// Adds up two outcomes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            duplicate: self.duplicate + other.duplicate,
            corrected: self.corrected + other.corrected,
            events_stored: self.events_stored + other.events_stored,
            events_duplicate: self.events_duplicate + other.events_duplicate,
            quarantined: self.quarantined + other.quarantined,
        }
    }
}

/// From when to when a device has reported (readings or events).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceExtent {
    /// The device.
    pub device: DeviceId,
    /// Event time of its earliest reading or event.
    pub first: Timestamp,
    /// Event time of its latest reading or event.
    pub last: Timestamp,
    /// Event time of its earliest and latest reading, where it has any.
    pub readings: Option<(Timestamp, Timestamp)>,
}

/// The newest sample of a signal by event time.
#[derive(Debug, Clone, PartialEq)]
pub struct Latest {
    /// Which signal.
    pub signal: SignalId,
    /// Event time.
    pub ts: Timestamp,
    /// Value.
    pub value: f64,
}

/// A message in quarantine and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// Its number: rises with arrival, never used twice.
    pub id: i64,
    /// The message.
    pub message: Quarantined,
}

/// How much there is and what it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSize {
    /// Samples (values) held; a sample that was appended twice counts once after compaction.
    pub samples: u64,
    /// Bytes on disk (or in memory).
    pub bytes: u64,
    /// Readings that no compaction has moved into chunks yet.
    pub readings_in_log: u64,
    /// Rows set aside because they cannot be read any more; `harbinger check` names them.
    #[serde(default)]
    pub damaged: u64,
}

/// How far a store is with sending to its remote server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spool {
    /// Samples that the server was not sent yet.
    pub samples_waiting: u64,
    /// Samples that were sent since the start.
    pub samples_sent: u64,
    /// When everything that had arrived was last on the server, wall clock.
    pub caught_up_at: Option<Timestamp>,
    /// Since when the server does not take anything, wall clock; and what it last did instead.
    pub failing: Option<(Timestamp, String)>,
}

/// What retention tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataClass {
    /// Readings as they came.
    Readings,
    /// Summaries of each hour; they may outlive the readings.
    HourlySummaries,
    /// Summaries of each day (UTC); they may outlive both.
    DailySummaries,
    /// Device events.
    Events,
    /// Messages that could not be taken, by their arrival.
    Quarantine,
}

impl DataClass {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Readings, Self::HourlySummaries, Self::DailySummaries, Self::Events, Self::Quarantine];
}

/// What was deleted of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Samples of its readings.
    pub samples: u64,
    /// Its events.
    pub events: u64,
}

/// The features' view of one device at one instant: for each signal a summary of each window that ends then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    /// Sorted by signal; a summary a window in the order asked for. Signals without a sample in any window are left out.
    pub signals: Vec<(SignalId, Vec<Summary>)>,
}

impl Windows {
    /// The windows of readings.
    #[must_use]
    pub fn of(readings: &Readings, at: Timestamp, lengths: &[Duration]) -> Self {
        let summary = |column: &[f64], length: Duration| {
            let after = |ts: Timestamp| ts + Duration::from_millis(1);
            let inside = readings.positions(TimeRange { from: after(at - length), to: after(at) });
            let times = readings.times.get(inside.clone()).unwrap_or_default();
            Summary::of_samples(times, column.get(inside).unwrap_or_default())
        };
        let of_signal = |(signal, column): &(SignalId, Vec<f64>)| {
            let summaries: Vec<Summary> = lengths.iter().map(|&length| summary(column, length)).collect();
            summaries.iter().any(|summary| !summary.is_empty()).then(|| (signal.clone(), summaries))
        };
        Self { signals: readings.columns.iter().filter_map(of_signal).collect() }
    }
}

/// Keeps what devices report.
///
/// A reading marked as timed by its arrival carries one more sample, of the reserved signal [`ARRIVAL_SIGNAL`] with value 1:
/// reads return it like any other. A reading without samples is taken as a duplicate: nothing of it is missing.
///
/// Readings that `append` was given are visible to every read that starts after it returned.
#[async_trait]
pub trait TelemetryStore: Send + Sync + 'static {
    /// Takes a batch. When this returns, the batch is durable: it survives `kill -9` and power loss.
    ///
    /// # Errors
    /// [`Error::Full`] (nothing was taken, try again later), [`Error::Poisoned`], [`Error::Closed`], [`Error::Engine`].
    async fn append(&self, batch: Batch) -> Result<Appended, Error>;

    /// Rises with every durable append; for whoever waits for news.
    fn appended(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The tenants that have readings or events.
    async fn tenants(&self) -> Result<Vec<TenantId>, Error>;

    /// The devices of a tenant that have reported, in order of id.
    async fn extents(&self, tenant: &TenantId) -> Result<Vec<DeviceExtent>, Error>;

    /// Readings of a device in `range`, rising in time; all signals where `signals` is `None`.
    async fn scan(&self, key: &DeviceKey, range: TimeRange, signals: Option<&[SignalId]>) -> Result<Readings, Error>;

    /// Readings of many devices in `range`, one answer a device in the order asked for; uses every core.
    async fn scan_many(&self, keys: Vec<DeviceKey>, range: TimeRange) -> Result<Vec<Readings>, Error>;

    /// The newest sample of each signal of a device, by event time.
    async fn latest(&self, key: &DeviceKey) -> Result<Vec<Latest>, Error>;

    /// The earliest readings of a device in `range`, at most `limit` of them: read on from behind the last one. What a page
    /// takes of memory does not grow with the range.
    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        limit: usize,
    ) -> Result<Readings, Error>;

    /// Summaries of a device's signals (all where `signals` is `None`) in buckets that end at multiples of `step` and in `(range.from, range.to]`.
    ///
    /// What [`Timeline::closed`] makes of the readings: counts, extremes, first and last exactly, moments to rounding. Whole
    /// hours and days may be answered from stored summaries, also where the readings are past their retention.
    async fn summaries(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        step: Duration,
        closed: Closed,
    ) -> Result<Timeline, Error>;

    /// The feature scan: of each device, one summary a signal and window `(at - length, at]`, in the order asked for; uses
    /// every core. Lengths are whole hours where they are to be quick, and so is `at` since 1970: whole hours are read from
    /// stored summaries.
    async fn windows(&self, keys: Vec<DeviceKey>, at: Timestamp, lengths: &[Duration]) -> Result<Vec<Windows>, Error>;

    /// Events of a tenant in `range`, of one device or of all, in order of time, device, code.
    async fn events(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        range: TimeRange,
    ) -> Result<Vec<DeviceEvent>, Error>;

    /// Forgets what a tenant has of a class from before `before`; may keep up to one chunk span more.
    async fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error>;

    /// Deletes everything of a device: readings, summaries, events. When this returns nothing of it comes back, not even
    /// after a crash; what the device sends later is kept again.
    async fn delete_device(&self, key: &DeviceKey) -> Result<Deleted, Error>;

    /// Quarantined messages with a number above `after`, at most `limit`, in order; of one tenant or (None) of all.
    async fn quarantine(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineEntry>, Error>;

    /// Removes a message from quarantine; whether it was there.
    async fn remove_quarantined(&self, id: i64) -> Result<bool, Error>;

    /// Moves everything from the log into chunks now, and returns when that is durable.
    async fn compact(&self) -> Result<(), Error>;

    /// How much there is.
    async fn size(&self) -> Result<StoreSize, Error>;

    /// How far it is with sending to its remote server; `None` where it has none.
    async fn spool(&self) -> Result<Option<Spool>, Error> {
        Ok(None)
    }

    /// Finishes what was begun and refuses all later appends.
    async fn close(&self) -> Result<(), Error>;
}

/// A store that whoever holds it shares.
pub type SharedStore = Arc<dyn TelemetryStore>;
