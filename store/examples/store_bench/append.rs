//! Append: how many samples a second become durable, and how long one append takes while compactions run beside it.
//!
//! Four callers append batches of 10,000 samples one after the other, without a pause in which a compaction could catch up
//! unseen; a batch is made by its caller just before, and the time for that counts as the store's. Appends are timed from
//! the call to its return, which means "synced".

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use harbinger_store::telemetry::{Batch, EmbeddedStore, TelemetryStore};

use crate::{
    Arguments, Failure,
    figures::{Figure, Latencies},
    fleet::{BEAT_MS, Fleet, SIGNALS},
    open,
};

/// Samples of a batch, to the next whole reading below.
pub(crate) const SAMPLES_A_BATCH: usize = 10_000;
/// Readings of a batch.
pub(crate) const READINGS_A_BATCH: usize = SAMPLES_A_BATCH / SIGNALS;
/// Callers that append at the same time: two a core, of which one makes its next batch while the other's is synced. More of them
/// wait for each other, and longer, for the same rate.
const CALLERS: usize = 4;
/// Beats of the devices with a long history: seven days.
const LONG_BEATS: i64 = 7 * 24 * 3_600_000 / BEAT_MS;

/// The fleet that the data file is filled with, at its first beat.
pub(crate) fn fleet(arguments: &Arguments) -> Result<Fleet, Failure> {
    Ok(Fleet::new("device", arguments.devices, arguments.values, 0)?)
}

/// The devices with seven days up to the fleet's last beat, and their first beat.
pub(crate) fn long_fleet(arguments: &Arguments) -> Result<(Fleet, i64), Failure> {
    let first = end(arguments) - LONG_BEATS;
    Ok((Fleet::new("long", arguments.long_devices, arguments.values, first)?, first))
}

/// The beat behind the fleet's last.
pub(crate) fn end(arguments: &Arguments) -> i64 {
    arguments.samples.div_ceil(arguments.devices * SIGNALS) as i64
}

pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    let store = open(&arguments.file)?;
    let (long, _) = long_fleet(arguments)?;
    append_all(&store, long.take(LONG_BEATS as usize * arguments.long_devices)).await?;
    store.compact().await?;

    let start = Instant::now();
    let readings = end(arguments) as usize * arguments.devices;
    let latencies = Latencies::new(append_all(&store, fleet(arguments)?.take(readings)).await?);
    let appended = start.elapsed();
    store.compact().await?;
    let compacted = start.elapsed();
    store.close().await?;

    let rate = |time: Duration| (readings * SIGNALS) as f64 / time.as_secs_f64();
    let case = &format!("append, {}", arguments.values);
    Ok(vec![
        Figure::new(case, format!("durable, batches of 10,000, {CALLERS} callers"), rate(appended), "samples/s")
            .at_least(3e6),
        Figure::new(case, "the same until everything is in chunks", rate(compacted), "samples/s"),
        Figure::new(case, "one append, p50", latencies.quantile_ms(0.5), "ms"),
        Figure::new(case, "one append, p99", latencies.quantile_ms(0.99), "ms").at_most(50.0),
        Figure::new(case, "one append, p99.9", latencies.quantile_ms(0.999), "ms"),
        Figure::new(case, "one append, longest", latencies.quantile_ms(1.0), "ms"),
    ])
}

/// Appends readings in batches from [`CALLERS`] callers; how long each append took.
async fn append_all(
    store: &Arc<EmbeddedStore>,
    readings: impl Iterator<Item = harbinger_core::Reading> + Send + 'static,
) -> Result<Vec<Duration>, Failure> {
    let readings = Arc::new(Mutex::new(readings));
    let caller = || {
        let (store, readings) = (store.clone(), readings.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let batch: Vec<_> = {
                    let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
                    readings.by_ref().take(READINGS_A_BATCH).collect()
                };
                if batch.is_empty() {
                    return Ok::<_, Failure>(latencies);
                }
                let sent = batch.len() as u64;
                let start = Instant::now();
                let done = store.append(Batch { readings: batch, ..Batch::default() }).await?;
                latencies.push(start.elapsed());
                if done.stored != sent {
                    return Err(format!("{} of {sent} readings stored: {done:?}", done.stored).into());
                }
            }
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| caller()).collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await??);
    }
    Ok(all)
}
