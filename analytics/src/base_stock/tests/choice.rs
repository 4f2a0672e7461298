//! The choice of levels: frontiers against enumeration, plans against their bound.

use proptest::prelude::*;

use super::{close, counts, id, item};
use crate::{base_stock::*, oracles};

/// Worked example 9.4, `single_item_curve`: the best of all ways to part so many pieces.
#[test]
fn example_9_4_one_item_frontier() {
    let of = item(&[0.2, 0.1, 0.05], &[2.0, 3.0, 4.0], 10.0, Measure::Backorders);
    let points = efficient_points(&of, 12).unwrap();
    let (seven, levels) = &points[7];
    assert!((seven.value + 0.363851116).abs() < 1e-9);
    assert_eq!(*levels, Levels { hub: 3, cells: vec![2, 1, 1] });
    let Some(expected) = oracles::json("metric_expected.json") else { return };
    let best = expected["single_item_curve"]["best"].as_array().unwrap();
    assert_eq!(best.len(), points.len());
    for (point, (found, levels)) in best.iter().zip(&points) {
        // The oracle rounds to twelve digits after the point.
        assert!((found.value + point["total_ebo_vari"].as_f64().unwrap()).abs() < 1e-11, "{point} {found:?}");
        assert_eq!((u64::from(levels.hub), &levels.cells), (point["S0"].as_u64().unwrap(), &counts(&point["S"])));
    }
}

/// Three parts of different prices at three depots.
fn parts(measure: Measure) -> Vec<Item> {
    [(10.0, 1.0), (3.0, 2.0), (25.0, 0.5)]
        .iter()
        .enumerate()
        .map(|(place, (unit_cost, scale))| {
            let mut of = item(&[0.05 * scale, 0.1 * scale, 0.02 * scale], &[1.0, 2.0, 3.0], 12.0, measure);
            of.unit_cost = *unit_cost;
            of.part = id(&format!("part-{place}"));
            of
        })
        .collect()
}

fn demand(items: &[Item]) -> f64 {
    items.iter().flat_map(|item| &item.cells).map(|cell| cell.rate_per_day).sum()
}

#[track_caller]
fn meets(items: &[Item], target: f64) -> Optimised {
    let found = optimise(items, &Goal::Totals(vec![target])).unwrap();
    let mut totals = vec![0.0];
    for (item, levels) in items.iter().zip(&found.levels) {
        Evaluation::new(item, levels, Method::Exact).unwrap().add_totals(&mut totals).unwrap();
    }
    close(found.totals[0], totals[0]);
    assert!(totals[0] >= target, "{} < {target}", totals[0]);
    let cost: f64 = items.iter().zip(&found.levels).map(|(item, l)| item.unit_cost * l.pieces() as f64).sum();
    close(found.cost, cost);
    assert!(found.bound <= found.cost);
    found
}

#[test]
fn targets_are_met_by_the_exact_law() {
    let filled = parts(Measure::WithinLimit { days: 0.0 });
    for share in [0.5, 0.9, 0.95, 0.999] {
        meets(&filled, share * demand(&filled));
    }
    meets(&parts(Measure::Backorders), -0.05);
    let available = parts(Measure::Availability { slots: 50.0, per_device: 2.0 });
    meets(&available, 0.99_f64.ln() * demand(&available));
    // Nothing is asked: nothing is kept.
    assert_eq!(meets(&filled, -1.0).cost, 0.0);
}

#[test]
fn a_longer_limit_costs_no_more() {
    let cost = |days| {
        let items = parts(Measure::WithinLimit { days });
        meets(&items, 0.95 * demand(&items)).cost
    };
    assert!(cost(1.0) <= cost(0.0) && cost(0.0) > 0.0);
}

/// One group near, with little asked, and one far, with much: the second must not be paid for by the first.
#[test]
fn groups_have_targets_of_their_own() {
    let mut items = parts(Measure::WithinLimit { days: 0.5 });
    for cell in items.iter_mut().flat_map(|item| &mut item.cells).skip(1).step_by(3) {
        cell.claims = [0.3, 0.7]
            .iter()
            .enumerate()
            .map(|(group, share)| Claim {
                group,
                weight: share * cell.rate_per_day,
                measure: Measure::WithinLimit { days: group as f64 },
            })
            .collect();
    }
    let mut all = [0.0; 2];
    for claim in items.iter().flat_map(|item| &item.cells).flat_map(|cell| &cell.claims) {
        all[claim.group] += claim.weight;
    }
    let targets = vec![0.6 * all[0], 0.98 * all[1]];
    let found = optimise(&items, &Goal::Totals(targets.clone())).unwrap();
    assert!(found.totals.iter().zip(&targets).all(|(total, target)| total >= target));
    assert!(found.bound <= found.cost && found.bound > 0.0);
    // As much for the first as for the second costs more.
    let dearer = optimise(&items, &Goal::Totals(vec![0.98 * all[0], 0.98 * all[1]])).unwrap();
    assert!(dearer.cost > found.cost);
}

/// Many parts: the plan is within 2 % of what no plan can beat, and as much is proven.
#[test]
fn with_many_parts_the_gap_is_small() {
    let items: Vec<Item> = (0..120_u32)
        .map(|n| {
            let scale = 0.2 + f64::from(n % 17) / 10.0;
            let rates: Vec<f64> = (0..6).map(|j| 0.01 * scale * f64::from(j + 1)).collect();
            let mut of = item(&rates, &[1.0, 2.0, 2.0, 3.0, 1.0, 4.0], 20.0, Measure::WithinLimit { days: 1.0 });
            of.unit_cost = 5.0 + f64::from(n * 37 % 101);
            of.part = id(&format!("part-{n}"));
            if n % 5 == 0 {
                of.cells[0].place = Place::Hub;
            }
            of
        })
        .collect();
    let found = meets(&items, 0.95 * demand(&items));
    assert!(found.gap < 0.02, "{}", found.gap);
    let budget = found.cost;
    let spent = optimise(&items, &Goal::Budget(budget)).unwrap();
    assert!(spent.cost <= budget && spent.gap < 0.02, "{} {}", spent.cost, spent.gap);
    // One thread finds the same.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(alone.install(|| optimise(&items, &Goal::Budget(budget))).unwrap(), spent);
}

#[test]
fn what_no_stock_can_meet_is_said() {
    let mut items = parts(Measure::WithinLimit { days: 0.0 });
    let all = demand(&items);
    let refused = |items: &[Item], goal: Goal| optimise(items, &goal).unwrap_err().to_string();
    assert!(refused(&items, Goal::Totals(vec![all])).contains("no upper end"));
    assert!(refused(&items, Goal::Totals(vec![f64::NAN])).contains("target of group 0 is NaN"));
    assert!(refused(&items, Goal::Budget(2.0)).contains("the cheapest step costs"));
    assert!(refused(&items, Goal::Budget(-2.0)).contains("budget of the plan is -2"));
    assert!(refused(&items, Goal::Budget(f64::NAN)).contains("budget"));
    items[0].cells[1].claims[0].measure = Measure::WithinLimit { days: -0.5 };
    assert!(refused(&items, Goal::Totals(vec![0.95 * all])).contains("part-0 at d1 is 0.5 days too far away"));
    meets(&items, 0.7 * all);
}

#[test]
fn large_pipelines_are_planned_and_larger_ones_named() {
    let mut of = item(&[30.0, 20.0], &[3.0, 2.0], 100.0, Measure::WithinLimit { days: 0.0 });
    meets(&[of.clone()], 0.95 * 50.0);
    of.resupply_days = 1e5;
    let error = optimise(&[of], &Goal::Totals(vec![1.0])).unwrap_err().to_string();
    assert!(error.contains("check its demand rate"), "{error}");
}

/// Least cost of the levels up to `most` that meet a target, by looking at all of them.
fn enumerate(items: &[Item], target: f64, most: u32, method: Method) -> f64 {
    // All (cost, value) of each item, then all pairs.
    let of_item = |item: &Item| {
        let mut all = Vec::new();
        for hub in 0..=most {
            for a in 0..=most {
                for b in 0..=most {
                    let levels = Levels { hub, cells: vec![a, b] };
                    let mut totals = vec![0.0];
                    let evaluation = Evaluation::new(item, &levels, method).unwrap();
                    evaluation.add_totals(&mut totals).unwrap();
                    all.push((item.unit_cost * levels.pieces() as f64, totals[0]));
                }
            }
        }
        all
    };
    let (first, second) = (of_item(&items[0]), of_item(&items[1]));
    let mut best = f64::INFINITY;
    for (cost, value) in &first {
        for (other_cost, other) in &second {
            if value + other >= target {
                best = best.min(cost + other_cost);
            }
        }
    }
    best
}

/// Of few items with few pieces on order all ways are looked at: the plan is the cheapest that the exact law allows.
#[test]
fn few_items_get_the_cheapest_plan() {
    let items: Vec<Item> = [(17.0, [0.02, 0.01]), (4.0, [0.05, 0.03])]
        .iter()
        .enumerate()
        .map(|(place, (unit_cost, rates))| {
            let mut of = item(rates, &[1.0, 2.0], 6.0, Measure::WithinLimit { days: 0.0 });
            of.unit_cost = *unit_cost;
            of.part = id(&format!("part-{place}"));
            of
        })
        .collect();
    for share in [0.5, 0.8, 0.9, 0.95, 0.99] {
        let target = share * demand(&items);
        close(meets(&items, target).cost, enumerate(&items, target, 4, Method::Exact));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The bound is never above the cheapest plan that enumeration finds, and the plan never costs less than the bound.
    #[test]
    fn no_enumerated_plan_beats_the_bound(
        rates in prop::collection::vec(0.01..0.2_f64, 4),
        costs in prop::collection::vec(1.0..20.0_f64, 2),
        resupply_days in 1.0..12.0_f64,
        share in 0.3..0.9_f64,
        days in 0.0..2.0_f64,
    ) {
        let items: Vec<Item> = (0..2).map(|n| {
            let measure = Measure::WithinLimit { days };
            let mut of = item(&rates[2 * n..2 * n + 2], &[1.0, 2.0], resupply_days, measure);
            of.unit_cost = costs[n];
            of
        }).collect();
        let target = share * demand(&items);
        let found = optimise(&items, &Goal::Totals(vec![target])).unwrap();
        let cheapest = enumerate(&items, target, 6, Method::VariMetric);
        prop_assert!(found.bound <= cheapest * (1.0 + 1e-9), "{} {cheapest}", found.bound);
        prop_assert!(found.bound <= found.cost * (1.0 + 1e-9));
    }

    /// Every point of the frontier is the best of all ways to part so many pieces.
    #[test]
    fn the_frontier_is_that_of_enumeration(
        rates in prop::collection::vec(0.01..0.3_f64, 2),
        resupply_days in 0.0..8.0_f64,
    ) {
        let of = item(&rates, &[1.0, 3.0], resupply_days, Measure::Backorders);
        for (point, levels) in efficient_points(&of, 6).unwrap() {
            let value = |levels: &Levels| {
                let mut totals = vec![0.0];
                Evaluation::new(&of, levels, Method::VariMetric).unwrap().add_totals(&mut totals).unwrap();
                totals[0]
            };
            prop_assert!((value(&levels) - point.value).abs() < 1e-9);
            prop_assert_eq!(levels.pieces(), u64::from(point.pieces));
            for hub in 0..=point.pieces {
                for a in 0..=point.pieces - hub {
                    let other = Levels { hub, cells: vec![a, point.pieces - hub - a] };
                    prop_assert!(value(&other) <= point.value + 1e-9, "{other:?} beats {levels:?}");
                }
            }
        }
    }
}
