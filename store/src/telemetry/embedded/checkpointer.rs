//! The checkpointer: one thread that copies what is committed from the WAL into the data file while commits go on.
//!
//! Left to SQLite, the commit that fills the WAL does that, and everyone behind it waits: 70 ms for 16 MiB. Here the writer says
//! when it is time; this thread copies and syncs all that was there, then asks the writer for the little that came meanwhile,
//! after which SQLite begins the WAL from its start again. A thread that fails leaves it to SQLite as before, only later.

use std::{
    sync::{Arc, atomic::Ordering, mpsc as signals},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{schema, shared::Shared, writer::Command};
use crate::telemetry::Error;

/// The checkpointing thread's own.
#[derive(Debug)]
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    /// Weak, so that the writer ends when the store's handle is gone.
    writer: mpsc::WeakSender<Command>,
}

impl Checkpointer {
    pub(super) fn new(shared: Arc<Shared>, writer: mpsc::WeakSender<Command>) -> Self {
        Self { shared, writer }
    }

    /// Works until the writer, which gives the signal, is gone.
    pub(super) fn run(self, due: &signals::Receiver<()>) {
        for () in due {
            let start = Instant::now();
            let done = self.copy();
            self.shared.checkpointing.store(false, Ordering::Release);
            match done {
                Ok(()) => tracing::trace!(path = self.shared.path(), took = ?start.elapsed(), "copied the log"),
                Err(Error::Closed) => {}
                Err(error) => {
                    tracing::warn!(path = self.shared.path(), %error, "its log was not copied into the data file");
                }
            }
        }
    }

    fn copy(&self) -> Result<(), Error> {
        schema::checkpoint(&*self.shared.reader()?).map_err(self.shared.failure("copy its log"))?;
        let (reply, done) = oneshot::channel();
        let writer = self.writer.upgrade().ok_or(Error::Closed)?;
        writer.blocking_send(Command::Checkpoint(reply)).map_err(|_| Error::Closed)?;
        drop(writer);
        done.blocking_recv().map_err(|_| Error::Closed)?
    }
}
