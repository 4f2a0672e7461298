//! How far shipping has come: for the log, the metrics and the health of the store.

use harbinger_core::{Duration, Timestamp};

use crate::telemetry::{Error, Spool};

/// While the server does not answer, a line in the log this often.
const REMINDER: Duration = Duration::from_secs(300);
/// While much is sent, a line in the log this often.
const SENDING: Duration = Duration::from_secs(30);

/// What is told of the spool, and when it was last told.
#[derive(Debug, Default)]
pub(super) struct Progress {
    spool: Spool,
    told_at: Option<Timestamp>,
    /// Since when readings have been sent without a pause, or when that was last spoken of.
    sending: Option<Timestamp>,
}

impl Progress {
    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    pub(super) fn sent(&mut self, samples: u64) {
        self.spool.samples_sent += samples;
    }

    /// Whether it is time to say how far a long sending has come.
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        let since = *self.sending.get_or_insert(now);
        let is_due = since + SENDING <= now;
        if is_due {
            self.sending = Some(now);
        }
        is_due
    }

    /// Everything that had arrived is on the server.
    pub(super) fn caught_up(&mut self, now: Timestamp) {
        self.spool.caught_up_at = Some(now);
        self.sending = None;
    }

    /// A cycle went well.
    pub(super) fn succeeded(&mut self, server: &str, now: Timestamp) {
        self.told_at = None;
        if let Some((since, _)) = self.spool.failing.take() {
            let minutes = (now.millis() - since.millis()) / 60_000;
            tracing::info!(server, minutes, "the telemetry server takes readings again; the spool is sent");
        }
    }

    /// A cycle failed: readings wait here.
    pub(super) fn failed(&mut self, server: &str, error: &Error, samples_waiting: u64, now: Timestamp) {
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| cause.to_string());
        let since = self.spool.failing.take().map_or(now, |(since, _)| since);
        if self.told_at.is_none_or(|told| told + REMINDER <= now) {
            tracing::warn!(server, %error, cause, %since, samples_waiting, "readings wait in the spool and are safe there");
            self.told_at = Some(now);
        }
        self.spool.failing = Some((since, cause));
    }
}
