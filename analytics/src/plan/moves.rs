//! Which pieces of a part and of those that it replaces move under one hub, and how that is told: forward, between depots, and back.
//!
//! Cells are the places of a min-cost flow. A way between depots or back must gain a multiple of the transport there and back, so
//! that pieces do not shuttle as probabilities move (section 4.7). What is left goes back to the hub only where keeping it until
//! it saves a shortage would cost more than that shortage and the way: the value at the hub that section 4.4 leaves open.
//!
//! A piece of a newer part may go to a cell of an older one, where it lies or by a lane (section 5.4). It costs what it is dearer, so the
//! older part is used first while it lasts.

use std::collections::BTreeMap;

use harbinger_core::{DepotId, PartId};

use super::{
    Alternative, TransferKind, TransferProposal, Verdict,
    cells::reasons,
    lead_time::LeadTime,
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
/// Least cost of using a newer part for an older one, so that of equals the older is used.
const LEAST_SUBSTITUTION: f64 = 1e-6;

/// What moves between the cells of a group, by their places.
pub(super) struct Moved {
    /// Out of the hub or between places, in order.
    moves: Vec<Move>,
    /// Back to the hub.
    returns: Vec<GoesBack>,
    /// How that changes each place's pieces.
    changes: Vec<Changes>,
}

/// Pieces that come to a place and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Come from another depot.
    pub(super) sent: u32,
    /// Leave for another depot.
    pub(super) taken: u32,
    /// Of a newer part, that serve here.
    pub(super) substituted: u32,
    /// That serve an older part here.
    pub(super) substitutes: u32,
}

impl Changes {
    /// How the position changes.
    pub(super) fn net(self) -> i64 {
        i64::from(self.sent) + i64::from(self.substituted) - i64::from(self.taken) - i64::from(self.substitutes)
    }
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
    /// How the pieces of a place change.
    pub(super) fn changes(&self, place: usize) -> Changes {
        self.changes[place]
    }

    /// Pieces that leave a place or serve another there.
    fn out_of(&self, place: usize) -> u32 {
        self.changes[place].taken + self.changes[place].substitutes
    }
}

/// How moves change the pieces of each place. What comes by a lane to serve an older part comes to the shelf of its own part, and
/// serves from there.
fn changes(cells: &[Priced<'_>], moves: &[Move]) -> Vec<Changes> {
    let places: BTreeMap<(&PartId, &DepotId), usize> =
        cells.iter().enumerate().map(|(place, priced)| ((&priced.part.part, priced.cell.depot), place)).collect();
    let mut changes = vec![Changes::default(); cells.len()];
    for one in moves {
        let (giver, taker) = (&cells[one.from], &cells[one.to]);
        let shelf = places.get(&(&giver.part.part, taker.cell.depot)).copied();
        if giver.place != taker.place {
            changes[one.from].taken += one.pieces;
            if let Some(shelf) = shelf {
                changes[shelf].sent += one.pieces;
            }
        }
        if giver.part.part != taker.part.part {
            changes[one.to].substituted += one.pieces;
            if let Some(shelf) = shelf {
                changes[shelf].substitutes += one.pieces;
            }
        }
    }
    changes
}

impl<'a> Group<'_, 'a> {
    /// The moves that save most, and what goes back.
    ///
    /// * `usual_means`: expected demand of each cell's slots over its window when no alert is on.
    pub(super) fn moves(&self, cells: &[Priced<'a>], usual_means: &[f64]) -> Moved {
        let places: Vec<flow::Place<'_>> = cells
            .iter()
            .map(|priced| {
                // The hub's own devices compete for the pieces on its shelf, and what is on the way to it cannot be sent.
                let position = if priced.is_hub { i64::from(priced.movable) } else { priced.position };
                flow::Place {
                    cell: Cell { demand: &priced.value.demand, cost: priced.value.cost, position, transport: 0.0 },
                    movable: priced.movable,
                    bound: u32::try_from(position - i64::from(priced.movable)).unwrap_or(0),
                    keeps_for_nothing: priced.is_hub,
                }
            })
            .collect();
        let moves = flow::moves(&places, &self.lanes(cells));
        let mut moved = Moved { changes: changes(cells, &moves), moves, returns: Vec::new() };
        moved.returns = self.returns(cells, usual_means, &moved);
        for back in &moved.returns {
            moved.changes[back.place].taken += back.pieces;
        }
        moved
    }

    /// Ways out of the hub, those between depots and back that pieces could take, and those from part to part.
    fn lanes(&self, cells: &[Priced<'a>]) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for (from, giver) in cells.iter().enumerate() {
            // Bound pieces can serve in place, others can also go.
            let has_pieces = giver.movable > 0 || giver.position > 0;
            for (to, taker) in cells.iter().enumerate().filter(|(to, _)| *to != from && has_pieces) {
                // A piece that perishes before the next could come is never sent.
                let keeps = |days: f64| giver.part.shelf_life_days.is_none_or(|life| life >= days);
                let Some(dearer) = self.substitution_cost(giver, taker).filter(|_| keeps(taker.cell.window_days))
                else {
                    continue;
                };
                let in_place = giver.place == taker.place;
                // H holds the way from the hub there and back already; sending now costs nothing more.
                let way = if in_place || giver.is_hub {
                    Some(0.0)
                } else if giver.movable > 0 {
                    self.lateral_cost(giver, taker)
                } else {
                    None
                };
                lanes.extend(way.map(|cost| Lane { from, to, cost: cost + dearer, in_place }));
            }
        }
        lanes
    }

    /// What it costs that a piece of one cell's part serves another's: nothing for the same part, none where it cannot.
    fn substitution_cost(&self, giver: &Priced<'a>, taker: &Priced<'a>) -> Option<f64> {
        if std::ptr::eq(giver.part, taker.part) {
            return Some(0.0);
        }
        let replaces = self.network.later(&taker.part.part).any(|later| *later == giver.part.part);
        replaces.then(|| (giver.part.unit_cost - taker.part.unit_cost).max(LEAST_SUBSTITUTION))
    }

    /// What a move between depots must gain; none where no lane leads there.
    fn lateral_cost(&self, giver: &Priced<'a>, taker: &Priced<'a>) -> Option<f64> {
        let options = self.input.options;
        let lane = self.lane(giver, taker)?;
        let out = lane.cost_per_piece.unwrap_or(0.0);
        let back = self.lane(taker, giver);
        let back = back.and_then(|lane| lane.cost_per_piece).unwrap_or(out);
        // What goes to the hub pays for its lane together ([`super::shared::pay_for_lanes`]).
        let fixed = lane.fixed_cost.filter(|_| !taker.is_hub).unwrap_or(0.0);
        let hurdle = options.move_margin.max(1.0) * (out + back) + fixed;
        let is_alike = (lane.days - taker.cell.way.lead.days).abs() <= SAME_DAYS;
        let wants = taker.value.gain_of_next(taker.position) > 0.0;
        if is_alike || !wants || taker.is_hub {
            return Some(hurdle);
        }
        // A piece that comes sooner acts for a shorter time, one that comes later for a longer one.
        let own = taker.cell.demand(0.0, LeadTime::of(lane), self.common_factor(taker.part)).ok()?;
        let gain = |law| taker.cost.gain_of_next(law, taker.position);
        Some((hurdle + gain(&taker.demand) - gain(&own)).max(0.0))
    }

    /// Pieces that nobody near needs, beyond what the depot wants today and what serves it in the long run.
    fn returns(&self, cells: &[Priced<'a>], usual_means: &[f64], moved: &Moved) -> Vec<GoesBack> {
        let rate = |(priced, mean): (&Priced<'a>, &f64)| {
            mean / priced.cell.window_days.max(f64::MIN_POSITIVE) + priced.cell.background_mean(1.0)
        };
        let rates: Vec<f64> = cells.iter().zip(usual_means).map(rate).collect();
        let mut returns = Vec::new();
        for (hub, at_hub) in cells.iter().enumerate().filter(|(_, priced)| priced.is_hub) {
            let of_part: Vec<usize> =
                (0..cells.len()).filter(|&place| std::ptr::eq(cells[place].part, at_hub.part)).collect();
            let taken: f64 = of_part.iter().map(|&place| rates[place]).sum();
            let holding_per_day = at_hub.part.unit_cost * self.input.options.holding_rate_per_year / DAYS_PER_YEAR;
            let left_at_hub = f64::from(at_hub.movable.saturating_sub(moved.out_of(hub)));
            // At the hub a piece saves a purchase, but only once the pieces before it are used.
            let idle_at_hub = holding_per_day * left_at_hub / taken.max(f64::MIN_POSITIVE);
            let leads_back = |place: &usize| *place != hub && self.lane(&cells[*place], at_hub).is_some();
            let from_depots = of_part.into_iter().filter(leads_back);
            returns.extend(from_depots.filter_map(|place| {
                self.goes_back(&cells[place], place, (rates[place], holding_per_day, idle_at_hub), moved)
            }));
        }
        returns
    }

    /// Pieces that go back from a depot; `rate` are demands a day, `holding` what a day on the shelf costs and `idle` what it costs until
    /// the hub needs one more.
    fn goes_back(
        &self,
        priced: &Priced<'a>,
        place: usize,
        (rate, holding, idle): (f64, f64, f64),
        moved: &Moved,
    ) -> Option<GoesBack> {
        let there_and_back = priced.cell.way.cost_out + priced.cell.way.cost_back;
        let sending = priced.cost.shortage + there_and_back;
        let hurdle = priced.cost.shortage + self.input.options.move_margin.max(1.0) * there_and_back;
        let wanted = i64::from(priced.value.best_position());
        let gone = moved.out_of(place);
        let mut level = priced.position + moved.changes(place).net();
        let (mut pieces, mut kept) = (0, 0.0);
        while pieces + gone < priced.movable && level > wanted {
            let per_day = shortages_saved_per_day(rate, priced.cell.way.lead.days, level);
            // No piece is worth more at the hub than a new one.
            let keeping = (holding / per_day.max(f64::MIN_POSITIVE)).min(priced.part.unit_cost) - idle;
            if keeping <= hurdle {
                break;
            }
            kept += keeping;
            pieces += 1;
            level -= 1;
        }
        (pieces > 0).then(|| GoesBack { place, pieces, keeping: kept, sending: sending * f64::from(pieces) })
    }

    /// The moves as proposals, in order of `to` within forward and lateral moves, then what goes back.
    pub(super) fn transfers(&self, cells: &[Priced<'a>], moved: &Moved) -> Vec<Sent> {
        let after: Vec<i64> =
            (0..cells.len()).map(|place| cells[place].position + moved.changes(place).net()).collect();
        let leaves = |one: &&Move| cells[one.from].place != cells[one.to].place;
        let mut sent: Vec<Sent> =
            moved.moves.iter().filter(leaves).map(|one| self.transfer(cells, &after, moved, *one)).collect();
        for back in &moved.returns {
            let priced = &cells[back.place];
            let proposal = TransferProposal {
                part: priced.part.part.clone(),
                kind: TransferKind::Return,
                from: priced.cell.depot.clone(),
                to: self.reach.hub.clone(),
                quantity: back.pieces,
                substitutes_for: None,
                worth: back.keeping - back.sending,
                cost: priced.cell.way.cost_back * f64::from(back.pieces),
                reasons: reasons(priced.cell.likely(priced.cell.window_days), self.input.options.reasons),
                cost_if_sent: back.sending,
                cost_if_not: back.keeping,
                second_best: None,
            };
            let is_same = |one: &&mut Sent| {
                let TransferProposal { part, from, to, substitutes_for, .. } = &one.proposal;
                (part, from, to, substitutes_for) == (&proposal.part, &proposal.from, &proposal.to, &None)
            };
            let same = sent.iter_mut().find(is_same);
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
        let is_forward = giver.is_hub;
        let kind = match taker.is_hub {
            true => TransferKind::Return,
            false if is_forward => TransferKind::Forward,
            false => TransferKind::Lateral,
        };
        let arrives = |position| taker.value.of_position(position);
        let leaves = |position| giver.value.of_position(position);
        let lane = self.lane(giver, taker);
        let per_piece =
            if is_forward { taker.cell.way.cost_out } else { lane.and_then(|lane| lane.cost_per_piece).unwrap_or(0.0) };
        let cost = per_piece * f64::from(one.pieces);
        let (mut cost_if_sent, mut cost_if_not) = (arrives(after[one.to]), arrives(after[one.to] - pieces));
        if !is_forward {
            cost_if_sent += leaves(after[one.from]) + cost;
            cost_if_not += leaves(after[one.from] + pieces);
        }
        let proposal = TransferProposal {
            part: giver.part.part.clone(),
            kind,
            from: giver.cell.depot.clone(),
            to: taker.cell.depot.clone(),
            quantity: one.pieces,
            substitutes_for: (giver.part.part != taker.part.part).then(|| taker.part.part.clone()),
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
        let came = moved.changes(one.to).sent + moved.changes(one.to).substituted;
        let survives = if has_fixed_cost { self.survives(taker, before, before + i64::from(came)) } else { 0.0 };
        Sent { proposal, survives, is_owed }
    }

    /// Where else one of the pieces would save most, beside the plan as it is.
    fn second_best(&self, cells: &[Priced<'a>], after: &[i64], one: Move) -> Option<Alternative> {
        let giver = &cells[one.from];
        let mut best: Option<Alternative> = None;
        for (to, priced) in cells.iter().enumerate().filter(|(to, _)| *to != one.to && *to != one.from) {
            let Some(cost) = self.costs_to_serve(giver, priced) else { continue };
            let worth = priced.value.gain_of_next(after[to]) - cost;
            if worth > best.as_ref().map_or(0.0, |best| best.worth) {
                best = Some(Alternative { to: priced.cell.depot.clone(), worth });
            }
        }
        best
    }

    /// What a piece of one cell costs on its way to serve another; none where it cannot.
    fn costs_to_serve(&self, giver: &Priced<'a>, taker: &Priced<'a>) -> Option<f64> {
        let dearer = self.substitution_cost(giver, taker)?;
        if giver.place == taker.place {
            return Some(dearer);
        }
        let lane = self.lane(giver, taker)?;
        let way = if giver.is_hub { 0.0 } else { lane.cost_per_piece.unwrap_or(0.0) };
        Some(dearer + way)
    }

    /// Share of what pieces save that they would still save a day later (section 4.6).
    fn survives(&self, priced: &Priced<'a>, before: i64, after: i64) -> f64 {
        let saved = |law| priced.cost.of_position(law, before) - priced.cost.of_position(law, after);
        let now = saved(&priced.demand);
        let later = priced.cell.demand(1.0, priced.cell.lead, self.common_factor(priced.part));
        match later {
            Ok(later) if now > 0.0 => (saved(&later) / now).clamp(0.0, 1.0),
            _ => 0.0,
        }
    }

    /// Why a cell gets no more than it has after the plan.
    pub(super) fn verdict(&self, cells: &[Priced<'a>], place: usize, after: i64) -> Verdict {
        let priced = &cells[place];
        if priced.value.gain_of_next(after) <= 0.0 {
            return Verdict::Enough;
        }
        let could_come = cells
            .iter()
            .enumerate()
            .any(|(from, giver)| from != place && giver.movable > 0 && self.costs_to_serve(giver, priced).is_some());
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
