//! Steps along the frontiers of all items: by greatest gain for the money, and the bound that the same steps prove.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{Error, Frontier, Goal};

/// Points ahead that are looked at with several groups: the next one may help those that are met already.
const AHEAD: usize = 16;

/// How far each item has come.
#[derive(Debug)]
pub(super) struct Position {
    /// Point of each frontier.
    pub(super) places: Vec<usize>,
    pub(super) totals: Vec<f64>,
    pub(super) cost: f64,
}

/// A step that waits.
#[derive(Debug, PartialEq)]
struct Candidate {
    ratio: f64,
    cost: f64,
    item: usize,
    to: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    /// Greater gain for the money first; of equals less money, then the first item.
    fn cmp(&self, other: &Self) -> Ordering {
        self.ratio.total_cmp(&other.ratio).then(other.cost.total_cmp(&self.cost)).then(other.item.cmp(&self.item))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Position {
    pub(super) fn new(frontiers: &[Frontier], groups: usize) -> Self {
        let mut totals = vec![0.0; groups];
        for frontier in frontiers {
            totals.iter_mut().zip(frontier.values(0, groups)).for_each(|(sum, value)| *sum += value);
        }
        Self { places: vec![0; frontiers.len()], totals, cost: 0.0 }
    }

    /// Takes steps until the goal is met; whether it was. A budget is met where nothing fits any more.
    pub(super) fn advance(&mut self, frontiers: &[Frontier], goal: &Goal, weights: &[f64]) -> Result<bool, Error> {
        let mut waiting: BinaryHeap<Candidate> =
            (0..frontiers.len()).filter_map(|item| self.next(item, frontiers, goal, weights)).collect();
        let mut cheapest = f64::INFINITY;
        while !self.meets(goal) {
            let Some(candidate) = waiting.pop() else { break };
            // Since it was put there, groups may have been met.
            let Some(now) = self.next(candidate.item, frontiers, goal, weights) else { continue };
            if now < candidate {
                waiting.push(now);
                continue;
            }
            if let Goal::Budget(budget) = goal
                && self.cost + now.cost > *budget
            {
                cheapest = cheapest.min(now.cost);
                continue;
            }
            self.take(&now, frontiers);
            waiting.extend(self.next(now.item, frontiers, goal, weights));
        }
        match goal {
            Goal::Budget(budget)
                if self.cost == 0.0 && cheapest < f64::INFINITY && self.places.iter().all(|&p| p == 0) =>
            {
                Err(Error::Budget { budget: *budget, cheapest })
            }
            Goal::Budget(_) => Ok(true),
            Goal::Totals(_) => Ok(self.meets(goal)),
        }
    }

    fn meets(&self, goal: &Goal) -> bool {
        match goal {
            Goal::Totals(targets) => targets.iter().zip(&self.totals).all(|(target, total)| total >= target),
            Goal::Budget(_) => false,
        }
    }

    fn take(&mut self, step: &Candidate, frontiers: &[Frontier]) {
        let (frontier, groups) = (&frontiers[step.item], self.totals.len());
        let from = frontier.values(self.places[step.item], groups);
        for ((total, from), to) in self.totals.iter_mut().zip(from).zip(frontier.values(step.to, groups)) {
            *total += to - from;
        }
        self.cost += step.cost;
        self.places[step.item] = step.to;
    }

    /// The best step of an item; none where none helps.
    fn next(&self, item: usize, frontiers: &[Frontier], goal: &Goal, weights: &[f64]) -> Option<Candidate> {
        let (frontier, groups) = (&frontiers[item], self.totals.len());
        let from = self.places[item];
        let ahead = if groups == 1 { 1 } else { AHEAD };
        let last = (from + ahead).min(frontier.points.len() - 1);
        let mut best: Option<Candidate> = None;
        for to in from + 1..=last {
            let pieces = f64::from(frontier.points[to].pieces - frontier.points[from].pieces);
            let cost = frontier.cost * pieces;
            let gain = self.gain(frontier.values(from, groups), frontier.values(to, groups), goal, weights);
            // A piece without a price comes first.
            let ratio = gain / cost.max(f64::MIN_POSITIVE);
            if gain > 0.0 && best.as_ref().is_none_or(|known| ratio > known.ratio) {
                best = Some(Candidate { ratio, cost, item, to });
            }
        }
        best
    }

    /// How much nearer to the targets a step comes, what is beyond them not counted (Wong et al. 2006).
    fn gain(&self, from: &[f64], to: &[f64], goal: &Goal, weights: &[f64]) -> f64 {
        let changes = from.iter().zip(to).zip(weights).map(|((from, to), weight)| (to - from, weight));
        match goal {
            Goal::Budget(_) => changes.map(|(change, weight)| change * weight).sum(),
            Goal::Totals(targets) => changes
                .zip(targets.iter().zip(&self.totals))
                .map(|((change, weight), (target, total))| {
                    weight * ((total + change).min(*target) - total.min(*target))
                })
                .sum(),
        }
    }
}

/// Where the steps, taken by gain for the money alone, meet the goal.
#[derive(Debug)]
pub(super) struct Crossing {
    /// Gain for the money of the step that does.
    pub(super) ratio: f64,
    /// Least cost of any plan that meets the targets; greatest sum of totals for the budget.
    pub(super) bound: f64,
    /// How far each group is from its target before that step: a subgradient of the bound.
    pub(super) short: Vec<f64>,
}

/// Walks all steps by gain for the money, which maximises the dual along the ray of `weights`: with `u = weights / ratio`,
/// `LB(u) = u T + min (C - u V)`, and the minimum is where the walk has come to (section 3.6).
pub(super) fn crossing(frontiers: &[Frontier], goal: &Goal, weights: &[f64]) -> Crossing {
    let groups = weights.len();
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    let mut totals = vec![0.0; groups];
    for (item, frontier) in frontiers.iter().enumerate() {
        totals.iter_mut().zip(frontier.values(0, groups)).for_each(|(sum, value)| *sum += value);
        for (place, pair) in frontier.points.windows(2).enumerate() {
            let cost = frontier.cost * f64::from(pair[1].pieces - pair[0].pieces);
            steps.push(((pair[1].value - pair[0].value) / cost.max(f64::MIN_POSITIVE), item, place));
        }
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let asked: f64 = match goal {
        Goal::Totals(targets) => targets.iter().zip(weights).map(|(target, weight)| target * weight).sum(),
        Goal::Budget(_) => 0.0,
    };
    let (mut cost, mut last) = (0.0, f64::INFINITY);
    let mut value: f64 = totals.iter().zip(weights).map(|(total, weight)| total * weight).sum();
    let short = |totals: &[f64]| match goal {
        Goal::Totals(targets) => targets.iter().zip(totals).map(|(target, total)| target - total).collect(),
        Goal::Budget(_) => Vec::new(),
    };
    for (ratio, item, place) in steps {
        let (frontier, pair) = (&frontiers[item], &frontiers[item].points[place..place + 2]);
        let step_cost = frontier.cost * f64::from(pair[1].pieces - pair[0].pieces);
        let gain = pair[1].value - pair[0].value;
        match goal {
            Goal::Totals(_) if value >= asked => return Crossing { ratio: last, bound: cost, short: short(&totals) },
            Goal::Totals(_) if value + gain >= asked => {
                return Crossing { ratio, bound: cost + (asked - value) / ratio, short: short(&totals) };
            }
            Goal::Budget(budget) if cost + step_cost > *budget => {
                return Crossing { ratio, bound: value + ratio * (budget - cost), short: Vec::new() };
            }
            _ => {}
        }
        let (from, to) = (frontier.values(place, groups), frontier.values(place + 1, groups));
        totals.iter_mut().zip(from).zip(to).for_each(|((sum, from), to)| *sum += to - from);
        (cost, value, last) = (cost + step_cost, value + gain, ratio);
    }
    // The frontiers end before: what they prove is what they cost, and nothing is left to buy.
    let bound = if matches!(goal, Goal::Totals(_)) { cost } else { value };
    Crossing { ratio: 0.0, bound, short: short(&totals) }
}
