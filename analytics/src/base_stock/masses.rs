//! The masses of a Poisson or negative binomial law one after the other, without a table: P(0), P(1), ...
//!
//! Levels are chosen over millions of laws, of which only the first few masses matter.

use crate::demand::{self, negative_binomial};

/// Below this v - 1 a negative binomial is a Poisson (section 8).
const POISSON_BELOW: f64 = 1e-9;

/// exp(-this) is near the smallest normal number: a recursion that starts lower is taken from a table instead.
const SMALLEST_EXPONENT: f64 = 700.0;

/// Masses from P(0) on; 0 beyond the end of a table.
#[derive(Debug)]
pub(super) enum Masses {
    /// `P(n + 1) = P(n) (a + b n) / (n + 1)`.
    Recursion { mass: f64, n: f64, a: f64, b: f64 },
    /// Made before.
    Table(std::vec::IntoIter<f64>),
}

impl Masses {
    /// Negative binomial of this mean and variance; Poisson where the variance is not above the mean.
    pub(super) fn new(mean: f64, variance: f64) -> Result<Self, demand::Error> {
        let v = variance / mean;
        // A mean of 0 makes v no number, and a Poisson law.
        let (exponent, a, b) = if v - 1.0 >= POISSON_BELOW {
            (mean / (v - 1.0) * v.ln(), mean / v, (v - 1.0) / v)
        } else {
            (mean, mean, 0.0)
        };
        if exponent <= SMALLEST_EXPONENT {
            return Ok(Self::Recursion { mass: (-exponent).exp(), n: 0.0, a, b });
        }
        Ok(Self::Table(negative_binomial(mean, variance)?.pmf().to_vec().into_iter()))
    }

    /// The next mass.
    #[inline]
    pub(super) fn step(&mut self) -> f64 {
        match self {
            Self::Recursion { mass, n, a, b } => {
                let now = *mass;
                *mass *= (*a + *b * *n) / (*n + 1.0);
                *n += 1.0;
                now
            }
            Self::Table(masses) => masses.next().unwrap_or(0.0),
        }
    }
}
