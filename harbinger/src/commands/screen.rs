//! `harbinger screen BUNDLE --fit-until TS|FILE --out anomalies.csv`: find readings unlike a device's own usual ones.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use harbinger_analytics::screen::{Screen, Screened, Unscreened};
use harbinger_bundle::{
    Bundle,
    results::{AnomalyRow, read_device_times, write_anomalies},
};
use harbinger_core::{DeviceId, Timestamp};
use rayon::prelude::*;

use super::read_bundle;
use crate::progress::Step;

/// Arguments of `screen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Learn what is usual from the readings before this time, or before the time that a file with the columns device,ts gives
    /// for each device; rows are written from then on
    #[arg(long, value_name = "TS|FILE")]
    fit_until: String,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// What became of a device.
type Outcome = Result<(Screen, Vec<Screened>), Unscreened>;

/// Reads, learns, screens, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bundle = read_bundle(&arguments.bundle)?;
    let fit_until = fit_until(&bundle, &arguments.fit_until)?;
    let step = Step::begin("screening");
    let screened: Vec<(&DeviceId, Outcome)> = fit_until
        .par_iter()
        .map(|(device, until)| (device, Screen::learn_and_apply(&bundle.histories[device].readings, *until)))
        .collect();
    let (mut rows, mut without_alarms) = (Vec::new(), 0);
    for (device, screened) in screened {
        match screened {
            Ok((screen, of_device)) => {
                without_alarms += usize::from(!screen.can_alarm());
                rows.extend(of_device.into_iter().map(|row| (device, row)));
            }
            Err(why) => eprintln!("warning: {device} is left out: {why}"),
        }
    }
    if without_alarms > 0 {
        eprintln!("warning: {without_alarms} devices have less than three days to learn from: scores, but no alarms");
    }
    anyhow::ensure!(!rows.is_empty(), "no device could be screened; is there telemetry before and after --fit-until?");
    let alarms = rows.iter().filter(|(_, row)| row.alarm).count();
    let written = write_anomalies(
        &arguments.out,
        rows.iter().map(|(device, row)| AnomalyRow {
            ts: row.ts,
            device,
            score: row.score,
            alarm: row.alarm,
            top_signals: &row.top_signals,
        }),
    )?;
    step.done(&format!("wrote {written} rows, {alarms} of them in alarm, to {}", arguments.out.display()));
    Ok(())
}

/// When learning ends for each device that has readings.
fn fit_until(bundle: &Bundle, asked: &str) -> anyhow::Result<BTreeMap<DeviceId, Timestamp>> {
    let has_readings = |device: &DeviceId| bundle.histories.get(device).is_some_and(|h| !h.readings.is_empty());
    let reporting = || bundle.histories.keys().filter(|device| has_readings(device));
    if let Ok(until) = asked.parse::<Timestamp>() {
        return Ok(reporting().map(|device| (device.clone(), until)).collect());
    }
    let file = Path::new(asked);
    anyhow::ensure!(file.exists(), "--fit-until {asked} is neither a time such as 2026-01-31T00:00:00Z nor a file");
    let times = read_device_times(file).with_context(|| format!("failed to read {asked}"))?;
    if let Some(unknown) = times.keys().find(|device| !bundle.histories.contains_key(*device)) {
        anyhow::bail!("{asked} names device {unknown:?}, which the bundle does not have");
    }
    let missing = reporting().filter(|device| !times.contains_key(*device)).count();
    if missing > 0 {
        eprintln!("warning: {missing} devices with readings are not in {asked} and are left out");
    }
    Ok(times.into_iter().filter(|(device, _)| has_readings(device)).collect())
}
