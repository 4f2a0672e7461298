//! One holder at a time, by the clock, and every change of hands is seen by the one that lost.

use std::sync::Arc;

use harbinger_core::{Clock as _, SystemClock};
use tokio::{sync::oneshot, task::JoinHandle};

use super::*;
use crate::ledger::{Ledger, fixture::on_both_engines};

on_both_engines!(
    a_lease_has_one_holder_until_it_ends_or_is_given_back,
    what_was_begun_before_a_lease_changed_hands_is_told,
    of_two_keepers_one_holds_and_the_other_follows,
);

const LENGTH: Duration = Duration::from_millis(100);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

async fn a_lease_has_one_holder_until_it_ends_or_is_given_back(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    assert_eq!(acquire(&mut tx, "plan", "a", at(0), LENGTH).await.unwrap(), Some(1));
    assert_eq!(acquire(&mut tx, "plan", "b", at(99), LENGTH).await.unwrap(), None);
    assert_eq!(acquire(&mut tx, "send", "b", at(99), LENGTH).await.unwrap(), Some(1), "another name is another lease");
    assert_eq!(acquire(&mut tx, "plan", "a", at(99), LENGTH).await.unwrap(), Some(1), "a renewal keeps the token");
    assert_eq!(holder(&mut tx, "plan", at(198)).await.unwrap().as_deref(), Some("a"));
    assert_eq!(holder(&mut tx, "plan", at(199)).await.unwrap(), None);
    assert_eq!(acquire(&mut tx, "plan", "b", at(199), LENGTH).await.unwrap(), Some(2));
    release(&mut tx, "plan", "a").await.unwrap();
    assert_eq!(holder(&mut tx, "plan", at(200)).await.unwrap().as_deref(), Some("b"), "it was not a's to give back");
    release(&mut tx, "plan", "b").await.unwrap();
    assert_eq!(holder(&mut tx, "plan", at(200)).await.unwrap(), None);
    assert_eq!(acquire(&mut tx, "plan", "b", at(201), LENGTH).await.unwrap(), Some(3), "given back is given up");
}

/// A was away while B had the lease, and has it again: what A found before does not stand.
async fn what_was_begun_before_a_lease_changed_hands_is_told(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let first = acquire(&mut tx, "plan", "a", at(0), LENGTH).await.unwrap().unwrap();
    assert!(stands(&mut tx, "plan", first).await.unwrap());
    acquire(&mut tx, "plan", "b", at(100), LENGTH).await.unwrap().unwrap();
    assert!(!stands(&mut tx, "plan", first).await.unwrap());
    let again = acquire(&mut tx, "plan", "a", at(200), LENGTH).await.unwrap().unwrap();
    assert!(!stands(&mut tx, "plan", first).await.unwrap());
    assert!(stands(&mut tx, "plan", again).await.unwrap());
    release(&mut tx, "plan", "a").await.unwrap();
    assert!(!stands(&mut tx, "plan", again).await.unwrap());
}

async fn until(what: &str, happened: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn keep(ledger: &Ledger, holder: &str) -> (Lease, oneshot::Sender<()>, JoinHandle<()>) {
    let length = Duration::from_millis(400);
    let (keeper, lease) = Keeper::build(ledger.clone(), Arc::new(SystemClock), "plan", holder.to_owned(), length);
    let (stop, stopped) = oneshot::channel::<()>();
    (lease, stop, tokio::spawn(keeper.run(async { drop(stopped.await) })))
}

async fn of_two_keepers_one_holds_and_the_other_follows(ledger: Ledger) {
    let (first, stop, task) = keep(&ledger, "a");
    until("a to hold", || first.permit(Duration::ZERO).is_some()).await;
    let (second, _stop, dying) = keep(&ledger, "b");
    let permit = first.permit(Duration::ZERO).unwrap();
    assert_eq!(first.permit(Duration::from_millis(301)), None, "three quarters of the length are counted on");
    assert_eq!(second.permit(Duration::ZERO), None);
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(first.permit(Duration::ZERO), None);
    until("b to follow", || second.permit(Duration::ZERO).is_some()).await;
    let mut tx = ledger.write().await.unwrap();
    assert!(!permit.stands(&mut tx).await.unwrap());
    assert!(second.permit(Duration::ZERO).unwrap().stands(&mut tx).await.unwrap());
    drop(tx);
    // A process that dies renews no more, and stops counting on what it has before others may take it.
    dying.abort();
    until("b's lease to run out", || second.permit(Duration::ZERO).is_none()).await;
    let mut tx = ledger.write().await.unwrap();
    assert_eq!(
        acquire(&mut tx, "plan", "c", SystemClock.now(), LENGTH).await.unwrap(),
        None,
        "b's quarter is not over"
    );
}

#[tokio::test]
async fn who_shares_with_nobody_may_always() {
    let ledger = Ledger::in_memory().await.unwrap();
    let permit = Lease::unshared().permit(Duration::from_days(1)).unwrap();
    assert!(permit.stands(&mut ledger.write().await.unwrap()).await.unwrap());
}
