//! What scores of devices that rankers had not seen say: what a score means, from where on to alarm, how good it is.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{
    calibration::{Calibration, Scored, isotonic, platt},
    model::{Quality, Ranker},
    rows::Row,
};
use crate::evaluate::reliability;

/// From this many failures on isotonic regression has enough to stand on (DESIGN section 6).
const MIN_FAILURES_FOR_ISOTONIC: usize = 20;
/// Thresholds whose F1 is at least this share of the best one's part alarms from the rest equally well.
const PLATEAU: f64 = 0.99;

/// How a component's rankers scored the devices that they had not seen.
pub(super) struct HeldOut {
    /// Failures of the component.
    pub failures: usize,
    /// Rows that were learnt from.
    pub rows: usize,
    /// One a horizon: a score for each row whose label that horizon knows.
    pub scores: Vec<Vec<Scored>>,
}

/// The score of each row whose label the horizon knows, by the ranker that did not see the row's fold.
///
/// * `grown`: one a fold; the rows of a fold without one are left out.
/// * `folds`: of each subject.
pub(super) fn score_held_out(
    rows: &[Row],
    horizon: usize,
    grown: &[Option<Ranker>],
    folds: &BTreeMap<usize, usize>,
) -> Vec<Scored> {
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
        Some(Scored { score, failed: row.labels[horizon]?, weight: row.weight })
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
fn fit(rows: &[Scored], failures: usize) -> Calibration {
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

/// The probability that parts alarms from the rest best by F1 over held-out rows, pooled over components: of those that do so
/// equally well the highest, which has the fewest false alarms; midway between the lowest probability that alarms and the
/// highest that does not.
pub(super) fn choose_threshold(held_out: &[&HeldOut], calibrations: &[Vec<Calibration>]) -> (Option<f64>, Quality) {
    let mut rows: Vec<Scored> = Vec::new();
    for (component, calibrations) in held_out.iter().zip(calibrations) {
        let probability = |row: &Scored| Scored { score: calibrations[0].probability(row.score), ..*row };
        rows.extend(component.scores[0].iter().map(probability));
    }
    let weight: f64 = rows.iter().map(|row| row.weight).sum();
    let failing: f64 = rows.iter().filter(|row| row.failed).map(|row| row.weight).sum();
    if rows.is_empty() || failing == 0.0 {
        return (None, Quality::default());
    }
    rows.sort_by(|a, b| b.score.total_cmp(&a.score));
    // F1, threshold, precision, recall.
    let mut cuts = Vec::new();
    let (mut hits, mut alarms) = (0.0, 0.0);
    for (n, row) in rows.iter().enumerate() {
        alarms += row.weight;
        hits += if row.failed { row.weight } else { 0.0 };
        let next = rows.get(n + 1).map_or(0.0, |next| next.score);
        if next < row.score {
            cuts.push((2.0 * hits / (alarms + failing), f64::midpoint(row.score, next), hits / alarms, hits / failing));
        }
    }
    let highest = cuts.iter().map(|cut| cut.0).fold(0.0, f64::max);
    let best = cuts.into_iter().find(|cut| cut.0 >= PLATEAU * highest).unwrap_or_default();
    let brier = rows.iter().map(|r| r.weight * (r.score - f64::from(u8::from(r.failed))).powi(2)).sum::<f64>() / weight;
    let base_rate = failing / weight;
    let quality = Quality {
        failures: held_out.iter().map(|component| component.failures).sum(),
        rows: held_out.iter().map(|component| component.rows).sum(),
        base_rate,
        brier,
        brier_base: base_rate * (1.0 - base_rate),
        precision: best.2,
        recall: best.3,
        reliability: reliability(&rows),
    };
    ((best.0 > 0.0).then_some(best.1), quality)
}
