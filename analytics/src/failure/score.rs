//! Scoring: a model applied to devices at times, one prediction a component.

mod cold_start;

use std::{collections::BTreeMap, sync::Arc};

use harbinger_core::{ComponentId, DeviceId, Duration, HardwareModelId, Timestamp, fleet::Fleet, history::Timeline};
use harbinger_store::ledger::predictions::PredictionKey;
use rayon::prelude::*;

use super::{
    Subject,
    explanation::{Explanation, TopSignal, explanation},
    kind_of, kinds,
    model::{ComponentModel, Family, Model},
    rows::known,
    train::cohorts_of,
};
use crate::{
    features::{FeatureSpace, Known},
    survival::{RemainingLife, SurvivalCurve},
};

use cold_start::{doubt, unknown, widened};

/// From this share of the threshold on a row keeps its features: what raised an alert, held it, or let it go.
const KEEPS_FEATURES: f64 = 0.5;

/// Devices and rows that are scored together: many rows walk a tree while it is in the cache, and few enough wait for that.
const DEVICES_TOGETHER: usize = 64;
const ROWS_TOGETHER: usize = 1_024;

/// What a model says of a component at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// What was known then.
    pub ts: Timestamp,
    /// Of which device.
    pub device: DeviceId,
    /// Of which component.
    pub component: ComponentId,
    /// P(failure in `(ts, ts + horizon]`), one a horizon, never falling with the horizon.
    pub probabilities: Vec<f64>,
    /// Uncalibrated rank behind the main horizon.
    pub score: f64,
    /// Whether the main probability is over the threshold.
    pub alarm: bool,
    /// Remaining useful life in hours.
    pub rul: RemainingLife,
    /// What raised the score most, or lowered it where nothing raised it; strongest first. There for the rows whose features
    /// are: to tell contributions apart takes a hundred times as long as to score.
    pub top_signals: Vec<TopSignal>,
    /// What else explains it; empty where the top signals are.
    pub explanation: Explanation,
    /// The main-horizon probability above which a row alarms; `None` where the model has none.
    pub threshold: Option<f64>,
    /// What was decided on, by name, `None` where it was missing: for rows near the threshold or
    /// above and for those that a plan stands on, else empty.
    pub features: Vec<(String, Option<f64>)>,
    /// The kind of the device whose features they are, where there are any.
    pub kind: Option<Arc<str>>,
    /// What it was made from, kept where asked for until it is known whether somebody will want its reasons.
    pub(crate) basis: Option<Basis>,
}

impl Prediction {
    /// P(failure) within the main horizon.
    #[must_use]
    pub fn main_probability(&self) -> f64 {
        main_of(&self.probabilities)
    }

    /// The id under which it is kept.
    #[must_use]
    pub fn id(&self) -> String {
        PredictionKey { ts: self.ts, device: self.device.clone(), component: self.component.clone() }.encode()
    }
}

/// The feature row of a prediction, and the place of the family in its model that says what the columns are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Basis {
    pub(super) family: usize,
    pub(super) row: Vec<f64>,
}

/// Scores subjects at the times that `times` gives for each, in order of time, device and component.
///
/// * `subjects`: in order of device id, all devices of the fleet: they are each other's cohort.
/// * `times`: when to score a subject; empty for none.
#[must_use]
pub fn score(
    model: &Model,
    fleet: &Fleet,
    subjects: &[Subject<'_>],
    times: impl Fn(&Subject<'_>) -> Vec<Timestamp> + Sync,
) -> Vec<Prediction> {
    score_with(model, fleet, subjects, times, false)
}

/// As [`score`]; each prediction keeps its basis, for [`explain`].
pub(crate) fn score_with_basis(
    model: &Model,
    fleet: &Fleet,
    subjects: &[Subject<'_>],
    times: impl Fn(&Subject<'_>) -> Vec<Timestamp> + Sync,
) -> Vec<Prediction> {
    score_with(model, fleet, subjects, times, true)
}

/// Gives the predictions that are wanted their features and top signals, and forgets the basis of all.
pub(crate) fn explain(model: &Model, predictions: &mut [Prediction], wanted: impl Fn(&Prediction) -> bool + Sync) {
    predictions.par_iter_mut().for_each(|prediction| {
        let Some(basis) = prediction.basis.take() else { return };
        if prediction.features.is_empty()
            && wanted(prediction)
            && let Some(family) = model.families.get(basis.family)
        {
            prediction.features = named(family, &basis.row);
            prediction.kind = Some(family.kind.as_str().into());
            let slot = (&prediction.device, &prediction.component, prediction.ts);
            (prediction.top_signals, prediction.explanation) =
                explanation(model, family, slot, &basis.row, prediction.main_probability());
        }
    });
}

fn score_with(
    model: &Model,
    fleet: &Fleet,
    subjects: &[Subject<'_>],
    times: impl Fn(&Subject<'_>) -> Vec<Timestamp> + Sync,
    keep_basis: bool,
) -> Vec<Prediction> {
    let kinds = kinds(fleet);
    let mut components: BTreeMap<&HardwareModelId, Vec<&ComponentId>> = BTreeMap::new();
    for slot in &fleet.components {
        components.entry(&slot.model).or_default().push(&slot.component);
    }
    let mut predictions = Vec::new();
    for (place_of_family, family) in model.families.iter().enumerate() {
        let members: Vec<usize> =
            (0..subjects.len()).filter(|&place| kind_of(&kinds, subjects[place].device) == family.kind).collect();
        let cohorts = cohorts_of(subjects, &members, &family.space);
        let scorer = Scorer { model, family, keep_basis: keep_basis.then_some(place_of_family) };
        let of_chunk = |chunk: &[usize]| {
            let (mut predictions, mut waiting) = (Vec::new(), Vec::new());
            for &place in chunk {
                let subject = &subjects[place];
                let times = times(subject);
                let slots = components.get(&subject.device.model).map_or(&[][..], Vec::as_slice);
                if times.is_empty() || slots.is_empty() {
                    continue;
                }
                let readings = family.space.view(&subject.history.readings);
                let timeline = Timeline::of(&readings, family.space.windows.step);
                let known = known(subject, &readings, &timeline, &cohorts);
                for t in times {
                    scorer.wait(&mut waiting, subject, &known, t, slots);
                    if waiting.len() >= ROWS_TOGETHER {
                        scorer.finish(&mut waiting, &mut predictions);
                    }
                }
            }
            scorer.finish(&mut waiting, &mut predictions);
            predictions
        };
        let scored: Vec<Vec<Prediction>> = members.par_chunks(DEVICES_TOGETHER).map(of_chunk).collect();
        predictions.extend(scored.into_iter().flatten());
    }
    for subject in subjects {
        let family = model.family(kind_of(&kinds, subject.device));
        let is_new = |slot: &&&ComponentId| family.is_none_or(|family| !family.components.contains_key(**slot));
        let slots = components.get(&subject.device.model).map_or(&[][..], Vec::as_slice);
        let new: Vec<&ComponentId> = slots.iter().filter(is_new).copied().collect();
        if !new.is_empty() {
            let times = times(subject);
            let at = |t: Timestamp| new.iter().filter_map(move |component| unknown(model, subject, component, t));
            predictions.extend(times.into_iter().flat_map(at));
        }
    }
    predictions.par_sort_by(|a, b| (a.ts, &a.device, &a.component).cmp(&(b.ts, &b.device, &b.component)));
    predictions
}

/// A row that waits to be scored with others.
struct Waiting<'a> {
    subject: &'a Subject<'a>,
    component: &'a ComponentId,
    predictor: &'a ComponentModel,
    t: Timestamp,
    row: Vec<f64>,
    /// What remaining life is told by, where that was learnt.
    life_row: Option<Vec<f64>>,
}

struct Scorer<'a> {
    model: &'a Model,
    family: &'a Family,
    /// The family's place in the model, where predictions are to keep their basis.
    keep_basis: Option<usize>,
}

fn named(family: &Family, row: &[f64]) -> Vec<(String, Option<f64>)> {
    let FeatureSpace { windows, features, .. } = &family.space;
    let present = |value: &f64| Some(*value).filter(|value| !value.is_nan());
    features.iter().zip(row).map(|(feature, value)| (feature.words(windows), present(value))).collect()
}

impl<'a> Scorer<'a> {
    /// Makes the rows of a device at `t`.
    fn wait(
        &self,
        waiting: &mut Vec<Waiting<'a>>,
        subject: &'a Subject<'a>,
        known: &Known<'_>,
        t: Timestamp,
        slots: &[&ComponentId],
    ) {
        let device_row = self.family.space.device_row(known, t);
        for component in slots {
            let Some((component, predictor)) = self.family.components.get_key_value(*component) else { continue };
            let row = self.family.space.complete(&device_row, known, component, t);
            let life_row = predictor.life().map(|life| life.row(&self.family.space, &row, known, t));
            waiting.push(Waiting { subject, component, predictor, t, row, life_row });
        }
    }

    /// Scores the rows that wait, component by component.
    fn finish(&self, waiting: &mut Vec<Waiting<'a>>, predictions: &mut Vec<Prediction>) {
        waiting.sort_by(|a, b| a.component.cmp(b.component));
        let of_component = |of_component: &[Waiting<'_>]| {
            let rows: Vec<&[f64]> = of_component.iter().map(|one| one.row.as_slice()).collect();
            judged(&self.model.horizons, of_component[0].predictor, &rows)
        };
        let judged: Vec<(Vec<f64>, f64)> =
            waiting.chunk_by(|a, b| a.component == b.component).flat_map(of_component).collect();
        predictions.extend(waiting.drain(..).zip(judged).map(|(one, judged)| self.prediction(one, judged)));
    }

    fn prediction(&self, one: Waiting<'_>, (probabilities, score): (Vec<f64>, f64)) -> Prediction {
        let Self { model, family, .. } = self;
        let Waiting { subject, component, predictor, t, row, life_row } = one;
        let main = main_of(&probabilities);
        let near = family.threshold.is_some_and(|threshold| main > KEEPS_FEATURES * threshold);
        let life = match predictor.life().zip(life_row) {
            Some((life, row)) => life.predict(&row, model.rul_cap),
            None => remaining_life(&model.horizons, &probabilities, model.rul_cap),
        };
        let slot = (&subject.device.device, component, t);
        let (top_signals, explanation) =
            if near { explanation(model, family, slot, &row, main) } else { Default::default() };
        Prediction {
            ts: t,
            device: subject.device.device.clone(),
            component: component.clone(),
            rul: widened(life, doubt(family, &subject.device.model), model.rul_cap),
            alarm: family.threshold.is_some_and(|threshold| main > threshold),
            probabilities,
            score,
            top_signals,
            explanation,
            threshold: family.threshold,
            features: if near { named(family, &row) } else { Vec::new() },
            kind: near.then(|| family.kind.as_str().into()),
            basis: self.keep_basis.map(|family| Basis { family, row }),
        }
    }
}

fn main_of(probabilities: &[f64]) -> f64 {
    probabilities.first().copied().unwrap_or(0.0)
}

/// What a model says of rows of a component's features: the probabilities, one a horizon, and the score behind the main one.
pub(super) fn judged(horizons: &[Duration], predictor: &ComponentModel, rows: &[&[f64]]) -> Vec<(Vec<f64>, f64)> {
    let at_rate =
        |rate_per_day: f64| -> Vec<f64> { horizons.iter().map(|h| -(-rate_per_day * h.days()).exp_m1()).collect() };
    let by_itself = |probabilities: Vec<f64>| {
        let main = main_of(&probabilities);
        (probabilities, main)
    };
    let mut judged: Vec<(Vec<f64>, f64)> = match predictor {
        ComponentModel::Learnt { horizons, .. } => {
            let of_horizons: Vec<Vec<(f64, f64)>> = horizons.iter().map(|h| h.judge(rows)).collect();
            let probabilities = |place: usize| of_horizons.iter().map(|judged| judged[place].1).collect();
            let score = |place: usize| of_horizons.first().map_or(0.0, |judged| judged[place].0);
            (0..rows.len()).map(|place| (probabilities(place), score(place))).collect()
        }
        ComponentModel::Lifetime { weibull, rate_per_day, .. } => {
            let of_row = |row: &&[f64]| match age_hours(row) {
                Some(age) => {
                    let within = |h: &Duration| weibull.conditional_failure_probability(age / 24.0, h.days());
                    by_itself(horizons.iter().map(within).collect())
                }
                None => by_itself(at_rate(*rate_per_day)),
            };
            rows.iter().map(of_row).collect()
        }
        ComponentModel::Rate { rate_per_day, .. } => rows.iter().map(|_| by_itself(at_rate(*rate_per_day))).collect(),
    };
    judged.iter_mut().for_each(|(probabilities, _)| make_coherent(horizons, probabilities));
    judged
}

/// The component's age, which is the last number of a row.
pub(super) fn age_hours(row: &[f64]) -> Option<f64> {
    row.last().copied().filter(|hours| !hours.is_nan())
}

/// A prediction that was reckoned again from its features.
#[derive(Debug, Clone, PartialEq)]
pub struct Recomputed {
    /// One a horizon.
    pub probabilities: Vec<f64>,
    /// The rank behind the main horizon.
    pub score: f64,
    /// The signals behind it.
    pub top_signals: Vec<TopSignal>,
    /// What else explains it.
    pub explanation: Explanation,
}

/// What a model says of features that were kept by name with a prediction, to the last bit as when it was made. `None` where the
/// model knows no such component or has other features.
///
/// * `kind`: of the device's hardware model.
/// * `key`: of the prediction.
#[must_use]
pub fn recompute(
    model: &Model,
    kind: &str,
    key: &PredictionKey,
    features: &[(String, Option<f64>)],
) -> Option<Recomputed> {
    let family = model.family(kind)?;
    let FeatureSpace { windows, features: known, .. } = &family.space;
    let same = known.len() == features.len() && known.iter().zip(features).all(|(a, (b, _))| a.words(windows) == *b);
    let row: Vec<f64> = features.iter().map(|(_, value)| value.unwrap_or(f64::NAN)).collect();
    let predictor = family.components.get(&key.component).filter(|_| same)?;
    let (probabilities, score) = judged(&model.horizons, predictor, &[&row]).pop()?;
    let slot = (&key.device, &key.component, key.ts);
    let (top_signals, explanation) = explanation(model, family, slot, &row, main_of(&probabilities));
    Some(Recomputed { probabilities, score, top_signals, explanation })
}

/// A longer horizon is never less likely: running maximum in order of horizon (parts mathematics 2.1).
fn make_coherent(horizons: &[Duration], probabilities: &mut [f64]) {
    let mut order: Vec<usize> = (0..horizons.len()).collect();
    order.sort_by_key(|&n| horizons[n]);
    let mut highest: f64 = 0.0;
    for n in order {
        highest = highest.max(probabilities[n]);
        probabilities[n] = highest;
    }
}

fn remaining_life(horizons: &[Duration], probabilities: &[f64], cap: Duration) -> RemainingLife {
    match curve(horizons, probabilities) {
        Some(curve) => curve.rul(cap),
        None => RemainingLife { mean: cap.hours(), p05: cap.hours(), p50: cap.hours(), p95: cap.hours() },
    }
}

/// The survival curve of a prediction, with the horizons in order.
#[must_use]
pub fn curve(horizons: &[Duration], probabilities: &[f64]) -> Option<SurvivalCurve> {
    let mut points: Vec<(Duration, f64)> = horizons.iter().copied().zip(probabilities.iter().copied()).collect();
    points.sort_by_key(|(horizon, _)| *horizon);
    let (horizons, probabilities): (Vec<Duration>, Vec<f64>) = points.into_iter().unzip();
    SurvivalCurve::from_probabilities(&horizons, &probabilities).ok()
}
