//! Telemetry as it is asked for: readings, or functions of them bucket by bucket, of many devices or of one.
//!
//! `asked` reads the parameters, the store's range query does the work, `views` shows what comes as JSON, NDJSON or CSV.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use harbinger_core::DeviceKey;
use harbinger_store::telemetry::{SharedStore, query::Place};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Caller, Read},
    errors::{Error, Result},
    extract::{Path, Query},
    page::{LIMIT_MAX, Page},
    state::ApiState,
};
use asked::{Asked, DeviceParameters, Item, RangeParameters};
use views::{DeviceItem, RangeItem};

mod asked;
mod devices;
mod parameters;
mod views;

const NDJSON: &str = "application/x-ndjson";
/// What a reading of one signal takes as JSON, and some more.
const ITEM_BYTES: usize = 96;

/// Telemetry of many devices: readings in order of device and time, or with `step` functions of them in buckets, in order of
/// device, time and signal. With `Accept: text/csv` or `application/x-ndjson` all of it in one answer; `limit` and `cursor`
/// are then not used
#[utoipa::path(
    get, path = "/telemetry", tag = "telemetry", operation_id = "query_telemetry", params(RangeParameters), security(("key" = ["read"])),
    responses((status = 200, content(
        (Page<RangeItem> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
async fn range(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    parameters: RangeParameters,
    headers: HeaderMap,
) -> Result<Response> {
    let found = devices::find(&state, &caller.tenant, &parameters).await?;
    let page = parameters.page();
    let limit = page.limit()?;
    let (asked, after) = parameters.read(caller.tenant, found)?;
    if super::accepts(&headers, "text/csv") {
        let head = views::csv_head(&asked);
        return Ok(whole(state.telemetry, asked, "text/csv; charset=utf-8", head, views::csv_rows));
    }
    if super::accepts(&headers, NDJSON) {
        return Ok(whole(state.telemetry, asked, NDJSON, Vec::new(), views::ndjson_rows));
    }
    let rows = asked.page(&*state.telemetry, after.as_ref(), limit + 1).await?;
    let view = |row| RangeItem::new(row, &asked);
    Ok(json(&Page::of(rows, limit, asked::LIST, |row| asked.cursor(&row.place()), view)))
}

/// Streams page after page: memory does not grow with the answer, and no read lasts long.
fn whole(
    store: SharedStore,
    asked: Asked,
    content_type: &'static str,
    head: Vec<u8>,
    text: fn(Vec<Item>, &Asked) -> Vec<u8>,
) -> Response {
    let pages = stream::try_unfold((asked, Some(None::<Place>)), move |(asked, place)| {
        let store = SharedStore::clone(&store);
        async move {
            let Some(after) = place else { return Ok::<_, Error>(None) };
            let rows = asked.page(&*store, after.as_ref(), LIMIT_MAX).await?;
            let next = if rows.len() < LIMIT_MAX { None } else { rows.last().map(|last| Some(last.place())) };
            Ok(Some((text(rows, &asked), (asked, next))))
        }
    });
    let whole = futures::StreamExt::chain(stream::once(async { Ok::<_, Error>(head) }), pages);
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(whole)).into_response()
}

/// Readings of a device, or their summaries with `step`
#[utoipa::path(
    get, path = "/devices/{device}/telemetry", tag = "devices", operation_id = "telemetry",
    params(("device" = String, Path), DeviceParameters),
    security(("key" = ["read"])), responses((status = 200, body = Page<DeviceItem>))
)]
async fn of_device(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(device): Path<String>,
    Query(parameters): Query<DeviceParameters>,
) -> Result<Response> {
    let Ok(id) = device.parse() else { return Err(Error::not_found("device", &device)) };
    let key = DeviceKey::new(caller.tenant.clone(), id);
    // Where the end is told, readings themselves tell that the device exists: one look-up less.
    let ends = parameters.has_end();
    let found = if ends { devices::take(key.clone()) } else { devices::find_one(&state, key.clone()).await? };
    let page = parameters.page();
    let limit = page.limit()?;
    let (asked, after) = parameters.read(caller.tenant, found)?;
    // Buckets come whole.
    let (after, wanted) = if asked.buckets.is_none() { (after, limit + 1) } else { (None, usize::MAX) };
    let mut rows = asked.page(&*state.telemetry, after.as_ref(), wanted).await?;
    if ends && rows.is_empty() {
        devices::find_one(&state, key).await?;
    }
    if asked.buckets.is_none() {
        let key = |row: &Item| asked.cursor(&row.place());
        return Ok(json(&Page::of(rows, limit, asked::LIST, key, DeviceItem::new)));
    }
    rows.sort_by(|a, b| a.place().signal.cmp(&b.place().signal));
    Ok(json(&Page::whole(rows.into_iter().map(DeviceItem::new).collect())))
}

/// A page as JSON, in room that is made for it at once: it may hold ten thousand readings.
fn json<T: Serialize>(page: &Page<T>) -> Response {
    let mut text = Vec::with_capacity(ITEM_BYTES * (page.items.len() + 1));
    serde_json::to_writer(&mut text, page).expect("names and numbers are always JSON");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The routes of telemetry.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(range)).routes(routes!(of_device))
}
