//! A remote server behind the trait, with the embedded store in front as its spool.
//!
//! ```text
//!  append ──▶ embedded store: log, chunks, spool ──shipper──▶ InfluxDB or VictoriaMetrics
//!                      │                                              │
//!                      ▼ laid over                                    ▼
//!                    reads ◀──────────────────────────────────────── pages
//! ```
//! An append is durable in the local log, as ever. The shipper sends chunks to the server in the order in which they were
//! written, keeps them for a while, asks for them again, and lets go of what the server gives back bit for bit; the rest
//! stays in the local file and outweighs what the server has. So an outage, a server that loses what it has acknowledged,
//! one that rounds, refuses or drops samples: none of them loses a reading, and none changes what reads return.
//!
//! Events, quarantine, the catalogue and the extents of devices live in the local file alone.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use harbinger_core::{
    Clock, DeviceEvent, DeviceId, DeviceKey, Duration, SignalId, TenantId, TimeRange, Timestamp,
    history::{Closed, Readings, Timeline},
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    Appended, Batch, DataClass, Deleted, DeviceExtent, EmbeddedStore, Error, Failure, Latest, Options, QuarantineEntry,
    Remote, Spool, StoreSize, TelemetryStore, Windows,
    embedded::{Shipped, Step},
};
use merge::overlay;
use spooler::Spooler;

mod merge;
mod progress;
mod shipper;
mod spooler;
#[cfg(test)]
mod tests;

/// Devices that are asked for at the same time.
const DEVICES_AT_ONCE: usize = 8;

/// How the spool is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolOptions {
    /// How long a chunk stays here after the server has taken it. Ten minutes: VictoriaMetrics syncs within seconds, an
    /// operator who restores a snapshot or restarts a machine takes minutes.
    pub hold: Duration,
    /// How often what has arrived is sent. Ten seconds: what a dashboard beside us lags behind.
    pub interval: std::time::Duration,
    /// How long an append waits to learn whether the server has a late reading already. Two seconds; then it counts as new.
    pub compare_within: std::time::Duration,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(600),
            interval: std::time::Duration::from_secs(10),
            compare_within: std::time::Duration::from_secs(2),
        }
    }
}

/// Telemetry on a remote server, spooled through the embedded store.
pub struct SpooledStore {
    local: Arc<EmbeddedStore>,
    spooler: Arc<Spooler>,
    /// The task that ships. It may be dropped at any await: all that it does to the file are single transactions.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for SpooledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpooledStore")
            .field("local", &self.local)
            .field("remote", self.spooler.remote())
            .finish_non_exhaustive()
    }
}

impl SpooledStore {
    /// Opens the local file and begins to ship. The server need not be up.
    ///
    /// # Errors
    /// Those of [`EmbeddedStore::open`].
    pub async fn open(
        local: Options,
        remote: Arc<dyn Remote>,
        clock: Arc<dyn Clock>,
        options: SpoolOptions,
    ) -> Result<Arc<Self>, Error> {
        let local = Options { is_spool: true, ..local };
        let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(local)).await;
        let local = opened.map_err(|e| Error::Engine { attempt: "open its data file", source: Box::new(e) })??;
        let spooler = Arc::new(Spooler::new(local.clone(), remote, clock, options).await?);
        let task = Mutex::new(Some(tokio::spawn(shipper::run(spooler.clone()))));
        Ok(Arc::new(Self { local, spooler, task }))
    }

    fn take_task(&self) -> Option<JoinHandle<()>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the server has of the late readings of a batch, and the spool: to tell repeats and corrections.
    async fn elsewhere(&self, batch: &Batch) -> Vec<(DeviceKey, Readings)> {
        let late = self.spooler.late(&batch.readings);
        let of_device = |(key, times): (&DeviceKey, HashSet<Timestamp>)| {
            let key = key.clone();
            async move {
                let known = self.known_at(&key, &times).await;
                (key, known)
            }
        };
        let asked: Vec<_> = late.into_iter().map(of_device).collect();
        stream::iter(asked).buffer_unordered(DEVICES_AT_ONCE).collect().await
    }

    /// A device's readings at some times. Where the server does not answer in time: those that are here.
    async fn known_at(&self, key: &DeviceKey, times: &HashSet<Timestamp>) -> Readings {
        let (first, last) = (times.iter().min(), times.iter().max());
        let (Some(&from), Some(&last)) = (first, last) else { return Readings::default() };
        let range = TimeRange { from, to: last + Duration::from_millis(1) };
        let wanted = |ts: Timestamp| times.contains(&ts);
        // Local before remote, as in every read: what moves meanwhile is met twice.
        let here = merge::at(self.local.scan(key, range, None).await.unwrap_or_default(), wanted);
        if self.spooler.is_failing() {
            return here;
        }
        let asked = self.spooler.on_server(key, range, None, |page| merge::at(page, wanted));
        match tokio::time::timeout(self.spooler.options().compare_within, asked).await {
            Ok(Ok(there)) => overlay(there, here),
            Ok(Err(_)) | Err(_) => here,
        }
    }

    /// Calls `each` with a device's readings in `range`, a page at a time.
    async fn for_each_page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        mut each: impl FnMut(&Readings) + Send,
    ) -> Result<(), Error> {
        let mut range = range;
        loop {
            let page = self.page(key, range, None, spooler::READINGS_A_PAGE).await?;
            let Some(&last) = page.times.last() else { return Ok(()) };
            each(&page);
            range.from = last + Duration::from_millis(1);
        }
    }

    async fn samples_of(&self, key: &DeviceKey, range: TimeRange) -> Result<u64, Error> {
        let mut samples = 0;
        self.for_each_page(key, range, |page| samples += merge::count(page)).await?;
        Ok(samples)
    }

    /// Forgets a tenant's shipped readings: reads stop at once, the server deletes what it can.
    async fn forget_shipped(&self, tenant: &TenantId, before: Timestamp) -> Result<(), Error> {
        let _nothing_is_sent_meanwhile = self.spooler.cycle_lock().await;
        let mut left = Vec::new();
        for (key, known) in self.spooler.shipped_before(tenant, before) {
            let Some(device) = self.local.device_number(&key) else { continue };
            left.push((device, self.left_from(&key, known, before).await?));
        }
        let devices = left.iter().map(|(device, _)| *device).collect();
        self.local.step(Step::Forget { tenant: tenant.clone(), before, left }).await?;
        self.spooler.refresh(devices).await?;
        self.spooler.raise_floor(tenant, before);
        match self.spooler.remote().forget(tenant, before).await {
            Ok(()) => Ok(()),
            // It will answer the same tomorrow; reads do not see what is old, and its own retention may delete it.
            Err(failure @ (Failure::Query { .. } | Failure::Status { .. })) => {
                tracing::warn!(%tenant, %failure, "the telemetry server does not delete what is old");
                Ok(())
            }
            Err(source) => Err(Error::Remote { attempt: "delete what is old", source }),
        }
    }

    /// What was shipped of a device from `before` on.
    async fn left_from(&self, key: &DeviceKey, known: Shipped, before: Timestamp) -> Result<Option<Shipped>, Error> {
        if known.last < before.millis() {
            return Ok(None);
        }
        let gone = self.samples_of(key, TimeRange { from: Timestamp::MIN, to: before }).await?;
        let first = self.page(key, TimeRange { from: before, to: Timestamp::MAX }, None, 1).await?;
        let first = first.times.first().map_or(known.last, |first| first.millis());
        Ok(Some(Shipped { first, last: known.last, samples: known.samples.saturating_sub(gone) }))
    }
}

impl Drop for SpooledStore {
    fn drop(&mut self) {
        if let Some(task) = self.take_task() {
            task.abort();
        }
    }
}

#[async_trait]
impl TelemetryStore for SpooledStore {
    async fn append(&self, batch: Batch) -> Result<Appended, Error> {
        let elsewhere = self.elsewhere(&batch).await;
        self.local.append_knowing(batch, &elsewhere).await
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.local.appended()
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        self.local.tenants().await
    }

    async fn extents(&self, tenant: &TenantId) -> Result<Vec<DeviceExtent>, Error> {
        self.local.extents(tenant).await
    }

    async fn scan(&self, key: &DeviceKey, range: TimeRange, signals: Option<&[SignalId]>) -> Result<Readings, Error> {
        let here = self.local.scan(key, range, signals).await?;
        let there = self.spooler.on_server(key, range, signals, |page| page).await?;
        Ok(overlay(there, here))
    }

    async fn scan_many(&self, keys: Vec<DeviceKey>, range: TimeRange) -> Result<Vec<Readings>, Error> {
        let scan = |key: DeviceKey| async move { self.scan(&key, range, None).await };
        stream::iter(keys.into_iter().map(scan)).buffered(DEVICES_AT_ONCE).try_collect().await
    }

    async fn latest(&self, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
        let here = self.local.latest(key).await?;
        let there = self.spooler.latest_on_server(key).await?;
        Ok(merge::newest(there, here))
    }

    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        limit: usize,
    ) -> Result<Readings, Error> {
        let here = self.local.page(key, range, signals, limit).await?;
        // What is here is whole up to its last reading, where it was cut off.
        let behind_last =
            here.times.last().filter(|_| here.len() >= limit).map(|&last| last + Duration::from_millis(1));
        let mut range = TimeRange { to: behind_last.unwrap_or(range.to), ..range };
        let mut there = Readings::default();
        while there.is_empty() && range.from < range.to {
            let page = self.spooler.page_on_server(key, range, signals, limit).await?;
            (there, range.from) = (page.readings, page.read_to);
        }
        let read_to = range.from;
        let mut page = overlay(there, merge::at(here, |ts| ts < read_to));
        page.truncate(limit);
        Ok(page)
    }

    async fn summaries(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        step: Duration,
        closed: Closed,
    ) -> Result<Timeline, Error> {
        let readings = self.scan(key, closed.times_of_buckets(range, step), signals).await?;
        Ok(Timeline::closed(&readings, step, closed))
    }

    async fn windows(&self, keys: Vec<DeviceKey>, at: Timestamp, lengths: &[Duration]) -> Result<Vec<Windows>, Error> {
        let longest = lengths.iter().max().copied().unwrap_or_default();
        let after = Duration::from_millis(1);
        let all = self.scan_many(keys, TimeRange { from: at - longest + after, to: at + after }).await?;
        Ok(all.iter().map(|readings| Windows::of(readings, at, lengths)).collect())
    }

    async fn events(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        range: TimeRange,
    ) -> Result<Vec<DeviceEvent>, Error> {
        self.local.events(tenant, device, range).await
    }

    async fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error> {
        let shipped = if class == DataClass::Readings { self.forget_shipped(tenant, before).await } else { Ok(()) };
        // The local file forgets, whatever the server does.
        self.local.retain(tenant, class, before).await?;
        shipped
    }

    async fn delete_device(&self, key: &DeviceKey) -> Result<Deleted, Error> {
        let _nothing_is_sent_meanwhile = self.spooler.cycle_lock().await;
        let shipped = self.local.device_number(key).filter(|_| self.spooler.shipped(key).is_some());
        let Some(device) = shipped else { return self.local.delete_device(key).await };
        let samples = self.samples_of(key, TimeRange::ALL).await?;
        self.spooler.ask("settle what was written", self.spooler.remote().settle()).await?;
        self.spooler.ask("delete a device", self.spooler.remote().delete(key)).await?;
        self.local.step(Step::Delete(device)).await?;
        self.spooler.refresh(vec![device]).await?;
        Ok(Deleted { samples, ..self.local.delete_device(key).await? })
    }

    async fn quarantine(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineEntry>, Error> {
        self.local.quarantine(tenant, after, limit).await
    }

    async fn remove_quarantined(&self, id: i64) -> Result<bool, Error> {
        self.local.remove_quarantined(id).await
    }

    /// Empties the log; then ships, as far as the server takes it.
    async fn compact(&self) -> Result<(), Error> {
        self.local.compact().await?;
        match self.spooler.cycle().await {
            Err(Error::Remote { .. }) => Ok(()),
            shipped => shipped,
        }
    }

    async fn size(&self) -> Result<StoreSize, Error> {
        let (_, uncounted) = self.local.samples_waiting().await?;
        let here = self.local.size().await?;
        Ok(StoreSize { samples: uncounted + self.spooler.samples_shipped(), ..here })
    }

    async fn spool(&self) -> Result<Option<Spool>, Error> {
        let (samples_waiting, _) = self.local.samples_waiting().await?;
        Ok(Some(Spool { samples_waiting, ..self.spooler.progress() }))
    }

    async fn close(&self) -> Result<(), Error> {
        if let Some(task) = self.take_task() {
            task.abort();
            // Nothing is owed to anyone: what was not shipped is shipped after the next start.
            drop(task.await);
        }
        self.local.close().await
    }
}
