//! Who is compared: how each is started, written to, settled and stopped.
//!
//! All listen on loopback. Our binary and VictoriaMetrics run with their defaults (VictoriaMetrics keeps all times).
//! PostgreSQL commits synchronously, as by default, and is given more memory and fewer checkpoints than its defaults.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use harbinger_store::telemetry::{EmbeddedStore, Options, TelemetryStore};
use harbinger_tests::{
    files,
    keep_alive::Connection,
    postgres::Postgres,
    server::{SCOPES, Server},
    victoria_metrics::VictoriaMetrics,
};
use tempfile::TempDir;

use crate::{Arguments, fleet::SIGNALS, postgres_session::Session};

/// How long a server may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory for pages, and room for a round between two checkpoints.
const POSTGRES_SETTINGS: [&str; 3] = ["shared_buffers=2GB", "max_wal_size=8GB", "checkpoint_timeout=30min"];

/// The database that is there from the start.
const DATABASE: &str = "postgres";

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Our binary: `POST /write`, line protocol, or native lines. It answers when the batch is synced.
    Harbinger(Dialect),
    /// `POST /write`, line protocol. It answers before anything is on disk.
    VictoriaMetrics,
    /// `COPY` into a table, one transaction a payload. It answers when the transaction is synced.
    Postgres(Table),
}

/// What our binary is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Line protocol: the bytes that VictoriaMetrics is sent.
    LineProtocol,
    /// Lines of native JSON.
    Native,
}

/// The table that PostgreSQL copies into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// A row a reading, a column a signal, no index: the least that PostgreSQL can be asked for.
    Wide,
    /// The same with an index on device and time, as whoever reads it has.
    WideIndexed,
    /// A row a sample, indexed: what takes any signal, as the others do.
    NarrowIndexed,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harbinger(Dialect::LineProtocol) => "harbinger",
            Self::Harbinger(Dialect::Native) => "harbinger, native lines",
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Postgres(Table::Wide) => "PostgreSQL COPY, wide, no index",
            Self::Postgres(Table::WideIndexed) => "PostgreSQL COPY, wide, index",
            Self::Postgres(Table::NarrowIndexed) => "PostgreSQL COPY, narrow, index",
        })
    }
}

impl Table {
    fn statements(self) -> String {
        let signals: Vec<String> = (0..SIGNALS).map(|signal| format!("signal_{signal} float8")).collect();
        let wide = format!("CREATE TABLE telemetry (device text, ts timestamptz, {});", signals.join(", "));
        match self {
            Self::Wide => wide,
            Self::WideIndexed => wide + "CREATE INDEX ON telemetry (device, ts);",
            Self::NarrowIndexed => "CREATE TABLE telemetry (device text, ts timestamptz, signal text, value float8);
                CREATE INDEX ON telemetry (device, signal, ts);"
                .to_owned(),
        }
    }
}

/// What a contestant holds, and what that takes on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
}

/// A started contestant.
pub(crate) struct Running {
    pub(crate) contestant: Contestant,
    folder: TempDir,
    server: Started,
}

enum Started {
    Harbinger { server: Server, key: String, dialect: Dialect },
    VictoriaMetrics(VictoriaMetrics),
    Postgres(Postgres),
}

impl Running {
    /// Starts a contestant without data; `None` where it is not installed.
    pub(crate) fn start(contestant: Contestant, arguments: &Arguments) -> anyhow::Result<Option<Self>> {
        let folder = arguments.temporary_folder()?;
        let data = folder.path().join("data");
        let server = match contestant {
            Contestant::Harbinger(dialect) => Some(start_harbinger(data, dialect)?),
            Contestant::VictoriaMetrics => VictoriaMetrics::start(&data)?.map(Started::VictoriaMetrics),
            Contestant::Postgres(table) => {
                let server = Postgres::start_with(&POSTGRES_SETTINGS)?;
                if let Some(server) = &server {
                    server.sql(DATABASE, &table.statements())?;
                }
                server.map(Started::Postgres)
            }
        };
        Ok(server.map(|server| Self { contestant, folder, server }))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// So many connections to write on.
    pub(crate) fn writers(&self, connections: usize) -> anyhow::Result<Vec<Writer>> {
        (0..connections).map(|_| self.writer()).collect()
    }

    fn writer(&self) -> anyhow::Result<Writer> {
        Ok(match &self.server {
            Started::Harbinger { server, key, dialect } => {
                Writer::Harbinger(Connection::open(server.api, Some(key))?, *dialect)
            }
            Started::VictoriaMetrics(server) => Writer::VictoriaMetrics(Connection::open(server.address, None)?),
            Started::Postgres(server) => Writer::Postgres(Session::open(&server.url(DATABASE))?),
        })
    }

    /// A connection to ask questions over HTTP.
    pub(crate) fn reader(&self) -> anyhow::Result<Connection> {
        match &self.server {
            Started::Harbinger { server, key, .. } => Connection::open(server.api, Some(key)),
            Started::VictoriaMetrics(server) => Connection::open(server.address, None),
            Started::Postgres(_) => bail!("PostgreSQL is not asked over HTTP"),
        }
    }

    /// Puts everything into the form it is kept in: compacted, merged. Samples and bytes on disk are told, where they are
    /// compared.
    pub(crate) fn settle(self) -> anyhow::Result<(Self, Option<Kept>)> {
        let data = self.data();
        let (server, size) = match self.server {
            Started::Harbinger { mut server, dialect, .. } => {
                server.process.terminate(PATIENCE)?;
                let size = compact(data.join("telemetry.db"))?;
                (start_harbinger(data, dialect)?, Some(size))
            }
            Started::VictoriaMetrics(server) => {
                server.merge()?;
                server.stop()?;
                let bytes = bytes_of(&data)?;
                let server = VictoriaMetrics::start(&data)?.context("VictoriaMetrics is gone")?;
                let samples = server.client().metric("vm_rows", "type=\"storage/")? as u64;
                (Started::VictoriaMetrics(server), Some(Kept { samples, bytes }))
            }
            postgres @ Started::Postgres(_) => (postgres, None),
        };
        Ok((Self { server, ..self }, size))
    }

    /// Stops it in order.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self.server {
            Started::Harbinger { mut server, .. } => server.process.terminate(PATIENCE).map(drop),
            Started::VictoriaMetrics(server) => server.stop(),
            // It ends when it is dropped.
            Started::Postgres(_) => Ok(()),
        }
    }
}

fn start_harbinger(data: PathBuf, dialect: Dialect) -> anyhow::Result<Started> {
    let server = Server::start(&data, &[])?;
    let key = server.key("bench", SCOPES)?;
    Ok(Started::Harbinger { server, key, dialect })
}

/// Compacts a closed data file; how much it then holds and takes.
fn compact(file: PathBuf) -> anyhow::Result<Kept> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let store = EmbeddedStore::open(Options::at(file))?;
        store.compact().await?;
        let size = store.size().await?;
        store.close().await?;
        Ok(Kept { samples: size.samples, bytes: size.bytes })
    })
}

/// Bytes of VictoriaMetrics' files: samples and the index of series; its caches are left out.
fn bytes_of(data: &std::path::Path) -> anyhow::Result<u64> {
    let folders = ["data", "indexdb"].map(|folder| files(&data.join(folder), ""));
    let mut bytes = 0;
    for files in folders {
        for file in files? {
            bytes += fs_err::metadata(file)?.len();
        }
    }
    Ok(bytes)
}

/// One connection that payloads are written on.
pub(crate) enum Writer {
    Harbinger(Connection, Dialect),
    VictoriaMetrics(Connection),
    Postgres(Session),
}

impl Writer {
    /// Writes a payload of so many readings and waits until it is acknowledged.
    pub(crate) fn write(&mut self, payload: &[u8], readings: usize) -> anyhow::Result<()> {
        match self {
            Self::Harbinger(connection, Dialect::Native) => {
                let answer = connection.ask("POST", "/api/v1/telemetry", "application/x-ndjson", payload)?;
                let accepted = answer.json()?["accepted"].as_u64();
                ensure!(accepted == Some(readings as u64), "{readings} readings were sent: {}", answer.text());
            }
            Self::Harbinger(connection, Dialect::LineProtocol) | Self::VictoriaMetrics(connection) => {
                let answer = connection.ask("POST", "/write?precision=ms", "text/plain", payload)?;
                ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
            }
            Self::Postgres(session) => session.copy("COPY telemetry FROM STDIN", payload)?,
        }
        Ok(())
    }
}
