//! How well it goes: plain counts of what happened, and the results that a manager of service parts is judged by.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State};
use harbinger_core::Timestamp;
use harbinger_store::ledger::{
    alerts::{self, Outcome},
    kpi::{self, By, Facts},
    orders::{self, OrderKind},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Caller, Read},
    errors::{Error, Result},
    extract::Query,
    state::ApiState,
};

mod results;

use results::ResultsView;

/// A span of event time, and what results are told for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct KpiQuery {
    /// First instant inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Tells results, too: as a whole (`none`), as a whole named after the key's `tenant`, by `month` in UTC, by `region` of depots, or by
    /// `class` of parts. Without it there are none: they read every plan of the span.
    by: Option<String>,
}

/// How replacements were met.
#[derive(Debug, Serialize, ToSchema)]
struct ReplacementsView {
    /// Replacements in the span.
    total: u64,
    /// Met from the local shelf.
    from_stock: u64,
    /// `from_stock` over `total`; null without replacements.
    fill_rate: Option<f64>,
    /// Foreseen: an alert stood, or a transfer had named the device.
    predicted: u64,
    /// Met from the local shelf by a piece that a transfer had brought.
    by_transfer: u64,
}

/// How well it goes.
#[derive(Debug, Serialize, ToSchema)]
struct KpiView {
    /// How replacements in the span were met.
    replacements: ReplacementsView,
    /// Alerts by state, now.
    alerts: BTreeMap<&'static str, u64>,
    /// Closed alerts that were raised in the span, by outcome.
    outcomes: BTreeMap<&'static str, u64>,
    /// Share of closed alerts that were confirmed; null where none was closed.
    alert_precision: Option<f64>,
    /// Value of all pieces on shelves, now.
    stock_value: f64,
    /// Transfers by state, now.
    transfers: BTreeMap<&'static str, u64>,
    /// Purchases by state, now.
    purchases: BTreeMap<&'static str, u64>,
    /// Results in the span: service, stock, dead stock, forecasts, churn. Only where `by` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<ResultsView>,
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// Fill rate, service, stock, turns, dead stock, forecasts, churn, precision of alerts, orders
#[utoipa::path(
    get, path = "/kpi", tag = "kpi", params(KpiQuery), security(("key" = ["read"])),
    responses((status = 200, body = KpiView))
)]
async fn get_kpi(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<KpiQuery>,
) -> Result<Answer<KpiView>> {
    let range = super::range(query.from, query.to);
    let by: Option<By> = query.by.as_deref().map(|by| super::word(by, "by")).transpose()?;
    let tenant = &caller.tenant;
    let mut connection = state.ledger.read().await?;
    let uses = orders::use_counts(&mut connection, tenant, range).await?;
    let outcomes = kpi::alerts_by_outcome(&mut connection, tenant, range).await?;
    let closed = outcomes.iter().map(|(_, alerts)| alerts).sum();
    let confirmed = outcomes.iter().filter(|(outcome, _)| *outcome == Outcome::Confirmed).map(|(_, n)| n).sum();
    let alerts = alerts::counts(&mut connection, tenant).await?;
    let transfers = kpi::orders_by_state(&mut connection, tenant, OrderKind::Transfer).await?;
    let purchases = kpi::orders_by_state(&mut connection, tenant, OrderKind::Purchase).await?;
    let stock_value = kpi::stock_value(&mut connection, tenant).await?;
    let mut results = None;
    if let Some(by) = by {
        let facts = Facts::read(&mut connection, tenant, range, state.control.event_time(tenant)).await?;
        drop(connection);
        let reckoned = tokio::task::spawn_blocking(move || kpi::results(&facts, by)).await;
        let reckoned = reckoned.map_err(|error| Error::internal("reckon results", &error))?;
        results = Some(ResultsView::of(reckoned, by.as_str()));
    }
    Ok(Answer(KpiView {
        replacements: ReplacementsView {
            total: uses.total,
            from_stock: uses.from_stock,
            fill_rate: share(uses.from_stock, uses.total),
            predicted: uses.predicted,
            by_transfer: uses.by_transfer,
        },
        alerts: alerts.into_iter().map(|(state, count)| (state.as_str(), count)).collect(),
        outcomes: outcomes.into_iter().map(|(outcome, count)| (outcome.as_str(), count)).collect(),
        alert_precision: share(confirmed, closed),
        stock_value,
        transfers: transfers.into_iter().map(|(state, count)| (state.as_str(), count)).collect(),
        purchases: purchases.into_iter().map(|(state, count)| (state.as_str(), count)).collect(),
        results,
    }))
}

/// The route of figures.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_kpi))
}
