//! Columns as bins: each feature is cut into at most [`BINS_MAX`] ranges of about as many rows each, and one for missing.
//!
//! Training sees bins alone, so that the best cut of a feature is found by a walk over a histogram and not over sorted rows
//! (Ke et al. 2017, LightGBM, section 2.1). A cut between two bins is kept as a number half-way between the values beside
//! it, so that a fitted tree asks for values and knows nothing of bins.

use rayon::prelude::*;

/// Most ranges of one feature: with the bin of what is missing they fit into a byte.
pub(super) const BINS_MAX: usize = 255;
/// The bin of missing values, in every feature; those of values follow it.
pub(super) const MISSING: u8 = 0;
/// Rows from which the borders of a feature are chosen; beyond it every n-th is looked at.
const BORDER_ROWS: usize = 200_000;

/// A training matrix in bins, column after column.
#[derive(Debug)]
pub(super) struct Binned {
    /// For each feature the upper border of each of its bins of values but the last, which has none.
    pub(super) borders: Vec<Vec<f64>>,
    columns: Vec<Vec<u8>>,
}

impl Binned {
    /// Bins the `width` columns of a matrix of rows.
    pub(super) fn new(rows: &[&[f64]], width: usize, bins: usize) -> Self {
        let bins = bins.clamp(2, BINS_MAX);
        let of = |feature: usize| {
            let borders = borders(rows, feature, bins);
            let column = rows.iter().map(|row| bin(&borders, row[feature])).collect();
            (borders, column)
        };
        let (borders, columns) = (0..width).into_par_iter().map(of).unzip();
        Self { borders, columns }
    }

    /// The bins of a feature, row by row.
    pub(super) fn column(&self, feature: usize) -> &[u8] {
        &self.columns[feature]
    }
}

/// The bin of a value: the first whose upper border is not below it.
fn bin(borders: &[f64], value: f64) -> u8 {
    if value.is_nan() {
        return MISSING;
    }
    // At most 254 borders, so the place fits.
    1 + borders.partition_point(|&border| border < value) as u8
}

/// Borders that share the rows of a feature out evenly; a value of its own bin where there are few.
fn borders(rows: &[&[f64]], feature: usize, bins: usize) -> Vec<f64> {
    let every = rows.len().div_ceil(BORDER_ROWS).max(1);
    let mut values: Vec<f64> =
        rows.iter().step_by(every).map(|row| row[feature]).filter(|value| !value.is_nan()).collect();
    values.sort_unstable_by(f64::total_cmp);
    // Distinct values and how many rows have them.
    let mut distinct: Vec<(f64, usize)> = Vec::new();
    for value in values.iter().copied() {
        match distinct.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => distinct.push((value, 1)),
        }
    }
    let between = |pair: &[(f64, usize)]| middle(pair[0].0, pair[1].0);
    if distinct.len() <= bins {
        return distinct.windows(2).map(between).collect();
    }
    let (mut borders, mut inside, mut left) = (Vec::with_capacity(bins - 1), 0, values.len());
    for pair in distinct.windows(2) {
        inside += pair[0].1;
        let open = bins - borders.len();
        if open > 1 && inside * open >= left {
            borders.push(between(pair));
            left -= inside;
            inside = 0;
        }
    }
    borders
}

/// Between two values, never the upper one: what is at or below it goes left.
fn middle(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    if middle < high && middle >= low { middle } else { low }
}
