//! Predictions come back bit for bit, page to their end, and are written quickly.

use super::*;
use crate::ledger::fixture::on_both_engines;
use crate::ledger::{Engine, Ledger};
use proptest::prelude::*;

on_both_engines!(
    rows_come_back_bit_for_bit_in_order_and_a_repeat_replaces,
    a_decision_is_kept_beside_its_prediction,
    a_cycle_of_a_large_fleet_is_written_quickly,
);

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn row(ts: i64, device: &str, component: &str) -> Prediction {
    Prediction {
        ts: Timestamp::from_millis(ts),
        device: DeviceId::parse(device).unwrap(),
        component: ComponentId::parse(component).unwrap(),
        // Neighbours of 0.1 + 0.2 and a number that serde_json's quick reader gets wrong in the last place.
        probabilities: vec![0.1 + 0.2, 5e-324, 0.318_717_210_311_327_4],
        score: 1.0 / 3.0,
        alarm: ts % 2 == 0,
        rul_mean: 1_234.567_890_123_456_7,
        rul_p05: 0.0,
        rul_p50: f64::MIN_POSITIVE,
        rul_p95: 1e308,
        top_signals: vec![("rpm".to_owned(), 0.25)],
        model_version: "v1".to_owned(),
    }
}

proptest! {
    #[test]
    fn numbers_are_read_as_they_were_written(numbers in prop::collection::vec(any::<f64>(), 0..6)) {
        let read = read_numbers(&write_numbers(&numbers)).unwrap();
        let bits = |numbers: &[f64]| -> Vec<Option<u64>> {
            numbers.iter().map(|number| (!number.is_nan()).then(|| number.to_bits())).collect()
        };
        prop_assert_eq!(bits(&read), bits(&numbers));
    }

    #[test]
    fn an_id_is_read_as_it_was_written(ts in any::<i32>(), device in "[^/+#\\p{Cc}]{1,20}", component in "[a-z:|]{1,9}") {
        let key = PredictionKey {
            ts: Timestamp::from_millis(i64::from(ts) * 1000),
            device: DeviceId::parse(&device).unwrap(),
            component: ComponentId::parse(&component).unwrap(),
        };
        prop_assert_eq!(PredictionKey::decode(&key.encode()), Some(key));
    }
}

#[test]
fn what_is_no_id_is_none() {
    for text in ["", "prd_", "prd_!!", "alr_0", "prd_MQ"] {
        assert_eq!(PredictionKey::decode(text), None, "{text:?}");
    }
}

async fn rows_come_back_bit_for_bit_in_order_and_a_repeat_replaces(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let rows: Vec<Prediction> = (1..=3)
        .flat_map(|ts| ["a", "b"].map(|device| ["disk", "fan"].map(|component| row(ts, device, component))))
        .flatten()
        .collect();
    for _ in 0..2 {
        insert_many(&mut tx, &tenant(), &rows).await.unwrap();
    }
    let all = Filter::default();
    assert_eq!(list(&mut tx, &tenant(), &all, None, 100).await.unwrap(), rows);
    let mut paged: Vec<Prediction> = Vec::new();
    loop {
        let after = paged.last().map(Prediction::key);
        let page = list(&mut tx, &tenant(), &all, after.as_ref(), 5).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, rows);
    let latest = Filter { latest: true, ..Filter::default() };
    assert_eq!(list(&mut tx, &tenant(), &latest, None, 100).await.unwrap(), rows[8..]);
    let of_device = Filter { device: Some("b".parse().unwrap()), latest: true, ..Filter::default() };
    assert_eq!(list(&mut tx, &tenant(), &of_device, None, 100).await.unwrap(), rows[10..]);
    let early = TimeRange { from: Timestamp::from_millis(1), to: Timestamp::from_millis(2) };
    let some =
        Filter { range: early, device: Some("b".parse().unwrap()), component: Some("fan".parse().unwrap()), ..all };
    assert_eq!(list(&mut tx, &tenant(), &some, None, 100).await.unwrap(), rows[3..4]);
    let by_other = Filter { model_version: Some("v2".to_owned()), ..Filter::default() };
    assert!(list(&mut tx, &tenant(), &by_other, None, 100).await.unwrap().is_empty());
    assert_eq!(get(&mut tx, &tenant(), &rows[4].key()).await.unwrap(), rows[4]);
    let other = TenantId::parse("other").unwrap();
    assert!(matches!(get(&mut tx, &other, &rows[4].key()).await, Err(Error::NotFound { .. })));
    let undefined = Prediction { rul_mean: f64::NAN, ..row(9, "a", "fan") };
    assert!(matches!(insert_many(&mut tx, &tenant(), &[undefined]).await, Err(Error::Conflict { .. })));
}

/// A fleet of 17,135 drives in one cycle: 80,000 rows a second is the aim, and a fifth of that fails the test. A server that
/// shares its two cores with the test and its neighbours is asked for a quarter of that.
async fn a_cycle_of_a_large_fleet_is_written_quickly(ledger: Ledger) {
    let rows: Vec<Prediction> = (0..60_000).map(|i| row(i / 17_135, &format!("d{:05}", i % 17_135), "drive")).collect();
    let start = std::time::Instant::now();
    let mut tx = ledger.write().await.unwrap();
    insert_many(&mut tx, &tenant(), &rows).await.unwrap();
    tx.commit().await.unwrap();
    let rate = rows.len() as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} predictions/s");
    let least = if ledger.engine() == Engine::Sqlite { 16_000.0 } else { 4_000.0 };
    assert!(rate > least, "{rate:.0} rows/s");
}

async fn a_decision_is_kept_beside_its_prediction(ledger: Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let prediction = row(1, "a", "fan");
    let kept = Decision {
        prediction_id: prediction.id(),
        model_version: "v1".to_owned(),
        body: serde_json::json!({ "features": { "fan1_rpm.mean": 8123.5 } }),
    };
    assert_eq!(decision(&mut tx, &tenant(), &prediction.id()).await.unwrap(), None);
    insert_decisions(&mut tx, &tenant(), std::slice::from_ref(&kept)).await.unwrap();
    assert_eq!(decision(&mut tx, &tenant(), &prediction.id()).await.unwrap(), Some(kept));
}
