//! Features by hand, and that nothing but what is known at *t* is read.

use super::*;
use std::sync::Arc;

use harbinger_core::{DeviceKey, Severity, fleet::MaintenanceReason};

fn hour(n: i64) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000) + Duration::from_hours(n)
}

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn ramp(hours: i64) -> Readings {
    let mut readings = Readings::default();
    for n in 0..hours {
        readings.push(hour(n), &[(id("temp"), n as f64)]);
    }
    readings
}

fn space() -> FeatureSpace {
    let windows = Windows::for_cadence(Duration::from_hours(1));
    let codes = [("E1".to_owned(), 3)].into();
    FeatureSpace::new(windows, [id("temp")].into(), [id("temp")].into(), &codes, &[id("fan")].into())
}

fn row_at(space: &FeatureSpace, readings: &Readings, events: &[DeviceEvent], t: Timestamp) -> Vec<f64> {
    let timeline = Timeline::of(readings, space.windows.step);
    let known = Known { readings, timeline: &timeline, cohort: None, events, maintenance: &[], installed_at: None };
    let device = space.device_row(&known, t);
    space.complete(&device, &known, &id("fan"), t)
}

#[track_caller]
fn value(space: &FeatureSpace, row: &[f64], feature: &Feature) -> f64 {
    row[space.features.iter().position(|f| f == feature).unwrap()]
}

fn event(n: i64, code: &str) -> DeviceEvent {
    let key = DeviceKey::new(id("acme"), id("d1"));
    DeviceEvent { key, ts: hour(n), code: Arc::from(code), severity: Severity::Warning, message: None }
}

/// A ramp of one an hour, by hand: the last three hours are 198, 199, 200.
#[test]
fn windows_end_at_t_and_hold_it() {
    let space = space();
    let row = row_at(&space, &ramp(300), &[event(190, "E1"), event(100, "E1"), event(250, "E1")], hour(200));
    assert_eq!(value(&space, &row, &Feature::Last(id("temp"))), 200.0);
    assert_eq!(value(&space, &row, &Feature::ShortMean(id("temp"))), 199.0);
    assert_eq!(value(&space, &row, &Feature::MidMax(id("temp"))), 200.0);
    assert_eq!(value(&space, &row, &Feature::MidMin(id("temp"))), 177.0);
    assert!((value(&space, &row, &Feature::MidSlope(id("temp"))) - 1.0).abs() < 1e-9);
    assert_eq!(value(&space, &row, &Feature::LongChange(id("temp"))), 167.0);
    assert_eq!(value(&space, &row, &Feature::MidGrowth(id("temp"))), 23.0);
    assert_eq!(value(&space, &row, &Feature::LongGrowth(id("temp"))), 167.0);
    assert_eq!(value(&space, &row, &Feature::SinceGrowth(id("temp"))), 0.0);
    assert_eq!(value(&space, &row, &Feature::MidEvents("E1".to_owned())), 1.0);
    assert_eq!(value(&space, &row, &Feature::LongEvents("E1".to_owned())), 2.0);
    assert_eq!(row.len(), space.width());
}

/// Whatever lies after t, and whether t falls on a bucket's end or not, the row is the same bits.
#[test]
fn nothing_after_t_is_read() {
    let space = space();
    for minutes in [0, 20] {
        let t = hour(200) + Duration::from_secs(minutes * 60);
        let all = row_at(&space, &ramp(300), &[event(190, "E1"), event(202, "E1")], t);
        let cut = row_at(&space, &ramp(201), &[event(190, "E1")], t);
        let bits = |row: &[f64]| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&all), bits(&cut));
    }
}

/// Only the baseline and what lies inside the lookback matter: the live service reads no more than that.
#[test]
fn nothing_between_the_baseline_and_the_lookback_is_read() {
    let space = space();
    let (t, whole) = (hour(290), ramp(300));
    let mut read = Readings::default();
    for n in 0..300 {
        if hour(n) > t - space.windows.lookback() || hour(n) <= hour(0) + space.windows.baseline {
            read.push(hour(n), &[(id("temp"), n as f64)]);
        }
    }
    assert!(read.len() < whole.len(), "nothing is left out");
    let bits = |row: Vec<f64>| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(row_at(&space, &whole, &[], t)), bits(row_at(&space, &read, &[], t)));
}

/// By hand: the first 72 hours of the ramp are 0 to 71, 35.5 in the mean; the last 24 before 200 are 188.5. A replacement
/// at hour 100 begins anew: 101 to 172, 136.5.
#[test]
fn the_baseline_is_how_it_began_or_was_after_the_last_repair() {
    let (space, readings) = (space(), ramp(300));
    let timeline = Timeline::of(&readings, space.windows.step);
    let replaced = Maintenance {
        ts: hour(100),
        device: id("d1"),
        component: id("pump"),
        action: MaintenanceAction::Replaced,
        reason: MaintenanceReason::Failure,
    };
    let change = |maintenance: &[Maintenance], n: i64| {
        let known = Known {
            readings: &readings,
            timeline: &timeline,
            cohort: None,
            events: &[],
            maintenance,
            installed_at: None,
        };
        let mut row = space.device_row(&known, hour(n));
        row.push(f64::NAN);
        value(&space, &row, &Feature::BaselineChange(id("temp")))
    };
    assert_eq!(change(&[], 200), 188.5 - 35.5);
    assert_eq!(change(std::slice::from_ref(&replaced), 200), 188.5 - 136.5);
    assert_eq!(change(std::slice::from_ref(&replaced), 99), 87.5 - 35.5, "a replacement to come is not known");
    assert!(change(&[replaced], 100).is_nan(), "no whole bucket since the replacement");
}

#[test]
fn age_counts_from_the_last_replacement_before_t() {
    let replaced = |n: i64, component: &str| Maintenance {
        ts: hour(n),
        device: id("d1"),
        component: id(component),
        action: MaintenanceAction::Replaced,
        reason: MaintenanceReason::Planned,
    };
    let maintenance = [replaced(10, "fan"), replaced(40, "pump"), replaced(90, "fan")];
    let (readings, timeline) = (Readings::default(), Timeline::default());
    let known = Known {
        readings: &readings,
        timeline: &timeline,
        cohort: None,
        events: &[],
        maintenance: &maintenance,
        installed_at: Some(hour(0)),
    };
    assert_eq!(component_age_hours(&known, &id("fan"), hour(50)), Some(40.0));
    assert_eq!(component_age_hours(&known, &id("fan"), hour(95)), Some(5.0));
    assert_eq!(component_age_hours(&known, &id("belt"), hour(95)), Some(95.0));

    let components = ["belt", "fan", "pump"].map(id).into();
    let space =
        FeatureSpace::new(Windows::for_cadence(Duration::from_hours(1)), [].into(), [].into(), &[].into(), &components);
    let row = space.complete(&space.device_row(&known, hour(95)), &known, &id("belt"), hour(95));
    assert_eq!(row.len(), space.width());
    assert!(row[1].is_nan(), "the belt was never replaced");
    assert_eq!([row[0], row[2], row[3], row[4]], [95.0, 5.0, 55.0, 95.0], "device, fan, pump, and the belt's own age");
}

#[test]
fn a_device_far_from_its_cohort_stands_out() {
    let mut cohorts = Cohorts::new(Duration::from_hours(1));
    let mut own = Timeline::default();
    for device in 0..10 {
        let mut readings = Readings::default();
        for n in 0..30 {
            readings.push(hour(n), &[(id("temp"), f64::from(device % 3) + if device == 9 { 50.0 } else { 0.0 })]);
        }
        own = Timeline::of(&readings, Duration::from_hours(1));
        cohorts.add(&id("m1"), &own);
    }
    let cohorts = cohorts.finish();
    let readings = Readings::default();
    let known = Known {
        readings: &readings,
        timeline: &own,
        cohort: cohorts.get(&id::<HardwareModelId>("m1")),
        events: &[],
        maintenance: &[],
        installed_at: None,
    };
    let row = space().device_row(&known, hour(29));
    let z = value(&space(), &row, &Feature::CohortDeviation(id("temp")));
    assert!(z > 2.5, "{z}");
}
