//! The read subset of Prometheus' HTTP API under `/prometheus/api/v1`, for Grafana and whatever else speaks it.
//!
//! A signal is a metric, a device's signal a series; what is answered and what is refused stands in
//! `docs/reference/prometheus.md`. From request to answer: `parameters` reads the request, `syntax` and `plan` the
//! expression, `read` takes devices and readings from the stores, `evaluate` makes rows of them without I/O, `answer` writes
//! them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::{
    extract::{Path, State},
    response::Response,
    routing::post,
};
use harbinger_core::{TimeRange, Timestamp};
use promql_parser::label::Matcher;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    answer::{Data, Failure, Point, success},
    evaluate::Steps,
    labels::NAME,
    parameters::Parameters,
    plan::{Pipeline, Plan},
};
use crate::{
    auth::{Caller, Read},
    state::ApiState,
};

mod answer;
mod evaluate;
mod labels;
mod metadata;
mod moments;
mod operator;
mod parameters;
mod place;
mod plan;
mod read;
mod syntax;
mod view;
mod window;

/// How far back an instant looks for its sample where the request does not say: Prometheus' own.
const LOOKBACK_MILLIS: i64 = 5 * 60 * 1000;
/// Longest that a query takes, and what it gets unless the request says less.
const TIMEOUT: Duration = Duration::from_secs(120);

type Result<T = Response> = std::result::Result<T, Failure>;

/// The value of an expression at one instant; also by POST with a form
#[utoipa::path(
    get, path = "/query", tag = "prometheus", security(("key" = ["read"])),
    params(
        ("query" = String, Query, description = "Expression", example = "avg_over_time(inlet_c[1h])"),
        ("time" = Option<String>, Query, description = "Seconds since 1970 or RFC 3339; the tenant's event time unless told"),
        ("timeout" = Option<String>, Query, description = "At most 2m"),
        ("lookback_delta" = Option<String>, Query, description = "How far back a sample is still of now; 5m unless told"),
    ),
    responses((status = 200, body = serde_json::Value))
)]
async fn query(caller: Caller<Read>, State(state): State<ApiState>, parameters: Parameters) -> Result {
    let now = state.control.event_time(&caller.tenant).millis();
    let at = parameters.time("time")?.unwrap_or(now);
    let rows = match plan::plan(parameters.required("query")?)? {
        Plan::Scalar(number) => return Ok(success(Data::Scalar(Point(at, number)), &[])),
        Plan::Vector(pipeline) => rows(&caller, &state, &parameters, &pipeline, Steps::once(at)).await?,
    };
    Ok(read::off_the_async_threads(move || success(Data::vector(rows, at), &[])).await?)
}

/// The values of an expression over a range of time; also by POST with a form
#[utoipa::path(
    get, path = "/query_range", tag = "prometheus", security(("key" = ["read"])),
    params(
        ("query" = String, Query, description = "Expression", example = "max by (site) (inlet_c)"),
        ("start" = String, Query, description = "First step: seconds since 1970 or RFC 3339", example = "2026-01-31T10:00:00Z"),
        ("end" = String, Query, description = "No step is later", example = "2026-01-31T12:00:00Z"),
        ("step" = String, Query, description = "From step to step: seconds or 15m; at most 11,001 steps", example = "5m"),
        ("timeout" = Option<String>, Query, description = "At most 2m"),
        ("lookback_delta" = Option<String>, Query, description = "How far back a sample is still of now; 5m unless told"),
    ),
    responses((status = 200, body = serde_json::Value))
)]
async fn query_range(caller: Caller<Read>, State(state): State<ApiState>, parameters: Parameters) -> Result {
    let steps = parameters.steps()?;
    let rows = match plan::plan(parameters.required("query")?)? {
        Plan::Scalar(number) => vec![evaluate::Row::constant(number, steps)],
        Plan::Vector(pipeline) => rows(&caller, &state, &parameters, &pipeline, steps).await?,
    };
    Ok(read::off_the_async_threads(move || success(Data::matrix(rows, steps), &[])).await?)
}

/// The rows of a plan, within the time that the request allows and with not too many others beside it.
async fn rows(
    caller: &Caller<Read>,
    state: &ApiState,
    parameters: &Parameters,
    pipeline: &Pipeline,
    steps: Steps,
) -> Result<Vec<evaluate::Row>> {
    let lookback = parameters.length("lookback_delta")?.filter(|lookback| *lookback > 0).unwrap_or(LOOKBACK_MILLIS);
    let asked = parameters.length("timeout")?.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
    let allowed = asked.map_or(TIMEOUT, |asked| asked.min(TIMEOUT));
    let work = async {
        let _turn = state.queries.acquire().await;
        read::rows(state, &caller.tenant, pipeline, steps, lookback).await
    };
    let begun = Instant::now();
    match tokio::time::timeout(allowed, work).await {
        // What comes late although no wait was cut short is late all the same.
        Ok(rows) if begun.elapsed() <= allowed => rows,
        _ => Err(Failure::Timeout(format!("query timed out after {} s: select less", allowed.as_secs_f64()))),
    }
}

/// The label sets of the series that match a selector; also by POST with a form
#[utoipa::path(
    get, path = "/series", tag = "prometheus", security(("key" = ["read"])),
    params(
        ("match[]" = Vec<String>, Query, description = "Selectors, one at least", example = json!(["inlet_c"])),
        ("start" = Option<String>, Query, description = "Leaves out what ended before"),
        ("end" = Option<String>, Query, description = "Leaves out what began after"),
        ("limit" = Option<usize>, Query, description = "Most items; 0 or nothing is no bound"),
    ),
    responses((status = 200, body = serde_json::Value))
)]
async fn series(caller: Caller<Read>, State(state): State<ApiState>, parameters: Parameters) -> Result {
    let selectors = selectors(&parameters)?;
    if selectors.is_empty() {
        return Err(Failure::BadData("no match[] parameter provided".to_owned()));
    }
    limited(read::series(&state, &caller.tenant, &selectors, range(&parameters)?, true).await?, &parameters)
}

/// The names of all labels; also by POST with a form
#[utoipa::path(
    get, path = "/labels", tag = "prometheus", security(("key" = ["read"])),
    params(
        ("match[]" = Option<Vec<String>>, Query, description = "Only of series that match one of these selectors"),
        ("start" = Option<String>, Query, description = "Leaves out what ended before"),
        ("end" = Option<String>, Query, description = "Leaves out what began after"),
        ("limit" = Option<usize>, Query, description = "Most items; 0 or nothing is no bound"),
    ),
    responses((status = 200, body = serde_json::Value))
)]
async fn labels(caller: Caller<Read>, State(state): State<ApiState>, parameters: Parameters) -> Result {
    let found = read::series(&state, &caller.tenant, &selectors(&parameters)?, range(&parameters)?, false).await?;
    let mut names: BTreeSet<&str> = found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    if !found.is_empty() {
        names.insert(NAME);
    }
    limited(names, &parameters)
}

/// The values of a label; of __name__ the signals
#[utoipa::path(
    get, path = "/label/{name}/values", tag = "prometheus", security(("key" = ["read"])),
    params(
        ("name" = String, Path, description = "A label", example = "device"),
        ("match[]" = Option<Vec<String>>, Query, description = "Only of series that match one of these selectors"),
        ("start" = Option<String>, Query, description = "Leaves out what ended before"),
        ("end" = Option<String>, Query, description = "Leaves out what began after"),
        ("limit" = Option<usize>, Query, description = "Most items; 0 or nothing is no bound"),
    ),
    responses((status = 200, body = serde_json::Value))
)]
async fn label_values(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result {
    let (selectors, range) = (selectors(&parameters)?, range(&parameters)?);
    let found = read::series(&state, &caller.tenant, &selectors, range, name == NAME).await?;
    let values: BTreeSet<&str> =
        found.iter().map(|labels| labels.get(&name)).filter(|value| !value.is_empty()).collect();
    limited(values, &parameters)
}

fn selectors(parameters: &Parameters) -> Result<Vec<Vec<Matcher>>> {
    parameters.all("match[]").map(|text| Ok(plan::selector(text)?)).collect()
}

/// What a request for series asks for: all of time unless it says.
fn range(parameters: &Parameters) -> Result<TimeRange> {
    let from = parameters.time("start")?.map_or(Timestamp::MIN, Timestamp::from_millis);
    let to = parameters.time("end")?.map_or(Timestamp::MAX, |end| Timestamp::from_millis(end + 1));
    Ok(TimeRange { from, to })
}

fn limited<T: serde::Serialize>(items: BTreeSet<T>, parameters: &Parameters) -> Result {
    let limit = parameters.limit()?;
    let warnings: &[&str] = if items.len() > limit { &["results truncated due to limit"] } else { &[] };
    let items: Vec<T> = items.into_iter().take(limit).collect();
    Ok(success(items, warnings))
}

/// The routes. What is described as GET is taken by POST with a form too.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(query))
        .routes(routes!(query_range))
        .routes(routes!(series))
        .routes(routes!(labels))
        .routes(routes!(label_values))
        .route("/query", post(query))
        .route("/query_range", post(query_range))
        .route("/series", post(series))
        .route("/labels", post(labels))
        .merge(metadata::routes())
}
