//! `harbinger config`: say which settings are in force, or what is wrong with them.

use harbinger_store::Ledger;

use super::run;
use crate::service::DataFolder;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the settings in force as TOML, defaults included
    Print(run::Arguments),
    /// Check the settings, and that the data folder, the ledger and both addresses can be used
    Check(run::Arguments),
}

/// Prints or checks.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (place, check) = match arguments.action {
        Action::Print(place) => (place, false),
        Action::Check(place) => (place, true),
    };
    let config = place.settings()?;
    if !check {
        print!("{}", toml::to_string_pretty(&config)?);
        return Ok(());
    }
    for warning in config.warnings() {
        println!("warning: {warning}");
    }
    let mut problems = Vec::new();
    for (key, address) in [("api.address", config.api.address), ("ingest.mqtt.address", config.ingest.mqtt.address)] {
        if let Err(error) = tokio::net::TcpListener::bind(address).await {
            problems.push(format!("{key} = {address}: {error}"));
        }
    }
    match DataFolder::open(&config) {
        Ok(folder) => {
            if let Err(error) = Ledger::connect(&folder.ledger).await {
                let key = if config.ledger.url.is_empty() { "data.folder" } else { "ledger.url" };
                problems.push(format!("{key}: {:#}", anyhow::Error::from(error)));
            }
        }
        Err(error) => problems.push(format!("data.folder: {error:#}")),
    }
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
    println!("settings are good");
    Ok(())
}
