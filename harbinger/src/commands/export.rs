//! `harbinger export --out FOLDER`: what a tenant has, as a fleet bundle that `import` and `replay` take again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harbinger_bundle::{Bundle, read::failures_of};
use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, SignalId, Timestamp,
    fleet::{Device, Fleet, Maintenance},
    history::{DeviceHistory, Readings},
};

use crate::{
    client::{Api, EventItem, ReadingItem},
    progress::{Meter, Step},
};

/// Devices whose telemetry is read at once.
const DEVICES: usize = 4;
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
    /// Folder to write, which must be empty or not there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
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

/// A span of time as query parameters.
#[derive(Debug, Clone)]
struct Span(Vec<(&'static str, String)>);

impl Span {
    fn new(from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        let from = ("from", from.unwrap_or(Timestamp::MIN).to_string());
        Self(std::iter::once(from).chain(to.map(|to| ("to", to.to_string()))).collect())
    }

    /// The same of one device.
    fn of(&self, device: &DeviceId) -> Vec<(&'static str, String)> {
        self.0.iter().cloned().chain([("device", device.to_string())]).collect()
    }
}

/// Reads everything and writes it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let in_the_way = fs_err::read_dir(&arguments.out).is_ok_and(|mut files| files.next().is_some());
    anyhow::ensure!(
        !in_the_way,
        "{} is not empty: tables of an older export would be mixed in",
        arguments.out.display()
    );
    let api = Api::new(&arguments.api, arguments.key, PATIENCE)?;
    let span = Span::new(arguments.from, arguments.to);
    let only: BTreeSet<DeviceId> = arguments.device.into_iter().collect();
    let step = Step::begin("reading the registry");
    let fleet = read_fleet(&api, &only).await?;
    step.done(&format!(
        "read {} devices, {} parts, {} depots",
        fleet.devices.len(),
        fleet.parts.len(),
        fleet.depots.len()
    ));
    let mut histories = read_telemetry(&api, &fleet.devices, &span).await?;
    read_records(&api, &fleet.devices, !only.is_empty(), &span, &mut histories).await?;
    let consumption = api.list("/api/v1/consumption", &span.0).await.context("failed to read part use")?;
    let bundle = Bundle { fleet, histories, consumption, ..Bundle::default() };
    let step = Step::begin("writing");
    harbinger_bundle::write::write(&bundle, &arguments.out).context("failed to write the bundle")?;
    let readings: usize = bundle.histories.values().map(|history| history.readings.len()).sum();
    let events: usize = bundle.histories.values().map(|history| history.events.len()).sum();
    step.done(&format!("wrote {readings} readings and {events} events to {}", arguments.out.display()));
    Ok(())
}

async fn read_fleet(api: &Api, only: &BTreeSet<DeviceId>) -> anyhow::Result<Fleet> {
    let context = "failed to read the registry";
    let mut devices: Vec<Device> = api.list("/api/v1/devices", &[]).await.context(context)?;
    if !only.is_empty() {
        devices.retain(|device| only.contains(&device.device));
    }
    let known: BTreeSet<&DeviceId> = devices.iter().map(|device| &device.device).collect();
    if let Some(unknown) = only.iter().find(|device| !known.contains(device)) {
        anyhow::bail!("there is no device {unknown:?}");
    }
    Ok(Fleet {
        models: api.list("/api/v1/hardware-models", &[]).await.context(context)?,
        signals: api.list("/api/v1/signals", &[]).await.context(context)?,
        components: api.list("/api/v1/components", &[]).await.context(context)?,
        parts: api.list("/api/v1/parts", &[]).await.context(context)?,
        depots: api.list("/api/v1/depots", &[]).await.context(context)?,
        lanes: api.list("/api/v1/lanes", &[]).await.context(context)?,
        contracts: api.list("/api/v1/contracts", &[]).await.context(context)?,
        stock: api.list("/api/v1/stock", &[]).await.context(context)?,
        devices,
    })
}

/// Readings of all devices, a few devices at once.
async fn read_telemetry(
    api: &Api,
    devices: &[Device],
    span: &Span,
) -> anyhow::Result<BTreeMap<DeviceId, DeviceHistory>> {
    let mut meter = Meter::begin(devices.len() as u64, "reading telemetry");
    let mut read = stream::iter(devices)
        .map(|device| async move {
            let id = &device.device;
            let readings = device_readings(api, id, span).await;
            readings
                .map(|readings| (id.clone(), readings))
                .with_context(|| format!("failed to read telemetry of {id:?}"))
        })
        .buffer_unordered(DEVICES);
    let mut histories = BTreeMap::new();
    while let Some((device, readings)) = read.try_next().await? {
        histories.insert(device, DeviceHistory { readings, ..DeviceHistory::default() });
        meter.reach(histories.len() as u64);
    }
    meter.clear();
    Ok(histories)
}

async fn device_readings(api: &Api, device: &DeviceId, span: &Span) -> anyhow::Result<Readings> {
    let mut readings = Readings::default();
    let mut in_order = true;
    let path = format!("/api/v1/devices/{}/telemetry", in_path(device));
    api.each(&path, &span.0, |item: ReadingItem| {
        in_order &= readings.times.last().is_none_or(|&last| last < item.ts);
        if in_order {
            let values: Vec<(SignalId, f64)> = item.values.into_iter().collect();
            readings.push(item.ts, &values);
        }
    })
    .await?;
    anyhow::ensure!(in_order, "its readings do not come in order of time");
    Ok(readings)
}

/// An id as one level of a URL's path.
fn in_path(device: &DeviceId) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    device.as_str().bytes().map(encode).collect()
}

/// Events and maintenance: of all devices in one list, or of each chosen one.
async fn read_records(
    api: &Api,
    devices: &[Device],
    each: bool,
    span: &Span,
    histories: &mut BTreeMap<DeviceId, DeviceHistory>,
) -> anyhow::Result<()> {
    let queries: Vec<_> =
        if each { devices.iter().map(|device| span.of(&device.device)).collect() } else { vec![span.0.clone()] };
    let tenant = devices.first().map(|device| device.tenant.clone());
    for query in queries {
        let events: Vec<EventItem> = api.list("/api/v1/events", &query).await.context("failed to read events")?;
        for event in events {
            let (Some(tenant), Some(history)) = (tenant.clone(), histories.get_mut(&event.device)) else { continue };
            let EventItem { ts, device, code, severity, message } = event;
            let (key, code) = (DeviceKey::new(tenant, device), Arc::from(code));
            history.events.push(DeviceEvent { key, ts, code, severity, message });
        }
        let records: Vec<Maintenance> =
            api.list("/api/v1/maintenance", &query).await.context("failed to read maintenance")?;
        for record in records {
            if let Some(history) = histories.get_mut(&record.device) {
                history.maintenance.push(record);
            }
        }
    }
    for history in histories.values_mut() {
        history.failures = failures_of(&history.maintenance);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_level_of_a_path() {
        let path = |id: &str| in_path(&DeviceId::parse(id).unwrap());
        assert_eq!(path("machine-001"), "machine-001");
        assert_eq!(path("a b?%é"), "a%20b%3F%25%C3%A9");
    }

    #[test]
    fn a_span_always_has_a_beginning() {
        let end = "2015-01-01T00:00:00Z";
        let span = Span::new(None, Some(end.parse().unwrap()));
        let from: Timestamp = span.0[0].1.parse().unwrap();
        assert_eq!((from, span.0[1].clone()), (Timestamp::MIN, ("to", end.to_owned())));
        assert_eq!(span.of(&DeviceId::parse("d").unwrap())[2], ("device", "d".to_owned()));
    }
}
