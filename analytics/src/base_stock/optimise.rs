//! Levels of all items together: least cost for targets, or most service for a budget (section 3.6).
//!
//! Each item gives a concave frontier; steps along the frontiers are taken by the greatest gain for the money. The dual of the
//! same problem gives a bound that no plan can beat: for one target along the way, for several by moving their weights.
//! What is not worth its money at the end is not looked at to begin with: a floor on gain for the money is guessed from some
//! of the items and lowered where it was too high.

use rayon::prelude::*;

use super::{
    Efficient, Error, Evaluation, Item, Levels, Measure, Method,
    frontier::{efficient, group_values, hull, levels},
    steps::Prepared,
};

mod few;
mod greedy;

use few::Ways;
use greedy::{Position, crossing};

/// What is wanted, for each group the sum over its claims of weight times measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// At least these totals, for the least money. A share A of a group within its limit is A times the sum of its weights.
    Totals(Vec<f64>),
    /// The greatest sum of all totals for this money.
    Budget(f64),
}

/// The levels chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimised {
    /// One for each item.
    pub levels: Vec<Levels>,
    /// What their pieces cost.
    pub cost: f64,
    /// Totals of the groups by the exact law.
    pub totals: Vec<f64>,
    /// With targets: no plan costs less. With a budget: no plan has a greater sum of totals. By VARI-METRIC.
    pub bound: f64,
    /// How far the plan is from the bound, as a share of the bound.
    pub gap: f64,
}

/// Gains of a piece below this share of all that an item can count are never looked at.
const LEAST_GAIN: f64 = 1e-10;
/// Items that the floor is guessed from, where there are many more.
const SAMPLE: usize = 32;
/// The floor is the sample's last gain for the money, divided by this.
const FLOOR_MARGIN: f64 = 4.0;
/// And is divided by this where it was too high.
const FLOOR_STEP: f64 = 1e3;
/// Items up to which all ways to join them are looked at.
const FEW: usize = 12;
/// Times that weights of several targets are moved.
const MOST_ROUNDS: usize = 16;
/// A gap that ends it.
const CLOSE: f64 = 0.005;
/// Times that a target is raised by what the exact law leaves short.
const MOST_CORRECTIONS: usize = 12;

/// Chooses levels.
///
/// # Errors
/// [`Error`] naming what cannot be true, a target that no stock can meet, or a budget that buys nothing.
pub fn optimise(items: &[Item], goal: &Goal) -> Result<Optimised, Error> {
    let groups = match goal {
        Goal::Totals(targets) => targets.len(),
        Goal::Budget(_) => items.iter().flat_map(claims).map(|claim| claim.group + 1).max().unwrap_or(1),
    };
    items.iter().try_for_each(|item| item.check(groups))?;
    let problem = Problem { items, goal, groups };
    match goal {
        Goal::Totals(targets) => problem.check_targets(targets)?,
        Goal::Budget(budget) => drop(super::amount("budget", *budget, || "the plan".to_owned())?),
    }
    let mut floor = problem.guess_floor()?;
    loop {
        if let Some(found) = problem.solve(floor)? {
            return Ok(found);
        }
        if floor == 0.0 {
            return Err(problem.out_of_reach()?);
        }
        floor = problem.lower(floor);
    }
}

fn claims(item: &Item) -> impl Iterator<Item = &super::Claim> {
    item.cells.iter().flat_map(|cell| &cell.claims)
}

/// The frontier of an item under the weights of a round.
struct Frontier {
    cost: f64,
    points: Vec<Efficient>,
    /// Also those off the hull, where the items are few.
    all: Vec<Efficient>,
    /// For each point what each group counts.
    values: Vec<f64>,
}

impl Frontier {
    fn values(&self, point: usize, groups: usize) -> &[f64] {
        &self.values[point * groups..(point + 1) * groups]
    }
}

struct Problem<'a> {
    items: &'a [Item],
    goal: &'a Goal,
    groups: usize,
}

impl<'a> Problem<'a> {
    /// Sum of weights of each group.
    fn weights(&self) -> Vec<f64> {
        let mut weights = vec![0.0; self.groups];
        for claim in self.items.iter().flat_map(claims) {
            weights[claim.group] += claim.weight;
        }
        weights
    }

    /// Refuses what stock without end would not reach.
    fn check_targets(&self, targets: &[f64]) -> Result<(), Error> {
        for (group, (&asked, weight)) in targets.iter().zip(self.weights()).enumerate() {
            if !asked.is_finite() {
                return Err(Error::Amount { name: "target", of: format!("group {group}"), value: asked });
            }
            let (mut reachable, mut too_far): (f64, Option<(f64, String)>) = (0.0, None);
            for item in self.items {
                for cell in &item.cells {
                    for claim in cell.claims.iter().filter(|claim| claim.group == group) {
                        match claim.measure {
                            Measure::WithinLimit { days } if days < 0.0 => {
                                if too_far.as_ref().is_none_or(|(most, _)| claim.weight > *most) {
                                    let why = format!("; {} is {} days too far away", item.name(cell), -days);
                                    too_far = Some((claim.weight, why));
                                }
                            }
                            Measure::WithinLimit { .. } => reachable += claim.weight,
                            Measure::Backorders | Measure::Availability { .. } => {}
                        }
                    }
                }
            }
            if weight > 0.0 && asked >= reachable - LEAST_GAIN * weight {
                let why =
                    too_far.map_or_else(|| "; demand has no upper end, so less than all".to_owned(), |(_, why)| why);
                return Err(Error::Unreachable { group, asked, reachable, why });
            }
        }
        Ok(())
    }

    /// The first target that is not met where every frontier ends.
    fn out_of_reach(&self) -> Result<Error, Error> {
        let mut totals = vec![0.0; self.groups];
        for frontier in self.frontiers(&vec![1.0; self.groups], 0.0)? {
            let ends = frontier.values(frontier.points.len() - 1, self.groups);
            totals.iter_mut().zip(ends).for_each(|(sum, end)| *sum += end);
        }
        let targets = if let Goal::Totals(targets) = self.goal { targets.as_slice() } else { &[] };
        let missed = targets.iter().zip(&totals).position(|(target, total)| target > total).unwrap_or(0);
        Ok(Error::Unreachable {
            group: missed,
            asked: targets.get(missed).copied().unwrap_or_default(),
            reachable: totals.get(missed).copied().unwrap_or_default(),
            why: "; beyond that a piece gains less than a ten-billionth".to_owned(),
        })
    }

    /// Gain for the money below which nothing is looked at, from some of the items; 0 looks at all.
    fn guess_floor(&self) -> Result<f64, Error> {
        if self.items.len() < 2 * SAMPLE {
            return Ok(0.0);
        }
        let sample: Vec<Item> = self.items.iter().step_by(self.items.len() / SAMPLE).cloned().collect();
        let some = Problem { items: &sample, goal: self.goal, groups: self.groups };
        let goal = match self.goal {
            Goal::Totals(targets) => {
                let shares = some.weights().into_iter().zip(self.weights());
                let share = shares.map(|(some, all)| if all > 0.0 { some / all } else { 0.0 });
                Goal::Totals(targets.iter().zip(share).map(|(target, share)| target * share).collect())
            }
            Goal::Budget(budget) => Goal::Budget(budget * some.turnover() / self.turnover().max(f64::MIN_POSITIVE)),
        };
        let some = Problem { items: &sample, goal: &goal, groups: self.groups };
        let ones = vec![1.0; self.groups];
        let crossing = crossing(&some.frontiers(&ones, 0.0)?, &goal, &ones);
        Ok(if crossing.ratio.is_finite() { crossing.ratio / FLOOR_MARGIN } else { 0.0 })
    }

    /// Money on order: how large the items are beside each other.
    fn turnover(&self) -> f64 {
        self.items.iter().map(|item| item.unit_cost * item.hub_rate_per_day() * item.resupply_days.max(1.0)).sum()
    }

    /// A lower floor; none where no item is touched by it any more.
    fn lower(&self, floor: f64) -> f64 {
        let lower = floor / FLOOR_STEP;
        let counts = self.items.iter().any(|item| lower * item.unit_cost > least_gain(item, &vec![1.0; self.groups]));
        if counts { lower } else { 0.0 }
    }

    /// Whether all ways to join the items can be looked at.
    fn are_few(&self) -> bool {
        self.groups == 1 && self.items.len() <= FEW
    }

    fn frontiers(&self, weights: &[f64], floor: f64) -> Result<Vec<Frontier>, Error> {
        self.items
            .par_iter()
            .map(|item| {
                let least = (floor * item.unit_cost).max(least_gain(item, weights));
                let prepared = Prepared::new(item, weights, least)?;
                let all = efficient(&prepared)?;
                let points = hull(&all, least);
                let values = match self.groups {
                    1 => points.iter().map(|point| point.value / weights[0]).collect(),
                    groups => group_values(&prepared, &points, groups)?,
                };
                let all = if self.are_few() { all } else { Vec::new() };
                Ok(Frontier { cost: item.unit_cost, points, all, values })
            })
            .collect()
    }

    /// The best plan with this floor; `None` where the floor hides what it would take.
    fn solve(&self, floor: f64) -> Result<Option<Optimised>, Error> {
        let all = self.weights();
        let mut weights = vec![1.0; self.groups];
        let mut bound = f64::NEG_INFINITY;
        let mut best: Option<Planned> = None;
        for round in 1..=MOST_ROUNDS {
            let frontiers = self.frontiers(&weights, floor)?;
            let crossing = crossing(&frontiers, self.goal, &weights);
            bound = bound.max(crossing.bound);
            match self.plan(&frontiers, &weights, floor)? {
                Some(found) if best.as_ref().is_none_or(|known| found.cost < known.cost) => best = Some(found),
                None if best.is_none() => return Ok(None),
                _ => {}
            }
            let close = best.as_ref().is_some_and(|found| found.cost - bound <= CLOSE * bound);
            if self.groups == 1 || close || matches!(self.goal, Goal::Budget(_)) {
                break;
            }
            move_weights(&mut weights, &crossing.short, &all, round);
        }
        Ok(best.map(|found| self.finish(found, bound)))
    }

    fn finish(&self, found: Planned, bound: f64) -> Optimised {
        let distance = match self.goal {
            Goal::Totals(_) => found.cost - bound,
            Goal::Budget(_) => bound - found.reckoned,
        };
        let gap = if distance > 0.0 { distance / bound.abs().max(f64::MIN_POSITIVE) } else { 0.0 };
        Optimised { levels: found.levels, cost: found.cost, totals: found.totals, bound, gap }
    }

    /// Takes steps until the goal is met by the exact law; `None` where the frontiers end before.
    fn plan(&self, frontiers: &[Frontier], weights: &[f64], floor: f64) -> Result<Option<Planned>, Error> {
        let mut position = Position::new(frontiers, self.groups);
        let mut goal = self.goal.clone();
        for _ in 0..MOST_CORRECTIONS {
            if !position.advance(frontiers, &goal, weights)? {
                return Ok(None);
            }
            let chosen: Vec<Efficient> = frontiers.iter().zip(&position.places).map(|(f, &p)| f.points[p]).collect();
            let levels = self.levels(&chosen, weights, floor)?;
            let totals = self.exact_totals(&levels)?;
            let missing = self.missing(&totals);
            if missing.iter().all(|&missing| missing <= 0.0) {
                let reckoned = position.totals.iter().sum();
                let found = Planned { levels, cost: position.cost, totals, reckoned };
                let better = if self.are_few() { self.join(frontiers, weights, floor, &found)? } else { None };
                return Ok(Some(better.unwrap_or(found)));
            }
            if let Goal::Totals(raised) = &mut goal {
                for ((raised, missing), total) in raised.iter_mut().zip(&missing).zip(&position.totals) {
                    if *missing > 0.0 {
                        *raised = raised.max(*total) + missing;
                    }
                }
            }
        }
        Ok(None)
    }

    /// What each target lacks; nothing with a budget.
    fn missing(&self, totals: &[f64]) -> Vec<f64> {
        match self.goal {
            Goal::Totals(targets) => targets.iter().zip(totals).map(|(target, total)| target - total).collect(),
            Goal::Budget(_) => Vec::new(),
        }
    }

    /// A better plan than `known` from all ways to join the items.
    fn join(
        &self,
        frontiers: &[Frontier],
        weights: &[f64],
        floor: f64,
        known: &Planned,
    ) -> Result<Option<Planned>, Error> {
        let most = if let Goal::Budget(budget) = self.goal { *budget } else { known.cost };
        let Some(ways) = Ways::join(frontiers, most) else { return Ok(None) };
        let mut wanted = if let Goal::Totals(targets) = self.goal { targets[0] } else { 0.0 };
        for _ in 0..MOST_CORRECTIONS {
            let way = if let Goal::Budget(_) = self.goal { ways.best() } else { ways.cheapest(wanted) };
            let Some((points, cost, reckoned)) = way else { return Ok(None) };
            let levels = self.levels(&points, weights, floor)?;
            let totals = self.exact_totals(&levels)?;
            let missing: f64 = self.missing(&totals).iter().sum();
            if missing <= 0.0 {
                return Ok(Some(Planned { levels, cost, totals, reckoned }));
            }
            wanted = reckoned + missing;
        }
        Ok(None)
    }

    fn levels(&self, chosen: &[Efficient], weights: &[f64], floor: f64) -> Result<Vec<Levels>, Error> {
        self.items
            .par_iter()
            .zip(chosen)
            .map(|(item, point)| {
                let least = (floor * item.unit_cost).max(least_gain(item, weights));
                levels(&Prepared::new(item, weights, least)?, point)
            })
            .collect()
    }

    fn exact_totals(&self, levels: &[Levels]) -> Result<Vec<f64>, Error> {
        let of_items: Vec<Vec<f64>> = self
            .items
            .par_iter()
            .zip(levels)
            .map(|(item, levels)| {
                let mut totals = vec![0.0; self.groups];
                Evaluation::new(item, levels, Method::Exact)?.add_totals(&mut totals)?;
                Ok(totals)
            })
            .collect::<Result<_, Error>>()?;
        let mut totals = vec![0.0; self.groups];
        for of_item in of_items {
            totals.iter_mut().zip(of_item).for_each(|(sum, total)| *sum += total);
        }
        Ok(totals)
    }
}

/// A plan before it is compared with the bound.
struct Planned {
    levels: Vec<Levels>,
    cost: f64,
    totals: Vec<f64>,
    /// Sum of the totals by the law that the bound is reckoned with.
    reckoned: f64,
}

/// A subgradient step on the logarithm of the weights: groups that are short count more. Their mean stays one, so that the floor
/// keeps its meaning.
fn move_weights(weights: &mut [f64], short: &[f64], all: &[f64], round: usize) {
    let step = 10.0 / (round as f64).sqrt();
    for (weight, (short, all)) in weights.iter_mut().zip(short.iter().zip(all)) {
        let relative = if *all > 0.0 { short / all } else { 0.0 };
        *weight = (*weight * (step * relative).clamp(-1.0, 1.0).exp()).clamp(1e-6, 1e6);
    }
    let mean = weights.iter().zip(all).map(|(weight, all)| weight * all).sum::<f64>() / all.iter().sum::<f64>();
    if mean > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= mean);
    }
}

/// Gain of a piece of an item below which it is not looked at in any case.
fn least_gain(item: &Item, weights: &[f64]) -> f64 {
    let all: f64 = claims(item).map(|claim| claim.weight * weights[claim.group]).sum();
    (LEAST_GAIN * all).max(f64::MIN_POSITIVE)
}
