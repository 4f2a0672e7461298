//! Slices hold everything once, in order.

use std::sync::Arc;

use harbinger_core::{
    ComponentId, DepotId, DeviceEvent, DeviceKey, PartId, Severity, SignalId, TenantId,
    fleet::{MaintenanceAction, MaintenanceReason},
    history::Readings,
};
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn history(name: &str, readings: &[i64], events: &[i64], maintenance: &[i64]) -> (DeviceId, DeviceHistory) {
    let mut columns = Readings::default();
    for &at in readings {
        columns.push(minute(at), &[(SignalId::parse("x").unwrap(), at as f64)]);
    }
    let key = DeviceKey::new(TenantId::parse("acme").unwrap(), device(name));
    let event = |&at: &i64| DeviceEvent {
        key: key.clone(),
        ts: minute(at),
        code: Arc::from("E1"),
        severity: Severity::Info,
        message: None,
    };
    let record = |&at: &i64| Maintenance {
        ts: minute(at),
        device: device(name),
        component: ComponentId::parse("fan").unwrap(),
        action: MaintenanceAction::Replaced,
        reason: MaintenanceReason::Failure,
    };
    let history = DeviceHistory {
        readings: columns,
        events: events.iter().map(event).collect(),
        maintenance: maintenance.iter().map(record).collect(),
        failures: Vec::new(),
    };
    (device(name), history)
}

fn used(at: i64) -> Consumption {
    let (part, depot) = (PartId::parse("p").unwrap(), DepotId::parse("hub").unwrap());
    Consumption { ts: minute(at), part, depot, quantity: 1.0 }
}

/// What was recorded, as minutes.
fn minutes(slice: &Slice) -> (Vec<i64>, Vec<i64>) {
    let of = |ts: Timestamp| ts.millis() / 60_000;
    (slice.maintenance.iter().map(|m| of(m.ts)).collect(), slice.consumption.iter().map(|c| of(c.ts)).collect())
}

#[test]
fn slices_are_hours_and_what_is_older_than_the_first_word_comes_first_and_together() {
    let histories = [
        history("a", &[600, 630, 660], &[], &[-5000, 10, 600, 659, 900]),
        history("b", &[661], &[605, 606], &[20]),
        history("silent", &[], &[], &[30]),
    ];
    let feed = Feed::new(histories.into_iter().collect(), vec![used(700), used(5)]);
    let slices: Vec<Slice> = feed.slices(HOUR).collect();
    let piece = |device, readings: Range<usize>, events: Range<usize>| Piece { device, readings, events };
    assert_eq!(slices.len(), 5);
    assert!(slices[0].pieces.is_empty());
    assert_eq!(minutes(&slices[0]), (vec![-5000, 10, 20, 30], vec![5]));
    assert_eq!(slices[1].pieces, [piece(0, 0..1, 0..0)]);
    assert_eq!(minutes(&slices[1]), (vec![600], vec![]));
    assert_eq!(slices[2].pieces, [piece(1, 0..0, 0..2), piece(0, 1..3, 0..0)]);
    assert_eq!(minutes(&slices[2]), (vec![659], vec![]));
    assert_eq!(slices[3].pieces, [piece(1, 0..1, 2..2)]);
    assert_eq!(minutes(&slices[3]), (vec![], vec![700]));
    assert_eq!(minutes(&slices[4]), (vec![900], vec![]));
    let last: Vec<i64> = slices.iter().map(|slice| slice.last.millis() / 60_000).collect();
    assert_eq!(last, [30, 600, 660, 700, 900]);
}

#[test]
fn daily_devices_give_a_slice_a_time_stamp() {
    let day = 24 * 60;
    let feed = Feed::new(
        [history("a", &[0, day, 2 * day], &[], &[day - 1]), history("b", &[0, 2 * day], &[], &[])].into(),
        Vec::new(),
    );
    let slices: Vec<Slice> = feed.slices(HOUR).collect();
    let shape: Vec<(usize, usize)> = slices.iter().map(|s| (s.pieces.len(), s.maintenance.len())).collect();
    assert_eq!(shape, [(2, 0), (1, 1), (2, 0)]);
}

#[test]
fn the_end_of_time_ends() {
    let mut readings = Readings::default();
    readings.push(Timestamp::MAX, &[]);
    let history = DeviceHistory { readings, ..DeviceHistory::default() };
    let feed = Feed::new([(device("a"), history)].into(), Vec::new());
    assert_eq!(feed.slices(HOUR).count(), 1);
    assert_eq!(Feed::new(BTreeMap::new(), Vec::new()).slices(HOUR).count(), 0);
}

proptest! {
    /// Every item comes exactly once, and all of a slice is at or before all of the next one's grid cells.
    #[test]
    fn everything_comes_once_and_in_order(
        streams in proptest::collection::vec(proptest::collection::vec((0i64..3000, 0u8..3), 0..40), 1..8),
        length in 1i64..200,
    ) {
        let histories = streams.iter().enumerate().map(|(place, items)| {
            let of = |kind: u8| {
                let mut times: Vec<i64> = items.iter().filter(|item| item.1 == kind).map(|item| item.0).collect();
                times.sort_unstable();
                times.dedup();
                times
            };
            history(&format!("d{place}"), &of(0), &of(1), &of(2))
        });
        let feed = Feed::new(histories.collect(), Vec::new());
        let length = Duration::from_millis(length * 60_000);
        let (mut readings, mut events, mut maintenance) = (vec![0; feed.devices.len()], vec![0; feed.devices.len()], 0);
        let mut cell = Timestamp::MIN;
        for slice in feed.slices(length) {
            let mut times: Vec<Timestamp> = slice.maintenance.iter().map(|record| record.ts).collect();
            maintenance += slice.maintenance.len();
            for piece in &slice.pieces {
                let history = &feed.devices[piece.device].1;
                prop_assert_eq!(piece.readings.start, readings[piece.device]);
                prop_assert_eq!(piece.events.start, events[piece.device]);
                readings[piece.device] = piece.readings.end;
                events[piece.device] = piece.events.end;
                times.extend_from_slice(&history.readings.times[piece.readings.clone()]);
                times.extend(history.events[piece.events.clone()].iter().map(|event| event.ts));
            }
            prop_assert!(!times.is_empty());
            prop_assert!(times.iter().all(|ts| ts.ceil_to(length) > cell));
            prop_assert_eq!(times.iter().max(), Some(&slice.last));
            cell = slice.last.ceil_to(length);
        }
        for (place, (_, history)) in feed.devices.iter().enumerate() {
            prop_assert_eq!(readings[place], history.readings.len());
            prop_assert_eq!(events[place], history.events.len());
        }
        prop_assert_eq!(maintenance, feed.devices.iter().map(|(_, history)| history.maintenance.len()).sum::<usize>());
    }
}
