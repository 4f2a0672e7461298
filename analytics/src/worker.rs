//! The worker: walks a tenant's event time step by step and says what it found.
//!
//! One step of the grid is one [`Cycle`]: read what is known at *t* from the stores, train where it is due, score, plan
//! where it is due. The worker writes nothing but model files; whoever runs it applies a cycle in one transaction and the
//! progress with it, so that a crash repeats the cycle and finds the same.
//!
//! **Invariant**: a cycle at *t* is a function of what the stores hold at or before *t*; wall time is not read here.

mod event_time;
mod outcomes;
mod planning;
mod reading;
mod roles;
mod scoreboard;
mod shadow;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use harbinger_core::{DeviceId, Duration, TenantId, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{self, Connection, progress},
    telemetry::{self, DeviceExtent, SharedStore},
};

use crate::{
    failure::{
        self, AlarmRule, Drift, Model, Prediction, Subject, default_every, drift, explain,
        onnx::{self, Card, Later},
        score_with_basis,
    },
    features::cadence,
    plan::{Newest, Plan, PlanOptions},
};
use outcomes::Told;
use reading::Known;
use roles::Roles;

pub use event_time::watermark;
pub use roles::Trained;
pub use scoreboard::{examples, scoreboard};
pub use shadow::{Verdict, comparison};

/// Name of the progress of scoring: event time up to which every step is done.
pub const SCORED_UNTIL: &str = "scored_until";
/// Name of the progress of planning.
pub const PLANNED_UNTIL: &str = "planned_until";
/// Name of the progress of training: event time of the last one.
pub const TRAINED_UNTIL: &str = "trained_until";
/// Failures that the last training knew.
pub const TRAINED_FAILURES: &str = "trained_failures";

/// 1 where the last plan's predictions showed drift, 0 where they did not.
pub const DRIFTED: &str = "drifted";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of model files; a model lies in `{tenant}/{version}`.
    pub models: PathBuf,
    /// Event time between two trainings while failures keep coming.
    pub retrain_every: Duration,
    /// Event time between two plans.
    pub plan_every: Duration,
    /// Horizons, the main one first; by the fleet's cadence where there are none.
    pub horizons: Vec<Duration>,
    /// Time between two scores of a device; by the fleet's cadence where `None`.
    pub every: Option<Duration>,
    /// From which probability on to alarm.
    pub alarm_rule: AlarmRule,
    /// Failures from which on a model is worth training before `retrain_every` has passed.
    pub first_labels: usize,
    /// A device that paused gets its missed scores when it speaks again, but none older than this.
    pub backfill: Duration,
    /// How to plan.
    pub plan: PlanOptions,
    /// Whether a new model first scores in shadow, beside the champion, until the truth of `retrain_every` is known.
    pub shadow: bool,
}

impl Options {
    /// The usual options.
    #[must_use]
    pub fn new(models: PathBuf) -> Self {
        Self {
            models,
            retrain_every: Duration::from_days(7),
            plan_every: Duration::from_days(1),
            horizons: Vec::new(),
            every: None,
            alarm_rule: AlarmRule::Balanced,
            first_labels: 5,
            backfill: Duration::from_days(30),
            plan: PlanOptions::default(),
            shadow: true,
        }
    }
}

/// What the worker could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The telemetry store.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// A model file.
    #[error(transparent)]
    Model(#[from] failure::Error),
    /// A classifier from elsewhere.
    #[error(transparent)]
    Onnx(#[from] onnx::Error),
    /// More was asked for than is judged at once.
    #[error("the span has more than {most} predictions: ask for a shorter one with from and to")]
    TooMany {
        /// Most predictions of a span.
        most: usize,
    },
    /// A computation ended without a result.
    #[error("a computation of the worker panicked")]
    Panicked,
}

/// What one step of event time found.
#[derive(Debug)]
pub struct Cycle {
    /// Whose.
    pub tenant: TenantId,
    /// Event time of the step.
    pub at: Timestamp,
    /// The model that scored.
    pub model: Arc<Model>,
    /// What was found of the challenger, where its time in shadow ended in this step.
    pub verdict: Option<Verdict>,
    /// The model that was trained in this step; its file is written, its row is not.
    pub trained: Option<Trained>,
    /// The model that scored in shadow, and what it said.
    pub shadow: Option<(Arc<Model>, Vec<Prediction>)>,
    /// Predictions at `at`, and those that a device missed while it paused.
    pub predictions: Vec<Prediction>,
    /// The plan, where one was due.
    pub plan: Option<Plan>,
    /// Components whose rows are no longer like those that the model learnt from; looked at where a plan is made.
    pub drift: Vec<Drift>,
    /// Whether there was no drift when it was last looked at.
    pub drift_is_new: bool,
}

impl Cycle {
    /// Writes how far this cycle has come; belongs into the transaction that applies the rest of it.
    ///
    /// # Errors
    /// [`ledger::Error`].
    pub async fn record_progress(&self, connection: &mut Connection) -> Result<(), ledger::Error> {
        let mut marks = vec![(SCORED_UNTIL, self.at.millis())];
        if self.plan.is_some() {
            marks.push((PLANNED_UNTIL, self.at.millis()));
            marks.push((DRIFTED, i64::from(!self.drift.is_empty())));
        }
        if let Some(trained) = &self.trained {
            marks.push((TRAINED_UNTIL, self.at.millis()));
            marks.push((TRAINED_FAILURES, i64::try_from(trained.failures).unwrap_or(i64::MAX)));
        }
        for (name, value) in marks {
            progress::set(&mut *connection, &self.tenant, name, value).await?;
        }
        Ok(())
    }
}

/// Where a tenant stands between cycles; all of it can be made again from the stores.
#[derive(Debug, Default)]
struct Standing {
    champion: Option<Arc<Model>>,
    challenger: Option<Arc<Model>>,
    /// Event time of each device's last reading when the last cycle ran.
    last_readings: HashMap<DeviceId, Timestamp>,
}

/// Walks event time for tenants.
pub struct Worker {
    store: SharedStore,
    ledger: Ledger,
    options: Options,
    standing: HashMap<TenantId, Standing>,
}

impl Worker {
    /// A worker on these stores.
    #[must_use]
    pub fn new(store: SharedStore, ledger: Ledger, options: Options) -> Self {
        Self { store, ledger, options, standing: HashMap::new() }
    }

    /// Forgets what is held of a tenant between cycles: after its model was changed by somebody else, or after a cycle
    /// could not be applied.
    pub fn forget(&mut self, tenant: &TenantId) {
        self.standing.remove(tenant);
    }

    /// The next step of a tenant's event time, or `None` where its devices have not come far enough.
    ///
    /// * `quiet`: nothing has arrived for a while, so the newest step counts as complete although no later reading says so.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn next(&mut self, tenant: &TenantId, quiet: bool) -> Result<Option<Cycle>, Error> {
        let extents = self.store.extents(tenant).await?;
        let Some(watermark) = watermark(&extents) else { return Ok(None) };
        let Some((at, every)) = self.next_step(tenant, &extents).await? else { return Ok(None) };
        if at > watermark || (at == watermark && !quiet) {
            return Ok(None);
        }
        let known = Known::load(&self.ledger, tenant, at).await?;
        let Roles { champion: model, challenger, verdict, trained } = self.roles_at(tenant, &known, at).await?;
        let scorers: Vec<Arc<Model>> = std::iter::once(&model).chain(&challenger).cloned().collect();
        let mut said = self.score_at(tenant, &known, &extents, scorers, at, every).await?.into_iter();
        let mut predictions = said.next().unwrap_or_default();
        let shadow = challenger.as_ref().zip(said.next()).map(|(challenger, mut said)| {
            // What it learnt from it cannot be tried on.
            said.retain(|prediction| prediction.ts > challenger.trained_until);
            (Arc::clone(challenger), said)
        });
        let (plan, drift) = if self.plan_is_due(tenant, at, &predictions).await? {
            let newest = predictions.iter().filter(|p| p.ts == at).map(Newest::of).collect();
            let reported = extents.iter().map(|extent| extent.device.clone()).collect();
            let told = outcomes::outcomes(&self.ledger, tenant, &known, &model, at).await?;
            let options = self.plan_options(&told);
            let plan = planning::plan_at(&self.ledger, tenant, &known, &model, (newest, reported), options, at).await?;
            (Some(plan), drift(&model, &predictions, &told.by_component))
        } else {
            (None, Vec::new())
        };
        let drift_is_new = !drift.is_empty() && !has_drifted(&mut *self.ledger.read().await?, tenant).await?;
        let behind_orders = plan.as_ref().map(predictions_behind).unwrap_or_default();
        explain(&model, &mut predictions, |p| behind_orders.contains(&p.id()));
        let standing = self.standing.entry(tenant.clone()).or_default();
        standing.champion = Some(Arc::clone(&model));
        standing.challenger = challenger;
        standing.last_readings = extents.iter().filter_map(|e| Some((e.device.clone(), e.readings?.1))).collect();
        let tenant = tenant.clone();
        Ok(Some(Cycle { tenant, at, model, verdict, trained, shadow, predictions, plan, drift, drift_is_new }))
    }

    /// A plan as of an event time, from the newest predictions at or before it; `None` where there are none yet.
    ///
    /// * `as_of`: event time; the last scored step where `None`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn plan_now(&mut self, tenant: &TenantId, as_of: Option<Timestamp>) -> Result<Option<Plan>, Error> {
        let mut read = self.ledger.read().await?;
        let scored = progress::get(&mut read, tenant, SCORED_UNTIL).await?.map(Timestamp::from_millis);
        drop(read);
        let (Some(scored), Some(model)) = (scored, self.champion(tenant).await?) else { return Ok(None) };
        let at = as_of.unwrap_or(scored);
        let known = Known::load(&self.ledger, tenant, at).await?;
        let predictions = reading::newest_predictions(&self.ledger, tenant, at, model.every).await?;
        if predictions.is_empty() {
            return Ok(None);
        }
        let reported = self.store.extents(tenant).await?.into_iter().map(|extent| extent.device).collect();
        let told = outcomes::outcomes(&self.ledger, tenant, &known, &model, at).await?;
        let options = self.plan_options(&told);
        planning::plan_at(&self.ledger, tenant, &known, &model, (predictions, reported), options, at).await.map(Some)
    }

    /// How to plan by forecasts of which so much came.
    fn plan_options(&self, told: &Told) -> PlanOptions {
        let plan = &self.options.plan;
        PlanOptions { common_factors: told.common_factors(plan.common_factor), ..plan.clone() }
    }

    /// A model trained on everything known at the last scored step, its file written; `None` where nothing was scored yet.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn train_now(&mut self, tenant: &TenantId) -> Result<Option<Trained>, Error> {
        let mut read = self.ledger.read().await?;
        let scored = progress::get(&mut read, tenant, SCORED_UNTIL).await?.map(Timestamp::from_millis);
        drop(read);
        let Some(at) = scored else { return Ok(None) };
        let known = Known::load(&self.ledger, tenant, at).await?;
        let champion = self.champion(tenant).await?;
        self.train(tenant, &known, champion.as_deref(), at).await.map(Some)
    }

    /// The tenant's champion with a classifier from elsewhere in the place of a ranker, its file written; what came after the
    /// classifier's training, until the last scored step, calibrates it. `None` where nothing was scored yet.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Onnx`] says what does not fit and what to do.
    pub async fn import_onnx(
        &mut self,
        tenant: &TenantId,
        file: Vec<u8>,
        card: Card,
    ) -> Result<Option<Arc<Model>>, Error> {
        let mut read = self.ledger.read().await?;
        let scored = progress::get(&mut read, tenant, SCORED_UNTIL).await?.map(Timestamp::from_millis);
        drop(read);
        let (Some(until), Some(champion)) = (scored, self.champion(tenant).await?) else { return Ok(None) };
        let known = Known::load(&self.ledger, tenant, until).await?;
        let histories = reading::histories(&self.store, tenant, &known, Timestamp::MIN, until).await?;
        let extents = self.store.extents(tenant).await?;
        let fleet = Arc::clone(&known.fleet);
        let model = blocking(move || {
            let subjects = reading::subjects(&fleet, &histories, &extents);
            let later = Later { fleet: &fleet, subjects: &subjects, until };
            Model::clone(&champion).with_onnx(file, card, Some(later))
        })
        .await??;
        self.save(tenant, model).await.map(Some)
    }

    /// The time of the next cycle and the step of the grid.
    async fn next_step(
        &mut self,
        tenant: &TenantId,
        extents: &[DeviceExtent],
    ) -> Result<Option<(Timestamp, Duration)>, Error> {
        let mut read = self.ledger.read().await?;
        let scored = progress::get(&mut read, tenant, SCORED_UNTIL).await?.map(Timestamp::from_millis);
        drop(read);
        if let (Some(scored), Some(model)) = (scored, self.champion(tenant).await?) {
            return Ok(Some((scored + model.every, model.every)));
        }
        // The first step of all, or of a process that goes on with what another began: how often the fleet reports has to be
        // seen before it can be walked.
        let keys = reading::first_devices(tenant, extents);
        let sample = self.store.scan_many(keys, harbinger_core::TimeRange::ALL).await?;
        let Some(cadence) = cadence(sample.iter().map(|readings| readings.times.as_slice())) else { return Ok(None) };
        let every = self.options.every.unwrap_or_else(|| default_every(cadence));
        if let Some(scored) = scored {
            return Ok(Some((scored + every, every)));
        }
        let Some(first) = extents.iter().map(|extent| extent.first).min() else { return Ok(None) };
        let two_readings = Duration::from_millis(2 * cadence.millis());
        Ok(Some(((first + two_readings).ceil_to(every), every)))
    }

    /// What each model says of the steps that are due at `at`; the telemetry is read once for all of them.
    async fn score_at(
        &self,
        tenant: &TenantId,
        known: &Known,
        extents: &[DeviceExtent],
        models: Vec<Arc<Model>>,
        at: Timestamp,
        every: Duration,
    ) -> Result<Vec<Vec<Prediction>>, Error> {
        let none = HashMap::new();
        let before = self.standing.get(tenant).map_or(&none, |standing| &standing.last_readings);
        let backfill = self.options.backfill;
        let since = |device: &DeviceId| match before.get(device) {
            // Everything up to its last reading was scored; what lies between that and this step was not.
            Some(&last) => last.floor_to(every).max(at - backfill).min(at - every),
            None => at - every,
        };
        let paused = |e: &&DeviceExtent| before.contains_key(&e.device) && e.readings.is_some_and(|r| r.1 >= at);
        let earliest = extents.iter().filter(paused).map(|e| since(&e.device)).min().unwrap_or(at - every);
        let longest =
            |length: fn(&Model) -> Duration| models.iter().map(|model| length(model)).max().unwrap_or_default();
        let from = earliest + every - longest(Model::lookback);
        let mut histories = reading::histories(&self.store, tenant, known, from, at).await?;
        let baseline = longest(Model::baseline);
        reading::prepend_baselines(&self.store, tenant, &mut histories, extents, from, baseline).await?;
        let since: HashMap<DeviceId, Timestamp> =
            known.fleet.devices.iter().map(|d| (d.device.clone(), since(&d.device))).collect();
        let fleet = Arc::clone(&known.fleet);
        let extents = extents.to_vec();
        blocking(move || {
            let subjects = reading::subjects(&fleet, &histories, &extents);
            let due = |subject: &Subject<'_>| due_times(subject, &since, at, every);
            models.iter().map(|model| score_with_basis(model, &fleet, &subjects, due)).collect()
        })
        .await
    }

    async fn plan_is_due(&self, tenant: &TenantId, at: Timestamp, predictions: &[Prediction]) -> Result<bool, Error> {
        if predictions.is_empty() {
            return Ok(false);
        }
        let mut read = self.ledger.read().await?;
        let planned = progress::get(&mut read, tenant, PLANNED_UNTIL).await?;
        Ok(planned.is_none_or(|planned| Timestamp::from_millis(planned) + self.options.plan_every <= at))
    }
}

/// Whether there was drift when it was last looked at.
async fn has_drifted(connection: &mut Connection, tenant: &TenantId) -> Result<bool, ledger::Error> {
    Ok(progress::get(connection, tenant, DRIFTED).await? == Some(1))
}

/// Ids of the predictions that a plan's orders name as their reasons.
fn predictions_behind(plan: &Plan) -> HashSet<String> {
    plan.orders().into_iter().flat_map(|order| order.reasons).filter_map(|reason| reason.prediction_id).collect()
}

/// The steps at which a subject is scored in the cycle at `at`.
fn due_times(
    subject: &Subject<'_>,
    since: &HashMap<DeviceId, Timestamp>,
    at: Timestamp,
    every: Duration,
) -> Vec<Timestamp> {
    let (Some(observed), Some(&since)) = (subject.observed, since.get(&subject.device.device)) else {
        return Vec::new();
    };
    if at > observed.until {
        return Vec::new();
    }
    let first = (since + every).max(observed.from.ceil_to(every));
    std::iter::successors(Some(first), |&t| Some(t + every)).take_while(|&t| t <= at).collect()
}

/// Runs a computation where it may take long.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)
}
