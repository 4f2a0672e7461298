//! The compactor: one thread that moves the frozen layer of the tail into chunks.
//!
//! It reads the chunks that readings fall into, merges and encodes them - on every core, off the writer thread - and sends
//! the changes to the writer in transactions of some hundred kilobytes. When the last is committed the layer is let go and
//! its log rows are deleted. A crash anywhere between leaves log rows whose readings are in chunks already: laid over those
//! chunks again they change nothing, because a sample is known by its key and the later arrival holds.
//!
//! Retention runs here too, so that no chunk is rewritten while it is being deleted.

use std::sync::{Arc, atomic::Ordering, mpsc as jobs};

use harbinger_core::{DeviceKey, TenantId, Timestamp};
use rayon::prelude::*;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    changes::{DeviceChange, NewChunk},
    chunk::{self, ChunkKey, READINGS_BEFORE_SPLIT, Span},
    reader::{chunk_covering, chunks_starting},
    shared::Shared,
    summaries,
    tail::{Device, Frozen},
    writer::{Command, Reply},
};
use crate::telemetry::{
    DataClass, Deleted, Error,
    catalog::DeviceNumber,
    rows::{Rows, SignalNumber},
};

/// Devices that one transaction changes: at 1,000 readings of some signals each, half a megabyte.
const DEVICES_A_TRANSACTION: usize = 64;
/// Readings that one transaction takes from the tail at most, but for a single device that has more.
const READINGS_A_TRANSACTION: usize = 32_768;
/// Devices whose old chunks one transaction deletes.
const DEVICES_A_FORGETTING: usize = 32;

/// What the compactor is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Moves everything that is in the log by now into chunks.
    Compact(Option<Reply<()>>),
    /// Forgets what a tenant has of a class from before a time.
    Retain(TenantId, DataClass, Timestamp, Reply<()>),
    /// Deletes everything of a device.
    Delete(DeviceKey, Reply<Deleted>),
    /// Ends the thread.
    Stop,
}

/// The compacting thread's own.
#[derive(Debug)]
pub(super) struct Compactor {
    shared: Arc<Shared>,
    /// Weak, so that the writer ends when the store's handle is gone.
    writer: mpsc::WeakSender<Command>,
}

impl Compactor {
    pub(super) fn new(shared: Arc<Shared>, writer: mpsc::WeakSender<Command>) -> Self {
        Self { shared, writer }
    }

    /// Works until it is told to stop or everyone who could ask is gone.
    pub(super) fn run(self, jobs: &jobs::Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Compact(reply) => {
                    let done = self.compact();
                    self.shared.compacting.store(false, Ordering::SeqCst);
                    // Whatever came of it: who waits for room must not wait for a compaction that has ended.
                    self.shared.room.send_replace(true);
                    match reply {
                        Some(reply) => drop(reply.send(done)),
                        None => self.report(done),
                    }
                }
                Job::Retain(tenant, class, before, reply) => {
                    drop(reply.send(self.retain(&tenant, class, before)));
                }
                Job::Delete(key, reply) => drop(reply.send(self.delete(&key))),
                Job::Stop => return,
            }
        }
    }

    fn report(&self, done: Result<(), Error>) {
        match done {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => tracing::warn!(path = self.shared.path(), %error, "compaction failed: the log stays longer"),
        }
    }

    /// Moves everything that is in the log by now into chunks; what an earlier failure left frozen goes first.
    fn compact(&self) -> Result<(), Error> {
        loop {
            let left_over = self.shared.tail().frozen.is_some();
            if !left_over {
                self.ask(Command::Freeze)?;
            }
            let Some(frozen) = self.shared.tail().frozen.clone() else { return Ok(()) };
            self.move_into_chunks(&frozen)?;
            self.shared.tail_mut().frozen = None;
            while self.ask(|reply| Command::TrimLog(frozen.through, reply))? {}
            if !left_over {
                return Ok(());
            }
        }
    }

    fn move_into_chunks(&self, frozen: &Frozen) -> Result<(), Error> {
        let connection = self.shared.reader()?;
        let mut devices = frozen.layer.devices().peekable();
        // One transaction is written while the next is encoded.
        let mut written: Option<oneshot::Receiver<Result<(), Error>>> = None;
        while devices.peek().is_some() {
            if self.shared.stopping.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            let mut readings = 0;
            let mut works = Vec::with_capacity(DEVICES_A_TRANSACTION);
            while works.len() < DEVICES_A_TRANSACTION
                && let Some((device, rows)) = devices.next_if(|_| readings < READINGS_A_TRANSACTION)
            {
                readings += rows.len();
                works.push(self.gather(&connection, device, rows)?);
            }
            let changes = works.into_par_iter().map(DeviceWork::rewrite).collect::<Result<Vec<_>, Error>>()?;
            wait(written.take())?;
            written = Some(self.send(|reply| Command::Install(changes, reply))?);
        }
        wait(written)
    }

    /// Cuts a device's readings by the chunks they belong into, and reads what those hold.
    fn gather(&self, connection: &Connection, device: DeviceNumber, rows: &Rows) -> Result<DeviceWork, Error> {
        let known = self.shared.tail().device(device).cloned().unwrap_or_default();
        let span = Span::for_cadence(rows.times()).or(known.span).unwrap_or(Span::Month);
        let mut cells = Vec::new();
        let mut next = rows.times().first().copied();
        while let Some(ts) = next {
            let cell = read_cell(connection, device, ts, span, rows).map_err(self.shared.failure("read chunks"))?;
            let after = rows.times().partition_point(|&ts| ts < cell.key.end());
            next = rows.times().get(after).copied();
            cells.push(cell);
        }
        Ok(DeviceWork { device, known, span, cells })
    }

    fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error> {
        match class {
            DataClass::Readings => self.compact_to_forget()?,
            DataClass::Events => {}
            DataClass::Quarantine => {
                return self.ask(|reply| Command::ForgetQuarantined(tenant.clone(), before.millis(), reply));
            }
            DataClass::HourlySummaries | DataClass::DailySummaries => return Ok(()),
        }
        let is_old = |extent: Option<(i64, i64)>| extent.is_some_and(|(first, _)| first < before.millis());
        let old: Vec<DeviceNumber> = {
            let tail = self.shared.tail();
            let of_tenant = tail.catalog.devices_from(0).filter(|(_, key)| key.tenant == *tenant);
            let known = of_tenant.filter_map(|(number, _)| Some((number, tail.device(number)?)));
            known
                .filter(|(_, d)| is_old(if class == DataClass::Events { d.events } else { d.readings }))
                .map(|(number, _)| number)
                .collect()
        };
        for devices in old.chunks(DEVICES_A_FORGETTING) {
            self.ask(|reply| Command::Forget(devices.to_vec(), class, before.millis(), reply))?;
        }
        Ok(())
    }

    /// What is old in the log goes too. Where the disk is full deleting is what makes room, so it comes all the same.
    fn compact_to_forget(&self) -> Result<(), Error> {
        match self.compact() {
            Ok(()) | Err(Error::Full { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn delete(&self, key: &DeviceKey) -> Result<Deleted, Error> {
        let Some(device) = self.shared.tail().catalog.find_device(key) else { return Ok(Deleted::default()) };
        self.compact()?;
        self.ask(|reply| Command::Delete(device, reply))
    }

    fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<oneshot::Receiver<Result<T, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        let writer = self.writer.upgrade().ok_or(Error::Closed)?;
        writer.blocking_send(command(reply)).map_err(|_| Error::Closed)?;
        Ok(answer)
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        self.send(command)?.blocking_recv().map_err(|_| Error::Closed)?
    }
}

fn wait(answer: Option<oneshot::Receiver<Result<(), Error>>>) -> Result<(), Error> {
    answer.map_or(Ok(()), |answer| answer.blocking_recv().map_err(|_| Error::Closed)?)
}

/// New readings of one chunk's span, and the chunks that are there: one that covers the whole span, or finer ones.
#[derive(Debug)]
struct Cell {
    key: ChunkKey,
    rows: Rows,
    existing: Vec<(ChunkKey, Vec<u8>)>,
}

/// The cell that `ts` falls into: the coarser chunk that is there already, or the device's span.
fn read_cell(
    connection: &Connection,
    device: DeviceNumber,
    ts: i64,
    span: Span,
    rows: &Rows,
) -> rusqlite::Result<Cell> {
    let covering = chunk_covering(connection, device, ts)?.filter(|(key, _)| key.span >= span);
    let (key, existing) = match covering {
        Some((key, body)) => (key, vec![(key, body)]),
        None => {
            let key = ChunkKey::holding(device, ts, span);
            (key, chunks_starting(connection, device, key.start, key.end())?)
        }
    };
    Ok(Cell { key, rows: rows.slice(key.start, key.end()), existing })
}

/// A device's share of a compaction.
#[derive(Debug)]
struct DeviceWork {
    device: DeviceNumber,
    known: Device,
    span: Span,
    cells: Vec<Cell>,
}

impl DeviceWork {
    /// Merges and encodes.
    fn rewrite(self) -> Result<DeviceChange, Error> {
        let mut signals: Vec<SignalNumber> = self.known.chunk_signals.clone();
        let (mut damaged, mut delete, mut put) = (Vec::new(), Vec::new(), Vec::new());
        let mut span = self.span;
        for cell in self.cells {
            let mut all = Rows::default();
            for (key, body) in &cell.existing {
                delete.push(key.start);
                match chunk::decode(key, body) {
                    Ok(rows) => all.overlay(&rows),
                    Err(reason) => {
                        tracing::error!(row = key.row_name(), reason, "damaged chunk set aside: it is never served");
                        damaged.push((*key, reason));
                    }
                }
            }
            all.overlay(&cell.rows);
            signals.extend(all.signals().iter().filter(|signal| !self.known.chunk_signals.contains(signal)));
            for (key, rows) in split(&cell.key, all) {
                span = self.span.min(key.span);
                put.push(new_chunk(key, &rows)?);
            }
        }
        signals.sort_unstable();
        signals.dedup();
        let changes_device = self.known.span != Some(span) || self.known.chunk_signals != signals;
        Ok(DeviceChange { device: self.device, span, signals, changes_device, damaged, delete, put })
    }
}

/// One chunk, or chunks of a finer span where one would hold too many readings.
fn split(key: &ChunkKey, rows: Rows) -> Vec<(ChunkKey, Rows)> {
    let finer = key.span.finer().filter(|_| rows.len() > READINGS_BEFORE_SPLIT);
    let Some(finer) = finer else { return vec![(*key, rows)] };
    let span = Span::for_cadence(rows.times()).map_or(finer, |span| span.min(finer));
    let mut parts = Vec::new();
    let mut next = rows.times().first().copied();
    while let Some(ts) = next {
        let part = ChunkKey::holding(key.device, ts, span);
        let after = rows.times().partition_point(|&ts| ts < part.end());
        next = rows.times().get(after).copied();
        parts.push((part, rows.slice(part.start, part.end())));
    }
    parts
}

fn new_chunk(key: ChunkKey, rows: &Rows) -> Result<NewChunk, Error> {
    let summaries = summaries::encode(&summaries::summarise(rows))
        .map_err(|e| Error::Engine { attempt: "compress summaries", source: Box::new(e) })?;
    let extent = rows.extent().unwrap_or((key.start, key.start));
    Ok(NewChunk { key, extent, samples: rows.samples(), summaries, body: chunk::encode(&key, rows) })
}
