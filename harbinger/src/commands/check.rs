//! `harbinger check`: verifies a data folder or a backup and names what is damaged, while the service runs or not.
//!
//! Reads only. Exit code 0 where all is well, 1 where something is damaged or cannot be read.

use std::path::{Path, PathBuf};

use harbinger_analytics::failure::{self, Model, onnx};
use harbinger_core::TenantId;
use harbinger_store::{
    Ledger,
    ledger::check::{Checked, check_connection, check_file},
    telemetry::{self, Finding},
};

use super::{backup::keeps_ledger_file, run};
use crate::{
    config::Config,
    manifest::{self, Manifest},
    progress::{Step, watched},
    service::{DataFolder, LEDGER_FILE},
};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: run::Arguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Verifies everything and prints a line for each thing that is damaged.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.place.settings()?;
    let (folder, paths) = (&config.data.folder, DataFolder::of(&config));
    anyhow::ensure!(folder.is_dir(), "there is no folder {}: name it with --data", folder.display());
    let mut findings = Vec::new();
    let is_backup = folder.join(manifest::FILE).exists();
    if is_backup {
        findings.extend(match Manifest::read(folder) {
            Ok(manifest) => watched("verifying files", |reached| manifest.verify(folder, reached)),
            Err(error) => vec![finding(&folder.join(manifest::FILE), format!("{error:#}"))],
        });
    }
    let telemetry = paths.telemetry.clone();
    findings.extend(tokio::task::spawn_blocking(move || check_telemetry(telemetry)).await?);
    let step = Step::begin("checking the ledger");
    // The ledger of a backup is always a file in it.
    let ledger = if is_backup || keeps_ledger_file(&config) {
        check_file(&folder.join(LEDGER_FILE)).await
    } else {
        check_server(&config).await?
    };
    step.done(&format!("checked the ledger, which knows {} models", ledger.models.len()));
    findings.extend(ledger.findings);
    findings.extend(ledger.models.iter().filter_map(|model| check_model(&paths.models, model)));
    tell(&findings, arguments.json)?;
    anyhow::ensure!(findings.is_empty(), "{} in {}", count(findings.len()), folder.display());
    Ok(())
}

fn check_telemetry(path: PathBuf) -> Vec<Finding> {
    let checked = watched("checking telemetry, devices", |reached| {
        telemetry::check(&path, &|progress| reached(progress.done, progress.all))
    });
    checked.unwrap_or_else(|error| vec![finding(&path, format!("{:#}", anyhow::Error::from(error)))])
}

async fn check_server(config: &Config) -> anyhow::Result<Checked> {
    let ledger = Ledger::connect(&DataFolder::of(config).ledger).await?;
    let checked = check_connection(&mut *ledger.read().await?, ledger.engine()).await;
    ledger.close().await;
    Ok(checked)
}

/// A model's version is the hash of its content, which opening it verifies.
fn check_model(models: &Path, (tenant, version): &(TenantId, String)) -> Option<Finding> {
    let folder = models.join(tenant.as_str()).join(version);
    match Model::open(&folder) {
        Ok(model) if model.version == *version => None,
        Ok(model) => Some(finding(&folder, format!("it holds model {:?}", model.version))),
        Err(error @ failure::Error::Onnx { source: onnx::Error::NoRuntime { .. }, .. }) => {
            let remedy = "say where the library lies, and check again".to_owned();
            Some(Finding { remedy, ..finding(&folder, format!("it cannot be verified: {error}")) })
        }
        Err(error) => Some(finding(&folder, format!("{:#}", anyhow::Error::from(error)))),
    }
}

fn finding(place: &Path, problem: String) -> Finding {
    let remedy = "restore a backup with harbinger restore".to_owned();
    Finding { place: place.display().to_string(), problem, remedy }
}

fn tell(findings: &[Finding], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "findings": findings }))?);
        return Ok(());
    }
    for Finding { place, problem, remedy } in findings {
        println!("{place}: {problem}; {remedy}");
    }
    if findings.is_empty() {
        println!("all is well");
    }
    Ok(())
}

fn count(findings: usize) -> String {
    match findings {
        1 => "1 thing is damaged".to_owned(),
        more => format!("{more} things are damaged"),
    }
}
