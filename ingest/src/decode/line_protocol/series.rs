//! What a line means here: whose reading it is, and what its signals are called.
//!
//! | measurement | device | signal |
//! |---|---|---|
//! | `harbinger` | tag `device` | the field; names come back as our own writer of remote stores encoded them |
//! | any other | the first tag there is out of `device_tags` | `{measurement}_{field}`, and `;{tag}={value}` for each further tag |
//!
//! The second is Graphite's way of writing tags. What an id cannot carry, and what would make two series one, is
//! percent-encoded: no two series of a device share a signal, but for an underscore more on one side of the joint.

use std::{borrow::Cow, collections::HashMap, fmt::Write, str::FromStr};

use harbinger_core::{Reading, SignalId};
use harbinger_store::telemetry::line_protocol::{MEASUREMENT, decode_name};

use super::{Fields, Value, cut_series, find_unescaped, unescaped};
use crate::decode::{Context, Devices, NAMES_MAX, repeated, shown};

/// The tag that names the device in points of our own measurement.
const DEVICE_TAG: &str = "device";

/// The unit of the times in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Precision {
    #[default]
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
}

impl Precision {
    /// The first instant in milliseconds that is not later.
    fn millis(self, time: i64) -> Option<i64> {
        match self {
            Self::Nanoseconds => Some(time.div_euclid(1_000_000)),
            Self::Microseconds => Some(time.div_euclid(1_000)),
            Self::Milliseconds => Some(time),
            Self::Seconds => time.checked_mul(1_000),
            Self::Minutes => time.checked_mul(60_000),
            Self::Hours => time.checked_mul(3_600_000),
        }
    }

    /// How it is written in a request.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Minutes => "m",
            Self::Hours => "h",
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    /// Takes what either version of the protocol calls it.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" | "ns" | "n" => Self::Nanoseconds,
            "us" | "u" | "µ" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return Err(format!("precision {:?} is none of ns, us, ms, s, m and h", shown(text))),
        })
    }
}

/// What a line held.
#[derive(Debug, Default)]
pub(crate) struct Point {
    /// Its reading, and the place of its device; `None` where all fields are texts, which are no samples.
    pub(crate) reading: Option<(usize, Reading)>,
    /// Fields that are texts.
    pub(crate) texts: u64,
}

/// Reads the lines of a request, and remembers its series: one that comes again costs a look-up.
pub(crate) struct Reader<'a> {
    device_tags: &'a [String],
    precision: Precision,
    context: &'a Context,
    series: HashMap<Box<str>, Series>,
    namings: Vec<Naming>,
    naming_of: HashMap<String, usize>,
}

#[derive(Clone, Copy)]
struct Series {
    /// Place of the device.
    device: usize,
    naming: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(device_tags: &'a [String], precision: Precision, context: &'a Context) -> Self {
        Self { device_tags, precision, context, series: HashMap::new(), namings: Vec::new(), naming_of: HashMap::new() }
    }

    /// Reads one line; its device is found in `devices` or added there.
    ///
    /// # Errors
    /// Words for the quarantine, with the place.
    pub(crate) fn read(&mut self, line: &[u8], devices: &mut Devices) -> Result<Point, String> {
        let line = str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
        let (series, mut fields) = cut_series(line)?;
        let series = self.series(series, devices)?;
        let naming = self.namings.get_mut(series.naming).ok_or("the series has no names")?;
        let mut point = Point::default();
        let values = naming.values(&mut fields, self.context.signals_max, &mut point.texts)?;
        let (ts, arrival) = match fields.timestamp()? {
            Some(time) => {
                let millis = self.precision.millis(time).ok_or_else(|| format!("ts: {time} is out of range"))?;
                (self.context.event_time(millis)?, false)
            }
            None => (self.context.received_at, true),
        };
        if !values.is_empty() {
            let key = devices.key(series.device).ok_or("the series has no device")?.clone();
            point.reading = Some((series.device, Reading { key, ts, arrival, values }));
        }
        Ok(point)
    }

    fn series(&mut self, text: &str, devices: &mut Devices) -> Result<Series, String> {
        if let Some(&known) = self.series.get(text) {
            return Ok(known);
        }
        let (measurement, mut tags) = cut_tags(text)?;
        let ours = measurement == MEASUREMENT;
        let device = match ours {
            true => take_tag(&mut tags, DEVICE_TAG).map(|name| Cow::Owned(decode_name(&name))),
            false => self.device_tags.iter().find_map(|tag| take_tag(&mut tags, tag)),
        };
        let device = device.ok_or_else(|| self.no_device(ours))?;
        if ours {
            take_tag(&mut tags, "db");
            let tenant = take_tag(&mut tags, "tenant").map(|name| decode_name(&name));
            if let Some(other) = tenant.filter(|tenant| tenant != devices.tenant().as_str()) {
                return Err(format!("tenant: {:?} is not the one of the key", shown(&other)));
            }
        }
        let naming = self.naming(Naming::new(&measurement, ours, &tags));
        let device = devices.place(&device).map_err(|error| error.to_string())?;
        let series = Series { device, naming };
        self.series.insert(text.into(), series);
        Ok(series)
    }

    fn no_device(&self, ours: bool) -> String {
        if ours {
            return format!("no device: measurement {MEASUREMENT} needs the tag {DEVICE_TAG}");
        }
        let tags = self.device_tags.join(" and ");
        format!("no device: none of the tags {tags} is there; add one, or name yours in pipeline.device_tags")
    }

    fn naming(&mut self, naming: Naming) -> usize {
        let of = format!("{}\n{}", naming.prefix, naming.suffix);
        *self.naming_of.entry(of).or_insert_with(|| {
            self.namings.push(naming);
            self.namings.len() - 1
        })
    }
}

type Tag<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Measurement and tags of a series, without escapes, by name of the tag.
fn cut_tags(series: &str) -> Result<(Cow<'_, str>, Vec<Tag<'_>>), String> {
    let mut parts = split_unescaped(series, b',');
    let measurement = parts.next().filter(|name| !name.is_empty()).ok_or("the measurement has no name")?;
    let mut tags = parts.map(cut_tag).collect::<Result<Vec<_>, _>>()?;
    tags.sort_unstable();
    let repeated = tags.windows(2).find_map(|pair| match pair {
        [(a, _), (b, _)] if a == b => Some(a),
        _ => None,
    });
    match repeated {
        Some(tag) => Err(format!("tag {}: given twice", shown(tag))),
        None => Ok((unescaped(measurement), tags)),
    }
}

fn cut_tag(tag: &str) -> Result<Tag<'_>, String> {
    let parts = find_unescaped(tag, b"=").and_then(|end| Some((tag.get(..end)?, tag.get(end + 1..)?)));
    match parts {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((unescaped(name), unescaped(value))),
        _ => Err(format!("tag {:?} is no name=value", shown(tag))),
    }
}

fn split_unescaped(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = find_unescaped(text, &[separator]);
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

fn take_tag<'a>(tags: &mut Vec<Tag<'a>>, name: &str) -> Option<Cow<'a, str>> {
    let place = tags.iter().position(|(tag, _)| tag == name)?;
    Some(tags.remove(place).1)
}

/// How the fields of series with the same measurement and further tags are called, and the fields seen so far.
#[derive(Default)]
struct Naming {
    ours: bool,
    prefix: String,
    suffix: String,
    known: HashMap<Box<str>, SignalId>,
    /// Fields of the last line as they stand there, in their order: the next line mostly has the same.
    shape: Vec<(Box<str>, SignalId)>,
}

impl Naming {
    fn new(measurement: &str, ours: bool, tags: &[Tag<'_>]) -> Self {
        let (mut prefix, mut suffix) = (String::new(), String::new());
        if !ours {
            push_encoded(&mut prefix, measurement);
            prefix.push('_');
        }
        for (tag, value) in tags {
            suffix.push(';');
            push_encoded(&mut suffix, tag);
            suffix.push('=');
            push_encoded(&mut suffix, value);
        }
        Self { ours, prefix, suffix, ..Self::default() }
    }

    /// The samples of a line; texts are counted.
    fn values(
        &mut self,
        fields: &mut Fields<'_>,
        signals_max: usize,
        texts: &mut u64,
    ) -> Result<Vec<(SignalId, f64)>, String> {
        let mut values = Vec::with_capacity(self.shape.len());
        let mut shape: Vec<(Box<str>, SignalId)> = Vec::new();
        let (mut place, mut as_before, mut more) = (0, true, true);
        while more {
            if place == signals_max {
                return Err(format!("more than {signals_max} fields in one line"));
            }
            let expected = self.shape.get(place).filter(|(key, _)| as_before && fields.step_over(key));
            let signal = match expected {
                Some((_, signal)) => signal.clone(),
                None => {
                    if as_before {
                        as_before = false;
                        shape.extend(self.shape.iter().take(place).cloned());
                    }
                    let key = fields.key()?;
                    let signal = self.signal(key)?;
                    shape.push((key.into(), signal.clone()));
                    signal
                }
            };
            let (value, another) =
                fields.value().map_err(|error| format!("field {}: {error}", shown(signal.as_str())))?;
            match value {
                Value::Number(number) => values.push((signal, number)),
                Value::Text => *texts += 1,
            }
            place += 1;
            more = another;
        }
        if !as_before {
            if let Some(twice) = repeated(shape.iter().map(|(_, signal)| signal)) {
                return Err(format!("field {}: given twice", shown(twice.as_str())));
            }
            self.shape = shape;
        }
        Ok(values)
    }

    fn signal(&mut self, key: &str) -> Result<SignalId, String> {
        if let Some(known) = self.known.get(key) {
            return Ok(known.clone());
        }
        let field = unescaped(key);
        let mut name = self.prefix.clone();
        if self.ours {
            name.push_str(&decode_name(&field));
        } else {
            push_encoded(&mut name, &field);
        }
        name.push_str(&self.suffix);
        let signal = SignalId::parse(&name).map_err(|error| format!("field {}: {error}", shown(key)))?;
        if self.known.len() >= NAMES_MAX {
            self.known.clear();
        }
        self.known.insert(key.into(), signal.clone());
        Ok(signal)
    }
}

/// A part of a signal's name. Encoded is what an id cannot hold, what parts names in a query, and what parts the parts.
fn push_encoded(name: &mut String, part: &str) {
    for character in part.chars() {
        if character.is_control() || matches!(character, '%' | '/' | '+' | '#' | ',' | ';' | '=') {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // A String takes everything.
                let _infallible = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(character);
        }
    }
}

#[cfg(test)]
mod tests;
