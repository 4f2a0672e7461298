//! A stage is this program once more, in a process of its own, on the same data file.

use std::{path::Path, process::Stdio, time::Instant};

use tokio::process::{Child, Command};

use crate::{Failure, figures::Figure};

/// Starts a stage with this program's own arguments; those given besides hold over them.
pub(crate) fn start(stage: &str, file: &Path, arguments: &[&str]) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).args(arguments).arg("--file").arg(file).arg(stage);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// Runs a stage to its end; its figures.
pub(crate) async fn run(stage: &str, file: &Path, arguments: &[&str]) -> Result<Vec<Figure>, Failure> {
    let begun = Instant::now();
    let output = start(stage, file, arguments)?.wait_with_output().await?;
    if !output.status.success() {
        return Err(format!("stage {stage} failed: {}", output.status).into());
    }
    eprintln!("{stage} {}: {:.0} s", arguments.join(" "), begun.elapsed().as_secs_f64());
    Ok(serde_json::from_slice(&output.stdout)?)
}
