//! A real browser, without a window: what a page is once its scripts have run.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

/// The elements of a page in a file after its scripts have run, as HTML; `None`, with a word on standard error, where there is
/// no Chromium.
///
/// # Errors
/// Where the browser fails.
pub fn drawn(page: &Path) -> anyhow::Result<Option<String>> {
    let profile = tempfile::tempdir()?;
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null());
    let ended = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: there is no chromium to draw {} with", page.display());
            return Ok(None);
        }
        ended => ended.context("failed to start chromium")?,
    };
    ensure!(ended.status.success(), "chromium ended with {}", ended.status);
    Ok(Some(String::from_utf8(ended.stdout).context("a page that is no text")?))
}
