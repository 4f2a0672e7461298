//! Shipping: chunks go to the server in the order in which they were written, and stay here until it gives them back.
//!
//! A cycle empties the log into chunks, takes them into the spool a page at a time, sends each page, and after the hold asks
//! the server for what it was sent: what it lost is sent again, what it has otherwise stays here. Whatever fails ends the
//! cycle; the next one goes on from what the file says. All that a crash can do is to send something twice.

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
    embedded::{Shipment, Step, Verified},
};

/// Readings of chunks whose spans are no further apart are asked for in one question.
const GAP_MAX: Duration = Duration::from_hours(1);

/// Ships for ever. May be dropped at any await.
pub(super) async fn run(spooler: Arc<Spooler>) {
    let interval = spooler.options().interval;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
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

/// A late shipment, compared.
struct Compared {
    shipment: Shipment,
    /// What the server lacks, or has otherwise and will overwrite.
    to_write: Readings,
    /// Samples that are neither on the server nor kept here.
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
                let (waiting, _) = self.local.samples_waiting().await.unwrap_or_default();
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
                self.tell().await?;
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

    /// Says in the log how far a long sending has come.
    async fn tell(&self) -> Result<(), Error> {
        let now = self.clock.now();
        if self.progress_mut().is_due(now) {
            let (samples_waiting, _) = self.local.samples_waiting().await?;
            tracing::info!(server = self.remote().server(), samples_waiting, "sending the spool");
        }
        Ok(())
    }

    /// Where the server was restarted it may have lost what it had taken: all that is still here is sent again.
    async fn mind_the_instance(&self) -> Result<(), Error> {
        let server = self.remote().server();
        let found = format!("{server}, {}", self.ask("find", self.remote().instance()).await?);
        let last = self.local.last_instance().await?;
        match last.as_deref() {
            Some(last) if last == found => return Ok(()),
            Some(last) if last.starts_with(server) => {
                tracing::info!(server, "the telemetry server was restarted: the spool is sent again");
            }
            Some(last) => {
                tracing::warn!(
                    server,
                    last,
                    "readings were sent elsewhere before: they are missing unless it is the same"
                );
            }
            None => {}
        }
        self.local.step(Step::Instance(found)).await.map(drop)
    }

    /// Sends shipments, those of a device in their order.
    async fn send(&self, mut shipments: Vec<Shipment>) -> Result<(), Error> {
        while !shipments.is_empty() {
            let (mut fresh, mut late, mut rest) = (Vec::new(), Vec::new(), Vec::new());
            let mut devices_at_a_late_one = HashSet::new();
            for shipment in shipments {
                if devices_at_a_late_one.contains(&shipment.device()) {
                    rest.push(shipment);
                } else if shipment.held.late {
                    devices_at_a_late_one.insert(shipment.device());
                    late.push(shipment);
                } else {
                    fresh.push((shipment.readings.clone(), shipment));
                }
            }
            self.write(fresh).await?;
            self.send_late(late).await?;
            shipments = rest;
        }
        Ok(())
    }

    /// Sends late shipments, one of a device at the most: what the server has already is not written again.
    async fn send_late(&self, late: Vec<Shipment>) -> Result<(), Error> {
        if late.is_empty() {
            return Ok(());
        }
        self.ask("settle what was written", self.remote().settle()).await?;
        let compare = |shipment| self.compare(shipment);
        let compared: Vec<Compared> =
            stream::iter(late.into_iter().map(compare)).buffered(DEVICES_AT_ONCE).try_collect().await?;
        let uncounted = compared.iter().filter(|one| !one.shipment.held.counted);
        let counted = uncounted.map(|one| (one.shipment.held.id, one.shipment.device(), one.new_samples)).collect();
        self.local.step(Step::Counted(counted)).await?;
        self.refresh(compared.iter().map(|one| one.shipment.device()).collect()).await?;
        self.write(compared.into_iter().map(|one| (one.to_write, one.shipment)).collect()).await
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

    /// Writes points of shipments; what the server refuses for good is kept here, and holds nothing up.
    async fn write(&self, shipments: Vec<(Readings, Shipment)>) -> Result<(), Error> {
        if shipments.is_empty() {
            return Ok(());
        }
        let (points, shipments): (Vec<(DeviceKey, Readings)>, Vec<Shipment>) =
            shipments.into_iter().map(|(points, shipment)| ((shipment.key.clone(), points), shipment)).unzip();
        let all_at_once = match self.remote().write(&points).await {
            Ok(()) => true,
            Err(failure) if failure.is_refusal_of_points() => false,
            Err(source) => return Err(Error::Remote { attempt: "write", source }),
        };
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        for (points, shipment) in points.into_iter().zip(&shipments) {
            let is_taken = all_at_once || self.write_alone(points).await?;
            if is_taken { &mut sent } else { &mut refused }.push(shipment.held.id);
        }
        self.local.step(Step::Sent { at: self.clock.now(), sent, refused }).await?;
        self.progress_mut().sent(shipments.iter().map(|shipment| merge::count(&shipment.readings)).sum());
        Ok(())
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

    /// Lets go of chunks sent until `sent_until`, but for samples that the server does not give back as they are. Those that
    /// it lost are sent again with the next cycle: no sign of a restart is as sure as their absence.
    async fn release(&self, sent_until: Timestamp) -> Result<(), Error> {
        self.ask("settle what was written", self.remote().settle()).await?;
        let (mut after, mut again, mut missing) = ((0, 0), 0, 0);
        loop {
            let shipments = self.local.sent(after, sent_until).await?;
            let Some(last) = shipments.last() else { break };
            after = (last.device(), last.held.id);
            let mut devices: Vec<Vec<Shipment>> = Vec::new();
            for shipment in shipments {
                match devices.last_mut().filter(|of| of.iter().all(|one| one.device() == shipment.device())) {
                    Some(of_device) => of_device.push(shipment),
                    None => devices.push(vec![shipment]),
                }
            }
            let verify = |shipments| self.verify(shipments);
            let verified = stream::iter(devices.into_iter().map(verify)).buffered(DEVICES_AT_ONCE);
            let verified: Vec<Vec<Verified>> = verified.try_collect().await?;
            let verified: Vec<Verified> = verified.into_iter().flatten().collect();
            missing += verified.iter().map(|verified| verified.missing).sum::<u64>();
            again += self.local.step(Step::Verified(verified)).await?.again;
        }
        let server = self.remote().server();
        if again > 0 {
            tracing::info!(server, samples = again, "the server lost samples that it had taken: they are sent again");
        }
        if missing > again {
            tracing::warn!(
                server,
                samples = missing - again,
                "the server does not give back samples (out of its range, its retention, or limits \
                on series?): they stay in the local file"
            );
        }
        Ok(())
    }

    /// What stays here of a device's shipments.
    async fn verify(&self, shipments: Vec<Shipment>) -> Result<Vec<Verified>, Error> {
        let Some(key) = shipments.first().map(|shipment| shipment.key.clone()) else { return Ok(Vec::new()) };
        let mut there = Readings::default();
        for range in runs(shipments.iter().map(Shipment::range).collect()) {
            there = overlay(there, self.on_server(&key, range, None, |page| page).await?);
        }
        let readable = self.readable(&key, TimeRange::ALL);
        let may_be_there =
            |ts, value| readable.is_some_and(|readable| readable.contains(ts)) && self.remote().takes(ts, value);
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
            let missing = select(&rest, &there, |_, other| other.is_none());
            let lost = merge::count_where(&missing, may_be_there);
            verified.push(self.local.verified(shipment, &rest, merge::count(&missing), lost > 0));
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
