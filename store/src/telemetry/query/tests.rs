//! Range queries on both stores: against a reference that counts on its fingers, and page by page against the whole.

use std::collections::BTreeMap;

use harbinger_core::{Reading, calendar::Zone};
use proptest::prelude::*;

use super::*;
use crate::telemetry::{Batch, EmbeddedStore, MemoryStore, Options};

/// 2026-10-24T00:00:00Z: the day before Europe's clocks go back.
const BEGIN: i64 = 1_792_800_000_000;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(BEGIN + minute * 60_000)
}

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn reading(name: &str, minute: i64, values: &[(&str, f64)]) -> Reading {
    let values = values.iter().map(|(signal, value)| (signal.parse().unwrap(), *value)).collect();
    Reading { key: DeviceKey::new(tenant(), device(name)), ts: at(minute), arrival: false, values }
}

fn query(devices: &[&str], range: TimeRange) -> RangeQuery {
    let devices = devices.iter().map(|name| device(name)).collect();
    RangeQuery { tenant: tenant(), devices, signals: None, range }
}

fn step(text: &str, zone: &str) -> Step {
    Step::parse(text, &zone.parse::<Zone>().unwrap()).unwrap()
}

/// Every minute 0..hours*60 of two devices and two signals, with a night without readings.
fn fleet(hours: i64) -> Vec<Reading> {
    let mut all = Vec::new();
    for minute in (0..hours * 60).filter(|minute| !(600..1000).contains(minute)) {
        let wave = (minute as f64 / 37.0).sin() * 10.0 + 1e6;
        all.push(reading("d1", minute, &[("a", wave), ("b", minute as f64)]));
        if minute % 3 == 0 {
            all.push(reading("d2", minute, &[("b", -wave)]));
        }
    }
    all
}

async fn filled(store: &dyn TelemetryStore, readings: Vec<Reading>) {
    store.append(Batch { readings, ..Batch::default() }).await.unwrap();
}

/// All rows, read `limit` at a time.
async fn paged(store: &dyn TelemetryStore, query: &RangeQuery, wanted: &Buckets, limit: usize) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = Vec::new();
    loop {
        let after = all.last().map(Bucket::place);
        let page = buckets(store, query, wanted, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn paged_readings(store: &dyn TelemetryStore, query: &RangeQuery, gaps: GapAfter, limit: usize) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    loop {
        let after = all.last().map(Row::place);
        let page = readings(store, query, gaps, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

type Counted = BTreeMap<(DeviceId, Timestamp, SignalId), Vec<f64>>;

/// Which samples lie in which bucket: each bucket looks at every sample.
fn reference(all: &[Reading], query: &RangeQuery, wanted: &Buckets) -> Counted {
    let mut counted = Counted::new();
    for span in wanted.step.buckets(query.range) {
        let inside = |ts: Timestamp| match wanted.closed {
            Closed::Left => span.from <= ts && ts < span.to,
            Closed::Right => span.from < ts && ts <= span.to,
        };
        for reading in all.iter().filter(|r| inside(r.ts) && query.devices.contains(&r.key.device)) {
            for (signal, value) in &reading.values {
                let key = (reading.key.device.clone(), span.from, signal.clone());
                counted.entry(key).or_default().push(*value);
            }
        }
    }
    counted
}

fn key(bucket: &Bucket) -> (DeviceId, Timestamp, SignalId) {
    (bucket.device.clone(), bucket.span.from, bucket.signal.clone())
}

#[tokio::test]
async fn buckets_hold_what_their_borders_say_whichever_way_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [std::sync::Arc<dyn TelemetryStore>; 2] = [
        std::sync::Arc::new(MemoryStore::new()),
        EmbeddedStore::open(Options::at(folder.path().join("t.db"))).unwrap(),
    ];
    let all = fleet(100);
    let range = TimeRange { from: at(125), to: at(5_000) };
    let steps = [step("2h", "UTC"), step("45m", "UTC"), step("day", "Europe/Berlin"), step("day", "Asia/Kolkata")];
    for store in stores {
        filled(&*store, all.clone()).await;
        store.compact().await.unwrap();
        for (step, closed) in steps.iter().flat_map(|step| [(step, Closed::Left), (step, Closed::Right)]) {
            let query = query(&["d1", "d2"], range);
            let simple = Buckets { step: step.clone(), closed, functions: vec![Function::Mean], gaps: false };
            let exact = Buckets { functions: vec![Function::P50, Function::P95], ..simple.clone() };
            let by_summaries = buckets(&*store, &query, &simple, None, usize::MAX).await.unwrap();
            let by_readings = buckets(&*store, &query, &exact, None, usize::MAX).await.unwrap();
            let expected = reference(&all, &query, &simple);
            assert_eq!(by_readings.iter().map(key).collect::<Vec<_>>(), expected.keys().cloned().collect::<Vec<_>>());
            assert_eq!(by_summaries.len(), by_readings.len(), "{step} {closed:?}");
            for (one, other) in by_summaries.iter().zip(&by_readings) {
                let samples = &expected[&key(one)];
                assert_eq!((key(one), one.summary.count), (key(other), samples.len() as u64));
                for function in Function::ALL.iter().filter(|function| function.quantile().is_none()) {
                    let (a, b) = (one.value(*function), other.value(*function));
                    let close = a == b || a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(1.0));
                    assert!(close, "{step} {closed:?} {function}: {a:?} is not {b:?}");
                }
                let below = samples.iter().filter(|&&sample| sample < other.value(Function::P50).unwrap()).count();
                assert!(below <= samples.len() / 2 && one.value(Function::P50).is_none());
            }
        }
        store.close().await.unwrap();
    }
}

/// 25 hours of readings a minute on 25 October in Berlin, and 24 the day before.
#[tokio::test]
async fn a_day_on_which_clocks_go_back_has_25_hours_of_readings() {
    let store = MemoryStore::new();
    filled(&store, (0..4_000).map(|minute| reading("d1", minute, &[("a", minute as f64)])).collect()).await;
    let query = query(&["d1"], TimeRange { from: at(-120), to: at(24 * 60 - 120 + 25 * 60) });
    for functions in [vec![Function::Count], vec![Function::P99]] {
        let wanted = Buckets { step: step("day", "Europe/Berlin"), closed: Closed::Left, functions, gaps: false };
        let found = buckets(&store, &query, &wanted, None, 10).await.unwrap();
        // The first day's two hours before midnight UTC have no readings.
        assert_eq!(found.iter().map(|bucket| bucket.summary.count).collect::<Vec<_>>(), [22 * 60, 25 * 60]);
        assert_eq!(found[1].value(Function::First), Some(22.0 * 60.0));
    }
}

#[tokio::test]
async fn with_gaps_every_bucket_of_every_signal_is_there_also_of_a_device_that_never_reported() {
    let store = MemoryStore::new();
    filled(&store, fleet(30)).await;
    let query = RangeQuery {
        signals: Some(vec!["b".parse().unwrap(), "zz".parse().unwrap()]),
        ..query(&["d1", "nobody"], TimeRange { from: at(0), to: at(30 * 60) })
    };
    let wanted = Buckets { step: step("1h", "UTC"), closed: Closed::Left, functions: vec![Function::P50], gaps: true };
    let found = paged(&store, &query, &wanted, 7).await;
    assert_eq!(found.len(), 2 * 2 * 30);
    let present: Vec<i64> = found
        .iter()
        .filter(|bucket| bucket.value(Function::Count) != Some(0.0))
        .map(|bucket| (bucket.span.from.millis() - BEGIN) / 3_600_000)
        .collect();
    assert_eq!(present, (0..10).chain(16..30).collect::<Vec<_>>(), "the night from minute 600 to 1,000 is empty");
    assert!(found.iter().filter(|bucket| bucket.summary.is_empty()).all(|b| b.value(Function::P50).is_none()));
    let all = RangeQuery { signals: None, ..query };
    let of_device = paged(&store, &all, &wanted, 1_000).await;
    assert_eq!(of_device.len(), 2 * 30, "without names: the signals that a device has, and so none of nobody's");
}

#[tokio::test]
async fn pauses_are_marked_against_the_usual_interval_or_a_given_one() {
    let store = MemoryStore::new();
    filled(&store, fleet(30)).await;
    let query = query(&["d1", "d2"], TimeRange { from: at(0), to: at(1_800) });
    let marked = |rows: &[Row]| -> Vec<(String, Option<Duration>)> {
        rows.iter().filter(|row| row.gap.is_some()).map(|row| (row.device.to_string(), row.gap)).collect()
    };
    let minutes = |minutes: i64| Some(Duration::from_millis(minutes * 60_000));
    for limit in [1, 100, 10_000] {
        let usual = paged_readings(&store, &query, GapAfter::Usual, limit).await;
        assert_eq!(marked(&usual), [("d1".to_owned(), minutes(401)), ("d2".to_owned(), minutes(405))]);
        let given = GapAfter::Longer(Duration::from_millis(2 * 60_000));
        let given = paged_readings(&store, &query, given, limit).await;
        assert_eq!(marked(&given).len(), given.iter().filter(|row| row.device.as_str() == "d2").count(), "and once d1");
        assert_eq!(marked(&paged_readings(&store, &query, GapAfter::Unmarked, limit).await), []);
    }
}

#[tokio::test]
async fn what_arrives_meanwhile_moves_no_row() {
    let store = MemoryStore::new();
    filled(&store, fleet(10)).await;
    let query = query(&["d1", "d2"], TimeRange { from: at(0), to: at(600) });
    let first = readings(&store, &query, GapAfter::Unmarked, None, 50).await.unwrap();
    filled(&store, vec![reading("d0", 3, &[("a", 1.0)]), reading("d1", -5, &[("a", 1.0)])]).await;
    let query = RangeQuery { devices: ["d0", "d1", "d2"].map(device).to_vec(), ..query };
    let place = first.last().map(Row::place);
    let second = readings(&store, &query, GapAfter::Unmarked, place.as_ref(), 50).await.unwrap();
    assert_eq!((second[0].device.as_str(), second[0].ts), ("d1", at(50)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_split_into_pages_gives_the_same_rows(
        minutes in proptest::collection::btree_set((0i64..3_000, 0usize..3, 0usize..3), 1..120),
        limit in 1usize..40, from in 0i64..600, length in 1i64..3_000, gaps: bool, left: bool, quantile: bool,
        text in proptest::sample::select(&["10m", "2h", "day", "week"][..]),
        zone in proptest::sample::select(&["UTC", "Europe/Berlin", "Asia/Kolkata"][..]),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let store = MemoryStore::new();
        let named = |(minute, device, signal): &(i64, usize, usize)| {
            reading(["d1", "d2", "d3"][*device], *minute, &[(["a", "b", "c"][*signal], *minute as f64)])
        };
        let all: Vec<Reading> = minutes.iter().map(named).collect();
        let query = query(&["d1", "d2", "d3"], TimeRange { from: at(from), to: at(from + length) });
        let closed = if left { Closed::Left } else { Closed::Right };
        let functions = vec![if quantile { Function::P95 } else { Function::Sum }];
        let wanted = Buckets { step: step(text, zone), closed, functions, gaps };
        runtime.block_on(async {
            filled(&store, all.clone()).await;
            let whole = buckets(&store, &query, &wanted, None, usize::MAX).await.unwrap();
            // As text: the first value of no samples is NaN, which equals nothing.
            prop_assert_eq!(format!("{:?}", paged(&store, &query, &wanted, limit).await), format!("{whole:?}"));
            let counts = whole.iter().filter(|bucket| !bucket.summary.is_empty());
            let counts: BTreeMap<_, u64> = counts.map(|bucket| (key(bucket), bucket.summary.count)).collect();
            let expected = reference(&all, &query, &wanted);
            let expected: BTreeMap<_, u64> = expected.into_iter().map(|(key, samples)| (key, samples.len() as u64)).collect();
            prop_assert_eq!(counts, expected);
            prop_assert!(whole.is_sorted_by_key(key));
            let rows = readings(&store, &query, GapAfter::Usual, None, usize::MAX).await.unwrap();
            prop_assert_eq!(&paged_readings(&store, &query, GapAfter::Usual, limit).await, &rows);
            Ok(())
        })?;
    }
}
