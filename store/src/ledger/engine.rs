//! The databases that a ledger can stand on, and all that differs between them.
//!
//! Queries do not: every statement of this crate runs on each engine. What differs is how a session is set up, how a
//! writer waits for its turn, and the dialect of the migrations, which are written for SQLite and turned into
//! PostgreSQL's by [`postgres_text`].
//!
//! **Invariant**: one writer at a time, on every engine. SQLite has one by nature. On PostgreSQL each transaction of
//! [`Ledger::write`](super::Ledger::write) takes [`WRITE_LOCK`] before anything else, so writers of all processes queue,
//! and check-then-act inside one transaction holds there as it does on SQLite. The transaction is READ COMMITTED: its
//! first statement waits for the lock, and only those after it take their snapshot, behind what the writer before has
//! committed. A stricter level would take its snapshot before the wait.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration, Migrator},
};

use super::{Connection, Error};

/// Which database holds a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file of this process's own.
    Sqlite,
    /// A server, which other processes may use beside this one.
    Postgres,
}

/// The migrations in SQLite's dialect. A released one is never changed.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

/// FULL: a commit that has returned survives power loss. WAL: readers do not wait for the writer.
const SQLITE_SESSION: &[&str] = &["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA busy_timeout=30000"];

/// A commit that has returned is on the server's disk, whatever the server's default is; the level that the write lock
/// needs; and no process that hangs or is cut off keeps the others from writing for longer than a minute.
const POSTGRES_SESSION: &[&str] = &[
    "SET synchronous_commit = on",
    "SET default_transaction_isolation = 'read committed'",
    "SET lock_timeout = '60s'",
    "SET idle_in_transaction_session_timeout = '60s'",
];

/// The transaction-level advisory lock of a database's ledger: "harbinge" in ASCII, so that nobody else's is the same.
const WRITE_LOCK: &str = "SELECT pg_advisory_xact_lock(7521418619686643557)";

impl Engine {
    /// The engine that a URL names.
    pub(super) fn of(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            _ => None,
        }
    }

    /// What every connection is told first.
    pub(super) fn session(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => SQLITE_SESSION,
            Self::Postgres => POSTGRES_SESSION,
        }
    }

    /// Lets the transaction that has just begun wait for its turn to write; its commit or rollback ends the turn.
    pub(super) async fn take_turn(self, transaction: &mut Connection) -> Result<(), Error> {
        match self {
            // The writing pool has one connection.
            Self::Sqlite => {}
            Self::Postgres => {
                sqlx::query(WRITE_LOCK).execute(transaction).await?;
            }
        }
        Ok(())
    }

    /// How a transaction that only reads, and sees one state of all tables, begins.
    pub(super) fn begin_snapshot(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Why a server cannot hold a ledger, where it cannot.
    pub(super) async fn refuse(self, connection: &mut Connection) -> Result<Option<String>, sqlx::Error> {
        if self == Self::Sqlite {
            return Ok(None);
        }
        let (encoding,): (String,) =
            sqlx::query_as("SELECT current_setting('server_encoding')").fetch_one(&mut *connection).await?;
        let (fsync,): (String,) = sqlx::query_as("SELECT current_setting('fsync')").fetch_one(&mut *connection).await?;
        let (checksums,): (String,) =
            sqlx::query_as("SELECT current_setting('data_checksums')").fetch_one(connection).await?;
        if fsync == "off" {
            tracing::warn!("the PostgreSQL server runs with fsync off: a power failure loses what was acknowledged");
        }
        if checksums == "off" {
            tracing::warn!(
                "the PostgreSQL server runs without data checksums: a bit that changes on its disk may be served as data; \
                 stop it and run pg_checksums --enable"
            );
        }
        Ok((encoding != "UTF8").then(|| {
            format!("its encoding is {encoding}, not UTF8: make a database with CREATE DATABASE ... ENCODING 'UTF8'")
        }))
    }

    /// The migrations in this engine's dialect.
    pub(super) fn migrator(self) -> Migrator {
        let migrations = MIGRATIONS.iter().map(|written| match self {
            Self::Sqlite => written.clone(),
            Self::Postgres => Migration::new(
                written.version,
                written.description.clone(),
                written.migration_type,
                AssertSqlSafe(postgres_text(written.sql.as_str())).into_sql_str(),
                written.no_tx,
            ),
        });
        Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT }
    }
}

/// A migration as PostgreSQL takes it. Two things differ: text is compared by its bytes, as SQLite does, whatever the
/// database's own collation; and numbers given out by the database come from an identity column.
fn postgres_text(sqlite: &str) -> String {
    sqlite
        .lines()
        .map(|line| match line.trim_start().starts_with("--") {
            true => format!("{line}\n"),
            false => format!(
                "{}\n",
                line.replace(" TEXT", " TEXT COLLATE \"C\"").replace(
                    "INTEGER PRIMARY KEY AUTOINCREMENT",
                    "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
                )
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests;
