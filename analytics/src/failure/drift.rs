//! Drift: whether the rows that a model scores are still like those it learnt from.

use std::collections::BTreeMap;

use harbinger_core::{ComponentId, SignalId};
use serde::{Deserialize, Serialize};

use super::{
    calibration::Scored,
    model::{ComponentModel, Family, Model},
    rows::Row,
    score::Prediction,
};
use crate::features::Feature;

/// From here on a population has shifted: Siddiqi (2006), *Credit Risk Scorecards*, chapter 10.
pub const SHIFTED: f64 = 0.25;
/// With fewer rows chance alone would look like drift: it adds about `(bins - 1) / rows` to the index.
const MIN_ROWS: usize = 200;
/// A feature that is missing in so many more of a hundred rows than in training is gone.
const GONE: f64 = 0.5;
/// Bins of the reference.
const BINS: usize = 10;
/// Failures that came are this many standard deviations from those expected before it is told: looked at every day for each
/// component, chance alone reaches it once in decades.
const DEVIATIONS: f64 = 4.0;
/// And at least so many times more or fewer: with failures enough, a difference that matters to nobody is certain.
const MATTERS: f64 = 1.5;
/// Below so many failures, expected and come together, nothing is said.
const MIN_FAILURES: f64 = 10.0;

/// What the held-out rows of training were like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Upper ends of the bins of scores but the last, rising: tenths of the rows, fewer where scores are equal.
    edges: Vec<f64>,
    /// Share of the rows in each bin.
    shares: Vec<f64>,
    /// For each feature the share of the rows in which it was missing.
    missing: Vec<f64>,
}

impl Reference {
    /// * `scores`: of held-out rows, main horizon.
    /// * `width`: features of a row.
    pub(super) fn new(scores: &[Scored], rows: &[Row], width: usize) -> Self {
        let (edges, shares) = bins(scores);
        let weight: f64 = rows.iter().map(|row| row.weight).sum();
        let missing = |feature: usize| {
            let rows = rows.iter().filter(|row| row.features[feature].is_nan());
            if weight > 0.0 { rows.map(|row| row.weight).sum::<f64>() / weight } else { 0.0 }
        };
        Self { edges, shares, missing: (0..width).map(missing).collect() }
    }

    /// Whether most training rows have no value of a feature.
    pub(super) fn is_mostly_missing(&self, feature: usize) -> bool {
        self.missing.get(feature).is_some_and(|&share| share > GONE)
    }

    /// The same rows with the scores of another ranker; without any, scores show no drift.
    pub(super) fn rescored(&self, scores: &[Scored]) -> Self {
        let (edges, shares) = bins(scores);
        Self { edges, shares, missing: self.missing.clone() }
    }

    pub(super) fn fits(&self, width: usize) -> bool {
        self.missing.len() == width && self.shares.len() == self.edges.len() + 1
    }

    /// Population stability index of scores against the reference: `sum (actual - expected) ln(actual / expected)` over bins,
    /// half a row added to each so that empty ones count. 0 where nothing changed.
    #[must_use]
    pub fn stability(&self, scores: &[f64]) -> f64 {
        let rows = scores.len() as f64;
        let counts = counts(&self.edges, scores.iter().map(|&score| (score, 1.0)));
        let half = |count: f64, all: f64| (count + 0.5) / (all + 0.5 * counts.len() as f64);
        let of_bin = |(&count, &share): (&f64, &f64)| {
            let (actual, expected) = (half(count, rows), half(share * rows, rows));
            (actual - expected) * (actual / expected).ln()
        };
        counts.iter().zip(&self.shares).map(of_bin).sum()
    }
}

/// Upper ends of the bins of scores but the last, and the share of the rows in each; one bin without scores.
fn bins(scores: &[Scored]) -> (Vec<f64>, Vec<f64>) {
    let mut sorted: Vec<&Scored> = scores.iter().collect();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let all: f64 = sorted.iter().map(|row| row.weight).sum();
    let mut edges: Vec<f64> = Vec::new();
    let mut sum = 0.0;
    for row in &sorted {
        sum += row.weight;
        // The highest score is no edge: nothing would lie above it.
        let is_new = edges.last().is_none_or(|&last| row.score > last) && row.score < sorted[sorted.len() - 1].score;
        if sum >= all * (edges.len() + 1) as f64 / BINS as f64 && is_new {
            edges.push(row.score);
        }
    }
    let counts = counts(&edges, sorted.iter().map(|row| (row.score, row.weight)));
    let shares = counts.iter().map(|count| if all > 0.0 { count / all } else { 1.0 }).collect();
    (edges, shares)
}

/// Weights by bin: the first whose upper end is not below the score, else the last.
fn counts(edges: &[f64], scores: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
    let mut counts = vec![0.0; edges.len() + 1];
    for (score, weight) in scores {
        counts[edges.partition_point(|&edge| edge < score)] += weight;
    }
    counts
}

/// Failures that were expected of a component's slots, and those that came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Sum of the probabilities.
    pub expected: f64,
    /// Failures that came.
    pub observed: f64,
    /// Variance of the number of failures if the probabilities are right: that of a Poisson-binomial law.
    #[serde(skip)]
    pub(crate) variance: f64,
}

/// Outcomes by kind of device and component.
pub(crate) type Outcomes = BTreeMap<(String, ComponentId), Outcome>;

impl Outcome {
    /// Adds a slot in a window that overlaps no other of the slot.
    pub(crate) fn add(&mut self, probability: f64, failed: bool) {
        self.expected += probability;
        self.variance += probability * (1.0 - probability);
        self.observed += f64::from(u8::from(failed));
    }

    /// Whether the probabilities no longer say how often failures come, beyond what chance does.
    fn is_off(&self) -> bool {
        let Self { expected, observed, variance } = *self;
        let far = (observed - expected).abs() >= DEVIATIONS * variance.sqrt();
        let matters = observed >= MATTERS * expected || expected >= MATTERS * observed;
        expected + observed >= MIN_FAILURES && far && matters
    }
}

/// A component whose rows are no longer like those that its model learnt from, or whose failures no longer come as often as it
/// says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// Kind of the devices.
    pub kind: String,
    /// Which component.
    pub component: ComponentId,
    /// Rows that were looked at.
    pub rows: usize,
    /// Population stability index of their scores; `None` where there are too few rows to tell.
    pub population_stability: Option<f64>,
    /// Signals that most devices reported in training and most no longer do.
    pub missing: Vec<SignalId>,
    /// Failures that were expected and came, where they differ by more than chance.
    pub calibration: Option<Outcome>,
}

/// A component of a family, by the family's place.
type Group<'a> = (usize, &'a ComponentId);
/// A score and the features behind it.
type ScoredRow<'a> = (f64, &'a [f64]);

/// Where there is drift: scores whose stability index is [`SHIFTED`] or more, signals that are gone, or failures that come more or
/// less often than was said.
///
/// * `predictions`: with their basis, of about one time.
/// * `outcomes`: of the model's earlier predictions.
#[must_use]
pub(crate) fn drift(model: &Model, predictions: &[Prediction], outcomes: &Outcomes) -> Vec<Drift> {
    let mut groups: BTreeMap<Group<'_>, Vec<ScoredRow<'_>>> = BTreeMap::new();
    for prediction in predictions {
        if let Some(basis) = &prediction.basis {
            groups.entry((basis.family, &prediction.component)).or_default().push((prediction.score, &basis.row));
        }
    }
    let drifted = |((family, component), rows): (Group<'_>, Vec<ScoredRow<'_>>)| {
        let family = model.families.get(family)?;
        let learnt = match family.components.get(component)? {
            ComponentModel::Learnt { reference, .. } if rows.len() >= MIN_ROWS => Some(reference),
            _ => None,
        };
        let stability = |reference: &Reference| {
            let scores: Vec<f64> = rows.iter().map(|(score, _)| *score).collect();
            reference.stability(&scores)
        };
        let calibration = outcomes.get(&(family.kind.clone(), component.clone())).copied();
        let drift = Drift {
            kind: family.kind.clone(),
            component: component.clone(),
            rows: rows.len(),
            population_stability: learnt.map(stability),
            missing: learnt.map_or_else(Vec::new, |reference| gone(reference, family, &rows)),
            calibration: calibration.filter(Outcome::is_off),
        };
        let shifted = drift.population_stability.is_some_and(|index| index >= SHIFTED);
        (shifted || !drift.missing.is_empty() || drift.calibration.is_some()).then_some(drift)
    };
    groups.into_iter().filter_map(drifted).collect()
}

/// The signals that most rows had in training and most no longer have.
fn gone(reference: &Reference, family: &Family, rows: &[ScoredRow<'_>]) -> Vec<SignalId> {
    let is_gone = |feature: usize| {
        let missing = rows.iter().filter(|(_, row)| row[feature].is_nan()).count();
        missing as f64 / rows.len() as f64 > reference.missing[feature] + GONE
    };
    let newest = |(place, feature): (usize, &Feature)| match feature {
        Feature::Last(signal) if is_gone(place) => Some(signal.clone()),
        _ => None,
    };
    family.space.features.iter().enumerate().filter_map(newest).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(scores: &[f64]) -> Reference {
        let scored: Vec<Scored> = scores.iter().map(|&score| Scored { score, failed: false, weight: 1.0 }).collect();
        Reference::new(&scored, &[], 0)
    }

    fn spread() -> Vec<f64> {
        (0..1_000).map(|n| f64::from(n) / 1_000.0).collect()
    }

    #[test]
    fn the_same_scores_have_not_drifted() {
        let reference = reference(&spread());
        assert_eq!(reference.edges.len(), 9);
        assert!(reference.stability(&spread()) < 1e-6, "{}", reference.stability(&spread()));
    }

    /// Half of the rows moved from the lower into the upper five tenths: .05 against .1 below, .15 against .1 above.
    #[test]
    fn the_index_is_that_of_its_formula() {
        let moved: Vec<f64> =
            spread().into_iter().enumerate().map(|(n, s)| if n % 2 == 0 && s < 0.5 { s + 0.5 } else { s }).collect();
        let expected = 5.0 * (0.05 * 2.0_f64.ln() + 0.05 * 1.5_f64.ln());
        let found = reference(&spread()).stability(&moved);
        assert!((found - expected).abs() < 5e-3, "{found} is not {expected}");
        assert!(found > SHIFTED);
    }

    #[test]
    fn equal_scores_make_one_bin() {
        let reference = reference(&[0.5; 100]);
        assert!(reference.fits(0) && reference.edges.is_empty());
        assert_eq!(reference.stability(&[0.1, 0.9]), 0.0);
    }

    fn outcome(probabilities: impl Iterator<Item = f64>, failures: usize) -> Outcome {
        let mut outcome = Outcome::default();
        probabilities.enumerate().for_each(|(n, probability)| outcome.add(probability, n < failures));
        outcome
    }

    /// A hundred slots of probability .1 are ten failures, three more or less: 4 deviations are 12.
    #[test]
    fn failures_beyond_chance_are_told_and_others_are_not() {
        let of = |failures| outcome(std::iter::repeat_n(0.1, 100), failures);
        assert!((of(10).expected - 10.0).abs() < 1e-9);
        assert_eq!([0, 10, 21, 22, 40].map(|failures| of(failures).is_off()), [false, false, false, true, true]);
        // Three times as many came as nothing: too few to say.
        assert!(!outcome(std::iter::repeat_n(0.001, 1_000), 3).is_off());
        // A tenth more, and certain of it: nobody needs to know.
        assert!(!outcome(std::iter::repeat_n(0.1, 1_000_000), 110_000).is_off());
        // A model that cries wolf: fifty expected, nine came.
        assert!(outcome(std::iter::repeat_n(0.5, 100), 9).is_off());
    }

    proptest! {
        /// Never negative, and no more than chance adds for a sample of the same law.
        #[test]
        fn chance_is_no_drift(seed in 0..1_000_u64) {
            use rand::{Rng, SeedableRng};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let sample: Vec<f64> = (0..MIN_ROWS).map(|_| random.random::<f64>()).collect();
            let found = reference(&spread()).stability(&sample);
            prop_assert!((0.0..SHIFTED).contains(&found), "{}", found);
        }
    }
}
