//! `harbinger replay BUNDLE`: a bundle's past as if its devices were talking now, over real MQTT, in order of time.
//!
//! Time goes on slice by slice: what devices said in a slice is published and acknowledged, then what people recorded in it
//! is posted, and only then comes the next slice. So whoever listens never knows a later thing before an earlier one.
//! `failures.csv` is the truth that models are judged by; it is never sent.

pub(crate) mod feed;
pub(crate) mod gateway;
pub(crate) mod native;
mod pace;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration as WallDuration, Instant},
};

use anyhow::Context;
use harbinger_core::{TenantId, ids::new_id};
use tokio::task::JoinSet;

use self::{
    feed::{Feed, Piece},
    gateway::{Broker, Gateway, Tally},
    native::{Messages, connection_of},
    pace::{Pace, Speed},
};
use super::read_bundle;
use crate::{
    client::Api,
    progress::{Meter, Step},
};

/// A server that is away in the middle of a replay is waited for so long; one that is not there at the beginning is not.
const PATIENCE: WallDuration = WallDuration::from_secs(60);

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// How many times faster than it happened (3600: an hour each second), or as fast as it is acknowledged: max
    #[arg(long, value_name = "N|max", default_value = "max")]
    speed: Speed,
    /// The MQTT broker that devices talk to
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883", value_parser = broker_address)]
    broker: String,
    /// The API that devices, parts, stock and maintenance are registered with
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// API key with scopes ingest and operate; also the MQTT password
    #[arg(long, value_name = "KEY", env = "HARBINGER_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Put the bundle under this tenant: the key's [default: the tenant of the bundle's devices]
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Gateway connections that the devices share
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
}

/// Takes `mqtt://host:port` as `host:port`.
fn broker_address(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("mqtt://").ok_or("it must begin with mqtt:// (TLS is not spoken here)")?;
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', '?']) {
        return Err("it must be mqtt://HOST or mqtt://HOST:PORT".to_owned());
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:1883") })
}

/// Registers, publishes, tells what came of it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let api = Api::new(&arguments.api, arguments.key.clone(), WallDuration::from_secs(5))?;
    let mut bundle = read_bundle(&arguments.bundle)?;
    if let Some(tenant) = &arguments.tenant {
        bundle.set_tenant(tenant);
    }
    let tenant = bundle.tenant().cloned();
    let (fleet, feed) = (bundle.fleet, Feed::new(bundle.histories, bundle.consumption));
    let Some(tenant) = tenant.filter(|_| feed.readings() + feed.events() > 0) else {
        anyhow::bail!(
            "{} has neither telemetry nor events, so no device has anything to say: use harbinger import",
            arguments.bundle.display()
        );
    };
    let broker = Broker { address: arguments.broker, key: arguments.key };
    let mut fan = Fan::new(broker, usize::from(arguments.connections), feed, tenant);
    // The broker is asked before anything is written.
    fan.open().await?;
    let step = Step::begin("registering the fleet");
    api.write_fleet(&fleet).await.context("failed to register the fleet")?;
    step.done(&format!(
        "registered {} devices, {} parts, {} depots",
        fleet.devices.len(),
        fleet.parts.len(),
        fleet.depots.len()
    ));
    play(&mut fan, &api.patient(PATIENCE), arguments.speed).await
}

/// All slices, one after the other.
async fn play(fan: &mut Fan, api: &Api, speed: Speed) -> anyhow::Result<()> {
    let feed = Arc::clone(&fan.feed);
    let mut meter = Meter::begin(feed.readings() + feed.events(), "publishing");
    let mut pace = Pace::new(speed);
    let (mut maintenance, mut consumption) = (0, 0);
    let began = Instant::now();
    for slice in feed.slices(speed.slice_length()) {
        pace.wait_for(slice.last, !slice.pieces.is_empty()).await;
        fan.publish(slice.pieces).await.context("failed to publish")?;
        meter.reach(fan.tally.items.load(Ordering::Relaxed));
        if !slice.maintenance.is_empty() {
            maintenance += api.write_maintenance(&slice.maintenance).await.context("failed to record maintenance")?;
        }
        if !slice.consumption.is_empty() {
            consumption += api.write_consumption(&slice.consumption).await.context("failed to record part use")?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    fan.close().await;
    meter.clear();
    println!("{}", summary(&fan.tally, seconds));
    println!("recorded {maintenance} maintenance records, {consumption} records of part use");
    Ok(())
}

fn summary(tally: &Tally, seconds: f64) -> String {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, acknowledged, items) = (count(&tally.sent), count(&tally.acknowledged), count(&tally.items));
    let rate = acknowledged as f64 / seconds.max(1e-3);
    let again = match (count(&tally.lost), count(&tally.resent)) {
        (0, _) => String::new(),
        (lost, resent) => format!("; {lost} connections lost, {resent} messages sent again"),
    };
    format!(
        "published {items} readings and events in {sent} messages, {acknowledged} acknowledged, in {seconds:.1} s: \
         {rate:.0} messages/s{again}"
    )
}

/// The gateways, and which device speaks through which.
struct Fan {
    feed: Arc<Feed>,
    tenant: TenantId,
    /// A gateway is away while its task delivers.
    gateways: Vec<Option<Gateway>>,
    /// The gateway of each of the feed's devices.
    routes: Vec<usize>,
    tally: Arc<Tally>,
}

impl Fan {
    fn new(broker: Broker, connections: usize, feed: Feed, tenant: TenantId) -> Self {
        let (broker, tally) = (Arc::new(broker), Arc::new(Tally::default()));
        let run = new_id("replay");
        let gateway =
            |number: usize| Some(Gateway::new(Arc::clone(&broker), format!("{run}-{number}"), Arc::clone(&tally)));
        let routes = feed.devices.iter().map(|(device, _)| connection_of(device, connections)).collect();
        Self { feed: Arc::new(feed), tenant, gateways: (0..connections).map(gateway).collect(), routes, tally }
    }

    /// Connects the first gateway; the others connect when they have something to say.
    async fn open(&mut self) -> Result<(), gateway::Error> {
        match self.gateways.first_mut().and_then(Option::as_mut) {
            Some(gateway) => gateway.open().await,
            None => Ok(()),
        }
    }

    /// Publishes and returns when all of it is acknowledged.
    async fn publish(&mut self, pieces: Vec<Piece>) -> anyhow::Result<()> {
        let mut shares: Vec<Vec<Piece>> = vec![Vec::new(); self.gateways.len()];
        for piece in pieces {
            let share = self.routes.get(piece.device).and_then(|&number| shares.get_mut(number));
            share.expect("each device has a route to a gateway").push(piece);
        }
        let mut tasks = JoinSet::new();
        for (number, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            let gateway = self.gateways.get_mut(number).and_then(Option::take);
            let mut gateway = gateway.expect("all gateways are back between slices");
            let messages = Messages::new(Arc::clone(&self.feed), self.tenant.clone(), share);
            tasks.spawn(async move {
                let delivered = gateway.deliver(messages).await;
                (number, gateway, delivered)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            let (number, gateway, delivered) = ended.context("a gateway's task failed")?;
            delivered?;
            if let Some(place) = self.gateways.get_mut(number) {
                *place = Some(gateway);
            }
        }
        Ok(())
    }

    async fn close(&mut self) {
        for gateway in self.gateways.iter_mut().flatten() {
            gateway.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
