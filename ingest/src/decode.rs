//! Decoders: from the payload of a topic to readings and events.
//!
//! Each dialect is a [`Decoder`], chosen by topic filter. Bad data is no error of the process: a decoder returns what it
//! could read and a list of problems, and each problem becomes one entry in quarantine. A reading is taken whole or not
//! at all.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use harbinger_core::{DeviceEvent, DeviceKey, Reading, SignalId, Timestamp, ids::InvalidId};

mod devices;
pub(crate) mod line_protocol;
pub mod native;
mod topic;

pub(crate) use devices::Devices;
pub use topic::{InvalidFilter, TopicFilter};

/// What a decoder may lean on: no clock of its own.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// When the message arrived, wall clock.
    pub received_at: Timestamp,
    /// Latest event time that is believed.
    pub latest: Timestamp,
    /// Signals that one reading may have.
    pub signals_max: usize,
}

impl Context {
    /// Takes an event time in milliseconds since 1970.
    ///
    /// # Errors
    /// Words for the quarantine, where it lies outside of what can be written or too far in the future.
    pub fn event_time(&self, millis: i64) -> Result<Timestamp, String> {
        if !(Timestamp::MIN.millis()..=Timestamp::MAX.millis()).contains(&millis) {
            return Err(format!("ts: {millis} is no time between the years 1 and 9999 in milliseconds since 1970"));
        }
        let ts = Timestamp::from_millis(millis);
        if ts > self.latest {
            return Err(format!(
                "ts: {ts} is too far in the future (latest taken is {}); set the device's clock",
                self.latest
            ));
        }
        Ok(ts)
    }
}

/// A part of a payload that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// That part as it came; `None` for the whole payload.
    pub fragment: Option<Vec<u8>>,
    /// The place and what is wrong with it.
    pub reason: String,
}

/// What decoders found; messages that arrived together are collected in one.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Readings, in order of arrival.
    pub readings: Vec<Reading>,
    /// Device events, in order of arrival.
    pub events: Vec<DeviceEvent>,
    /// Readings whose every value was `null`: nothing to store.
    pub empty: u64,
    /// What was not taken of the message decoded last.
    pub problems: Vec<Problem>,
}

/// What the payloads of a topic carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Readings.
    Telemetry,
    /// Device events.
    Events,
}

/// What a topic says: worked out once a topic, not once a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whose messages these are.
    pub key: DeviceKey,
    /// What they carry.
    pub stream: Stream,
}

/// One dialect.
pub trait Decoder: Send + Sync + 'static {
    /// The topics it takes.
    fn filter(&self) -> &TopicFilter;

    /// Reads a topic that matches the filter.
    ///
    /// # Errors
    /// Words for the quarantine.
    fn route(&self, topic: &str) -> Result<Route, String>;

    /// Reads a payload and adds what it holds to `out`; each part that cannot be read becomes a problem there.
    fn decode(&self, route: &Route, payload: &[u8], context: &Context, names: &mut Names, out: &mut Decoded);
}

/// The dialects that are spoken here.
#[derive(Clone)]
pub struct Decoders(Arc<[Arc<dyn Decoder>]>);

impl std::fmt::Debug for Decoders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|decoder| decoder.filter())).finish()
    }
}

impl Default for Decoders {
    /// The native dialect.
    fn default() -> Self {
        Self(Arc::new([Arc::new(native::Telemetry::default()), Arc::new(native::Events::default())]))
    }
}

impl Decoders {
    /// The first dialect whose filter takes `topic`, and what the topic says.
    ///
    /// # Errors
    /// Words for the quarantine, with the remedy.
    pub fn route(&self, topic: &str) -> Result<(Arc<dyn Decoder>, Route), String> {
        let decoder = self.0.iter().find(|decoder| decoder.filter().matches(topic)).ok_or_else(|| {
            let known: Vec<String> = self.0.iter().map(|decoder| decoder.filter().to_string()).collect();
            format!("no decoder takes this topic; publish to one of {}", known.join(", "))
        })?;
        Ok((Arc::clone(decoder), decoder.route(topic)?))
    }
}

/// Signal names of one connection seen before, so that the same name is the same allocation.
#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<SignalId>,
    /// The signals of the last reading, in their order: the next reading mostly has the same.
    shape: Vec<SignalId>,
}

/// Names come from outside: above this many they are forgotten, or a client could fill the memory with them.
const NAMES_MAX: usize = 4_096;

impl Names {
    /// The id of the signal that stands at `position` of a reading; whether it is where it was in the last reading.
    fn signal(&mut self, position: usize, name: &str) -> Result<(SignalId, bool), InvalidId> {
        if let Some(expected) = self.shape.get(position)
            && expected.as_str() == name
        {
            return Ok((expected.clone(), true));
        }
        if let Some(known) = self.known.get(name) {
            return Ok((known.clone(), false));
        }
        let signal = SignalId::parse(name)?;
        if self.known.len() >= NAMES_MAX {
            self.known.clear();
        }
        self.known.insert(signal.clone());
        Ok((signal, false))
    }

    /// Keeps the signals of a reading that were found to differ from each other.
    fn keep_shape(&mut self, values: &[(SignalId, f64)]) {
        self.shape.clear();
        self.shape.extend(values.iter().map(|(signal, _)| signal.clone()));
    }
}

/// Names from outside are cut where they would make a reason unreadable.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(60) {
        Some((cut, _)) => Cow::Owned(format!("{}...", name.get(..cut).unwrap_or_default())),
        None => Cow::Borrowed(name),
    }
}

/// A signal that stands twice in a reading.
pub(crate) fn repeated<'a>(signals: impl Iterator<Item = &'a SignalId>) -> Option<&'a SignalId> {
    let mut signals: Vec<&SignalId> = signals.collect();
    signals.sort_unstable();
    signals.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(*a),
        _ => None,
    })
}
