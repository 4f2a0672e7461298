//! How long a lane or a supplier takes, when that is not certain.
//!
//! One that tells the 95 % quantile of its days beside their mean is taken as lognormal, which is positive and skewed as
//! delays are, and held as three lengths with their weights: demand until a piece arrives is the mixture of its laws over
//! them. A quantile of the mean length would hide the late ones, and a mean of quantiles is the quantile of nothing.
//!
//! Source: maths of pre-positioning, section 5.10.

use harbinger_core::fleet::Lane;

/// The 95 % quantile of the standard normal law.
const Z_95: f64 = 1.644_853_626_951_472_7;

/// Nodes of the Gauss-Hermite rule of three points on the standard normal law: exact for polynomials up to the fifth degree.
/// Source: Abramowitz, Stegun (1964), table 25.10.
const NODES: [(f64, f64); 3] =
    [(-1.732_050_807_568_877_2, 1.0 / 6.0), (0.0, 2.0 / 3.0), (1.732_050_807_568_877_2, 1.0 / 6.0)];

/// The law of the days that a lane or a supplier takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LeadTime {
    /// Their mean.
    pub(super) days: f64,
    /// Standard deviation of their logarithm; 0 where they are certain.
    spread: f64,
}

impl LeadTime {
    /// Pieces are there.
    pub(super) const NONE: Self = Self { days: 0.0, spread: 0.0 };

    /// By its mean and its 95 % quantile; certain where no more than the mean is told.
    pub(super) fn new(days: f64, days_p95: Option<f64>) -> Self {
        let late = days_p95.filter(|late| *late > days && days > 0.0);
        Self { days, spread: late.map_or(0.0, |late| spread(late / days)) }
    }

    /// That of a lane.
    pub(super) fn of(lane: &Lane) -> Self {
        Self::new(lane.days, lane.days_p95)
    }

    /// Lengths in days with their weights; weights sum to 1, and lengths have the mean of the law.
    pub(super) fn lengths(self) -> Vec<(f64, f64)> {
        if self.spread <= 0.0 {
            return vec![(self.days, 1.0)];
        }
        let factors = NODES.map(|(z, weight)| ((self.spread * z).exp(), weight));
        let mean: f64 = factors.iter().map(|(factor, weight)| factor * weight).sum();
        factors.map(|(factor, weight)| (self.days * factor / mean, weight)).to_vec()
    }
}

/// Standard deviation of the logarithm of a lognormal law whose 95 % quantile is `ratio` times its mean:
/// `ln ratio = z s - s^2 / 2`. The smaller of two solutions; where there is none, the law that comes closest.
fn spread(ratio: f64) -> f64 {
    Z_95 - (Z_95 * Z_95 - 2.0 * ratio.ln()).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use harbinger_core::DepotId;

    use super::*;

    fn lane(days: f64, days_p95: Option<f64>) -> Lane {
        let depot = |name| DepotId::parse(name).unwrap();
        Lane {
            from: depot("hub"),
            to: depot("north"),
            days,
            days_p95,
            cost_per_piece: None,
            fixed_cost: None,
            capacity: None,
        }
    }

    /// scipy.stats.lognorm(s=.5, scale=exp(-.125)): mean 1, 95 % quantile 2.00858.
    #[test]
    fn the_spread_is_that_of_the_lognormal_law() {
        assert!((spread(2.008_577_607_244_979_5) - 0.5).abs() < 1e-9, "{}", spread(2.008_577_607_244_979_5));
        assert!((spread(100.0) - Z_95).abs() < 1e-12, "no lognormal law has so late a quantile");
    }

    #[test]
    fn lengths_keep_the_mean_and_spread_around_it() {
        for late in [3.5, 4.0, 9.0, 300.0] {
            let lengths = LeadTime::of(&lane(3.0, Some(late))).lengths();
            let mean: f64 = lengths.iter().map(|(days, weight)| days * weight).sum();
            let weights: f64 = lengths.iter().map(|(_, weight)| weight).sum();
            assert!((mean - 3.0).abs() < 1e-12 && (weights - 1.0).abs() < 1e-12, "{lengths:?}");
            assert!(lengths.windows(2).all(|pair| pair[0].0 < pair[1].0), "{lengths:?}");
        }
        for certain in [None, Some(3.0), Some(1.0), Some(f64::NAN)] {
            assert_eq!(LeadTime::of(&lane(3.0, certain)).lengths(), [(3.0, 1.0)]);
        }
        assert_eq!(LeadTime::of(&lane(0.0, Some(2.0))).lengths(), [(0.0, 1.0)]);
    }
}
