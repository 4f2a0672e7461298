//! `harbinger import BUNDLE`: a bundle in bulk through the HTTP intake, without MQTT.
//!
//! In order of time too, a day at once: the receiver's event time moves on as it would have, and what people recorded on a
//! day comes after what devices said on it.

use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harbinger_core::{Duration, TenantId};

use super::{
    read_bundle,
    replay::{
        feed::{Feed, Piece},
        native::lines,
    },
};
use crate::{
    client::{Api, IntakeReport},
    progress::{Meter, Step},
};

/// Event time that is sent before the next.
const SLICE: Duration = Duration::from_days(1);
/// A request is sent when it has so many bytes: some 20,000 readings, a quarter of the largest body.
const REQUEST_BYTES: usize = 4 << 20;
/// Requests under way at once: while one is synced to disk the next is read.
const REQUESTS: usize = 4;
/// Refused lines that are shown.
const SHOWN: usize = 5;
/// A server that is busy or away is waited for so long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// The API that takes it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// API key with scopes ingest and operate
    #[arg(long, value_name = "KEY", env = "HARBINGER_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Put the bundle under this tenant: the key's [default: the tenant of the bundle's devices]
    #[arg(long)]
    tenant: Option<TenantId>,
}

/// What was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Readings and events that are durable.
    pub(crate) accepted: u64,
    quarantined: u64,
    maintenance: u64,
    consumption: u64,
    shown: Vec<String>,
}

impl Taken {
    fn add(&mut self, report: IntakeReport) {
        self.accepted += report.accepted;
        self.quarantined += report.quarantined.len() as u64;
        let room = SHOWN.saturating_sub(self.shown.len());
        let words = report.quarantined.iter().take(room).map(|line| format!("line {}: {}", line.line, line.reason));
        self.shown.extend(words);
    }
}

/// Registers, sends, tells what came of it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let api = Api::new(&arguments.api, arguments.key, std::time::Duration::from_secs(5))?;
    let mut bundle = read_bundle(&arguments.bundle)?;
    if let Some(tenant) = &arguments.tenant {
        bundle.set_tenant(tenant);
    }
    let step = Step::begin("registering the fleet");
    api.write_fleet(&bundle.fleet).await.context("failed to register the fleet")?;
    step.done(&format!("registered {} devices, {} parts", bundle.fleet.devices.len(), bundle.fleet.parts.len()));
    send(&Feed::new(bundle.histories, bundle.consumption), &api.patient(PATIENCE)).await
}

async fn send(feed: &Feed, api: &Api) -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    let taken = hand_over(feed, api).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "imported {} readings and events in {seconds:.1} s; recorded {} maintenance records, {} records of part use",
        taken.accepted, taken.maintenance, taken.consumption
    );
    for reason in &taken.shown {
        eprintln!("quarantined: {reason}");
    }
    anyhow::ensure!(
        taken.quarantined == 0,
        "{} lines went to quarantine: see GET /api/v1/quarantine",
        taken.quarantined
    );
    Ok(())
}

/// Sends everything of a feed, a day of event time after the other.
pub(crate) async fn hand_over(feed: &Feed, api: &Api) -> anyhow::Result<Taken> {
    let mut meter = Meter::begin(feed.readings() + feed.events(), "importing");
    let mut taken = Taken::default();
    for slice in feed.slices(SLICE) {
        let requests = Requests { feed, pieces: slice.pieces.into_iter() };
        let mut reports = stream::iter(requests).map(|lines| api.send_lines(lines)).buffer_unordered(REQUESTS);
        while let Some(report) = reports.try_next().await.context("failed to hand over telemetry")? {
            taken.add(report);
            meter.reach(taken.accepted + taken.quarantined);
        }
        taken.maintenance += api.write_maintenance(&slice.maintenance).await.context("failed to record maintenance")?;
        taken.consumption += api.write_consumption(&slice.consumption).await.context("failed to record part use")?;
    }
    meter.clear();
    Ok(taken)
}

/// The bodies of one slice, written when they are asked for.
struct Requests<'a> {
    feed: &'a Feed,
    pieces: std::vec::IntoIter<Piece>,
}

impl Iterator for Requests<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut body = Vec::new();
        while body.len() < REQUEST_BYTES {
            let Some(piece) = self.pieces.next() else { break };
            lines(self.feed, &piece, &mut body);
        }
        (!body.is_empty()).then(|| body.into())
    }
}
