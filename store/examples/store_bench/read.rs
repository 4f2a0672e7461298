//! Windows of one device: a signal over 24 hours, and seven days in steps of five minutes; random devices and random times,
//! one after the other, warm. The devices are those with seven days behind them, so that a window is full: 8,640 readings.

use std::time::{Duration, Instant};

use harbinger_core::{Duration as Length, TimeRange, history::Closed};
use harbinger_store::telemetry::{EmbeddedStore, TelemetryStore};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    Arguments, Failure, append,
    figures::{Figure, Latencies},
    fleet::{BEAT_MS, Fleet, SIGNALS},
    open,
};

/// Beats of a day.
const DAY_BEATS: i64 = 24 * 3_600_000 / BEAT_MS;
const STEP: Length = Length::from_millis(5 * 60_000);
/// Readings of a page, as the interface gives at most.
const PAGE: usize = 10_000;

pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    let store = open(&arguments.file)?;
    let (fleet, first) = append::long_fleet(arguments)?;
    let windows = Windows { fleet, first, end: append::end(arguments) };
    let case = "one device";
    let mut figures = Vec::new();
    let mut tell = |measure: &str, latencies: &Latencies, p50: Option<f64>, p99: f64| {
        let middle = Figure::new(case, format!("{measure}, p50"), latencies.quantile_ms(0.5), "ms");
        figures.push(p50.map_or(middle.clone(), |goal| middle.at_most(goal)));
        figures.push(Figure::new(case, format!("{measure}, p99"), latencies.quantile_ms(0.99), "ms").at_most(p99));
    };
    let queries = arguments.queries;
    tell("one signal, 24 h, scan", &windows.scan(&store, queries, false).await?, Some(0.1), 1.0);
    tell("one signal, 24 h, page", &windows.scan(&store, queries, true).await?, Some(0.1), 1.0);
    tell("7 days in 5-minute steps", &windows.steps(&store, queries.div_ceil(10)).await?, None, 2.0);
    store.close().await?;
    Ok(figures)
}

/// Where random windows are taken from.
struct Windows {
    fleet: Fleet,
    first: i64,
    end: i64,
}

impl Windows {
    /// A day of one signal of a random device; the first tenth warms up.
    async fn scan(&self, store: &EmbeddedStore, queries: usize, paged: bool) -> Result<Latencies, Failure> {
        let mut random = ChaCha8Rng::seed_from_u64(24);
        let mut latencies: Vec<Duration> = Vec::new();
        for _ in 0..queries + queries / 10 {
            let key = &self.fleet.keys()[random.random_range(0..self.fleet.keys().len())];
            let signal = &self.fleet.signals()[random.random_range(0..SIGNALS)..][..1];
            let from = random.random_range(self.first..=self.end - DAY_BEATS);
            let range = TimeRange { from: Fleet::time_of(from), to: Fleet::time_of(from + DAY_BEATS) };
            let start = Instant::now();
            let found = match paged {
                true => store.page(key, range, Some(signal), PAGE).await?,
                false => store.scan(key, range, Some(signal)).await?,
            };
            latencies.push(start.elapsed());
            // Readings off their beat may fall out of the window on one side, and in on the other.
            if (found.len() as i64 - DAY_BEATS).abs() > 1 || found.columns.len() != 1 {
                return Err(format!("{key:?}: {} readings in a day", found.len()).into());
            }
        }
        Ok(Latencies::new(latencies.split_off(queries / 10)))
    }

    /// All of a random device's week in steps; the first tenth warms up.
    async fn steps(&self, store: &EmbeddedStore, queries: usize) -> Result<Latencies, Failure> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let to = Fleet::time_of(self.end);
        let range = TimeRange { from: to - Length::from_days(7), to };
        let expected = (Length::from_days(7).millis() / STEP.millis()) as usize;
        let mut latencies: Vec<Duration> = Vec::new();
        for _ in 0..queries + queries / 10 {
            let key = &self.fleet.keys()[random.random_range(0..self.fleet.keys().len())];
            let start = Instant::now();
            let found = store.summaries(key, range, STEP, Closed::Right).await?;
            latencies.push(start.elapsed());
            let short = found.signals.iter().find(|(_, buckets)| buckets.len().abs_diff(expected) > 1);
            if found.signals.len() != SIGNALS || short.is_some() {
                return Err(format!("{key:?}: not {expected} buckets of each signal").into());
            }
        }
        Ok(Latencies::new(latencies.split_off(queries / 10)))
    }
}
