//! How fast, small and safe the embedded telemetry store is, with a whole fleet in it.
//!
//! `cargo run --release -p harbinger-store --example store_bench [-- --help]`: 10,000 devices report six values each every
//! ten seconds, rounded to one decimal as sensors round, until 60 M samples are kept; some devices have seven days behind
//! them. Each case runs in a process of its own, which this one starts, so that the memory of one is not that of another
//! and a kill is a kill. What a case is stands at the head of its file. The data file is made in `--folder` and removed.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use harbinger_store::telemetry::{EmbeddedStore, Options};

mod append;
mod commits;
mod figures;
mod fleet;
mod killed;
mod memory;
mod read;
mod scan;
mod size;
mod stages;

use figures::Table;
use fleet::Values;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures the embedded telemetry store.
#[derive(Debug, Clone, Parser)]
#[command(args_override_self = true)]
struct Arguments {
    /// Samples that the fleet's history holds.
    #[arg(long, global = true, default_value_t = 60_000_000)]
    samples: usize,
    /// Devices of the fleet.
    #[arg(long, global = true, default_value_t = 10_000)]
    devices: usize,
    /// Devices that have seven days of readings besides.
    #[arg(long, global = true, default_value_t = 40)]
    long_devices: usize,
    /// What the values do.
    #[arg(long, global = true, value_enum, default_value_t = Values::Walk)]
    values: Values,
    /// Window reads that are timed.
    #[arg(long, global = true, default_value_t = 5_000)]
    queries: usize,
    /// Seconds of paced ingest.
    #[arg(long, global = true, default_value_t = 60)]
    seconds: usize,
    /// Samples a second of paced ingest.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    rate: usize,
    /// Kills in mid-ingest, each followed by a timed opening.
    #[arg(long, global = true, default_value_t = 7)]
    kills: usize,
    /// Where the data file is made [default: the system's temporary folder].
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    /// Also writes the figures there, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Threads that scan; 0: one a core.
    #[arg(long, global = true, hide = true, default_value_t = 0)]
    threads: usize,
    /// The data file of a stage.
    #[arg(long, global = true, hide = true, default_value = "telemetry.db")]
    file: PathBuf,
    #[command(subcommand)]
    stage: Option<Stage>,
}

/// What one process does.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Stage {
    /// Makes the data file.
    #[command(hide = true)]
    Append,
    /// Commits of small and large batches, in a file of their own.
    #[command(hide = true)]
    Commits,
    /// What the file is made of.
    #[command(hide = true)]
    Size,
    /// Windows of single devices.
    #[command(hide = true)]
    Read,
    /// Scans of all devices.
    #[command(hide = true)]
    Scan,
    /// Appends until it is killed.
    #[command(hide = true)]
    Endless,
    /// Opens and closes.
    #[command(hide = true)]
    Open,
    /// Appends at a pace.
    #[command(hide = true)]
    Paced,
}

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let figures = match arguments.stage {
        None => return measure(&arguments).await,
        Some(Stage::Append) => append::run(&arguments).await?,
        Some(Stage::Commits) => commits::run(&arguments).await?,
        Some(Stage::Size) => size::run(&arguments).await?,
        Some(Stage::Read) => read::run(&arguments).await?,
        Some(Stage::Scan) => scan::run(&arguments).await?,
        Some(Stage::Endless) => return killed::append_without_end(&arguments).await,
        Some(Stage::Open) => killed::time_opening(&arguments).await?,
        Some(Stage::Paced) => memory::run(&arguments).await?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Every stage in turn.
async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(folder)?;
    let file = folder.path().join("telemetry.db");
    let mut figures = Vec::new();
    for stage in ["append", "size", "read"] {
        figures.extend(stages::run(stage, &file, &[]).await?);
    }
    for threads in ["1", "0"] {
        figures.extend(stages::run("scan", &file, &["--threads", threads]).await?);
    }
    figures.extend(killed::run(arguments, &file).await?);
    figures.extend(stages::run("paced", &file, &[]).await?);
    let file = folder.path().join("noise.db");
    for stage in ["append", "size"] {
        figures.extend(stages::run(stage, &file, &["--values", "noise", "--long-devices", "0"]).await?);
    }
    figures.extend(stages::run("commits", &folder.path().join("commits.db"), &[]).await?);
    print!("{}", Table(&figures));
    if let Some(path) = &arguments.json {
        fs_err::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

fn open(file: &Path) -> Result<std::sync::Arc<EmbeddedStore>, Failure> {
    Ok(EmbeddedStore::open(Options::at(file))?)
}
