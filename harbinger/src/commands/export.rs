//! `harbinger export --out FOLDER`: what a tenant has, as a fleet bundle that `import` and `replay` take again or as Parquet
//! files.
//!
//! Pages go from the API through a short channel to the writer: what an export takes of memory does not grow with the fleet's
//! past. Devices, signals and the last reading are those of its beginning; what a live fleet adds meanwhile is left out, and
//! said to be. The folder gets its name when everything is in it and on disk.

mod pages;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context;
use futures::{StreamExt as _, TryStreamExt as _};
use harbinger_bundle::write::{FleetWriter, Format};
use harbinger_core::{
    DeviceEvent, DeviceId, Duration, SignalId, TenantId, Timestamp,
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

/// Spans of what is exported.
#[derive(Debug, Clone)]
struct Spans {
    /// Ends with the newest reading of the beginning: a fleet in haste would be followed for ever.
    readings: Span,
    others: Span,
}

impl Span {
    /// The part up to and including a time.
    fn until(&self, last: Option<Timestamp>) -> Self {
        let behind = last.map(|last| last + Duration::from_millis(1));
        Self { from: self.from, to: self.to.into_iter().chain(behind).min() }
    }

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
    /// Samples of signals that were not there when the export began: they have no column.
    left_out: BTreeMap<SignalId, usize>,
}

impl Written {
    /// What was left out, in words.
    fn left_out(&self) -> Option<String> {
        let signals: Vec<String> =
            self.left_out.iter().map(|(signal, samples)| format!("{signal:?} ({samples} samples)")).collect();
        let text = || format!("left out, first seen while the export ran: signals {}", signals.join(", "));
        (!signals.is_empty()).then(text)
    }
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
    let seen = pages::seen(&api, &fleet.devices, &span).await?;
    let facts = span.facts(fleet.devices.first().map(|device| &device.tenant));
    let mut writer = FleetWriter::create(staged.path(), arguments.format.into(), seen.signals.clone(), facts)?;
    writer.fleet(&fleet).context("failed to write the registry")?;
    let spans = Spans { readings: span.until(seen.newest), others: span };
    let written = copy(&api, &fleet, &spans, writer, seen.signals).await?;
    if let Some(left_out) = written.left_out() {
        eprintln!("{left_out}; export again for them");
    }
    let step = Step::begin("syncing to disk");
    staged.keep()?;
    let out = Path::display(&arguments.out);
    let until = seen.newest.map(|newest| format!(" until {newest}")).unwrap_or_default();
    step.done(&format!("wrote {} readings{until} and {} events to {out}", written.readings, written.events));
    Ok(())
}

/// Reads pages here and writes them on a thread of its own.
async fn copy(
    api: &Api,
    fleet: &Fleet,
    spans: &Spans,
    writer: FleetWriter,
    signals: BTreeSet<SignalId>,
) -> anyhow::Result<Written> {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || write(writer, &signals, receiver));
    let read = read(api, fleet, spans, &sender).await;
    drop(sender);
    // A writer that has failed makes the reader fail, and not the other way round: its reason is the one to tell.
    let written = writing.await.context("the writer ended")??;
    read.map(|()| written)
}

async fn read(api: &Api, fleet: &Fleet, spans: &Spans, writer: &mpsc::Sender<Page>) -> anyhow::Result<()> {
    let mut meter = Meter::begin(fleet.devices.len() as u64, "exporting devices");
    let devices: BTreeSet<&DeviceId> = fleet.devices.iter().map(|device| &device.device).collect();
    let mut done = 0;
    let mut histories = pages::histories(api, &fleet.devices, spans);
    while let Some((device, mut pages)) = histories.next().await {
        while let Some(page) = pages.try_next().await.with_context(|| format!("failed to read device {device:?}"))? {
            writer.send(page).await.context("the writer has stopped")?;
        }
        done += 1;
        meter.reach(done);
    }
    meter.clear();
    let mut maintenance = pages::maintenance(api, &devices, &spans.others);
    while let Some(page) = maintenance.try_next().await.context("failed to read maintenance")? {
        writer.send(page).await.context("the writer has stopped")?;
    }
    let mut consumption = pages::consumption(api, &spans.others);
    while let Some(page) = consumption.try_next().await.context("failed to read part use")? {
        writer.send(page).await.context("the writer has stopped")?;
    }
    Ok(())
}

fn write(
    mut writer: FleetWriter,
    signals: &BTreeSet<SignalId>,
    mut pages: mpsc::Receiver<Page>,
) -> anyhow::Result<Written> {
    let mut written = Written::default();
    while let Some(page) = pages.blocking_recv() {
        match page {
            Page::Readings(device, readings) => {
                for ReadingItem { ts, mut values } in readings {
                    for (signal, _) in values.extract_if(.., |signal, _| !signals.contains(signal)) {
                        *written.left_out.entry(signal).or_default() += 1;
                    }
                    if !values.is_empty() {
                        writer.reading(&device, ts, values.iter().map(|(signal, value)| (signal, *value)))?;
                        written.readings += 1;
                    }
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
    fn a_signal_first_seen_meanwhile_is_left_out_and_named() {
        let [x, new] = ["x", "new"].map(|id| SignalId::parse(id).unwrap());
        let device = DeviceId::parse("a").unwrap();
        let item = |second: i64, values: &[(&SignalId, f64)]| ReadingItem {
            ts: Timestamp::from_millis(1_420_070_400_000 + 1000 * second),
            values: values.iter().map(|&(signal, value)| (signal.clone(), value)).collect(),
        };
        let readings = vec![item(0, &[(&x, 1.5)]), item(1, &[(&x, 2.5), (&new, 7.0)]), item(2, &[(&new, 8.0)])];
        let folder = tempfile::tempdir().unwrap();
        let signals = BTreeSet::from([x]);
        let writer = FleetWriter::create(folder.path(), Format::Bundle, signals.clone(), Vec::new()).unwrap();
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Page::Readings(device, readings)).unwrap();
        drop(sender);
        let written = write(writer, &signals, receiver).unwrap();
        assert_eq!((written.readings, &written.left_out), (2, &BTreeMap::from([(new, 2)])));
        let said = written.left_out().unwrap();
        assert_eq!(said, "left out, first seen while the export ran: signals \"new\" (2 samples)");
        assert_eq!(Written::default().left_out(), None);
    }

    #[test]
    fn readings_end_with_the_newest_of_the_beginning_or_where_they_are_asked_to() {
        let at = |millis| Timestamp::from_millis(millis);
        let until = |to: Option<i64>, newest: Option<i64>| {
            Span { from: at(0), to: to.map(at) }.until(newest.map(at)).to.map(Timestamp::millis)
        };
        assert_eq!(until(None, Some(9)), Some(10));
        assert_eq!(until(Some(5), Some(9)), Some(5));
        assert_eq!(until(Some(50), Some(9)), Some(10));
        assert_eq!(until(None, None), None);
    }

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
