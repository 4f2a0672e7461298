//! How models did in production, as the process hands it in and the interface shows it.

use harbinger_core::{ComponentId, DeviceId, HardwareModelId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a version of the statistical model predicted for devices of one hardware model, or for all, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Standing {
    /// Version of the statistical model.
    pub model_version: String,
    /// Whose devices; null for all together.
    #[schema(value_type = Option<String>)]
    pub hardware_model: Option<HardwareModelId>,
    /// First prediction that counts.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Until when the truth is known.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// The main horizon in hours: an alarm says that the component fails within it.
    pub horizon_hours: f64,
    /// Predictions whose horizon has passed.
    pub predictions: usize,
    /// Device time that was watched, in months of 730.5 hours.
    pub device_months: f64,
    /// Failures from a horizon after `from` on: replacements for a failure, and alerts closed as confirmed.
    pub failures: usize,
    /// How many of them were flagged at least so far ahead.
    pub flagged: Vec<FlaggedView>,
    /// Runs of alarming predictions without a failure within the horizon after any of them.
    pub false_alarms: usize,
    /// The same for a thousand device-months.
    pub false_alarms_per_1000_device_months: f64,
    /// Share of alarming predictions that a failure followed.
    pub precision: f64,
    /// Share of the predictions before a failure that alarmed.
    pub recall: f64,
    /// What a crew finds that makes so many visits a day, always to the likeliest.
    pub at_capacity: Vec<AtCapacityView>,
    /// Mean squared error of the probabilities.
    pub brier: f64,
    /// That of predicting each component's base rate.
    pub brier_base: f64,
    /// Mean probability of all predictions over the share that a failure followed: above 1 the model warns too much, below 1 too
    /// little; null where no failure followed.
    pub predicted_over_actual: Option<f64>,
    /// Reliability, in bins a tenth wide; those without predictions are left out.
    pub reliability: Vec<BinView>,
    /// Precision and recall from the highest threshold to the lowest.
    pub precision_recall: Vec<OperatingView>,
    /// How long before failures their first alarm was, from none to the horizon.
    pub lead_times: Vec<LeadTimeView>,
    /// What alarms were about, the most important first.
    pub top_signals: Vec<SignalShareView>,
}

/// Failures that were flagged in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct FlaggedView {
    /// Hours before the failure.
    pub hours_ahead: i64,
    /// Failures flagged at least that early, and at most a horizon early.
    pub failures: usize,
}

/// What so many visits a day find.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct AtCapacityView {
    /// Most visits a day.
    pub visits_per_day: usize,
    /// Visits made.
    pub visits: usize,
    /// Share of them to a component that failed within the horizon.
    pub precision: f64,
    /// Failures that had a visit within the horizon before them.
    pub failures: usize,
}

/// Predictions of about one probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct BinView {
    /// Lowest probability.
    pub from: f64,
    /// Predictions.
    pub predictions: f64,
    /// Their mean probability.
    pub mean_p: f64,
    /// Share of them that a failure followed.
    pub frequency: f64,
}

/// What a threshold would give.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct OperatingView {
    /// The threshold.
    pub probability: f64,
    /// Share of failing predictions at or above it.
    pub precision: f64,
    /// Share of the failing predictions that are at or above it.
    pub recall: f64,
}

/// Failures whose first alarm came about so long before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct LeadTimeView {
    /// From so many hours before the failure.
    pub from_hours: f64,
    /// To so many.
    pub to_hours: f64,
    /// Failures.
    pub failures: usize,
}

/// A signal or event code and its share in what raised the scores of alarms.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SignalShareView {
    /// Signal or event code.
    pub name: String,
    /// In 0..=1; the shares of all signals add up to 1.
    pub share: f64,
}

/// Champion and challenger on the same slots and times, as far as the truth is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShadowView {
    /// Predictions of each of the two whose horizon has passed.
    pub rows: usize,
    /// Failures within a horizon after some of them.
    pub failures: usize,
    /// The model in use.
    pub champion: ShadowSideView,
    /// The one in shadow.
    pub challenger: ShadowSideView,
    /// Brier score of the challenger less that of the champion: below 0 where the challenger is the better.
    pub difference: f64,
    /// Where the difference lies with 90 % confidence.
    #[schema(value_type = Vec<f64>, min_items = 2, max_items = 2)]
    pub interval: (f64, f64),
}

/// How one of the two did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShadowSideView {
    /// Mean squared error of the probabilities.
    pub brier: f64,
    /// Predictions that alarmed; those of the challenger reached nobody.
    pub alarms: usize,
    /// Those of them that a failure followed.
    pub hits: usize,
}

/// What an example shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A failure with an alarm at most a horizon before it.
    Foreseen,
    /// A failure without one.
    Missed,
    /// An alarm without a failure.
    FalseAlarm,
}

/// A device around a failure or a false alarm, from three horizons before it to half a horizon after.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Example {
    /// What it shows.
    pub outcome: Outcome,
    /// Which device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// Which component.
    #[schema(value_type = String)]
    pub component: ComponentId,
    /// When it failed, or when the false alarm began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The probability above which it alarms; null where there is none.
    pub threshold: Option<f64>,
    /// The prediction with the highest probability around that time.
    pub prediction_id: Option<String>,
    /// What raised that one most, in words, where it is known.
    pub because: Option<String>,
    /// The signal or event code shown beside the probability.
    pub signal: Option<String>,
    /// Main-horizon probability; at most 301 points.
    pub probabilities: Vec<PointView>,
    /// Values of the signal, or 1 at each event; at most 301 points.
    pub values: Vec<PointView>,
}

/// A point of a curve over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct PointView {
    /// Event time.
    #[schema(value_type = String, format = DateTime)]
    pub ts: Timestamp,
    /// What it was then.
    pub value: f64,
}
