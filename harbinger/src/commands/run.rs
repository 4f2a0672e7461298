//! `harbinger run`: the service, until it is told to stop.

use std::path::PathBuf;

use crate::{config::Config, service::Service, shutdown};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder, over the settings
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

impl Arguments {
    /// The settings with the flags over them.
    pub(crate) fn settings(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref(), std::env::vars())?;
        if let Some(data) = &self.data {
            config.data.folder.clone_from(data);
        }
        if let Some(library) = &config.analytics.onnxruntime {
            harbinger_analytics::failure::onnx::use_library(library);
        }
        Ok(config)
    }
}

/// Starts, says where, works, stops.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = arguments.settings()?;
    let stop = shutdown::on_signal()?;
    let service = Service::start(&config).await?;
    println!("interface http://{}", service.api_address);
    println!("mqtt mqtt://{}", service.mqtt_address);
    println!("ready");
    service.run(stop).await
}
