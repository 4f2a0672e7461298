//! `harbinger restore DIR`: a data folder from a backup, whole or not at all.
//!
//! Every checksum is verified before anything is written. The data folder is filled under another name and renamed in one
//! step. Where a server keeps the ledger, it is filled in one transaction when the folder lacks nothing but its name. A rename
//! and a commit on a server cannot be one: a crash between the two leaves a full ledger and no folder, and the next attempt
//! says so and what to do.

use std::path::PathBuf;

use anyhow::Context;
use harbinger_store::{Ledger, ledger::copy::copy};

use super::{backup::keeps_ledger_file, run};
use crate::{
    manifest::Manifest,
    progress::{Step, watched},
    service::{DataFolder, LEDGER_FILE},
    staging::Staged,
};

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the backup
    #[arg(value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    place: run::Arguments,
}

/// Verifies, copies, and says what there is now.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.place.settings()?;
    let backup = &arguments.from;
    let manifest = Manifest::read(backup)?;
    let staged = Staged::beside(&config.data.folder)?;
    let findings = watched("verifying files", |reached| manifest.verify(backup, reached));
    for found in &findings {
        eprintln!("damaged: {}: {}", found.place, found.problem);
    }
    anyhow::ensure!(
        findings.is_empty(),
        "{} is damaged and nothing was restored: take another backup, or an older one",
        backup.display()
    );
    let step = Step::begin("copying");
    let on_server = !keeps_ledger_file(&config);
    for file in manifest.files.iter().filter(|file| !(on_server && file.path == LEDGER_FILE)) {
        file.copy(backup, staged.path())?;
    }
    if on_server {
        let source = tempfile::tempdir()?;
        let file = manifest.files.iter().find(|file| file.path == LEDGER_FILE).context("the backup has no ledger")?;
        file.copy(backup, source.path())?;
        let from = Ledger::open(&source.path().join(LEDGER_FILE)).await?;
        let into = Ledger::connect(&DataFolder::of(&config).ledger).await?;
        staged.sync()?;
        copy(&from, &into, |_| ()).await.context(
            "failed to restore the ledger: give an empty database; where a restore was cut off after it had filled \
             this one, empty it and restore again",
        )?;
        into.close().await;
        from.close().await;
    }
    staged.keep()?;
    step.done(&format!(
        "restored {} as of {}: {} rows of the ledger, {} samples and {} commits of telemetry, {} events",
        config.data.folder.display(),
        manifest.created,
        manifest.counts.ledger_rows,
        manifest.counts.samples,
        manifest.counts.log_rows,
        manifest.counts.events
    ));
    Ok(())
}
