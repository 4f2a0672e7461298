//! The embedded store as the spool before a remote server: what [`SpooledStore`](crate::telemetry::SpooledStore) asks of it.

use std::{
    collections::HashMap,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use harbinger_core::{DeviceKey, TenantId, TimeRange, Timestamp, history::Readings};
use rusqlite::Connection;

use super::{
    EmbeddedStore,
    compare::Known,
    shared::Shared,
    shipping::{self, Done, Held, Shipped, Step, Verified, Which},
    writer::Command,
};
use crate::telemetry::{Appended, Batch, Error, TelemetryStore, catalog::DeviceNumber, rows::Rows};

/// A chunk of the spool, with names instead of numbers.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Shipment {
    pub(in crate::telemetry) held: Held,
    pub(in crate::telemetry) key: DeviceKey,
    pub(in crate::telemetry) readings: Readings,
}

impl Shipment {
    pub(in crate::telemetry) fn device(&self) -> DeviceNumber {
        self.held.key.device
    }

    /// From the first to behind the last reading.
    pub(in crate::telemetry) fn range(&self) -> TimeRange {
        let (first, last) = self.held.rows.extent().unwrap_or_default();
        TimeRange { from: Timestamp::from_millis(first), to: Timestamp::from_millis(last + 1) }
    }
}

/// What was shipped so far, by name.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct ShippedSoFar {
    pub(in crate::telemetry) devices: Vec<(DeviceKey, Shipped)>,
    pub(in crate::telemetry) floors: HashMap<TenantId, Timestamp>,
}

impl EmbeddedStore {
    /// Appends, with readings that are held elsewhere to compare with.
    pub(in crate::telemetry) async fn append_knowing(
        &self,
        batch: Batch,
        elsewhere: &[(DeviceKey, Readings)],
    ) -> Result<Appended, Error> {
        let known = Known::new(elsewhere.iter().filter_map(|(key, readings)| self.numbered(key, readings)));
        let mut room = self.shared.room.subscribe();
        room.wait_for(|room| *room).await.map_err(|_| Error::Closed)?;
        let (done, _batch) = self.ask(|reply| Command::Append(batch, Arc::new(known), reply)).await?;
        Ok(done)
    }

    fn numbered(&self, key: &DeviceKey, readings: &Readings) -> Option<(DeviceNumber, Rows)> {
        let tail = self.shared.tail();
        let device = tail.catalog.find_device(key)?;
        let columns = readings.columns.iter();
        let known = columns.filter_map(|(signal, column)| Some((tail.catalog.find_signal(signal)?, column.clone())));
        let (signals, columns): (Vec<_>, Vec<_>) = known.unzip();
        let times = readings.times.iter().map(|ts| ts.millis()).collect();
        Some((device, Rows::from_columns(signals, times, &columns)))
    }

    /// One transaction of the spool.
    pub(in crate::telemetry) async fn step(&self, step: Step) -> Result<Done, Error> {
        self.ask(|reply| Command::Ship(step, reply)).await
    }

    /// The next chunks to be sent, in the order in which they were written.
    pub(in crate::telemetry) async fn to_be_sent(&self) -> Result<Vec<Shipment>, Error> {
        self.shipments(shipping::to_be_sent).await
    }

    /// The next chunks sent no later than `sent_until`, in order of device and id, after one of them.
    pub(in crate::telemetry) async fn sent(
        &self,
        after: (DeviceNumber, i64),
        sent_until: Timestamp,
    ) -> Result<Vec<Shipment>, Error> {
        self.shipments(move |connection| shipping::sent_until(connection, after, sent_until.millis())).await
    }

    async fn shipments(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Vec<Result<Held, Error>>> + Send + 'static,
    ) -> Result<Vec<Shipment>, Error> {
        self.read(move |shared, connection| {
            let held = shipping::readable(read(connection).map_err(shared.failure("read its spool"))?);
            Ok(held.into_iter().filter_map(|held| named(shared, held)).collect())
        })
        .await
    }

    /// What the spool has of a device in `range`, of chunks with some ids; perhaps only of those that the server was asked
    /// for, and did not give back.
    pub(in crate::telemetry) async fn spooled(
        &self,
        device: DeviceNumber,
        range: TimeRange,
        ids: impl RangeBounds<i64> + Send,
        kept: bool,
    ) -> Result<Readings, Error> {
        let bound = |bound: Bound<&i64>, unbounded| match bound {
            Bound::Included(&id) | Bound::Excluded(&id) => id,
            Bound::Unbounded => unbounded,
        };
        let (from, below) = (bound(ids.start_bound(), 0), bound(ids.end_bound(), i64::MAX));
        let which = Which { from, below, kept };
        let times = (range.from.millis(), range.to.millis());
        self.read(move |shared, connection| {
            let held = shipping::held(connection, device, times, which).map_err(shared.failure("read its spool"))?;
            Ok(readings(shared, &shipping::overlaid(shipping::readable(held)), range))
        })
        .await
    }

    /// What stays of a shipment, with numbers again.
    pub(in crate::telemetry) fn verified(
        &self,
        shipment: Shipment,
        rest: &Readings,
        missing: u64,
        is_lost: bool,
    ) -> Verified {
        let rest = self.numbered(&shipment.key, rest).map(|(_, rows)| rows).unwrap_or_default();
        Verified { held: shipment.held, rest, missing, is_lost }
    }

    /// Everything that was shipped, and what is forgotten.
    pub(in crate::telemetry) async fn shipped_so_far(&self) -> Result<ShippedSoFar, Error> {
        self.read(|shared, connection| {
            let fail = |source| shared.failure("read what it shipped")(source);
            let shipped = shipping::all_shipped(connection).map_err(fail)?;
            let floors = shipping::floors(connection).map_err(fail)?;
            let tail = shared.tail();
            let named =
                shipped.into_iter().filter_map(|(device, known)| Some((tail.catalog.device(device)?.clone(), known)));
            let parsed = floors
                .into_iter()
                .filter_map(|(tenant, before)| Some((TenantId::parse(&tenant).ok()?, Timestamp::from_millis(before))));
            Ok(ShippedSoFar { devices: named.collect(), floors: parsed.collect() })
        })
        .await
    }

    /// What was shipped of some devices.
    pub(in crate::telemetry) async fn shipped_of(
        &self,
        devices: Vec<DeviceNumber>,
    ) -> Result<Vec<(DeviceKey, Option<Shipped>)>, Error> {
        self.read(move |shared, connection| {
            let mut all = Vec::with_capacity(devices.len());
            for device in devices {
                let known = shipping::shipped(connection, device).map_err(shared.failure("read what it shipped"))?;
                let key = shared.tail().catalog.device(device).cloned();
                all.extend(key.map(|key| (key, known)));
            }
            Ok(all)
        })
        .await
    }

    /// The run of the server that was last written to.
    pub(in crate::telemetry) async fn last_instance(&self) -> Result<Option<String>, Error> {
        self.read(|shared, connection| shipping::instance(connection).map_err(shared.failure("read what it shipped")))
            .await
    }

    /// Samples that wait to be sent - in the log, in chunks, in the spool - and those of them that are not counted as shipped.
    pub(in crate::telemetry) async fn samples_waiting(&self) -> Result<(u64, u64), Error> {
        let here = self.size().await?.samples;
        let taken = self.read(|shared, connection| {
            shipping::samples_to_be_sent(connection).map_err(shared.failure("read its spool"))
        });
        let (taken, uncounted) = taken.await?;
        Ok((here + taken, here + uncounted))
    }

    /// The number of a device that has one.
    pub(in crate::telemetry) fn device_number(&self, key: &DeviceKey) -> Option<DeviceNumber> {
        self.shared.tail().catalog.find_device(key)
    }
}

fn readings(shared: &Shared, rows: &Rows, range: TimeRange) -> Readings {
    let tail = shared.tail();
    rows.to_readings(range, None, |signal| tail.catalog.signal(signal).cloned())
}

fn named(shared: &Shared, held: Held) -> Option<Shipment> {
    let readings = readings(shared, &held.rows, TimeRange::ALL);
    let key = shared.tail().catalog.device(held.key.device)?.clone();
    Some(Shipment { held, key, readings })
}
