//! Forecasts of intermittent demand: laws that are laws, no look-ahead, honest quantiles, periods counted as they are known.

use harbinger_core::{
    Timestamp,
    calendar::{Step, Zone},
    fleet::Consumption,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const QUANTILES: [f64; 6] = [0.05, 0.5, 0.9, 0.95, 0.99, 0.999];

fn all_quantiles(series: &[Vec<f64>], origins: &[usize], ahead: usize) -> Vec<Vec<Option<Vec<f64>>>> {
    forecast(series, 12, origins, ahead..ahead + 1, |law| {
        QUANTILES.iter().map(|&q| law.quantile(q)).chain([law.mean()]).collect()
    })
}

/// Rare demand for some pieces at once, at a rate of each series' own.
fn lumpy(count: usize, periods: usize) -> Vec<Vec<f64>> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut one = |rate: f64| -> Vec<f64> {
        let mut draw = || if random.random::<f64>() < rate { f64::from(random.random_range(1..=6_u32)) } else { 0.0 };
        (0..periods).map(|_| draw()).collect()
    };
    (0..count).map(|place| one(0.1 + 0.6 * place as f64 / count as f64)).collect()
}

#[test]
fn a_cut_changes_no_earlier_forecast() {
    let series = lumpy(30, 40);
    let cut: Vec<Vec<f64>> = series.iter().map(|of| of[..33].to_vec()).collect();
    let (whole, before) = (all_quantiles(&series, &[30, 33, 39], 2), all_quantiles(&cut, &[30, 33], 2));
    for (whole, before) in whole.iter().zip(&before) {
        assert_eq!(whole[..2], before[..]);
    }
}

#[test]
fn series_that_begin_later_change_nothing_before() {
    let mut series = lumpy(20, 36);
    let alone = all_quantiles(&series, &[24], 0);
    let mut later = vec![f64::NAN; 36];
    later[30..].fill(4.0);
    series.push(later);
    let beside = all_quantiles(&series, &[24], 0);
    assert_eq!(beside[..20], alone[..]);
    assert_eq!(beside[20], [None]);
}

#[test]
fn quantiles_cover_what_they_say() {
    let series = lumpy(200, 48);
    let origins: Vec<usize> = (36..48).collect();
    let found = all_quantiles(&series, &origins, 0);
    let mut within = [0.0; 6];
    for (of, found) in series.iter().zip(&found) {
        for (&origin, found) in origins.iter().zip(found) {
            let found = found.as_ref().unwrap();
            (0..6).for_each(|q| within[q] += f64::from(u8::from(of[origin] <= found[q])) / 2400.0);
        }
    }
    // Demand is whole pieces, so coverage is at least what is said; 2400 draws are good to a hundredth.
    for (within, q) in within.iter().zip(QUANTILES) {
        assert!(*within >= q - 0.015, "{within} of demand within the quantile {q}");
    }
    // Sizes are 1 to 6: a sharp law does not go far beyond.
    let p95: Vec<f64> = found.iter().flatten().flatten().map(|found| found[3]).collect();
    assert!(p95.iter().sum::<f64>() / p95.len() as f64 <= 6.5, "{p95:?}");
}

#[test]
fn what_else_is_asked_for_changes_no_forecast() {
    let series = lumpy(30, 40);
    let (alone, beside) = (all_quantiles(&series, &[38], 0), all_quantiles(&series, &[30, 38], 0));
    assert!(alone.iter().zip(&beside).all(|(alone, beside)| alone[0] == beside[1]));
}

/// Half of the fleet takes about ten pieces a month and half next to none: one month tells which a new part is.
#[test]
fn a_short_past_is_taken_for_one_like_the_others() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut of = |busy: bool| -> Vec<f64> {
        let mut draw = || match busy {
            true => f64::from((0..20).map(|_| u32::from(random.random_bool(0.5))).sum::<u32>()),
            false => f64::from(u8::from(random.random_bool(0.02))),
        };
        (0..30).map(|_| draw()).collect()
    };
    let mut series: Vec<Vec<f64>> = (0..400).map(|n| of(n % 2 == 0)).collect();
    for first in [9.0, 0.0] {
        let mut fresh = vec![f64::NAN; 30];
        fresh[28] = first;
        series.push(fresh);
    }
    let found = all_quantiles(&series, &[29], 0);
    let (busy, quiet) = (found[400][0].as_ref().unwrap(), found[401][0].as_ref().unwrap());
    assert!((7.0..13.0).contains(&busy[6]) && busy[1] >= 7.0, "{busy:?}");
    assert!(quiet[6] < 1.5 && quiet[1] == 0.0, "{quiet:?}");
}

#[test]
fn a_season_that_came_back_is_foretold() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    // About two pieces a month, and a fifth of one in every eighth month of the year.
    let mut draw = |at: usize| -> f64 {
        let share = if at % 12 == 7 { 0.01 } else { 0.1 };
        (0..20).map(|_| f64::from(u8::from(random.random_bool(share)))).sum()
    };
    let series: Vec<Vec<f64>> = (0..300).map(|_| (0..48).map(&mut draw).collect()).collect();
    let mean_at = |origin: usize, cycle: usize| -> f64 {
        let found = forecast(&series, cycle, &[origin], 0..1, Forecast::mean);
        found.iter().map(|of| of[0].unwrap()).sum::<f64>() / 300.0
    };
    let (quiet, usual) = (mean_at(43, 12), mean_at(41, 12));
    assert!(quiet < 0.5 * usual && (1.7..2.3).contains(&usual), "{quiet} {usual}");
    assert!(mean_at(43, 0) > 0.9 * mean_at(41, 0), "none without a cycle");
    // Over a whole year it is one month of twelve.
    let year = forecast(&series, 12, &[43], 0..12, Forecast::mean);
    let year = year.iter().map(|of| of[0].unwrap()).sum::<f64>() / 300.0;
    assert!((1.5..2.1).contains(&year), "{year}");
}

#[test]
fn large_demand_is_counted_in_lots() {
    let series = vec![(0..30).map(|n| 1e9 + f64::from(n % 3) * 1e8).collect::<Vec<f64>>()];
    let found = all_quantiles(&series, &[29], 0);
    let found = found[0][0].as_ref().unwrap();
    assert!(found[1] > 9e8 && found[1] < 1.4e9, "{found:?}");
    assert!((found[6] / 1.1e9 - 1.0).abs() < 0.3, "{found:?}");
}

#[test]
fn a_part_without_demand_stays_without() {
    let found = all_quantiles(&vec![vec![0.0; 24]; 10], &[23], 0);
    assert!(found.iter().all(|of| of[0].as_ref().unwrap()[..4] == [0.0; 4]));
}

#[test]
fn a_level_covers_lead_and_review() {
    let law = |mean: f64| Forecast { law: crate::demand::poisson(mean).unwrap(), lot: 1.0 };
    // One period without lead: the quantile of demand.
    for q in QUANTILES {
        assert_eq!(Cover::of(&law(3.0), 0.0, 1.0).level(q), law(3.0).quantile(q), "{q}");
    }
    // By the definition: the last piece that is taken often enough for the time it lies there.
    let (lead, both) = (crate::demand::poisson(4.0).unwrap(), crate::demand::poisson(6.0).unwrap());
    let worth = |piece: i64| both.cdf(piece - 1) < (1.0 - 0.1 / 3.0) * lead.cdf(piece - 1);
    let level = Cover::of(&law(2.0), 2.0, 1.0).level(0.9) as i64;
    assert!(worth(level) && !worth(level + 1), "{level}");
    // A day of thirty more is between none and all of a period more.
    let levels = [0.0, 0.3, 1.0].map(|more| Cover::of(&law(20.0), more, 1.0).level(0.9));
    assert!(levels[0] < levels[1] && levels[1] < levels[2], "{levels:?}");
    assert_eq!(Cover::of(&Forecast { law: DemandLaw::zero(), lot: 1.0 }, 2.0, 1.0).level(0.99), 0.0);
}

fn row(ts: &str, part: &str, depot: &str, quantity: f64) -> Consumption {
    Consumption { ts: ts.parse().unwrap(), part: part.parse().unwrap(), depot: depot.parse().unwrap(), quantity }
}

#[test]
fn an_absent_month_is_zero_until_a_zero_is_written_down() {
    let month = Step::parse("month", &Zone::UTC).unwrap();
    let rows = [
        row("2020-02-03T10:00:00Z", "fan", "north", 2.0),
        row("2020-02-29T23:59:59Z", "fan", "north", 1.0),
        row("2020-04-01T00:00:00Z", "fan", "north", 0.0),
        row("2020-06-01T00:00:00Z", "fan", "north", 5.0),
        row("2020-01-31T23:59:59Z", "disk", "south", 1.0),
        row("2020-06-30T00:00:00Z", "disk", "south", 1.0),
    ];
    let counted = histories(&rows, &month).unwrap();
    let first: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    assert_eq!((counted.periods.len(), counted.periods[0]), (6, first));
    assert_eq!(counted.places[0].0.as_str(), "disk");
    assert_eq!(counted.series[0], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let fan: Vec<Option<f64>> = counted.series[1].iter().map(|y| y.is_finite().then_some(*y)).collect();
    assert_eq!(fan, [None, Some(3.0), Some(0.0), Some(0.0), None, Some(5.0)]);
    assert_eq!(histories(&[], &month), Err(Error::Empty));
    let ages = [row("0020-01-01T00:00:00Z", "fan", "north", 1.0), row("2020-01-01T00:00:00Z", "fan", "north", 1.0)];
    let day = Step::parse("day", &Zone::UTC).unwrap();
    assert!(matches!(histories(&ages, &day), Err(Error::TooLong { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn quantiles_are_in_order(
        series in prop::collection::vec(prop::collection::vec(prop_oneof![3 => Just(0.0), 2 => 0.0..40.0_f64, 1 => Just(f64::NAN)], 14), 1..6),
        origin in 1..14_usize,
        ahead in 0..4_usize,
    ) {
        for found in all_quantiles(&series, &[origin], ahead).iter().flatten().flatten() {
            prop_assert!(found[..6].is_sorted() && found.iter().all(|q| q.is_finite() && *q >= 0.0));
        }
    }
}
