//! The laws of demand: Poisson-binomial, with a common factor, Poisson, negative binomial, compound Poisson.

use super::{DemandLaw, Error, NEGLIGIBLE, moment, truncation};

/// Nodes of the common factor Z; with these its variance may be 0..=0.24 (section 2.4).
const FACTOR_NODES: [f64; 3] = [0.6, 1.0, 1.6];

/// Greatest variance of the common factor that the nodes can carry with weights above zero.
const MOST_FACTOR_VARIANCE: f64 = 0.24;
/// Up to so many slots are convolved one by one; more are halved and the halves convolved, which costs the square of a law's length
/// instead of the slots times it.
const MOST_IN_PLACE: usize = 64;
/// What was taken for it before windows were seen weighs as much as windows of so much `mu^2`.
const WEIGHT_BEFORE: f64 = 50.0;

/// Below this v - 1 a negative binomial is a Poisson (section 8).
const POISSON_BELOW: f64 = 1e-9;

/// exp(-this) is near the smallest normal number; a recursion that starts lower starts at the mode instead.
const SMALLEST_EXPONENT: f64 = 700.0;

/// A slot that may need pieces: with `probability` it takes `quantity`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// P(it needs them), 0..=1.
    pub probability: f64,
    /// How many pieces then.
    pub quantity: u32,
}

impl Trial {
    /// A slot that takes one piece.
    #[must_use]
    pub fn one(probability: f64) -> Self {
        Self { probability, quantity: 1 }
    }
}

/// The law of the sum of independent slots, exact by convolution in place; truncated where 8 standard deviations of the
/// number of slots end, the lost mass kept as tail.
///
/// # Errors
/// [`Error::NotAProbability`] with the position; [`Error::Moment`] where a million pieces are not enough.
/// # Source
/// Maths of pre-positioning, 2.3.
pub fn poisson_binomial(trials: &[Trial]) -> Result<DemandLaw, Error> {
    if let Some(position) = trials.iter().position(|trial| !(0.0..=1.0).contains(&trial.probability)) {
        return Err(Error::NotAProbability { position, value: trials[position].probability });
    }
    convolution(trials, 1.0)
}

/// Poisson-binomial with each probability `min(1, factor p)`; what is certain, a planned replacement, remains so.
fn convolution(trials: &[Trial], factor: f64) -> Result<DemandLaw, Error> {
    let last = longest(trials, factor)?;
    if trials.len() <= MOST_IN_PLACE {
        return Ok(in_place(trials, factor, last));
    }
    let (some, others) = trials.split_at(trials.len() / 2);
    Ok(convolution(some, factor)?.convolve(&convolution(others, factor)?))
}

fn scaled(trial: &Trial, factor: f64) -> f64 {
    if trial.probability < 1.0 { (trial.probability * factor).min(1.0) } else { 1.0 }
}

/// Most pieces that a law needs entries for.
fn longest(trials: &[Trial], factor: f64) -> Result<usize, Error> {
    let (mut slots, mut variance, mut most, mut largest) = (0.0, 0.0, 0.0, 0.0_f64);
    for trial in trials {
        let (p, q) = (scaled(trial, factor), f64::from(trial.quantity));
        slots += p;
        variance += p * (1.0 - p);
        most += q;
        largest = largest.max(q);
    }
    // As many slots as can be, each with the largest quantity: where all take one piece it is the note's bound.
    let bound = (truncation(slots, variance) as f64 * largest).min(most);
    Ok(moment("length", bound)? as usize)
}

/// Slot by slot, into entries up to `last`.
fn in_place(trials: &[Trial], factor: f64, last: usize) -> DemandLaw {
    let mut pmf = vec![0.0; last + 1];
    pmf[0] = 1.0;
    let (mut top, mut tail) = (0, 0.0);
    for trial in trials {
        let (p, q) = (scaled(trial, factor), trial.quantity as usize);
        if q == 0 || p == 0.0 {
            continue;
        }
        // What would move beyond the last entry, before the entries change.
        let lost: f64 = pmf[(last + 1).saturating_sub(q)..].iter().sum();
        tail += lost * p;
        top = (top + q).min(last);
        // Within a slice of known length, which needs no check at each entry.
        let entries = &mut pmf[..=top];
        for k in (q..entries.len()).rev() {
            entries[k] = entries[k] * (1.0 - p) + entries[k - q] * p;
        }
        for mass in &mut pmf[..q.min(last + 1)] {
            *mass *= 1.0 - p;
        }
    }
    DemandLaw::new(pmf, tail)
}

/// Poisson-binomial whose probabilities share a factor Z with mean 1 and variance `phi`: a weighted sum of three laws. The factor
/// is that of forecasts: a probability of 1 has none.
///
/// `phi` is held in 0..=0.24; at 0 (or NaN) slots are independent.
///
/// # Errors
/// As [`poisson_binomial`].
/// # Source
/// Maths of pre-positioning, 2.4; `E D = mu`, `Var D = mu - sum p^2 + phi (mu^2 - sum p^2)` where nothing is clipped at 1.
pub fn common_factor(trials: &[Trial], phi: f64) -> Result<DemandLaw, Error> {
    let independent = poisson_binomial(trials)?;
    if phi.is_nan() || phi <= 0.0 {
        return Ok(independent);
    }
    let [low, one, high] = FACTOR_NODES;
    let [w_low, w_one, w_high] = factor_weights(phi);
    Ok(DemandLaw::mixture(&[
        (w_low, convolution(trials, low)?),
        (w_one, if one == 1.0 { independent } else { convolution(trials, one)? }),
        (w_high, convolution(trials, high)?),
    ]))
}

/// Weights of the nodes so that the factor's mean is 1 and its variance `phi`.
pub(super) fn factor_weights(phi: f64) -> [f64; 3] {
    let phi = phi.min(MOST_FACTOR_VARIANCE);
    let [a, b, c] = FACTOR_NODES;
    // Lagrange: E (Z - x)(Z - y) over the product of the third node's distances to x and y.
    let weight = |z: f64, x: f64, y: f64| (1.0 + phi - x - y + x * y) / ((z - x) * (z - y));
    [weight(a, b, c), weight(b, a, c), weight(c, a, b)]
}

/// A past window: what was expected and what came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BacktestWindow {
    /// Sum of p.
    pub mean: f64,
    /// Sum of p (1 - p).
    pub variance: f64,
    /// Sum of p^2.
    pub sum_p_squared: f64,
    /// Pieces that were needed.
    pub outcome: f64,
}

/// Variance phi of the common factor from past windows, `max(0, sum((y - mu)^2 - sigma^2) / sum(mu^2 - sum p^2))`; zero
/// where nothing can be said.
#[must_use]
pub fn estimate_common_factor(windows: &[BacktestWindow]) -> f64 {
    let (excess, scale) = excess_and_scale(windows);
    // A comparison that NaN fails, too.
    if scale > 0.0 && excess > 0.0 { excess / scale } else { 0.0 }
}

fn excess_and_scale(windows: &[BacktestWindow]) -> (f64, f64) {
    let excess = windows.iter().map(|w| (w.outcome - w.mean).powi(2) - w.variance).sum();
    (excess, windows.iter().map(|w| w.mean * w.mean - w.sum_p_squared).sum())
}

/// The same joined with what was taken for it before, which weighs as much as two windows of five expected failures: few windows
/// say little of a variance. At most .24.
#[must_use]
pub fn updated_common_factor(before: f64, windows: &[BacktestWindow]) -> f64 {
    let (excess, scale) = excess_and_scale(windows);
    ((excess + before * WEIGHT_BEFORE) / (scale.max(0.0) + WEIGHT_BEFORE)).clamp(0.0, MOST_FACTOR_VARIANCE)
}

/// Poisson law.
///
/// # Errors
/// [`Error::Moment`] for a mean outside 0..=1048576.
pub fn poisson(mean: f64) -> Result<DemandLaw, Error> {
    let mean = moment("mean", mean)?;
    let last = truncation(mean, mean);
    Ok(recursion(last, mean, (-mean).exp(), mean, |n| mean / (n + 1) as f64))
}

/// Negative binomial law with this mean and variance; Poisson where the variance is not above the mean.
///
/// # Errors
/// [`Error::Moment`].
/// # Source
/// Maths of pre-positioning, 2.5: `v = variance / mean, r = mean / (v - 1), P(0) = v^-r`.
pub fn negative_binomial(mean: f64, variance: f64) -> Result<DemandLaw, Error> {
    let mean = moment("mean", mean)?;
    moment("deviation", variance.sqrt())?;
    if mean == 0.0 {
        return Ok(DemandLaw::zero());
    }
    let v = variance / mean;
    if v - 1.0 < POISSON_BELOW {
        return poisson(mean);
    }
    let r = mean / (v - 1.0);
    let share = (v - 1.0) / v;
    // The tail falls like share^n, slower than a normal law's: entries until it is negligible.
    let last = truncation(mean, variance).max(((NEGLIGIBLE.ln() - 10.0) / share.ln() + mean).ceil() as usize);
    moment("length", last as f64)?;
    let mode = ((r - 1.0) * (v - 1.0)).max(0.0);
    Ok(recursion(last, r * v.ln(), (-r * v.ln()).exp(), mode, |n| (n as f64 + r) / (n + 1) as f64 * share))
}

/// Entries by `P(n + 1) = P(n) step(n)` from `P(0) = first = e^-exponent`, or, where that is too small for a number, from 1 at
/// the mode to both sides and then divided by their sum.
fn recursion(last: usize, exponent: f64, first: f64, mode: f64, step: impl Fn(usize) -> f64) -> DemandLaw {
    let mut pmf = vec![0.0; last + 1];
    if exponent <= SMALLEST_EXPONENT {
        pmf[0] = first;
        for n in 0..last {
            pmf[n + 1] = pmf[n] * step(n);
        }
        let sum = pmf.iter().rev().sum::<f64>();
        return DemandLaw::new(pmf, lost_mass(sum));
    }
    let mode = (mode as usize).min(last);
    pmf[mode] = 1.0;
    for n in mode..last {
        pmf[n + 1] = pmf[n] * step(n);
    }
    for n in (0..mode).rev() {
        pmf[n] = pmf[n + 1] / step(n);
    }
    let sum: f64 = pmf.iter().sum();
    pmf.iter_mut().for_each(|mass| *mass /= sum);
    DemandLaw::new(pmf, 0.0)
}

/// Mass that entries which sum to `sum` leave for the tail; what rounding leaves is none.
fn lost_mass(sum: f64) -> f64 {
    if sum < 1.0 - 1e-12 { 1.0 - sum } else { 0.0 }
}

/// Demand that comes in batches: Poisson many with `rate`, each of n + 1 pieces with probability `sizes[n]`.
///
/// # Errors
/// [`Error::NotAProbability`] for sizes that are none or do not sum to 1, [`Error::Moment`].
/// # Source
/// Panjer (1981): `g_0 = e^-rate, g_n = (rate / n) sum_j j s_j g_{n-j}`.
pub fn compound_poisson(rate: f64, sizes: &[f64]) -> Result<DemandLaw, Error> {
    let rate = moment("rate", rate)?;
    if let Some(position) = sizes.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(Error::NotAProbability { position, value: sizes[position] });
    }
    let total: f64 = sizes.iter().sum();
    if (total - 1.0).abs() > 1e-9 {
        return Err(Error::NotAProbability { position: sizes.len(), value: total });
    }
    if rate > SMALLEST_EXPONENT {
        // e^-rate is no number: the sum of two halves is the same law.
        let half = compound_poisson(rate / 2.0, sizes)?;
        return Ok(half.convolve(&half));
    }
    let largest = sizes.iter().rposition(|&s| s > 0.0).map_or(1, |n| n + 1);
    moment("mean", rate * largest as f64)?;
    // As many batches as can be, all of the largest size: batches make tails that moments do not bound.
    let last = truncation(rate, rate) * largest;
    moment("length", last as f64)?;
    let mut pmf = vec![0.0; last + 1];
    pmf[0] = (-rate).exp();
    for n in 1..=last {
        let sum: f64 = sizes.iter().take(n).enumerate().map(|(j, s)| (j + 1) as f64 * s * pmf[n - 1 - j]).sum();
        pmf[n] = rate / n as f64 * sum;
    }
    let sum: f64 = pmf.iter().rev().sum();
    Ok(DemandLaw::new(pmf, lost_mass(sum)))
}
