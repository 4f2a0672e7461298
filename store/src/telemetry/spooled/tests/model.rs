//! Any sequence of appends, shipments, losses, restarts and the passing of time reads like a map.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::{prelude::*, test_runner::TestRunner};

use super::{watched::Watched, *};

#[derive(Debug, Clone)]
enum Step {
    /// Values of a device from a minute on, in steps of so many minutes.
    Append {
        device: usize,
        from: i64,
        step: i64,
        values: Vec<(usize, i8)>,
    },
    Ship,
    Pass(i64),
    Reopen,
    /// From now on the server keeps what it takes, or loses it.
    Loses(bool),
    /// The server shows that it runs anew.
    Restart,
}

const DEVICES: [&str; 2] = ["a", "b"];
const SIGNALS: [&str; 2] = ["x", "y"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let values = proptest::collection::vec((0..SIGNALS.len(), -2i8..4), 1..6);
    let append = (0..DEVICES.len(), 0i64..30, -1i64..3, values).prop_map(|(device, from, step, values)| Step::Append {
        device,
        from,
        step,
        values,
    });
    let step = prop_oneof![
        5 => append,
        4 => Just(Step::Ship),
        3 => (1i64..15).prop_map(Step::Pass),
        1 => Just(Step::Reopen),
        1 => any::<bool>().prop_map(Step::Loses),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..18)
}

/// Values that a server gives back as they are, one that is rounded, one that has a sign alone.
fn value(small: i8) -> f64 {
    match small {
        -2 => -0.0,
        -1 => 0.1 + 0.2,
        other => f64::from(other) / 4.0,
    }
}

type Model = BTreeMap<(usize, i64, usize), u64>;

async fn check(server: Arc<dyn Remote>, steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let mut watched = Watched::new(server, |_| false);
    watched.run = Some(AtomicU32::default());
    let watched = Arc::new(watched);
    let remote: Arc<dyn Remote> = watched.clone();
    let clock = Arc::new(ManualClock::new(at(0)));
    let open = async || SpooledStore::open(file(&folder), remote.clone(), clock.clone(), ten_minutes()).await.unwrap();
    let (mut store, mut model) = (open().await, Model::new());
    for step in steps {
        match step {
            Step::Append { device, from, step, values } => {
                let (mut readings, mut corrected) = (Vec::new(), 0);
                for (i, (name, small)) in (0..).zip(values) {
                    let minute = from + i * step;
                    let before = model.insert((device, minute, name), value(small).to_bits());
                    corrected += u64::from(before.is_some_and(|before| before != value(small).to_bits()));
                    readings.push(reading(DEVICES[device], minute, &[(SIGNALS[name], value(small))]));
                }
                assert_eq!(append(&*store, readings).await.corrected, corrected);
            }
            Step::Ship => store.compact().await.unwrap(),
            Step::Pass(minutes) => clock.advance(Duration::from_secs(60 * minutes)),
            Step::Reopen => {
                store.close().await.unwrap();
                drop(store);
                store = open().await;
            }
            Step::Loses(loses) => watched.forgets.store(loses, Ordering::SeqCst),
            Step::Restart => drop(watched.run.as_ref().unwrap().fetch_add(1, Ordering::SeqCst)),
        }
        same_as_model(&store, &model).await;
    }
    clock.advance(Duration::from_hours(1));
    store.compact().await.unwrap();
    same_as_model(&store, &model).await;
    assert_eq!(store.size().await.unwrap().samples, model.len() as u64);
}

async fn same_as_model(store: &SpooledStore, model: &Model) {
    let mut found = Model::new();
    for (device, name) in DEVICES.into_iter().enumerate() {
        let readings = scan(store, name).await;
        for (place, signal_name) in SIGNALS.into_iter().enumerate() {
            let column = readings.column(&signal(signal_name)).unwrap_or_default();
            for (ts, value) in readings.times.iter().zip(column).filter(|(_, value)| !value.is_nan()) {
                found.insert((device, (ts.millis() - at(0).millis()) / 60_000, place), value.to_bits());
            }
        }
        for latest in store.latest(&key(name)).await.unwrap() {
            let place = SIGNALS.iter().position(|known| *known == latest.signal.as_str()).unwrap();
            let newest = model.iter().rfind(|((of, _, signal), _)| (*of, *signal) == (device, place)).unwrap();
            assert_eq!((latest.ts, latest.value.to_bits()), (at(newest.0.1), *newest.1));
        }
    }
    assert_eq!(found, *model);
}

async fn any_sequence_reads_like_a_map(kind: Kind) {
    if shared(kind).await.is_none() {
        return;
    }
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
        let case = |steps| {
            runtime.block_on(async { check(shared(kind).await.unwrap(), steps).await });
            Ok(())
        };
        TestRunner::new(config).run(&steps(), case).unwrap();
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

on_every_server!(any_sequence_reads_like_a_map,);
