//! What would have to change: the fewest signals that, were they as usual, would bring a probability below the threshold
//! (Wachter, Mittelstadt and Russell 2017, *Counterfactual explanations without opening the black box*).
//!
//! A signal is set back with all its features at once, each to the nearest end of its usual range, and the row is judged by the
//! real ranker and calibration. Ages are left alone: nothing that is measured sets them back. Signals hang together in the
//! device, which no such reckoning knows: it tells what the model stands on, not what an intervention would do.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{
    drift::Reference,
    explanation::BySignal,
    model::{ComponentModel, Family, Model},
    score::judged,
};
use crate::features::Feature;

/// Signals that are tried: those that raised the score most.
const TRIED: usize = 4;
/// Most signals that are set back together: more are no answer that a person can act on.
const TOGETHER: u32 = 3;

/// What would have to change for a prediction not to alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counterfactual {
    /// The signals set back, what raised the score most first; empty where none of them is unusual or setting them back does
    /// not lower the probability.
    pub changes: Vec<Change>,
    /// The main-horizon probability then.
    pub probability: f64,
    /// Whether that is no alarm; where it is not, no two or three signals suffice, and these lower it most.
    pub suffices: bool,
}

/// A signal that is set back to what is usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Signal name or event code.
    pub name: String,
    /// Of its features that change the one that people know it by, its level, else the one that raised the score most; in words.
    pub feature: String,
    /// Its value; `None` where it is missing.
    pub value: Option<f64>,
    /// From where to where nine of ten healthy devices have it; `None` where most have none.
    pub usual: Option<(f64, f64)>,
}

/// A signal's change in words and in numbers.
struct SetBack {
    change: Change,
    cells: Vec<Cell>,
}

/// A feature that is set back.
struct Cell {
    /// Its place in the row.
    place: usize,
    /// What it is set to.
    value: f64,
    usual: Option<(f64, f64)>,
}

/// What would have to change for a row that alarms.
///
/// * `by_signal`: what the features of each signal added to the score, strongest first.
/// * `main`: the main-horizon probability of the row.
pub(super) fn counterfactual(
    model: &Model,
    family: &Family,
    predictor: &ComponentModel,
    row: &[f64],
    by_signal: &[BySignal<'_>],
    (main, threshold): (f64, f64),
) -> Option<Counterfactual> {
    let ComponentModel::Learnt { usual, reference, .. } = predictor else { return None };
    let raising = by_signal.iter().filter(|signal| signal.sum > 0.0);
    let tried: Vec<SetBack> =
        raising.filter_map(|signal| set_back(family, row, signal, usual, reference)).take(TRIED).collect();
    let sets: Vec<u32> = (1..1_u32 << tried.len()).filter(|set| set.count_ones() <= TOGETHER).collect();
    let inside = |set: u32| tried.iter().enumerate().filter(move |(n, _)| set >> n & 1 == 1).map(|(_, one)| one);
    let changed = |&set: &u32| {
        let mut row = row.to_vec();
        inside(set).flat_map(|one| &one.cells).for_each(|cell| row[cell.place] = cell.value);
        row
    };
    let rows: Vec<Vec<f64>> = sets.iter().map(changed).collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let of_main = |(probabilities, _): (Vec<f64>, f64)| probabilities.first().copied().unwrap_or(0.0);
    let probabilities = judged(&model.horizons, predictor, &rows).into_iter().map(of_main);
    // The fewest that suffice, else whatever lowers it most; of equals those that raised the score most.
    let best = sets.iter().copied().zip(probabilities).min_by(|&(a, of_a), &(b, of_b)| {
        let fewer = a.count_ones().cmp(&b.count_ones());
        let lower = of_a.total_cmp(&of_b);
        let better = match (of_a <= threshold, of_b <= threshold) {
            (true, true) => fewer.then(lower),
            (false, false) => lower.then(fewer),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        };
        better.then(a.cmp(&b))
    });
    let nothing = Counterfactual { changes: Vec::new(), probability: main, suffices: false };
    let lower = best.filter(|&(_, probability)| probability < main);
    Some(lower.map_or(nothing, |(set, probability)| Counterfactual {
        changes: inside(set).map(|one| one.change.clone()).collect(),
        probability,
        suffices: probability <= threshold,
    }))
}

/// Sets the features of a signal back; `None` where none of them is unusual, or all are ages.
fn set_back(
    family: &Family,
    row: &[f64],
    signal: &BySignal<'_>,
    usual: &[Option<(f64, f64)>],
    reference: &Reference,
) -> Option<SetBack> {
    let space = &family.space;
    let as_usual = |place: usize| {
        let usual = usual[place].filter(|_| !reference.is_mostly_missing(place));
        Cell { place, value: nearest(row[place], usual), usual }
    };
    let is_age =
        |feature: &Feature| matches!(feature, Feature::DeviceAge | Feature::PieceAge(_) | Feature::ComponentAge);
    let places = signal.places.clone().filter(|&place| !is_age(&space.features[place]));
    let is_new = |cell: &Cell| {
        let before = row[cell.place];
        before != cell.value && !(before.is_nan() && cell.value.is_nan())
    };
    let cells: Vec<Cell> = places.map(as_usual).filter(is_new).collect();
    let is_level = |cell: &Cell| {
        let feature = &space.features[cell.place];
        matches!(feature, Feature::Last(_) | Feature::ShortMean(_) | Feature::MidMean(_) | Feature::LongMean(_))
    };
    let added = |cell: &Cell| signal.added[cell.place - signal.places.start];
    // Of equals the first.
    let told = cells.iter().rev().max_by(|a, b| is_level(a).cmp(&is_level(b)).then(added(a).total_cmp(&added(b))))?;
    let change = Change {
        name: signal.name.to_owned(),
        feature: space.features[told.place].words(&space.windows),
        value: Some(row[told.place]).filter(|value| !value.is_nan()),
        usual: told.usual,
    };
    Some(SetBack { change, cells })
}

/// What is usual and nearest to a value: inside the range itself, outside the nearer end, for a missing one the middle.
fn nearest(value: f64, usual: Option<(f64, f64)>) -> f64 {
    match usual {
        Some((low, high)) if value.is_nan() => f64::midpoint(low, high),
        Some((low, high)) => value.max(low).min(high),
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_no_further_than_to_what_is_usual() {
        let range = Some((41.0, 55.0));
        for (value, expected) in [(60.0, 55.0), (12.0, 41.0), (50.0, 50.0), (55.0, 55.0), (f64::NAN, 48.0)] {
            assert_eq!(nearest(value, range), expected, "{value}");
        }
        assert!(nearest(3.0, None).is_nan());
    }
}
