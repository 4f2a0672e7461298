//! A fitted tree: what it says of a row, and the exact share of each feature in that.

use serde::{Deserialize, Serialize};

/// Rows that a tree is asked of at a time, so that neither they nor the tree leave the nearest cache.
pub(super) const ROWS_AT_ONCE: usize = 32;

/// A regression tree, its nodes one after the other, children behind their parent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tree {
    pub(super) cuts: Vec<Cut>,
    /// Of a leaf what it adds to the score; of another node the mean of its leaves, by the rows in each.
    pub(super) values: Vec<f64>,
    /// Training rows that reached the node.
    pub(super) covers: Vec<f64>,
}

/// What a node asks of a row. Kept small: walks from root to leaf are made of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, u32, bool, u32)", into = "(f64, u32, bool, u32)")]
pub(super) struct Cut {
    /// What is at or below goes left.
    pub(super) threshold: f64,
    /// The feature, and in the highest bit whether what is missing goes left.
    feature: u32,
    /// The left child; the right one is behind it. 0 in a leaf.
    pub(super) left: u32,
}

const MISSING_LEFT: u32 = 1 << 31;

impl Cut {
    pub(super) fn new(feature: usize, threshold: f64, missing_left: bool, left: usize) -> Self {
        let flag = if missing_left { MISSING_LEFT } else { 0 };
        Self { threshold, feature: feature as u32 | flag, left: left as u32 }
    }

    pub(super) fn feature(self) -> usize {
        (self.feature & !MISSING_LEFT) as usize
    }

    fn missing_left(self) -> bool {
        self.feature & MISSING_LEFT != 0
    }

    fn is_leaf(self) -> bool {
        self.left == 0
    }

    /// The child that a row goes to.
    pub(super) fn child(self, row: &[f64]) -> usize {
        let value = row[self.feature()];
        // No branches: half of them would be foretold wrongly.
        let goes_right = (value > self.threshold) | (value.is_nan() & !self.missing_left());
        self.left as usize + usize::from(goes_right)
    }
}

impl From<(f64, u32, bool, u32)> for Cut {
    fn from((threshold, feature, missing_left, left): (f64, u32, bool, u32)) -> Self {
        Self::new((feature & !MISSING_LEFT) as usize, threshold, missing_left, left as usize)
    }
}

impl From<Cut> for (f64, u32, bool, u32) {
    fn from(cut: Cut) -> Self {
        (cut.threshold, cut.feature() as u32, cut.missing_left(), cut.left)
    }
}

impl Tree {
    /// Nodes.
    pub(super) fn len(&self) -> usize {
        self.cuts.len()
    }

    /// Adds a leaf that so many training rows reach; its place.
    pub(super) fn push(&mut self, rows: usize) -> usize {
        self.cuts.push(Cut::default());
        self.values.push(0.0);
        self.covers.push(rows as f64);
        self.len() - 1
    }

    /// What the leaf of a row says.
    pub(super) fn value(&self, row: &[f64]) -> f64 {
        self.values[self.leaf(row)]
    }

    /// The node at which a row ends.
    pub(super) fn leaf(&self, row: &[f64]) -> usize {
        let mut node = 0;
        while !self.cuts[node].is_leaf() {
            node = self.cuts[node].child(row);
        }
        node
    }

    /// Whether a node is there and is a leaf.
    pub(super) fn has_leaf(&self, node: u32) -> bool {
        self.cuts.get(node as usize).is_some_and(|cut| cut.is_leaf())
    }

    /// Adds the Shapley value of each feature: what the features that a row is known by change of the mean, averaged over
    /// all orders in which they may become known, what is unknown following the training rows (Lundberg et al. 2018,
    /// *Consistent individualized feature attribution for tree ensembles*, algorithm 2).
    ///
    /// * `paths`: room that calls share.
    pub(super) fn add_contributions(&self, row: &[f64], paths: &mut Vec<Step>, contributions: &mut [f64]) {
        paths.clear();
        Walk { tree: self, row, paths, contributions }.enter(0, 0..0, Step::FIRST);
    }

    /// Whether every node names a feature and children that lie behind it, so that a walk ends.
    pub(super) fn is_sound(&self, width: usize) -> bool {
        let nodes = self.len();
        nodes > 0
            && self.values.len() == nodes
            && self.covers.len() == nodes
            && self.values.iter().all(|value| value.is_finite())
            && self.covers.iter().all(|&cover| cover > 0.0 && cover.is_finite())
            && self.cuts.iter().enumerate().all(|(node, cut)| {
                let left = cut.left as usize;
                cut.is_leaf() || (left > node && left + 1 < nodes && cut.feature() < width && !cut.threshold.is_nan())
            })
    }
}

/// A feature that was asked for on the way to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// None for the root, which no feature led to.
    feature: Option<usize>,
    /// Which share of the rows comes this way where the feature is not known.
    unknown: f64,
    /// Whether the row does: 1 or 0.
    known: f64,
    /// Summed weight of the sets of known features that have as many members as the step's place.
    weight: f64,
}

impl Step {
    const FIRST: Self = Self { feature: None, unknown: 1.0, known: 1.0, weight: 0.0 };
}

/// The algorithm's recursion. The path to each open node is a range of `paths`, behind that to its parent.
struct Walk<'a> {
    tree: &'a Tree,
    row: &'a [f64],
    paths: &'a mut Vec<Step>,
    contributions: &'a mut [f64],
}

impl Walk<'_> {
    fn enter(&mut self, node: usize, parent: std::ops::Range<usize>, step: Step) {
        let start = self.paths.len();
        self.paths.extend_from_within(parent);
        // A feature that was asked for before counts once: its former step is taken back, and this one is of both.
        let mut step = step;
        if let Some(place) = self.paths[start..].iter().position(|earlier| earlier.feature == step.feature) {
            let earlier = self.paths[start + place];
            step.unknown *= earlier.unknown;
            step.known *= earlier.known;
            unwind(&mut self.paths[start..], place);
            self.paths.pop();
        }
        self.paths.push(step);
        extend(&mut self.paths[start..]);
        let path = start..self.paths.len();
        let cut = self.tree.cuts[node];
        if cut.is_leaf() {
            let path = &self.paths[path];
            for (place, step) in path.iter().enumerate() {
                let Some(feature) = step.feature else { continue };
                self.contributions[feature] +=
                    weight_without(path, place) * (step.known - step.unknown) * self.tree.values[node];
            }
        } else {
            let chosen = cut.child(self.row);
            for child in [cut.left as usize, cut.left as usize + 1] {
                let unknown = self.tree.covers[child] / self.tree.covers[node];
                let known = f64::from(u8::from(child == chosen));
                self.enter(child, path.clone(), Step { feature: Some(cut.feature()), unknown, known, weight: 0.0 });
            }
        }
        self.paths.truncate(start);
    }
}

/// Spreads the weights over a path that has one step more.
fn extend(path: &mut [Step]) {
    let depth = path.len() - 1;
    let Step { unknown, known, .. } = path[depth];
    path[depth].weight = if depth == 0 { 1.0 } else { 0.0 };
    let whole = path.len() as f64;
    for place in (0..depth).rev() {
        path[place + 1].weight += known * path[place].weight * (place + 1) as f64 / whole;
        path[place].weight *= unknown * (depth - place) as f64 / whole;
    }
}

/// The weights of a path without one of its steps, from the longest set to the shortest.
fn weights_without(path: &[Step], taken: usize) -> impl Iterator<Item = f64> {
    let depth = path.len() - 1;
    let Step { unknown, known, .. } = path[taken];
    let whole = path.len() as f64;
    let mut next = path[depth].weight;
    (0..depth).rev().map(move |place| {
        let share = (depth - place) as f64 / whole;
        if known == 0.0 {
            return path[place].weight / (unknown * share);
        }
        let weight = next * whole / ((place + 1) as f64 * known);
        next = path[place].weight - weight * unknown * share;
        weight
    })
}

fn weight_without(path: &[Step], taken: usize) -> f64 {
    weights_without(path, taken).sum()
}

/// Takes one step back; the last place of the path is then free.
fn unwind(path: &mut [Step], taken: usize) {
    let depth = path.len() - 1;
    let weights: Vec<f64> = weights_without(path, taken).collect();
    for (place, weight) in (0..depth).rev().zip(weights) {
        path[place].weight = weight;
    }
    for place in taken..depth {
        let Step { feature, unknown, known, .. } = path[place + 1];
        path[place] = Step { feature, unknown, known, weight: path[place].weight };
    }
}
