//! Gradient boosting of trees over histograms.
//!
//! Missing values have a bin of their own and a direction at every cut. Sums are whole numbers, so a fit is the same for any
//! number of threads. The way is LightGBM's (Ke et al. 2017): bins of about as many rows each, leaf-wise growth, the larger
//! child's histogram by subtraction; leaf values are Newton steps with a ridge (Chen and Guestrin 2016).

use rand::seq::index::sample;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

mod bins;
mod gradients;
mod grow;
mod histogram;
#[cfg(test)]
mod tests;
mod tree;

pub use gradients::Objective;

use bins::Binned;
use gradients::Gradients;
use grow::{Grown, Job};
use histogram::{Bounds, Rules};
use tree::{ROWS_AT_ONCE, Tree};

/// How trees are boosted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoostingOptions {
    /// What is learnt.
    pub objective: Objective,
    /// Most trees.
    pub trees: usize,
    /// Share of a tree's answer that is added, in (0, 1].
    pub learning_rate: f64,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// Most cuts from the root to a leaf.
    pub depth: usize,
    /// Fewest rows in a leaf, reckoned from its share of the curvature.
    pub rows_in_leaf: f64,
    /// Least curvature in a leaf: weight times p (1 - p) for two classes, weight for a number.
    pub curvature_in_leaf: f64,
    /// Ridge on leaf values.
    pub ridge: f64,
    /// Least gain of a cut.
    pub least_gain: f64,
    /// Most ranges of a feature, 2 to 255.
    pub bins: usize,
    /// Share of the features that a tree may ask for, in (0, 1].
    pub feature_share: f64,
    /// Share of the rows that a tree learns from, in (0, 1].
    pub row_share: f64,
    /// Ends after so many trees that did not better the held-out rows.
    pub patience: usize,
    /// The same rows and seed give the same trees.
    pub seed: u64,
}

impl Default for BoostingOptions {
    fn default() -> Self {
        Self {
            objective: Objective::Logistic,
            trees: 300,
            learning_rate: 0.1,
            leaves: 31,
            depth: 64,
            rows_in_leaf: 20.0,
            curvature_in_leaf: 1e-3,
            ridge: 0.0,
            least_gain: 0.0,
            bins: 255,
            feature_share: 1.0,
            row_share: 1.0,
            patience: 50,
            seed: 1,
        }
    }
}

/// Rows to learn from, all of one width, missing cells NaN.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Features, row by row.
    pub rows: &'a [&'a [f64]],
    /// 0 or 1, or the number to learn.
    pub labels: &'a [f64],
    /// What each row counts, > 0.
    pub weights: &'a [f64],
}

/// Trees whose answers add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boosting {
    objective: Objective,
    width: usize,
    start: f64,
    trees: Vec<Tree>,
}

/// What trees could not be grown from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No rows, no features, or columns of different lengths.
    #[error("cannot boost trees on {rows} rows of {width} features with {labels} labels and {weights} weights")]
    Shape {
        /// Rows given.
        rows: usize,
        /// Features of the first.
        width: usize,
        /// Labels given.
        labels: usize,
        /// Weights given.
        weights: usize,
    },
}

impl Boosting {
    /// Grows trees.
    ///
    /// * `monotone`: +1 where the answer may only rise with a feature, -1 where it may only fall; empty for none.
    /// * `held_out`: rows that say when to stop; the trees after the best are dropped.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn fit(
        table: Table<'_>,
        held_out: Option<Table<'_>>,
        monotone: &[i8],
        options: &BoostingOptions,
    ) -> Result<Self, Error> {
        let width = table.rows.first().map_or(0, |row| row.len());
        let (rows, labels, weights) = (table.rows.len(), table.labels.len(), table.weights.len());
        let even = table.rows.iter().all(|row| row.len() == width);
        if rows == 0 || width == 0 || labels != rows || weights != rows || !even {
            return Err(Error::Shape { rows, width, labels, weights });
        }
        let monotone: Vec<i8> = (0..width).map(|feature| monotone.get(feature).copied().unwrap_or(0)).collect();
        let binned = Binned::new(table.rows, width, options.bins);
        let total: f64 = table.weights.iter().sum();
        let mean = table.labels.iter().zip(table.weights).map(|(label, weight)| label * weight).sum::<f64>() / total;
        let start = options.objective.start(mean);
        let mut fitted = Self { objective: options.objective, width, start, trees: Vec::new() };
        let mut scores = vec![start; rows];
        let mut watched = held_out.map(|table| Watched::new(table, start, options));
        let mut gradients = Gradients::default();
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        while fitted.trees.len() < options.trees {
            gradients.update(options.objective, &scores, table.labels, table.weights);
            let features = chosen(&mut random, width, options.feature_share);
            let rows_used = chosen(&mut random, rows, options.row_share);
            let job = Job {
                binned: &binned,
                features: &features,
                monotone: &monotone,
                rules: options.rules(&gradients),
                leaves: options.leaves.max(2),
                depth: options.depth.max(1),
            };
            let mut grown = job.grow(rows_used.iter().map(|&row| row as u32).collect(), &gradients.packed);
            if grown.tree.len() == 1 {
                break;
            }
            settle(&mut grown, &gradients, options);
            if rows_used.len() == rows {
                add_to(&mut scores, &grown);
            } else {
                scores.par_iter_mut().zip(table.rows).for_each(|(score, row)| *score += grown.tree.value(row));
            }
            fitted.trees.push(grown.tree);
            if let (Some(watched), Some(tree)) = (&mut watched, fitted.trees.last())
                && watched.is_over(tree, fitted.trees.len())
            {
                break;
            }
        }
        if let Some(watched) = watched {
            fitted.trees.truncate(watched.best_trees);
        }
        Ok(fitted)
    }

    /// Features a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// The sum of the trees' answers for a row: log odds, or the number.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> f64 {
        debug_assert_eq!(row.len(), self.width, "a row of another feature space");
        self.trees.iter().fold(self.start, |score, tree| score + tree.value(row))
    }

    /// The scores of many rows, each as [`Boosting::score`] has it.
    #[must_use]
    pub fn scores(&self, rows: &[&[f64]]) -> Vec<f64> {
        let mut scores = vec![self.start; rows.len()];
        for (rows, scores) in rows.chunks(ROWS_AT_ONCE).zip(scores.chunks_mut(ROWS_AT_ONCE)) {
            for tree in &self.trees {
                for (row, score) in rows.iter().zip(scores.iter_mut()) {
                    *score += tree.value(row);
                }
            }
        }
        scores
    }

    /// What the score of a row means: a probability, not calibrated, or the number.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> f64 {
        self.objective.mean(self.score(row))
    }

    /// What the scores of many rows mean, each as [`Boosting::predict`] has it.
    #[must_use]
    pub fn predictions(&self, rows: &[&[f64]]) -> Vec<f64> {
        self.scores(rows).into_iter().map(|score| self.objective.mean(score)).collect()
    }

    /// The leaf of each tree that a row falls into.
    #[must_use]
    pub fn leaves(&self, row: &[f64]) -> Vec<u32> {
        self.trees.iter().map(|tree| u32::try_from(tree.leaf(row)).unwrap_or(u32::MAX)).collect()
    }

    /// Whether there is one leaf a tree, and each is one.
    #[must_use]
    pub fn has_leaves(&self, leaves: &[u32]) -> bool {
        leaves.len() == self.trees.len() && self.trees.iter().zip(leaves).all(|(tree, &leaf)| tree.has_leaf(leaf))
    }

    /// The Shapley value of each feature in the score of a row; `score = base + sum`. Returns the base.
    ///
    /// * `contributions`: one a feature. Overwritten.
    pub fn contributions(&self, row: &[f64], contributions: &mut Vec<f64>) -> f64 {
        contributions.clear();
        contributions.resize(self.width, 0.0);
        let mut paths = Vec::new();
        for tree in &self.trees {
            tree.add_contributions(row, &mut paths, contributions);
        }
        self.start + self.trees.iter().map(|tree| tree.values[0]).sum::<f64>()
    }

    /// Whether every tree is one: a file may have been damaged or made by hand.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.start.is_finite() && self.trees.iter().all(|tree| tree.is_sound(self.width))
    }
}

impl BoostingOptions {
    fn rules(&self, gradients: &Gradients) -> Rules {
        Rules {
            gradient_unit: gradients.gradient_unit,
            curvature_unit: gradients.curvature_unit,
            ridge: self.ridge,
            least_curvature: self.curvature_in_leaf,
            least_rows: self.rows_in_leaf,
            least_gain: self.least_gain,
        }
    }
}

/// A share of the first `of` numbers, in rising order.
fn chosen(random: &mut ChaCha8Rng, of: usize, share: f64) -> Vec<usize> {
    let count = ((of as f64 * share).round() as usize).clamp(1, of);
    if count == of {
        return (0..of).collect();
    }
    let mut chosen = sample(random, of, count).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Gives leaves the values that the exact gradients of their rows ask for, and the other nodes the mean of theirs.
fn settle(grown: &mut Grown, gradients: &Gradients, options: &BoostingOptions) {
    let value = |(rows, bounds): (&std::ops::Range<usize>, &Bounds)| {
        let inside = grown.rows[rows.clone()].iter().map(|&row| gradients.exact[row as usize]);
        let (first, second) = inside.fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        options.learning_rate * (-first / (second + options.ridge)).clamp(bounds.low, bounds.high)
    };
    let places: Vec<(&std::ops::Range<usize>, &Bounds)> =
        grown.leaves.iter().map(|(_, rows)| rows).zip(&grown.bounds).collect();
    let values: Vec<f64> = places.into_par_iter().map(value).collect();
    for ((node, _), value) in grown.leaves.iter().zip(values) {
        grown.tree.values[*node] = value;
    }
    let tree = &mut grown.tree;
    // Children lie behind their parent.
    for node in (0..tree.len()).rev() {
        let left = tree.cuts[node].left as usize;
        if left != 0 {
            let (a, b) = (tree.covers[left], tree.covers[left + 1]);
            tree.values[node] = (tree.values[left] * a + tree.values[left + 1] * b) / (a + b);
        }
    }
}

/// Adds what a tree says of the rows that it was grown from.
fn add_to(scores: &mut [f64], grown: &Grown) {
    for (node, rows) in &grown.leaves {
        let value = grown.tree.values[*node];
        for &row in &grown.rows[rows.clone()] {
            scores[row as usize] += value;
        }
    }
}

/// Held-out rows and how well the trees so far do on them.
struct Watched<'a> {
    table: Table<'a>,
    objective: Objective,
    patience: usize,
    scores: Vec<f64>,
    best_loss: f64,
    best_trees: usize,
}

impl<'a> Watched<'a> {
    fn new(table: Table<'a>, start: f64, options: &BoostingOptions) -> Self {
        let scores = vec![start; table.rows.len()];
        let mut watched = Self {
            table,
            objective: options.objective,
            patience: options.patience,
            scores,
            best_loss: 0.0,
            best_trees: 0,
        };
        watched.best_loss = watched.loss();
        watched
    }

    fn loss(&self) -> f64 {
        let rows = self.scores.iter().zip(self.table.labels).zip(self.table.weights);
        rows.map(|((&score, &label), weight)| weight * self.objective.loss(score, label)).sum()
    }

    /// Whether the tree that was just added is one too many.
    fn is_over(&mut self, tree: &Tree, trees: usize) -> bool {
        self.scores.par_iter_mut().zip(self.table.rows).for_each(|(score, row)| *score += tree.value(row));
        let loss = self.loss();
        if loss < self.best_loss {
            (self.best_loss, self.best_trees) = (loss, trees);
        }
        trees >= self.best_trees + self.patience
    }
}
