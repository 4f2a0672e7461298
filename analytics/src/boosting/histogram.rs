//! Histograms of gradients over the bins of a feature, and the best cut that one shows.
//!
//! Gradients are whole numbers here (see [`super::gradients`]): a bin is one 64-bit word that holds both sums, added to with
//! one instruction. Sums of whole numbers do not depend on the order in which they are added, so any number of threads gives
//! the same tree, and what one child lacks of its parent is exactly what the other has.

use super::bins::MISSING;

/// Bins of a histogram: those of values and that of missing ones.
pub(super) const BINS: usize = 256;

/// Sums of gradients and curvatures, packed: the gradient in the upper half, signed, the curvature in the lower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Packed(pub(super) u64);

impl Packed {
    /// Packs a row's gradient and curvature.
    pub(super) fn new(gradient: i32, curvature: u32) -> Self {
        // Carries out of the lower half cannot happen: the scales leave room for all rows.
        Self((i64::from(gradient) << 32) as u64 + u64::from(curvature))
    }

    fn add(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The sum of both.
    pub(super) fn plus(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    fn less(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// The sum of gradients.
    pub(super) fn gradient(self) -> i32 {
        (self.0 >> 32) as i32
    }

    /// The sum of curvatures.
    pub(super) fn curvature(self) -> u32 {
        self.0 as u32
    }
}

/// One feature's sums by bin.
pub(super) type Histogram = [Packed; BINS];

/// Features whose histograms are filled in one pass over the rows: rows and gradients are read once for all of them, and additions to
/// one bin in a row do not wait for each other. Four histograms fit into the nearest cache with room to spare.
pub(super) const AT_ONCE: usize = 4;

/// The histograms of some features over the rows of a leaf: `gradients` are those of `rows`, in their order.
///
/// * `bins`: bins of values that each feature has; what lies behind them is left as it is, here and below.
pub(super) fn fill<'b>(
    histograms: &mut [Histogram],
    bins: impl Fn(usize) -> usize,
    column: impl Fn(usize) -> &'b [u8],
    rows: &[u32],
    gradients: &[Packed],
) {
    for (place, histogram) in histograms.iter_mut().enumerate() {
        histogram[..=bins(place)].fill(Packed::default());
    }
    if let [a, b, c, d] = histograms {
        let columns = [column(0), column(1), column(2), column(3)];
        for (&row, &gradient) in rows.iter().zip(gradients) {
            let [of_a, of_b, of_c, of_d] = columns.map(|column| usize::from(column[row as usize]));
            a[of_a].add(gradient);
            b[of_b].add(gradient);
            c[of_c].add(gradient);
            d[of_d].add(gradient);
        }
        return;
    }
    for (place, histogram) in histograms.iter_mut().enumerate() {
        let column = column(place);
        for (&row, &gradient) in rows.iter().zip(gradients) {
            histogram[usize::from(column[row as usize])].add(gradient);
        }
    }
}

/// Turns a parent's histogram into that of one child by taking away the other's.
pub(super) fn subtract(parent: &mut Histogram, bins: usize, child: &Histogram) {
    for (sum, child) in parent[..=bins].iter_mut().zip(child) {
        *sum = sum.less(*child);
    }
}

/// What whole-number sums stand for, and what a cut must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// A gradient of one.
    pub(super) gradient_unit: f64,
    /// A curvature of one.
    pub(super) curvature_unit: f64,
    /// Ridge on a leaf's value.
    pub(super) ridge: f64,
    /// Least curvature of a child.
    pub(super) least_curvature: f64,
    /// Least rows of a child, by its share of the curvature.
    pub(super) least_rows: f64,
    /// Least gain.
    pub(super) least_gain: f64,
}

/// Between which values a leaf's value must stay, where a feature above it is monotone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    /// Least value.
    pub(super) low: f64,
    /// Largest value.
    pub(super) high: f64,
}

impl Bounds {
    /// Any value.
    pub(super) const NONE: Self = Self { low: f64::NEG_INFINITY, high: f64::INFINITY };
}

/// A way to cut a leaf in two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) feature: usize,
    /// The last bin that goes left.
    pub(super) bin: u8,
    /// Whether missing values go left.
    pub(super) missing_left: bool,
    /// By how much the loss falls, in first order twice over.
    pub(super) gain: f64,
    /// The left child's sums.
    pub(super) left: Packed,
    /// The right child's sums.
    pub(super) right: Packed,
}

impl Rules {
    /// A leaf's value: one step of Newton's method (Chen and Guestrin 2016, equation 5).
    pub(super) fn value(&self, sums: Packed, bounds: Bounds) -> f64 {
        let (gradient, curvature) = self.real(sums);
        (-gradient / (curvature + self.ridge)).clamp(bounds.low, bounds.high)
    }

    fn real(&self, sums: Packed) -> (f64, f64) {
        (f64::from(sums.gradient()) * self.gradient_unit, f64::from(sums.curvature()) * self.curvature_unit)
    }

    /// What a leaf's value takes off the loss, doubled.
    fn worth(&self, sums: Packed, bounds: Bounds) -> f64 {
        let (gradient, curvature) = self.real(sums);
        if bounds == Bounds::NONE {
            return gradient * gradient / (curvature + self.ridge);
        }
        let value = self.value(sums, bounds);
        -(2.0 * gradient * value + (curvature + self.ridge) * value * value)
    }

    /// The best cut of a leaf by one feature; of equally good ones the first.
    ///
    /// * `rows`: rows in the leaf; a child has the share of them that it has of the curvature.
    /// * `bins`: bins of values that the feature has.
    pub(super) fn best(
        &self,
        feature: usize,
        histogram: &Histogram,
        bins: usize,
        (total, rows): (Packed, usize),
        (monotone, bounds): (i8, Bounds),
    ) -> Option<Cut> {
        let missing = histogram[usize::from(MISSING)];
        let whole = self.worth(total, bounds) + self.least_gain;
        let least = (self.least_rows / rows as f64 * f64::from(total.curvature()))
            .max(self.least_curvature / self.curvature_unit)
            .ceil() as u32;
        let mut best: Option<Cut> = None;
        let ways: &[bool] = if missing == Packed::default() { &[false] } else { &[false, true] };
        for &missing_left in ways {
            let mut left = if missing_left { missing } else { Packed::default() };
            for (bin, &sums) in histogram[..=bins].iter().enumerate().skip(1) {
                // A cut behind the last bin separates what is missing from what is not.
                if bin == bins && (missing_left || missing == Packed::default()) {
                    break;
                }
                left.add(sums);
                let right = total.less(left);
                if left.curvature() < least {
                    continue;
                }
                if right.curvature() < least {
                    break;
                }
                if monotone != 0 {
                    let (low, high) = (self.value(left, bounds), self.value(right, bounds));
                    if f64::from(monotone) * (high - low) < 0.0 {
                        continue;
                    }
                }
                let gain = self.worth(left, bounds) + self.worth(right, bounds) - whole;
                if gain > best.map_or(0.0, |best| best.gain) {
                    best = Some(Cut { feature, bin: bin as u8, missing_left, gain, left, right });
                }
            }
        }
        best
    }
}
