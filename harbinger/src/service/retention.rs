//! Forgetting what is past its retention: at start and once a day, tenant by tenant.
//!
//! Ages are event time of the tenant, so that a replay of another year keeps what that year would have kept; only quarantine
//! goes by when a message arrived, since what it says of time could not be read.

use std::{collections::BTreeSet, sync::Arc, time::Duration as StdDuration};

use harbinger_analytics::worker::watermark;
use harbinger_core::{Clock, TenantId, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{self, registry},
    telemetry::{self, DataClass, QuarantineEntry, SharedStore, TelemetryStore},
};
use tokio_util::sync::CancellationToken;

use crate::config::Retention;

/// Quarantined messages that are read at once: each may have megabytes.
const MESSAGES: usize = 100;
/// Wall time between two rounds.
const EVERY: StdDuration = StdDuration::from_secs(24 * 3600);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
}

/// Applies the retention.
pub(super) struct Keeper {
    pub(super) telemetry: SharedStore,
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) retention: Retention,
}

impl Keeper {
    /// Works until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "data past their retention were not forgotten; it is tried again tomorrow");
            }
            tokio::select! { () = shutdown.cancelled() => return, () = tokio::time::sleep(EVERY) => {} }
        }
    }

    async fn round(&self) -> Result<(), Error> {
        for tenant in self.tenants().await? {
            let event_time = watermark(&self.telemetry.extents(&tenant).await?);
            for (class, before) in limits(&self.retention, event_time, self.clock.now()) {
                self.telemetry.retain(&tenant, class, before).await?;
                tracing::debug!(%tenant, ?class, %before, "retention applied");
            }
        }
        match self.retention.of(DataClass::Quarantine) {
            Some(keep) => forget_messages_of_nobody(&*self.telemetry, self.clock.now() - keep).await,
            None => Ok(()),
        }
    }

    /// Those that have telemetry, and those of which there is but quarantine.
    async fn tenants(&self) -> Result<BTreeSet<TenantId>, Error> {
        let mut connection = self.ledger.read().await?;
        let mut tenants: BTreeSet<TenantId> = registry::tenants(&mut connection).await?.into_iter().collect();
        tenants.extend(self.telemetry.tenants().await?);
        Ok(tenants)
    }
}

/// Forgets quarantined messages of no tenant: nobody could be told from their topic. What is read is little: numbers rise with
/// arrival, and what tenants had of that age is gone.
async fn forget_messages_of_nobody(telemetry: &dyn TelemetryStore, before: Timestamp) -> Result<(), Error> {
    let mut after = 0;
    loop {
        let page = telemetry.quarantine(None, after, MESSAGES).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        let is_old = |entry: &&QuarantineEntry| entry.message.received_at < before;
        for entry in page.iter().filter(is_old).filter(|entry| entry.message.tenant.is_none()) {
            telemetry.remove_quarantined(entry.id).await?;
        }
        if !page.iter().any(|entry| is_old(&entry)) {
            return Ok(());
        }
    }
}

/// From before when each class is forgotten; classes that are kept for ever are left out, and so are those in event time
/// where that is not known.
fn limits(
    retention: &Retention,
    event_time: Option<Timestamp>,
    now_wall: Timestamp,
) -> impl Iterator<Item = (DataClass, Timestamp)> {
    DataClass::ALL.into_iter().filter_map(move |class| {
        let now = if class == DataClass::Quarantine { Some(now_wall) } else { event_time };
        Some((class, now? - retention.of(class)?))
    })
}

#[cfg(test)]
mod tests {
    use harbinger_core::Duration;
    use harbinger_store::telemetry::{Batch, MemoryStore, Quarantined};

    use super::*;

    #[tokio::test]
    async fn messages_of_nobody_are_forgotten_with_age() {
        let store = MemoryStore::new();
        let message = |tenant: Option<&str>, second: usize| Quarantined {
            tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
            received_at: Timestamp::from_millis(1000 * second as i64),
            topic: second.to_string(),
            payload: Vec::new(),
            reason: "unknown topic".to_owned(),
            readings: 0,
        };
        let old = (0..3 * MESSAGES).map(|second| message(None, second));
        let of_tenant = message(Some("acme"), 3);
        // Far more than a page, and their end within one.
        let quarantined = std::iter::once(of_tenant).chain(old).collect();
        store.append(Batch { quarantined, ..Batch::default() }).await.unwrap();
        let before = Timestamp::from_millis(1000 * (2 * MESSAGES + 50) as i64);
        forget_messages_of_nobody(&store, before).await.unwrap();
        let left = store.quarantine(None, 0, usize::MAX).await.unwrap();
        assert_eq!((left.len(), left[0].message.topic.as_str()), (1 + MESSAGES - 50, "3"));
        assert!(left.iter().skip(1).all(|entry| entry.message.received_at >= before));
    }

    #[test]
    fn quarantine_goes_by_the_wall_and_the_rest_by_event_time() {
        let (event_time, wall) = (Timestamp::from_millis(1_420_070_400_000), Timestamp::from_millis(1_700_000_000_000));
        let day = Some(Duration::from_days(1));
        let retention = Retention { readings: day, quarantine: day, ..Retention::default() };
        let of = |event_time| limits(&retention, event_time, wall).collect::<Vec<_>>();
        let quarantine = (DataClass::Quarantine, wall - Duration::from_days(1));
        assert_eq!(of(Some(event_time)), [(DataClass::Readings, event_time - Duration::from_days(1)), quarantine]);
        assert_eq!(of(None), [quarantine]);
    }
}
