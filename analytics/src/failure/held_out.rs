//! What scores of devices that rankers had not seen say: what a score means, from where on to alarm, how good it is.

use std::collections::BTreeMap;

use harbinger_core::{Duration, Timestamp, time::HOURS_PER_MONTH};
use rayon::prelude::*;

use super::{
    AlarmRule,
    calibration::{Calibration, Scored, isotonic, platt},
    model::{Quality, Ranker},
    rows::Row,
};
use crate::evaluate::reliability;

/// From this many failures on isotonic regression has enough to stand on (DESIGN section 6).
const MIN_FAILURES_FOR_ISOTONIC: usize = 20;
/// Thresholds whose F1 is at least this share of the best one's part alarms from the rest equally well.
const PLATEAU: f64 = 0.99;
/// Thresholds tried against a budget of false alarms.
const BUDGET_STEPS: usize = 200;

/// How a component's rankers scored the devices that they had not seen.
pub(super) struct HeldOut {
    /// Failures of the component.
    pub failures: usize,
    /// Rows that were learnt from.
    pub rows: usize,
    /// One a horizon: a score for each row whose label that horizon knows.
    pub scores: Vec<Vec<Scored>>,
    /// Where each score of the main horizon stands.
    pub places: Vec<Place>,
}

/// Where a held-out row stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub subject: usize,
    pub t: Timestamp,
    /// The failure that follows within the main horizon, where one does.
    pub failure: Option<Timestamp>,
}

/// What a threshold is chosen by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub rule: AlarmRule,
    /// Time that a row stands for.
    pub every: Duration,
    /// Devices of the whole fleet.
    pub devices: usize,
    /// The way of a part to the device's depot: see [`Quality::lead_hours`].
    pub lead: Duration,
    /// Whether only alarms that leave parts this time count as hits.
    pub in_time: bool,
}

impl HeldOut {
    /// Device time that the scores stand for, in days.
    fn device_days(&self, every: Duration) -> f64 {
        self.scores[0].iter().map(|row| row.weight).sum::<f64>() * every.days()
    }
}

/// Place and score of each row whose label the horizon knows, by the ranker that did not see the row's fold.
///
/// * `grown`: one a fold; the rows of a fold without one are left out.
/// * `folds`: of each subject.
pub(super) fn score_held_out(
    rows: &[Row],
    horizon: usize,
    grown: &[Option<Ranker>],
    folds: &BTreeMap<usize, usize>,
) -> Vec<(usize, Scored)> {
    let of_fold = |(fold, ranker): (usize, &Option<Ranker>)| -> Vec<(usize, f64)> {
        let Some(ranker) = ranker else { return Vec::new() };
        let inside = |row: &Row| folds[&row.subject] == fold && row.labels[horizon].is_some();
        let places: Vec<usize> = (0..rows.len()).filter(|&place| inside(&rows[place])).collect();
        let features: Vec<&[f64]> = places.iter().map(|&place| rows[place].features.as_slice()).collect();
        places.into_iter().zip(ranker.scores(&features)).collect()
    };
    let mut scores: Vec<(usize, f64)> = grown.par_iter().enumerate().flat_map_iter(of_fold).collect();
    scores.sort_by_key(|(place, _)| *place);
    let scored = |(place, score): (usize, f64)| {
        let row = &rows[place];
        Some((place, Scored { score, failed: row.labels[horizon]?, weight: row.weight }))
    };
    scores.into_iter().filter_map(scored).collect()
}

/// A calibration for each component and horizon: its own where it has failures enough, else one pooled over components.
pub(super) fn calibrate(held_out: &[&HeldOut], horizons: usize) -> Vec<Vec<Calibration>> {
    let all: usize = held_out.iter().map(|component| component.failures).sum();
    let pooled: Vec<Calibration> = (0..horizons)
        .map(|h| {
            let rows: Vec<Scored> = held_out.iter().flat_map(|component| component.scores[h].iter().copied()).collect();
            fit(&rows, all)
        })
        .collect();
    held_out
        .iter()
        .map(|component| {
            (0..horizons)
                .map(|h| {
                    if component.failures >= MIN_FAILURES_FOR_ISOTONIC {
                        fit(&component.scores[h], component.failures)
                    } else {
                        pooled[h].clone()
                    }
                })
                .collect()
        })
        .collect()
}

/// No probability beyond what so many failures support (Laplace's rule of succession): rows of one failure are no
/// independent witnesses, and a sigmoid through separable rows would otherwise say 0 and 1.
pub(super) fn fit(rows: &[Scored], failures: usize) -> Calibration {
    let certainty = (failures as f64 + 1.0) / (failures as f64 + 2.0);
    let sigmoid = || platt(rows, certainty).map(|sigmoid| sigmoid.capped(certainty));
    let steps = || isotonic(&with_doubt(rows, failures)).map(|steps| steps.capped(certainty));
    let fitted =
        if failures >= MIN_FAILURES_FOR_ISOTONIC { steps().or_else(sigmoid) } else { sigmoid().or_else(steps) };
    fitted.unwrap_or(Calibration::Isotonic { scores: vec![0.0], probabilities: vec![0.0] })
}

/// The rows, and as many as one failure has on average that did not fail at the highest score: what ranks highest is the few
/// rows of a few devices, and steps through them alone would say that such rows always fail.
fn with_doubt(rows: &[Scored], failures: usize) -> Vec<Scored> {
    let failing: f64 = rows.iter().filter(|row| row.failed).map(|row| row.weight).sum();
    let highest = rows.iter().map(|row| row.score).fold(0.0, f64::max);
    let doubt = Scored { score: highest, failed: false, weight: failing / failures.max(1) as f64 };
    rows.iter().copied().chain((doubt.weight > 0.0).then_some(doubt)).collect()
}

/// A row of probability, with where and when it was.
struct Judged {
    /// Which component.
    component: usize,
    place: Place,
    scored: Scored,
}

impl Judged {
    fn slot(&self) -> (usize, usize) {
        (self.component, self.place.subject)
    }

    /// Whether an alarm here comes too late for the part.
    fn is_late(&self, lead: Duration) -> bool {
        self.place.failure.is_some_and(|failure| failure <= self.place.t + lead)
    }
}

/// The main-horizon probability from which on to alarm, by the rule, pooled over components; midway between the lowest
/// probability that alarms and the highest that does not. With it how good held-out rows say the model is there.
pub(super) fn choose_threshold(
    held_out: &[&HeldOut],
    calibrations: &[Vec<Calibration>],
    choice: Choice,
) -> (Option<f64>, Quality) {
    let mut rows: Vec<Judged> = Vec::new();
    for (component, (of_component, calibrations)) in held_out.iter().zip(calibrations).enumerate() {
        let judged = |(row, &place): (&Scored, &Place)| Judged {
            component,
            place,
            scored: Scored { score: calibrations[0].probability(row.score), ..*row },
        };
        rows.extend(of_component.scores[0].iter().zip(&of_component.places).map(judged));
    }
    let ranked_of = |chosen: &dyn Fn(&Judged) -> bool| {
        let mut ranked: Vec<Scored> = rows.iter().filter(|row| chosen(row)).map(|row| row.scored).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        let failing: f64 = ranked.iter().filter(|row| row.failed).map(|row| row.weight).sum();
        (ranked, failing)
    };
    let (ranked, failing) = ranked_of(&|_| true);
    if ranked.is_empty() || failing == 0.0 {
        return (None, Quality::default());
    }
    // An alarm that comes too late is neither a hit nor false. Where all would, the rest is still worth knowing.
    let timely = ranked_of(&|row| !row.is_late(choice.lead));
    let cuts = if choice.in_time && timely.1 > 0.0 { cuts(&timely.0, timely.1) } else { cuts(&ranked, failing) };
    rows.sort_by_key(|row| (row.slot(), row.place.t));
    let device_days = || held_out.iter().map(|component| component.device_days(choice.every)).fold(0.0, f64::max);
    let threshold = match choice.rule {
        AlarmRule::Balanced => balanced(&cuts),
        AlarmRule::Cost { visit, failure } => Some(visit / failure),
        AlarmRule::FalseAlarms { per_1000_device_months } => {
            let budget = per_1000_device_months * device_days() * 24.0 / HOURS_PER_MONTH / 1000.0;
            within_budget(&cuts, budget, |threshold| {
                runs(&rows, threshold, |run| !run.iter().any(|row| row.scored.failed))
            })
        }
        AlarmRule::Visits { per_day } => {
            let budget = per_day * device_days() / choice.devices.max(1) as f64;
            within_budget(&cuts, budget, |threshold| runs(&rows, threshold, |_| true))
        }
    };
    let at = threshold.and_then(|threshold| cuts.iter().take_while(|cut| cut.lowest > threshold).last());
    let weight: f64 = ranked.iter().map(|row| row.weight).sum();
    let brier =
        ranked.iter().map(|r| r.weight * (r.score - f64::from(u8::from(r.failed))).powi(2)).sum::<f64>() / weight;
    let base_rate = failing / weight;
    let quality = Quality {
        failures: held_out.iter().map(|component| component.failures).sum(),
        rows: held_out.iter().map(|component| component.rows).sum(),
        base_rate,
        brier,
        brier_base: base_rate * (1.0 - base_rate),
        precision: at.map_or(0.0, |cut| cut.precision),
        recall: at.map_or(0.0, |cut| cut.recall),
        lead_hours: choice.lead.hours(),
        in_time: threshold.map_or(0.0, |threshold| in_time(&rows, threshold, choice.lead)),
        reliability: reliability(&ranked),
    };
    (threshold, quality)
}

/// Share of the failures that follow some row which an alarm told of early enough for the part.
fn in_time(rows: &[Judged], threshold: f64, lead: Duration) -> f64 {
    let mut failures = BTreeMap::new();
    for row in rows {
        if let Some(failure) = row.place.failure {
            let told = failures.entry((row.slot(), failure)).or_insert(false);
            *told |= row.scored.score > threshold && !row.is_late(lead);
        }
    }
    failures.values().filter(|&&told| told).count() as f64 / failures.len().max(1) as f64
}

/// A threshold and what it gives on held-out rows.
struct Cut {
    /// Midway between the lowest probability that alarms and the highest that does not.
    threshold: f64,
    /// The lowest probability that alarms.
    lowest: f64,
    f1: f64,
    precision: f64,
    recall: f64,
}

/// All thresholds that part rows, from the highest.
fn cuts(ranked: &[Scored], failing: f64) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let (mut hits, mut alarms) = (0.0, 0.0);
    for (n, row) in ranked.iter().enumerate() {
        alarms += row.weight;
        hits += if row.failed { row.weight } else { 0.0 };
        let next = ranked.get(n + 1).map_or(0.0, |next| next.score);
        if next < row.score {
            cuts.push(Cut {
                threshold: f64::midpoint(row.score, next),
                lowest: row.score,
                f1: 2.0 * hits / (alarms + failing),
                precision: hits / alarms,
                recall: hits / failing,
            });
        }
    }
    cuts
}

/// Of the thresholds that part alarms from the rest equally well by F1 the highest, which has the fewest false alarms.
fn balanced(cuts: &[Cut]) -> Option<f64> {
    let highest = cuts.iter().map(|cut| cut.f1).fold(0.0, f64::max);
    cuts.iter().find(|cut| cut.f1 > 0.0 && cut.f1 >= PLATEAU * highest).map(|cut| cut.threshold)
}

/// The lowest threshold whose cost, and that of all above it, stays within the budget; above all rows where none does.
fn within_budget(cuts: &[Cut], budget: f64, cost: impl Fn(f64) -> f64) -> Option<f64> {
    let step = cuts.len().div_ceil(BUDGET_STEPS).max(1);
    let tried = cuts.iter().step_by(step).map(|cut| cut.threshold);
    let allowed = tried.take_while(|&threshold| cost(threshold) <= budget).last();
    allowed.or_else(|| cuts.first().map(|cut| f64::midpoint(1.0, cut.threshold)))
}

/// Runs of alarm rows of a slot that count. A run counts for as many rows as its first stands for, which is too many where
/// healthy rows were thinned: a budget is kept all the more.
///
/// * `rows`: in order of slot and time.
fn runs(rows: &[Judged], threshold: f64, counts: impl Fn(&[Judged]) -> bool) -> f64 {
    let alarms = |row: &Judged| row.scored.score > threshold;
    let runs = rows.chunk_by(|a, b| a.slot() == b.slot() && alarms(a) == alarms(b));
    runs.filter(|run| alarms(&run[0]) && counts(run)).map(|run| run[0].scored.weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten devices watched for 100 days, a row a day. Device 0 fails on day 50 and scores .9 on the two days before; devices 1 to 4
    /// score .8, .6, .4, .2 on one day each for nothing; everything else scores 0.
    fn held_out() -> HeldOut {
        let mut scores = Vec::new();
        let mut places = Vec::new();
        for subject in 0..10_usize {
            for day in 0..100 {
                let failed = subject == 0 && (day == 48 || day == 49);
                let score = match subject {
                    0 if failed => 0.9,
                    1..=4 if day == 7 => 1.0 - 0.2 * subject as f64,
                    _ => 0.0,
                };
                scores.push(Scored { score, failed, weight: 1.0 });
                let failure = failed.then(|| day_of(50));
                places.push(Place { subject, t: day_of(day), failure });
            }
        }
        HeldOut { failures: 1, rows: scores.len(), scores: vec![scores], places }
    }

    fn day_of(day: i64) -> Timestamp {
        Timestamp::from_millis(day * 86_400_000)
    }

    fn by(rule: &str) -> Choice {
        let (every, lead) = (Duration::from_days(1), Duration::ZERO);
        Choice { rule: rule.parse().unwrap(), every, devices: 10, lead, in_time: true }
    }

    fn choose(rows: &HeldOut, choice: Choice) -> (f64, Quality) {
        let as_scored = Calibration::Isotonic { scores: vec![0.0, 1.0], probabilities: vec![0.0, 1.0] };
        let (threshold, quality) = choose_threshold(&[rows], &[vec![as_scored]], choice);
        (threshold.unwrap(), quality)
    }

    fn chosen(rule: &str) -> (f64, Quality) {
        choose(&held_out(), by(rule))
    }

    /// The ten devices raise an alarm in 100 days at .9, two at .8, three at .6 and so on: a hundredth of a visit a day is one in
    /// that time, and a fleet of twenty devices needs twice the visits for the same threshold.
    #[test]
    fn visits_a_day_are_used_and_kept_whatever_the_size_of_the_fleet() {
        for (visits, devices, expected) in
            [(0.01, 10, 0.85), (0.02, 10, 0.7), (0.025, 10, 0.7), (0.02, 20, 0.85), (0.06, 20, 0.5), (9.0, 10, 0.1)]
        {
            let choice = Choice { devices, ..by(&format!("visits={visits}")) };
            let (threshold, _) = choose(&held_out(), choice);
            assert!((threshold - expected).abs() < 1e-12, "{visits} for {devices}: {threshold}");
        }
    }

    /// The row of day 49 comes a day before the failure, that of day 48 two days, which here scores .5 only.
    #[test]
    fn an_alarm_that_comes_too_late_for_the_part_is_no_hit_and_not_false() {
        let mut rows = held_out();
        rows.scores[0][48].score = 0.5;
        let lead = |hours| Choice { lead: Duration::from_hours(hours), ..by("balanced") };
        let (threshold, quality) = choose(&rows, lead(0));
        assert!((threshold - 0.85).abs() < 1e-12 && quality.in_time == 1.0, "{threshold}");
        let (threshold, quality) = choose(&rows, lead(24));
        assert!((threshold - 0.45).abs() < 1e-12, "{threshold}");
        // Of the alarms at .9 (late: not counted), .8, .6 and .5 one is a hit.
        assert!((quality.precision - 1.0 / 3.0).abs() < 1e-12 && quality.recall == 1.0 && quality.in_time == 1.0);
        // Parts that take longer than any alarm leaves them: the threshold is as if nobody asked, and the truth is told.
        let (threshold, quality) = choose(&rows, lead(48));
        assert!((threshold - 0.85).abs() < 1e-12, "{threshold}");
        assert_eq!((quality.in_time, quality.lead_hours), (0.0, 48.0));
        let (threshold, _) = choose(&rows, Choice { in_time: false, ..lead(24) });
        assert!((threshold - 0.85).abs() < 1e-12, "{threshold}");
    }

    #[test]
    fn the_balanced_threshold_parts_the_failing_rows_from_the_rest() {
        let (threshold, quality) = chosen("balanced");
        assert!((threshold - 0.85).abs() < 1e-12, "{threshold}");
        assert_eq!((quality.precision, quality.recall), (1.0, 1.0));
    }

    #[test]
    fn a_cheap_visit_lowers_the_threshold_to_the_ratio_of_costs() {
        let (threshold, quality) = chosen("cost=55:100");
        assert_eq!(threshold, 0.55);
        assert_eq!((quality.precision, quality.recall), (0.5, 1.0), "rows of .9, .9, .8 and .6");
    }

    /// 1,000 device-days are 32.9 device-months: a budget of 61 for a thousand of those allows two false alarms, of 60 one.
    #[test]
    fn a_budget_of_false_alarms_is_used_and_kept() {
        for (budget, expected) in [(0.0, 0.85), (60.0, 0.7), (61.0, 0.5), (1000.0, 0.1)] {
            let (threshold, _) = chosen(&format!("false_alarms={budget}"));
            assert!((threshold - expected).abs() < 1e-12, "{budget}: {threshold}");
        }
    }

    #[test]
    fn a_budget_that_nothing_keeps_alarms_above_all_rows() {
        let mut rows = held_out();
        rows.scores[0][150].score = 0.95;
        let (threshold, quality) = choose(&rows, by("false_alarms=0"));
        assert!(threshold > 0.95);
        assert_eq!(quality.recall, 0.0);
    }
}
