//! How far a tenant's event time has come.

use harbinger_core::Timestamp;
use harbinger_store::telemetry::DeviceExtent;

/// The median over devices of what each reported last: one wild clock, or a few devices that fell silent, move nothing.
///
/// `None` without devices.
#[must_use]
pub fn watermark(extents: &[DeviceExtent]) -> Option<Timestamp> {
    let mut lasts: Vec<Timestamp> = extents.iter().map(|extent| extent.last).collect();
    let middle = lasts.len() / 2;
    (!lasts.is_empty()).then(|| *lasts.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lasts: &[i64], expected: Option<i64>) {
        let extent = |(n, &last): (usize, &i64)| DeviceExtent {
            device: format!("d{n}").parse().unwrap(),
            first: Timestamp::from_millis(0),
            last: Timestamp::from_millis(last),
            readings: None,
        };
        let extents: Vec<DeviceExtent> = lasts.iter().enumerate().map(extent).collect();
        assert_eq!(watermark(&extents), expected.map(Timestamp::from_millis));
    }

    #[test]
    fn neither_a_wild_clock_nor_a_silent_device_moves_it() {
        check(&[], None);
        check(&[100, 101, 102, 101, 4_000_000_000_000], Some(101));
        check(&[100, 101, 102, 101, 5], Some(101));
    }
}
