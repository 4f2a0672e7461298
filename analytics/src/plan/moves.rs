//! Which pieces of a part move under one hub, and how that is told: forward, between depots, and back.
//!
//! Cells are the places of a min-cost flow. A way between depots or back must gain a multiple of the transport there and back, so
//! that pieces do not shuttle as probabilities move (section 4.7). What is left goes back to the hub only where keeping it until
//! it saves a shortage would cost more than that shortage and the way: the value at the hub that section 4.4 leaves open.

use super::{
    Alternative, TransferKind, TransferProposal, Verdict,
    cells::reasons,
    part::{Group, Priced},
    shared::Sent,
};
use crate::{
    demand::poisson,
    placement::{
        Cell,
        flow::{self, Lane, Move},
    },
};

/// Days in a year, for yearly holding rates.
const DAYS_PER_YEAR: f64 = 365.0;
/// A lane is judged by its own interval where that differs from the hub's by more than so many days (section 4.4).
const SAME_DAYS: f64 = 1.0;

/// What moves between the cells of a group, by their places.
pub(super) struct Moved {
    /// Out of the hub or between depots, in order.
    moves: Vec<Move>,
    /// Back to the hub.
    returns: Vec<GoesBack>,
}

/// Pieces that lie too long at a depot.
struct GoesBack {
    /// Where.
    place: usize,
    pieces: u32,
    /// What keeping them until they save a shortage costs more here than at the hub.
    keeping: f64,
    /// What that shortage and the way there and back would cost.
    sending: f64,
}

impl Moved {
    /// Pieces that come to a place from any other.
    pub(super) fn to(&self, place: usize) -> u32 {
        self.moves.iter().filter(|one| one.to == place).map(|one| one.pieces).sum()
    }

    /// Pieces that leave a place for any other.
    pub(super) fn out_of(&self, place: usize) -> u32 {
        let moved: u32 = self.moves.iter().filter(|one| one.from == place).map(|one| one.pieces).sum();
        moved + self.returns.iter().filter(|back| back.place == place).map(|back| back.pieces).sum::<u32>()
    }
}

impl<'a> Group<'_, 'a> {
    /// The moves that save most, and what goes back.
    ///
    /// * `usual_means`: expected demand of each cell's slots over its window when no alert is on.
    pub(super) fn moves(&self, cells: &[Priced<'a>], usual_means: &[f64]) -> Moved {
        let Some(hub) = self.hub_place(cells) else { return Moved { moves: Vec::new(), returns: Vec::new() } };
        let places: Vec<flow::Place<'_>> = cells
            .iter()
            .enumerate()
            .map(|(place, priced)| flow::Place {
                cell: Cell {
                    demand: &priced.demand,
                    cost: priced.cost,
                    // The hub's own devices compete for the pieces on its shelf, and what is on the way to it cannot be sent.
                    position: if place == hub { i64::from(priced.movable) } else { priced.position },
                    transport: 0.0,
                },
                movable: priced.movable,
                keeps_for_nothing: place == hub,
            })
            .collect();
        let moves = flow::moves(&places, &self.lanes(cells, hub));
        let mut moved = Moved { moves, returns: Vec::new() };
        moved.returns = self.returns(cells, usual_means, hub, &moved);
        moved
    }

    fn hub_place(&self, cells: &[Priced<'a>]) -> Option<usize> {
        cells.iter().position(|priced| priced.cell.depot == self.hub)
    }

    /// Ways out of the hub, and those between depots and back that pieces could take.
    fn lanes(&self, cells: &[Priced<'a>], hub: usize) -> Vec<Lane> {
        // H holds the way from the hub there and back already; sending now costs nothing more.
        let mut lanes: Vec<Lane> =
            (0..cells.len()).filter(|&to| to != hub).map(|to| Lane { from: hub, to, cost: 0.0 }).collect();
        for (from, giver) in cells.iter().enumerate().filter(|(from, giver)| *from != hub && giver.movable > 0) {
            for (to, taker) in cells.iter().enumerate().filter(|(to, _)| *to != from) {
                if let Some(cost) = self.lateral_cost(giver, taker) {
                    lanes.push(Lane { from, to, cost });
                }
            }
        }
        lanes
    }

    /// What a move between depots must gain; none where no lane leads there.
    fn lateral_cost(&self, giver: &Priced<'a>, taker: &Priced<'a>) -> Option<f64> {
        let options = self.input.options;
        let lane = self.network.lane(giver.cell.depot, taker.cell.depot)?;
        let out = lane.cost_per_piece.unwrap_or(0.0);
        let back = self.network.lane(taker.cell.depot, giver.cell.depot);
        let back = back.and_then(|lane| lane.cost_per_piece).unwrap_or(out);
        let hurdle = options.move_margin.max(1.0) * (out + back) + lane.fixed_cost.unwrap_or(0.0);
        let is_alike = (lane.days - taker.cell.way.days).abs() <= SAME_DAYS;
        let wants = taker.cost.gain_of_next(&taker.demand, taker.position) > 0.0;
        if is_alike || !wants || taker.cell.depot == self.hub {
            return Some(hurdle);
        }
        // A piece that comes sooner acts for a shorter time, one that comes later for a longer one.
        let own = taker.cell.demand(lane.days + options.review.days(), self.common_factor()).ok()?;
        let gain = |law| taker.cost.gain_of_next(law, taker.position);
        Some((hurdle + gain(&taker.demand) - gain(&own)).max(0.0))
    }

    /// Pieces that nobody near needs, beyond what the depot wants today and what serves it in the long run.
    fn returns(&self, cells: &[Priced<'a>], usual_means: &[f64], hub: usize, moved: &Moved) -> Vec<GoesBack> {
        let rate = |(priced, mean): (&Priced<'a>, &f64)| {
            mean / priced.cell.window_days.max(f64::MIN_POSITIVE) + priced.cell.background_mean(1.0)
        };
        let rates: Vec<f64> = cells.iter().zip(usual_means).map(rate).collect();
        let taken: f64 = rates.iter().sum();
        let holding_per_day = self.part.unit_cost * self.input.options.holding_rate_per_year / DAYS_PER_YEAR;
        let left_at_hub = f64::from(cells[hub].movable.saturating_sub(moved.out_of(hub)));
        // At the hub a piece saves a purchase, but only once the pieces before it are used.
        let idle_at_hub = holding_per_day * left_at_hub / taken.max(f64::MIN_POSITIVE);
        let mut returns = Vec::new();
        for (place, priced) in cells.iter().enumerate().filter(|(place, _)| *place != hub) {
            if self.network.lane(priced.cell.depot, self.hub).is_none() {
                continue;
            }
            let there_and_back = priced.cell.way.cost_out + priced.cell.way.cost_back;
            let sending = priced.cost.shortage + there_and_back;
            let hurdle = priced.cost.shortage + self.input.options.move_margin.max(1.0) * there_and_back;
            let wanted = i64::from(priced.cost.best_position(&priced.demand));
            let gone = moved.out_of(place);
            let mut level = priced.position + i64::from(moved.to(place)) - i64::from(gone);
            let (mut pieces, mut kept) = (0, 0.0);
            while pieces + gone < priced.movable && level > wanted {
                let per_day = shortages_saved_per_day(rates[place], priced.cell.way.days, level);
                // No piece is worth more at the hub than a new one.
                let keeping = (holding_per_day / per_day.max(f64::MIN_POSITIVE)).min(self.part.unit_cost) - idle_at_hub;
                if keeping <= hurdle {
                    break;
                }
                kept += keeping;
                pieces += 1;
                level -= 1;
            }
            if pieces > 0 {
                returns.push(GoesBack { place, pieces, keeping: kept, sending: sending * f64::from(pieces) });
            }
        }
        returns
    }

    /// The moves as proposals, in order of `to` within forward and lateral moves, then what goes back.
    pub(super) fn transfers(&self, cells: &[Priced<'a>], moved: &Moved) -> Vec<Sent> {
        let after: Vec<i64> = (0..cells.len())
            .map(|place| cells[place].position + i64::from(moved.to(place)) - i64::from(moved.out_of(place)))
            .collect();
        let mut sent: Vec<Sent> = moved.moves.iter().map(|one| self.transfer(cells, &after, moved, *one)).collect();
        for back in &moved.returns {
            let priced = &cells[back.place];
            let proposal = TransferProposal {
                part: self.part.part.clone(),
                kind: TransferKind::Return,
                from: priced.cell.depot.clone(),
                to: self.hub.clone(),
                quantity: back.pieces,
                worth: back.keeping - back.sending,
                cost: priced.cell.way.cost_back * f64::from(back.pieces),
                reasons: reasons(priced.cell.likely(priced.cell.window_days), self.input.options.reasons),
                cost_if_sent: back.sending,
                cost_if_not: back.keeping,
                second_best: None,
            };
            let same = sent.iter_mut().find(|one| one.proposal.from == proposal.from && one.proposal.to == proposal.to);
            match same {
                Some(one) => add(&mut one.proposal, &proposal),
                None => sent.push(Sent { proposal, survives: 0.0, is_owed: false }),
            }
        }
        sent
    }

    fn transfer(&self, cells: &[Priced<'a>], after: &[i64], moved: &Moved, one: Move) -> Sent {
        let (giver, taker) = (&cells[one.from], &cells[one.to]);
        let pieces = i64::from(one.pieces);
        let is_forward = giver.cell.depot == self.hub;
        let kind = match taker.cell.depot == self.hub {
            true => TransferKind::Return,
            false if is_forward => TransferKind::Forward,
            false => TransferKind::Lateral,
        };
        let arrives = |position| taker.cost.of_position(&taker.demand, position);
        let leaves = |position| giver.cost.of_position(&giver.demand, position);
        let lane = self.network.lane(giver.cell.depot, taker.cell.depot);
        let per_piece =
            if is_forward { taker.cell.way.cost_out } else { lane.and_then(|lane| lane.cost_per_piece).unwrap_or(0.0) };
        let cost = per_piece * f64::from(one.pieces);
        let (mut cost_if_sent, mut cost_if_not) = (arrives(after[one.to]), arrives(after[one.to] - pieces));
        if !is_forward {
            cost_if_sent += leaves(after[one.from]) + cost;
            cost_if_not += leaves(after[one.from] + pieces);
        }
        let proposal = TransferProposal {
            part: self.part.part.clone(),
            kind,
            from: giver.cell.depot.clone(),
            to: taker.cell.depot.clone(),
            quantity: one.pieces,
            worth: cost_if_not - cost_if_sent,
            cost,
            reasons: reasons(taker.cell.likely(taker.cell.window_days), self.input.options.reasons),
            cost_if_sent,
            cost_if_not,
            second_best: self.second_best(cells, after, one),
        };
        let is_owed = taker.position < 0;
        let before = taker.position;
        let has_fixed_cost = is_forward && lane.is_some_and(|lane| lane.fixed_cost.is_some_and(|cost| cost > 0.0));
        let survives =
            if has_fixed_cost { self.survives(taker, before, before + i64::from(moved.to(one.to))) } else { 0.0 };
        Sent { proposal, survives, is_owed }
    }

    /// Where else one of the pieces would save most, beside the plan as it is.
    fn second_best(&self, cells: &[Priced<'a>], after: &[i64], one: Move) -> Option<Alternative> {
        let from_hub = cells[one.from].cell.depot == self.hub;
        let mut best: Option<Alternative> = None;
        for (to, priced) in cells.iter().enumerate().filter(|(to, _)| *to != one.to && *to != one.from) {
            let lane = self.network.lane(cells[one.from].cell.depot, priced.cell.depot);
            let Some(cost) = lane.map(|lane| if from_hub { 0.0 } else { lane.cost_per_piece.unwrap_or(0.0) }) else {
                continue;
            };
            let worth = priced.cost.gain_of_next(&priced.demand, after[to]) - cost;
            if worth > best.as_ref().map_or(0.0, |best| best.worth) {
                best = Some(Alternative { to: priced.cell.depot.clone(), worth });
            }
        }
        best
    }

    /// Share of what pieces save that they would still save a day later (section 4.6).
    fn survives(&self, priced: &Priced<'a>, before: i64, after: i64) -> f64 {
        let saved = |law| priced.cost.of_position(law, before) - priced.cost.of_position(law, after);
        let now = saved(&priced.demand);
        let later = priced.cell.demand_between(1.0, 1.0 + priced.cell.window_days, self.common_factor());
        match later {
            Ok(later) if now > 0.0 => (saved(&later) / now).clamp(0.0, 1.0),
            _ => 0.0,
        }
    }

    /// Why a cell gets no more than it has after the plan.
    pub(super) fn verdict(&self, cells: &[Priced<'a>], place: usize, after: i64) -> Verdict {
        let priced = &cells[place];
        if priced.cost.gain_of_next(&priced.demand, after) <= 0.0 {
            return Verdict::Enough;
        }
        let could_come = cells.iter().enumerate().any(|(from, giver)| {
            let leads_here = self.network.lane(giver.cell.depot, priced.cell.depot).is_some();
            from != place && giver.movable > 0 && leads_here
        });
        if could_come { Verdict::WorthMoreElsewhere } else { Verdict::NothingToSend }
    }
}

/// The same way for more pieces.
fn add(proposal: &mut TransferProposal, more: &TransferProposal) {
    proposal.quantity += more.quantity;
    proposal.worth += more.worth;
    proposal.cost += more.cost;
    proposal.cost_if_sent += more.cost_if_sent;
    proposal.cost_if_not += more.cost_if_not;
}

/// How often a day the last of `level` pieces saves a shortage: a demand comes while all others are on order.
fn shortages_saved_per_day(rate_per_day: f64, order_days: f64, level: i64) -> f64 {
    let others = usize::try_from(level - 1).ok();
    let on_order = poisson(rate_per_day * order_days).ok();
    let all_out = others.zip(on_order).and_then(|(others, law)| law.pmf().get(others).copied()).unwrap_or(0.0);
    rate_per_day * all_out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A single piece saves every demand; the second only one that comes while the first is on order: P(X = 1) = .2 e^-.2.
    #[test]
    fn the_last_piece_saves_what_finds_the_others_out() {
        assert!((shortages_saved_per_day(0.1, 2.0, 1) - 0.1 * (-0.2_f64).exp()).abs() < 1e-12);
        assert!((shortages_saved_per_day(0.1, 2.0, 2) - 0.1 * 0.2 * (-0.2_f64).exp()).abs() < 1e-12);
        assert_eq!(shortages_saved_per_day(0.0, 2.0, 1), 0.0);
        assert_eq!(shortages_saved_per_day(0.1, 2.0, 0), 0.0);
    }
}
