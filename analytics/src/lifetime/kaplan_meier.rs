//! Kaplan-Meier: the survival curve without a law, for lives that are right-censored and left-truncated.

use super::{Error, Lifetime, check};

/// The product-limit estimate: a step at each age of failure.
#[derive(Debug, Clone, PartialEq)]
pub struct KaplanMeier {
    /// Age of failure, survival from there on, and Greenwood's sum d / (n (n - d)) until there.
    steps: Vec<(f64, f64, f64)>,
}

impl KaplanMeier {
    /// Estimates survival. A life is at risk at age t where entry age < t <= age.
    ///
    /// # Errors
    /// [`Error::Lifetime`] for ages that are none.
    /// # Source
    /// Kaplan, Meier (1958), *Nonparametric estimation from incomplete observations*, JASA 53; Greenwood (1926).
    pub fn new(lifetimes: &[Lifetime]) -> Result<Self, Error> {
        check(lifetimes)?;
        let sorted = |ages: &mut dyn Iterator<Item = f64>| {
            let mut ages: Vec<f64> = ages.collect();
            ages.sort_by(f64::total_cmp);
            ages
        };
        let exits = sorted(&mut lifetimes.iter().map(|life| life.duration));
        let entries = sorted(&mut lifetimes.iter().map(|life| life.entry));
        let failures = sorted(&mut lifetimes.iter().filter(|life| life.event_observed).map(|life| life.duration));
        let (mut survival, mut greenwood) = (1.0, 0.0);
        let mut steps = Vec::new();
        for group in failures.chunk_by(|a, b| a == b) {
            let age = group[0];
            let entered = entries.partition_point(|&entry| entry < age);
            let left = exits.partition_point(|&exit| exit < age);
            let (at_risk, failed) = ((entered - left) as f64, group.len() as f64);
            survival *= 1.0 - failed / at_risk;
            greenwood += failed / (at_risk * (at_risk - failed));
            steps.push((age, survival, greenwood));
        }
        Ok(Self { steps })
    }

    fn at(&self, age: f64) -> (f64, f64) {
        let after = self.steps.partition_point(|(step, _, _)| *step <= age);
        if after == 0 { (1.0, 0.0) } else { (self.steps[after - 1].1, self.steps[after - 1].2) }
    }

    /// S(age): steps at a failure, so that S at the age of a failure counts it.
    #[must_use]
    pub fn survival(&self, age: f64) -> f64 {
        self.at(age).0
    }

    /// 95 % interval of S(age) on the scale of ln(-ln S), which keeps it inside 0..=1.
    #[must_use]
    pub fn interval(&self, age: f64) -> (f64, f64) {
        /// 97.5 % quantile of the standard normal law.
        const Z: f64 = 1.959963984540054;
        let (survival, greenwood) = self.at(age);
        if survival >= 1.0 || survival <= 0.0 {
            return (survival, survival);
        }
        let spread = (Z * greenwood.sqrt() / survival.ln()).abs();
        (survival.powf(spread.exp()), survival.powf((-spread).exp()))
    }

    /// Smallest age with S(age) <= 0.5; `None` where survival stays above.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.steps.iter().find(|(_, survival, _)| *survival <= 0.5).map(|(age, _, _)| *age)
    }
}
