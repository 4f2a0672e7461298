//! Remaining life where it is known: devices that are run until they fail.
//!
//! Boosted trees learn the time to the failure, up to a cap from which on the label says nothing (a healthy device degrades
//! only towards the end). The interval is conformal: of devices that the trees had not seen, what was predicted is compared
//! with what came, apart for each range of predictions, since errors near the end are small and far from it large (split
//! conformal prediction with Mondrian categories: Vovk, Gammerman and Shafer 2005, section 4.5; out-of-fold as in Barber et
//! al. 2021, *Predictive inference with the jackknife+*).
//!
//! Of a device that still works, or that left before it failed, the last rows have no label, and those that have are too often of
//! the short-lived. Each labelled row counts for those that were lost like it: by the inverse of the probability to be watched as long as
//! its label is (Robins and Rotnitzky 1992).

use harbinger_core::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

pub(super) mod wear;

use wear::Wear;

use crate::{
    boosting::{Boosting, BoostingOptions, Objective, Table},
    features::{Feature, FeatureSpace, Known},
    lifetime::{KaplanMeier, Lifetime},
    survival::RemainingLife,
};

/// Share of the rows whose remaining life must be known: else too few stand for too many.
const KNOWN_SHARE: f64 = 0.5;
/// Most rows that one row counts for.
const MOST_WEIGHT: f64 = 20.0;
/// Held-out rows that a range of predictions must have to say how wide its interval is.
const ROWS_IN_RANGE: usize = 200;
/// Most ranges of predictions.
const RANGES_MAX: usize = 20;
/// Fits whose mean is the prediction: one alone moves by some hundredths with its seed.
const FITS: u64 = 3;

/// A row whose device failed later, or which is known to have lived as long as the cap.
#[derive(Debug, Clone, Copy)]
pub(super) struct LifeRow<'a> {
    /// Features.
    pub features: &'a [f64],
    /// Hours to the failure, at most the cap.
    pub hours: f64,
    /// How many rows it counts for, itself and those like it whose device was not watched long enough.
    pub weight: f64,
    /// The fold of its device.
    pub fold: usize,
}

/// What is known of the remaining life at a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Remaining {
    /// Hours to the failure, at most the cap.
    Known(f64),
    /// At least so many hours: nobody watched the device for longer.
    AtLeast(f64),
}

impl Remaining {
    /// The hours, where they are known.
    pub(super) fn known(self) -> Option<f64> {
        match self {
            Self::Known(hours) => Some(hours),
            Self::AtLeast(_) => None,
        }
    }
}

/// For how many rows one counts whose remaining life is known to be so many hours.
pub(super) struct Weights(KaplanMeier);

impl Weights {
    /// By how long devices were watched after each of the rows.
    pub(super) fn of(lives: &[Remaining]) -> Option<Self> {
        let watched = lives.iter().filter_map(|life| match *life {
            Remaining::Known(hours) => (hours > 0.0).then(|| Lifetime::from_new(hours, false)),
            Remaining::AtLeast(hours) => (hours > 0.0).then(|| Lifetime::from_new(hours, true)),
        });
        KaplanMeier::new(&watched.collect::<Vec<_>>()).ok().map(Self)
    }

    /// The weight of a row. A device that was watched for just as long would have shown its failure.
    pub(super) fn of_row(&self, hours: f64) -> f64 {
        (1.0 / self.0.survival(hours.next_down())).min(MOST_WEIGHT)
    }
}

/// What is learnt of remaining life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LifeModel {
    inputs: Inputs,
    /// Their mean is the prediction, in hours.
    fits: Vec<Boosting>,
    /// Ranges of predictions, rising.
    ranges: Vec<Range>,
}

/// How far from its prediction a life was, for predictions up to `upto` hours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    upto: f64,
    /// 5, 50 and 95 % quantiles of what came less what was predicted, in hours.
    low: f64,
    middle: f64,
    high: f64,
}

/// What remaining life is told by: wear, and of the family's features those that are about no signal; or all of those where
/// wear was not found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    wear: Option<Wear>,
    /// Places of features in rows of the family.
    others: Vec<usize>,
}

impl Inputs {
    pub(super) fn new(space: &FeatureSpace, wear: Option<Wear>) -> Self {
        let counts = |feature: &Feature| wear.is_none() || !feature.is_of_signal();
        let others = (0..space.width()).filter(|&place| counts(&space.features[place])).collect();
        Self { wear, others }
    }

    fn width(&self) -> usize {
        self.wear.as_ref().map_or(0, Wear::width) + self.others.len()
    }

    /// The row that remaining life is told by.
    ///
    /// * `row`: of the family's features at `t`.
    pub(super) fn row(&self, space: &FeatureSpace, row: &[f64], known: &Known<'_>, t: Timestamp) -> Vec<f64> {
        let mut told = Vec::with_capacity(self.width());
        if let Some(wear) = &self.wear {
            wear.tell(space, known, t, &mut told);
        }
        told.extend(self.others.iter().map(|&place| row[place]));
        told
    }
}

fn options(rows: usize) -> BoostingOptions {
    BoostingOptions {
        objective: Objective::Squared,
        trees: 1_000,
        learning_rate: 0.05,
        leaves: 15,
        bins: 63,
        // One device gives many rows that are alike: a leaf should not be one device.
        rows_in_leaf: (rows as f64 / 500.0).clamp(5.0, 100.0),
        ridge: 1.0,
        feature_share: 0.3,
        row_share: 0.7,
        patience: 50,
        ..BoostingOptions::default()
    }
}

impl LifeModel {
    /// Whether so many lives are known that a model of them would be one.
    pub(super) fn can_learn(lives: &[Remaining]) -> bool {
        let known = lives.iter().filter(|life| life.known().is_some()).count();
        known as f64 >= KNOWN_SHARE * lives.len() as f64 && known >= ROWS_IN_RANGE
    }

    /// Learns from rows of at least two folds, which `inputs` gave; `None` where it cannot.
    pub(super) fn fit(inputs: Inputs, rows: &[LifeRow<'_>], cap: Duration, seed: u64) -> Option<Self> {
        let folds = rows.iter().map(|row| row.fold + 1).max().unwrap_or(0);
        if folds < 2 {
            return None;
        }
        let options = BoostingOptions { seed, ..options(rows.len()) };
        let mut pairs: Vec<Told> = Vec::with_capacity(rows.len());
        let mut trees = 0;
        for fold in 0..folds {
            let (learnt, held_out) =
                (Columns::of(rows, |other| other != fold), Columns::of(rows, |other| other == fold));
            let fitted = Boosting::fit(learnt.table(), Some(held_out.table()), &[], &options).ok()?;
            trees += fitted.trees();
            let came = held_out.labels.iter().zip(&held_out.weights);
            let told = fitted.scores(&held_out.rows).into_iter().zip(came);
            pairs.extend(told.map(|(predicted, (&came, &weight))| Told { predicted, came, weight }));
        }
        // As many trees as were best on devices not seen.
        let options = BoostingOptions { trees: trees.div_ceil(folds).max(1), ..options };
        let all = Columns::of(rows, |_| true);
        let fits: Option<Vec<Boosting>> = (0..FITS)
            .map(|fit| {
                let options = BoostingOptions { seed: seed.wrapping_add(fit), ..options.clone() };
                Boosting::fit(all.table(), None, &[], &options).ok()
            })
            .collect();
        Some(Self { inputs, fits: fits?, ranges: ranges(pairs, cap.hours()) })
    }

    /// The row that [`LifeModel::predict`] takes: see [`Inputs::row`].
    pub(super) fn row(&self, space: &FeatureSpace, row: &[f64], known: &Known<'_>, t: Timestamp) -> Vec<f64> {
        self.inputs.row(space, row, known, t)
    }

    /// How far before *t* a row looks beside the family's features.
    pub(super) fn lookback(&self, space: &FeatureSpace) -> Duration {
        self.inputs.wear.as_ref().map_or(Duration::ZERO, |_| wear::lookback(space))
    }

    /// Remaining life in hours, at most `cap`.
    pub(super) fn predict(&self, row: &[f64], cap: Duration) -> RemainingLife {
        let mean = self.fits.iter().map(|fit| fit.predict(row)).sum::<f64>() / self.fits.len() as f64;
        let within = |hours: f64| hours.clamp(0.0, cap.hours());
        let place = self.ranges.partition_point(|range| range.upto < mean).min(self.ranges.len() - 1);
        let Range { low, middle, high, .. } = self.ranges[place];
        let mean = within(mean);
        let (p05, p50, p95) = (within(mean + low), within(mean + middle), within(mean + high));
        RemainingLife { mean, p05, p50, p95 }
    }

    /// Whether it fits a family's rows of so many features: a file may have been damaged or made by hand.
    pub(super) fn is_sound(&self, width: usize) -> bool {
        let numbers = |range: &Range| [range.upto, range.low, range.middle, range.high].iter().all(|n| n.is_finite());
        let inputs = &self.inputs;
        inputs.others.iter().all(|&place| place < width)
            && inputs.wear.as_ref().is_none_or(Wear::is_sound)
            && !self.fits.is_empty()
            && self.fits.iter().all(|fit| fit.width() == inputs.width() && fit.is_sound())
            && !self.ranges.is_empty()
            && self.ranges.iter().all(numbers)
            && self.ranges.is_sorted_by(|a, b| a.upto <= b.upto)
    }
}

/// Rows as trees take them.
struct Columns<'a> {
    rows: Vec<&'a [f64]>,
    labels: Vec<f64>,
    weights: Vec<f64>,
}

impl<'a> Columns<'a> {
    fn of(rows: &[LifeRow<'a>], used: impl Fn(usize) -> bool) -> Self {
        let used: Vec<&LifeRow<'a>> = rows.iter().filter(|row| used(row.fold)).collect();
        Self {
            rows: used.iter().map(|row| row.features).collect(),
            labels: used.iter().map(|row| row.hours).collect(),
            weights: used.iter().map(|row| row.weight).collect(),
        }
    }

    fn table(&self) -> Table<'_> {
        Table { rows: &self.rows, labels: &self.labels, weights: &self.weights }
    }
}

/// What was predicted of a device that the trees had not seen, and what came, in hours.
#[derive(Debug, Clone, Copy)]
struct Told {
    predicted: f64,
    came: f64,
    weight: f64,
}

/// Cuts predictions into ranges of about as many rows each, and takes the quantiles of what came less what was predicted.
///
/// A life at the cap is at least as long: to the upper quantile it is longer than any prediction.
fn ranges(mut pairs: Vec<Told>, cap: f64) -> Vec<Range> {
    pairs.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
    let count = (pairs.len() / ROWS_IN_RANGE).clamp(1, RANGES_MAX);
    let cut = |part: usize| part * pairs.len() / count;
    (0..count)
        .map(|part| {
            let inside = &pairs[cut(part)..cut(part + 1)];
            let sorted = |residual: &dyn Fn(&Told) -> f64| {
                let mut residuals: Vec<(f64, f64)> = inside.iter().map(|told| (residual(told), told.weight)).collect();
                residuals.sort_by(|a, b| a.0.total_cmp(&b.0));
                residuals
            };
            let least = sorted(&|told| told.came - told.predicted);
            let most = sorted(&|told| if told.came >= cap { cap } else { told.came - told.predicted });
            let upto = inside.last().map_or(0.0, |last| last.predicted);
            let (low, middle, high) = (lower(&least, 0.05), lower(&least, 0.5), upper(&most, 0.95));
            Range { upto, low, middle, high }
        })
        .collect()
}

/// The weight until which a share of sorted numbers goes. As in conformal prediction one row more than there are counts, at the
/// outer side.
fn weight_until(sorted: &[(f64, f64)], share: f64) -> f64 {
    let all: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    share * (all + all / sorted.len() as f64)
}

/// The last of sorted numbers, each with its weight, that the share reaches; else the first.
fn lower(sorted: &[(f64, f64)], share: f64) -> f64 {
    let until = weight_until(sorted, share);
    let mut sum = 0.0;
    let reached = sorted.iter().take_while(|(_, weight)| {
        sum += weight;
        sum <= until
    });
    reached.last().or(sorted.first()).map_or(0.0, |(number, _)| *number)
}

/// The first of sorted numbers, each with its weight, that reaches the share; else the last.
fn upper(sorted: &[(f64, f64)], share: f64) -> f64 {
    let until = weight_until(sorted, share);
    let mut sum = 0.0;
    let reaches = sorted.iter().find(|(_, weight)| {
        sum += weight;
        sum >= until
    });
    reaches.or(sorted.last()).map_or(0.0, |(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const CAP: Duration = Duration::from_hours(120);

    /// Devices that wear at a rate of their own and fail at a wear of one, seen through noise: features and hours to the
    /// failure, and which device.
    fn devices(range: std::ops::Range<u64>) -> Vec<(Vec<f64>, f64, usize)> {
        let mut rows = Vec::new();
        for device in range {
            let mut random = ChaCha8Rng::seed_from_u64(device);
            let life = random.random_range(150..300);
            for hour in 0..life {
                let wear = f64::from(hour) / f64::from(life);
                let seen = wear + random.random_range(-0.05..0.05);
                let hours = f64::from(life - hour).min(CAP.hours());
                rows.push((vec![seen, f64::from(hour), random.random()], hours, device as usize));
            }
        }
        rows
    }

    fn learn(rows: &[(Vec<f64>, f64, usize)]) -> LifeModel {
        let row = |(features, hours, device): &'_ (Vec<f64>, f64, usize)| (features.clone(), *hours, device % 5);
        let owned: Vec<(Vec<f64>, f64, usize)> = rows.iter().map(row).collect();
        let rows: Vec<LifeRow<'_>> = owned
            .iter()
            .map(|(features, hours, fold)| LifeRow { features, hours: *hours, weight: 1.0, fold: *fold })
            .collect();
        let inputs = Inputs { wear: None, others: vec![0, 1, 2] };
        LifeModel::fit(inputs, &rows, CAP, 1).unwrap()
    }

    #[test]
    fn lives_of_devices_not_seen_lie_inside_the_interval_nine_times_of_ten() {
        let fitted = learn(&devices(0..80));
        let unseen = devices(100..200);
        let (mut inside, mut squares, mut spread) = (0, 0.0, 0.0);
        let middle = unseen.iter().map(|(_, hours, _)| hours).sum::<f64>() / unseen.len() as f64;
        for (features, hours, _) in &unseen {
            let RemainingLife { mean, p05, p50, p95 } = fitted.predict(features, CAP);
            assert!(p05 <= p50 && p50 <= p95 && (0.0..=CAP.hours()).contains(&mean));
            inside += usize::from((p05..=p95).contains(hours));
            squares += (mean - hours).powi(2);
            spread += (middle - hours).powi(2);
        }
        let share = inside as f64 / unseen.len() as f64;
        assert!((0.84..=0.96).contains(&share), "{share} inside");
        assert!(squares < 0.1 * spread, "{} of the spread is left", squares / spread);
    }

    #[test]
    fn what_is_not_known_of_most_is_not_learnt() {
        let life = |is_known| if is_known { Remaining::Known(5.0) } else { Remaining::AtLeast(5.0) };
        let known = |count: usize| (0..1_000).map(|n| life(n < count)).collect::<Vec<_>>();
        assert!(LifeModel::can_learn(&known(550)) && !LifeModel::can_learn(&known(450)));
        assert!(!LifeModel::can_learn(&[Remaining::Known(1.0); 10]));
    }

    /// Devices leave at random, and nobody knows when those would have failed: rows that count for them have the mean of all.
    #[test]
    fn rows_count_for_those_that_were_lost() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let (mut truth, mut lives) = (0.0, Vec::new());
        for _ in 0..20_000 {
            let (life, watched): (f64, f64) = (random.random_range(1.0..100.0), random.random_range(10.0..150.0));
            truth += life / 20_000.0;
            lives.push(if life <= watched { Remaining::Known(life) } else { Remaining::AtLeast(watched) });
        }
        let weights = Weights::of(&lives).unwrap();
        let known: Vec<f64> = lives.iter().filter_map(|life| life.known()).collect();
        let plain = known.iter().sum::<f64>() / known.len() as f64;
        let (sum, weight) = known
            .iter()
            .map(|&hours| (hours * weights.of_row(hours), weights.of_row(hours)))
            .fold((0.0, 0.0), |(sum, all), (hours, weight)| (sum + hours, all + weight));
        assert!(plain < 0.92 * truth, "{plain} of {truth}: the long-lived are lost more often");
        assert!((sum / weight - truth).abs() < 0.02 * truth, "{} of {truth}", sum / weight);
        assert!(Weights::of(&[Remaining::Known(3.0)]).unwrap().of_row(3.0) == 1.0);
    }

    #[test]
    fn quantiles_are_those_of_conformal_prediction_and_count_weights() {
        let plain: Vec<(f64, f64)> = (1..=19).map(|n| (f64::from(n), 1.0)).collect();
        assert_eq!((lower(&plain, 0.05), lower(&plain, 0.5), upper(&plain, 0.95)), (1.0, 10.0, 19.0));
        let twice: Vec<(f64, f64)> = plain.iter().map(|&(n, _)| (n, if n > 10.0 { 2.0 } else { 1.0 })).collect();
        assert_eq!((lower(&twice, 0.5), upper(&twice, 0.5)), (12.0, 13.0));
    }

    #[test]
    fn a_damaged_one_is_noticed() {
        let fitted = learn(&devices(0..10));
        let mut again: LifeModel = serde_json::from_str(&serde_json::to_string(&fitted).unwrap()).unwrap();
        assert!(again == fitted && again.is_sound(3) && !again.is_sound(2));
        again.ranges.clear();
        assert!(!again.is_sound(3));
    }
}
