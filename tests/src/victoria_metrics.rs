//! A real server of others that telemetry is kept in, to compare with: on a free port of loopback and in a folder of its own,
//! ended when dropped.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{http::Client, process::Process, server::until};

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing is to be merged until merging counts as ended.
const QUIET: Duration = Duration::from_secs(5);

/// Where a program is on the path. Says on standard error what is left out where it is not installed.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("left out: {program} is not installed");
    }
    found
}

/// A port that nobody listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Arguments of its backup tools; they need not be watched while they run.
fn places(data: &Path, direction: &str, backup: &Path) -> [String; 3] {
    let (data, backup) = (data.display(), backup.display());
    [format!("-storageDataPath={data}"), format!("{direction}=fs://{backup}"), "-httpListenAddr=".to_owned()]
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let ended = command.output()?;
    ensure!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}

/// A single-node VictoriaMetrics that keeps samples of all times.
#[derive(Debug)]
pub struct VictoriaMetrics {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl VictoriaMetrics {
    /// Starts it on a data folder; `None` where it is not installed.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(data: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = installed("victoria-metrics") else { return Ok(None) };
        let address = free_address()?;
        let mut command = Command::new(program);
        command.arg(format!("-storageDataPath={}", data.display())).arg(format!("-httpListenAddr={address}"));
        command.args(["-retentionPeriod=100y", "-loggerLevel=ERROR"]);
        let process = Process::start(&mut command)?;
        let server = Self { address, process };
        let healthy = || Ok((server.client().get("/health")?.status == 200).then_some(()));
        until(PATIENCE, "VictoriaMetrics to start", healthy)?;
        Ok(Some(server))
    }

    /// Copies what it holds into `backup` with `vmbackup`, while it runs; `None` where that is not installed.
    ///
    /// # Errors
    /// Where that fails.
    pub fn back_up(&self, data: &Path, backup: &Path) -> anyhow::Result<Option<()>> {
        let Some(program) = installed("vmbackup") else { return Ok(None) };
        let snapshot = format!("-snapshot.createURL=http://{}/snapshot/create", self.address);
        run(Command::new(program).arg(snapshot).args(places(data, "-dst", backup)))?;
        Ok(Some(()))
    }

    /// Makes a data folder of such a copy.
    ///
    /// # Errors
    /// Where `vmrestore` is not there, or fails.
    pub fn restore(backup: &Path, data: &Path) -> anyhow::Result<()> {
        run(Command::new("vmrestore").args(places(data, "-src", backup)))
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address, None)
    }

    /// Writes everything to disk and merges each partition to one part.
    ///
    /// # Errors
    /// Where merging does not end within ten minutes.
    pub fn merge(&self) -> anyhow::Result<()> {
        let client = self.client();
        for path in ["/internal/force_flush", "/internal/force_merge"] {
            ensure!(client.get(path)?.status == 200, "{path} was refused");
        }
        // Merging begins a moment after it was asked for, and what the server tells of itself is some seconds old.
        let mut quiet_since = Instant::now();
        until(Duration::from_secs(600), "merges to end", || {
            let active = client.metric("vm_active_merges", "")? + client.metric("vm_active_force_merges", "")?;
            if active > 0.0 {
                quiet_since = Instant::now();
            }
            Ok((quiet_since.elapsed() > QUIET).then_some(()))
        })
    }

    /// Ends it in order: what it holds in memory is written first.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.process.terminate(PATIENCE)?;
        Ok(())
    }
}
