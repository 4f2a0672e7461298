//! `kill -9` of a process that appends, compacts, forgets, deletes and copies at once, again and again on one data file, and of
//! one that migrates a file of an older format. Three rounds; `HARBINGER_KILL_ROUNDS=100` (`make torture`) for as many as wanted.

use std::{path::Path, process::Command, sync::Arc, thread, time::Duration};

use harbinger_store::telemetry::{EmbeddedStore, Options, TelemetryStore};
use harbinger_tests::{
    kill_nine::{BEATS_A_DAY, Said, copies_of, copy_of},
    process::Process,
};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

#[path = "kill_nine/books.rs"]
mod books;
#[path = "kill_nine/migration.rs"]
mod migration;

use books::{Books, Heard};

const PATIENCE: Duration = Duration::from_secs(60);

fn rounds() -> usize {
    std::env::var("HARBINGER_KILL_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

fn start(arguments: &[&str]) -> Process {
    Process::start(Command::new(env!("CARGO_BIN_EXE_kill_nine")).args(arguments)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the fault's moment, drawn from a seed: nothing is waited for")]
fn kill_after(moment: Duration, process: &mut Process) {
    thread::sleep(moment);
    // What migrates may have ended by itself by now; then there is nothing to kill.
    let _killed = process.kill();
    process.wait_for_end(PATIENCE).unwrap();
}

fn open(file: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(Options::at(file)).unwrap()
}

/// In turn: until something is copied, forgotten, deleted, appended; and not at all, so that the kill may come while it opens what
/// the one before left.
fn wait_for_work(process: &mut Process, round: usize) {
    let done: fn(Said) -> bool = match round % 5 {
        0 => |said| matches!(said, Said::Copied(_)),
        1 => |said| matches!(said, Said::Forgot(BEATS_A_DAY..)),
        2 => |said| matches!(said, Said::Deleted(_)),
        3 => |said| matches!(said, Said::Durable(_)),
        _ => return,
    };
    process.wait_for_line(PATIENCE, |line| done(line.parse().unwrap()).then_some(())).unwrap();
}

#[test]
fn a_killed_store_has_what_it_acknowledged_once_and_nothing_of_what_it_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("telemetry.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut books = Books::default();
    let (mut durable, mut deleted, mut copied) = (0, 0, 0);
    for round in 0..rounds() {
        let path = file.to_str().unwrap();
        let mut process = start(&["work", path, &books.batches.to_string(), &books.devices.to_string()]);
        wait_for_work(&mut process, round);
        kill_after(Duration::from_micros(random.random_range(2_000..400_000)), &mut process);
        let heard = Heard::of(process.printed());
        runtime.block_on(async {
            for (copy, before) in &heard.copies {
                books.check_copy(&copy_of(&file, *copy), before).await;
            }
            let store = open(&file);
            books.settle(&store, &heard).await;
            store.compact().await.unwrap();
            books.check(&store, &heard).await;
            books.clear_doomed(&store, &heard).await;
            store.close().await.unwrap();
        });
        // What a kill left of a copy is no copy: nobody said that it is.
        if copies_of(&file).is_dir() {
            fs_err::remove_dir_all(copies_of(&file)).unwrap();
        }
        durable += heard.durable.len();
        deleted += heard.deleted.len();
        copied += heard.copies.len();
        let (durable, deleted, copied) = (heard.durable.len(), heard.deleted.len(), heard.copies.len());
        eprintln!("round {round}: {durable} batches, {deleted} devices deleted, {copied} copies");
    }
    assert!(durable > rounds(), "{durable} batches were acknowledged: too few to prove anything");
    assert!(deleted > 0 && copied > 0 && books.forgot > 0, "nothing was deleted, copied or forgotten");
}
