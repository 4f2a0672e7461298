//! `harbinger train BUNDLE --out DIR`: learn a model from a fleet bundle.

use std::path::PathBuf;

use harbinger_analytics::failure::{AlarmRule, Model, TrainOptions, subjects, train};
use harbinger_bundle::Bundle;
use harbinger_core::{Duration, Timestamp};

use super::{chosen_devices, read_bundle};
use crate::progress::Step;

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Use nothing after this time [default: the bundle's last]
    #[arg(long, value_name = "TS")]
    until: Option<Timestamp>,
    /// Learn from these devices only: one id a line
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// Horizons, the main one first, such as 24h,7d [default: by how often the fleet reports]
    #[arg(long, value_delimiter = ',')]
    horizons: Vec<Duration>,
    /// Where remaining useful life stops counting
    #[arg(long, value_name = "LENGTH")]
    rul_cap: Option<Duration>,
    /// From which probability on to alarm: balanced, cost=VISIT:FAILURE, false_alarms=N for each 1,000 device-months, or visits=N
    /// a day to the whole fleet
    #[arg(long, value_name = "RULE", default_value = "balanced")]
    alarms: AlarmRule,
    /// Alarm early enough for the part to reach the depot, as the service does
    #[arg(long)]
    in_time: bool,
    /// Time between two rows of a device [default: by how often the fleet reports]
    #[arg(long)]
    every: Option<Duration>,
    /// Folder to write the model into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Reads, learns, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bundle = read_bundle(&arguments.bundle)?;
    let mut options = TrainOptions::new(until(&bundle, arguments.until)?);
    options.horizons.clone_from(&arguments.horizons);
    options.every = arguments.every;
    options.alarm_rule = arguments.alarms;
    options.in_time = arguments.in_time;
    options.devices = chosen_devices(&bundle, arguments.devices.as_deref())?;
    if let Some(cap) = arguments.rul_cap {
        options.rul_cap = cap;
    }
    let step = Step::begin("training");
    let model = train(&bundle.fleet, &subjects(&bundle.fleet, &bundle.histories), &options);
    model.save(&arguments.out)?;
    step.done(&format!("model {} of {} failures until {}", model.version, model.failures(), model.trained_until));
    describe(&model);
    Ok(())
}

/// The time asked for, or the bundle's last.
pub(crate) fn until(bundle: &Bundle, asked: Option<Timestamp>) -> anyhow::Result<Timestamp> {
    let last = bundle.histories.values().filter_map(|h| h.readings.times.last().copied()).max();
    asked
        .or(last)
        .or_else(|| bundle.last_time())
        .ok_or_else(|| anyhow::anyhow!("the bundle has no readings, events or maintenance to learn from"))
}

fn describe(model: &Model) {
    for family in &model.families {
        let quality = &family.quality;
        println!(
            "{}: {} features, threshold {}, held-out Brier {:.5} (base rate {:.5}), precision {:.3}, recall {:.3}",
            family.kind,
            family.space.width(),
            family.threshold.map_or_else(|| "none".to_owned(), |t| format!("{t:.3}")),
            quality.brier,
            quality.brier_base,
            quality.precision,
            quality.recall,
        );
        for (component, predictor) in &family.components {
            println!("  {component}: {}", predictor.name());
        }
    }
}
