//! What the interface asks of the running process.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use harbinger_alerts::{Alerts, webhook};
use harbinger_analytics::{
    failure::{self, Model, onnx::Card},
    worker,
};
use harbinger_api::{
    Control, ControlError, Gone, Recomputed,
    standing::{Example, ShadowView, Standing},
};
use harbinger_core::{
    Clock, DeviceKey, Duration, TenantId, TimeRange, Timestamp,
    fleet::{Maintenance, MaintenanceAction},
};
use harbinger_ingest::{Pipeline, pipeline::ReplayError};
use harbinger_store::{
    Ledger,
    ledger::{
        self, Connection, alerts as alert_rows,
        orders::{self, PartUse, Used},
        predictions::{Decision, PredictionKey},
        registry,
        returns::{self, Failed},
        stock::Booked,
        work_orders::{self, WorkOrder},
    },
    telemetry::SharedStore,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{conduct::Command, decisions::Basis, standing};

/// A replacement recorded later than this behind a tenant's event time is history being loaded: its piece was taken from a
/// shelf long before the stock we know was counted.
const HISTORY_AFTER: Duration = Duration::from_days(7);

/// Where each tenant's watermark stands.
#[derive(Debug, Default)]
pub(super) struct EventTimes(RwLock<HashMap<TenantId, Timestamp>>);

impl EventTimes {
    pub(super) fn set(&self, tenant: &TenantId, at: Timestamp) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), at);
    }

    pub(super) fn get(&self, tenant: &TenantId) -> Option<Timestamp> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant).copied()
    }
}

/// The process, as the interface sees it.
pub(super) struct ServiceControl {
    pub(super) telemetry: SharedStore,
    pub(super) pipeline: Pipeline,
    pub(super) alerts: Alerts,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) event_times: Arc<EventTimes>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) deliverer: webhook::Handle,
    pub(super) models: Arc<OpenedModels>,
    pub(super) ledger: Ledger,
    /// How long a failed piece may wait before it is sent back.
    pub(super) return_within: Duration,
}

/// Model files, the one that was asked for last held open: who looks at decisions looks at several of one model.
pub(super) struct OpenedModels {
    folder: PathBuf,
    last: RwLock<Option<(PathBuf, Arc<Model>)>>,
}

impl OpenedModels {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, last: RwLock::new(None) }
    }

    /// The model of a version; `None` where its file is gone. Reads a file: not for the threads of the runtime.
    fn get(&self, tenant: &TenantId, version: &str) -> Result<Option<Arc<Model>>, failure::Error> {
        let folder = self.folder.join(tenant.as_str()).join(version);
        if let Some((of, model)) = &*self.last.read().unwrap_or_else(PoisonError::into_inner)
            && *of == folder
        {
            return Ok(Some(Arc::clone(model)));
        }
        if !folder.exists() {
            return Ok(None);
        }
        let model = match Model::open(&folder) {
            // It was trained by another version of the program, which reckoned by other rules.
            Err(failure::Error::Format { .. }) => return Ok(None),
            opened => Arc::new(opened?),
        };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some((folder, Arc::clone(&model)));
        Ok(Some(model))
    }
}

impl ServiceControl {
    /// Sends the piece that came out of a device on its way back, where it can be repaired.
    async fn return_failed(
        &self,
        connection: &mut Connection,
        tenant: &TenantId,
        used: &Used,
    ) -> Result<(), ControlError> {
        let Used { use_id, ts, part, depot, quantity, .. } = used;
        let failed = Failed { use_id, ts: *ts, part, depot, quantity: *quantity };
        let Some(order) = returns::open(connection, tenant, &failed, self.return_within).await? else { return Ok(()) };
        let data = serde_json::json!(order);
        let told = self.alerts.publish(connection, tenant, "return.approved", &order.order_id, used.ts, &data).await;
        told.map_err(|error| ControlError::Failed { attempt: "tell of a return", source: Box::new(error) })?;
        Ok(())
    }

    async fn tell_done(
        &self,
        connection: &mut Connection,
        tenant: &TenantId,
        done: &WorkOrder,
    ) -> Result<(), ControlError> {
        let (id, at, data) = (&done.work_order_id, done.done_at.unwrap_or(done.due_at), json!(done));
        let told = self.alerts.publish(connection, tenant, "work_order.done", id, at, &data).await;
        told.map_err(|error| ControlError::Failed { attempt: "tell of a work order", source: Box::new(error) })?;
        Ok(())
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ControlError>>) -> Command,
    ) -> Result<T, ControlError> {
        let gone = || ControlError::Unavailable("analytics is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Control for ServiceControl {
    fn event_time(&self, tenant: &TenantId) -> Timestamp {
        self.event_times.get(tenant).unwrap_or_else(|| self.clock.now())
    }

    async fn run_plan(&self, tenant: &TenantId, as_of: Option<Timestamp>) -> Result<String, ControlError> {
        let tenant = tenant.clone();
        self.ask(|answer| Command::Plan { tenant, as_of, answer }).await
    }

    async fn replay_quarantined(&self, tenant: &TenantId, id: i64) -> Result<u64, ControlError> {
        let mut found = self.telemetry.quarantine(Some(tenant), id - 1, 1).await?;
        let Some(entry) = found.pop().filter(|entry| entry.id == id) else {
            return Err(ledger::Error::NotFound { what: "quarantined message", id: id.to_string() }.into());
        };
        match self.pipeline.replay(&entry).await {
            Ok(appended) => Ok(appended.stored + appended.corrected + appended.duplicate),
            Err(still @ ReplayError::Still { .. }) => Err(ControlError::Conflict(still.to_string())),
            Err(error) => {
                Err(ControlError::Failed { attempt: "replay a quarantined message", source: Box::new(error) })
            }
        }
    }

    async fn retrain(&self, tenant: &TenantId) -> Result<String, ControlError> {
        let tenant = tenant.clone();
        self.ask(|answer| Command::Train { tenant, answer }).await
    }

    async fn import_onnx(
        &self,
        tenant: &TenantId,
        file: Vec<u8>,
        card: serde_json::Value,
    ) -> Result<String, ControlError> {
        let card: Card =
            serde_json::from_value(card).map_err(|error| ControlError::Refused(format!("card: {error}")))?;
        let (tenant, card) = (tenant.clone(), Box::new(card));
        self.ask(|answer| Command::Import { tenant, file, card, answer }).await
    }

    async fn recompute(
        &self,
        tenant: &TenantId,
        key: &PredictionKey,
        decision: &Decision,
    ) -> Result<Option<Recomputed>, ControlError> {
        let Some(basis) = Basis::of(decision) else { return Ok(None) };
        let (models, tenant, version) = (Arc::clone(&self.models), tenant.clone(), decision.model_version.clone());
        let model = match tokio::task::spawn_blocking(move || models.get(&tenant, &version)).await {
            Ok(Ok(Some(model))) => model,
            Ok(Ok(None)) => return Ok(None),
            // The prediction itself is not in doubt: it is shown without being reckoned again.
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to reckon a prediction again");
                return Ok(None);
            }
            Err(source) => {
                let attempt = "open the model of a decision";
                return Err(ControlError::Failed { attempt, source: source.into() });
            }
        };
        Ok(basis.judged_by(&model, key))
    }

    async fn scoreboard(&self, tenant: &TenantId, range: TimeRange) -> Result<Vec<Standing>, ControlError> {
        let judged = worker::scoreboard(&self.ledger, tenant, range, self.event_time(tenant)).await;
        Ok(judged.map_err(not_judged)?.into_iter().map(standing::shown).collect())
    }

    async fn examples(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        model_version: &str,
    ) -> Result<Vec<Example>, ControlError> {
        let at = self.event_time(tenant);
        let examples = worker::examples(&self.ledger, &self.telemetry, tenant, range, model_version, at).await;
        Ok(examples.map_err(not_judged)?.into_iter().map(standing::example).collect())
    }

    async fn shadow(&self, tenant: &TenantId, version: &str) -> Result<Option<ShadowView>, ControlError> {
        match worker::comparison(&self.ledger, tenant, version, self.event_time(tenant)).await {
            Ok(comparison) => Ok(comparison.map(standing::shadow)),
            Err(worker::Error::Ledger(error)) => Err(error.into()),
            Err(error) => {
                Err(ControlError::Failed { attempt: "compare champion and challenger", source: Box::new(error) })
            }
        }
    }

    async fn delete_device(&self, key: &DeviceKey, actor: &str) -> Result<Gone, ControlError> {
        let command = |answer| Command::Delete { key: key.clone(), actor: actor.to_owned(), answer };
        let gone = self.ask(command).await?;
        self.pipeline.forget(key);
        Ok(gone)
    }

    async fn maintenance_recorded(
        &self,
        connection: &mut Connection,
        tenant: &TenantId,
        records: &[Maintenance],
    ) -> Result<(), ControlError> {
        let Some(now) = self.event_times.get(tenant) else { return Ok(()) };
        let recent: Vec<Maintenance> = records.iter().filter(|r| r.ts + HISTORY_AFTER >= now).cloned().collect();
        if recent.is_empty() {
            return Ok(());
        }
        let foreseen = alert_rows::standing(connection, tenant).await?;
        for record in recent.iter().filter(|r| r.action == MaintenanceAction::Replaced) {
            let planned =
                work_orders::complete(connection, tenant, &record.device, &record.component, record.ts).await?;
            let predicted = foreseen.iter().any(|alert| {
                alert.device == record.device && alert.component == record.component && alert.raised_at <= record.ts
            });
            if let Some(part_use) = part_use(connection, tenant, record, predicted).await? {
                let (booked, used) = orders::use_part(connection, tenant, &part_use).await?;
                if booked == Booked::Now {
                    self.return_failed(connection, tenant, &used).await?;
                }
            }
            if let Some(done) = planned {
                work_orders::share_out(connection, tenant, &done.part, &done.depot).await?;
                self.tell_done(connection, tenant, &done).await?;
            }
        }
        let alerts = self.alerts.apply_maintenance(connection, tenant, &recent).await;
        alerts.map_err(|error| ControlError::Failed { attempt: "resolve alerts", source: Box::new(error) })?;
        Ok(())
    }

    fn outbox_grew(&self) {
        self.deliverer.wake();
    }
}

/// Why predictions were not judged.
fn not_judged(error: worker::Error) -> ControlError {
    match error {
        worker::Error::Ledger(error) => error.into(),
        worker::Error::Telemetry(error) => error.into(),
        error @ worker::Error::TooMany { .. } => ControlError::Conflict(error.to_string()),
        error => ControlError::Failed { attempt: "judge predictions", source: Box::new(error) },
    }
}

/// The pieces that a replacement takes, from the depot that serves the device.
async fn part_use(
    connection: &mut Connection,
    tenant: &TenantId,
    record: &Maintenance,
    predicted: bool,
) -> Result<Option<PartUse>, ledger::Error> {
    use harbinger_core::fleet::{ComponentSlot, Device};
    let device: Device = registry::get(connection, tenant, &[record.device.as_str()]).await?;
    let key = [device.model.as_str(), record.component.as_str()];
    match registry::get::<ComponentSlot>(connection, tenant, &key).await {
        Ok(slot) => Ok(Some(PartUse {
            ts: record.ts,
            device: record.device.clone(),
            component: record.component.clone(),
            part: slot.part,
            depot: device.depot_at(record.ts).clone(),
            quantity: slot.quantity,
            predicted,
        })),
        Err(ledger::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
