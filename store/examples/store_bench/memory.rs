//! Resident memory while a million samples a second come in: a process that only ingests, on top of what the file holds.
//! What it reads of itself (`/proc/self/status`) has the load generator in it.

use std::{sync::Arc, time::Instant};

use harbinger_store::telemetry::{Batch, TelemetryStore};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use crate::{
    Arguments, Failure,
    append::{READINGS_A_BATCH, SAMPLES_A_BATCH},
    figures::Figure,
    fleet::{Fleet, SIGNALS},
    killed, open,
};

/// Appends that may be on their way at the same time.
const CALLERS: usize = 8;

pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    let store = open(&arguments.file)?;
    let opened = status_mib("VmRSS")?;
    let beat = killed::next_beat(&store).await?;
    let mut fleet = Fleet::new("device", arguments.devices, arguments.values, beat)?;
    let batches = arguments.seconds * arguments.rate / SAMPLES_A_BATCH;
    let room = Arc::new(Semaphore::new(CALLERS));
    let mut tick = interval(Duration::from_secs_f64(SAMPLES_A_BATCH as f64 / arguments.rate as f64));
    // Whoever is late catches up.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut appends = JoinSet::new();
    let start = Instant::now();
    for _ in 0..batches {
        tick.tick().await;
        let permit = room.clone().acquire_owned().await?;
        let readings: Vec<_> = fleet.by_ref().take(READINGS_A_BATCH).collect();
        let store = store.clone();
        appends.spawn(async move {
            let done = store.append(Batch { readings, ..Batch::default() }).await;
            drop(permit);
            done
        });
        while let Some(done) = appends.try_join_next() {
            done??;
        }
    }
    while let Some(done) = appends.join_next().await {
        done??;
    }
    let rate = (batches * READINGS_A_BATCH * SIGNALS) as f64 / start.elapsed().as_secs_f64();
    let (resident, most) = (status_mib("VmRSS")?, status_mib("VmHWM")?);
    store.close().await?;
    let case = "memory, paced ingest";
    Ok(vec![
        Figure::new(case, "samples a second", rate, "samples/s").at_least(arguments.rate as f64 * 0.98),
        Figure::new(case, "resident, most", most, "MiB").at_most(512.0),
        Figure::new(case, "resident, at the end", resident, "MiB"),
        Figure::new(case, "resident, when opened", opened, "MiB"),
    ])
}

/// A line of this process's status, in MiB.
fn status_mib(name: &str) -> Result<f64, Failure> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| format!("no {name} in /proc/self/status"))? / 1024.0)
}
