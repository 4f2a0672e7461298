//! Champion and challenger on the same rows: which of the two told the failures better, and how sure that is.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Truth, Z_95};

/// What two models said of one slot at one time, main horizon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// P(failure within the horizon).
    pub probability: f64,
    /// Whether the model alarmed.
    pub alarm: bool,
}

/// How one of the two did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Mean squared distance of the probability from what came (Brier 1950).
    pub brier: f64,
    /// Rows that alarmed.
    pub alarms: usize,
    /// Those of them that a failure followed.
    pub hits: usize,
}

/// Two models beside each other, on rows that neither had seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows whose truth is known.
    pub rows: usize,
    /// Failures that follow some of them.
    pub failures: usize,
    /// The model in use.
    pub champion: Side,
    /// The one in shadow.
    pub challenger: Side,
    /// Brier score of the challenger less that of the champion: below 0 where the challenger is the better.
    pub difference: f64,
    /// Where the difference lies with 90 % confidence, devices being independent and rows of one device not (Liang and
    /// Zeger 1986).
    pub interval: (f64, f64),
}

impl Comparison {
    /// Whether the challenger told no worse what came. It knows more than the champion did, so that this is enough.
    #[must_use]
    pub fn favours_challenger(&self) -> bool {
        self.rows > 0 && self.difference <= 0.0
    }
}

/// Sums of a comparison, row by row.
#[derive(Debug, Default)]
pub struct Comparing<'t> {
    /// Rows and sum of differences of each device.
    devices: BTreeMap<DeviceId, (f64, f64)>,
    failures: BTreeSet<(&'t DeviceId, &'t ComponentId, Timestamp)>,
    rows: usize,
    champion: Side,
    challenger: Side,
}

impl<'t> Comparing<'t> {
    /// Adds a row.
    ///
    /// * `truth`: failures of each component of each device, in order of time, known until `ts + horizon`.
    pub fn add(
        &mut self,
        (device, component, ts): (DeviceId, ComponentId, Timestamp),
        (champion, challenger): (Said, Said),
        truth: &'t Truth,
        horizon: Duration,
    ) {
        let slot = (device, component);
        let followed = truth.get_key_value(&slot).and_then(|(slot, failures)| {
            let next = failures.get(failures.partition_point(|&failed| failed <= ts))?;
            (*next <= ts + horizon).then_some((&slot.0, &slot.1, *next))
        });
        self.failures.extend(followed);
        let failed = followed.is_some();
        let (one, other) = (add(&mut self.champion, champion, failed), add(&mut self.challenger, challenger, failed));
        let (rows, sum) = self.devices.entry(slot.0).or_default();
        *rows += 1.0;
        *sum += other - one;
        self.rows += 1;
    }

    /// What the rows say together.
    #[must_use]
    pub fn finish(self) -> Comparison {
        let rows = (self.rows as f64).max(1.0);
        let mean = |side: Side| Side { brier: side.brier / rows, ..side };
        let difference = self.devices.values().map(|(_, sum)| sum).sum::<f64>() / rows;
        let squares: f64 = self.devices.values().map(|(of_device, sum)| (sum - of_device * difference).powi(2)).sum();
        let devices = self.devices.len() as f64;
        // One device alone says nothing of the others.
        let error = if devices > 1.0 { (squares * devices / (devices - 1.0)).sqrt() / rows } else { 1.0 };
        Comparison {
            rows: self.rows,
            failures: self.failures.len(),
            champion: mean(self.champion),
            challenger: mean(self.challenger),
            difference,
            interval: (difference - Z_95 * error, difference + Z_95 * error),
        }
    }
}

/// Adds a row to a side; its squared distance.
fn add(side: &mut Side, said: Said, failed: bool) -> f64 {
    let squared = (said.probability - f64::from(u8::from(failed))).powi(2);
    side.brier += squared;
    side.alarms += usize::from(said.alarm);
    side.hits += usize::from(said.alarm && failed);
    squared
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::tests::{hour, truth};

    const DAY: Duration = Duration::from_hours(24);

    fn said(probability: f64) -> Said {
        Said { probability, alarm: probability > 0.5 }
    }

    fn compare(rows: &[(i64, &str, f64, f64)], truth: &Truth) -> Comparison {
        let mut comparing = Comparing::default();
        for &(at, device, champion, challenger) in rows {
            let key = (device.parse().unwrap(), "fan".parse().unwrap(), hour(at));
            comparing.add(key, (said(champion), said(challenger)), truth, DAY);
        }
        comparing.finish()
    }

    /// By hand: device a fails at hour 30, rows at 10 and 20 come before it, b is healthy. Squares: champion .25 + .25 + .01,
    /// challenger .04 + .01 + .04.
    #[test]
    fn a_comparison_is_what_a_person_would_count() {
        let truth = truth(&[("a", 30)]);
        let rows = [(10, "a", 0.5, 0.8), (20, "a", 0.5, 0.9), (20, "b", 0.1, 0.2)];
        let found = compare(&rows, &truth);
        assert_eq!((found.rows, found.failures), (3, 1));
        assert!((found.champion.brier - 0.17).abs() < 1e-12 && (found.challenger.brier - 0.03).abs() < 1e-12);
        assert!((found.difference + 0.14).abs() < 1e-12);
        assert_eq!((found.champion.alarms, found.challenger.alarms, found.challenger.hits), (0, 2, 2));
        assert!(found.favours_challenger());
        // Devices' sums -.45 - 2 (-.14) = -.17 and .03 + .14 = .17; two of them: sqrt(2 (.17^2 + .17^2)) / 3.
        let error = 2.0 * 0.17 / 3.0;
        assert!((found.interval.1 - (-0.14 + Z_95 * error)).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_failure_at_the_instant_of_a_row_or_after_its_horizon_does_not_follow_it() {
        let truth = truth(&[("a", 10), ("a", 40)]);
        assert_eq!(compare(&[(10, "a", 0.1, 0.1)], &truth).failures, 0);
        assert_eq!(compare(&[(16, "a", 0.1, 0.1)], &truth).failures, 1);
        assert_eq!(compare(&[(15, "a", 0.1, 0.1)], &truth).failures, 0);
    }

    #[test]
    fn the_worse_challenger_and_the_one_of_which_nothing_is_known_do_not_take_over() {
        assert!(compare(&[(10, "a", 0.5, 0.5)], &truth(&[])).favours_challenger());
        assert!(!compare(&[(10, "a", 0.1, 0.5)], &truth(&[])).favours_challenger());
        assert!(!compare(&[], &truth(&[])).favours_challenger());
    }

    proptest! {
        /// Exchanging the two turns the difference round, and the order of rows does not matter.
        #[test]
        fn the_difference_is_antisymmetric(
            rows in prop::collection::vec((0_i64..100, 0_u8..6, 0.0_f64..1.0, 0.0_f64..1.0), 1..60),
        ) {
            let truth = truth(&[("d1", 30), ("d2", 77)]);
            let names: Vec<String> = (0..6).map(|n| format!("d{n}")).collect();
            let one: Vec<_> = rows.iter().map(|&(t, d, p, q)| (t, names[usize::from(d)].as_str(), p, q)).collect();
            let other: Vec<_> = one.iter().rev().map(|&(t, d, p, q)| (t, d, q, p)).collect();
            let (one, other) = (compare(&one, &truth), compare(&other, &truth));
            prop_assert!((one.difference + other.difference).abs() < 1e-12);
            prop_assert!((one.interval.0 + other.interval.1).abs() < 1e-9);
            prop_assert!((one.champion.brier - other.challenger.brier).abs() < 1e-12);
            prop_assert!((one.difference - (one.challenger.brier - one.champion.brier)).abs() < 1e-12);
        }
    }
}
