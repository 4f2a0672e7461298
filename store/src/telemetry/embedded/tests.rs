//! The embedded store under test: the generic suite, then what only a file can go through - restarts, crashes, damage, a
//! full disk.

use std::path::{Path, PathBuf};

use harbinger_core::Reading;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::telemetry::{
    MemoryStore, Quarantined,
    suite::{Fixture, append, at, key, reading, scan, signal, telemetry_store_suite},
};

mod damage;
mod model;

telemetry_store_suite!({
    let folder = tempfile::tempdir().unwrap();
    Fixture { store: EmbeddedStore::open(Options::at(file(&folder))).unwrap(), _folder: Some(folder) }
});

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("telemetry.db")
}

fn open(folder: &TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(Options::at(file(folder))).unwrap()
}

/// The file and its WAL as a crash would leave them now.
fn crash_copy(path: &Path) -> TempDir {
    crash_copy_in(path, tempfile::tempdir().unwrap())
}

fn crash_copy_in(path: &Path, copy: TempDir) -> TempDir {
    for suffix in ["", "-wal"] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let mut to = file(&copy).into_os_string();
        to.push(suffix);
        fs_err::copy(PathBuf::from(from), PathBuf::from(to)).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_before_and_after_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    append(&*store, (0..100).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    let in_log = crash_copy(&file(&folder));
    store.compact().await.unwrap();
    append(&*store, vec![reading("b", 0, &[("x", 1.0)]), reading("a", 50, &[("x", -1.0)])]).await;
    let in_chunks = crash_copy(&file(&folder));
    let all = [scan(&*store, "a").await, scan(&*store, "b").await];
    drop(store);

    let crashed = open(&in_log);
    assert_eq!(scan(&*crashed, "a").await.len(), 100);
    let again = append(&*crashed, (0..100).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    assert_eq!((again.stored, again.duplicate), (0, 100));
    for folder in [&in_chunks, &folder] {
        let reopened = open(folder);
        assert_eq!([scan(&*reopened, "a").await, scan(&*reopened, "b").await], all);
        let size = reopened.size().await.unwrap();
        assert_eq!((size.samples, size.readings_in_log), (102, 2));
    }
}

/// A crash after the chunks are committed and before their log rows are deleted: the rows are laid over the chunks again.
#[tokio::test]
async fn log_rows_that_are_in_chunks_already_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    append(&*store, (0..20).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    append(&*store, vec![reading("a", 3, &[("x", -3.0)])]).await;
    let before = crash_copy(&file(&folder));
    store.compact().await.unwrap();
    let expected = scan(&*store, "a").await;
    store.close().await.unwrap();
    drop(store);
    let raw = Connection::open(file(&folder)).unwrap();
    raw.execute("ATTACH ?1 AS before", [file(&before).display().to_string()]).unwrap();
    assert_eq!(raw.execute("INSERT INTO log SELECT * FROM before.log", []).unwrap(), 2);
    drop(raw);

    let store = open(&folder);
    for _ in 0..2 {
        assert_eq!(scan(&*store, "a").await, expected);
        store.compact().await.unwrap();
    }
    assert_eq!(store.size().await.unwrap().samples, 20);
}

#[tokio::test]
async fn a_damaged_chunk_is_named_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let month = 30 * 24 * 60;
    let store = open(&folder);
    for device in ["a", "b"] {
        append(&*store, (0..40).map(|i| reading(device, i * 60, &[("x", i as f64)])).collect()).await;
    }
    append(&*store, vec![reading("a", 3 * month, &[("x", 1.0)])]).await;
    store.compact().await.unwrap();
    let raw = Connection::open(file(&folder)).unwrap();
    let (row, mut body): (i64, Vec<u8>) = raw
        .query_row("SELECT rowid, body FROM chunks ORDER BY device, start_ms", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 0x20;
    raw.execute("UPDATE chunks SET body = ?2 WHERE rowid = ?1", rusqlite::params![row, body]).unwrap();

    let check = async |store: &EmbeddedStore| {
        let refused = store.scan(&key("a"), TimeRange::ALL, None).await;
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
        // A read of many devices goes on without the chunk.
        let many = store.scan_many(vec![key("b"), key("a")], TimeRange::ALL).await.unwrap();
        assert_eq!(many.iter().map(Readings::len).collect::<Vec<_>>()[0], 40);
        assert!(many[1].times.iter().all(|ts| *ts == at(30) || *ts == at(3 * month)));
        assert_eq!(scan(store, "b").await.len(), 40);
        let elsewhere = TimeRange { from: at(2 * month), to: Timestamp::MAX };
        assert_eq!(store.scan(&key("a"), elsewhere, None).await.unwrap().len(), 1);
    };
    check(&store).await;
    // Intake and compaction go on: the damaged chunk is set aside, and its range stays refused.
    append(&*store, vec![reading("a", 30, &[("x", 9.0)])]).await;
    store.compact().await.unwrap();
    check(&store).await;
    assert_eq!(store.size().await.unwrap().readings_in_log, 0);
}

/// What was acknowledged before the damaged row and after it is there, and the store goes on.
#[tokio::test]
async fn a_damaged_log_row_is_set_aside_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    for minute in 0..3 {
        append(&*store, vec![reading("a", minute, &[("x", 1.0)])]).await;
    }
    drop(store);
    let raw = Connection::open(file(&folder)).unwrap();
    raw.execute("UPDATE log SET body = x'01020304050607080910' WHERE sequence = 2", []).unwrap();
    drop(raw);
    for _ in 0..2 {
        let store = open(&folder);
        assert_eq!(scan(&*store, "a").await.times, [at(0), at(2)]);
        assert_eq!(store.size().await.unwrap().damaged, 1);
        store.compact().await.unwrap();
    }
    let store = open(&folder);
    assert_eq!(append(&*store, vec![reading("a", 1, &[("x", 1.0)])]).await.stored, 1);
}

/// Method: one bit of a name, an event's words and a quarantined payload flips behind the store's back.
#[tokio::test]
async fn changed_text_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let event = |minute| DeviceEvent {
        key: key("a"),
        ts: at(minute),
        code: "E42".into(),
        severity: harbinger_core::Severity::Warning,
        message: Some("hot".to_owned()),
    };
    let quarantined = Quarantined {
        tenant: None,
        received_at: at(0),
        topic: "t".to_owned(),
        payload: b"payload".to_vec(),
        reason: "no JSON".to_owned(),
        readings: 1,
    };
    let batch = Batch { events: vec![event(0), event(1)], quarantined: vec![quarantined], ..Batch::default() };
    store.append(batch).await.unwrap();
    let raw = Connection::open(file(&folder)).unwrap();
    raw.execute("UPDATE events SET message = 'hou' WHERE ts_ms = ?1", [at(0).millis()]).unwrap();
    raw.execute("UPDATE quarantine SET payload = CAST('paxload' AS BLOB)", []).unwrap();
    let tenant = key("a").tenant;
    assert_eq!(store.events(&tenant, None, TimeRange::ALL).await.unwrap(), [event(1)]);
    let of_device = store.events(&tenant, Some(&key("a").device), TimeRange::ALL).await;
    assert!(matches!(of_device, Err(Error::Damaged { .. })), "{of_device:?}");
    let listed = store.quarantine(None, 0, 10).await.unwrap();
    assert!(listed[0].message.payload.is_empty() && listed[0].message.reason.contains("damaged"));
}

#[tokio::test]
async fn a_newer_format_and_a_second_process_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    assert!(matches!(EmbeddedStore::open(Options::at(file(&folder))), Err(Error::Engine { .. })));
    drop(store);
    Connection::open(file(&folder)).unwrap().execute("UPDATE meta SET value = 4 WHERE name = 'format'", []).unwrap();
    let refused = EmbeddedStore::open(Options::at(file(&folder)));
    assert!(matches!(refused, Err(Error::UnknownFormat { found: 4, known: 3, .. })), "{refused:?}");
}

/// Goal: a full disk takes nothing, loses nothing, and is over when there is room. Method: a file of few pages, filled with
/// readings and one large message in quarantine whose removal makes room.
#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(320), ..Options::at(file(&folder)) };
    let store = EmbeddedStore::open(options).unwrap();
    let large = Quarantined {
        tenant: None,
        received_at: at(0),
        topic: "t".to_owned(),
        payload: vec![7; 150_000],
        reason: "large".to_owned(),
        readings: 1,
    };
    store.append(Batch { quarantined: vec![large], ..Batch::default() }).await.unwrap();
    let batch = |n: i64| -> Vec<_> {
        (0..200).map(|i| reading(&format!("device-{n}"), i, &[("x", (i as f64 + n as f64).sqrt())])).collect()
    };
    let mut taken = 0;
    let refused = loop {
        match store.append(Batch { readings: batch(taken), ..Batch::default() }).await {
            Ok(done) => assert_eq!(done.stored, 200),
            Err(error) => break error,
        }
        taken += 1;
        assert!(taken < 1000, "the file never fills");
    };
    assert!(matches!(refused, Error::Full { .. }) && refused.may_retry(), "{refused:?}");
    let refused_device = format!("device-{taken}");
    assert!(scan(&*store, &refused_device).await.is_empty());
    assert_eq!(store.extents(&key("a").tenant).await.unwrap().len() as i64, taken);
    assert!(store.remove_quarantined(1).await.unwrap());
    assert_eq!(append(&*store, batch(taken)).await.stored, 200);
    drop(store);

    let store = open(&folder);
    store.compact().await.unwrap();
    assert_eq!(scan(&*store, &refused_device).await.len(), 200);
    assert_eq!(store.size().await.unwrap().samples, 200 * (taken as u64 + 1));
}

#[tokio::test]
async fn a_compaction_without_room_keeps_everything_readable_and_succeeds_later() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(160), ..Options::at(file(&folder)) };
    let store = EmbeddedStore::open(options).unwrap();
    let batch = |n: i64| (0..200).map(|i| reading("a", n * 200 + i, &[("x", ((n * 200 + i) as f64).sqrt())])).collect();
    let mut taken = 0;
    while store.append(Batch { readings: batch(taken), ..Batch::default() }).await.is_ok() {
        taken += 1;
    }
    let before = scan(&*store, "a").await;
    assert_eq!(before.len() as i64, taken * 200);
    assert!(matches!(store.compact().await, Err(Error::Full { .. })));
    assert_eq!(scan(&*store, "a").await, before);
    drop(store);
    let store = open(&folder);
    store.compact().await.unwrap();
    assert_eq!(scan(&*store, "a").await, before);
}

/// A device whose cadence is unknown at first gets a coarse chunk; when it turns out to report every second the chunk is
/// split, and stays in order with the memory store whatever comes late.
#[tokio::test]
async fn chunks_are_split_when_a_device_turns_out_to_be_fast() {
    let folder = tempfile::tempdir().unwrap();
    let (store, memory) = (open(&folder), MemoryStore::new());
    let second = |i: i64| Reading { ts: at(0) + Duration::from_secs(i), ..reading("a", 0, &[("x", i as f64 / 10.0)]) };
    for (from, to) in [(0, 3), (3, 9_000), (9_000, 12_000), (500, 1_500), (20_000, 20_004)] {
        for store in [&*store as &dyn TelemetryStore, &memory] {
            append(store, (from..to).map(second).collect()).await;
            store.compact().await.unwrap();
        }
    }
    assert_eq!(scan(&*store, "a").await, scan(&memory, "a").await);
    let raw = Connection::open(file(&folder)).unwrap();
    let spans: i64 = raw.query_row("SELECT max(span_ms) FROM chunks", [], |row| row.get(0)).unwrap();
    assert_eq!(spans, chunk::Span::Hour.millis());
    assert_eq!(store.size().await.unwrap().samples, 12_004);
}

/// Method: many short bursts, for what arrives while a compaction ends must not be left beyond the bound when a burst is over.
#[tokio::test]
async fn a_log_beyond_its_bound_is_compacted_by_itself_and_appends_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { log_readings_max: 500, ..Options::at(file(&folder)) };
    let store = EmbeddedStore::open(options).unwrap();
    for burst in 1..=20 {
        for n in 0..60 {
            let first = (burst - 1) * 6000 + n * 100;
            append(&*store, (first..first + 100).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
        }
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while store.size().await.unwrap().readings_in_log >= 500 {
            assert!(tokio::time::Instant::now() < deadline, "the log is not compacted");
            tokio::task::yield_now().await;
        }
        assert_eq!(scan(&*store, "a").await.len() as i64, burst * 6000);
    }
}

/// Goal: of callers that append the same at the same time, in one group commit or several, exactly one is told it was new.
#[tokio::test(flavor = "multi_thread")]
async fn callers_at_the_same_time_agree_on_what_was_new() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let append = |i: i64| {
        let store = store.clone();
        let readings = vec![reading("a", i % 10, &[("x", 1.0)])];
        tokio::spawn(async move { store.append(Batch { readings, ..Batch::default() }).await.unwrap() })
    };
    let callers: Vec<_> = (0..200).map(append).collect();
    let mut done = Appended::default();
    for caller in callers {
        done = done.plus(caller.await.unwrap());
    }
    assert_eq!((done.stored, done.duplicate, done.corrected), (10, 190, 0));
}

/// Goal: on its way from log to chunks no reading is out of sight. Method: compactions run all the time, and after each
/// acknowledgement everything acknowledged is read.
#[tokio::test(flavor = "multi_thread")]
async fn reads_during_compactions_miss_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut compaction = tokio::spawn(async { Ok(()) });
    for i in 0..300 {
        if compaction.is_finished() {
            compaction.await.unwrap().unwrap();
            let store = store.clone();
            compaction = tokio::spawn(async move { store.compact().await });
        }
        append(&*store, vec![reading("a", i, &[("x", i as f64)])]).await;
        assert_eq!(scan(&*store, "a").await.len() as i64, i + 1);
        assert_eq!(store.latest(&key("a")).await.unwrap()[0].ts, at(i));
    }
    compaction.await.unwrap().unwrap();
}

/// Method: a deferred foreign key, planted behind the store's back, makes COMMIT itself fail.
#[tokio::test]
async fn a_failed_commit_poisons_the_writer_until_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    append(&*store, vec![reading("a", 0, &[("x", 1.0)])]).await;
    let raw = Connection::open(file(&folder)).unwrap();
    let plant = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER orphan AFTER INSERT ON log BEGIN INSERT INTO child VALUES (1); END;";
    raw.execute_batch(plant).unwrap();
    for minute in [1, 2] {
        let batch = Batch { readings: vec![reading("a", minute, &[("x", 1.0)])], ..Batch::default() };
        let refused = store.append(batch).await;
        assert!(matches!(refused, Err(Error::Poisoned)), "{refused:?}");
        raw.execute_batch("DROP TRIGGER IF EXISTS orphan").unwrap();
    }
    assert_eq!(scan(&*store, "a").await.len(), 1);
    drop(store);
    let store = open(&folder);
    assert_eq!(append(&*store, vec![reading("a", 1, &[("x", 1.0)])]).await.stored, 1);
    assert_eq!(scan(&*store, "a").await.len(), 2);
}
