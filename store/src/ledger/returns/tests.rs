//! The way back of failed pieces: begun once a use, counted when repaired, told of when late.

use harbinger_core::{Duration, fleet::StockLevel};

use super::*;
use crate::{
    Ledger,
    ledger::{fixture::on_both_engines, stock},
};

on_both_engines!(
    a_failed_piece_is_returned_repaired_and_counted_then,
    a_use_has_one_return_and_only_of_what_can_be_repaired,
    what_is_condemned_or_lost_never_lies_on_a_shelf,
    late_returns_and_repairs_are_told_of_once,
    of_many_who_receive_at_once_one_does,
);

const DAY: i64 = 86_400_000;

fn at(day: i64) -> Timestamp {
    Timestamp::from_millis(day * DAY)
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn part(name: &str) -> PartId {
    PartId::parse(name).unwrap()
}

fn depot(name: &str) -> DepotId {
    DepotId::parse(name).unwrap()
}

/// Two hubs, the nearer of which serves `north` by a lane of 2 days there and 3 back; a disk is repaired in 10 days.
async fn network(ledger: &Ledger) {
    let mut tx = ledger.write().await.unwrap();
    for sql in [
        "INSERT INTO depots (tenant, depot, echelon) VALUES ('acme', 'hub', 'hub'), ('acme', 'far', 'hub'), \
         ('acme', 'north', 'forward'), ('acme', 'lone', 'forward')",
        "INSERT INTO lanes (tenant, from_depot, to_depot, days) VALUES ('acme', 'hub', 'north', 2), \
         ('acme', 'north', 'hub', 3), ('acme', 'far', 'north', 9)",
        "INSERT INTO parts (tenant, part, unit_cost, repairable, repair_days) VALUES ('acme', 'disk', 9, 1, 10), \
         ('acme', 'fan', 9, 0, NULL)",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    let level = StockLevel { part: part("disk"), depot: depot("hub"), on_hand: 1, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(0), &[level], "imp").await.unwrap();
    tx.commit().await.unwrap();
}

async fn fails(tx: &mut Connection, use_id: &str, from: &str, quantity: u32) -> Option<ReturnOrder> {
    let (part, depot) = (part("disk"), depot(from));
    let failed = Failed { use_id, ts: at(1), part: &part, depot: &depot, quantity };
    open(tx, &tenant(), &failed, Duration::from_days(5)).await.unwrap()
}

async fn on_hand(tx: &mut Connection) -> u32 {
    stock::level(tx, &tenant(), &part("disk"), &depot("hub")).await.unwrap().on_hand
}

async fn a_failed_piece_is_returned_repaired_and_counted_then(ledger: Ledger) {
    network(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let opened = fails(&mut tx, "use_1", "north", 2).await.unwrap();
    assert!(opened.order_id.starts_with("ret_"));
    assert_eq!((opened.to.as_str(), opened.state, opened.due_at), ("hub", OrderState::Approved, Some(at(9))));
    let early = receive_return(&mut tx, &tenant(), &opened.order_id, None, &[], at(2)).await;
    assert!(matches!(early, Err(Error::WrongState { .. })), "{early:?}");
    let shipped = ship(&mut tx, &tenant(), &opened.order_id, &[], at(2)).await.unwrap();
    assert_eq!((shipped.state, shipped.due_at), (OrderState::Shipped, Some(at(5))));
    let (came, repair) = receive_return(&mut tx, &tenant(), &opened.order_id, None, &[], at(6)).await.unwrap();
    assert_eq!((came.state, came.received_quantity), (OrderState::Received, Some(2)));
    let repair = repair.unwrap();
    assert!(repair.order_id.starts_with("rep_"));
    assert_eq!((repair.cause.as_str(), repair.state), (came.order_id.as_str(), OrderState::Shipped));
    assert_eq!((repair.quantity, repair.due_at), (2, Some(at(16))));
    let lots = in_repair(&mut tx, &tenant()).await.unwrap();
    assert_eq!(lots, [((part("disk"), depot("hub")), vec![(at(16), 2)])].into());
    assert_eq!(on_hand(&mut tx).await, 1, "what is in repair is no stock");
    let too_many = receive_repair(&mut tx, &tenant(), &repair.order_id, Some(3), &[], at(15)).await;
    assert!(matches!(too_many, Err(Error::Conflict { .. })), "{too_many:?}");
    let mended = receive_repair(&mut tx, &tenant(), &repair.order_id, Some(1), &[], at(15)).await.unwrap();
    assert_eq!((mended.state, mended.received_quantity), (OrderState::Received, Some(1)));
    assert_eq!(on_hand(&mut tx).await, 2);
    let again = receive_repair(&mut tx, &tenant(), &repair.order_id, Some(1), &[], at(15)).await;
    assert!(matches!(again, Err(Error::WrongState { .. })), "{again:?}");
    assert_eq!(in_repair(&mut tx, &tenant()).await.unwrap(), BTreeMap::new());
    assert_eq!(get(&mut tx, &tenant(), Leg::Repair, &repair.order_id).await.unwrap(), mended);
    let other = TenantId::parse("other").unwrap();
    assert!(matches!(get(&mut tx, &other, Leg::Repair, &repair.order_id).await, Err(Error::NotFound { .. })));
    assert!(matches!(get(&mut tx, &tenant(), Leg::Return, &repair.order_id).await, Err(Error::NotFound { .. })));
    tx.commit().await.unwrap();
    let checked = crate::ledger::check::check_connection(&mut ledger.read().await.unwrap(), ledger.engine()).await;
    assert_eq!(checked.findings, []);
}

async fn a_use_has_one_return_and_only_of_what_can_be_repaired(ledger: Ledger) {
    network(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    assert!(fails(&mut tx, "use_1", "north", 1).await.is_some());
    assert_eq!(fails(&mut tx, "use_1", "north", 1).await, None);
    let north = depot("north");
    for name in ["fan", "unheard-of"] {
        let part = part(name);
        let failed = Failed { use_id: "use_2", ts: at(1), part: &part, depot: &north, quantity: 1 };
        assert_eq!(open(&mut tx, &tenant(), &failed, Duration::ZERO).await.unwrap(), None, "{name}");
    }
    // A hub, and a depot that no hub serves, repair for themselves.
    for (use_id, name) in [("use_3", "far"), ("use_4", "lone")] {
        let opened = fails(&mut tx, use_id, name, 1).await.unwrap();
        assert_eq!((opened.to.as_str(), opened.due_at), (name, Some(at(6))));
    }
    let newest = Sequence::NewestFirst;
    let to = |name: &str| ReturnFilter { to: Some(depot(name)), ..ReturnFilter::default() };
    assert_eq!(list(&mut tx, &tenant(), Leg::Return, &to("lone"), newest, None, 9).await.unwrap().len(), 1);
    let page = list(&mut tx, &tenant(), Leg::Return, &ReturnFilter::default(), newest, None, 2).await.unwrap();
    let last = Some(page[1].order_id.as_str());
    let rest = list(&mut tx, &tenant(), Leg::Return, &ReturnFilter::default(), newest, last, 9).await.unwrap();
    assert_eq!((page.len(), rest.len()), (2, 1));
}

async fn what_is_condemned_or_lost_never_lies_on_a_shelf(ledger: Ledger) {
    network(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let mut ids = Vec::new();
    for use_id in ["use_1", "use_2", "use_3"] {
        let opened = fails(&mut tx, use_id, "north", 1).await.unwrap();
        ship(&mut tx, &tenant(), &opened.order_id, &[], at(2)).await.unwrap();
        ids.push(opened.order_id);
    }
    let scrapped = cancel(&mut tx, &tenant(), &ids[0], at(3)).await.unwrap();
    assert_eq!((scrapped.state, scrapped.cancelled_at), (OrderState::Cancelled, Some(at(3))));
    let (lost, none) = receive_return(&mut tx, &tenant(), &ids[1], Some(0), &[], at(3)).await.unwrap();
    assert_eq!((lost.received_quantity, none), (Some(0), None));
    let (_, repair) = receive_return(&mut tx, &tenant(), &ids[2], None, &[], at(3)).await.unwrap();
    receive_repair(&mut tx, &tenant(), &repair.unwrap().order_id, Some(0), &[], at(9)).await.unwrap();
    assert_eq!(on_hand(&mut tx).await, 1);
    assert_eq!(in_repair(&mut tx, &tenant()).await.unwrap(), BTreeMap::new());
    assert!(matches!(cancel(&mut tx, &tenant(), &ids[2], at(9)).await, Err(Error::WrongState { .. })));
}

async fn late_returns_and_repairs_are_told_of_once(ledger: Ledger) {
    network(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let waits = fails(&mut tx, "use_1", "north", 1).await.unwrap();
    let comes = fails(&mut tx, "use_2", "north", 1).await.unwrap();
    ship(&mut tx, &tenant(), &comes.order_id, &[], at(1)).await.unwrap();
    let (_, repair) = receive_return(&mut tx, &tenant(), &comes.order_id, None, &[], at(4)).await.unwrap();
    let mut told = Vec::new();
    for day in [8, 9, 13, 14, 20] {
        for leg in Leg::ALL {
            let late = chase(&mut tx, &tenant(), leg, at(day), at(day + 1)).await.unwrap();
            told.extend(late.into_iter().map(|order| (day, order.order_id, order.overdue_told_at)));
        }
    }
    let expected = [(9, waits.order_id.clone(), Some(at(10))), (14, repair.unwrap().order_id, Some(at(15)))];
    assert_eq!(told, expected);
    let overdue = ReturnFilter { overdue: Some(true), ..ReturnFilter::default() };
    let listed = list(&mut tx, &tenant(), Leg::Return, &overdue, Sequence::OldestFirst, None, 9).await.unwrap();
    assert_eq!(listed.iter().map(|order| &order.order_id).collect::<Vec<_>>(), [&waits.order_id]);
}

/// Eight workers receive the same return, and then the repair that it began, at once: each is done once.
async fn of_many_who_receive_at_once_one_does(ledger: Ledger) {
    network(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let opened = fails(&mut tx, "use_1", "north", 1).await.unwrap();
    ship(&mut tx, &tenant(), &opened.order_id, &[], at(2)).await.unwrap();
    tx.commit().await.unwrap();
    let attempts = (0..8).map(|_| {
        let (ledger, id) = (ledger.clone(), opened.order_id.clone());
        tokio::spawn(async move {
            let mut tx = ledger.write().await.unwrap();
            let came = receive_return(&mut tx, &tenant(), &id, None, &[], at(3)).await.is_ok();
            let filter = ReturnFilter::default();
            let repairs = list(&mut tx, &tenant(), Leg::Repair, &filter, Sequence::OldestFirst, None, 9).await.unwrap();
            let mended = receive_repair(&mut tx, &tenant(), &repairs[0].order_id, None, &[], at(4)).await.is_ok();
            tx.commit().await.unwrap();
            (came, mended)
        })
    });
    let mut done = (0, 0);
    for attempt in attempts.collect::<Vec<_>>() {
        let (came, mended) = attempt.await.unwrap();
        done = (done.0 + u32::from(came), done.1 + u32::from(mended));
    }
    assert_eq!((done, on_hand(&mut ledger.read().await.unwrap()).await), ((1, 1), 2));
}
