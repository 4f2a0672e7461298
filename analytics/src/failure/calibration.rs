//! Calibration: from a score that ranks to a probability that holds, fitted on devices that the score never saw.
//!
//! Isotonic regression where there are failures enough, Platt's sigmoid on the logit below that. Negatives may have been
//! sampled, so every row carries the number of rows that it stands for.

use serde::{Deserialize, Serialize};

/// A score of a device that the model had not seen, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The model's score, in 0..=1.
    pub score: f64,
    /// Whether the failure came.
    pub failed: bool,
    /// How many rows it stands for, > 0.
    pub weight: f64,
}

/// A map from score to probability that never falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibration {
    /// Linear between knots, constant outside.
    Isotonic {
        /// Scores, rising.
        scores: Vec<f64>,
        /// Probabilities, never falling.
        probabilities: Vec<f64>,
    },
    /// `1 / (1 + exp(-(slope logit(score) + intercept)))`, at most the ceiling: beyond the highest score that was seen the
    /// sigmoid is a guess.
    Platt {
        /// Slope, >= 0.
        slope: f64,
        /// Intercept.
        intercept: f64,
        /// Highest probability, in 0..=1.
        ceiling: f64,
    },
}

impl Calibration {
    /// The map for scores that are probabilities already.
    #[must_use]
    pub fn identity() -> Self {
        Self::Isotonic { scores: vec![0.0, 1.0], probabilities: vec![0.0, 1.0] }
    }

    /// The probability for a score.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        match self {
            Self::Isotonic { scores, probabilities } => interpolate(scores, probabilities, score),
            Self::Platt { slope, intercept, ceiling } => sigmoid(slope * logit(score) + intercept).min(*ceiling),
        }
    }

    /// The same map, nowhere above `certainty`.
    #[must_use]
    pub fn capped(self, certainty: f64) -> Self {
        match self {
            Self::Isotonic { scores, probabilities } => {
                let probabilities = probabilities.into_iter().map(|p| p.min(certainty)).collect();
                Self::Isotonic { scores, probabilities }
            }
            Self::Platt { slope, intercept, ceiling } => {
                Self::Platt { slope, intercept, ceiling: ceiling.min(certainty) }
            }
        }
    }

    /// Whether the map is one: a file may have been damaged or made by hand.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Isotonic { scores, probabilities } => {
                !scores.is_empty()
                    && scores.len() == probabilities.len()
                    && scores.is_sorted()
                    && probabilities.is_sorted()
                    && probabilities.iter().all(|p| (0.0..=1.0).contains(p))
            }
            Self::Platt { slope, intercept, ceiling } => {
                slope.is_finite() && *slope >= 0.0 && intercept.is_finite() && (0.0..=1.0).contains(ceiling)
            }
        }
    }
}

/// Weighted least squares under the constraint that probability never falls with the score, by pooling adjacent violators
/// (Ayer et al. 1955); knots at both ends of each pool, as scikit-learn's `IsotonicRegression` has them.
///
/// `None` without rows.
#[must_use]
pub fn isotonic(rows: &[Scored]) -> Option<Calibration> {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    // Pools: lowest score, highest score, weight, weighted failures.
    let mut pools: Vec<(f64, f64, f64, f64)> = Vec::new();
    for row in &sorted {
        let failures = if row.failed { row.weight } else { 0.0 };
        match pools.last_mut() {
            Some(pool) if pool.1 == row.score => {
                pool.2 += row.weight;
                pool.3 += failures;
            }
            _ => pools.push((row.score, row.score, row.weight, failures)),
        }
    }
    let mut merged: Vec<(f64, f64, f64, f64)> = Vec::new();
    for pool in pools {
        merged.push(pool);
        while let [.., before, last] = merged.as_mut_slice() {
            if before.3 / before.2 < last.3 / last.2 {
                break;
            }
            *before = (before.0, last.1, before.2 + last.2, before.3 + last.3);
            merged.pop();
        }
    }
    let (mut scores, mut probabilities) = (Vec::new(), Vec::new());
    for (low, high, weight, failures) in merged {
        scores.push(low);
        probabilities.push((failures / weight).clamp(0.0, 1.0));
        if high > low {
            scores.push(high);
            probabilities.push((failures / weight).clamp(0.0, 1.0));
        }
    }
    (!scores.is_empty()).then_some(Calibration::Isotonic { scores, probabilities })
}

/// Maximum likelihood of a sigmoid on the logit of the score (Platt 1999), by Newton's method with step halving.
///
/// * `certainty`: what a failing row counts as, in 0.5..=1 (Platt's target smoothing); 1 is plain maximum likelihood, which
///   has no finite answer where the score separates the classes.
///
/// `None` where only one class is there, or where the score runs the wrong way.
#[must_use]
pub fn platt(rows: &[Scored], certainty: f64) -> Option<Calibration> {
    if !rows.iter().any(|row| row.failed) || rows.iter().all(|row| row.failed) {
        return None;
    }
    // The others are smoothed by as many rows as the failing ones lose, so that the base rate stays.
    let failing: f64 = rows.iter().filter(|row| row.failed).map(|row| row.weight).sum();
    let others: f64 = rows.iter().filter(|row| !row.failed).map(|row| row.weight).sum();
    let remainder = (1.0 - certainty) * (failing / others).min(1.0);
    let target = |row: &Scored| if row.failed { certainty } else { remainder };
    let points: Vec<(f64, f64, f64)> = rows.iter().map(|row| (logit(row.score), target(row), row.weight)).collect();
    let loss =
        |a: f64, b: f64| -> f64 { points.iter().map(|&(x, y, w)| w * (softplus(a * x + b) - y * (a * x + b))).sum() };
    let (mut slope, mut intercept) = (1.0, 0.0);
    let mut best = loss(slope, intercept);
    for _ in 0..100 {
        let (mut g, mut h) = ([0.0; 2], [0.0; 3]);
        for &(x, y, w) in &points {
            let p = sigmoid(slope * x + intercept);
            let (error, curve) = (w * (p - y), w * (p * (1.0 - p)).max(1e-12));
            g[0] += error * x;
            g[1] += error;
            h[0] += curve * x * x;
            h[1] += curve * x;
            h[2] += curve;
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        if determinant.is_nan() || determinant.abs() <= 1e-300 {
            break;
        }
        let step = [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
        let Some((a, b, lower)) = halve_until_lower(&loss, (slope, intercept), step, best) else { break };
        let done = best - lower <= 1e-12 * best.abs();
        (slope, intercept, best) = (a, b, lower);
        if done {
            break;
        }
    }
    (slope >= 0.0 && slope.is_finite() && intercept.is_finite()).then_some(Calibration::Platt {
        slope,
        intercept,
        ceiling: 1.0,
    })
}

fn halve_until_lower(
    loss: &impl Fn(f64, f64) -> f64,
    at: (f64, f64),
    step: [f64; 2],
    best: f64,
) -> Option<(f64, f64, f64)> {
    let mut length = 1.0;
    for _ in 0..40 {
        let (a, b) = (at.0 - length * step[0], at.1 - length * step[1]);
        let value = loss(a, b);
        if value < best {
            return Some((a, b, value));
        }
        length /= 2.0;
    }
    None
}

fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let after = xs.partition_point(|&knot| knot < x);
    match (after.checked_sub(1), xs.get(after)) {
        (_, Some(&knot)) if knot == x => ys[after],
        (None, _) => ys.first().copied().unwrap_or(0.0),
        (Some(before), None) => ys[before],
        (Some(before), Some(&knot)) => {
            let share = (x - xs[before]) / (knot - xs[before]);
            ys[before] + (ys[after] - ys[before]) * share
        }
    }
}

/// Scores of a forest may be exactly 0 or 1, where the logit has no value.
fn logit(score: f64) -> f64 {
    let score = score.clamp(1e-6, 1.0 - 1e-6);
    (score / (1.0 - score)).ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(score: f64, failed: bool) -> Scored {
        Scored { score, failed, weight: 1.0 }
    }

    /// By hand: the failure at .4 pools with the two after it, 1/3.
    #[test]
    fn violators_are_pooled() {
        let rows = [row(0.1, false), row(0.4, true), row(0.5, false), row(0.6, false), row(0.9, true)];
        let fitted = isotonic(&rows).unwrap();
        for (score, p) in [(0.0, 0.0), (0.1, 0.0), (0.4, 1.0 / 3.0), (0.55, 1.0 / 3.0), (0.9, 1.0), (2.0, 1.0)] {
            assert!((fitted.probability(score) - p).abs() < 1e-12, "{score}");
        }
        assert!((fitted.probability(0.75) - 2.0 / 3.0).abs() < 1e-12, "linear between .6 and .9");
    }

    #[test]
    fn one_class_gives_no_sigmoid_and_nothing_gives_no_map() {
        assert_eq!(platt(&[row(0.2, false), row(0.3, false)], 1.0), None);
        assert_eq!(isotonic(&[]), None);
    }

    /// Rows that the score separates: plain maximum likelihood would run off to 0 and 1.
    #[test]
    fn few_failures_support_no_certainty() {
        let rows: Vec<Scored> = (0..200).map(|n| row(f64::from(n) / 200.0, n >= 190)).collect();
        let fitted = platt(&rows, 6.0 / 7.0).unwrap().capped(6.0 / 7.0);
        let highest = fitted.probability(1.0);
        assert!(highest > 0.6 && highest < 0.95, "{highest}");
        assert!(fitted.probability(0.5) > 1e-6);
        let capped = isotonic(&rows).unwrap().capped(6.0 / 7.0);
        assert_eq!(capped.probability(0.99), 6.0 / 7.0);
    }

    /// scikit-learn on the same 8,000 scores, to the tolerance that its solver leaves.
    #[test]
    fn agrees_with_scikit_learn() {
        let (Some(scores), Some(expected)) =
            (crate::oracles::text("calibration_scores.csv"), crate::oracles::json("ml_metrics_expected.json"))
        else {
            return;
        };
        let rows: Vec<Scored> = scores
            .lines()
            .skip(1)
            .map(|line| {
                let (score, y) = line.split_once(',').unwrap();
                row(score.parse().unwrap(), y == "1")
            })
            .collect();
        let numbers = |key: &str| -> Vec<f64> {
            expected["isotonic"][key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let fitted = isotonic(&rows).unwrap();
        for (x, f) in numbers("x").into_iter().zip(numbers("f")) {
            assert!((fitted.probability(x) - f).abs() < 1e-9, "isotonic at {x}: {} not {f}", fitted.probability(x));
        }
        let Some(Calibration::Platt { slope, intercept, .. }) = platt(&rows, 1.0) else { panic!("no sigmoid") };
        assert!((slope - expected["platt_on_logit"]["a"].as_f64().unwrap()).abs() < 1e-4, "{slope}");
        assert!((intercept - expected["platt_on_logit"]["b"].as_f64().unwrap()).abs() < 1e-4, "{intercept}");
    }

    proptest! {
        #[test]
        fn a_fit_never_falls_and_keeps_the_base_rate(
            rows in proptest::collection::vec((0.0f64..1.0, any::<bool>(), 0.5f64..20.0), 2..80),
        ) {
            let rows: Vec<Scored> =
                rows.into_iter().map(|(score, failed, weight)| Scored { score, failed, weight }).collect();
            let fitted = isotonic(&rows).unwrap();
            prop_assert!(fitted.is_sound());
            let weight: f64 = rows.iter().map(|r| r.weight).sum();
            let failures: f64 = rows.iter().filter(|r| r.failed).map(|r| r.weight).sum();
            let predicted: f64 = rows.iter().map(|r| r.weight * fitted.probability(r.score)).sum();
            prop_assert!((predicted - failures).abs() < 1e-9 * weight);
        }
    }
}
