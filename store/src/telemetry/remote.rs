//! A telemetry server that people run already - InfluxDB, VictoriaMetrics - as the place where readings rest for good.
//!
//! [`Remote`] is what [`SpooledStore`](super::SpooledStore) needs of one; `influx` and `victoria` provide it over HTTP.
//! Both take line protocol: a measurement `harbinger`, tags for tenant and device, a field a signal (`line_protocol`).
//! What a server cannot hold exactly, or refuses, is not lost: the local store keeps it (docs/reference/stores.md).

use async_trait::async_trait;
use harbinger_core::{DeviceKey, SignalId, TenantId, TimeRange, Timestamp, history::Readings};

use super::Latest;

mod http;
mod influx;
pub mod line_protocol;
mod settings;
mod victoria;
mod write;

pub use influx::InfluxDb;
pub use settings::{Settings, WriteApi};
pub use victoria::VictoriaMetrics;

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No answer: the connection, or the time it may take.
    #[error("{server} cannot be reached: is it running, and is the URL right?")]
    Unreachable {
        /// Kind and URL.
        server: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is no success.
    #[error("{server} answered {status}: {message}")]
    Status {
        /// Kind and URL.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The server's own words.
        message: String,
    },
    /// A query that the server could read and would not answer.
    #[error("{server} refused a query: {message}")]
    Query {
        /// Kind and URL.
        server: String,
        /// The server's own words.
        message: String,
    },
    /// A success whose content cannot be read.
    #[error("{server} answered what cannot be read: {reason}")]
    Unreadable {
        /// Kind and URL.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings with which no server can be reached.
    #[error("{0}")]
    Settings(String),
}

impl Failure {
    /// Whether the server will refuse the same points for ever; any other failure may pass.
    #[must_use]
    pub fn is_refusal_of_points(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 422, .. })
    }
}

/// Some of a device's readings: everything the server has from the asked range's start up to, not including, `read_to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Rising in time.
    pub readings: Readings,
    /// Where the next page begins; the range's end where there is none.
    pub read_to: Timestamp,
}

/// What is asked of a telemetry server. Nothing here retries: who calls decides when to try again.
#[async_trait]
pub trait Remote: std::fmt::Debug + Send + Sync + 'static {
    /// Kind, URL and database, as messages name it.
    fn server(&self) -> &str;

    /// Whether the server can be given this sample at all: others stay in the local store.
    fn takes(&self, ts: Timestamp, value: f64) -> bool;

    /// Whether a sample that is written again replaces the one before.
    fn overwrites(&self) -> bool;

    /// Which run of the server answers: another name means that it may have lost what it had said to have.
    async fn instance(&self) -> Result<String, Failure>;

    /// Writes readings; samples that the server does not [take](Remote::takes) are left out. May be repeated.
    async fn write(&self, devices: &[(DeviceKey, Readings)]) -> Result<(), Failure>;

    /// Makes everything that was written readable.
    async fn settle(&self) -> Result<(), Failure>;

    /// The earliest readings of a device in `range`, about `readings_max` of them.
    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        readings_max: usize,
    ) -> Result<Page, Failure>;

    /// The newest sample of each signal of a device in `range`.
    async fn latest(&self, key: &DeviceKey, range: TimeRange) -> Result<Vec<Latest>, Failure>;

    /// Deletes every sample of a device.
    async fn delete(&self, key: &DeviceKey) -> Result<(), Failure>;

    /// Deletes a tenant's samples from before a time, where the server can; its own retention does where it cannot.
    async fn forget(&self, tenant: &TenantId, before: Timestamp) -> Result<(), Failure>;

    /// Asks for what the running store will need; what was found, in words for who set it up.
    async fn check(&self) -> Result<String, Failure>;
}
