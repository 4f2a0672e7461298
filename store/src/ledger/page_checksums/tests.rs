//! Goal: a SQLite ledger serves what was written to it or an error, whatever bit of its file has changed; and a ledger from
//! before there were checksums gets them, wherever that is interrupted. Method: every kind of row is filled, and each read
//! of a damaged file is compared with the truth.

use std::{collections::BTreeMap, path::Path};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::{OpenFlags, types::Value};
use sqlx::{ConnectOptions as _, Connection as _, any::AnyConnectOptions};

use super::*;
use crate::ledger::{Engine, Ledger, check::check_file};

/// Bits that are flipped, one at a time.
const FLIPS: usize = 400;

/// The rows of each table; the error where one cannot be read.
fn dump(path: &Path) -> BTreeMap<String, Result<Vec<Vec<Value>>, String>> {
    register();
    let read = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags_and_vfs(path, read, VFS).unwrap();
    let rows = |text: &str| -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut statement = connection.prepare(text)?;
        let columns = statement.column_count();
        statement.query_map([], |row| (0..columns).map(|place| row.get(place)).collect())?.collect()
    };
    let Ok(tables) = rows("SELECT name FROM sqlite_schema WHERE type = 'table'") else { return BTreeMap::new() };
    let names = tables.into_iter().map(|row| match &row[0] {
        Value::Text(name) => name.clone(),
        other => panic!("{other:?}"),
    });
    names
        .map(|name| {
            let found = rows(&format!("SELECT * FROM \"{name}\" ORDER BY 1, 2")).map_err(|error| error.to_string());
            (name, found)
        })
        .collect()
}

/// A file as an earlier version left it: of a megabyte, so that it is more than SQLite keeps in memory at once when a
/// connection is told to keep little.
async fn without_checksums(path: &Path) {
    sqlx::any::install_default_drivers();
    let options: AnyConnectOptions = format!("sqlite://{}?mode=rwc", path.display()).parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::query("PRAGMA journal_mode=WAL").execute(&mut connection).await.unwrap();
    Engine::Sqlite.migrator().run(&mut connection).await.unwrap();
    fill(&mut connection).await;
    connection.close().await.unwrap();
}

async fn fill(connection: &mut Connection) {
    for statement in [
        "INSERT INTO tenants (tenant, created_wall) WITH RECURSIVE n(i) AS \
         (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT 'tenant-' || i, i FROM n",
        "INSERT INTO plans WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
         SELECT 'plan-' || i, 'tenant-1', i, 0, '{\"noise\": \"' || hex(randomblob(1500)) || '\"}', i FROM n",
        "INSERT INTO stock WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
         SELECT 'tenant-1', 'part-' || i, 'hub', i, 0 FROM n",
        "INSERT INTO stock_movements WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
         SELECT 'mov-' || i, 'tenant-1', 0, 'part-' || i, 'hub', i, 'import', 'r' FROM n",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_is_named_by_check_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = Ledger::open(&path).await.unwrap();
    let mut tx = ledger.write().await.unwrap();
    fill(&mut tx).await;
    tx.commit().await.unwrap();
    ledger.close().await;
    assert_eq!(check_file(&path).await.findings, []);
    let (bytes, truth) = (fs_err::read(&path).unwrap(), dump(&path));
    assert!(truth["plans"].as_ref().is_ok_and(|rows| rows.len() == 300) && bytes.len() > 1 << 20);

    let mut random = ChaCha8Rng::seed_from_u64(3);
    // The header's words on pages and on checksums, and bits anywhere.
    let words = (16..24).chain(60..64);
    let header = words.flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    let anywhere = (0..FLIPS).map(|_| (random.random_range(0..bytes.len()), random.random_range(0..8)));
    let flips: Vec<(usize, u8)> = header.chain(anywhere).collect();
    for (byte, bit) in flips {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << bit;
        fs_err::write(&path, &damaged).unwrap();
        assert!(!check_file(&path).await.findings.is_empty(), "nothing is said of bit {bit} of byte {byte}");
        match Ledger::open(&path).await {
            Err(error) => assert!(error.tells_of_damage(), "byte {byte}, bit {bit}: {error:?}"),
            Ok(ledger) => {
                ledger.close().await;
                for (table, rows) in dump(&path) {
                    let told = rows.as_ref().is_err_and(|error| error.contains("disk I/O error"));
                    assert!(told || rows == truth[&table], "bit {bit} of byte {byte} invents rows of {table}");
                }
            }
        }
    }
}

/// What is on the disk when a process is killed: the file, and the log that it did not come to copy.
#[tokio::test]
async fn what_only_the_log_holds_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (path, killed) = (folder.path().join("ledger.db"), folder.path().join("killed.db"));
    let log = |path: &Path| path.with_extension("db-wal");
    let ledger = Ledger::open(&path).await.unwrap();
    let mut tx = ledger.write().await.unwrap();
    sqlx::query("INSERT INTO tenants (tenant, created_wall) VALUES ('acme', 1)").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    for (from, to) in [(path.clone(), killed.clone()), (log(&path), log(&killed))] {
        fs_err::copy(from, to).unwrap();
    }
    assert!(fs_err::metadata(log(&killed)).unwrap().len() > 0, "the log was copied already: nothing is tried");
    ledger.close().await;

    Ledger::open(&killed).await.unwrap().close().await;
    assert_eq!(check_file(&killed).await.findings, []);
    assert_eq!(dump(&killed)["tenants"].as_ref().map(Vec::len), Ok(1));
}

#[tokio::test]
async fn a_ledger_without_checksums_gets_them_wherever_it_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.db");
    without_checksums(&old).await;
    let truth = dump(&old);
    assert_eq!(check_file(&old).await.findings, []);

    for done in 0..=STATEMENTS.len() {
        let path = folder.path().join(format!("{done}.db"));
        fs_err::copy(&old, &path).unwrap();
        let url = crate::ledger::Url::of_file(&path);
        let mut connection = crate::ledger::options(&url).unwrap().connect().await.unwrap();
        // Little memory, so that pages are written before their transaction ends.
        for statement in ["PRAGMA cache_size=10", "PRAGMA cache_spill=10"].iter().chain(&STATEMENTS[..done]) {
            sqlx::query(*statement).fetch_all(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        assert_eq!(check_file(&path).await.findings, [], "after {done}");
        let ledger = Ledger::open(&path).await.unwrap_or_else(|error| panic!("after {done}: {error:?}"));
        ledger.close().await;
        assert_eq!(check_file(&path).await.findings, [], "after {done}");
        assert!(dump(&path) == truth, "after {done}");
    }
}

#[tokio::test]
async fn telemetry_does_not_go_through_the_file_system_of_the_ledger() {
    register();
    let folder = tempfile::tempdir().unwrap();
    let plain = rusqlite::Connection::open(folder.path().join("plain.db")).unwrap();
    let answer = plain.query_row("PRAGMA checksum_verification", [], |row| row.get::<_, String>(0));
    assert!(matches!(answer, Err(rusqlite::Error::QueryReturnedNoRows)), "{answer:?}");
}
