//! Windows of one device: a signal over 24 hours, and seven days in steps of five minutes; random devices and random times,
//! one after the other, warm.
//!
//! The whole fleet's last 24 hours hold what the fleet has, a thousand readings of each device where it has 60 M samples. The
//! devices with seven days behind them give full windows besides: 8,640 readings.

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
    let end = append::end(arguments);
    let newest = Windows { fleet: append::fleet(arguments)?, first: end - DAY_BEATS, end, beats: end.min(DAY_BEATS) };
    let (fleet, first) = append::long_fleet(arguments)?;
    let windows = Windows { fleet, first, end, beats: DAY_BEATS };
    let case = "one device";
    let mut figures = Vec::new();
    let mut tell = |measure: &str, latencies: &Latencies, p50: Option<f64>, p99: f64| {
        let middle = Figure::new(case, format!("{measure}, p50"), latencies.quantile_ms(0.5), "ms");
        figures.push(p50.map_or(middle.clone(), |goal| middle.at_most(goal)));
        figures.push(Figure::new(case, format!("{measure}, p99"), latencies.quantile_ms(0.99), "ms").at_most(p99));
    };
    let queries = arguments.queries;
    tell("one signal, 24 h", &newest.day(&store, queries).await?, Some(0.1), 1.0);
    tell("one signal, 24 full hours", &windows.day(&store, queries).await?, Some(0.1), 1.0);
    tell("one signal, 7 days in 5-minute steps", &windows.steps(&store, 1, queries.div_ceil(10)).await?, None, 2.0);
    let of_all = windows.steps(&store, SIGNALS, queries.div_ceil(10)).await?;
    figures.push(Figure::new(case, "the same of all six signals, p99", of_all.quantile_ms(0.99), "ms"));
    store.close().await?;
    Ok(figures)
}

/// Where random windows are taken from.
struct Windows {
    fleet: Fleet,
    first: i64,
    end: i64,
    /// Readings that a day of a device holds.
    beats: i64,
}

impl Windows {
    /// A day of one signal of a random device; the first tenth warms up.
    async fn day(&self, store: &EmbeddedStore, queries: usize) -> Result<Latencies, Failure> {
        let mut random = ChaCha8Rng::seed_from_u64(24);
        let mut latencies: Vec<Duration> = Vec::new();
        for _ in 0..queries + queries / 10 {
            let key = &self.fleet.keys()[random.random_range(0..self.fleet.keys().len())];
            let signal = &self.fleet.signals()[random.random_range(0..SIGNALS)..][..1];
            let from = random.random_range(self.first..=self.end - DAY_BEATS);
            let range = TimeRange { from: Fleet::time_of(from), to: Fleet::time_of(from + DAY_BEATS) };
            let start = Instant::now();
            let found = store.page(key, range, Some(signal), PAGE).await?;
            latencies.push(start.elapsed());
            // Readings off their beat may fall out of the window on one side, and in on the other.
            if (found.len() as i64 - self.beats).abs() > 1 || found.columns.len() != 1 {
                return Err(format!("{key:?}: {} readings in a day", found.len()).into());
            }
        }
        Ok(Latencies::new(latencies.split_off(queries / 10)))
    }

    /// Some signals of a random device's week in steps; the first tenth warms up.
    async fn steps(&self, store: &EmbeddedStore, signals: usize, queries: usize) -> Result<Latencies, Failure> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let to = Fleet::time_of(self.end);
        let range = TimeRange { from: to - Length::from_days(7), to };
        let expected = (Length::from_days(7).millis() / STEP.millis()) as usize;
        let mut latencies: Vec<Duration> = Vec::new();
        for _ in 0..queries + queries / 10 {
            let key = &self.fleet.keys()[random.random_range(0..self.fleet.keys().len())];
            let wanted = &self.fleet.signals()[random.random_range(0..=SIGNALS - signals)..][..signals];
            let start = Instant::now();
            let found = store.summaries(key, range, Some(wanted), STEP, Closed::Right).await?;
            latencies.push(start.elapsed());
            let short = found.signals.iter().find(|(_, buckets)| buckets.len().abs_diff(expected) > 1);
            if found.signals.len() != signals || short.is_some() {
                return Err(format!("{key:?}: not {expected} buckets of each signal").into());
            }
        }
        Ok(Latencies::new(latencies.split_off(queries / 10)))
    }
}
