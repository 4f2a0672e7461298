//! The ledger: fleets, stock, alerts, orders, webhooks, models, decisions - everything that is not a stream.
//!
//! One handle on `sqlx`'s `Any` driver: SQLite in the data directory by default, PostgreSQL by its URL. Queries stand in one
//! module a subject, take a connection, and so compose into one transaction: the webhook outbox row is written where the
//! alert changes. The same queries run on both.
//!
//! **Invariant**: whatever must be true together is written in one [`Ledger::write`] transaction, and there is one writer
//! at a time, whatever the engine and however many the processes ([`Engine`] says how). The writing pool has one connection,
//! so that writers of this process queue there instead of failing with `SQLITE_BUSY`.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
};

pub mod alerts;
pub mod audit;
mod bulk;
pub mod changes;
pub mod check;
mod column;
pub mod copy;
mod engine;
pub mod erasure;
#[cfg(test)]
mod fixture;
pub mod idempotency;
pub mod keys;
pub mod kpi;
pub mod leases;
pub mod models;
pub mod orders;
mod page_checksums;
pub mod pieces;
pub mod plans;
pub mod predictions;
pub mod progress;
pub mod registry;
pub mod returns;
pub mod shadow;
pub mod stock;
mod url;
pub mod webhooks;
mod words;
pub mod work_orders;

pub use engine::Engine;
use page_checksums::State;
pub use url::Url;

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a server may take to answer whoever opens a ledger.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

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
        let Some(database) = error.as_database_error() else { return Self::Database(error) };
        // The codes of SQLite and PostgreSQL, as text: SQLITE_FULL; SQLITE_IOERR_SHMSIZE, of the shared-memory file that cannot
        // grow; disk_full. Other I/O errors are no want of room: a sector that cannot be read, a disk that fails.
        let full = matches!(database.code().as_deref(), Some("13" | "4874" | "53100"));
        // 22021 is character_not_in_repertoire: valid UTF-8 lacks nothing but this.
        let holds_nul = database.code().as_deref() == Some("22021");
        match (full, holds_nul) {
            (true, _) => Self::Full,
            (_, true) => {
                Self::Conflict { reason: "a text holds the character NUL, which PostgreSQL cannot keep".into() }
            }
            _ => Self::Database(error),
        }
    }
}

impl Error {
    /// Whether the SQLite file is damaged or is none: SQLITE_CORRUPT, of any kind, SQLITE_NOTADB, or SQLITE_IOERR_DATA, of a
    /// page that is not what its checksum says.
    #[must_use]
    pub fn tells_of_damage(&self) -> bool {
        let chain = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        chain.into_iter().any(|error| error.is::<Contradicted>() || error.downcast_ref().is_some_and(of_damage))
    }
}

fn of_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26) || code == 8202)
}

/// The header of a SQLite file and its pages do not agree on checksums.
#[derive(Debug, thiserror::Error)]
#[error("the file's header is damaged: it and the pages do not agree on whether they have checksums")]
struct Contradicted;

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    writer: AnyPool,
    reader: AnyPool,
    engine: Engine,
}

impl Ledger {
    /// Opens the SQLite ledger at `path`, makes it where it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::Open`] with the path and the cause.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        Self::connect(&Url::of_file(path)).await
    }

    /// Opens the ledger at a URL, `sqlite://...` or `postgres://...`, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::Open`] with the URL, less its password, and the cause.
    pub async fn connect(url: &Url) -> Result<Self, Error> {
        let (engine, options) = prepare(url).await?;
        let writer = pool(url, engine, options.clone(), 1).await?;
        let reader = pool(url, engine, options, READERS).await?;
        Ok(Self { writer, reader, engine })
    }

    /// A ledger in memory: for tests.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub async fn in_memory() -> Result<Self, Error> {
        // One connection serves as both pools: every connection to :memory: is a database of its own.
        let url = Url::from("sqlite::memory:");
        let engine = Engine::Sqlite;
        let writer = pool(&url, engine, options(&url)?, 1).await?;
        engine.migrator().run(&writer).await.map_err(|source| open(&url, source))?;
        Ok(Self { reader: writer.clone(), writer, engine })
    }

    /// What it stands on.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// A transaction that may write; it begins when all writers before it have ended. Nothing is kept unless it is
    /// committed.
    ///
    /// # Errors
    /// [`Error::Database`], also where it waited too long.
    pub async fn write(&self) -> Result<WriteTransaction, Error> {
        let mut transaction = self.writer.begin().await?;
        self.engine.take_turn(&mut transaction).await?;
        Ok(transaction)
    }

    /// A connection to read from.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read(&self) -> Result<sqlx::pool::PoolConnection<Any>, Error> {
        Ok(self.reader.acquire().await?)
    }

    /// A transaction that only reads: all that is read in it is of one state, whatever is written meanwhile.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn snapshot(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(self.reader.begin_with(self.engine.begin_snapshot()).await?)
    }

    /// Closes all connections after what runs on them has ended.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}

/// What has to be right before pools are made: a pool goes on trying for a minute where a single connection says at once
/// why it failed.
async fn prepare(url: &Url) -> Result<(Engine, AnyConnectOptions), Error> {
    let Some(engine) = Engine::of(url.expose()) else {
        return Err(open(url, "a ledger's URL begins with sqlite: or postgres:"));
    };
    let options = options(url)?;
    let connecting = tokio::time::timeout(ANSWER_WITHIN, options.connect()).await;
    let answered = connecting.map_err(|_| open(url, format!("no answer within {} s", ANSWER_WITHIN.as_secs())))?;
    let mut connection = answered.map_err(|source| open(url, source))?;
    if let Some(reason) = engine.refuse(&mut connection).await.map_err(|source| open(url, source))? {
        return Err(open(url, reason));
    }
    if url.is_file() {
        verify_pages(&mut connection).await.map_err(|source| open(url, source))?;
    }
    set_up(engine, &mut connection).await.map_err(|source| open(url, source))?;
    engine.migrator().run(&mut connection).await.map_err(|source| open(url, source))?;
    connection.close().await.map_err(|source| open(url, source))?;
    Ok((engine, options))
}

/// Sees to it that what is read of a SQLite file is what was written.
async fn verify_pages(connection: &mut Connection) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    sqlx::query("PRAGMA busy_timeout=30000").execute(&mut *connection).await?;
    if page_checksums::state(connection).await? == State::Missing {
        page_checksums::put_in(connection).await?;
    }
    match page_checksums::state(connection).await? {
        State::Verified => Ok(()),
        State::Missing | State::Contradicted => Err(Box::new(Contradicted)),
    }
}

fn options(url: &Url) -> Result<AnyConnectOptions, Error> {
    sqlx::any::install_default_drivers();
    page_checksums::register();
    AnyConnectOptions::from_str(&url.verified()).map_err(|source| open(url, source))
}

async fn set_up(engine: Engine, connection: &mut Connection) -> Result<(), sqlx::Error> {
    for statement in engine.session() {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn pool(url: &Url, engine: Engine, options: AnyConnectOptions, connections: u32) -> Result<AnyPool, Error> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(60))
        .after_connect(move |connection, _| Box::pin(set_up(engine, connection)))
        .connect_with(options)
        .await
        .map_err(|source| open(url, source))
}

fn open(url: &Url, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Open { url: url.to_string(), source: source.into() }
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
