//! The one room behind all doors: decode, validate, append, and only then say so.
//!
//! A door makes one [`Intake`] a connection, hands it the messages that arrived together, and gets a [`Prepared`] batch.
//! Its [`Prepared::append`] returns when the batch is durable: **the return of that future is the acknowledgement**. It
//! resolves once, with success or reason, so a door cannot acknowledge twice, or early, or forget which messages it was
//! about. Many appends may wait at a time; the store groups what waits into one commit.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use harbinger_core::{Clock, DeviceId, DeviceKey, TenantId, Timestamp};
use harbinger_store::{
    Appended, Batch, Quarantined,
    telemetry::{self, SharedStore},
};
use tokio::sync::Semaphore;

use crate::{
    admission::{DeviceAdmission, Registrar, RegistrarError, Tenants},
    decode::{Context, Decoded, Decoder, Decoders, Names, Route},
    metrics::{InFlight, Metrics},
    options::PipelineOptions,
};

mod replay;

pub use replay::ReplayError;

/// A message as a door received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// MQTT topic name.
    pub topic: String,
    /// The payload as it came.
    pub payload: Bytes,
}

/// Nothing of a batch was taken, and nothing may be acknowledged: the sender has it still and sends it again.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The telemetry store did not take it.
    #[error("failed to append a batch")]
    Store(#[from] telemetry::Error),
    /// It could not be found out whether its devices are known.
    #[error("failed to admit new devices")]
    Registrar(#[from] RegistrarError),
}

impl NotTaken {
    /// Whether the same may succeed later without a restart.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Store(error) => error.may_retry(),
            Self::Registrar(_) => true,
        }
    }
}

/// The room. Clones are handles on the same one.
#[derive(Clone)]
pub struct Pipeline(pub(crate) Arc<Room>);

pub(crate) struct Room {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    registrar: Arc<dyn Registrar>,
    options: PipelineOptions,
    decoders: Decoders,
    pub(crate) metrics: Arc<Metrics>,
    devices: RwLock<HashMap<TenantId, HashSet<DeviceId>>>,
    /// How many devices were forgotten: where it rises, connections look up again whom they let in.
    forgotten: AtomicU64,
    /// A permit a byte that was read and is not durable yet.
    pub(crate) budget: Arc<Semaphore>,
}

impl Room {
    /// Bytes that all doors together may hold.
    pub(crate) fn inflight_bytes_max(&self) -> usize {
        self.options.inflight_bytes_max.bytes()
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A room that appends to `store`.
    #[must_use]
    pub fn new(
        options: PipelineOptions,
        store: SharedStore,
        clock: Arc<dyn Clock>,
        registrar: Arc<dyn Registrar>,
    ) -> Self {
        let budget = Arc::new(Semaphore::new(options.inflight_bytes_max.bytes()));
        Self(Arc::new(Room {
            store,
            clock,
            registrar,
            options,
            decoders: Decoders::default(),
            metrics: Arc::default(),
            devices: RwLock::default(),
            forgotten: AtomicU64::new(0),
            budget,
        }))
    }

    /// The counters of all doors.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// What one connection hands its messages to, on behalf of `tenants`.
    #[must_use]
    pub fn intake(&self, tenants: Tenants) -> Intake {
        Intake {
            pipeline: self.clone(),
            tenants,
            forgotten: self.forgotten(),
            routes: Vec::new(),
            route_of_topic: HashMap::new(),
            names: Names::default(),
            decoded: Decoded::default(),
        }
    }

    /// Counts readings that a door received and had to turn away.
    pub(crate) fn refuse(&self, readings: u64) {
        drop(InFlight::new(&self.0.metrics, readings));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn context(&self, received_at: Timestamp) -> Context {
        Context {
            received_at,
            latest: self.now() + self.0.options.future_tolerance,
            signals_max: self.0.options.signals_per_reading_max,
        }
    }

    /// Tags of line protocol that name a device, the first that is there.
    pub(crate) fn device_tags(&self) -> &[String] {
        &self.0.options.device_tags
    }

    /// Forgets that a device was let in, since it was deleted: when it reports again it is a stranger.
    pub fn forget(&self, key: &DeviceKey) {
        let mut devices = self.0.devices.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = devices.get_mut(&key.tenant) {
            known.remove(&key.device);
        }
        drop(devices);
        self.0.forgotten.fetch_add(1, Ordering::Release);
    }

    fn forgotten(&self) -> u64 {
        self.0.forgotten.load(Ordering::Acquire)
    }

    /// Whether a device was let in since the start.
    fn is_admitted(&self, key: &DeviceKey) -> bool {
        let devices = self.0.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.get(&key.tenant).is_some_and(|known| known.contains(&key.device))
    }

    /// Those of `keys` that were not let in since the start, with their places there.
    fn strangers(&self, keys: &[&DeviceKey]) -> (Vec<usize>, Vec<DeviceKey>) {
        let devices = self.0.devices.read().unwrap_or_else(PoisonError::into_inner);
        let is_admitted = |key: &DeviceKey| devices.get(&key.tenant).is_some_and(|known| known.contains(&key.device));
        let strangers = keys.iter().enumerate().filter(|(_, key)| !is_admitted(key));
        strangers.map(|(place, &key)| (place, key.clone())).unzip()
    }

    /// Lets devices in or says why not, one answer a key. Asks the registry only for those not let in before.
    pub(crate) async fn admit(
        &self,
        keys: &[&DeviceKey],
        seen_at: Timestamp,
    ) -> Result<Vec<Result<(), String>>, RegistrarError> {
        let mut answers: Vec<Result<(), String>> = keys.iter().map(|_| Ok(())).collect();
        let (asked, asked_keys) = self.strangers(keys);
        if asked.is_empty() {
            return Ok(answers);
        }
        let known = self.0.registrar.known(&asked_keys).await?;
        let mut admitted = Vec::new();
        let mut fresh = Vec::new();
        let mut pending_of_tenant: HashMap<TenantId, usize> = HashMap::new();
        for ((&place, key), known) in asked.iter().zip(asked_keys).zip(known) {
            let pending: &mut usize = pending_of_tenant.entry(key.tenant.clone()).or_default();
            let answer = self.judge(&key, known, *pending);
            if answer.is_ok() {
                *pending += 1;
                if !known {
                    fresh.push(key.clone());
                }
                admitted.push(key);
            } else if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
        if !fresh.is_empty() {
            self.0.registrar.register(&fresh, seen_at).await?;
            self.0.metrics.registered(fresh.len());
        }
        let mut devices = self.0.devices.write().unwrap_or_else(PoisonError::into_inner);
        for key in admitted {
            devices.entry(key.tenant).or_default().insert(key.device);
        }
        Ok(answers)
    }

    /// Whether policy lets a device in that has not reported since the start; `pending` others are about to be let in.
    fn judge(&self, key: &DeviceKey, known: bool, pending: usize) -> Result<(), String> {
        let options = &self.0.options;
        let policy = options.unknown_devices_by_tenant.get(&key.tenant).copied().unwrap_or(options.unknown_devices);
        if !known && policy == DeviceAdmission::Quarantine {
            return Err(format!("device {} is not registered; register it and replay this message", key.device));
        }
        let devices = self.0.devices.read().unwrap_or_else(PoisonError::into_inner);
        let held = devices.get(&key.tenant).map_or(0, HashSet::len);
        if held + pending >= options.devices_per_tenant_max {
            return Err(format!(
                "tenant {} has {} devices that report, the most allowed; raise pipeline.devices_per_tenant_max",
                key.tenant,
                held + pending
            ));
        }
        Ok(())
    }

    /// A batch that is counted as received from here on.
    pub(crate) fn prepare(&self, batch: Batch, empty: u64) -> Prepared {
        let quarantined: u64 = batch.quarantined.iter().map(|message| u64::from(message.readings)).sum();
        let readings = batch.readings.len() as u64 + batch.events.len() as u64 + quarantined + empty;
        Prepared {
            in_flight: InFlight::new(&self.0.metrics, readings),
            store: Arc::clone(&self.0.store),
            batch,
            quarantined,
            empty,
        }
    }
}

/// A batch, decoded and counted, that is not stored yet.
#[must_use = "a batch that is not appended counts as refused"]
pub struct Prepared {
    in_flight: InFlight,
    store: SharedStore,
    batch: Batch,
    quarantined: u64,
    empty: u64,
}

impl Prepared {
    /// Appends the batch. When this returns `Ok` everything in it is durable, and its messages are to be acknowledged.
    /// First polls of these futures are the order in which batches reach the store.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing of it is stored, and nothing may be acknowledged.
    pub async fn append(self) -> Result<Appended, NotTaken> {
        let Self { in_flight, store, batch, quarantined, empty } = self;
        let appended = if batch.is_empty() { Appended::default() } else { store.append(batch).await? };
        in_flight.settle(&appended, quarantined, empty);
        Ok(appended)
    }
}

/// Topics come from outside: above this many a connection's routes are worked out anew.
const ROUTES_MAX: usize = 16_384;

/// One connection's way into the room; it remembers topics, devices and signal names, so that a message costs no look-up
/// in shared state.
pub struct Intake {
    pipeline: Pipeline,
    tenants: Tenants,
    /// How many devices were forgotten when the routes began.
    forgotten: u64,
    routes: Vec<Known>,
    route_of_topic: HashMap<String, usize>,
    names: Names,
    decoded: Decoded,
}

/// A topic that was seen before.
struct Known {
    decoder: Arc<dyn Decoder>,
    route: Route,
    admitted: bool,
}

/// Where one message goes.
enum Place {
    /// To the decoder of this route.
    Route(usize),
    /// To quarantine.
    Nowhere(String),
}

impl Intake {
    /// Decodes and validates messages that arrived together. What cannot be taken is in the batch as quarantined.
    /// Waits for the registry only where a device is new since the start.
    ///
    /// # Errors
    /// [`NotTaken::Registrar`]: nothing was taken.
    pub async fn take(&mut self, messages: &[Message]) -> Result<Prepared, NotTaken> {
        self.pipeline.0.metrics.handed_over(messages.len());
        let received_at = self.pipeline.now();
        let mut places = self.place(messages);
        if let Err(error) = self.admit(&mut places, received_at).await {
            self.pipeline.refuse(messages.len() as u64);
            return Err(error.into());
        }
        let context = self.pipeline.context(received_at);
        let mut batch = Batch::default();
        for (message, place) in messages.iter().zip(places) {
            self.decode(message, place, &context, &mut batch);
        }
        batch.readings = std::mem::take(&mut self.decoded.readings);
        batch.events = std::mem::take(&mut self.decoded.events);
        let empty = std::mem::take(&mut self.decoded.empty);
        Ok(self.pipeline.prepare(batch, empty))
    }

    /// Finds each message's route; what has none goes to quarantine.
    fn place(&mut self, messages: &[Message]) -> Vec<Place> {
        let forgotten = self.pipeline.forgotten();
        if self.routes.len() >= ROUTES_MAX || self.forgotten != forgotten {
            self.forgotten = forgotten;
            self.routes.clear();
            self.route_of_topic.clear();
        }
        let limit = self.pipeline.0.options.payload_bytes_max;
        messages
            .iter()
            .map(|message| {
                if message.payload.len() > limit.bytes() {
                    let bytes = message.payload.len();
                    return Place::Nowhere(format!("the payload has {bytes} bytes, at most {limit} are decoded"));
                }
                if let Some(&known) = self.route_of_topic.get(&message.topic) {
                    return Place::Route(known);
                }
                self.route(&message.topic).map_or_else(Place::Nowhere, Place::Route)
            })
            .collect()
    }

    fn route(&mut self, topic: &str) -> Result<usize, String> {
        let (decoder, route) = self.pipeline.0.decoders.route(topic)?;
        if !self.tenants.allow(&route.key.tenant) {
            return Err(format!(
                "this client may not publish for tenant {}; use the key of that tenant",
                route.key.tenant
            ));
        }
        let number = self.routes.len();
        let admitted = self.pipeline.is_admitted(&route.key);
        self.routes.push(Known { decoder, route, admitted });
        self.route_of_topic.insert(topic.to_owned(), number);
        Ok(number)
    }

    /// Has the devices admitted that this connection has not seen before.
    async fn admit(&mut self, places: &mut [Place], seen_at: Timestamp) -> Result<(), RegistrarError> {
        let mut strangers: Vec<DeviceKey> = Vec::new();
        let mut asked: HashMap<usize, usize> = HashMap::new();
        for place in places.iter() {
            if let Place::Route(number) = place
                && let Some(known) = self.routes.get(*number)
                && !known.admitted
            {
                asked.entry(*number).or_insert_with(|| {
                    strangers.push(known.route.key.clone());
                    strangers.len() - 1
                });
            }
        }
        if strangers.is_empty() {
            return Ok(());
        }
        let keys: Vec<&DeviceKey> = strangers.iter().collect();
        let answers = self.pipeline.admit(&keys, seen_at).await?;
        for place in places {
            let Place::Route(number) = place else { continue };
            match asked.get(number).and_then(|&stranger| answers.get(stranger)) {
                Some(Ok(())) => {
                    if let Some(known) = self.routes.get_mut(*number) {
                        known.admitted = true;
                    }
                }
                Some(Err(reason)) => *place = Place::Nowhere(reason.clone()),
                None => {}
            }
        }
        Ok(())
    }

    fn decode(&mut self, message: &Message, place: Place, context: &Context, batch: &mut Batch) {
        let known = match &place {
            Place::Route(number) => self.routes.get(*number),
            Place::Nowhere(_) => None,
        };
        let owner = known.map(|known| &known.route.key.tenant).or(self.tenants.only());
        let quarantined = |payload: Vec<u8>, reason: String| Quarantined {
            tenant: owner.cloned(),
            received_at: context.received_at,
            topic: message.topic.clone(),
            payload,
            reason,
            readings: 1,
        };
        if let Place::Nowhere(reason) = place {
            batch.quarantined.push(quarantined(message.payload.to_vec(), reason));
            return;
        }
        let Some(known) = known else { return };
        known.decoder.decode(&known.route, &message.payload, context, &mut self.names, &mut self.decoded);
        for problem in self.decoded.problems.drain(..) {
            let payload = problem.fragment.unwrap_or_else(|| message.payload.to_vec());
            batch.quarantined.push(quarantined(payload, problem.reason));
        }
    }
}
