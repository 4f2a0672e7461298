//! `harbinger demand BUNDLE --periods N --period month --out demand.csv`: forecast demand from consumption.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use harbinger_analytics::forecast::{Forecast, Histories, cycle, forecast, histories};
use harbinger_bundle::{
    Bundle,
    results::{DemandRow, write_demand},
};
use harbinger_core::{
    Timestamp,
    calendar::{CalendarUnit, Step, Zone},
    time::HOURS_PER_MONTH,
};

use super::read_bundle;
use crate::progress::Step as Progress;

/// What demand is counted by: days, weeks from Monday, or months of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Period {
    /// From midnight to midnight
    Day,
    /// From Monday to Monday
    Week,
    /// From the first of a month to the next
    Month,
}

impl Period {
    pub(crate) fn step(self) -> Step {
        let unit = match self {
            Self::Day => CalendarUnit::Day,
            Self::Week => CalendarUnit::Week,
            Self::Month => CalendarUnit::Month,
        };
        Step::Calendar { unit, zone: Zone::UTC }
    }

    /// Its mean length in days.
    pub(crate) fn days(self) -> f64 {
        match self {
            Self::Day => 1.0,
            Self::Week => 7.0,
            Self::Month => HOURS_PER_MONTH / 24.0,
        }
    }
}

/// Arguments of `demand`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Forecast so many periods after the one of the last consumption
    #[arg(long, value_name = "N", required_unless_present = "rolling", value_parser = clap::value_parser!(u16).range(1..=120))]
    periods: Option<u16>,
    /// What demand is counted by
    #[arg(long, value_enum)]
    period: Period,
    /// Instead: forecast each of the last N periods that there is consumption of, from the periods before it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rolling: Option<u16>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// The quantiles of `demand.csv`.
const QUANTILES: [f64; 5] = [0.05, 0.5, 0.9, 0.95, 0.99];

/// Mean and quantiles in pieces.
type Summary = (f64, [f64; 5]);

fn summary(law: &Forecast) -> Summary {
    (law.mean(), QUANTILES.map(|probability| law.quantile(probability)))
}

/// Reads, forecasts, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bundle = read_bundle(&arguments.bundle)?;
    let step = arguments.period.step();
    let histories = counted(&bundle, &step)?;
    let progress = Progress::begin("forecasting");
    let (starts, forecasts) = match arguments.rolling {
        Some(rolling) => {
            let origins = last_origins(&histories, rolling)?;
            let starts = origins.iter().map(|&origin| histories.periods[origin]).collect();
            (starts, forecast(&histories.series, cycle(&step), &origins, 0..1, summary))
        }
        None => beyond(&histories, &step, usize::from(arguments.periods.unwrap_or(1))),
    };
    let rows = histories.places.iter().zip(&forecasts).flat_map(|((part, depot), of_place)| {
        starts.iter().zip(of_place).filter_map(move |(&period_start, summary)| {
            let (mean, quantiles) = (*summary)?;
            Some(DemandRow { part, depot, period_start, mean, quantiles })
        })
    });
    let written = write_demand(&arguments.out, rows)?;
    progress.done(&format!("wrote {written} rows to {}", arguments.out.display()));
    Ok(())
}

/// Forecasts of the `periods` periods after the last: each from the whole history, by laws that were judged so far ahead.
fn beyond(histories: &Histories, step: &Step, periods: usize) -> (Vec<Timestamp>, Vec<Vec<Option<Summary>>>) {
    let end = histories.periods.len();
    let last = histories.periods.last().copied();
    let starts = std::iter::successors(last, |&at| Some(step.after(at))).skip(1).take(periods).collect();
    let mut forecasts = vec![Vec::new(); histories.series.len()];
    for ahead in 0..periods {
        let of_period = forecast(&histories.series, cycle(step), &[end], ahead..ahead + 1, summary);
        forecasts.iter_mut().zip(of_period).for_each(|(of_place, one)| of_place.extend(one));
    }
    (starts, forecasts)
}

/// A bundle's consumption by period.
pub(crate) fn counted(bundle: &Bundle, step: &Step) -> anyhow::Result<Histories> {
    histories(&bundle.consumption, step).context("failed to count consumption by period")
}

/// The last `rolling` periods of a history as origins; there must be one period before them.
pub(crate) fn last_origins(histories: &Histories, rolling: u16) -> anyhow::Result<Vec<usize>> {
    let periods = histories.periods.len();
    let rolling = usize::from(rolling);
    anyhow::ensure!(
        rolling < periods,
        "--rolling {rolling} needs {} periods and consumption.csv has {periods}: take at most {}",
        rolling + 1,
        periods - 1
    );
    Ok((periods - rolling..periods).collect())
}
