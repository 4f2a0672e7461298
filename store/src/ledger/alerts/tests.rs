//! Goal: rows come back as they went in, the second standing alert is refused, lists page without gap or repeat.

use harbinger_core::Severity;

use super::*;
use crate::Ledger;
use crate::ledger::fixture::on_both_engines;
use serde_json::json;

on_both_engines!(
    a_row_comes_back_as_it_went_in_before_and_after_an_update,
    a_second_standing_alert_is_refused_by_the_table,
    lists_page_in_both_orders_and_filter,
    history_counts_its_steps,
);

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

fn sample(alert_id: &str, device: &str) -> Alert {
    let at = Timestamp::from_millis(1_000);
    Alert {
        alert_id: alert_id.to_owned(),
        device: DeviceId::parse(device).unwrap(),
        component: ComponentId::parse("fan").unwrap(),
        failure_mode: "predicted".to_owned(),
        state: AlertState::Open,
        severity: Severity::Warning,
        summary: "fan of d1 will fail".to_owned(),
        reasons: vec![json!({"signal": "fan1_rpm", "contribution": 0.3})],
        probability: Probability::saturating(0.4),
        peak_probability: Probability::saturating(0.5),
        prediction_id: Some("prd_1".to_owned()),
        raised_at: at,
        updated_at: at,
        below_since: None,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        closed_at: None,
        closed_by: None,
        outcome: None,
        outcome_component: None,
        comment: None,
    }
}

async fn a_row_comes_back_as_it_went_in_before_and_after_an_update(ledger: Ledger) {
    let (acme, mut tx) = (tenant("acme"), ledger.write().await.unwrap());
    let mut alert = sample("alr_1", "d1");
    insert(&mut tx, &acme, &alert).await.unwrap();
    assert_eq!(get(&mut tx, &acme, "alr_1").await.unwrap(), alert);
    let found = find_open(&mut tx, &acme, &alert.device, &alert.component, "predicted").await.unwrap();
    assert_eq!(found.as_ref(), Some(&alert));

    alert.state = AlertState::Closed;
    alert.below_since = Some(Timestamp::from_millis(2_000));
    alert.acknowledged_at = Some(Timestamp::from_millis(1_500));
    alert.acknowledged_by = Some("eve".to_owned());
    alert.resolved_at = Some(Timestamp::from_millis(2_500));
    alert.closed_at = Some(Timestamp::from_millis(3_000));
    alert.closed_by = Some("eve".to_owned());
    alert.outcome = Some(Outcome::OtherComponent);
    alert.outcome_component = Some(ComponentId::parse("psu").unwrap());
    alert.comment = Some("it was the power supply".to_owned());
    update(&mut tx, &acme, &alert).await.unwrap();
    assert_eq!(get(&mut tx, &acme, "alr_1").await.unwrap(), alert);
    assert_eq!(find_open(&mut tx, &acme, &alert.device, &alert.component, "predicted").await.unwrap(), None);

    let step = NewStep {
        at: Timestamp::from_millis(3_000),
        at_wall: Timestamp::from_millis(0),
        state: AlertState::Closed,
        actor: "eve",
        comment: None,
    };
    append_history(&mut tx, &acme, "alr_1", step).await.unwrap();
    let ended = ended_since(&mut tx, &acme, Timestamp::from_millis(3_000)).await.unwrap();
    assert_eq!(ended.iter().map(|e| (e.at.millis(), e.by.as_str())).collect::<Vec<_>>(), [(3_000, "eve")]);
    assert!(ended_since(&mut tx, &acme, Timestamp::from_millis(3_001)).await.unwrap().is_empty());

    let other = tenant("other");
    assert!(matches!(get(&mut tx, &other, "alr_1").await, Err(Error::NotFound { .. })));
    assert!(matches!(update(&mut tx, &other, &alert).await, Err(Error::NotFound { .. })));
}

async fn a_second_standing_alert_is_refused_by_the_table(ledger: Ledger) {
    let (acme, mut tx) = (tenant("acme"), ledger.write().await.unwrap());
    insert(&mut tx, &acme, &sample("alr_1", "d1")).await.unwrap();
    assert!(insert(&mut tx, &acme, &sample("alr_2", "d1")).await.is_err());
}

async fn lists_page_in_both_orders_and_filter(ledger: Ledger) {
    let (acme, mut tx) = (tenant("acme"), ledger.write().await.unwrap());
    for n in 1..=7 {
        let mut alert = sample(&format!("alr_{n}"), &format!("d{n}"));
        alert.state = if n % 2 == 0 { AlertState::Resolved } else { AlertState::Open };
        insert(&mut tx, &acme, &alert).await.unwrap();
    }
    let all = AlertFilter::default();
    for (order, expected) in [(Order::NewestFirst, "7654321"), (Order::OldestFirst, "1234567")] {
        let (mut seen, mut after) = (String::new(), None::<String>);
        loop {
            let page = list(&mut tx, &acme, &all, order, after.as_deref(), 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.alert_id.clone());
            seen.extend(page.iter().map(|alert| alert.alert_id.chars().last().unwrap()));
        }
        assert_eq!(seen, expected);
    }
    let resolved = AlertFilter { states: vec![AlertState::Resolved], ..AlertFilter::default() };
    assert_eq!(list(&mut tx, &acme, &resolved, Order::NewestFirst, None, 10).await.unwrap().len(), 3);
    let both = AlertFilter {
        states: vec![AlertState::Open, AlertState::Resolved],
        device: Some(DeviceId::parse("d4").unwrap()),
        component: Some(ComponentId::parse("fan").unwrap()),
    };
    assert_eq!(list(&mut tx, &acme, &both, Order::OldestFirst, Some("alr_1"), 10).await.unwrap().len(), 1);
    assert_eq!(standing(&mut tx, &acme).await.unwrap().len(), 4);
    let counts = counts(&mut tx, &acme).await.unwrap();
    assert_eq!(counts[0], (AlertState::Open, 4));
    assert_eq!(counts[3], (AlertState::Resolved, 3));
    assert_eq!(counts[4], (AlertState::Closed, 0));
}

async fn history_counts_its_steps(ledger: Ledger) {
    let (acme, mut tx) = (tenant("acme"), ledger.write().await.unwrap());
    for (n, state) in [AlertState::Open, AlertState::Acknowledged].into_iter().enumerate() {
        let at = Timestamp::from_millis(n as i64);
        let step = NewStep { at, at_wall: at, state, actor: "eve", comment: (n == 1).then_some("looking") };
        append_history(&mut tx, &acme, "alr_1", step).await.unwrap();
    }
    let steps = history(&mut tx, &acme, "alr_1").await.unwrap();
    assert_eq!(
        steps.iter().map(|s| (s.step, s.state)).collect::<Vec<_>>(),
        [(1, AlertState::Open), (2, AlertState::Acknowledged)]
    );
    assert_eq!(steps[1].comment.as_deref(), Some("looking"));
    assert!(history(&mut tx, &tenant("other"), "alr_1").await.unwrap().is_empty());
}
