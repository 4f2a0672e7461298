//! The screen on devices whose faults are known, and on what must not upset it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const MINUTES: i64 = 10;
const A_DAY: usize = 24 * 60 / MINUTES as usize;

fn at(place: usize) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000 + place as i64 * MINUTES * 60_000)
}

fn signal(n: usize) -> SignalId {
    format!("s{n}").parse().unwrap()
}

/// `days` of a device: a temperature with the sun, a load, a fan that follows both, one that never moves.
fn device(seed: u64, days: usize, fault: impl Fn(usize, &mut [f64; 4])) -> Readings {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut noise = move || random.random_range(-1.0..1.0) + random.random_range(-1.0..1.0);
    let mut load = 0.0;
    let mut columns = vec![Vec::new(); 4];
    for place in 0..days * A_DAY {
        let sun = (std::f64::consts::TAU * place as f64 / A_DAY as f64).sin();
        load = 0.9 * load + noise();
        let temperature = 20.0 + 6.0 * sun + 0.5 * noise();
        let mut values = [temperature, load, 100.0 + 2.0 * temperature + 3.0 * load + 0.5 * noise(), 12.0];
        fault(place, &mut values);
        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }
    let columns = columns.into_iter().enumerate().map(|(n, column)| (signal(n), column)).collect();
    Readings { times: (0..days * A_DAY).map(at).collect(), columns }
}

fn screened(readings: &Readings) -> Vec<Screened> {
    let (screen, screened) = Screen::learn_and_apply(readings, at(14 * A_DAY)).unwrap();
    assert!(screen.can_alarm());
    screened
}

fn alarms(screened: &[Screened]) -> usize {
    screened.iter().filter(|row| row.alarm).count()
}

#[test]
fn a_healthy_device_alarms_seldom() {
    let (mut runs, mut in_alarm) = (0, 0);
    for seed in 0..10 {
        let rows = screened(&device(seed, 28, |_, _| {}));
        assert_eq!(rows.len(), 14 * A_DAY);
        in_alarm += alarms(&rows);
        runs += rows.windows(2).filter(|pair| !pair[0].alarm && pair[1].alarm).count();
    }
    // Allowed are .7 a day together, over 140 days.
    assert!(runs < 140, "{runs} runs");
    assert!(in_alarm < 10 * 14 * A_DAY / 20, "{in_alarm} readings in alarm");
}

/// Many signals of pure noise: their distance hardly varies, and an alarm must end all the same.
#[test]
fn an_alarm_ends_where_the_distance_hardly_varies() {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let times: Vec<Timestamp> = (0..20 * A_DAY).map(at).collect();
    let columns = (0..30).map(|n| (signal(n), times.iter().map(|_| random.random()).collect())).collect();
    let rows = screened(&Readings { times, columns });
    assert!(alarms(&rows) < rows.len() / 20, "{} of {}", alarms(&rows), rows.len());
}

#[test]
fn a_fan_that_no_longer_follows_is_noticed_and_named() {
    // Within its own range all along: only the bond to load and temperature is broken.
    let from = 20 * A_DAY;
    let broken = device(3, 22, |place, values| {
        if place >= from {
            values[2] = 140.0;
        }
    });
    let rows = screened(&broken);
    let first = rows.iter().position(|row| row.ts >= at(from)).unwrap();
    let (before, after) = rows.split_at(first);
    assert!(alarms(&after[..A_DAY / 4]) > A_DAY / 8, "{} in six hours", alarms(&after[..A_DAY / 4]));
    assert!(alarms(before) < before.len() / 10, "{} of {} before", alarms(before), before.len());
    let named = after.iter().filter(|row| row.alarm && row.top_signals.contains(&signal(2))).count();
    assert!(named * 10 > alarms(after) * 9, "{named} of {} name the fan", alarms(after));
    let median = |rows: &[Screened]| {
        let mut scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        scores.sort_by(f64::total_cmp);
        scores[scores.len() / 2]
    };
    assert!(median(after) > 2.0 * median(before));
}

#[test]
fn a_signal_that_never_moved_alarms_when_it_does() {
    let from = 20 * A_DAY;
    let rows = screened(&device(4, 21, |place, values| {
        if place >= from {
            values[3] = 12.5;
        }
    }));
    let after = &rows[6 * A_DAY..];
    assert!(
        alarms(after) > A_DAY / 2 && after.iter().filter(|row| row.alarm).all(|row| row.top_signals[0] == signal(3))
    );
}

/// No look-ahead: cut the readings anywhere and what was said before stays, to the last bit.
#[test]
fn what_comes_later_changes_nothing() {
    let whole = device(5, 18, |_, _| {});
    let mut cut = whole.clone();
    cut.truncate(16 * A_DAY);
    assert_eq!(screened(&cut)[..], screened(&whole)[..2 * A_DAY]);
}

#[test]
fn missing_doubled_and_infinite_values_do_not_upset_it() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut readings = device(6, 20, |_, _| {});
    let doubled = readings.columns[0].1.clone();
    readings.columns.push((signal(4), doubled));
    readings.columns.push((signal(5), vec![f64::NAN; readings.len()]));
    for (_, column) in &mut readings.columns {
        for value in column.iter_mut() {
            match random.random_range(0..100) {
                0..10 => *value = f64::NAN,
                10 => *value = f64::INFINITY,
                _ => {}
            }
        }
    }
    let rows = screened(&readings);
    assert!(rows.iter().all(|row| row.score.is_finite()));
    assert!(alarms(&rows) < rows.len() / 10, "{} of {}", alarms(&rows), rows.len());
}

#[test]
fn too_little_is_said_so() {
    let readings = device(7, 2, |_, _| {});
    let of = |until| Screen::learn_and_apply(&readings, until).map(|(screen, _)| screen.can_alarm());
    assert_eq!(of(at(10)), Err(Unscreened::TooFewReadings(10)));
    assert_eq!(of(at(A_DAY)), Ok(false), "a day tells what is usual, not how often it is not");
    let nothing = Readings { columns: vec![(signal(0), vec![f64::NAN; readings.len()])], ..readings.clone() };
    assert!(matches!(Screen::learn_and_apply(&nothing, at(A_DAY)), Err(Unscreened::NoSignals)));
}
