//! What store and shipper share: the server, what was shipped to it, and how it is read.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use harbinger_core::{Clock, DeviceKey, Reading, SignalId, TenantId, TimeRange, Timestamp, history::Readings};

use super::{SpoolOptions, merge, progress::Progress};
use crate::telemetry::{
    EmbeddedStore, Error, Failure, Latest, Remote, Spool, catalog::DeviceNumber, embedded::Shipped, remote::Page,
};

/// Readings that one question to the server asks for.
pub(super) const READINGS_A_PAGE: usize = 10_000;

/// The two ends of the spool.
pub(super) struct Spooler {
    pub(super) local: Arc<EmbeddedStore>,
    remote: Arc<dyn Remote>,
    pub(super) clock: Arc<dyn Clock>,
    options: SpoolOptions,
    /// Memory follows the file: tables `shipped` and `floors`.
    known: RwLock<Known>,
    progress: Mutex<Progress>,
    /// Held by whoever moves chunks to the server or deletes there; tells when the last release was.
    cycle: tokio::sync::Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Known {
    devices: HashMap<DeviceKey, Shipped>,
    floors: HashMap<TenantId, Timestamp>,
}

impl Shipped {
    /// Whether the server may have a reading of this time.
    fn covers(&self, ts: Timestamp) -> bool {
        (self.first..=self.last).contains(&ts.millis())
    }
}

impl Spooler {
    pub(super) async fn new(
        local: Arc<EmbeddedStore>,
        remote: Arc<dyn Remote>,
        clock: Arc<dyn Clock>,
        options: SpoolOptions,
    ) -> Result<Self, Error> {
        let so_far = local.shipped_so_far().await?;
        let known = Known { devices: so_far.devices.into_iter().collect(), floors: so_far.floors };
        Ok(Self {
            local,
            remote,
            clock,
            options,
            known: RwLock::new(known),
            progress: Mutex::new(Progress::default()),
            cycle: tokio::sync::Mutex::new(None),
        })
    }

    pub(super) fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    pub(super) fn options(&self) -> &SpoolOptions {
        &self.options
    }

    /// Keeps everyone else from moving chunks or deleting on the server.
    pub(super) async fn cycle_lock(&self) -> tokio::sync::MutexGuard<'_, Option<Timestamp>> {
        self.cycle.lock().await
    }

    // The locks are never held while something can panic half-way through a change.
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress_mut(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> Spool {
        self.progress_mut().spool().clone()
    }

    pub(super) fn is_failing(&self) -> bool {
        self.progress_mut().spool().failing.is_some()
    }

    pub(super) fn shipped(&self, key: &DeviceKey) -> Option<Shipped> {
        self.known().devices.get(key).copied()
    }

    /// The times of the readings that the server may have already, by device.
    pub(super) fn late<'a>(&self, readings: &'a [Reading]) -> HashMap<&'a DeviceKey, HashSet<Timestamp>> {
        let known = self.known();
        let mut late: HashMap<&DeviceKey, HashSet<Timestamp>> = HashMap::new();
        for reading in readings {
            if known.devices.get(&reading.key).is_some_and(|known| known.covers(reading.ts)) {
                late.entry(&reading.key).or_default().insert(reading.ts);
            }
        }
        late
    }

    /// The devices of a tenant that have shipped readings from before a time.
    pub(super) fn shipped_before(&self, tenant: &TenantId, before: Timestamp) -> Vec<(DeviceKey, Shipped)> {
        let known = self.known();
        let of_tenant =
            known.devices.iter().filter(|(key, known)| key.tenant == *tenant && known.first < before.millis());
        of_tenant.map(|(key, known)| (key.clone(), *known)).collect()
    }

    pub(super) fn samples_shipped(&self) -> u64 {
        self.known().devices.values().map(|known| known.samples).sum()
    }

    /// Reads back what the file says of devices.
    pub(super) async fn refresh(&self, devices: Vec<DeviceNumber>) -> Result<(), Error> {
        let found = self.local.shipped_of(devices).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (key, shipped) in found {
            match shipped {
                Some(shipped) => drop(known.devices.insert(key, shipped)),
                None => drop(known.devices.remove(&key)),
            }
        }
        Ok(())
    }

    pub(super) fn raise_floor(&self, tenant: &TenantId, before: Timestamp) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let floor = known.floors.entry(tenant.clone()).or_insert(before);
        *floor = before.max(*floor);
    }

    /// Asks the server.
    pub(super) async fn ask<T>(
        &self,
        attempt: &'static str,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        answer.await.map_err(|source| Error::Remote { attempt, source })
    }

    /// The part of `range` in which the server may have readings of a device that are not forgotten.
    pub(super) fn readable(&self, key: &DeviceKey, range: TimeRange) -> Option<TimeRange> {
        let known = self.known();
        let shipped = known.devices.get(key)?;
        let (first, behind) =
            (Timestamp::from_millis(shipped.first), Timestamp::from_millis(shipped.last.saturating_add(1)));
        let floor = known.floors.get(&key.tenant).copied().unwrap_or(Timestamp::MIN);
        let readable = TimeRange { from: range.from.max(first).max(floor), to: range.to.min(behind) };
        (readable.from < readable.to).then_some(readable)
    }

    /// What the server has of a device in `range`, each page passed through `keep`.
    pub(super) async fn on_server(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        keep: impl Fn(Readings) -> Readings + Send,
    ) -> Result<Readings, Error> {
        let mut all = Readings::default();
        let Some(mut range) = self.readable(key, range) else { return Ok(all) };
        while range.from < range.to {
            let page = self.remote.page(key, range, signals, READINGS_A_PAGE);
            let page = self.ask("read", page).await?;
            merge::append(&mut all, keep(page.readings));
            range.from = page.read_to;
        }
        Ok(all)
    }

    /// About `limit` readings that the server has of a device, from the start of `range` on.
    pub(super) async fn page_on_server(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        limit: usize,
    ) -> Result<Page, Error> {
        let nothing = Page { readings: Readings::default(), read_to: range.to };
        let Some(readable) = self.readable(key, range) else { return Ok(nothing) };
        let page = self.ask("read", self.remote.page(key, readable, signals, limit.min(READINGS_A_PAGE))).await?;
        // Behind what is readable there is nothing.
        let read_to = if page.read_to >= readable.to { range.to } else { page.read_to };
        Ok(Page { read_to, ..page })
    }

    pub(super) async fn latest_on_server(&self, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
        match self.readable(key, TimeRange::ALL) {
            Some(range) => self.ask("read the newest samples", self.remote.latest(key, range)).await,
            None => Ok(Vec::new()),
        }
    }
}
