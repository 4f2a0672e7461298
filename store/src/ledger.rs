//! The ledger: fleets, stock, alerts, orders, webhooks, models, decisions - everything that is not a stream.
//!
//! One handle on `sqlx`'s `Any` driver: SQLite in the data directory by default. Queries stand in one module a subject,
//! take a connection, and so compose into one transaction: the webhook outbox row is written where the alert changes.
//!
//! **Invariant**: whatever must be true together is written in one [`Ledger::write`] transaction. SQLite has one writer, so
//! the writing pool has one connection and writers queue there instead of failing with `SQLITE_BUSY`.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
};

pub mod alerts;
pub mod audit;
mod bulk;
pub mod changes;
mod column;
pub mod erasure;
pub mod idempotency;
pub mod keys;
pub mod kpi;
pub mod models;
pub mod orders;
pub mod plans;
pub mod predictions;
pub mod progress;
pub mod registry;
pub mod stock;
pub mod webhooks;
mod words;

/// A connection that queries run on: of a transaction or of the reading pool.
pub type Connection = AnyConnection;

/// A transaction that may write: kept whole by its `commit`, or not at all.
pub type WriteTransaction = Transaction<'static, Any>;

/// What the ledger could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be opened or migrated.
    #[error("failed to open the ledger at {url}")]
    Open {
        /// Where it is.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No such row.
    #[error("no {what} {id:?}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// The row is not in a state that allows this.
    #[error("{what} {id:?} is {state}, so it cannot be {attempt}")]
    WrongState {
        /// What it is.
        what: &'static str,
        /// Which one.
        id: String,
        /// The state it is in.
        state: String,
        /// What was attempted.
        attempt: &'static str,
    },
    /// Something that the request leans on is missing or not enough.
    #[error("{reason}")]
    Conflict {
        /// What stands in the way, in words for the caller.
        reason: String,
    },
    /// A stored value is not what its column promises.
    #[error("ledger column {column} holds {value:?}")]
    Damaged {
        /// Table and column.
        column: &'static str,
        /// What is there.
        value: String,
    },
    /// The medium has no room: nothing was written.
    #[error("no room left on the device that holds the ledger: nothing was written")]
    Full,
    /// The database failed.
    #[error("the ledger failed to answer")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // 13 is SQLITE_FULL; its code reaches us as text.
        let full = error.as_database_error().is_some_and(|db| {
            db.code().as_deref() == Some("13")
                || db.message().contains("disk is full")
                || db.message().contains("disk I/O")
        });
        if full { Self::Full } else { Self::Database(error) }
    }
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    writer: AnyPool,
    reader: AnyPool,
}

impl Ledger {
    /// Opens the SQLite ledger at `path`, makes it where it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::Open`] with the path and the cause.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        Self::connect(&format!("sqlite://{}?mode=rwc", path.display()), 4).await
    }

    /// A ledger in memory: for tests.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub async fn in_memory() -> Result<Self, Error> {
        // One connection serves as both pools: every connection to :memory: is a database of its own.
        let url = "sqlite::memory:";
        let writer = pool(url, 1).await?;
        migrate(&writer, url).await?;
        Ok(Self { reader: writer.clone(), writer })
    }

    async fn connect(url: &str, readers: u32) -> Result<Self, Error> {
        let writer = pool(url, 1).await?;
        migrate(&writer, url).await?;
        let reader = pool(url, readers).await?;
        Ok(Self { writer, reader })
    }

    /// A transaction that may write. Nothing is kept unless it is committed.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn write(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(self.writer.begin().await?)
    }

    /// A connection to read from.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read(&self) -> Result<sqlx::pool::PoolConnection<Any>, Error> {
        Ok(self.reader.acquire().await?)
    }

    /// Closes all connections after what runs on them has ended.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}

async fn pool(url: &str, connections: u32) -> Result<AnyPool, Error> {
    sqlx::any::install_default_drivers();
    let open = |source: sqlx::Error| Error::Open { url: url.to_owned(), source: Box::new(source) };
    let options = AnyConnectOptions::from_str(url).map_err(open)?;
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(60))
        .after_connect(|connection, _| {
            Box::pin(async move {
                // FULL: a commit that has returned survives power loss. WAL: readers do not wait for the writer.
                for pragma in ["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA busy_timeout=30000"] {
                    sqlx::query(pragma).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(open)
}

async fn migrate(pool: &AnyPool, url: &str) -> Result<(), Error> {
    sqlx::migrate!("./migrations/sqlite")
        .run(pool)
        .await
        .map_err(|source| Error::Open { url: url.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opens_twice_and_keeps_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        for round in 0..2 {
            let ledger = Ledger::open(&path).await.unwrap();
            let mut tx = ledger.write().await.unwrap();
            sqlx::query("INSERT INTO tenants (tenant, created_wall) VALUES ($1, $2)")
                .bind(format!("tenant-{round}"))
                .bind(i64::from(round))
                .execute(&mut *tx)
                .await
                .unwrap();
            tx.commit().await.unwrap();
            let mut dropped = ledger.write().await.unwrap();
            sqlx::query("DELETE FROM tenants").execute(&mut *dropped).await.unwrap();
            drop(dropped);
            let mut read = ledger.read().await.unwrap();
            let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM tenants").fetch_one(&mut *read).await.unwrap();
            assert_eq!(count, i64::from(round) + 1);
            drop(read);
            ledger.close().await;
        }
    }
}
