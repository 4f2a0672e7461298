//! Replay of quarantine: what was kept is decoded again with what is understood now.

use harbinger_store::{
    Appended, Batch,
    telemetry::{self, QuarantineEntry},
};

use super::{NotTaken, Pipeline};
use crate::{
    admission::Tenants,
    decode::{Context, Decoded, Devices, Names, line_protocol::series::Reader, native},
    http::{INTAKE_PATH, line_protocol_precision},
};

/// Why a message stays in quarantine.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It still cannot be taken.
    #[error("the message still cannot be taken: {}", reasons.join("; "))]
    Still {
        /// What is wrong with it now.
        reasons: Vec<String>,
    },
    /// The store or the registry did not take what was decoded.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// It is stored, and yet in quarantine: replaying it once more is harmless.
    #[error("failed to remove message {id} from quarantine after it was stored")]
    Remove {
        /// Its number.
        id: i64,
        /// Why.
        source: telemetry::Error,
    },
}

impl Pipeline {
    /// Decodes a quarantined message again; on success its readings are stored and it leaves quarantine. All of it is taken
    /// or nothing. It keeps its time of arrival, and its publisher's rights: what was published outside of a tenant stays
    /// outside.
    ///
    /// # Errors
    /// [`ReplayError`]; the message is in quarantine still.
    pub async fn replay(&self, entry: &QuarantineEntry) -> Result<Appended, ReplayError> {
        let message = &entry.message;
        let context = self.context(message.received_at);
        let mut decoded = Decoded::default();
        let still = |reason: String| ReplayError::Still { reasons: vec![reason] };
        let owner = || message.tenant.clone().ok_or_else(|| still("it belongs to no tenant".to_owned()));
        if message.topic == INTAKE_PATH {
            let mut devices = Devices::of(owner()?);
            native::read_line(&message.payload, &mut devices, &context, &mut Names::default(), &mut decoded)
                .map_err(still)?;
        } else if let Some(precision) = line_protocol_precision(&message.topic) {
            let mut devices = Devices::of(owner()?);
            let mut reader = Reader::new(self.device_tags(), precision, &context);
            match reader.read(&message.payload, &mut devices).map_err(still)?.reading {
                Some((_, reading)) => decoded.readings.push(reading),
                None => decoded.empty += 1,
            }
        } else {
            self.decode_again(entry, &context, &mut decoded).map_err(still)?;
        }
        if !decoded.problems.is_empty() {
            let reasons = decoded.problems.into_iter().map(|problem| problem.reason).collect();
            return Err(ReplayError::Still { reasons });
        }
        let mut keys: Vec<_> = decoded.readings.iter().map(|reading| &reading.key).collect();
        keys.extend(decoded.events.iter().map(|event| &event.key));
        keys.sort_unstable();
        keys.dedup();
        for answer in self.admit(&keys, message.received_at).await.map_err(NotTaken::from)? {
            answer.map_err(still)?;
        }
        let batch = Batch { readings: decoded.readings, events: decoded.events, quarantined: Vec::new() };
        let appended = self.prepare(batch, decoded.empty).append().await?;
        let removed = self.0.store.remove_quarantined(entry.id).await;
        removed.map_err(|source| ReplayError::Remove { id: entry.id, source })?;
        Ok(appended)
    }

    fn decode_again(&self, entry: &QuarantineEntry, context: &Context, out: &mut Decoded) -> Result<(), String> {
        let message = &entry.message;
        let (decoder, route) = self.0.decoders.route(&message.topic)?;
        let rights = message.tenant.clone().map_or(Tenants::All, Tenants::One);
        if !rights.allow(&route.key.tenant) {
            return Err(format!("its publisher may not publish for tenant {}", route.key.tenant));
        }
        let limit = self.0.options.payload_bytes_max;
        if message.payload.len() > limit.bytes() {
            return Err(format!("the payload has {} bytes, at most {limit} are decoded", message.payload.len()));
        }
        decoder.decode(&route, &message.payload, context, &mut Names::default(), out);
        Ok(())
    }
}
