//! Goal: whatever is done to the store, it holds what a map holds. Method: random sequences of appends, late data,
//! corrections, compactions, retention, deletions, restarts and crashes; after each step everything is read in every way.
//!
//! A crash loses what was not synced: the WAL is cut at any byte that the interrupted transactions wrote.

use std::collections::BTreeMap;

use super::*;
use crate::telemetry::suite::{check_same_summary, check_same_timeline};

/// What a random sequence does to a store.
#[derive(Debug, Clone)]
enum Step {
    Append(Run),
    Compact,
    Reopen,
    /// The process dies while a batch is written, after so many thousandths of its bytes.
    DieAppending(Run, u16),
    /// The process dies while the log is moved into chunks.
    DieCompacting(u16),
    /// Readings before an instant (in units of 10 s) pass their retention.
    Retain(i64),
    Delete(u8),
}

/// Readings of a device: from an instant (in units of 10 s) on, in steps of so many units.
#[derive(Debug, Clone)]
struct Run {
    device: u8,
    from: i64,
    step: i64,
    values: Vec<(u8, i8)>,
}

const DEVICES: [&str; 2] = ["a", "b"];
const SIGNALS: [&str; 3] = ["x", "y", "z"];

fn runs() -> impl Strategy<Value = Run> {
    // Hours, days, and far away; cadences of chunks of an hour, a day and a month.
    let from = prop_oneof![0i64..720, 0i64..720, 0i64..30_000, 0i64..300_000];
    let step = prop_oneof![Just(0i64), Just(1), Just(1), Just(6), Just(60), Just(360), Just(-1)];
    let values = prop_oneof![
        proptest::collection::vec((0u8..3, -2i8..3), 1..20),
        proptest::collection::vec((0u8..3, -2i8..3), 1..400),
    ];
    (0u8..2, from, step, values).prop_map(|(device, from, step, values)| Run { device, from, step, values })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => runs().prop_map(Step::Append),
        4 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => (runs(), 0u16..1000).prop_map(|(run, cut)| Step::DieAppending(run, cut)),
        1 => (0u16..1000).prop_map(Step::DieCompacting),
        1 => (0i64..100_000).prop_map(Step::Retain),
        1 => (0u8..2).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 1..12)
}

/// Bits of each sample by time and signal.
type Samples = BTreeMap<(i64, u8), u64>;

/// What a device is to have.
#[derive(Debug, Clone, Default)]
struct Expected {
    /// Its readings.
    held: Samples,
    /// Those of which summaries are to tell: also what passed its retention.
    summarised: Samples,
    /// Before this nothing is appended any more: it is past the edge of retention.
    edge: i64,
}

impl Expected {
    fn readings(samples: &Samples) -> Readings {
        let mut readings = Readings::default();
        let mut rows: BTreeMap<i64, Vec<(SignalId, f64)>> = BTreeMap::new();
        for (&(ts, index), &bits) in samples {
            rows.entry(ts).or_default().push((signal(SIGNALS[index as usize]), f64::from_bits(bits)));
        }
        for (ts, values) in rows {
            readings.push(Timestamp::from_millis(ts), &values);
        }
        readings
    }
}

struct World {
    folder: TempDir,
    /// `None` only while it is opened again.
    store: Option<Arc<EmbeddedStore>>,
    devices: [Expected; 2],
}

/// In memory where the system has such a folder: a sync to a disk is not what is tested here.
fn quick_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn wal(folder: &TempDir) -> PathBuf {
    let mut path = file(folder).into_os_string();
    path.push("-wal");
    path.into()
}

impl World {
    fn new() -> Self {
        let folder = quick_folder();
        Self { store: Some(open(&folder)), folder, devices: Default::default() }
    }

    fn store(&self) -> &EmbeddedStore {
        self.store.as_deref().expect("only opening it again takes it")
    }

    /// The readings of a run and what is expected to become of them; the run's share is put into `devices`.
    fn readings(&mut self, run: &Run) -> (Vec<Reading>, Appended) {
        let (mut readings, mut done) = (Vec::new(), Appended::default());
        let expected = &mut self.devices[run.device as usize];
        for (i, &(index, value)) in (0..).zip(&run.values) {
            let millis = (at(0).millis() + (run.from + i * run.step) * 10_000).max(expected.edge);
            // A zero of either sign: they are different values.
            let value = if value == 0 { -0.0 } else { f64::from(value.max(0)) / 10.0 };
            match expected.held.insert((millis, index), value.to_bits()) {
                None => done.stored += 1,
                Some(known) if known == value.to_bits() => done.duplicate += 1,
                Some(_) => done.corrected += 1,
            }
            expected.summarised.insert((millis, index), value.to_bits());
            let sample = reading(DEVICES[run.device as usize], 0, &[(SIGNALS[index as usize], value)]);
            readings.push(Reading { ts: Timestamp::from_millis(millis), ..sample });
        }
        (readings, done)
    }

    /// Goes on with the files as they were when the process died in the middle of `work`.
    async fn die(&mut self, cut: u16, work: impl AsyncFnOnce(&EmbeddedStore)) {
        // An empty WAL, so that all of it is what `work` wrote.
        let raw = Connection::open(file(&self.folder)).unwrap();
        raw.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        work(self.store()).await;
        let copy = crash_copy_in(&file(&self.folder), quick_folder());
        drop(raw);
        let wal = fs_err::OpenOptions::new().write(true).open(wal(&copy)).unwrap();
        let length = wal.metadata().unwrap().len();
        wal.set_len(length * u64::from(cut) / 1000).unwrap();
        self.store = None;
        self.folder = copy;
        self.store = Some(open(&self.folder));
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append(run) => {
                let (readings, expected) = self.readings(&run);
                assert_eq!(append(self.store(), readings).await, expected);
            }
            Step::Compact => self.store().compact().await.unwrap(),
            Step::Reopen => {
                // The lock goes with the last handle.
                self.store = None;
                self.store = Some(open(&self.folder));
            }
            Step::DieAppending(run, cut) => {
                let before = self.devices.clone();
                let (readings, expected) = self.readings(&run);
                // One reading at least, and the cut takes the end of the transaction: nothing of it is left.
                self.die(cut, async |store| assert_eq!(append(store, readings).await, expected)).await;
                self.devices = before;
            }
            Step::DieCompacting(cut) => self.die(cut, async |store| store.compact().await.unwrap()).await,
            Step::Retain(unit) => self.retain(at(0).millis() + unit * 10_000).await,
            Step::Delete(device) => {
                let deleted = self.store().delete_device(&key(DEVICES[device as usize])).await.unwrap();
                let expected = std::mem::take(&mut self.devices[device as usize]);
                assert_eq!(deleted.samples, expected.held.len() as u64);
            }
        }
    }

    /// What is younger stays, what is older may stay up to a chunk's span; summaries stay.
    async fn retain(&mut self, before: i64) {
        let tenant = key("a").tenant;
        self.store().retain(&tenant, DataClass::Readings, Timestamp::from_millis(before)).await.unwrap();
        for (place, name) in DEVICES.into_iter().enumerate() {
            let left = samples_of(&scan(self.store(), name).await);
            let expected = &mut self.devices[place];
            let month = 30 * 86_400_000;
            assert!(left.keys().all(|key| expected.held.contains_key(key) && key.0 >= before - month - 86_400_000));
            assert!(expected.held.keys().all(|key| key.0 < before || left.contains_key(key)));
            expected.held = left;
            expected.edge = expected.edge.max(before);
        }
    }

    async fn check(&self) {
        for (name, expected) in DEVICES.into_iter().zip(&self.devices) {
            assert_eq!(samples_of(&scan(self.store(), name).await), expected.held);
            let summarised = Expected::readings(&expected.summarised);
            for (step, closed) in [(1, Closed::Left), (1, Closed::Right), (24, Closed::Left), (24, Closed::Right)] {
                let step = Duration::from_hours(step);
                let range = TimeRange { from: at(-60 * 24 * 2), to: at(60 * 24 * 50) };
                let got = self.store().summaries(&key(name), range, None, step, closed).await.unwrap();
                check_same_timeline(&got, &Timeline::closed(&summarised, step, closed));
            }
            self.check_windows(name, &summarised).await;
            for newest in self.store().latest(&key(name)).await.unwrap() {
                let index = SIGNALS.iter().position(|name| *name == newest.signal.as_str()).unwrap() as u8;
                let last = expected.summarised.iter().rev().find(|((_, signal), _)| *signal == index).unwrap();
                assert_eq!((newest.ts.millis(), newest.value.to_bits()), (last.0.0, *last.1));
            }
        }
    }

    async fn check_windows(&self, name: &str, readings: &Readings) {
        let lengths = [1, 30, 24 * 7].map(Duration::from_hours);
        for hour in [1, 24, 31, 100, 240] {
            let got = self.store().windows(vec![key(name)], at(60 * hour), &lengths).await.unwrap().remove(0);
            let expected = Windows::of(readings, at(60 * hour), &lengths);
            assert_eq!(got.signals.len(), expected.signals.len(), "{name} at hour {hour}");
            for ((signal, got), (expected_signal, expected)) in got.signals.iter().zip(&expected.signals) {
                assert_eq!(signal, expected_signal);
                for (got, expected) in got.iter().zip(expected).filter(|(got, expected)| got.count + expected.count > 0)
                {
                    check_same_summary(got, expected);
                }
            }
        }
    }
}

fn samples_of(readings: &Readings) -> Samples {
    let mut samples = Samples::new();
    for (index, name) in (0u8..).zip(SIGNALS) {
        for (ts, value) in readings.times.iter().zip(readings.column(&signal(name)).unwrap_or_default()) {
            if !value.is_nan() {
                samples.insert((ts.millis(), index), value.to_bits());
            }
        }
    }
    samples
}

fn run(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        for step in steps {
            world.take(step).await;
            world.check().await;
        }
        world.store().compact().await.unwrap();
        world.check().await;
        let samples: usize = world.devices.iter().map(|device| device.held.len()).sum();
        assert_eq!(world.store().size().await.unwrap().samples, samples as u64);
        assert_eq!(super::super::check::check(&file(&world.folder), &|_| {}).unwrap(), []);
    });
}

/// Sequences a test: four tests of them run beside each other.
const SEQUENCES: u32 = 2_500;

macro_rules! any_sequence_is_that_of_a_map {
    ($($name:ident = $seed:literal,)*) => {
        $(
            #[test]
            fn $name() {
                let config = ProptestConfig { cases: SEQUENCES, failure_persistence: None, ..ProptestConfig::default() };
                let seed = proptest::test_runner::TestRng::from_seed(
                    proptest::test_runner::RngAlgorithm::ChaCha,
                    &[$seed; 32],
                );
                let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, seed);
                runner.run(&steps(), |steps| { run(steps); Ok(()) }).unwrap();
            }
        )*
    };
}

any_sequence_is_that_of_a_map!(
    any_sequence_is_that_of_a_map_1 = 1,
    any_sequence_is_that_of_a_map_2 = 2,
    any_sequence_is_that_of_a_map_3 = 3,
    any_sequence_is_that_of_a_map_4 = 4,
);
