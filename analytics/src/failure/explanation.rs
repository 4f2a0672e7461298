//! Why a prediction is what it is: the signals behind it, past cases like it, and what would have to change.

use std::ops::Range;

use harbinger_core::{ComponentId, DeviceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    cases::{SimilarCase, most_similar},
    counterfactual::{Counterfactual, counterfactual},
    model::{ComponentModel, Family, Model},
    score::age_hours,
};
use crate::features::{Feature, FeatureSpace};

/// Signals named with a prediction.
const TOP_SIGNALS: usize = 3;

/// A signal or event code and what it added to the score behind the main horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopSignal {
    /// Signal name, event code, or `component age`.
    pub name: String,
    /// What its features added to the score behind the probability; below 0 where no signal raised it, and these lowered it
    /// most.
    pub contribution: f64,
    /// The feature that moved it most, in words.
    pub because: String,
    /// Its value; missing where there was none.
    pub value: Option<f64>,
    /// From where to where nine of ten healthy devices have it; `None` where that is not known.
    #[serde(default)]
    pub usual: Option<(f64, f64)>,
}

/// What is told of a prediction besides its signals; empty where nothing was learnt from rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The most alike past cases, of other devices or other times, the most alike first.
    pub similar_cases: Vec<SimilarCase>,
    /// What would have to change; `None` where the prediction does not alarm.
    pub counterfactual: Option<Counterfactual>,
}

/// What the features of a signal added.
#[derive(Debug)]
pub(super) struct BySignal<'a> {
    pub name: &'a str,
    pub sum: f64,
    /// Places of its features in the row.
    pub places: Range<usize>,
    /// What each of them added.
    pub added: &'a [f64],
}

impl BySignal<'_> {
    /// The feature that moved the score most; of equals the first.
    fn strongest(&self) -> usize {
        let first = self.places.start;
        self.places.clone().fold(first, |best, place| {
            if self.added[place - first].abs() > self.added[best - first].abs() { place } else { best }
        })
    }
}

/// The signals behind a row, and what else explains it.
///
/// * `slot`: device, component and time of the row.
/// * `main`: its main-horizon probability.
pub(super) fn explanation(
    model: &Model,
    family: &Family,
    (device, component, t): (&DeviceId, &ComponentId, Timestamp),
    row: &[f64],
    main: f64,
) -> (Vec<TopSignal>, Explanation) {
    let Some(predictor) = family.components.get(component) else { return Default::default() };
    match predictor {
        ComponentModel::Learnt { horizons, usual, cases, .. } => {
            let (Some(ranked), Some(&horizon)) = (horizons.first(), model.horizons.first()) else {
                return Default::default();
            };
            let mut contributions = Vec::new();
            ranked.ranker.contributions(row, &mut contributions);
            let by_signal = by_signal(&family.space, &contributions);
            let of_cases = ranked.of_cases();
            let leaves = of_cases.ranker.leaves(row);
            let alarming = family.threshold.filter(|&threshold| main > threshold);
            let explanation = Explanation {
                similar_cases: most_similar(cases, &of_cases.calibration, horizon, (device, t, &leaves)),
                counterfactual: alarming
                    .and_then(|threshold| counterfactual(model, family, predictor, row, &by_signal, (main, threshold))),
            };
            (strongest(&family.space, row, by_signal, usual), explanation)
        }
        ComponentModel::Lifetime { .. } => (age_signal(age_hours(row)), Explanation::default()),
        ComponentModel::Rate { .. } => Default::default(),
    }
}

/// Sums what features added by signal, strongest first.
fn by_signal<'a>(space: &'a FeatureSpace, contributions: &'a [f64]) -> Vec<BySignal<'a>> {
    let mut by_signal = Vec::new();
    let mut start = 0;
    for features in space.features.chunk_by(|a, b| a.subject() == b.subject()) {
        let places = start..start + features.len();
        start = places.end;
        let added = &contributions[places.clone()];
        by_signal.push(BySignal { name: features[0].subject(), sum: added.iter().sum(), places, added });
    }
    by_signal.sort_by(|a, b| b.sum.abs().total_cmp(&a.sum.abs()).then(a.name.cmp(b.name)));
    by_signal
}

/// Names the signals that raised the score most; where none did, those that lowered it most.
fn strongest(
    space: &FeatureSpace,
    row: &[f64],
    mut by_signal: Vec<BySignal<'_>>,
    usual: &[Option<(f64, f64)>],
) -> Vec<TopSignal> {
    by_signal.retain(|signal| signal.sum != 0.0);
    if by_signal.iter().any(|signal| signal.sum > 0.0) {
        by_signal.retain(|signal| signal.sum > 0.0);
    }
    let named = |signal: BySignal<'_>| {
        let place = signal.strongest();
        TopSignal {
            name: signal.name.to_owned(),
            contribution: signal.sum,
            because: space.features[place].words(&space.windows),
            value: Some(row[place]).filter(|value| !value.is_nan()),
            usual: usual[place],
        }
    };
    by_signal.into_iter().take(TOP_SIGNALS).map(named).collect()
}

fn age_signal(age_hours: Option<f64>) -> Vec<TopSignal> {
    let signal = |hours: f64| TopSignal {
        name: Feature::ComponentAge.subject().to_owned(),
        contribution: 1.0,
        because: "days since the component was replaced".to_owned(),
        value: Some(hours / 24.0),
        usual: None,
    };
    age_hours.map(signal).into_iter().collect()
}
