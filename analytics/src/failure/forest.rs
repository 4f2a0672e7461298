//! Random forest: grown by `smartcore` on 0/1 labels, kept as flat node arrays.
//!
//! `smartcore`'s forest takes no missing values, so they are imputed by the training median beside a column that says "was
//! missing". Its own prediction walks a matrix and gives no reasons; the flat copy predicts a row in place and tells what
//! each feature contributed (Saabas 2014, *Interpreting random forests*: the change of the node mean along the path).

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};

/// How a forest is grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForestOptions {
    /// Number of trees.
    pub trees: u16,
    /// Fewest training rows in a leaf: a leaf of one row is certain of what it saw once.
    pub min_leaf: u16,
    /// Deepest node.
    pub max_depth: u16,
}

impl Default for ForestOptions {
    fn default() -> Self {
        Self { trees: 100, min_leaf: 3, max_depth: 16 }
    }
}

/// Rows that walk a tree one after the other, while it is in the cache.
const ROWS_AT_ONCE: usize = 1_024;

/// A grown forest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    width: usize,
    /// Training median of each feature; 0 for a feature that was never there.
    medians: Vec<f64>,
    /// Features that were missing in some training row: a 0/1 column each follows the features.
    flagged: Vec<usize>,
    trees: Vec<Tree>,
}

/// Node *n* is a leaf where `left[n]` is 0; else its children are `left[n]` (value <= threshold) and `left[n] + 1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    feature: Vec<u32>,
    threshold: Vec<f64>,
    left: Vec<u32>,
    /// Mean of the labels of the training rows that reached the node.
    mean: Vec<f64>,
}

/// A forest that could not be grown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No rows, or no features.
    #[error("failed to grow a forest from {rows} rows of {width} features")]
    Shape {
        /// Rows given.
        rows: usize,
        /// Features a row.
        width: usize,
    },
    /// The library refused.
    #[error("failed to grow a forest: {0}")]
    Library(String),
}

impl Forest {
    /// Grows a forest.
    ///
    /// * `rows`: features a row, NaN where missing, all of one width.
    /// * `labels`: 1 where the failure came, else 0, one a row.
    /// * `seed`: the same rows and seed give the same forest.
    ///
    /// # Errors
    /// [`Error`].
    pub fn fit(rows: &[&[f64]], labels: &[f64], options: ForestOptions, seed: u64) -> Result<Self, Error> {
        let width = rows.first().map_or(0, |row| row.len());
        if rows.is_empty() || width == 0 || rows.len() != labels.len() {
            return Err(Error::Shape { rows: rows.len(), width });
        }
        let medians: Vec<f64> = (0..width).map(|feature| median(rows, feature)).collect();
        let flagged: Vec<usize> = (0..width).filter(|&f| rows.iter().any(|row| row[f].is_nan())).collect();
        let mut empty = Self { width, medians, flagged, trees: Vec::new() };
        let full_width = width + empty.flagged.len();
        let mut cells = Vec::with_capacity(rows.len() * full_width);
        let mut imputed = Vec::new();
        for row in rows {
            empty.impute(row, &mut imputed);
            cells.extend_from_slice(&imputed);
        }
        let shape = |error: ndarray::ShapeError| Error::Library(error.to_string());
        let x = Array2::from_shape_vec((rows.len(), full_width), cells).map_err(shape)?;
        let y = labels.to_vec();
        // About the square root of the number of features at each split is Breiman's (2001) choice for two classes, which
        // these labels are; half as many again finds the few telling ones of a wide row more often.
        let tried = (1.5 * (full_width as f64).sqrt()).ceil() as usize;
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(usize::from(options.trees))
            .with_min_samples_leaf(usize::from(options.min_leaf))
            .with_max_depth(options.max_depth)
            .with_m(tried.clamp(1, full_width))
            .with_seed(seed);
        let grown: RandomForestRegressor<f64, f64, Array2<f64>, Vec<f64>> =
            RandomForestRegressor::fit(&x, &y, parameters).map_err(|error| Error::Library(error.to_string()))?;
        empty.trees = flatten(&grown)?;
        Ok(empty)
    }

    /// Features a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether every node names a feature and children that exist: a file may have been damaged or made by hand.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let full_width = self.width + self.flagged.len();
        self.medians.len() == self.width
            && self.flagged.iter().all(|&feature| feature < self.width)
            && !self.trees.is_empty()
            && self.trees.iter().all(|tree| tree.is_sound(full_width))
    }

    fn impute(&self, row: &[f64], imputed: &mut Vec<f64>) {
        debug_assert_eq!(row.len(), self.width, "a row of another feature space");
        imputed.clear();
        imputed.extend(row.iter().zip(&self.medians).map(|(&v, &median)| if v.is_nan() { median } else { v }));
        imputed.extend(self.flagged.iter().map(|&feature| f64::from(u8::from(row[feature].is_nan()))));
    }

    /// For each row the mean over trees of the leaf that it falls into: a score in 0..=1, not a calibrated probability.
    #[must_use]
    pub fn scores(&self, rows: &[&[f64]]) -> Vec<f64> {
        rows.chunks(ROWS_AT_ONCE).flat_map(|rows| self.scores_at_once(rows)).collect()
    }

    fn scores_at_once(&self, rows: &[&[f64]]) -> Vec<f64> {
        let mut imputed = vec![Vec::new(); rows.len()];
        rows.iter().zip(&mut imputed).for_each(|(row, imputed)| self.impute(row, imputed));
        let mut sums = vec![0.0; rows.len()];
        for tree in &self.trees {
            sums.iter_mut().zip(&imputed).for_each(|(sum, row)| *sum += tree.mean[tree.leaf(row)]);
        }
        sums.iter().map(|sum| sum / self.trees.len() as f64).collect()
    }

    /// The leaf of each tree that a row falls into.
    #[must_use]
    pub fn leaves(&self, row: &[f64]) -> Vec<u32> {
        let mut imputed = Vec::new();
        self.impute(row, &mut imputed);
        self.trees.iter().map(|tree| u32::try_from(tree.leaf(&imputed)).unwrap_or(u32::MAX)).collect()
    }

    /// Whether there is one leaf a tree, and each is one.
    #[must_use]
    pub fn has_leaves(&self, leaves: &[u32]) -> bool {
        let is_leaf = |(tree, &leaf): (&Tree, &u32)| tree.left.get(leaf as usize) == Some(&0);
        leaves.len() == self.trees.len() && self.trees.iter().zip(leaves).all(is_leaf)
    }

    /// What each feature added to the score of a row: `score = base + sum`. Returns the base.
    ///
    /// * `contributions`: one a feature; what a "was missing" column added counts for its feature. Overwritten.
    pub fn contributions(&self, row: &[f64], contributions: &mut Vec<f64>) -> f64 {
        contributions.clear();
        contributions.resize(self.width, 0.0);
        let mut imputed = Vec::new();
        self.impute(row, &mut imputed);
        let share = 1.0 / self.trees.len() as f64;
        let mut base = 0.0;
        for tree in &self.trees {
            base += tree.mean[0] * share;
            tree.walk(&imputed, |feature, change| {
                let feature = if feature < self.width { feature } else { self.flagged[feature - self.width] };
                contributions[feature] += change * share;
            });
        }
        base
    }
}

impl Tree {
    /// The node at which a row ends.
    fn leaf(&self, row: &[f64]) -> usize {
        let mut node = 0;
        while self.left[node] != 0 {
            let right = usize::from(row[self.feature[node] as usize] > self.threshold[node]);
            node = self.left[node] as usize + right;
        }
        node
    }

    fn walk(&self, row: &[f64], mut step: impl FnMut(usize, f64)) {
        let mut node = 0;
        while self.left[node] != 0 {
            let feature = self.feature[node] as usize;
            let next = self.left[node] as usize + usize::from(row[feature] > self.threshold[node]);
            step(feature, self.mean[next] - self.mean[node]);
            node = next;
        }
    }

    /// Children lie behind their parent, so that a walk ends.
    fn is_sound(&self, width: usize) -> bool {
        let nodes = self.left.len();
        nodes > 0
            && self.feature.len() == nodes
            && self.threshold.len() == nodes
            && self.mean.len() == nodes
            && (0..nodes).all(|n| {
                let left = self.left[n] as usize;
                left == 0 || (left > n && left + 1 < nodes && (self.feature[n] as usize) < width)
            })
    }
}

fn median(rows: &[&[f64]], feature: usize) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(|row| row[feature]).filter(|value| !value.is_nan()).collect();
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// `smartcore` keeps its nodes to itself but serialises them: these mirror the parts we read.
#[derive(Deserialize)]
struct GrownForest {
    forest_regressor: GrownTrees,
}

#[derive(Deserialize)]
struct GrownTrees {
    trees: Vec<GrownTree>,
}

#[derive(Deserialize)]
struct GrownTree {
    nodes: Vec<GrownNode>,
}

#[derive(Deserialize)]
struct GrownNode {
    output: f64,
    split_feature: u32,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

fn flatten(grown: &RandomForestRegressor<f64, f64, Array2<f64>, Vec<f64>>) -> Result<Vec<Tree>, Error> {
    let library = |error: serde_json::Error| Error::Library(error.to_string());
    let text = serde_json::to_vec(grown).map_err(library)?;
    let forest: GrownForest = serde_json::from_slice(&text).map_err(library)?;
    Ok(forest.forest_regressor.trees.iter().map(|tree| lay_out(&tree.nodes)).collect())
}

/// Breadth first, so that two children are neighbours and lie behind their parent.
fn lay_out(nodes: &[GrownNode]) -> Tree {
    let mut tree = Tree { feature: Vec::new(), threshold: Vec::new(), left: Vec::new(), mean: Vec::new() };
    let mut order = vec![0];
    let mut next = 0;
    while let Some(&place) = order.get(next) {
        let node = &nodes[place];
        let split = node.true_child.zip(node.false_child).zip(node.split_value);
        tree.mean.push(node.output);
        tree.feature.push(if split.is_some() { node.split_feature } else { 0 });
        tree.threshold.push(split.map_or(0.0, |(_, value)| value));
        tree.left.push(split.map_or(0, |_| u32::try_from(order.len()).expect("a tree has fewer than 2^32 nodes")));
        if let Some(((yes, no), _)) = split {
            order.extend([yes, no]);
        }
        next += 1;
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn rows(n: usize, missing: f64) -> (Vec<Vec<f64>>, Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut rows = Vec::new();
        let mut labels = Vec::new();
        for _ in 0..n {
            let row: Vec<f64> = (0..6).map(|_| rng.random_range(-1.0..1.0)).collect();
            labels.push(f64::from(u8::from(row[1] + 0.5 * row[4] > 0.6)));
            rows.push(row.iter().map(|&v| if rng.random::<f64>() < missing { f64::NAN } else { v }).collect());
        }
        (rows, labels)
    }

    fn refs(rows: &[Vec<f64>]) -> Vec<&[f64]> {
        rows.iter().map(Vec::as_slice).collect()
    }

    /// The flat copy must say what the library's own forest says.
    #[test]
    fn the_flat_copy_predicts_as_the_library_does() {
        let (train, labels) = rows(400, 0.0);
        let options = ForestOptions { trees: 20, ..ForestOptions::default() };
        let forest = Forest::fit(&refs(&train), &labels, options, 3).unwrap();
        let x = Array2::from_shape_vec((train.len(), 6), train.concat()).unwrap();
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(20)
            .with_min_samples_leaf(3)
            .with_max_depth(16)
            .with_m(4)
            .with_seed(3);
        let library: RandomForestRegressor<f64, f64, Array2<f64>, Vec<f64>> =
            RandomForestRegressor::fit(&x, &labels, parameters).unwrap();
        let expected: Vec<f64> = library.predict(&x).unwrap();
        for ((row, expected), together) in train.iter().zip(expected).zip(forest.scores(&refs(&train))) {
            assert!((together - expected).abs() < 1e-12);
            assert_eq!(forest.scores(&[row]), [together], "scored alone and with others");
        }
    }

    #[test]
    fn contributions_add_up_to_the_score_and_name_the_right_features() {
        let (train, labels) = rows(600, 0.1);
        let forest = Forest::fit(&refs(&train), &labels, ForestOptions::default(), 1).unwrap();
        let mut contributions = Vec::new();
        for row in &train {
            let base = forest.contributions(row, &mut contributions);
            let sum: f64 = base + contributions.iter().sum::<f64>();
            assert!((sum - forest.scores(&[row])[0]).abs() < 1e-9);
        }
        forest.contributions(&[0.0, 0.95, 0.0, 0.0, 0.9, 0.0], &mut contributions);
        let top = (0..6).max_by(|&a, &b| contributions[a].total_cmp(&contributions[b])).unwrap();
        assert_eq!(top, 1, "{contributions:?}");
    }

    #[test]
    fn a_forest_survives_json_bit_for_bit_and_a_damaged_one_is_noticed() {
        let (train, labels) = rows(200, 0.2);
        let forest = Forest::fit(&refs(&train), &labels, ForestOptions::default(), 5).unwrap();
        let text = serde_json::to_string(&forest).unwrap();
        let mut again: Forest = serde_json::from_str(&text).unwrap();
        assert_eq!(forest, again);
        assert!(again.is_sound());
        again.trees[0].left[0] = 1_000_000;
        assert!(!again.is_sound());
    }

    #[test]
    fn nothing_cannot_grow() {
        assert!(matches!(Forest::fit(&[], &[], ForestOptions::default(), 0), Err(Error::Shape { .. })));
    }
}
