//! What can be asked of a bucket's samples.
//!
//! All but the quantiles come out of the one [`Summary`]. Quantiles are those of NumPy's default (`method="linear"`, number 7
//! of Hyndman and Fan 1996, *Sample quantiles in statistical packages*): between the two closest ranks, in proportion.

use std::{fmt, str::FromStr};

use harbinger_core::Summary;

macro_rules! functions {
    ($($(#[$doc:meta])* $variant:ident $name:literal;)+) => {
        /// A function of the samples of one signal in one bucket.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Function { $($(#[$doc])* $variant),+ }

        impl Function {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

functions! {
    /// How many there are.
    Count "count";
    /// The smallest.
    Min "min";
    /// The largest.
    Max "max";
    /// Their mean.
    Mean "mean";
    /// Their sum.
    Sum "sum";
    /// The earliest.
    First "first";
    /// The latest.
    Last "last";
    /// Their population standard deviation (divisor n).
    Stddev "stddev";
    /// The slope of the least-squares line through them, per hour.
    Slope "slope";
    /// Their median.
    P50 "p50";
    /// What 95 of 100 do not exceed.
    P95 "p95";
    /// What 99 of 100 do not exceed.
    P99 "p99";
}

/// Not the name of a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no function: take {}", Function::ALL.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", "))]
pub struct UnknownFunction {
    name: String,
}

impl FromStr for Function {
    type Err = UnknownFunction;
    fn from_str(name: &str) -> Result<Self, UnknownFunction> {
        let found = Self::ALL.iter().copied().find(|function| function.as_str() == name);
        found.ok_or_else(|| UnknownFunction { name: name.to_owned() })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Function {
    /// Whether it is a quantile: those need all samples of a bucket at once.
    #[must_use]
    pub fn is_quantile(self) -> bool {
        self.quantile().is_some()
    }

    /// Which share of the samples is not above it, where it is a quantile.
    pub(super) fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }

    pub(super) fn of(self, summary: &Summary, quantiles: &Quantiles) -> Option<f64> {
        let some = |value: f64| (!summary.is_empty()).then_some(value);
        match self {
            Self::Count => Some(summary.count as f64),
            Self::Min => some(summary.min),
            Self::Max => some(summary.max),
            Self::Mean => summary.mean(),
            Self::Sum => some(summary.sum()),
            Self::First => some(summary.first),
            Self::Last => some(summary.last),
            Self::Stddev => summary.stddev(),
            Self::Slope => summary.slope_per_hour(),
            Self::P50 | Self::P95 | Self::P99 => {
                quantiles.0.iter().find(|(function, _)| *function == self).map(|(_, value)| *value)
            }
        }
    }
}

/// The quantiles that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Quantiles(Vec<(Function, f64)>);

impl Quantiles {
    /// Those among `functions`, of these samples.
    pub(super) fn of(functions: &[Function], mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let quantile = |&function: &Function| Some((function, interpolated(&samples, function.quantile()?)?));
        Self(functions.iter().filter_map(quantile).collect())
    }
}

/// The quantile of sorted samples; `None` without samples.
fn interpolated(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = sorted.len().checked_sub(1)? as f64 * share;
    let below = *sorted.get(rank.floor() as usize)?;
    let above = *sorted.get(rank.ceil() as usize)?;
    let part = rank - rank.floor();
    // From the closer of the two, so that the result never leaves the span between them.
    Some(if part < 0.5 { below + (above - below) * part } else { above - (above - below) * (1.0 - part) })
}

#[cfg(test)]
mod tests {
    use harbinger_core::Timestamp;

    use super::*;

    /// `python3 -c 'import numpy as np; v = [0.1, 2.5, -3.75, 8.0, 8.0, 1e6, 0.3]; h = [0, 0.5, 1, 2, 4, 4.25, 7];
    /// print(len(v), min(v), max(v), np.mean(v), np.sum(v), v[0], v[-1], np.std(v), np.polyfit(h, v, 1)[0],
    /// *np.percentile(v, [50, 95, 99]))'`, numpy 2.3.5
    #[test]
    fn functions_are_those_of_numpy() {
        let values = [0.1, 2.5, -3.75, 8.0, 8.0, 1e6, 0.3];
        let hours = [0.0, 0.5, 1.0, 2.0, 4.0, 4.25, 7.0];
        let expected = [
            7.0,
            -3.75,
            1e6,
            142_859.307_142_857_14,
            1_000_015.15,
            0.1,
            0.3,
            349_926.222_568_425_76,
            41_256.630_614_158_45,
            2.5,
            700_002.399_999_999_2,
            940_000.479_999_999_5,
        ];
        let at = |hours: f64| Timestamp::from_millis(1_420_070_400_000 + (hours * 3_600_000.0) as i64);
        let samples = values.iter().zip(hours).map(|(&value, hours)| Summary::of(at(hours), value));
        let summary = samples.fold(Summary::EMPTY, |all, sample| all.merge(&sample));
        let quantiles = Quantiles::of(Function::ALL, values.to_vec());
        for (function, expected) in Function::ALL.iter().zip(expected) {
            let value = function.of(&summary, &quantiles).unwrap();
            assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{function}: {value} is not {expected}");
        }
    }

    #[test]
    fn without_samples_there_is_a_count_and_nothing_else() {
        let quantiles = Quantiles::of(Function::ALL, Vec::new());
        for function in Function::ALL {
            let expected = (*function == Function::Count).then_some(0.0);
            assert_eq!(function.of(&Summary::EMPTY, &quantiles), expected, "{function}");
        }
    }

    #[test]
    fn one_sample_is_its_own_quantile_and_names_lead_back() {
        let quantiles = Quantiles::of(&[Function::P95, Function::Mean], vec![-0.5]);
        assert_eq!(quantiles, Quantiles(vec![(Function::P95, -0.5)]));
        for function in Function::ALL {
            assert_eq!(function.as_str().parse(), Ok(*function));
        }
        assert!("p42".parse::<Function>().unwrap_err().to_string().contains("stddev, slope, p50"));
    }
}
