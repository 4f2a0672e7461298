//! Hours of everything at once on the embedded store: paced ingest, compaction, retention and checked reads. Memory must be
//! flat, the file as large as predicted, and every answer right.
//!
//! `cargo run --release -p harbinger-tests --example soak -- --hours 2`: 1,000 devices report six values every ten seconds of
//! event time. At 300,000 samples a second event time runs 500 times as fast as the wall: two hours are six weeks, so that
//! retention (two days of readings, ten of hourly and twenty of daily summaries) has been at work for most of them. A line a
//! minute, a verdict at the end; what is wrong ends it at once.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use harbinger_core::{Duration as Length, TenantId, TimeRange, Timestamp, history::Closed};
use harbinger_store::telemetry::{Batch, DataClass, EmbeddedStore, Options, TelemetryStore};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio::time::{MissedTickBehavior, interval};

mod minutes;

#[allow(dead_code, reason = "the bench that it belongs to uses the rest")]
#[path = "../../../store/examples/store_bench/fleet.rs"]
mod fleet;

use fleet::{BEAT_MS, Fleet, SIGNALS, Values};
use minutes::{Minute, Verdict};

/// Readings of a batch.
const READINGS_A_BATCH: usize = 10_000 / SIGNALS;
/// Between two reads.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Event time between two rounds of retention.
const RETAIN_EVERY: Length = Length::from_hours(1);
/// Hours of a window that is read.
const WINDOW: Length = Length::from_hours(6);

/// Runs everything at once for hours.
#[derive(Debug, Parser)]
struct Arguments {
    /// Hours of wall time.
    #[arg(long, default_value_t = 2.0)]
    hours: f64,
    /// Samples a second of wall time.
    #[arg(long, default_value_t = 300_000)]
    rate: usize,
    /// Devices that report.
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    /// Hours of event time that readings are kept.
    #[arg(long, default_value_t = 48)]
    keep_hours: i64,
    /// Seconds of wall time between two lines.
    #[arg(long, default_value_t = 60)]
    line_seconds: u64,
    /// Where the data file is made [default: the system's temporary folder].
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What the tasks share.
struct Soak {
    arguments: Arguments,
    store: Arc<EmbeddedStore>,
    tenant: TenantId,
    /// Beats that every device has reported, durably.
    beats: AtomicI64,
    /// Event time before which readings may be gone.
    horizon_ms: AtomicI64,
    /// Event time at which the last retention that has ended began.
    retained_ms: AtomicI64,
    samples: AtomicU64,
    reads: AtomicU64,
    /// Longest append of the present minute, in microseconds.
    longest_append_us: AtomicU64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir_in(arguments.folder.clone().unwrap_or_else(std::env::temp_dir))?;
    let file = folder.path().join("telemetry.db");
    let soak = Arc::new(Soak {
        store: EmbeddedStore::open(Options::at(&file))?,
        tenant: TenantId::parse("bench")?,
        beats: AtomicI64::new(0),
        horizon_ms: AtomicI64::new(i64::MIN),
        retained_ms: AtomicI64::new(Fleet::time_of(0).millis()),
        samples: AtomicU64::new(0),
        reads: AtomicU64::new(0),
        longest_append_us: AtomicU64::new(0),
        arguments,
    });
    let ended = tokio::select! {
        ended = ingest(&soak) => ended.context("ingest"),
        ended = retain(&soak) => ended.context("retention"),
        ended = read(&soak) => ended.context("reads"),
        ended = tell(&soak, &file) => ended,
    };
    let verdict = ended?;
    soak.store.close().await?;
    println!("{verdict}");
    ensure!(verdict.is_good(), "the soak failed");
    Ok(())
}

/// Appends at the pace that was asked for, for ever; whoever is late catches up.
async fn ingest(soak: &Soak) -> anyhow::Result<Verdict> {
    let mut fleet = Fleet::new("device", soak.arguments.devices, Values::Noise, 0)?;
    let mut pace = interval(Duration::from_secs_f64((READINGS_A_BATCH * SIGNALS) as f64 / soak.arguments.rate as f64));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut readings_so_far = 0;
    loop {
        pace.tick().await;
        let readings: Vec<_> = fleet.by_ref().take(READINGS_A_BATCH).collect();
        let start = Instant::now();
        let done = soak.store.append(Batch { readings, ..Batch::default() }).await?;
        ensure!(done.stored == READINGS_A_BATCH as u64, "{done:?} of {READINGS_A_BATCH} new readings");
        soak.longest_append_us.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        readings_so_far += READINGS_A_BATCH;
        soak.samples.store((readings_so_far * SIGNALS) as u64, Ordering::Relaxed);
        soak.beats.store((readings_so_far / soak.arguments.devices) as i64, Ordering::Release);
    }
}

/// Forgets what is past its time, once an hour of event time, for ever.
async fn retain(soak: &Soak) -> anyhow::Result<Verdict> {
    let keep = Length::from_hours(soak.arguments.keep_hours);
    let times = |n: i64| Length::from_millis(keep.millis() * n);
    let classes =
        [(DataClass::Readings, keep), (DataClass::HourlySummaries, times(5)), (DataClass::DailySummaries, times(10))];
    let mut news = soak.store.appended();
    let mut due = Fleet::time_of(0) + keep;
    loop {
        news.changed().await?;
        let now = soak.now();
        if now < due {
            continue;
        }
        // Readers stay behind the horizon before anything is forgotten.
        soak.horizon_ms.store((now - keep).millis(), Ordering::Release);
        for (class, keep) in classes {
            soak.store.retain(&soak.tenant, class, now - keep).await?;
        }
        soak.retained_ms.store(now.millis(), Ordering::Release);
        due = now + RETAIN_EVERY;
    }
}

/// Reads windows of random devices, for ever, and looks at every value.
async fn read(soak: &Soak) -> anyhow::Result<Verdict> {
    let fleet = Fleet::new("device", soak.arguments.devices, Values::Noise, 0)?;
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut pace = interval(READ_EVERY);
    loop {
        pace.tick().await;
        let last = soak.beats.load(Ordering::Acquire);
        let first = last - WINDOW.millis() / BEAT_MS;
        let back = random.random_range(0..=(first - soak.first_kept_beat()).max(0));
        let beats = first - back..last - back;
        if beats.start < 0 {
            continue;
        }
        let (device, signal) = (random.random_range(0..soak.arguments.devices), random.random_range(0..SIGNALS));
        check_window(soak, &fleet, device, signal, beats.clone()).await?;
        check_summaries(soak, &fleet, device, beats).await?;
        soak.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// A device reports up to 50 ms off the beat: a window from between two beats to between two beats holds whole ones.
fn window(beats: &std::ops::Range<i64>) -> TimeRange {
    let before = |beat: i64| Fleet::time_of(beat) - Length::from_millis(BEAT_MS / 2);
    TimeRange { from: before(beats.start), to: before(beats.end) }
}

async fn check_window(
    soak: &Soak,
    fleet: &Fleet,
    device: usize,
    signal: usize,
    beats: std::ops::Range<i64>,
) -> anyhow::Result<()> {
    let (key, signals) = (&fleet.keys()[device], &fleet.signals()[signal..=signal]);
    let found = soak.store.scan(key, window(&beats), Some(signals)).await?;
    let values = found.column(&signals[0]).unwrap_or_default();
    let expected: Vec<f64> = beats.clone().map(|beat| Fleet::noise(device, signal, beat)).collect();
    // What a retention that began meanwhile has taken is not missing.
    if Fleet::time_of(beats.start) < soak.horizon() {
        return Ok(());
    }
    ensure!(values == expected, "{key:?} {}: beats {beats:?} differ", signals[0]);
    Ok(())
}

async fn check_summaries(soak: &Soak, fleet: &Fleet, device: usize, beats: std::ops::Range<i64>) -> anyhow::Result<()> {
    let key = &fleet.keys()[device];
    let hour = Length::from_hours(1);
    let range = TimeRange { from: Fleet::time_of(beats.start), to: Fleet::time_of(beats.end) };
    let found = soak.store.summaries(key, range, None, hour, Closed::Right).await?;
    let hours = (range.to.floor_to(hour).millis() - range.from.floor_to(hour).millis()) / hour.millis();
    if range.from.floor_to(hour) < soak.horizon() {
        return Ok(());
    }
    for (signal, buckets) in &found.signals {
        let count: u64 = buckets.iter().map(|(_, summary)| summary.count).sum();
        // A reading off its beat may lie on the other side of a border.
        let expected = (hours * hour.millis() / BEAT_MS) as u64;
        ensure!(count.abs_diff(expected) <= 1, "{key:?} {signal}: {count} of {expected} in {hours} hours");
    }
    ensure!(found.signals.len() == SIGNALS, "{key:?}: {} signals", found.signals.len());
    Ok(())
}

/// Prints a line a minute until the hours are over; the verdict on all of them.
async fn tell(soak: &Soak, file: &std::path::Path) -> anyhow::Result<Verdict> {
    let begin = Instant::now();
    let mut pace = interval(Duration::from_secs(soak.arguments.line_seconds));
    pace.tick().await;
    let mut minutes = Vec::new();
    println!("{}", Minute::HEADER);
    while begin.elapsed().as_secs_f64() < soak.arguments.hours * 3_600.0 {
        pace.tick().await;
        let retained = Timestamp::from_millis(soak.retained_ms.load(Ordering::Acquire));
        let size = soak.store.size().await?;
        let longest = soak.longest_append_us.swap(0, Ordering::Relaxed);
        let minute = Minute {
            seconds: begin.elapsed().as_secs_f64(),
            event_hours: soak.now().hours_since(Fleet::time_of(0)),
            retained_hours: retained.hours_since(Fleet::time_of(0)),
            appended: soak.samples.load(Ordering::Relaxed),
            kept: size.samples,
            longest_append_ms: longest as f64 / 1e3,
            reads: soak.reads.load(Ordering::Relaxed),
            resident: minutes::resident()?,
            file: minutes::length(file)?,
            wal: minutes::length(&file.with_extension("db-wal"))?,
        };
        println!("{minute}");
        minutes.push(minute);
    }
    Ok(Verdict::of(&minutes, soak.arguments.keep_hours as f64, soak.arguments.devices))
}

impl Soak {
    /// Event time.
    fn now(&self) -> Timestamp {
        Fleet::time_of(self.beats.load(Ordering::Acquire))
    }

    fn horizon(&self) -> Timestamp {
        Timestamp::from_millis(self.horizon_ms.load(Ordering::Acquire))
    }

    /// The first beat that retention has not taken, with an hour to spare for the next retention.
    fn first_kept_beat(&self) -> i64 {
        let keep = Length::from_hours(self.arguments.keep_hours - 1);
        Fleet::beat_after(self.now() - keep).max(0)
    }
}
