//! Lines that share device and time become one reading: an agent sends a line a measurement, and a device reports once.

use std::collections::HashMap;

use harbinger_core::{Reading, Timestamp};

use super::taken::Found;
use crate::decode::repeated;

/// Joins the readings of one device and time. Where some of them share a signal, or have more than `signals_max` together,
/// they stay as they came: the store then counts what was sent twice, and the later value wins.
pub(super) fn joined(found: Vec<Found<Reading>>, signals_max: usize) -> Vec<Reading> {
    let mut readings: Vec<Reading> = Vec::with_capacity(found.len());
    let mut first_of: HashMap<(usize, Timestamp), usize> = HashMap::with_capacity(found.len());
    let mut further: HashMap<usize, Vec<Reading>> = HashMap::new();
    for Found { device, content, .. } in found {
        let first = *first_of.entry((device, content.ts)).or_insert(readings.len());
        if first == readings.len() {
            readings.push(content);
        } else {
            further.entry(first).or_default().push(content);
        }
    }
    let mut apart = Vec::new();
    for (first, further) in further {
        let Some(reading) = readings.get_mut(first) else { continue };
        let signals =
            || std::iter::once(&*reading).chain(&further).flat_map(|part| &part.values).map(|(signal, _)| signal);
        let one_kind = further.iter().all(|part| part.arrival == reading.arrival);
        if one_kind && signals().count() <= signals_max && repeated(signals()).is_none() {
            reading.values.extend(further.into_iter().flat_map(|part| part.values));
        } else {
            apart.extend(further);
        }
    }
    readings.extend(apart);
    readings
}

#[cfg(test)]
mod tests {
    use harbinger_core::{DeviceId, DeviceKey, SignalId, TenantId};

    use super::*;

    fn found(device: usize, ts: i64, values: &[(&str, f64)]) -> Found<Reading> {
        let key = DeviceKey::new(TenantId::parse("acme").unwrap(), DeviceId::parse(&format!("d{device}")).unwrap());
        let values = values.iter().map(|(name, value)| (SignalId::parse(name).unwrap(), *value)).collect();
        let content = Reading { key, ts: Timestamp::from_millis(ts), arrival: false, values };
        Found { line: 1, text: 0..0, device, content }
    }

    #[track_caller]
    fn check(lines: Vec<Found<Reading>>, signals_max: usize, expected: &[&str]) {
        let told = joined(lines, signals_max);
        let told: Vec<String> = told
            .iter()
            .map(|reading| {
                let values: Vec<String> =
                    reading.values.iter().map(|(signal, value)| format!("{signal}={value}")).collect();
                format!("{}@{} {}", reading.key.device, reading.ts.millis(), values.join(" "))
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn one_device_and_time_is_one_reading() {
        let lines = vec![
            found(0, 1, &[("a", 1.0)]),
            found(1, 1, &[("a", 2.0)]),
            found(0, 2, &[("a", 3.0)]),
            found(0, 1, &[("b", 4.0), ("c", 5.0)]),
        ];
        check(lines, 3, &["d0@1 a=1 b=4 c=5", "d1@1 a=2", "d0@2 a=3"]);
    }

    /// What comes twice is for the store to count, in the order in which it came.
    #[test]
    fn lines_that_share_a_signal_stay_apart() {
        let lines = || vec![found(0, 1, &[("a", 1.0)]), found(0, 1, &[("b", 2.0)]), found(0, 1, &[("a", 3.0)])];
        check(lines(), 10, &["d0@1 a=1", "d0@1 b=2", "d0@1 a=3"]);
    }

    #[test]
    fn no_reading_grows_beyond_the_bound() {
        check(vec![found(0, 1, &[("a", 1.0)]), found(0, 1, &[("b", 2.0)])], 1, &["d0@1 a=1", "d0@1 b=2"]);
    }
}
