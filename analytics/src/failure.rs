//! Failure models: from features to P(component fails within a horizon), calibrated, coherent, explained.
//!
//! `train` learns one [`Model`] of a tenant's fleet; `Model::score` applies it. Devices of one kind (servers, drives, ...)
//! are a family that shares a feature space and an alarm threshold. Within it each component has its own predictor:
//! a ranker a horizon, forest, boosted trees or a classifier from elsewhere, where there are failures enough, else a Weibull
//! lifetime, else a prior rate.

mod alarm_rule;
pub mod calibration;
mod cases;
mod counterfactual;
mod drift;
mod explanation;
pub mod forest;
mod held_out;
mod lead;
mod life;
mod model;
pub mod onnx;
mod rows;
mod score;
mod table;
#[cfg(test)]
mod tests;
mod train;

use std::collections::BTreeMap;

use harbinger_core::{
    DeviceId, Duration, HardwareModelId, Timestamp,
    fleet::{Device, Fleet},
    history::{DeviceHistory, Readings},
};

pub use alarm_rule::{AlarmRule, NoAlarmRule};
pub use cases::{Case, Ending, SimilarCase};
pub use counterfactual::{Change, Counterfactual};
pub use drift::{Drift, Outcome, Reference, SHIFTED};
pub(crate) use drift::{Outcomes, drift};
pub use explanation::{Explanation, TopSignal};
pub use life::LifeModel;
pub use model::{ComponentModel, Error, FORMAT, Family, HorizonModel, Model, Quality, Ranker};
pub use score::{Prediction, Recomputed, curve, recompute, score};
pub(crate) use score::{explain, score_with_basis};
pub use table::{LearningRow, LearningTable, learning_tables};
pub(crate) use train::class_rate;
pub use train::{TrainOptions, default_every, default_horizons, train};

/// From when to when a device is observed, both inside: it gives rows, labels and scores only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// First instant.
    pub from: Timestamp,
    /// Last instant.
    pub until: Timestamp,
}

impl Observed {
    /// What the registry says, or else the first to the last reading; `None` where neither tells.
    #[must_use]
    pub fn of(device: &Device, readings: Option<(Timestamp, Timestamp)>) -> Option<Self> {
        let from = device.observed_from.or(readings.map(|(first, _)| first))?;
        let until = device.observed_until.or(readings.map(|(_, last)| last))?;
        Some(Self { from, until })
    }
}

/// First and last time of readings.
#[must_use]
pub fn extent(readings: &Readings) -> Option<(Timestamp, Timestamp)> {
    readings.times.first().copied().zip(readings.times.last().copied())
}

/// A device, what is known of it and when it is observed.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The device.
    pub device: &'a Device,
    /// What is known of it.
    pub history: &'a DeviceHistory,
    /// When it is observed.
    pub observed: Option<Observed>,
}

/// The registered devices that have a history, in order of id, each observed as its whole history says.
#[must_use]
pub fn subjects<'a>(fleet: &'a Fleet, histories: &'a BTreeMap<DeviceId, DeviceHistory>) -> Vec<Subject<'a>> {
    let mut subjects: Vec<Subject<'a>> = fleet
        .devices
        .iter()
        .filter_map(|device| {
            let history = histories.get(&device.device)?;
            Some(Subject { device, history, observed: Observed::of(device, extent(&history.readings)) })
        })
        .collect();
    subjects.sort_by(|a, b| a.device.device.cmp(&b.device.device));
    subjects
}

/// The kind of each hardware model.
pub(crate) fn kinds(fleet: &Fleet) -> BTreeMap<&HardwareModelId, &str> {
    fleet.models.iter().map(|model| (&model.model, model.kind.as_str())).collect()
}

/// The family of a device: devices of an unregistered model are a family of their own.
pub(crate) fn kind_of<'a>(kinds: &BTreeMap<&HardwareModelId, &'a str>, device: &Device) -> &'a str {
    kinds.get(&device.model).copied().unwrap_or("unknown")
}

/// Multiples of `every` since 1970 inside `[from, until]`.
fn grid(from: Timestamp, until: Timestamp, every: Duration) -> impl Iterator<Item = Timestamp> {
    let first = from.ceil_to(every);
    std::iter::successors(Some(first), move |&t| Some(t + every)).take_while(move |&t| t <= until)
}
