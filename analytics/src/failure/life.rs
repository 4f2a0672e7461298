//! Remaining life where it is known: devices that are run until they fail.
//!
//! Boosted trees learn the time to the failure, up to a cap from which on the label says nothing (a healthy device degrades
//! only towards the end). The interval is conformal: of devices that the trees had not seen, what was predicted is compared
//! with what came, apart for each range of predictions, since errors near the end are small and far from it large (split
//! conformal prediction with Mondrian categories: Vovk, Gammerman and Shafer 2005, section 4.5; out-of-fold as in Barber et
//! al. 2021, *Predictive inference with the jackknife+*).

use harbinger_core::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

pub(super) mod wear;

use wear::Wear;

use crate::{
    boosting::{Boosting, BoostingOptions, Objective, Table},
    features::{Feature, FeatureSpace, Known},
    survival::RemainingLife,
};

/// Share of the rows whose remaining life must be known: else those that are would be a choice of the short-lived.
const KNOWN_SHARE: f64 = 0.9;
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
    /// The fold of its device.
    pub fold: usize,
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
    pub(super) fn can_learn(lives: &[Option<f64>]) -> bool {
        let known = lives.iter().flatten().count();
        known as f64 >= KNOWN_SHARE * lives.len() as f64 && known >= ROWS_IN_RANGE
    }

    /// Learns from rows of at least two folds, which `inputs` gave; `None` where it cannot.
    pub(super) fn fit(inputs: Inputs, rows: &[LifeRow<'_>], cap: Duration, seed: u64) -> Option<Self> {
        let folds = rows.iter().map(|row| row.fold + 1).max().unwrap_or(0);
        if folds < 2 {
            return None;
        }
        let options = BoostingOptions { seed, ..options(rows.len()) };
        let ones = vec![1.0; rows.len()];
        let columns = |used: &dyn Fn(usize) -> bool| -> (Vec<&[f64]>, Vec<f64>) {
            rows.iter().filter(|row| used(row.fold)).map(|row| (row.features, row.hours)).unzip()
        };
        let mut pairs: Vec<(f64, f64)> = Vec::with_capacity(rows.len());
        let mut trees = 0;
        for fold in 0..folds {
            let (inside, outside) = (columns(&|other| other != fold), columns(&|other| other == fold));
            let held_out = Table { rows: &outside.0, labels: &outside.1, weights: &ones[..outside.0.len()] };
            let learnt = Table { rows: &inside.0, labels: &inside.1, weights: &ones[..inside.0.len()] };
            let fitted = Boosting::fit(learnt, Some(held_out), &[], &options).ok()?;
            trees += fitted.trees();
            pairs.extend(fitted.scores(&outside.0).into_iter().zip(outside.1.iter().copied()));
        }
        // As many trees as were best on devices not seen.
        let options = BoostingOptions { trees: trees.div_ceil(folds).max(1), ..options };
        let (all, hours) = columns(&|_| true);
        let fits: Option<Vec<Boosting>> = (0..FITS)
            .map(|fit| {
                let options = BoostingOptions { seed: seed.wrapping_add(fit), ..options.clone() };
                Boosting::fit(Table { rows: &all, labels: &hours, weights: &ones }, None, &[], &options).ok()
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

/// Cuts predictions into ranges of about as many rows each, and takes the quantiles of what came less what was predicted.
///
/// A life at the cap is at least as long: to the upper quantile it is longer than any prediction.
fn ranges(mut pairs: Vec<(f64, f64)>, cap: f64) -> Vec<Range> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = (pairs.len() / ROWS_IN_RANGE).clamp(1, RANGES_MAX);
    let cut = |part: usize| part * pairs.len() / count;
    (0..count)
        .map(|part| {
            let inside = &pairs[cut(part)..cut(part + 1)];
            let sorted = |residual: &dyn Fn(&(f64, f64)) -> f64| {
                let mut residuals: Vec<f64> = inside.iter().map(residual).collect();
                residuals.sort_by(f64::total_cmp);
                residuals
            };
            let least = sorted(&|(predicted, came)| came - predicted);
            let most = sorted(&|(predicted, came)| if *came >= cap { cap } else { came - predicted });
            // The finite-sample quantile of conformal prediction: one row more than there are, at the outer side.
            let rows = inside.len();
            let at = |residuals: &[f64], rank: f64| residuals[(rank as usize).clamp(1, rows) - 1];
            let whole = (rows + 1) as f64;
            let upto = inside.last().map_or(0.0, |last| last.0);
            let low = at(&least, (0.05 * whole).floor());
            Range { upto, low, middle: at(&least, 0.5 * whole), high: at(&most, (0.95 * whole).ceil()) }
        })
        .collect()
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
        let rows: Vec<LifeRow<'_>> =
            owned.iter().map(|(features, hours, fold)| LifeRow { features, hours: *hours, fold: *fold }).collect();
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
        let known = |count: usize| (0..1_000).map(|n| (n < count).then_some(5.0)).collect::<Vec<_>>();
        assert!(LifeModel::can_learn(&known(950)) && !LifeModel::can_learn(&known(800)));
        assert!(!LifeModel::can_learn(&[Some(1.0); 10]));
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
