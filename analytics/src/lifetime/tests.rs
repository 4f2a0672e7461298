//! Lifetimes against lifelines and reliability (`survival_expected.json`), and against hand counts.

use proptest::prelude::*;

use super::*;
use crate::oracles;

/// Two optimisers stop within this of each other (maths of pre-positioning, example 9.17).
#[track_caller]
fn near(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-5 * expected.abs(), "{actual} is not {expected}");
}

fn tiny() -> Vec<Lifetime> {
    let failed = [16.0, 34.0, 53.0, 75.0, 93.0].map(|age| Lifetime::from_new(age, true));
    failed.into_iter().chain([Lifetime::from_new(120.0, false); 3]).collect()
}

/// Worked example 9.17, the tiny case (lifelines).
#[test]
fn the_tiny_case_of_example_9_17_is_fitted() {
    let fit = fit_weibull_in_class(&tiny(), 1.0).unwrap();
    assert_eq!(fit_weibull(&tiny()), Ok(fit.law));
    near(fit.law.scale, 116.8185041653788);
    near(fit.law.shape, 1.3468663041572748);
    near(fit.log_likelihood, -28.938847735282188);
    assert!(!fit.shrunk && fit.failures == 5);
}

/// Worked example 9.17: 200 lives, from new and left-truncated, with intervals and survival (lifelines).
#[test]
fn two_hundred_lives_are_fitted_as_lifelines_does() {
    let (Some(expected), Some(csv)) =
        (oracles::json("survival_expected.json"), oracles::text("survival_right_censored.csv"))
    else {
        return;
    };
    let lives: Vec<Lifetime> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            Lifetime::from_new(cells[1].parse().unwrap(), cells[2] == "1")
        })
        .collect();
    assert_eq!((lives.len(), lives.iter().filter(|life| life.event_observed).count()), (200, 121));
    let fit = fit_weibull_in_class(&lives, 1.0).unwrap();
    let weibull = &expected["weibull"];
    near(fit.law.scale, weibull["eta"].as_f64().unwrap());
    near(fit.law.shape, weibull["beta"].as_f64().unwrap());
    near(fit.log_likelihood, weibull["loglik"].as_f64().unwrap());
    near(fit.law.median(), weibull["median"].as_f64().unwrap());
    // lifelines' interval is symmetric in the parameter: its half width is 1.96 errors of ours times the parameter.
    for (place, ours) in [(0, fit.law.scale * fit.ln_scale_error), (1, fit.law.shape * fit.ln_shape_error)] {
        let side = |end: usize| weibull["ci95"][place][end].as_f64().unwrap();
        let theirs = (side(1) - side(0)) / 2.0 / 1.959963984540054;
        assert!((ours - theirs).abs() < 1e-4 * theirs, "{ours} is not {theirs}");
    }
    for case in expected["conditional_failure_probability"].as_array().unwrap() {
        let (age, days) = (case["age"].as_f64().unwrap(), case["H"].as_f64().unwrap());
        near(fit.law.curve_from_age(age).probability_within(days), case["p"].as_f64().unwrap());
    }
    let late = |(position, life): (usize, &Lifetime)| {
        let entry = if position % 3 == 0 { (life.duration * 4.0).round_ties_even() / 10.0 } else { 0.0 };
        Lifetime { entry, ..*life }
    };
    let truncated: Vec<Lifetime> = lives.iter().enumerate().map(late).collect();
    let fit = fit_weibull_in_class(&truncated, 1.0).unwrap();
    near(fit.law.scale, expected["weibull_left_truncated"]["eta"].as_f64().unwrap());
    near(fit.law.shape, expected["weibull_left_truncated"]["beta"].as_f64().unwrap());
    near(fit.log_likelihood, expected["weibull_left_truncated"]["loglik"].as_f64().unwrap());
    let estimate = KaplanMeier::new(&lives).unwrap();
    let kaplan_meier = &expected["kaplan_meier"];
    for (place, age) in kaplan_meier["t"].as_array().unwrap().iter().enumerate() {
        let age = age.as_f64().unwrap();
        near(estimate.survival(age), kaplan_meier["S"][place].as_f64().unwrap());
        near(estimate.interval(age).0, kaplan_meier["ci_lower_loglog"][place].as_f64().unwrap());
        near(estimate.interval(age).1, kaplan_meier["ci_upper_loglog"][place].as_f64().unwrap());
    }
    assert_eq!(estimate.median(), kaplan_meier["median"].as_f64());
}

#[test]
fn the_conditional_curve_is_that_of_the_law() {
    let law = Weibull::new(364.6375, 1.623066).unwrap();
    for (age, days, p) in [(50.0, 30.0, 0.04448301347433914), (500.0, 7.0, 0.037380147830890276)] {
        near(law.curve_from_age(age).probability_within(days), p);
        near(law.conditional_failure_probability(age, days), p);
    }
    // A drive of unknown age and one of an absurd age still give curves.
    assert_eq!(law.curve_from_age(f64::NAN), law.curve_from_age(0.0));
    assert!(Weibull::new(1e-9, 50.0).unwrap().curve_from_age(1e9).probability_within(1.0) >= 0.0);
}

/// Five lives, two of them censored. By hand: S(7) = 4/5 x 2/3.
#[test]
fn kaplan_meier_steps_only_at_failures() {
    let lives = [(3.0, true), (5.0, false), (6.0, true), (8.0, true), (9.0, false)];
    let estimate = KaplanMeier::new(&lives.map(|(age, failed)| Lifetime::from_new(age, failed))).unwrap();
    for (age, survival) in
        [(2.9, 1.0), (3.0, 0.8), (5.9, 0.8), (7.0, 8.0 / 15.0), (8.0, 4.0 / 15.0), (99.0, 4.0 / 15.0)]
    {
        near(estimate.survival(age), survival);
    }
    assert_eq!(estimate.median(), Some(8.0));
}

/// A life that came in late is not at risk before: of two at risk at 5, one fails.
#[test]
fn late_entries_are_not_at_risk_before_they_enter() {
    let lives = [
        Lifetime::from_new(5.0, true),
        Lifetime::from_new(9.0, false),
        Lifetime { duration: 20.0, event_observed: true, entry: 10.0 },
    ];
    assert_eq!(KaplanMeier::new(&lives).unwrap().survival(6.0), 0.5);
}

#[test]
fn few_failures_are_drawn_to_the_class_and_none_are_refused() {
    let lives = [Lifetime::from_new(99.0, true), Lifetime::from_new(100.0, true), Lifetime::from_new(101.0, true)];
    let drawn = fit_weibull_in_class(&lives, 1.0).unwrap();
    assert!(drawn.shrunk && drawn.law.shape < 5.0, "{drawn:?}: unpenalised it would be over 100");
    assert!(drawn.ln_shape_error.is_finite() && drawn.scale_interval().0 > 0.0);
    assert!(fit_weibull_in_class(&lives, 3.0).unwrap().law.shape > drawn.law.shape);
    let censored = [Lifetime::from_new(5.0, false)];
    assert_eq!(fit_weibull_in_class(&censored, 1.0), Err(Error::NoFailures { lifetimes: 1 }));
    assert_eq!(fit_weibull_in_class(&[], 1.0), Err(Error::NoFailures { lifetimes: 0 }));
    for (duration, entry) in [(0.0, 0.0), (f64::NAN, 0.0), (5.0, 5.0), (5.0, -1.0)] {
        let refused = fit_weibull_in_class(&[Lifetime { duration, event_observed: true, entry }], 1.0);
        assert!(matches!(refused, Err(Error::Lifetime { position: 0, .. })), "{refused:?}");
    }
}

#[test]
fn a_class_without_failures_still_has_a_rate() {
    let class = RatePrior::of_class(0, 10_000.0, 2.0).unwrap();
    near(class.rate_per_day(0, 0.0), 0.5 / 10_000.0);
    assert!(class.rate_per_day(0, 1e6) < 2.1e-6 && class.rate_per_day(10, 1000.0) > 2e-4);
    near(class.curve(0, 0.0).unwrap().probability_within(30.0), -(-0.0015_f64).exp_m1());
    assert!(RatePrior::of_class(1, 0.0, 1.0).is_err());
}

proptest! {
    /// Turning a failure into a censored life never lowers survival, by law and without one.
    #[test]
    fn censoring_never_lowers_survival(ages in prop::collection::vec(1.0..500.0_f64, 8..40), at in 1.0..500.0_f64) {
        let lives: Vec<Lifetime> = ages.iter().map(|&age| Lifetime::from_new(age, true)).collect();
        let mut spared = lives.clone();
        spared[0].event_observed = false;
        prop_assert!(KaplanMeier::new(&spared).unwrap().survival(at) >= KaplanMeier::new(&lives).unwrap().survival(at) - 1e-12);
    }

    /// A change of unit scales the scale and nothing else.
    #[test]
    fn fits_do_not_depend_on_the_unit(ages in prop::collection::vec((1.0..500.0_f64, any::<bool>()), 12..40)) {
        let mut lives: Vec<Lifetime> = ages.iter().map(|&(age, failed)| Lifetime::from_new(age, failed)).collect();
        lives.iter_mut().take(6).for_each(|life| life.event_observed = true);
        let fit = fit_weibull_in_class(&lives, 1.0).unwrap();
        let hours: Vec<Lifetime> = lives.iter().map(|life| Lifetime { duration: life.duration * 24.0, ..*life }).collect();
        let other = fit_weibull_in_class(&hours, 1.0).unwrap();
        prop_assert!((other.law.shape / fit.law.shape - 1.0).abs() < 1e-8);
        prop_assert!((other.law.scale / fit.law.scale / 24.0 - 1.0).abs() < 1e-8);
    }
}
