//! Moves between depots and back, lanes that must pay, money that is short, and what the plan says of each.

use super::*;

/// The network of `fleet` with lanes between north and south, and from south back to the hub.
fn with_laterals() -> Fleet {
    let mut fleet = fleet();
    fleet.lanes.extend([lane("north", "south", 1.0), lane("south", "north", 1.0), lane("south", "hub", 4.0)]);
    fleet
}

/// Kind, from, to and quantity of each transfer.
fn moves_of(plan: &Plan) -> Vec<(TransferKind, &str, &str, u32)> {
    plan.transfers.iter().map(|one| (one.kind, one.from.as_str(), one.to.as_str(), one.quantity)).collect()
}

/// The hub is empty; south has a piece that nobody there is likely to need.
#[test]
fn a_depot_next_door_helps_where_the_hub_cannot() {
    let forecasts = [slot("d1", "north", 0.9), slot("d2", "south", 0.001)];
    let plan = plan_of(&with_laterals(), &forecasts, &[stock("south", 1)]);
    assert_eq!(moves_of(&plan), [(TransferKind::Lateral, "south", "north", 1)]);
    let transfer = &plan.transfers[0];
    close(transfer.cost, 10.0);
    close(transfer.cost_if_not - transfer.cost_if_sent, transfer.worth);
    assert!(transfer.worth > 2_000.0, "{transfer:?}");
    let cell = |at: &str| plan.cells.iter().find(|cell| cell.depot.as_str() == at).unwrap();
    assert_eq!((cell("south").taken, cell("south").sent), (1, 0));
    assert_eq!((cell("north").taken, cell("north").sent, cell("north").verdict), (0, 1, Verdict::Enough));
    // With a piece at the hub south keeps its own.
    let plan = plan_of(&with_laterals(), &forecasts, &[stock("south", 1), stock("hub", 1)]);
    assert_eq!(moves_of(&plan), [(TransferKind::Forward, "hub", "north", 1)]);
}

/// What has just come, is owed or approved to leave stays; and so it does where no lane leads.
#[test]
fn pieces_that_cannot_leave_stay() {
    let forecasts = [slot("d1", "north", 0.9)];
    let as_of: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let of = |position: StockPosition| plan_of(&with_laterals(), &forecasts, &[position]).transfers.len();
    let here = stock("south", 1);
    assert_eq!(of(here.clone()), 1);
    assert_eq!(of(StockPosition { last_received: Some(as_of - Duration::from_days(13)), ..here.clone() }), 0);
    assert_eq!(of(StockPosition { last_received: Some(as_of - Duration::from_days(14)), ..here.clone() }), 1);
    assert_eq!(of(StockPosition { reserved: 1, ..here.clone() }), 0);
    assert_eq!(of(StockPosition { backorders: 1, ..here.clone() }), 0);
    assert_eq!(of(StockPosition { on_hand: 0, in_transit: 1, ..here.clone() }), 0);
    let plan = plan_of(&fleet(), &forecasts, &[here]);
    assert_eq!(plan.transfers, []);
    let north = plan.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap();
    assert_eq!((north.verdict, north.target), (Verdict::NothingToSend, 1));
    assert!(north.worth_of_next > 0.0);
}

/// A move between depots must gain twice the way there and back: 40 here.
#[test]
fn pieces_do_not_shuttle_for_little() {
    let with = |p: f64, price: f64| {
        let mut fleet = with_laterals();
        fleet.lanes.iter_mut().for_each(|lane| lane.cost_per_piece = Some(price));
        let forecasts = [slot("d1", "north", p), slot("d2", "south", 0.02)];
        plan_of(&fleet, &forecasts, &[stock("south", 1)]).transfers.len()
    };
    // 3,210 a shortage there, 4,810 here: 0.03 of a piece is worth no move, 0.2 is.
    assert_eq!((with(0.03, 10.0), with(0.2, 10.0), with(0.2, 200.0)), (0, 1, 0));
}

/// South holds five dear pieces that a hundred years would not use; the hub's devices take one a fortnight.
#[test]
fn what_lies_too_long_goes_back() {
    let mut fleet = with_laterals();
    fleet.parts[1].unit_cost = 20_000.0;
    let options = options();
    let as_of: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let taken = |days: i64| Consumption {
        ts: as_of - Duration::from_days(days),
        part: part_id("fan"),
        depot: depot_id("hub"),
        quantity: 1.0,
    };
    let consumption: Vec<Consumption> = (0..360).step_by(15).map(taken).collect();
    let with = |south: f64, fleet: &Fleet| {
        let quiet = SlotForecast { survival: SurvivalCurve::exponential(south).unwrap(), ..slot("d2", "south", 0.0) };
        let positions = [stock("south", 5), stock("hub", 0)];
        plan(&PlanInput {
            as_of,
            fleet,
            forecasts: &[quiet],
            positions: &positions,
            consumption: &consumption,
            options: &options,
        })
    };
    let plan = with(1.0 / 36_500.0, &fleet);
    let back = plan.transfers.iter().find(|one| one.kind == TransferKind::Return).unwrap();
    assert_eq!((back.from.as_str(), back.to.as_str(), back.quantity), ("south", "hub", 5));
    close(back.cost_if_not - back.cost_if_sent, back.worth);
    close(back.cost, 50.0);
    // Nobody waits for them: they go when the lane back pays.
    let back_lane = fleet.lanes.iter().position(|lane| lane.to.as_str() == "hub" && lane.from.as_str() == "south");
    let mut dear = fleet.clone();
    dear.lanes[back_lane.unwrap()].fixed_cost = Some(back.worth + 1.0);
    assert_eq!(with(1.0 / 36_500.0, &dear).transfers, []);
    dear.lanes[back_lane.unwrap()].fixed_cost = Some(back.worth - 1.0);
    assert_eq!(with(1.0 / 36_500.0, &dear).transfers, plan.transfers);
    let returned = |plan: &Plan| -> u32 {
        plan.transfers.iter().filter(|one| one.kind == TransferKind::Return).map(|one| one.quantity).sum()
    };
    // One a month is taken: the first pieces are worth their place, those behind them are not.
    assert!((1..5).contains(&returned(&with(1.0 / 30.0, &fleet))));
    // No piece of a cheap part is worth the way, but for the two that the hub's own devices may take.
    fleet.parts[1].unit_cost = 20.0;
    assert_eq!(returned(&with(1.0 / 36_500.0, &fleet)), 2);
}

/// A shipment of 3,000 waits for what saves 2,000 and may come tomorrow, and goes for what is owed or worth more.
#[test]
fn a_lane_with_a_fixed_cost_must_pay() {
    let mut fleet = fleet();
    let with = |fleet: &Fleet, p: f64, owed: i64| {
        let late = SlotForecast {
            survival: SurvivalCurve::from_survival(&[2.0, 4.0, 31.0], &[1.0, 1.0 - p, 1.0 - p]).unwrap(),
            ..slot("d1", "north", p)
        };
        let position = StockPosition { backorders: owed, ..stock("north", 0) };
        plan_of(fleet, &[late], &[stock("hub", 5), position])
    };
    assert_eq!(with(&fleet, 0.6, 0).transfers.len(), 1);
    fleet.lanes[0].fixed_cost = Some(1e6);
    // All of the risk is still there tomorrow: a day's wait loses nothing, and the lane is not paid twice.
    let waits = with(&fleet, 0.6, 0);
    assert_eq!(waits.transfers.len(), 1, "a wait would lose nothing of the lane's cost either");
    let soon = plan_of(&fleet, &[slot("d1", "north", 0.6)], &[stock("hub", 5)]);
    let north = soon.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap();
    assert_eq!(soon.transfers, []);
    assert_eq!((north.verdict, north.sent), (Verdict::ShipmentWaits, 0));
    close(north.worth_of_next, CellCost { holding: 20.25, shortage: 3210.0 }.gain_at(0.4));
    let hub = soon.cells.iter().find(|cell| cell.depot.as_str() == "hub").unwrap();
    assert_eq!((hub.position, hub.taken), (5, 0), "what waits lies at the hub still");
    close(
        north.expected_cost,
        CellCost { holding: 20.25, shortage: 3210.0 }.of_position(&poisson_binomial(&[Trial::one(0.6)]).unwrap(), 0),
    );
    assert_eq!(with(&fleet, 0.6, 1).transfers.len(), 1, "somebody waits for it");
}

/// Where money is short it buys what saves most for it, in whole packs, and never more than that.
#[test]
fn purchases_keep_to_their_budget() {
    let mut fleet = fleet();
    fleet.parts[0].unit_cost = 1_000.0;
    fleet.parts[1].pack_size = Some(2);
    let mut forecasts = Vec::new();
    for n in 0..6 {
        forecasts.push(slot(&format!("f{n}"), "north", 0.5));
        let disk = SlotForecast { part: part_id("disk"), ..slot(&format!("d{n}"), "south", 0.5) };
        forecasts.push(disk);
    }
    let with = |budget: Option<f64>| {
        let options = PlanOptions { purchase_budget: budget, ..options() };
        let as_of = "2026-03-01T00:00:00Z".parse().unwrap();
        plan(&PlanInput {
            as_of,
            fleet: &fleet,
            forecasts: &forecasts,
            positions: &[],
            consumption: &[],
            options: &options,
        })
    };
    let spent = |plan: &Plan| plan.purchases.iter().map(|one| one.cost).sum::<f64>();
    let all = with(None);
    assert_eq!(all.purchases.len(), 2);
    let mut least = 0.0;
    for budget in [0.0, 500.0, 1_500.0, 4_000.0, spent(&all), 1e9] {
        let plan = with(Some(budget));
        assert!(spent(&plan) <= budget, "{} of {budget}", spent(&plan));
        assert!(spent(&plan) >= least, "more money buys no less");
        least = spent(&plan);
        let fans = plan.purchases.iter().find(|one| one.part.as_str() == "fan");
        assert!(fans.is_none_or(|one| one.quantity % 2 == 0));
    }
    assert_eq!(with(Some(spent(&all))), all);
    assert_eq!(with(Some(800.0)).purchases[0].part.as_str(), "fan", "cheaper and as urgent");
}

/// The plan names where else a piece would have gone, and says so of the depot that got none.
#[test]
fn what_is_short_is_told_with_its_second_best_use() {
    let forecasts = [slot("d1", "north", 0.6), slot("d2", "south", 0.6)];
    let plan = plan_of(&fleet(), &forecasts, &[stock("hub", 1)]);
    let second = plan.transfers[0].second_best.as_ref().unwrap();
    assert_eq!((plan.transfers[0].to.as_str(), second.to.as_str()), ("south", "north"));
    assert!(second.worth > 0.0 && second.worth < plan.transfers[0].worth);
    let north = plan.cells.iter().find(|cell| cell.depot.as_str() == "north").unwrap();
    assert_eq!(north.verdict, Verdict::WorthMoreElsewhere);
    close(north.worth_of_next, second.worth);
    let plenty = plan_of(&fleet(), &forecasts, &[stock("hub", 9)]);
    assert!(plenty.transfers.iter().all(|one| one.second_best.is_none()), "{:?}", plenty.transfers);
}

/// Two pieces for alerts of 0.6 and 0.3 at north and one at south: of what has no room the least worth stays.
#[test]
fn full_shipments_and_depots_take_what_is_worth_most() {
    let forecasts = [slot("d1", "north", 0.6), slot("d2", "north", 0.5), slot("d3", "south", 0.6)];
    let with = |lane: Option<u32>, depot: Option<u32>, stocked: i64| {
        let mut fleet = fleet();
        fleet.lanes[0].capacity = lane;
        fleet.depots[1].capacity = depot;
        plan_of(&fleet, &forecasts, &[stock("hub", 9), stock("north", stocked)])
    };
    let free = with(None, None, 0);
    assert_eq!(
        moves_of(&free),
        [(TransferKind::Forward, "hub", "north", 2), (TransferKind::Forward, "hub", "south", 1)]
    );
    let quantity = |plan: &Plan| {
        plan.transfers.iter().filter(|one| one.to.as_str() == "north").map(|one| one.quantity).sum::<u32>()
    };
    for (plan, left) in [
        (with(Some(1), None, 0), 1),
        (with(None, Some(1), 0), 1),
        (with(None, Some(0), 0), 0),
        (with(None, Some(1), 1), 0),
    ] {
        assert_eq!(quantity(&plan), left);
        assert_eq!(plan.transfers.iter().filter(|one| one.to.as_str() == "south").count(), 1);
        let cell = |at: &str| plan.cells.iter().find(|cell| cell.depot.as_str() == at).unwrap();
        assert_eq!((cell("north").sent, cell("north").verdict), (left, Verdict::NoRoom));
        assert_eq!(cell("hub").taken, left + 1);
        let transport: f64 = plan.transfers.iter().map(|one| one.cost).sum();
        close(transport, 10.0 * f64::from(left + 1));
        for one in plan.transfers.iter().filter(|one| one.to.as_str() == "north") {
            close(one.cost_if_sent, cell("north").expected_cost);
            close(one.cost_if_not - one.cost_if_sent, one.worth);
        }
    }
    assert_eq!(with(Some(2), Some(2), 0), free, "what fits is as without a bound");
}
