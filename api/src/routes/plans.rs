//! The plan: the latest, the one that stood then, or a new one; the demand that it expects; what plans in shadow would have done.

use axum::{Json as Answer, extract::State, http::StatusCode};
use harbinger_core::{DepotId, PartId, Timestamp};
use harbinger_store::ledger::{
    audit,
    kpi::{self, WouldHaveBeen},
    plans::{self, PlanRow},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Error, Result},
    extract::{Json, Query},
    guard::uninterrupted,
    page::Page,
    state::ApiState,
};

/// A plan as it was made.
#[derive(Debug, Serialize, ToSchema)]
struct PlanView {
    /// Its id.
    plan_id: String,
    /// Event time that it is for.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// Whether too many of the forecasts that it should have used were rejected.
    degraded: bool,
    /// When it was made, wall clock.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The plan: a cell for each part and depot with its demand and stock, the proposals and their reasons.
    #[schema(value_type = Object)]
    plan: Value,
}

impl From<PlanRow> for PlanView {
    fn from(row: PlanRow) -> Self {
        let PlanRow { plan_id, as_of, degraded, body, created_wall } = row;
        Self { plan_id, as_of, degraded, created_at: created_wall, plan: body }
    }
}

/// Which plan is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    /// The plan that stood at this event time; the latest unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
}

async fn standing(state: &ApiState, caller: &Caller<Read>, as_of: Option<Timestamp>) -> Result<PlanRow> {
    let mut connection = state.ledger.read().await?;
    let at = as_of.unwrap_or(Timestamp::MAX);
    let row = plans::as_of(&mut connection, &caller.tenant, at).await?;
    row.ok_or_else(|| Error::not_found("plan", &as_of.map_or_else(|| "latest".to_owned(), |at| at.to_string())))
}

/// The latest plan, or the one that stood at `as_of`
#[utoipa::path(
    get, path = "/plan", tag = "plan", params(PlanQuery), security(("key" = ["read"])),
    responses((status = 200, body = PlanView))
)]
async fn get_plan(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<PlanQuery>,
) -> Result<Answer<PlanView>> {
    Ok(Answer(standing(&state, &caller, query.as_of).await?.into()))
}

/// For when a plan shall be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlanRequest {
    /// Event time; now unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
}

/// Make a plan now
#[utoipa::path(
    post, path = "/plan", tag = "plan", request_body = Option<PlanRequest>, security(("key" = ["operate"])),
    responses((status = 201, body = PlanView))
)]
async fn run_plan(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    request: Option<Json<PlanRequest>>,
) -> Result<(StatusCode, Answer<PlanView>)> {
    let as_of = request.unwrap_or_default().0.as_of;
    uninterrupted(async move {
        let plan_id = state.control.run_plan(&caller.tenant, as_of).await?;
        let mut tx = state.ledger.write().await?;
        let row = plans::get(&mut tx, &caller.tenant, &plan_id).await?;
        let what = (caller.actor.as_str(), "plan.run", plan_id.as_str());
        let detail = serde_json::json!({ "as_of": row.as_of });
        audit::append(&mut tx, &caller.tenant, state.clock.now(), what, &detail).await?;
        commit(tx).await?;
        state.changed();
        Ok((StatusCode::CREATED, Answer(row.into())))
    })
    .await
}

/// Which demand is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DemandQuery {
    /// Only this part.
    #[param(value_type = Option<String>)]
    part: Option<PartId>,
    /// Only this depot.
    #[param(value_type = Option<String>)]
    depot: Option<DepotId>,
    /// From the plan that stood at this event time; the latest unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
}

/// The demand that the plan expects, by part and depot: the plan's cells
#[utoipa::path(
    get, path = "/demand", tag = "plan", params(DemandQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<Object>))
)]
async fn demand(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<DemandQuery>,
) -> Result<Answer<Page<Value>>> {
    let row = standing(&state, &caller, query.as_of).await?;
    let is = |cell: &Value, field: &str, wanted: Option<&str>| {
        wanted.is_none_or(|wanted| cell.get(field).and_then(Value::as_str) == Some(wanted))
    };
    let cells = row.body.get("cells").and_then(Value::as_array).cloned().unwrap_or_default();
    let (part, depot) = (query.part.as_ref().map(PartId::as_str), query.depot.as_ref().map(DepotId::as_str));
    let items = cells.into_iter().filter(|cell| is(cell, "part", part) && is(cell, "depot", depot)).collect();
    Ok(Answer(Page::whole(items)))
}

/// A span of event time.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Span {
    /// First instant inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// What plans in shadow would have done, beside what happened.
#[derive(Debug, Serialize, ToSchema)]
struct ShadowPlansView {
    /// Plans in shadow, those of the span.
    plans: u64,
    /// Replacements that took a part, from the first of these plans on.
    replacements: u64,
    /// Replacements whose pieces all lay on the shelf of the device's own depot.
    at_once: u64,
    /// `at_once` over `replacements`; null without any.
    fill_rate: Option<f64>,
    /// Replacements that lacked pieces, all of which would have lain there.
    more_at_once: u64,
    /// Both over `replacements`: the fill rate that would have been.
    would_be_fill_rate: Option<f64>,
    /// Pieces that would have been sent from hubs.
    sent: u64,
    /// Pieces of them that no replacement would have used by the end of the span.
    unused: u64,
    /// What sending them would have cost.
    transport_cost: f64,
    /// Pieces that would have been bought.
    bought: u64,
    /// What they would have cost.
    purchase_cost: f64,
}

impl From<WouldHaveBeen> for ShadowPlansView {
    fn from(told: WouldHaveBeen) -> Self {
        let share = |part: u64| (told.replacements > 0).then(|| part as f64 / told.replacements as f64);
        Self {
            plans: told.plans,
            replacements: told.replacements,
            at_once: told.at_once,
            fill_rate: share(told.at_once),
            more_at_once: told.more_at_once,
            would_be_fill_rate: share(told.at_once + told.more_at_once),
            sent: told.sent,
            unused: told.unused,
            transport_cost: told.transport_cost,
            bought: told.bought,
            purchase_cost: told.purchase_cost,
        }
    }
}

/// What plans in shadow would have done (`plan.shadow` in the configuration)
#[utoipa::path(
    get, path = "/plan/shadow", tag = "plan", params(Span), security(("key" = ["read"])),
    responses((status = 200, body = ShadowPlansView))
)]
async fn shadow(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(span): Query<Span>,
) -> Result<Answer<ShadowPlansView>> {
    let mut connection = state.ledger.read().await?;
    let range = super::range(span.from, span.to);
    let (plans, uses) = kpi::shadow_plans(&mut connection, &caller.tenant, range).await?;
    drop(connection);
    let told = tokio::task::spawn_blocking(move || kpi::would_have_been(&plans, &uses)).await;
    Ok(Answer(told.map_err(|error| Error::internal("reckon what plans would have done", &error))?.into()))
}

/// The routes of plans.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_plan, run_plan)).routes(routes!(demand)).routes(routes!(shadow))
}
