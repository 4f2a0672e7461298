//! Deleting everything of a device from both stores, so that a crash in the middle is finished at the next start.
//!
//! First the ledger, in one transaction with a note that telemetry is to follow; then telemetry; then the note goes and the
//! feed tells of it, in one transaction. Whoever asked is answered after all of it.

use std::sync::Arc;

use harbinger_alerts::Alerts;
use harbinger_core::{Clock, DeviceKey, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{
        self, audit,
        erasure::{self, Erased},
        registry,
    },
    telemetry::{Deleted, SharedStore},
};
use serde_json::json;

use crate::state::ControlError;

/// What the audit record and the feed call it.
const ACTION: &str = "device.delete";
const EVENT: &str = "device.deleted";

/// Deletes devices.
#[derive(Clone)]
pub struct Erasure {
    /// Holds what is known of devices.
    pub ledger: Ledger,
    /// Holds what they said.
    pub telemetry: SharedStore,
    /// Tells the feed and the webhooks.
    pub alerts: Alerts,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// From the ledger.
    pub ledger: Erased,
    /// From the telemetry store.
    pub telemetry: Deleted,
}

impl Erasure {
    /// Deletes a device for `actor` at event time `at`. A device that was deleted before is deleted again: what came since goes.
    ///
    /// Must not run beside a cycle of analytics, which would write down what it knows of the device.
    ///
    /// # Errors
    /// [`ledger::Error::NotFound`] for a device that the tenant never had; else that of the store that failed, and then the same
    /// call, or [`finish_pending`](Self::finish_pending), goes on where it stopped.
    pub async fn delete(&self, key: &DeviceKey, actor: &str, at: Timestamp) -> Result<Gone, ControlError> {
        let DeviceKey { tenant, device } = key;
        let reported = self.telemetry.extents(tenant).await?.iter().any(|extent| extent.device == *device);
        let mut tx = self.ledger.write().await?;
        let known = reported
            || registry::known_device(&mut tx, tenant, device).await?
            || audit::is_recorded(&mut tx, tenant, ACTION, device.as_str()).await?;
        if !known {
            return Err(ledger::Error::NotFound { what: "device", id: device.to_string() }.into());
        }
        let erased = erasure::begin(&mut tx, key, at).await?;
        let what = (actor, ACTION, device.as_str());
        audit::append(&mut tx, tenant, self.clock.now(), what, &json!({})).await?;
        tx.commit().await.map_err(ledger::Error::from)?;
        Ok(Gone { ledger: erased, telemetry: self.finish(key, at).await? })
    }

    /// Goes on with what a crash or a full disk interrupted; how many devices that were.
    ///
    /// # Errors
    /// That of the store that failed.
    pub async fn finish_pending(&self) -> Result<usize, ControlError> {
        let mut connection = self.ledger.read().await?;
        let pending = erasure::pending(&mut connection).await?;
        drop(connection);
        for erasure::Pending { key, at } in &pending {
            self.finish(key, *at).await?;
        }
        Ok(pending.len())
    }

    async fn finish(&self, key: &DeviceKey, at: Timestamp) -> Result<Deleted, ControlError> {
        let deleted = self.telemetry.delete_device(key).await?;
        let mut tx = self.ledger.write().await?;
        erasure::end(&mut tx, key).await?;
        let data = json!({ "id": key.device });
        let told = self.alerts.publish(&mut tx, &key.tenant, EVENT, key.device.as_str(), at, &data).await;
        told.map_err(|error| ControlError::Failed { attempt: "tell of a deleted device", source: Box::new(error) })?;
        tx.commit().await.map_err(ledger::Error::from)?;
        Ok(deleted)
    }
}
