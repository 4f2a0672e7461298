//! `kill -9` of a process that appends, compacts, forgets and deletes at once, again and again on one data file, and of one
//! that migrates a file of an older format. Three rounds; `HARBINGER_KILL_ROUNDS=100` (`make torture`) for as many as wanted.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use harbinger_core::{DeviceEvent, DeviceKey, Reading, TimeRange, history::Readings};
use harbinger_store::telemetry::{Batch, EmbeddedStore, Options, QuarantineEntry, TelemetryStore};
use harbinger_tests::{
    files,
    kill_nine::{self as work, AGED_DEVICES, BEATS_A_BATCH, CALLERS, DOOMED_BEATS, KEPT_DEVICES, SIGNALS, Said},
    process::Process,
    workspace_root,
};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const PATIENCE: Duration = Duration::from_secs(60);
/// Beats that retention may keep beyond what it was told: one chunk, which at this pace is an hour.
const KEPT_BESIDES: u64 = 360;

fn rounds() -> usize {
    std::env::var("HARBINGER_KILL_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

fn start(arguments: &[&str]) -> Process {
    Process::start(Command::new(env!("CARGO_BIN_EXE_kill_nine")).args(arguments)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the fault's moment, drawn from a seed: nothing is waited for")]
fn kill_after(moment: Duration, process: &mut Process) {
    thread::sleep(moment);
    process.kill().unwrap();
}

fn open(file: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(Options::at(file)).unwrap()
}

/// In turn: until something is appended, forgotten, deleted; and not at all, so that the kill may come while it opens what
/// the one before left.
fn wait_for_work(process: &mut Process, round: usize) {
    let done: fn(Said) -> bool = match round % 4 {
        0 => |said| matches!(said, Said::Durable(_)),
        1 => |said| matches!(said, Said::Forgot(1..)),
        2 => |said| matches!(said, Said::Deleted(_)),
        _ => return,
    };
    process.wait_for_line(PATIENCE, |line| done(line.parse().unwrap()).then_some(())).unwrap();
}

/// What a process said until it was killed.
struct Heard {
    durable: BTreeSet<u64>,
    /// The last beat before which readings were about to be forgotten, and the last before which they were.
    forgetting: u64,
    forgot: u64,
    made: BTreeSet<u64>,
    deleting: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
}

impl Heard {
    fn of(lines: &[String]) -> Self {
        let said: Vec<Said> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let all = |number: fn(&Said) -> Option<u64>| said.iter().filter_map(number).collect::<BTreeSet<u64>>();
        let last = |numbers: BTreeSet<u64>| numbers.last().copied().unwrap_or_default();
        Self {
            durable: all(|said| if let Said::Durable(number) = said { Some(*number) } else { None }),
            forgetting: last(all(|said| if let Said::Forgetting(beat) = said { Some(*beat) } else { None })),
            forgot: last(all(|said| if let Said::Forgot(beat) = said { Some(*beat) } else { None })),
            made: all(|said| if let Said::Made(number) = said { Some(*number) } else { None }),
            deleting: all(|said| if let Said::Deleting(number) = said { Some(*number) } else { None }),
            deleted: all(|said| if let Said::Deleted(number) = said { Some(*number) } else { None }),
        }
    }
}

/// The beats that a device has, in order of time; asserts that each is one that it may have, once and with its values.
async fn beats_of(store: &EmbeddedStore, key: &DeviceKey) -> Vec<u64> {
    let found = store.scan(key, TimeRange::ALL, None).await.unwrap();
    let beats: Vec<u64> = found.times.iter().map(|&ts| work::beat_of(ts).expect("a time that was reported")).collect();
    assert!(beats.is_sorted_by(|a, b| a < b), "{key:?}: out of order, or twice");
    assert!(found.is_empty() || found.columns.len() == SIGNALS, "{key:?}: {} signals", found.columns.len());
    for (signal, (_, column)) in found.columns.iter().enumerate() {
        for (&beat, &found) in beats.iter().zip(column) {
            assert_eq!(found, work::value(key, signal, beat), "{key:?} s{signal} at beat {beat}");
        }
    }
    beats
}

/// The data file over all rounds, and what must be in it.
struct Books {
    /// Batches below are there.
    batches: u64,
    /// Devices to be deleted from here on have never been used.
    devices: u64,
    /// Readings of devices that age may be gone before this beat, and must be gone before that one.
    forgetting: u64,
    forgot: u64,
}

impl Books {
    /// Asserts that what was said to be durable is there, and the rest wholly or not at all; then sends all of it again, as
    /// whoever was not answered does, and asserts that what was there is a duplicate and what was not is stored.
    async fn settle(&mut self, store: &EmbeddedStore, heard: &Heard) {
        self.forgetting = self.forgetting.max(heard.forgetting);
        self.forgot = self.forgot.max(heard.forgot);
        let kept: Vec<DeviceKey> = (0..KEPT_DEVICES).map(|device| work::key("kept", device)).collect();
        let mut found: Vec<BTreeSet<u64>> = Vec::new();
        for key in &kept {
            found.push(beats_of(store, key).await.into_iter().collect());
        }
        for number in self.tried(heard) {
            let (readings, aged): (Vec<_>, Vec<_>) =
                work::batch(number).into_iter().partition(|reading| kept.contains(&reading.key));
            let there = found.iter().map(|beats| work::beats(number).filter(|beat| beats.contains(beat)).count());
            let there = there.sum::<usize>();
            let all = readings.len();
            if heard.durable.contains(&number) {
                assert_eq!(there, all, "batch {number} was acknowledged");
            }
            assert!(there == 0 || there == all, "batch {number}: {there} of {all} readings are there");
            let again = store.append(Batch { readings, ..Batch::default() }).await.unwrap();
            let counted = (again.duplicate as usize, again.stored as usize, again.corrected);
            assert_eq!(counted, (there, all - there, 0), "batch {number}");
            let young = |reading: &Reading| reading.ts >= work::time(self.forgetting);
            let aged = aged.into_iter().filter(young).collect();
            let again = store.append(Batch { readings: aged, ..Batch::default() }).await.unwrap();
            assert_eq!(again.corrected, 0, "batch {number}");
        }
        self.batches = self.tried(heard).end;
    }

    /// Batches that the process may have begun: each caller has at most one that it said nothing of. Pairs are whole.
    fn tried(&self, heard: &Heard) -> Range<u64> {
        let end = self.batches + heard.durable.len() as u64 + CALLERS;
        self.batches..end.next_multiple_of(2)
    }

    /// Asserts that everything is there once, compacted, and nothing else.
    async fn check(&self, store: &EmbeddedStore, heard: &Heard) {
        let (end, mut readings) = (self.batches * BEATS_A_BATCH, 0);
        for device in 0..KEPT_DEVICES {
            let found = beats_of(store, &work::key("kept", device)).await;
            assert!(found.iter().copied().eq(0..end), "kept-{device}: {} of {end} beats", found.len());
            readings += found.len();
        }
        for device in 0..AGED_DEVICES {
            let found = beats_of(store, &work::key("aged", device)).await;
            let (gone, young): (Vec<u64>, Vec<u64>) = found.iter().partition(|&&beat| beat < self.forgetting);
            assert!(young.iter().copied().eq(self.forgetting.min(end)..end), "aged-{device}: {} beats", young.len());
            let oldest = gone.first().copied().unwrap_or(end);
            assert!(oldest + KEPT_BESIDES >= self.forgot, "aged-{device}: beat {oldest} is there");
            readings += found.len();
        }
        readings += self.check_doomed(store, heard).await;
        assert_eq!(store.size().await.unwrap().samples as usize, readings * SIGNALS, "samples are kept twice, or lost");
    }

    /// Asserts that what was deleted is gone and what was not is there; how many readings.
    async fn check_doomed(&self, store: &EmbeddedStore, heard: &Heard) -> usize {
        let mut readings = 0;
        for extent in store.extents(&work::tenant("doomed")).await.unwrap() {
            let number: u64 = extent.device.as_str().rsplit('-').next().unwrap().parse().unwrap();
            assert!(number >= self.devices, "{} came back", extent.device);
            assert!(!heard.deleted.contains(&number), "{} was deleted", extent.device);
            readings += beats_of(store, &work::key("doomed", number as usize)).await.len();
        }
        for &number in heard.made.difference(&heard.deleting) {
            let found = beats_of(store, &work::key("doomed", number as usize)).await;
            assert!(found.iter().copied().eq(0..DOOMED_BEATS), "doomed-{number} was made: {found:?}");
        }
        readings
    }

    /// Deletes the devices that the kill left, so that the next round has new ones.
    async fn clear_doomed(&mut self, store: &EmbeddedStore, heard: &Heard) {
        for extent in store.extents(&work::tenant("doomed")).await.unwrap() {
            store.delete_device(&DeviceKey::new(work::tenant("doomed"), extent.device)).await.unwrap();
        }
        // One may have been begun behind the last that was heard of.
        self.devices = heard.made.last().map_or(self.devices, |last| last + 1) + 1;
    }
}

#[test]
fn a_killed_store_has_what_it_acknowledged_once_and_nothing_of_what_it_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("telemetry.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut books = Books { batches: 0, devices: 0, forgetting: 0, forgot: 0 };
    let (mut durable, mut deleted) = (0, 0);
    for round in 0..rounds() {
        let path = file.to_str().unwrap();
        let mut process = start(&["work", path, &books.batches.to_string(), &books.devices.to_string()]);
        wait_for_work(&mut process, round);
        kill_after(Duration::from_micros(random.random_range(2_000..400_000)), &mut process);
        let heard = Heard::of(process.printed());
        runtime.block_on(async {
            let store = open(&file);
            books.settle(&store, &heard).await;
            store.compact().await.unwrap();
            books.check(&store, &heard).await;
            books.clear_doomed(&store, &heard).await;
            store.close().await.unwrap();
        });
        durable += heard.durable.len();
        deleted += heard.deleted.len();
        eprintln!("round {round}: {} batches, {} devices deleted", heard.durable.len(), heard.deleted.len());
    }
    assert!(durable > rounds(), "{durable} batches were acknowledged: too few to prove anything");
    assert!(deleted > 0 && books.forgot > 0, "nothing was deleted, or nothing forgotten");
}

/// Everything that a file holds.
type Everything = (Vec<(DeviceKey, Readings, Vec<DeviceEvent>)>, Vec<QuarantineEntry>);

async fn everything(file: &Path) -> Everything {
    let store = open(file);
    let mut devices = Vec::new();
    for tenant in store.tenants().await.unwrap() {
        for extent in store.extents(&tenant).await.unwrap() {
            let key = DeviceKey::new(tenant.clone(), extent.device);
            let readings = store.scan(&key, TimeRange::ALL, None).await.unwrap();
            let events = store.events(&tenant, Some(&key.device), TimeRange::ALL).await.unwrap();
            devices.push((key, readings, events));
        }
    }
    let quarantine = store.quarantine(None, 0, usize::MAX).await.unwrap();
    store.close().await.unwrap();
    (devices, quarantine)
}

/// Files of older formats lie in `store/tests/formats`; each is migrated in one go, and again by a process that is killed on
/// the way as often as there are rounds. Both must hold the same in the end.
#[test]
fn a_migration_that_is_killed_is_finished_by_the_next_start() {
    let formats = workspace_root().join("store/tests/formats");
    if !formats.is_dir() {
        eprintln!("left out: {} is not there", formats.display());
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for original in files(&formats, ".db").unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let copy = |name: &str| {
            let copy = folder.path().join(name);
            fs_err::copy(&original, &copy).unwrap();
            copy
        };
        let whole = copy("whole.db");
        let begun = Instant::now();
        assert!(start(&["open", whole.to_str().unwrap()]).wait_for_end(PATIENCE).unwrap().success());
        let takes = begun.elapsed();
        let expected = runtime.block_on(everything(&whole));
        assert!(!expected.0.is_empty(), "{} holds nothing", original.display());
        for round in 0..rounds() {
            let killed = copy(&format!("killed-{round}.db"));
            let mut process = start(&["open", killed.to_str().unwrap()]);
            kill_after(takes.mul_f64(random.random_range(0.0..1.0)), &mut process);
            assert_eq!(runtime.block_on(everything(&killed)), expected, "{} round {round}", original.display());
        }
    }
}
