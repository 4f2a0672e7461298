//! Base stock against worked examples, enumeration and simulation.

use proptest::prelude::*;

use super::*;
use crate::oracles;

mod choice;
mod simulation;

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-9 * expected.abs() + 1e-15, "{actual} is not {expected}");
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// An item whose cells are depots with one claim each.
fn item(rates: &[f64], order_days: &[f64], resupply_days: f64, measure: Measure) -> Item {
    let cell = |(place, (&rate_per_day, &order_days)): (usize, (&f64, &f64))| Cell {
        depot: id(&format!("d{place}")),
        rate_per_day,
        place: Place::Depot { order_days, repair: None },
        claims: vec![Claim {
            group: 0,
            weight: if measure == Measure::Backorders { 1.0 } else { rate_per_day },
            measure,
        }],
    };
    Item {
        part: id("p"),
        unit_cost: 1.0,
        resupply_days,
        pack_size: 1,
        cells: rates.iter().zip(order_days).enumerate().map(cell).collect(),
    }
}

fn row_2() -> (Item, Levels) {
    let item = item(&[0.4, 0.2, 0.1, 0.05], &[1.0, 2.0, 3.0, 5.0], 14.0, Measure::Backorders);
    (item, Levels { hub: 8, cells: vec![2, 2, 1, 1] })
}

/// Total expected backorders, and those of METRIC.
fn backorders(item: &Item, levels: &Levels, method: Method) -> f64 {
    let evaluation = Evaluation::new(item, levels, method).unwrap();
    (0..item.cells.len()).map(|cell| evaluation.expected_backorders(cell).unwrap()).sum()
}

/// Worked example 9.3.
#[test]
fn example_9_3_two_echelons() {
    let near = |actual: f64, expected: f64| assert!((actual - expected).abs() < 5e-6, "{actual} is not {expected}");
    let (of_row_2, levels) = row_2();
    near(Evaluation::new(&of_row_2, &levels, Method::Exact).unwrap().hub_backorders().expected, 2.86094);
    near(backorders(&of_row_2, &levels, Method::VariMetric), 1.15947);
    near(backorders(&of_row_2, &levels, Method::Exact), 1.18581);
    let of_row_4 = item(&[0.3, 0.3], &[2.0, 2.0], 7.0, Measure::Backorders);
    let levels = Levels { hub: 0, cells: vec![3, 3] };
    near(backorders(&of_row_4, &levels, Method::VariMetric), 1.01898);
    near(backorders(&of_row_4, &levels, Method::Exact), 1.01898);
    // METRIC is too sure of itself.
    let hub = HubBackorders { expected: 1.4368435637740395, variance: 3.047194560528345 };
    let Pipeline { mean, variance } = metric(0.2, 0.2, hub);
    close(variance, mean);
    assert!(vari_metric(0.2, 0.2, hub).variance > mean);
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn counts(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| u32::try_from(n.as_u64().unwrap()).unwrap()).collect()
}

/// All of `evaluation` in `metric_expected.json`.
#[test]
fn two_echelons_are_those_of_the_oracle() {
    let Some(expected) = oracles::json("metric_expected.json") else { return };
    for case in expected["evaluation"].as_array().unwrap() {
        let t0 = case["T0"].as_f64().unwrap();
        let of = item(&numbers(&case["m"]), &numbers(&case["O"]), t0, Measure::Backorders);
        let levels = Levels { hub: counts(&serde_json::json!([case["S0"]]))[0], cells: counts(&case["S"]) };
        let near = |actual: f64, depot: &serde_json::Value, name: &str| {
            let expected = depot[name].as_f64().unwrap();
            assert!((actual - expected).abs() <= 1e-9 * expected.abs() + 1e-14, "{name} {actual} {depot}");
        };
        for (method, name) in [(Method::VariMetric, "vari"), (Method::Exact, "exact")] {
            let evaluation = Evaluation::new(&of, &levels, method).unwrap();
            let hub = evaluation.hub_backorders();
            near(hub.expected, case, "hub_ebo");
            near(hub.variance, case, "hub_vbo");
            for (cell, depot) in case["depots"].as_array().unwrap().iter().enumerate() {
                near(evaluation.expected_backorders(cell).unwrap(), depot, &format!("ebo_{name}"));
                near(evaluation.fill_rate(cell).unwrap(), depot, &format!("fill_{name}"));
                let (own, share) = (of.cells[cell].own_pipeline(0.0), of.cells[cell].share_of(of.hub_rate_per_day()));
                let pipeline = vari_metric(own, share, hub);
                near(pipeline.mean, depot, "pipeline_mean");
                near(pipeline.variance, depot, "pipeline_var");
                let poisson = crate::demand::poisson(metric(own, share, hub).mean).unwrap();
                near(poisson.expected_backorders(i64::from(levels.cells[cell])), depot, "ebo_metric");
                near(crate::inventory::fill_rate(&poisson, levels.cells[cell]), depot, "fill_metric");
            }
        }
    }
}

/// Worked example 9.5, and all of `time_based_service`.
#[test]
fn example_9_5_service_within_a_limit() {
    let (of, levels) = row_2();
    let evaluation = Evaluation::new(&of, &levels, Method::Exact).unwrap();
    for (days, expected) in [(0.0, 0.495137889), (0.5, 0.542384142), (1.0, 0.586280052)] {
        // The oracle's own table of Poisson masses ends early; nine digits are printed.
        assert!((evaluation.within_limit(0, days).unwrap() - expected).abs() < 5e-9);
    }
    close(evaluation.within_limit(0, 7.0).unwrap(), evaluation.within_limit(0, 1.0).unwrap());
    assert_eq!(evaluation.within_limit(0, -0.1).unwrap(), 0.0);
    let Some(expected) = oracles::json("prepositioning_expected.json") else { return };
    for (cell, row) in expected["time_based_service"]["prob"].as_array().unwrap().iter().enumerate() {
        for (days, expected) in [0.0, 0.5, 1.0].into_iter().zip(numbers(row)) {
            let actual = evaluation.within_limit(cell, days).unwrap();
            assert!((actual - expected).abs() < 5e-9, "{cell} {days} {actual} {expected}");
        }
    }
}

/// Worked example 9.10, `pooling`.
#[test]
fn example_9_10_pooling() {
    let depot = |rate_per_day, level, helpers: &[usize]| PooledDepot {
        rate_per_day,
        replenish_days: 6.0,
        level,
        helpers: helpers.to_vec(),
    };
    let pool = [depot(0.10, 2, &[]), depot(0.06, 1, &[0]), depot(0.04, 0, &[0])];
    let service = pooled_service(&pool).unwrap();
    close(service[0].total_rate_per_day, 0.15588235294117647);
    for (depot, (own, emergency)) in [
        (0.8156568786868988, 0.18434312131310113),
        (0.7352941176470589, 0.04879670858287971),
        (0.0, 0.18434312131310113),
    ]
    .into_iter()
    .enumerate()
    {
        close(service[depot].own, own);
        close(service[depot].emergency, emergency);
    }
    close(service[1].lateral[0], 0.21590917377006147);
    close(service[2].lateral[0], 0.8156568786868988);
}

#[test]
fn depots_that_cannot_help_are_named() {
    let with = |helpers: Vec<usize>| PooledDepot { rate_per_day: 0.1, replenish_days: 1.0, level: 1, helpers };
    for (helpers, why) in [(vec![0], "itself"), (vec![5], "not there"), (vec![1, 1], "twice")] {
        let error = pooled_service(&[with(helpers), with(Vec::new())]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let negative = PooledDepot { rate_per_day: -1.0, ..with(Vec::new()) };
    assert!(matches!(pooled_service(&[negative]), Err(Error::Amount { .. })));
}

/// Worked example 9.14, and all of `repair_loop`.
#[test]
fn example_9_14_return_loop() {
    let loop_ = ReturnLoop { mended: 0.8, repair_days: 25.0, lead_days: 60.0 };
    let days = loop_.resupply_days().unwrap();
    close(0.75 * days, 24.0);
    close(loop_.purchases_per_day(0.75), 0.15);
    let hub = Hub::new(0.75 * days, 1).unwrap();
    for (level, expected) in [
        (16, 8.074593517190047),
        (20, 4.526521406650495),
        (24, 1.947636060654037),
        (28, 0.6051051267022723),
        (32, 0.1319011877456827),
    ] {
        close(hub.backorders(level).expected, expected);
    }
}

#[test]
fn a_loop_that_cannot_be_is_refused() {
    let loop_ = ReturnLoop { mended: 0.8, repair_days: 25.0, lead_days: 60.0 };
    assert!(ReturnLoop { mended: 1.2, ..loop_ }.resupply_days().is_err());
    assert!(ReturnLoop { lead_days: f64::NAN, ..loop_ }.resupply_days().is_err());
    // What is always mended needs no supplier.
    close(ReturnLoop { mended: 1.0, repair_days: 5.0, lead_days: f64::NAN }.resupply_days().unwrap(), 5.0);
}

/// M/M/1: the sojourn is the repair over the idle share. By hand for two places and load 1.6: C = 32/45.
#[test]
fn a_busy_repair_shop_makes_pieces_wait() {
    close(repair_sojourn_days(0.09, 10.0, 1).unwrap(), 10.0 / (1.0 - 0.9));
    close(repair_sojourn_days(0.16, 10.0, 2).unwrap(), 10.0 + 32.0 / 45.0 * 10.0 / 0.4);
    close(repair_sojourn_days(0.06, 10.0, 1).unwrap(), 10.0);
    assert!(matches!(repair_sojourn_days(0.1, 10.0, 1), Err(Error::Overloaded { servers: 1, .. })));
    assert!(repair_sojourn_days(f64::NAN, 10.0, 1).is_err());
}

/// Worked example 9.13, `last_time_buy`.
#[test]
fn example_9_13_last_buy() {
    let buy = LastBuy {
        installed: 1000.0,
        rate_per_device_year: 0.03,
        attrition_per_year: 0.15,
        years: 6.0,
        common_factor: 0.04,
    };
    close(buy.demand().unwrap().mean(), 118.68606805188016);
    close(buy.demand().unwrap().variance(), 682.1413780365012);
    // A critical ratio of 95 %.
    assert_eq!(buy.quantity(20.0, 1.0, 0.0, 0).unwrap(), 164);
    assert_eq!(buy.quantity(20.0, 1.0, 0.0, 60).unwrap(), 104);
    assert_eq!(LastBuy { common_factor: 0.0, ..buy }.quantity(20.0, 1.0, 0.0, 0).unwrap(), 137);
    assert_eq!(buy.quantity(1.0, 1.0, 0.0, 0).unwrap(), 0);
    close(LastBuy { attrition_per_year: 0.0, ..buy }.demand().unwrap().mean(), 180.0);
    assert!(LastBuy { years: -1.0, ..buy }.demand().is_err());
}

#[test]
fn the_last_pieces_are_kept_for_the_dearer_contract() {
    let demand = crate::demand::poisson(1.0).unwrap();
    let dearer = crate::inventory::CellCost { holding: 1.0, shortage: 1_000.0 };
    let kept = critical_level(&demand, dearer, 100.0);
    assert!(dearer.gain_of_next(&demand, i64::from(kept) - 1) > 100.0);
    assert!(dearer.gain_of_next(&demand, i64::from(kept)) <= 100.0);
    assert_eq!(critical_level(&demand, dearer, 1_000.0), 0);
}

/// With packs of 2 the position is S or S + 1, half of the time each.
#[test]
fn packs_average_over_positions() {
    let (single, pack) = (Hub::new(4.2, 1).unwrap(), Hub::new(4.2, 2).unwrap());
    close(pack.backorders(3).expected, (single.backorders(3).expected + single.backorders(4).expected) / 2.0);
    close(pack.ready_rate(3), (single.ready_rate(3) + single.ready_rate(4)) / 2.0);
    let law = pack.law_of_backorders(3);
    close(law.iter().sum::<f64>(), 1.0);
    close(law.iter().enumerate().map(|(n, p)| n as f64 * p).sum(), pack.backorders(3).expected);
    // A pack beyond all demand, and a level beyond it.
    let vast = Hub::new(4.2, u32::MAX).unwrap();
    assert!(vast.backorders(0).expected < 1e-7 && (vast.ready_rate(0) - 1.0).abs() < 1e-7);
    assert_eq!(single.backorders(u32::MAX).expected, 0.0);
    close(single.ready_rate(u32::MAX), 1.0);
}

/// Half of the demand mended at the depot in a day counts as that, and the hub sees the other half.
#[test]
fn repair_at_the_depot_leaves_the_hub_the_rest() {
    let mut of = item(&[0.4, 0.2], &[2.0, 2.0], 10.0, Measure::Backorders);
    of.cells[0].place = Place::Depot { order_days: 2.0, repair: Some(DepotRepair { share: 0.5, days: 1.0 }) };
    close(of.hub_rate_per_day(), 0.4);
    close(of.cells[0].own_pipeline(0.0), 0.4 * (0.5 * 2.0 + 0.5 * 1.0));
    close(of.cells[0].own_pipeline(1.5), 0.4 * 0.5 * 0.5);
    close(of.cells[0].share_of(of.hub_rate_per_day()), 0.5);
}

#[test]
fn small_backorders_keep_their_digits() {
    let of = item(&[0.1], &[1.0], 0.0, Measure::Backorders);
    let levels = Levels { hub: 0, cells: vec![9] };
    let expected = crate::demand::poisson(0.1).unwrap().expected_backorders(9);
    close(backorders(&of, &levels, Method::VariMetric), expected);
    close(backorders(&of, &levels, Method::Exact), expected);
}

#[test]
fn what_cannot_be_is_named() {
    let good = item(&[0.1, 0.2], &[1.0, 2.0], 10.0, Measure::Backorders);
    let levels = Levels { hub: 0, cells: vec![0, 0] };
    let refused = |change: &dyn Fn(&mut Item), words: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        let evaluated = Evaluation::new(&bad, &levels, Method::Exact).unwrap_err().to_string();
        let optimised = optimise(&[bad], &Goal::Totals(vec![-0.5])).unwrap_err().to_string();
        assert!(evaluated.contains(words) && optimised.contains(words), "{evaluated} / {optimised}");
    };
    refused(&|item| item.cells[1].rate_per_day = -1.0, "demand rate of p at d1 is -1");
    refused(&|item| item.cells[1].rate_per_day = f64::NAN, "demand rate of p at d1 is NaN");
    refused(&|item| item.resupply_days = f64::INFINITY, "days of resupply of p");
    refused(&|item| item.unit_cost = -3.0, "unit cost of p is -3");
    refused(&|item| item.cells[0].claims[0].weight = -3.0, "weight of p at d0");
    refused(&|item| item.cells[0].rate_per_day = 1e6, "pieces on order");
    refused(&|item| item.resupply_days = 1e9, "p would have");
    let stray = optimise(std::slice::from_ref(&good), &Goal::Totals(Vec::new())).unwrap_err();
    assert!(matches!(stray, Error::Group { .. }), "{stray}");
    // A level beyond all demand is no error.
    let many = Levels { hub: u32::MAX, cells: vec![u32::MAX, 1_000_000] };
    assert!(backorders(&good, &many, Method::Exact) < 1e-12);
}

proptest! {
    /// A piece more at the hub or at a depot never leaves more waiting, at any depot, and never serves fewer within a limit.
    #[test]
    fn more_stock_never_serves_less(
        rates in prop::collection::vec(0.0..0.5_f64, 1..5),
        order_days in 0.0..6.0_f64,
        resupply_days in 0.0..30.0_f64,
        hub in 0..12_u32,
        level in 0..5_u32,
        limit in 0.0..8.0_f64,
        pack_size in 1..4_u32,
    ) {
        let mut of = item(&rates, &vec![order_days; rates.len()], resupply_days, Measure::Backorders);
        of.pack_size = pack_size;
        let levels = Levels { hub, cells: vec![level; rates.len()] };
        let more_here = Levels { hub, cells: vec![level + 1; rates.len()] };
        let more_there = Levels { hub: hub + 1, ..levels.clone() };
        for more in [more_here, more_there] {
            let before = Evaluation::new(&of, &levels, Method::Exact).unwrap();
            let after = Evaluation::new(&of, &more, Method::Exact).unwrap();
            for cell in 0..rates.len() {
                let short = |e: &Evaluation<'_>| e.expected_backorders(cell).unwrap();
                prop_assert!(short(&after) <= short(&before) + 1e-12);
                let within = |e: &Evaluation<'_>| e.within_limit(cell, limit).unwrap();
                prop_assert!(within(&after) >= within(&before) - 1e-12);
                prop_assert!(within(&before) >= before.fill_rate(cell).unwrap() - 1e-12);
            }
        }
    }
}
