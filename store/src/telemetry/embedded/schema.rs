//! The data file: tables, settings of a connection, format version, and what SQLite's failures mean to us.
//!
//! | table         | a row is                                                                                    |
//! |---------------|---------------------------------------------------------------------------------------------|
//! | `meta`        | a number by name: format version, samples in chunks, last log sequence that was deleted     |
//! | `devices`     | a device's number and id, the span of its newest chunks, the signals in its chunks, and the  |
//! |               | instant before which its readings were forgotten                                            |
//! | `signals`     | a signal's number and id                                                                     |
//! | `log`         | a group commit: the readings of many callers as one blob (`log.rs`), until they are in chunks |
//! | `chunks`      | the readings of one device in one span (`chunk.rs`)                                          |
//! | `summaries`   | the summaries of one device's signals in one hour or day (`summaries.rs`)                    |
//! | `damaged`     | a chunk that could not be decoded when it was to be rewritten: kept, never served            |
//! | `damaged_log` | a log row that could not be decoded at opening: kept, never served                           |
//! | `events`      | a device event                                                                               |
//! | `quarantine`  | a message that could not be taken                                                            |
//!
//! Every row says its own checksum: blobs hold theirs, rows of text have it in `crc` (none where format 1 wrote them). So a
//! bit that flips on the disk is seen when the row is read, whatever SQLite makes of the page around it.
//!
//! Formats: 1 had the summaries of a chunk in its row, no checksums of text and no `summaries`. 2 had no residuals in its
//! columns (`column.rs`); its rows are read as they are and written anew when their turn comes. An older file is brought up to
//! date in one transaction when it is opened. Rows of `summaries` need not be there, so none are made then.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::shipping;
use crate::telemetry::Error;

/// The format that this program writes. A file of a higher one is refused by name.
pub(super) const FORMAT: i64 = 3;

/// Bytes of a page in a new file. Over chunk rows of 300 to 10,000 bytes pages of 1 to 16 KiB leave about a sixth unused,
/// whichever their size: some lengths fit one and some another. Small ones cost a small fleet less, whose two dozen tables
/// and indexes take a page each, and an append as well, which touches a few rows here and there.
const PAGE_BYTES: u32 = 2048;

/// Pages in the WAL before they are copied into the data file: 24 MiB, so that a page written again and again is copied once,
/// and a restart reads little.
pub(super) const CHECKPOINT_PAGES: u32 = (24 << 20) / PAGE_BYTES;

/// Pages in the WAL before the commit at hand copies them, because the checkpointer does not keep up.
const LATE_CHECKPOINT_PAGES: u32 = 4 * CHECKPOINT_PAGES;

/// How long a connection waits for another's lock.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE devices (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    span_ms INTEGER,
    signals BLOB NOT NULL DEFAULT x'',
    forgotten_ms INTEGER,
    crc INTEGER,
    UNIQUE (tenant, device)
);
CREATE TABLE signals (number INTEGER PRIMARY KEY, signal TEXT NOT NULL UNIQUE, crc INTEGER);
CREATE TABLE log (sequence INTEGER PRIMARY KEY, readings INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE chunks (
    device INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    span_ms INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, start_ms)
);
CREATE TABLE summaries (
    device INTEGER NOT NULL,
    level_ms INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, level_ms, start_ms)
) WITHOUT ROWID;
CREATE TABLE damaged (
    device INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    span_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, start_ms)
);
CREATE TABLE damaged_log (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE events (
    device INTEGER NOT NULL,
    ts_ms INTEGER NOT NULL,
    code TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT,
    crc INTEGER,
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
    readings INTEGER NOT NULL,
    crc INTEGER
);
INSERT INTO meta VALUES ('format', 3), ('samples_in_chunks', 0), ('log_deleted', 0);
";

/// From format 1 to format 2.
const FROM_1_TO_2: &str = "
ALTER TABLE devices ADD COLUMN forgotten_ms INTEGER;
ALTER TABLE devices ADD COLUMN crc INTEGER;
ALTER TABLE signals ADD COLUMN crc INTEGER;
ALTER TABLE events ADD COLUMN crc INTEGER;
ALTER TABLE quarantine ADD COLUMN crc INTEGER;
ALTER TABLE chunks DROP COLUMN summaries;
CREATE TABLE summaries (
    device INTEGER NOT NULL,
    level_ms INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, level_ms, start_ms)
) WITHOUT ROWID;
CREATE TABLE damaged_log (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL, body BLOB NOT NULL);
";

/// From format 2 to format 3: an older program would take new columns for damaged ones, so it is to refuse the file.
const FROM_2_TO_3: &str = "UPDATE meta SET value = 3 WHERE name = 'format';";

/// Opens the connection that writes; makes the tables in a new file, and brings those of an older format up to date.
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
        Some(found @ (1 | 2)) => {
            tracing::info!(path = name, "bringing the data file from format {found} to format {FORMAT}");
            let first = if found == 1 { FROM_1_TO_2 } else { "" };
            let migrate = format!("BEGIN IMMEDIATE; {first} {FROM_2_TO_3} COMMIT;");
            connection.execute_batch(&migrate).map_err(|e| failure(&name, "bring its data file up to date", e))?;
        }
        Some(FORMAT) => {}
        Some(found) => return Err(Error::UnknownFormat { path: name, found, known: FORMAT }),
    }
    connection.execute_batch(shipping::TABLES).map_err(|e| failure(&name, "make the tables of its spool", e))?;
    Ok(connection)
}

/// Opens a new file for a copy: nothing of it counts before it is whole, so it is synced once, at the end.
pub(super) fn open_copy(path: &Path) -> Result<Connection, Error> {
    let connection = open_writer(path, None)?;
    let unsynced = connection.pragma_update(None, "synchronous", "OFF");
    unsynced.map_err(|e| failure(&path.display().to_string(), "configure a copy", e))?;
    Ok(connection)
}

/// Opens a data file that is there, of a format that is known, for reading; it may be one that another process writes to.
pub(super) fn open_existing(path: &Path) -> Result<Connection, Error> {
    let name = path.display().to_string();
    let connection = open_reader(path).map_err(|e| failure(&name, "open its data file", e))?;
    match format(&connection).map_err(|e| failure(&name, "read the format of its data file", e))? {
        Some(FORMAT) => Ok(connection),
        Some(found) if found > FORMAT => Err(Error::UnknownFormat { path: name, found, known: FORMAT }),
        _ => Err(Error::OldFormat { path: name }),
    }
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn configure(connection: &Connection, pages_max: Option<u32>) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Both hold for a new file only.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // WAL: readers do not wait for the writer. FULL: a commit that has returned survives power loss.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", LATE_CHECKPOINT_PAGES, |_| Ok(()))?;
    if let Some(pages) = pages_max {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

/// Pages in the WAL that are not in the data file yet.
pub(super) fn pages_to_copy(connection: &Connection) -> rusqlite::Result<u32> {
    let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    let (held, copied): (i64, i64) = statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(u32::try_from(held.saturating_sub(copied)).unwrap_or(0))
}

/// Copies what is committed from the WAL into the data file, as far as nobody has to wait for it, and syncs.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Pages that one step of shrinking moves: some milliseconds for which an append may have to wait.
const PAGES_A_STEP: u32 = 512;

/// Gives some pages that nothing uses back to the disk, and with the last of them the WAL's; how many are left.
///
/// A file that format 1 made keeps its free pages for later use: SQLite can give back only those of a file that was made so.
pub(super) fn shrink(connection: &Connection) -> rusqlite::Result<i64> {
    let free = |connection: &Connection| connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
    let before = free(connection)?;
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_A_STEP})"))?;
    // Each step of the statement moves a page.
    let mut pages = statement.query([])?;
    while pages.next()?.is_some() {}
    drop(pages);
    let after = free(connection)?;
    let left = if after < before { after } else { 0 };
    if left == 0 {
        // Who reads just now is not waited for: then the WAL is cut another time.
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
    }
    Ok(left)
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

/// Whether what SQLite found in the file makes no sense.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// The checksum of a row of text: of each field's length and bytes, so that nothing moves from one to the next unseen.
pub(super) fn row_checksum(fields: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for field in fields {
        crc.update(&(field.len() as u64).to_le_bytes());
        crc.update(field);
    }
    crc.finalize()
}

/// Whether there is no room: SQLite says so for data and WAL; the shared-memory file that cannot grow has its own code.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| {
        e.code == rusqlite::ErrorCode::DiskFull || e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}
