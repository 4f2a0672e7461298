//! What plans expected beside what was used.

use std::collections::HashMap;

use harbinger_core::{DepotId, PartId, Timestamp, fleet::Consumption};

use super::{Expected, UseFact, share, share_of};

/// How well some expectations came true.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// Expectations: of one part at one depot over one plan's window.
    pub windows: u64,
    /// Pieces expected.
    pub expected: f64,
    /// Pieces used.
    pub used: f64,
    /// How many of the windows used no more than the 95 % quantile.
    pub within_p95: u64,
    absolute_error: f64,
}

impl Forecast {
    /// Pieces expected less pieces used, for each window: above zero the plans expect too much. `None` without windows.
    #[must_use]
    pub fn bias(&self) -> Option<f64> {
        share_of(self.expected - self.used, self.windows as f64)
    }

    /// Mean of the absolute difference, in pieces for each window; `None` without windows.
    #[must_use]
    pub fn mean_absolute_error(&self) -> Option<f64> {
        share_of(self.absolute_error, self.windows as f64)
    }

    /// Share of the windows that used no more than the 95 % quantile; `None` without windows.
    #[must_use]
    pub fn p95_coverage(&self) -> Option<f64> {
        share(self.within_p95, self.windows)
    }

    pub(super) fn add(&mut self, expected: &Expected, used: f64) {
        self.windows += 1;
        self.expected += expected.mean;
        self.used += used;
        self.absolute_error += (expected.mean - used).abs();
        self.within_p95 += u64::from(used <= f64::from(expected.p95));
    }
}

/// Expectations whose window has passed by `until`, each with the pieces that were used in it at that depot.
///
/// `expected` comes in order of time. Plans are made more often than their windows are long, so of each part and depot the
/// windows are taken one after another: one that begins before the last one ended is left out, and no piece counts twice. A
/// window holds its end and not its beginning. Use is that of replacements, whatever they were served from, and consumption,
/// since plans expect both.
pub(super) fn judged<'a>(
    expected: &'a [Expected],
    uses: &'a [UseFact],
    consumption: &'a [Consumption],
    until: Timestamp,
) -> Vec<(&'a Expected, f64)> {
    let mut used: HashMap<(&PartId, &DepotId), Vec<(Timestamp, f64)>> = HashMap::new();
    for row in uses {
        used.entry((&row.part, &row.depot)).or_default().push((row.ts, f64::from(row.quantity)));
    }
    for row in consumption {
        used.entry((&row.part, &row.depot)).or_default().push((row.ts, row.quantity));
    }
    used.values_mut().for_each(|rows| rows.sort_by_key(|(ts, _)| *ts));
    let mut taken_until: HashMap<(&PartId, &DepotId), Timestamp> = HashMap::new();
    let judge = |cell: &'a Expected| {
        let (key, ends) = ((&cell.part, &cell.depot), cell.ends());
        if ends > until || taken_until.get(&key).is_some_and(|&last| cell.as_of < last) {
            return None;
        }
        taken_until.insert(key, ends);
        let rows = used.get(&key).map_or(&[][..], Vec::as_slice);
        let from = rows.partition_point(|(ts, _)| *ts <= cell.as_of);
        let inside = rows.iter().skip(from).take_while(|(ts, _)| *ts <= ends);
        Some((cell, inside.map(|(_, pieces)| pieces).sum()))
    };
    expected.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::kpi::fixture::{cell, day, depot, part, used};

    /// Windows of 3 days at north on days 0, 1, 3, 5, 6 and 9, judged on day 10: those of 1 and 5 overlap, that of 9 has not passed.
    #[test]
    fn windows_follow_one_another_and_no_piece_counts_twice() {
        let mut expected: Vec<Expected> = [0, 1, 3, 5, 6, 9].iter().map(|&at| cell("north", at, 3.0, 0.5, 1)).collect();
        expected.insert(1, cell("south", 0, 2.0, 2.0, 3));
        let uses = [used(0, "north", 4, 0), used(2, "north", 1, 1), used(3, "north", 1, 1), used(8, "north", 1, 0)];
        let consumption = [Consumption { ts: day(9), part: part(), depot: depot("north"), quantity: 0.5 }];
        let found = judged(&expected, &uses, &consumption, day(10));
        let shown: Vec<(&str, i64, f64)> =
            found.iter().map(|(cell, used)| (cell.depot.as_str(), cell.as_of.millis() / 86_400_000, *used)).collect();
        assert_eq!(shown, [("north", 0, 2.0), ("south", 0, 0.0), ("north", 3, 0.0), ("north", 6, 1.5)]);
        let mut forecast = Forecast::default();
        found.iter().for_each(|(cell, used)| forecast.add(cell, *used));
        // Errors: -1.5, +2, +.5, -1.
        assert_eq!((forecast.windows, forecast.expected, forecast.used), (4, 3.5, 3.5));
        assert_eq!((forecast.bias(), forecast.mean_absolute_error()), (Some(0.0), Some(1.25)));
        assert_eq!(forecast.p95_coverage(), Some(0.5));
        assert_eq!(Forecast::default().bias(), None);
    }
}
