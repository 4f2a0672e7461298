//! The data file: tables, settings of a connection, format version, and what SQLite's failures mean to us.
//!
//! | table        | a row is                                                                                    |
//! |--------------|---------------------------------------------------------------------------------------------|
//! | `meta`       | a number by name: format version, samples in chunks, last log sequence that was deleted     |
//! | `devices`    | a device's number, its id, the span of its chunks, the signals in its chunks                 |
//! | `signals`    | a signal's number and id                                                                     |
//! | `log`        | a group commit: the readings of many callers as one blob (`log.rs`), until they are in chunks |
//! | `chunks`     | the readings of one device in one span (`chunk.rs`) and their summaries (`summaries.rs`)     |
//! | `damaged`    | a chunk that could not be decoded when it was to be rewritten: kept, never served            |
//! | `events`     | a device event                                                                               |
//! | `quarantine` | a message that could not be taken                                                            |

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::shipping;
use crate::telemetry::Error;

/// The format that this program writes. A file of a higher one is refused by name.
pub(super) const FORMAT: i64 = 1;

/// Pages of 4 KiB in the WAL before the writer copies them into the data file: 16 MiB, so that a page written again and
/// again is copied once, and a restart reads little.
const CHECKPOINT_PAGES: u32 = 4096;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE devices (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    span_ms INTEGER,
    signals BLOB NOT NULL DEFAULT x'',
    UNIQUE (tenant, device)
);
CREATE TABLE signals (number INTEGER PRIMARY KEY, signal TEXT NOT NULL UNIQUE);
CREATE TABLE log (sequence INTEGER PRIMARY KEY, readings INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE chunks (
    device INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    span_ms INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    summaries BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, start_ms)
);
CREATE TABLE damaged (
    device INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    span_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, start_ms)
);
CREATE TABLE events (
    device INTEGER NOT NULL,
    ts_ms INTEGER NOT NULL,
    code TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT,
    PRIMARY KEY (device, ts_ms, code)
) WITHOUT ROWID;
CREATE INDEX events_by_time ON events (ts_ms);
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT,
    received_ms INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    readings INTEGER NOT NULL
);
INSERT INTO meta VALUES ('format', 1), ('samples_in_chunks', 0), ('log_deleted', 0);
";

/// Opens the connection that writes, and makes the tables in a new file.
pub(super) fn open_writer(path: &Path, pages_max: Option<u32>) -> Result<Connection, Error> {
    let name = path.display().to_string();
    let connection = Connection::open(path).map_err(|e| failure(&name, "open its data file", e))?;
    configure(&connection, pages_max).map_err(|e| failure(&name, "configure its data file", e))?;
    let format = format(&connection).map_err(|e| failure(&name, "read the format of its data file", e))?;
    match format {
        None => {
            let make = format!("BEGIN IMMEDIATE; {TABLES} COMMIT;");
            connection.execute_batch(&make).map_err(|e| failure(&name, "make its tables", e))?;
        }
        Some(FORMAT) => {}
        Some(found) => return Err(Error::UnknownFormat { path: name, found, known: FORMAT }),
    }
    connection.execute_batch(shipping::TABLES).map_err(|e| failure(&name, "make the tables of its spool", e))?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn configure(connection: &Connection, pages_max: Option<u32>) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "page_size", 4096)?;
    // WAL: readers do not wait for the writer. FULL: a commit that has returned survives power loss.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    if let Some(pages) = pages_max {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

/// The format of the file; `None` where there is no table yet.
fn format(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let made = "SELECT count(*) FROM sqlite_master WHERE name = 'meta'";
    let tables: i64 = connection.query_row(made, [], |row| row.get(0))?;
    if tables == 0 { Ok(None) } else { meta(connection, "format") }
}

/// A number of the `meta` table.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row(params![name], |row| row.get(0))
        .optional()
}

/// What a failure of SQLite means.
pub(super) fn failure(path: &str, attempt: &'static str, source: rusqlite::Error) -> Error {
    if is_full(&source) {
        Error::Full { path: path.to_owned() }
    } else {
        Error::Engine { attempt, source: Box::new(source) }
    }
}

/// Whether there is no room: SQLite says so for data and WAL; the shared-memory file that cannot grow has its own code.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| {
        e.code == rusqlite::ErrorCode::DiskFull || e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}
