//! Bytes a sample on disk: ours after compaction, VictoriaMetrics' after merging everything and ending in order.
//!
//! Ours is the telemetry file with all that belongs to it; theirs the folders of samples and of the index. Both got the same
//! readings, in order of time, over HTTP, and are asked how many samples they hold.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use harbinger_core::{DeviceKey, Reading, TenantId};
use harbinger_tests::workspace_root;

use crate::{
    Arguments,
    contestant::{Contestant, Dialect, Running},
    figures::Figure,
    fill::fill,
    fleet::{Fleet, SIGNALS, Values},
};

/// Where rounded values are to be, whatever the others need.
const GOAL_ROUNDED: f64 = 1.5;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for values in [Values::Walk, Values::Noise] {
        let fleet = || Ok(Fleet::new("device", arguments.devices, values, 0)?.take(arguments.stored / SIGNALS));
        figures.extend(compare(arguments, &format!("fleet, {values}"), GOAL_ROUNDED, fleet)?);
    }
    for bundle in bundles(arguments)? {
        let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let readings = readings_of(&bundle)?;
        if readings.is_empty() {
            eprintln!("left out: {name} has no telemetry");
            continue;
        }
        figures.extend(compare(arguments, &name, f64::INFINITY, || Ok(readings.iter().cloned()))?);
    }
    Ok(figures)
}

/// Both with the same readings; ours is to be at most `goal`, and at most theirs.
fn compare<R: Iterator<Item = Reading> + Send>(
    arguments: &Arguments,
    name: &str,
    goal: f64,
    readings: impl Fn() -> anyhow::Result<R>,
) -> anyhow::Result<Vec<Figure>> {
    let theirs = bytes_a_sample(arguments, Contestant::VictoriaMetrics, readings()?)?;
    let ours = bytes_a_sample(arguments, Contestant::Harbinger(Dialect::Native), readings()?)?;
    let case = format!("size, {name}");
    let figure = |who: &str, bytes: f64| Figure::new(&case, who, bytes, "B/sample");
    let goal = theirs.map_or(goal, |theirs| theirs.min(goal));
    let ours = ours.map(|ours| figure("harbinger", ours).at_most(goal));
    Ok(ours.into_iter().chain(theirs.map(|theirs| figure("VictoriaMetrics", theirs))).collect())
}

fn bytes_a_sample(
    arguments: &Arguments,
    contestant: Contestant,
    readings: impl Iterator<Item = Reading> + Send,
) -> anyhow::Result<Option<f64>> {
    let Some(running) = Running::start(contestant, arguments)? else { return Ok(None) };
    let sent = fill(&running, readings, arguments.connections)?;
    let (running, kept) = running.settle()?;
    running.stop()?;
    let Some(kept) = kept else { return Ok(None) };
    ensure!(kept.samples == sent, "{contestant} holds {} of {sent} samples", kept.samples);
    Ok(Some(kept.bytes as f64 / sent as f64))
}

/// Folders of bundles, in order of name.
fn bundles(arguments: &Arguments) -> anyhow::Result<Vec<PathBuf>> {
    let folder = arguments.bundles.clone().unwrap_or_else(|| workspace_root().join("../shared/data/bundles"));
    if !folder.is_dir() {
        eprintln!("left out: {} is not there", folder.display());
        return Ok(Vec::new());
    }
    let entries: Result<Vec<_>, _> = fs_err::read_dir(&folder)?.collect();
    let mut bundles: Vec<PathBuf> = entries?.into_iter().map(|entry| entry.path()).collect();
    bundles.retain(|path| path.is_dir());
    bundles.sort();
    Ok(bundles)
}

/// All readings of a bundle in order of time.
fn readings_of(bundle: &Path) -> anyhow::Result<Vec<Reading>> {
    let tenant = TenantId::parse("bench")?;
    let mut all = Vec::new();
    for (device, history) in harbinger_bundle::read(bundle)?.histories {
        let readings = history.readings;
        for (place, &ts) in readings.times.iter().enumerate() {
            let value = |(signal, column): &(_, Vec<f64>)| Some((Clone::clone(signal), *column.get(place)?));
            let values = readings.columns.iter().filter_map(value).filter(|(_, value)| !value.is_nan()).collect();
            all.push(Reading { key: DeviceKey::new(tenant.clone(), device.clone()), ts, arrival: false, values });
        }
    }
    all.retain(|reading| !reading.values.is_empty());
    all.sort_by_key(|reading| reading.ts);
    Ok(all)
}
