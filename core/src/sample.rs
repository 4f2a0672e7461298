//! What devices report: readings (values at one instant) and events (codes at one instant).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{DeviceKey, SignalId},
    time::Timestamp,
};

/// All values that one device reported at one instant. The unit in which intake counts.
///
/// A sample - one value - is identified by device, signal and event time: a repeat is the same sample, and the same
/// identity with another value corrects it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which device.
    pub key: DeviceKey,
    /// Event time: when the device measured. Arrival time where `arrival` says so.
    pub ts: Timestamp,
    /// The payload carried no time and the time of arrival stands in for it: at-least-once only.
    pub arrival: bool,
    /// Signal and value, finite; at most one value a signal.
    pub values: Vec<(SignalId, f64)>,
}

/// How much an event or an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    #[default]
    Info,
    /// Something is getting worse.
    Warning,
    /// Something failed or is about to.
    Critical,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no severity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a severity: info, warning or critical")]
pub struct InvalidSeverity(pub String);

impl FromStr for Severity {
    type Err = InvalidSeverity;
    fn from_str(text: &str) -> Result<Self, InvalidSeverity> {
        match text {
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "critical" => Ok(Self::Critical),
            _ => Err(InvalidSeverity(text.to_owned())),
        }
    }
}

/// A code that a device reported at one instant: an error, a door opened, a self test done.
/// Identified by device, event time and code.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceEvent {
    /// Which device.
    pub key: DeviceKey,
    /// Event time.
    pub ts: Timestamp,
    /// The device's own code.
    pub code: Arc<str>,
    /// How much it matters.
    pub severity: Severity,
    /// Words for a person, where there are any.
    pub message: Option<String>,
}
