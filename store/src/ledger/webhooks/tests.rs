//! Goal: an endpoint is owed exactly what it wants, in order, and what becomes of an attempt never overrides a person.

use super::{
    outbox::{self, DeliveryState, Recorded},
    *,
};
use crate::Ledger;
use crate::ledger::fixture::on_both_engines;

on_both_engines!(
    endpoints_are_made_read_changed_listed_and_removed,
    the_outbox_serves_each_endpoint_in_order_and_records_what_became_of_it,
    switching_off_makes_dead_letters_and_switching_on_lets_them_be_redelivered,
    an_endpoint_that_is_down_rests_without_the_others,
);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn sample(webhook_id: &str, event_types: &[&str]) -> Webhook {
    Webhook {
        webhook_id: webhook_id.to_owned(),
        tenant: TenantId::parse("acme").unwrap(),
        url: "https://example.com/hook".to_owned(),
        secret: Secret::new("whsec_new".to_owned()),
        previous_secret: Some(Secret::new("whsec_old".to_owned())),
        previous_until_wall: Some(at(1_000)),
        event_types: event_types.iter().map(|&t| t.to_owned()).collect(),
        state: WebhookState::Active,
        disabled_reason: None,
        created_wall: at(0),
    }
}

#[test]
fn an_endpoint_wants_types_families_or_all() {
    assert!(sample("w", &[]).wants("alert.raised"));
    assert!(sample("w", &["alert.raised"]).wants("alert.raised"));
    assert!(sample("w", &["model.trained", "alert.*"]).wants("alert.closed"));
    assert!(!sample("w", &["alert.raised"]).wants("alert.raised.twice"));
    assert!(!sample("w", &["transfer.*"]).wants("alert.raised"));
}

#[test]
fn two_secrets_sign_until_the_rotation_ends_and_none_is_printed() {
    let webhook = sample("w", &[]);
    assert_eq!(webhook.secrets_at(at(999)).len(), 2);
    assert_eq!(webhook.secrets_at(at(1_000)).len(), 1);
    assert!(!format!("{webhook:?}").contains("whsec"));
}

async fn endpoints_are_made_read_changed_listed_and_removed(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let mut webhook = sample("whk_1", &["alert.*"]);
    let (acme, other) = (webhook.tenant.clone(), TenantId::parse("other").unwrap());
    insert(&mut tx, &webhook).await.unwrap();
    insert(&mut tx, &sample("whk_2", &[])).await.unwrap();
    assert_eq!(get(&mut tx, &acme, "whk_1").await.unwrap(), webhook);
    assert!(matches!(get(&mut tx, &other, "whk_1").await, Err(Error::NotFound { .. })));
    webhook.url = "https://example.com/other".to_owned();
    webhook.previous_secret = None;
    update(&mut tx, &webhook).await.unwrap();
    assert_eq!(list(&mut tx, &acme, None, 1).await.unwrap(), [webhook.clone()]);
    assert_eq!(list(&mut tx, &acme, Some("whk_1"), 10).await.unwrap()[0].webhook_id, "whk_2");
    assert!(delete(&mut tx, &other, "whk_1").await.is_err());
    delete(&mut tx, &acme, "whk_1").await.unwrap();
    assert_eq!(active(&mut tx, &acme).await.unwrap().len(), 1);
}

async fn the_outbox_serves_each_endpoint_in_order_and_records_what_became_of_it(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let endpoints = [sample("whk_1", &["alert.*"]), sample("whk_2", &["model.trained"])];
    for endpoint in &endpoints {
        insert(&mut tx, endpoint).await.unwrap();
    }
    for (n, kind) in ["alert.raised", "alert.closed", "model.trained"].into_iter().enumerate() {
        assert_eq!(outbox::enqueue(&mut tx, &endpoints, kind, "{}", at(n as i64)).await.unwrap(), 1);
    }
    assert_eq!(outbox::endpoints_due(&mut tx, at(1)).await.unwrap(), ["whk_1"]);
    assert_eq!(outbox::endpoints_due(&mut tx, at(2)).await.unwrap(), ["whk_1", "whk_2"]);

    let first = outbox::next_due(&mut tx, "whk_1", at(5)).await.unwrap().unwrap();
    assert_eq!((first.event_type.as_str(), first.attempts), ("alert.raised", 0));
    let retry = Recorded::Retry { status: Some(500), error: "no".to_owned(), next_attempt_wall: at(100) };
    assert!(outbox::record(&mut tx, &first, &retry, at(6)).await.unwrap());
    // What was seen before the attempt no longer holds, so a second record changes nothing.
    assert!(!outbox::record(&mut tx, &first, &Recorded::Delivered { status: 200 }, at(6)).await.unwrap());
    let second = outbox::next_due(&mut tx, "whk_1", at(7)).await.unwrap().unwrap();
    assert_eq!(second.event_type, "alert.closed");
    assert_eq!(outbox::failing_since(&mut tx, "whk_1").await.unwrap(), Some(at(0)));
    assert!(outbox::record(&mut tx, &second, &Recorded::Delivered { status: 204 }, at(8)).await.unwrap());
    assert_eq!(outbox::failing_since(&mut tx, "whk_1").await.unwrap(), None);
    assert_eq!(outbox::next_due(&mut tx, "whk_1", at(99)).await.unwrap(), None);

    let again = outbox::next_due(&mut tx, "whk_1", at(100)).await.unwrap().unwrap();
    assert_eq!((again.attempts, again.last_status, again.last_error.as_deref()), (1, Some(500), Some("no")));
    assert!(
        outbox::record(&mut tx, &again, &Recorded::Dead { status: None, error: "down".to_owned() }, at(101))
            .await
            .unwrap()
    );
    let dead = outbox::list(&mut tx, "whk_1", Some(DeliveryState::Dead), None, 10).await.unwrap();
    assert_eq!(dead.iter().map(|d| d.attempts).collect::<Vec<_>>(), [2]);
    assert_eq!(outbox::backlog(&mut tx).await.unwrap(), (1, 1));
    let everything = outbox::list(&mut tx, "whk_1", None, None, 10).await.unwrap();
    assert_eq!(everything.len(), 2);
    assert_eq!(
        outbox::list(&mut tx, "whk_1", None, Some(&everything[0].delivery_id), 10).await.unwrap(),
        everything[1..]
    );

    outbox::redeliver(&mut tx, &endpoints[0], &dead[0].delivery_id, at(200)).await.unwrap();
    let pending = outbox::get(&mut tx, "whk_1", &dead[0].delivery_id).await.unwrap();
    assert_eq!((pending.state, pending.attempts), (DeliveryState::Pending, 0));
    assert_eq!(pending.message_id, dead[0].message_id);
    assert!(matches!(outbox::redeliver(&mut tx, &endpoints[0], "dlv_none", at(0)).await, Err(Error::NotFound { .. })));
}

async fn switching_off_makes_dead_letters_and_switching_on_lets_them_be_redelivered(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let webhook = sample("whk_1", &[]);
    insert(&mut tx, &webhook).await.unwrap();
    outbox::enqueue(&mut tx, std::slice::from_ref(&webhook), "alert.raised", "{}", at(0)).await.unwrap();
    disable(&mut tx, &webhook.tenant, "whk_1", "answered 410").await.unwrap();
    let off = get(&mut tx, &webhook.tenant, "whk_1").await.unwrap();
    assert_eq!((off.state, off.disabled_reason.as_deref()), (WebhookState::Disabled, Some("answered 410")));
    assert!(active(&mut tx, &webhook.tenant).await.unwrap().is_empty());
    let dead = outbox::list(&mut tx, "whk_1", Some(DeliveryState::Dead), None, 10).await.unwrap();
    assert!(dead[0].last_error.as_deref().unwrap().contains("answered 410"));
    assert!(matches!(outbox::redeliver_dead(&mut tx, &off, at(1)).await, Err(Error::WrongState { .. })));
    enable(&mut tx, &webhook.tenant, "whk_1").await.unwrap();
    let on = get(&mut tx, &webhook.tenant, "whk_1").await.unwrap();
    assert_eq!(outbox::redeliver_dead(&mut tx, &on, at(1)).await.unwrap(), 1);
    assert!(outbox::next_due(&mut tx, "whk_1", at(1)).await.unwrap().is_some());
    assert_eq!(outbox::prune(&mut tx, at(1_000)).await.unwrap(), 0);
}

async fn an_endpoint_that_is_down_rests_without_the_others(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let endpoints = [sample("whk_1", &[]), sample("whk_2", &[])];
    for endpoint in &endpoints {
        insert(&mut tx, endpoint).await.unwrap();
    }
    for _ in 0..3 {
        outbox::enqueue(&mut tx, &endpoints, "alert.raised", "{}", at(0)).await.unwrap();
    }
    assert_eq!(outbox::postpone(&mut tx, "whk_1", at(100)).await.unwrap(), 3);
    assert_eq!(outbox::endpoints_due(&mut tx, at(99)).await.unwrap(), ["whk_2"]);
    assert_eq!(outbox::endpoints_due(&mut tx, at(100)).await.unwrap(), ["whk_1", "whk_2"]);
    assert_eq!(outbox::postpone(&mut tx, "whk_1", at(50)).await.unwrap(), 0);
}
