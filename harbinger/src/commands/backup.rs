//! `harbinger backup DIR`: a copy of everything, while the service runs or not.
//!
//! The ledger is copied first, in one read snapshot, and telemetry after it. The ledger says how far work has come that reads
//! telemetry, so whatever it leans on is in the later copy. Model files never change once they are written. The manifest comes
//! last, and the folder gets its name when all is on disk.
//!
//! What rests on a telemetry server is not copied: its own tools do that, afterwards, since readings only ever move there.

use std::path::{Path, PathBuf};

use anyhow::Context;
use harbinger_core::{Clock, SystemClock};
use harbinger_store::{Ledger, ledger::copy::copy, telemetry};

use super::run;
use crate::{
    config::{Config, Telemetry},
    manifest::{Counts, Manifest},
    progress::{Step, watched},
    service::{DataFolder, LEDGER_FILE, MODELS_FOLDER, TELEMETRY_FILE},
    staging::Staged,
};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder to write, which must be empty or not there; it appears when it is whole
    #[arg(value_name = "DIR")]
    into: PathBuf,
    #[command(flatten)]
    place: run::Arguments,
}

/// Copies and says what was copied.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.place.settings()?;
    let source = DataFolder::of(&config);
    anyhow::ensure!(
        source.telemetry.exists(),
        "there is no telemetry at {}: name the data folder with --data",
        source.telemetry.display()
    );
    let created = SystemClock.now();
    let staged = Staged::beside(&arguments.into)?;
    let ledger_rows = copy_ledger(&source, staged.path()).await?;
    let (from, into) = (source.telemetry.clone(), staged.path().join(TELEMETRY_FILE));
    let copied = tokio::task::spawn_blocking(move || copy_telemetry(&from, &into)).await??;
    copy_models(&source.models, &staged.path().join(MODELS_FOLDER))?;
    for found in &copied.findings {
        eprintln!("left behind: {}: {}", found.place, found.problem);
    }
    let counts = Counts {
        ledger_rows,
        samples: copied.samples,
        log_rows: copied.log_rows,
        events: copied.events,
        damaged_rows: copied.findings.len() as u64,
    };
    let step = Step::begin("computing checksums");
    Manifest::of(staged.path(), &config.data.folder, created, counts)?.write(staged.path())?;
    staged.keep()?;
    step.done(&format!(
        "wrote {}: {ledger_rows} rows of the ledger, {} samples and {} commits of telemetry, {} events",
        arguments.into.display(),
        counts.samples,
        counts.log_rows,
        counts.events
    ));
    if let Some(elsewhere) = elsewhere(&config.telemetry) {
        eprintln!("{elsewhere}");
    }
    Ok(())
}

/// What is not in the backup, in words: readings that a server has taken over.
fn elsewhere(telemetry: &Telemetry) -> Option<String> {
    let (server, command) = telemetry.remote.name_and_backup()?;
    let (url, database) = (&telemetry.url, &telemetry.database);
    Some(format!(
        "not in it: the readings that rest on {server} at {url}, database {database}. Back them up now, after this, with \
         {command}: what leaves the data folder from here on is in the later one"
    ))
}

async fn copy_ledger(source: &DataFolder, into: &Path) -> anyhow::Result<u64> {
    let step = Step::begin("copying the ledger");
    let from = Ledger::connect(&source.ledger).await?;
    let target = Ledger::open(&into.join(LEDGER_FILE)).await?;
    let rows = copy(&from, &target, |_| ()).await.context("failed to copy the ledger: harbinger check names why")?;
    // The last connection to close moves what its WAL holds into the file.
    target.close().await;
    from.close().await;
    step.done(&format!("copied {rows} rows of the ledger"));
    Ok(rows)
}

fn copy_telemetry(from: &Path, into: &Path) -> Result<telemetry::Copied, telemetry::Error> {
    watched("copying telemetry, devices", |reached| {
        telemetry::backup(from, into, &|progress| reached(progress.done, progress.all))
    })
}

/// Copies a folder; a tenant without a model has none. A file that ends in `.part` is being written and is not named yet.
fn copy_models(from: &Path, into: &Path) -> std::io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    fs_err::create_dir_all(into)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), into.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_models(&path, &target)?;
        } else if path.extension().is_none_or(|extension| extension != "part") {
            fs_err::copy(path, target)?;
        }
    }
    Ok(())
}

/// Whether a ledger is the file in the data folder, and not on a server.
pub(super) fn keeps_ledger_file(config: &Config) -> bool {
    config.ledger.url.is_empty()
}
