//! Growing one tree leaf by leaf: always the leaf whose best cut gains most (LightGBM's way).

use rayon::prelude::*;

use super::{
    bins::{Binned, MISSING},
    histogram::{AT_ONCE, BINS, Bounds, Cut, Histogram, Packed, Rules, fill, subtract},
    tree::{self, Tree},
};

/// Cells of a leaf, rows by features, from which its histograms are worth a second thread.
const CELLS_FOR_THREADS: usize = 1 << 15;

/// What a tree is grown from.
pub(super) struct Job<'a> {
    pub(super) binned: &'a Binned,
    /// The features that may be asked for, in rising order.
    pub(super) features: &'a [usize],
    /// +1 where the score may only rise with a feature, -1 where it may only fall, 0 where it may do either.
    pub(super) monotone: &'a [i8],
    pub(super) rules: Rules,
    /// Most leaves.
    pub(super) leaves: usize,
    /// Most cuts between the root and a leaf.
    pub(super) depth: usize,
}

/// A leaf that may still be cut.
struct Leaf {
    node: usize,
    /// Its rows in the order of rows.
    rows: std::ops::Range<usize>,
    depth: usize,
    sums: Packed,
    bounds: Bounds,
    /// One a feature of the job.
    histograms: Vec<Histogram>,
    best: Option<Cut>,
}

/// A tree, and which training rows reached which of its leaves.
pub(super) struct Grown {
    pub(super) tree: Tree,
    /// Rows, leaf by leaf.
    pub(super) rows: Vec<u32>,
    /// For each leaf its node and where its rows lie.
    pub(super) leaves: Vec<(usize, std::ops::Range<usize>)>,
    /// Between which values each of the leaves must stay.
    pub(super) bounds: Vec<Bounds>,
}

impl Job<'_> {
    /// Grows a tree on rows, given in rising order; `gradients` are one a training row.
    pub(super) fn grow(&self, rows: Vec<u32>, gradients: &[Packed]) -> Grown {
        let mut grown = Grown { tree: Tree::default(), rows, leaves: Vec::new(), bounds: Vec::new() };
        let mut scratch = Scratch::default();
        let all = 0..grown.rows.len();
        let node = grown.tree.push(all.len());
        let mut root = Leaf {
            node,
            rows: all,
            depth: 0,
            sums: Packed::default(),
            bounds: Bounds::NONE,
            histograms: Vec::new(),
            best: None,
        };
        root.histograms = vec![[Packed::default(); BINS]; self.features.len()];
        scratch.gather(&grown.rows, gradients);
        root.sums = scratch.gathered.iter().fold(Packed::default(), |sum, gradient| sum.plus(*gradient));
        self.look(&mut root, &grown.rows, &scratch.gathered);
        let mut open = vec![root];
        let mut spare: Vec<Vec<Histogram>> = Vec::new();
        while open.len() < self.leaves {
            // The first of the best: places do not depend on threads.
            let gain = |leaf: &Leaf| leaf.best.map_or(0.0, |cut| cut.gain);
            let Some(place) = (0..open.len()).reduce(|a, b| if gain(&open[b]) > gain(&open[a]) { b } else { a }) else {
                break;
            };
            let Some(cut) = open[place].best else { break };
            let leaf = open.swap_remove(place);
            let (left, right) = self.cut(leaf, cut, &mut grown, gradients, &mut scratch, &mut spare);
            open.extend([left, right]);
        }
        for leaf in open {
            grown.tree.values[leaf.node] = self.rules.value(leaf.sums, leaf.bounds);
            grown.leaves.push((leaf.node, leaf.rows));
            grown.bounds.push(leaf.bounds);
        }
        grown
    }

    fn cut(
        &self,
        leaf: Leaf,
        cut: Cut,
        grown: &mut Grown,
        gradients: &[Packed],
        scratch: &mut Scratch,
        spare: &mut Vec<Vec<Histogram>>,
    ) -> (Leaf, Leaf) {
        let feature = self.features[cut.feature];
        let column = self.binned.column(feature);
        let goes_left = |bin: u8| if bin == MISSING { cut.missing_left } else { bin <= cut.bin };
        let count = scratch.part(&mut grown.rows[leaf.rows.clone()], |row| goes_left(column[row as usize]));
        let middle = leaf.rows.start + count;
        let tree = &mut grown.tree;
        let (left_node, right_node) = (tree.push(count), tree.push(leaf.rows.len() - count));
        let threshold = self.binned.borders[feature].get(usize::from(cut.bin) - 1).copied().unwrap_or(f64::MAX);
        tree.cuts[leaf.node] = tree::Cut::new(feature, threshold, cut.missing_left, left_node);
        let (left_bounds, right_bounds) = self.child_bounds(feature, &cut, leaf.bounds);
        let child = |node, rows: std::ops::Range<usize>, sums, bounds| Leaf {
            node,
            rows,
            depth: leaf.depth + 1,
            sums,
            bounds,
            histograms: Vec::new(),
            best: None,
        };
        let mut left = child(left_node, leaf.rows.start..middle, cut.left, left_bounds);
        let mut right = child(right_node, middle..leaf.rows.end, cut.right, right_bounds);
        let may_be_cut = left.depth < self.depth && grown.leaves_possible(self.leaves);
        if !may_be_cut {
            return (left, right);
        }
        let (small, large) =
            if left.rows.len() <= right.rows.len() { (&mut left, &mut right) } else { (&mut right, &mut left) };
        small.histograms = spare.pop().unwrap_or_else(|| vec![[Packed::default(); BINS]; self.features.len()]);
        large.histograms = leaf.histograms;
        scratch.gather(&grown.rows[small.rows.clone()], gradients);
        self.look_at_both(small, large, &grown.rows, &scratch.gathered);
        for leaf in [&mut left, &mut right] {
            if leaf.best.is_none() {
                spare.push(std::mem::take(&mut leaf.histograms));
            }
        }
        (left, right)
    }

    /// Values of the children of a monotone cut stay on their side of the middle between them.
    fn child_bounds(&self, feature: usize, cut: &Cut, bounds: Bounds) -> (Bounds, Bounds) {
        let monotone = self.monotone[feature];
        if monotone == 0 {
            return (bounds, bounds);
        }
        let middle = (self.rules.value(cut.left, bounds) + self.rules.value(cut.right, bounds)) / 2.0;
        let (below, above) = (Bounds { high: middle, ..bounds }, Bounds { low: middle, ..bounds });
        if monotone > 0 { (below, above) } else { (above, below) }
    }

    /// Fills the histograms of a leaf and finds its best cut.
    fn look(&self, leaf: &mut Leaf, rows: &[u32], gathered: &[Packed]) {
        let (inside, sums, bounds) = (&rows[leaf.rows.clone()], leaf.sums, leaf.bounds);
        let of = |(chunk, histograms): (usize, &mut [Histogram])| {
            let first = chunk * AT_ONCE;
            self.fill(first, histograms, inside, gathered);
            let best =
                |(n, histogram): (usize, &Histogram)| self.best(first + n, histogram, (sums, inside.len()), bounds);
            first_best(histograms.iter().enumerate().map(best))
        };
        let cuts: Vec<Option<Cut>> = leaf.histograms.par_chunks_mut(AT_ONCE).enumerate().map(of).collect();
        leaf.best = first_best(cuts);
    }

    /// Fills the histograms of the smaller child, takes them from its parent's for the larger, and finds the best cut of each.
    fn look_at_both(&self, small: &mut Leaf, large: &mut Leaf, rows: &[u32], gathered: &[Packed]) {
        let inside = &rows[small.rows.clone()];
        let (of_small, of_large) = ((small.sums, small.rows.len()), (large.sums, large.rows.len()));
        let bounds = (small.bounds, large.bounds);
        let of = |(chunk, (small, large)): (usize, (&mut [Histogram], &mut [Histogram]))| {
            let first = chunk * AT_ONCE;
            self.fill(first, small, inside, gathered);
            let (mut best_of_small, mut best_of_large) = (None, None);
            for (n, (small, large)) in small.iter().zip(large).enumerate() {
                let place = first + n;
                subtract(large, self.bins(place), small);
                best_of_small = first_best([best_of_small, self.best(place, small, of_small, bounds.0)]);
                best_of_large = first_best([best_of_large, self.best(place, large, of_large, bounds.1)]);
            }
            (best_of_small, best_of_large)
        };
        let pairs = small.histograms.chunks_mut(AT_ONCE).zip(large.histograms.chunks_mut(AT_ONCE)).enumerate();
        let (cuts_of_small, cuts_of_large): (Vec<Option<Cut>>, Vec<Option<Cut>>) =
            if inside.len() * self.features.len() < CELLS_FOR_THREADS {
                pairs.map(of).unzip()
            } else {
                let pairs: Vec<_> = pairs.collect();
                pairs.into_par_iter().map(of).unzip()
            };
        small.best = first_best(cuts_of_small);
        large.best = first_best(cuts_of_large);
    }

    /// Fills the histograms of the job's features from the one at `first` on.
    fn fill(&self, first: usize, histograms: &mut [Histogram], rows: &[u32], gathered: &[Packed]) {
        let column = |n: usize| self.binned.column(self.features[first + n]);
        fill(histograms, |n| self.bins(first + n), column, rows, gathered);
    }

    /// Bins of values of a feature of the job.
    fn bins(&self, place: usize) -> usize {
        self.binned.borders[self.features[place]].len() + 1
    }

    fn best(&self, place: usize, histogram: &Histogram, of: (Packed, usize), bounds: Bounds) -> Option<Cut> {
        let feature = self.features[place];
        self.rules.best(place, histogram, self.bins(place), of, (self.monotone[feature], bounds))
    }
}

impl Grown {
    fn leaves_possible(&self, most: usize) -> bool {
        // A tree of n nodes has (n + 1) / 2 leaves.
        self.tree.len().div_ceil(2) < most
    }
}

/// The cut that gains most; of equally good ones the one of the first feature.
fn first_best(cuts: impl IntoIterator<Item = Option<Cut>>) -> Option<Cut> {
    cuts.into_iter().flatten().reduce(|best, cut| if cut.gain > best.gain { cut } else { best })
}

/// Room that all leaves of a tree share.
#[derive(Default)]
struct Scratch {
    gathered: Vec<Packed>,
    right: Vec<u32>,
}

impl Scratch {
    /// The gradients of some rows, in their order.
    fn gather(&mut self, rows: &[u32], gradients: &[Packed]) {
        self.gathered.clear();
        if rows.len() == gradients.len() {
            self.gathered.extend_from_slice(gradients);
        } else {
            self.gathered.extend(rows.iter().map(|&row| gradients[row as usize]));
        }
    }

    /// Moves the rows that go left before the others, both in their order; how many they are.
    fn part(&mut self, rows: &mut [u32], goes_left: impl Fn(u32) -> bool) -> usize {
        self.right.resize(self.right.len().max(rows.len()), 0);
        let (mut left, mut right) = (0, 0);
        for place in 0..rows.len() {
            let row = rows[place];
            // Both are written and one is kept: a branch would be foretold wrongly half the time.
            let goes_left = goes_left(row);
            rows[left] = row;
            self.right[right] = row;
            left += usize::from(goes_left);
            right += usize::from(!goes_left);
        }
        rows[left..].copy_from_slice(&self.right[..right]);
        left
    }
}
