//! One device from near: how it is.

use axum::{Json as Answer, extract::State};
use harbinger_core::{
    DeviceId, DeviceKey, SignalId, Timestamp,
    fleet::{Device, SignalSpec},
};
use harbinger_store::{
    ledger::{
        alerts::{self, AlertFilter, AlertState, Order},
        models, predictions, registry,
    },
    telemetry::Latest,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{alerts::AlertView, predictions::PredictionView};
use crate::{
    auth::{Admin, Caller, Needs, Read},
    erasure::Gone,
    errors::{Error, Result},
    extract::Path,
    guard::uninterrupted,
    state::ApiState,
    views::DeviceView,
};

fn device_key<S: Needs>(caller: &Caller<S>, device: &str) -> Result<DeviceKey> {
    let id = DeviceId::parse(device).map_err(|_| Error::not_found("device", device))?;
    Ok(DeviceKey::new(caller.tenant.clone(), id))
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

/// What was deleted of a device.
#[derive(Debug, Serialize, ToSchema)]
struct DeletedView {
    /// The device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// Samples of its readings.
    samples: u64,
    /// Its events.
    events: u64,
    /// Its predictions.
    predictions: u64,
    /// Records of what they were made from.
    decisions: u64,
    /// Its alerts.
    alerts: u64,
    /// Its maintenance.
    maintenance: u64,
}

/// Delete everything of a device: telemetry, registration, maintenance, predictions, alerts. Stock, orders, plans and the audit
/// record stay. What the device reports later is kept again
#[utoipa::path(
    delete, path = "/devices/{device}", tag = "devices", params(("device" = String, Path)),
    security(("key" = ["admin"])), responses((status = 200, body = DeletedView))
)]
async fn delete_device(
    caller: Caller<Admin>,
    State(state): State<ApiState>,
    Path(device): Path<String>,
) -> Result<Answer<DeletedView>> {
    let key = device_key(&caller, &device)?;
    uninterrupted(async move {
        let Gone { ledger, telemetry } = state.control.delete_device(&key, &caller.actor).await?;
        state.changed();
        Ok(Answer(DeletedView {
            device: key.device,
            samples: telemetry.samples,
            events: telemetry.events,
            predictions: ledger.predictions,
            decisions: ledger.decisions,
            alerts: ledger.alerts,
            maintenance: ledger.maintenance,
        }))
    })
    .await
}

/// The routes of one device.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(delete_device))
}
