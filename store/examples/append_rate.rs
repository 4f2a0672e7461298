//! How fast the embedded telemetry store takes readings durably, and how many bytes it keeps them in.
//!
//! `cargo run --release -p harbinger-store --example append_rate [FOLDER]`: 10,000 devices report 6 values each, rounded to
//! one decimal as sensors round, once a minute, in batches of 10,000 samples from a few callers; then one reading a batch
//! from many callers. The data file is made in FOLDER (default: the system's temporary folder) and removed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harbinger_core::{DeviceId, DeviceKey, Reading, SignalId, TenantId, TimeRange, Timestamp};
use harbinger_store::telemetry::{Batch, EmbeddedStore, Options, TelemetryStore};

const DEVICES: usize = 10_000;
const SIGNALS: usize = 6;
const SAMPLES_A_BATCH: usize = 10_000;
/// Sweeps of the fleet that are made before the clock runs, so that making them is not measured.
const SWEEPS_A_ROUND: usize = 60;
const ROUNDS: usize = 6;
const CALLERS: usize = 8;
const SINGLE_CALLERS: usize = 256;
const SINGLE_APPENDS: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder)?;
    let path = folder.path().join("telemetry.db");
    let store = EmbeddedStore::open(Options::at(&path))?;
    let mut fleet = Fleet::new()?;

    let (mut latencies, mut busy) = (Vec::new(), Duration::ZERO);
    for _ in 0..ROUNDS {
        let batches = fleet.batches();
        let start = Instant::now();
        latencies.extend(append_all(&store, batches).await?);
        busy += start.elapsed();
    }
    let samples = (ROUNDS * SWEEPS_A_ROUND * DEVICES * SIGNALS) as f64;
    println!(
        "{:>12.0} samples a second, durable, batches of {SAMPLES_A_BATCH} from {CALLERS} callers",
        samples / busy.as_secs_f64()
    );
    print_latencies("append of a batch", &mut latencies);

    let start = Instant::now();
    store.compact().await?;
    let until_compacted = busy + start.elapsed();
    println!("{:>12.0} samples a second until all are in chunks", samples / until_compacted.as_secs_f64());
    print_size(&store, &path).await?;
    scan_windows(&store, &fleet).await?;

    let start = Instant::now();
    let mut latencies = append_singles(&store, &mut fleet).await?;
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    println!("{rate:>12.0} single readings a second, durable, from {SINGLE_CALLERS} callers");
    print_latencies("append of one reading", &mut latencies);
    for readings in [1, SAMPLES_A_BATCH / SIGNALS] {
        commits_of_one_caller(&store, &mut fleet, readings).await?;
    }
    store.close().await?;
    Ok(())
}

/// Devices whose values walk at random in steps of a tenth.
struct Fleet {
    keys: Vec<DeviceKey>,
    signals: Vec<SignalId>,
    tenths: Vec<i32>,
    minute: i64,
    random: u64,
}

impl Fleet {
    fn new() -> Result<Self, harbinger_core::ids::InvalidId> {
        let tenant = TenantId::parse("bench")?;
        let key = |i| Ok(DeviceKey::new(tenant.clone(), DeviceId::parse(&format!("device-{i:05}"))?));
        let keys = (0..DEVICES).map(key).collect::<Result<_, _>>()?;
        let signals = (0..SIGNALS).map(|i| SignalId::parse(&format!("signal_{i}"))).collect::<Result<_, _>>()?;
        Ok(Self { keys, signals, tenths: vec![240; DEVICES * SIGNALS], minute: 0, random: 0x9e37_79b9_7f4a_7c15 })
    }

    /// The next reading of a device.
    fn reading(&mut self, device: usize) -> Reading {
        let start = device * SIGNALS;
        let mut values = Vec::with_capacity(SIGNALS);
        for (signal, tenths) in self.signals.iter().zip(self.tenths.iter_mut().skip(start)) {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            *tenths += (self.random % 7) as i32 - 3;
            values.push((signal.clone(), f64::from(*tenths) / 10.0));
        }
        let ts = Timestamp::from_millis(1_767_225_600_000 + self.minute * 60_000);
        Reading { key: self.keys[device].clone(), ts, arrival: false, values }
    }

    /// A round of sweeps in batches.
    fn batches(&mut self) -> Vec<Batch> {
        let mut readings = Vec::with_capacity(SWEEPS_A_ROUND * DEVICES);
        for _ in 0..SWEEPS_A_ROUND {
            readings.extend((0..DEVICES).map(|device| self.reading(device)));
            self.minute += 1;
        }
        let mut batches = Vec::new();
        while !readings.is_empty() {
            let rest = readings.split_off(readings.len().min(SAMPLES_A_BATCH / SIGNALS));
            batches.push(Batch { readings, ..Batch::default() });
            readings = rest;
        }
        batches
    }
}

/// Appends batches from [`CALLERS`] callers; how long each append took.
async fn append_all(
    store: &Arc<EmbeddedStore>,
    batches: Vec<Batch>,
) -> Result<Vec<Duration>, harbinger_store::telemetry::Error> {
    let batches = Arc::new(std::sync::Mutex::new(batches.into_iter()));
    let caller = |store: Arc<EmbeddedStore>| {
        let batches = batches.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let next = batches.lock().expect("no caller panics").next();
                let Some(batch) = next else { return Ok(latencies) };
                let start = Instant::now();
                store.append(batch).await?;
                latencies.push(start.elapsed());
            }
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| caller(store.clone())).collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.expect("no caller panics")?);
    }
    Ok(all)
}

/// One reading a batch from many callers at once.
async fn append_singles(
    store: &Arc<EmbeddedStore>,
    fleet: &mut Fleet,
) -> Result<Vec<Duration>, harbinger_store::telemetry::Error> {
    let mut callers = Vec::new();
    for caller in 0..SINGLE_CALLERS {
        let readings: Vec<Reading> = (0..SINGLE_APPENDS)
            .map(|i| {
                fleet.minute += i64::from(i == 0);
                let later = fleet.minute + i as i64;
                let ts = Timestamp::from_millis(1_767_225_600_000 + later * 60_000);
                Reading { ts, ..fleet.reading(caller) }
            })
            .collect();
        let store = store.clone();
        callers.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            for reading in readings {
                let start = Instant::now();
                store.append(Batch { readings: vec![reading], ..Batch::default() }).await?;
                latencies.push(start.elapsed());
            }
            Ok(latencies)
        }));
    }
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.expect("no caller panics")?);
    }
    Ok(all)
}

/// Commits that one caller gets, one after the other: the sync's own time, and what a batch adds to it.
async fn commits_of_one_caller(
    store: &EmbeddedStore,
    fleet: &mut Fleet,
    readings: usize,
) -> Result<(), harbinger_store::telemetry::Error> {
    fleet.minute += 10_000;
    let mut batches: Vec<Batch> = fleet.batches().into_iter().take(300).collect();
    batches.iter_mut().for_each(|batch| batch.readings.truncate(readings));
    let commits = batches.len() as f64;
    let start = Instant::now();
    for batch in batches {
        store.append(batch).await?;
    }
    let rate = commits / start.elapsed().as_secs_f64();
    println!("{rate:>12.0} commits a second of {} samples, one caller", readings * SIGNALS);
    Ok(())
}

/// Bytes of the chunks alone, of all pages in use, and of the files with the free pages that the log left for its next rows.
async fn print_size(store: &EmbeddedStore, path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let file = rusqlite::Connection::open(path)?;
    let read = |query: &str| file.query_row(query, [], |row| row.get::<_, i64>(0));
    let chunks = read("SELECT sum(length(body)) FROM chunks")? as f64;
    let summaries = read("SELECT sum(length(summaries)) FROM chunks")? as f64;
    let used = (read("PRAGMA page_count")? - read("PRAGMA freelist_count")?) as f64 * read("PRAGMA page_size")? as f64;
    let size = store.size().await?;
    let samples = size.samples as f64;
    println!("{:>12.2} bytes a sample in chunks, and {:.2} in their summaries", chunks / samples, summaries / samples);
    println!("{:>12.2} bytes a sample in pages in use, {} samples", used / samples, size.samples);
    println!("{:>12.2} bytes a sample in the files, free pages and WAL among them", size.bytes as f64 / samples);
    Ok(())
}

async fn scan_windows(store: &EmbeddedStore, fleet: &Fleet) -> Result<(), harbinger_store::telemetry::Error> {
    let start = Instant::now();
    let found = store.scan_many(fleet.keys.clone(), TimeRange::ALL).await?;
    let readings: usize = found.iter().map(|readings| readings.len()).sum();
    let rate = (readings * SIGNALS) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:>12.0} samples a second scanned, all devices");
    let range = TimeRange { from: Timestamp::from_millis(1_767_225_600_000 + 100 * 60_000), to: Timestamp::MAX };
    let start = Instant::now();
    for key in fleet.keys.iter().step_by(100) {
        store.scan(key, range, None).await?;
    }
    println!("{:>12.0} us a device window, one after the other", start.elapsed().as_secs_f64() * 1e6 / 100.0);
    Ok(())
}

fn print_latencies(what: &str, latencies: &mut [Duration]) {
    latencies.sort_unstable();
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "{:>12.2} ms median, {:.2} ms p99, {:.2} ms longest: {what}",
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
}
