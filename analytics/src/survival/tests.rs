//! Survival curves against worked example 9.12, closed forms, and properties on random curves.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1e-12), "{actual} is not {expected}");
}

fn curve() -> SurvivalCurve {
    SurvivalCurve::from_survival(&[7.0, 14.0, 30.0, 60.0], &[0.98, 0.95, 0.88, 0.80]).unwrap()
}

/// Worked example 9.12 (`prepositioning_expected.json/window_probability`).
#[test]
fn windows_are_those_of_example_9_12() {
    let curve = curve();
    for (a, b, p) in [
        (0.0, 9.0, 0.028666813628975718),
        (0.0, 20.0, 0.07687979803304656),
        (5.0, 12.0, 0.027196649256849725),
        (14.0, 45.0, 0.1109529214638787),
        (30.0, 90.0, 0.1527272727272726),
    ] {
        close(curve.window_probability(a, b), p);
    }
}

#[test]
fn probabilities_come_back_at_their_horizons_and_are_made_coherent() {
    let horizons = [Duration::from_days(14), Duration::from_hours(24), Duration::from_days(7)];
    let curve = SurvivalCurve::from_probabilities(&horizons, &[0.2, 1e-12, 0.3]).unwrap();
    close(curve.probability_within(1.0), 1e-12);
    close(curve.probability_within(7.0), 0.3);
    close(curve.probability_within(14.0), 0.3);
    assert_eq!(curve.quantile(0.5), f64::INFINITY, "the last interval's hazard is zero");
}

#[test]
fn what_is_no_curve_is_refused_with_its_place() {
    let day = Duration::from_days(1);
    let refused = |horizons: &[Duration], p: &[f64]| SurvivalCurve::from_probabilities(horizons, p).unwrap_err();
    assert_eq!(refused(&[day], &[]), Error::Shape { grid: 1, values: 0 });
    assert_eq!(refused(&[], &[]), Error::Shape { grid: 0, values: 0 });
    assert_eq!(refused(&[day, day], &[0.1, 0.2]), Error::Grid { position: 1, days: 1.0 });
    assert_eq!(refused(&[day], &[1.5]), Error::NotAProbability { position: 0, value: 1.5 });
    assert!(matches!(refused(&[day], &[f64::NAN]), Error::NotAProbability { position: 0, .. }));
    assert_eq!(SurvivalCurve::from_survival(&[1.0, 2.0], &[0.5, 0.6]), Err(Error::Rising { position: 1 }));
    assert!(matches!(SurvivalCurve::exponential(-1.0), Err(Error::Rate { .. })));
    assert!(serde_json::from_str::<SurvivalCurve>(r#"{"days":[0,1,2],"cumulative_hazard":[0,2,1]}"#).is_err());
}

/// Exponential life: median ln 2 / rate, restricted mean (1 - e^(-rate cap)) / rate.
#[test]
fn remaining_life_of_a_constant_hazard_is_the_closed_form() {
    let rate = 0.02;
    let curve = SurvivalCurve::exponential(rate).unwrap();
    let life = curve.rul(Duration::from_days(100));
    close(life.p05, 24.0 * -(0.95_f64.ln()) / rate);
    close(life.p50, 24.0 * 2.0_f64.ln() / rate);
    close(life.p95, 2400.0);
    close(life.mean, 24.0 * (1.0 - (-rate * 100.0).exp()) / rate);
    close(curve.restricted_mean(f64::INFINITY), 1.0 / rate);
    close(SurvivalCurve::exponential(1e6).unwrap().quantile(0.5), 2.0_f64.ln() / 1e6);
}

#[test]
fn certain_and_impossible_failures_stay_finite() {
    let sure = SurvivalCurve::from_probabilities(&[Duration::from_days(1)], &[1.0]).unwrap();
    assert_eq!(sure.probability_within(1.0), 1.0);
    assert!(sure.quantile(0.95) < 1.0 && sure.rul(Duration::from_days(9)).mean < 24.0);
    let never = SurvivalCurve::from_probabilities(&[Duration::from_days(1)], &[0.0]).unwrap();
    assert_eq!(never.probability_within(f64::INFINITY), 0.0);
    assert_eq!(never.rul(Duration::from_days(9)).p05, 216.0);
    assert_eq!(never.expected_by(Timestamp::from_millis(0), 0.5), None);
}

#[test]
fn blending_and_splicing_work_on_log_survival() {
    let (model, prior) = (curve(), SurvivalCurve::exponential(0.001).unwrap());
    let blended = model.blend(&prior, 0.25);
    for days in [3.0, 20.0, 200.0] {
        close(blended.survival(days).ln(), 0.25 * model.survival(days).ln() + 0.75 * prior.survival(days).ln());
    }
    let spliced = model.then(&prior, 40.0);
    close(spliced.survival(20.0), model.survival(20.0));
    close(spliced.survival(140.0), model.survival(40.0) * (-0.1_f64).exp());
    let later = model.after(10.0);
    close(later.survival(25.0), model.survival(35.0) / model.survival(10.0));
}

proptest! {
    /// S never rises, windows add up, the quantile inverts the curve, and JSON gives the curve back.
    #[test]
    fn curves_are_coherent(p in prop::collection::vec(0.0..1.0_f64, 1..6), a in 0.0..200.0_f64, b in 0.0..200.0_f64, q in 0.01..0.99_f64) {
        let horizons: Vec<Duration> = (1..=p.len()).map(|n| Duration::from_days(7 * n as i64)).collect();
        let curve = SurvivalCurve::from_probabilities(&horizons, &p).unwrap();
        let (a, b) = (a.min(b), a.max(b));
        prop_assert!(curve.survival(b) <= curve.survival(a));
        let both = curve.probability_within(a) + curve.window_probability(a, b);
        prop_assert!((both - curve.probability_within(b)).abs() < 1e-12);
        let at = curve.quantile(q);
        if at.is_finite() {
            prop_assert!((curve.probability_within(at) - q).abs() < 1e-9);
        }
        prop_assert!(curve.restricted_mean(b) <= b + 1e-9);
        let back: SurvivalCurve = serde_json::from_str(&serde_json::to_string(&curve).unwrap()).unwrap();
        // serde_json may be one unit in the last place off.
        prop_assert!((back.survival(b) - curve.survival(b)).abs() < 1e-14);
    }
}
