//! Shipping: chunks go to the server in the order in which they were written, and stay here until it gives them back.
//!
//! A cycle empties the log into chunks, takes them into the spool a page at a time, sends each page, and after the hold asks
//! the server for what it was sent. Whatever fails ends the cycle; the next one goes on from what the file says. All that a
//! crash can do is to send something twice.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use harbinger_core::{DeviceKey, Duration, TimeRange, Timestamp, history::Readings};

use super::{
    DEVICES_AT_ONCE,
    merge::{self, overlay, same, select},
    spooler::Spooler,
};
use crate::telemetry::{
    Error, TelemetryStore,
    catalog::DeviceNumber,
    embedded::{Held, Shipment, Step},
    rows::Rows,
};

/// Readings of chunks whose spans are no further apart are asked for in one question.
const GAP_MAX: Duration = Duration::from_hours(1);

/// Ships for ever. May be dropped at any await.
pub(super) async fn run(spooler: Arc<Spooler>) {
    let mut ticks = tokio::time::interval(spooler.options().interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match spooler.cycle().await {
            // The progress tells of the server.
            Ok(()) | Err(Error::Closed | Error::Remote { .. }) => {}
            Err(error) => tracing::warn!(%error, cause = ?std::error::Error::source(&error), "the spool is stuck"),
        }
    }
}

/// What is to become of a late shipment.
struct Compared {
    shipment: Shipment,
    /// What the server lacks, or has otherwise and will overwrite.
    to_write: Readings,
    /// Samples that are new, on the server and here.
    new_samples: u64,
}

impl Spooler {
    /// Ships everything that there is, as far as the server takes it.
    pub(super) async fn cycle(&self) -> Result<(), Error> {
        let mut released_at = self.cycle_lock().await;
        let done = self.ship(&mut released_at).await;
        let (server, now) = (self.remote().server(), self.clock.now());
        match &done {
            Ok(()) => self.progress_mut().succeeded(server, now),
            Err(error @ Error::Remote { .. }) => {
                let waiting = self.local.samples_waiting().await.unwrap_or_default();
                self.progress_mut().failed(server, error, waiting, now);
            }
            Err(_) => {}
        }
        done
    }

    async fn ship(&self, released_at: &mut Option<Timestamp>) -> Result<(), Error> {
        self.mind_the_instance().await?;
        match self.local.compact().await {
            // Where the disk is full shipping is what makes room, so it goes on with what is in chunks.
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        loop {
            let shipments = self.local.to_be_sent().await?;
            if !shipments.is_empty() {
                self.send(shipments).await?;
                continue;
            }
            let taken = self.local.step(Step::Take).await?;
            if taken.chunks == 0 {
                break;
            }
            self.refresh(taken.devices).await?;
        }
        let now = self.clock.now();
        self.progress_mut().caught_up(now);
        let hold = self.options().hold;
        if released_at.is_none_or(|released| released + Duration::from_millis(hold.millis() / 2) <= now) {
            self.release(now - hold).await?;
            *released_at = Some(now);
        }
        Ok(())
    }

    /// Where the server was restarted it may have lost what it had taken: all that is still here is sent again.
    async fn mind_the_instance(&self) -> Result<(), Error> {
        let found = self.ask("find", self.remote().instance()).await?;
        let last = self.local.last_instance().await?;
        if last.as_ref() == Some(&found) {
            return Ok(());
        }
        if last.is_some() {
            tracing::info!(
                server = self.remote().server(),
                "the telemetry server was restarted: the spool is sent again"
            );
        }
        self.local.step(Step::Instance(found)).await.map(drop)
    }

    async fn send(&self, shipments: Vec<Shipment>) -> Result<(), Error> {
        let (mut late, fresh): (Vec<_>, Vec<_>) = shipments.into_iter().partition(|shipment| shipment.held.late);
        let as_compared = |shipment: Shipment| {
            let new_samples = merge::count(&shipment.readings);
            Compared { to_write: shipment.readings.clone(), shipment, new_samples }
        };
        self.write(fresh.into_iter().map(as_compared).collect()).await?;
        while !late.is_empty() {
            // One of each device at a time, so that each is compared with what those before it have left.
            let mut devices = HashSet::new();
            let (round, rest) = late.into_iter().partition(|shipment| devices.insert(shipment.device()));
            late = rest;
            self.ask("settle what was written", self.remote().settle()).await?;
            let compare = |shipment| self.compare(shipment);
            let round: Vec<Shipment> = round;
            let compared = stream::iter(round.into_iter().map(compare)).buffered(DEVICES_AT_ONCE).try_collect().await?;
            self.write(compared).await?;
        }
        Ok(())
    }

    /// Compares a late shipment with what the server has and with what is kept here.
    async fn compare(&self, shipment: Shipment) -> Result<Compared, Error> {
        let range = shipment.range();
        let there = self.on_server(&shipment.key, range, None, |page| page).await?;
        let device = shipment.device();
        let before = self.local.spooled(device, range, ..shipment.held.id, false).await?;
        let is_wanted = |value, other: Option<f64>| match other {
            None => true,
            other => self.remote().overwrites() && !same(value, other),
        };
        let to_write = select(&shipment.readings, &there, is_wanted);
        let held = overlay(there, before);
        let new_samples = merge::count(&select(&shipment.readings, &held, |_, other| other.is_none()));
        Ok(Compared { shipment, to_write, new_samples })
    }

    /// Writes; what the server refuses for good is kept here, and holds nothing up.
    async fn write(&self, compared: Vec<Compared>) -> Result<(), Error> {
        if compared.is_empty() {
            return Ok(());
        }
        let points: Vec<(DeviceKey, Readings)> =
            compared.iter().map(|one| (one.shipment.key.clone(), one.to_write.clone())).collect();
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        let written = self.remote().write(&points).await;
        let at_once = match written {
            Ok(()) => true,
            Err(failure) if failure.is_refusal_of_points() => false,
            Err(source) => return Err(Error::Remote { attempt: "write", source }),
        };
        for (one, points) in compared.iter().zip(points) {
            let taken = at_once || self.write_alone(points).await?;
            let id = (one.shipment.held.id, one.shipment.device(), one.new_samples);
            if taken { sent.push(id) } else { refused.push(id) }
        }
        let samples = compared.iter().map(|one| merge::count(&one.shipment.readings)).sum();
        let devices: Vec<DeviceNumber> = compared.iter().map(|one| one.shipment.device()).collect();
        self.local.step(Step::Sent { at: self.clock.now(), sent, refused }).await?;
        self.progress_mut().sent(samples);
        self.refresh(devices).await
    }

    /// Whether the server takes these points.
    async fn write_alone(&self, points: (DeviceKey, Readings)) -> Result<bool, Error> {
        let points = [points];
        match self.remote().write(&points).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.is_refusal_of_points() => {
                let [(device, _)] = &points;
                tracing::warn!(%device, %failure, "the telemetry server refuses readings: they stay in the local file");
                Ok(false)
            }
            Err(source) => Err(Error::Remote { attempt: "write", source }),
        }
    }

    /// Lets go of chunks sent until `sent_until`, but for samples that the server does not give back as they are.
    async fn release(&self, sent_until: Timestamp) -> Result<(), Error> {
        let mut after = None;
        loop {
            let shipments = self.local.sent(after, sent_until).await?;
            let Some(last) = shipments.last() else { return Ok(()) };
            if after.is_none() {
                self.ask("settle what was written", self.remote().settle()).await?;
            }
            after = Some(last.device());
            let mut devices: Vec<Vec<Shipment>> = Vec::new();
            for shipment in shipments {
                match devices.last_mut().filter(|of| of.iter().all(|one| one.device() == shipment.device())) {
                    Some(of_device) => of_device.push(shipment),
                    None => devices.push(vec![shipment]),
                }
            }
            let verify = |shipments| self.verify(shipments);
            let verified = stream::iter(devices.into_iter().map(verify)).buffered(DEVICES_AT_ONCE);
            let verified: Vec<Vec<(Held, Rows)>> = verified.try_collect().await?;
            self.local.step(Step::Verified(verified.into_iter().flatten().collect())).await?;
        }
    }

    /// What stays here of a device's shipments.
    async fn verify(&self, shipments: Vec<Shipment>) -> Result<Vec<(Held, Rows)>, Error> {
        let Some(key) = shipments.first().map(|shipment| shipment.key.clone()) else { return Ok(Vec::new()) };
        let mut there = Readings::default();
        for range in runs(shipments.iter().map(Shipment::range).collect()) {
            there = overlay(there, self.on_server(&key, range, None, |page| page).await?);
        }
        let mut verified = Vec::with_capacity(shipments.len());
        for shipment in shipments {
            let (device, range, id) = (shipment.device(), shipment.range(), shipment.held.id);
            // What a later one outweighs is of no use. What an earlier kept one has would come to light.
            let later = self.local.spooled(device, range, id + 1.., false).await?;
            let kept = self.local.spooled(device, range, ..id, true).await?;
            let in_force = select(&shipment.readings, &later, |_, other| other.is_none());
            let differing = select(&in_force, &there, |value, other| !same(value, other));
            let outweighing = select(&in_force, &kept, |value, other| other.is_some() && !same(value, other));
            let rest = overlay(differing, outweighing);
            let missing = merge::count(&select(&rest, &there, |_, other| other.is_none()));
            if missing > 0 {
                let (server, device) = (self.remote().server(), &key);
                tracing::warn!(server, %device, missing, "the server does not give back samples that it took (its \
                    retention, or limits on series?): they stay in the local file");
            }
            verified.push(self.local.rest(shipment, &rest));
        }
        Ok(verified)
    }
}

/// Ranges joined where the gap between them is small.
fn runs(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.sort_by_key(|range| range.from);
    let mut runs: Vec<TimeRange> = Vec::new();
    for range in ranges {
        match runs.last_mut().filter(|run| range.from <= run.to + GAP_MAX) {
            Some(run) => run.to = run.to.max(range.to),
            None => runs.push(range),
        }
    }
    runs
}
