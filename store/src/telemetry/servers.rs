//! The real servers that remote stores are tested on: Debian's `influxdb` and `victoria-metrics`, on free ports of the
//! loopback, in folders that go with them.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::remote::{InfluxDb, Remote, Settings, VictoriaMetrics, WriteApi};

/// Which server, and how points reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    InfluxDb,
    VictoriaMetrics,
    /// Points written by crate `influxdb2`.
    VictoriaMetricsByInfluxdb2,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::InfluxDb => "/usr/bin/influxd",
            Self::VictoriaMetrics | Self::VictoriaMetricsByInfluxdb2 => "/usr/bin/victoria-metrics",
        }
    }
}

/// A running server. It is killed when this, or the process that holds this, is gone: its guardian reads end of file then.
#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    running: Option<(Child, ChildStdin)>,
}

/// Runs a server until standard input ends; removes its folder where it is told to.
const GUARDIAN: &str = r#"folder="$1"; shift
"$@" >"$folder/log" 2>&1 &
server=$!
read -r word
case "$word" in
    stop) kill $server ;;
    *) kill -9 $server ;;
esac
wait $server 2>/dev/null
[ -n "$word" ] || rm -rf "$folder"
"#;

impl Server {
    /// Starts a server; `None`, and a line about it, where it is not installed.
    pub(super) fn start(kind: Kind) -> Option<Self> {
        if !Path::new(kind.program()).exists() {
            eprintln!("left out: {} is not installed", kind.program());
            return None;
        }
        let folder = tempfile::tempdir().unwrap().keep();
        let mut server = Self { kind, port: free_port(), folder, running: None };
        server.restart();
        Some(server)
    }

    /// Starts it again, on the port and with the data it had.
    pub(super) fn restart(&mut self) {
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARDIAN, "guardian"]).arg(&self.folder).arg(self.kind.program());
        match self.kind {
            Kind::InfluxDb => {
                let config = self.folder.join("influxdb.conf");
                fs_err::write(&config, influxdb_config(&self.folder, self.port)).unwrap();
                guardian.arg("-config").arg(config);
            }
            Kind::VictoriaMetrics | Kind::VictoriaMetricsByInfluxdb2 => {
                guardian.arg(format!("-httpListenAddr=127.0.0.1:{}", self.port));
                guardian.arg(format!("-storageDataPath={}", self.folder.join("data").display()));
                guardian.args(["-retentionPeriod=100y", "-memory.allowedBytes=256MB"]);
            }
        }
        let mut child = guardian.stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        self.running = Some((child, stdin));
    }

    /// Stops it in order (SIGTERM): what it acknowledged is on its disk.
    pub(super) fn stop(&mut self) {
        self.end("stop\n");
    }

    /// Kills it (SIGKILL); what it has on its disk stays.
    pub(super) fn kill(&mut self) {
        self.end("kill\n");
    }

    fn end(&mut self, word: &str) {
        use std::io::Write;
        if let Some((mut child, mut stdin)) = self.running.take() {
            stdin.write_all(word.as_bytes()).unwrap();
            child.wait().unwrap();
        }
    }

    pub(super) fn settings(&self, database: &str) -> Settings {
        let by_crate = self.kind == Kind::VictoriaMetricsByInfluxdb2;
        let write_api = if by_crate { WriteApi::V2 } else { WriteApi::V1 };
        let request_timeout = harbinger_core::Duration::from_secs(10);
        let url = format!("http://127.0.0.1:{}", self.port);
        Settings { write_api, request_timeout, ..Settings::at(url, database) }
    }

    /// A client of a database of its own, once the server answers.
    pub(super) async fn client(&self, database: &str) -> Arc<dyn Remote> {
        let settings = self.settings(database);
        let remote: Arc<dyn Remote> = match self.kind {
            Kind::InfluxDb => {
                let influx = InfluxDb::new(settings).unwrap();
                self.answers(&influx).await;
                influx.create_database().await.unwrap();
                Arc::new(influx)
            }
            Kind::VictoriaMetrics | Kind::VictoriaMetricsByInfluxdb2 => {
                Arc::new(VictoriaMetrics::new(&settings).unwrap())
            }
        };
        self.answers(&*remote).await;
        remote
    }

    /// Waits until VictoriaMetrics has run for so long: it tells its runs apart by the second of their start.
    pub(super) async fn runs_for_seconds(&self, wanted: u64) {
        loop {
            let metrics =
                reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await.unwrap().text().await.unwrap();
            let uptime = metrics.lines().find_map(|line| line.strip_prefix("vm_app_uptime_seconds ")).unwrap();
            if uptime.parse::<u64>().unwrap() >= wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the server answers.
    pub(super) async fn answers(&self, remote: &dyn Remote) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(failure) = remote.instance().await {
            assert!(Instant::now() < deadline, "{failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Without the word that keeps the folder, the guardian removes it.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.running.take() {
            drop(stdin);
            drop(child.wait());
        }
    }
}

/// The one server of a kind that all tests of this process share, each with a database of its own.
pub(super) async fn shared(kind: Kind) -> Option<Arc<dyn Remote>> {
    static INFLUXDB: OnceCell<Option<Server>> = OnceCell::const_new();
    static VICTORIA_METRICS: OnceCell<Option<Server>> = OnceCell::const_new();
    static BY_INFLUXDB2: OnceCell<Option<Server>> = OnceCell::const_new();
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let server = match kind {
        Kind::InfluxDb => &INFLUXDB,
        Kind::VictoriaMetrics => &VICTORIA_METRICS,
        Kind::VictoriaMetricsByInfluxdb2 => &BY_INFLUXDB2,
    };
    let server = server.get_or_init(|| async { Server::start(kind) }).await.as_ref()?;
    let database = format!("test {}", DATABASES.fetch_add(1, Ordering::SeqCst));
    Some(server.client(&database).await)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn influxdb_config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let rpc = free_port();
    format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{folder}/meta\"\n\
         [data]\ndir = \"{folder}/data\"\nwal-dir = \"{folder}/wal\"\n\
         [http]\nbind-address = \"127.0.0.1:{port}\"\n[monitor]\nstore-enabled = false\n"
    )
}
