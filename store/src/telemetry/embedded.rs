//! The embedded telemetry store: SQLite as the engine, a compressed log in front, columnar chunks behind.
//!
//! ```text
//!  append ──▶ channel ──▶ writer ──group commit──▶ log ──compactor──▶ chunks + summaries
//!                            │                                          │
//!                            ▼ after COMMIT                             ▼
//!                       tail in memory ────────────── reads ◀── pages of chunks
//! ```
//!
//! Crash safety is SQLite's: WAL, `synchronous=FULL`, one transaction a group of callers. Readings rest in the log until a
//! compaction moves them into chunks, one row a device and span of time. A read lays the tail - the readings of the log,
//! kept in memory - over the chunks. Where each part is: `writer`, `compactor`, `reader` run; `tail` and `shared` are what
//! they share; `log`, `chunk`, `column`, `summaries` are the formats; `schema`, `inserts` and `changes` the SQL that writes.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc as jobs},
    thread::JoinHandle,
};

use async_trait::async_trait;
use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, Duration, SignalId, TenantId, TimeRange, Timestamp,
    history::{Closed, Readings, Timeline},
};
use rayon::prelude::*;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Appended, Batch, DataClass, Deleted, DeviceExtent, Error, Latest, QuarantineEntry, StoreSize, TelemetryStore,
    Windows, catalog::is_nameless,
};
use checkpointer::Checkpointer;
use compactor::{Compactor, Job};
use reader::OnDamage;
use shared::{Reader, Shared};
use writer::{Command, Reply, Writer};

mod bytes;
mod changes;
mod check;
mod checkpointer;
mod chunk;
mod column;
mod compactor;
mod compare;
mod copy;
mod inserts;
mod latest;
mod levels;
mod load;
mod log;
mod reader;
mod rebuild;
mod residuals;
mod retention;
mod rewrite;
mod schema;
mod shared;
mod shipping;
mod spool;
mod summaries;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use check::{Finding, Progress, check};
pub use copy::{Copied, backup};
pub(super) use shipping::{Shipped, Step, Verified};
pub(super) use spool::Shipment;

/// How an [`EmbeddedStore`] is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The data file. SQLite puts its WAL and shared memory beside it, and we a lock: `-wal`, `-shm`, `.lock`.
    pub path: PathBuf,
    /// Batches that wait for the writer before `append` itself waits, at least 1. 1,024: some group commits' worth.
    pub queue_batches: usize,
    /// Readings at which a group commit takes no further batch. 50,000: a transaction of some ten milliseconds.
    pub group_readings_max: usize,
    /// Readings in the log at which a compaction begins. 1,000,000: about 60 MB of memory at six signals, and with 10,000
    /// devices 100 readings a device for each chunk that is rewritten. At twice as many, appends wait for the compaction.
    pub log_readings_max: u64,
    /// Bytes in the log at which a compaction begins. 256 MiB: what a restart reads, in about a second.
    pub log_bytes_max: u64,
    /// Whether the file is the spool before a remote server. A file that has shipped readings is opened as nothing else:
    /// they would be missing.
    pub is_spool: bool,
    /// Pages of 4 KiB that the data file may grow to; `None`: as the disk allows. For tests of a full disk.
    pub pages_max: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: PathBuf::from("telemetry.db"),
            queue_batches: 1024,
            group_readings_max: 50_000,
            log_readings_max: 1_000_000,
            log_bytes_max: 256 << 20,
            is_spool: false,
            pages_max: None,
        }
    }
}

impl Options {
    /// The defaults, with the data file at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// Telemetry in one SQLite file. Dropped without [`close`](TelemetryStore::close) it finishes what was begun too, and blocks
/// the thread for so long.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` once dropping has begun: the writer ends when this is gone.
    commands: Option<mpsc::Sender<Command>>,
    jobs: jobs::Sender<Job>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store is open: no second process writes the same file.
    lock: File,
}

impl EmbeddedStore {
    /// Opens the data file or makes it, and reads back what is in the log. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] for a file of a newer version, [`Error::Damaged`] for a log row that cannot be read,
    /// [`Error::Full`], and [`Error::Engine`] for anything else, such as a file that another process has open.
    pub fn open(options: Options) -> Result<Arc<Self>, Error> {
        let lock = lock(&options.path)?;
        copy::finish_salvage(&options.path)?;
        let (connection, loaded) = match open_and_load(&options) {
            Err(error) if is_corrupt(&error) => {
                let path = options.path.display().to_string();
                tracing::error!(path, %error, "the data file is damaged: saving what can be read of it into a new one");
                let copied = copy::salvage(&options.path)?;
                tracing::error!(path, ?copied, "saved; the damaged file was kept beside it");
                open_and_load(&options)?
            }
            opened => opened?,
        };
        let (commands, receiver) = mpsc::channel(options.queue_batches.max(1));
        let (job_sender, job_receiver) = jobs::channel();
        let (due, is_due) = jobs::channel();
        let (sequence, log_bytes) = (loaded.sequence, loaded.log_bytes);
        let shared = Arc::new(Shared::new(options, loaded));
        let writer = Writer::new(shared.clone(), connection, receiver, job_sender.clone(), due, sequence, log_bytes);
        let compactor = Compactor::new(shared.clone(), commands.downgrade());
        let checkpointer = Checkpointer::new(shared.clone(), commands.downgrade());
        let threads = vec![
            spawn("telemetry-writer", move || writer.run())?,
            spawn("telemetry-compactor", move || compactor.run(&job_receiver))?,
            spawn("telemetry-checkpointer", move || checkpointer.run(&is_due))?,
        ];
        let threads = Mutex::new(threads);
        Ok(Arc::new(Self { shared, commands: Some(commands), jobs: job_sender, threads, lock }))
    }

    /// Sends the writer a command and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let commands = self.commands.as_ref().ok_or(Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        commands.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Sends the compactor a job and waits for its answer.
    async fn ask_compactor<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Runs a read on a blocking thread with a connection of its own.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.blocking(move |shared| work(shared, &*shared.reader()?)).await
    }

    /// Runs a read on a blocking thread; not too many run at the same time.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _permit = self.shared.read_permits.acquire().await.map_err(|_| Error::Closed)?;
        let shared = self.shared.clone();
        let work = tokio::task::spawn_blocking(move || work(&shared));
        work.await.map_err(|e| Error::Engine { attempt: "finish a read", source: Box::new(e) })?
    }

    fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        drop(self.jobs.send(Job::Stop));
        drop(self.commands.take());
        join(self.take_threads());
        // Closing would not do: a child process that was just forked has a copy of the file until it runs its program.
        drop(self.lock.unlock());
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a telemetry thread panicked; what it had not committed was not acknowledged");
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|e| Error::Engine { attempt: "start a thread", source: Box::new(e) })
}

/// Reads something of each device on every core, each with a connection of its own.
fn each_device<T: Send>(
    shared: &Shared,
    keys: &[DeviceKey],
    read: impl Fn(&Connection, &DeviceKey) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let read = |connection: &mut Result<Reader<'_>, Error>, key: &DeviceKey| match connection {
        Ok(connection) => read(connection, key),
        Err(_) => read(&*shared.reader()?, key),
    };
    keys.par_iter().map_init(|| shared.reader(), read).collect()
}

fn open_and_load(options: &Options) -> Result<(Connection, load::Loaded), Error> {
    let connection = schema::open_writer(&options.path, options.pages_max)?;
    shipping::refuse_without_server(&connection, options)?;
    let loaded = load::load(&connection, &options.path)?;
    Ok((connection, loaded))
}

fn is_corrupt(error: &Error) -> bool {
    let Error::Engine { source, .. } = error else { return false };
    source.downcast_ref::<rusqlite::Error>().is_some_and(schema::is_corrupt)
}

/// Makes the folder where it is missing and keeps other processes out of the file.
fn lock(path: &Path) -> Result<File, Error> {
    let failed = |attempt| move |source: std::io::Error| Error::Engine { attempt, source: Box::new(source) };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder).map_err(failed("make the folder of its data file"))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(failed("open the lock of its data file"))?;
    file.try_lock().map_err(|e| failed("lock its data file, which another process has open")(e.into()))?;
    Ok(file)
}

#[async_trait]
impl TelemetryStore for EmbeddedStore {
    async fn append(&self, batch: Batch) -> Result<Appended, Error> {
        self.append_knowing(batch, &[]).await
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.shared.appended.subscribe()
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        let tail = self.shared.tail();
        let reporting = tail.catalog.devices_from(0).filter(|(number, _)| {
            tail.device(*number).is_some_and(|device| device.readings.or(device.events).is_some())
        });
        let named = reporting.filter(|(_, key)| !is_nameless(key));
        let mut tenants: Vec<&TenantId> = named.map(|(_, key)| &key.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        Ok(tenants.into_iter().cloned().collect())
    }

    async fn extents(&self, tenant: &TenantId) -> Result<Vec<DeviceExtent>, Error> {
        let at = |(first, last): (i64, i64)| (Timestamp::from_millis(first), Timestamp::from_millis(last));
        let tail = self.shared.tail();
        let of_tenant = tail.catalog.devices_from(0).filter(|(_, key)| key.tenant == *tenant);
        let extents = of_tenant.filter_map(|(number, key)| {
            let known = tail.device(number)?;
            let both = known.readings.into_iter().chain(known.events);
            let (first, last) = at(both.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?);
            Some(DeviceExtent { device: key.device.clone(), first, last, readings: known.readings.map(at) })
        });
        let mut extents: Vec<DeviceExtent> = extents.collect();
        extents.sort_by(|a, b| a.device.cmp(&b.device));
        Ok(extents)
    }

    async fn scan(&self, key: &DeviceKey, range: TimeRange, signals: Option<&[SignalId]>) -> Result<Readings, Error> {
        self.page(key, range, signals, usize::MAX).await
    }

    async fn scan_many(&self, keys: Vec<DeviceKey>, range: TimeRange) -> Result<Vec<Readings>, Error> {
        self.blocking(move |shared| {
            each_device(shared, &keys, |connection, key| {
                reader::page(shared, connection, key, range, None, usize::MAX, OnDamage::Skip)
            })
        })
        .await
    }

    async fn latest(&self, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
        let key = key.clone();
        self.read(move |shared, connection| latest::latest(shared, connection, &key)).await
    }

    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        limit: usize,
    ) -> Result<Readings, Error> {
        let (key, signals) = (key.clone(), signals.map(<[SignalId]>::to_vec));
        self.read(move |shared, connection| {
            reader::page(shared, connection, &key, range, signals.as_deref(), limit, OnDamage::Refuse)
        })
        .await
    }

    async fn summaries(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        step: Duration,
        closed: Closed,
    ) -> Result<Timeline, Error> {
        let (key, signals) = (key.clone(), signals.map(<[SignalId]>::to_vec));
        self.read(move |shared, connection| {
            levels::timeline(shared, connection, &key, range, signals.as_deref(), step, closed)
        })
        .await
    }

    async fn windows(&self, keys: Vec<DeviceKey>, at: Timestamp, lengths: &[Duration]) -> Result<Vec<Windows>, Error> {
        let lengths = lengths.to_vec();
        self.blocking(move |shared| {
            each_device(shared, &keys, |connection, key| levels::windows(shared, connection, key, at, &lengths))
        })
        .await
    }

    async fn events(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        range: TimeRange,
    ) -> Result<Vec<DeviceEvent>, Error> {
        let (tenant, device) = (tenant.clone(), device.cloned());
        self.read(move |shared, connection| reader::events(shared, connection, &tenant, device.as_ref(), range)).await
    }

    async fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error> {
        self.ask_compactor(|reply| Job::Retain(tenant.clone(), class, before, reply)).await
    }

    async fn delete_device(&self, key: &DeviceKey) -> Result<Deleted, Error> {
        self.ask_compactor(|reply| Job::Delete(key.clone(), reply)).await
    }

    async fn quarantine(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineEntry>, Error> {
        let tenant = tenant.cloned();
        self.read(move |shared, connection| reader::quarantine(shared, connection, tenant.as_ref(), after, limit)).await
    }

    async fn remove_quarantined(&self, id: i64) -> Result<bool, Error> {
        self.ask(|reply| Command::RemoveQuarantined(id, reply)).await
    }

    async fn compact(&self) -> Result<(), Error> {
        self.ask_compactor(|reply| Job::Compact(Some(reply))).await
    }

    async fn size(&self) -> Result<StoreSize, Error> {
        self.blocking(|shared| {
            // A file that is not there takes no room.
            let bytes = shared.files().iter().filter_map(|file| fs_err::metadata(file).ok()).map(|m| m.len()).sum();
            let tail = shared.tail();
            let in_chunks = shared.samples_in_chunks.load(Ordering::Relaxed).max(0).unsigned_abs();
            Ok(StoreSize {
                samples: in_chunks + tail.samples(),
                bytes,
                readings_in_log: tail.readings(),
                damaged: shared.damaged.load(Ordering::Relaxed),
            })
        })
        .await
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.stopping.store(true, Ordering::Release);
        drop(self.jobs.send(Job::Stop));
        let closed = self.ask(Command::Close).await;
        // Whoever waits for room gets in, and finds the channel closed.
        self.shared.room.send_replace(true);
        let threads = self.take_threads();
        let joined = tokio::task::spawn_blocking(move || join(threads)).await;
        joined.map_err(|e| Error::Engine { attempt: "wait for its threads", source: Box::new(e) })?;
        match closed {
            // Closed before: there is nothing left to do.
            Err(Error::Closed) => Ok(()),
            closed => closed,
        }
    }
}
