//! Goal: whatever a disk does to a data file, the store opens, serves nothing that is not true, and goes on. Method: files
//! cut at any length and bits flipped anywhere; and copies made while the file is written to.

use std::collections::BTreeSet;

use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;

const DEVICES: i64 = 12;

/// A closed file with several chunks, summaries, log rows and events; and every sample in it.
async fn filled(folder: &TempDir) -> BTreeSet<(String, i64, u64)> {
    let store = open(folder);
    let name = |device: i64| format!("device-{device}");
    let seconds = |device: i64, i: i64| Reading {
        ts: at(0) + Duration::from_secs(i * 10),
        ..reading(&name(device), 0, &[("x", (i as f64 * 0.37).sin()), ("y", (i % 17) as f64 / 10.0)])
    };
    for device in 0..DEVICES {
        append(&*store, (0..800).map(|i| seconds(device, i)).collect()).await;
    }
    store.compact().await.unwrap();
    for device in 0..DEVICES {
        append(&*store, (800..850).map(|i| seconds(device, i)).collect()).await;
    }
    let truth = samples(&store).await.0;
    store.close().await.unwrap();
    truth
}

/// Every sample that can be read, and how many devices could not.
async fn samples(store: &EmbeddedStore) -> (BTreeSet<(String, i64, u64)>, usize) {
    let (mut all, mut refused) = (BTreeSet::new(), 0);
    for extent in store.extents(&key("a").tenant).await.unwrap() {
        match store.scan(&key(extent.device.as_str()), TimeRange::ALL, None).await {
            Ok(readings) => {
                for (signal, column) in &readings.columns {
                    let of_signal = readings.times.iter().zip(column).filter(|(_, value)| !value.is_nan());
                    all.extend(
                        of_signal.map(|(ts, v)| (format!("{} {signal}", extent.device), ts.millis(), v.to_bits())),
                    );
                }
            }
            Err(Error::Damaged { .. } | Error::Engine { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    (all, refused)
}

/// Opens what is there, and checks that it serves nothing but the truth and takes what comes.
async fn check_lives(folder: &TempDir, truth: &BTreeSet<(String, i64, u64)>, what: &str) -> usize {
    let store = EmbeddedStore::open(Options::at(file(folder))).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let (found, _) = samples(&store).await;
    let invented: Vec<_> = found.difference(truth).take(3).collect();
    assert!(invented.is_empty(), "{what}: {invented:?}");
    let batch = Batch { readings: vec![reading("newcomer", 0, &[("x", 1.0)])], ..Batch::default() };
    // SQLite may meet the damage only now; then it says so, and a restart saves the rest.
    if store.append(batch.clone()).await.is_err() {
        drop(store);
        let store = EmbeddedStore::open(Options::at(file(folder))).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let taken = store.append(batch).await;
        assert!(matches!(taken, Ok(_) | Err(Error::Engine { .. } | Error::Poisoned)), "{what}: {taken:?}");
    }
    found.len()
}

/// Every row of every table.
fn rows(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut all = Vec::new();
    for table in ["devices", "signals", "log", "chunks", "summaries", "events", "quarantine", "meta"] {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let width = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            (0..width).map(|column| row.get::<_, rusqlite::types::Value>(column)).collect::<Result<Vec<_>, _>>()
        };
        all.extend(statement.query_map([], row).unwrap().map(|row| format!("{table} {:?}", row.unwrap())));
    }
    all
}

#[tokio::test]
async fn a_file_cut_anywhere_opens_with_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let truth = filled(&folder).await;
    let whole = fs_err::read(file(&folder)).unwrap();
    for part in [1, 3, 7, 9] {
        let cut = tempfile::tempdir().unwrap();
        let length = whole.len() * part / 10;
        fs_err::write(file(&cut), &whole[..length]).unwrap();
        let left = check_lives(&cut, &truth, &format!("cut to {part}/10")).await;
        assert!(left <= truth.len());
        let kept = fs_err::read_dir(cut.path()).unwrap().filter_map(Result::ok);
        let aside = kept.filter(|entry| entry.file_name().to_string_lossy().contains("damaged-1")).count();
        assert!(aside >= 1, "the damaged file is kept beside");
    }
}

#[tokio::test]
async fn a_bit_flipped_anywhere_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let truth = filled(&folder).await;
    let whole = fs_err::read(file(&folder)).unwrap();
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let (sound, mut told) = (rows(&file(&folder)), 0);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        let (place, bit) = (random.random_range(0..bytes.len()), random.next_u32() % 8);
        bytes[place] ^= 1 << bit;
        let flipped = tempfile::tempdir().unwrap();
        fs_err::write(file(&flipped), &bytes).unwrap();
        let is_told = check::check(&file(&flipped), &|_| {}).map_or(true, |findings| !findings.is_empty());
        // Some bits lie where nothing is stored.
        assert!(is_told || rows(&file(&flipped)) == sound, "bit {bit} of byte {place} changed a row unseen");
        told += usize::from(is_told);
        check_lives(&flipped, &truth, &format!("bit {bit} of byte {place}")).await;
    }
    assert!(told > 10, "{told} of 60");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_store_holds_all_that_was_acknowledged_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let batch = |n: i64| {
        (0..300).map(|i| reading(&format!("device-{}", i % 7), n * 300 + i, &[("x", (n + i) as f64)])).collect()
    };
    for n in 0..20 {
        append(&*store, batch(n)).await;
    }
    let (writer, stop) = (store.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = stop.clone();
    let busy = tokio::spawn(async move {
        for n in 20.. {
            append(&*writer, batch(n)).await;
            if n % 3 == 0 {
                writer.compact().await.unwrap();
            }
            if stopped.load(Ordering::SeqCst) {
                return;
            }
        }
    });
    for round in 0..5 {
        let before = samples(&store).await.0;
        let copy = tempfile::tempdir().unwrap();
        let (source, target) = (file(&folder), file(&copy));
        let copied = tokio::task::spawn_blocking(move || backup(&source, &target, &|_| {})).await.unwrap().unwrap();
        assert_eq!(copied.findings, [], "round {round}");
        assert_eq!(check::check(&file(&copy), &|_| {}).unwrap(), []);
        let restored = samples(&open(&copy)).await.0;
        assert_eq!(before.difference(&restored).count(), 0, "round {round}");
    }
    stop.store(true, Ordering::SeqCst);
    busy.await.unwrap();
}
