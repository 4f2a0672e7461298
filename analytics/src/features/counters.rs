//! Counters: signals that only grow, such as corrected errors, reallocated sectors or starts, until they begin anew at a reset.
//!
//! What a counter stands at says how long it has counted; what it grew by says how the device is now. A fall is a reset, and
//! what stands after it was counted since (as rates of counters are taken in Prometheus).

use std::collections::BTreeSet;

use harbinger_core::{SignalId, Summary, Timestamp, history::Readings};

/// Resets among a hundred changes of a counter: a signal that falls more often is none.
const MOST_RESETS: f64 = 0.01;
/// Changes that a signal must have shown before it is taken for a counter.
const FEWEST_CHANGES: usize = 20;

/// The signals that are counters, as far as the readings of a family's devices show.
pub(crate) fn find(devices: &[&Readings]) -> BTreeSet<SignalId> {
    let signals: BTreeSet<&SignalId> =
        devices.iter().flat_map(|readings| readings.columns.iter().map(|(signal, _)| signal)).collect();
    let is_counter = |signal: &&SignalId| {
        let (mut changes, mut falls) = (0_usize, 0_usize);
        for column in devices.iter().filter_map(|readings| readings.column(signal)) {
            let mut before: Option<f64> = None;
            for &value in column.iter().filter(|value| !value.is_nan()) {
                if value < 0.0 {
                    return false;
                }
                changes += usize::from(before.is_some_and(|before| before != value));
                falls += usize::from(before.is_some_and(|before| value < before));
                before = Some(value);
            }
        }
        changes >= FEWEST_CHANGES && falls as f64 <= MOST_RESETS * changes as f64
    };
    signals.into_iter().filter(is_counter).cloned().collect()
}

/// What a counter grew by over buckets that follow each other, and the end of the last bucket in which it grew.
pub(super) fn growth<'s>(buckets: impl Iterator<Item = (Timestamp, &'s Summary)>) -> Option<(f64, Option<Timestamp>)> {
    let grown = |from: f64, to: f64| if to < from { to } else { to - from };
    let (mut sum, mut last, mut grew) = (0.0, None, None);
    for (end, bucket) in buckets.filter(|(_, bucket)| !bucket.is_empty()) {
        let inside = grown(bucket.first, bucket.last);
        let more = last.map_or(0.0, |last| grown(last, bucket.first)) + inside;
        if more > 0.0 {
            grew = Some(end);
        }
        sum += more;
        last = Some(bucket.last);
    }
    last.map(|_| (sum, grew))
}

#[cfg(test)]
mod tests {
    use harbinger_core::Duration;
    use proptest::prelude::*;

    use super::*;

    fn hour(n: usize) -> Timestamp {
        Timestamp::from_millis(0) + Duration::from_hours(i64::try_from(n).unwrap())
    }

    fn readings(values: &[f64]) -> Readings {
        let mut readings = Readings::default();
        for (n, &value) in values.iter().enumerate() {
            readings.push(hour(n), &[("errors".parse().unwrap(), value)]);
        }
        readings
    }

    fn grown(values: &[f64]) -> Option<(f64, Option<Timestamp>)> {
        let buckets: Vec<(Timestamp, Summary)> = values
            .chunks(3)
            .enumerate()
            .map(|(n, some)| {
                let times: Vec<Timestamp> = (0..some.len()).map(|k| hour(3 * n + k)).collect();
                (hour(3 * n + 2), Summary::of_samples(&times, some))
            })
            .collect();
        growth(buckets.iter().map(|(end, summary)| (*end, summary)))
    }

    #[test]
    fn what_only_grows_is_a_counter_and_what_also_falls_is_none() {
        let steady: Vec<f64> = (0..200).map(f64::from).collect();
        let mut restarted = steady.clone();
        restarted[100..].iter_mut().for_each(|value| *value -= 100.0);
        let wave: Vec<f64> = (0..200).map(|n| 50.0 + f64::from(n % 7)).collect();
        let still = vec![3.0; 200];
        let below: Vec<f64> = steady.iter().map(|value| value - 5.0).collect();
        for (values, expected) in
            [(&steady, true), (&restarted, true), (&wave, false), (&still, false), (&below, false)]
        {
            assert_eq!(!find(&[&readings(values)]).is_empty(), expected, "{values:?}");
        }
        assert!(find(&[&readings(&steady), &readings(&wave)]).is_empty(), "one device is enough to see it fall");
    }

    /// 5 to 9 are four, the reset to 1 one more, 1 to 4 three.
    #[test]
    fn growth_goes_on_over_a_reset_and_ends_where_it_grew_last() {
        let values = [5.0, 5.0, 7.0, 9.0, 1.0, 4.0, 4.0, 4.0, 4.0];
        assert_eq!(grown(&[5.0, 5.0, 7.0, 9.0, 9.0, 9.0, 1.0, 4.0, 4.0]), Some((8.0, Some(hour(8)))));
        assert_eq!(grown(&values[..3]), Some((2.0, Some(hour(2)))));
        assert_eq!(grown(&[4.0; 9]), Some((0.0, None)));
        assert_eq!(grown(&[]), None);
    }

    proptest! {
        /// Without a reset it is the last value less the first, however it is cut into buckets.
        #[test]
        fn growth_without_reset_is_the_difference(steps in prop::collection::vec(0_u32..5, 1..60)) {
            let values: Vec<f64> = steps.iter().scan(7.0, |sum, &step| { *sum += f64::from(step); Some(*sum) }).collect();
            let (sum, _) = grown(&values).unwrap();
            prop_assert_eq!(sum, values[values.len() - 1] - values[0]);
        }
    }
}
