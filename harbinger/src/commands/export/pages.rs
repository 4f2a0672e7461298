//! What an export reads from the API: the registry and the set of signals at once, everything that grows page by page.

use std::collections::BTreeSet;

use anyhow::Context;
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, future, stream, stream::BoxStream};
use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, SignalId, Timestamp,
    fleet::{Device, Fleet, Maintenance},
};
use serde::Deserialize;

use super::{Page, Span, Spans};
use crate::{
    client::{Api, Error, EventItem},
    progress::Meter,
};

/// Devices that are read at once.
const DEVICES: usize = 4;

type Pages<'a> = BoxStream<'a, Result<Page, Error>>;

/// The registry, with all devices or with those of `only`, in order of id.
pub(super) async fn fleet(api: &Api, only: &BTreeSet<DeviceId>) -> anyhow::Result<Fleet> {
    let context = "failed to read the registry";
    let mut devices: Vec<Device> = api.list("/api/v1/devices", &[]).await.context(context)?;
    devices.retain(|device| only.is_empty() || only.contains(&device.device));
    devices.sort_by(|a, b| a.device.cmp(&b.device));
    let known = |id: &DeviceId| devices.binary_search_by(|device| device.device.cmp(id)).is_ok();
    if let Some(unknown) = only.iter().find(|id| !known(id)) {
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

/// What there is when an export begins.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The signals that the devices have ever sent, but for those that were silent before the span.
    pub(super) signals: BTreeSet<SignalId>,
    /// The time of the newest sample of those.
    pub(super) newest: Option<Timestamp>,
}

/// Looks at every device.
pub(super) async fn seen(api: &Api, devices: &[Device], span: &Span) -> anyhow::Result<Seen> {
    #[derive(Deserialize)]
    struct Health {
        latest: Vec<Newest>,
    }
    #[derive(Deserialize)]
    struct Newest {
        signal: SignalId,
        ts: Timestamp,
    }
    let of_device = |device: &Device| {
        let path = format!("/api/v1/devices/{}/health", in_path(&device.device));
        async move { api.get::<Health>(&path, &[]).await }
    };
    let mut healths = stream::iter(devices).map(of_device).buffer_unordered(DEVICES);
    let mut meter = Meter::begin(devices.len() as u64, "reading which signals there are");
    let mut seen = Seen::default();
    let mut done = 0;
    while let Some(Health { latest }) = healths.try_next().await.context("failed to read which signals there are")? {
        for sample in latest.into_iter().filter(|sample| sample.ts >= span.from) {
            seen.newest = seen.newest.max(Some(sample.ts));
            seen.signals.insert(sample.signal);
        }
        done += 1;
        meter.reach(done);
    }
    meter.clear();
    Ok(seen)
}

/// Readings and events, device by device; while one is handed on, the first pages of the next few are read.
pub(super) fn histories<'a>(
    api: &'a Api,
    devices: &'a [Device],
    spans: &'a Spans,
) -> impl Stream<Item = (&'a DeviceId, Pages<'a>)> + Unpin {
    let begin = move |device: &'a Device| {
        let begun =
            future::join(begun(readings(api, device, &spans.readings)), begun(events(api, device, &spans.others)));
        begun.map(|(readings, events)| (&device.device, readings.chain(events).boxed()))
    };
    stream::iter(devices).map(begin).buffered(DEVICES)
}

/// The same pages, the first of them already read.
async fn begun(pages: Pages<'_>) -> Pages<'_> {
    let (first, rest) = pages.into_future().await;
    stream::iter(first).chain(rest).boxed()
}

fn readings<'a>(api: &'a Api, device: &'a Device, span: &Span) -> Pages<'a> {
    let path = format!("/api/v1/devices/{}/telemetry", in_path(&device.device));
    api.pages(path, span.query()).map_ok(|readings| Page::Readings(device.device.clone(), readings)).boxed()
}

fn events<'a>(api: &'a Api, device: &'a Device, span: &Span) -> Pages<'a> {
    let mut query = span.query();
    query.push(("device", device.device.to_string()));
    let event = |EventItem { ts, device: id, code, severity, message }| {
        let key = DeviceKey::new(device.tenant.clone(), id);
        DeviceEvent { ts, key, code: code.into(), severity, message }
    };
    let page = move |items: Vec<EventItem>| Page::Events(items.into_iter().map(event).collect());
    api.pages("/api/v1/events".to_owned(), query).map_ok(page).boxed()
}

/// What was done to the devices.
pub(super) fn maintenance<'a>(api: &'a Api, devices: &'a BTreeSet<&DeviceId>, span: &Span) -> Pages<'a> {
    let page = |mut records: Vec<Maintenance>| {
        records.retain(|record| devices.contains(&record.device));
        Page::Maintenance(records)
    };
    api.pages("/api/v1/maintenance".to_owned(), span.query()).map_ok(page).boxed()
}

/// Part use that no device record explains.
pub(super) fn consumption<'a>(api: &'a Api, span: &Span) -> Pages<'a> {
    api.pages("/api/v1/consumption".to_owned(), span.query()).map_ok(Page::Consumption).boxed()
}

/// An id as one level of a URL's path.
fn in_path(device: &DeviceId) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    device.as_str().bytes().map(encode).collect()
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
}
