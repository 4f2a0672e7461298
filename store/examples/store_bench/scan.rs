//! All devices: a raw scan of 24 hours, and the feature scan of windows that end at one instant.
//!
//! Devices are asked for in groups, so that memory stays bounded. The fleet's history is shorter than a day where it holds
//! 60 M samples of 10,000 devices, so 24 hours are all of it. Samples of the feature scan are those that the longest window
//! covers, each counted once, however many windows it is in. With one thread the figures are those of one core.

use std::time::{Duration, Instant};

use harbinger_core::{DeviceKey, Duration as Length, TimeRange, Timestamp};
use harbinger_store::telemetry::{EmbeddedStore, TelemetryStore};

use crate::{Arguments, Failure, append, figures::Figure, fleet::Fleet, open};

/// Devices of one call: with a day of six signals each, 250 devices are 0.1 GB.
const GROUP: usize = 250;

pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let store = open(&arguments.file)?;
    let fleet = append::fleet(arguments)?;
    let (long, _) = append::long_fleet(arguments)?;
    let end = Fleet::time_of(append::end(arguments));
    let hours = |hours: &[i64]| hours.iter().map(|&hours| Length::from_hours(hours)).collect::<Vec<_>>();
    // The whole hour that holds the newest reading.
    let at = end.ceil_to(Length::from_hours(1));
    let raw = raw(&store, fleet.keys(), TimeRange { from: end - Length::from_days(1), to: end }).await?;
    let features = features(&store, fleet.keys(), at, &hours(&[1, 6, 24])).await?;
    let long = features_of_long(&store, &long, at, &hours(&[24, 7 * 24])).await?;
    store.close().await?;

    let threads = rayon::current_num_threads();
    let case = format!("all devices, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let figure = |measure: &str, rate: f64, goal: f64| {
        let figure = Figure::new(&case, measure, rate, "samples/s");
        if threads == 1 { figure.at_least(goal) } else { figure }
    };
    Ok(vec![
        figure("raw scan, 24 h", raw, 30e6),
        figure("feature scan, windows of 1, 6, 24 h", features, 100e6),
        figure("feature scan, windows of 24 h and 7 days", long, 100e6),
    ])
}

/// Samples a second.
async fn raw(store: &EmbeddedStore, keys: &[DeviceKey], range: TimeRange) -> Result<f64, Failure> {
    let (mut samples, mut busy) = (0, Duration::ZERO);
    for group in keys.chunks(GROUP) {
        let start = Instant::now();
        let found = store.scan_many(group.to_vec(), range).await?;
        busy += start.elapsed();
        samples += found.iter().map(|readings| readings.len() * readings.columns.len()).sum::<usize>();
    }
    Ok(samples as f64 / busy.as_secs_f64())
}

/// Samples a second that the longest window, the last, covers.
async fn features(
    store: &EmbeddedStore,
    keys: &[DeviceKey],
    at: Timestamp,
    lengths: &[Length],
) -> Result<f64, Failure> {
    let (mut samples, mut busy) = (0, Duration::ZERO);
    for group in keys.chunks(GROUP) {
        let start = Instant::now();
        let found = store.windows(group.to_vec(), at, lengths).await?;
        busy += start.elapsed();
        let longest = found.iter().flat_map(|device| &device.signals).filter_map(|(_, windows)| windows.last());
        samples += longest.map(|summary| summary.count).sum::<u64>();
    }
    Ok(samples as f64 / busy.as_secs_f64())
}

/// The same over the few devices with a long history, often enough to be timed.
async fn features_of_long(
    store: &EmbeddedStore,
    fleet: &Fleet,
    at: Timestamp,
    lengths: &[Length],
) -> Result<f64, Failure> {
    let keys: Vec<DeviceKey> = fleet.keys().iter().cycle().take(fleet.keys().len() * 10).cloned().collect();
    features(store, &keys, at, lengths).await
}
