//! Orders: proposals, steps and their stock, uses.

use harbinger_core::{TimeRange, fleet::StockLevel};

use super::*;
use crate::{
    Ledger,
    ledger::{
        fixture::on_both_engines,
        stock::{self, Booked},
    },
};

mod life;
mod walk;

on_both_engines!(
    of_many_who_ship_at_once_one_does,
    a_transfer_moves_its_pieces_from_shelf_to_shelf,
    a_purchase_comes_from_the_supplier_and_may_come_short,
    a_step_out_of_order_is_refused_with_the_state,
    a_new_plan_keeps_what_it_wants_still_and_cancels_the_rest,
    a_replacement_takes_the_oldest_piece_and_names_the_transfer_that_brought_it,
    an_import_keeps_what_our_orders_have_on_the_way,
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
        work_order_id: None,
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
    let shipped = ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(2)).await.unwrap();
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
    assert_eq!(ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(1)).await.unwrap().due_at, Some(at(15)));
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
    let refused = ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(1)).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("transfer {id:?} is proposed, so it cannot be shipped"));
    approve(&mut tx, &tenant(), kind, &id, "me", at(1)).await.unwrap();
    // The hub has one piece: the refused step leaves nothing behind though the transaction goes on.
    assert!(matches!(
        ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(1)).await,
        Err(Error::Conflict { .. })
    ));
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
        ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(day)).await.unwrap();
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
    ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(1)).await.unwrap();
    let told = StockLevel { part: part(), depot: depot("north"), on_hand: 1, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(2), &[told], "imp-2").await.unwrap();
    assert_eq!(on_shelf(&mut tx, "north").await, (1, 2));
    receive(&mut tx, &tenant(), kind, &id, Receipt::default(), at(3)).await.unwrap();
    assert_eq!(on_shelf(&mut tx, "north").await, (3, 0));
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
            let shipped = ship(&mut tx, &tenant(), kind, &id, Departure::default(), at(1)).await.is_ok();
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
