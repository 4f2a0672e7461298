//! How early an alert must come for the part to be there: the way of a piece to the depot that serves the device.

use std::collections::BTreeMap;

use harbinger_core::{DepotId, Duration, fleet::Fleet};

/// Devices of a hundred that get their part within the time.
const SERVED: usize = 90;

/// The time in which a piece reaches the depots of nine of ten devices by the fastest lane to each; none where no lane leads
/// anywhere: then parts are where devices are, or nobody knows the way.
///
/// * `serving`: the depot of each device.
pub(super) fn part_lead_time<'a>(fleet: &Fleet, serving: impl Iterator<Item = &'a DepotId>) -> Duration {
    let mut fastest: BTreeMap<&DepotId, f64> = BTreeMap::new();
    for lane in fleet.lanes.iter().filter(|lane| lane.days.is_finite() && lane.days >= 0.0) {
        let days = fastest.entry(&lane.to).or_insert(f64::INFINITY);
        *days = days.min(lane.days);
    }
    let mut days: Vec<f64> = serving.filter_map(|depot| fastest.get(depot).copied()).collect();
    days.sort_by(f64::total_cmp);
    let place = (days.len() * SERVED).div_ceil(100).saturating_sub(1);
    days.get(place).map_or(Duration::ZERO, |days| Duration::from_millis((days * 86_400_000.0).ceil() as i64))
}

/// The horizons with the shortest that leaves parts the time in front: an alarm within it comes early enough. The longest where
/// none does.
pub(super) fn in_time(mut horizons: Vec<Duration>, lead: Duration) -> Vec<Duration> {
    let all = || horizons.iter().copied().enumerate();
    let early = all().filter(|(_, horizon)| *horizon > lead).min_by_key(|(_, horizon)| *horizon);
    let main = early.or_else(|| all().max_by_key(|(_, horizon)| *horizon));
    if let Some((place, _)) = main {
        horizons[..=place].rotate_right(1);
    }
    horizons
}

#[cfg(test)]
mod tests {
    use harbinger_core::fleet::{Device, Lane};

    use super::*;
    use crate::failure::tests::pump;

    fn lane(from: &str, to: &str, days: f64) -> Lane {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Lane { from, to, days, days_p95: None, cost_per_piece: None, fixed_cost: None, capacity: None }
    }

    fn device(name: &str, depot: &str) -> Device {
        Device { depot: depot.parse().unwrap(), ..pump(name) }
    }

    #[test]
    fn nine_of_ten_devices_get_their_part_by_the_fastest_lane() {
        let lanes = vec![lane("hub", "near", 0.5), lane("far", "near", 3.0), lane("hub", "far", 2.0)];
        let fleet = Fleet { lanes, ..Fleet::default() };
        let of = |near: usize, far: usize| {
            let devices: Vec<Device> = (0..near + far)
                .map(|n| device(&format!("d{n}"), if n < near { "near" } else { "far" }))
                .chain([device("elsewhere", "nowhere")])
                .collect();
            part_lead_time(&fleet, devices.iter().map(|device| &device.depot))
        };
        assert_eq!(of(9, 1), Duration::from_hours(12));
        assert_eq!(of(8, 2), Duration::from_days(2));
        assert_eq!(of(0, 1), Duration::from_days(2));
        assert_eq!(of(0, 0), Duration::ZERO);
    }

    #[test]
    fn the_main_horizon_is_the_shortest_that_leaves_parts_the_time() {
        let days = |days: &[i64]| -> Vec<Duration> { days.iter().map(|&d| Duration::from_days(d)).collect() };
        for (lead, expected) in [(0, [1, 3, 7]), (1, [3, 1, 7]), (2, [3, 1, 7]), (5, [7, 1, 3]), (9, [7, 1, 3])] {
            assert_eq!(in_time(days(&[1, 3, 7]), Duration::from_days(lead)), days(&expected), "{lead} days");
        }
        assert_eq!(in_time(Vec::new(), Duration::ZERO), Vec::new());
    }
}
