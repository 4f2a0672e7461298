//! The generic suite: what every telemetry store promises, run on every one by `telemetry_store_suite!`.

use std::sync::Arc;

use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, Duration, Reading, Severity, SignalId, Summary, TenantId, TimeRange, Timestamp,
    history::{Closed, Readings, Timeline},
};

use super::{
    ARRIVAL_SIGNAL, Appended, Batch, DataClass, Error, Latest, Quarantined, SharedStore, TelemetryStore, Windows,
};

/// A store under test, and the folder that goes when the test ends.
pub(super) struct Fixture {
    pub(super) store: SharedStore,
    pub(super) _folder: Option<tempfile::TempDir>,
}

/// Expands to one test a promise; the expression makes an empty [`Fixture`].
macro_rules! telemetry_store_suite {
    ($fixture:expr) => {
        $crate::telemetry::suite::telemetry_store_suite!($fixture =>
            what_is_appended_is_visible,
            readings_are_stored_duplicate_or_corrected,
            the_last_arrival_wins_sample_by_sample,
            late_data_reaches_its_place_across_compaction,
            latest_is_by_event_time,
            scans_keep_to_range_and_signals,
            a_reading_timed_by_arrival_is_marked,
            values_come_back_bit_for_bit,
            events_are_idempotent_and_in_order,
            quarantine_is_listed_and_removed,
            summaries_are_those_of_all_readings,
            windows_are_those_of_all_readings,
            pages_follow_each_other_without_gap,
            retention_forgets_what_is_older,
            classes_are_retained_each_by_itself,
            a_deleted_device_is_gone_and_may_come_back,
            tenants_never_see_each_other,
            extents_follow_readings_and_events,
            many_devices_are_scanned_in_the_order_asked_for,
            every_append_is_news,
            a_closed_store_refuses_appends,
            size_counts_samples,
        );
    };
    ($fixture:expr => $($promise:ident,)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let fixture = $fixture;
                $crate::telemetry::suite::$promise(&*fixture.store).await;
            }
        )*
    };
}
pub(super) use telemetry_store_suite;

/// Test times count minutes from 2015-01-01.
pub(super) fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000 + minute * 60_000)
}

pub(super) fn key(device: &str) -> DeviceKey {
    DeviceKey::new(TenantId::parse("acme").unwrap(), DeviceId::parse(device).unwrap())
}

pub(super) fn signal(name: &str) -> SignalId {
    SignalId::parse(name).unwrap()
}

pub(super) fn reading(device: &str, minute: i64, values: &[(&str, f64)]) -> Reading {
    let values = values.iter().map(|(name, value)| (signal(name), *value)).collect();
    Reading { key: key(device), ts: at(minute), arrival: false, values }
}

fn event(device: &str, minute: i64, code: &str) -> DeviceEvent {
    DeviceEvent { key: key(device), ts: at(minute), code: code.into(), severity: Severity::Warning, message: None }
}

fn message(tenant: Option<&str>, topic: &str) -> Quarantined {
    Quarantined {
        tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
        received_at: at(0),
        topic: topic.to_owned(),
        payload: vec![0, 255, 7],
        reason: "no JSON".to_owned(),
        readings: 3,
    }
}

pub(super) async fn append(store: &dyn TelemetryStore, readings: Vec<Reading>) -> Appended {
    store.append(Batch { readings, ..Batch::default() }).await.unwrap()
}

pub(super) async fn scan(store: &dyn TelemetryStore, device: &str) -> Readings {
    store.scan(&key(device), TimeRange::ALL, None).await.unwrap()
}

async fn forget_all(store: &dyn TelemetryStore, tenant: &TenantId, before: Timestamp) {
    for class in DataClass::ALL {
        store.retain(tenant, class, before).await.unwrap();
    }
}

/// Minutes and values of a signal.
fn samples(readings: &Readings, name: &str) -> Vec<(i64, f64)> {
    let column = readings.column(&signal(name)).unwrap_or_default();
    let all = readings.times.iter().zip(column).filter(|(_, value)| !value.is_nan());
    all.map(|(ts, value)| ((ts.millis() - at(0).millis()) / 60_000, *value)).collect()
}

fn counts(done: Appended) -> (u64, u64, u64) {
    (done.stored, done.duplicate, done.corrected)
}

pub(super) async fn what_is_appended_is_visible(store: &dyn TelemetryStore) {
    assert!(scan(store, "a").await.is_empty());
    append(store, vec![reading("a", 0, &[("x", 1.0)]), reading("a", 5, &[("y", 2.0)])]).await;
    let found = scan(store, "a").await;
    assert_eq!(found.times, [at(0), at(5)]);
    assert_eq!((samples(&found, "x"), samples(&found, "y")), (vec![(0, 1.0)], vec![(5, 2.0)]));
    store.compact().await.unwrap();
    let compacted = scan(store, "a").await;
    assert_eq!((samples(&compacted, "x"), samples(&compacted, "y")), (vec![(0, 1.0)], vec![(5, 2.0)]));
}

pub(super) async fn readings_are_stored_duplicate_or_corrected(store: &dyn TelemetryStore) {
    let first = vec![
        reading("a", 0, &[("x", 1.0), ("y", 2.0)]),
        reading("a", 0, &[("x", 1.0)]),
        reading("a", 0, &[("x", 3.0)]),
        reading("b", 0, &[("x", 1.0)]),
        reading("a", 1, &[]),
    ];
    assert_eq!(counts(append(store, first).await), (2, 2, 1));
    for _ in 0..2 {
        let again = vec![
            reading("a", 0, &[("x", 3.0), ("y", 2.0)]),
            reading("b", 0, &[("x", 1.0)]),
            reading("b", -5, &[("x", 1.0)]),
        ];
        let late_is_new = if scan(store, "b").await.len() == 1 { 1 } else { 0 };
        assert_eq!(counts(append(store, again).await), (late_is_new, 3 - late_is_new, 0));
        store.compact().await.unwrap();
    }
    let mixed = vec![
        reading("a", 0, &[("x", 3.0), ("z", 9.0)]),
        reading("a", 0, &[("z", 9.0), ("y", 2.5)]),
        reading("b", -5, &[("x", -1.0), ("new", 0.0)]),
    ];
    assert_eq!(counts(append(store, mixed).await), (1, 0, 2));
}

pub(super) async fn the_last_arrival_wins_sample_by_sample(store: &dyn TelemetryStore) {
    append(store, vec![reading("a", 0, &[("x", 1.0), ("y", 1.0)]), reading("a", 1, &[("x", 1.0)])]).await;
    store.compact().await.unwrap();
    append(store, vec![reading("a", 0, &[("x", 2.0)]), reading("a", 1, &[("y", 5.0)])]).await;
    for _ in 0..2 {
        let found = scan(store, "a").await;
        assert_eq!(samples(&found, "x"), [(0, 2.0), (1, 1.0)]);
        assert_eq!(samples(&found, "y"), [(0, 1.0), (1, 5.0)]);
        store.compact().await.unwrap();
    }
}

pub(super) async fn late_data_reaches_its_place_across_compaction(store: &dyn TelemetryStore) {
    let month = 30 * 24 * 60;
    append(store, (0..50).map(|i| reading("a", i * 60, &[("x", i as f64)])).collect()).await;
    store.compact().await.unwrap();
    append(store, vec![reading("a", 30, &[("x", 0.5)]), reading("a", 3 * month, &[("x", 1e9)])]).await;
    store.compact().await.unwrap();
    append(store, vec![reading("a", -month, &[("x", -1.0)]), reading("a", month, &[("x", 7.0)])]).await;
    let mut expected: Vec<(i64, f64)> = (0..50).map(|i| (i * 60, i as f64)).collect();
    expected.extend([(30, 0.5), (3 * month, 1e9), (-month, -1.0), (month, 7.0)]);
    expected.sort_by_key(|(minute, _)| *minute);
    for _ in 0..2 {
        assert_eq!(samples(&scan(store, "a").await, "x"), expected);
        store.compact().await.unwrap();
    }
}

pub(super) async fn latest_is_by_event_time(store: &dyn TelemetryStore) {
    append(store, vec![reading("a", 9, &[("x", 1.0), ("y", 2.0)]), reading("a", 5, &[("x", 3.0), ("z", 4.0)])]).await;
    let latest = |name, minute, value| Latest { signal: signal(name), ts: at(minute), value };
    let expected = [latest("x", 9, 1.0), latest("y", 9, 2.0), latest("z", 5, 4.0)];
    assert_eq!(store.latest(&key("a")).await.unwrap(), expected);
    store.compact().await.unwrap();
    assert_eq!(store.latest(&key("a")).await.unwrap(), expected);
    let later = 100 * 24 * 60;
    append(store, vec![reading("a", later, &[("y", 8.0)]), reading("a", 9, &[("x", 1.5)])]).await;
    let expected = [latest("x", 9, 1.5), latest("y", later, 8.0), latest("z", 5, 4.0)];
    for _ in 0..2 {
        assert_eq!(store.latest(&key("a")).await.unwrap(), expected);
        store.compact().await.unwrap();
    }
    assert_eq!(store.latest(&key("nobody")).await.unwrap(), []);
}

pub(super) async fn scans_keep_to_range_and_signals(store: &dyn TelemetryStore) {
    append(store, (0..10).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    append(store, vec![reading("a", 4, &[("y", 1.0)]), reading("a", 20, &[("y", 2.0)])]).await;
    for _ in 0..2 {
        let range = TimeRange { from: at(3), to: at(6) };
        let part = store.scan(&key("a"), range, None).await.unwrap();
        assert_eq!(part.times, [at(3), at(4), at(5)]);
        let only_y = store.scan(&key("a"), TimeRange::ALL, Some(&[signal("y")])).await.unwrap();
        assert_eq!((only_y.times.as_slice(), only_y.columns.len()), ([at(4), at(20)].as_slice(), 1));
        let without_y = store.scan(&key("a"), TimeRange { from: at(0), to: at(4) }, None).await.unwrap();
        assert_eq!(without_y.columns.len(), 1);
        let nothing = store.scan(&key("a"), TimeRange { from: at(6), to: at(3) }, None).await.unwrap();
        assert!(nothing.is_empty());
        store.compact().await.unwrap();
    }
}

pub(super) async fn a_reading_timed_by_arrival_is_marked(store: &dyn TelemetryStore) {
    append(store, vec![Reading { arrival: true, ..reading("a", 1, &[("x", 1.0)]) }]).await;
    store.compact().await.unwrap();
    assert_eq!(samples(&scan(store, "a").await, ARRIVAL_SIGNAL), [(1, 1.0)]);
}

pub(super) async fn values_come_back_bit_for_bit(store: &dyn TelemetryStore) {
    let odd = [0.0, -0.0, 0.1 + 0.2, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e22, 24.5, -273.15, 9_007_199_254_740_993.0];
    for device in ["short", "long"] {
        let count = if device == "short" { odd.len() } else { 600 };
        let of = |i: i64| odd[i as usize % odd.len()];
        append(store, (0..count as i64).map(|i| reading(device, i, &[("x", of(i))])).collect()).await;
        append(store, vec![reading(device, 1, &[("not a number", f64::NAN)])]).await;
        store.compact().await.unwrap();
        let found = scan(store, device).await;
        let bits: Vec<u64> = found.column(&signal("x")).unwrap().iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, (0..count as i64).map(|i| of(i).to_bits()).collect::<Vec<_>>());
        assert_eq!(found.columns.len(), 1);
    }
}

pub(super) async fn events_are_idempotent_and_in_order(store: &dyn TelemetryStore) {
    let events = vec![event("b", 1, "E2"), event("a", 1, "E2"), event("a", 1, "E1"), event("a", 0, "E9")];
    let first = store.append(Batch { events: events.clone(), ..Batch::default() }).await.unwrap();
    assert_eq!((first.events_stored, first.events_duplicate), (4, 0));
    let again = store.append(Batch { events: events.clone(), ..Batch::default() }).await.unwrap();
    assert_eq!((again.events_stored, again.events_duplicate), (0, 4));
    let tenant = key("a").tenant;
    let all = store.events(&tenant, None, TimeRange::ALL).await.unwrap();
    assert_eq!(all, [&events[3], &events[2], &events[1], &events[0]].map(Clone::clone));
    let range = TimeRange { from: at(1), to: at(2) };
    let some = store.events(&tenant, Some(&key("a").device), range).await.unwrap();
    assert_eq!(some, [events[2].clone(), events[1].clone()]);
    let none = store.events(&tenant, Some(&key("nobody").device), TimeRange::ALL).await.unwrap();
    assert_eq!(none, []);
}

pub(super) async fn quarantine_is_listed_and_removed(store: &dyn TelemetryStore) {
    let quarantined = vec![message(Some("acme"), "one"), message(None, "two"), message(Some("other"), "three")];
    let done = store.append(Batch { quarantined: quarantined.clone(), ..Batch::default() }).await.unwrap();
    assert_eq!(done.quarantined, 3);
    let all = store.quarantine(None, 0, 10).await.unwrap();
    assert_eq!(all.iter().map(|entry| entry.message.clone()).collect::<Vec<_>>(), quarantined);
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
    let second_page = store.quarantine(None, all[0].id, 1).await.unwrap();
    assert_eq!(second_page, [all[1].clone()]);
    let of_tenant = store.quarantine(Some(&key("a").tenant), 0, 10).await.unwrap();
    assert_eq!(of_tenant, [all[0].clone()]);
    assert!(store.remove_quarantined(all[2].id).await.unwrap());
    assert!(!store.remove_quarantined(all[2].id).await.unwrap());
    store.append(Batch { quarantined: vec![message(None, "four")], ..Batch::default() }).await.unwrap();
    let rest = store.quarantine(None, 0, 10).await.unwrap();
    assert_eq!(rest.iter().map(|entry| entry.message.topic.as_str()).collect::<Vec<_>>(), ["one", "two", "four"]);
    assert!(rest[2].id > all[2].id, "a number is never used twice");
}

pub(super) async fn summaries_are_those_of_all_readings(store: &dyn TelemetryStore) {
    let wave = |i: i64| 20.0 + ((i * 37) % 101) as f64 / 10.0;
    append(store, (0..300).map(|i| reading("a", i * 7, &[("x", wave(i)), ("y", wave(i * i))])).collect()).await;
    store.compact().await.unwrap();
    append(store, (300..400).map(|i| reading("a", i * 7, &[("x", wave(i))])).collect()).await;
    append(store, vec![reading("a", 3, &[("y", 4.0)]), reading("a", 7, &[("x", 5.0)])]).await;
    let step = Duration::from_hours(1);
    for (from, to) in [(0, 2800), (60, 180), (61, 179), (59, 241), (-500, 5000)] {
        for closed in [Closed::Left, Closed::Right] {
            let range = TimeRange { from: at(from), to: at(to) };
            let got = store.summaries(&key("a"), range, None, step, closed).await.unwrap();
            let mut expected = Timeline::closed(&scan(store, "a").await, step, closed);
            for (_, buckets) in &mut expected.signals {
                buckets.retain(|(end, _)| at(from) < *end && *end <= at(to));
            }
            expected.signals.retain(|(_, buckets)| !buckets.is_empty());
            check_same_timeline(&got, &expected);
            let some = ["y", "unheard"].map(|name| SignalId::parse(name).unwrap());
            let got = store.summaries(&key("a"), range, Some(&some), step, closed).await.unwrap();
            expected.signals.retain(|(signal, _)| some.contains(signal));
            check_same_timeline(&got, &expected);
        }
    }
}

/// Counts, extremes, first and last are the same; moments are to 1e-9.
#[track_caller]
pub(super) fn check_same_timeline(got: &Timeline, expected: &Timeline) {
    let buckets = |timeline: &Timeline| -> Vec<(SignalId, Timestamp, Summary)> {
        let all = timeline.signals.iter();
        all.flat_map(|(signal, buckets)| buckets.iter().map(move |(end, s)| (signal.clone(), *end, *s))).collect()
    };
    let (got, expected) = (buckets(got), buckets(expected));
    assert_eq!(got.len(), expected.len(), "{got:?} is not {expected:?}");
    for (one, other) in got.iter().zip(&expected) {
        assert_eq!((&one.0, one.1), (&other.0, other.1));
        check_same_summary(&one.2, &other.2);
    }
}

#[track_caller]
pub(super) fn check_same_summary(one: &Summary, other: &Summary) {
    let exact = |s: &Summary| (s.count, s.min, s.max, s.first, s.last, s.first_ts, s.last_ts);
    assert_eq!(exact(one), exact(other));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
    assert!(close(one.mean, other.mean), "{one:?} is not {other:?}");
    assert!(close(one.stddev().unwrap(), other.stddev().unwrap()), "{one:?} is not {other:?}");
    match (one.slope_per_hour(), other.slope_per_hour()) {
        (Some(a), Some(b)) => assert!(close(a, b), "{one:?} is not {other:?}"),
        (a, b) => assert_eq!(a, b),
    }
}

pub(super) async fn windows_are_those_of_all_readings(store: &dyn TelemetryStore) {
    let wave = |i: i64| 20.0 + ((i * 37) % 101) as f64 / 10.0;
    append(store, (0..500).map(|i| reading("a", i * 7, &[("x", wave(i)), ("y", wave(i * i))])).collect()).await;
    append(store, (0..30).map(|i| reading("b", i * 60, &[("x", wave(i))])).collect()).await;
    store.compact().await.unwrap();
    append(store, vec![reading("b", 30 * 60, &[("x", 9.0)]), reading("a", 3, &[("y", 4.0)])]).await;
    let lengths = [Duration::from_hours(1), Duration::from_hours(24), Duration::from_days(7)];
    let keys = vec![key("b"), key("nobody"), key("a")];
    for minute in [30 * 60, 30 * 60 + 1, 24 * 60, 0, -5, 100_000] {
        let got = store.windows(keys.clone(), at(minute), &lengths).await.unwrap();
        for (windows, device) in got.iter().zip(["b", "nobody", "a"]) {
            let expected = Windows::of(&scan(store, device).await, at(minute), &lengths);
            assert_eq!(windows.signals.len(), expected.signals.len(), "{device} at {minute}");
            for ((name, got), (expected_name, expected)) in windows.signals.iter().zip(&expected.signals) {
                assert_eq!(name, expected_name);
                for (got, expected) in got.iter().zip(expected) {
                    match expected.count {
                        0 => assert_eq!(got.count, 0),
                        _ => check_same_summary(got, expected),
                    }
                }
            }
        }
    }
}

pub(super) async fn pages_follow_each_other_without_gap(store: &dyn TelemetryStore) {
    append(store, (0..100).map(|i| reading("a", i * 600, &[("x", i as f64)])).collect()).await;
    store.compact().await.unwrap();
    append(store, (0..40).map(|i| reading("a", i * 1_501, &[("y", i as f64)])).collect()).await;
    for signals in [None, Some([signal("y")].as_slice())] {
        let all = store.scan(&key("a"), TimeRange::ALL, signals).await.unwrap();
        for limit in [1, 7, 1000] {
            let (mut range, mut times) = (TimeRange::ALL, Vec::new());
            loop {
                let page = store.page(&key("a"), range, signals, limit).await.unwrap();
                assert!(page.len() <= limit);
                let Some(&last) = page.times.last() else { break };
                times.extend(page.times);
                range.from = last + Duration::from_millis(1);
            }
            assert_eq!(times, all.times, "limit {limit}");
        }
    }
}

pub(super) async fn a_deleted_device_is_gone_and_may_come_back(store: &dyn TelemetryStore) {
    let readings = |device| (0..20).map(|i| reading(device, i * 60, &[("x", i as f64), ("y", 1.0)])).collect();
    for device in ["a", "b"] {
        append(store, readings(device)).await;
    }
    store.compact().await.unwrap();
    append(store, vec![reading("a", 5000, &[("x", 1.0)])]).await;
    store.append(Batch { events: vec![event("a", 0, "E"), event("b", 0, "E")], ..Batch::default() }).await.unwrap();
    let deleted = store.delete_device(&key("a")).await.unwrap();
    assert_eq!((deleted.samples, deleted.events), (41, 1));
    assert!(scan(store, "a").await.is_empty());
    assert_eq!(store.latest(&key("a")).await.unwrap(), []);
    assert_eq!(store.extents(&key("a").tenant).await.unwrap().len(), 1);
    assert_eq!(store.events(&key("a").tenant, None, TimeRange::ALL).await.unwrap().len(), 1);
    assert_eq!(scan(store, "b").await.len(), 20);
    assert_eq!(store.delete_device(&key("nobody")).await.unwrap(), Default::default());
    assert_eq!(counts(append(store, readings("a")).await), (20, 0, 0));
    assert_eq!(scan(store, "a").await.len(), 20);
}

pub(super) async fn classes_are_retained_each_by_itself(store: &dyn TelemetryStore) {
    let day = 24 * 60;
    append(store, (0..90).map(|i| reading("a", i * day, &[("x", i as f64)])).collect()).await;
    let batch = Batch {
        events: vec![event("a", 0, "old"), event("a", 80 * day, "new")],
        quarantined: vec![message(Some("acme"), "old"), message(Some("other"), "theirs")],
        ..Batch::default()
    };
    store.append(batch).await.unwrap();
    let tenant = key("a").tenant;
    store.retain(&tenant, DataClass::Events, at(40 * day)).await.unwrap();
    assert_eq!(store.events(&tenant, None, TimeRange::ALL).await.unwrap().len(), 1);
    assert_eq!(scan(store, "a").await.len(), 90);
    store.retain(&tenant, DataClass::Quarantine, at(1)).await.unwrap();
    let left = store.quarantine(None, 0, 10).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.message.topic.as_str()).collect::<Vec<_>>(), ["theirs"]);
    store.retain(&tenant, DataClass::Readings, at(61 * day)).await.unwrap();
    assert!(scan(store, "a").await.len() < 60);
    assert_eq!(store.events(&tenant, None, TimeRange::ALL).await.unwrap().len(), 1);
}

pub(super) async fn retention_forgets_what_is_older(store: &dyn TelemetryStore) {
    let day = 24 * 60;
    for device in ["a", "b"] {
        append(store, (0..90).map(|i| reading(device, i * day, &[("x", i as f64)])).collect()).await;
    }
    let events = vec![event("a", 0, "old"), event("a", 80 * day, "new")];
    store.append(Batch { events, ..Batch::default() }).await.unwrap();
    let tenant = key("a").tenant;
    forget_all(store, &tenant, at(61 * day)).await;
    let found = scan(store, "a").await;
    // May keep up to a chunk's span more, 30 days at the most.
    assert!(found.times[0] > at(30 * day) && found.times[0] <= at(61 * day), "{:?}", found.times[0]);
    assert_eq!(found.times.last(), Some(&at(89 * day)));
    let left = store.events(&tenant, None, TimeRange::ALL).await.unwrap();
    assert_eq!(left.iter().map(|event| &*event.code).collect::<Vec<_>>(), ["new"]);
    assert_eq!(store.extents(&tenant).await.unwrap()[0].readings.unwrap().0, found.times[0]);
    forget_all(store, &tenant, at(1000 * day)).await;
    assert_eq!(store.extents(&tenant).await.unwrap(), []);
    assert_eq!(store.tenants().await.unwrap(), []);
    assert_eq!(store.size().await.unwrap().samples, 0);
    assert_eq!(counts(append(store, vec![reading("a", 0, &[("x", 0.0)])]).await), (1, 0, 0));
}

pub(super) async fn tenants_never_see_each_other(store: &dyn TelemetryStore) {
    let other = DeviceKey::new(TenantId::parse("other").unwrap(), key("a").device);
    append(store, vec![reading("a", 0, &[("x", 1.0)])]).await;
    let theirs = Reading { key: other.clone(), ..reading("a", 0, &[("x", 2.0)]) };
    let event = DeviceEvent { key: other.clone(), ..event("a", 0, "E") };
    let batch = Batch { readings: vec![theirs], events: vec![event], ..Batch::default() };
    assert_eq!(counts(store.append(batch).await.unwrap()), (1, 0, 0));
    assert_eq!(store.tenants().await.unwrap(), [key("a").tenant, other.tenant.clone()]);
    assert_eq!(samples(&scan(store, "a").await, "x"), [(0, 1.0)]);
    assert_eq!(store.events(&key("a").tenant, None, TimeRange::ALL).await.unwrap(), []);
    forget_all(store, &key("a").tenant, Timestamp::MAX).await;
    assert_eq!(store.tenants().await.unwrap(), std::slice::from_ref(&other.tenant));
    assert_eq!(samples(&store.scan(&other, TimeRange::ALL, None).await.unwrap(), "x"), [(0, 2.0)]);
}

pub(super) async fn extents_follow_readings_and_events(store: &dyn TelemetryStore) {
    append(store, vec![reading("b", 5, &[("x", 1.0)]), reading("b", 2, &[("x", 1.0)])]).await;
    let events = vec![event("a", 7, "E"), event("b", 9, "E")];
    store.append(Batch { events, ..Batch::default() }).await.unwrap();
    for _ in 0..2 {
        let extents = store.extents(&key("a").tenant).await.unwrap();
        let plain: Vec<_> = extents.iter().map(|e| (e.device.as_str(), e.first, e.last, e.readings)).collect();
        assert_eq!(plain, [("a", at(7), at(7), None), ("b", at(2), at(9), Some((at(2), at(5))))]);
        store.compact().await.unwrap();
    }
    assert_eq!(store.extents(&TenantId::parse("nobody").unwrap()).await.unwrap(), []);
}

pub(super) async fn many_devices_are_scanned_in_the_order_asked_for(store: &dyn TelemetryStore) {
    let name = |i: i64| format!("device-{i}");
    append(store, (0..60).map(|i| reading(&name(i), i, &[("x", i as f64)])).collect()).await;
    store.compact().await.unwrap();
    let order: Vec<i64> = (0..61).map(|i| i * 17 % 61).collect();
    let found = store.scan_many(order.iter().map(|&i| key(&name(i))).collect(), TimeRange::ALL).await.unwrap();
    for (&i, readings) in order.iter().zip(&found) {
        let expected = if i < 60 { vec![(i, i as f64)] } else { vec![] };
        assert_eq!(samples(readings, "x"), expected);
    }
}

pub(super) async fn every_append_is_news(store: &dyn TelemetryStore) {
    let mut news = store.appended();
    let before = *news.borrow_and_update();
    append(store, vec![reading("a", 0, &[("x", 1.0)])]).await;
    assert!(news.has_changed().unwrap());
    assert!(*news.borrow_and_update() > before);
}

pub(super) async fn a_closed_store_refuses_appends(store: &dyn TelemetryStore) {
    append(store, vec![reading("a", 0, &[("x", 1.0)])]).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let refused = store.append(Batch { readings: vec![reading("a", 1, &[("x", 1.0)])], ..Batch::default() }).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
}

pub(super) async fn size_counts_samples(store: &dyn TelemetryStore) {
    append(store, (0..10).map(|i| reading("a", i, &[("x", 1.0), ("y", 2.0)])).collect()).await;
    append(store, vec![reading("a", 0, &[("x", 1.5)])]).await;
    store.compact().await.unwrap();
    let size = store.size().await.unwrap();
    assert_eq!((size.samples, size.readings_in_log), (20, 0));
    assert!(size.bytes > 0);
}

/// The memory store stands for all where a test needs a second opinion.
pub(super) fn memory() -> Fixture {
    Fixture { store: Arc::new(super::MemoryStore::new()), _folder: None }
}

mod on_memory {
    super::telemetry_store_suite!(super::memory());
}
