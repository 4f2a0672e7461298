//! A process that keeps a telemetry store busy until somebody kills it, and says of each thing when it is durable.
//!
//! ```text
//! kill_nine work FILE BATCH DEVICE   appends batches from BATCH on, compacts, forgets, makes and deletes devices from DEVICE
//!                                    on, copies the file
//! kill_nine open FILE                opens the file, migrating it where it is of an older format, and closes it
//! ```

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, bail};
use harbinger_store::telemetry::{Batch, DataClass, EmbeddedStore, Options, TelemetryStore, backup};
use harbinger_tests::kill_nine::{BEATS_A_BATCH, CALLERS, Said, batch, copies_of, copy_of, doomed, key, tenant, time};
use tokio::task::JoinSet;

/// Readings in the log at which a compaction begins: so few that one is always under way.
const LOG_READINGS_MAX: u64 = 2_000;
/// Beats that are kept of the devices that age: two hours.
const KEPT_BEATS: u64 = 2 * 60;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["work", file, batch, device] => {
            let options = Options { log_readings_max: LOG_READINGS_MAX, ..Options::at(*file) };
            work(file, EmbeddedStore::open(options)?, batch.parse()?, device.parse()?).await
        }
        ["open", file] => Ok(EmbeddedStore::open(Options::at(*file))?.close().await?),
        _ => bail!("usage: kill_nine work FILE BATCH DEVICE | open FILE"),
    }
}

/// Does everything at once, without end.
async fn work(file: &str, store: Arc<EmbeddedStore>, first_batch: u64, first_device: u64) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(first_batch));
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        tasks.spawn(append(store.clone(), next.clone()));
    }
    tasks.spawn(forget(store.clone(), next));
    tasks.spawn(make_and_delete(store, first_device));
    let file = PathBuf::from(file);
    tasks.spawn_blocking(move || copy(&file));
    // None of them ends by itself.
    tasks.join_next().await.context("there are tasks")?.context("a task panicked")?
}

async fn append(store: Arc<EmbeddedStore>, next: Arc<AtomicU64>) -> anyhow::Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        store.append(Batch { readings: batch(number), ..Batch::default() }).await?;
        println!("{}", Said::Durable(number));
    }
}

async fn forget(store: Arc<EmbeddedStore>, next: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut news = store.appended();
    loop {
        news.changed().await.context("the store closed")?;
        let beat = (next.load(Ordering::Relaxed) * BEATS_A_BATCH).saturating_sub(KEPT_BEATS);
        println!("{}", Said::Forgetting(beat));
        store.retain(&tenant("aged"), DataClass::Readings, time(beat)).await?;
        println!("{}", Said::Forgot(beat));
    }
}

async fn make_and_delete(store: Arc<EmbeddedStore>, first: u64) -> anyhow::Result<()> {
    for device in first.. {
        for part in doomed(device as usize).chunks(20) {
            store.append(Batch { readings: part.to_vec(), ..Batch::default() }).await?;
        }
        println!("{}", Said::Made(device));
        println!("{}", Said::Deleting(device));
        store.delete_device(&key("doomed", device as usize)).await?;
        println!("{}", Said::Deleted(device));
    }
    Ok(())
}

fn copy(file: &Path) -> anyhow::Result<()> {
    fs_err::create_dir_all(copies_of(file))?;
    for number in 0.. {
        println!("{}", Said::Copying(number));
        backup(file, &copy_of(file, number), &|_| {})?;
        println!("{}", Said::Copied(number));
    }
    Ok(())
}
