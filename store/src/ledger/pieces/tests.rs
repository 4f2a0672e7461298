//! Pieces by serial: each is at one place, and whoever names one that is elsewhere is told where.

use harbinger_core::fleet::StockLevel;

use super::*;
use crate::{
    Ledger,
    ledger::{
        fixture::on_both_engines,
        orders::{self, Departure, NewOrder, Order, OrderKind, Receipt},
        returns::{self, Failed},
        stock,
    },
};

on_both_engines!(
    a_piece_goes_with_its_orders_and_is_at_one_place,
    what_is_short_is_gone_and_what_is_named_comes_in_parts,
    a_failed_piece_goes_through_repair_or_is_gone,
    dear_parts_are_named_one_by_one,
    a_use_names_the_pieces_that_it_put_in,
);

fn at(day: i64) -> Timestamp {
    Timestamp::from_millis(day * 86_400_000)
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn part() -> PartId {
    PartId::parse("disk").unwrap()
}

fn depot(name: &str) -> DepotId {
    DepotId::parse(name).unwrap()
}

fn named(serials: &[&str]) -> Vec<String> {
    serials.iter().map(|&serial| serial.to_owned()).collect()
}

async fn stock_hub(ledger: &Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let level = StockLevel { part: part(), depot: depot("hub"), on_hand: 9, in_transit: 0 };
    stock::import(&mut tx, &tenant(), at(0), &[level], "imp").await.unwrap();
    let sql = "INSERT INTO parts (tenant, part, unit_cost, repairable) VALUES ('acme', 'disk', 900, 1)";
    sqlx::query(sql).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn approved(tx: &mut Connection, from: Option<&str>, to: &str, quantity: u32) -> Order {
    let (from, to) = (from.map(depot), depot(to));
    let wanted = NewOrder { part: part(), from, to, quantity, worth: 2.0, cost: 1.0, reasons: Vec::new() };
    let made = orders::propose(tx, &tenant(), "pln", at(1), &[wanted]).await.unwrap().added.remove(0);
    orders::approve(tx, &tenant(), made.kind, &made.order_id, "me", at(1)).await.unwrap()
}

async fn ship(tx: &mut Connection, order: &Order, serials: &[&str]) -> Result<(), String> {
    let serials = named(serials);
    let departure = Departure { serials: &serials, serials_from: None };
    let shipped = orders::ship(tx, &tenant(), order.kind, &order.order_id, departure, at(2)).await;
    shipped.map(drop).map_err(|error| error.to_string())
}

async fn receive(tx: &mut Connection, order: &Order, receipt: Receipt<'_>, serials: &[&str]) -> Result<(), String> {
    let serials = named(serials);
    let receipt = Receipt { serials: &serials, ..receipt };
    let received = orders::receive(tx, &tenant(), order.kind, &order.order_id, receipt, at(3)).await;
    received.map(drop).map_err(|error| error.to_string())
}

/// Where all pieces are, in order of serial.
async fn places(tx: &mut Connection) -> Vec<String> {
    let all = list(tx, &tenant(), &PieceFilter::default(), None, 99).await.unwrap();
    let short = |piece: &Piece| match &piece.place {
        Place::Depot(depot) => format!("{} {depot}", piece.serial),
        Place::Order(_) => format!("{} on the way", piece.serial),
        Place::Device { device, .. } => format!("{} in {device}", piece.serial),
        Place::Gone => format!("{} gone", piece.serial),
    };
    all.iter().map(short).collect()
}

async fn a_piece_goes_with_its_orders_and_is_at_one_place(ledger: Ledger) {
    stock_hub(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let north = approved(&mut tx, Some("hub"), "north", 2).await;
    assert_eq!(ship(&mut tx, &north, &["a", "a"]).await.unwrap_err(), "a serial is named twice");
    assert_eq!(ship(&mut tx, &north, &["a", ""]).await.unwrap_err(), "a serial is empty");
    assert!(ship(&mut tx, &north, &["a", "b", "c"]).await.unwrap_err().starts_with("3 serials are named for 2 pieces"));
    ship(&mut tx, &north, &["a", "b"]).await.unwrap();
    let south = approved(&mut tx, Some("hub"), "south", 1).await;
    let taken = format!("piece \"a\" of part \"disk\" is on the way with {:?}", north.order_id);
    assert_eq!(ship(&mut tx, &south, &["a"]).await.unwrap_err(), taken);
    let others = receive(&mut tx, &north, Receipt::default(), &["a", "x"]).await.unwrap_err();
    assert!(others.starts_with("1 of the serials named did not leave with"), "{others}");
    receive(&mut tx, &north, Receipt::default(), &[]).await.unwrap();
    assert_eq!(places(&mut tx).await, ["a north", "b north"]);
    assert_eq!(ship(&mut tx, &south, &["b"]).await.unwrap_err(), "piece \"b\" of part \"disk\" is at depot \"north\"");
    // A piece that becomes known when it comes.
    ship(&mut tx, &south, &[]).await.unwrap();
    let taken = receive(&mut tx, &south, Receipt::default(), &["b"]).await.unwrap_err();
    assert_eq!(taken, "piece \"b\" of part \"disk\" is at depot \"north\"");
    receive(&mut tx, &south, Receipt::default(), &["c"]).await.unwrap();
    let one = PieceFilter { part: Some(part()), serial: Some("c".into()), device: None };
    let found = list(&mut tx, &tenant(), &one, None, 9).await.unwrap();
    assert_eq!((found.len(), &found[0].place, found[0].at), (1, &Place::Depot(depot("south")), at(3)));
    assert_eq!(list(&mut tx, &tenant(), &PieceFilter::default(), Some(("disk", "b")), 9).await.unwrap(), found);
    assert_eq!(list(&mut tx, &TenantId::parse("other").unwrap(), &one, None, 9).await.unwrap(), []);
    tx.commit().await.unwrap();
    let checked = crate::ledger::check::check_connection(&mut ledger.read().await.unwrap(), ledger.engine()).await;
    assert_eq!(checked.findings, []);
}

async fn what_is_short_is_gone_and_what_is_named_comes_in_parts(ledger: Ledger) {
    stock_hub(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let order = approved(&mut tx, None, "hub", 3).await;
    assert_eq!(order.kind, OrderKind::Purchase);
    ship(&mut tx, &order, &["a", "b", "c"]).await.unwrap();
    let part = Receipt { quantity: Some(1), rest_follows: true, ..Receipt::default() };
    receive(&mut tx, &order, part, &["b"]).await.unwrap();
    assert_eq!(places(&mut tx).await, ["a on the way", "b hub", "c on the way"]);
    receive(&mut tx, &order, Receipt { quantity: Some(1), ..Receipt::default() }, &["c"]).await.unwrap();
    assert_eq!(places(&mut tx).await, ["a gone", "b hub", "c hub"]);
}

async fn a_failed_piece_goes_through_repair_or_is_gone(ledger: Ledger) {
    stock_hub(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let (part, hub) = (part(), depot("hub"));
    let mut ids = Vec::new();
    for (use_id, serials) in [("use_1", ["a", "b"]), ("use_2", ["c", "d"])] {
        let failed = Failed { use_id, ts: at(1), part: &part, depot: &hub, quantity: 2 };
        let opened = returns::open(&mut tx, &tenant(), &failed, harbinger_core::Duration::ZERO).await.unwrap();
        let id = opened.unwrap().order_id;
        returns::ship(&mut tx, &tenant(), &id, &named(&serials), at(2)).await.unwrap();
        ids.push(id);
    }
    returns::cancel(&mut tx, &tenant(), &ids[1], at(3)).await.unwrap();
    let (_, repair) = returns::receive_return(&mut tx, &tenant(), &ids[0], None, &[], at(3)).await.unwrap();
    assert_eq!(places(&mut tx).await, ["a on the way", "b on the way", "c gone", "d gone"]);
    let repair = repair.unwrap().order_id;
    returns::receive_repair(&mut tx, &tenant(), &repair, Some(1), &named(&["b"]), at(9)).await.unwrap();
    assert_eq!(places(&mut tx).await, ["a gone", "b hub", "c gone", "d gone"]);
}

async fn dear_parts_are_named_one_by_one(ledger: Ledger) {
    stock_hub(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let order = approved(&mut tx, Some("hub"), "north", 2).await;
    let serials = named(&["a", "b"]);
    let mut try_with = async |count: usize, serials_from: f64| {
        let departure = Departure { serials: &serials[..count], serials_from: Some(serials_from) };
        orders::ship(&mut tx, &tenant(), order.kind, &order.order_id, departure, at(2)).await
    };
    let refused = try_with(1, 900.0).await.unwrap_err().to_string();
    assert!(refused.contains("costs 900") && refused.contains("1 serials are named"), "{refused}");
    try_with(2, 900.0).await.unwrap();
    // What comes from the supplier need not be known.
    let bought = approved(&mut tx, None, "hub", 1).await;
    let departure = Departure { serials: &[], serials_from: Some(900.0) };
    orders::ship(&mut tx, &tenant(), bought.kind, &bought.order_id, departure, at(2)).await.unwrap();
}

/// Names the pieces of a use; where all pieces are then.
async fn put_in(tx: &mut Connection, use_id: &str, serials: &[&str]) -> (Result<(), String>, Vec<String>) {
    let done = install(tx, &tenant(), use_id, &named(serials)).await;
    (done.map_err(|error| error.to_string()), places(tx).await)
}

async fn a_use_names_the_pieces_that_it_put_in(ledger: Ledger) {
    stock_hub(&ledger).await;
    let mut tx = ledger.write().await.unwrap();
    let order = approved(&mut tx, Some("hub"), "north", 3).await;
    ship(&mut tx, &order, &["a", "b"]).await.unwrap();
    receive(&mut tx, &order, Receipt::default(), &["a", "b"]).await.unwrap();
    let device = DeviceId::parse("server-1").unwrap();
    let wanted = orders::PartUse {
        ts: at(4),
        device: device.clone(),
        component: "disk1".parse().unwrap(),
        part: part(),
        depot: depot("north"),
        quantity: 2,
        predicted: true,
    };
    let (_, used) = orders::use_part(&mut tx, &tenant(), &wanted).await.unwrap();
    let (refused, _) = put_in(&mut tx, &used.use_id, &["a", "b", "c"]).await;
    assert!(refused.unwrap_err().starts_with("3 serials are named for 2 pieces"));
    assert!(put_in(&mut tx, "use_none", &["a"]).await.0.unwrap_err().contains("use_none"));
    assert_eq!(
        put_in(&mut tx, &used.use_id, &["a", "x"]).await,
        (Ok(()), named(&["a in server-1", "b north", "x in server-1"]))
    );
    // Said again, and said right.
    assert_eq!(
        put_in(&mut tx, &used.use_id, &["a", "x"]).await,
        (Ok(()), named(&["a in server-1", "b north", "x in server-1"]))
    );
    assert_eq!(
        put_in(&mut tx, &used.use_id, &["b", "x"]).await,
        (Ok(()), named(&["a north", "b in server-1", "x in server-1"]))
    );
    let next_wanted = orders::PartUse { ts: at(6), quantity: 1, ..wanted };
    let (_, next) = orders::use_part(&mut tx, &tenant(), &next_wanted).await.unwrap();
    let (refused, after) = put_in(&mut tx, &next.use_id, &["b"]).await;
    assert_eq!(refused.unwrap_err(), "piece \"b\" of part \"disk\" is in device \"server-1\"");
    assert_eq!(after, ["a north", "b in server-1", "x in server-1"]);
    let inside = PieceFilter { device: Some(device.clone()), ..PieceFilter::default() };
    assert_eq!(list(&mut tx, &tenant(), &inside, None, 9).await.unwrap().len(), 2);
    // It fails, and leaves the device with its return; it could not with a transfer.
    let moved = approved(&mut tx, Some("north"), "hub", 1).await;
    assert!(ship(&mut tx, &moved, &["b"]).await.unwrap_err().ends_with("is in device \"server-1\""));
    let (part, north) = (part(), depot("north"));
    sqlx::query("INSERT INTO depots (tenant, depot, echelon) VALUES ('acme', 'hub', 'hub')")
        .execute(&mut *tx)
        .await
        .unwrap();
    let failed = Failed { use_id: &next.use_id, ts: at(6), part: &part, depot: &north, quantity: 1 };
    let back = returns::open(&mut tx, &tenant(), &failed, harbinger_core::Duration::ZERO).await.unwrap().unwrap();
    returns::ship(&mut tx, &tenant(), &back.order_id, &named(&["b"]), at(7)).await.unwrap();
    assert_eq!(places(&mut tx).await, ["a north", "b on the way", "x in server-1"]);
    // Another use of the same time has its own.
    let twin = orders::PartUse { component: "disk2".parse().unwrap(), ..next_wanted };
    let (_, twin) = orders::use_part(&mut tx, &tenant(), &twin).await.unwrap();
    assert_eq!(put_in(&mut tx, &twin.use_id, &["a"]).await.0, Ok(()));
    let after = named(&["a in server-1", "b on the way", "x in server-1", "y in server-1"]);
    assert_eq!(put_in(&mut tx, &next.use_id, &["y"]).await, (Ok(()), after));
}
