//! How unusual a vector is among those that were seen: signals that move together are not counted twice.

use smartcore::linalg::{
    basic::{arrays::Array, matrix::DenseMatrix},
    traits::evd::EVDDecomposable,
};

/// Added to each variance: directions in which nothing moved while the screen was learnt would else decide alone.
const SHRINKAGE: f64 = 0.02;

/// Sums of vectors and of their products.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    count: f64,
    sums: Vec<f64>,
    /// Products of each number with itself and those after it, row by row.
    products: Vec<f64>,
}

impl Moments {
    pub(super) fn new(width: usize) -> Self {
        Self { count: 0.0, sums: vec![0.0; width], products: vec![0.0; width * (width + 1) / 2] }
    }

    pub(super) fn add(&mut self, vector: &[f64]) {
        self.count += 1.0;
        let mut rest = self.products.as_mut_slice();
        for (n, (sum, &value)) in self.sums.iter_mut().zip(vector).enumerate() {
            *sum += value;
            let (row, after) = rest.split_at_mut(vector.len() - n);
            rest = after;
            for (product, other) in row.iter_mut().zip(&vector[n..]) {
                *product += value * other;
            }
        }
    }
}

/// A change of axes that makes what was seen vary alike in all directions and independently (principal components, each
/// divided by its standard deviation; Kessy, Lewin and Strimmer 2018).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Whitener {
    center: Vec<f64>,
    /// For each number of a vector what it adds to each axis.
    axes: Vec<f64>,
}

impl Whitener {
    /// The axes of what was added; `None` where fewer than two vectors were, or numbers that are none.
    pub(super) fn fit(moments: &Moments) -> Option<Self> {
        let (width, count) = (moments.sums.len(), moments.count);
        if count < 2.0 || !moments.products.iter().all(|product| product.is_finite()) {
            return None;
        }
        let center: Vec<f64> = moments.sums.iter().map(|sum| sum / count).collect();
        let mut covariance = vec![0.0; width * width];
        let mut products = moments.products.iter();
        for n in 0..width {
            for (m, product) in (n..width).zip(&mut products) {
                let value = (product - count * center[n] * center[m]) / (count - 1.0);
                (covariance[n * width + m], covariance[m * width + n]) = (value, value);
            }
        }
        let decomposed = DenseMatrix::new(width, width, covariance, false).ok()?.evd(true).ok()?;
        let shrinkage = SHRINKAGE + width as f64 / count;
        let scale: Vec<f64> = decomposed.d.iter().map(|variance| (variance.max(0.0) + shrinkage).sqrt()).collect();
        let places = (0..width).flat_map(|n| (0..width).map(move |axis| (n, axis)));
        let axes: Vec<f64> = places.map(|(n, axis)| decomposed.V.get((n, axis)) / scale[axis]).collect();
        axes.iter().all(|part| part.is_finite()).then_some(Self { center, axes })
    }

    /// How far a vector is from the middle: over axes, the mean of sqrt(1 + u^2) - 1, which grows like u^2 near the middle and
    /// like |u| far from it, so that one wild axis does not drown all others.
    ///
    /// * `scratch`: the vector on the axes. Overwritten.
    pub(super) fn distance(&self, vector: &[f64], scratch: &mut Vec<f64>) -> f64 {
        self.project(vector, scratch);
        scratch.iter().map(|u| (1.0 + u * u).sqrt() - 1.0).sum::<f64>() / vector.len().max(1) as f64
    }

    fn project(&self, vector: &[f64], on_axes: &mut Vec<f64>) {
        on_axes.clear();
        on_axes.resize(vector.len(), 0.0);
        let rows = self.axes.chunks_exact(vector.len().max(1));
        for ((value, center), row) in vector.iter().zip(&self.center).zip(rows) {
            let away = value - center;
            for (sum, part) in on_axes.iter_mut().zip(row) {
                *sum += away * part;
            }
        }
    }

    /// Adds to `causes` what each number contributes to the distance: its own way from the middle times the slope there.
    pub(super) fn add_causes(&self, vector: &[f64], causes: &mut [f64]) {
        let mut slopes = Vec::new();
        self.project(vector, &mut slopes);
        slopes.iter_mut().for_each(|u| *u /= (1.0 + *u * *u).sqrt());
        let rows = self.axes.chunks_exact(vector.len().max(1));
        for (((value, center), row), cause) in vector.iter().zip(&self.center).zip(rows).zip(causes) {
            *cause += (value - center) * row.iter().zip(&slopes).map(|(part, slope)| part * slope).sum::<f64>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Two signals that move together, one of its own, one that never moves, and a copy of the first.
    fn vectors() -> Vec<[f64; 5]> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut noise = move || random.random_range(-1.0..1.0);
        (0..5_000)
            .map(|_| {
                let (common, own, small) = (noise(), noise(), noise());
                [common, common + 0.05 * small, own, 0.0, common]
            })
            .collect()
    }

    fn fitted() -> Whitener {
        let mut moments = Moments::new(5);
        vectors().iter().for_each(|vector| moments.add(vector));
        Whitener::fit(&moments).unwrap()
    }

    #[test]
    fn on_the_axes_what_was_seen_varies_alike_and_independently() {
        let whitener = fitted();
        let mut moments = Moments::new(5);
        let mut scratch = Vec::new();
        for vector in vectors() {
            whitener.project(&vector, &mut scratch);
            moments.add(&scratch);
        }
        let mut products = moments.products.iter();
        for n in 0..5 {
            for m in n..5 {
                let covariance = products.next().unwrap() / moments.count;
                assert!(if n == m { covariance < 1.01 } else { covariance.abs() < 0.01 }, "{n} {m} {covariance}");
            }
        }
        assert!(moments.sums.iter().all(|sum| (sum / moments.count).abs() < 1e-9));
    }

    #[test]
    fn breaking_a_bond_is_further_away_than_moving_along_it_and_its_cause_is_named() {
        let whitener = fitted();
        let mut scratch = Vec::new();
        let along = whitener.distance(&[1.0, 1.0, 0.0, 0.0, 1.0], &mut scratch);
        let broken = [0.5, -0.5, 0.0, 0.0, 0.5];
        let apart = whitener.distance(&broken, &mut scratch);
        assert!(apart > 2.0 * along, "{apart} {along}");
        let mut causes = [0.0; 5];
        whitener.add_causes(&broken, &mut causes);
        let top = (0..5).max_by(|&a, &b| causes[a].total_cmp(&causes[b])).unwrap();
        assert_eq!(top, 1, "{causes:?}");
        assert!(whitener.distance(&[0.0, 0.0, 0.0, 1.0, 0.0], &mut scratch) > apart, "what never moved has moved");
    }

    #[test]
    fn one_vector_has_no_axes() {
        let mut moments = Moments::new(2);
        moments.add(&[1.0, 2.0]);
        assert_eq!(Whitener::fit(&moments), None);
        moments.add(&[f64::INFINITY, 2.0]);
        assert_eq!(Whitener::fit(&moments), None);
    }
}
