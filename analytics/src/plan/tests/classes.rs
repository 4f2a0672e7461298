//! Contracts of different worth on one shelf.

use super::*;

/// Gold waits two days at 800 a day and misses its promise (3,210 with the emergency), silver at 100 (310), others for the
/// emergency alone (110). By hand: with P(D_gold = 0) = .4, the first piece is worth 3,210 - 3,230.25 x .4 = 1,917.9 to gold.
#[test]
fn lesser_contracts_leave_pieces_to_dearer_ones() {
    let mut fleet = fleet();
    let silver = ContractId::parse("silver").unwrap();
    let lesser = Contract {
        contract: silver.clone(),
        resolve_hours: 72.0,
        downtime_cost_per_day: Some(100.0),
        miss_penalty: None,
        ..fleet.contracts[0].clone()
    };
    fleet.contracts.push(lesser);
    let under = |device: &str, contract: Option<&ContractId>, p: f64| SlotForecast {
        contract: contract.cloned(),
        ..slot(device, "north", p)
    };
    let levels = |forecasts: &[SlotForecast]| {
        let plan = plan_of(&fleet, forecasts, &[stock("north", 2)]);
        let cell = plan.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap().clone();
        cell.critical_levels.into_iter().map(|level| (level.contract, level.keep)).collect::<Vec<_>>()
    };
    let gold = [slot("d1", "north", 0.6)];
    assert_eq!(levels(&gold), []);
    let three = [gold[0].clone(), under("d2", Some(&silver), 0.5), under("d3", None, 0.5)];
    // Those without a contract leave the first piece to gold and the second to silver: P(D <= 1) = .7 of both, and the mean price
    // is 1,891.8: 1,891.8 - 1,912.1 x .7 = 553 > 110.
    assert_eq!(levels(&three), [(Some(silver.clone()), 1), (None, 2)]);
    let quiet = [slot("d1", "north", 0.05), under("d2", Some(&silver), 0.5)];
    // 3,210 - 3,230.25 x .95 = 141 < 310: the piece is worth more to the one who needs it now.
    assert_eq!(levels(&quiet), []);
    let nothing_here = plan_of(&fleet, &three, &[]);
    assert!(nothing_here.cells.iter().all(|cell| cell.critical_levels.is_empty()));
}
