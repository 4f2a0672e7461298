//! The same seed gives the same world, and a policy changes only what it touches.

use std::collections::BTreeMap;

use harbinger_core::{Duration, Timestamp};
use harbinger_sim::{Options, Simulation, Step};
use proptest::prelude::*;

fn small() -> Options {
    Options {
        servers: 10,
        refrigerators: 5,
        air_conditioners: 5,
        cadence: Duration::from_hours(6),
        wear_acceleration: 40.0,
        ..Options::default()
    }
}

/// Runs 120 days; each failure is mended after what `delay_hours` says of its place in the order of failures.
fn run(seed: u64, delay_hours: impl Fn(usize) -> i64) -> (Simulation, Vec<Step>) {
    let mut simulation = Simulation::new(small(), seed).unwrap();
    let mut failures = 0;
    let steps = (0..480)
        .map(|_| {
            let step = simulation.step();
            for failed in &step.failures {
                let at = step.now + Duration::from_hours(delay_hours(failures));
                simulation.replace(&failed.failure.device, &failed.failure.component, at).unwrap();
                failures += 1;
            }
            step
        })
        .collect();
    (simulation, steps)
}

/// Lives of the pieces of each slot that went in during the run, in milliseconds: replacement to next failure.
fn lives(steps: &[Step]) -> BTreeMap<(String, String), Vec<i64>> {
    let mut installed: BTreeMap<(String, String), Timestamp> = BTreeMap::new();
    let mut lives: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    let mut happenings = Vec::new();
    for step in steps {
        for failed in &step.failures {
            let failure = &failed.failure;
            happenings.push((failure.ts, false, (failure.device.to_string(), failure.component.to_string())));
        }
        for done in &step.maintenance {
            happenings.push((done.ts, true, (done.device.to_string(), done.component.to_string())));
        }
    }
    happenings.sort();
    for (ts, replaced, slot) in happenings {
        if replaced {
            installed.insert(slot, ts);
        } else if let Some(since) = installed.get(&slot) {
            lives.entry(slot).or_default().push(ts.millis() - since.millis());
        }
    }
    lives
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_seed_another() {
    let (first, steps) = run(3, |_| 12);
    let (again, same) = run(3, |_| 12);
    assert_eq!(first.fleet(), again.fleet());
    assert!(steps == same, "two runs of one seed differ");
    assert!(steps.iter().map(|step| step.failures.len()).sum::<usize>() > 20, "too little happens to compare");
    let (other, different) = run(4, |_| 12);
    assert_ne!(first.fleet(), other.fleet());
    assert!(steps != different);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// However long repairs wait, the first pieces fail when they would have, the n-th piece of a slot lives as long as it
    /// would have, and a device that nothing has happened to reports the same readings.
    #[test]
    fn delays_change_when_pieces_go_in_and_not_how_long_they_live(seed in 0u64..1000, delays in proptest::collection::vec(0i64..400, 1..20)) {
        let (_, prompt) = run(seed, |_| 0);
        let (_, delayed) = run(seed, |n| delays[n % delays.len()]);
        let (of_prompt, of_delayed) = (lives(&prompt), lives(&delayed));
        for (slot, expected) in &of_prompt {
            let got = of_delayed.get(slot).map_or(&[][..], Vec::as_slice);
            let both = expected.len().min(got.len());
            prop_assert_eq!(&expected[..both], &got[..both], "{:?}", slot);
        }
        let mut touched = std::collections::BTreeSet::new();
        for (a, b) in prompt.iter().zip(&delayed) {
            for failed in a.failures.iter().chain(&b.failures) {
                touched.insert(failed.failure.device.clone());
            }
            let untouched = |step: &Step| -> Vec<_> {
                step.readings.iter().filter(|r| !touched.contains(&r.key.device)).cloned().collect()
            };
            prop_assert_eq!(untouched(a), untouched(b));
        }
    }
}
