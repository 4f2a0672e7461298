//! What a range query takes of memory: counted by the allocator, over millions of samples. One test, so that nothing else
//! allocates meanwhile.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one counts and passes on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use harbinger_core::{DeviceKey, Duration, Reading, TimeRange, Timestamp, calendar::Step, history::Closed};
use harbinger_store::{
    Batch, TelemetryStore,
    telemetry::{
        MemoryStore,
        query::{self, Bucket, Buckets, Function, GapAfter, RangeQuery, Row},
    },
};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How far above what is held already a piece of work goes.
async fn peak<T>(work: impl Future<Output = T>) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let done = work.await;
    (done, PEAK.load(Relaxed) - before)
}

const READINGS: i64 = 1_000_000;
const SIGNALS: [&str; 3] = ["a", "b", "c"];
const MEBIBYTE: usize = 1 << 20;

/// A reading a second, eleven days and a half of them: 24 MB of values alone.
async fn filled() -> MemoryStore {
    let store = MemoryStore::new();
    let key = DeviceKey::new("acme".parse().unwrap(), "d1".parse().unwrap());
    let signals = SIGNALS.map(|name| name.parse().unwrap());
    let reading = |second: i64| {
        let values = signals.iter().map(|signal: &harbinger_core::SignalId| (signal.clone(), second as f64)).collect();
        Reading { key: key.clone(), ts: Timestamp::from_millis(second * 1_000), arrival: false, values }
    };
    for begin in (0..READINGS).step_by(10_000) {
        let readings = (begin..begin + 10_000).map(reading).collect();
        store.append(Batch { readings, ..Batch::default() }).await.unwrap();
    }
    store
}

#[tokio::test]
async fn memory_is_bounded_by_the_page_and_a_bucket_not_by_the_range() {
    let store = filled().await;
    let query = RangeQuery {
        tenant: "acme".parse().unwrap(),
        devices: vec!["d1".parse().unwrap()],
        signals: None,
        range: TimeRange { from: Timestamp::from_millis(0), to: Timestamp::from_millis(READINGS * 1_000) },
    };
    let buckets = |functions: &[Function], hours: i64| Buckets {
        step: Step::Fixed(Duration::from_hours(hours)),
        closed: Closed::Left,
        functions: functions.to_vec(),
        gaps: false,
    };

    // A page of readings, 24 bytes a sample, and what the answer's rows take.
    let walk = async {
        let (mut count, mut place) = (0, None);
        loop {
            let page = query::readings(&store, &query, GapAfter::Usual, place.as_ref(), 1_000).await.unwrap();
            let Some(last) = page.last().map(Row::place) else { return count };
            count += page.len();
            place = Some(last);
        }
    };
    let (count, bytes) = peak(walk).await;
    assert_eq!(count as i64, READINGS);
    assert!(bytes < 2 * MEBIBYTE, "{bytes} bytes for pages of readings");

    // An hour of samples: 10,800 of 8 bytes, in vectors that double.
    let hourly = buckets(&[Function::P95, Function::Stddev], 1);
    let (rows, bytes) = peak(query::buckets(&store, &query, &hourly, None, 10_000)).await;
    let rows = rows.unwrap();
    assert_eq!(rows.iter().map(|row| row.summary.count as i64).sum::<i64>(), 3 * READINGS);
    assert_eq!(rows[0].value(Function::P95), Some(0.95 * 3_599.0));
    let answer = rows.len() * size_of::<Bucket>();
    assert!(bytes < 2 * MEBIBYTE + 3 * answer, "{bytes} bytes for {} hours", rows.len());

    // All of it in one bucket: without quantiles nothing of it is held, with them all of it is.
    let whole = 24 * 12;
    let minutes = Step::Fixed(Duration::from_millis(whole * 3_600_000 + 60_000));
    let plain = Buckets { step: minutes.clone(), ..buckets(&[Function::Slope], whole) };
    let (rows, bytes) = peak(query::buckets(&store, &query, &plain, None, 10)).await;
    assert!((rows.unwrap()[0].value(Function::Slope).unwrap() - 3_600.0).abs() < 1e-6);
    assert!(bytes < 2 * MEBIBYTE, "{bytes} bytes for one bucket");
    let quantile = Buckets { functions: vec![Function::P50], ..plain };
    let (rows, bytes) = peak(query::buckets(&store, &query, &quantile, None, 10)).await;
    assert_eq!(rows.unwrap()[0].value(Function::P50), Some((READINGS - 1) as f64 / 2.0));
    assert!(bytes < 80 * MEBIBYTE, "{bytes} bytes for the quantiles of one bucket");
}
