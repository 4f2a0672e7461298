//! Goal: trees that learn what is there, say exactly what each feature added, and come out the same bit for bit. Method:
//! Shapley values by their definition, over all sets of features; fits in pools of one and of two threads; rows made by hand.

use proptest::prelude::*;
use rand::Rng;

use super::*;

fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Rows of six features, a tenth of the cells missing; the label follows the second, the fifth and what is missing of the
/// third.
fn rows(count: usize, seed: u64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut random = random(seed);
    let row = |random: &mut ChaCha8Rng| -> Vec<f64> {
        let cell = |random: &mut ChaCha8Rng| match random.random::<f64>() {
            chance if chance < 0.1 => f64::NAN,
            _ => random.random::<f64>(),
        };
        (0..6).map(|_| cell(random)).collect()
    };
    let rows: Vec<Vec<f64>> = (0..count).map(|_| row(&mut random)).collect();
    let label = |row: &Vec<f64>| {
        let known = |feature: usize| if row[feature].is_nan() { 0.5 } else { row[feature] };
        known(1) + 0.5 * known(4) + if row[2].is_nan() { 0.4 } else { 0.0 }
    };
    let labels = rows.iter().map(label).collect();
    (rows, labels)
}

fn two_classes(labels: &[f64]) -> Vec<f64> {
    labels.iter().map(|&label| f64::from(u8::from(label > 0.9))).collect()
}

fn refs(rows: &[Vec<f64>]) -> Vec<&[f64]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn fit(rows: &[Vec<f64>], labels: &[f64], options: &BoostingOptions) -> Boosting {
    let (rows, weights) = (refs(rows), vec![1.0; labels.len()]);
    Boosting::fit(Table { rows: &rows, labels, weights: &weights }, None, &[], options).unwrap()
}

fn options(objective: Objective) -> BoostingOptions {
    BoostingOptions { objective, trees: 60, leaves: 8, ..BoostingOptions::default() }
}

/// Area under the receiver operating characteristic: the share of pairs that are in order.
fn ranked(scores: &[f64], labels: &[f64]) -> f64 {
    let of = |class: f64| scores.iter().zip(labels).filter(move |(_, label)| **label == class).map(|(score, _)| *score);
    let (mut right, mut pairs) = (0.0, 0.0);
    for high in of(1.0) {
        for low in of(0.0) {
            pairs += 1.0;
            right += if high > low {
                1.0
            } else if high == low {
                0.5
            } else {
                0.0
            };
        }
    }
    right / pairs
}

#[test]
fn classes_and_numbers_are_learnt_with_cells_missing() {
    let (train, labels) = rows(3_000, 1);
    let (unseen, truth) = rows(500, 2);
    let classes = fit(&train, &two_classes(&labels), &options(Objective::Logistic));
    let scores = classes.scores(&refs(&unseen));
    assert!(ranked(&scores, &two_classes(&truth)) > 0.97, "{}", ranked(&scores, &two_classes(&truth)));
    let number = fit(&train, &labels, &options(Objective::Squared));
    let rows: Vec<&[f64]> = unseen.iter().map(|row| &row[..]).collect();
    let together = number.predictions(&rows);
    assert!(rows.iter().zip(together).all(|(row, together)| number.predict(row) == together));
    let errors = unseen.iter().zip(&truth).map(|(row, truth)| (number.predict(row) - truth).powi(2));
    let error = (errors.sum::<f64>() / truth.len() as f64).sqrt();
    assert!(error < 0.05, "{error}");
}

#[test]
fn any_number_of_threads_grows_the_same_trees() {
    let (train, labels) = rows(9_000, 3);
    let options = BoostingOptions { row_share: 0.8, feature_share: 0.7, ..options(Objective::Logistic) };
    let fitted = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&fit(&train, &two_classes(&labels), &options)).unwrap())
    };
    assert_eq!(fitted(1), fitted(3));
}

#[test]
fn many_rows_at_once_score_as_each_alone_does() {
    let (train, labels) = rows(1_000, 4);
    let fitted = fit(&train, &labels, &options(Objective::Squared));
    for (row, score) in train.iter().zip(fitted.scores(&refs(&train))) {
        assert_eq!(fitted.score(row).to_bits(), score.to_bits());
    }
}

/// The mean answer of a tree where only some features of a row are known; the rest follows the training rows.
fn mean_knowing(tree: &Tree, row: &[f64], known: u32, node: usize) -> f64 {
    let cut = tree.cuts[node];
    if cut.left == 0 {
        return tree.values[node];
    }
    let left = cut.left as usize;
    let children = [left, left + 1].map(|child| mean_knowing(tree, row, known, child));
    if known & (1 << cut.feature()) != 0 {
        return children[cut.child(row) - left];
    }
    let covers = [tree.covers[left], tree.covers[left + 1]];
    (children[0] * covers[0] + children[1] * covers[1]) / (covers[0] + covers[1])
}

/// Shapley's definition: over all sets of the other features, what knowing this one changes, weighted by the orders in
/// which the set comes first.
fn shapley(fitted: &Boosting, row: &[f64], feature: usize) -> f64 {
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    let width = fitted.width() as u32;
    let mean = |known: u32| fitted.trees.iter().map(|tree| mean_knowing(tree, row, known, 0)).sum::<f64>();
    let sets = (0..1_u32 << width).filter(|set| set & (1 << feature) == 0);
    sets.map(|set| {
        let size = set.count_ones();
        let weight = factorial(size) * factorial(width - size - 1) / factorial(width);
        weight * (mean(set | 1 << feature) - mean(set))
    })
    .sum()
}

#[test]
fn contributions_are_shapley_values() {
    let (train, labels) = rows(800, 5);
    let options = BoostingOptions { trees: 5, leaves: 16, rows_in_leaf: 5.0, ..options(Objective::Logistic) };
    let fitted = fit(&train, &two_classes(&labels), &options);
    let mut contributions = Vec::new();
    for row in &train[..40] {
        let base = fitted.contributions(row, &mut contributions);
        let sum = base + contributions.iter().sum::<f64>();
        assert!((sum - fitted.score(row)).abs() < 1e-12, "{sum} is not the score");
        for (feature, &contribution) in contributions.iter().enumerate() {
            let expected = shapley(&fitted, row, feature);
            assert!((contribution - expected).abs() < 1e-12, "feature {feature}: {contribution}, not {expected}");
        }
    }
}

/// A label that falls in the middle of what rises: without the constraint the answer follows it.
#[test]
fn a_monotone_feature_never_lowers_the_answer() {
    let rows: Vec<Vec<f64>> = (0..600).map(|n| vec![f64::from(n) / 600.0, f64::from(n % 7)]).collect();
    let labels: Vec<f64> =
        rows.iter().map(|row| if (0.4..0.6).contains(&row[0]) { 0.2 } else { row[0] } + 0.01 * row[1]).collect();
    let (rows, weights) = (refs(&rows), vec![1.0; 600]);
    let table = Table { rows: &rows, labels: &labels, weights: &weights };
    let options = options(Objective::Squared);
    let falls = |monotone: &[i8]| {
        let fitted = Boosting::fit(table, None, monotone, &options).unwrap();
        let answers: Vec<f64> = (0..600).map(|n| fitted.predict(&[f64::from(n) / 600.0, 3.0])).collect();
        !answers.is_sorted()
    };
    assert!(falls(&[]) && !falls(&[1, 0]));
}

#[test]
fn growing_ends_where_held_out_rows_gain_no_more() {
    let (train, _) = rows(400, 6);
    let (unseen, _) = rows(400, 7);
    let mut random = random(8);
    // Labels that nothing tells: every tree is one too many.
    let labels: Vec<f64> = (0..400).map(|_| f64::from(u8::from(random.random::<bool>()))).collect();
    let (train, unseen, weights) = (refs(&train), refs(&unseen), vec![1.0; 400]);
    let table = |rows| Table { rows, labels: &labels, weights: &weights };
    let options = BoostingOptions { trees: 500, patience: 10, ..BoostingOptions::default() };
    let fitted = Boosting::fit(table(&train), Some(table(&unseen)), &[], &options).unwrap();
    assert!(fitted.trees() < 20, "{} trees", fitted.trees());
}

#[test]
fn one_class_and_constant_features_give_the_base_rate_and_nothing_is_refused() {
    let rows = vec![vec![1.0, f64::NAN]; 50];
    let fitted = fit(&rows, &[0.0; 50], &options(Objective::Logistic));
    assert!(fitted.trees() == 0 && fitted.predict(&rows[0]) < 1e-6);
    let empty = Table { rows: &[], labels: &[], weights: &[] };
    let error = Boosting::fit(empty, None, &[], &BoostingOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot boost trees on 0 rows of 0 features with 0 labels and 0 weights");
}

#[test]
fn trees_survive_json_bit_for_bit_and_damaged_ones_are_noticed() {
    let (train, labels) = rows(500, 9);
    let fitted = fit(&train, &two_classes(&labels), &options(Objective::Logistic));
    let text = serde_json::to_string(&fitted).unwrap();
    let mut again: Boosting = serde_json::from_str(&text).unwrap();
    assert_eq!(fitted, again);
    assert!(again.is_sound());
    again.trees[0].cuts[0].left = 1_000_000;
    assert!(!again.is_sound());
}

proptest! {
    /// A row counted twice is two rows.
    #[test]
    fn weights_are_repetitions(seed in 0_u64..1_000) {
        let (train, labels) = rows(200, seed);
        let mut random = random(seed);
        let twice: Vec<bool> = labels.iter().map(|_| random.random()).collect();
        let weights: Vec<f64> = twice.iter().map(|&twice| if twice { 2.0 } else { 1.0 }).collect();
        // Borders of bins must be the same: they follow rows, not weights.
        let options = BoostingOptions { trees: 5, rows_in_leaf: 0.0, ..options(Objective::Squared) };
        let weighted = {
            let rows = refs(&train);
            Boosting::fit(Table { rows: &rows, labels: &labels, weights: &weights }, None, &[], &options).unwrap()
        };
        let repeated: Vec<usize> = (0..200).chain((0..200).filter(|&place| twice[place])).collect();
        let more: Vec<Vec<f64>> = repeated.iter().map(|&place| train[place].clone()).collect();
        let more_labels: Vec<f64> = repeated.iter().map(|&place| labels[place]).collect();
        let repeated = fit(&more, &more_labels, &options);
        for row in &train {
            prop_assert!((weighted.score(row) - repeated.score(row)).abs() < 1e-3);
        }
    }
}
