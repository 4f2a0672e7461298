//! Lines of the HTTP intake: native objects that name their device. One with `values` is a reading, one with `code` an event.

use std::fmt;

use harbinger_core::{SignalId, Timestamp};
use serde::{
    Deserializer as _,
    de::{Error as _, MapAccess, Visitor},
};

use super::{EventFields, ReadingFields, Text, TimeSeed, ValuesSeed};
use crate::decode::{Context, Decoded, Devices, Names, shown};

/// Reads one line and adds what it holds to `out`; the place of its device in `devices`.
///
/// # Errors
/// Words for the quarantine, with the place.
pub(crate) fn read_line(
    line: &[u8],
    devices: &mut Devices,
    context: &Context,
    names: &mut Names,
    out: &mut Decoded,
) -> Result<usize, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let fields = deserializer
        .deserialize_map(LineVisitor { devices: &mut *devices, context, names })
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|error| error.to_string())?;
    let device = fields.device.ok_or("device: missing, the line must name its device")?;
    let key = devices.key(device).ok_or("device: unknown")?.clone();
    let ts = fields.ts;
    match (fields.values, fields.code) {
        (Some(values), None) => ReadingFields { ts, values }.take(key, context, out),
        (None, Some(code)) => {
            let event = EventFields { ts, code, severity: fields.severity, message: fields.message };
            out.events.push(event.event(key, context)?);
        }
        (Some(_), Some(_)) => return Err("code: a line is a reading with values or an event with code".to_owned()),
        (None, None) => return Err("values: missing".to_owned()),
    }
    Ok(device)
}

/// The fields that either has.
#[derive(Default)]
struct LineFields<'de> {
    /// Its place.
    device: Option<usize>,
    ts: Option<Timestamp>,
    values: Option<Vec<(SignalId, f64)>>,
    code: Option<Text<'de>>,
    severity: Option<Text<'de>>,
    message: Option<Text<'de>>,
}

struct LineVisitor<'a> {
    devices: &'a mut Devices,
    context: &'a Context,
    names: &'a mut Names,
}

impl<'de> Visitor<'de> for LineVisitor<'_> {
    type Value = LineFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with device, ts and values, or with device, ts and code")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LineFields<'de>, A::Error> {
        let mut fields = LineFields::default();
        let (mut message_seen, mut wrong_kind) = (false, None);
        while let Some(field) = map.next_key::<Text<'de>>()? {
            match field.0.as_ref() {
                "device" if fields.device.is_none() => {
                    let text: Text<'de> = map.next_value()?;
                    let device = self.devices.place(&text.0).map_err(|e| A::Error::custom(format!("device: {e}")))?;
                    fields.device = Some(device);
                }
                "ts" if fields.ts.is_none() => fields.ts = Some(map.next_value_seed(TimeSeed(self.context))?),
                "values" if fields.values.is_none() => {
                    let seed = ValuesSeed { context: self.context, names: &mut *self.names };
                    fields.values = Some(map.next_value_seed(seed)?);
                }
                "code" if fields.code.is_none() => fields.code = Some(map.next_value()?),
                "severity" if fields.severity.is_none() => {
                    fields.severity = Some(map.next_value()?);
                    wrong_kind = Some("severity");
                }
                "message" if !message_seen => {
                    (message_seen, wrong_kind) = (true, Some("message"));
                    fields.message = map.next_value()?;
                }
                known @ ("device" | "ts" | "values" | "code" | "severity" | "message") => {
                    return Err(A::Error::custom(format!("{known}: given twice")));
                }
                other => {
                    let known = "device, ts and values, or code, severity and message";
                    return Err(A::Error::custom(format!("{}: unknown field, known are {known}", shown(other))));
                }
            }
        }
        match wrong_kind.filter(|_| fields.code.is_none()) {
            Some(field) => Err(A::Error::custom(format!("{field}: a field of events, which have a code"))),
            None => Ok(fields),
        }
    }
}
