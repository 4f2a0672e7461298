//! Parts that take the place of older ones: who serves whom, in which order, and what is bought.

use super::*;

/// The network of `fleet` with a chain of fans: `fan` is replaced by `fan2` and that by `fan3`, each dearer by 5.
fn with_successors() -> Fleet {
    let mut fleet = fleet();
    fleet.parts[1].successor = Some(part_id("fan2"));
    fleet.parts.push(Part { unit_cost: 370.0, successor: Some(part_id("fan3")), ..part("fan2") });
    fleet.parts.push(Part { unit_cost: 375.0, ..part("fan3") });
    fleet.lanes.extend([lane("north", "south", 1.0), lane("south", "north", 1.0)]);
    fleet
}

fn of(part: &str, position: StockPosition) -> StockPosition {
    StockPosition { part: part_id(part), ..position }
}

/// Part, from, to, quantity and the older part that it serves, of each transfer.
fn moves_of(plan: &Plan) -> Vec<(&str, &str, &str, u32, Option<&str>)> {
    plan.transfers
        .iter()
        .map(|one| {
            let older = one.substitutes_for.as_ref().map(PartId::as_str);
            (one.part.as_str(), one.from.as_str(), one.to.as_str(), one.quantity, older)
        })
        .collect()
}

fn cell<'p>(plan: &'p Plan, part: &str, depot: &str) -> &'p CellReport {
    let is = |cell: &&CellReport| cell.part.as_str() == part && cell.depot.as_str() == depot;
    plan.cells.iter().find(is).unwrap_or_else(|| panic!("{part} at {depot} is not in {:?}", plan.cells))
}

#[test]
fn a_newer_part_serves_where_the_older_is_gone_and_the_older_is_used_first() {
    let alert = [slot("d1", "north", 0.6)];
    let newer = plan_of(&with_successors(), &alert, &[of("fan3", stock("hub", 2))]);
    assert_eq!(moves_of(&newer), [("fan3", "hub", "north", 1, Some("fan"))]);
    let transfer = &newer.transfers[0];
    assert_eq!(transfer.reasons[0].device.as_str(), "d1");
    let demand = poisson_binomial(&[Trial::one(0.6)]).unwrap();
    close(transfer.worth, CellCost { holding: 20.25, shortage: 3210.0 }.gain_of_next(&demand, 0));
    let (older, shelf) = (cell(&newer, "fan", "north"), cell(&newer, "fan3", "north"));
    assert_eq!((older.sent, older.substituted, older.verdict), (0, 1, Verdict::Enough));
    assert_eq!((shelf.sent, shelf.substitutes), (1, 1));
    assert_eq!(cell(&newer, "fan3", "hub").taken, 1);
    close(older.expected_cost, transfer.cost_if_sent);
    let both = [stock("hub", 1), of("fan2", stock("hub", 1)), of("fan3", stock("hub", 1))];
    assert_eq!(moves_of(&plan_of(&with_successors(), &alert, &both)), [("fan", "hub", "north", 1, None)]);
    assert_eq!(moves_of(&plan_of(&with_successors(), &alert, &both[1..])), [("fan2", "hub", "north", 1, Some("fan"))]);
    // Of equals, too.
    let mut as_dear = with_successors();
    as_dear.parts.iter_mut().for_each(|part| part.unit_cost = 365.0);
    assert_eq!(moves_of(&plan_of(&as_dear, &alert, &both)), [("fan", "hub", "north", 1, None)]);
}

#[test]
fn an_older_part_never_serves_in_place_of_a_newer() {
    let alert = [SlotForecast { part: part_id("fan3"), ..slot("d1", "north", 0.9) }];
    let plan = plan_of(&with_successors(), &alert, &[stock("hub", 5), of("fan2", stock("north", 5))]);
    assert!(plan.transfers.iter().all(|one| one.to.as_str() == "hub"), "{:?}", plan.transfers);
    assert_eq!(cell(&plan, "fan3", "north").verdict, Verdict::NothingToSend);
    let [purchase] = plan.purchases.as_slice() else { panic!("{:?}", plan.purchases) };
    assert_eq!(
        (purchase.part.as_str(), purchase.system_position),
        ("fan3", 0),
        "older pieces serve none of its devices"
    );
}

/// What has just come stays, and serves the older part where it lies; it is taken from next door where nothing is nearer.
#[test]
fn a_piece_on_the_shelf_serves_the_older_part_without_a_move() {
    let as_of: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let alert = [slot("d1", "north", 0.9)];
    let fresh = StockPosition { last_received: Some(as_of), ..of("fan2", stock("north", 1)) };
    let on_the_way = StockPosition { on_hand: 0, in_transit: 1, ..of("fan2", stock("north", 0)) };
    for position in [fresh, on_the_way, of("fan2", stock("north", 1))] {
        let plan = plan_of(&with_successors(), &alert, &[position.clone(), of("fan3", stock("hub", 3))]);
        assert_eq!(moves_of(&plan), [], "{position:?}");
        assert_eq!((cell(&plan, "fan", "north").substituted, cell(&plan, "fan2", "north").substitutes), (1, 1));
    }
    let next_door = plan_of(&with_successors(), &alert, &[of("fan2", stock("south", 1))]);
    assert_eq!(moves_of(&next_door), [("fan2", "south", "north", 1, Some("fan"))]);
    // Its own devices come first where they need it as much.
    let own = [slot("d1", "north", 0.5), SlotForecast { part: part_id("fan2"), ..slot("d2", "north", 0.9) }];
    let plan = plan_of(&with_successors(), &own, &[of("fan2", stock("north", 1))]);
    assert_eq!((cell(&plan, "fan", "north").substituted, cell(&plan, "fan2", "north").substitutes), (0, 0));
}

#[test]
fn what_older_parts_lack_is_bought_of_the_newest() {
    let alerts = [slot("d1", "north", 0.9), slot("d2", "north", 0.9), slot("d3", "north", 0.9)];
    let bought = |positions: &[StockPosition]| {
        let plan = plan_of(&with_successors(), &alerts, positions);
        plan.purchases.iter().map(|one| (one.part.to_string(), one.quantity)).collect::<Vec<_>>()
    };
    let alone = {
        let mut fleet = with_successors();
        fleet.parts[1].successor = None;
        plan_of(&fleet, &alerts, &[]).purchases[0].quantity
    };
    assert!(alone >= 3);
    assert_eq!(bought(&[]), [("fan3".to_owned(), alone)]);
    assert_eq!(bought(&[stock("hub", 1)]), [("fan3".to_owned(), alone - 1)]);
    assert_eq!(bought(&[of("fan2", stock("hub", 1)), of("fan3", stock("hub", 1))]), [("fan3".to_owned(), alone - 2)]);
    assert_eq!(bought(&[stock("hub", 99)]), []);
    // Old pieces beyond what old devices want do not stand in for new ones.
    let newer = SlotForecast { part: part_id("fan3"), ..slot("d4", "north", 0.9) };
    let plan = plan_of(&with_successors(), &[alerts.as_slice(), &[newer]].concat(), &[stock("hub", 99)]);
    let [purchase] = plan.purchases.as_slice() else { panic!("{:?}", plan.purchases) };
    assert_eq!(purchase.part.as_str(), "fan3");
    assert!(i64::from(purchase.demand_quantile + purchase.spatial_reserve) > purchase.system_position, "{purchase:?}");
}

/// A shipment that waits gives back what it would have served.
#[test]
fn a_substitute_that_waits_serves_nobody() {
    let mut fleet = with_successors();
    fleet.lanes[0].fixed_cost = Some(1e6);
    let plan = plan_of(&fleet, &[slot("d1", "north", 0.6)], &[of("fan3", stock("hub", 2))]);
    assert_eq!(moves_of(&plan), []);
    let older = cell(&plan, "fan", "north");
    assert_eq!((older.substituted, older.verdict), (0, Verdict::ShipmentWaits));
    let (shelf, hub) = (cell(&plan, "fan3", "north"), cell(&plan, "fan3", "hub"));
    assert_eq!((shelf.sent, shelf.substitutes, hub.taken), (0, 0, 0));
}

#[test]
fn chains_that_lead_nowhere_or_round_are_told_and_planned_without() {
    let mut fleet = with_successors();
    fleet.parts[3].successor = Some(part_id("fan2"));
    fleet.parts[0].successor = Some(part_id("unheard-of"));
    let plan =
        plan_of(&fleet, &[slot("d1", "north", 0.6)], &[of("fan2", stock("hub", 1)), of("fan3", stock("hub", 1))]);
    let told: Vec<(&str, u64, &str)> =
        plan.data_quality.rejected.iter().map(|r| (r.cause.as_str(), r.count, r.example.as_str())).collect();
    let expected = [
        ("its successor is not known, planned without it", 1, "disk"),
        ("its successors lead round in a circle, planned without them", 2, "fan2"),
    ];
    assert_eq!(told, expected);
    // What leads into the circle still knows its own successor.
    assert_eq!(moves_of(&plan), [("fan2", "hub", "north", 1, Some("fan"))]);
}

/// Demand until a late piece arrives is a mixture of laws: with lengths of 1.0, 1.9 and 3.5 days and a review of one, a failure
/// that is certain to come on day 3.5 counts where the way is longest.
#[test]
fn a_lane_that_is_late_at_times_is_planned_for_by_all_its_lengths() {
    let mut fleet = fleet();
    let on_day = |day: f64| SlotForecast {
        survival: SurvivalCurve::from_survival(&[day - 1e-6, day, 60.0], &[1.0, 1e-12, 1e-12]).unwrap(),
        ..slot("d1", "north", 1.0)
    };
    let north = |fleet: &Fleet, day: f64| cell(&plan_of(fleet, &[on_day(day)], &[]), "fan", "north").demand_mean;
    assert!(north(&fleet, 3.5) < 1e-9);
    fleet.lanes[0].days_p95 = Some(3.4);
    assert!((north(&fleet, 3.5) - 1.0 / 6.0).abs() < 1e-9, "{}", north(&fleet, 3.5));
    assert!((north(&fleet, 2.5) - 5.0 / 6.0).abs() < 1e-9, "{}", north(&fleet, 2.5));
    assert!((north(&fleet, 1.9) - 1.0).abs() < 1e-9);
    fleet.lanes[0].days_p95 = Some(1.0);
    let plan = plan_of(&fleet, &[on_day(2.5)], &[]);
    assert_eq!(plan.data_quality.rejected[0].cause, "95 % of its days is below their mean, planned by the mean");
    assert!((cell(&plan, "fan", "north").demand_mean - 1.0).abs() < 1e-9);
}
