//! `harbinger score BUNDLE --models DIR --out predictions.csv`: predict failures of a bundle's devices.

use std::{collections::BTreeSet, path::PathBuf};

use clap::ValueEnum;
use harbinger_analytics::failure::{Model, Prediction, Subject, score, subjects};
use harbinger_bundle::results::{PredictionRow, write_predictions};
use harbinger_core::{DeviceId, Duration, Timestamp};

use super::{chosen_devices, read_bundle};
use crate::progress::Step;

/// At which times to score a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum At {
    /// At every step of the grid
    Each,
    /// At the device's own last reading
    Last,
}

/// Arguments of `score`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Folder of the model
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// First row; rows are then at this time and every step after [default: multiples of the step since 1970]
    #[arg(long, value_name = "TS")]
    from: Option<Timestamp>,
    /// Last row
    #[arg(long, value_name = "TS")]
    to: Option<Timestamp>,
    /// Rows at each step, or one at each device's last reading
    #[arg(long, value_enum, default_value = "each")]
    at: At,
    /// Time between two rows of a device [default: the model's]
    #[arg(long)]
    every: Option<Duration>,
    /// Score these devices only: one id a line
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// Which rows a device gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) every: Duration,
}

impl Rows {
    /// The times at which an observed device is scored.
    pub(crate) fn times(&self, subject: &Subject<'_>) -> Vec<Timestamp> {
        let Some(observed) = subject.observed else { return Vec::new() };
        let anchor = self.from.unwrap_or(Timestamp::from_millis(0));
        let step = self.every.millis().max(1);
        let lowest = observed.from.max(self.from.unwrap_or(Timestamp::MIN));
        let last = observed.until.min(self.to.unwrap_or(Timestamp::MAX));
        let behind = lowest.millis() - anchor.millis();
        let first =
            anchor.millis() + behind.div_euclid(step) * step + if behind.rem_euclid(step) > 0 { step } else { 0 };
        std::iter::successors(Some(first), |t| Some(t + step))
            .map(Timestamp::from_millis)
            .take_while(|&t| t <= last)
            .collect()
    }
}

/// Reads, scores, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = Model::open(&arguments.models)?;
    let bundle = read_bundle(&arguments.bundle)?;
    let chosen = chosen_devices(&bundle, arguments.devices.as_deref())?;
    let step = Step::begin("scoring");
    let rows = Rows { from: arguments.from, to: arguments.to, every: arguments.every.unwrap_or(model.every) };
    anyhow::ensure!(rows.every > Duration::ZERO, "--every must be longer than no time");
    let subjects = subjects(&bundle.fleet, &bundle.histories);
    let predictions = score(&model, &bundle.fleet, &subjects, |subject| {
        if !is_chosen(&chosen, &subject.device.device) {
            return Vec::new();
        }
        match arguments.at {
            At::Each => rows.times(subject),
            At::Last => last_time(subject, &rows).into_iter().collect(),
        }
    });
    let written = write_predictions(&arguments.out, &model.horizons, predictions.iter().map(|p| row(p, &model)))?;
    step.done(&format!("wrote {written} rows to {}", arguments.out.display()));
    Ok(())
}

fn is_chosen(chosen: &Option<BTreeSet<DeviceId>>, device: &DeviceId) -> bool {
    chosen.as_ref().is_none_or(|devices| devices.contains(device))
}

/// A device's own last reading inside the range and its observation.
fn last_time(subject: &Subject<'_>, rows: &Rows) -> Option<Timestamp> {
    let observed = subject.observed?;
    let last = observed.until.min(rows.to.unwrap_or(Timestamp::MAX));
    let times = &subject.history.readings.times;
    let upto = times.partition_point(|&ts| ts <= last);
    let at = if times.is_empty() { last } else { times[upto.checked_sub(1)?] };
    (at >= observed.from.max(rows.from.unwrap_or(Timestamp::MIN))).then_some(at)
}

fn row<'a>(prediction: &'a Prediction, model: &'a Model) -> PredictionRow<'a> {
    let rul = &prediction.rul;
    PredictionRow {
        ts: prediction.ts,
        device: &prediction.device,
        component: &prediction.component,
        probabilities: &prediction.probabilities,
        score: prediction.score,
        alarm: prediction.alarm,
        rul_hours: [rul.mean, rul.p05, rul.p50, rul.p95],
        model_version: &model.version,
    }
}
