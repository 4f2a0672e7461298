//! What the simulation says about wear is true: failures follow the law, and degrading pieces show it.

use std::collections::BTreeMap;

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp, fleet::MaintenanceReason};
use harbinger_sim::{Error, Options, Simulation, history};

type Slot = (DeviceId, ComponentId);

fn slots(simulation: &Simulation) -> Vec<Slot> {
    simulation.slots().map(|(device, component)| (device.clone(), component.clone())).collect()
}

fn kind_of(device: &DeviceId) -> String {
    device.as_str().trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}

/// Failures minus the cumulative hazard that the pieces were exposed to is a martingale with variance equal to that hazard
/// (Aalen, 1978), whatever is censored and however old pieces were at the start. So for every class of component the count
/// lies within four standard deviations of its expectation.
#[test]
fn failures_are_as_many_as_the_hazard_that_pieces_were_exposed_to() {
    let options = Options {
        servers: 600,
        refrigerators: 300,
        air_conditioners: 300,
        cadence: Duration::from_hours(24),
        wear_acceleration: 20.0,
        ..Options::default()
    };
    let start = options.start;
    let mut simulation = Simulation::new(options, 11).unwrap();
    let installed: BTreeMap<DeviceId, Timestamp> =
        simulation.fleet().devices.iter().map(|d| (d.device.clone(), d.installed_at.unwrap())).collect();
    // Per slot: when the piece went in, and from when it is observed. None while it is broken.
    let mut alive: BTreeMap<Slot, Option<(Timestamp, Timestamp)>> =
        slots(&simulation).into_iter().map(|slot| (slot.clone(), Some((installed[&slot.0], start)))).collect();
    let mut tally: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let mut expose =
        |simulation: &Simulation, slot: &Slot, piece: (Timestamp, Timestamp), until: Timestamp, failed: f64| {
            let law = simulation.true_life(&slot.0, &slot.1).unwrap();
            let (went_in, observed_from) = piece;
            let age = |ts: Timestamp| law.cumulative_hazard(ts.days_since(went_in).max(0.0));
            let entry = tally.entry(format!("{} {}", kind_of(&slot.0), slot.1)).or_default();
            entry.0 += failed;
            entry.1 += age(until) - age(observed_from);
        };
    for _ in 0..150 {
        let step = simulation.step();
        let mut happenings: Vec<(Timestamp, bool, Slot)> = Vec::new();
        for failed in &step.failures {
            let slot = (failed.failure.device.clone(), failed.failure.component.clone());
            simulation.part_available(&slot.0, &slot.1, step.now).unwrap();
            happenings.push((failed.failure.ts, false, slot));
        }
        for done in &step.maintenance {
            assert_eq!(done.reason, MaintenanceReason::Failure);
            happenings.push((done.ts, true, (done.device.clone(), done.component.clone())));
        }
        happenings.sort();
        for (ts, replaced, slot) in happenings {
            let piece = alive.get_mut(&slot).expect("only known slots fail");
            if replaced {
                *piece = Some((ts, ts));
            } else {
                expose(&simulation, &slot, piece.take().expect("a piece fails once"), ts, 1.0);
            }
        }
    }
    for (slot, piece) in &alive {
        if let Some(piece) = piece {
            expose(&simulation, slot, *piece, simulation.now(), 0.0);
        }
    }
    assert_eq!(tally.len(), 12, "four models of three slots");
    for (class, (failures, hazard)) in tally {
        assert!(failures > 50.0, "{class}: {failures} failures are too few to test a law");
        assert!((failures - hazard).abs() < 4.0 * hazard.sqrt(), "{class}: {failures} failures, {hazard} expected");
    }
}

/// Mean and standard deviation.
fn spread(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Values of a signal of healthy devices (no slot degrades) and of devices whose `component` is in the last third of its
/// degradation and no other slot degrades. Counters are taken as their increase since the day before.
fn healthy_and_degrading(prefix: &str, component: &str, signal: &str) -> (Vec<f64>, Vec<f64>) {
    let options = Options { cadence: Duration::from_hours(24), lost_reading_share: 0.0, ..Options::default() };
    let mut simulation = Simulation::new(options, 21).unwrap();
    let component = ComponentId::parse(component).unwrap();
    let mut by_device: BTreeMap<DeviceId, Vec<ComponentId>> = BTreeMap::new();
    for (device, component) in slots(&simulation) {
        by_device.entry(device).or_default().push(component);
    }
    let (mut healthy, mut degrading) = (Vec::new(), Vec::new());
    let mut before: BTreeMap<DeviceId, f64> = BTreeMap::new();
    for _ in 0..300 {
        let step = simulation.step();
        for failed in &step.failures {
            simulation.part_available(&failed.failure.device, &failed.failure.component, step.now).unwrap();
        }
        for reading in step.readings.iter().filter(|r| r.key.device.as_str().starts_with(prefix)) {
            let device = &reading.key.device;
            let Some(&(_, value)) = reading.values.iter().find(|(name, _)| name.as_str() == signal) else { continue };
            let value = if signal.ends_with("_total") || signal.ends_with("_sectors") {
                let last = before.insert(device.clone(), value).unwrap_or(value);
                if value < last { continue } else { value - last }
            } else {
                value
            };
            let progress = |component: &ComponentId| -> f64 {
                let fails = simulation.true_failure_time(device, component).unwrap();
                let from = simulation.true_degradation_start(device, component).unwrap();
                if step.now <= from { 0.0 } else { step.now.days_since(from) / fails.days_since(from) }
            };
            let others_fine = by_device[device].iter().filter(|c| **c != component).all(|c| progress(c) == 0.0);
            match progress(&component) {
                p if p == 0.0 && others_fine => healthy.push(value),
                p if (0.67..1.0).contains(&p) && others_fine => degrading.push(value),
                _ => {}
            }
        }
    }
    (healthy, degrading)
}

/// The mean of degrading devices lies at least two standard deviations of the healthy ones away, on the expected side.
#[track_caller]
fn check_separates(prefix: &str, component: &str, signal: &str, direction: f64) {
    let (healthy, degrading) = healthy_and_degrading(prefix, component, signal);
    assert!(degrading.len() >= 20, "{} degrading values are too few", degrading.len());
    let ((fine, deviation), (worn, _)) = (spread(&healthy), spread(&degrading));
    let distance = direction * (worn - fine) / deviation;
    assert!(distance > 2.0, "{prefix} {component} {signal}: {worn} against {fine} +- {deviation}");
}

#[test]
fn degrading_pieces_show_in_their_signals() {
    check_separates("srv-a", "drive", "drive_reallocated_sectors", 1.0);
    check_separates("srv-b", "drive", "drive_read_latency_ms", 1.0);
    check_separates("srv-a", "fan", "fan_vibration_mm_s", 1.0);
    check_separates("srv-b", "memory", "ecc_corrected_total", 1.0);
    check_separates("ref", "compressor", "compressor_current_a", 1.0);
    check_separates("aco", "compressor", "suction_bar", 1.0);
    check_separates("ref", "fan", "fan_rpm", -1.0);
    check_separates("aco", "sensor", "temperature_sensor_c", 1.0);
}

#[test]
fn a_past_holds_readings_events_failures_and_their_repairs() {
    let options = Options { cadence: Duration::from_hours(1), ..Options::default() };
    let (repair, cadence) = (options.repair_time, options.cadence);
    let past = history(options, 5, 60).unwrap();
    assert_eq!(past.histories.len(), 120);
    let expected = 120 * 60 * 24;
    assert!((expected * 97 / 100..=expected).contains(&past.readings()), "{} readings", past.readings());
    let mut failures = 0;
    for known in past.histories.values() {
        assert!(known.readings.times.is_sorted() && known.events.is_sorted_by_key(|event| event.ts));
        failures += known.failures.len();
        for done in &known.maintenance {
            let waited = |failed: Timestamp| done.ts.hours_since(failed);
            let in_time = |failed| (repair.hours()..=repair.hours() + cadence.hours()).contains(&waited(failed));
            assert!(known.failures.iter().any(|f| f.component == done.component && in_time(f.ts)), "{done:?}");
        }
    }
    assert!(failures > 60, "{failures} failures");
}

/// One failure in five comes without a sign (binomial, four standard deviations).
#[test]
fn a_share_of_failures_gives_no_warning() {
    let options = Options { cadence: Duration::from_hours(24), wear_acceleration: 40.0, ..Options::default() };
    let mut simulation = Simulation::new(options, 8).unwrap();
    let (mut silent, mut all) = (0.0, 0.0);
    for _ in 0..200 {
        let step = simulation.step();
        for failed in step.failures {
            simulation.replace(&failed.failure.device, &failed.failure.component, step.now).unwrap();
            all += 1.0;
            silent += f64::from(u8::from(!failed.gave_warning));
        }
    }
    assert!(all > 500.0 && (silent / all - 0.2).abs() < 4.0 * (0.16f64 / all).sqrt(), "{silent} of {all}");
}

#[test]
fn a_piece_put_in_early_is_planned_and_prevents_the_failure() {
    let mut simulation = Simulation::new(Options::default(), 2).unwrap();
    let (slot, fails_at) = slots(&simulation)
        .into_iter()
        .map(|slot| (simulation.true_failure_time(&slot.0, &slot.1).unwrap(), slot))
        .min()
        .map(|(fails_at, slot)| (slot, fails_at))
        .unwrap();
    simulation.replace(&slot.0, &slot.1, fails_at - Duration::from_millis(1)).unwrap();
    while simulation.now() < fails_at {
        let step = simulation.step();
        assert!(
            step.failures
                .iter()
                .all(|failed| (&failed.failure.device, &failed.failure.component) != (&slot.0, &slot.1))
        );
        for done in step.maintenance {
            assert_eq!(
                (done.device, done.component, done.reason),
                (slot.0.clone(), slot.1.clone(), MaintenanceReason::Planned)
            );
        }
    }
    assert!(simulation.true_failure_time(&slot.0, &slot.1).unwrap() > fails_at);
    let unknown = DeviceId::parse("nobody").unwrap();
    assert!(matches!(simulation.replace(&unknown, &slot.1, fails_at), Err(Error::Unknown { .. })));
}

/// Events that wear causes come at least ten times as often in the last days before a failure that gives warning as while
/// all slots are healthy. Among healthy devices they do occur: not every event means a failure.
#[test]
fn events_become_frequent_before_failure_and_are_sometimes_false() {
    let options = Options { cadence: Duration::from_hours(24), ..Options::default() };
    let mut simulation = Simulation::new(options, 33).unwrap();
    let all = slots(&simulation);
    // Event counts and device days: all slots healthy, some slot in the last third of its degradation.
    let (mut healthy, mut worn) = ((0.0, 0.0), (0.0, 0.0));
    for _ in 0..300 {
        let step = simulation.step();
        for failed in &step.failures {
            simulation.part_available(&failed.failure.device, &failed.failure.component, step.now).unwrap();
        }
        let mut progress: BTreeMap<&DeviceId, f64> = BTreeMap::new();
        for (device, component) in &all {
            let fails = simulation.true_failure_time(device, component).unwrap();
            let from = simulation.true_degradation_start(device, component).unwrap();
            let share = if step.now <= from { 0.0 } else { step.now.days_since(from) / fails.days_since(from) };
            let furthest = progress.entry(device).or_default();
            *furthest = furthest.max(share);
        }
        for (device, share) in progress {
            let of_device = |event: &&harbinger_core::DeviceEvent| event.key.device == *device;
            let of_wear = |event: &&harbinger_core::DeviceEvent| !matches!(&*event.code, "DOOR_OPEN" | "FILTER_DIRTY");
            let count = step.events.iter().filter(of_device).filter(of_wear).count() as f64;
            let tally = match share {
                0.0 => &mut healthy,
                s if (0.67..1.0).contains(&s) => &mut worn,
                _ => continue,
            };
            tally.0 += count;
            tally.1 += 1.0;
        }
    }
    let (background, near_failure) = (healthy.0 / healthy.1, worn.0 / worn.1);
    assert!(healthy.0 > 100.0, "{} false events", healthy.0);
    assert!(near_failure > 10.0 * background, "{near_failure} a day against {background}");
}
