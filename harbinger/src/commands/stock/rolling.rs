//! `harbinger stock BUNDLE --rolling N --period month --lead 2 --review 1 --quantiles .5,.9 --out levels.csv`: the level to
//! order up to at the start of each of the last periods, from the consumption before it.
//!
//! A depot that the supplier delivers to covers what it takes from one order to the arrival of the next: lead and review. A
//! forward depot with a lane from a hub covers the days of the lane and review; its hub covers what all such depots order
//! until its own next arrival: they order first, so that is lead and review less the order that has just gone.
//!
//! `quantile` is an ambition that is the same at every part and depot, not the quantile of demand at each: see
//! [`Cover::level`].

use std::{collections::BTreeMap, path::Path};

use harbinger_analytics::forecast::{Cover, Histories, cycle, forecast};
use harbinger_bundle::{
    Bundle,
    results::{LevelRow, write_levels},
};
use harbinger_core::{DepotId, PartId, fleet::Echelon};

use crate::{
    commands::{
        demand::{Period, counted, last_origins},
        read_bundle,
    },
    progress::Step as Progress,
};

/// Arguments of rolling levels.
#[derive(Debug, clap::Args)]
#[group(id = "by-period", multiple = true)]
pub(super) struct Arguments {
    /// Levels for each of the last N periods that there is consumption of, from the periods before it
    #[arg(long, value_name = "N", required = false, requires_all = ["period", "lead", "quantiles"], value_parser = clap::value_parser!(u16).range(1..))]
    rolling: u16,
    /// What demand is counted by
    #[arg(long, value_enum, required = false, requires = "rolling")]
    period: Period,
    /// Periods from an order at the supplier to its arrival
    #[arg(long, value_name = "PERIODS", required = false, requires = "rolling", value_parser = clap::value_parser!(u16).range(0..=120))]
    lead: u16,
    /// Periods between two orders
    #[arg(long, value_name = "PERIODS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=120))]
    review: u16,
    /// How sure each level is to last, one number for all parts and depots; such as .5,.9
    #[arg(long, value_delimiter = ',', required = false, requires = "rolling", value_parser = quantile)]
    quantiles: Vec<f64>,
}

fn quantile(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(quantile) if 0.0 < quantile && quantile < 1.0 => Ok(quantile),
        _ => Err("a quantile is a number between 0 and 1, such as 0.95".to_owned()),
    }
}

/// Levels by series, then by origin, then by quantile.
type Levels = Vec<Vec<Option<Vec<f64>>>>;

/// Reads, forecasts demand until the next arrival, writes levels.
pub(super) fn rolling(folder: &Path, arguments: &Arguments, out: &Path) -> anyhow::Result<()> {
    let bundle = read_bundle(folder)?;
    let step = arguments.period.step();
    let histories = counted(&bundle, &step)?;
    let origins = last_origins(&histories, arguments.rolling)?;
    let progress = Progress::begin("forecasting");
    let mut levels: BTreeMap<(&PartId, &DepotId), Vec<Option<Vec<f64>>>> = BTreeMap::new();
    for group in groups(&bundle, &histories, arguments) {
        let found = group.levels(&origins, &arguments.quantiles, cycle(&step));
        levels.extend(group.places.into_iter().zip(found));
    }
    let rows = levels.iter().flat_map(|(&(part, depot), of_place)| {
        origins.iter().zip(of_place).filter_map(|(&origin, levels)| Some((origin, levels.as_ref()?))).flat_map({
            let (periods, quantiles) = (&histories.periods, &arguments.quantiles);
            move |(origin, levels)| {
                let period_start = periods[origin];
                let each = quantiles.iter().zip(levels);
                each.map(move |(&quantile, &level)| LevelRow { part, depot, period_start, quantile, level })
            }
        })
    });
    let written = write_levels(out, rows)?;
    progress.done(&format!("wrote {written} rows to {}", out.display()));
    Ok(())
}

/// Series that are forecast together: they cover the same time, in periods.
struct Group<'a> {
    places: Vec<(&'a PartId, &'a DepotId)>,
    series: Vec<Vec<f64>>,
    lead: f64,
    review: f64,
}

impl<'a> Group<'a> {
    fn of(lead: f64, review: f64) -> Self {
        Self { places: Vec::new(), series: Vec::new(), lead, review }
    }

    fn push(&mut self, part: &'a PartId, depot: &'a DepotId, series: Vec<f64>) {
        self.places.push((part, depot));
        self.series.push(series);
    }

    fn levels(&self, origins: &[usize], quantiles: &[f64], cycle: usize) -> Levels {
        // The periods until what is ordered next is there.
        let covered = (self.lead + self.review).ceil().max(1.0) as usize;
        forecast(&self.series, cycle, origins, 0..covered, |law| {
            let cover = Cover::of(law, self.lead, self.review);
            quantiles.iter().map(|&quantile| cover.level(quantile)).collect()
        })
    }
}

/// Depots that the supplier delivers to, forward depots by the days of their lane, and hubs that serve them.
fn groups<'a>(bundle: &'a Bundle, histories: &'a Histories, arguments: &Arguments) -> Vec<Group<'a>> {
    let (lead, review) = (f64::from(arguments.lead), f64::from(arguments.review));
    let lanes = lanes(bundle);
    let mut supplied = Group::of(lead, review);
    let mut by_days: BTreeMap<u64, Group<'a>> = BTreeMap::new();
    let mut of_hubs: BTreeMap<(&PartId, &DepotId), Vec<f64>> = BTreeMap::new();
    for ((part, depot), series) in histories.places.iter().zip(&histories.series) {
        let Some(&(hub, days)) = lanes.get(depot) else {
            supplied.push(part, depot, series.clone());
            continue;
        };
        let extra = days / arguments.period.days();
        by_days.entry(days.to_bits()).or_insert_with(|| Group::of(extra, review)).push(part, depot, series.clone());
        let of_hub = of_hubs.entry((part, hub)).or_insert_with(|| vec![f64::NAN; series.len()]);
        of_hub.iter_mut().zip(series).for_each(|(sum, &y)| *sum = added(*sum, y));
    }
    let mut serving = Group::of((lead - review).max(0.0), review);
    // A hub that has demand of its own, too, covers both from one stock.
    for ((part, hub), mut series) in of_hubs {
        if let Some(place) = supplied.places.iter().position(|&(p, d)| p == part && d == hub) {
            supplied.places.remove(place);
            let own = supplied.series.remove(place);
            series.iter_mut().zip(own).for_each(|(sum, y)| *sum = added(*sum, y));
        }
        serving.push(part, hub, series);
    }
    by_days.into_values().chain([supplied, serving]).filter(|group| !group.places.is_empty()).collect()
}

/// The sum of what is known; NaN where neither is.
fn added(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        a + b
    }
}

/// For each forward depot the hub that reaches it soonest, and the days of that lane.
fn lanes(bundle: &Bundle) -> BTreeMap<&DepotId, (&DepotId, f64)> {
    let is = |depot: &DepotId, echelon| {
        bundle.fleet.depots.iter().any(|known| known.depot == *depot && known.echelon == echelon)
    };
    let mut soonest: BTreeMap<&DepotId, (&DepotId, f64)> = BTreeMap::new();
    for lane in &bundle.fleet.lanes {
        if !is(&lane.from, Echelon::Hub) || !is(&lane.to, Echelon::Forward) {
            continue;
        }
        let best = soonest.entry(&lane.to).or_insert((&lane.from, lane.days));
        if lane.days < best.1 {
            *best = (&lane.from, lane.days);
        }
    }
    soonest
}
