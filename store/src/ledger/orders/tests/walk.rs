//! Random walks over the lives of orders: every piece is conserved.

use proptest::prelude::*;

use super::*;
use crate::ledger::fixture::{self, Fresh};

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
        OrderStep::Ship => ship(tx, &tenant(), kind, id, Departure::default(), at(2)).await,
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
                    Ok((Booked::Before, after)) => {
                        assert_eq!((after.state, after.outstanding()), (before.state, before.outstanding()));
                    }
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
