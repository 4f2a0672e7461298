//! The real `harbinger` binary: as a service on ports of its own, and as a command that ends.

use std::{
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    http::Client,
    process::{Process, harbinger_binary},
};

/// How long the service may take until it is ready: far above what it takes, since the machine may be busy.
const START: Duration = Duration::from_secs(60);

/// All scopes of a tenant's daily work.
pub const SCOPES: &str = "ingest,read,operate";

/// A running service; what it shares with its [`Place`] is reached through it.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub process: Process,
    place: Place,
}

/// Where a service is: what threads of a test may share.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the REST API listens.
    pub api: SocketAddr,
    /// Where the MQTT listener listens.
    pub mqtt: SocketAddr,
    data: PathBuf,
    settings: Vec<(String, String)>,
}

impl Server {
    /// Starts `harbinger run` on a data folder, on free ports, and waits until it is ready.
    ///
    /// * `settings`: environment variables without their prefix `HARBINGER__`.
    ///
    /// # Errors
    /// Where it does not become ready; with what it printed.
    pub fn start(data: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = command()?;
        command.arg("run").arg("--data").arg(data);
        command.env("HARBINGER__API__ADDRESS", "127.0.0.1:0").env("HARBINGER__INGEST__MQTT__ADDRESS", "127.0.0.1:0");
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| (format!("HARBINGER__{name}"), (*value).to_owned())).collect();
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(&mut command)?;
        let api = process.wait_for_line(START, |line| line.strip_prefix("interface http://")?.parse().ok())?;
        let mqtt = process.wait_for_line(START, |line| line.strip_prefix("mqtt mqtt://")?.parse().ok())?;
        process.wait_for_line(START, |line| (line == "ready").then_some(()))?;
        Ok(Self { process, place: Place { api, mqtt, data: data.to_owned(), settings } })
    }

    /// Ends the service as a power failure would.
    ///
    /// # Errors
    /// Where the signal cannot be sent.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.kill()
    }
}

impl Deref for Server {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Place {
    /// A new key of a tenant.
    ///
    /// # Errors
    /// Where `harbinger keys create` fails.
    pub fn key(&self, tenant: &str, scopes: &str) -> anyhow::Result<String> {
        let data = self.data.to_str().context("the data folder's name is text")?;
        let arguments = ["keys", "create", "--tenant", tenant, "--scope", scopes, "--data", data];
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let made = harbinger_with(&arguments, &settings)?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// A client of the API that shows a key.
    #[must_use]
    pub fn client(&self, key: &str) -> Client {
        Client::new(self.api, Some(key))
    }
}

/// The binary, with none of the settings that this environment may hold.
fn command() -> anyhow::Result<Command> {
    let mut command = Command::new(harbinger_binary()?);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HARBINGER_")) {
        command.env_remove(name);
    }
    Ok(command)
}

/// Runs a command of the binary to its end.
///
/// # Errors
/// Where it cannot be started.
pub fn harbinger(arguments: &[&str]) -> anyhow::Result<Output> {
    harbinger_with(arguments, &[])
}

/// Runs a command of the binary to its end, with environment variables.
///
/// # Errors
/// Where it cannot be started.
pub fn harbinger_with(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Output> {
    command()?.args(arguments).envs(variables.iter().copied()).output().context("failed to run harbinger")
}

#[expect(clippy::disallowed_methods, reason = "the condition is looked at again after it, until its deadline")]
fn pause() {
    sleep(Duration::from_millis(20));
}

/// Asks again and again until there is something, or patience is over.
///
/// # Errors
/// The last error of `look`, or that `what` did not come.
pub fn until<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let found = look();
        match found {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if Instant::now() >= deadline => bail!("waited {patience:?} in vain for {what}"),
            Err(error) if Instant::now() >= deadline => return Err(error.context(format!("waiting for {what}"))),
            Ok(None) | Err(_) => pause(),
        }
    }
}
