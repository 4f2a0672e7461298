//! `harbinger evaluate BUNDLE`: learn on the past (or on folds of devices), predict the rest, say how good it was.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use harbinger_analytics::{
    evaluate::{Report, Span, Truth, evaluate, pictures::pictures},
    failure::{AlarmRule, Prediction, Subject, TrainOptions, score, subjects, train},
};
use harbinger_bundle::Bundle;
use harbinger_core::{DeviceId, Duration, Timestamp};

use super::{read_bundle, score::Rows, train::until};
use crate::progress::Step;

mod report;

/// Arguments of `evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Learn until here and predict from here; with --folds: use nothing after this time
    #[arg(long, value_name = "TS")]
    until: Option<Timestamp>,
    /// Until when predictions are judged [default: the last reading]
    #[arg(long, value_name = "TS")]
    to: Option<Timestamp>,
    /// Main horizon
    #[arg(long, default_value = "24h")]
    horizon: Duration,
    /// Time between two rows of a device
    #[arg(long, default_value = "3h")]
    every: Duration,
    /// From which probability on to alarm: balanced, cost=VISIT:FAILURE, or false_alarms=N for each 1,000 device-months
    #[arg(long, value_name = "RULE", default_value = "balanced")]
    alarms: AlarmRule,
    /// Instead of by time: learn on all but one of so many folds of devices and predict that one, in turn
    #[arg(long)]
    folds: Option<usize>,
    /// Judge remaining useful life too, up to this length: for devices that are run until they fail
    #[arg(long, value_name = "LENGTH")]
    rul_cap: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page of pictures: reliability, precision and recall, lead times, and examples
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// Reads, learns, predicts, judges.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.every > Duration::ZERO, "--every must be longer than no time");
    anyhow::ensure!(arguments.folds.is_none_or(|folds| folds >= 2), "--folds must be at least 2");
    let bundle = read_bundle(&arguments.bundle)?;
    let end = until(&bundle, arguments.to)?;
    let subjects = subjects(&bundle.fleet, &bundle.histories);
    let started = Instant::now();
    let (predictions, span) = match (arguments.folds, arguments.until) {
        (Some(folds), asked) => by_folds(arguments, &bundle, &subjects, folds, asked.unwrap_or(end)),
        (None, Some(split)) => by_time(arguments, &bundle, &subjects, split, end),
        (None, None) => anyhow::bail!("say --until TS to split by time, or --folds N to split by device"),
    };
    let truth = truth(&bundle);
    let report = evaluate(&predictions, &truth, span);
    if let Some(file) = &arguments.report {
        let history = |device: &DeviceId| bundle.histories.get(device);
        let pictures = pictures(&predictions, &truth, span, history);
        report::write(file, &about(arguments, span), &report, &pictures)?;
        eprintln!("wrote {}", file.display());
    }
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, seconds);
    }
    Ok(())
}

/// What is evaluated, in a line.
fn about(arguments: &Arguments, span: Span) -> String {
    let Arguments { bundle, horizon, every, .. } = arguments;
    let how = match arguments.folds {
        Some(folds) => format!("each of {folds} parts of the devices predicted by what the others taught"),
        None => "learnt from what was before".to_owned(),
    };
    let Span { from, to, .. } = span;
    format!("{}: failures within {horizon}, a row each {every}, {from} to {to}, {how}", bundle.display())
}

fn options(arguments: &Arguments, until: Timestamp) -> TrainOptions {
    let mut options = TrainOptions::new(until);
    options.horizons = vec![arguments.horizon];
    options.every = Some(arguments.every);
    options.alarm_rule = arguments.alarms;
    if let Some(cap) = arguments.rul_cap {
        options.rul_cap = cap;
    }
    options
}

fn by_time(
    arguments: &Arguments,
    bundle: &Bundle,
    subjects: &[Subject<'_>],
    split: Timestamp,
    end: Timestamp,
) -> (Vec<Prediction>, Span) {
    let step = Step::begin(&format!("training until {split}"));
    let options = options(arguments, split);
    let model = train(&bundle.fleet, subjects, &options);
    step.done(&format!("trained on {} failures", model.failures()));
    let step = Step::begin(&format!("scoring until {end}"));
    let rows = Rows { from: Some(split), to: Some(end), every: arguments.every };
    let predictions = score(&model, &bundle.fleet, subjects, |subject| rows.times(subject));
    step.done(&format!("scored {} rows", predictions.len()));
    (predictions, Span { from: split, to: end, horizon: arguments.horizon, rul_cap: arguments.rul_cap })
}

fn by_folds(
    arguments: &Arguments,
    bundle: &Bundle,
    subjects: &[Subject<'_>],
    folds: usize,
    end: Timestamp,
) -> (Vec<Prediction>, Span) {
    let dealt = deal(bundle, subjects, folds);
    let rows = Rows { from: None, to: Some(end), every: arguments.every };
    let mut predictions = Vec::new();
    for fold in 0..folds {
        let step = Step::begin(&format!("fold {} of {folds}", fold + 1));
        let held_out: BTreeSet<&DeviceId> = dealt.iter().filter(|(_, f)| *f == fold).map(|(d, _)| *d).collect();
        let mut options = options(arguments, end);
        let learns = |subject: &&Subject<'_>| !held_out.contains(&subject.device.device);
        options.devices = Some(subjects.iter().filter(learns).map(|s| s.device.device.clone()).collect());
        let model = train(&bundle.fleet, subjects, &options);
        let before = predictions.len();
        predictions.extend(score(&model, &bundle.fleet, subjects, |subject| {
            if held_out.contains(&subject.device.device) { rows.times(subject) } else { Vec::new() }
        }));
        step.done(&format!("fold {}: {} rows", fold + 1, predictions.len() - before));
    }
    predictions.sort_by(|a, b| (a.ts, &a.device, &a.component).cmp(&(b.ts, &b.device, &b.component)));
    let first = subjects.iter().filter_map(|s| Some(s.observed?.from)).min().unwrap_or(end);
    (predictions, Span { from: first, to: end, horizon: arguments.horizon, rul_cap: arguments.rul_cap })
}

/// Deals devices to folds in order of id, those with failures first.
fn deal<'a>(bundle: &Bundle, subjects: &[Subject<'a>], folds: usize) -> Vec<(&'a DeviceId, usize)> {
    let healthy = |device: &DeviceId| bundle.histories.get(device).is_none_or(|history| history.failures.is_empty());
    let mut devices: Vec<&DeviceId> = subjects.iter().map(|subject| &subject.device.device).collect();
    devices.sort_by_key(|device| (healthy(device), *device));
    devices.into_iter().enumerate().map(|(place, device)| (device, place % folds)).collect()
}

fn truth(bundle: &Bundle) -> Truth {
    let mut truth = Truth::new();
    for failure in bundle.histories.values().flat_map(|history| &history.failures) {
        truth.entry((failure.device.clone(), failure.component.clone())).or_default().push(failure.ts);
    }
    truth
}

fn print(report: &Report, seconds: f64) {
    let line = |measure: &str, model: String, base: String| println!("{measure:<44} {model:>12} {base:>12}");
    line("measure", "model".to_owned(), "base rate".to_owned());
    line("rows", report.rows.to_string(), String::new());
    line("failures", report.failures.to_string(), String::new());
    for flagged in &report.flagged {
        let measure = format!("failures flagged {} h ahead", flagged.hours_ahead);
        line(&measure, flagged.flagged.to_string(), "0".to_owned());
    }
    line("false alarms", report.false_alarms.to_string(), "0".to_owned());
    let monthly = format!("{:.4}", report.false_alarms_per_device_month);
    line("false alarms a device-month", monthly, "0".to_owned());
    line("precision over rows", format!("{:.3}", report.precision), "-".to_owned());
    line("recall over rows", format!("{:.3}", report.recall), "0.000".to_owned());
    line("F1 over rows", format!("{:.3}", report.f1), "0.000".to_owned());
    line("PR-AUC", format!("{:.3}", report.pr_auc), format!("{:.3}", report.base_rate));
    line("Brier", format!("{:.6}", report.brier), format!("{:.6}", report.brier_base));
    let high = &report.calibration_over_10_percent;
    let measure = format!("mean p, frequency of {} rows with p >= .1", high.rows);
    line(&measure, format!("{:.3}", high.mean_p), format!("{:.3}", high.frequency));
    for crew in report.at_capacity.iter().filter(|crew| crew.visits > 0) {
        let measure = format!("precision, failures found by {} visits a day", crew.visits_per_day);
        line(&measure, format!("{:.3}", crew.precision), crew.found.to_string());
    }
    for found in &report.found {
        let measure = format!("devices found at {} % false positives", found.false_positive_rate * 100.0);
        line(&measure, format!("{} of {}", found.found, found.of), "0".to_owned());
        let interval = format!("{:.0} - {:.0} %", found.interval.0 * 100.0, found.interval.1 * 100.0);
        line("  90 % interval over devices drawn again", interval, String::new());
    }
    if let Some(life) = &report.remaining_life {
        let measure = format!("remaining life of {} rows: RMSE in days", life.rows);
        line(&measure, format!("{:.2}", life.rmse_days), "-".to_owned());
        line("remaining lives inside the 90 % interval", format!("{:.3}", life.inside), "0.900".to_owned());
    }
    println!("\nreliability: p from, rows, mean p, frequency");
    for bin in &report.reliability {
        println!("  {:.1} {:>8} {:.4} {:.4}", bin.from, bin.rows, bin.mean_p, bin.frequency);
    }
    println!("\ntrained and scored in {seconds:.1} s");
}
