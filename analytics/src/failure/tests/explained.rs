//! Past cases and what would have to change, checked against the truth of the small fleet and reckoned again by hand.

use super::*;
use crate::boosting::{Boosting, Table};

const HORIZON: Duration = Duration::from_hours(24);

/// The fleet with what its model foretold, of the rows that explain themselves.
fn explained() -> (Histories, Model, Vec<Prediction>) {
    let (fleet, histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * 20));
    let rows = predictions(&model, &fleet, &histories).into_iter().filter(|row| !row.features.is_empty()).collect();
    (histories, model, rows)
}

fn learnt(model: &Model) -> (&Family, &ComponentModel) {
    let family = &model.families[0];
    (family, &family.components[&id::<ComponentId>("seal")])
}

/// Rows of which a third are missing something, and rankers of both kinds that learnt from them.
fn rankers() -> (Vec<Vec<f64>>, [Ranker; 2]) {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut cell = || if random.random::<f64>() < 0.1 { f64::NAN } else { random.random_range(-1.0..1.0) };
    let rows: Vec<Vec<f64>> = (0..300).map(|_| (0..4).map(|_| cell()).collect()).collect();
    let labels: Vec<f64> = rows.iter().map(|row| f64::from(u8::from(row[0] + row[1] > 0.8))).collect();
    let table: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let options = ForestOptions { trees: 30, ..ForestOptions::default() };
    let forest = Forest::fit(&table, &labels, options, 1).unwrap();
    let options = BoostingOptions { trees: 30, ..BoostingOptions::default() };
    let weights = vec![1.0; rows.len()];
    let table = Table { rows: &table, labels: &labels, weights: &weights };
    let boosting = Boosting::fit(table, None, &[], &options).unwrap();
    (rows, [Ranker::Forest(forest), Ranker::Boosting(boosting)])
}

#[test]
fn a_row_is_wholly_like_itself_and_no_more_like_another_than_that_one_is_like_it() {
    let (rows, rankers) = rankers();
    for ranker in rankers {
        let leaves: Vec<Vec<u32>> = rows.iter().map(|row| ranker.leaves(row)).collect();
        let mut partly = 0;
        for (n, a) in leaves.iter().enumerate() {
            assert!(ranker.has_leaves(a) && !ranker.has_leaves(&a[1..]));
            assert_eq!(cases::similarity(a, a), 1.0);
            let b = &leaves[(n * 7 + 1) % leaves.len()];
            let (one, other) = (cases::similarity(a, b), cases::similarity(b, a));
            assert!(one.to_bits() == other.to_bits() && (0.0..=1.0).contains(&one), "{one} and {other}");
            partly += usize::from(one > 0.0 && one < 1.0);
            // Rows in the same leaves have the same score, whatever their values are.
            assert!(one < 1.0 || ranker.scores(&[&rows[n]]) == ranker.scores(&[&rows[(n * 7 + 1) % rows.len()]]));
        }
        assert!(partly > 100, "{partly}");
        // The root of a tree that grew is no leaf, and behind the last node there is none.
        let mut wrong = leaves[0].clone();
        for node in [0, u32::MAX] {
            wrong[0] = node;
            assert!(!ranker.has_leaves(&wrong), "{node}");
        }
    }
}

#[test]
fn kept_cases_are_what_came_of_them() {
    let (histories, model, _) = explained();
    let ComponentModel::Learnt { cases, failures, .. } = learnt(&model).1 else { panic!("{model:?}") };
    let mut failed = BTreeMap::new();
    for case in cases {
        let failure = histories[&case.device].failures.first().map(|failure| failure.ts);
        match case.ended {
            Ending::FailedAfterHours(hours) => {
                assert_eq!(failure.map(|failure| failure.hours_since(case.t)), Some(hours));
                *failed.entry(&case.device).or_insert(0) += 1;
            }
            Ending::HeldForHours(hours) => {
                assert!(
                    hours >= 24.0
                        && failure.is_none_or(|failure| case.t >= failure || failure.hours_since(case.t) > hours)
                );
            }
            Ending::ReplacedAfterHours(_) => panic!("pumps are replaced after they failed: {case:?}"),
        }
        assert!(case.t <= model.trained_until);
    }
    let healthy = cases.len() - failed.values().sum::<usize>();
    assert!(failed.len() == *failures && (5..=20).contains(&healthy) && cases.len() <= 60, "{failed:?}, {healthy}");
}

#[test]
fn similar_cases_are_of_others_and_most_of_those_beside_an_alarm_failed() {
    let (_, _, rows) = explained();
    let (mut alarms, mut failed) = (0, 0);
    for row in &rows {
        let similar = &row.explanation.similar_cases;
        let devices: std::collections::BTreeSet<&DeviceId> = similar.iter().map(|case| &case.device).collect();
        assert!((1..=3).contains(&similar.len()) && devices.len() == similar.len(), "{similar:?}");
        assert!(similar.is_sorted_by(|a, b| a.similarity >= b.similarity));
        for case in similar {
            assert!(case.similarity > 0.0 && case.similarity <= 1.0 && (0.0..=1.0).contains(&case.probability));
            let apart = case.ts.hours_since(row.ts).abs() > HORIZON.hours();
            assert!(case.device != row.device || apart, "{row:?} is its own witness");
        }
        if row.alarm {
            alarms += 1;
            failed += usize::from(matches!(similar[0].ended, Ending::FailedAfterHours(_)));
        }
    }
    assert!(alarms >= 40 && failed * 10 >= alarms * 8, "{failed} of {alarms}");
}

/// The probability of a row of which the features of some signals are set back, by names and values alone.
fn set_back(model: &Model, row: &Prediction, names: &[&str]) -> f64 {
    let (family, predictor) = learnt(model);
    let ComponentModel::Learnt { usual, reference, .. } = predictor else { panic!("{predictor:?}") };
    let mut features = row.features.clone();
    for (place, feature) in family.space.features.iter().enumerate() {
        if names.contains(&feature.subject()) && feature.is_of_signal() {
            let (low, high) = usual[place].unwrap();
            assert!(!reference.is_mostly_missing(place));
            features[place].1 =
                features[place].1.map(|value| value.clamp(low, high)).or(Some(f64::midpoint(low, high)));
        }
    }
    let key = PredictionKey { ts: row.ts, device: row.device.clone(), component: row.component.clone() };
    recompute(model, row.kind.as_deref().unwrap(), &key, &features).unwrap().probabilities[0]
}

#[test]
fn what_would_have_to_change_is_what_the_model_says_of_the_changed_row() {
    let (_, model, rows) = explained();
    let (mut alarms, mut ended) = (0, 0);
    for row in &rows {
        let Some(counterfactual) = &row.explanation.counterfactual else {
            assert!(!row.alarm, "{row:?}");
            continue;
        };
        alarms += 1;
        ended += usize::from(counterfactual.suffices);
        let threshold = row.threshold.unwrap();
        assert!(row.alarm && counterfactual.suffices == (counterfactual.probability <= threshold));
        let names: Vec<&str> = counterfactual.changes.iter().map(|change| change.name.as_str()).collect();
        assert!(names.len() <= 3 && (!counterfactual.suffices || names.contains(&"heat")), "{counterfactual:?}");
        assert_eq!(set_back(&model, row, &names).to_bits(), counterfactual.probability.to_bits(), "{counterfactual:?}");
        // None of them can be left out.
        for left_out in &names {
            let rest: Vec<&str> = names.iter().copied().filter(|name| name != left_out).collect();
            assert!(!counterfactual.suffices || set_back(&model, row, &rest) > threshold, "{counterfactual:?}");
        }
        for change in &counterfactual.changes {
            let (low, high) = change.usual.unwrap();
            assert!(change.value.is_none_or(|value| value < low || value > high), "{change:?}");
        }
    }
    assert!(alarms >= 40 && ended * 10 >= alarms * 8, "{ended} of {alarms}");
}

#[test]
fn explanations_do_not_depend_on_the_number_of_threads() {
    let of = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(explained);
    let ((_, model, rows), (_, again, rows_again)) = (of(1), of(3));
    assert_eq!(model, again);
    assert!(rows == rows_again && !rows.is_empty());
}
