//! The running service: stores, intake, analytics, alerts and interface in one process.
//!
//! [`Service::start`] opens and wires everything and returns when both listeners accept; [`Service::run`] works until it is
//! told to stop, then stops in the order that loses nothing: intake first, then what reads, the stores last.

mod conduct;
mod control;
mod decisions;
mod gate;
mod leases;
mod retention;
mod spool;
mod standing;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use harbinger_alerts::{
    Alerts,
    webhook::{Guard, delivery},
};
use harbinger_analytics::worker;
use harbinger_api::{ApiState, Erasure, Parts, Readiness};
use harbinger_core::{Clock, SystemClock};
use harbinger_ingest::{Pipeline, consumer::Consumer, http::IngestTenant, mqtt::Listener};
use harbinger_store::{
    Ledger,
    ledger::{self, Url, keys::Scope},
    telemetry::{self, EmbeddedStore, SharedStore, SpooledStore},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use conduct::{Conductor, Policy};
use control::{EventTimes, OpenedModels, ServiceControl};
use leases::Leases;
use spool::SpoolMetrics;

/// How long stopping may take before the process ends anyway: the log makes that safe.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(9);

/// Of that, how long requests under way may take; what is still open then - a client that never sent its request - is cut.
const DOORS_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// The telemetry file in a data folder or a backup of one.
pub(crate) const TELEMETRY_FILE: &str = "telemetry.db";
/// The ledger there, unless a server keeps it.
pub(crate) const LEDGER_FILE: &str = "ledger.db";
/// The folder of model files there.
pub(crate) const MODELS_FOLDER: &str = "models";

/// Names and handles of what runs.
pub(crate) struct Service {
    /// Where the interface listens.
    pub(crate) api_address: SocketAddr,
    /// Where the MQTT listener listens.
    pub(crate) mqtt_address: SocketAddr,
    /// The ledger, for whoever runs beside.
    pub(crate) ledger: Ledger,
    telemetry: SharedStore,
    interface: ApiState,
    /// Stops intake and the interface.
    stop_doors: CancellationToken,
    /// Stops what works on what was taken in.
    stop_rooms: CancellationToken,
    /// Gives back what this process alone was to do.
    stop_leases: CancellationToken,
    doors: Vec<(&'static str, JoinHandle<()>)>,
    rooms: Vec<(&'static str, JoinHandle<()>)>,
    keepers: Vec<(&'static str, JoinHandle<()>)>,
}

/// Where data lies: paths inside the data folder, and the ledger, which may be elsewhere.
pub(crate) struct DataFolder {
    /// The telemetry file.
    pub(crate) telemetry: PathBuf,
    /// The ledger.
    pub(crate) ledger: Url,
    /// The folder of model files.
    pub(crate) models: PathBuf,
}

impl DataFolder {
    /// The paths of a data folder, which may not be there.
    pub(crate) fn of(config: &Config) -> Self {
        let folder = &config.data.folder;
        Self {
            telemetry: folder.join(TELEMETRY_FILE),
            ledger: match &config.ledger.url {
                url if url.is_empty() => Url::of_file(&folder.join(LEDGER_FILE)),
                url => url.clone(),
            },
            models: folder.join(MODELS_FOLDER),
        }
    }

    /// The paths of a data folder, which is made where it is missing.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        fs_err::create_dir_all(&config.data.folder)?;
        Ok(Self::of(config))
    }
}

impl Service {
    /// Opens the stores, binds the listeners and starts every task.
    pub(crate) async fn start(config: &Config) -> anyhow::Result<Self> {
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let folder = DataFolder::open(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let telemetry = open_telemetry(config, folder.telemetry.clone(), &clock).await?;
        let ledger = Ledger::connect(&folder.ledger).await.map_err(with_remedy)?;
        let leases = Leases::of(&ledger, &clock, config.ledger.lease);
        let mut registry = prometheus_client::registry::Registry::default();
        let spool = SpoolMetrics::register(&mut registry);
        let alerts_metrics = harbinger_alerts::Metrics::register(&mut registry);
        let alerts = Alerts::new(config.alerts.hysteresis(), Arc::clone(&clock), alerts_metrics.clone());
        let erasure = Erasure {
            ledger: ledger.clone(),
            telemetry: Arc::clone(&telemetry),
            alerts: alerts.clone(),
            clock: Arc::clone(&clock),
        };
        // Before anything else may ask for it or report.
        let erased = erasure.finish_pending().await?;
        if erased > 0 {
            tracing::info!(erased, "devices whose deletion was interrupted are gone");
        }
        let registrar = Arc::new(gate::LedgerRegistrar::new(ledger.clone()));
        let pipeline =
            Pipeline::new(config.ingest.pipeline.clone(), Arc::clone(&telemetry), Arc::clone(&clock), registrar);
        pipeline.metrics().register(&mut registry);
        let guard = Guard { allow_private: config.webhooks.allow_private, allow_http: config.webhooks.allow_http };
        let deliverer = delivery::Deliverer::build(
            leases::delivery_options(guard, ledger.engine(), config.ledger.lease),
            ledger.clone(),
            leases.webhooks.clone(),
            Arc::clone(&clock),
            jitter(),
            alerts_metrics,
        )?;
        let event_times = Arc::new(EventTimes::default());
        let (orders, commands) = tokio::sync::mpsc::channel(16);
        let control = Arc::new(ServiceControl {
            telemetry: Arc::clone(&telemetry),
            pipeline: pipeline.clone(),
            alerts: alerts.clone(),
            clock: Arc::clone(&clock),
            event_times: Arc::clone(&event_times),
            commands: orders,
            deliverer: deliverer.handle(),
            models: Arc::new(OpenedModels::new(folder.models.clone())),
            ledger: ledger.clone(),
            return_within: config.orders.return_within,
        });
        let readiness = Arc::new(Readiness::default());
        let state = ApiState::new(Parts {
            ledger: ledger.clone(),
            telemetry: Arc::clone(&telemetry),
            clock: Arc::clone(&clock),
            control,
            alerts: alerts.clone(),
            webhook_guard: guard,
            serials_from: config.orders.serials_from,
            readiness: Arc::clone(&readiness),
            registry,
        });
        let conductor = Conductor {
            worker: worker::Worker::new(Arc::clone(&telemetry), ledger.clone(), worker_options(config, folder.models)),
            telemetry: Arc::clone(&telemetry),
            ledger: ledger.clone(),
            lease: leases.analytics.clone(),
            alerts,
            erasure,
            clock: Arc::clone(&clock),
            policy: Policy::of(&config.orders, &config.plan),
            event_times,
            commands,
            streams: state.waker(),
            deliverer: deliverer.handle(),
            quiet_after: std_duration(config.analytics.quiet_after),
        };

        let listener = Listener::bind(
            config.ingest.mqtt.clone(),
            pipeline.clone(),
            Arc::new(gate::Gate::new(ledger.clone(), Arc::clone(&clock))),
        )
        .await?;
        let mqtt_address = listener.address();
        let socket = TcpListener::bind(config.api.address)
            .await
            .with_context(|| format!("failed to listen on {}", config.api.address))?;
        let api_address = socket.local_addr()?;
        let intake = harbinger_ingest::http::router(pipeline.clone(), &config.ingest.http)
            .layer(axum::middleware::map_request(name_tenant))
            .layer(axum::middleware::from_fn_with_state(
                harbinger_api::Authorize::new(state.clone(), Scope::Ingest),
                harbinger_api::authorize,
            ))
            .layer(axum::middleware::map_request(harbinger_ingest::http::influx_credentials));
        let interface = state.clone();
        let router = harbinger_api::app_with(state, intake, Some(harbinger_api::intake_description()));

        let [stop_doors, stop_rooms, stop_leases] = [(); 3].map(|()| CancellationToken::new());
        let mut doors = vec![("mqtt", tokio::spawn(listener.run(stop_doors.clone())))];
        for options in &config.ingest.consumers {
            let consumer = Consumer::new(options.clone(), pipeline.clone())?;
            doors.push(("consumer", tokio::spawn(consumer.run(stop_doors.clone()))));
        }
        let stop = stop_doors.clone();
        doors.push((
            "api",
            tokio::spawn(async move {
                let served = axum::serve(socket, router).with_graceful_shutdown(async move { stop.cancelled().await });
                if let Err(error) = served.await {
                    tracing::error!(%error, "the interface stopped");
                }
            }),
        ));
        let keeper = retention::Keeper {
            telemetry: Arc::clone(&telemetry),
            ledger: ledger.clone(),
            clock: Arc::clone(&clock),
            retention: config.telemetry.retention.clone(),
        };
        let spooling = spool.follow(Arc::clone(&telemetry), clock, stop_rooms.clone());
        let rooms = vec![
            ("retention", tokio::spawn(keeper.run(stop_rooms.clone()))),
            ("spool", tokio::spawn(spooling)),
            ("webhooks", tokio::spawn(deliverer.run(stop_rooms.clone()))),
            ("analytics", tokio::spawn(conductor.run(stop_rooms.clone()))),
        ];
        let keepers = leases.keep(&stop_leases);
        for part in ["telemetry", "ledger", "mqtt", "analytics"] {
            readiness.set(part, Ok(()));
        }
        Ok(Self {
            api_address,
            mqtt_address,
            ledger,
            telemetry,
            interface,
            stop_doors,
            stop_rooms,
            stop_leases,
            doors,
            rooms,
            keepers,
        })
    }

    /// Works until `shutdown`, or until a task ends that should not have; then stops in order.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            ledger,
            telemetry,
            interface,
            stop_doors,
            stop_rooms,
            stop_leases,
            mut doors,
            mut rooms,
            keepers,
            ..
        } = self;
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            name = first_to_end(&mut doors) => Some(name),
            name = first_to_end(&mut rooms) => Some(name),
        };
        tracing::info!("stopping");
        let stopping = async {
            stop_doors.cancel();
            interface.end_streams();
            if tokio::time::timeout(DOORS_WITHIN, finish(doors)).await.is_err() {
                tracing::info!("some connections are still open and are cut");
            }
            stop_rooms.cancel();
            finish(rooms).await;
            stop_leases.cancel();
            finish(keepers).await;
            if let Err(error) = telemetry.close().await {
                tracing::error!(%error, "the telemetry store did not close; it recovers at the next start");
            }
            ledger.close().await;
        };
        if tokio::time::timeout(STOP_WITHIN, stopping).await.is_err() {
            tracing::warn!("stopping took too long; what was acknowledged is on disk");
        }
        tracing::info!("stopped");
        match failed {
            None => Ok(()),
            Some(name) => anyhow::bail!("task {name} ended by itself"),
        }
    }
}

/// The data folder, or the data folder as the spool before a server.
async fn open_telemetry(config: &Config, path: PathBuf, clock: &Arc<dyn Clock>) -> anyhow::Result<SharedStore> {
    let local = telemetry::Options::at(path);
    match config.telemetry.connect()? {
        Some(remote) => {
            tracing::info!(server = remote.server(), "readings are sent on; the data folder is their spool");
            Ok(SpooledStore::open(local, remote, Arc::clone(clock), config.telemetry.spool()).await?)
        }
        None => Ok(tokio::task::spawn_blocking(move || EmbeddedStore::open(local)).await??),
    }
}

fn with_remedy(error: ledger::Error) -> anyhow::Error {
    if error.tells_of_damage() {
        let remedy = "the ledger is damaged: make a new data folder from a backup with harbinger restore";
        return anyhow::Error::from(error).context(remedy);
    }
    error.into()
}

async fn first_to_end(tasks: &mut [(&'static str, JoinHandle<()>)]) -> &'static str {
    let names: Vec<&'static str> = tasks.iter().map(|(name, _)| *name).collect();
    let (_, place, _) = futures::future::select_all(tasks.iter_mut().map(|(_, task)| task)).await;
    names.get(place).copied().unwrap_or("unknown")
}

async fn finish(tasks: Vec<(&'static str, JoinHandle<()>)>) {
    for (name, task) in tasks {
        if task.is_finished() {
            continue;
        }
        if let Err(error) = task.await {
            tracing::error!(%error, name, "a task ended badly");
        }
    }
}

/// The interface's authentication knows the tenant by its own name; intake asks for it under another.
async fn name_tenant(mut request: axum::extract::Request) -> axum::extract::Request {
    if let Some(tenant) = request.extensions().get::<harbinger_core::TenantId>().cloned() {
        request.extensions_mut().insert(IngestTenant(tenant));
    }
    request
}

fn worker_options(config: &Config, models: PathBuf) -> worker::Options {
    worker::Options {
        retrain_every: config.analytics.retrain_every,
        shadow: config.analytics.shadow,
        plan_every: config.analytics.plan_every,
        horizons: config.analytics.horizons.clone(),
        every: config.analytics.every,
        alarm_rule: config.analytics.alarms,
        plan: config.plan.options(),
        ..worker::Options::new(models)
    }
}

fn std_duration(length: harbinger_core::Duration) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(length.millis()).unwrap_or(0))
}

/// Jitter of retries, which must not repeat from process to process.
fn jitter() -> ChaCha8Rng {
    let now = u64::try_from(SystemClock.now().millis()).unwrap_or(0);
    ChaCha8Rng::seed_from_u64(now ^ (u64::from(std::process::id()) << 32))
}
