//! Point forecasts of intermittent demand by adding periods up until few are empty, and smoothing with the constant that
//! would have served best.

use super::exponential_smoothing;

/// Smoothing constants that are tried.
const CONSTANTS: std::ops::RangeInclusive<f64> = 0.1..=0.3;

/// The range of constants is cut down so often: to less than 1e-9 of a constant.
const CUTS: u32 = 42;

/// Aggregate-disaggregate: forecasts sums of as many periods as lie between demands on average, and divides; 0 without demand.
///
/// # Source
/// Nikolopoulos, Syntetos, Boylan, Petropoulos, Assimakopoulos (2011), *An aggregate-disaggregate intermittent demand
/// approach (ADIDA) to forecasting*, JORS 62.
#[must_use]
pub fn aggregate_disaggregate(series: &[f64]) -> f64 {
    mean_interval(series).map_or(0.0, |level| aggregated(series, level))
}

/// The mean of the forecasts at every level of aggregation up to the mean interval between demands; 0 without demand.
///
/// # Source
/// Petropoulos, Kourentzes (2015), *Forecast combinations for intermittent demand* (IMAPA), JORS 66.
#[must_use]
pub fn multiple_aggregation(series: &[f64]) -> f64 {
    let Some(highest) = mean_interval(series) else { return 0.0 };
    (1..=highest).map(|level| aggregated(series, level)).sum::<f64>() / highest as f64
}

/// Croston's forecast with the smoothing constants of sizes and intervals that would have served best; 0 without demand.
#[must_use]
pub fn croston_optimized(series: &[f64]) -> f64 {
    let sizes: Vec<f64> = series.iter().copied().filter(|&y| y > 0.0).collect();
    if sizes.is_empty() {
        return 0.0;
    }
    best_smoothing(&sizes) / best_smoothing(&intervals(series))
}

/// Periods from each demand to the next, the first from the beginning.
fn intervals(series: &[f64]) -> Vec<f64> {
    let mut before = 0;
    let places = series.iter().enumerate().filter(|(_, y)| **y > 0.0).map(|(place, _)| place + 1);
    places.map(|place| (place - std::mem::replace(&mut before, place)) as f64).collect()
}

/// Mean interval between demands in whole periods, at least 1; `None` without demand.
fn mean_interval(series: &[f64]) -> Option<usize> {
    let demands = series.iter().filter(|y| **y > 0.0).count();
    let last = series.iter().rposition(|&y| y > 0.0)? + 1;
    // The intervals sum to the place of the last demand; a quotient of counts fits.
    Some((last as f64 / demands as f64).round_ties_even().max(1.0) as usize)
}

/// The forecast per period from sums of `level` periods each; what does not fill one is left out at the beginning.
fn aggregated(series: &[f64], level: usize) -> f64 {
    let sums: Vec<f64> = series.rchunks_exact(level).rev().map(|chunk| chunk.iter().sum()).collect();
    best_smoothing(&sums) / level as f64
}

/// Exponential smoothing with the constant that made the least squared errors, by golden section. Where all constants
/// serve alike, as with two values, it is the middle one.
fn best_smoothing(values: &[f64]) -> f64 {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = CONSTANTS.into_inner();
    let middle = f64::midpoint(low, high);
    if [low, high].into_iter().all(|constant| squared_errors(values, constant) == squared_errors(values, middle)) {
        return exponential_smoothing(values, middle);
    }
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (squared_errors(values, left), squared_errors(values, right));
    for _ in 0..CUTS {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = squared_errors(values, left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = squared_errors(values, right);
        }
    }
    exponential_smoothing(values, f64::midpoint(low, high))
}

/// Sum of squared one-step errors of exponential smoothing.
fn squared_errors(values: &[f64], alpha: f64) -> f64 {
    let Some((&first, rest)) = values.split_first() else { return 0.0 };
    let mut level = first;
    rest.iter()
        .map(|y| {
            let error = y - level;
            level += alpha * error;
            error * error
        })
        .sum()
}
