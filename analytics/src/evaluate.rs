//! How good predictions are: scores on devices and times the model did not learn from, beside the base rate.
//!
//! The measures and their definitions are those of `docs/reference/result-files.md`, so that anyone who has
//! `predictions.csv` and `failures.csv` can count again.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp, time::HOURS_PER_MONTH};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::failure::{Prediction, calibration::Scored};

pub mod capacity;
mod comparison;
pub mod pictures;
mod scoreboard;

use capacity::{AtCapacity, at_capacity};
pub use comparison::{Comparing, Comparison, Said, Side};
pub use scoreboard::{Standing, scoreboard};

/// The 95 % quantile of the normal distribution: nine of ten values lie within so many standard deviations.
pub(crate) const Z_95: f64 = 1.644_854;
/// Times that devices are drawn again to tell how far a share of them can be trusted (Efron 1979).
const RESAMPLES: usize = 1_000;

/// Between which times, and how far ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First row that counts.
    pub from: Timestamp,
    /// Until when the truth is known.
    pub to: Timestamp,
    /// The main horizon H.
    pub horizon: Duration,
    /// Where remaining life stops counting, for devices that are run until they fail; of others those whose life is known
    /// are the short-lived ones, and none is judged.
    pub rul_cap: Option<Duration>,
}

impl Span {
    /// For what a version answers in production: the failures from a horizon after its first row on until a horizon after its
    /// last, as far as they are known `until` then.
    pub(crate) fn of_version((first, last): (Timestamp, Timestamp), horizon: Duration, until: Timestamp) -> Self {
        Self { from: first, to: until.min(last + horizon), horizon, rul_cap: None }
    }
}

/// Failures of each component of each device, in order of time.
pub type Truth = BTreeMap<(DeviceId, ComponentId), Vec<Timestamp>>;

/// One bin of the reliability table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// Lowest probability of the bin.
    pub from: f64,
    /// Rows that those in it stand for.
    pub rows: f64,
    /// Mean predicted probability.
    pub mean_p: f64,
    /// Share of rows that a failure followed.
    pub frequency: f64,
}

/// Failures that were flagged at least so far ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flagged {
    /// Hours before the failure.
    pub hours_ahead: i64,
    /// Failures flagged at least that early, and at most a horizon early.
    pub flagged: usize,
}

/// Devices found at a share of false positives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Found {
    /// Share of healthy devices that may lie above the threshold.
    pub false_positive_rate: f64,
    /// Failing devices above it.
    pub found: usize,
    /// Failing devices.
    pub of: usize,
    /// 5 and 95 % quantile of the share that is found when devices are drawn again, healthy and failing apart.
    pub interval: (f64, f64),
}

/// How well remaining life was told, over the rows of devices that failed later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LifeTold {
    /// Rows.
    pub rows: usize,
    /// Root of the mean square of `rul_mean` less the truth in days, both at most the cap.
    pub rmse_days: f64,
    /// Share of the truths inside the 90 % interval.
    pub inside: f64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Rows that counted.
    pub rows: usize,
    /// Failures that counted.
    pub failures: usize,
    /// How early failures were flagged.
    pub flagged: Vec<Flagged>,
    /// Runs of alarm rows without a failure within the horizon after any of them.
    pub false_alarms: usize,
    /// Device time that was watched, in months of 730.5 hours.
    pub device_months: f64,
    /// False alarms a device-month.
    pub false_alarms_per_device_month: f64,
    /// Over rows: alarm against "fails within the horizon".
    pub precision: f64,
    /// Over rows.
    pub recall: f64,
    /// Over rows.
    pub f1: f64,
    /// Average precision of p.
    pub pr_auc: f64,
    /// Mean squared error of p.
    pub brier: f64,
    /// Share of rows that a failure follows: the baseline's probability, and its PR-AUC.
    pub base_rate: f64,
    /// Brier score of predicting each component's base rate.
    pub brier_base: f64,
    /// Among rows with p >= .1: rows, mean p, frequency.
    pub calibration_over_10_percent: Bin,
    /// Bins of p, a tenth wide; those without rows are left out.
    pub reliability: Vec<Bin>,
    /// What a crew finds that makes so many visits a day.
    pub at_capacity: Vec<AtCapacity>,
    /// Devices found at 1 % and .1 % false positives over their last 7 days.
    pub found: Vec<Found>,
    /// Remaining life; `None` where it is not judged, or no device failed after a row.
    pub remaining_life: Option<LifeTold>,
}

struct Judged<'a> {
    prediction: &'a Prediction,
    p: f64,
    fails: bool,
}

/// Measures predictions, which are in order of time.
#[must_use]
pub fn evaluate(predictions: &[Prediction], truth: &Truth, span: Span) -> Report {
    let slots = by_slot(predictions, span);
    let mut judged: Vec<Judged<'_>> = Vec::new();
    let mut false_runs = 0;
    for (slot, rows) in &slots {
        false_runs += false_alarms(truth, slot, rows, span.horizon).count();
        judged.extend(rows.iter().map(|row| Judged {
            prediction: row,
            p: row.probabilities.first().copied().unwrap_or(0.0),
            fails: is_failing(truth, slot, row.ts, span.horizon),
        }));
    }
    let counted = counted_failures(truth, span);
    let flagged = flagged_at(&slots, &counted, span.horizon);
    let device_months = device_months(&slots);
    let (precision, recall, f1) = row_scores(&judged);
    let (brier, brier_base, base_rate) = brier_scores(&judged);
    let scored: Vec<Scored> =
        judged.iter().map(|row| Scored { score: row.p, failed: row.fails, weight: 1.0 }).collect();
    Report {
        rows: judged.len(),
        failures: counted.len(),
        flagged,
        false_alarms: false_runs,
        device_months,
        false_alarms_per_device_month: if device_months > 0.0 { false_runs as f64 / device_months } else { 0.0 },
        precision,
        recall,
        f1,
        pr_auc: average_precision(&scored),
        brier,
        base_rate,
        brier_base,
        calibration_over_10_percent: bin(0.1, scored.iter().filter(|row| row.score >= 0.1)),
        reliability: reliability(&scored),
        at_capacity: at_capacity(&slots, truth, span.horizon),
        found: [0.01, 0.001].map(|q| devices_found(predictions, truth, q)).to_vec(),
        remaining_life: span.rul_cap.and_then(|cap| life_told(&slots, truth, cap)),
    }
}

/// The failures that could have been flagged a horizon before.
fn counted_failures(truth: &Truth, span: Span) -> Vec<(&(DeviceId, ComponentId), Timestamp)> {
    truth
        .iter()
        .flat_map(|(slot, failures)| failures.iter().map(move |&failure| (slot, failure)))
        .filter(|&(_, failure)| span.from + span.horizon <= failure && failure <= span.to)
        .collect()
}

/// Whether a slot fails within the horizon after `t`.
pub(crate) fn is_failing(truth: &Truth, slot: &(DeviceId, ComponentId), t: Timestamp, horizon: Duration) -> bool {
    truth.get(slot).is_some_and(|failures| failures.iter().any(|&failure| t < failure && failure <= t + horizon))
}

/// The first alarm at most a horizon before a failure.
fn earliest_alarm(
    slots: &Slots<'_>,
    slot: &(DeviceId, ComponentId),
    failure: Timestamp,
    horizon: Duration,
) -> Option<Timestamp> {
    let inside = |row: &&&Prediction| row.alarm && failure - horizon <= row.ts && row.ts <= failure;
    slots.get(slot)?.iter().find(inside).map(|row| row.ts)
}

type Slots<'a> = BTreeMap<(DeviceId, ComponentId), Vec<&'a Prediction>>;

/// The rows whose truth is known, by slot and in order of time.
fn by_slot(predictions: &[Prediction], span: Span) -> Slots<'_> {
    let mut slots: Slots<'_> = BTreeMap::new();
    for row in predictions.iter().filter(|row| span.from <= row.ts && row.ts + span.horizon <= span.to) {
        slots.entry((row.device.clone(), row.component.clone())).or_default().push(row);
    }
    slots
}

/// Remaining life against what came of it.
fn life_told(slots: &Slots<'_>, truth: &Truth, cap: Duration) -> Option<LifeTold> {
    let (mut rows, mut squares, mut inside) = (0, 0.0, 0);
    for (slot, predictions) in slots {
        let Some(failures) = truth.get(slot) else { continue };
        for row in predictions {
            let Some(&failure) = failures.iter().find(|&&failure| failure > row.ts) else { continue };
            let hours = failure.hours_since(row.ts).min(cap.hours());
            rows += 1;
            squares += ((row.rul.mean.min(cap.hours()) - hours) / 24.0).powi(2);
            inside += usize::from((row.rul.p05..=row.rul.p95).contains(&hours));
        }
    }
    (rows > 0).then(|| LifeTold {
        rows,
        rmse_days: (squares / rows as f64).sqrt(),
        inside: inside as f64 / rows as f64,
    })
}

/// The longest runs of alarm rows of a slot none of which a failure follows.
fn false_alarms<'r, 'p>(
    truth: &Truth,
    slot: &(DeviceId, ComponentId),
    rows: &'r [&'p Prediction],
    horizon: Duration,
) -> impl Iterator<Item = &'r [&'p Prediction]> {
    let is_false =
        move |run: &&[&Prediction]| run[0].alarm && !run.iter().any(|row| is_failing(truth, slot, row.ts, horizon));
    rows.chunk_by(|a, b| a.alarm == b.alarm).filter(is_false)
}

fn flagged_at(
    slots: &Slots<'_>,
    failures: &[(&(DeviceId, ComponentId), Timestamp)],
    horizon: Duration,
) -> Vec<Flagged> {
    let hours = horizon.millis() / 3_600_000;
    let mut steps: Vec<i64> = [0, hours / 4, hours / 2, hours].to_vec();
    steps.dedup();
    steps
        .into_iter()
        .map(|hours_ahead| {
            let early = |&&(slot, failure): &&(&(DeviceId, ComponentId), Timestamp)| {
                earliest_alarm(slots, slot, failure, horizon)
                    .is_some_and(|alarm| alarm <= failure - Duration::from_hours(hours_ahead))
            };
            Flagged { hours_ahead, flagged: failures.iter().filter(early).count() }
        })
        .collect()
}

/// From the first to the last row of each device.
fn device_months(slots: &Slots<'_>) -> f64 {
    let mut spans: BTreeMap<&DeviceId, (Timestamp, Timestamp)> = BTreeMap::new();
    for ((device, _), rows) in slots {
        for row in rows {
            let span = spans.entry(device).or_insert((row.ts, row.ts));
            *span = (span.0.min(row.ts), span.1.max(row.ts));
        }
    }
    spans.values().map(|(first, last)| last.hours_since(*first)).sum::<f64>() / HOURS_PER_MONTH
}

fn row_scores(rows: &[Judged<'_>]) -> (f64, f64, f64) {
    let count = |of: &dyn Fn(&Judged<'_>) -> bool| rows.iter().filter(|row| of(row)).count() as f64;
    let hits = count(&|row| row.prediction.alarm && row.fails);
    let alarms = count(&|row| row.prediction.alarm);
    let failing = count(&|row| row.fails);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    (share(hits, alarms), share(hits, failing), share(2.0 * hits, alarms + failing))
}

/// Brier score, that of each component's base rate, and the base rate over all.
fn brier_scores(rows: &[Judged<'_>]) -> (f64, f64, f64) {
    let mut of_component: BTreeMap<&ComponentId, (f64, f64)> = BTreeMap::new();
    let mut squares = 0.0;
    for row in rows {
        let fails = f64::from(u8::from(row.fails));
        squares += (row.p - fails) * (row.p - fails);
        let counts = of_component.entry(&row.prediction.component).or_default();
        *counts = (counts.0 + 1.0, counts.1 + fails);
    }
    let all = rows.len().max(1) as f64;
    let base: f64 = of_component.values().map(|(rows, fails)| fails * (1.0 - fails / rows)).sum();
    let failing: f64 = of_component.values().map(|(_, fails)| fails).sum();
    (squares / all, base / all, failing / all)
}

/// Average precision: the sum over distinct scores of precision times the recall gained (scikit-learn's definition), each row
/// as often as it stands for.
#[must_use]
pub fn average_precision(rows: &[Scored]) -> f64 {
    let mut sorted: Vec<&Scored> = rows.iter().collect();
    sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
    let failing: f64 = rows.iter().filter(|row| row.failed).map(|row| row.weight).sum();
    let (mut hits, mut seen, mut area) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.score == b.score) {
        let gained: f64 = tied.iter().filter(|row| row.failed).map(|row| row.weight).sum();
        hits += gained;
        seen += tied.iter().map(|row| row.weight).sum::<f64>();
        area += gained * hits / seen;
    }
    if failing > 0.0 { area / failing } else { 0.0 }
}

/// The reliability table of probabilities: bins a tenth wide; those without rows are left out.
#[must_use]
pub fn reliability(rows: &[Scored]) -> Vec<Bin> {
    let of = |n: usize| {
        let inside = move |row: &&Scored| ((row.score * 10.0) as usize).min(9) == n;
        bin(n as f64 / 10.0, rows.iter().filter(inside))
    };
    (0..10).map(of).filter(|bin| bin.rows > 0.0).collect()
}

fn bin<'a>(from: f64, rows: impl Iterator<Item = &'a Scored>) -> Bin {
    let (mut all, mut p, mut fails) = (0.0, 0.0, 0.0);
    for row in rows {
        all += row.weight;
        p += row.weight * row.score;
        fails += if row.failed { row.weight } else { 0.0 };
    }
    let mean = |sum: f64| if all > 0.0 { sum / all } else { 0.0 };
    Bin { from, rows: all, mean_p: mean(p), frequency: mean(fails) }
}

/// A healthy device counts once, by its largest p (ties by score) over its last 7 days; a failing device is found where a
/// row of its last 7 days lies above the threshold that leaves the share `q` of healthy devices above it. All rows count: that a
/// device has not failed until its last one is known.
fn devices_found(rows: &[Prediction], truth: &Truth, q: f64) -> Found {
    let failing: BTreeSet<&DeviceId> =
        truth.iter().filter(|(_, times)| !times.is_empty()).map(|((device, _), _)| device).collect();
    let mut last: BTreeMap<&DeviceId, Timestamp> = BTreeMap::new();
    for row in rows {
        let seen = last.entry(&row.device).or_insert(row.ts);
        *seen = (*seen).max(row.ts);
    }
    let mut best: BTreeMap<&DeviceId, (f64, f64)> = BTreeMap::new();
    for row in rows {
        let device = &row.device;
        if row.ts > last[device] - Duration::from_days(7) {
            let rank = (row.probabilities.first().copied().unwrap_or(0.0), row.score);
            let highest = best.entry(device).or_insert(rank);
            if rank > *highest {
                *highest = rank;
            }
        }
    }
    let (failing, mut healthy): (Vec<_>, Vec<_>) = best.into_iter().partition(|(device, _)| failing.contains(device));
    let failing: Vec<(f64, f64)> = failing.into_iter().map(|(_, rank)| rank).collect();
    healthy.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal));
    let healthy: Vec<(f64, f64)> = healthy.into_iter().map(|(_, rank)| rank).collect();
    let allowed = (q * healthy.len() as f64).floor() as usize;
    let above = |threshold: Option<&(f64, f64)>| {
        failing.iter().map(|rank| threshold.is_none_or(|threshold| rank > threshold)).collect::<Vec<bool>>()
    };
    let found = above(healthy.get(allowed)).iter().filter(|&&is| is).count();
    let mut shares: Vec<f64> = Vec::new();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..if failing.is_empty() { 0 } else { RESAMPLES } {
        // Healthy ranks are sorted: the place of the threshold among those drawn again is a place among all of them.
        let mut places: Vec<usize> = healthy.iter().map(|_| random.random_range(0..healthy.len())).collect();
        let threshold = (allowed < places.len()).then(|| *places.select_nth_unstable(allowed).1);
        let above = above(threshold.map(|place| &healthy[place]));
        let drawn = (0..failing.len()).filter(|_| above[random.random_range(0..failing.len())]).count();
        shares.push(drawn as f64 / failing.len() as f64);
    }
    shares.sort_by(f64::total_cmp);
    let quantile = |share: f64| shares.get((share * (RESAMPLES - 1) as f64).round() as usize).copied().unwrap_or(0.0);
    Found { false_positive_rate: q, found, of: failing.len(), interval: (quantile(0.05), quantile(0.95)) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::survival::RemainingLife;

    pub(super) fn hour(n: i64) -> Timestamp {
        Timestamp::from_millis(n * 3_600_000)
    }

    pub(super) fn row(t: i64, device: &str, p: f64, alarm: bool) -> Prediction {
        Prediction {
            ts: hour(t),
            device: device.parse().unwrap(),
            component: "fan".parse().unwrap(),
            probabilities: vec![p],
            score: p,
            alarm,
            rul: RemainingLife { mean: 0.0, p05: 0.0, p50: 0.0, p95: 0.0 },
            top_signals: Vec::new(),
            explanation: crate::failure::Explanation::default(),
            threshold: None,
            features: Vec::new(),
            kind: None,
            basis: None,
        }
    }

    pub(super) fn truth(failures: &[(&str, i64)]) -> Truth {
        let mut truth = Truth::new();
        for (device, t) in failures {
            truth.entry((device.parse().unwrap(), "fan".parse().unwrap())).or_default().push(hour(*t));
        }
        truth
    }

    pub(super) fn span(to: i64) -> Span {
        Span { from: hour(0), to: hour(to), horizon: Duration::from_hours(24), rul_cap: Some(Duration::from_hours(48)) }
    }

    fn scored(rows: &[(f64, bool)]) -> Vec<Scored> {
        rows.iter().map(|&(score, failed)| Scored { score, failed, weight: 1.0 }).collect()
    }

    /// By hand: `a` fails at 60 and alarms from 40; `b` alarms twice, one run long; rows after 76 are not known.
    #[test]
    fn counts_by_hand() {
        let mut rows = Vec::new();
        for t in (0..100).step_by(4) {
            rows.push(row(t, "a", if t >= 40 { 0.9 } else { 0.1 }, (40..60).contains(&t)));
            rows.push(row(t, "b", 0.2, t == 8 || t == 12 || t == 20 || t == 96));
        }
        let report = evaluate(&rows, &truth(&[("a", 60)]), span(100));
        assert_eq!((report.rows, report.failures, report.false_alarms), (40, 1, 2));
        let flagged: Vec<(i64, usize)> = report.flagged.iter().map(|f| (f.hours_ahead, f.flagged)).collect();
        assert_eq!(flagged, [(0, 1), (6, 1), (12, 1), (24, 0)]);
        // Rows 36..=56 fail within 24 h: six, of which five alarm; eight alarms in all.
        assert!((report.precision - 5.0 / 8.0).abs() < 1e-12);
        assert!((report.recall - 5.0 / 6.0).abs() < 1e-12);
        assert!((report.device_months - 2.0 * 76.0 / HOURS_PER_MONTH).abs() < 1e-12);
    }

    /// By hand: 30 h and 60 h before, capped at 48 h, against 40 h and 60 h with intervals of 5 h to each side.
    #[test]
    fn remaining_life_is_judged_up_to_its_cap() {
        let told = |t: i64, device: &str, mean: f64| {
            let rul = RemainingLife { mean, p05: mean - 5.0, p50: mean, p95: mean + 5.0 };
            Prediction { rul, ..row(t, device, 0.1, false) }
        };
        let rows = [told(0, "a", 60.0), told(30, "a", 40.0), told(30, "b", 7.0)];
        let life = evaluate(&rows, &truth(&[("a", 60)]), span(200)).remaining_life.unwrap();
        assert_eq!((life.rows, life.inside), (2, 0.0));
        assert!((life.rmse_days - (0.5f64 * (10.0f64 / 24.0).powi(2)).sqrt()).abs() < 1e-12, "{life:?}");
    }

    #[test]
    fn a_failure_before_the_first_horizon_does_not_count() {
        assert_eq!(evaluate(&[row(0, "a", 0.5, true)], &truth(&[("a", 10)]), span(100)).failures, 0);
    }

    /// scikit-learn: average_precision_score([1,0,1,0,0], [.9,.8,.7,.7,.1]) = 0.75.
    #[test]
    fn average_precision_handles_ties() {
        let rows = [(0.9, true), (0.8, false), (0.7, true), (0.7, false), (0.1, false)];
        assert!((average_precision(&scored(&rows)) - 0.75).abs() < 1e-12);
        assert_eq!(average_precision(&scored(&[(0.5, false)])), 0.0);
    }

    #[test]
    fn a_device_is_found_only_above_the_healthy_ones() {
        let mut rows: Vec<Prediction> =
            (0..200).map(|n| row(0, &format!("h{n}"), f64::from(n) / 400.0, false)).collect();
        rows.push(row(0, "sick", 0.4985, false));
        rows.push(row(0, "hidden", 0.1, false));
        let report = evaluate(&rows, &truth(&[("sick", 20), ("hidden", 20)]), span(100));
        let found = report.found[0];
        assert_eq!((found.false_positive_rate, found.found, found.of), (0.01, 1, 2));
        // Drawn again, both, one or none of the two is the one that is found.
        assert_eq!(found.interval, (0.0, 1.0));
    }

    /// scikit-learn's average precision on the shared scores.
    #[test]
    fn agrees_with_scikit_learn() {
        let Some(text) = crate::oracles::text("calibration_scores.csv") else { return };
        let rows: Vec<(f64, bool)> = text
            .lines()
            .skip(1)
            .map(|line| line.split_once(',').map(|(score, y)| (score.parse().unwrap(), y == "1")).unwrap())
            .collect();
        assert!((average_precision(&scored(&rows)) - 0.610_231_121_775_954_4).abs() < 1e-9);
    }
}
