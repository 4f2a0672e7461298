//! Moves of one part between hub and depots as a min-cost flow with convex costs: out of the hub, from depot to depot, back.
//!
//! Pieces begin where they lie. The next piece at a place is worth less than the one before, so the cheapest chain of changes
//! is made again and again until none pays: a piece goes from one place to another, and where that pays more, pieces that
//! were to move already go elsewhere or stay. A piece makes at most one move. Each round is a shortest path (successive
//! shortest paths), so the integer optimum is reached after as many rounds as pieces change their place.
//!
//! Source: maths of pre-positioning, section 4.4; Ahuja, Magnanti, Orlin (1993), Network Flows, sections 9.7 and 14.5.

use std::collections::BTreeMap;

use super::Cell;

/// A change is made where it saves more than this.
const LEAST_SAVING: f64 = 1e-9;

/// A place that pieces lie at, leave and reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place<'a> {
    /// Its demand and prices. `position` is that before any move, the pieces that may leave among it; `transport` is added to
    /// whatever comes here.
    pub cell: Cell<'a>,
    /// Pieces that may leave.
    pub movable: u32,
    /// Pieces that stay where they lie, and may serve another place there by a lane that is `in_place`.
    pub bound: u32,
    /// Whether a piece that is not needed here costs nothing: at the hub, where it lies as well as anywhere.
    pub keeps_for_nothing: bool,
}

/// A way that a piece may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lane {
    /// Where it leaves, by place.
    pub from: usize,
    /// Where it arrives, by place.
    pub to: usize,
    /// What moving one piece costs, >= 0: what costs less than nothing counts as nothing.
    pub cost: f64,
    /// Whether the piece stays where it lies and serves the devices of another part there: pieces that are bound may go it, too.
    pub in_place: bool,
}

/// Pieces that should move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// From which place.
    pub from: usize,
    /// To which place.
    pub to: usize,
    /// Pieces, at least 1.
    pub pieces: u32,
}

/// The moves that save most, in order of `from` and `to`. Of equals the one between places that stand first.
///
/// Lanes that name no place are not used, and of several between the same places the cheapest is.
#[must_use]
pub fn moves(places: &[Place<'_>], lanes: &[Lane]) -> Vec<Move> {
    let mut flow = Flow::new(places, lanes);
    while flow.improve() {}
    let mut moved: BTreeMap<(usize, usize), u32> = BTreeMap::new();
    for (to, held) in flow.held.iter().enumerate() {
        for (&origin, &pieces) in held.iter().filter(|(origin, _)| **origin % places.len() != to) {
            *moved.entry((origin % places.len(), to)).or_default() += pieces;
        }
    }
    moved.into_iter().map(|((from, to), pieces)| Move { from, to, pieces }).collect()
}

/// What the next piece is worth at every position of a place.
struct Gains {
    /// Below position 0: somebody waits for it.
    owed: f64,
    /// From position 0 on.
    next: Vec<f64>,
    /// Beyond them: nobody needs it.
    unneeded: f64,
}

impl Gains {
    fn new(place: &Place<'_>) -> Self {
        let least = if place.keeps_for_nothing { 0.0 } else { f64::NEG_INFINITY };
        let mut cdf = 0.0_f64;
        let next = place.cell.demand.pmf().iter().map(|p| {
            cdf = (cdf + p).min(1.0);
            place.cell.cost.gain_at(cdf).max(least)
        });
        Self {
            owed: place.cell.cost.gain_at(0.0).max(least),
            next: next.collect(),
            unneeded: place.cell.cost.gain_at(1.0).max(least),
        }
    }

    fn at(&self, position: i64) -> f64 {
        match usize::try_from(position) {
            Err(_) => self.owed,
            Ok(position) => self.next.get(position).copied().unwrap_or(self.unneeded),
        }
    }
}

/// Where pieces are, and where they came from. An origin is a place for the pieces that may leave it, and the place + the number of
/// places for those that are bound to it.
struct Flow {
    gains: Vec<Gains>,
    position: Vec<i64>,
    /// Pieces at each place by their origin.
    held: Vec<BTreeMap<usize, u32>>,
    /// Lanes from each origin with their cost, to its own place among them.
    lanes: Vec<BTreeMap<usize, f64>>,
}

/// A piece that goes from one place to another.
#[derive(Clone, Copy)]
struct Step {
    /// Where it is.
    at: usize,
    /// Its origin.
    origin: usize,
}

impl Flow {
    fn new(places: &[Place<'_>], all: &[Lane]) -> Self {
        let origins = 0..2 * places.len();
        let mut lanes: Vec<BTreeMap<usize, f64>> =
            origins.map(|origin| BTreeMap::from([(origin % places.len(), 0.0)])).collect();
        for lane in all.iter().filter(|lane| lane.from != lane.to && lane.from < places.len()) {
            let Some(to) = places.get(lane.to) else { continue };
            let cost = (lane.cost + to.cell.transport).max(0.0);
            let bound = lane.in_place.then_some(places.len() + lane.from);
            for origin in [lane.from].into_iter().chain(bound) {
                lanes[origin].entry(lane.to).and_modify(|least| *least = cost.min(*least)).or_insert(cost);
            }
        }
        let begun = |(place, of): (usize, &Place<'_>)| {
            let pieces = [(place, of.movable), (places.len() + place, of.bound)];
            pieces.into_iter().filter(|(_, pieces)| *pieces > 0).collect()
        };
        Self {
            gains: places.iter().map(Gains::new).collect(),
            position: places.iter().map(|place| place.cell.position).collect(),
            held: places.iter().enumerate().map(begun).collect(),
            lanes,
        }
    }

    /// Makes the change that saves most; whether there was one.
    fn improve(&mut self) -> bool {
        let (distance, step) = self.shortest();
        let saving = |place: usize| self.gains[place].at(self.position[place]) - distance[place];
        let best = (0..self.gains.len()).fold(None, |best: Option<usize>, place| match best {
            Some(other) if saving(place) <= saving(other) => best,
            _ => Some(place),
        });
        let Some(end) = best.filter(|&place| saving(place) > LEAST_SAVING) else { return false };
        let mut to = end;
        // A shortest path visits no place twice.
        while let Some(Step { at, origin }) = step[to] {
            self.carry(origin, at, to);
            to = at;
        }
        self.position[to] -= 1;
        self.position[end] += 1;
        true
    }

    /// One of the pieces of `origin` is at `to` instead of `at`.
    fn carry(&mut self, origin: usize, at: usize, to: usize) {
        if let Some(pieces) = self.held[at].get_mut(&origin) {
            *pieces -= 1;
            if *pieces == 0 {
                self.held[at].remove(&origin);
            }
            *self.held[to].entry(origin).or_default() += 1;
        }
    }

    /// Least cost at which some place gives up a piece and each place gets one, and the last step to it (Bellman-Ford: a
    /// piece that goes back where it began costs less than nothing).
    fn shortest(&self) -> (Vec<f64>, Vec<Option<Step>>) {
        let places = self.gains.len();
        let given_up = |place: usize| match self.held[place].is_empty() {
            true => f64::INFINITY,
            false => self.gains[place].at(self.position[place] - 1),
        };
        let mut distance: Vec<f64> = (0..places).map(given_up).collect();
        let mut step: Vec<Option<Step>> = vec![None; places];
        // No path is longer than there are places.
        for _ in 0..places {
            let mut changed = false;
            for at in 0..places {
                for &origin in self.held[at].keys() {
                    let so_far = distance[at] - self.lanes[origin].get(&at).copied().unwrap_or(0.0);
                    for (&to, &cost) in &self.lanes[origin] {
                        if to != at && so_far + cost < distance[to] - LEAST_SAVING {
                            distance[to] = so_far + cost;
                            step[to] = Some(Step { at, origin });
                            changed = true;
                        }
                    }
                }
            }
            if !changed {
                break;
            }
        }
        (distance, step)
    }
}

#[cfg(test)]
mod tests;
