//! Old bytes: the sample of every released file format still opens, and holds what it was filled with.

use harbinger_core::{Duration, TimeRange, Timestamp, history::Closed};
use harbinger_store::telemetry::{self, EmbeddedStore, MemoryStore, Options, TelemetryStore};

#[path = "formats/fill.rs"]
mod fill;

/// Opens a copy of a sample twice - the first time brings it up to date - and compares it with a store filled now.
async fn check(sample: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("telemetry.db");
    fs_err::copy(format!("{}/tests/formats/{sample}", env!("CARGO_MANIFEST_DIR")), &path).unwrap();
    let expected = MemoryStore::new();
    fill::fill(&expected).await;
    for compacted in [false, true] {
        let store = EmbeddedStore::open(Options::at(&path)).unwrap();
        assert_eq!(telemetry::check(&path, &|_| {}).unwrap(), []);
        if compacted {
            store.compact().await.unwrap();
        }
        for (device, _) in fill::DEVICES {
            let key = fill::key(device);
            let of = async |store: &dyn TelemetryStore| {
                let readings = store.scan(&key, TimeRange::ALL, None).await.unwrap();
                let range = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
                let days = store.summaries(&key, range, None, Duration::from_days(1), Closed::Left).await.unwrap();
                let counts: Vec<(Timestamp, u64)> =
                    days.signals.iter().flat_map(|(_, days)| days.iter().map(|(end, day)| (*end, day.count))).collect();
                // Rows compare bit for bit as text: a value that is missing is not itself.
                (format!("{readings:?}"), store.latest(&key).await.unwrap(), counts)
            };
            assert_eq!(of(&*store).await, of(&expected).await, "{device} of {sample}");
        }
        let events =
            async |store: &dyn TelemetryStore| store.events(&fill::tenant(), None, TimeRange::ALL).await.unwrap();
        assert_eq!(events(&*store).await, events(&expected).await);
        assert_eq!(store.quarantine(None, 0, 9).await.unwrap(), expected.quarantine(None, 0, 9).await.unwrap());
        store.close().await.unwrap();
    }
    // What was brought up to date can be copied, and the copy is as good.
    let copy = folder.path().join("copy.db");
    let copied = telemetry::backup(&path, &copy, &|_| {}).unwrap();
    assert_eq!(copied.findings, []);
    assert_eq!(telemetry::check(&copy, &|_| {}).unwrap(), []);
}

#[tokio::test]
async fn format_1_still_opens() {
    check("telemetry.format-1").await;
}

#[tokio::test]
async fn format_2_still_opens() {
    check("telemetry.format-2").await;
}

#[tokio::test]
async fn format_3_still_opens() {
    check("telemetry.format-3").await;
}
