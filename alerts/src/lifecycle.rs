//! The life of an alert, as pure functions: what an observation, a person or a maintenance record makes of it.
//!
//! ```text
//!              alarm                acknowledge           start
//!   (nothing) ───────▶ open ─────────────────▶ acknowledged ─────▶ in progress
//!                       │  start ─────────────────────────────────▶    │
//!                       └───────────┬──────────────┴───────────────────┘
//!                                   │ below the clearing level for the hold, serviced, or resolve
//!                                   ▼
//!                                resolved ──── close(outcome) ────▶ closed
//! ```
//!
//! Every state but `closed` can be closed. **Hysteresis**: an alert is raised when the model alarms and clears only when
//! every observation of [`HysteresisOptions::min_hold`] lay below [`HysteresisOptions::clear_ratio`] times the threshold,
//! so a probability that flaps around its threshold raises once. All times are event time.

use harbinger_core::{
    ComponentId, DeviceId, Duration, Probability, Severity, Timestamp,
    fleet::{MaintenanceAction, MaintenanceReason},
};
use harbinger_store::ledger::alerts::{Alert, AlertState, Outcome};
use serde_json::Value;

/// When alerts clear and how soon they come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HysteresisOptions {
    /// The clearing level as a share of the model's threshold, 0..=1. Half of it keeps noise of a calibrated probability
    /// near its threshold from closing and raising in turn.
    pub clear_ratio: f64,
    /// How long every observation must stay below the clearing level before the alert resolves.
    pub min_hold: Duration,
    /// How long after an alert resolved by itself no new one is raised for the same key.
    pub quiet_time: Duration,
    /// The same after a person or a maintenance record ended it. Features look back over a window, so the probability of
    /// a component that was just replaced stays high for as long as the window still sees the old piece.
    pub quiet_time_after_service: Duration,
}

impl Default for HysteresisOptions {
    fn default() -> Self {
        Self {
            clear_ratio: 0.5,
            min_hold: Duration::from_hours(6),
            quiet_time: Duration::ZERO,
            quiet_time_after_service: Duration::from_hours(24),
        }
    }
}

/// What a model, or a rule, says of one component at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The device.
    pub device: DeviceId,
    /// The component.
    pub component: ComponentId,
    /// `predicted`, or the id of a rule.
    pub failure_mode: std::sync::Arc<str>,
    /// Event time.
    pub ts: Timestamp,
    /// Probability of failure within the horizon that the threshold belongs to.
    pub probability: Probability,
    /// Whether the model alarms.
    pub alarm: bool,
    /// The probability from which the model alarms.
    pub threshold: Probability,
    /// How much it matters.
    pub severity: Severity,
    /// One line for a person; may be empty where there is no alarm.
    pub summary: String,
    /// Why: a JSON object a contribution, strongest first; may be empty where there is no alarm.
    pub reasons: Vec<Value>,
    /// The prediction that says so.
    pub prediction_id: Option<String>,
}

/// How the last alert of the same device, component and failure mode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// By a person or a maintenance record rather than by itself.
    pub by_service: bool,
}

/// What an observation makes of the standing alert.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// A new alert: [`raised`] makes it.
    Raise,
    /// The alert stands and has taken in the observation.
    Update {
        /// The alert from now on.
        alert: Box<Alert>,
        /// Whether the severity rose, which receivers are told of.
        escalated: bool,
    },
    /// The alert has cleared.
    Resolve(Box<Alert>),
    /// Nothing to write.
    Nothing,
}

/// Why a person's wish was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The alert's state does not allow it.
    #[error("the alert is {state}, so it cannot be {attempt}")]
    WrongState {
        /// The state it is in.
        state: AlertState,
        /// What was attempted, as a participle.
        attempt: &'static str,
    },
    /// The outcome is another component, and which one was not said.
    #[error("outcome other_component needs the component that it was")]
    ComponentMissing,
    /// A component was named, and the outcome is not another component.
    #[error("a component goes only with outcome other_component, not with {outcome}")]
    ComponentUnexpected {
        /// The outcome given.
        outcome: Outcome,
    },
}

/// What an observation makes of the standing alert, or of there being none. An observation that is not later than what
/// the alert has taken in, or than its predecessor's end, changes nothing: a repeated or late one is harmless.
#[must_use]
pub fn observe(
    standing: Option<&Alert>,
    last_ending: Option<Ending>,
    observation: &Observation,
    options: &HysteresisOptions,
) -> Transition {
    match standing {
        Some(alert) => observe_standing(alert, observation, options),
        None if observation.alarm && last_ending.is_none_or(|ending| is_over(ending, observation.ts, options)) => {
            Transition::Raise
        }
        None => Transition::Nothing,
    }
}

/// Whether the quiet time after `ending` is over at `ts`.
fn is_over(ending: Ending, ts: Timestamp, options: &HysteresisOptions) -> bool {
    let quiet = if ending.by_service { options.quiet_time_after_service } else { options.quiet_time };
    ts > ending.at && ts >= ending.at + quiet
}

fn observe_standing(alert: &Alert, observation: &Observation, options: &HysteresisOptions) -> Transition {
    if observation.ts <= alert.updated_at {
        return Transition::Nothing;
    }
    let mut next = alert.clone();
    next.updated_at = observation.ts;
    next.probability = observation.probability;
    if observation.alarm {
        take_in_alarm(&mut next, observation);
    }
    let clear_below = options.clear_ratio * observation.threshold.get();
    let below = !observation.alarm && observation.probability.get() < clear_below;
    next.below_since = below.then(|| alert.below_since.unwrap_or(observation.ts));
    if next.below_since.is_some_and(|since| since + options.min_hold <= observation.ts) {
        end(&mut next, observation.ts);
        return Transition::Resolve(Box::new(next));
    }
    let escalated = next.severity > alert.severity;
    Transition::Update { alert: Box::new(next), escalated }
}

/// The worst so far explains the alert: its summary, reasons and prediction belong together.
fn take_in_alarm(alert: &mut Alert, observation: &Observation) {
    alert.severity = alert.severity.max(observation.severity);
    if observation.probability > alert.peak_probability {
        alert.peak_probability = observation.probability;
        alert.summary.clone_from(&observation.summary);
        alert.reasons.clone_from(&observation.reasons);
        alert.prediction_id.clone_from(&observation.prediction_id);
    }
}

/// The alert that [`Transition::Raise`] calls for.
#[must_use]
pub fn raised(alert_id: String, observation: &Observation) -> Alert {
    Alert {
        alert_id,
        device: observation.device.clone(),
        component: observation.component.clone(),
        failure_mode: observation.failure_mode.as_ref().to_owned(),
        state: AlertState::Open,
        severity: observation.severity,
        summary: observation.summary.clone(),
        reasons: observation.reasons.clone(),
        probability: observation.probability,
        peak_probability: observation.probability,
        prediction_id: observation.prediction_id.clone(),
        raised_at: observation.ts,
        updated_at: observation.ts,
        below_since: None,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        closed_at: None,
        closed_by: None,
        outcome: None,
        outcome_component: None,
        comment: None,
    }
}

/// What a maintenance record for the alert's component makes of a standing alert: a replacement, planned or not, and any
/// work because of a failure resolve it; a failure suggests the outcome *confirmed*. `None`: nothing changes - the work
/// was done before the alert was raised, or was an inspection or a planned repair.
#[must_use]
pub fn serviced(alert: &Alert, at: Timestamp, action: MaintenanceAction, reason: MaintenanceReason) -> Option<Alert> {
    let failed = reason == MaintenanceReason::Failure;
    let ends_it = failed || action == MaintenanceAction::Replaced;
    if !ends_it || !alert.state.is_standing() || at < alert.raised_at {
        return None;
    }
    let mut next = alert.clone();
    end(&mut next, at);
    next.outcome = failed.then_some(Outcome::Confirmed);
    Some(next)
}

/// Somebody has seen it.
///
/// # Errors
/// [`Refused::WrongState`] unless the alert is open.
pub fn acknowledge(alert: &Alert, at: Timestamp, by: &str) -> Result<Alert, Refused> {
    if alert.state != AlertState::Open {
        return Err(wrong_state(alert, "acknowledged"));
    }
    let mut next = alert.clone();
    next.state = AlertState::Acknowledged;
    next.acknowledged_at = Some(at.max(alert.raised_at));
    next.acknowledged_by = Some(by.to_owned());
    Ok(next)
}

/// Somebody works on it; who had not acknowledged it does so by this.
///
/// # Errors
/// [`Refused::WrongState`] unless the alert is open or acknowledged.
pub fn start(alert: &Alert, at: Timestamp, by: &str) -> Result<Alert, Refused> {
    let mut next = match alert.state {
        AlertState::Open => acknowledge(alert, at, by)?,
        AlertState::Acknowledged => alert.clone(),
        AlertState::InProgress | AlertState::Resolved | AlertState::Closed => {
            return Err(wrong_state(alert, "started"));
        }
    };
    next.state = AlertState::InProgress;
    Ok(next)
}

/// A person says that the cause is gone.
///
/// # Errors
/// [`Refused::WrongState`] unless the alert stands.
pub fn resolve(alert: &Alert, at: Timestamp) -> Result<Alert, Refused> {
    if !alert.state.is_standing() {
        return Err(wrong_state(alert, "resolved"));
    }
    let mut next = alert.clone();
    end(&mut next, at);
    Ok(next)
}

/// What a person says on closing an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Closing {
    /// What was found.
    pub outcome: Outcome,
    /// The component that it was; with [`Outcome::OtherComponent`] and only then.
    pub component: Option<ComponentId>,
    /// Words for the record.
    pub comment: Option<String>,
}

/// A person says what it was: the label that models learn from.
///
/// # Errors
/// [`Refused::WrongState`] where it is closed already; [`Refused::ComponentMissing`] or
/// [`Refused::ComponentUnexpected`] where outcome and component do not fit.
pub fn close(alert: &Alert, at: Timestamp, by: &str, closing: &Closing) -> Result<Alert, Refused> {
    if alert.state == AlertState::Closed {
        return Err(wrong_state(alert, "closed"));
    }
    match (closing.outcome, &closing.component) {
        (Outcome::OtherComponent, None) => return Err(Refused::ComponentMissing),
        (Outcome::Confirmed | Outcome::NoFaultFound, Some(_)) => {
            return Err(Refused::ComponentUnexpected { outcome: closing.outcome });
        }
        (Outcome::OtherComponent, Some(_)) | (Outcome::Confirmed | Outcome::NoFaultFound, None) => {}
    }
    let mut next = alert.clone();
    next.state = AlertState::Closed;
    next.closed_at = Some(at.max(alert.resolved_at.unwrap_or(alert.raised_at)));
    next.closed_by = Some(by.to_owned());
    next.outcome = Some(closing.outcome);
    next.outcome_component.clone_from(&closing.component);
    next.comment.clone_from(&closing.comment);
    Ok(next)
}

fn end(alert: &mut Alert, at: Timestamp) {
    alert.state = AlertState::Resolved;
    alert.resolved_at = Some(at.max(alert.raised_at));
}

fn wrong_state(alert: &Alert, attempt: &'static str) -> Refused {
    Refused::WrongState { state: alert.state, attempt }
}

#[cfg(test)]
mod tests;
