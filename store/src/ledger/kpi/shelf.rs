//! What lay on shelves and what it was worth: at the end of a time, and in the mean over it.

use std::collections::HashMap;

use harbinger_core::{PartId, TimeRange, Timestamp, time::MILLIS_PER_DAY};

use super::{Moved, share_of};

/// Days of a year.
const YEAR_DAYS: f64 = 365.25;

/// Stock over a time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stock {
    /// Value of the pieces on shelves at the end of it, at today's cost of a piece.
    pub value: f64,
    /// Mean value over the time of which movements are known; `None` without such time.
    pub mean_value: Option<f64>,
    /// That time in days: movements tell of stock from the first of them on.
    pub days: f64,
    /// Cost of the pieces that replacements needed in that time, as of a year, over the mean value; `None` where that is not
    /// above zero.
    pub turns: Option<f64>,
}

impl Stock {
    /// Stock that `movements` made, which may hold any parts and depots in any order. All those before `until` count for the
    /// value; `covered` is the time for the mean, in which pieces were used that cost `used`.
    pub(super) fn of<'a>(
        movements: impl IntoIterator<Item = &'a Moved>,
        costs: &HashMap<&PartId, f64>,
        until: Timestamp,
        covered: TimeRange,
        used: f64,
    ) -> Self {
        let length = (covered.to.millis() - covered.from.millis()).max(0);
        let mut parts: HashMap<&PartId, (i64, i128)> = HashMap::new();
        for moved in movements.into_iter().filter(|moved| moved.ts < until) {
            let (pieces, piece_millis) = parts.entry(&moved.part).or_default();
            *pieces += moved.quantity;
            // It is there, or gone, from then to the end.
            let of_it = (covered.to.millis() - moved.ts.max(covered.from).millis()).clamp(0, length);
            *piece_millis += i128::from(moved.quantity) * i128::from(of_it);
        }
        // In order, so that the sums of fractions are the same each time.
        let mut parts: Vec<(&PartId, (i64, i128))> = parts.into_iter().collect();
        parts.sort_unstable_by_key(|(part, _)| *part);
        let cost = |part: &PartId| costs.get(part).copied().unwrap_or(0.0);
        let value = parts.iter().map(|(part, (pieces, _))| *pieces as f64 * cost(part)).sum();
        let value_millis: f64 = parts.iter().map(|(part, (_, piece_millis))| *piece_millis as f64 * cost(part)).sum();
        let days = length as f64 / MILLIS_PER_DAY as f64;
        let mean_value = share_of(value_millis, length as f64);
        let turns = mean_value.and_then(|mean| share_of(used * YEAR_DAYS / days, mean));
        Self { value, mean_value, days, turns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::kpi::fixture::{day, days, moved, part};

    /// By hand: 10 pieces of 9 from day 0 on, 4 leave on day 5 and come to another shelf on day 7, 2 are used on day 8.
    #[test]
    fn the_mean_is_weighted_by_time() {
        let part = part();
        let costs = HashMap::from([(&part, 9.0)]);
        let movements = [moved(0, "hub", 10), moved(5, "hub", -4), moved(7, "north", 4), moved(8, "north", -2)];
        let whole = Stock::of(&movements, &costs, day(10), days(0, 10), 18.0);
        // 5 days of 10, 2 of 6, 1 of 10, 2 of 8 are 88 piece-days.
        assert_eq!((whole.value, whole.mean_value, whole.days), (72.0, Some(79.2), 10.0));
        assert_eq!(whole.turns, Some(18.0 * 365.25 / 10.0 / 79.2));
        // Days 6 to 8: one of 6 and one of 10.
        let some = Stock::of(&movements, &costs, day(8), days(6, 8), 0.0);
        assert_eq!((some.value, some.mean_value, some.turns), (90.0, Some(72.0), Some(0.0)));
    }

    #[test]
    fn without_time_there_is_no_mean_and_without_stock_there_are_no_turns() {
        let part = part();
        let costs = HashMap::from([(&part, 9.0)]);
        let at_once = Stock::of(&[moved(3, "hub", 1)], &costs, day(4), days(3, 3), 9.0);
        assert_eq!(at_once, Stock { value: 9.0, mean_value: None, days: 0.0, turns: None });
        let nothing = Stock::of(&[], &costs, day(4), days(0, 4), 9.0);
        assert_eq!((nothing.value, nothing.mean_value, nothing.turns), (0.0, Some(0.0), None));
    }
}
