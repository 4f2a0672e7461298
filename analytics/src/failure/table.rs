//! The rows that training learns from, as a table: for whoever trains a model elsewhere on exactly what will be served.

use std::collections::BTreeMap;

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp, fleet::Fleet};

use super::{
    Model, Subject, TrainOptions,
    onnx::narrowed,
    rows::{Row, component_rows, fill},
    train::{FamilyJob, Outset, cohorts_of, components_of},
};

/// The rows of a component of a kind of device.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningTable {
    /// The kind.
    pub kind: String,
    /// The component.
    pub component: ComponentId,
    /// Labels are about this time after a row.
    pub horizon: Duration,
    /// What the features are, in words, in the order of a row.
    pub names: Vec<String>,
    /// In order of device and time.
    pub rows: Vec<LearningRow>,
}

/// A row to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningRow {
    /// Of which device.
    pub device: DeviceId,
    /// When.
    pub ts: Timestamp,
    /// Whether the component has failed in `(ts, ts + horizon]`, as far as is known.
    pub failed: bool,
    /// Whether that is known for certain: the horizon had passed, and the device was observed to its end or failed.
    pub known: bool,
    /// How many rows it stands for, > 0: of the healthy only as many are taken as tell something new.
    pub weight: f64,
    /// As models are served them; NaN where a value is missing.
    pub features: Vec<f32>,
}

/// The tables of all components that are wanted, in order of kind and component.
///
/// * `subjects`: in order of device id.
/// * `model`: the columns are those of this model, and so are horizons and step unless the options say others; without one
///   they are those that training would choose.
/// * `horizon`: of the labels; the main one where `None`.
/// * `wanted`: by kind and component.
#[must_use]
pub fn learning_tables(
    fleet: &Fleet,
    subjects: &[Subject<'_>],
    options: &TrainOptions,
    model: Option<&Model>,
    horizon: Option<Duration>,
    wanted: impl Fn(&str, &ComponentId) -> bool,
) -> Vec<LearningTable> {
    let mut options = options.clone();
    if let Some(model) = model {
        if options.horizons.is_empty() {
            options.horizons.clone_from(&model.horizons);
        }
        options.every = options.every.or(Some(model.every));
    }
    let Outset { families, mut horizons, every } = Outset::of(fleet, subjects, &options);
    let labels = match horizon {
        None => 0,
        Some(horizon) => horizons.iter().position(|&known| known == horizon).unwrap_or_else(|| {
            horizons.push(horizon);
            horizons.len() - 1
        }),
    };
    let mut tables = Vec::new();
    for (kind, (windows, members)) in &families {
        let components: BTreeMap<_, _> =
            components_of(fleet, subjects, members).into_iter().filter(|(c, _)| wanted(kind, c)).collect();
        let job = FamilyJob { fleet, subjects, members, horizons: &horizons, every, options: &options };
        let (space, cohorts) = match model {
            _ if components.is_empty() => continue,
            None => job.space(*windows),
            Some(model) => {
                let Some(family) = model.family(kind) else { continue };
                (family.space.clone(), cohorts_of(subjects, members, &family.space))
            }
        };
        for (component, models) in components {
            let learning = job.learning(&models);
            let width = space.width();
            let mut rows = component_rows(subjects, &learning, component, &horizons, every, options.until, width);
            fill(&mut rows, subjects, component, &space, &cohorts);
            let row = |row: Row| LearningRow {
                device: subjects[row.subject].device.device.clone(),
                ts: row.t,
                failed: row.failed[labels],
                known: row.labels[labels].is_some(),
                weight: row.weight,
                features: row.features.into_iter().map(narrowed).collect(),
            };
            tables.push(LearningTable {
                kind: kind.clone(),
                component: component.clone(),
                horizon: horizons[labels],
                names: space.names(),
                rows: rows.into_iter().map(row).collect(),
            });
        }
    }
    tables
}
