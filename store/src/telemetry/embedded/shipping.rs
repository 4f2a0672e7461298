//! Chunks on their way to a remote server: what the spool of [`SpooledStore`](crate::telemetry::SpooledStore) keeps.
//!
//! ```text
//!  chunks ──take──▶ held: to be sent ──sent──▶ held: sent ──verified──▶ gone, the server has it
//!                        ▲                        │    ├──▶ held: kept, the server has it otherwise
//!                        └── the server restarted ┘    └──▶ held: to be sent again, the server lost it ──▶ as above,
//!                                                           but kept where the server lacks it once more
//! ```
//! A restart of the server is not always seen (two in one second look like one run), a loss is: what was sent is asked for
//! before it goes, and sent again. What a server will never give back is sent twice, then kept.
//!
//! Every arrow is one transaction of the writer, so that a crash leaves each chunk in exactly one place; to send twice is
//! harmless. Samples only ever move to the right, and reads go from left to right: what moves meanwhile is met twice, never
//! missed. A `held` row with a higher id arrived later and outweighs the others.
//!
//! | table     | a row is                                                                                        |
//! |-----------|-------------------------------------------------------------------------------------------------|
//! | `held`    | a chunk that was taken: body as in `chunks`, where it stands, when it was sent, whether it was late |
//! | `shipped` | of a device with readings in `held` or on the server: first and last, samples on the server         |
//! | `floors`  | of a tenant: what lies before is forgotten, whether or not the server could delete it              |
//! | `server`  | the run of the server that was last written to                                                     |

use harbinger_core::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Options, chunk, schema, tail::Extent};
use crate::telemetry::{Error, catalog::DeviceNumber, columns::Columns, rows::Rows};
pub(in crate::telemetry) use held::Held;
pub(super) use held::{Which, held, held_rows, overlaid, read_held, readable, sent_until, to_be_sent};

mod held;

/// Made in every data file, so that one that has shipped is known when it is opened without a server.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS held (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    span_ms INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    body BLOB NOT NULL,
    late INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    state INTEGER NOT NULL,
    sent_ms INTEGER
);
CREATE INDEX IF NOT EXISTS held_by_device ON held (device, id);
CREATE INDEX IF NOT EXISTS held_by_state ON held (state, device, id);
CREATE TABLE IF NOT EXISTS shipped (
    device INTEGER PRIMARY KEY,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    samples INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS floors (tenant TEXT PRIMARY KEY, before_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server (only INTEGER PRIMARY KEY CHECK (only = 1), instance TEXT NOT NULL);
";

/// The tables, their keys and all of their columns, for a copy.
pub(super) const COLUMNS: &[(&str, &str, &[&str])] = &[
    (
        "held",
        "id",
        &[
            "id", "device", "start_ms", "span_ms", "first_ms", "last_ms", "samples", "body", "late", "counted",
            "state", "sent_ms",
        ],
    ),
    ("shipped", "device", &["device", "first_ms", "last_ms", "samples"]),
    ("floors", "tenant", &["tenant", "before_ms"]),
    ("server", "only", &["only", "instance"]),
];

/// Samples that are moved or read at a time, but for a single chunk that has more: a few requests of some megabytes.
const SAMPLES_A_PAGE: i64 = 100_000;
/// Rows of `held` that are read at a time.
const ROWS_A_PAGE: i64 = 512;

/// Where a held chunk stands. From `Kept` on it was asked for, so that what lay under it may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
enum State {
    ToBeSent = 0,
    Sent = 1,
    /// Here for good: the server does not have it, or not like this.
    Kept = 2,
    /// The server had taken it, and lacked some of it when it was asked.
    ToBeSentAgain = 3,
    SentAgain = 4,
}

impl State {
    const ALL: [Self; 5] = [Self::ToBeSent, Self::Sent, Self::Kept, Self::ToBeSentAgain, Self::SentAgain];

    /// Where a chunk stands that the server took.
    fn sent(self) -> Self {
        if self == Self::ToBeSentAgain { Self::SentAgain } else { Self::Sent }
    }

    /// Where the rest stands of a chunk that the server does not give back whole.
    fn verified(self, is_lost: bool) -> Self {
        if is_lost && self == Self::Sent { Self::ToBeSentAgain } else { Self::Kept }
    }
}

/// What the server does not give back of a chunk, or not like this.
#[derive(Debug)]
pub(in crate::telemetry) struct Verified {
    pub(in crate::telemetry) held: Held,
    pub(in crate::telemetry) rest: Rows,
    /// Samples of `rest` that the server lacks.
    pub(in crate::telemetry) missing: u64,
    /// Whether it could have some of those.
    pub(in crate::telemetry) is_lost: bool,
}

/// What the server has of a device, the spool's part counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) struct Shipped {
    pub(in crate::telemetry) first: i64,
    pub(in crate::telemetry) last: i64,
    /// Samples on the server, and kept ones that it has not.
    pub(in crate::telemetry) samples: u64,
}

/// One transaction.
#[derive(Debug)]
pub(in crate::telemetry) enum Step {
    /// Moves the oldest chunks into the spool.
    Take,
    /// Samples of late chunks that the server has not: counted before they are written, when they still are not there.
    Counted(Vec<(i64, DeviceNumber, u64)>),
    /// Ids that were sent at a time; those that the server refused are kept.
    Sent { at: Timestamp, sent: Vec<i64>, refused: Vec<i64> },
    /// What stays of chunks that the server was asked for.
    Verified(Vec<Verified>),
    /// The server runs anew under this name: what was sent and is still here is sent again.
    Instance(String),
    /// Forgets a tenant's readings from before a time; devices with what the server has of each from then on.
    Forget { tenant: TenantId, before: Timestamp, left: Vec<(DeviceNumber, Option<Shipped>)> },
    /// Forgets a device.
    Delete(DeviceNumber),
}

/// What a step did.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Done {
    /// Chunks taken into the spool.
    pub(in crate::telemetry) chunks: usize,
    /// Samples that left `chunks`.
    pub(super) samples: i64,
    /// Devices whose chunks changed.
    pub(in crate::telemetry) devices: Vec<DeviceNumber>,
    /// Samples that the server lacks, of chunks that will be sent again.
    pub(in crate::telemetry) again: u64,
}

/// Refuses a file whose readings lie on a server, where none is named.
pub(super) fn refuse_without_server(connection: &Connection, options: &Options) -> Result<(), Error> {
    let query = "SELECT count(*) FROM shipped";
    let devices: i64 = connection
        .query_row(query, [], |row| row.get(0))
        .map_err(|e| schema::failure(&options.path.display().to_string(), "read what it shipped", e))?;
    if options.is_spool || devices == 0 {
        return Ok(());
    }
    Err(Error::ServerMissing { path: options.path.display().to_string(), devices: devices.unsigned_abs() })
}

/// Applies a step inside the writer's transaction.
pub(super) fn apply(connection: &Connection, step: &Step) -> rusqlite::Result<Done> {
    match step {
        Step::Take => return take(connection),
        Step::Counted(chunks) => {
            for &(id, device, new_samples) in chunks {
                connection.prepare_cached("UPDATE held SET counted = 1 WHERE id = ?1")?.execute([id])?;
                add_samples(connection, device, new_samples)?;
            }
        }
        Step::Sent { at, sent, refused } => {
            for &id in sent {
                mark_sent(connection, id, state(connection, id)?.sent(), at.millis())?;
            }
            for &id in refused {
                mark_sent(connection, id, State::Kept, at.millis())?;
            }
        }
        Step::Verified(chunks) => {
            let mut done = Done::default();
            for verified in chunks {
                done.again += keep(connection, verified)?;
            }
            return Ok(done);
        }
        Step::Instance(name) => {
            for (sent, to_be_sent) in [(State::Sent, State::ToBeSent), (State::SentAgain, State::ToBeSentAgain)] {
                let again = "UPDATE held SET state = ?2, late = 1 WHERE state = ?1";
                connection.execute(again, params![sent as i64, to_be_sent as i64])?;
            }
            connection.execute("INSERT OR REPLACE INTO server VALUES (1, ?1)", [name])?;
        }
        Step::Forget { tenant, before, left } => {
            let floor = "INSERT INTO floors VALUES (?1, ?2)
                ON CONFLICT DO UPDATE SET before_ms = max(before_ms, excluded.before_ms)";
            connection.execute(floor, params![tenant.as_str(), before.millis()])?;
            for (device, left) in left {
                connection
                    .prepare_cached("DELETE FROM held WHERE device = ?1 AND last_ms < ?2")?
                    .execute(params![device, before.millis()])?;
                set_shipped(connection, *device, *left)?;
            }
        }
        Step::Delete(device) => {
            connection.execute("DELETE FROM held WHERE device = ?1", [device])?;
            set_shipped(connection, *device, None)?;
        }
    }
    Ok(Done::default())
}

/// Moves the oldest chunks, in the order in which they were written.
fn take(connection: &Connection) -> rusqlite::Result<Done> {
    let mut done = Done::default();
    let mut oldest = connection
        .prepare_cached("SELECT rowid, device, samples, first_ms, last_ms FROM chunks ORDER BY rowid LIMIT ?1")?;
    let mut rows = oldest.query([ROWS_A_PAGE])?;
    while done.samples < SAMPLES_A_PAGE
        && let Some(row) = rows.next()?
    {
        let (rowid, device): (i64, DeviceNumber) = (row.get(0)?, row.get(1)?);
        let (samples, first, last): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let is_late = shipped(connection, device)?.is_some_and(|known| first <= known.last);
        let hold = "INSERT INTO held (device, start_ms, span_ms, first_ms, last_ms, samples, body, late, counted, state)
            SELECT device, start_ms, span_ms, first_ms, last_ms, samples, body, ?2, NOT ?2, 0 FROM chunks WHERE rowid = ?1";
        connection.prepare_cached(hold)?.execute(params![rowid, is_late])?;
        connection.prepare_cached("DELETE FROM chunks WHERE rowid = ?1")?.execute([rowid])?;
        // They were kept before a server was named; from now on they could not follow what comes late.
        connection.prepare_cached("DELETE FROM summaries WHERE device = ?1")?.execute([device])?;
        let widen = "INSERT INTO shipped VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
            SET first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms),
                samples = samples + excluded.samples";
        let new_samples = if is_late { 0 } else { samples };
        connection.prepare_cached(widen)?.execute(params![device, first, last, new_samples])?;
        done.chunks += 1;
        done.samples += samples;
        done.devices.push(device);
    }
    connection
        .prepare_cached("UPDATE meta SET value = value - ?1 WHERE name = 'samples_in_chunks'")?
        .execute([done.samples])?;
    Ok(done)
}

fn state(connection: &Connection, id: i64) -> rusqlite::Result<State> {
    let query = "SELECT state FROM held WHERE id = ?1";
    let number: Option<i64> = connection.prepare_cached(query)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(State::ALL.into_iter().find(|state| Some(*state as i64) == number).unwrap_or(State::ToBeSent))
}

fn mark_sent(connection: &Connection, id: i64, state: State, at: i64) -> rusqlite::Result<usize> {
    let mark = "UPDATE held SET state = ?2, sent_ms = ?3 WHERE id = ?1";
    connection.prepare_cached(mark)?.execute(params![id, state as i64, at])
}

fn add_samples(connection: &Connection, device: DeviceNumber, more: u64) -> rusqlite::Result<usize> {
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    let add = "UPDATE shipped SET samples = samples + ?2 WHERE device = ?1";
    connection.prepare_cached(add)?.execute(params![device, more])
}

/// Lets go of what the server gave back; how many samples of the rest will be sent again.
fn keep(connection: &Connection, Verified { held, rest, missing, is_lost }: &Verified) -> rusqlite::Result<u64> {
    let Some((first, last)) = rest.extent() else {
        connection.prepare_cached("DELETE FROM held WHERE id = ?1")?.execute([held.id])?;
        return Ok(0);
    };
    let state = state(connection, held.id)?.verified(*is_lost);
    let body = chunk::encode(&held.key, &Columns::of(rest));
    let samples = i64::try_from(rest.samples()).unwrap_or(i64::MAX);
    // It is late from now on: the server may have a part of it.
    let update =
        "UPDATE held SET state = ?2, first_ms = ?3, last_ms = ?4, samples = ?5, body = ?6, late = 1 WHERE id = ?1";
    let values = params![held.id, state as i64, first, last, samples, body];
    connection.prepare_cached(update)?.execute(values)?;
    Ok(if state == State::ToBeSentAgain { *missing } else { 0 })
}

fn set_shipped(connection: &Connection, device: DeviceNumber, left: Option<Shipped>) -> rusqlite::Result<usize> {
    let Some(left) = left else {
        return connection.prepare_cached("DELETE FROM shipped WHERE device = ?1")?.execute([device]);
    };
    let samples = i64::try_from(left.samples).unwrap_or(i64::MAX);
    let set = "INSERT OR REPLACE INTO shipped VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(set)?.execute(params![device, left.first, left.last, samples])
}

/// What was shipped of a device.
pub(super) fn shipped(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Option<Shipped>> {
    let query = "SELECT first_ms, last_ms, samples FROM shipped WHERE device = ?1";
    let read = |row: &Row<'_>| {
        Ok(Shipped { first: row.get(0)?, last: row.get(1)?, samples: row.get::<_, i64>(2)?.unsigned_abs() })
    };
    connection.prepare_cached(query)?.query_row([device], read).optional()
}

/// Earliest and latest reading of a device in the spool and on the server.
pub(super) fn extent(connection: &Connection, device: DeviceNumber) -> rusqlite::Result<Extent> {
    Ok(shipped(connection, device)?.map(|known| (known.first, known.last)))
}

/// Everything that was shipped of any device.
pub(super) fn all_shipped(connection: &Connection) -> rusqlite::Result<Vec<(DeviceNumber, Shipped)>> {
    let mut statement = connection.prepare("SELECT device, first_ms, last_ms, samples FROM shipped")?;
    let rows = statement.query_map([], |row| {
        let samples = row.get::<_, i64>(3)?.unsigned_abs();
        Ok((row.get(0)?, Shipped { first: row.get(1)?, last: row.get(2)?, samples }))
    })?;
    rows.collect()
}

/// Tenants and the times before which their readings are forgotten.
pub(super) fn floors(connection: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = connection.prepare("SELECT tenant, before_ms FROM floors")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The run of the server that was last written to.
pub(super) fn instance(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT instance FROM server", [], |row| row.get(0)).optional()
}

/// Samples in the spool that were not sent yet; and those among them that are not counted as shipped.
pub(super) fn samples_to_be_sent(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let query = "SELECT coalesce(sum(samples), 0), coalesce(sum(samples * NOT counted), 0) FROM held
        WHERE state IN (0, 3)";
    connection
        .query_row(query, [], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs())))
}
