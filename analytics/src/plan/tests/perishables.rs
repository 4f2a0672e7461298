//! Parts that may be used for some time only.

use super::*;

fn lasting(days: Option<f64>) -> Fleet {
    let mut fleet = fleet();
    fleet.parts[1].shelf_life_days = days;
    fleet
}

/// One failure a year at north: a piece saves 3,210 x P(within 3 days), about 26, and lies there for 20.25. With a life of a month
/// it is lost, at 365, with a probability of e^(-30/365).
fn rare() -> [SlotForecast; 1] {
    [SlotForecast { survival: SurvivalCurve::exponential(1.0 / 365.0).unwrap(), ..slot("d1", "north", 0.01) }]
}

fn north(plan: &Plan) -> &CellReport {
    plan.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap()
}

#[test]
fn what_would_perish_is_not_kept() {
    let with = |days: Option<f64>| plan_of(&lasting(days), &rare(), &[stock("hub", 5)]);
    assert_eq!(with(None).transfers.len(), 1);
    let month = with(Some(30.0));
    assert_eq!((month.transfers.len(), north(&month).target, north(&month).verdict), (0, 0, Verdict::Enough));
    let (soon, later) = (1.0 - (-3.0_f64 / 365.0).exp(), 1.0 - (-30.0_f64 / 365.0).exp());
    close(north(&month).worth_of_next, 3210.0 * soon - 20.25 * (1.0 - soon) - 365.0 * (1.0 - later));
    close(north(&month).expected_cost, 3210.0 * soon);
    close(north(&month).demand_mean, soon);
    assert_eq!(with(Some(36_500.0)).transfers.len(), 1);
    // For an alert a piece is worth its risk, if it lives until it can be used.
    let alert =
        |days: f64| plan_of(&lasting(Some(days)), &[slot("d1", "north", 0.6)], &[stock("hub", 5)]).transfers.len();
    assert_eq!((alert(3.0), alert(2.9)), (1, 0));
}

#[test]
fn no_more_is_bought_than_is_used_in_its_life() {
    let slots: Vec<SlotForecast> = (0..40)
        .map(|n| SlotForecast {
            survival: SurvivalCurve::exponential(1.0 / 200.0).unwrap(),
            ..slot(&format!("d{n}"), "north", 0.01)
        })
        .collect();
    let bought = |days: Option<f64>| plan_of(&lasting(days), &slots, &[]).purchases[0].quantity;
    let (keeps, short) = (bought(None), bought(Some(20.0)));
    assert!(short < keeps && short > 0, "{short} of {keeps}");
    assert!((short..=keeps).contains(&bought(Some(60.0))));
    assert_eq!(bought(Some(36_500.0)), keeps);
    let nonsense = plan_of(&lasting(Some(-1.0)), &slots, &[]);
    assert_eq!(nonsense.data_quality.rejected[1].cause, "cost, lead time or shelf life is negative or no number");
}
