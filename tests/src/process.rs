//! A real process under test: started, watched line by line, stopped by signal, never left behind.
//!
//! Nothing here sleeps and hopes. Whoever waits names what for and until when, and on failure sees all that was printed.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// The `harbinger` binary of the build that these tests belong to: it lies beside the folder of the test binary.
///
/// # Errors
/// Where it has not been built: `cargo build --release`.
pub fn harbinger_binary() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(|deps| deps.parent()).context("a test binary lies in target/release/deps")?;
    let binary = folder.join("harbinger");
    if !binary.exists() {
        bail!("{} is not there: run `cargo build --release` first", binary.display());
    }
    Ok(binary)
}

/// What a process does that a test waits for.
#[derive(Debug)]
enum Happening {
    /// It printed a line, to standard output or standard error.
    Line(String),
    /// It ended.
    Ended(ExitStatus),
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    id: u32,
    happenings: Receiver<Happening>,
    printed: Vec<String>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a process whose output is read to the end, so that it never blocks on a full pipe.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        let (sender, happenings) = channel();
        let readers = [
            child.stdout.take().map(|output| forward_lines(output, sender.clone())),
            child.stderr.take().map(|output| forward_lines(output, sender.clone())),
        ];
        let id = child.id();
        thread::spawn(move || {
            let status = child.wait();
            // Whoever hears of the end has heard every line before.
            for reader in readers.into_iter().flatten() {
                let _finished = reader.join();
            }
            if let Ok(status) = status {
                let _nobody_listens = sender.send(Happening::Ended(status));
            }
        });
        Ok(Self { id, happenings, printed: Vec::new(), ended: None })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// All lines so far that some wait has seen.
    #[must_use]
    pub fn printed(&self) -> &[String] {
        &self.printed
    }

    /// Waits for a line of which `find` makes something.
    ///
    /// # Errors
    /// Where the process ends, or `patience` is over, before such a line; with all that was printed.
    pub fn wait_for_line<T>(&mut self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            match self.next_before(deadline)? {
                Some(Happening::Line(line)) => {
                    if let Some(found) = find(&line) {
                        return Ok(found);
                    }
                }
                Some(Happening::Ended(status)) => bail!("it ended ({status}) first:\n{}", self.printed.join("\n")),
                None => bail!("no such line within {patience:?}:\n{}", self.printed.join("\n")),
            }
        }
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// Where it still runs when `patience` is over; with all that was printed.
    pub fn wait_for_end(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended {
                return Ok(status);
            }
            if self.next_before(deadline)?.is_none() {
                bail!("it still runs after {patience:?}:\n{}", self.printed.join("\n"));
            }
        }
    }

    fn next_before(&mut self, deadline: Instant) -> anyhow::Result<Option<Happening>> {
        if let Some(status) = self.ended {
            return Ok(Some(Happening::Ended(status)));
        }
        match self.happenings.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Happening::Line(line)) => {
                self.printed.push(line.clone());
                Ok(Some(Happening::Line(line)))
            }
            Ok(Happening::Ended(status)) => {
                self.ended = Some(status);
                Ok(Some(Happening::Ended(status)))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the process was lost sight of"),
        }
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// Where the signal cannot be sent or the process does not end in time.
    pub fn terminate(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait_for_end(patience)
    }

    /// Ends the process at once (SIGKILL), as a power failure would, and waits until it is gone.
    ///
    /// # Errors
    /// Where the signal cannot be sent.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal("KILL")?;
        self.wait_for_end(Duration::from_secs(30))
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        if self.ended.is_none() {
            let status = Command::new("kill").args([&format!("-{name}"), &self.id.to_string()]).status()?;
            anyhow::ensure!(status.success(), "failed to send SIG{name} to process {}", self.id);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended a moment ago; then there is nothing to kill.
        while let Ok(Some(_)) = self.next_before(Instant::now()) {
            if self.ended.is_some() {
                return;
            }
        }
        let _ended_by_itself = self.signal("KILL");
    }
}

fn forward_lines(output: impl Read + Send + 'static, sender: Sender<Happening>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Where the test is over nobody listens; go on reading, so that the process does not stop at a full pipe.
            let _nobody_listens = sender.send(Happening::Line(line));
        }
    })
}

/// The Python that `scripts/install-test-needs` sets up, where it has these modules; where it has not, says so.
#[must_use]
pub fn python(modules: &str) -> Option<PathBuf> {
    let python = crate::workspace_root().join("target/test-python/bin/python");
    let ready = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if ready.is_ok_and(|ended| ended.status.success()) {
        return Some(python);
    }
    eprintln!("left out: {} has no {modules}: run scripts/install-test-needs", python.display());
    None
}

/// The library of ONNX Runtime that `scripts/install-test-needs` sets up; where it is not there, says so.
#[must_use]
pub fn onnxruntime() -> Option<PathBuf> {
    let lib = crate::workspace_root().join("target/test-python/lib");
    let installed = || -> Option<PathBuf> {
        let pythons = std::fs::read_dir(&lib).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let folders =
            pythons.filter_map(|python| std::fs::read_dir(python.join("site-packages/onnxruntime/capi")).ok());
        let mut files = folders.flatten().filter_map(|entry| Some(entry.ok()?.path()));
        files.find(|file| file.to_string_lossy().contains("libonnxruntime.so"))
    };
    if installed().is_none() {
        eprintln!("left out: there is no ONNX Runtime in {}: run scripts/install-test-needs", lib.display());
    }
    installed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn lines_are_seen_in_order_and_the_end_after_them() {
        let mut process = shell("echo one; echo listening on 4711; exit 3");
        let port = process.wait_for_line(PATIENCE, |line| line.strip_prefix("listening on ")?.parse::<u16>().ok());
        assert_eq!(port.unwrap(), 4711);
        assert_eq!(process.wait_for_end(PATIENCE).unwrap().code(), Some(3));
        assert_eq!(process.printed(), ["one", "listening on 4711"]);
    }

    #[test]
    fn a_process_that_ends_too_early_is_told_with_what_it_printed() {
        let error = shell("echo cannot open >&2; exit 1").wait_for_line(PATIENCE, |_| None::<()>).unwrap_err();
        assert!(error.to_string().contains("cannot open"), "{error}");
    }

    #[test]
    fn signals_arrive() {
        let mut polite = shell("trap 'exit 0' TERM; echo ready; while :; do :; done");
        polite.wait_for_line(PATIENCE, |line| (line == "ready").then_some(())).unwrap();
        assert!(polite.terminate(PATIENCE).unwrap().success());

        let mut stubborn = shell("trap '' TERM; echo ready; exec cat /dev/zero >/dev/null");
        stubborn.wait_for_line(PATIENCE, |line| (line == "ready").then_some(())).unwrap();
        assert_eq!(stubborn.kill().unwrap().code(), None);
    }
}
