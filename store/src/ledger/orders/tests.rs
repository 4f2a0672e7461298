//! Orders: proposals, steps and their stock, uses; and random walks that conserve every piece.

use harbinger_core::{TimeRange, fleet::StockLevel};
use proptest::prelude::*;

use super::*;
use crate::ledger::fixture::{self, Fresh, on_both_engines};
use crate::{
    Ledger,
    ledger::stock::{self, Booked},
};

on_both_engines!(
    of_many_who_ship_at_once_one_does,
    a_transfer_moves_its_pieces_from_shelf_to_shelf,
    a_purchase_comes_from_the_supplier_and_may_come_short,
    a_step_out_of_order_is_refused_with_the_state,
    a_new_plan_keeps_what_it_wants_still_and_cancels_the_rest,
    a_replacement_takes_the_oldest_piece_and_names_the_transfer_that_brought_it,
    an_import_keeps_what_our_orders_have_on_the_way,
    picked_pieces_stay_on_the_shelf_until_they_ship_or_are_called_off,
    an_order_comes_in_parts_each_booked_once,
    the_last_part_ends_the_order,
    an_order_that_does_not_come_is_told_of_once,
    of_many_who_receive_a_part_at_once_each_is_booked_once,
);

const DAY: i64 = 86_400_000;

fn at(day: i64) -> Timestamp {
    Timestamp::from_millis(day * DAY)
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn part() -> PartId {
    PartId::parse("fan").unwrap()
}

fn depot(name: &str) -> DepotId {
    DepotId::parse(name).unwrap()
}

fn reason(device: &str) -> Reason {
    Reason {
        device: DeviceId::parse(device).unwrap(),
        component: ComponentId::parse("fan1").unwrap(),
        probability: Probability::saturating(0.7),
        prediction_id: Some(format!("prd-{device}")),
    }
}

fn transfer(to: &str, quantity: u32) -> NewOrder {
    NewOrder {
        part: part(),
        from: Some(depot("hub")),
        to: depot(to),
        quantity,
        worth: 90.0,
        cost: 8.0,
        reasons: vec![reason("d1")],
    }
}

fn purchase(quantity: u32) -> NewOrder {
    NewOrder { from: None, ..transfer("hub", quantity) }
}

fn part_use(day: i64, device: &str, quantity: u32) -> PartUse {
    PartUse {
        ts: at(day),
        device: DeviceId::parse(device).unwrap(),
        component: ComponentId::parse("fan1").unwrap(),
        part: part(),
        depot: depot("north"),
        quantity,
        predicted: false,
    }
}

/// A receipt of so many pieces.
fn of(quantity: u32) -> Receipt<'static> {
    Receipt { quantity: Some(quantity), ..Receipt::default() }
}

/// The same where the rest follows.
fn part_of(quantity: u32) -> Receipt<'static> {
    Receipt { rest_follows: true, ..of(quantity) }
}

/// An approved order.
async fn approved(tx: &mut Connection, wanted: NewOrder) -> Order {
    let made = propose(tx, &tenant(), "pln", at(1), &[wanted]).await.unwrap().added.remove(0);
    approve(tx, &tenant(), made.kind, &made.order_id, "me", at(1)).await.unwrap()
}

/// A hub of `pieces`, a lane of 2.5 days to `north`, and a supplier of 14 days.
async fn stock_hub(ledger: &Ledger, pieces: u32) {
    let mut tx = ledger.write().await.unwrap();
    let level = StockLevel { part: part(), depot: depot("hub"), on_hand: pieces, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(0), &[level], "imp").await.unwrap();
    for sql in [
        "INSERT INTO lanes (tenant, from_depot, to_depot, days) VALUES ('acme', 'hub', 'north', 2.5)",
        "INSERT INTO parts (tenant, part, unit_cost, supplier_lead_days, repairable) VALUES ('acme', 'fan', 9, 14, 0)",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn on_shelf(connection: &mut Connection, name: &str) -> (u32, u32) {
    let level = stock::level(connection, &tenant(), &part(), &depot(name)).await.unwrap();
    (level.on_hand, level.in_transit)
}

async fn a_transfer_moves_its_pieces_from_shelf_to_shelf(ledger: Ledger) {
    stock_hub(&ledger, 3).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Transfer;
    let proposed = propose(&mut tx, &tenant(), "pln_1", at(1), &[transfer("north", 2)]).await.unwrap();
    let id = proposed.added[0].order_id.clone();
    assert!(id.starts_with("trf_"));
    let approved = approve(&mut tx, &tenant(), kind, &id, "policy", at(1)).await.unwrap();
    assert_eq!((approved.state, approved.approved_by.as_deref()), (OrderState::Approved, Some("policy")));
    let planned = positions(&mut tx, &tenant()).await.unwrap();
    assert_eq!(planned[&(part(), depot("hub"))].reserved, 2);
    assert_eq!(planned[&(part(), depot("north"))].on_order, 2);
    let shipped = ship(&mut tx, &tenant(), kind, &id, at(2)).await.unwrap();
    assert_eq!(shipped.due_at, Some(Timestamp::from_millis(4 * DAY + DAY / 2)));
    assert_eq!((on_shelf(&mut tx, "hub").await, on_shelf(&mut tx, "north").await), ((1, 0), (0, 2)));
    assert_eq!(shipped.overdue_told_at, None);
    let (_, received) = receive(&mut tx, &tenant(), kind, &id, Receipt::default(), at(5)).await.unwrap();
    assert_eq!((received.state, received.received_quantity), (OrderState::Received, Some(2)));
    assert_eq!((on_shelf(&mut tx, "hub").await, on_shelf(&mut tx, "north").await), ((1, 0), (2, 0)));
    assert_eq!(get(&mut tx, &tenant(), kind, &id).await.unwrap(), received);
    assert_eq!(received.reasons, [reason("d1")]);
    let here = (part(), depot("north"));
    assert_eq!(received_since(&mut tx, &tenant(), at(5)).await.unwrap(), [(here, at(5))].into());
    assert!(received_since(&mut tx, &tenant(), at(6)).await.unwrap().is_empty());
}

async fn a_purchase_comes_from_the_supplier_and_may_come_short(ledger: Ledger) {
    stock_hub(&ledger, 0).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Purchase;
    let proposed = propose(&mut tx, &tenant(), "pln_1", at(1), &[purchase(6)]).await.unwrap();
    let id = proposed.added[0].order_id.clone();
    approve(&mut tx, &tenant(), kind, &id, "me", at(1)).await.unwrap();
    assert_eq!(ship(&mut tx, &tenant(), kind, &id, at(1)).await.unwrap().due_at, Some(at(15)));
    assert_eq!(on_shelf(&mut tx, "hub").await, (0, 6));
    let too_many = receive(&mut tx, &tenant(), kind, &id, of(7), at(15)).await;
    assert!(matches!(too_many, Err(Error::Conflict { .. })), "{too_many:?}");
    let (_, received) = receive(&mut tx, &tenant(), kind, &id, of(5), at(15)).await.unwrap();
    assert_eq!((received.quantity, received.received_quantity), (6, Some(5)));
    assert_eq!(on_shelf(&mut tx, "hub").await, (5, 0));
}

async fn a_step_out_of_order_is_refused_with_the_state(ledger: Ledger) {
    stock_hub(&ledger, 1).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Transfer;
    let proposed = propose(&mut tx, &tenant(), "pln_1", at(1), &[transfer("north", 2)]).await.unwrap();
    let id = proposed.added[0].order_id.clone();
    let refused = ship(&mut tx, &tenant(), kind, &id, at(1)).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("transfer {id:?} is proposed, so it cannot be shipped"));
    approve(&mut tx, &tenant(), kind, &id, "me", at(1)).await.unwrap();
    // The hub has one piece: the refused step leaves nothing behind though the transaction goes on.
    assert!(matches!(ship(&mut tx, &tenant(), kind, &id, at(1)).await, Err(Error::Conflict { .. })));
    assert_eq!(get(&mut tx, &tenant(), kind, &id).await.unwrap().state, OrderState::Approved);
    assert_eq!((on_shelf(&mut tx, "hub").await, on_shelf(&mut tx, "north").await), ((1, 0), (0, 0)));
    assert!(matches!(approve(&mut tx, &tenant(), kind, &id, "me", at(1)).await, Err(Error::WrongState { .. })));
    cancel(&mut tx, &tenant(), kind, &id, at(2)).await.unwrap();
    assert!(matches!(cancel(&mut tx, &tenant(), kind, &id, at(2)).await, Err(Error::WrongState { .. })));
    let other = TenantId::parse("other").unwrap();
    assert!(matches!(get(&mut tx, &other, kind, &id).await, Err(Error::NotFound { .. })));
    assert!(matches!(cancel(&mut tx, &other, kind, &id, at(2)).await, Err(Error::NotFound { .. })));
}

async fn a_new_plan_keeps_what_it_wants_still_and_cancels_the_rest(ledger: Ledger) {
    stock_hub(&ledger, 9).await;
    let mut tx = ledger.write().await.unwrap();
    let first = propose(
        &mut tx,
        &tenant(),
        "pln_1",
        at(1),
        &[transfer("north", 2), transfer("south", 1), transfer("east", 0), purchase(4)],
    )
    .await
    .unwrap();
    assert_eq!((first.added.len(), first.kept.len(), first.cancelled.len()), (3, 0, 0));
    let worthier = NewOrder { worth: 120.0, reasons: vec![reason("d2")], ..transfer("north", 2) };
    let second =
        propose(&mut tx, &tenant(), "pln_2", at(2), &[worthier, transfer("south", 2), purchase(4)]).await.unwrap();
    let ids = |orders: &[Order]| orders.iter().map(|o| o.order_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&second.kept), [first.added[0].order_id.clone(), first.added[2].order_id.clone()]);
    assert_eq!(ids(&second.cancelled), [first.added[1].order_id.clone()]);
    let kept = get(&mut tx, &tenant(), OrderKind::Transfer, &first.added[0].order_id).await.unwrap();
    assert_eq!(kept, second.kept[0]);
    assert_eq!((kept.plan_id.as_str(), kept.worth, kept.proposed_at), ("pln_2", 120.0, at(1)));
    // Approved orders are no proposals any more: a plan that wants nothing leaves them.
    approve(&mut tx, &tenant(), OrderKind::Transfer, &kept.order_id, "me", at(3)).await.unwrap();
    let third = propose(&mut tx, &tenant(), "pln_3", at(3), &[]).await.unwrap();
    assert_eq!(third.cancelled.len(), 2);
    let all = |states: &[OrderState]| OrderFilter { states: states.to_vec(), ..OrderFilter::default() };
    let newest = Sequence::NewestFirst;
    let left =
        list(&mut tx, &tenant(), OrderKind::Transfer, &all(&[OrderState::Approved]), newest, None, 9).await.unwrap();
    assert_eq!(ids(&left), [kept.order_id]);
    let page = list(&mut tx, &tenant(), OrderKind::Transfer, &all(&[]), newest, None, 2).await.unwrap();
    let rest =
        list(&mut tx, &tenant(), OrderKind::Transfer, &all(&[]), newest, Some(&page[1].order_id), 9).await.unwrap();
    assert_eq!((page.len(), rest.len()), (2, 1));
    assert!(page[0].order_id > page[1].order_id && page[1].order_id > rest[0].order_id);
}

async fn a_replacement_takes_the_oldest_piece_and_names_the_transfer_that_brought_it(ledger: Ledger) {
    stock_hub(&ledger, 3).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Transfer;
    let mut ids = Vec::new();
    for (day, quantity) in [(1, 1), (2, 2)] {
        let wanted = NewOrder { reasons: vec![reason(&format!("d{day}"))], ..transfer("north", quantity) };
        let id = propose(&mut tx, &tenant(), "pln", at(day), &[wanted]).await.unwrap().added[0].order_id.clone();
        approve(&mut tx, &tenant(), kind, &id, "me", at(day)).await.unwrap();
        ship(&mut tx, &tenant(), kind, &id, at(day)).await.unwrap();
        receive(&mut tx, &tenant(), kind, &id, Receipt::default(), at(day + 3)).await.unwrap();
        ids.push(id);
    }
    let (booked, first) = use_part(&mut tx, &tenant(), &part_use(10, "d1", 1)).await.unwrap();
    assert_eq!((booked, first.from_stock, first.predicted), (Booked::Now, true, true));
    assert_eq!(first.transfer_id.as_deref(), Some(ids[0].as_str()));
    let again = use_part(&mut tx, &tenant(), &part_use(10, "d1", 1)).await.unwrap();
    assert_eq!(again, (Booked::Before, first));
    let (_, second) = use_part(&mut tx, &tenant(), &part_use(11, "d9", 2)).await.unwrap();
    assert_eq!((second.from_stock, second.predicted, second.transfer_id.as_ref()), (true, false, Some(&ids[1])));
    let (_, third) = use_part(&mut tx, &tenant(), &part_use(12, "d1", 1)).await.unwrap();
    assert_eq!((third.from_stock, third.transfer_id), (false, None));
    for (id, consumed) in ids.iter().zip([1, 2]) {
        assert_eq!(get(&mut tx, &tenant(), kind, id).await.unwrap().consumed, consumed);
    }
    let counts = use_counts(&mut tx, &tenant(), TimeRange::ALL).await.unwrap();
    assert_eq!(counts, UseCounts { total: 3, from_stock: 2, predicted: 1, by_transfer: 2 });
    let of_first = UseFilter { transfer_id: Some(ids[0].clone()), ..UseFilter::default() };
    assert_eq!(uses(&mut tx, &tenant(), &of_first, None, 9).await.unwrap().len(), 1);
}

async fn an_import_keeps_what_our_orders_have_on_the_way(ledger: Ledger) {
    stock_hub(&ledger, 3).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Transfer;
    let id =
        propose(&mut tx, &tenant(), "pln", at(1), &[transfer("north", 2)]).await.unwrap().added[0].order_id.clone();
    approve(&mut tx, &tenant(), kind, &id, "me", at(1)).await.unwrap();
    ship(&mut tx, &tenant(), kind, &id, at(1)).await.unwrap();
    let told = StockLevel { part: part(), depot: depot("north"), on_hand: 1, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(2), &[told], "imp-2").await.unwrap();
    assert_eq!(on_shelf(&mut tx, "north").await, (1, 2));
    receive(&mut tx, &tenant(), kind, &id, Receipt::default(), at(3)).await.unwrap();
    assert_eq!(on_shelf(&mut tx, "north").await, (3, 0));
}

async fn picked_pieces_stay_on_the_shelf_until_they_ship_or_are_called_off(ledger: Ledger) {
    stock_hub(&ledger, 3).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Transfer;
    let (kept, dropped) =
        (approved(&mut tx, transfer("north", 2)).await, approved(&mut tx, transfer("south", 1)).await);
    for order in [&kept, &dropped] {
        let picked = pick(&mut tx, &tenant(), kind, &order.order_id, at(2)).await.unwrap();
        assert_eq!((picked.state, picked.picked_at), (OrderState::Picked, Some(at(2))));
    }
    assert_eq!(on_shelf(&mut tx, "hub").await, (3, 0));
    let planned = positions(&mut tx, &tenant()).await.unwrap();
    assert_eq!((planned[&(part(), depot("hub"))].reserved, planned[&(part(), depot("north"))].on_order), (3, 2));
    cancel(&mut tx, &tenant(), kind, &dropped.order_id, at(3)).await.unwrap();
    ship(&mut tx, &tenant(), kind, &kept.order_id, at(3)).await.unwrap();
    assert_eq!((on_shelf(&mut tx, "hub").await, on_shelf(&mut tx, "north").await), ((1, 0), (0, 2)));
    let again = pick(&mut tx, &tenant(), kind, &kept.order_id, at(4)).await.unwrap_err();
    assert_eq!(again.to_string(), format!("transfer {:?} is shipped, so it cannot be picked", kept.order_id));
    let bought = approved(&mut tx, purchase(1)).await;
    let refused = pick(&mut tx, &tenant(), bought.kind, &bought.order_id, at(2)).await.unwrap_err();
    assert!(refused.to_string().contains("its supplier picks it"), "{refused}");
}

async fn an_order_comes_in_parts_each_booked_once(ledger: Ledger) {
    stock_hub(&ledger, 9).await;
    let mut tx = ledger.write().await.unwrap();
    let order = approved(&mut tx, transfer("north", 6)).await;
    let (kind, id) = (order.kind, order.order_id.as_str());
    let early = receive(&mut tx, &tenant(), kind, id, part_of(2), at(2)).await;
    assert!(matches!(early, Err(Error::WrongState { .. })), "{early:?}");
    ship(&mut tx, &tenant(), kind, id, at(2)).await.unwrap();
    let keyed = Receipt { key: Some("a/b"), ..part_of(2) };
    let (first, partly) = receive(&mut tx, &tenant(), kind, id, keyed, at(3)).await.unwrap();
    assert_eq!((first, partly.state, partly.received_quantity), (Booked::Now, OrderState::Shipped, Some(2)));
    assert_eq!((partly.received_at, partly.outstanding()), (None, 4));
    // The same request again, as after a crash: nothing moves.
    let (again, same) = receive(&mut tx, &tenant(), kind, id, keyed, at(3)).await.unwrap();
    assert_eq!((again, same), (Booked::Before, partly));
    assert_eq!(on_shelf(&mut tx, "north").await, (2, 4));
    // What has come may be used, and an import knows what is still on the way.
    let (_, used) = use_part(&mut tx, &tenant(), &part_use(3, "d1", 1)).await.unwrap();
    assert_eq!(used.transfer_id.as_deref(), Some(id));
    let told = StockLevel { part: part(), depot: depot("north"), on_hand: 1, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(3), &[told], "count").await.unwrap();
    assert_eq!(on_shelf(&mut tx, "north").await, (1, 4));
    receive(&mut tx, &tenant(), kind, id, part_of(1), at(4)).await.unwrap();
    let too_many = receive(&mut tx, &tenant(), kind, id, part_of(4), at(5)).await.unwrap_err();
    assert!(too_many.to_string().ends_with("which shipped 6 and has 3 outstanding"), "{too_many}");
    assert!(matches!(receive(&mut tx, &tenant(), kind, id, part_of(0), at(5)).await, Err(Error::Conflict { .. })));
    assert_eq!(received_since(&mut tx, &tenant(), at(4)).await.unwrap().into_values().collect::<Vec<_>>(), [at(4)]);
    // Short by one, which is written off.
    let (_, done) = receive(&mut tx, &tenant(), kind, id, of(2), at(6)).await.unwrap();
    assert_eq!((done.state, done.received_quantity, done.received_at), (OrderState::Received, Some(5), Some(at(6))));
    assert_eq!(on_shelf(&mut tx, "north").await, (4, 0));
    let late = receive(&mut tx, &tenant(), kind, id, keyed, at(7)).await.unwrap();
    assert_eq!(late, (Booked::Before, done));
    assert!(matches!(receive(&mut tx, &tenant(), kind, id, part_of(1), at(7)).await, Err(Error::WrongState { .. })));
    tx.commit().await.unwrap();
    let checked = crate::ledger::check::check_connection(&mut ledger.read().await.unwrap(), ledger.engine()).await;
    assert_eq!(checked.findings, []);
}

async fn an_order_that_does_not_come_is_told_of_once(ledger: Ledger) {
    stock_hub(&ledger, 3).await;
    let mut tx = ledger.write().await.unwrap();
    let kind = OrderKind::Transfer;
    let (late, other) = (approved(&mut tx, transfer("north", 2)).await, approved(&mut tx, transfer("south", 1)).await);
    for (order, day) in [(&late, 2), (&other, 2)] {
        ship(&mut tx, &tenant(), kind, &order.order_id, at(day)).await.unwrap();
    }
    // No lane leads south: nobody knows when that one is due.
    assert_eq!(chase(&mut tx, &tenant(), kind, at(4), at(5)).await.unwrap(), []);
    let told = chase(&mut tx, &tenant(), kind, at(5), at(6)).await.unwrap();
    assert_eq!(told.iter().map(|order| &order.order_id).collect::<Vec<_>>(), [&late.order_id]);
    assert_eq!(told[0].overdue_told_at, Some(at(6)));
    assert_eq!(chase(&mut tx, &tenant(), kind, at(9), at(9)).await.unwrap(), []);
    assert_eq!(chase(&mut tx, &TenantId::parse("other").unwrap(), kind, at(9), at(9)).await.unwrap(), []);
    let mut of = async |overdue: bool| {
        let filter = OrderFilter { overdue: Some(overdue), ..OrderFilter::default() };
        let found = list(&mut tx, &tenant(), kind, &filter, Sequence::OldestFirst, None, 9).await.unwrap();
        found.into_iter().map(|order| order.order_id).collect::<Vec<_>>()
    };
    assert_eq!((of(true).await, of(false).await), (vec![late.order_id.clone()], vec![other.order_id]));
    receive(&mut tx, &tenant(), kind, &late.order_id, Receipt::default(), at(9)).await.unwrap();
    let filter = OrderFilter { overdue: Some(true), ..OrderFilter::default() };
    assert_eq!(list(&mut tx, &tenant(), kind, &filter, Sequence::OldestFirst, None, 9).await.unwrap(), []);
}

async fn the_last_part_ends_the_order(ledger: Ledger) {
    stock_hub(&ledger, 0).await;
    let mut tx = ledger.write().await.unwrap();
    let order = approved(&mut tx, purchase(3)).await;
    let (kind, id) = (order.kind, order.order_id.as_str());
    ship(&mut tx, &tenant(), kind, id, at(2)).await.unwrap();
    receive(&mut tx, &tenant(), kind, id, part_of(2), at(3)).await.unwrap();
    let (_, done) = receive(&mut tx, &tenant(), kind, id, part_of(1), at(4)).await.unwrap();
    assert_eq!((done.state, done.received_quantity), (OrderState::Received, Some(3)));
    assert_eq!(on_shelf(&mut tx, "hub").await, (3, 0));
}

/// Eight workers receive one piece each of an order of five, at once and with keys of their own, each twice.
async fn of_many_who_receive_a_part_at_once_each_is_booked_once(ledger: Ledger) {
    stock_hub(&ledger, 9).await;
    let mut tx = ledger.write().await.unwrap();
    let id = approved(&mut tx, transfer("north", 5)).await.order_id;
    ship(&mut tx, &tenant(), OrderKind::Transfer, &id, at(2)).await.unwrap();
    tx.commit().await.unwrap();
    let attempts = (0..16).map(|worker| {
        let (ledger, id) = (ledger.clone(), id.clone());
        tokio::spawn(async move {
            let mut tx = ledger.write().await.unwrap();
            let key = format!("request-{}", worker / 2);
            let receipt = Receipt { key: Some(&key), ..part_of(1) };
            let done = receive(&mut tx, &tenant(), OrderKind::Transfer, &id, receipt, at(3)).await;
            tx.commit().await.unwrap();
            matches!(done, Ok((Booked::Now, _)))
        })
    });
    let mut booked = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        booked += u32::from(attempt.await.unwrap());
    }
    let mut read = ledger.read().await.unwrap();
    assert_eq!((booked, on_shelf(&mut read, "north").await), (5, (5, 0)));
}

/// Eight workers try to approve and ship the same order at once, over a ledger on disk: one of them does, once.
async fn of_many_who_ship_at_once_one_does(ledger: Ledger) {
    let kind = OrderKind::Transfer;
    let mut tx = ledger.write().await.unwrap();
    let level = StockLevel { part: part(), depot: depot("hub"), on_hand: 9, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(0), &[level], "imp").await.unwrap();
    let id =
        propose(&mut tx, &tenant(), "pln", at(1), &[transfer("north", 2)]).await.unwrap().added[0].order_id.clone();
    tx.commit().await.unwrap();
    let attempts = (0..8).map(|_| {
        let (ledger, id) = (ledger.clone(), id.clone());
        tokio::spawn(async move {
            let mut tx = ledger.write().await.unwrap();
            let approved = approve(&mut tx, &tenant(), kind, &id, "me", at(1)).await.is_ok();
            let shipped = ship(&mut tx, &tenant(), kind, &id, at(1)).await.is_ok();
            tx.commit().await.unwrap();
            (approved, shipped)
        })
    });
    let mut done = (0, 0);
    for attempt in attempts.collect::<Vec<_>>() {
        let (approved, shipped) = attempt.await.unwrap();
        done = (done.0 + u32::from(approved), done.1 + u32::from(shipped));
    }
    assert_eq!(done, (1, 1));
    let mut read = ledger.read().await.unwrap();
    assert_eq!((on_shelf(&mut read, "hub").await, on_shelf(&mut read, "north").await), ((7, 0), (0, 2)));
}

/// One step of a random walk: on which of the orders, and what.
#[derive(Debug, Clone)]
enum Act {
    Propose(u32, bool),
    Step(usize, OrderStep),
    Part(usize, u32, u32),
    Use(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (1..4_u32, any::<bool>()).prop_map(|(quantity, buy)| Act::Propose(quantity, buy)),
        8 => (0..8_usize, 0..5_usize).prop_map(|(order, step)| Act::Step(order, OrderStep::ALL[step])),
        3 => (0..8_usize, 0..3_u32, 0..9_u32).prop_map(|(order, pieces, key)| Act::Part(order, pieces, key)),
        2 => (0..6_i64).prop_map(Act::Use),
    ]
}

async fn take(tx: &mut Connection, order: &Order, step: OrderStep) -> Result<Order, Error> {
    let (kind, id) = (order.kind, &order.order_id);
    match step {
        OrderStep::Approve => approve(tx, &tenant(), kind, id, "me", at(2)).await,
        OrderStep::Pick => pick(tx, &tenant(), kind, id, at(2)).await,
        OrderStep::Ship => ship(tx, &tenant(), kind, id, at(2)).await,
        OrderStep::Receive => receive(tx, &tenant(), kind, id, Receipt::default(), at(3)).await.map(|(_, order)| order),
        OrderStep::Cancel => cancel(tx, &tenant(), kind, id, at(2)).await,
    }
}

/// Whatever is tried in whatever order and however often: pieces on shelves and on the way are those that were there, plus
/// what purchases brought, less what was used; and the state machine alone says which step is taken.
async fn walk(ledger: &Ledger, acts: Vec<Act>) {
    stock_hub(ledger, 4).await;
    let mut tx = ledger.write().await.unwrap();
    let (mut orders, mut bought, mut used) = (Vec::<Order>::new(), 0, 0);
    for act in acts {
        match act {
            Act::Propose(quantity, buy) => {
                let wanted = if buy { purchase(quantity) } else { transfer("north", quantity) };
                let result = propose(&mut tx, &tenant(), "pln", at(1), &[wanted]).await.unwrap();
                for cancelled in result.cancelled {
                    orders.iter_mut().filter(|o| o.order_id == cancelled.order_id).for_each(|o| *o = cancelled.clone());
                }
                orders.extend(result.added);
            }
            Act::Step(place, step) => {
                let Some(order) = orders.get_mut(place) else { continue };
                let before = order.clone();
                match take(&mut tx, order, step).await {
                    Ok(after) => {
                        assert_eq!(Some(after.state), before.state.after(step));
                        if after.state == OrderState::Shipped && after.kind == OrderKind::Purchase {
                            bought += after.quantity;
                        }
                        *order = after;
                    }
                    Err(Error::WrongState { .. }) => assert_eq!(before.state.after(step), None),
                    Err(Error::Conflict { .. }) => assert!(
                        step == OrderStep::Ship || (step == OrderStep::Pick && before.kind == OrderKind::Purchase)
                    ),
                    Err(other) => panic!("{other}"),
                }
            }
            Act::Part(place, pieces, key) => {
                let Some(order) = orders.get_mut(place) else { continue };
                let before = order.clone();
                let key = format!("request-{key}");
                let receipt = Receipt { key: Some(&key), ..part_of(pieces) };
                match receive(&mut tx, &tenant(), before.kind, &before.order_id, receipt, at(3)).await {
                    Ok((Booked::Now, after)) => {
                        assert_eq!(before.outstanding() - after.outstanding(), pieces);
                        assert_eq!(after.state == OrderState::Received, after.outstanding() == 0);
                        *order = after;
                    }
                    Ok((Booked::Before, after)) => assert_eq!(after, before),
                    Err(Error::WrongState { .. }) => assert_ne!(before.state, OrderState::Shipped),
                    Err(Error::Conflict { .. }) => assert!(pieces == 0 || pieces > before.outstanding()),
                    Err(other) => panic!("{other}"),
                }
            }
            Act::Use(day) => {
                let (booked, record) = use_part(&mut tx, &tenant(), &part_use(day, "d1", 1)).await.unwrap();
                used += u32::from(booked == Booked::Now && record.from_stock);
            }
        }
        let levels = stock::all(&mut tx, &tenant()).await.unwrap();
        let pieces: u32 = levels.iter().map(|level| level.on_hand + level.in_transit).sum();
        assert_eq!(pieces + used, 4 + bought);
        let booked: i64 = stock::movements(&mut tx, &tenant(), &stock::StockFilter::default(), None, 999)
            .await
            .unwrap()
            .iter()
            .map(|m| m.quantity)
            .sum();
        assert_eq!(booked, levels.iter().map(|level| i64::from(level.on_hand)).sum::<i64>());
    }
}

fn walk_on(fresh: impl Future<Output = Option<Fresh>>, acts: Vec<Act>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if let Some(fresh) = fresh.await {
            walk(&fresh.ledger, acts).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_piece_is_lost_or_made(acts in prop::collection::vec(act(), 1..40)) {
        walk_on(fixture::sqlite(), acts);
    }
}

// Fewer and longer: a database takes longer to make than a walk takes.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]
    #[test]
    fn no_piece_is_lost_or_made_on_a_server(acts in prop::collection::vec(act(), 40..80)) {
        walk_on(fixture::postgres(), acts);
    }
}
