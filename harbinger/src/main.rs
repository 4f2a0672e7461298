//! `harbinger`: telemetry in, the spare part at the right depot before the device fails.
//!
//! The command line: one module a command under `commands`. Exit codes: 0 done, 1 failed with one clear sentence, 2 wrong
//! usage.

mod client;
mod commands;
mod config;
mod manifest;
mod progress;
mod service;
mod shutdown;
mod staging;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Telemetry in, the spare part at the right depot before the device fails.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    /// Library of ONNX Runtime, for models that were trained elsewhere
    #[arg(long, global = true, env = "ORT_DYLIB_PATH", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole loop on a simulated fleet in fast time
    Demo(commands::demo::Arguments),
    /// Run the service until it is told to stop
    Run(commands::run::Arguments),
    /// Print the settings in force, or check them
    Config(commands::config::Arguments),
    /// Make, list and revoke API keys
    Keys(commands::keys::Arguments),
    /// Publish a bundle's past over MQTT, in order of time, as if its devices were talking
    Replay(commands::replay::Arguments),
    /// Load a bundle in bulk, without MQTT
    Import(commands::import::Arguments),
    /// Write what a tenant has as a fleet bundle or as Parquet files
    Export(commands::export::Arguments),
    /// Copy everything into a folder, while the service runs or not
    Backup(commands::backup::Arguments),
    /// Make a data folder from a backup
    Restore(commands::restore::Arguments),
    /// Verify checksums and invariants of a data folder or a backup, and name what is damaged
    Check(commands::check::Arguments),
    /// Learn a model from a fleet bundle
    Train(commands::train::Arguments),
    /// Write the rows that training learns from, to train a model elsewhere on them
    Features(commands::features::Arguments),
    /// Put a classifier that was trained elsewhere and exported to ONNX into a model
    ImportModel(commands::import_model::Arguments),
    /// Predict failures of a bundle's devices with a model
    Score(commands::score::Arguments),
    /// Find readings unlike a device's own usual ones
    Screen(commands::screen::Arguments),
    /// Choose what to keep of each part at hub and depots, for a target or a budget
    Stock(commands::stock::Arguments),
    /// Plan which pieces to move and to buy, as of a time of a bundle
    Plan(commands::plan::Arguments),
    /// Compare policies of stock on a simulated service network: what does prediction save, at which quality of alerts?
    SimulatePolicies(commands::simulate_policies::Arguments),
    /// Learn on a bundle's past or on some of its devices, predict the rest, and say how good it was
    Evaluate(commands::evaluate::Arguments),
    /// Forecast how many pieces of each part each depot will need, from consumption
    Demand(commands::demand::Arguments),
}

impl Command {
    /// What is logged unless `RUST_LOG` says otherwise.
    fn usual_log(&self) -> &'static str {
        match self {
            // The demonstration tells its story in lines of its own.
            Self::Demo(_) => "warn,harbinger::service=error",
            _ => "info,sqlx=warn",
        }
    }
}

/// Batches are made on one thread and let go of on another, all day long: a fifth of an append's time less than with the
/// system's allocator, and steady memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.command.usual_log());
    if let Some(library) = &arguments.onnxruntime {
        harbinger_analytics::failure::onnx::use_library(library);
    }
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harbinger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => block_on(commands::demo::run(&arguments)),
        Command::Run(arguments) => block_on(commands::run::run(&arguments)),
        Command::Config(arguments) => block_on(commands::config::run(arguments)),
        Command::Keys(arguments) => block_on(commands::keys::run(arguments)),
        Command::Replay(arguments) => block_on(commands::replay::run(arguments)),
        Command::Import(arguments) => block_on(commands::import::run(arguments)),
        Command::Export(arguments) => block_on(commands::export::run(arguments)),
        Command::Backup(arguments) => block_on(commands::backup::run(arguments)),
        Command::Restore(arguments) => block_on(commands::restore::run(arguments)),
        Command::Check(arguments) => block_on(commands::check::run(arguments)),
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Features(arguments) => commands::features::run(&arguments),
        Command::ImportModel(arguments) => commands::import_model::run(&arguments),
        Command::Score(arguments) => commands::score::run(&arguments),
        Command::Screen(arguments) => commands::screen::run(&arguments),
        Command::Stock(arguments) => commands::stock::run(&arguments),
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::SimulatePolicies(arguments) => commands::simulate_policies::run(&arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments),
        Command::Demand(arguments) => commands::demand::run(&arguments),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// `RUST_LOG` chooses what is logged, else `usual`.
fn log_to_stderr(usual: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
