//! What Grafana asks for beside data: who answers, what signals are, and what we have none of.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, routing::post};
use harbinger_core::fleet::SignalSpec;
use harbinger_store::ledger::registry;
use serde::Serialize;
use serde_json::json;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Result, answer::success, parameters::Parameters};
use crate::{
    auth::{Caller, Read},
    state::ApiState,
};

/// The Prometheus whose protocol and semantics these routes follow: Grafana chooses by it how it asks.
const PROMETHEUS_VERSION: &str = "2.42.0";

/// Which version of Prometheus' protocol is spoken here
#[utoipa::path(
    get, path = "/status/buildinfo", tag = "prometheus", security(("key" = ["read"])),
    responses((status = 200, body = serde_json::Value))
)]
async fn build_information(_: Caller<Read>) -> Result {
    let revision = concat!("harbinger ", env!("CARGO_PKG_VERSION"));
    let data = json!({
        "version": PROMETHEUS_VERSION, "revision": revision, "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""
    });
    Ok(success(data, &[]))
}

/// What is known of a metric.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Metadata {
    r#type: &'static str,
    help: String,
    unit: String,
}

/// Unit and words of each signal that a hardware model declares
#[utoipa::path(
    get, path = "/metadata", tag = "prometheus", security(("key" = ["read"])),
    params(
        ("metric" = Option<String>, Query, description = "Only of this signal"),
        ("limit" = Option<usize>, Query, description = "Most signals; 0 or nothing is no bound"),
    ),
    responses((status = 200, body = serde_json::Value))
)]
async fn metadata(caller: Caller<Read>, State(state): State<ApiState>, parameters: Parameters) -> Result {
    let mut connection = state.ledger.read().await?;
    let specs: Vec<SignalSpec> = registry::list(&mut connection, &caller.tenant, None, usize::MAX).await?;
    let wanted = parameters.get("metric");
    // Models that say the same of a signal say it once.
    let mut signals: BTreeMap<&str, BTreeSet<Metadata>> = BTreeMap::new();
    for spec in specs.iter().filter(|spec| wanted.is_none_or(|wanted| wanted == spec.signal.as_str())) {
        let help = spec.description.clone().unwrap_or_default();
        let metadata = Metadata { r#type: "gauge", help, unit: spec.unit.clone() };
        signals.entry(spec.signal.as_str()).or_default().insert(metadata);
    }
    let some: BTreeMap<_, _> = signals.into_iter().take(parameters.limit()?).collect();
    Ok(success(some, &[]))
}

/// Rules: there are none
#[utoipa::path(
    get, path = "/rules", tag = "prometheus", security(("key" = ["read"])), responses((status = 200, body = serde_json::Value))
)]
async fn rules(_: Caller<Read>) -> Result {
    Ok(success(json!({ "groups": [] }), &[]))
}

/// Exemplars: there are none
#[utoipa::path(
    get, path = "/query_exemplars", tag = "prometheus", security(("key" = ["read"])), responses((status = 200, body = serde_json::Value))
)]
async fn exemplars(_: Caller<Read>) -> Result {
    Ok(success(json!([]), &[]))
}

/// The routes.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(build_information))
        .routes(routes!(metadata))
        .routes(routes!(rules))
        .routes(routes!(exemplars))
        .route("/query_exemplars", post(exemplars))
}
