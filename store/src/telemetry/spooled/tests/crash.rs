//! Our own crashes while chunks are on their way, and answers that never came.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{watched::Watched, *};

/// The file and its WAL as a crash would leave them now.
fn crash_copy(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["telemetry.db", "telemetry.db-wal"] {
        fs_err::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

async fn fill(store: &dyn TelemetryStore) {
    for device in 0..5 {
        let name = format!("device-{device}");
        append(store, (0..40).map(|i| reading(&name, i, &[("x", (i + device) as f64 / 4.0)])).collect()).await;
    }
}

async fn read_all(store: &dyn TelemetryStore) -> Vec<Vec<(Vec<Timestamp>, SignalId, Vec<u64>)>> {
    let keys = (0..5).map(|device| key(&format!("device-{device}"))).collect();
    store.scan_many(keys, TimeRange::ALL).await.unwrap().iter().map(bits).collect()
}

/// Goal: wherever the process dies while it ships, everything is there after the next start, once. Method: a copy of the file
/// after every write that the server took, when nothing here knows of it yet; late readings and corrections among them.
async fn a_crash_at_any_write_loses_and_doubles_nothing(kind: Kind) {
    let Some(server) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (place, taken) = (folder.path().to_owned(), copies.clone());
    let copying = move |_| {
        taken.lock().unwrap().push(crash_copy(&place));
        false
    };
    let remote: Arc<dyn Remote> = Arc::new(Watched::new(server.clone(), copying));
    let store = open(file(&folder), &remote, at_once()).await;
    fill(&*store).await;
    store.compact().await.unwrap();
    append(
        &*store,
        vec![reading("device-1", 7, &[("x", -1.0), ("late", 2.0)]), reading("device-2", -9, &[("x", 3.0)])],
    )
    .await;
    let expected = read_all(&*store).await;
    let samples = store.size().await.unwrap().samples;
    store.compact().await.unwrap();
    assert_eq!(read_all(&*store).await, expected);
    store.close().await.unwrap();

    let copies = std::mem::take(&mut *copies.lock().unwrap());
    assert!(copies.len() >= 2, "{} copies", copies.len());
    for copy in &copies[1..] {
        let store = open(file(copy), &server, at_once()).await;
        assert_eq!(read_all(&*store).await, expected);
        store.compact().await.unwrap();
        assert_eq!(read_all(&*store).await, expected);
        // The correction counts once.
        assert_eq!(store.size().await.unwrap().samples, samples - 1);
        store.close().await.unwrap();
    }
}

/// Goal: a write that the server took, and whose answer was lost, is sent again and changes nothing.
async fn a_lost_answer_is_asked_for_again(kind: Kind) {
    let Some(server) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let losing = Arc::new(AtomicBool::new(true));
    let is_lost = losing.clone();
    let remote: Arc<dyn Remote> = Arc::new(Watched::new(server, move |_| is_lost.load(Ordering::SeqCst)));
    let store = open(file(&folder), &remote, at_once()).await;
    fill(&*store).await;
    let expected = read_all(&*store).await;
    for _ in 0..3 {
        store.compact().await.unwrap();
        let spool = store.spool().await.unwrap().unwrap();
        assert!(spool.failing.is_some_and(|(_, error)| error.contains("cannot be reached")));
        assert_eq!(spool.samples_waiting, 200);
        assert_eq!(read_all(&*store).await, expected);
    }
    losing.store(false, Ordering::SeqCst);
    store.compact().await.unwrap();
    let spool = store.spool().await.unwrap().unwrap();
    assert_eq!((spool.samples_waiting, spool.samples_sent, spool.failing), (0, 200, None));
    assert_eq!(read_all(&*store).await, expected);
    assert_eq!((rows(folder.path(), "held"), rows(folder.path(), "chunks")), (0, 0));
    assert_eq!(store.size().await.unwrap().samples, 200);
}

on_every_server!(a_crash_at_any_write_loses_and_doubles_nothing, a_lost_answer_is_asked_for_again,);

/// A chunk of the spool whose bytes were changed: its range is refused by name, everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_of_the_spool_holds_nothing_up() {
    let Some(server) = shared(Kind::VictoriaMetrics).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &server, ten_minutes()).await;
    append(&*store, vec![reading("a", 0, &[("x", 1.0)]), reading("b", 0, &[("x", 1.0)])]).await;
    store.compact().await.unwrap();
    let raw = Connection::open(folder.path().join("telemetry.db")).unwrap();
    let damage = "UPDATE held SET body = x'010203', state = 0 WHERE id = 1";
    assert_eq!(raw.execute(damage, []).unwrap(), 1);
    append(&*store, vec![reading("a", 0, &[("x", 2.0)]), reading("b", 1, &[("x", 2.0)])]).await;
    store.compact().await.unwrap();
    let refused = store.scan(&key("a"), TimeRange::ALL, None).await;
    assert!(matches!(&refused, Err(Error::Damaged { row, .. }) if row == "held (1)"), "{refused:?}");
    assert_eq!(on_server(&server, "b").await.len(), 2);
    assert_eq!(rows(folder.path(), "chunks"), 0);
}
