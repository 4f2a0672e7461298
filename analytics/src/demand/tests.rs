//! Laws of demand against the worked examples by number, the oracle files, closed forms and enumeration.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::oracles;

#[track_caller]
fn close(actual: f64, expected: f64) {
    // An absolute floor of 1e-15: below it expected values of the oracle are rounding.
    assert!((actual - expected).abs() <= 1e-9 * expected.abs() + 1e-15, "{actual} is not {expected}");
}

fn near(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-5 * expected.abs() + 1e-9, "{actual} is not {expected}");
}

fn trials(p: &[f64]) -> Vec<Trial> {
    p.iter().copied().map(Trial::one).collect()
}

fn signal(p: &[f64]) -> DemandLaw {
    poisson_binomial(&trials(p)).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Worked example 9.1.
#[test]
fn example_9_1_poisson_binomial() {
    let law = signal(&[0.9, 0.5, 0.2, 0.1, 0.05]);
    for (mass, expected) in law.pmf().iter().zip([0.0342, 0.35615, 0.4509, 0.1434, 0.0149, 0.00045]) {
        close(*mass, expected);
    }
    close(law.mean(), 1.75);
    close(law.variance(), 0.6375);
    for (level, expected) in [1.75, 0.7842, 0.17455, 0.0158, 0.00045, 0.0].into_iter().enumerate() {
        close(law.expected_backorders(level as i64), expected);
    }
    assert_eq!([0.5, 0.9, 0.95, 0.99, 0.999].map(|q| law.quantile(q)), [2, 3, 3, 4, 4]);
}

/// Worked example 9.2.
#[test]
fn example_9_2_poisson_and_negative_binomial() {
    let law = poisson(1.0).unwrap();
    close(law.expected_backorders(1), 0.36787944117144233);
    close(law.expected_backorders(2), 0.10363832351432698);
    let law = negative_binomial(2.0, 4.0).unwrap();
    close(law.pmf()[0], 0.25);
    for (level, expected) in [(0, 2.0), (1, 1.25), (2, 0.75), (4, 0.25), (8, 0.0234375)] {
        close(law.expected_backorders(level), expected);
    }
}

/// Worked example 9.11: 100 slots of 0.02, phi 0.09.
#[test]
fn example_9_11_common_factor() {
    let weights = laws::factor_weights(0.09);
    for (weight, expected) in weights.into_iter().zip([0.225, 0.625, 0.15]) {
        close(weight, expected);
    }
    let law = common_factor(&trials(&[0.02; 100]), 0.09).unwrap();
    close(law.mean(), 2.0);
    close(law.variance(), 2.3164);
    assert_eq!((law.quantile(0.95), law.quantile(0.99)), (5, 6));
    assert_eq!(common_factor(&trials(&[0.02; 100]), 0.0).unwrap(), signal(&[0.02; 100]));
    assert!(laws::factor_weights(9.0).iter().all(|w| *w >= -1e-15));
}

/// Worked example 9.13: one window of last buy, by both laws.
#[test]
fn example_9_13_last_buy() {
    let mean = 1000.0 * 0.03 * (1.0 - (-0.15_f64 * 6.0).exp()) / 0.15;
    close(mean, 118.68606805188016);
    assert_eq!(poisson(mean).unwrap().quantile(0.95), 137);
    assert_eq!(negative_binomial(mean, mean + 0.04 * mean * mean).unwrap().quantile(0.95), 164);
}

/// Worked example 9.18, the tiny series (statsforecast).
#[test]
fn example_9_18_intermittent_series() {
    let series = [0, 0, 3, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 2].map(f64::from);
    close(croston(&series, 0.1), 0.8231755058309642);
    close(syntetos_boylan(&series, 0.1), 0.782016730539416);
    close(teunter_syntetos_babai(&series, 0.1, 0.1), 0.7778200934203607);
    close(teunter_syntetos_babai(&series, 0.2, 0.05), 0.4792095001511399);
    close(exponential_smoothing(&series, 0.1), 0.6236887226002898);
    let pattern = pattern(&series);
    close(pattern.interval, 10.0 / 3.0);
    assert_eq!((pattern.name(), pattern.method()), ("intermittent", Method::TeunterSyntetosBabai));
    for none in [&[][..], &[0.0, 0.0][..]] {
        assert_eq!([aggregate_disaggregate(none), multiple_aggregation(none), croston_optimized(none)], [0.0; 3]);
        assert_eq!((croston(none, 0.1), teunter_syntetos_babai(none, 0.1, 0.1)), (0.0, 0.0));
    }
}

/// All of `intermittent_expected.json`.
#[test]
fn forecasts_are_those_of_statsforecast() {
    let Some(expected) = oracles::json("intermittent_expected.json") else { return };
    for case in expected["series"].as_array().unwrap() {
        let series = numbers(&case["y"]);
        close(croston(&series, 0.1), case["croston"].as_f64().unwrap());
        close(syntetos_boylan(&series, 0.1), case["sba"].as_f64().unwrap());
        close(teunter_syntetos_babai(&series, 0.1, 0.1), case["tsb_0.1_0.1"].as_f64().unwrap());
        close(teunter_syntetos_babai(&series, 0.2, 0.05), case["tsb_0.2_0.05"].as_f64().unwrap());
        close(exponential_smoothing(&series, 0.1), case["ses_0.1"].as_f64().unwrap());
        // Their smoothing constants are searched for, by both sides to some digits.
        near(aggregate_disaggregate(&series), case["adida"].as_f64().unwrap());
        near(multiple_aggregation(&series), case["imapa"].as_f64().unwrap());
        near(croston_optimized(&series), case["croston_opt"].as_f64().unwrap());
        let pattern = pattern(&series);
        close(pattern.interval, case["adi"].as_f64().unwrap());
        close(pattern.size_variation, case["cv2"].as_f64().unwrap());
    }
}

/// All of `demand_laws_expected.json` but the loss formula, which is a later matter.
#[test]
fn laws_are_those_of_scipy() {
    let Some(expected) = oracles::json("demand_laws_expected.json") else { return };
    for case in expected["poisson_binomial"].as_array().unwrap() {
        let law = signal(&numbers(&case["p"]));
        close(law.mean(), case["mean"].as_f64().unwrap());
        close(law.variance(), case["var"].as_f64().unwrap());
        for (mass, expected) in law.pmf().iter().zip(numbers(&case["pmf_0_to_15"])) {
            close(*mass, expected);
        }
        for (level, expected) in numbers(&case["expected_backorders_S0_to_8"]).into_iter().enumerate() {
            close(law.expected_backorders(level as i64), expected);
        }
        for (probability, n) in case["quantile"].as_object().unwrap() {
            assert_eq!(u64::from(law.quantile(probability.parse().unwrap())), n.as_u64().unwrap());
        }
    }
    for case in expected["negative_binomial"].as_array().unwrap() {
        let mean = case["mean"].as_f64().unwrap();
        let law = negative_binomial(mean, mean * case["vmr"].as_f64().unwrap()).unwrap();
        for (mass, expected) in law.pmf().iter().zip(numbers(&case["pmf_0_to_8"])) {
            close(*mass, expected);
        }
        for (level, expected) in numbers(&case["S"]).into_iter().zip(numbers(&case["ebo"])) {
            close(law.expected_backorders(level as i64), expected);
        }
    }
    let case = &expected["compound_poisson"];
    let law = compound_poisson(case["rate"].as_f64().unwrap(), &numbers(&case["size_pmf_1_to_4"])).unwrap();
    for (mass, expected) in law.pmf().iter().zip(numbers(&case["pmf_0_to_20"])) {
        close(*mass, expected);
    }
    close(law.mean(), case["mean"].as_f64().unwrap());
}

/// Every outcome of five slots of different quantities, by hand of the computer.
#[test]
fn quantities_above_one_equal_enumeration() {
    let slots = [(0.3, 2), (0.7, 1), (0.2, 3), (0.5, 2), (0.9, 1)];
    let mut expected = vec![0.0; 10];
    for outcome in 0..1_u32 << slots.len() {
        let (mut mass, mut pieces) = (1.0, 0);
        for (n, &(p, q)) in slots.iter().enumerate() {
            let fails = outcome >> n & 1 == 1;
            mass *= if fails { p } else { 1.0 - p };
            pieces += if fails { q } else { 0 };
        }
        expected[pieces] += mass;
    }
    let law = poisson_binomial(&slots.map(|(probability, q)| Trial { probability, quantity: q as u32 })).unwrap();
    assert_eq!(law.pmf().len(), 10);
    for (mass, expected) in law.pmf().iter().zip(expected) {
        close(*mass, expected);
    }
}

#[test]
fn wide_laws_keep_their_moments() {
    for mean in [0.0, 1e-6, 650.0, 5000.0, 90_000.0] {
        let law = poisson(mean).unwrap();
        close(law.mean(), mean);
        close(law.variance(), mean);
        let law = negative_binomial(mean, mean * 4.0).unwrap();
        close(law.mean(), mean);
        close(law.variance(), mean * 4.0);
    }
    let law = compound_poisson(3000.0, &[0.5, 0.5]).unwrap();
    close(law.mean(), 4500.0);
    // Rare and large: moments say little of where the mass lies.
    let mut thousand = vec![0.0; 1000];
    thousand[999] = 1.0;
    close(compound_poisson(0.001, &thousand).unwrap().mean(), 1.0);
    close(poisson_binomial(&[Trial { probability: 0.001, quantity: 1000 }]).unwrap().mean(), 1.0);
}

#[test]
fn what_is_no_demand_is_refused() {
    assert_eq!(poisson_binomial(&trials(&[0.1, 1.1])), Err(Error::NotAProbability { position: 1, value: 1.1 }));
    assert!(matches!(poisson_binomial(&trials(&[f64::NAN])), Err(Error::NotAProbability { position: 0, .. })));
    for mean in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(poisson(mean).is_err() && negative_binomial(mean, 2.0).is_err());
    }
    assert!(negative_binomial(1.0, f64::NAN).is_err());
    assert!(compound_poisson(1.0, &[0.5]).is_err());
    assert_eq!(poisson_binomial(&[]).unwrap(), DemandLaw::zero());
    let law = signal(&[0.5]);
    assert_eq!((law.cdf(-1), law.exceedance(-1), law.expected_excess(-3)), (0.0, 1.0, 0.0));
    close(law.expected_backorders(-2), 2.5);
    assert_eq!((law.quantile(0.0), law.quantile(1.0), law.quantile(2.0)), (0, 1, 2));
}

#[test]
fn the_background_is_wider_where_its_errors_are() {
    let steady = forecast_background(&[2.0; 30], None);
    assert_eq!((steady.mean, steady.mean_squared_error, steady.method), (2.0, 0.0, Method::Smoothing));
    close(background_law(&steady, 1.5).unwrap().variance(), 3.0);
    let mut lumpy = vec![0.0; 30];
    for place in [3, 9, 20, 27] {
        lumpy[place] = 8.0;
    }
    let forecast = forecast_background(&lumpy, None);
    let law = background_law(&forecast, 2.0).unwrap();
    close(law.mean(), 2.0 * forecast.mean);
    close(law.variance(), 2.0 * forecast.mean_squared_error);
    assert_eq!(forecast_background(&[], None).mean, 0.0);
    assert!(forecast_background(&[f64::NAN, -3.0, 1.0], None).mean.is_finite());
}

/// phi comes back from windows that were made with it: Var y = sigma^2 + phi (mu^2 - sum p^2).
#[test]
fn the_common_factor_is_estimated_from_windows() {
    let window = |outcome| BacktestWindow { mean: 10.0, variance: 9.0, sum_p_squared: 1.0, outcome };
    // Squared error 18.9 = 9 + 0.1 x 99 on both sides.
    let away = 18.9_f64.sqrt();
    close(estimate_common_factor(&[window(10.0 + away), window(10.0 - away)]), 0.1);
    assert_eq!(estimate_common_factor(&[window(10.0)]), 0.0);
    assert_eq!(estimate_common_factor(&[]), 0.0);
}

/// Without windows it is what it was; with many it is what they say; never more than the three-point rule takes.
#[test]
fn what_was_assumed_gives_way_to_windows() {
    let window = |outcome| BacktestWindow { mean: 10.0, variance: 9.0, sum_p_squared: 1.0, outcome };
    let away = 18.9_f64.sqrt();
    close(updated_common_factor(0.04, &[]), 0.04);
    // (9.9 + .04 x 50) / (99 + 50).
    close(updated_common_factor(0.04, &[window(10.0 + away)]), 11.9 / 149.0);
    assert!((updated_common_factor(0.04, &[window(10.0 + away); 1_000]) - 0.1).abs() < 1e-4);
    assert_eq!(updated_common_factor(0.04, &[window(10.0); 100]), 0.0);
    assert_eq!(updated_common_factor(0.04, &[window(40.0); 9]), 0.24);
}

proptest! {
    /// Mass is conserved, tail included; mean and variance are the sums of the slots'; levels serve what excess and backorders
    /// leave.
    #[test]
    fn laws_are_laws(p in prop::collection::vec(0.0..=1.0_f64, 0..60), mean in 0.0..20.0_f64, level in -5..40_i64) {
        let signal = signal(&p);
        let law = signal.convolve(&poisson(mean).unwrap());
        let mass: f64 = law.pmf().iter().sum::<f64>() + law.tail();
        prop_assert!((mass - 1.0).abs() < 1e-12);
        let expected: f64 = p.iter().sum::<f64>() + mean;
        prop_assert!((law.mean() - expected).abs() < 1e-9);
        let variance: f64 = p.iter().map(|p| p * (1.0 - p)).sum::<f64>() + mean;
        prop_assert!((law.variance() - variance).abs() < 1e-8);
        prop_assert!((law.cdf(level) + law.exceedance(level) - 1.0).abs() < 1e-12);
        let balance = law.expected_excess(level) - law.expected_backorders(level);
        prop_assert!((balance - (level as f64 - law.mean())).abs() < 1e-9);
        let n = law.quantile(0.9);
        prop_assert!(law.cdf(i64::from(n)) >= 0.9 - 1e-12);
        prop_assert!(n == 0 || law.cdf(i64::from(n) - 1) < 0.9);
    }

    /// A truncated convolution loses nothing: what leaves the entries is in the tail.
    #[test]
    fn truncation_keeps_the_mass(p in 0.0..0.02_f64, quantity in 1..5_u32) {
        let law = poisson_binomial(&vec![Trial { probability: p, quantity }; 3000]).unwrap();
        let mass: f64 = law.pmf().iter().sum::<f64>() + law.tail();
        prop_assert!((mass - 1.0).abs() < 1e-10, "{}", mass);
    }
}
