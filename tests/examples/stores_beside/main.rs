//! Our store beside the servers that people keep telemetry in: the real binary, VictoriaMetrics and PostgreSQL, one after the
//! other on the same machine with the same points, in interleaved rounds of which medians and ratios are told.
//!
//! `cargo build --release && cargo run --release -p harbinger-tests --example stores_beside [-- --help]`. What a case is
//! stands at the head of its file. A server that is not installed, and a bundle that is not there, is left out and said so.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

mod contestant;
mod fill;
mod ingest;
mod payload;
mod postgres_session;
mod range;
mod sizes;

#[allow(dead_code, reason = "the bench that it belongs to uses the rest")]
#[path = "../../../store/examples/store_bench/figures.rs"]
mod figures;
#[allow(dead_code, reason = "the bench that it belongs to uses the rest")]
#[path = "../../../store/examples/store_bench/fleet.rs"]
mod fleet;

use figures::{Figure, Table};

/// Measures our store beside other servers.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured [default: everything].
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Case>,
    /// Rounds; within each the servers take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Devices that take part in the comparison of ingest and of sizes.
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// Samples that each server takes in a round of ingest.
    #[arg(long, default_value_t = 6_000_000)]
    samples: usize,
    /// Samples stored for the comparison of sizes and of range queries.
    #[arg(long, default_value_t = 60_000_000)]
    stored: usize,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Range queries of each kind in a round.
    #[arg(long, default_value_t = 1_000)]
    queries: usize,
    /// Folder of fleet bundles whose size is compared [default: ../shared/data/bundles].
    #[arg(long)]
    bundles: Option<PathBuf>,
    /// Where data folders are made [default: the system's temporary folder].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Also writes the figures there, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How a case is measured.
type Measure = fn(&Arguments) -> anyhow::Result<Vec<Figure>>;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Points over HTTP, and by COPY.
    Ingest,
    /// Bytes a sample on disk.
    Sizes,
    /// A day of one signal over the interface.
    Range,
}

impl Arguments {
    fn wants(&self, case: Case) -> bool {
        self.only.is_empty() || self.only.contains(&case)
    }

    fn temporary_folder(&self) -> anyhow::Result<tempfile::TempDir> {
        let above = self.folder.clone().unwrap_or_else(std::env::temp_dir);
        Ok(tempfile::tempdir_in(above)?)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let cases: [(Case, Measure); 3] =
        [(Case::Ingest, ingest::run), (Case::Sizes, sizes::run), (Case::Range, range::run)];
    let mut figures = Vec::new();
    for (_, run) in cases.into_iter().filter(|(case, _)| arguments.wants(*case)) {
        figures.extend(run(&arguments)?);
    }
    print!("{}", Table(&figures));
    if let Some(path) = &arguments.json {
        fs_err::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// The middle of some numbers.
fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
