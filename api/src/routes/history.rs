//! What was done to devices, parts used without a device record, and the events that devices report.

use axum::{Json as Answer, extract::State};
use harbinger_core::{
    DeviceEvent, DeviceId, TimeRange, Timestamp,
    fleet::{Consumption, Maintenance},
};
use harbinger_store::ledger::registry;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Code, Error, Result},
    extract::{Json, Query},
    guard::uninterrupted,
    page::{Batch, Page, PageQuery, Written},
    state::ApiState,
    views::{ConsumptionView, MaintenanceView},
};

/// A span of event time, of one device or of all.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// Only this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// First instant inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl HistoryQuery {
    fn range(&self) -> TimeRange {
        super::range(self.from, self.to)
    }

    fn page(&self) -> PageQuery {
        PageQuery { limit: self.limit, cursor: self.cursor.clone() }
    }
}

/// Maintenance records in order of time
#[utoipa::path(
    get, path = "/maintenance", tag = "history", params(HistoryQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<MaintenanceView>))
)]
async fn list_maintenance(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<HistoryQuery>,
) -> Result<Answer<Page<MaintenanceView>>> {
    let page = query.page();
    let limit = page.limit()?;
    let after = page.after("maintenance", 4)?.map(maintenance_key).transpose()?;
    let mut connection = state.ledger.read().await?;
    let (device, range) = (query.device.as_ref(), query.range());
    let rows =
        registry::list_maintenance(&mut connection, &caller.tenant, device, range, after.as_ref(), limit + 1).await?;
    let key = |row: &Maintenance| {
        vec![
            row.ts.millis().to_string(),
            row.device.to_string(),
            row.component.to_string(),
            row.action.as_str().to_owned(),
        ]
    };
    Ok(Answer(Page::of(rows, limit, "maintenance", key, MaintenanceView::from)))
}

fn maintenance_key(key: Vec<String>) -> Result<registry::MaintenanceKey> {
    let bad = || Error::new(Code::BadCursor, "no cursor of maintenance");
    let [ts, device, component, action] = <[String; 4]>::try_from(key).map_err(|_| bad())?;
    Ok((Timestamp::from_millis(ts.parse().map_err(|_| bad())?), device, component, action))
}

/// Record what was done to devices; a repeat changes nothing
#[utoipa::path(
    post, path = "/maintenance", tag = "history", request_body = Batch<MaintenanceView>, security(("key" = ["operate"])),
    responses((status = 200, body = Written))
)]
async fn write_maintenance(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Json(batch): Json<Batch<MaintenanceView>>,
) -> Result<Answer<Written>> {
    let rows: Vec<Maintenance> = batch.items.into_iter().map(Into::into).collect();
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        registry::record_maintenance(&mut tx, &caller.tenant, &rows).await?;
        state.control.maintenance_recorded(&mut tx, &caller.tenant, &rows).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(Written { written: rows.len() as u64 }))
    })
    .await
}

/// Record parts used that no device record explains; a repeat changes nothing
#[utoipa::path(
    post, path = "/consumption", tag = "history", request_body = Batch<ConsumptionView>, security(("key" = ["operate"])),
    responses((status = 200, body = Written))
)]
async fn write_consumption(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Json(batch): Json<Batch<ConsumptionView>>,
) -> Result<Answer<Written>> {
    let rows: Vec<Consumption> = batch.items.into_iter().map(Into::into).collect();
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        registry::record_consumption(&mut tx, &caller.tenant, &rows).await?;
        commit(tx).await?;
        Ok(Answer(Written { written: rows.len() as u64 }))
    })
    .await
}

/// A span of event time.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SpanQuery {
    /// First instant inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Parts used that no device record explains, in order of part, depot and time
#[utoipa::path(
    get, path = "/consumption", tag = "history", params(SpanQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<ConsumptionView>))
)]
async fn list_consumption(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<SpanQuery>,
) -> Result<Answer<Page<ConsumptionView>>> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let after = page.after("consumption", 4)?.map(consumption_key).transpose()?;
    let range = super::range(query.from, query.to);
    let mut connection = state.ledger.read().await?;
    let rows = registry::list_consumption(&mut connection, &caller.tenant, range).await?;
    let numbered = numbered(rows).filter(|row| after.as_ref().is_none_or(|after| place(row) > *after));
    let rows: Vec<(Consumption, u64)> = numbered.take(limit + 1).collect();
    let cursor = |row: &(Consumption, u64)| {
        let (part, depot, millis, occurrence) = place(row);
        vec![part, depot, millis.to_string(), occurrence.to_string()]
    };
    Ok(Answer(Page::of(rows, limit, "consumption", cursor, |(row, _)| ConsumptionView::from(row))))
}

/// The same part may be used twice at one instant in one depot: records are told apart by their occurrence.
fn numbered(rows: Vec<Consumption>) -> impl Iterator<Item = (Consumption, u64)> {
    let mut before: Option<((String, String, i64), u64)> = None;
    rows.into_iter().map(move |row| {
        let same = (row.part.to_string(), row.depot.to_string(), row.ts.millis());
        let occurrence = match &before {
            Some((key, occurrence)) if *key == same => occurrence + 1,
            _ => 0,
        };
        before = Some((same, occurrence));
        (row, occurrence)
    })
}

type ConsumptionKey = (String, String, i64, u64);

fn place((row, occurrence): &(Consumption, u64)) -> ConsumptionKey {
    (row.part.to_string(), row.depot.to_string(), row.ts.millis(), *occurrence)
}

fn consumption_key(key: Vec<String>) -> Result<ConsumptionKey> {
    let bad = || Error::new(Code::BadCursor, "no cursor of consumption");
    let [part, depot, ts, occurrence] = <[String; 4]>::try_from(key).map_err(|_| bad())?;
    Ok((part, depot, ts.parse().map_err(|_| bad())?, occurrence.parse().map_err(|_| bad())?))
}

/// A code that a device reported.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// The device's own code.
    code: String,
    /// `info`, `warning` or `critical`.
    severity: &'static str,
    /// Words for a person.
    message: Option<String>,
}

impl From<DeviceEvent> for EventView {
    fn from(event: DeviceEvent) -> Self {
        Self {
            ts: event.ts,
            device: event.key.device,
            code: event.code.to_string(),
            severity: event.severity.as_str(),
            message: event.message,
        }
    }
}

/// Events that devices reported, in order of time
#[utoipa::path(
    get, path = "/events", tag = "history", params(HistoryQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<EventView>))
)]
async fn list_events(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<HistoryQuery>,
) -> Result<Answer<Page<EventView>>> {
    let page = query.page();
    let limit = page.limit()?;
    let mut range = query.range();
    let after = page.after("events", 3)?.map(event_key).transpose()?;
    if let Some((ts, ..)) = &after {
        range.from = range.from.max(*ts);
    }
    let events = state.telemetry.events(&caller.tenant, query.device.as_ref(), range).await?;
    let key = |event: &DeviceEvent| (event.ts, event.key.device.to_string(), event.code.to_string());
    let rows: Vec<DeviceEvent> = events
        .into_iter()
        .filter(|event| after.as_ref().is_none_or(|after| key(event) > *after))
        .take(limit + 1)
        .collect();
    let cursor = |event: &DeviceEvent| {
        let (ts, device, code) = key(event);
        vec![ts.millis().to_string(), device, code]
    };
    Ok(Answer(Page::of(rows, limit, "events", cursor, EventView::from)))
}

fn event_key(key: Vec<String>) -> Result<(Timestamp, String, String)> {
    let bad = || Error::new(Code::BadCursor, "no cursor of events");
    let [ts, device, code] = <[String; 3]>::try_from(key).map_err(|_| bad())?;
    Ok((Timestamp::from_millis(ts.parse().map_err(|_| bad())?), device, code))
}

/// The routes of history.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_maintenance, write_maintenance))
        .routes(routes!(list_consumption, write_consumption))
        .routes(routes!(list_events))
}
