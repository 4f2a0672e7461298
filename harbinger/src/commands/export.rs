//! `harbinger export --out FOLDER`: what a tenant has, as a fleet bundle that `import` and `replay` take again or as Parquet
//! files.
//!
//! Pages go from the API through a short channel to the writer: what an export takes of memory does not grow with the fleet's
//! past. The folder gets its name when everything is in it and on disk.

mod pages;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Context;
use futures::{StreamExt as _, TryStreamExt as _};
use harbinger_bundle::write::{FleetWriter, Format};
use harbinger_core::{
    DeviceEvent, DeviceId, TenantId, Timestamp,
    fleet::{Consumption, Fleet, Maintenance},
};
use tokio::sync::mpsc;

use crate::{
    client::{Api, ReadingItem},
    progress::{Meter, Step},
    staging::Staged,
};

/// Pages that are read and not yet written.
const PAGES_AHEAD: usize = 4;
/// A server that is busy is waited for so long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The API to read from
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// API key with scope read; its tenant is exported
    #[arg(long, value_name = "KEY", env = "HARBINGER_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Folder to write, which must be empty or not there; it appears when it is whole
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Files::Bundle)]
    format: Files,
    /// First instant of telemetry, events, maintenance and part use [default: all]
    #[arg(long, value_name = "TS")]
    from: Option<Timestamp>,
    /// First instant after [default: all]
    #[arg(long, value_name = "TS")]
    to: Option<Timestamp>,
    /// Only these devices, with the whole registry of models, parts and depots
    #[arg(long, value_name = "D", num_args = 1..)]
    device: Vec<DeviceId>,
}

/// What an export consists of.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Files {
    /// A fleet bundle: CSV files, for import, replay and training
    Bundle,
    /// The same tables as Parquet files, for pandas, DuckDB and the like
    Parquet,
}

impl From<Files> for Format {
    fn from(files: Files) -> Self {
        match files {
            Files::Bundle => Self::Bundle,
            Files::Parquet => Self::Parquet,
        }
    }
}

/// A span of time as query parameters.
#[derive(Debug, Clone)]
struct Span {
    from: Timestamp,
    to: Option<Timestamp>,
}

impl Span {
    fn query(&self) -> Vec<(&'static str, String)> {
        let from = ("from", self.from.to_string());
        std::iter::once(from).chain(self.to.map(|to| ("to", to.to_string()))).collect()
    }

    /// What an export says of itself.
    fn facts(&self, tenant: Option<&TenantId>) -> Vec<(String, String)> {
        let fact = |key: &str, value: String| (format!("harbinger.{key}"), value);
        let mut facts = vec![fact("version", env!("CARGO_PKG_VERSION").to_owned())];
        facts.extend(tenant.map(|tenant| fact("tenant", tenant.to_string())));
        facts.extend((self.from > Timestamp::MIN).then(|| fact("from", self.from.to_string())));
        facts.extend(self.to.map(|to| fact("to", to.to_string())));
        facts
    }
}

/// What goes to the writer.
enum Page {
    Readings(DeviceId, Vec<ReadingItem>),
    Events(Vec<DeviceEvent>),
    Maintenance(Vec<Maintenance>),
    Consumption(Vec<Consumption>),
}

/// What was written.
#[derive(Debug, Default)]
struct Written {
    readings: usize,
    events: usize,
}

/// Reads everything page by page and writes it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let staged = Staged::beside(&arguments.out)?;
    let api = Api::new(&arguments.api, arguments.key, PATIENCE)?;
    let span = Span { from: arguments.from.unwrap_or(Timestamp::MIN), to: arguments.to };
    let step = Step::begin("reading the registry");
    let fleet = pages::fleet(&api, &arguments.device.into_iter().collect()).await?;
    step.done(&format!(
        "read {} devices, {} parts, {} depots",
        fleet.devices.len(),
        fleet.parts.len(),
        fleet.depots.len()
    ));
    let signals = pages::signals(&api, &fleet.devices, &span).await?;
    let facts = span.facts(fleet.devices.first().map(|device| &device.tenant));
    let mut writer = FleetWriter::create(staged.path(), arguments.format.into(), signals, facts)?;
    writer.fleet(&fleet).context("failed to write the registry")?;
    let written = copy(&api, &fleet, &span, writer).await?;
    let step = Step::begin("syncing to disk");
    staged.keep()?;
    let out = Path::display(&arguments.out);
    step.done(&format!("wrote {} readings and {} events to {out}", written.readings, written.events));
    Ok(())
}

/// Reads pages here and writes them on a thread of its own.
async fn copy(api: &Api, fleet: &Fleet, span: &Span, writer: FleetWriter) -> anyhow::Result<Written> {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || write(writer, receiver));
    let read = read(api, fleet, span, &sender).await;
    drop(sender);
    // A writer that has failed makes the reader fail, and not the other way round: its reason is the one to tell.
    let written = writing.await.context("the writer ended")??;
    read.map(|()| written)
}

async fn read(api: &Api, fleet: &Fleet, span: &Span, writer: &mpsc::Sender<Page>) -> anyhow::Result<()> {
    let mut meter = Meter::begin(fleet.devices.len() as u64, "exporting devices");
    let devices: BTreeSet<&DeviceId> = fleet.devices.iter().map(|device| &device.device).collect();
    let mut done = 0;
    let mut histories = pages::histories(api, &fleet.devices, span);
    while let Some((device, mut pages)) = histories.next().await {
        while let Some(page) = pages.try_next().await.with_context(|| format!("failed to read device {device:?}"))? {
            writer.send(page).await.context("the writer has stopped")?;
        }
        done += 1;
        meter.reach(done);
    }
    meter.clear();
    let mut maintenance = pages::maintenance(api, &devices, span);
    while let Some(page) = maintenance.try_next().await.context("failed to read maintenance")? {
        writer.send(page).await.context("the writer has stopped")?;
    }
    let mut consumption = pages::consumption(api, span);
    while let Some(page) = consumption.try_next().await.context("failed to read part use")? {
        writer.send(page).await.context("the writer has stopped")?;
    }
    Ok(())
}

fn write(mut writer: FleetWriter, mut pages: mpsc::Receiver<Page>) -> anyhow::Result<Written> {
    let mut written = Written::default();
    while let Some(page) = pages.blocking_recv() {
        match page {
            Page::Readings(device, readings) => {
                written.readings += readings.len();
                for ReadingItem { ts, values } in &readings {
                    writer.reading(&device, *ts, values.iter().map(|(signal, value)| (signal, *value)))?;
                }
            }
            Page::Events(events) => {
                written.events += events.len();
                writer.records(&events)?;
            }
            Page::Maintenance(records) => writer.records(&records)?,
            Page::Consumption(records) => writer.records(&records)?,
        }
    }
    writer.finish()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_always_has_a_beginning() {
        let end: Timestamp = "2015-01-01T00:00:00Z".parse().unwrap();
        let span = Span { from: Timestamp::MIN, to: Some(end) };
        let query = span.query();
        assert_eq!((query[0].0, query[0].1.parse().unwrap()), ("from", Timestamp::MIN));
        assert_eq!(query[1], ("to", end.to_string()));
        let facts = span.facts(Some(&TenantId::parse("acme").unwrap()));
        assert_eq!(facts.iter().map(|(key, _)| &key[10..]).collect::<Vec<_>>(), ["version", "tenant", "to"]);
    }
}
