//! `harbinger`: telemetry in, the spare part at the right depot before the device fails.
//!
//! The command line: one module a command under `commands`. Exit codes: 0 done, 1 failed with one clear sentence, 2 wrong
//! usage.

mod commands;
mod progress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Telemetry in, the spare part at the right depot before the device fails.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Learn a model from a fleet bundle
    Train(commands::train::Arguments),
    /// Predict failures of a bundle's devices with a model
    Score(commands::score::Arguments),
    /// Learn on a bundle's past or on some of its devices, predict the rest, and say how good it was
    Evaluate(commands::evaluate::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Score(arguments) => commands::score::run(&arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harbinger: {error:#}");
            ExitCode::FAILURE
        }
    }
}
