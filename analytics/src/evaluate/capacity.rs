//! What a crew finds that can make so many visits a day, always to the devices most likely to fail.

use std::collections::{BTreeMap, HashMap, HashSet};

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp};
use serde::Serialize;

use super::{Slots, Truth, is_failing};
use crate::failure::Prediction;

/// Visits a day that crews of different sizes can make.
const VISITS: [usize; 5] = [1, 2, 5, 10, 20];

/// What so many visits a day find.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtCapacity {
    /// Most visits a day.
    pub visits_per_day: usize,
    /// Visits made.
    pub visits: usize,
    /// Share of the visits to a component that failed within the horizon after its row (precision at k).
    pub precision: f64,
    /// Failures of judged rows' slots that had a visit within the horizon before them.
    pub found: usize,
}

/// The last row of each slot on each day, the likeliest to fail first.
type Days<'a> = BTreeMap<Timestamp, Vec<(&'a (DeviceId, ComponentId), &'a Prediction)>>;

/// Visits of each day go to the slots whose last row of the day has the highest probability (ties: score, then device and
/// component); nobody goes to the same slot twice within a horizon.
pub(super) fn at_capacity(slots: &Slots<'_>, truth: &Truth, horizon: Duration) -> Vec<AtCapacity> {
    let mut days: Days<'_> = BTreeMap::new();
    for (slot, rows) in slots {
        for of_day in rows.chunk_by(|a, b| day(a.ts) == day(b.ts)) {
            let Some(last) = of_day.last() else { continue };
            days.entry(day(last.ts)).or_default().push((slot, last));
        }
    }
    let main = |row: &Prediction| row.probabilities.first().copied().unwrap_or(0.0);
    for rows in days.values_mut() {
        // Stable: slots are in order.
        rows.sort_by(|(_, a), (_, b)| main(b).total_cmp(&main(a)).then(b.score.total_cmp(&a.score)));
    }
    VISITS.map(|visits_per_day| with_visits(&days, truth, horizon, visits_per_day)).to_vec()
}

fn with_visits(days: &Days<'_>, truth: &Truth, horizon: Duration, visits_per_day: usize) -> AtCapacity {
    let mut visited: HashMap<&(DeviceId, ComponentId), Timestamp> = HashMap::new();
    let mut found: HashSet<(&(DeviceId, ComponentId), Timestamp)> = HashSet::new();
    let (mut visits, mut hits) = (0_usize, 0_usize);
    for rows in days.values() {
        let mut today = 0;
        for (slot, row) in rows {
            if today == visits_per_day {
                break;
            }
            if visited.get(slot).is_some_and(|&before| row.ts < before + horizon) {
                continue;
            }
            visited.insert(slot, row.ts);
            today += 1;
            visits += 1;
            hits += usize::from(is_failing(truth, slot, row.ts, horizon));
            let failures = truth.get(*slot).into_iter().flatten();
            found.extend(failures.filter(|&&f| row.ts < f && f <= row.ts + horizon).map(|&f| (*slot, f)));
        }
    }
    let precision = if visits > 0 { hits as f64 / visits as f64 } else { 0.0 };
    AtCapacity { visits_per_day, visits, precision, found: found.len() }
}

fn day(t: Timestamp) -> Timestamp {
    t.floor_to(Duration::from_days(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{by_slot, tests::*};

    #[test]
    fn visits_go_to_the_likeliest_and_not_twice_within_a_horizon() {
        // Day 0: a .9, b .5; day 1: a .9 (visited less than a horizon ago), b .4, c .6. `a` fails at hour 30, `c` at 50.
        let rows = [
            row(20, "a", 0.9, true),
            row(20, "b", 0.5, false),
            row(40, "a", 0.9, true),
            row(40, "b", 0.4, false),
            row(40, "c", 0.6, true),
        ];
        let (truth, span) = (truth(&[("a", 30), ("c", 50)]), span(200));
        let capacity = at_capacity(&by_slot(&rows, span), &truth, span.horizon);
        assert_eq!(capacity[0], AtCapacity { visits_per_day: 1, visits: 2, precision: 1.0, found: 2 });
        // Two a day: `b` is visited on the first day, and a horizon has not passed on the second.
        assert_eq!(capacity[1], AtCapacity { visits_per_day: 2, visits: 3, precision: 2.0 / 3.0, found: 2 });
    }

    #[test]
    fn the_last_row_of_a_day_counts() {
        let rows = [row(1, "a", 0.9, true), row(1, "b", 0.1, false), row(9, "a", 0.1, false), row(9, "b", 0.9, true)];
        let (truth, span) = (truth(&[("b", 20)]), span(200));
        assert_eq!(at_capacity(&by_slot(&rows, span), &truth, span.horizon)[0].precision, 1.0);
    }
}
