//! The REST API under `/api/v1`: routes, their OpenAPI document, keys, the live stream, the console.
//!
//! [`app_with`] makes a router that serves a listener and socket-free tests alike. Handlers are thin: they read the request,
//! ask the ledger or the telemetry store, and show what comes as views of their own.
//!
//! **Invariant**: every query takes the tenant of the caller's key, and what belongs to somebody else is answered like what
//! does not exist.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, Uri, header},
    middleware::{from_fn, from_fn_with_state},
    response::IntoResponse,
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

pub mod auth;
pub mod erasure;
pub mod errors;
mod extract;
mod guard;
mod idempotency;
mod metrics;
mod openapi;
pub mod page;
mod prometheus;
mod routes;
pub mod standing;
pub mod state;
mod table;
pub mod views;

pub use auth::{Authorize, authorize};
pub use erasure::{Erasure, Gone};
pub use errors::Problem;
pub use extract::BODY_BYTES_MAX;
pub use openapi::intake as intake_description;
pub use state::{ApiState, Control, ControlError, Parts, Readiness, Recomputed};

/// The whole interface with routes of others beside it, such as the intake of telemetry, described in the same OpenAPI
/// document. Those ask for keys themselves: see [`authorize`].
pub fn app_with(state: ApiState, others: Router, others_described: Option<utoipa::openapi::OpenApi>) -> Router {
    let (router, mut document) = described(Some(&state)).split_for_parts();
    if let Some(described) = others_described {
        document.merge(described);
    }
    openapi::complete(&mut document);
    let text: Arc<str> = document_text(&document).into();
    let document_route = get(move || {
        let text = Arc::clone(&text);
        async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text.to_string()) }
    });
    router
        .route("/openapi.json", document_route)
        .merge(routes::service::page())
        .with_state(state.clone())
        .merge(others)
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(from_fn_with_state(state, guard::shed_and_count))
        .layer(from_fn(no_sniffing))
}

/// The OpenAPI document of the whole service as text, as it is committed beside this crate: [`app_with`] the intake.
#[must_use]
pub fn openapi_document() -> String {
    let (_, mut document) = described(None).split_for_parts();
    document.merge(openapi::intake());
    openapi::complete(&mut document);
    document_text(&document)
}

fn document_text(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().expect("a document of strings and numbers is always JSON");
    text.push('\n');
    text
}

/// All routes that are described. With a state they ask for keys; without one they are only described.
fn described(state: Option<&ApiState>) -> OpenApiRouter<ApiState> {
    let mut api = OpenApiRouter::new()
        .merge(routes::registry::routes())
        .merge(routes::devices::routes())
        .merge(routes::telemetry::routes())
        .merge(routes::history::routes())
        .merge(routes::predictions::routes())
        .merge(routes::models::routes())
        .merge(routes::alerts::routes())
        .merge(routes::webhooks::routes())
        .merge(routes::stock::routes())
        .merge(routes::orders::routes())
        .merge(routes::returns::routes())
        .merge(routes::pieces::routes())
        .merge(routes::part_uses::routes())
        .merge(routes::work_orders::routes())
        .merge(routes::plans::routes())
        .merge(routes::kpi::routes())
        .merge(routes::scoreboard::routes())
        .merge(routes::quarantine::routes())
        .merge(routes::admin::routes())
        .merge(routes::stream::routes());
    let mut prometheus = prometheus::routes();
    if let Some(state) = state {
        api = api
            .route_layer(from_fn_with_state(state.clone(), idempotency::once))
            .route_layer(from_fn_with_state(state.clone(), auth::require_key));
        prometheus = prometheus.route_layer(from_fn_with_state(state.clone(), auth::require_key));
    }
    OpenApiRouter::with_openapi(openapi::base())
        .merge(routes::service::routes())
        .nest("/api/v1", api)
        .nest("/prometheus/api/v1", prometheus)
}

async fn nothing_there(uri: Uri) -> impl IntoResponse {
    errors::Error::not_found("path", uri.path())
}

async fn wrong_method(uri: Uri) -> impl IntoResponse {
    errors::Error::new(errors::Code::MethodNotAllowed, format!("{:?} does not take this method", uri.path()))
}

/// Tells browsers to take every answer for what it says it is.
async fn no_sniffing(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
