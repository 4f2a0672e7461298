//! Copies of a data file: a backup of one that another process writes to, and what can be saved of one that is damaged.
//!
//! A backup reads in pages, so no read transaction lasts long and the writer's WAL is not held. The log comes first: a
//! reading that was acknowledged before the copy began is in the log then, or in a chunk already, and chunks are read later.
//! Where a chunk is rewritten while its neighbours are copied, the later version gives way to none: it holds all that the
//! earlier one held. Names come last, so that every number is known. Every row is verified on its way, and what is damaged
//! stays behind.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params, types::Value};

use super::{
    check::{Finding, Progress},
    chunk::{self, ChunkKey, Span},
    log::Group,
    rebuild, schema, shipping, summaries,
};
use crate::telemetry::{Error, catalog::DeviceNumber};

/// Rows a page: a read transaction of some milliseconds, a write transaction of some megabytes.
const ROWS_A_PAGE: i64 = 512;

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Samples in chunks.
    pub samples: u64,
    /// Group commits whose readings were not in chunks yet.
    pub log_rows: u64,
    /// Device events.
    pub events: u64,
    /// Rows that were damaged and stayed behind.
    pub findings: Vec<Finding>,
}

/// Copies the data file at `source` into a new file at `target`, while another process writes to the source too.
///
/// When this returns the copy is synced, is as small as its content, and opens like any data file.
///
/// # Errors
/// [`Error::Engine`] where a file cannot be read or written, [`Error::Full`], [`Error::UnknownFormat`].
pub fn backup(source: &Path, target: &Path, progress: &dyn Fn(Progress)) -> Result<Copied, Error> {
    let from = schema::open_existing(source)?;
    let fail = |source| schema::failure(&target.display().to_string(), "copy its data file", source);
    let into = schema::open_copy(target)?;
    let mut copy = Copy { from, into, copied: Copied::default(), salvage: false };
    copy.run(progress).map_err(fail)?;
    let copied = copy.finish().map_err(fail)?;
    let synced = fs_err::File::open(target).and_then(|file| file.sync_all());
    synced.map_err(|e| Error::Engine { attempt: "sync the copy", source: Box::new(e) })?;
    Ok(copied)
}

/// Moves a file whose structure is damaged aside, and what can still be read of it into a new one in its place.
///
/// The damaged file stays beside it as `….damaged-N`. A crash before the saved file is whole leaves the damaged one where it
/// was; [`finish_salvage`] ends what a later crash has interrupted.
pub(super) fn salvage(path: &Path) -> Result<Copied, Error> {
    let name = path.display().to_string();
    let saved = beside(path, ".salvaged");
    for suffix in ["", "-wal", "-shm"] {
        // What an earlier attempt left half done.
        drop(fs_err::remove_file(beside(&saved, suffix)));
    }
    let fail = |source| schema::failure(&name, "save what can be read of a damaged data file", source);
    let into = schema::open_copy(&saved)?;
    let from = schema::open_reader(path).map_err(fail)?;
    let mut copy = Copy { from, into, copied: Copied::default(), salvage: true };
    copy.run(&|_| {}).map_err(fail)?;
    let copied = copy.finish().map_err(fail)?;
    let synced = fs_err::File::open(&saved).and_then(|file| file.sync_all());
    let aside = (1..).map(|n| beside(path, &format!(".damaged-{n}"))).find(|path| !path.exists());
    let moved = synced.and_then(|()| fs_err::rename(path, aside.unwrap_or_else(|| beside(path, ".damaged"))));
    moved.map_err(not_in_place)?;
    finish_salvage(path)?;
    Ok(copied)
}

/// Puts a saved file in the place that its damaged original has left. To be called before a data file is opened.
pub(super) fn finish_salvage(path: &Path) -> Result<(), Error> {
    let saved = beside(path, ".salvaged");
    if path.exists() || !saved.exists() {
        return Ok(());
    }
    // The WAL of the damaged file: what could be read of it is in the saved one, and it must not be laid over that.
    for suffix in ["-wal", "-shm"] {
        if beside(path, suffix).exists() {
            fs_err::remove_file(beside(path, suffix)).map_err(not_in_place)?;
        }
    }
    fs_err::rename(&saved, path).map_err(not_in_place)
}

fn not_in_place(source: std::io::Error) -> Error {
    Error::Engine { attempt: "put a saved data file in place", source: Box::new(source) }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A copy under way.
struct Copy {
    from: Connection,
    into: Connection,
    copied: Copied,
    /// Whether pages of the source may be unreadable: then each table is read from both ends.
    salvage: bool,
}

/// The columns of a row.
type Values = Vec<Value>;

impl Copy {
    fn run(&mut self, progress: &dyn Fn(Progress)) -> rusqlite::Result<()> {
        self.table("log", &["sequence"], &["sequence", "readings", "body"], Self::put_log)?;
        self.chunks(progress)?;
        for (table, columns) in [
            ("damaged", &["device", "start_ms", "span_ms", "reason", "body"][..]),
            ("damaged_log", &["sequence", "reason", "body"]),
            ("quarantine", &["id", "tenant", "received_ms", "topic", "payload", "reason", "readings", "crc"]),
        ] {
            self.table(table, &["rowid"], columns, |copy, values| copy.put(table, columns, values))?;
        }
        self.spool()?;
        let events = ["device", "ts_ms", "code", "severity", "message", "crc"];
        self.table("events", &["device", "ts_ms", "code"], &events, |copy, values| {
            copy.copied.events += 1;
            copy.put("events", &events, values)
        })?;
        let devices = ["number", "tenant", "device", "span_ms", "signals", "forgotten_ms", "crc"];
        self.table("devices", &["number"], &devices, |copy, values| copy.put("devices", &devices, values))?;
        let signals = ["number", "signal", "crc"];
        self.table("signals", &["number"], &signals, |copy, values| copy.put("signals", &signals, values))?;
        self.table("meta", &["name"], &["name", "value"], |copy, values| {
            let later = "UPDATE meta SET value = max(value, ?2) WHERE name = ?1 AND name = 'log_deleted'";
            copy.into.prepare_cached(later)?.execute(rusqlite::params_from_iter(values)).map(drop)
        })
    }

    /// Chunks, then the summaries: those of readings that are gone as they are, all others made anew.
    fn chunks(&mut self, progress: &dyn Fn(Progress)) -> rusqlite::Result<()> {
        let all = self.from.query_row("SELECT count(*) FROM devices", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
        let (all, mut device) = (all.unsigned_abs(), -1);
        let columns = ["device", "start_ms", "span_ms", "first_ms", "last_ms", "samples", "body"];
        let mut seen = 0;
        self.table("chunks", &["rowid"], &columns, |copy, values| {
            if let Some(Value::Integer(of_row)) = values.first()
                && *of_row != device
            {
                (device, seen) = (*of_row, (seen + 1).min(all));
                progress(Progress { done: seen, all });
            }
            copy.put_chunk(&columns, values)
        })?;
        progress(Progress { done: all, all });
        let columns = ["device", "level_ms", "start_ms", "body"];
        self.table("summaries", &["device", "level_ms", "start_ms"], &columns, |copy, values| {
            copy.put("summaries", &columns, values)
        })
    }

    /// What is on its way to a server, and what is known of the server.
    fn spool(&mut self) -> rusqlite::Result<()> {
        for (table, key, columns) in shipping::COLUMNS {
            self.table(table, &[*key], columns, |copy, values| copy.put(table, columns, values))?;
        }
        Ok(())
    }

    /// Reads a table page by page in order of its key and hands each row on, in transactions of a page.
    fn table(
        &mut self,
        table: &str,
        key: &[&str],
        columns: &[&str],
        mut put: impl FnMut(&mut Self, Values) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut result = self.pages(table, key, columns, "", &mut put);
        if result.is_err() && self.salvage {
            // From the other end, to what could not be read. Rows that come twice are the same.
            result = self.pages(table, key, columns, "DESC", &mut put);
            let problem = "some of its pages cannot be read: rows of it may be lost";
            self.lose(table.to_owned(), problem);
            if result.is_err() {
                return Ok(());
            }
        }
        result
    }

    fn pages(
        &mut self,
        table: &str,
        key: &[&str],
        columns: &[&str],
        order: &str,
        put: &mut impl FnMut(&mut Self, Values) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (keys, columns) = (key.join(", "), columns.join(", "));
        let after = if order.is_empty() { ">" } else { "<" };
        let places: Vec<String> = (1..=key.len()).map(|n| format!("?{n}")).collect();
        let places = places.join(", ");
        let ordered: Vec<String> = key.iter().map(|column| format!("{column} {order}")).collect();
        let ordered = ordered.join(", ");
        let first = format!("SELECT {keys}, {columns} FROM {table} ORDER BY {ordered} LIMIT {ROWS_A_PAGE}");
        let next = format!(
            "SELECT {keys}, {columns} FROM {table} WHERE ({keys}) {after} ({places}) ORDER BY {ordered} LIMIT {ROWS_A_PAGE}"
        );
        let mut last: Option<Values> = None;
        loop {
            let (page, error) = self.page(if last.is_some() { &next } else { &first }, last.as_ref());
            self.into.execute_batch("BEGIN")?;
            let full = page.len() as i64 == ROWS_A_PAGE;
            for mut row in page {
                let values = row.split_off(key.len());
                last = Some(row);
                put(self, values)?;
            }
            self.into.execute_batch("COMMIT")?;
            match error {
                Some(error) => return Err(error),
                None if !full => return Ok(()),
                None => {}
            }
        }
    }

    /// The rows up to an error, and the error.
    fn page(&self, query: &str, after: Option<&Values>) -> (Vec<Values>, Option<rusqlite::Error>) {
        let mut page = Vec::new();
        let read = (|| {
            let mut statement = self.from.prepare_cached(query)?;
            let width = statement.column_count();
            let mut rows = statement.query(rusqlite::params_from_iter(after.into_iter().flatten()))?;
            while let Some(row) = rows.next()? {
                page.push((0..width).map(|column| row.get(column)).collect::<rusqlite::Result<Values>>()?);
            }
            Ok(())
        })();
        (page, read.err())
    }

    fn put(&self, table: &str, columns: &[&str], values: Values) -> rusqlite::Result<()> {
        let places: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let put = format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        self.into.prepare_cached(&put)?.execute(rusqlite::params_from_iter(values)).map(drop)
    }

    fn put_log(&mut self, values: Values) -> rusqlite::Result<()> {
        let [Value::Integer(sequence), _, Value::Blob(body)] = values.as_slice() else {
            self.lose("log".to_owned(), "a row of it has columns of the wrong type");
            return Ok(());
        };
        if let Err(reason) = Group::decode(body) {
            self.lose(format!("log ({sequence})"), reason);
            return Ok(());
        }
        self.copied.log_rows += 1;
        self.put("log", &["sequence", "readings", "body"], values)
    }

    fn put_chunk(&mut self, columns: &[&str], values: Values) -> rusqlite::Result<()> {
        let [Value::Integer(device), Value::Integer(start), Value::Integer(span), .., Value::Blob(body)] =
            values.as_slice()
        else {
            self.lose("chunks".to_owned(), "a row of it has columns of the wrong type");
            return Ok(());
        };
        let (device, start) = (*device, *start);
        let key = DeviceNumber::try_from(device).ok().zip(Span::from_millis(*span));
        let key = key.map(|(device, span)| ChunkKey { device, start, span });
        let rows = key.ok_or("its key makes no sense").and_then(|key| Ok((key, chunk::decode(&key, body)?)));
        let (key, rows) = match rows {
            Ok(found) => found,
            Err(reason) => {
                self.lose(format!("chunks ({device}, {start})"), reason);
                return Ok(());
            }
        };
        let give_way = "DELETE FROM chunks WHERE device = ?1 AND start_ms < ?3 AND start_ms + span_ms > ?2";
        self.into.prepare_cached(give_way)?.execute(params![device, key.start, key.end()])?;
        // What the row says of its readings is said anew: nothing vouches for those columns.
        let (first, last) = rows.extent().unwrap_or((key.start, key.start));
        let samples = i64::try_from(rows.samples()).unwrap_or(i64::MAX);
        let mut values = values;
        for (place, value) in values.iter_mut().skip(3).zip([first, last, samples]) {
            *place = Value::Integer(value);
        }
        self.put("chunks", columns, values)
    }

    fn lose(&mut self, place: String, problem: &str) {
        let remedy = "it stays in the file that was copied; an older backup may have it";
        self.copied.findings.push(Finding { place, problem: problem.to_owned(), remedy: remedy.to_owned() });
    }

    /// Makes the copy whole: the summaries of what it holds, and its count of samples.
    fn finish(mut self) -> rusqlite::Result<Copied> {
        self.into.execute_batch("BEGIN")?;
        // What passed its retention while it was copied: its summaries came later and may know more than these chunks.
        let forgotten = "DELETE FROM chunks WHERE last_ms <
            ifnull((SELECT forgotten_ms FROM devices WHERE number = chunks.device), -9223372036854775807)";
        self.into.execute(forgotten, [])?;
        // Of readings that are there the summaries are made anew; they may be newer than the chunks that were copied.
        let stale = "DELETE FROM summaries WHERE start_ms >=
            ifnull((SELECT forgotten_ms FROM devices WHERE number = summaries.device), -9223372036854775807)";
        self.into.execute(stale, [])?;
        let devices: Vec<DeviceNumber> = self
            .into
            .prepare("SELECT DISTINCT device FROM chunks")?
            .query_map([], |row: &Row<'_>| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for device in devices {
            self.summarise(device)?;
        }
        self.into.execute_batch(
            "UPDATE meta SET value = (SELECT ifnull(sum(samples), 0) FROM chunks) WHERE name = 'samples_in_chunks';
            COMMIT;",
        )?;
        let samples = schema::meta(&self.into, "samples_in_chunks")?.unwrap_or(0);
        self.copied.samples = samples.unsigned_abs();
        self.into.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.into.close().map_err(|(_, error)| error)?;
        Ok(self.copied)
    }

    fn summarise(&self, device: DeviceNumber) -> rusqlite::Result<()> {
        let newest: i64 =
            self.into
                .query_row("SELECT max(start_ms) FROM chunks WHERE device = ?1", params![device], |row| row.get(0))?;
        let put = "INSERT OR REPLACE INTO summaries (device, level_ms, start_ms, body) VALUES (?1, ?2, ?3, ?4)";
        let visit = |days: rebuild::Days| -> rusqlite::Result<()> {
            for (key, bucket) in days.buckets(device).iter().filter(|(key, _)| days.is_stored(key, newest)) {
                let body = summaries::encode(key, bucket);
                let values = params![key.device, key.level.millis(), key.start, body];
                self.into.prepare_cached(put)?.execute(values)?;
            }
            Ok(())
        };
        rebuild::each_days(&self.into, device, |_, _| {}, visit).map(drop)
    }
}
