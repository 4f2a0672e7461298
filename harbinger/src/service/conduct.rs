//! The loop: what the worker found becomes predictions, alerts, orders and messages, one cycle a transaction.
//!
//! A cycle's progress is written with the rest of it. Where the process dies before the commit, the worker finds the same
//! cycle again; after the commit it goes on behind it. Nothing is applied twice and nothing is left out.
//!
//! Of the processes that share a ledger the holder of a lease works; the others follow event time and wait. Whatever was
//! computed under the lease is applied in a transaction that asks whether it has not changed hands since.

use std::{
    sync::Arc,
    time::{Duration as StdDuration, Instant},
};

use harbinger_alerts::{Alerts, Observation, webhook};
use harbinger_analytics::{
    failure::{
        self, Model, Prediction,
        onnx::{Card, features_sha256},
    },
    worker::{self, Cycle, Trained, Verdict, Worker, watermark},
};
use harbinger_api::Erasure;
use harbinger_core::{Clock, Probability, Severity, TenantId, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{
        self, Connection, WriteTransaction, changes,
        leases::{Lease, Permit},
        models::{self, State},
        predictions, registry,
        shadow::{self, ShadowPrediction},
    },
    telemetry::SharedStore,
};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{control::EventTimes, decisions::decisions};

mod on_demand;
mod orders;

pub(super) use on_demand::Command;
pub(super) use orders::Policy;

/// The failure mode of an alert that a model raised.
const PREDICTED: &str = "predicted";
/// How often the stores are looked at when nothing says that they have news.
const LOOK_EVERY: StdDuration = StdDuration::from_millis(500);
/// How long the feed of changes goes back, wall clock: whoever was away longer reads the tables instead.
const KEEP_CHANGES: harbinger_core::Duration = harbinger_core::Duration::from_days(30);
/// How often what is older is forgotten.
const PRUNE_EVERY: StdDuration = StdDuration::from_secs(3600);
/// Pause after a cycle that failed, so that a full disk is not hammered.
const AFTER_FAILURE: StdDuration = StdDuration::from_secs(5);

/// Why a cycle was not applied.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Worker(#[from] worker::Error),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Alerts(#[from] harbinger_alerts::Error),
    #[error(transparent)]
    Telemetry(#[from] harbinger_store::telemetry::Error),
    #[error("another process took over meanwhile: what was found here is left out, and found again there")]
    Superseded,
    #[error("a plan could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Runs the worker and applies what it finds.
pub(super) struct Conductor {
    pub(super) worker: Worker,
    pub(super) telemetry: SharedStore,
    pub(super) ledger: Ledger,
    pub(super) lease: Lease,
    pub(super) alerts: Alerts,
    pub(super) erasure: Erasure,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) policy: Policy,
    pub(super) event_times: Arc<EventTimes>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) streams: watch::Sender<u64>,
    pub(super) deliverer: webhook::Handle,
    pub(super) quiet_after: StdDuration,
}

impl Conductor {
    /// Works until `shutdown`; a cycle under way is finished first.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut news = self.telemetry.appended();
        let mut last_news = Instant::now();
        let mut last_prune: Option<Instant> = None;
        loop {
            if last_prune.is_none_or(|last| last.elapsed() >= PRUNE_EVERY) {
                last_prune = Some(Instant::now());
                if let Err(error) = self.prune().await {
                    tracing::warn!(%error, "old changes were not forgotten; it is tried again later");
                }
            }
            let quiet = last_news.elapsed() >= self.quiet_after;
            let worked = match self.round(quiet, &shutdown).await {
                Ok(worked) => worked,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "a cycle of analytics failed; it is tried again");
                    tokio::select! { () = shutdown.cancelled() => {}, () = tokio::time::sleep(AFTER_FAILURE) => {} }
                    false
                }
            };
            if shutdown.is_cancelled() {
                return;
            }
            if worked {
                if news.has_changed().unwrap_or(false) {
                    news.mark_unchanged();
                    last_news = Instant::now();
                }
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = news.changed() => match changed {
                    // Many appends come together: look once for all of them.
                    Ok(()) => { last_news = Instant::now(); tokio::time::sleep(StdDuration::from_millis(20)).await }
                    Err(_) => return,
                },
                Some(command) = self.commands.recv() => self.obey(command).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// One cycle for each tenant that has come far enough, where it is this process that works; whether any had.
    async fn round(&mut self, quiet: bool, shutdown: &CancellationToken) -> Result<bool, Error> {
        let (mut worked, mut unrun) = (false, None);
        for tenant in self.telemetry.tenants().await? {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            if let Some(at) = watermark(&self.telemetry.extents(&tenant).await?) {
                self.event_times.set(&tenant, at);
            }
            let Some(permit) = self.lease.permit(harbinger_core::Duration::ZERO) else {
                // Whoever works meanwhile changes what this worker knows of the tenant.
                self.worker.forget(&tenant);
                continue;
            };
            let cycle = match self.worker.next(&tenant, quiet).await {
                // A champion that this machine cannot run is its tenant's trouble alone.
                Err(error @ worker::Error::Model(failure::Error::Onnx { .. })) => {
                    unrun = Some(error.into());
                    continue;
                }
                next => next?,
            };
            let Some(cycle) = cycle else { continue };
            worked = true;
            if let Err(error) = self.apply(&cycle, permit).await {
                self.worker.forget(&tenant);
                return Err(error);
            }
            self.tell();
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command).await;
        }
        match unrun {
            Some(error) => Err(error),
            None => Ok(worked),
        }
    }

    async fn prune(&self) -> Result<(), ledger::Error> {
        let mut tx = self.ledger.write().await?;
        changes::prune(&mut tx, self.clock.now() - KEEP_CHANGES).await?;
        Ok(tx.commit().await?)
    }

    fn tell(&self) {
        self.streams.send_modify(|news| *news = news.wrapping_add(1));
        self.deliverer.wake();
    }

    /// Writes everything that a cycle found, and how far it came, in one transaction.
    async fn apply(&self, cycle: &Cycle, permit: Permit) -> Result<(), Error> {
        let started = Instant::now();
        let mut tx = self.write_under(permit).await?;
        let tenant = &cycle.tenant;
        registry::ensure_tenant(&mut tx, tenant, self.clock.now()).await?;
        if let Some(verdict) = &cycle.verdict {
            self.keep_verdict(&mut tx, tenant, verdict, cycle.at).await?;
        }
        if let Some(trained) = &cycle.trained {
            self.keep_model(&mut tx, tenant, trained).await?;
        }
        let rows: Vec<predictions::Prediction> = cycle.predictions.iter().map(|p| row(p, &cycle.model)).collect();
        predictions::insert_many(&mut tx, tenant, &rows).await?;
        predictions::insert_decisions(&mut tx, tenant, &decisions(cycle, &rows)).await?;
        if let Some((challenger, said)) = &cycle.shadow {
            keep_shadow(&mut tx, tenant, &challenger.version, said).await?;
        }
        let changes = self.alerts.apply(&mut tx, tenant, &observations(cycle, &rows)).await?;
        if let Some(plan) = &cycle.plan {
            self.keep_plan(&mut tx, tenant, plan).await?;
        }
        self.chase(&mut tx, tenant, cycle.at).await?;
        if cycle.drift_is_new {
            self.tell_drift(&mut tx, cycle).await?;
        }
        cycle.record_progress(&mut tx).await?;
        tx.commit().await.map_err(ledger::Error::from)?;
        tracing::debug!(
            %tenant, at = %cycle.at, rows = rows.len(), alerts = changes.len(), planned = cycle.plan.is_some(),
            trained = cycle.trained.is_some(), millis = started.elapsed().as_millis(), "cycle applied"
        );
        Ok(())
    }

    /// A transaction for what was found since `permit` was given.
    async fn write_under(&self, permit: Permit) -> Result<WriteTransaction, Error> {
        let mut tx = self.ledger.write().await?;
        if permit.stands(&mut tx).await? { Ok(tx) } else { Err(Error::Superseded) }
    }

    /// What the ledger is to know of a model.
    fn row_of_model(&self, model: &Model) -> models::Model {
        let families: Vec<serde_json::Value> = model
            .families
            .iter()
            .map(|family| {
                let components: serde_json::Map<String, serde_json::Value> =
                    family.components.iter().map(|(c, p)| (c.to_string(), json!(p.name()))).collect();
                json!({
                    "kind": family.kind, "threshold": family.threshold, "components": components,
                    "features": family.space.width(), "features_sha256": features_sha256(&family.space.names()),
                    "quality": family.quality,
                })
            })
            .collect();
        // Their rows are in the model's file; a list of models would be mostly these.
        let cards: Vec<Card> = model.cards().map(|card| Card { examples: Vec::new(), ..card.clone() }).collect();
        models::Model {
            version: model.version.clone(),
            state: State::Candidate,
            trained_until: model.trained_until,
            trained_wall: self.clock.now(),
            horizons: model.horizons.clone(),
            summary: json!({"failures": model.failures(), "families": families, "cards": cards}),
        }
    }

    async fn keep_model(&self, tx: &mut Connection, tenant: &TenantId, trained: &Trained) -> Result<(), Error> {
        let model = &trained.model;
        models::insert_candidate(tx, tenant, &self.row_of_model(model)).await?;
        let state = match trained.at_once {
            Some(_) => models::promote(tx, tenant, &model.version).await,
            None => models::challenge(tx, tenant, &model.version).await,
        };
        let state = match state {
            Ok(model) => model.state,
            // The same data trained again give the same model.
            Err(ledger::Error::WrongState { .. }) => State::Champion,
            Err(error) => return Err(error.into()),
        };
        let data = json!({
            "version": model.version, "failures": model.failures(), "trained_until": model.trained_until,
            "state": state.as_str(), "at_once": trained.at_once,
        });
        self.alerts.publish(tx, tenant, "model.trained", &model.version, model.trained_until, &data).await?;
        tracing::info!(%tenant, version = model.version, failures = model.failures(), until = %model.trained_until, %state, "model trained");
        Ok(())
    }

    /// A challenger's time in shadow is over: it takes over or retires, and what was found of it stays beside it.
    async fn keep_verdict(
        &self,
        tx: &mut Connection,
        tenant: &TenantId,
        verdict: &Verdict,
        at: Timestamp,
    ) -> Result<(), Error> {
        let Verdict { version, comparison, promoted } = verdict;
        if !in_shadow(tx, tenant, version).await? {
            return Ok(());
        }
        models::note(tx, tenant, version, ("shadow", json!(comparison))).await?;
        let (event, model) = if *promoted {
            ("model.promoted", models::promote(tx, tenant, version).await?)
        } else {
            ("model.retired", models::retire(tx, tenant, version).await?)
        };
        let data = json!({"version": version, "state": model.state.as_str(), "shadow": comparison});
        self.alerts.publish(tx, tenant, event, version, at, &data).await?;
        tracing::info!(%tenant, version, state = %model.state, difference = comparison.difference, "challenger compared");
        Ok(())
    }

    /// The fleet no longer looks like what the model learnt from: told once, until it does again.
    async fn tell_drift(&self, tx: &mut Connection, cycle: &Cycle) -> Result<(), Error> {
        let (tenant, version) = (&cycle.tenant, &cycle.model.version);
        let data = json!({"version": version, "components": cycle.drift});
        self.alerts.publish(tx, tenant, "model.drifted", version, cycle.at, &data).await?;
        tracing::warn!(%tenant, version, components = cycle.drift.len(), "the fleet no longer looks like what the model learnt from");
        Ok(())
    }
}

/// Whether a version is still the challenger: a person may have promoted it or another meanwhile.
async fn in_shadow(tx: &mut Connection, tenant: &TenantId, version: &str) -> Result<bool, Error> {
    Ok(models::challenger(tx, tenant).await?.is_some_and(|challenger| challenger.version == version))
}

/// Writes what the challenger said beside the champion.
async fn keep_shadow(tx: &mut Connection, tenant: &TenantId, version: &str, said: &[Prediction]) -> Result<(), Error> {
    if !in_shadow(tx, tenant, version).await? {
        return Ok(());
    }
    let row = |prediction: &Prediction| ShadowPrediction {
        ts: prediction.ts,
        device: prediction.device.clone(),
        component: prediction.component.clone(),
        probability: prediction.probabilities.first().copied().unwrap_or(0.0),
        alarm: prediction.alarm,
    };
    let rows: Vec<ShadowPrediction> = said.iter().map(row).collect();
    Ok(shadow::insert_many(tx, tenant, version, &rows).await?)
}

fn row(prediction: &Prediction, model: &Model) -> predictions::Prediction {
    predictions::Prediction {
        ts: prediction.ts,
        device: prediction.device.clone(),
        component: prediction.component.clone(),
        probabilities: prediction.probabilities.clone(),
        score: prediction.score,
        alarm: prediction.alarm,
        rul_mean: prediction.rul.mean,
        rul_p05: prediction.rul.p05,
        rul_p50: prediction.rul.p50,
        rul_p95: prediction.rul.p95,
        top_signals: prediction.top_signals.iter().map(|s| (s.name.clone(), s.contribution)).collect(),
        model_version: model.version.clone(),
    }
}

/// What the newest predictions say to the life cycle of alerts.
fn observations(cycle: &Cycle, rows: &[predictions::Prediction]) -> Vec<Observation> {
    let horizon = cycle.model.horizons.first().map_or_else(String::new, ToString::to_string);
    cycle
        .predictions
        .iter()
        .zip(rows)
        .map(|(prediction, row)| {
            let main = prediction.probabilities.first().copied().unwrap_or(0.0);
            Observation {
                device: prediction.device.clone(),
                component: prediction.component.clone(),
                failure_mode: PREDICTED.into(),
                ts: prediction.ts,
                probability: Probability::saturating(main),
                alarm: prediction.alarm,
                threshold: Probability::saturating(prediction.threshold.unwrap_or(1.0)),
                severity: if main >= 0.8 { Severity::Critical } else { Severity::Warning },
                summary: if prediction.alarm { summary(prediction, main, &horizon) } else { String::new() },
                reasons: if prediction.alarm {
                    prediction.top_signals.iter().filter_map(|signal| serde_json::to_value(signal).ok()).collect()
                } else {
                    Vec::new()
                },
                prediction_id: Some(row.id()),
            }
        })
        .collect()
}

/// One line for a person: what, how likely, until when, why.
fn summary(prediction: &Prediction, main: f64, horizon: &str) -> String {
    let what = format!(
        "{} of {} fails within {horizon} with probability {:.0} %",
        prediction.component,
        prediction.device,
        main * 100.0
    );
    match prediction.top_signals.first().filter(|signal| signal.contribution > 0.0) {
        Some(signal) => match signal.value {
            Some(value) => match signal.usual {
                Some((low, high)) => {
                    format!("{what}: {} is {value:.4}, usually {low:.4} to {high:.4}", signal.because)
                }
                None => format!("{what}: {} is {value:.4}", signal.because),
            },
            None => format!("{what}: {}", signal.because),
        },
        None => what,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
