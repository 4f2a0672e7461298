//! Gradient and curvature of the loss at each row's score, and as whole numbers.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::histogram::Packed;

/// Rows that are one thread's work.
const CHUNK: usize = 1 << 14;

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The log odds of a label of 0 or 1, by the logistic loss.
    Logistic,
    /// The mean of a number, by the squared error.
    Squared,
}

impl Objective {
    /// First and second derivative of a row's loss by its score.
    fn derivatives(self, score: f64, label: f64) -> (f64, f64) {
        match self {
            Self::Logistic => {
                let p = self.mean(score);
                (p - label, (p * (1.0 - p)).max(1e-16))
            }
            Self::Squared => (score - label, 1.0),
        }
    }

    /// A row's loss.
    pub(super) fn loss(self, score: f64, label: f64) -> f64 {
        match self {
            Self::Logistic => score.max(0.0) + (-score.abs()).exp().ln_1p() - label * score,
            Self::Squared => (score - label).powi(2) / 2.0,
        }
    }

    /// The score that all rows together would have: it makes the sum of gradients zero.
    pub(super) fn start(self, mean: f64) -> f64 {
        match self {
            Self::Logistic => {
                let mean = mean.clamp(1e-9, 1.0 - 1e-9);
                (mean / (1.0 - mean)).ln()
            }
            Self::Squared => mean,
        }
    }

    /// What a score means: a probability, or the number itself.
    #[must_use]
    pub fn mean(self, score: f64) -> f64 {
        match self {
            Self::Logistic => 1.0 / (1.0 + (-score).exp()),
            Self::Squared => score,
        }
    }
}

/// Derivatives of all rows.
#[derive(Debug, Default)]
pub(super) struct Gradients {
    /// First and second, as they are.
    pub(super) exact: Vec<(f64, f64)>,
    /// As whole numbers of the units.
    pub(super) packed: Vec<Packed>,
    /// What a gradient of one stands for.
    pub(super) gradient_unit: f64,
    /// What a curvature of one stands for.
    pub(super) curvature_unit: f64,
}

impl Gradients {
    /// Computes those of the rows' scores.
    ///
    /// The units follow the sums over all rows: half of the whole numbers' range is theirs, the other half is for rounding.
    /// With a million rows the sums are then right to one part in two thousand, however rare a label is.
    pub(super) fn update(&mut self, objective: Objective, scores: &[f64], labels: &[f64], weights: &[f64]) {
        let rows = scores.len();
        self.exact.resize(rows, (0.0, 0.0));
        self.packed.resize(rows, Packed::default());
        let each = |place: usize| {
            let (first, second) = objective.derivatives(scores[place], labels[place]);
            (first * weights[place], second * weights[place])
        };
        let sums: Vec<(f64, f64)> = self
            .exact
            .par_chunks_mut(CHUNK)
            .enumerate()
            .map(|(chunk, out)| {
                let mut sums = (0.0, 0.0);
                for (place, out) in out.iter_mut().enumerate() {
                    *out = each(chunk * CHUNK + place);
                    sums = (sums.0 + out.0.abs(), sums.1 + out.1);
                }
                sums
            })
            .collect();
        let (first, second) = sums.iter().fold((0.0, 0.0), |all, sum| (all.0 + sum.0, all.1 + sum.1));
        let room = f64::from(1 << 30);
        self.gradient_unit = (first / room).max(f64::MIN_POSITIVE);
        self.curvature_unit = (second / (2.0 * room)).max(f64::MIN_POSITIVE);
        let (per_gradient, per_curvature) = (1.0 / self.gradient_unit, 1.0 / self.curvature_unit);
        self.packed.par_chunks_mut(CHUNK).zip(self.exact.par_chunks(CHUNK)).for_each(|(packed, exact)| {
            for (packed, &(first, second)) in packed.iter_mut().zip(exact) {
                let curvature = (second * per_curvature).round_ties_even() as u32;
                *packed = Packed::new((first * per_gradient).round_ties_even() as i32, curvature);
            }
        });
    }
}
