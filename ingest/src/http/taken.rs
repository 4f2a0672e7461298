//! What the body of a request held, and the one way from there into the store.

use std::{collections::HashMap, ops::Range};

use axum::body::Bytes;
use harbinger_core::{DeviceEvent, DeviceKey, Reading, TenantId, Timestamp};
use harbinger_store::{Batch, Quarantined};

use super::{RefusedLine, Report, join::joined};
use crate::{
    decode::Devices,
    pipeline::{NotTaken, Pipeline},
};

/// A reading or event with the line that it came from.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// Number of the line.
    pub(super) line: usize,
    /// Where the line stands in the body.
    pub(super) text: Range<usize>,
    /// Place of the device.
    pub(super) device: usize,
    pub(super) content: T,
}

/// What a body held, before its devices are admitted.
pub(super) struct Taken {
    /// What its lines carry as topic in quarantine.
    pub(super) topic: String,
    pub(super) received_at: Timestamp,
    pub(super) body: Bytes,
    pub(super) devices: Devices,
    pub(super) readings: Vec<Found<Reading>>,
    pub(super) events: Vec<Found<DeviceEvent>>,
    pub(super) refused: Vec<(RefusedLine, Range<usize>)>,
    /// Readings without a value.
    pub(super) empty: u64,
    /// Lines that are not blank.
    pub(super) lines: usize,
    /// So many signals at most are joined into one reading where lines share device and time; none without it.
    pub(super) signals_joined_max: Option<usize>,
}

impl Taken {
    pub(super) fn nothing(topic: String, body: Bytes, tenant: TenantId, received_at: Timestamp) -> Self {
        Self {
            topic,
            received_at,
            body,
            devices: Devices::of(tenant),
            readings: Vec::new(),
            events: Vec::new(),
            refused: Vec::new(),
            empty: 0,
            lines: 0,
            signals_joined_max: None,
        }
    }

    /// Where a part of the body stands in it.
    pub(super) fn place_of(body: &Bytes, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
        start..start + part.len()
    }

    /// Admits the devices and appends; returns when all of it is durable.
    pub(super) async fn store(mut self, pipeline: &Pipeline) -> Result<Report, NotTaken> {
        pipeline.metrics().handed_over(self.lines);
        if let Err(error) = self.admit(pipeline).await {
            pipeline.refuse(self.lines as u64);
            return Err(error);
        }
        self.refused.sort_by_key(|(refused, _)| refused.line);
        let quarantined = self.quarantined();
        let readings = match self.signals_joined_max {
            Some(signals_max) => joined(self.readings, signals_max),
            None => self.readings.into_iter().map(|found| found.content).collect(),
        };
        let events: Vec<DeviceEvent> = self.events.into_iter().map(|found| found.content).collect();
        let accepted = (readings.len() + events.len()) as u64 + self.empty;
        pipeline.prepare(Batch { readings, events, quarantined }, self.empty).append().await?;
        Ok(Report { accepted, quarantined: self.refused.into_iter().map(|(refused, _)| refused).collect() })
    }

    fn quarantined(&self) -> Vec<Quarantined> {
        let quarantined = |(refused, text): &(RefusedLine, Range<usize>)| Quarantined {
            tenant: Some(self.devices.tenant().clone()),
            received_at: self.received_at,
            topic: self.topic.clone(),
            payload: self.body.get(text.clone()).unwrap_or_default().to_vec(),
            reason: refused.reason.clone(),
            readings: 1,
        };
        self.refused.iter().map(quarantined).collect()
    }

    /// Places of the devices that something was taken of: a line that was refused lets nobody in.
    fn places(&self) -> Vec<usize> {
        let reporting = self.readings.iter().map(|found| found.device);
        let mut places: Vec<usize> = reporting.chain(self.events.iter().map(|found| found.device)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Moves the readings and events of devices that are not let in to the refused lines.
    async fn admit(&mut self, pipeline: &Pipeline) -> Result<(), NotTaken> {
        let places = self.places();
        let keys: Vec<&DeviceKey> = places.iter().filter_map(|&place| self.devices.key(place)).collect();
        let answers = pipeline.admit(&keys, self.received_at).await?;
        let turned_away: HashMap<usize, String> =
            places.into_iter().zip(answers).filter_map(|(place, answer)| Some((place, answer.err()?))).collect();
        if turned_away.is_empty() {
            return Ok(());
        }
        let refused = &mut self.refused;
        let mut let_in = |device: usize, line: usize, text: &Range<usize>| match turned_away.get(&device) {
            None => true,
            Some(reason) => {
                refused.push((RefusedLine { line, reason: reason.clone() }, text.clone()));
                false
            }
        };
        self.readings.retain(|found| let_in(found.device, found.line, &found.text));
        self.events.retain(|found| let_in(found.device, found.line, &found.text));
        Ok(())
    }
}
