//! The writer: one thread that owns the connection that writes.
//!
//! It takes what waits in its channel, makes one transaction of it - a group commit for many callers - and answers each
//! caller after COMMIT has returned, which is after the sync. The compactor's changes come through the same channel, so
//! nothing else ever writes.
//!
//! **Invariant**: memory follows the file. Nothing enters the tail or the catalogue that readers see before its transaction
//! has committed; a transaction that fails leaves no trace. A commit that fails for another reason than a full disk leaves
//! it unknown what is on disk, and a second sync may wrongly succeed (Rebello et al. 2020, *Can Applications Recover from
//! fsync Failures?*): the writer is poisoned until a restart reads what is there.

use std::sync::{Arc, atomic::Ordering};

use harbinger_core::TenantId;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use super::{
    changes::{self, DeviceChange},
    compactor::Job,
    compare::{self, ChunkCache, Known},
    inserts::{insert_events, insert_names, insert_quarantined},
    log::Group,
    retention::Expired,
    schema,
    shared::Shared,
    shipping,
    tail::Extent,
};
use crate::telemetry::{
    Appended, Batch, DataClass, Deleted, Error,
    catalog::{Catalog, DeviceNumber, widen},
    rows::Outcome,
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer does for others.
#[derive(Debug)]
pub(super) enum Command {
    /// Appends a batch and gives it back: to let go of it is the caller's work, not that of the thread all wait for.
    Append(Batch, Arc<Known>, Reply<(Appended, Batch)>),
    RemoveQuarantined(i64, Reply<bool>),
    /// Freezes the live layer of the tail.
    Freeze(Reply<()>),
    /// Asks for another compaction where what arrived during the last one is beyond the bound by itself: while one runs no
    /// append asks for it, and there may be no further append.
    MindTheBound(Reply<()>),
    /// Applies changes of chunks.
    Install(Vec<DeviceChange>, Reply<()>),
    /// Deletes some log rows up to a sequence; whether there are more.
    TrimLog(i64, Reply<bool>),
    /// Deletes the events or summaries that devices have from before a time.
    Forget(Vec<DeviceNumber>, DataClass, i64, Reply<()>),
    /// Deletes readings that are past their retention.
    Expire(Box<Expired>, Reply<()>),
    /// Deletes a tenant's quarantined messages from before a time.
    ForgetQuarantined(TenantId, i64, Reply<()>),
    /// Deletes everything that a device has outside the tail.
    Delete(DeviceNumber, Reply<Deleted>),
    /// Copies from the WAL into the data file what the checkpointer has left.
    Checkpoint(Reply<()>),
    /// Gives some pages that nothing uses back to the disk; whether there is more to do and nobody waits.
    Shrink(Reply<bool>),
    /// Moves chunks on their way to a remote server.
    Ship(shipping::Step, Reply<shipping::Done>),
    /// Does what waits, then ends.
    Close(Reply<()>),
}

/// Why a transaction failed: of one cause many callers are told.
#[derive(Debug, Clone)]
enum Failure {
    Full,
    Poisoned,
    Engine(&'static str, Arc<dyn std::error::Error + Send + Sync>),
}

/// The writing thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    commands: mpsc::Receiver<Command>,
    compactor: std::sync::mpsc::Sender<Job>,
    checkpointer: std::sync::mpsc::Sender<()>,
    /// The numbers given so far, those of the transaction at hand among them.
    catalog: Catalog,
    cache: ChunkCache,
    /// Of the newest log row.
    sequence: i64,
    /// Bytes of the log rows that no layer is frozen of.
    live_bytes: u64,
    /// Readings in the live layer at which the next compaction is asked for: after one has failed, more than the bound.
    compact_at: u64,
    poisoned: bool,
}

/// A caller of the group at hand.
struct Caller {
    batch: Batch,
    known: Arc<Known>,
    reply: Reply<(Appended, Batch)>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        commands: mpsc::Receiver<Command>,
        compactor: std::sync::mpsc::Sender<Job>,
        checkpointer: std::sync::mpsc::Sender<()>,
        sequence: i64,
        live_bytes: u64,
    ) -> Self {
        let catalog = shared.tail().catalog.clone();
        let compact_at = shared.options.log_readings_max;
        let cache = ChunkCache::default();
        Self {
            shared,
            connection,
            commands,
            compactor,
            checkpointer,
            catalog,
            cache,
            sequence,
            live_bytes,
            compact_at,
            poisoned: false,
        }
    }

    /// Works until the channel is closed and empty; then folds the WAL into the data file.
    pub(super) fn run(mut self) {
        let mut closing: Vec<Reply<()>> = Vec::new();
        let mut next = None;
        while let Some(command) = next.take().or_else(|| self.commands.blocking_recv()) {
            // Nobody waits for an answer that cannot be sent: its caller was cancelled, and what was done stays done.
            match command {
                Command::Append(batch, known, reply) => next = self.append(Caller { batch, known, reply }),
                Command::RemoveQuarantined(id, reply) => drop(reply.send(self.remove_quarantined(id))),
                Command::Freeze(reply) => drop(reply.send(self.freeze())),
                Command::MindTheBound(reply) => {
                    self.compact_at = self.shared.options.log_readings_max;
                    self.mind_the_bound();
                    drop(reply.send(Ok(())));
                }
                Command::Install(changes, reply) => drop(reply.send(self.install(changes))),
                Command::TrimLog(through, reply) => drop(reply.send(self.trim_log(through))),
                Command::Forget(devices, class, before, reply) => {
                    drop(reply.send(self.forget(&devices, class, before)));
                }
                Command::ForgetQuarantined(tenant, before, reply) => {
                    drop(reply.send(self.forget_quarantined(&tenant, before)));
                }
                Command::Expire(expired, reply) => drop(reply.send(self.expire(&expired))),
                Command::Delete(device, reply) => drop(reply.send(self.delete(device))),
                Command::Checkpoint(reply) => drop(reply.send(self.checkpoint())),
                Command::Shrink(reply) => drop(reply.send(self.shrink())),
                Command::Ship(step, reply) => drop(reply.send(self.ship(&step))),
                Command::Close(reply) => {
                    self.commands.close();
                    closing.push(reply);
                }
            }
        }
        self.shared.close_readers();
        let folded = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let failure = folded.err().map(|e| Failure::Engine("fold its log into its data file", Arc::new(e)));
        for reply in closing {
            // A WAL that stays is read at the next open: nothing is lost.
            drop(reply.send(failure.as_ref().map_or(Ok(()), |failure| Err(self.error(failure)))));
        }
    }

    /// Commits the caller's batch and those that wait behind it; gives back the command that ended the group.
    fn append(&mut self, first: Caller) -> Option<Command> {
        let mut readings = first.batch.readings.len();
        let mut callers = vec![first];
        let mut following = None;
        while readings < self.shared.options.group_readings_max {
            match self.commands.try_recv() {
                Ok(Command::Append(batch, known, reply)) => {
                    readings += batch.readings.len();
                    callers.push(Caller { batch, known, reply });
                }
                Ok(other) => {
                    following = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        match self.commit(&callers) {
            Ok(done) => {
                self.shared.appended.send_modify(|appends| *appends += 1);
                self.mind_the_bound();
                for (caller, done) in callers.into_iter().zip(done) {
                    drop(caller.reply.send(Ok((done, caller.batch))));
                }
            }
            Err(failure) => {
                for caller in callers {
                    drop(caller.reply.send(Err(self.error(&failure))));
                }
            }
        }
        following
    }

    /// One transaction for all callers; what became of each one's batch.
    fn commit(&mut self, callers: &[Caller]) -> Result<Vec<Appended>, Failure> {
        self.refuse_beyond_bound()?;
        let mark = self.catalog.mark();
        let committed = self.write_group(callers, mark);
        match committed {
            Ok((group, body_bytes, done)) => {
                self.take_into_tail(callers, &group, mark);
                self.live_bytes += body_bytes;
                Ok(done)
            }
            Err(failure) => {
                self.catalog.roll_back(mark);
                Err(failure)
            }
        }
    }

    fn write_group(
        &mut self,
        callers: &[Caller],
        mark: (usize, usize),
    ) -> Result<(Group, u64, Vec<Appended>), Failure> {
        let engine = |attempt| move |source: rusqlite::Error| Failure::Engine(attempt, Arc::new(source));
        let (group, with_samples) = self.number(callers);
        let known: Vec<Arc<Known>> = callers.iter().map(|caller| caller.known.clone()).collect();
        let outcomes = compare::outcomes(&group, &self.shared, &self.connection, &mut self.cache, &known)
            .map_err(engine("compare readings with what is held"))?;
        let mut done = count(callers, &with_samples, &outcomes);
        let body = if group.is_empty() { None } else { Some(group.encode()) };
        let body = body.transpose().map_err(|e| Failure::Engine("compress a batch", Arc::new(e)))?;
        let sequence = self.sequence + 1;
        let catalog = std::mem::take(&mut self.catalog);
        let written = self.transaction("append a batch", |connection| {
            insert_names(connection, &catalog, mark)?;
            if let Some(body) = &body {
                connection
                    .prepare_cached("INSERT INTO log (sequence, readings, body) VALUES (?1, ?2, ?3)")?
                    .execute(params![sequence, group.len() as i64, body])?;
            }
            for (caller, done) in callers.iter().zip(&mut done) {
                insert_events(connection, &catalog, &caller.batch, done)?;
                insert_quarantined(connection, &caller.batch, done)?;
            }
            Ok(())
        });
        self.catalog = catalog;
        written?;
        self.sequence = sequence;
        Ok((group, body.map_or(0, |body| body.len() as u64), done))
    }

    /// All readings as one group, and which of them have samples, in order.
    fn number(&mut self, callers: &[Caller]) -> (Group, Vec<bool>) {
        let mut group = Group::default();
        let readings = callers.iter().flat_map(|caller| &caller.batch.readings);
        let with_samples = readings.map(|reading| group.push(&mut self.catalog, reading)).collect();
        for event in callers.iter().flat_map(|caller| &caller.batch.events) {
            self.catalog.number_device(&event.key);
        }
        (group, with_samples)
    }

    fn take_into_tail(&self, callers: &[Caller], group: &Group, (devices, signals): (usize, usize)) {
        let mut tail = self.shared.tail_mut();
        for (_, key) in self.catalog.devices_from(devices) {
            tail.catalog.number_device(key);
        }
        for (_, signal) in self.catalog.signals_from(signals) {
            tail.catalog.number_signal(signal);
        }
        for reading in group.readings() {
            tail.put(&reading);
        }
        for event in callers.iter().flat_map(|caller| &caller.batch.events) {
            if let Some(number) = self.catalog.find_device(&event.key) {
                widen(&mut tail.device_mut(number).events, event.ts.millis());
            }
        }
    }

    /// Refuses appends while the tail is far beyond its bound: it cannot be compacted, which means that the disk is full.
    fn refuse_beyond_bound(&self) -> Result<(), Failure> {
        let bound = self.shared.options.log_readings_max.saturating_mul(4);
        if self.shared.tail().live().readings() > bound { Err(Failure::Full) } else { Ok(()) }
    }

    /// Asks for a compaction where the live layer is beyond its bound; holds appends back where it is far beyond.
    fn mind_the_bound(&mut self) {
        let options = &self.shared.options;
        let live = self.shared.tail().live().readings();
        if live >= self.compact_at || (self.live_bytes >= options.log_bytes_max && live > 0) {
            if !self.shared.compacting.swap(true, Ordering::SeqCst) && self.compactor.send(Job::Compact(None)).is_err()
            {
                self.shared.compacting.store(false, Ordering::SeqCst);
            }
            self.compact_at = live + options.log_readings_max / 4 + 1;
        }
        let far_beyond = live >= options.log_readings_max.saturating_mul(2);
        if far_beyond && self.shared.compacting.load(Ordering::SeqCst) {
            self.shared.room.send_replace(false);
            // It may have ended between the two lines above, and told of room before there was none.
            if !self.shared.compacting.load(Ordering::SeqCst) {
                self.shared.room.send_replace(true);
            }
        }
    }

    /// Has the WAL copied into the data file where it is long. Where it cannot be asked how long it is, SQLite does it in time.
    fn mind_the_wal(&self) {
        let is_due = schema::pages_to_copy(&self.connection).is_ok_and(|pages| pages >= schema::CHECKPOINT_PAGES);
        if is_due && !self.shared.checkpointing.swap(true, Ordering::AcqRel) && self.checkpointer.send(()).is_err() {
            self.shared.checkpointing.store(false, Ordering::Release);
        }
    }

    fn checkpoint(&self) -> Result<(), Error> {
        schema::checkpoint(&self.connection).map_err(self.shared.failure("copy its log"))
    }

    fn freeze(&mut self) -> Result<(), Error> {
        self.shared.tail_mut().freeze(self.sequence);
        self.live_bytes = 0;
        self.compact_at = self.shared.options.log_readings_max;
        self.shared.room.send_replace(true);
        Ok(())
    }

    fn install(&mut self, changes: Vec<DeviceChange>) -> Result<(), Error> {
        let installed = self.transaction("write chunks", |connection| changes::install(connection, &changes));
        let more = installed.map_err(|failure| self.error(&failure))?;
        self.shared.samples_in_chunks.fetch_add(more, Ordering::Relaxed);
        let damaged: usize = changes.iter().map(|change| change.damaged.len()).sum();
        self.shared.damaged.fetch_add(damaged as u64, Ordering::Relaxed);
        let mut tail = self.shared.tail_mut();
        for change in changes {
            self.cache.remove(change.device);
            let device = tail.device_mut(change.device);
            device.span = Some(change.span);
            device.chunk_signals = change.signals;
        }
        Ok(())
    }

    fn ship(&mut self, step: &shipping::Step) -> Result<shipping::Done, Error> {
        let done = self.transaction("move what was shipped", |connection| shipping::apply(connection, step));
        let done = done.map_err(|failure| self.error(&failure))?;
        self.shared.samples_in_chunks.fetch_sub(done.samples, Ordering::Relaxed);
        for &device in &done.devices {
            self.cache.remove(device);
        }
        Ok(done)
    }

    fn trim_log(&mut self, through: i64) -> Result<bool, Error> {
        self.transaction("delete log rows", |connection| changes::trim_log(connection, through))
            .map_err(|failure| self.error(&failure))
    }

    fn forget(&mut self, devices: &[DeviceNumber], class: DataClass, before: i64) -> Result<(), Error> {
        let forgotten = self.transaction("delete what is old", |connection| {
            changes::forget(connection, devices, class, before)?;
            devices.iter().map(|&device| changes::extents(connection, device)).collect::<rusqlite::Result<Vec<_>>>()
        });
        let left = forgotten.map_err(|failure| self.error(&failure))?;
        for (&device, left) in devices.iter().zip(left) {
            self.forgotten(device, 0, left);
        }
        Ok(())
    }

    fn expire(&mut self, expired: &Expired) -> Result<(), Error> {
        let done = self.transaction("delete old chunks", |connection| {
            let samples = changes::expire(connection, expired)?;
            Ok((samples, changes::extents(connection, expired.device)?))
        });
        let (samples, left) = done.map_err(|failure| self.error(&failure))?;
        self.forgotten(expired.device, samples, left);
        let mut tail = self.shared.tail_mut();
        let device = tail.device_mut(expired.device);
        device.forgotten = device.forgotten.max(Some(expired.until.min(expired.before)));
        Ok(())
    }

    /// Deletes what a device has outside the tail, which keeps what came since the last compaction.
    fn delete(&mut self, number: DeviceNumber) -> Result<Deleted, Error> {
        let deleted = self.transaction("delete a device", |connection| {
            Ok((changes::delete_device(connection, number)?, changes::extents(connection, number)?))
        });
        let (gone, left) = deleted.map_err(|failure| self.error(&failure))?;
        self.forgotten(number, gone.samples, left);
        let mut tail = self.shared.tail_mut();
        let device = tail.device_mut(number);
        (device.span, device.forgotten) = (None, None);
        device.chunk_signals.clear();
        Ok(gone)
    }

    /// Memory follows the file: a device has so many samples fewer in chunks, and is left with these extents there.
    fn forgotten(&mut self, device: DeviceNumber, samples: u64, (in_chunks, events): (Extent, Extent)) {
        self.shared.samples_in_chunks.fetch_sub(i64::try_from(samples).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.cache.remove(device);
        let mut tail = self.shared.tail_mut();
        let mut readings = tail.extent(device);
        for ts in in_chunks.into_iter().flat_map(|(first, last)| [first, last]) {
            widen(&mut readings, ts);
        }
        let device = tail.device_mut(device);
        (device.readings, device.events) = (readings, events);
    }

    /// Free pages are what the log of the next group commits is written to, so this is for times of rest.
    fn shrink(&self) -> Result<bool, Error> {
        if !self.commands.is_empty() || self.poisoned {
            return Ok(false);
        }
        let left = schema::shrink(&self.connection).map_err(self.shared.failure("give free pages back"))?;
        Ok(left > 0)
    }

    fn forget_quarantined(&mut self, tenant: &TenantId, before: i64) -> Result<(), Error> {
        let delete = "DELETE FROM quarantine WHERE tenant = ?1 AND received_ms < ?2";
        self.transaction("delete old quarantined messages", |connection| {
            connection.prepare_cached(delete)?.execute(params![tenant.as_str(), before]).map(drop)
        })
        .map_err(|failure| self.error(&failure))
    }

    fn remove_quarantined(&mut self, id: i64) -> Result<bool, Error> {
        let delete = "DELETE FROM quarantine WHERE id = ?1";
        self.transaction("remove a quarantined message", |connection| {
            Ok(connection.prepare_cached(delete)?.execute(params![id])? > 0)
        })
        .map_err(|failure| self.error(&failure))
    }

    /// Runs `work` in a transaction: all of it is durable when this returns, or nothing of it is there.
    fn transaction<T>(
        &mut self,
        attempt: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        if self.poisoned {
            return Err(Failure::Poisoned);
        }
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        let worked = begun.and_then(|()| work(&self.connection));
        let (error, at_commit) = match worked {
            Ok(result) => match self.connection.execute_batch("COMMIT") {
                Ok(()) => {
                    self.mind_the_wal();
                    return Ok(result);
                }
                Err(error) => (error, true),
            },
            Err(error) => (error, false),
        };
        let full = schema::is_full(&error);
        let rolled_back = self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        if !rolled_back || (at_commit && !full) {
            self.poisoned = true;
            tracing::error!(path = self.shared.path(), %error, attempt, "commit failed: writer stopped until restart");
            return Err(Failure::Poisoned);
        }
        Err(if full { Failure::Full } else { Failure::Engine(attempt, Arc::new(error)) })
    }

    fn error(&self, failure: &Failure) -> Error {
        match failure {
            Failure::Full => Error::Full { path: self.shared.path() },
            Failure::Poisoned => Error::Poisoned,
            Failure::Engine(attempt, source) => Error::Engine { attempt, source: Box::new(source.clone()) },
        }
    }
}

/// Each caller's share of the outcomes; a reading without samples is a duplicate: nothing of it is missing.
fn count(callers: &[Caller], with_samples: &[bool], outcomes: &[Outcome]) -> Vec<Appended> {
    let mut with_samples = with_samples.iter();
    let mut outcomes = outcomes.iter();
    let of_caller = |caller: &Caller| {
        let mut done = Appended::default();
        for has_samples in with_samples.by_ref().take(caller.batch.readings.len()) {
            match has_samples.then(|| outcomes.next()).flatten() {
                Some(Outcome::Stored) => done.stored += 1,
                Some(Outcome::Corrected) => done.corrected += 1,
                Some(Outcome::Duplicate) | None => done.duplicate += 1,
            }
        }
        done
    };
    callers.iter().map(of_caller).collect()
}
