//! Planned replacements: certain at their date, and what is kept for them is left out on both sides.

use harbinger_core::fleet::Device;
use harbinger_store::ledger::work_orders::{WorkOrder, WorkOrderState};

use super::*;
use crate::demand::common_factor;

const AS_OF: &str = "2026-03-01T00:00:00Z";

/// A work order for a fan of a device at north, in so many days from now, of so many pieces that are kept for it.
fn work_order(device: &str, days: f64, (quantity, reserved): (u32, u32)) -> WorkOrder {
    let as_of: Timestamp = AS_OF.parse().unwrap();
    WorkOrder {
        work_order_id: format!("wko_{device}"),
        device: DeviceId::parse(device).unwrap(),
        component: ComponentId::parse("fan1").unwrap(),
        part: part_id("fan"),
        depot: depot_id("north"),
        quantity,
        due_at: Timestamp::from_millis(as_of.millis() + (days * 86_400_000.0) as i64),
        state: WorkOrderState::Open,
        reserved,
        alert_id: None,
        note: None,
        opened_at: as_of,
        opened_by: "me".to_owned(),
        done_at: None,
        cancelled_at: None,
    }
}

fn planned(forecasts: Vec<SlotForecast>, open: &[WorkOrder]) -> Vec<SlotForecast> {
    let mut fleet = fleet();
    fleet.devices = open
        .iter()
        .map(|order| Device {
            device: order.device.clone(),
            tenant: "acme".parse().unwrap(),
            model: "m".parse().unwrap(),
            depot: order.depot.clone(),
            serial: None,
            site: None,
            contract: Some(ContractId::parse("gold").unwrap()),
            installed_at: None,
            observed_from: None,
            observed_until: None,
            moves_to: None,
            moves_at: None,
        })
        .collect();
    plan_replacements(forecasts, &fleet, open, AS_OF.parse().unwrap())
}

/// The depot decides for the next 3 days.
#[test]
fn it_is_certain_in_windows_that_hold_its_date_and_nothing_before() {
    for (days, expected) in [(-4.0, 1.0), (0.0, 1.0), (2.0, 1.0), (3.0, 1.0), (3.1, 0.0), (40.0, 0.0)] {
        let forecasts = planned(vec![slot("d1", "north", 0.3)], &[work_order("d1", days, (1, 0))]);
        let [planned] = forecasts.as_slice() else { panic!("{forecasts:?}") };
        assert_eq!(planned.survival.window_probability(0.0, 3.0), expected, "due in {days} days");
        assert_eq!((planned.quantity, planned.contract.is_some(), &planned.prediction_id), (1, true, &None));
    }
    let later = SurvivalCurve::certain_at(3.0);
    assert_eq!([later.window_probability(2.5, 9.0), later.window_probability(4.0, 9.0)], [1.0, 0.0]);
}

/// However far forecasts may be out together, a plan is none of them. By hand: all of the mass lies on one piece.
#[test]
fn a_certain_demand_shares_no_error_of_forecasts() {
    let law = common_factor(&[Trial::one(1.0)], 0.2).unwrap();
    close(law.mean(), 1.0);
    assert_eq!(law.quantile(0.999), 1);
    assert_eq!(law.quantile(1e-9), 1);
}

#[test]
fn a_piece_is_brought_for_it_and_the_order_names_it() {
    let forecasts = planned(vec![slot("d1", "north", 0.001)], &[work_order("d1", 2.0, (1, 0))]);
    let plan = plan_of(&fleet(), &forecasts, &[stock("hub", 5)]);
    let [transfer] = plan.transfers.as_slice() else { panic!("{:?}", plan.transfers) };
    assert_eq!((transfer.to.as_str(), transfer.quantity), ("north", 1));
    let [reason] = transfer.reasons.as_slice() else { panic!("{:?}", transfer.reasons) };
    assert_eq!((reason.work_order_id.as_deref(), reason.probability.get()), (Some("wko_d1"), 1.0));
    // Without pieces anywhere just the one is bought.
    let plan = plan_of(&fleet(), &forecasts, &[]);
    let [purchase] = plan.purchases.as_slice() else { panic!("{:?}", plan.purchases) };
    assert_eq!(purchase.quantity, 1);
    assert_eq!(purchase.reasons[0].work_order_id.as_deref(), Some("wko_d1"));
}

/// However far off its date is, the piece that is kept for it is neither doubled nor sent to where another device may fail.
#[test]
fn one_replacement_and_one_piece_on_the_shelf_order_nothing_and_move_nothing() {
    for at in ["north", "hub"] {
        for days in [-1.0, 2.0, 10.0, 100.0] {
            let order = WorkOrder { depot: depot_id(at), ..work_order("d1", days, (1, 1)) };
            let kept = StockPosition { reserved: 1, ..stock(at, 1) };
            let forecasts = planned(vec![slot("d1", at, 0.6)], &[order]);
            let plan = plan_of(&fleet(), &forecasts, &[kept]);
            assert_eq!((plan.transfers, plan.purchases), (Vec::new(), Vec::new()), "{at}, due in {days} days");
        }
    }
    let forecasts = planned(vec![slot("d1", "north", 0.6), slot("d2", "south", 0.6)], &[work_order("d1", 2.0, (1, 1))]);
    let lanes = |fleet: &mut Fleet| fleet.lanes.extend([lane("north", "south", 1.0), lane("south", "north", 1.0)]);
    let mut near = fleet();
    lanes(&mut near);
    let here = |reserved| plan_of(&near, &forecasts, &[StockPosition { reserved, ..stock("north", 1) }]).transfers;
    assert_eq!(here(1), []);
    assert_eq!(here(0).len(), 1, "a piece that is not kept goes where it is needed");
}

/// Another device may fail before: the piece that is kept is not counted as its.
#[test]
fn what_is_kept_serves_no_other_device() {
    let open = [work_order("d1", 30.0, (2, 1))];
    let forecasts = planned(vec![slot("d1", "north", 0.5), slot("d2", "north", 0.6)], &open);
    assert_eq!(forecasts.iter().map(|slot| slot.quantity).collect::<Vec<_>>(), [1, 1]);
    let positions = [stock("hub", 5), StockPosition { reserved: 1, ..stock("north", 1) }];
    let plan = plan_of(&fleet(), &forecasts, &positions);
    let [transfer] = plan.transfers.as_slice() else { panic!("{:?}", plan.transfers) };
    assert_eq!((transfer.quantity, transfer.reasons[0].device.as_str()), (1, "d2"));
}
