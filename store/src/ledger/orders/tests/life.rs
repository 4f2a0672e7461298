//! What may happen between approval and receipt: orders are picked, come in parts, come late.

use super::*;

on_both_engines!(
    picked_pieces_stay_on_the_shelf_until_they_ship_or_are_called_off,
    an_order_comes_in_parts_each_booked_once,
    the_last_part_ends_the_order,
    an_order_that_does_not_come_is_told_of_once,
    of_many_who_receive_a_part_at_once_each_is_booked_once,
);

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
    ship(&mut tx, &tenant(), kind, &kept.order_id, Departure::default(), at(3)).await.unwrap();
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
    ship(&mut tx, &tenant(), kind, id, Departure::default(), at(2)).await.unwrap();
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
        ship(&mut tx, &tenant(), kind, &order.order_id, Departure::default(), at(day)).await.unwrap();
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
    ship(&mut tx, &tenant(), kind, id, Departure::default(), at(2)).await.unwrap();
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
    ship(&mut tx, &tenant(), OrderKind::Transfer, &id, Departure::default(), at(2)).await.unwrap();
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
