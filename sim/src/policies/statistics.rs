//! Paired differences and their intervals.

/// 97.5 % quantiles of Student's law with 1 to 4 degrees of freedom, where the expansion is too coarse.
const FEW: [f64; 4] = [12.706_204_736, 4.302_652_730, 3.182_446_305, 2.776_445_105];
/// The same quantile of the normal law.
const NORMAL: f64 = 1.959_963_984_540_054;

/// A mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Mean and 95 % interval of independent values, by Student's law; infinitely wide for a single value, none without any.
#[must_use]
pub fn interval(values: &[f64]) -> Option<Interval> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let half = match values.len() - 1 {
        0 => f64::INFINITY,
        freedom => student(freedom) * (squares / freedom as f64 / count).sqrt(),
    };
    Some(Interval { mean, low: mean - half, high: mean + half })
}

/// 97.5 % quantile of Student's law; from 5 degrees of freedom on by the expansion around the normal law (Abramowitz and Stegun, 26.7.5).
fn student(freedom: usize) -> f64 {
    if let Some(&known) = FEW.get(freedom - 1) {
        return known;
    }
    let (x, n) = (NORMAL, freedom as f64);
    let powers = |coefficients: &[f64]| coefficients.iter().fold(0.0, |sum, c| sum * x * x + c) * x;
    x + powers(&[1.0, 1.0]) / (4.0 * n)
        + powers(&[5.0, 16.0, 3.0]) / (96.0 * n * n)
        + powers(&[3.0, 19.0, 17.0, -15.0]) / (384.0 * n.powi(3))
        + powers(&[79.0, 776.0, 1482.0, -1920.0, -945.0]) / (92_160.0 * n.powi(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.t.ppf(.975, n)`.
    #[test]
    fn quantiles_are_those_of_scipy() {
        for (freedom, expected) in
            [(1, 12.7062), (4, 2.77645), (5, 2.57058), (9, 2.26216), (19, 2.09302), (99, 1.98422)]
        {
            assert!((student(freedom) - expected).abs() < 2e-3, "{freedom}: {}", student(freedom));
        }
    }

    /// Mean 2, standard deviation 1, three values: 2 +- 4.30265 / sqrt 3.
    #[test]
    fn an_interval_by_hand() {
        let found = interval(&[1.0, 2.0, 3.0]).unwrap();
        assert!((found.mean - 2.0).abs() < 1e-12 && (found.high - 4.484_137).abs() < 1e-5, "{found:?}");
        assert_eq!(interval(&[]), None);
        assert!(interval(&[1.0]).unwrap().high.is_infinite());
    }
}
