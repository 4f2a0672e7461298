//! Weights of laws in a mixture, learned from what each law said of what came.

use super::components::COMPONENTS;

/// Steps of expectation and maximisation: weights still move a little then, which shrinks them towards their start.
const STEPS: usize = 40;

/// How much of a series' own back-tested log score counts towards its weights: periods next to each other tell less
/// than independent ones.
const OWN_SCORE: f64 = 0.3;

/// A probability below this counts as this: one surprise does not silence a law for good.
const LEAST_PROBABILITY: f64 = 1e-9;

/// The weights that make what came likeliest, with `prior_cells` cells that speak for `prior`. Expectation-maximisation for
/// the weights of a mixture, from the prior on (Dempster, Laird, Rubin 1977).
pub(super) fn maximum_likelihood(
    cells: &[&[f64; COMPONENTS]],
    prior: &[f64; COMPONENTS],
    prior_cells: f64,
) -> [f64; COMPONENTS] {
    let mut weights = *prior;
    for _ in 0..STEPS {
        let mut counts = prior.map(|weight| weight * prior_cells);
        for cell in cells {
            let total: f64 = weights.iter().zip(*cell).map(|(w, p)| w * p).sum();
            let scale = 1.0 / total.max(LEAST_PROBABILITY);
            for ((count, weight), p) in counts.iter_mut().zip(&weights).zip(*cell) {
                *count += weight * p * scale;
            }
        }
        let sum: f64 = counts.iter().sum();
        weights = counts.map(|count| count / sum);
    }
    weights
}

/// The weights of one series: those of its class times what its own back-test says, tempered.
pub(super) fn of_series(cells: &[&[f64; COMPONENTS]], class: &[f64; COMPONENTS]) -> [f64; COMPONENTS] {
    let mut scores = [0.0; COMPONENTS];
    for cell in cells {
        for (score, p) in scores.iter_mut().zip(*cell) {
            *score += OWN_SCORE * p.max(LEAST_PROBABILITY).ln();
        }
    }
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut weights = *class;
    weights.iter_mut().zip(&scores).for_each(|(weight, score)| *weight *= (score - best).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}
