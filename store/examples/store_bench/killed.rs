//! Opening after a kill: a process that appends is ended by SIGKILL at a random fill of the log, and the file is opened by
//! a new one. What it said was durable must be there, once. The operating system's cache survives a kill and is not emptied,
//! so this is a restart of the process, not of the machine.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use harbinger_core::{TenantId, Timestamp};
use harbinger_store::telemetry::{Batch, EmbeddedStore, TelemetryStore};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    Arguments, Failure,
    append::READINGS_A_BATCH,
    figures::{Figure, Latencies},
    fleet::{Fleet, SIGNALS},
    open, stages,
};

const OPENED: &str = "opened after";
const SAMPLES: &str = "samples found";
const IN_LOG: &str = "readings in the log";

/// Kills and opens again and again.
pub(crate) async fn run(arguments: &Arguments, file: &Path) -> Result<Vec<Figure>, Failure> {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut known = value(&stages::run("open", file, &[]).await?, SAMPLES)?;
    let (mut opened, mut in_log): (Vec<Duration>, f64) = (Vec::new(), 0.0);
    for _ in 0..arguments.kills {
        // Up to twice what a compaction begins at, and some before it.
        let readings = random.random_range(500_000..2_000_000);
        let durable = append_and_kill(file, readings).await?;
        let found = stages::run("open", file, &[]).await?;
        opened.push(Duration::from_secs_f64(value(&found, OPENED)? / 1e3));
        in_log = in_log.max(value(&found, IN_LOG)?);
        let samples = value(&found, SAMPLES)?;
        // The batch on its way when the kill came may be there, whole, or not.
        let expected = [durable, durable + READINGS_A_BATCH].map(|readings| known + (readings * SIGNALS) as f64);
        if !expected.contains(&samples) {
            return Err(
                format!("{samples} samples after a kill; {known} before, and {durable} readings durable").into()
            );
        }
        known = samples;
    }
    let opened = Latencies::new(opened);
    let case = "open after a kill";
    Ok(vec![
        Figure::new(case, format!("longest of {}", arguments.kills), opened.quantile_ms(1.0) / 1e3, "s").at_most(2.0),
        Figure::new(case, "median", opened.quantile_ms(0.5) / 1e3, "s"),
        Figure::new(case, "most readings in the log", in_log, "readings"),
        Figure::new(case, "samples in the file at the end", known, "samples"),
    ])
}

fn value(figures: &[Figure], measure: &str) -> Result<f64, Failure> {
    let figure = figures.iter().find(|figure| figure.measure == measure);
    Ok(figure.ok_or_else(|| format!("no figure {measure}"))?.value)
}

/// Kills a process that appends when it has said of `readings` readings that they are durable; how many it said in the end.
async fn append_and_kill(file: &Path, readings: usize) -> Result<usize, Failure> {
    let mut child = stages::start("endless", file, &[])?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines();
    let mut durable = 0;
    while let Some(line) = lines.next_line().await? {
        durable += line.parse::<usize>()?;
        if durable >= readings {
            child.start_kill()?;
        }
    }
    child.wait().await?;
    if durable < readings {
        return Err(format!("it ended by itself after {durable} readings").into());
    }
    Ok(durable)
}

/// Appends behind what is there until it is killed; prints the readings of each batch when they are durable.
pub(crate) async fn append_without_end(arguments: &Arguments) -> Result<(), Failure> {
    let store = open(&arguments.file)?;
    let mut fleet = Fleet::new("device", arguments.devices, arguments.values, next_beat(&store).await?)?;
    loop {
        let readings: Vec<_> = fleet.by_ref().take(READINGS_A_BATCH).collect();
        let durable = store.append(Batch { readings, ..Batch::default() }).await?;
        println!("{}", durable.stored);
    }
}

/// The beat behind the newest reading.
pub(crate) async fn next_beat(store: &EmbeddedStore) -> Result<i64, Failure> {
    let extents = store.extents(&TenantId::parse("bench")?).await?;
    let last = extents.iter().map(|extent| extent.last).max().unwrap_or(Timestamp::from_millis(0));
    Ok(Fleet::beat_after(last) + 1)
}

/// Times an opening; then, untimed, counts what is there.
pub(crate) async fn time_opening(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    let start = Instant::now();
    let store = open(&arguments.file)?;
    let opened = start.elapsed().as_secs_f64() * 1e3;
    let in_log = store.size().await?.readings_in_log;
    // What a compaction was cut off at is in chunks and in the log: only behind the next one is each sample counted once.
    store.compact().await?;
    let samples = store.size().await?.samples;
    store.close().await?;
    Ok(vec![
        Figure::new("open", OPENED, opened, "ms"),
        Figure::new("open", SAMPLES, samples as f64, "samples"),
        Figure::new("open", IN_LOG, in_log as f64, "readings"),
    ])
}
