//! The native dialect: JSON on `harbinger/v1/{tenant}/{device}/telemetry` and `.../events`.
//!
//! ```json
//! {"ts": "2026-01-31T10:00:00Z", "values": {"fan1_rpm": 8123, "inlet_c": 24.5, "door_open": true, "spare": null}}
//! {"ts": 1769853600000, "code": "E42", "severity": "warning", "message": "fan slow"}
//! ```
//!
//! or an array of those. `ts` is RFC 3339 or whole milliseconds since 1970; left out, the time of arrival stands in and the
//! reading is marked. A truth value counts as 0 or 1; `null` is a missing value. An unknown field is refused, since a
//! misspelt `ts` would otherwise be stored at the time of arrival without a word.
//!
//! An array is split into the texts of its elements first, so that each element is taken or refused by itself, its problem
//! names its place, and its text goes to quarantine without its neighbours.

use std::{borrow::Cow, fmt};

use harbinger_core::{DeviceEvent, DeviceId, DeviceKey, Reading, Severity, SignalId, TenantId, Timestamp};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Context, Decoded, Decoder, Names, Problem, Route, Stream, TopicFilter, repeated, shown};

mod line;

pub(crate) use line::read_line;

/// First levels of all native topics.
pub const PREFIX: [&str; 2] = ["harbinger", "v1"];

/// Longest event code in bytes, as for ids: it is part of an event's identity.
const CODE_BYTES_MAX: usize = 200;

macro_rules! native_decoder {
    ($(#[$doc:meta])* $name:ident, $stream:expr, $filter:literal, $read:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(TopicFilter);

        impl Default for $name {
            fn default() -> Self {
                Self($filter.parse().expect("the filter is a literal that a test parses"))
            }
        }

        impl Decoder for $name {
            fn filter(&self) -> &TopicFilter {
                &self.0
            }

            fn route(&self, topic: &str) -> Result<Route, String> {
                let mut levels = topic.split('/').skip(PREFIX.len());
                let tenant = TenantId::parse(levels.next().unwrap_or_default()).map_err(|e| format!("topic: {e}"))?;
                let device = DeviceId::parse(levels.next().unwrap_or_default()).map_err(|e| format!("topic: {e}"))?;
                Ok(Route { key: DeviceKey::new(tenant, device), stream: $stream })
            }

            fn decode(&self, route: &Route, payload: &[u8], context: &Context, names: &mut Names, out: &mut Decoded) {
                read_document(payload, out, |deserializer, out| $read(deserializer, &route.key, context, names, out));
            }
        }
    };
}

native_decoder!(
    /// Readings in the native dialect.
    Telemetry, Stream::Telemetry, "harbinger/v1/+/+/telemetry", take_reading
);
native_decoder!(
    /// Device events in the native dialect.
    Events, Stream::Events, "harbinger/v1/+/+/events", take_event
);

/// A deserializer of a slice, the only input there is here.
type Json<'a, 'de> = &'a mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>;

/// Reads an object, or an array of objects, with `take`, which adds what one element holds to the output.
fn read_document(
    payload: &[u8],
    out: &mut Decoded,
    mut take: impl FnMut(Json<'_, '_>, &mut Decoded) -> Result<(), serde_json::Error>,
) {
    if payload.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        if let Err(reason) = read_element(payload, out, &mut take) {
            out.problems.push(Problem { fragment: None, reason: reason.to_string() });
        }
        return;
    }
    // Splitting costs a pass over the text and no allocation an element; it keeps elements independent of each other.
    let elements: Vec<&RawValue> = match serde_json::from_slice(payload) {
        Ok(elements) => elements,
        Err(reason) => {
            out.problems.push(Problem { fragment: None, reason: reason.to_string() });
            return;
        }
    };
    if elements.is_empty() {
        out.problems.push(Problem { fragment: None, reason: "the array is empty".to_owned() });
    }
    for (place, element) in elements.into_iter().enumerate() {
        let text = element.get().as_bytes();
        if let Err(reason) = read_element(text, out, &mut take) {
            out.problems.push(Problem { fragment: Some(text.to_vec()), reason: format!("[{place}] {reason}") });
        }
    }
}

fn read_element(
    text: &[u8],
    out: &mut Decoded,
    take: &mut impl FnMut(Json<'_, '_>, &mut Decoded) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let (readings, events, empty) = (out.readings.len(), out.events.len(), out.empty);
    let taken = take(&mut deserializer, out).and_then(|()| deserializer.end());
    if taken.is_err() {
        // What follows the object is wrong although the object was not: nothing of it is taken.
        out.readings.truncate(readings);
        out.events.truncate(events);
        out.empty = empty;
    }
    taken
}

fn take_reading(
    deserializer: Json<'_, '_>,
    key: &DeviceKey,
    context: &Context,
    names: &mut Names,
    out: &mut Decoded,
) -> Result<(), serde_json::Error> {
    let fields = deserializer.deserialize_map(ReadingVisitor { context, names })?;
    fields.take(key.clone(), context, out);
    Ok(())
}

/// The fields of one reading.
struct ReadingFields {
    ts: Option<Timestamp>,
    values: Vec<(SignalId, f64)>,
}

impl ReadingFields {
    fn take(self, key: DeviceKey, context: &Context, out: &mut Decoded) {
        if self.values.is_empty() {
            out.empty += 1;
            return;
        }
        let (ts, arrival) = self.ts.map_or((context.received_at, true), |ts| (ts, false));
        out.readings.push(Reading { key, ts, arrival, values: self.values });
    }
}

struct ReadingVisitor<'a> {
    context: &'a Context,
    names: &'a mut Names,
}

impl<'de> Visitor<'de> for ReadingVisitor<'_> {
    type Value = ReadingFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with ts and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReadingFields, A::Error> {
        let (mut ts, mut values) = (None, None);
        while let Some(field) = map.next_key::<Text<'de>>()? {
            match field.0.as_ref() {
                "ts" if ts.is_none() => ts = Some(map.next_value_seed(TimeSeed(self.context))?),
                "values" if values.is_none() => {
                    values = Some(map.next_value_seed(ValuesSeed { context: self.context, names: &mut *self.names })?);
                }
                "ts" | "values" => return Err(A::Error::custom(format!("{}: given twice", field.0))),
                "device" => return Err(A::Error::custom("device: not a field here, the topic names the device")),
                other => {
                    return Err(A::Error::custom(format!("{}: unknown field, known are ts and values", shown(other))));
                }
            }
        }
        let values = values.ok_or_else(|| A::Error::custom("values: missing"))?;
        Ok(ReadingFields { ts, values })
    }
}

/// Text, borrowed from the payload wherever it holds no escape.
struct Text<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads `ts`.
struct TimeSeed<'a>(&'a Context);

impl<'de> DeserializeSeed<'de> for TimeSeed<'_> {
    type Value = Timestamp;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Timestamp, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for TimeSeed<'_> {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ts: an RFC 3339 time or whole milliseconds since 1970")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
        let ts: Timestamp = text.parse().map_err(|e| E::custom(format!("ts: {e}")))?;
        self.0.event_time(ts.millis()).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, millis: i64) -> Result<Timestamp, E> {
        self.0.event_time(millis).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, millis: u64) -> Result<Timestamp, E> {
        self.visit_i64(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// Reads `values`.
struct ValuesSeed<'a> {
    context: &'a Context,
    names: &'a mut Names,
}

impl<'de> DeserializeSeed<'de> for ValuesSeed<'_> {
    type Value = Vec<(SignalId, f64)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_> {
    type Value = Vec<(SignalId, f64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values: an object of numbers by signal")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::with_capacity(self.names.shape.len());
        let (mut fields, mut as_before) = (0usize, true);
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let (signal, expected) = self
                .names
                .signal(values.len(), &name.0)
                .map_err(|e| A::Error::custom(format!("values.{}: {e}", shown(&name.0))))?;
            as_before &= expected;
            fields += 1;
            if fields > self.context.signals_max {
                let reason = format!("values: more than {} signals in one reading", self.context.signals_max);
                return Err(A::Error::custom(reason));
            }
            if let Some(value) = map.next_value_seed(ValueSeed(&name.0))? {
                values.push((signal, value));
            }
        }
        if fields == 0 {
            return Err(A::Error::custom("values: empty"));
        }
        if !as_before {
            if let Some(twice) = repeated(values.iter().map(|(signal, _)| signal)) {
                return Err(A::Error::custom(format!("values.{}: given twice", shown(twice.as_str()))));
            }
            self.names.keep_shape(&values);
        }
        Ok(values)
    }
}

/// Reads one value; `None` for `null`.
struct ValueSeed<'a>(&'a str);

impl ValueSeed<'_> {
    fn refuse<E: serde::de::Error, T>(&self, what: &str) -> Result<T, E> {
        Err(E::custom(format!("values.{}: {what} is no number", shown(self.0))))
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Option<f64>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Option<f64>, E> {
        if value.is_finite() { Ok(Some(value)) } else { self.refuse("an infinite value") }
    }

    fn visit_i64<E>(self, value: i64) -> Result<Option<f64>, E> {
        Ok(Some(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Option<f64>, E> {
        Ok(Some(value as f64))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Option<f64>, E> {
        Ok(Some(f64::from(u8::from(value))))
    }

    fn visit_unit<E>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<f64>, E> {
        self.refuse(&format!("the text {:?}", shown(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Option<f64>, A::Error> {
        self.refuse("an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Option<f64>, A::Error> {
        self.refuse("an array")
    }
}

fn take_event(
    deserializer: Json<'_, '_>,
    key: &DeviceKey,
    context: &Context,
    _: &mut Names,
    out: &mut Decoded,
) -> Result<(), serde_json::Error> {
    let event = deserializer.deserialize_map(EventVisitor { key, context })?;
    out.events.push(event);
    Ok(())
}

struct EventVisitor<'a> {
    key: &'a DeviceKey,
    context: &'a Context,
}

impl<'de> Visitor<'de> for EventVisitor<'_> {
    type Value = DeviceEvent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with ts, code, severity and message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DeviceEvent, A::Error> {
        let (mut ts, mut code, mut severity, mut message) = (None, None, None, None);
        while let Some(field) = map.next_key::<Text<'de>>()? {
            match field.0.as_ref() {
                "ts" if ts.is_none() => ts = Some(map.next_value_seed(TimeSeed(self.context))?),
                "code" if code.is_none() => code = Some(map.next_value::<Text<'de>>()?),
                "severity" if severity.is_none() => severity = Some(map.next_value::<Text<'de>>()?),
                "message" if message.is_none() => message = Some(map.next_value::<Option<Text<'de>>>()?),
                known @ ("ts" | "code" | "severity" | "message") => {
                    return Err(A::Error::custom(format!("{known}: given twice")));
                }
                other => {
                    map.next_value::<IgnoredAny>()?;
                    let reason = format!("{}: unknown field, known are ts, code, severity and message", shown(other));
                    return Err(A::Error::custom(reason));
                }
            }
        }
        let code = code.ok_or_else(|| A::Error::custom("code: missing"))?;
        let fields = EventFields { ts, code, severity, message: message.flatten() };
        fields.event(self.key.clone(), self.context).map_err(A::Error::custom)
    }
}

/// The fields of one event, as text.
struct EventFields<'de> {
    ts: Option<Timestamp>,
    code: Text<'de>,
    severity: Option<Text<'de>>,
    message: Option<Text<'de>>,
}

impl EventFields<'_> {
    fn event(self, key: DeviceKey, context: &Context) -> Result<DeviceEvent, String> {
        let code = self.code.0;
        if code.is_empty() || code.len() > CODE_BYTES_MAX {
            return Err(format!("code: must have 1 to {CODE_BYTES_MAX} bytes"));
        }
        let severity = match self.severity {
            Some(text) => text.0.parse().map_err(|e| format!("severity: {e}"))?,
            None => Severity::default(),
        };
        let message = self.message.map(|text| text.0.into_owned());
        Ok(DeviceEvent {
            key,
            ts: self.ts.unwrap_or(context.received_at),
            code: code.as_ref().into(),
            severity,
            message,
        })
    }
}

#[cfg(test)]
mod tests;
