//! Which model scores at a step, which one is in shadow, and when that changes.
//!
//! A new model is a challenger first: it scores beside the champion and nobody acts on it. When the truth of `retrain_every` is
//! known of what both said, the challenger takes over if it told no worse what came, else it retires; then the next one is
//! trained where one is due. It takes over at once where there is nothing to wait for: see [`at_once`].
//! What a challenger said goes with its time in shadow, so a fleet in which nothing fails ends that time, too.

use std::{path::PathBuf, sync::Arc};

use harbinger_core::{Duration, TenantId, Timestamp};
use harbinger_store::ledger::{self, models, progress};

use super::{
    Error, TRAINED_FAILURES, TRAINED_UNTIL, Worker, blocking, has_drifted,
    reading::{self, Known, failures_until},
    shadow::{Verdict, at_once, compare},
};
use crate::failure::{self, Model, TrainOptions, train};

/// Where nothing fails, the two are compared after so many times `retrain_every`.
const WITHOUT_FAILURE: i64 = 4;

/// A model that was trained in a step.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model.
    pub model: Arc<Model>,
    /// Failures that training knew.
    pub failures: usize,
    /// Why it takes over without a time in shadow; `None` where it is the challenger now.
    pub at_once: Option<&'static str>,
}

/// The models of a step.
pub(super) struct Roles {
    pub(super) champion: Arc<Model>,
    pub(super) challenger: Option<Arc<Model>>,
    pub(super) verdict: Option<Verdict>,
    pub(super) trained: Option<Trained>,
}

impl Worker {
    /// The tenant's champion, from memory or from its file; `None` where there is none that this process can read or make again:
    /// then the next cycle trains a new one.
    pub(super) async fn champion(&mut self, tenant: &TenantId) -> Result<Option<Arc<Model>>, Error> {
        let row = models::champion(&mut *self.ledger.read().await?, tenant).await?;
        let held = self.standing.get(tenant).and_then(|standing| standing.champion.clone());
        let mut model = match &row {
            Some(row) => self.opened(tenant, row, held).await?,
            None => None,
        };
        if let (None, Some(row)) = (&model, row)
            && !self.folder(tenant, &row.version).exists()
        {
            // It lies in another process's folder: the same readings give the same model once more.
            let known = Known::load(&self.ledger, tenant, row.trained_until).await?;
            let again = self.train_and_save(tenant, &known, row.trained_until).await?;
            model = Some(again).filter(|model| model.version == row.version);
        }
        self.standing.entry(tenant.clone()).or_default().champion.clone_from(&model);
        Ok(model)
    }

    /// The tenant's challenger; `None` where this process has not its file: the next training makes another.
    async fn challenger(&self, tenant: &TenantId) -> Result<Option<Arc<Model>>, Error> {
        let row = models::challenger(&mut *self.ledger.read().await?, tenant).await?;
        let held = self.standing.get(tenant).and_then(|standing| standing.challenger.clone());
        let Some(row) = row else { return Ok(None) };
        match self.opened(tenant, &row, held).await {
            // Nobody acts on it: the champion goes on without.
            Err(Error::Model(error)) => {
                tracing::warn!(%error, %tenant, version = row.version, "the challenger cannot be opened: it says nothing");
                Ok(None)
            }
            opened => opened,
        }
    }

    fn folder(&self, tenant: &TenantId, version: &str) -> PathBuf {
        self.options.models.join(tenant.as_str()).join(version)
    }

    /// The model of a row: `held`, where it is that, else from its file.
    async fn opened(
        &self,
        tenant: &TenantId,
        row: &models::Model,
        held: Option<Arc<Model>>,
    ) -> Result<Option<Arc<Model>>, Error> {
        if let Some(held) = held.filter(|held| held.version == row.version) {
            return Ok(Some(held));
        }
        let folder = self.folder(tenant, &row.version);
        if !folder.exists() {
            return Ok(None);
        }
        match blocking(move || Model::open(&folder)).await? {
            Err(error @ failure::Error::Format { .. }) => {
                tracing::warn!(%error, %tenant, "a model in use is of an earlier version: a new one is trained");
                Ok(None)
            }
            opened => Ok(Some(Arc::new(opened?)).filter(|model| model.version == row.version)),
        }
    }

    /// The models to score with at `at`.
    pub(super) async fn roles_at(&mut self, tenant: &TenantId, known: &Known, at: Timestamp) -> Result<Roles, Error> {
        let Some(mut champion) = self.champion(tenant).await? else {
            let trained = self.train(tenant, known, None, at).await?;
            let champion = Arc::clone(&trained.model);
            return Ok(Roles { champion, challenger: None, verdict: None, trained: Some(trained) });
        };
        let mut challenger = self.challenger(tenant).await?;
        let mut verdict = None;
        if let Some(model) = &challenger {
            verdict = self.verdict(tenant, known, (&champion, model), at).await?;
        }
        if let Some(verdict) = &verdict
            && let Some(model) = challenger.take()
            && verdict.promoted
        {
            champion = model;
        }
        if challenger.is_some() || !self.training_is_due(tenant, failures_until(known, at), at).await? {
            return Ok(Roles { champion, challenger, verdict, trained: None });
        }
        let trained = self.train(tenant, known, Some(&champion), at).await?;
        if trained.at_once.is_some() {
            champion = Arc::clone(&trained.model);
        } else {
            challenger = Some(Arc::clone(&trained.model));
        }
        Ok(Roles { champion, challenger, verdict, trained: Some(trained) })
    }

    /// A new model on everything known at `at`, its file written.
    pub(super) async fn train(
        &self,
        tenant: &TenantId,
        known: &Known,
        champion: Option<&Model>,
        at: Timestamp,
    ) -> Result<Trained, Error> {
        let model = self.train_and_save(tenant, known, at).await?;
        let drifted = has_drifted(&mut *self.ledger.read().await?, tenant).await?;
        let at_once = match champion {
            None => Some("it is the first"),
            Some(_) if !self.options.shadow => Some("nothing is put in shadow"),
            Some(champion) => at_once(champion, &model, drifted),
        };
        Ok(Trained { model, failures: failures_until(known, at), at_once })
    }

    /// What is found of a challenger whose time in shadow is over at `at`; `None` where it is not.
    async fn verdict(
        &self,
        tenant: &TenantId,
        known: &Known,
        (champion, challenger): (&Model, &Model),
        at: Timestamp,
    ) -> Result<Option<Verdict>, ledger::Error> {
        let horizon = challenger.horizons.first().copied().unwrap_or_default();
        let retrain_every = self.options.retrain_every;
        // To compare reads all that both said: once a plan is often enough.
        let looked_at = at.floor_to(self.options.plan_every) + challenger.every > at;
        if !looked_at || challenger.trained_until + retrain_every + horizon > at {
            return Ok(None);
        }
        let versions = (champion.version.as_str(), challenger.version.as_str());
        let trial = compare(&self.ledger, tenant, known, versions, horizon, at).await?;
        // A step at either end may lie outside.
        let span = Duration::from_millis(trial.span.millis() + 2 * challenger.every.millis());
        let patient = Duration::from_millis(WITHOUT_FAILURE * retrain_every.millis());
        if span < retrain_every || (trial.comparison.failures == 0 && span < patient) {
            return Ok(None);
        }
        let promoted = trial.comparison.favours_challenger();
        Ok(Some(Verdict { version: challenger.version.clone(), comparison: trial.comparison, promoted }))
    }

    /// Whether a new model is to be trained at `at`.
    async fn training_is_due(&self, tenant: &TenantId, failures: usize, at: Timestamp) -> Result<bool, Error> {
        let mut read = self.ledger.read().await?;
        let trained_at = progress::get(&mut read, tenant, TRAINED_UNTIL).await?.unwrap_or(i64::MIN);
        let trained_on = progress::get(&mut read, tenant, TRAINED_FAILURES).await?.unwrap_or(0);
        let trained_on = usize::try_from(trained_on).unwrap_or(0);
        let first = trained_on < self.options.first_labels && failures >= self.options.first_labels;
        let again = (failures > trained_on || has_drifted(&mut read, tenant).await?)
            && Timestamp::from_millis(trained_at) + self.options.retrain_every <= at
            && failures >= self.options.first_labels;
        Ok(first || again)
    }

    async fn train_and_save(&self, tenant: &TenantId, known: &Known, at: Timestamp) -> Result<Arc<Model>, Error> {
        let model = self.train_at(tenant, known, at).await?;
        self.save(tenant, model).await
    }

    /// Writes a model's file.
    pub(super) async fn save(&self, tenant: &TenantId, model: Model) -> Result<Arc<Model>, Error> {
        let model = Arc::new(model);
        let (folder, saved) = (self.folder(tenant, &model.version), Arc::clone(&model));
        blocking(move || saved.save(&folder)).await??;
        Ok(model)
    }

    async fn train_at(&self, tenant: &TenantId, known: &Known, at: Timestamp) -> Result<Model, Error> {
        let histories = reading::histories(&self.store, tenant, known, Timestamp::MIN, at).await?;
        let extents = self.store.extents(tenant).await?;
        let mut options = TrainOptions::new(at);
        options.horizons.clone_from(&self.options.horizons);
        options.every = self.options.every;
        options.alarm_rule = self.options.alarm_rule;
        options.in_time = true;
        let fleet = Arc::clone(&known.fleet);
        blocking(move || {
            let subjects = reading::subjects(&fleet, &histories, &extents);
            train(&fleet, &subjects, &options)
        })
        .await
    }
}
