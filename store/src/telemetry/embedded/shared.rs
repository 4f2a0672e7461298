//! What the handle, the writer, the compactor and the readers of one embedded store share.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU64},
    },
};

use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use super::{Options, load::Loaded, schema, tail::Tail};
use crate::telemetry::Error;

/// Connections that read at the same time: more than two a core only wait for each other.
const READERS: usize = 8;

/// What the parts of one store share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    tail: RwLock<Tail>,
    /// Rises with every durable append.
    pub(super) appended: watch::Sender<u64>,
    /// Whether appends may come in: not while the tail is far beyond its bound and a compaction is under way.
    pub(super) room: watch::Sender<bool>,
    /// Whether a compaction is asked for or under way.
    pub(super) compacting: AtomicBool,
    /// Whether the WAL is being copied into the data file.
    pub(super) checkpointing: AtomicBool,
    /// Whether the store is going: long work stops at the next place where it may.
    pub(super) stopping: AtomicBool,
    pub(super) samples_in_chunks: AtomicI64,
    /// Rows set aside because they cannot be read: of chunks and of the log.
    pub(super) damaged: AtomicU64,
    idle_readers: Mutex<Vec<Connection>>,
    /// Bounds the reads that run at the same time.
    pub(super) read_permits: Semaphore,
}

impl Shared {
    pub(super) fn new(options: Options, loaded: Loaded) -> Self {
        let Loaded { tail, sequence, samples_in_chunks, damaged, .. } = loaded;
        Self {
            options,
            tail: RwLock::new(tail),
            appended: watch::Sender::new(sequence.unsigned_abs()),
            room: watch::Sender::new(true),
            compacting: AtomicBool::new(false),
            checkpointing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            samples_in_chunks: AtomicI64::new(samples_in_chunks),
            damaged: AtomicU64::new(damaged),
            idle_readers: Mutex::new(Vec::new()),
            read_permits: Semaphore::new(READERS),
        }
    }

    // The lock is never held while something can panic half-way through a change, so a poisoned one is still good to use.
    pub(super) fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data file as errors name it.
    pub(super) fn path(&self) -> String {
        self.options.path.display().to_string()
    }

    /// What SQLite's failure in `attempt` means.
    pub(super) fn failure(&self, attempt: &'static str) -> impl Fn(rusqlite::Error) -> Error + '_ {
        move |source| schema::failure(&self.path(), attempt, source)
    }

    /// A connection that reads, from those that are idle or new; it goes back when it is dropped.
    pub(super) fn reader(&self) -> Result<Reader<'_>, Error> {
        let idle = self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.options.path).map_err(self.failure("open its data file for reading"))?,
        };
        Ok(Reader { connection: Some(connection), shared: self })
    }

    /// Closes the connections that are idle.
    pub(super) fn close_readers(&self) {
        self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The data file and its WAL.
    pub(super) fn files(&self) -> [PathBuf; 2] {
        let mut wal = self.options.path.clone().into_os_string();
        wal.push("-wal");
        [self.options.path.clone(), PathBuf::from(wal)]
    }
}

/// A borrowed reading connection.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    connection: Option<Connection>,
    shared: &'a Shared,
}

impl std::ops::Deref for Reader<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("only dropping takes the connection")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut idle = self.shared.idle_readers.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS {
            idle.extend(self.connection.take());
        }
    }
}
