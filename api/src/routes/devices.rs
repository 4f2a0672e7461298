//! One device from near: its readings, their summaries, and how it is.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State};
use harbinger_core::{
    DeviceId, DeviceKey, Duration, SignalId, Summary, TimeRange, Timestamp,
    fleet::{Device, SignalSpec},
    history::{Closed, Readings},
};
use harbinger_store::{
    ledger::{
        alerts::{self, AlertFilter, AlertState, Order},
        models, predictions, registry,
    },
    telemetry::{Latest, TelemetryStore},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{alerts::AlertView, predictions::PredictionView};
use crate::{
    auth::{Caller, Read},
    errors::{Code, Error, Result},
    extract::{Path, Query},
    page::{Page, PageQuery, cursor},
    state::ApiState,
    views::DeviceView,
};

/// The span that is shown where the caller names no start: the last seven days before the end.
const SPAN_DEFAULT: Duration = Duration::from_days(7);
/// Readings are read from the store in spans that begin with this and double, so that a page costs what it holds.
const SPAN_FIRST: Duration = Duration::from_hours(6);
/// Most buckets a signal in one answer.
const BUCKETS_MAX: i64 = 10_000;

/// Which readings are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TelemetryQuery {
    /// Signals, separated by commas; all unless told.
    signal: Option<String>,
    /// First instant inside; seven days before `to` unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after; behind the newest reading unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Summaries in buckets of this length (`15m`, `24h`) instead of readings. A bucket holds its end and not its start.
    #[param(value_type = Option<String>, example = "1h")]
    step: Option<Duration>,
    /// Items of a page: 1 to 10,000, 100 unless told. Summaries come whole.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A reading, or with `step` the summary of one signal in one bucket.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum TelemetryItem {
    /// All values of one instant.
    Reading {
        /// When.
        #[schema(value_type = String, format = DateTime)]
        ts: Timestamp,
        /// Value by signal.
        #[schema(value_type = BTreeMap<String, f64>)]
        values: BTreeMap<SignalId, f64>,
    },
    /// One signal in one bucket.
    Bucket(BucketView),
}

/// One signal in one bucket of time.
#[derive(Debug, Serialize, ToSchema)]
struct BucketView {
    /// The bucket's end, which it holds.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Which signal.
    #[schema(value_type = String)]
    signal: SignalId,
    /// Samples.
    count: u64,
    /// Mean of the values.
    mean: f64,
    /// Smallest value.
    min: f64,
    /// Largest value.
    max: f64,
    /// Earliest value.
    first: f64,
    /// Latest value.
    last: f64,
    /// Population standard deviation.
    stddev: f64,
    /// Least-squares slope; null where the samples span no time.
    slope_per_hour: Option<f64>,
}

impl BucketView {
    fn new(signal: &SignalId, ts: Timestamp, summary: &Summary) -> Self {
        Self {
            ts,
            signal: signal.clone(),
            count: summary.count,
            mean: summary.mean,
            min: summary.min,
            max: summary.max,
            first: summary.first,
            last: summary.last,
            stddev: summary.stddev().unwrap_or_default(),
            slope_per_hour: summary.slope_per_hour(),
        }
    }
}

/// Readings of a device, or their summaries with `step`
#[utoipa::path(
    get, path = "/devices/{device}/telemetry", tag = "devices", params(("device" = String, Path), TelemetryQuery),
    security(("key" = ["read"])), responses((status = 200, body = Page<TelemetryItem>))
)]
async fn telemetry(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(device): Path<String>,
    Query(query): Query<TelemetryQuery>,
) -> Result<Answer<Page<TelemetryItem>>> {
    let key = device_key(&caller, &device)?;
    let latest = state.telemetry.latest(&key).await?;
    if latest.is_empty() {
        must_be_known(&state, &key).await?;
        return Ok(Answer(Page::whole(Vec::new())));
    }
    let newest = latest.iter().map(|latest| latest.ts).max().unwrap_or(Timestamp::MIN);
    let to = query.to.unwrap_or(newest + Duration::from_millis(1));
    let mut range = TimeRange { from: query.from.unwrap_or(to - SPAN_DEFAULT), to };
    let signals = query.signal.as_deref().map(signal_list).transpose()?;
    if let Some(step) = query.step {
        return buckets(&state, &key, range, step, signals.as_deref()).await.map(Answer);
    }
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    if let Some(after) = page.after_one("telemetry")? {
        let millis: i64 = after.parse().map_err(|_| Error::new(Code::BadCursor, "no cursor of telemetry"))?;
        range.from = range.from.max(Timestamp::from_millis(millis));
    }
    let rows = first_readings(&*state.telemetry, &key, range, signals.as_deref(), limit + 1).await?;
    let next_cursor = rows.get(limit).map(|(ts, _)| cursor("telemetry", &[ts.millis().to_string()]));
    let items = rows.into_iter().take(limit).map(|(ts, values)| TelemetryItem::Reading { ts, values }).collect();
    Ok(Answer(Page { items, next_cursor }))
}

fn device_key(caller: &Caller<Read>, device: &str) -> Result<DeviceKey> {
    let id = DeviceId::parse(device).map_err(|_| Error::not_found("device", device))?;
    Ok(DeviceKey::new(caller.tenant.clone(), id))
}

async fn must_be_known(state: &ApiState, key: &DeviceKey) -> Result<()> {
    let mut connection = state.ledger.read().await?;
    if registry::known_device(&mut connection, &key.tenant, &key.device).await? {
        return Ok(());
    }
    Err(Error::not_found("device", key.device.as_str()))
}

fn signal_list(text: &str) -> Result<Vec<SignalId>> {
    let parse = |name: &str| {
        name.trim().parse().map_err(|error| Error::new(Code::BadRequest, format!("query: signal: {error}")))
    };
    text.split(',').map(parse).collect()
}

async fn buckets(
    state: &ApiState,
    key: &DeviceKey,
    range: TimeRange,
    step: Duration,
    signals: Option<&[SignalId]>,
) -> Result<Page<TelemetryItem>> {
    let span = range.to.millis().saturating_sub(range.from.millis());
    if step.millis() == 0 || span / step.millis() > BUCKETS_MAX {
        let detail = format!("from, to and step {step} ask for more than {BUCKETS_MAX} buckets: take a longer step");
        return Err(Error::new(Code::BadRequest, detail));
    }
    let timeline = state.telemetry.summaries(key, range, step, Closed::Right).await?;
    let wanted = |signal: &SignalId| signals.is_none_or(|signals| signals.contains(signal));
    let items = timeline
        .signals
        .iter()
        .filter(|(signal, _)| wanted(signal))
        .flat_map(|(signal, buckets)| buckets.iter().map(|(end, summary)| BucketView::new(signal, *end, summary)))
        .map(TelemetryItem::Bucket)
        .collect();
    Ok(Page::whole(items))
}

type Row = (Timestamp, BTreeMap<SignalId, f64>);

/// The first `wanted` readings of a range: span after span, each twice as long as the one before, until there are enough.
async fn first_readings(
    store: &dyn TelemetryStore,
    key: &DeviceKey,
    range: TimeRange,
    signals: Option<&[SignalId]>,
    wanted: usize,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (mut from, mut span) = (range.from, SPAN_FIRST);
    while from < range.to && rows.len() < wanted {
        let to = range.to.min(from + span);
        let readings = store.scan(key, TimeRange { from, to }, signals).await?;
        rows.extend(rows_of(&readings));
        (from, span) = (to, Duration::from_millis(span.millis().saturating_mul(2)));
    }
    rows.truncate(wanted);
    Ok(rows)
}

fn rows_of(readings: &Readings) -> impl Iterator<Item = Row> + '_ {
    let values = |place: usize| {
        let cell = |(signal, column): &(SignalId, Vec<f64>)| Some((signal.clone(), *column.get(place)?));
        readings.columns.iter().filter_map(cell).filter(|(_, value)| !value.is_nan()).collect::<BTreeMap<_, _>>()
    };
    readings.times.iter().enumerate().map(move |(place, &ts)| (ts, values(place))).filter(|(_, row)| !row.is_empty())
}

/// The newest value of a signal.
#[derive(Debug, Serialize, ToSchema)]
struct LatestView {
    /// Which signal.
    #[schema(value_type = String)]
    signal: SignalId,
    /// When it was measured.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Its value.
    value: f64,
    /// UCUM unit, where the model says.
    unit: Option<String>,
    /// Whether the value lies outside the limits that the model says.
    out_of_limits: bool,
}

impl LatestView {
    fn new(latest: Latest, spec: Option<&SignalSpec>) -> Self {
        let beyond = |spec: &SignalSpec| {
            spec.low_limit.is_some_and(|low| latest.value < low)
                || spec.high_limit.is_some_and(|high| latest.value > high)
        };
        Self {
            out_of_limits: spec.is_some_and(beyond),
            unit: spec.map(|spec| spec.unit.clone()),
            signal: latest.signal,
            ts: latest.ts,
            value: latest.value,
        }
    }
}

/// How a device is.
#[derive(Debug, Serialize, ToSchema)]
struct HealthView {
    /// The device.
    device: DeviceView,
    /// Event time of its newest reading.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// Newest value of each signal.
    latest: Vec<LatestView>,
    /// Newest prediction of each component.
    predictions: Vec<PredictionView>,
    /// Alerts that stand.
    alerts: Vec<AlertView>,
}

/// How a device is: newest values, predictions, alerts that stand
#[utoipa::path(
    get, path = "/devices/{device}/health", tag = "devices", params(("device" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = HealthView))
)]
async fn health(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(device): Path<String>,
) -> Result<Answer<HealthView>> {
    let key = device_key(&caller, &device)?;
    let latest = state.telemetry.latest(&key).await?;
    let mut connection = state.ledger.read().await?;
    let tenant = &caller.tenant;
    let row: Device = registry::get(&mut connection, tenant, &[&device]).await?;
    let specs: Vec<SignalSpec> = registry::list(&mut connection, tenant, None, usize::MAX).await?;
    let spec_of = |signal: &SignalId| specs.iter().find(|spec| spec.model == row.model && spec.signal == *signal);
    let newest =
        predictions::Filter { device: Some(key.device.clone()), latest: true, ..predictions::Filter::default() };
    let newest = predictions::list(&mut connection, tenant, &newest, None, usize::MAX).await?;
    let models = models::list(&mut connection, tenant).await?;
    let standing = AlertFilter {
        states: AlertState::ALL.into_iter().filter(|state| state.is_standing()).collect(),
        device: Some(key.device),
        component: None,
    };
    let standing = alerts::list(&mut connection, tenant, &standing, Order::NewestFirst, None, 1_000).await?;
    Ok(Answer(HealthView {
        last_seen: latest.iter().map(|latest| latest.ts).max(),
        latest: latest
            .into_iter()
            .map(|latest| {
                let spec = spec_of(&latest.signal);
                LatestView::new(latest, spec)
            })
            .collect(),
        predictions: newest.into_iter().map(|row| PredictionView::new(row, &models)).collect(),
        alerts: standing.into_iter().map(AlertView::from).collect(),
        device: row.into(),
    }))
}

/// The routes of one device.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(telemetry)).routes(routes!(health))
}
