//! One session with PostgreSQL that copies rows into a table, over and over.

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use tokio::runtime::{Builder, Runtime};

/// A session of its own thread's.
pub(crate) struct Session {
    runtime: Runtime,
    connection: PgConnection,
}

impl Session {
    /// Connects to a database by its URL.
    pub(crate) fn open(url: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(PgConnection::connect(url))?;
        Ok(Self { runtime, connection })
    }

    /// Runs a `COPY ... FROM STDIN` over rows in text format; returns when they are committed.
    pub(crate) fn copy(&mut self, statement: &str, rows: &[u8]) -> anyhow::Result<()> {
        let copied = self.runtime.block_on(async {
            let mut copy = self.connection.copy_in_raw(statement).await?;
            copy.send(rows).await?;
            copy.finish().await
        });
        copied.map(drop).with_context(|| statement.to_owned())
    }
}
