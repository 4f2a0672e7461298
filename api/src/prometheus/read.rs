//! Between the stores and the evaluation: who is there, what they are labelled with, their readings page by page.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt as _, TryStreamExt as _};
use harbinger_core::{
    DeviceId, DeviceKey, Duration, HardwareModelId, SignalId, TenantId, TimeRange, Timestamp,
    fleet::{Device, HardwareModel},
};
use harbinger_store::{ledger::registry, telemetry::SharedStore};
use promql_parser::label::Matcher;

use super::{
    answer::Failure,
    evaluate::{Evaluation, Row, Steps},
    labels::{Labels, NAME},
    plan::Pipeline,
    view::{DeviceSweep, View},
};
use crate::{errors::Error, state::ApiState};

/// Devices that are read at the same time.
const READS_AT_ONCE: usize = 4;
/// Readings of a page: some megabytes for a device of a hundred signals.
const PAGE: usize = 10_000;
/// Most samples that one query reads, as Prometheus has it.
const SAMPLES_MAX: usize = 50_000_000;

/// A device that has readings.
#[derive(Debug)]
struct Member {
    key: DeviceKey,
    labels: Labels,
    /// Event time of its first and last reading.
    first: Timestamp,
    last: Timestamp,
}

impl Member {
    fn has_readings_in(&self, range: TimeRange) -> bool {
        self.first < range.to && range.from <= self.last
    }
}

/// The devices of a tenant, labelled with what the registry knows of them.
async fn members(state: &ApiState, tenant: &TenantId) -> Result<Vec<Member>, Error> {
    let extents = state.telemetry.extents(tenant).await?;
    let mut connection = state.ledger.read().await?;
    let devices: Vec<Device> = registry::list(&mut connection, tenant, None, usize::MAX).await?;
    let models: Vec<HardwareModel> = registry::list(&mut connection, tenant, None, usize::MAX).await?;
    drop(connection);
    let kinds: HashMap<HardwareModelId, String> = models.into_iter().map(|model| (model.model, model.kind)).collect();
    let known: HashMap<DeviceId, Device> = devices.into_iter().map(|device| (device.device.clone(), device)).collect();
    let members = extents.into_iter().filter_map(|extent| {
        let (first, last) = extent.readings?;
        let labels = labels(&extent.device, known.get(&extent.device), &kinds);
        Some(Member { key: DeviceKey::new(tenant.clone(), extent.device), labels, first, last })
    });
    Ok(members.collect())
}

fn labels(id: &DeviceId, device: Option<&Device>, kinds: &HashMap<HardwareModelId, String>) -> Labels {
    let labels = Labels::default().with("device", id.as_str());
    let Some(device) = device else { return labels };
    let kind = kinds.get(&device.model).map_or("", String::as_str);
    let labels = labels.with("model", device.model.as_str()).with("kind", kind).with("depot", device.depot.as_str());
    labels.with("site", device.site.as_deref().unwrap_or_default())
}

/// The rows of a plan.
pub(super) async fn rows(
    state: &ApiState,
    tenant: &TenantId,
    pipeline: &Pipeline,
    steps: Steps,
    lookback: i64,
) -> Result<Vec<Row>, Failure> {
    let view = Arc::new(View::of(&pipeline.source, steps, lookback));
    let signals = match view.signal().map(str::parse::<SignalId>) {
        None => None,
        Some(Ok(signal)) => Some(vec![signal]),
        // What cannot name a signal names none.
        Some(Err(_)) => return Ok(Vec::new()),
    };
    let reader =
        Reader { store: &state.telemetry, view: &view, signals: signals.as_deref(), read: AtomicUsize::new(0) };
    let seen = |member: &Member| member.has_readings_in(view.range()) && view.matches_device(&member.labels);
    let members = members(state, tenant).await?.into_iter().filter(seen);
    let mut devices = futures::stream::iter(members.map(|member| reader.device(member))).buffered(READS_AT_ONCE);
    let mut evaluation = Evaluation::of(pipeline);
    while let Some(rows) = devices.try_next().await? {
        evaluation = off_the_async_threads(move || evaluation.push(rows).map(|()| evaluation)).await??;
    }
    Ok(off_the_async_threads(move || evaluation.finish()).await??)
}

/// Reads the devices of one query.
struct Reader<'a> {
    store: &'a SharedStore,
    view: &'a Arc<View>,
    signals: Option<&'a [SignalId]>,
    /// Samples so far.
    read: AtomicUsize,
}

impl Reader<'_> {
    async fn device(&self, member: Member) -> Result<Vec<Row>, Failure> {
        let mut range = self.view.range();
        let mut sweep = DeviceSweep::new(self.view.clone(), member.labels);
        loop {
            let page = self.store.page(&member.key, range, self.signals, PAGE).await?;
            let next = page.times.last().filter(|_| page.len() >= PAGE).copied();
            let (used, swept) = off_the_async_threads(move || (sweep.push(&page), sweep)).await?;
            sweep = swept;
            if self.read.fetch_add(used, Ordering::Relaxed) + used > SAMPLES_MAX {
                let text = format!("the query reads more than {SAMPLES_MAX} samples: select less or a shorter time");
                return Err(Failure::Execution(text));
            }
            match next {
                Some(last) => range.from = last + Duration::from_millis(1),
                None => return Ok(off_the_async_threads(move || sweep.finish()).await??),
            }
        }
    }
}

/// Runs what takes more than an instant of a processor where it keeps no request waiting.
pub(super) async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("evaluate a query", &error))
}

/// The series that match any of some selectors (all where there is none) and may have samples in `range`: a series counts
/// from its device's first reading to its own last one. Without `named`, their labels but for the names of the series.
pub(super) async fn series(
    state: &ApiState,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    range: TimeRange,
    named: bool,
) -> Result<BTreeSet<Labels>, Error> {
    let mut members = members(state, tenant).await?;
    let by_device = |matchers: &Vec<Matcher>, labels: &Labels| {
        labels.match_all(matchers.iter().filter(|matcher| matcher.name != NAME))
    };
    members.retain(|member| {
        let matches = selectors.is_empty() || selectors.iter().any(|matchers| by_device(matchers, &member.labels));
        matches && member.has_readings_in(range)
    });
    let by_name = selectors.iter().flatten().any(|matcher| matcher.name == NAME);
    if !named && !by_name {
        return Ok(members.into_iter().map(|member| member.labels).collect());
    }
    let latest = members.into_iter().map(|member| async move {
        let latest = state.telemetry.latest(&member.key).await?;
        Ok::<_, Error>((member.labels, latest))
    });
    let mut found = BTreeSet::new();
    let mut latest = futures::stream::iter(latest).buffered(READS_AT_ONCE);
    while let Some((labels, latest)) = latest.try_next().await? {
        let recent = latest.iter().filter(|latest| range.from <= latest.ts);
        let named = recent.map(|latest| labels.clone().with(NAME, latest.signal.as_str()));
        found.extend(
            named.filter(|labels| selectors.is_empty() || selectors.iter().any(|matchers| labels.match_all(matchers))),
        );
    }
    Ok(found)
}
