//! Work orders: one a slot, what is kept for them as levels change, and how they end.

use harbinger_core::{DeviceKey, fleet::StockLevel};

use super::*;
use crate::{
    Ledger,
    ledger::{
        erasure,
        fixture::on_both_engines,
        orders::{self, Departure, NewOrder, OrderKind, PartUse, Receipt},
        stock::{Booked, adjust, import, level},
    },
};

on_both_engines!(
    one_is_open_a_slot_and_names_what_it_needs,
    pieces_are_kept_as_they_come_for_whoever_is_due_first,
    what_is_reserved_cannot_be_sent_away,
    pieces_that_a_cancelled_transfer_leaves_are_reserved,
    a_replacement_takes_the_piece_that_was_kept_for_it,
    one_that_is_called_off_leaves_its_pieces_to_the_next,
);

const DAY: i64 = 86_400_000;

fn at(day: i64) -> Timestamp {
    Timestamp::from_millis(day * DAY)
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn part() -> PartId {
    PartId::parse("fan-part").unwrap()
}

fn depot(name: &str) -> DepotId {
    DepotId::parse(name).unwrap()
}

fn planned(device: &str, day: i64) -> NewWorkOrder {
    let (device, component) = (device.parse().unwrap(), "fan".parse().unwrap());
    NewWorkOrder { device, component, due_at: at(day), note: Some("bring a ladder".to_owned()) }
}

/// Devices d1 to d3 at `north`, whose fans take two pieces, and a shelf there of so many.
async fn stock_north(connection: &mut Connection, pieces: u32) {
    for sql in [
        "INSERT INTO components (tenant, model, component, part, quantity) VALUES ('acme', 'm', 'fan', 'fan-part', 2)",
        "INSERT INTO devices (tenant, device, model, depot) VALUES ('acme', 'd1', 'm', 'north'), \
         ('acme', 'd2', 'm', 'north'), ('acme', 'd3', 'm', 'north')",
    ] {
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }
    count_north(connection, pieces, "first").await;
}

async fn count_north(connection: &mut Connection, pieces: u32, reference: &str) {
    let level = StockLevel { part: part(), depot: depot("north"), on_hand: pieces, in_transit: 0 };
    import(connection, &tenant(), at(0), &[level], reference).await.unwrap();
}

async fn plan(connection: &mut Connection, device: &str, day: i64) -> WorkOrder {
    open(connection, &tenant(), &planned(device, day), "me", at(1)).await.unwrap()
}

/// Reserved pieces of the open work orders, by device.
async fn reserved(connection: &mut Connection) -> Vec<(String, u32)> {
    let mut open = all_open(connection, &tenant()).await.unwrap();
    open.sort_by(|a, b| a.device.cmp(&b.device));
    open.into_iter().map(|order| (order.device.to_string(), order.reserved)).collect()
}

fn by_device(pairs: &[(&str, u32)]) -> Vec<(String, u32)> {
    pairs.iter().map(|(device, pieces)| ((*device).to_owned(), *pieces)).collect()
}

fn part_use(device: &str) -> PartUse {
    PartUse {
        ts: at(9),
        device: device.parse().unwrap(),
        component: "fan".parse().unwrap(),
        part: part(),
        depot: depot("north"),
        quantity: 2,
        predicted: false,
    }
}

async fn one_is_open_a_slot_and_names_what_it_needs(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    stock_north(&mut tx, 0).await;
    let order = plan(&mut tx, "d1", 5).await;
    assert!(order.work_order_id.starts_with("wko_"));
    let needs = (order.part.as_str(), order.depot.as_str(), order.quantity, order.reserved, order.missing());
    assert_eq!(needs, ("fan-part", "north", 2, 0, 2));
    assert_eq!((order.state, order.opened_by.as_str(), order.opened_at), (WorkOrderState::Open, "me", at(1)));
    let second = open(&mut tx, &tenant(), &planned("d1", 9), "me", at(2)).await.unwrap_err();
    assert!(matches!(&second, Error::Conflict { reason } if reason.contains(&order.work_order_id)), "{second}");
    let unknown = open(&mut tx, &tenant(), &planned("d9", 9), "me", at(2)).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no device \"d9\": register it first");
    let other = TenantId::parse("other").unwrap();
    assert!(matches!(get(&mut tx, &other, &order.work_order_id).await, Err(Error::NotFound { .. })));
    assert!(matches!(cancel(&mut tx, &other, &order.work_order_id, at(3)).await, Err(Error::NotFound { .. })));
    // A device that will have moved by then is served by its next depot.
    let moves = "UPDATE devices SET moves_to = 'south', moves_at = $1 WHERE device = 'd3'";
    sqlx::query(moves).bind(at(7).millis()).execute(&mut *tx).await.unwrap();
    for (due, at_depot) in [(6, "north"), (7, "south")] {
        let order = plan(&mut tx, "d3", due).await;
        assert_eq!(order.depot.as_str(), at_depot);
        cancel(&mut tx, &tenant(), &order.work_order_id, at(1)).await.unwrap();
    }
    plan(&mut tx, "d2", 5).await;
    let of_d1 = WorkOrderFilter { device: Some("d1".parse().unwrap()), ..WorkOrderFilter::default() };
    let listed = list(&mut tx, &tenant(), &of_d1, None, 10).await.unwrap();
    assert_eq!(listed.as_slice(), std::slice::from_ref(&order));
    let cancelled = cancel(&mut tx, &tenant(), &order.work_order_id, at(3)).await.unwrap();
    assert_eq!((cancelled.state, cancelled.cancelled_at), (WorkOrderState::Cancelled, Some(at(3))));
    let twice = cancel(&mut tx, &tenant(), &order.work_order_id, at(3)).await.unwrap_err();
    assert!(twice.to_string().ends_with("is cancelled, so it cannot be cancelled"), "{twice}");
    plan(&mut tx, "d1", 9).await;
}

async fn pieces_are_kept_as_they_come_for_whoever_is_due_first(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    stock_north(&mut tx, 1).await;
    assert_eq!(plan(&mut tx, "d1", 9).await.reserved, 1);
    assert_eq!(plan(&mut tx, "d2", 5).await.reserved, 0, "what is reserved stays where it is");
    let wanted = NewOrder {
        part: part(),
        from: None,
        to: depot("north"),
        quantity: 2,
        worth: 1.0,
        cost: 1.0,
        reasons: Vec::new(),
    };
    let proposed = orders::propose(&mut tx, &tenant(), "pln_1", at(1), &[wanted]).await.unwrap();
    let (kind, id) = (OrderKind::Purchase, proposed.added[0].order_id.as_str());
    orders::approve(&mut tx, &tenant(), kind, id, "me", at(1)).await.unwrap();
    orders::ship(&mut tx, &tenant(), kind, id, Departure::default(), at(1)).await.unwrap();
    assert_eq!(reserved(&mut tx).await, by_device(&[("d1", 1), ("d2", 0)]));
    orders::receive(&mut tx, &tenant(), kind, id, Receipt::default(), at(2)).await.unwrap();
    assert_eq!(reserved(&mut tx).await, by_device(&[("d1", 1), ("d2", 2)]), "d2 is due first");
    count_north(&mut tx, 9, "counted").await;
    assert_eq!(reserved(&mut tx).await, by_device(&[("d1", 2), ("d2", 2)]));
    let at_north = orders::positions(&mut tx, &tenant()).await.unwrap()[&(part(), depot("north"))];
    assert_eq!((at_north.on_hand, at_north.reserved), (9, 4));
    let (booked, _) = adjust(&mut tx, &tenant(), at(3), &part(), &depot("north"), -6, "lost").await.unwrap();
    assert_eq!(booked, Booked::Now);
    assert_eq!(reserved(&mut tx).await, by_device(&[("d1", 1), ("d2", 2)]), "of 3 pieces the last due has fewest");
}

async fn what_is_reserved_cannot_be_sent_away(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    stock_north(&mut tx, 3).await;
    let transfer = |quantity| NewOrder {
        part: part(),
        from: Some(depot("north")),
        to: depot("hub"),
        quantity,
        worth: 1.0,
        cost: 1.0,
        reasons: Vec::new(),
    };
    let wanted = [transfer(1), transfer(2)];
    let proposed = orders::propose(&mut tx, &tenant(), "pln_1", at(1), &wanted).await.unwrap();
    let [one, two] = proposed.added.as_slice() else { panic!("{proposed:?}") };
    let kind = OrderKind::Transfer;
    orders::approve(&mut tx, &tenant(), kind, &two.order_id, "me", at(1)).await.unwrap();
    // The approved transfer has spoken for two of the three.
    assert_eq!(plan(&mut tx, "d1", 5).await.reserved, 1);
    orders::approve(&mut tx, &tenant(), kind, &one.order_id, "me", at(1)).await.unwrap();
    orders::ship(&mut tx, &tenant(), kind, &two.order_id, Departure::default(), at(2)).await.unwrap();
    let refused = orders::ship(&mut tx, &tenant(), kind, &one.order_id, Departure::default(), at(2)).await.unwrap_err();
    let reason = "1 pieces of part \"fan-part\" cannot leave depot \"north\", which has 1 on hand, 1 of them reserved for \
        work orders";
    assert_eq!(refused.to_string(), reason);
    assert_eq!(level(&mut tx, &tenant(), &part(), &depot("north")).await.unwrap().on_hand, 1);
}

async fn pieces_that_a_cancelled_transfer_leaves_are_reserved(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    stock_north(&mut tx, 3).await;
    let wanted = NewOrder {
        part: part(),
        from: Some(depot("north")),
        to: depot("hub"),
        quantity: 2,
        worth: 1.0,
        cost: 1.0,
        reasons: Vec::new(),
    };
    let proposed = orders::propose(&mut tx, &tenant(), "pln_1", at(1), &[wanted]).await.unwrap();
    let (kind, id) = (OrderKind::Transfer, proposed.added[0].order_id.as_str());
    orders::approve(&mut tx, &tenant(), kind, id, "me", at(1)).await.unwrap();
    orders::pick(&mut tx, &tenant(), kind, id, at(1)).await.unwrap();
    assert_eq!(plan(&mut tx, "d1", 5).await.reserved, 1);
    orders::cancel(&mut tx, &tenant(), kind, id, at(2)).await.unwrap();
    assert_eq!(reserved(&mut tx).await, by_device(&[("d1", 2)]));
}

async fn a_replacement_takes_the_piece_that_was_kept_for_it(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    stock_north(&mut tx, 3).await;
    assert_eq!(plan(&mut tx, "d1", 5).await.reserved, 2);
    assert_eq!(plan(&mut tx, "d2", 6).await.reserved, 1);
    let component = ComponentId::parse("fan").unwrap();
    let done = complete(&mut tx, &tenant(), &"d1".parse().unwrap(), &component, at(9)).await.unwrap().unwrap();
    assert_eq!((done.state, done.done_at, done.reserved), (WorkOrderState::Done, Some(at(9)), 0));
    let (_, used) = orders::use_part(&mut tx, &tenant(), &part_use("d1")).await.unwrap();
    assert!(used.from_stock);
    assert_eq!(reserved(&mut tx).await, by_device(&[("d2", 1)]), "the use takes what was freed");
    assert_eq!(complete(&mut tx, &tenant(), &"d1".parse().unwrap(), &component, at(9)).await.unwrap(), None);
    // A failure comes first: the device that is down takes the piece that was kept for later.
    orders::use_part(&mut tx, &tenant(), &part_use("d3")).await.unwrap();
    assert_eq!(reserved(&mut tx).await, by_device(&[("d2", 0)]));
}

async fn one_that_is_called_off_leaves_its_pieces_to_the_next(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    stock_north(&mut tx, 2).await;
    let first = plan(&mut tx, "d1", 9).await;
    assert_eq!((first.reserved, plan(&mut tx, "d2", 5).await.reserved), (2, 0));
    cancel(&mut tx, &tenant(), &first.work_order_id, at(2)).await.unwrap();
    assert_eq!(reserved(&mut tx).await, by_device(&[("d2", 2)]));
    plan(&mut tx, "d3", 7).await;
    erasure::begin(&mut tx, &DeviceKey::new(tenant(), "d2".parse().unwrap()), at(3)).await.unwrap();
    assert_eq!(reserved(&mut tx).await, by_device(&[("d3", 2)]), "so does one whose device is deleted");
}
