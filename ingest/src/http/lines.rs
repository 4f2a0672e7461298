//! From the body of a request to a batch, remembering which reading came from which line.

use std::collections::{HashMap, HashSet};

use axum::body::Bytes;
use harbinger_core::{DeviceEvent, DeviceKey, Reading, TenantId, Timestamp};
use harbinger_store::{Batch, Quarantined};
use serde_json::value::RawValue;

use super::{Form, INTAKE_PATH, RefusedLine, Report};
use crate::{
    decode::{Context, Decoded, Names, native},
    pipeline::{NotTaken, Pipeline},
};

/// What a body held, before its devices are admitted.
pub(super) struct Taken {
    tenant: TenantId,
    received_at: Timestamp,
    /// Each reading with its line's number and text.
    readings: Vec<(usize, Bytes, Reading)>,
    /// Each event likewise.
    events: Vec<(usize, Bytes, DeviceEvent)>,
    refused: Vec<(RefusedLine, Bytes)>,
    empty: u64,
    lines: usize,
}

/// Decodes a body line by line. Blank lines count as lines and hold nothing.
pub(super) fn decode(body: &Bytes, form: Form, tenant: TenantId, context: &Context) -> Taken {
    let mut taken = Taken {
        tenant,
        received_at: context.received_at,
        readings: Vec::new(),
        events: Vec::new(),
        refused: Vec::new(),
        empty: 0,
        lines: 0,
    };
    let mut names = Names::default();
    let mut decoded = Decoded::default();
    let mut take = |taken: &mut Taken, line: usize, text: &[u8]| {
        taken.lines += 1;
        let text = body.slice_ref(text);
        match native::read_line(&text, &taken.tenant, context, &mut names, &mut decoded) {
            Ok(()) => {
                taken.readings.extend(decoded.readings.drain(..).map(|reading| (line, text.clone(), reading)));
                taken.events.extend(decoded.events.drain(..).map(|event| (line, text.clone(), event)));
            }
            Err(reason) => taken.refused.push((RefusedLine { line, reason }, text)),
        }
    };
    match form {
        Form::Lines => {
            for (place, text) in body.split(|&byte| byte == b'\n').enumerate() {
                if !text.trim_ascii().is_empty() {
                    take(&mut taken, place + 1, text.trim_ascii());
                }
            }
        }
        Form::Array => match serde_json::from_slice::<Vec<&RawValue>>(body) {
            Ok(elements) => {
                for (place, element) in elements.into_iter().enumerate() {
                    take(&mut taken, place + 1, element.get().as_bytes());
                }
            }
            Err(reason) => {
                taken.lines = 1;
                // A body that is no array is one message.
                let reason = format!("not a JSON array: {reason}");
                taken.refused.push((RefusedLine { line: 1, reason }, body.clone()));
            }
        },
    }
    taken.empty = decoded.empty;
    taken
}

impl Taken {
    /// Admits the devices and appends; returns when all of it is durable.
    pub(super) async fn store(mut self, pipeline: &Pipeline) -> Result<Report, NotTaken> {
        pipeline.metrics().handed_over(self.lines);
        if let Err(error) = self.admit(pipeline).await {
            pipeline.refuse(self.lines as u64);
            return Err(error);
        }
        let accepted = (self.readings.len() + self.events.len()) as u64 + self.empty;
        self.refused.sort_by_key(|(refused, _)| refused.line);
        let batch = Batch {
            readings: self.readings.into_iter().map(|(_, _, reading)| reading).collect(),
            events: self.events.into_iter().map(|(_, _, event)| event).collect(),
            quarantined: self
                .refused
                .iter()
                .map(|(refused, text)| Quarantined {
                    tenant: Some(self.tenant.clone()),
                    received_at: self.received_at,
                    topic: INTAKE_PATH.to_owned(),
                    payload: text.to_vec(),
                    reason: refused.reason.clone(),
                    readings: 1,
                })
                .collect(),
        };
        pipeline.prepare(batch, self.empty).append().await?;
        Ok(Report { accepted, quarantined: self.refused.into_iter().map(|(refused, _)| refused).collect() })
    }

    /// Moves the readings and events of devices that are not let in to the refused lines.
    async fn admit(&mut self, pipeline: &Pipeline) -> Result<(), NotTaken> {
        let reporting = self.readings.iter().map(|(_, _, reading)| &reading.key);
        let devices: HashSet<&DeviceKey> =
            reporting.chain(self.events.iter().map(|(_, _, event)| &event.key)).collect();
        let devices: Vec<DeviceKey> = devices.into_iter().cloned().collect();
        let answers = pipeline.admit(&devices, self.received_at).await?;
        let turned_away: HashMap<DeviceKey, String> =
            devices.into_iter().zip(answers).filter_map(|(key, answer)| Some((key, answer.err()?))).collect();
        if turned_away.is_empty() {
            return Ok(());
        }
        let refused = &mut self.refused;
        let mut let_in = |line: usize, text: &Bytes, key: &DeviceKey| match turned_away.get(key) {
            None => true,
            Some(reason) => {
                refused.push((RefusedLine { line, reason: reason.clone() }, text.clone()));
                false
            }
        };
        self.readings.retain(|(line, text, reading)| let_in(*line, text, &reading.key));
        self.events.retain(|(line, text, event)| let_in(*line, text, &event.key));
        Ok(())
    }
}
