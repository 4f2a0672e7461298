//! Moves against the worked example, against giving out the hub's pieces one by one, and against exhaustive enumeration.

use proptest::prelude::*;

use super::*;
use crate::{
    demand::{DemandLaw, Trial, poisson, poisson_binomial},
    inventory::CellCost,
    oracles,
    placement::{allocate_hub, pieces_per_cell},
};

fn law(p: &[f64], mean: f64) -> DemandLaw {
    let trials: Vec<Trial> = p.iter().copied().map(Trial::one).collect();
    poisson_binomial(&trials).unwrap().convolve(&poisson(mean).unwrap())
}

fn example_laws() -> [DemandLaw; 3] {
    [law(&[0.8, 0.6, 0.3], 0.1), law(&[0.35, 0.2], 0.5), law(&[0.15], 0.05)]
}

fn place(demand: &DemandLaw, shortage: f64, on_hand: u32) -> Place<'_> {
    let cost = CellCost { holding: 12.0, shortage };
    let cell = Cell { demand, cost, position: i64::from(on_hand), transport: 0.0 };
    Place { cell, movable: on_hand, bound: 0, keeps_for_nothing: false }
}

fn lane(from: usize, to: usize, cost: f64) -> Lane {
    Lane { from, to, cost, in_place: false }
}

/// Cost of all places after moves, and of the moves.
fn cost(places: &[Place<'_>], lanes: &[Lane], moves: &[Move]) -> f64 {
    let mut positions: Vec<i64> = places.iter().map(|place| place.cell.position).collect();
    let mut total = 0.0;
    for one in moves {
        positions[one.from] -= i64::from(one.pieces);
        positions[one.to] += i64::from(one.pieces);
        let lane = lanes.iter().find(|lane| (lane.from, lane.to) == (one.from, one.to)).unwrap();
        total += lane.cost * f64::from(one.pieces);
    }
    let own = |(place, &position): (&Place<'_>, &i64)| place.cell.cost.of_position(place.cell.demand, position);
    total + places.iter().zip(&positions).map(own).sum::<f64>()
}

/// Worked example 9.9 (`lateral_transfer`): one piece goes to depot 1, and none on to depot 2 by way of it.
#[test]
fn example_9_9_lateral_move() {
    let laws = example_laws();
    let places = [place(&laws[0], 400.0, 3), place(&laws[1], 400.0, 0), place(&laws[2], 900.0, 0)];
    let between = [[0.0, 6.0, 20.0], [6.0, 0.0, 9.0], [20.0, 9.0, 0.0]];
    let mut lanes = Vec::new();
    for (from, costs) in between.iter().enumerate() {
        lanes.extend(costs.iter().enumerate().map(|(to, &cost)| lane(from, to, cost)));
    }
    let found = moves(&places, &lanes);
    assert_eq!(found, [Move { from: 0, to: 1, pieces: 1 }]);
    let (before, after) = (cost(&places, &lanes, &[]), cost(&places, &lanes, &found));
    assert!((before - 621.287_313_065_252_6).abs() < 1e-9 && (after - 423.550_868_634_209_2).abs() < 1e-9);
    let Some(expected) = oracles::json("prepositioning_expected.json") else { return };
    let expected = &expected["lateral_transfer"];
    assert!((before - expected["cost_without"].as_f64().unwrap()).abs() < 1e-9);
    assert!((after - expected["cost"].as_f64().unwrap()).abs() < 1e-9);
}

/// A depot that is short gets the hub's piece, and the one from next door stays; without the hub's it comes.
#[test]
fn a_piece_comes_from_where_it_costs_least() {
    let law = law(&[0.9], 0.0);
    let idle = poisson(0.0).unwrap();
    let lanes = [lane(0, 1, 0.0), lane(2, 1, 30.0)];
    let with = |at_hub: u32| {
        let hub = Place { keeps_for_nothing: true, ..place(&idle, 0.0, at_hub) };
        moves(&[hub, place(&law, 400.0, 0), place(&idle, 400.0, 1)], &lanes)
    };
    assert_eq!(with(1), [Move { from: 0, to: 1, pieces: 1 }]);
    assert_eq!(with(0), [Move { from: 2, to: 1, pieces: 1 }]);
    let nowhere = [lane(7, 1, 0.0), lane(0, 9, 0.0)];
    assert_eq!(moves(&[place(&idle, 400.0, 1), place(&law, 400.0, 0)], &nowhere), []);
    assert_eq!(moves(&[], &lanes), []);
}

/// A bound piece serves the other part on its shelf where that is needed more, and goes nowhere else.
#[test]
fn a_bound_piece_serves_another_part_in_place_only() {
    let (needed, idle) = (law(&[0.9], 0.0), poisson(0.0).unwrap());
    let with = |in_place: bool, cost: f64| {
        let newer = Place { movable: 0, bound: 2, ..place(&idle, 400.0, 2) };
        moves(&[newer, place(&needed, 400.0, 0)], &[Lane { in_place, ..lane(0, 1, cost) }])
    };
    assert_eq!(with(true, 5.0), [Move { from: 0, to: 1, pieces: 1 }]);
    assert_eq!(with(false, 5.0), []);
    assert_eq!(with(true, 500.0), []);
    // Pieces of both origins that go one way are one move.
    let both = Place { movable: 1, bound: 1, ..place(&idle, 400.0, 2) };
    let two = law(&[0.9, 0.9], 0.0);
    let found = moves(&[both, place(&two, 400.0, 0)], &[Lane { in_place: true, ..lane(0, 1, 0.0) }]);
    assert_eq!(found, [Move { from: 0, to: 1, pieces: 2 }]);
}

/// Three places with up to two pieces each and all lanes: how many ways can go how many pieces.
fn every_plan(places: &[Place<'_>]) -> Vec<Vec<Move>> {
    let mut plans: Vec<Vec<Move>> = vec![Vec::new()];
    for (from, of) in places.iter().enumerate() {
        let others: Vec<usize> = (0..places.len()).filter(|&to| to != from).collect();
        let mut more = Vec::new();
        for plan in &plans {
            for first in 0..=of.movable {
                for second in 0..=of.movable - first {
                    let mut plan = plan.clone();
                    let moved = [(others[0], first), (others[1], second)];
                    plan.extend(moved.into_iter().filter(|(_, n)| *n > 0).map(|(to, pieces)| Move {
                        from,
                        to,
                        pieces,
                    }));
                    more.push(plan);
                }
            }
        }
        plans = more;
    }
    plans
}

type Drawn = (Vec<f64>, f64, f64, u32, i64);

fn places<'a>(drawn: &[Drawn], laws: &'a [DemandLaw]) -> Vec<Place<'a>> {
    let one = |((_, _, shortage, movable, inbound), law): (&Drawn, &'a DemandLaw)| {
        let mut place = place(law, *shortage, *movable);
        place.cell.position += inbound;
        place
    };
    drawn.iter().zip(laws).map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// No other plan of single moves costs less, whatever lanes cost, detours that would be cheaper among them.
    #[test]
    fn moves_equal_enumeration(
        drawn in prop::collection::vec(
            (prop::collection::vec(0.0..1.0_f64, 0..4), 0.0..1.5_f64, 1.0..900.0_f64, 0..3_u32, -1..2_i64), 3),
        costs in prop::collection::vec(0.0..200.0_f64, 6),
    ) {
        let laws: Vec<DemandLaw> = drawn.iter().map(|(p, mean, ..)| law(p, *mean)).collect();
        let places = places(&drawn, &laws);
        let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
        let lanes: Vec<Lane> = pairs.into_iter().zip(costs).map(|((from, to), cost)| lane(from, to, cost)).collect();
        let ours = cost(&places, &lanes, &moves(&places, &lanes));
        for plan in every_plan(&places) {
            prop_assert!(ours <= cost(&places, &lanes, &plan) + 1e-7, "{plan:?}");
        }
    }

    /// With lanes from the hub alone: what giving one by one gives.
    #[test]
    fn from_a_hub_alone_it_is_giving_one_by_one(
        drawn in prop::collection::vec(
            (prop::collection::vec(0.0..1.0_f64, 0..6), 0.0..1.5_f64, 1.0..900.0_f64, 0..3_u32, -2..3_i64), 1..6),
        available in 0..12_u32,
    ) {
        let laws: Vec<DemandLaw> = drawn.iter().map(|(p, mean, ..)| law(p, *mean)).collect();
        let idle = poisson(0.0).unwrap();
        let mut all = places(&drawn, &laws);
        let cells: Vec<Cell<'_>> = all.iter().map(|place| place.cell).collect();
        all.push(Place { keeps_for_nothing: true, ..place(&idle, 0.0, available) });
        let lanes: Vec<Lane> = (0..cells.len()).map(|to| lane(cells.len(), to, 0.0)).collect();
        let mut found = vec![0; cells.len()];
        for one in moves(&all, &lanes) {
            found[one.to] = one.pieces;
        }
        prop_assert_eq!(found, pieces_per_cell(&allocate_hub(&cells, available), cells.len()));
    }
}
