//! The hub's backorders for every base-stock level, from its Poisson pipeline (Palm) and its pack size (section 5.5).

use crate::demand::{self, DemandLaw, poisson};

/// Mean and variance of what the hub owes with one base-stock level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HubBackorders {
    /// E_0.
    pub expected: f64,
    /// V_0.
    pub variance: f64,
}

/// The hub of one item.
#[derive(Debug, Clone)]
pub struct Hub {
    pipeline: DemandLaw,
    pack_size: u32,
    /// EBO and E[B^2] of the levels 0, 1, ..., each the mean over a pack.
    expected: Vec<f64>,
    squared: Vec<f64>,
}

impl Hub {
    /// A hub with this mean of pieces on order, m_0 T0.
    ///
    /// Ordering in packs of q, its position is uniform on S_0, ..., S_0 + q - 1.
    ///
    /// # Errors
    /// [`demand::Error`] for a mean outside 0..=1048576.
    pub fn new(pipeline_mean: f64, pack_size: u32) -> Result<Self, demand::Error> {
        let pipeline = poisson(pipeline_mean)?;
        let length = pipeline.pmf().len();
        // From the tail on, so that nothing cancels: with P = P(X > S), EBO(S) = EBO(S + 1) + P and
        // E[B^2](S) = E[B^2](S + 1) + 2 EBO(S + 1) + P.
        let (mut expected, mut squared) = (vec![0.0; length + 1], vec![0.0; length + 1]);
        let mut exceedance = pipeline.tail();
        for level in (0..length).rev() {
            squared[level] = squared[level + 1] + 2.0 * expected[level + 1] + exceedance;
            expected[level] = expected[level + 1] + exceedance;
            exceedance += pipeline.pmf()[level];
        }
        if pack_size > 1 {
            average(&mut expected, pack_size);
            average(&mut squared, pack_size);
        }
        Ok(Self { pipeline, pack_size: pack_size.max(1), expected, squared })
    }

    /// E_0 and V_0 with base stock `level`.
    #[must_use]
    pub fn backorders(&self, level: u32) -> HubBackorders {
        let at = |table: &[f64]| table.get(level as usize).copied().unwrap_or(0.0);
        let expected = at(&self.expected);
        HubBackorders { expected, variance: (at(&self.squared) - expected * expected).max(0.0) }
    }

    /// P(the hub owes n pieces) for n = 0, 1, ... with base stock `level`.
    #[must_use]
    pub fn law_of_backorders(&self, level: u32) -> Vec<f64> {
        let masses = self.pipeline.pmf();
        let mut law = vec![0.0; masses.len().saturating_sub(level as usize).max(1)];
        // A position beyond the last entry owes nothing; all of those count at once.
        let within = (masses.len() as u64).saturating_sub(u64::from(level)).min(u64::from(self.pack_size));
        law[0] = (u64::from(self.pack_size) - within) as f64;
        for position in (u64::from(level)..u64::from(level) + within).map(|position| position as usize) {
            law[0] += masses[..=position].iter().sum::<f64>();
            for (sum, mass) in law[1..].iter_mut().zip(&masses[position + 1..]) {
                *sum += mass;
            }
        }
        law.iter_mut().for_each(|mass| *mass /= f64::from(self.pack_size));
        law
    }

    /// P(a demand at the hub finds a piece) with base stock `level`: P(X <= position - 1).
    #[must_use]
    pub fn ready_rate(&self, level: u32) -> f64 {
        let first = i64::from(level);
        let most = self.pipeline.pmf().len() as i64;
        let last = (first + i64::from(self.pack_size)).min(most.max(first));
        let beyond = first + i64::from(self.pack_size) - last;
        let sum = (first..last).fold(0.0, |sum, position| sum + self.pipeline.cdf(position - 1));
        (sum + beyond as f64) / f64::from(self.pack_size)
    }
}

/// Replaces each entry by the mean of it and the `pack - 1` after it; 0 beyond the end.
fn average(table: &mut [f64], pack: u32) {
    let length = table.len();
    for level in 0..length {
        let end = level.saturating_add(pack as usize).min(length);
        table[level] = table[level..end].iter().rev().sum::<f64>() / f64::from(pack);
    }
}
