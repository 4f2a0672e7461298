//! Beside the interface: is it alive, is it ready, its metrics, its console, and what a problem means. No key is asked for.

use std::collections::BTreeMap;

use axum::{
    Json as Answer, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use prometheus_client::encoding::text::encode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    errors::{Code, Error, Result},
    extract::{Path, Query},
    state::ApiState,
};

/// The console: one page, no build step.
const CONSOLE: &str = include_str!("../../../console/index.html");

/// The process answers
#[utoipa::path(get, path = "/livez", tag = "service", responses((status = 200, body = String, content_type = "text/plain")))]
async fn livez() -> &'static str {
    "ok\n"
}

/// How much is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ReadyQuery {
    /// Say of every part whether it is ready.
    verbose: Option<String>,
}

/// Whether the process can do its work.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// Whether all parts are ready.
    ready: bool,
    /// Part by part `ok` or why not; those that are not ready, or with `verbose` all.
    parts: BTreeMap<&'static str, String>,
}

/// Whether the process can do its work; 503 where it cannot, with the reasons
#[utoipa::path(
    get, path = "/readyz", tag = "service", params(ReadyQuery),
    responses((status = 200, body = Ready), (status = 503, body = Ready))
)]
async fn readyz(State(state): State<ApiState>, Query(query): Query<ReadyQuery>) -> (StatusCode, Answer<Ready>) {
    let mut parts = state.readiness.parts();
    let ledger = async {
        let mut connection = state.ledger.read().await?;
        harbinger_store::ledger::registry::tenants(&mut connection).await
    };
    parts.insert("ledger", ledger.await.map(drop).map_err(|error| error.to_string()));
    let ready = parts.values().all(std::result::Result::is_ok);
    let verbose = query.verbose.as_deref().is_some_and(|verbose| verbose != "false");
    let parts = parts
        .into_iter()
        .filter(|(_, state)| verbose || state.is_err())
        .map(|(part, state)| (part, state.err().unwrap_or_else(|| "ok".to_owned())))
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Answer(Ready { ready, parts }))
}

/// Metrics of the whole process as OpenMetrics text
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(state): State<ApiState>) -> Result<Response> {
    let mut text = String::new();
    encode(&mut text, &state.registry).map_err(|error| Error::internal("write metrics", &error))?;
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What a kind of problem means and how to go on
#[utoipa::path(
    get, path = "/problems/{code}", tag = "service", params(("code" = String, Path)),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn problem(Path(code): Path<String>) -> Result<String> {
    let found = Code::ALL.iter().find(|known| known.as_str() == code);
    let code = found.ok_or_else(|| Error::not_found("kind of problem", &code))?;
    Ok(format!("{} ({})\n\n{}\n", code.title(), code.status(), code.help()))
}

async fn console() -> Response {
    // The page talks to this server only, and nothing of it comes from elsewhere.
    let policy = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Html(CONSOLE)).into_response()
}

/// The routes that are described.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(problem))
}

/// The console's page.
pub(crate) fn page() -> Router<ApiState> {
    Router::new().route("/", get(console))
}
