//! Wear: along which combinations of signals devices move from new to failed, and how far and how fast one has moved.
//!
//! A signal by itself is noise with a small drift below it; signals that drift together, added up, show it long before. Two
//! kinds of combinations are sought in devices that were run until they failed: the one that tells the remaining life best by
//! least squares, and those in which the late differ most from the early, measured in the spread of the healthy (Fisher's
//! discriminant directions; Hastie, Tibshirani and Friedman 2009, section 4.3.3), of which there may be several: devices fail
//! in more than one way. Each is told as windows, and as the change since the device was new or repaired.

use harbinger_core::{
    Duration, SignalId, Summary, Timestamp,
    history::{self},
};
use serde::{Deserialize, Serialize};
use smartcore::linalg::{
    basic::{arrays::Array, matrix::DenseMatrix},
    traits::evd::EVDDecomposable,
};

use crate::features::{Feature, FeatureSpace, Known, tail_of};

/// Most directions in which the late differ from the early.
const DIRECTIONS: usize = 6;
/// Of a device's longest remaining life, the share from which on it is early, and one less it the share until which it is late.
const EARLY: f64 = 5.0 / 6.0;
/// Added to each variance, in those of the signals: what hardly moves would else decide alone.
const SHRINKAGE: f64 = 0.02;
/// Buckets of the longest window: what is older says little of how fast a device wears now, and the live service need not read
/// it.
const LONGEST_BUCKETS: i64 = 1_000;
/// Numbers that a combination is told by.
const NUMBERS: usize = 6;

/// Combinations of signals that tell wear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::failure) struct Wear {
    signals: Vec<SignalId>,
    /// What is usual of each signal.
    center: Vec<f64>,
    /// What each signal adds, for each combination.
    parts: Vec<Vec<f64>>,
}

/// The newest values of a device's signals, with its place among devices and the hours that it had left.
#[derive(Debug, Clone, Copy)]
pub(in crate::failure) struct Seen<'a> {
    /// Features of the family's space.
    pub features: &'a [f64],
    /// The device.
    pub device: usize,
    /// Hours to the failure, at most the cap.
    pub hours: f64,
}

/// How far before *t* wear looks.
pub(in crate::failure) fn lookback(space: &FeatureSpace) -> Duration {
    Duration::from_millis((LONGEST_BUCKETS + 1) * space.windows.step.millis())
}

impl Wear {
    /// What rows of devices show, in order of device; `None` where no signal varies or no device was seen both early and late.
    pub(in crate::failure) fn fit(space: &FeatureSpace, rows: &[Seen<'_>]) -> Option<Self> {
        let newest = |signal: &SignalId| Feature::ShortMean(signal.clone());
        let place = |signal: &SignalId| space.features.iter().position(|feature| *feature == newest(signal));
        let columns = space.measured().filter_map(|signal| Some((signal.clone(), place(signal)?)));
        // Signals that vary, each with its place in a row, its mean and its standard deviation.
        let varying = columns.filter_map(|(signal, place)| {
            let (mean, spread) = moments(rows.iter().map(|row| row.features[place]))?;
            (spread > 1e-9 * mean.abs()).then_some((signal, place, mean, spread))
        });
        let varying: Vec<(SignalId, usize, f64, f64)> = varying.collect();
        let scaled = |row: &Seen<'_>| -> Vec<f64> {
            let of = |(_, place, mean, spread): &(SignalId, usize, f64, f64)| (row.features[*place] - mean) / spread;
            varying.iter().map(of).map(|value| if value.is_nan() { 0.0 } else { value }).collect()
        };
        let vectors: Vec<Vec<f64>> = rows.iter().map(scaled).collect();
        let mut parts = directions(&vectors, rows)?;
        parts.push(least_squares(&vectors, rows)?);
        for parts in &mut parts {
            parts.iter_mut().zip(&varying).for_each(|(part, (.., spread))| *part /= spread);
        }
        if !parts.iter().flatten().all(|part| part.is_finite()) {
            return None;
        }
        let (signals, center) = varying.into_iter().map(|(signal, _, mean, _)| (signal, mean)).unzip();
        Some(Self { signals, center, parts })
    }

    /// Numbers that it adds to a row.
    pub(in crate::failure) fn width(&self) -> usize {
        self.parts.len() * NUMBERS
    }

    /// Adds to a row how worn a device is at `t`. A signal without samples in a window counts as what is usual of it.
    pub(in crate::failure) fn tell(&self, space: &FeatureSpace, known: &Known<'_>, t: Timestamp, row: &mut Vec<f64>) {
        let told: Vec<[Option<f64>; NUMBERS]> = self
            .signals
            .iter()
            .zip(&self.center)
            .map(|(signal, center)| tell(space, known, signal, *center, t))
            .collect();
        for parts in &self.parts {
            row.extend((0..NUMBERS).map(|number| {
                let present = told.iter().zip(parts).filter_map(|(told, part)| Some(part * told[number]?));
                present.reduce(|sum, part| sum + part).unwrap_or(f64::NAN)
            }));
        }
    }

    /// Whether it is what [`Wear::fit`] could have made: a file may have been damaged or made by hand.
    pub(in crate::failure) fn is_sound(&self) -> bool {
        let width = self.signals.len();
        self.center.len() == width
            && self.parts.iter().all(|parts| parts.len() == width)
            && self.parts.iter().flatten().chain(&self.center).all(|number| number.is_finite())
    }
}

/// What is told of a signal: middle and long mean, both again less the mean since the device was new or repaired, and the
/// trends over the long window and since then.
fn tell(
    space: &FeatureSpace,
    known: &Known<'_>,
    signal: &SignalId,
    center: f64,
    t: Timestamp,
) -> [Option<f64>; NUMBERS] {
    let windows = &space.windows;
    let buckets = known.timeline.signal(signal);
    let tail = tail_of(known.readings, signal, t.floor_to(windows.step), t);
    let longest = t - Duration::from_millis(LONGEST_BUCKETS * windows.step.millis());
    let since = |from: Timestamp| -> Summary { history::window(buckets, from, t).merge(&tail) };
    let whole = since(space.healthy_from(known, t).map_or(longest, |begin| begin.max(longest)));
    let (mid, long) = (since(t - windows.mid), since(t - windows.long));
    let (mid_mean, long_mean, whole_mean) = (mid.mean(), long.mean(), whole.mean());
    let less = |now: Option<f64>| Some(now? - whole_mean?);
    [
        mid_mean.map(|mean| mean - center),
        long_mean.map(|mean| mean - center),
        less(mid_mean),
        less(long_mean),
        long.slope_per_hour(),
        whole.slope_per_hour(),
    ]
}

/// Mean and standard deviation of the numbers that are not missing.
fn moments(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let present = values.filter(|value| value.is_finite());
    let count = present.clone().count() as f64;
    let mean = present.clone().sum::<f64>() / count;
    let spread = (present.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    (count > 0.0).then_some((mean, spread))
}

/// Directions in which devices that are about to fail differ most from what they were early, in spreads of the early.
fn directions(vectors: &[Vec<f64>], rows: &[Seen<'_>]) -> Option<Vec<Vec<f64>>> {
    let width = vectors.first()?.len();
    let (mut within, mut between) = (Square::new(width), Square::new(width));
    let mut start = 0;
    for device in rows.chunk_by(|a, b| a.device == b.device) {
        let vectors = &vectors[start..start + device.len()];
        start += device.len();
        let longest = device.iter().map(|row| row.hours).fold(0.0, f64::max);
        let of = |wanted: &dyn Fn(f64) -> bool| -> Vec<&Vec<f64>> {
            vectors
                .iter()
                .zip(device)
                .filter(|(_, row)| wanted(row.hours / longest))
                .map(|(vector, _)| vector)
                .collect()
        };
        let (early, late) = (of(&|share| share >= EARLY), of(&|share| share <= 1.0 - EARLY));
        if early.is_empty() || late.is_empty() {
            continue;
        }
        let (at_first, at_last) = (mean(&early, width), mean(&late, width));
        early.iter().for_each(|vector| within.add(&less(vector, &at_first)));
        between.add(&less(&at_last, &at_first));
    }
    let (variances, axes) = within.decomposed(SHRINKAGE)?;
    let scaled: Vec<Vec<f64>> = axes
        .iter()
        .zip(&variances)
        .map(|(axis, variance)| axis.iter().map(|part| part / variance.sqrt()).collect())
        .collect();
    let (strengths, turns) = between.seen_from(&scaled).decomposed(0.0)?;
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| strengths[b].total_cmp(&strengths[a]).then(a.cmp(&b)));
    let direction = |place: usize| -> Vec<f64> {
        let of = |n: usize| turns[place].iter().zip(&scaled).map(|(turn, axis)| turn * axis[n]).sum();
        (0..width).map(of).collect()
    };
    Some(order.into_iter().take(DIRECTIONS).map(direction).collect())
}

/// The combination that tells the remaining life best.
fn least_squares(vectors: &[Vec<f64>], rows: &[Seen<'_>]) -> Option<Vec<f64>> {
    let width = vectors.first()?.len();
    let mean = rows.iter().map(|row| row.hours).sum::<f64>() / rows.len() as f64;
    let mut products = Square::new(width);
    let mut with_hours = vec![0.0; width];
    for (vector, row) in vectors.iter().zip(rows) {
        products.add(vector);
        with_hours.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value * (row.hours - mean));
    }
    let (variances, axes) = products.decomposed(SHRINKAGE / 10.0)?;
    let mut parts = vec![0.0; width];
    for (axis, variance) in axes.iter().zip(&variances) {
        let along = axis.iter().zip(&with_hours).map(|(part, sum)| part * sum).sum::<f64>() / variance;
        parts.iter_mut().zip(axis).for_each(|(part, of_axis)| *part += along * of_axis / rows.len() as f64);
    }
    Some(parts)
}

fn less(vector: &[f64], other: &[f64]) -> Vec<f64> {
    vector.iter().zip(other).map(|(a, b)| a - b).collect()
}

fn mean(vectors: &[&Vec<f64>], width: usize) -> Vec<f64> {
    (0..width).map(|n| vectors.iter().map(|vector| vector[n]).sum::<f64>() / vectors.len() as f64).collect()
}

/// Sums of the products of the numbers of vectors with each other.
struct Square {
    width: usize,
    count: f64,
    products: Vec<f64>,
}

impl Square {
    fn new(width: usize) -> Self {
        Self { width, count: 0.0, products: vec![0.0; width * width] }
    }

    fn add(&mut self, vector: &[f64]) {
        self.count += 1.0;
        for (row, value) in self.products.chunks_exact_mut(self.width).zip(vector) {
            row.iter_mut().zip(vector).for_each(|(sum, other)| *sum += value * other);
        }
    }

    /// The sums that the same vectors would have given on other axes.
    fn seen_from(&self, axes: &[Vec<f64>]) -> Self {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let turned = |axis: &Vec<f64>| -> Vec<f64> {
            self.products.chunks_exact(self.width).map(|row| dot(row, axis)).collect()
        };
        let turned: Vec<Vec<f64>> = axes.iter().map(turned).collect();
        let products = axes.iter().flat_map(|axis| turned.iter().map(|turned| dot(axis, turned))).collect();
        Self { width: axes.len(), count: self.count, products }
    }

    /// Variances, each with `more` added, and the axis of each; `None` where nothing was added.
    fn decomposed(&self, more: f64) -> Option<(Vec<f64>, Vec<Vec<f64>>)> {
        let Self { width, count, .. } = *self;
        if count == 0.0 || width == 0 {
            return None;
        }
        let covariance = self.products.iter().map(|product| product / count).collect();
        let decomposed = DenseMatrix::new(width, width, covariance, false).ok()?.evd(true).ok()?;
        let axis = |place: usize| (0..width).map(|n| *decomposed.V.get((n, place))).collect();
        let variances = decomposed.d.iter().map(|variance| variance.max(0.0) + more).collect();
        Some((variances, (0..width).map(axis).collect()))
    }
}

#[cfg(test)]
mod tests;
