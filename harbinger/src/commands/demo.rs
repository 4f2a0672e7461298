//! `harbinger demo`: everything in one process on a simulated fleet in fast time.
//!
//! The service is the one that `harbinger run` starts. Beside it stand a [`driver::Driver`] - the fleet that publishes over
//! MQTT, the warehouse that ships and receives, the technician that replaces - and a [`story::Story`] that follows the
//! ledger's change feed and tells in the terminal what happens. Neither reaches around the doors that users have, but for
//! making the first keys.

mod driver;
mod fleet;
mod story;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration as WallDuration, Instant},
};

use anyhow::Context;
use harbinger_analytics::worker::{PLANNED_UNTIL, SCORED_UNTIL};
use harbinger_core::{Clock, Duration, SystemClock, TenantId, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{
        self,
        keys::{self, NewKey, Scope},
        progress,
    },
};
use tokio_util::sync::CancellationToken;

use self::{
    driver::Driver,
    fleet::{World, world},
    story::Story,
};
use crate::{
    client::Api,
    commands::import::hand_over,
    config::{Analytics, Config},
    progress::Step,
    service::Service,
    shutdown,
};

/// Where the interface and the MQTT listener usually listen.
const USUAL_API: &str = "127.0.0.1:8080";
const USUAL_MQTT: &str = "127.0.0.1:1883";
/// Event time between two scores of a device.
const SCORE_EVERY: Duration = Duration::from_hours(6);
/// Event time between two plans.
const PLAN_EVERY: Duration = Duration::from_hours(6);
/// Event time between two trainings. The service trains first on the first few failures, within the past's first three
/// days; the next training then falls near the past's end, and the one after it long after whoever watches has seen the loop.
const RETRAIN_EVERY: Duration = Duration::from_days(15);
/// How often progress through the past is looked at.
const LOOK_EVERY: WallDuration = WallDuration::from_millis(200);
/// A service that is busy is waited for so long.
const PATIENCE: WallDuration = WallDuration::from_secs(30);

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep the data in this folder, which must be empty [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the interface [default: 127.0.0.1:8080, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    api: Option<SocketAddr>,
    /// Address of the MQTT listener [default: 127.0.0.1:1883, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS")]
    mqtt: Option<SocketAddr>,
    /// The same seed gives the same fleet
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Stop after so many seconds [default: when told to]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// Shows the loop until it is told to stop.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let stop = shutdown::on_signal()?;
    if let Some(seconds) = arguments.seconds {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WallDuration::from_secs(seconds)).await;
            stop.cancel();
        });
    }
    let folder = Folder::of(arguments.data.as_deref().map(PathBuf::from))?;
    let config = settings(arguments, folder.path());
    let service = Service::start(&config).await?;
    let address = service.api_address;
    let (ledger, broker) = (service.ledger.clone(), service.mqtt_address.to_string());
    // The play ends before the service does, so that nothing it says is cut off.
    let serving = CancellationToken::new();
    let served = tokio::spawn(service.run(serving.clone()));
    let stage = Stage { seed: arguments.seed, began, address, broker, ledger };
    let played = tokio::select! {
        played = stage.play(stop) => played,
        // A service that ends first has failed, and says why below.
        () = ended(&served) => Ok(()),
    };
    serving.cancel();
    served.await.context("the service's task failed")??;
    folder.remove()?;
    played
}

/// Waits until a task has ended, however.
async fn ended<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Where the play takes place.
struct Stage {
    seed: u64,
    began: Instant,
    address: SocketAddr,
    broker: String,
    ledger: Ledger,
}

impl Stage {
    /// Registers the fleet, lets the service learn its past, then lets time go on.
    async fn play(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { seed, began, address, broker, ledger } = self;
        let World { fleet, past, maintenance, simulation } =
            tokio::task::spawn_blocking(move || world(seed)).await.context("simulating failed")??;
        let (tenant, now) = (simulation.options().tenant.clone(), simulation.now());
        let keys = make_keys(&ledger, &tenant, now - PLAN_EVERY).await?;
        let url = format!("http://{address}");
        println!("open {url}/#key={}", keys.person);
        println!("mqtt mqtt://{broker}");
        let api = Api::new(&url, Some(keys.machine.clone()), PATIENCE)?;
        let learning = async {
            api.write_fleet(&fleet).await.context("failed to register the fleet")?;
            // Before the first reading, so that the service takes it for history and no piece leaves today's shelves.
            api.write_maintenance(&maintenance).await.context("failed to record maintenance")?;
            let taken = hand_over(&past, &api).await?;
            let days = now.days_since(simulation.options().start);
            println!(
                "{} devices sent {} readings and events in {days:.0} days, in which {} parts were replaced",
                fleet.devices.len(),
                taken.accepted,
                maintenance.len()
            );
            learn(&ledger, &tenant, now).await
        };
        tokio::select! {
            learnt = learning => learnt?,
            () = stop.cancelled() => return Ok(()),
        }
        let (told, happenings) = tokio::sync::mpsc::unbounded_channel();
        let story = Story::begin(ledger.clone(), tenant, happenings, url, (now, began)).await?;
        let acting = stop.child_token();
        let telling = tokio::spawn(story.run(acting.clone()));
        let driver = Driver::new(simulation, fleet, api, ledger, (broker, keys.machine), told);
        let driven = driver.run(acting.clone()).await;
        acting.cancel();
        telling.await.context("telling the story failed")??;
        driven
    }
}

/// Waits until the service has walked the past up to `now`.
async fn learn(ledger: &Ledger, tenant: &TenantId, now: Timestamp) -> anyhow::Result<()> {
    let step = Step::begin("learning from it");
    while scored_until(ledger, tenant).await?.is_none_or(|scored| scored + SCORE_EVERY < now) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    step.done("learnt from it; time goes on");
    Ok(())
}

/// Event time up to which the service has scored.
async fn scored_until(ledger: &Ledger, tenant: &TenantId) -> Result<Option<Timestamp>, ledger::Error> {
    let mut read = ledger.read().await?;
    Ok(progress::get(&mut read, tenant, SCORED_UNTIL).await?.map(Timestamp::from_millis))
}

/// The keys of the demonstration.
struct Keys {
    /// For whoever opens the link.
    person: String,
    /// For the fleet and whoever works on it.
    machine: String,
}

/// Makes the tenant's keys, and notes that plans were made up to `planned`: those of the past would send pieces to devices
/// that were mended long ago.
async fn make_keys(ledger: &Ledger, tenant: &TenantId, planned: Timestamp) -> Result<Keys, ledger::Error> {
    let now = SystemClock.now();
    let mut tx = ledger.write().await?;
    let person = NewKey { name: "console", scopes: &[Scope::Admin], expires_wall: None };
    let machine = NewKey { name: "fleet and depots", scopes: &[Scope::Ingest, Scope::Operate], expires_wall: None };
    let (person, _) = keys::create(&mut tx, tenant, &person, now).await?;
    let (machine, _) = keys::create(&mut tx, tenant, &machine, now).await?;
    progress::set(&mut tx, tenant, PLANNED_UNTIL, planned.millis()).await?;
    tx.commit().await?;
    Ok(Keys { person: person.reveal().to_owned(), machine: machine.reveal().to_owned() })
}

/// The service's settings: in fast time plans are made more often, and a policy approves what a plan wants.
fn settings(arguments: &Arguments, folder: PathBuf) -> Config {
    let mut config = Config::default();
    config.data.folder = folder;
    config.api.address = address(arguments.api, USUAL_API);
    config.ingest.mqtt.address = address(arguments.mqtt, USUAL_MQTT);
    config.analytics = Analytics {
        every: Some(SCORE_EVERY),
        // Parts are on the way for a day or so: the main horizon must leave them the time.
        horizons: vec![Duration::from_days(3)],
        plan_every: PLAN_EVERY,
        retrain_every: RETRAIN_EVERY,
        ..Analytics::default()
    };
    config.orders.approve_transfers_up_to = f64::MAX;
    config.orders.approve_purchases_up_to = f64::MAX;
    // So that a person can point a webhook at the same machine and watch.
    config.webhooks.allow_private = true;
    config.webhooks.allow_http = true;
    config
}

/// The address that was asked for, else the usual one, else a free port.
fn address(asked: Option<SocketAddr>, usual: &str) -> SocketAddr {
    let usual: SocketAddr = usual.parse().expect("the usual addresses are literals");
    asked.unwrap_or_else(|| match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::new(usual.ip(), 0),
    })
}

/// Where the demonstration keeps its data.
enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn of(kept: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(folder) = kept else {
            let folder = tempfile::Builder::new().prefix("harbinger-demo-").tempdir();
            return Ok(Self::Temporary(folder.context("failed to make a temporary folder")?));
        };
        fs_err::create_dir_all(&folder)?;
        anyhow::ensure!(
            fs_err::read_dir(&folder)?.next().is_none(),
            "{} is not empty: look at what it holds with harbinger run --data {0}, or name an empty folder",
            folder.display()
        );
        Ok(Self::Kept(folder))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Kept(folder) => folder.clone(),
            Self::Temporary(folder) => folder.path().to_owned(),
        }
    }

    /// Removes what is temporary; one that is dropped before is removed too, in silence.
    fn remove(self) -> anyhow::Result<()> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::Temporary(folder) => folder.close().context("failed to remove the temporary folder"),
        }
    }
}
