//! What the whole set of series teaches about each: which laws of demand there are, and how common each is.
//!
//! A law is a negative binomial number, or, with the probability that the series idles, nothing; a grid of shapes, idle shares and means
//! holds those that can be told apart. How common each is among the series is learned without a form for it (nonparametric maximum
//! likelihood: Kiefer and Wolfowitz 1956; by expectation-maximisation: Laird 1978), and a series is each of them with the probability that
//! its own past leaves (empirical Bayes: Robbins 1956). One with a short past is like the others, one with a long past is like itself.
//! Old periods count less, by one of several discounts.

use libm::lgamma;
use rayon::prelude::*;

use super::season::Season;

/// Shapes r: variance = mean + mean^2 / r.
const SHAPES: [f64; 6] = [0.15, 0.4, 1.0, 2.5, 6.0, 30.0];

/// Probabilities that a series idles for a period.
const IDLE: [f64; 5] = [0.0, 0.1, 0.25, 0.5, 0.75];

/// Means between the least and the largest, in equal ratios.
const MEANS: usize = 36;
const LEAST_MEAN: f64 = 0.01;
/// The largest is so many times that of any series, and at least so many pieces.
const BEYOND_LARGEST: f64 = 3.0;
const LEAST_LARGEST: f64 = 4.0;

/// Laws of the grid.
const GRID: usize = SHAPES.len() * IDLE.len() * MEANS;

/// Weights of a period relative to the one after it.
pub(super) const DISCOUNTS: [f32; 4] = [1.0, 0.97, 0.92, 0.85];

/// The filter whose law smooths a series' own past.
pub(super) const SMOOTHER: usize = 1;

/// No law makes anything quite impossible.
const LEAST_PROBABILITY: f32 = 1e-12;

/// Laws less likely than this beside the likeliest count as impossible.
const LEAST_LIKELY: f32 = 1e-7;

/// Series that say how common laws are; of more every n-th.
const SERIES_MAX: usize = 5_000;
/// Series that are summed up together; sums do not depend on threads.
const SERIES_AT_ONCE: usize = 64;

/// Steps of expectation and maximisation.
const STEPS: usize = 40;
/// No law is rarer than this.
const LEAST_COMMON: f64 = 1e-7;

/// Factors of periods are told apart to this part.
const FACTOR_STEP: f64 = 0.01;

/// What was learned before an origin.
#[derive(Debug)]
pub(super) struct Fleet {
    means: Vec<f64>,
    season: Season,
    /// How common each law is, as a logarithm.
    commonness: Vec<f32>,
    tables: Vec<Table>,
    /// Which of the tables is each period's.
    table_of: Vec<usize>,
}

/// Logarithms of the laws' probabilities in a period: `none` of no demand; of y pieces `start + ln G(y, r) + y slope`.
#[derive(Debug)]
struct Table {
    none: Vec<f32>,
    start: Vec<f32>,
    slope: Vec<f32>,
}

/// Each law of the grid: its shape, its idle share and the place of its mean.
fn grid() -> impl Iterator<Item = (f64, f64, usize)> {
    SHAPES
        .into_iter()
        .flat_map(|shape| IDLE.into_iter().flat_map(move |idle| (0..MEANS).map(move |mean| (shape, idle, mean))))
}

impl Table {
    fn new(means: &[f64], factor: f64) -> Self {
        let mut table =
            Self { none: Vec::with_capacity(GRID), start: Vec::with_capacity(GRID), slope: Vec::with_capacity(GRID) };
        for (shape, idle, mean) in grid() {
            let mean = means[mean] * factor / (1.0 - idle);
            let none = -shape * (mean / shape).ln_1p();
            table.none.push((idle + (1.0 - idle) * none.exp()).ln() as f32);
            table.start.push((none + (1.0 - idle).ln()) as f32);
            table.slope.push((mean / (shape + mean)).ln() as f32);
        }
        table
    }

    /// ln P(`pieces`), law by law.
    fn logarithms(&self, pieces: f64, into: &mut Vec<f32>) {
        into.clear();
        if pieces <= 0.0 {
            into.extend_from_slice(&self.none);
        } else {
            let least = LEAST_PROBABILITY.ln();
            let of_shape = self.start.chunks(GRID / SHAPES.len()).zip(self.slope.chunks(GRID / SHAPES.len()));
            for (shape, (starts, slopes)) in SHAPES.into_iter().zip(of_shape) {
                let ways = (lgamma(pieces + shape) - lgamma(shape) - lgamma(pieces + 1.0)) as f32;
                let pieces = pieces as f32;
                into.extend(starts.iter().zip(slopes).map(|(start, slope)| (start + ways + pieces * slope).max(least)));
            }
        }
    }
}

impl Fleet {
    /// Learns from what is known before `origin`; tells of `periods` periods in all.
    pub(super) fn before(series: &[Vec<f64>], origin: usize, cycle: usize, periods: usize) -> Self {
        let season = Season::before(series, origin, cycle);
        let largest = series.iter().filter_map(|of| mean(&of[..origin.min(of.len())])).fold(0.0, f64::max);
        let ratio = (BEYOND_LARGEST * largest).max(LEAST_LARGEST) / LEAST_MEAN;
        let means = (0..MEANS).map(|place| LEAST_MEAN * ratio.powf(place as f64 / (MEANS - 1) as f64)).collect();
        let mut fleet = Self { means, season, commonness: vec![0.0; GRID], tables: Vec::new(), table_of: Vec::new() };
        let mut steps: Vec<i64> = Vec::new();
        for period in 0..periods {
            let step = (fleet.season.at(period) / FACTOR_STEP).round() as i64;
            let place = steps.iter().position(|known| *known == step).unwrap_or_else(|| {
                steps.push(step);
                fleet.tables.push(Table::new(&fleet.means, (step as f64 * FACTOR_STEP).exp()));
                steps.len() - 1
            });
            fleet.table_of.push(place);
        }
        let every = series.len().div_ceil(SERIES_MAX).max(1);
        let heard: Vec<&[f64]> = series.iter().step_by(every).map(|of| &of[..origin.min(of.len())]).collect();
        let likelihoods: Vec<Vec<f32>> = heard
            .into_par_iter()
            .filter(|history| history.iter().any(|y| y.is_finite()))
            .map(|history| {
                let mut filter = Filter::new(&fleet, &[1.0]);
                history.iter().for_each(|&y| filter.step(y));
                exponentials(&filter.logs[0])
            })
            .collect();
        fleet.commonness = commonness(&likelihoods).into_iter().map(|weight| weight.ln() as f32).collect();
        fleet
    }
}

/// How common each law is: the weights that make all series likeliest.
///
/// * `likelihoods`: of each series, law by law, up to a factor.
fn commonness(likelihoods: &[Vec<f32>]) -> Vec<f64> {
    let mut weights = vec![1.0 / GRID as f64; GRID];
    for _ in 0..STEPS {
        let sums: Vec<Vec<f64>> = likelihoods
            .par_chunks(SERIES_AT_ONCE)
            .map(|chunk| {
                let mut sums = vec![0.0; GRID];
                for of_series in chunk {
                    let total: f64 = of_series.iter().zip(&weights).map(|(l, w)| f64::from(*l) * w).sum();
                    let scale = 1.0 / total.max(f64::MIN_POSITIVE);
                    sums.iter_mut().zip(of_series).for_each(|(sum, l)| *sum += f64::from(*l) * scale);
                }
                sums
            })
            .collect();
        if sums.is_empty() {
            return weights;
        }
        for (place, weight) in weights.iter_mut().enumerate() {
            *weight *= sums.iter().map(|of_chunk| of_chunk[place]).sum::<f64>();
        }
        let all: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= all);
    }
    weights.iter_mut().for_each(|weight| *weight += LEAST_COMMON);
    let all: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / all).collect()
}

/// A law that a series may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Likely {
    /// How likely it is.
    pub(super) weight: f64,
    /// Probability that the series idles.
    pub(super) idle: f64,
    /// Mean pieces where it does not.
    pub(super) mean: f64,
    /// Shape of the negative binomial law then.
    pub(super) shape: f64,
}

/// One series as its periods come in: how likely each law is by the periods so far, under each discount.
#[derive(Debug, Clone)]
pub(super) struct Filter<'a> {
    fleet: &'a Fleet,
    discounts: &'a [f32],
    logs: Vec<Vec<f32>>,
    period: usize,
    scratch: Vec<f32>,
}

impl<'a> Filter<'a> {
    pub(super) fn new(fleet: &'a Fleet, discounts: &'a [f32]) -> Self {
        let logs = vec![vec![0.0; GRID]; discounts.len()];
        Self { fleet, discounts, logs, period: 0, scratch: Vec::with_capacity(GRID) }
    }

    /// After the whole history.
    pub(super) fn after(fleet: &'a Fleet, history: &[f64]) -> Self {
        let mut filter = Self::new(fleet, &DISCOUNTS);
        history.iter().for_each(|&y| filter.step(y));
        filter
    }

    /// Takes in the next period; NaN is not known, and makes the others older.
    pub(super) fn step(&mut self, pieces: f64) {
        let is_known = pieces.is_finite();
        if is_known {
            self.table(self.period).logarithms(pieces.ceil(), &mut self.scratch);
        }
        self.period += 1;
        for (logs, &discount) in self.logs.iter_mut().zip(self.discounts) {
            if is_known {
                logs.iter_mut().zip(&self.scratch).for_each(|(log, new)| *log = (*log + new) * discount);
            } else if discount < 1.0 {
                logs.iter_mut().for_each(|log| *log *= discount);
            }
        }
    }

    fn table(&self, period: usize) -> &'a Table {
        &self.fleet.tables[self.fleet.table_of[period]]
    }

    /// How likely each law is now, by discount; each sums to 1.
    pub(super) fn posteriors(&self) -> Vec<Vec<f32>> {
        let of = |logs: &Vec<f32>| {
            let logs: Vec<f32> = logs.iter().zip(&self.fleet.commonness).map(|(log, common)| log + common).collect();
            let mut likely = exponentials(&logs);
            let all: f32 = likely.iter().sum();
            likely.iter_mut().for_each(|p| *p /= all);
            likely
        };
        self.logs.iter().map(of).collect()
    }

    /// The likely laws of a run of periods, each with the weight that the discounts give it; those of less than `least` are left out.
    ///
    /// * `weights`: of each discount.
    pub(super) fn mixed(&self, weights: &[f64], periods: std::ops::Range<usize>, least: f64) -> Vec<Likely> {
        let count = periods.len().max(1) as f64;
        let factor = periods.map(|period| self.fleet.season.at(period).exp()).sum::<f64>() / count;
        let mut of_law = vec![0.0; GRID];
        for (weight, posterior) in weights.iter().zip(self.posteriors()) {
            of_law.iter_mut().zip(posterior).for_each(|(sum, p)| *sum += weight * f64::from(p));
        }
        let laws = grid().zip(of_law).filter(|(_, weight)| *weight >= least);
        let likely = |((shape, idle, mean), weight): ((f64, f64, usize), f64)| Likely {
            weight,
            idle,
            mean: self.fleet.means[mean] * factor / (1.0 - idle),
            shape,
        };
        laws.map(likely).collect()
    }

    /// P(a coming period takes `pieces`), by discount.
    pub(super) fn probabilities(&mut self, period: usize, pieces: f64) -> [f64; DISCOUNTS.len()] {
        let table = self.table(period);
        table.logarithms(pieces.ceil(), &mut self.scratch);
        let posteriors = self.posteriors();
        let mut probabilities = [0.0; DISCOUNTS.len()];
        for (probability, posterior) in probabilities.iter_mut().zip(&posteriors) {
            let likely = posterior.iter().zip(&self.scratch).filter(|(p, _)| **p > 0.0);
            *probability = likely.map(|(p, log)| f64::from(p * log.exp())).sum();
        }
        probabilities
    }
}

/// e to each number less the largest; what is far below it is nothing.
fn exponentials(logs: &[f32]) -> Vec<f32> {
    let most = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = LEAST_LIKELY.ln();
    logs.iter().map(|log| log - most).map(|log| if log < least { 0.0 } else { log.exp() }).collect()
}

/// The mean of what is known; none where nothing is.
fn mean(history: &[f64]) -> Option<f64> {
    let (sum, count) = history.iter().filter(|y| y.is_finite()).fold((0.0, 0.0), |(sum, n), y| (sum + y, n + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Two thirds idle in half of the months and take nine pieces or so in the others, a third take one in five months.
    fn series() -> Vec<Vec<f64>> {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut of = |rare: bool| -> Vec<f64> {
            let mut draw = || match (rare, random.random_bool(0.5)) {
                (true, _) => f64::from(u8::from(random.random_bool(0.2))),
                (false, true) => 0.0,
                (false, false) => f64::from((0..18).map(|_| u32::from(random.random_bool(0.5))).sum::<u32>()),
            };
            (0..40).map(|_| draw()).collect()
        };
        (0..300).map(|n| of(n % 3 == 0)).collect()
    }

    fn mass(fleet: &Fleet, is_meant: impl Fn(f64, f64) -> bool) -> f64 {
        let common = grid().zip(&fleet.commonness);
        common
            .filter(|((_, idle, mean), _)| is_meant(*idle, fleet.means[*mean]))
            .map(|(_, log)| f64::from(log.exp()))
            .sum()
    }

    #[test]
    fn laws_are_as_common_as_the_series_that_have_them() {
        let series = series();
        let fleet = Fleet::before(&series, 40, 12, 41);
        let (idling, rare) =
            (mass(&fleet, |idle, mean| idle > 0.4 && (3.0..7.0).contains(&mean)), mass(&fleet, |_, mean| mean < 0.5));
        assert!((idling - 2.0 / 3.0).abs() < 0.05 && (rare - 1.0 / 3.0).abs() < 0.05, "{idling} {rare}");
        assert!((mass(&fleet, |_, _| true) - 1.0).abs() < 1e-4);
        // Threads change nothing.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let alone = pool.install(|| Fleet::before(&series, 40, 12, 41));
        assert_eq!(alone.commonness, fleet.commonness);
    }

    #[test]
    fn a_filter_tells_the_laws_of_its_series_and_their_probabilities_sum_to_one() {
        let series = series();
        let fleet = Fleet::before(&series, 40, 0, 41);
        let mut filter = Filter::after(&fleet, &series[1]);
        for posterior in filter.posteriors() {
            assert!((posterior.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
        let sum: f64 = (0..200).map(|pieces| filter.probabilities(40, f64::from(pieces))[0]).sum();
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
        let none = filter.probabilities(40, 0.0);
        assert!(none.iter().all(|p| (p - 0.5).abs() < 0.15), "{none:?}");
        let mixed = filter.mixed(&[0.25; 4], 40..41, 0.0);
        assert!((mixed.iter().map(|law| law.weight).sum::<f64>() - 1.0).abs() < 1e-4);
        // What is not known makes the rest older and nothing likelier.
        let before = filter.posteriors();
        filter.step(f64::NAN);
        assert_eq!(filter.posteriors()[0], before[0]);
    }

    /// By hand, with an idle share of .5: mean 2 is 4 where it does not idle.
    #[test]
    fn logarithms_are_those_of_the_law() {
        let table = Table::new(&[2.0; MEANS], 1.0);
        let (mut seven, mut none) = (Vec::new(), Vec::new());
        table.logarithms(7.0, &mut seven);
        table.logarithms(0.0, &mut none);
        let place = grid().position(|(shape, idle, _)| shape == 2.5 && idle == 0.5).unwrap();
        let p: f64 = 2.5 / 6.5;
        let ways = lgamma(9.5) - lgamma(2.5) - lgamma(8.0);
        let expected = ways + 2.5 * p.ln() + 7.0 * (1.0 - p).ln() + 0.5_f64.ln();
        assert!((f64::from(seven[place]) - expected).abs() < 1e-5, "{} {expected}", seven[place]);
        assert!((f64::from(none[place]) - (0.5 + 0.5 * p.powf(2.5)).ln()).abs() < 1e-5);
    }
}
