//! Devices of which a model knows little: a hardware model that is new to its family, or a kind or component that is new altogether.
//!
//! A new hardware model is scored as its family, and what is said of its life is less sure: its lives are taken for the family's
//! times a factor that nobody knows yet, lognormal around 1 (an accelerated-failure-time model, Meeker and Escobar 1998, chapter
//! 17). What is new altogether is expected to fail as components do on average.

use harbinger_core::{ComponentId, Duration, HardwareModelId, Timestamp};

use super::{Prediction, judged, remaining_life};
use crate::{
    evaluate::Z_95,
    failure::{
        Explanation, Subject,
        model::{ComponentModel, Family, Model},
        train::prior_rate,
    },
    survival::RemainingLife,
};

/// Standard deviation of the logarithm of the factor: nine of ten hardware models of a kind are taken to live between .44 and 2.3
/// times as long as the kind.
const BETWEEN_MODELS: f64 = 0.5;
/// From so many expected failures on the devices that were held out in training speak for the hardware model.
const ENOUGH: f64 = 5.0;

/// How far what is said of a hardware model's life may be off, as a factor of at least 1: 1 where the family has seen enough of it.
pub(super) fn doubt(family: &Family, model: &HardwareModelId) -> f64 {
    let seen = family.experience.get(model).copied().unwrap_or(0.0);
    (Z_95 * BETWEEN_MODELS * (1.0 - seen / ENOUGH).max(0.0).sqrt()).exp()
}

/// Remaining life with both ends of its interval further off by a factor; nothing beyond the cap.
pub(super) fn widened(life: RemainingLife, factor: f64, cap: Duration) -> RemainingLife {
    RemainingLife { p05: life.p05 / factor, p95: (life.p95 * factor).min(life.p95.max(cap.hours())), ..life }
}

/// What is said of a component that the model does not know, of a device that need not be of a known kind.
pub(super) fn unknown(
    model: &Model,
    subject: &Subject<'_>,
    component: &ComponentId,
    t: Timestamp,
) -> Option<Prediction> {
    let rate = ComponentModel::Rate { failures: 0, rate_per_day: prior_rate() };
    let (probabilities, score) = judged(&model.horizons, &rate, &[&[]]).pop()?;
    let life = remaining_life(&model.horizons, &probabilities, model.rul_cap);
    Some(Prediction {
        ts: t,
        device: subject.device.device.clone(),
        component: component.clone(),
        rul: widened(life, (Z_95 * BETWEEN_MODELS).exp(), model.rul_cap),
        probabilities,
        score,
        alarm: false,
        top_signals: Vec::new(),
        explanation: Explanation::default(),
        threshold: None,
        features: Vec::new(),
        kind: None,
        basis: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wider_interval_holds_the_narrower_and_ends_at_the_cap(
            p05 in 0.0_f64..100.0, more in 0.0_f64..900.0, factor in 1.0_f64..4.0,
        ) {
            let cap = Duration::from_hours(1_000);
            let life = RemainingLife { mean: p05 + more / 2.0, p05, p50: p05 + more / 2.0, p95: p05 + more };
            let wider = widened(life, factor, cap);
            prop_assert!(wider.p05 <= life.p05 && life.p95 <= wider.p95 && wider.p95 <= 1_000.0);
            prop_assert_eq!((wider.mean, wider.p50), (life.mean, life.p50));
            prop_assert_eq!(widened(life, 1.0, cap), life);
        }
    }
}
