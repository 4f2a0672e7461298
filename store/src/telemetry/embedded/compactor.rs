//! The compactor: one thread that moves the frozen layer of the tail into chunks.
//!
//! It reads the chunks that readings fall into, merges and encodes them - on every core, off the writer thread - and sends
//! the changes to the writer in transactions of some hundred kilobytes. When the last is committed the layer is let go and
//! its log rows are deleted. A crash anywhere between leaves log rows whose readings are in chunks already: laid over those
//! chunks again they change nothing, because a sample is known by its key and the later arrival holds.
//!
//! Retention runs here too, so that no chunk is rewritten while it is being deleted.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering, mpsc as jobs},
};

use harbinger_core::{DeviceKey, TenantId, Timestamp};
use rayon::prelude::*;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    chunk::{ChunkKey, Span},
    reader::{chunk_covering, chunks_starting, newest_chunk},
    retention,
    rewrite::{Cell, DeviceWork},
    schema,
    shared::Shared,
    summaries::Level,
    tail::{Device, Extent, Frozen},
    writer::{Command, Reply},
};
use crate::telemetry::{DataClass, Deleted, Error, catalog::DeviceNumber, rows::Rows};

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
                    if done.is_ok() {
                        // Nobody waits for the answer; a writer that is gone has nothing to compact.
                        drop(self.send(Command::MindTheBound));
                    }
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
                return self.shrink();
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
            let changes = works.into_par_iter().map(DeviceWork::rewrite).collect();
            wait(written.take())?;
            written = Some(self.send(|reply| Command::Install(changes, reply))?);
        }
        wait(written)
    }

    /// Cuts a device's readings by the chunks they belong into, and reads what those hold. Readings from before what was
    /// forgotten are past the edge of retention: they end here.
    fn gather(&self, connection: &Connection, device: DeviceNumber, rows: &Rows) -> Result<DeviceWork, Error> {
        let known = self.shared.tail().device(device).cloned().unwrap_or_default();
        let kept = known.forgotten.map(|forgotten| rows.slice(forgotten, i64::MAX));
        let rows = kept.as_ref().unwrap_or(rows);
        let span = Span::for_cadence(rows.times()).or(known.span).unwrap_or(Span::Month);
        let fail = |source| self.shared.failure("read chunks")(source);
        let mut cells = Vec::new();
        let mut next = rows.times().first().copied();
        while let Some(ts) = next {
            let cell = read_cell(connection, device, ts, span, rows).map_err(fail)?;
            let after = rows.times().partition_point(|&ts| ts < cell.key.end());
            next = rows.times().get(after).copied();
            cells.push(cell);
        }
        let newest = newest_chunk(connection, device).map_err(fail)?;
        let summarises = !self.shared.options.is_spool;
        let neighbours =
            if summarises { read_neighbours(connection, &cells, newest).map_err(fail)? } else { Vec::new() };
        Ok(DeviceWork { device, known, span, cells, newest, neighbours, summarises })
    }

    fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error> {
        let before = before.millis();
        match class {
            DataClass::Readings => self.retain_readings(tenant, before),
            DataClass::Events => {
                let old = self.devices_where(tenant, |device| is_old(device.events, before));
                self.forget(&old, class, before)
            }
            DataClass::HourlySummaries | DataClass::DailySummaries => {
                let old = self.devices_where(tenant, |device| device.span.is_some());
                self.forget(&old, class, before)
            }
            DataClass::Quarantine => self.ask(|reply| Command::ForgetQuarantined(tenant.clone(), before, reply)),
        }
    }

    fn devices_where(&self, tenant: &TenantId, wanted: impl Fn(&Device) -> bool) -> Vec<DeviceNumber> {
        let tail = self.shared.tail();
        let of_tenant = tail.catalog.devices_from(0).filter(|(_, key)| key.tenant == *tenant);
        of_tenant.filter(|(number, _)| tail.device(*number).is_some_and(&wanted)).map(|(number, _)| number).collect()
    }

    fn forget(&self, devices: &[DeviceNumber], class: DataClass, before: i64) -> Result<(), Error> {
        for devices in devices.chunks(DEVICES_A_FORGETTING) {
            self.ask(|reply| Command::Forget(devices.to_vec(), class, before, reply))?;
        }
        Ok(())
    }

    /// Deletes chunks by whole days, and leaves their summaries behind.
    fn retain_readings(&self, tenant: &TenantId, before: i64) -> Result<(), Error> {
        self.compact_to_forget()?;
        if self.shared.options.is_spool {
            // What was shipped is forgotten already: devices begin where that begins now.
            let old = self.devices_where(tenant, |device| is_old(device.readings, before));
            self.forget(&old, DataClass::Readings, before)?;
        }
        let before = Level::Day.floor(before);
        let old = self.devices_where(tenant, |device| is_old(device.readings, before));
        let connection = self.shared.reader()?;
        for device in old {
            loop {
                let summarises = !self.shared.options.is_spool;
                let expired = retention::expired(&connection, device, before, summarises);
                let Some(expired) = expired.map_err(self.shared.failure("read old chunks"))? else { break };
                self.ask(|reply| Command::Expire(Box::new(expired), reply))?;
            }
        }
        self.shrink()
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
        // What is in the log would come back from there.
        self.compact()?;
        self.ask(|reply| Command::Delete(device, reply))
    }

    /// Gives pages that nothing uses back to the disk, as long as nobody waits for the writer.
    fn shrink(&self) -> Result<(), Error> {
        // The writer copies the WAL before it cuts it: it shall find little to copy.
        schema::checkpoint(&*self.shared.reader()?).map_err(self.shared.failure("copy its log"))?;
        loop {
            let is_more = self.ask(Command::Shrink)?;
            if !is_more || self.shared.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
        }
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

fn is_old(extent: Extent, before: i64) -> bool {
    extent.is_some_and(|(first, _)| first < before)
}

fn wait(answer: Option<oneshot::Receiver<Result<(), Error>>>) -> Result<(), Error> {
    answer.map_or(Ok(()), |answer| answer.blocking_recv().map_err(|_| Error::Closed)?)
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

/// The chunks that stay and without which summaries cannot be made: of the days that are rewritten and over, and the one
/// that was still filling until now.
fn read_neighbours(
    connection: &Connection,
    cells: &[Cell],
    newest: Option<ChunkKey>,
) -> rusqlite::Result<Vec<(ChunkKey, Vec<u8>)>> {
    let Some(last) = cells.last() else { return Ok(Vec::new()) };
    let filling = last.key.start.max(newest.map_or(i64::MIN, |key| key.start));
    let is_rewritten = |key: &ChunkKey| cells.iter().any(|cell| cell.existing.iter().any(|(known, _)| known == key));
    let over = newest.filter(|key| key.start < filling && key.span <= Span::Day);
    let fine = cells.iter().map(|cell| cell.key).filter(|key| key.span <= Span::Day);
    let days: BTreeSet<i64> = fine.chain(over).map(|key| Level::Day.floor(key.start)).collect();
    let mut neighbours = Vec::new();
    for day in days {
        let is_over = day < Level::Day.floor(filling);
        let from_day = if is_over {
            chunks_starting(connection, last.key.device, day, day + Level::Day.millis())?
        } else if let Some(key) = over.filter(|key| Level::Day.floor(key.start) == day) {
            chunks_starting(connection, last.key.device, key.start, key.start + 1)?
        } else {
            Vec::new()
        };
        neighbours.extend(from_day.into_iter().filter(|(key, _)| !is_rewritten(key)));
    }
    Ok(neighbours)
}
