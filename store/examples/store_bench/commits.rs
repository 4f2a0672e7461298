//! Commits: what a sync costs. Single readings from many callers at once, who share commits; and one caller that waits for
//! each commit before the next.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harbinger_core::Reading;
use harbinger_store::telemetry::{Batch, EmbeddedStore, TelemetryStore};

use crate::{
    Arguments, Failure,
    append::{self, READINGS_A_BATCH},
    figures::{Figure, Latencies},
    fleet::SIGNALS,
    open,
};

/// Callers that append one reading at a time, and readings of each.
const SINGLE_CALLERS: usize = 256;
const SINGLE_APPENDS: usize = 200;
/// Commits of the one caller.
const COMMITS: usize = 300;

pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    let store = open(&arguments.file)?;
    let mut fleet = append::fleet(arguments)?;

    let start = Instant::now();
    let latencies = append_singles(&store, &mut fleet).await?;
    let rate = (SINGLE_CALLERS * SINGLE_APPENDS) as f64 / start.elapsed().as_secs_f64();
    let case = "commits";
    let mut figures = vec![
        Figure::new(case, format!("single readings, {SINGLE_CALLERS} callers"), rate, "readings/s"),
        Figure::new(case, "append of one reading, p50", latencies.quantile_ms(0.5), "ms"),
        Figure::new(case, "append of one reading, p99", latencies.quantile_ms(0.99), "ms"),
    ];
    for readings in [1, READINGS_A_BATCH] {
        let batches: Vec<Vec<Reading>> = (0..COMMITS).map(|_| fleet.by_ref().take(readings).collect()).collect();
        let start = Instant::now();
        for readings in batches {
            store.append(Batch { readings, ..Batch::default() }).await?;
        }
        let rate = COMMITS as f64 / start.elapsed().as_secs_f64();
        figures.push(Figure::new(case, format!("one caller, {} samples each", readings * SIGNALS), rate, "commits/s"));
    }
    store.close().await?;
    Ok(figures)
}

async fn append_singles(
    store: &Arc<EmbeddedStore>,
    fleet: &mut impl Iterator<Item = Reading>,
) -> Result<Latencies, Failure> {
    let caller = |readings: Vec<Reading>| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut latencies: Vec<Duration> = Vec::with_capacity(readings.len());
            for reading in readings {
                let start = Instant::now();
                store.append(Batch { readings: vec![reading], ..Batch::default() }).await?;
                latencies.push(start.elapsed());
            }
            Ok::<_, Failure>(latencies)
        })
    };
    let shares: Vec<Vec<Reading>> = (0..SINGLE_CALLERS).map(|_| fleet.take(SINGLE_APPENDS).collect()).collect();
    let callers: Vec<_> = shares.into_iter().map(caller).collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await??);
    }
    Ok(Latencies::new(all))
}
