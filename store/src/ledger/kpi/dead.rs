//! Dead stock: pieces that no device in reach is likely to need.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use harbinger_core::{
    DepotId, Duration, PartId, TimeRange, Timestamp,
    fleet::{Consumption, Depot, Echelon, Lane, StockLevel},
};

use super::{Expected, UseFact};

/// How long a piece may wait for its device before it counts as dead, and how far back use is looked at.
pub(super) const YEAR: Duration = Duration::from_days(365);

/// Above this probability a piece is likely to be needed.
const LIKELY: f64 = 0.05;

/// Pieces that nobody is likely to need.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DeadStock {
    /// Pieces.
    pub pieces: u64,
    /// Their value, at today's cost of a piece.
    pub value: f64,
}

/// Dead pieces of each part on each shelf that has any.
///
/// The need of a shelf is taken to be Poisson with, as its mean over the next 365 days, the larger of two: the demand that the
/// newest plan expects of that part and depot (`latest`) if it went on like that, and what was used there in the last 365 days
/// before `now` (replacements, whatever they were served from, and consumption). A piece is dead where the need reaches it with a
/// probability under 5 %: with a need of 0.05 or less all are, with a need of 1 those after the third.
///
/// Devices in reach of a forward depot are those that it serves; in reach of a hub are also those of the depots that it has a
/// lane to, less what lies on their shelves for them already.
pub(super) fn dead<'a>(
    levels: &'a [StockLevel],
    latest: &'a [Expected],
    uses: &'a [UseFact],
    consumption: &'a [Consumption],
    network: (&'a [Depot], &'a [Lane]),
    now: Timestamp,
) -> Vec<(&'a StockLevel, u32)> {
    let need = yearly_need(latest, uses, consumption, now);
    let on_shelf: HashMap<(&PartId, &DepotId), u32> =
        levels.iter().map(|level| ((&level.part, &level.depot), level.on_hand)).collect();
    let reach = reach(network);
    let nowhere = BTreeSet::new();
    let dead = |level: &'a StockLevel| {
        let part = &level.part;
        let mean = |depot: &DepotId| need.get(&(part, depot)).copied().unwrap_or(0.0);
        let kept_for_theirs =
            |depot: &DepotId| on_shelf.get(&(part, depot)).copied().unwrap_or(0).min(likely_pieces(mean(depot)));
        let served = reach.get(&level.depot).unwrap_or(&nowhere);
        let of_all = mean(&level.depot) + served.iter().map(|depot| mean(depot)).sum::<f64>();
        let elsewhere = served.iter().map(|depot| kept_for_theirs(depot)).fold(0_u32, u32::saturating_add);
        let wanted = likely_pieces(of_all).saturating_sub(elsewhere);
        (level, level.on_hand.saturating_sub(wanted))
    };
    levels.iter().map(dead).filter(|(_, pieces)| *pieces > 0).collect()
}

/// Mean need of each part at each depot over a year.
fn yearly_need<'a>(
    latest: &'a [Expected],
    uses: &'a [UseFact],
    consumption: &'a [Consumption],
    now: Timestamp,
) -> HashMap<(&'a PartId, &'a DepotId), f64> {
    let last_year = TimeRange { from: now - YEAR, to: Timestamp::MAX };
    let mut need: HashMap<(&PartId, &DepotId), f64> = HashMap::new();
    for used in uses.iter().filter(|used| last_year.contains(used.ts)) {
        *need.entry((&used.part, &used.depot)).or_default() += f64::from(used.quantity);
    }
    for row in consumption.iter().filter(|row| last_year.contains(row.ts)) {
        *need.entry((&row.part, &row.depot)).or_default() += row.quantity;
    }
    for cell in latest {
        let expected = cell.mean / cell.window_days * YEAR.days();
        let known = need.entry((&cell.part, &cell.depot)).or_default();
        *known = known.max(expected);
    }
    need
}

/// The other depots whose devices a hub's pieces may go to.
fn reach<'a>((depots, lanes): (&'a [Depot], &'a [Lane])) -> BTreeMap<&'a DepotId, BTreeSet<&'a DepotId>> {
    let hubs: BTreeSet<&DepotId> =
        depots.iter().filter(|depot| depot.echelon == Echelon::Hub).map(|depot| &depot.depot).collect();
    let mut reach: BTreeMap<&DepotId, BTreeSet<&DepotId>> = BTreeMap::new();
    for lane in lanes.iter().filter(|lane| hubs.contains(&lane.from) && lane.from != lane.to) {
        reach.entry(&lane.from).or_default().insert(&lane.to);
    }
    reach
}

/// How many pieces are likely to be needed: the most k with P(X >= k) >= 5 % for X ~ Poisson(`mean`).
fn likely_pieces(mean: f64) -> u32 {
    if mean > 500.0 {
        // Beyond this e^-mean nears the smallest number there is, and the normal law is within a piece. `as` saturates.
        return (mean + 1.645 * mean.sqrt()).round() as u32;
    }
    let (mut pieces, mut term) = (0_u32, (-mean.max(0.0)).exp());
    let mut beyond = 1.0 - term;
    while beyond >= LIKELY {
        pieces += 1;
        term *= mean / f64::from(pieces);
        beyond -= term;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use harbinger_core::fleet::Lane;

    use super::*;
    use crate::ledger::kpi::fixture::{cell, day, depot, level, part, used};

    fn lane(from: &str, to: &str) -> Lane {
        Lane {
            from: depot(from),
            to: depot(to),
            days: 1.0,
            days_p95: None,
            cost_per_piece: None,
            fixed_cost: None,
            capacity: None,
        }
    }

    fn place(name: &str, echelon: Echelon) -> Depot {
        Depot {
            depot: depot(name),
            echelon,
            region: None,
            latitude: None,
            longitude: None,
            timezone: None,
            capacity: None,
        }
    }

    /// By tables of the Poisson law: P(X >= 3) = .0803 and P(X >= 4) = .0190 at mean 1; P(X >= 9) = .0681 and P(X >= 10) = .0318
    /// at mean 5; P(X >= 1) is .05 at mean -ln .95 = .0513.
    #[test]
    fn likely_pieces_are_those_that_the_poisson_law_reaches() {
        let found = [0.0, 0.051, 0.052, 1.0, 5.0].map(likely_pieces);
        assert_eq!(found, [0, 0, 1, 3, 9]);
        assert_eq!((likely_pieces(499.0), likely_pieces(501.0)), (536, 538));
    }

    /// North is expected to need 1 a year and holds 5, of which 2 are dead; south used 5 and holds 4; the hub reaches both: a need of
    /// 6 makes 10 pieces likely, of which 3 and 4 lie there already, so that 3 of its 7 are wanted. East has no need at all.
    #[test]
    fn a_hub_keeps_what_the_depots_in_reach_have_not_got() {
        let levels = [level("hub", 7), level("north", 5), level("south", 4), level("east", 1)];
        let latest = [cell("north", 990, 10.0, 10.0 / 365.0, 1), cell("south", 990, 10.0, 0.01, 1)];
        let uses = [used(300, "north", 9, 0), used(700, "south", 5, 0)];
        let depots = ["hub", "north", "south", "east"]
            .map(|name| place(name, if name == "hub" { Echelon::Hub } else { Echelon::Forward }));
        let lanes = [lane("hub", "north"), lane("hub", "south"), lane("north", "hub")];
        let found = dead(&levels, &latest, &uses, &[], (&depots, &lanes), day(1_000));
        let found: Vec<(&str, u32)> = found.iter().map(|(level, pieces)| (level.depot.as_str(), *pieces)).collect();
        assert_eq!(found, [("hub", 4), ("north", 2), ("east", 1)]);
    }

    #[test]
    fn consumption_keeps_pieces_alive_as_replacements_do() {
        let levels = [level("north", 3)];
        let row = |at| Consumption { ts: day(at), part: part(), depot: depot("north"), quantity: 1.0 };
        let (recent, old) = ([row(900)], [row(600)]);
        assert!(dead(&levels, &[], &[], &recent, (&[], &[]), day(1_000)).is_empty());
        assert_eq!(dead(&levels, &[], &[], &old, (&[], &[]), day(1_000)), [(&levels[0], 3)]);
    }
}
