//! Readings as Influx line protocol, and names that come back as they were.
//!
//! ```text
//! harbinger,db=plant,tenant=acme,device=press-7 inlet_c=24.5,fan1_rpm=8123 1420070400000
//! ```
//! A line a reading: a field a signal, times in milliseconds (`precision=ms`), every value a float in its shortest decimal
//! form that reads back to the same bits. VictoriaMetrics makes the metric `harbinger_inlet_c` of the first field.
//!
//! Names hold what the format or a server keeps for itself: those characters are percent-encoded (`encode_name`), which
//! [`decode_name`] undoes, so any id is reversible.

use std::fmt::Write;

use harbinger_core::{DeviceKey, SignalId, TenantId, Timestamp, history::Readings};

/// The measurement of every point.
pub const MEASUREMENT: &str = "harbinger";

/// Names of tags and of InfluxQL's time column: a signal of such a name would hide behind it.
const RESERVED: [&str; 4] = ["time", "tenant", "device", "db"];

/// An id as a tag value or field key, before the escapes of line protocol.
///
/// `\` cannot be escaped in line protocol, `"` begins a string for some readers of it, and a leading `_` is InfluxDB's own.
pub(super) fn encode_name(id: &str) -> String {
    let reserved = RESERVED.contains(&id);
    let mut name = String::with_capacity(id.len());
    for (place, character) in id.chars().enumerate() {
        let first = place == 0 && (reserved || character == '_');
        if first || matches!(character, '%' | '\\' | '"') {
            // All of these are ASCII.
            let _infallible = write!(name, "%{:02X}", u32::from(character));
        } else {
            name.push(character);
        }
    }
    name
}

/// The id that [`encode_name`] was given.
#[must_use]
pub fn decode_name(name: &str) -> String {
    let mut parts = name.split('%');
    let mut id = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (code, part.get(2..)) {
            (Some(code), Some(rest)) => {
                id.push(char::from(code));
                id.push_str(rest);
            }
            _ => {
                id.push('%');
                id.push_str(part);
            }
        }
    }
    id
}

/// An encoded name as line protocol writes it.
fn push_escaped(line: &mut String, name: &str) {
    for character in name.chars() {
        if matches!(character, ' ' | ',' | '=') {
            line.push('\\');
        }
        line.push(character);
    }
}

/// Measurement and tags of a device's points; `database` is a tag where the server has no databases.
pub(super) fn series(database: Option<&str>, tenant: &TenantId, key: &DeviceKey) -> String {
    let mut series = MEASUREMENT.to_owned();
    let tags = [("db", database), ("tenant", Some(tenant.as_str())), ("device", Some(key.device.as_str()))];
    for (tag, value) in tags.into_iter().filter_map(|(tag, value)| Some((tag, value?))) {
        let _infallible = write!(series, ",{tag}=");
        push_escaped(&mut series, &encode_name(value));
    }
    series
}

/// Request bodies of about `bytes_max` with the samples that `takes` lets through.
pub fn bodies(
    database: Option<&str>,
    devices: &[(DeviceKey, Readings)],
    bytes_max: usize,
    takes: impl Fn(Timestamp, f64) -> bool,
) -> Vec<String> {
    let (mut bodies, mut body) = (Vec::new(), String::new());
    for (key, readings) in devices {
        let series = series(database, &key.tenant, key);
        let fields: Vec<(String, &[f64])> =
            readings.columns.iter().map(|(signal, column)| (field(signal), &**column)).collect();
        for (row, &ts) in readings.times.iter().enumerate() {
            let samples = fields.iter().filter_map(|(field, column)| Some((field, *column.get(row)?)));
            push_line(&mut body, &series, samples.filter(|(_, value)| !value.is_nan() && takes(ts, *value)), ts);
            if body.len() >= bytes_max {
                bodies.push(std::mem::take(&mut body));
            }
        }
    }
    if !body.is_empty() {
        bodies.push(body);
    }
    bodies
}

fn field(signal: &SignalId) -> String {
    let mut field = String::new();
    push_escaped(&mut field, &encode_name(signal.as_str()));
    field
}

/// One line; none where there are no samples.
fn push_line<'a>(body: &mut String, series: &str, samples: impl Iterator<Item = (&'a String, f64)>, ts: Timestamp) {
    let mut separator = ' ';
    for (field, value) in samples {
        if separator == ' ' {
            body.push_str(series);
        }
        // Debug, not Display: the shortest form that reads back the same, with an exponent instead of 300 zeros.
        let _infallible = write!(body, "{separator}{field}={value:?}");
        separator = ',';
    }
    if separator == ',' {
        let _infallible = writeln!(body, " {}", ts.millis());
    }
}

#[cfg(test)]
mod tests {
    use harbinger_core::DeviceId;
    use proptest::prelude::*;

    use super::*;

    fn key(device: &str) -> DeviceKey {
        DeviceKey::new(TenantId::parse("acme").unwrap(), DeviceId::parse(device).unwrap())
    }

    fn readings(ts: i64, values: &[(&str, f64)]) -> Readings {
        let mut readings = Readings::default();
        let mut values: Vec<_> = values.iter().map(|(name, value)| (SignalId::parse(name).unwrap(), *value)).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        readings.push(Timestamp::from_millis(ts), &values);
        readings
    }

    #[track_caller]
    fn check(device: &str, values: &[(&str, f64)], expected: &str) {
        let devices = [(key(device), readings(1_420_070_400_123, values))];
        assert_eq!(bodies(Some("plant"), &devices, 1000, |_, _| true).concat(), expected);
    }

    #[test]
    fn a_line_is_a_reading() {
        check(
            "press-7",
            &[("inlet_c", 24.5), ("fan1_rpm", 8123.0)],
            "harbinger,db=plant,tenant=acme,device=press-7 fan1_rpm=8123.0,inlet_c=24.5 1420070400123\n",
        );
        check(
            "hall 1,a=b",
            &[("_arrival", 1.0), ("time", -0.0), ("a b\\c\"%", 5e-324)],
            "harbinger,db=plant,tenant=acme,device=hall\\ 1\\,a\\=b \
             %5Farrival=1.0,a\\ b%5Cc%22%25=5e-324,%74ime=-0.0 1420070400123\n",
        );
        check("a", &[("x", f64::NAN)], "");
    }

    #[test]
    fn bodies_are_bounded_and_samples_may_be_left_out() {
        let devices: Vec<_> = (0..10).map(|i| (key("a"), readings(i, &[("x", i as f64)]))).collect();
        let some = bodies(None, &devices, 60, |_, value| value >= 5.0);
        assert_eq!(some.concat().lines().count(), 5);
        assert!(some.len() > 1 && some.iter().all(|body| body.len() < 120), "{some:?}");
    }

    proptest! {
        #[test]
        fn any_name_comes_back(id in "[^/+#\\p{Cc}]{1,12}") {
            let name = encode_name(&id);
            prop_assert_eq!(decode_name(&name), &*id);
            prop_assert!(!name.contains(['\\', '"']) && !name.starts_with('_') && !RESERVED.contains(&&*name));
        }

        #[test]
        fn any_value_comes_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(format!("{value:?}").parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
