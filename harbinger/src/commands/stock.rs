//! `harbinger stock BUNDLE --target ... --out stock.csv`: what to keep of each part where; with `--rolling` the levels that
//! would have been kept for each of the last periods.

use std::path::PathBuf;

use harbinger_core::Timestamp;

mod base_stock;
mod rolling;

use base_stock::Target;

/// Arguments of `stock`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// What to reach, for the least money: `fill=0.95` of the demand served at once, `within_hours=24:0.95` of it within a day; or
    /// `budget=N`, the fewest backorders for that money
    #[arg(long, value_name = "TARGET", required_unless_present = "rolling", conflicts_with = "rolling")]
    target: Option<Target>,
    /// Use nothing after this time [default: the bundle's last]
    #[arg(long, value_name = "TS", requires = "target")]
    at: Option<Timestamp>,
    #[command(flatten)]
    rolling: Option<rolling::Arguments>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// Reads, chooses, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { bundle, at, out, .. } = arguments;
    match (&arguments.rolling, arguments.target) {
        (Some(by_period), _) => rolling::rolling(bundle, by_period, out),
        (None, Some(target)) => base_stock::run(bundle, target, *at, out),
        (None, None) => anyhow::bail!("say --target to choose stock, or --rolling for the levels of past periods"),
    }
}
