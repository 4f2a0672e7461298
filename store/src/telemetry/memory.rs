//! The store in memory: for tests, dry runs and fleets that live as long as the process. Durable only in that sense.
//!
//! The same rows and the same classification as the embedded engine has, without the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use async_trait::async_trait;
use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, Duration, Reading, SignalId, TenantId, TimeRange, Timestamp,
    history::{Closed, Readings, Timeline},
};
use rayon::prelude::*;
use tokio::sync::watch;

use super::{
    Appended, Batch, DataClass, Deleted, DeviceExtent, Error, Latest, QuarantineEntry, Quarantined, StoreSize,
    TelemetryStore, Windows,
    catalog::{Catalog, DeviceNumber, widen},
    rows::{Outcome, Rows, SignalNumber, classify},
};

/// Readings, events and quarantine in memory.
#[derive(Debug)]
pub struct MemoryStore {
    held: RwLock<Held>,
    appended: watch::Sender<u64>,
}

/// An event's place within its tenant: in order of time, device, code.
type EventKey = (Timestamp, DeviceId, std::sync::Arc<str>);

#[derive(Debug, Default)]
struct Held {
    catalog: Catalog,
    /// Readings by device number.
    devices: Vec<Rows>,
    events: BTreeMap<TenantId, BTreeMap<EventKey, DeviceEvent>>,
    quarantine: BTreeMap<i64, Quarantined>,
    last_quarantine: i64,
    closed: bool,
    /// The samples of the reading in hand: kept from reading to reading for their capacity.
    signals: Vec<SignalNumber>,
    values: Vec<f64>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { held: RwLock::default(), appended: watch::Sender::new(0) }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    // A panic under the lock leaves whole readings behind, so a poisoned lock is still good to use.
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn put_reading(&mut self, reading: &Reading) -> Outcome {
        let Self { catalog, devices, signals, values, .. } = self;
        signals.clear();
        values.clear();
        catalog.number_samples(reading, signals, values);
        if signals.is_empty() {
            return Outcome::Duplicate;
        }
        let device = catalog.number_device(&reading.key) as usize;
        if devices.len() <= device {
            devices.resize_with(device + 1, Rows::default);
        }
        let rows = devices.get_mut(device).expect("resized above to hold the device");
        let ts = reading.ts.millis();
        let outcome = if rows.extent().is_none_or(|(_, last)| last < ts) {
            Outcome::Stored
        } else {
            classify(signals, values, |signal| rows.sample(ts, signal))
        };
        rows.put(ts, signals, values);
        outcome
    }

    /// Whether the event is new.
    fn put_event(&mut self, event: DeviceEvent) -> bool {
        let key = (event.ts, event.key.device.clone(), event.code.clone());
        match self.events.entry(event.key.tenant.clone()).or_default().entry(key) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(event);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    fn rows(&self, key: &DeviceKey) -> Option<&Rows> {
        self.devices.get(self.catalog.find_device(key)? as usize)
    }

    fn scan(&self, key: &DeviceKey, range: TimeRange, signals: Option<&[SignalId]>) -> Readings {
        let name = |number| self.catalog.signal(number).cloned();
        self.rows(key).map(|rows| rows.to_readings(range, signals, name)).unwrap_or_default()
    }

    /// The devices that have readings.
    fn reporting(&self) -> impl Iterator<Item = (&DeviceKey, &Rows)> {
        let key = |number: DeviceNumber| self.catalog.device(number);
        (0..).zip(&self.devices).filter(|(_, rows)| !rows.is_empty()).filter_map(move |(n, rows)| Some((key(n)?, rows)))
    }
}

#[async_trait]
impl TelemetryStore for MemoryStore {
    async fn append(&self, batch: Batch) -> Result<Appended, Error> {
        let mut done = Appended::default();
        {
            let mut held = self.write();
            if held.closed {
                return Err(Error::Closed);
            }
            for reading in &batch.readings {
                match held.put_reading(reading) {
                    Outcome::Stored => done.stored += 1,
                    Outcome::Duplicate => done.duplicate += 1,
                    Outcome::Corrected => done.corrected += 1,
                }
            }
            for event in batch.events {
                *if held.put_event(event) { &mut done.events_stored } else { &mut done.events_duplicate } += 1;
            }
            for message in batch.quarantined {
                held.last_quarantine += 1;
                let id = held.last_quarantine;
                held.quarantine.insert(id, message);
                done.quarantined += 1;
            }
        }
        self.appended.send_modify(|appends| *appends += 1);
        Ok(done)
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        let held = self.read();
        let with_readings = held.reporting().map(|(key, _)| key.tenant.clone());
        let with_events = held.events.iter().filter(|(_, events)| !events.is_empty()).map(|(tenant, _)| tenant.clone());
        Ok(with_readings.chain(with_events).collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn extents(&self, tenant: &TenantId) -> Result<Vec<DeviceExtent>, Error> {
        let held = self.read();
        // Per device: of its readings, of readings and events.
        let mut extents: BTreeMap<&DeviceId, [Option<(i64, i64)>; 2]> = BTreeMap::new();
        for (key, rows) in held.reporting().filter(|(key, _)| key.tenant == *tenant) {
            extents.insert(&key.device, [rows.extent(); 2]);
        }
        for (ts, device, _) in held.events.get(tenant).into_iter().flat_map(BTreeMap::keys) {
            let [_, all] = extents.entry(device).or_default();
            widen(all, ts.millis());
        }
        let at = |(first, last): (i64, i64)| (Timestamp::from_millis(first), Timestamp::from_millis(last));
        let extents = extents.into_iter().filter_map(|(device, [readings, all])| {
            let (first, last) = at(all?);
            Some(DeviceExtent { device: device.clone(), first, last, readings: readings.map(at) })
        });
        Ok(extents.collect())
    }

    async fn scan(&self, key: &DeviceKey, range: TimeRange, signals: Option<&[SignalId]>) -> Result<Readings, Error> {
        Ok(self.read().scan(key, range, signals))
    }

    async fn scan_many(&self, keys: Vec<DeviceKey>, range: TimeRange) -> Result<Vec<Readings>, Error> {
        let held = self.read();
        Ok(keys.par_iter().map(|key| held.scan(key, range, None)).collect())
    }

    async fn latest(&self, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
        let held = self.read();
        let newest = held.rows(key).into_iter().flat_map(Rows::latest);
        let mut newest: Vec<Latest> = newest
            .filter_map(|(signal, ts, value)| {
                let signal = held.catalog.signal(signal)?.clone();
                Some(Latest { signal, ts: Timestamp::from_millis(ts), value })
            })
            .collect();
        newest.sort_by(|a, b| a.signal.cmp(&b.signal));
        Ok(newest)
    }

    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        limit: usize,
    ) -> Result<Readings, Error> {
        let held = self.read();
        let name = |number| held.catalog.signal(number).cloned();
        Ok(held.rows(key).map(|rows| rows.first_readings(range, signals, name, limit)).unwrap_or_default())
    }

    async fn summaries(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        step: Duration,
        closed: Closed,
    ) -> Result<Timeline, Error> {
        let range = closed.times_of_buckets(range, step);
        Ok(Timeline::closed(&self.read().scan(key, range, signals), step, closed))
    }

    async fn windows(&self, keys: Vec<DeviceKey>, at: Timestamp, lengths: &[Duration]) -> Result<Vec<Windows>, Error> {
        let held = self.read();
        Ok(keys.par_iter().map(|key| Windows::of(&held.scan(key, TimeRange::ALL, None), at, lengths)).collect())
    }

    async fn events(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        range: TimeRange,
    ) -> Result<Vec<DeviceEvent>, Error> {
        let held = self.read();
        let of_tenant = held.events.get(tenant).into_iter().flat_map(BTreeMap::values);
        let wanted = of_tenant.filter(|e| range.contains(e.ts) && device.is_none_or(|device| e.key.device == *device));
        Ok(wanted.cloned().collect())
    }

    async fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error> {
        let mut held = self.write();
        let Held { catalog, devices, events, quarantine, .. } = &mut *held;
        match class {
            DataClass::Readings => {
                for (number, rows) in (0..).zip(devices) {
                    if catalog.device(number).is_some_and(|key| key.tenant == *tenant) {
                        rows.drop_before(before.millis());
                    }
                }
            }
            // There are none: they are made of readings when asked for.
            DataClass::HourlySummaries | DataClass::DailySummaries => {}
            DataClass::Events => {
                if let Some(events) = events.get_mut(tenant) {
                    events.retain(|(ts, _, _), _| *ts >= before);
                }
            }
            DataClass::Quarantine => {
                quarantine.retain(|_, message| message.tenant.as_ref() != Some(tenant) || message.received_at >= before)
            }
        }
        Ok(())
    }

    async fn delete_device(&self, key: &DeviceKey) -> Result<Deleted, Error> {
        let mut held = self.write();
        let Held { catalog, devices, events, .. } = &mut *held;
        let rows = catalog.find_device(key).and_then(|number| devices.get_mut(number as usize));
        let samples = rows.map(|rows| std::mem::take(rows).samples()).unwrap_or(0);
        let of_tenant = events.entry(key.tenant.clone()).or_default();
        let before = of_tenant.len();
        of_tenant.retain(|(_, device, _), _| *device != key.device);
        Ok(Deleted { samples, events: (before - of_tenant.len()) as u64 })
    }

    async fn quarantine(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineEntry>, Error> {
        let held = self.read();
        let later = held.quarantine.iter().filter(|(id, _)| **id > after);
        let wanted = later.filter(|(_, message)| tenant.is_none() || message.tenant.as_ref() == tenant);
        Ok(wanted.take(limit).map(|(&id, message)| QuarantineEntry { id, message: message.clone() }).collect())
    }

    async fn remove_quarantined(&self, id: i64) -> Result<bool, Error> {
        Ok(self.write().quarantine.remove(&id).is_some())
    }

    /// There is no log: nothing to move.
    async fn compact(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn size(&self) -> Result<StoreSize, Error> {
        let held = self.read();
        let cells: u64 = held.devices.iter().map(|rows| (rows.len() * (rows.signals().len() + 1)) as u64).sum();
        let samples = held.devices.iter().map(Rows::samples).sum();
        Ok(StoreSize { samples, bytes: cells * 8, ..StoreSize::default() })
    }

    async fn close(&self) -> Result<(), Error> {
        self.write().closed = true;
        Ok(())
    }
}
