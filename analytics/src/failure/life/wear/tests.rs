//! Wear of made-up devices whose way to failure is known.

use std::collections::BTreeMap;

use harbinger_core::history::{Readings, Timeline};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::features::Windows;

fn id(name: &str) -> SignalId {
    name.parse().unwrap()
}

fn day(n: i64) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000) + Duration::from_days(n)
}

fn space() -> FeatureSpace {
    let signals = ["a", "b", "c", "still"].map(id).into();
    FeatureSpace::new(Windows::for_cadence(Duration::from_days(1)), signals, [].into(), &BTreeMap::new(), &[].into())
}

/// A device that fails on the given day: `a` rises by 2 and `b` falls by 2 over its last hundred days, below noise that both
/// share; `c` is noise, and one never moves.
fn device(seed: u64, life: i64) -> Readings {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut noise = move || random.random_range(-1.0..1.0);
    let mut readings = Readings::default();
    for n in 0..life {
        let (shared, own) = (4.0 * noise(), [noise(), noise(), noise()]);
        let worn = 2.0 * (1.0 - (life - n) as f64 / 100.0).max(0.0);
        let values = [shared + own[0] + worn, shared + own[1] - worn, 3.0 * own[2], 7.0];
        readings.push(day(n), &["a", "b", "c", "still"].map(id).into_iter().zip(values).collect::<Vec<_>>());
    }
    readings
}

fn known<'a>(readings: &'a Readings, timeline: &'a Timeline) -> Known<'a> {
    Known { readings, timeline, cohort: None, events: &[], maintenance: &[], installed_at: None }
}

/// Wear as the devices of some seeds show it.
fn learn(devices: std::ops::Range<u64>, capped: f64) -> Option<Wear> {
    let space = space();
    let mut rows: Vec<(Vec<f64>, usize, f64)> = Vec::new();
    for seed in devices {
        let life = 150 + 7 * seed as i64;
        let readings = device(seed, life);
        let timeline = Timeline::of(&readings, space.windows.step);
        for n in 0..life {
            let hours = (24.0 * (life - n) as f64).min(capped);
            rows.push((space.device_row(&known(&readings, &timeline), day(n)), seed as usize, hours));
        }
    }
    let seen = |(features, device, hours): &'_ (Vec<f64>, usize, f64)| (features.clone(), *device, *hours);
    let owned: Vec<(Vec<f64>, usize, f64)> = rows.iter().map(seen).collect();
    let seen: Vec<Seen<'_>> =
        owned.iter().map(|(features, device, hours)| Seen { features, device: *device, hours: *hours }).collect();
    Wear::fit(&space, &seen)
}

fn told(wear: &Wear, readings: &Readings, t: Timestamp) -> Vec<f64> {
    let space = space();
    let timeline = Timeline::of(readings, space.windows.step);
    let mut row = Vec::new();
    wear.tell(&space, &known(readings, &timeline), t, &mut row);
    row
}

#[test]
fn what_drifts_together_is_one_direction_and_shared_noise_is_none() {
    let wear = learn(0..20, 24.0 * 125.0).unwrap();
    assert_eq!(wear.signals, ["a", "b", "c"].map(id), "what never moves tells nothing");
    for parts in [&wear.parts[0], &wear.parts[3]] {
        let (a, b, c) = (parts[0], parts[1], parts[2]);
        // The difference of both has the drift twice and the shared noise not at all.
        assert!((a + b).abs() < 0.1 * a.abs() && c.abs() < 0.1 * a.abs(), "{parts:?}");
    }
    assert!(wear.is_sound() && wear.width() == wear.parts.len() * NUMBERS);
}

#[test]
fn wear_of_a_device_not_seen_shows_in_means_changes_and_trends() {
    let wear = learn(0..20, 24.0 * 125.0).unwrap();
    let readings = device(99, 220);
    let (young, old) = (told(&wear, &readings, day(100)), told(&wear, &readings, day(218)));
    let sign = (old[0] - young[0]).signum();
    for number in 0..NUMBERS {
        assert!(sign * old[number] > sign * young[number], "number {number}: {young:?} {old:?}");
    }
}

#[test]
fn nothing_after_t_and_nothing_before_the_lookback_is_read() {
    let (wear, space) = (learn(0..20, 24.0 * 125.0).unwrap(), space());
    let readings = device(98, 1_500);
    let t = day(1_200);
    let from = t - lookback(&space);
    let mut cut = Readings::default();
    for (place, &ts) in readings.times.iter().enumerate().filter(|(_, ts)| (from..=t).contains(*ts)) {
        cut.push(ts, &readings.columns.iter().map(|(name, column)| (name.clone(), column[place])).collect::<Vec<_>>());
    }
    assert!(cut.len() < readings.len());
    let bits = |row: Vec<f64>| row.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(told(&wear, &readings, t)), bits(told(&wear, &cut, t)));
}

#[test]
fn a_signal_that_is_missing_counts_as_usual_and_without_any_all_is_missing() {
    let wear = learn(0..20, 24.0 * 125.0).unwrap();
    let mut readings = Readings::default();
    readings.push(day(0), &[(id("a"), 3.0)]);
    assert!(told(&wear, &readings, day(0))[0].is_finite());
    assert!(told(&wear, &Readings::default(), day(0)).iter().all(|number| number.is_nan()));
}

#[test]
fn devices_that_were_never_seen_early_and_late_show_no_wear() {
    assert!(learn(0..5, 24.0 * 125.0).is_some() && learn(0..5, 0.1).is_none());
    assert_eq!(Wear::fit(&space(), &[]), None);
}

#[test]
fn a_damaged_one_is_noticed() {
    let mut wear = learn(0..5, 24.0 * 125.0).unwrap();
    wear.parts[1].pop();
    assert!(!wear.is_sound());
}
