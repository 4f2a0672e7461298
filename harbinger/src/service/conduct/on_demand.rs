//! Plans, models and deletions that somebody asks for, made between two cycles by the process that plans and trains.

use harbinger_analytics::{
    failure::onnx::{self, Card},
    worker,
};
use harbinger_api::{ControlError, Gone};
use harbinger_core::{DeviceKey, Duration, TenantId, Timestamp};
use harbinger_store::ledger::{
    self,
    leases::{self, Permit},
    models,
};
use tokio::sync::oneshot;

use super::{Conductor, Error};
use crate::service::leases::ANALYTICS;

/// Something that the interface asks for between cycles.
pub(in crate::service) enum Command {
    /// Plan now.
    Plan { tenant: TenantId, as_of: Option<Timestamp>, answer: oneshot::Sender<Result<String, ControlError>> },
    /// Train now.
    Train { tenant: TenantId, answer: oneshot::Sender<Result<String, ControlError>> },
    /// Put a classifier that was trained elsewhere into the champion now, as a candidate.
    Import { tenant: TenantId, file: Vec<u8>, card: Box<Card>, answer: oneshot::Sender<Result<String, ControlError>> },
    /// Delete a device now: between cycles, so that none writes down again what it knew of it.
    Delete { key: DeviceKey, actor: String, answer: oneshot::Sender<Result<Gone, ControlError>> },
}

impl Conductor {
    pub(super) async fn obey(&mut self, command: Command) {
        let permit = self.lease.permit(Duration::ZERO);
        // Whoever asked may have gone; what was done stands all the same.
        let _ = match (command, permit) {
            (Command::Plan { answer, .. } | Command::Train { answer, .. } | Command::Import { answer, .. }, None) => {
                answer.send(Err(self.elsewhere().await)).is_ok()
            }
            (Command::Delete { answer, .. }, None) => answer.send(Err(self.elsewhere().await)).is_ok(),
            (Command::Plan { tenant, as_of, answer }, Some(permit)) => {
                let planned = self.plan_now(&tenant, as_of, permit).await.map_err(failed("plan"));
                answer.send(planned.and_then(|id| id.ok_or_else(nothing_yet))).is_ok()
            }
            (Command::Train { tenant, answer }, Some(permit)) => {
                let trained = self.train_now(&tenant, permit).await.map_err(failed("train"));
                answer.send(trained.and_then(|version| version.ok_or_else(nothing_yet))).is_ok()
            }
            (Command::Import { tenant, file, card, answer }, Some(permit)) => {
                let imported = self.import_now(&tenant, file, *card, permit).await.map_err(not_imported);
                answer.send(imported.and_then(|version| version.ok_or_else(nothing_yet))).is_ok()
            }
            (Command::Delete { key, actor, answer }, Some(_)) => {
                let at = self.event_times.get(&key.tenant).unwrap_or_else(|| self.clock.now());
                let deleted = self.erasure.delete(&key, &actor, at).await;
                self.worker.forget(&key.tenant);
                answer.send(deleted).is_ok()
            }
        };
        self.tell();
    }

    /// What is answered to whoever asks a process that does not work.
    async fn elsewhere(&self) -> ControlError {
        let holder = async {
            let mut read = self.ledger.read().await?;
            leases::holder(&mut read, ANALYTICS, self.clock.now()).await
        };
        ControlError::Conflict(match holder.await {
            Ok(Some(holder)) => format!("process {holder} plans and trains for all that share this ledger: ask it"),
            Ok(None) => "no process plans and trains at this moment: send again in a while".to_owned(),
            Err(error) => format!("who plans and trains is not known: {error}"),
        })
    }

    async fn plan_now(
        &mut self,
        tenant: &TenantId,
        as_of: Option<Timestamp>,
        permit: Permit,
    ) -> Result<Option<String>, Error> {
        let Some(plan) = self.worker.plan_now(tenant, as_of).await? else { return Ok(None) };
        let mut tx = self.write_under(permit).await?;
        let plan_id = self.keep_plan(&mut tx, tenant, &plan).await?;
        tx.commit().await.map_err(ledger::Error::from)?;
        Ok(Some(plan_id))
    }

    async fn train_now(&mut self, tenant: &TenantId, permit: Permit) -> Result<Option<String>, Error> {
        let Some(trained) = self.worker.train_now(tenant).await? else { return Ok(None) };
        let mut tx = self.write_under(permit).await?;
        self.keep_model(&mut tx, tenant, &trained).await?;
        tx.commit().await.map_err(ledger::Error::from)?;
        Ok(Some(trained.model.version.clone()))
    }

    async fn import_now(
        &mut self,
        tenant: &TenantId,
        file: Vec<u8>,
        card: Card,
        permit: Permit,
    ) -> Result<Option<String>, Error> {
        let Some(model) = self.worker.import_onnx(tenant, file, card).await? else { return Ok(None) };
        let mut tx = self.write_under(permit).await?;
        models::insert_candidate(&mut tx, tenant, &self.row_of_model(&model)).await?;
        match models::challenge(&mut tx, tenant, &model.version).await {
            // The same file imported again, after it has taken over.
            Ok(_) | Err(ledger::Error::WrongState { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tx.commit().await.map_err(ledger::Error::from)?;
        Ok(Some(model.version.clone()))
    }
}

/// What does not fit is the caller's to mend; where the library is missing, the operator's.
fn not_imported(error: Error) -> ControlError {
    match error {
        Error::Worker(worker::Error::Onnx(error @ onnx::Error::NoRuntime { .. })) => {
            ControlError::Unavailable(error.to_string())
        }
        Error::Worker(worker::Error::Onnx(error)) => ControlError::Refused(error.to_string()),
        error => failed("import a model")(error),
    }
}

fn failed(attempt: &'static str) -> impl FnOnce(Error) -> ControlError {
    move |error| ControlError::Failed { attempt, source: Box::new(error) }
}

fn nothing_yet() -> ControlError {
    ControlError::Conflict("the tenant has not reported enough to be scored yet".to_owned())
}
