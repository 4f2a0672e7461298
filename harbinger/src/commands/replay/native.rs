//! What devices say, in the native dialect: MQTT topics and messages, and lines of the HTTP intake.
//!
//! Times are integer milliseconds (shorter than RFC 3339, and faster to read); numbers are written so that they read back
//! to the same bits; a missing value is left out, and so is a reading that has none.

use std::{hash::Hasher as _, ops::Range, sync::Arc};

use harbinger_core::{DeviceEvent, DeviceId, TenantId, history::Readings};
use harbinger_ingest::decode::native::PREFIX;
use serde::Serialize;

use super::feed::{Feed, Piece};

/// Readings or events of one message, where a device has several in one slice.
const ITEMS_MAX: usize = 100;
/// A message above this size takes no further reading: far below what intake takes.
const MESSAGE_BYTES: usize = 32 << 10;

/// The connection that carries a device's messages.
pub(crate) fn connection_of(device: &DeviceId, connections: usize) -> usize {
    let mut hash = std::hash::DefaultHasher::new();
    hash.write(device.as_str().as_bytes());
    usize::try_from(hash.finish() % connections.max(1) as u64).unwrap_or_default()
}

/// `harbinger/v1/{tenant}/{device}/{stream}`.
fn topic(tenant: &TenantId, device: &DeviceId, stream: &str) -> String {
    let [root, version] = PREFIX;
    format!("{root}/{version}/{tenant}/{device}/{stream}")
}

/// What is sent under one packet identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// Readings or events in it.
    pub(crate) items: u64,
}

/// The messages of some devices in one slice: each device's readings in order of time, then its events.
pub(crate) struct Messages {
    feed: Arc<Feed>,
    tenant: TenantId,
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Piece>,
}

impl Messages {
    pub(crate) fn new(feed: Arc<Feed>, tenant: TenantId, pieces: Vec<Piece>) -> Self {
        Self { feed, tenant, pieces: pieces.into_iter(), current: None }
    }
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            if self.current.is_none() {
                self.current = Some(self.pieces.next()?);
            }
            let piece = self.current.as_mut()?;
            let Some((device, history)) = self.feed.devices.get(piece.device) else {
                self.current = None;
                continue;
            };
            if !piece.readings.is_empty() {
                if let Some((payload, items)) =
                    array(&mut piece.readings, |place, out| reading(&history.readings, place, None, out))
                {
                    return Some(Message { topic: topic(&self.tenant, device, "telemetry"), payload, items });
                }
            } else if !piece.events.is_empty() {
                let taken = array(&mut piece.events, |place, out| {
                    history.events.get(place).is_some_and(|item| event(item, None, out))
                });
                if let Some((payload, items)) = taken {
                    return Some(Message { topic: topic(&self.tenant, device, "events"), payload, items });
                }
            } else {
                self.current = None;
            }
        }
    }
}

/// Writes items of `places` until a message is full: one as an object, several as an array. `None` where there was nothing
/// to write.
fn array(places: &mut Range<usize>, write: impl Fn(usize, &mut Vec<u8>) -> bool) -> Option<(Vec<u8>, u64)> {
    let mut payload = vec![b'['];
    let mut items = 0;
    while items < ITEMS_MAX && payload.len() < MESSAGE_BYTES {
        let Some(place) = places.next() else { break };
        if write(place, &mut payload) {
            items += 1;
            payload.push(b',');
        }
    }
    payload.pop();
    match items {
        0 => None,
        1 => {
            payload.remove(0);
            Some((payload, 1))
        }
        _ => {
            payload.push(b']');
            Some((payload, items as u64))
        }
    }
}

/// The lines of one device in one slice for the HTTP intake, added to `out`; how many.
pub(crate) fn lines(feed: &Feed, piece: &Piece, out: &mut Vec<u8>) -> u64 {
    let Some((device, history)) = feed.devices.get(piece.device) else { return 0 };
    let mut written = 0;
    for place in piece.readings.clone() {
        if reading(&history.readings, place, Some(device), out) {
            out.push(b'\n');
            written += 1;
        }
    }
    for item in history.events.get(piece.events.clone()).unwrap_or_default() {
        if event(item, Some(device), out) {
            out.push(b'\n');
            written += 1;
        }
    }
    written
}

/// Writes a reading, unless it has no value.
fn reading(readings: &Readings, place: usize, device: Option<&DeviceId>, out: &mut Vec<u8>) -> bool {
    let Some(ts) = readings.times.get(place) else { return false };
    let before = out.len();
    out.extend_from_slice(b"{\"ts\":");
    out.extend_from_slice(ts.millis().to_string().as_bytes());
    if let Some(device) = device {
        out.extend_from_slice(b",\"device\":");
        json(device.as_str(), out);
    }
    out.extend_from_slice(b",\"values\":{");
    let head = out.len();
    for (signal, column) in &readings.columns {
        let Some(value) = column.get(place).filter(|value| !value.is_nan()) else { continue };
        json(signal.as_str(), out);
        out.push(b':');
        number(*value, out);
        out.push(b',');
    }
    if out.len() == head {
        out.truncate(before);
        return false;
    }
    out.pop();
    out.extend_from_slice(b"}}");
    true
}

/// Whole numbers without the `.0` that JSON writers put there.
fn number(value: f64, out: &mut Vec<u8>) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT && !(value == 0.0 && value.is_sign_negative()) {
        out.extend_from_slice((value as i64).to_string().as_bytes());
    } else {
        json(&value, out);
    }
}

/// Writes an event.
fn event(event: &DeviceEvent, device: Option<&DeviceId>, out: &mut Vec<u8>) -> bool {
    #[derive(Serialize)]
    struct Line<'a> {
        ts: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<&'a str>,
        code: &'a str,
        severity: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    }
    let line = Line {
        ts: event.ts.millis(),
        device: device.map(DeviceId::as_str),
        code: &event.code,
        severity: event.severity.as_str(),
        message: event.message.as_deref(),
    };
    json(&line, out);
    true
}

fn json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing text and numbers to memory does not fail");
}

#[cfg(test)]
mod tests {
    use harbinger_core::{DeviceKey, Severity, SignalId, Timestamp, history::DeviceHistory};

    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId::parse(name).unwrap()
    }

    fn feed(readings: Readings, events: Vec<DeviceEvent>) -> Arc<Feed> {
        let history = DeviceHistory { readings, events, ..DeviceHistory::default() };
        Arc::new(Feed::new([(device("d-1"), history)].into(), Vec::new()))
    }

    fn messages(feed: &Arc<Feed>, readings: Range<usize>, events: Range<usize>) -> Vec<(String, String, u64)> {
        let piece = Piece { device: 0, readings, events };
        Messages::new(Arc::clone(feed), TenantId::parse("acme").unwrap(), vec![piece])
            .map(|message| (message.topic, String::from_utf8(message.payload).unwrap(), message.items))
            .collect()
    }

    fn rows(rows: &[(i64, &[(&str, f64)])]) -> Readings {
        let mut readings = Readings::default();
        for (ts, values) in rows {
            let values: Vec<_> = values.iter().map(|(name, v)| (SignalId::parse(name).unwrap(), *v)).collect();
            readings.push(Timestamp::from_millis(*ts), &values);
        }
        readings
    }

    fn e42() -> DeviceEvent {
        DeviceEvent {
            key: DeviceKey::new(TenantId::parse("acme").unwrap(), device("d-1")),
            ts: Timestamp::from_millis(7),
            code: Arc::from("E\"42"),
            severity: Severity::Warning,
            message: None,
        }
    }

    #[test]
    fn one_item_is_an_object_and_several_of_a_slice_are_an_array() {
        let readings =
            rows(&[(5, &[("a", 1.0), ("b\"", 0.1)]), (6, &[("a", -2.0)]), (7, &[("a", f64::NAN)]), (8, &[("a", 3.5)])]);
        let feed = feed(readings, vec![e42()]);
        let telemetry = "harbinger/v1/acme/d-1/telemetry".to_owned();
        let events = "harbinger/v1/acme/d-1/events".to_owned();
        let first = r#"{"ts":5,"values":{"a":1,"b\"":0.1}}"#;
        let event = r#"{"ts":7,"code":"E\"42","severity":"warning"}"#;
        assert_eq!(
            messages(&feed, 0..1, 0..1),
            [(telemetry.clone(), first.to_owned(), 1), (events, event.to_owned(), 1)]
        );
        let all = format!(r#"[{first},{{"ts":6,"values":{{"a":-2}}}},{{"ts":8,"values":{{"a":3.5}}}}]"#);
        assert_eq!(messages(&feed, 0..4, 0..0), [(telemetry, all, 3)]);
        assert_eq!(messages(&feed, 2..3, 0..0), []);
    }

    #[test]
    fn a_message_is_bounded() {
        let readings: Vec<(i64, &[(&str, f64)])> = (0..250).map(|ts| (ts, &[("a", 1.0)] as &[_])).collect();
        let counts: Vec<u64> =
            messages(&feed(rows(&readings), Vec::new()), 0..250, 0..0).iter().map(|message| message.2).collect();
        assert_eq!(counts, [100, 100, 50]);
    }

    #[test]
    fn lines_name_their_device() {
        let feed = feed(rows(&[(5, &[("a", 1.0)]), (6, &[])]), vec![e42()]);
        let mut out = Vec::new();
        let written = lines(&feed, &Piece { device: 0, readings: 0..2, events: 0..1 }, &mut out);
        let expected = "{\"ts\":5,\"device\":\"d-1\",\"values\":{\"a\":1}}\n\
                        {\"ts\":7,\"device\":\"d-1\",\"code\":\"E\\\"42\",\"severity\":\"warning\"}\n";
        assert_eq!((written, String::from_utf8(out).unwrap().as_str()), (2, expected));
    }

    #[test]
    fn numbers_read_back_to_the_same_bits() {
        for value in [0.0, -0.0, 1.0, -17.0, 0.1, 1e-300, 1e300, 9_007_199_254_740_993.0, 176.2179, f64::MIN_POSITIVE] {
            let mut out = Vec::new();
            number(value, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(serde_json::from_str::<f64>(&text).unwrap().to_bits(), value.to_bits(), "{text}");
        }
    }

    #[test]
    fn a_device_keeps_its_connection_and_all_connections_are_used() {
        let of = |number: usize| connection_of(&device(&format!("device-{number}")), 50);
        let mut loads = vec![0; 50];
        for number in 0..10_000 {
            assert_eq!(of(number), of(number));
            loads[of(number)] += 1;
        }
        assert!(loads.iter().all(|&load| (120..300).contains(&load)), "{loads:?}");
        assert_eq!(connection_of(&device("a"), 1), 0);
    }
}
