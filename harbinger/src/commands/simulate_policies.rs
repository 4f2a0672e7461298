//! `harbinger simulate-policies --out policies.csv`: what prediction-driven pre-positioning saves, at which quality of alerts.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use harbinger_bundle::results::{PolicyRow, write_policies};
use harbinger_sim::policies::{Comparison, Plan, Policy, Run, compare};

use crate::progress::Meter;

mod report;

/// Arguments of `simulate-policies`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seeds to compare on, at least 2: each policy meets the same failures under each of them
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    seeds: u32,
    /// Seeds to choose settings on, at least 1; none of them is among those above
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tuning_seeds: u32,
    /// Write a page of pictures: costs, paired differences, and curves of stock against service
    #[arg(long, value_name = "F.html")]
    report: Option<PathBuf>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// Simulates, writes, tells.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = Plan {
        tuning_seeds: arguments.tuning_seeds,
        curves: arguments.report.is_some(),
        ..Plan::usual(arguments.seeds)
    };
    // What cannot be written is better told before minutes of work than after.
    for file in std::iter::once(&arguments.out).chain(&arguments.report) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        anyhow::ensure!(folder.is_dir(), "there is no folder {} to write {} into", folder.display(), file.display());
    }
    let started = Instant::now();
    let meter: Mutex<Option<Meter>> = Mutex::default();
    let compared = compare(&plan, &|done, total| {
        // A bar that cannot be shown stops nothing.
        if let Ok(mut meter) = meter.lock() {
            meter.get_or_insert_with(|| Meter::begin(total, "simulating")).reach(done);
        }
    });
    if let Ok(meter) = meter.into_inner() {
        meter.iter().for_each(Meter::clear);
    }
    let comparison = compared?;
    let written = write_policies(&arguments.out, comparison.runs.iter().map(row))?;
    eprintln!("wrote {written} rows to {}", arguments.out.display());
    if let Some(file) = &arguments.report {
        report::write(file, &plan, &comparison)?;
        eprintln!("wrote {}", file.display());
    }
    tell(&comparison);
    println!("\nsimulated in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn quality(policy: Policy) -> &'static str {
    policy.quality().map_or("", |quality| quality.name())
}

fn row(run: &Run) -> PolicyRow<'static> {
    PolicyRow {
        policy: run.policy.name(),
        alert_quality: quality(run.policy),
        seed: run.seed,
        stock_value: run.stock_value(),
        fill_rate: run.fill_rate(),
        within_limit: run.within_limit(),
        emergency: run.tally.emergency,
        transports: run.tally.transports,
        total_cost: run.tally.total_cost(),
    }
}

/// Mean of something over the runs of a policy.
fn mean(comparison: &Comparison, policy: Policy, of: impl Fn(&Run) -> f64) -> f64 {
    let values: Vec<f64> = comparison.runs.iter().filter(|run| run.policy == policy).map(of).collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The table of means and the table of differences.
fn tell(comparison: &Comparison) {
    println!(
        "{:<12} {:<9} {:>11} {:>7} {:>7} {:>11} {:>11} {:>12}",
        "policy", "alerts", "stock value", "fill", "within", "emergencies", "transports", "cost a year"
    );
    for policy in Policy::ALL {
        let mean = |of: &dyn Fn(&Run) -> f64| mean(comparison, policy, of);
        println!(
            "{:<12} {:<9} {:>11.0} {:>6.1}% {:>6.1}% {:>11.1} {:>11.1} {:>12.0}",
            policy.name(),
            quality(policy),
            mean(&Run::stock_value),
            100.0 * mean(&Run::fill_rate),
            100.0 * mean(&Run::within_limit),
            mean(&Run::emergencies_per_year),
            mean(&Run::transports_per_year),
            mean(&Run::cost_per_year),
        );
    }
    println!("\ncost a year against vari_metric, seed by seed, with 95 % intervals");
    for difference in &comparison.differences {
        let (cost, share) = (difference.cost_per_year, difference.share);
        println!(
            "{:<12} {:<9} {:>+10.0} [{:>+10.0} {:>+10.0}] {:>+7.2}% [{:>+7.2}% {:>+7.2}%]",
            difference.policy.name(),
            quality(difference.policy),
            cost.mean,
            cost.low,
            cost.high,
            100.0 * share.mean,
            100.0 * share.low,
            100.0 * share.high,
        );
    }
}
