//! Placement against the worked examples by number and against exhaustive enumeration.

use proptest::prelude::*;

use super::*;
use crate::{
    demand::{Trial, poisson, poisson_binomial},
    oracles,
};

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-9 * expected.abs(), "{actual} is not {expected}");
}

fn law(p: &[f64], mean: f64) -> DemandLaw {
    let trials: Vec<Trial> = p.iter().copied().map(Trial::one).collect();
    poisson_binomial(&trials).unwrap().convolve(&poisson(mean).unwrap())
}

fn cost(cells: &[Cell<'_>], pieces: &[u32]) -> f64 {
    let one = |(cell, &x): (&Cell<'_>, &u32)| {
        cell.cost.of_position(cell.demand, cell.position + i64::from(x)) + cell.transport * f64::from(x)
    };
    cells.iter().zip(pieces).map(one).sum()
}

fn example_laws() -> [DemandLaw; 3] {
    [law(&[0.8, 0.6, 0.3], 0.1), law(&[0.35, 0.2], 0.5), law(&[0.15], 0.05)]
}

fn example_cells(laws: &[DemandLaw; 3]) -> [Cell<'_>; 3] {
    let cell = |n: usize, shortage, position, transport| Cell {
        demand: &laws[n],
        cost: CellCost { holding: 12.0, shortage },
        position,
        transport,
    };
    [cell(0, 400.0, 0, 8.0), cell(1, 400.0, 1, 5.0), cell(2, 900.0, 0, 14.0)]
}

/// Worked example 9.8 (`hub_allocation`).
#[test]
fn example_9_8_hub_allocation() {
    let laws = example_laws();
    let cells = example_cells(&laws);
    let all = allocate_hub(&cells, 12);
    let expected = [(0, 371.1236), (0, 245.2687), (2, 148.6070), (1, 97.6301), (0, 58.3204), (1, 12.6673)];
    assert_eq!(all.len(), expected.len());
    for (given, (cell, gain)) in all.iter().zip(expected) {
        assert_eq!(given.cell, cell);
        assert!((given.gain - gain).abs() < 1e-4, "{given:?}");
    }
    assert_eq!(pieces_per_cell(&all, 3), [3, 2, 1]);
    close(cost(&cells, &[3, 2, 1]), 116.32600997498);
    let four = pieces_per_cell(&allocate_hub(&cells, 4), 3);
    assert_eq!(four, [2, 1, 1]);
    close(cost(&cells, &four), 187.31377035107258);
}

/// All cases of `hub_allocation`, gain by gain.
#[test]
fn hub_allocation_is_that_of_the_oracle() {
    let Some(expected) = oracles::json("prepositioning_expected.json") else { return };
    let laws = example_laws();
    let cells = example_cells(&laws);
    for case in expected["hub_allocation"]["cases"].as_array().unwrap() {
        let given = allocate_hub(&cells, u32::try_from(case["hub_units"].as_u64().unwrap()).unwrap());
        let sequence = case["sequence"].as_array().unwrap();
        assert_eq!(given.len(), sequence.len());
        for (piece, step) in given.iter().zip(sequence) {
            assert_eq!(piece.cell as u64, step["depot"].as_u64().unwrap());
            close(piece.gain, step["gain"].as_f64().unwrap());
        }
        close(cost(&cells, &pieces_per_cell(&given, 3)), case["cost"].as_f64().unwrap());
    }
}

/// Worked example 9.15 (`procurement`).
#[test]
fn example_9_15_buying() {
    let demand = law(&[0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.2, 0.1], 6.0);
    let need = PurchaseNeed { demand_quantile: demand.quantile(0.9), spatial_reserve: 7, system_position: 14 };
    assert_eq!((need.demand_quantile, need.target(), need.need()), (13, 20, 6));
    assert_eq!(order_quantity(need.need(), Some(4), Some(6)), 6);
    for (need, minimum, pack, ordered) in [
        (0, Some(9), Some(6), 0),
        (1, Some(4), None, 4),
        (7, Some(4), Some(6), 12),
        (3, None, Some(0), 3),
        (2, None, None, 2),
    ] {
        assert_eq!(order_quantity(need, minimum, pack), ordered);
    }
    assert_eq!(PurchaseNeed { system_position: 99, ..need }.need(), 0);
    assert_eq!(PurchaseNeed { system_position: -3, ..need }.need(), 23);
}

/// Worked example 9.16 (`budget`), with its six parts written out.
#[test]
fn example_9_16_budget() {
    let items: [(&[f64], f64, f64); 6] = [
        (&[0.567, 0.569, 0.37, 0.214, 0.057, 0.281], 600.0, 400.0),
        (&[0.051, 0.053, 0.699, 0.464, 0.179, 0.316], 300.0, 800.0),
        (&[0.63, 0.594, 0.287, 0.355, 0.48, 0.061], 950.0, 500.0),
        (&[0.205, 0.618, 0.064, 0.482, 0.612, 0.175], 550.0, 800.0),
        (&[0.613, 0.033, 0.501, 0.021, 0.362, 0.317], 900.0, 300.0),
        (&[0.241, 0.568, 0.235, 0.121, 0.495, 0.325], 250.0, 700.0),
    ];
    let laws = items.map(|(p, _, _)| law(p, 0.0));
    let cells: Vec<Cell<'_>> = laws
        .iter()
        .zip(items)
        .map(|(demand, (_, _, shortage))| Cell {
            demand,
            cost: CellCost { holding: 5.0, shortage },
            position: 0,
            transport: 0.0,
        })
        .collect();
    let unit_costs = items.map(|(_, unit_cost, _)| unit_cost);
    let given = allocate_budget(&cells, &unit_costs, 2500.0);
    assert_eq!(given.iter().map(|piece| piece.cell).collect::<Vec<_>>(), [5, 1, 5, 1, 3, 3, 5]);
    let pieces = pieces_per_cell(&given, 6);
    assert_eq!(pieces, [0, 2, 0, 2, 0, 3]);
    close(pieces.iter().zip(unit_costs).map(|(&x, c)| f64::from(x) * c).sum(), 2450.0);
    close(cost(&cells, &pieces), 3232.0459359096885);
    assert_eq!(allocate_budget(&cells, &[0.0; 6], 10.0), []);
}

#[test]
fn ties_go_to_the_first_cell_and_backorders_come_before_all() {
    let demand = law(&[0.5], 0.0);
    let cell = Cell { demand: &demand, cost: CellCost { holding: 1.0, shortage: 50.0 }, position: 0, transport: 0.0 };
    assert_eq!(allocate_hub(&[cell, cell], 1)[0].cell, 0);
    let owing = Cell { position: -2, ..cell };
    let given = allocate_hub(&[cell, owing], 3);
    assert_eq!(given.iter().map(|piece| piece.cell).collect::<Vec<_>>(), [1, 1, 0]);
    assert_eq!(given[0].gain, 50.0);
    assert_eq!(allocate_hub(&[], 3), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Three random cells, up to five pieces: no way to give them costs less.
    #[test]
    fn giving_one_by_one_equals_enumeration(
        cells in prop::collection::vec((prop::collection::vec(0.0..1.0_f64, 0..4), 0.0..1.5_f64, 1.0..900.0_f64, -2..3_i64, 0.0..20.0_f64), 3),
        available in 0..6_u32,
    ) {
        let laws: Vec<DemandLaw> = cells.iter().map(|(p, mean, ..)| law(p, *mean)).collect();
        let cells: Vec<Cell<'_>> = cells
            .iter()
            .zip(&laws)
            .map(|((_, _, shortage, position, transport), demand)| Cell {
                demand,
                cost: CellCost { holding: 12.0, shortage: *shortage },
                position: *position,
                transport: *transport,
            })
            .collect();
        let ours = cost(&cells, &pieces_per_cell(&allocate_hub(&cells, available), 3));
        for a in 0..=available {
            for b in 0..=available - a {
                for c in 0..=available - a - b {
                    prop_assert!(ours <= cost(&cells, &[a, b, c]) + 1e-7);
                }
            }
        }
    }
}
