//! Base stock of hub and depots for a target or a budget: `stock.csv`, and a table of what it costs and reaches.

use std::{path::Path, str::FromStr};

use harbinger_analytics::{
    base_stock::{Cell, Claim, Evaluation, Goal, Item, Measure, Method, Optimised, Place, optimise},
    failure::subjects,
    plan::{LongRunInput, LongRunPart, PlanOptions, Promise, long_run},
};
use harbinger_bundle::{
    Bundle,
    results::{StockRow, write_stock},
};
use harbinger_core::Timestamp;

use crate::{commands::read_bundle, progress::Step};

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    /// Share of the demand served at once.
    Fill(f64),
    /// Share of the demand served within so many hours.
    WithinHours { hours: f64, share: f64 },
    /// The fewest backorders for this money.
    Budget(f64),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let forms = "it must look like fill=0.95, within_hours=24:0.95 or budget=100000";
        let wrong = || format!("{text:?} is no target: {forms}");
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(wrong);
        let share = |text: &str| {
            let share = number(text)?;
            if share < 1.0 { Ok(share) } else { Err(format!("{share} is no share below 1, and no stock serves all")) }
        };
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        match name {
            "fill" => Ok(Self::Fill(share(value)?)),
            "within_hours" => {
                let (hours, reached) = value.split_once(':').ok_or_else(wrong)?;
                Ok(Self::WithinHours { hours: number(hours)?, share: share(reached)? })
            }
            "budget" => Ok(Self::Budget(number(value)?)),
            _ => Err(wrong()),
        }
    }
}

impl Target {
    /// What counts of a cell, and how much.
    fn claim(self, rate_per_day: f64) -> Claim {
        let (measure, weight) = match self {
            Self::Fill(_) => (Measure::WithinLimit { days: 0.0 }, rate_per_day),
            Self::WithinHours { hours, .. } => (Measure::WithinLimit { days: hours / 24.0 }, rate_per_day),
            Self::Budget(_) => (Measure::Backorders, 1.0),
        };
        Claim { group: 0, weight, measure }
    }

    fn goal(self, demand_per_day: f64) -> Goal {
        match self {
            Self::Fill(share) | Self::WithinHours { share, .. } => Goal::Totals(vec![share * demand_per_day]),
            Self::Budget(budget) => Goal::Budget(budget),
        }
    }

    /// The limits that count in the column `within_limit`.
    fn limits(self, promises: &[Promise]) -> Vec<Promise> {
        match self {
            Self::WithinHours { hours, .. } => vec![Promise { days: hours / 24.0, rate_per_day: 1.0 }],
            Self::Fill(_) | Self::Budget(_) => promises.to_vec(),
        }
    }
}

/// Service of a part at a depot; at the hub also where it serves only depots.
struct Row<'a> {
    part: &'a LongRunPart,
    /// Place among the part's cells; none for a hub that serves only depots.
    cell: Option<usize>,
    target: u32,
    fill_rate: f64,
    expected_backorders: f64,
    within_limit: f64,
}

/// Reads, chooses, writes.
pub(super) fn run(folder: &Path, target: Target, at: Option<Timestamp>, out: &Path) -> anyhow::Result<()> {
    let bundle = read_bundle(folder)?;
    let parts = demand(&bundle, until(&bundle, at)?)?;
    let step = Step::begin("choosing stock");
    let items: Vec<Item> = parts.iter().map(|part| item(part, target)).collect();
    let demand_per_day: f64 = items.iter().flat_map(|item| &item.cells).map(|cell| cell.rate_per_day).sum();
    anyhow::ensure!(demand_per_day > 0.0, "no part has any demand: no device is there and nothing was consumed");
    let chosen = optimise(&items, &target.goal(demand_per_day))?;
    let rows = rows(&parts, &items, &chosen, target)?;
    let written = write_stock(out, rows.iter().map(row))?;
    step.done(&format!("wrote {written} rows to {}", out.display()));
    tell(&rows, &chosen, target, demand_per_day);
    Ok(())
}

/// The time asked for, or the last that the bundle tells of.
fn until(bundle: &Bundle, at: Option<Timestamp>) -> anyhow::Result<Timestamp> {
    let consumed = bundle.consumption.iter().map(|row| row.ts).max();
    let failed = bundle.histories.values().flat_map(|history| &history.failures).map(|failure| failure.ts).max();
    at.or(bundle.last_time().max(consumed).max(failed))
        .ok_or_else(|| anyhow::anyhow!("the bundle has no readings, events, maintenance or consumption to learn from"))
}

fn demand(bundle: &Bundle, at: Timestamp) -> anyhow::Result<Vec<LongRunPart>> {
    let options = PlanOptions::default();
    let (parts, rejected) = long_run(&LongRunInput {
        at,
        fleet: &bundle.fleet,
        subjects: &subjects(&bundle.fleet, &bundle.histories),
        consumption: &bundle.consumption,
        options: &options,
    })?;
    if let Some(first) = rejected.first() {
        let more = if first.count > 1 { format!(" and {} more", first.count - 1) } else { String::new() };
        anyhow::bail!("{} {}{more} cannot be used: {}", first.record, first.example, first.cause);
    }
    Ok(parts)
}

fn item(part: &LongRunPart, target: Target) -> Item {
    let cell = |cell: &harbinger_analytics::plan::LongRunCell| Cell {
        depot: cell.depot.clone(),
        rate_per_day: cell.rate_per_day,
        place: cell.order_days.map_or(Place::Hub, |order_days| Place::Depot { order_days, repair: None }),
        claims: vec![target.claim(cell.rate_per_day)],
    };
    Item {
        part: part.part.clone(),
        unit_cost: part.unit_cost,
        resupply_days: part.resupply_days,
        pack_size: part.pack_size,
        cells: part.cells.iter().map(cell).collect(),
    }
}

/// The rows of all parts in order: of each its hub, then its depots.
fn rows<'a>(
    parts: &'a [LongRunPart],
    items: &[Item],
    chosen: &Optimised,
    target: Target,
) -> anyhow::Result<Vec<Row<'a>>> {
    let mut rows = Vec::new();
    for ((part, item), levels) in parts.iter().zip(items).zip(&chosen.levels) {
        let evaluation = Evaluation::new(item, levels, Method::Exact)?;
        let at_hub = part.cells.iter().position(|cell| cell.order_days.is_none());
        let all: Vec<Promise> = part.cells.iter().flat_map(|cell| cell.promises.iter().copied()).collect();
        let of_hub = at_hub.map_or(&all, |cell| &part.cells[cell].promises);
        rows.push(Row {
            part,
            cell: at_hub,
            target: levels.hub,
            fill_rate: evaluation.hub_within_limit(0.0)?,
            expected_backorders: evaluation.hub_backorders().expected,
            within_limit: mean(&target.limits(of_hub), |days| Ok(evaluation.hub_within_limit(days)?))?,
        });
        for (place, cell) in part.cells.iter().enumerate().filter(|(_, cell)| cell.order_days.is_some()) {
            let within = |days| Ok(evaluation.within_limit(place, days)?);
            rows.push(Row {
                part,
                cell: Some(place),
                target: levels.cells[place],
                fill_rate: evaluation.fill_rate(place)?,
                expected_backorders: evaluation.expected_backorders(place)?,
                within_limit: mean(&target.limits(&cell.promises), within)?,
            });
        }
    }
    Ok(rows)
}

/// Mean of a probability over limits, by their demand.
fn mean(limits: &[Promise], within: impl Fn(f64) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let (mut sum, mut all) = (0.0, 0.0);
    for limit in limits {
        sum += limit.rate_per_day * within(limit.days)?;
        all += limit.rate_per_day;
    }
    Ok(if all > 0.0 { sum / all } else { 0.0 })
}

fn row<'a>(row: &'a Row<'a>) -> StockRow<'a> {
    StockRow {
        part: &row.part.part,
        depot: row.cell.map_or(&row.part.hub, |cell| &row.part.cells[cell].depot),
        target: row.target,
        fill_rate: row.fill_rate,
        expected_backorders: row.expected_backorders,
        within_limit: row.within_limit,
    }
}

/// What it costs and reaches, over all devices.
fn tell(rows: &[Row<'_>], chosen: &Optimised, target: Target, demand_per_day: f64) {
    let (mut at_hubs, mut at_depots, mut filled, mut within, mut owed) = (0_u64, 0_u64, 0.0, 0.0, 0.0);
    for row in rows {
        let cell = row.cell.map(|cell| &row.part.cells[cell]);
        let is_depot = cell.is_some_and(|cell| cell.order_days.is_some());
        *(if is_depot { &mut at_depots } else { &mut at_hubs }) += u64::from(row.target);
        let rate = cell.map_or(0.0, |cell| cell.rate_per_day);
        filled += rate * row.fill_rate;
        within += rate * row.within_limit;
        owed += if is_depot { row.expected_backorders } else { 0.0 };
    }
    println!("demand a day            {demand_per_day:>14.3}");
    println!("pieces at hubs          {at_hubs:>14}");
    println!("pieces at depots        {at_depots:>14}");
    println!("cost                    {:>14.2}", chosen.cost);
    println!("fill rate               {:>14.4}", filled / demand_per_day);
    println!("within the limit        {:>14.4}", within / demand_per_day);
    println!("backorders of depots    {owed:>14.4}");
    match target {
        Target::Budget(_) => println!("least backorders, bound {:>14.4}", -chosen.bound),
        Target::Fill(_) | Target::WithinHours { .. } => println!("least cost, bound       {:>14.2}", chosen.bound),
    }
    println!("gap to the bound        {:>13.2}%", 100.0 * chosen.gap);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_or_told_how_they_look() {
        assert_eq!("fill=0.95".parse(), Ok(Target::Fill(0.95)));
        assert_eq!("within_hours=24:0.9".parse(), Ok(Target::WithinHours { hours: 24.0, share: 0.9 }));
        assert_eq!("budget=1e5".parse(), Ok(Target::Budget(1e5)));
        for wrong in ["fill", "fill=x", "fill=-1", "fill=NaN", "within_hours=24", "budget=inf", "speed=3"] {
            assert!(wrong.parse::<Target>().unwrap_err().contains("must look like"), "{wrong}");
        }
        assert!("fill=1".parse::<Target>().unwrap_err().contains("no stock serves all"));
    }
}
