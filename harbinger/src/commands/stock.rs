//! `harbinger stock BUNDLE --target ... --out stock.csv`: what to keep of each part where.

use std::path::PathBuf;

use harbinger_core::Timestamp;

mod base_stock;

use base_stock::Target;

/// Arguments of `stock`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// What to reach, for the least money: `fill=0.95` of the demand served at once, `within_hours=24:0.95` of it within a day; or
    /// `budget=N`, the fewest backorders for that money
    #[arg(long, value_name = "TARGET")]
    target: Target,
    /// Use nothing after this time [default: the bundle's last]
    #[arg(long, value_name = "TS")]
    at: Option<Timestamp>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// Reads, chooses, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    base_stock::run(&arguments.bundle, arguments.target, arguments.at, &arguments.out)
}
