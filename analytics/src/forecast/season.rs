//! What all series share: in each period of the past a common factor, and the season that those factors show.
//!
//! A month of holidays or a wave of repairs moves all parts of a fleet at once. Taken out of the past, it does not pass for a level; what
//! of it comes back a year later is told of the future, as far as the past shows that it does.

use harbinger_core::calendar::{CalendarUnit, Step};

/// Rounds in which common factors and the means of series are told apart.
const ROUNDS: usize = 3;

/// Pieces beside those that were taken and those that were expected: a period in which nobody took anything has a factor, too.
const HALF_A_PIECE: f64 = 0.5;

/// How alike the factors of two cycles are believed to be, before any is seen, and how many pairs of periods that belief counts for.
/// The correlation is the mean of three public sets of service parts over their first years: .05, .23 and .49.
const PRIOR_CORRELATION: f64 = 0.25;
const PRIOR_PERIODS: f64 = 12.0;

/// However alike cycles were, the next is not the same.
const MOST_CORRELATION: f64 = 0.9;

/// Periods after which demand is likely to repeat itself: days of a week, weeks and months of a year; 0 for other lengths.
#[must_use]
pub fn cycle(step: &Step) -> usize {
    match step {
        Step::Calendar { unit: CalendarUnit::Day, .. } => 7,
        Step::Calendar { unit: CalendarUnit::Week, .. } => 52,
        Step::Calendar { unit: CalendarUnit::Month, .. } => 12,
        Step::Fixed(_) => 0,
    }
}

/// Logarithms of the factors that all series share.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Season {
    /// Of the periods of the past.
    past: Vec<f64>,
    /// Of those to come, by their place in the cycle; empty without one.
    to_come: Vec<f64>,
}

impl Season {
    /// From what is known before `origin`; none before a whole cycle has passed.
    pub(super) fn before(series: &[Vec<f64>], origin: usize, cycle: usize) -> Self {
        if cycle == 0 || origin <= cycle {
            return Self::default();
        }
        let (factors, noise) = common_factors(series, origin);
        let around = |at: usize| {
            let near = &factors[at.saturating_sub(cycle / 2)..(at + cycle / 2 + 1).min(origin)];
            near.iter().sum::<f64>() / near.len() as f64
        };
        let departures: Vec<f64> = (0..origin).map(|at| factors[at] - around(at)).collect();
        let variance = departures.iter().map(|d| d * d).sum::<f64>() / origin as f64;
        // The share of it that counting few pieces does not explain.
        let signal = (1.0 - noise / variance).max(0.0);
        if !signal.is_finite() || signal == 0.0 {
            return Self::default();
        }
        let (mut together, mut alone) = (0.0, 0.0);
        for lag in (cycle..origin).step_by(cycle) {
            for (now, before) in departures[lag..].iter().zip(&departures) {
                together += now * before;
                alone += (now * now + before * before) / 2.0;
            }
        }
        let believed = PRIOR_PERIODS * variance;
        let correlation = (together + PRIOR_CORRELATION * signal * believed) / (alone + believed);
        let correlation = correlation.clamp(0.0, MOST_CORRELATION);
        let of_phase = |phase: usize| {
            let same: Vec<f64> = departures.iter().skip(phase).step_by(cycle).copied().collect();
            // The best linear guess of the next from as many that are so alike.
            let others = same.len() as f64 - 1.0;
            same.iter().sum::<f64>() * correlation / (1.0 + others * correlation)
        };
        Self { to_come: (0..cycle).map(of_phase).collect(), past: departures.iter().map(|d| d * signal).collect() }
    }

    /// The logarithm of a period's factor.
    pub(super) fn at(&self, period: usize) -> f64 {
        match self.past.get(period) {
            Some(&factor) => factor,
            None if self.to_come.is_empty() => 0.0,
            None => self.to_come[period % self.to_come.len()],
        }
    }
}

/// Logarithms of what each period took over what its series take on average, and the mean of their squared standard errors. A series
/// counts by how little it scatters.
fn common_factors(series: &[Vec<f64>], origin: usize) -> (Vec<f64>, f64) {
    struct Of<'a> {
        history: &'a [f64],
        taken: f64,
        variance: f64,
        weight: f64,
    }
    let of = |history: &'_ [f64]| -> Option<(f64, f64, f64)> {
        let known = history.iter().filter(|y| y.is_finite());
        let (count, taken) = known.clone().fold((0.0, 0.0), |(count, sum), y| (count + 1.0, sum + y));
        let mean = taken / count;
        let variance = known.map(|y| (y - mean).powi(2)).sum::<f64>() / count;
        (mean > 0.0).then(|| (taken, variance, 1.0 / (variance / mean).max(1.0)))
    };
    let all: Vec<Of<'_>> = series
        .iter()
        .filter_map(|of_series| {
            let history = &of_series[..origin.min(of_series.len())];
            let (taken, variance, weight) = of(history)?;
            Some(Of { history, taken, variance, weight })
        })
        .collect();
    let mut factors = vec![0.0_f64; origin];
    let mut noise = 0.0;
    for _ in 0..ROUNDS {
        let mut sums = vec![(HALF_A_PIECE, HALF_A_PIECE, 0.0); origin];
        for one in &all {
            let known = || one.history.iter().zip(&factors).filter(|(y, _)| y.is_finite());
            let mean = one.taken / known().map(|(_, factor)| factor.exp()).sum::<f64>();
            for (y, (taken, expected, squares)) in one.history.iter().zip(&mut sums).filter(|(y, _)| y.is_finite()) {
                *taken += one.weight * y;
                *expected += one.weight * mean;
                *squares += one.weight * one.weight * one.variance;
            }
        }
        noise = sums.iter().map(|(_, expected, squares)| squares / (expected * expected)).sum::<f64>() / origin as f64;
        factors = sums.iter().map(|(taken, expected, _)| (taken / expected).ln()).collect();
    }
    (factors, noise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Series that take one piece with probability .3, but in one phase of twelve with .03; beside them much noise.
    fn fleet(count: usize, periods: usize, quiet: impl Fn(usize) -> bool) -> Vec<Vec<f64>> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut of = || {
            (0..periods).map(|at| f64::from(u8::from(random.random_bool(if quiet(at) { 0.03 } else { 0.3 })))).collect()
        };
        (0..count).map(|_| of()).collect()
    }

    #[test]
    fn what_comes_back_is_told_of_the_future_and_what_came_once_is_not() {
        let holidays = Season::before(&fleet(500, 48, |at| at % 12 == 7), 48, 12);
        let (quiet, usual) = (holidays.at(48 + 7), holidays.at(48 + 3));
        assert!(quiet < -1.2 && usual.abs() < 0.3, "{quiet} {usual}");
        assert!((holidays.at(7) - -2.1).abs() < 0.4, "{}", holidays.at(7));
        let once = Season::before(&fleet(500, 48, |at| at == 19), 48, 12);
        assert!(once.at(19) < -1.5 && once.at(48 + 7).abs() < 0.35, "{} {}", once.at(19), once.at(55));
    }

    #[test]
    fn the_noise_of_a_few_series_is_no_season() {
        let few = Season::before(&fleet(2, 36, |_| false), 36, 12);
        assert!((0..48).all(|at| few.at(at).abs() < 0.5), "{few:?}");
        assert_eq!(Season::before(&fleet(5, 12, |_| false), 12, 12), Season::default());
        assert_eq!(Season::before(&[vec![f64::NAN; 30], vec![0.0; 30]], 30, 12).at(31), 0.0);
        assert_eq!(Season::before(&fleet(5, 40, |_| false), 40, 0).at(41), 0.0);
    }
}
