//! How models did in production: what was predicted, by each version and for each hardware model, beside what came of it.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{DeviceId, Duration, HardwareModelId, Timestamp};

use super::{Report, Span, Truth, evaluate, pictures::Curves, pictures::curves};
use crate::failure::Prediction;

/// What a version predicted for devices of one hardware model, or for all, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Version of the statistical model.
    pub model_version: String,
    /// Whose devices; `None` for all together.
    pub hardware_model: Option<HardwareModelId>,
    /// From its first row that counts to when the truth of its last one is known.
    pub span: Span,
    /// What was measured.
    pub report: Report,
    /// What is drawn of it.
    pub curves: Curves,
}

/// Judges predictions that were made, version by version: for all devices, then for each hardware model.
///
/// A version answers for the failures after a horizon from its first row on, until a horizon after its last. Versions whose
/// predictions are all younger than their horizon are left out: nothing is known of them yet.
///
/// * `predictions`: of each version, in order of time.
/// * `horizons`: main horizon of each version.
/// * `models`: hardware model of each device.
/// * `until`: when the truth is known.
#[must_use]
pub fn scoreboard(
    predictions: &BTreeMap<String, Vec<Prediction>>,
    horizons: &BTreeMap<String, Duration>,
    truth: &Truth,
    models: &BTreeMap<DeviceId, HardwareModelId>,
    until: Timestamp,
) -> Vec<Standing> {
    let mut standings = Vec::new();
    for (version, rows) in predictions {
        let (Some(first), Some(last), Some(&horizon)) = (rows.first(), rows.last(), horizons.get(version)) else {
            continue;
        };
        let span = Span::of_version((first.ts, last.ts), horizon, until);
        let standing = |hardware_model: Option<&HardwareModelId>| {
            let inside = |device: &DeviceId| hardware_model.is_none() || models.get(device) == hardware_model;
            let rows: Vec<Prediction> = rows.iter().filter(|row| inside(&row.device)).cloned().collect();
            let truth: Truth = truth.iter().filter(|((device, _), _)| inside(device)).map(cloned).collect();
            let report = evaluate(&rows, &truth, span);
            let curves = curves(&rows, &truth, span);
            Standing { model_version: version.clone(), hardware_model: hardware_model.cloned(), span, report, curves }
        };
        let all = standing(None);
        if all.report.rows == 0 {
            continue;
        }
        standings.push(all);
        let of: BTreeSet<&HardwareModelId> = rows.iter().filter_map(|row| models.get(&row.device)).collect();
        standings.extend(of.into_iter().map(|model| standing(Some(model))));
    }
    standings
}

fn cloned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::*;

    #[test]
    fn each_version_answers_for_its_own_time_and_each_hardware_model_for_its_devices() {
        let first = vec![row(0, "a", 0.8, true), row(0, "b", 0.1, false), row(12, "b", 0.6, true)];
        let second = vec![row(100, "a", 0.1, false), row(100, "b", 0.7, true), row(300, "a", 0.1, false)];
        let predictions = BTreeMap::from([("1".to_owned(), first), ("2".to_owned(), second)]);
        let horizons = BTreeMap::from(["1", "2"].map(|v| (v.to_owned(), Duration::from_hours(24))));
        let models = BTreeMap::from([("a", "x1"), ("b", "x2")].map(|(d, m)| (d.parse().unwrap(), m.parse().unwrap())));
        let truth = truth(&[("a", 24), ("b", 124), ("b", 30)]);
        let standings = scoreboard(&predictions, &horizons, &truth, &models, hour(310));
        let told = |standing: &Standing| {
            let model = standing.hardware_model.as_ref().map(ToString::to_string);
            (standing.model_version.clone(), model, standing.report.failures, standing.report.flagged[0].flagged)
        };
        let one = |version: &str, model: Option<&str>, failures, flagged| {
            (version.to_owned(), model.map(str::to_owned), failures, flagged)
        };
        // The row at hour 300 is too young; it still says how long the second version watched.
        let expected = [
            one("1", None, 2, 2),
            one("1", Some("x1"), 1, 1),
            one("1", Some("x2"), 1, 1),
            one("2", None, 1, 1),
            one("2", Some("x1"), 0, 0),
            one("2", Some("x2"), 1, 1),
        ];
        assert_eq!(standings.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(standings[0].span.to, hour(36));
        assert_eq!(standings[3].span.to, hour(310));
    }

    #[test]
    fn a_version_of_which_nothing_is_known_yet_is_left_out() {
        let predictions = BTreeMap::from([("1".to_owned(), vec![row(0, "a", 0.8, true)])]);
        let horizons = BTreeMap::from([("1".to_owned(), Duration::from_hours(24))]);
        assert_eq!(scoreboard(&predictions, &horizons, &truth(&[]), &BTreeMap::new(), hour(23)), []);
    }
}
