//! Stock: booked once, never below zero, and imports that leave our own shipments counted.

use harbinger_core::ids::{DepotId, PartId, TenantId};

use super::*;
use crate::Ledger;
use crate::ledger::fixture::on_both_engines;

on_both_engines!(
    a_movement_is_booked_once_and_says_so_the_second_time,
    more_than_is_there_cannot_leave,
    an_import_sets_levels_once_and_books_the_difference,
    lists_page_by_part_and_depot,
);

fn at(hour: i64) -> Timestamp {
    Timestamp::from_millis(hour * 3_600_000)
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn place() -> (PartId, DepotId) {
    (PartId::parse("fan").unwrap(), DepotId::parse("north").unwrap())
}

fn told(on_hand: u32, in_transit: u32) -> StockLevel {
    let (part, depot) = place();
    StockLevel { part, depot, on_hand, in_transit }
}

async fn a_movement_is_booked_once_and_says_so_the_second_time(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let (part, depot) = place();
    for expected in [Booked::Now, Booked::Before, Booked::Before] {
        let (booked, level) = adjust(&mut tx, &tenant(), at(1), &part, &depot, 3, "count-1").await.unwrap();
        assert_eq!((booked, level.on_hand), (expected, 3));
    }
    // Another kind under the same reference is another movement.
    let consumed = NewMovement {
        ts: at(2),
        part: &part,
        depot: &depot,
        quantity: -1,
        kind: MovementKind::Consume,
        reference: "count-1",
    };
    assert_eq!(book(&mut tx, &tenant(), consumed).await.unwrap(), Booked::Now);
    let booked = movements(&mut tx, &tenant(), &StockFilter::default(), None, 10).await.unwrap();
    assert_eq!(booked.iter().map(|m| m.quantity).collect::<Vec<_>>(), [-1, 3]);
    let older = movements(&mut tx, &tenant(), &StockFilter::default(), Some(&booked[0].movement_id), 10).await.unwrap();
    assert_eq!(older, booked[1..]);
}

/// A refused movement leaves nothing behind, even where the caller commits what it did besides.
async fn more_than_is_there_cannot_leave(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let (part, depot) = place();
    adjust(&mut tx, &tenant(), at(1), &part, &depot, 2, "a").await.unwrap();
    let refused = adjust(&mut tx, &tenant(), at(1), &part, &depot, -3, "b").await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    tx.commit().await.unwrap();
    let mut tx = ledger.write().await.unwrap();
    assert_eq!(movements(&mut tx, &tenant(), &StockFilter::default(), None, 10).await.unwrap().len(), 1);
    let (booked, level) = adjust(&mut tx, &tenant(), at(2), &part, &depot, -2, "b").await.unwrap();
    assert_eq!((booked, level.on_hand), (Booked::Now, 0));
}

async fn an_import_sets_levels_once_and_books_the_difference(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    assert_eq!(import(&mut tx, &tenant(), at(1), &[told(5, 2)], "imp-1").await.unwrap(), 1);
    assert_eq!(import(&mut tx, &tenant(), at(2), &[told(9, 9)], "imp-1").await.unwrap(), 0);
    assert_eq!(all(&mut tx, &tenant()).await.unwrap(), [told(5, 2)]);
    assert_eq!(import(&mut tx, &tenant(), at(3), &[told(3, 0)], "imp-2").await.unwrap(), 1);
    assert_eq!(all(&mut tx, &tenant()).await.unwrap(), [told(3, 0)]);
    let booked = movements(&mut tx, &tenant(), &StockFilter::default(), None, 10).await.unwrap();
    assert_eq!(booked.iter().map(|m| m.quantity).collect::<Vec<_>>(), [-2, 5]);
    let other = TenantId::parse("other").unwrap();
    assert_eq!(all(&mut tx, &other).await.unwrap(), []);
}

async fn lists_page_by_part_and_depot(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let levels: Vec<StockLevel> = ["a", "b"]
        .iter()
        .flat_map(|part| ["x", "y", "z"].iter().map(move |depot| (part, depot)))
        .map(|(part, depot)| StockLevel {
            part: PartId::parse(part).unwrap(),
            depot: DepotId::parse(depot).unwrap(),
            on_hand: 1,
            in_transit: 0,
        })
        .collect();
    import(&mut tx, &tenant(), at(1), &levels, "imp").await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None::<(String, String)>);
    loop {
        let cursor = after.as_ref().map(|(part, depot)| (part.as_str(), depot.as_str()));
        let page = list(&mut tx, &tenant(), &StockFilter::default(), cursor, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.part.to_string(), last.depot.to_string()));
        seen.extend(page);
    }
    assert_eq!(seen, levels);
    let filter = StockFilter { part: None, depot: Some(DepotId::parse("y").unwrap()) };
    assert_eq!(list(&mut tx, &tenant(), &filter, None, 9).await.unwrap().len(), 2);
}
