//! What an alert is: its states, outcome, row and the steps of its history.

use harbinger_core::{ComponentId, DeviceId, Probability, Severity, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger::words::words;

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Raised, and nobody has looked yet.
    Open,
    /// Somebody has seen it.
    Acknowledged,
    /// Somebody works on it.
    InProgress,
    /// The cause is gone; what it was has not been said.
    Resolved,
    /// Ended with an outcome.
    Closed,
}

impl AlertState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Open, Self::Acknowledged, Self::InProgress, Self::Resolved, Self::Closed];

    /// Whether the alert still stands: the one that its device, component and failure mode may have.
    #[must_use]
    pub fn is_standing(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged | Self::InProgress)
    }
}

/// What was found when an alert was closed: the label that models learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The component failed or was failing.
    Confirmed,
    /// Nothing was wrong.
    NoFaultFound,
    /// Another component was.
    OtherComponent,
}

words!(
    AlertState,
    "an alert state",
    Open = "open",
    Acknowledged = "acknowledged",
    InProgress = "in_progress",
    Resolved = "resolved",
    Closed = "closed"
);
words!(
    Outcome,
    "an outcome",
    Confirmed = "confirmed",
    NoFaultFound = "no_fault_found",
    OtherComponent = "other_component"
);

/// An alert: what stands, or stood, against one component of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// `alr_...`; later alerts sort later.
    pub alert_id: String,
    /// The device.
    pub device: DeviceId,
    /// The component that is about to fail.
    pub component: ComponentId,
    /// `predicted`, or the id of the rule that raised it.
    pub failure_mode: String,
    /// Where it is in its life.
    pub state: AlertState,
    /// How much it matters: never falls while the alert stands.
    pub severity: Severity,
    /// One line for a person.
    pub summary: String,
    /// Why: one JSON object a contribution, strongest first.
    pub reasons: Vec<Value>,
    /// Probability of failure at `updated_at`.
    pub probability: Probability,
    /// Greatest probability since it was raised.
    pub peak_probability: Probability,
    /// The prediction behind `reasons`, whose decision record explains it.
    pub prediction_id: Option<String>,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// The last observation that it took in.
    pub updated_at: Timestamp,
    /// Since when every observation has been below the clearing level.
    pub below_since: Option<Timestamp>,
    /// When somebody first acknowledged it.
    pub acknowledged_at: Option<Timestamp>,
    /// Who did.
    pub acknowledged_by: Option<String>,
    /// When its cause went away.
    pub resolved_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// By whom.
    pub closed_by: Option<String>,
    /// Once closed, what was found. While only resolved, what the maintenance record suggests.
    pub outcome: Option<Outcome>,
    /// The component that it was, where the outcome is another component.
    pub outcome_component: Option<ComponentId>,
    /// What the person who closed it wrote.
    pub comment: Option<String>,
}

impl Alert {
    /// When the alert ceased to stand; `None` while it stands.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        if self.state.is_standing() { None } else { self.resolved_at.or(self.closed_at) }
    }
}

/// A step in the life of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryStep {
    /// 1 for the raise, then counted up.
    pub step: u32,
    /// Event time.
    pub at: Timestamp,
    /// Wall-clock time.
    pub at_wall: Timestamp,
    /// The state from then on.
    pub state: AlertState,
    /// Who did it: a person or key, or `harbinger`.
    pub actor: String,
    /// What they wrote.
    pub comment: Option<String>,
}

/// A step to add to the history of an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewStep<'a> {
    /// Event time.
    pub at: Timestamp,
    /// Wall-clock time.
    pub at_wall: Timestamp,
    /// The state from then on.
    pub state: AlertState,
    /// A person or key, or `harbinger`.
    pub actor: &'a str,
    /// What they wrote.
    pub comment: Option<&'a str>,
}

/// An alert that no longer stands: what a new one for the same device, component and failure mode must keep distance from.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The device.
    pub device: DeviceId,
    /// The component.
    pub component: ComponentId,
    /// The failure mode.
    pub failure_mode: String,
    /// When it ended, or was closed after that.
    pub at: Timestamp,
    /// Who ended or closed it: the actor of the last step of its history.
    pub by: String,
}
