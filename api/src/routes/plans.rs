//! The plan: the latest, the one that stood then, or a new one; and the demand that it expects.

use axum::{Json as Answer, extract::State, http::StatusCode};
use harbinger_core::{DepotId, PartId, Timestamp};
use harbinger_store::ledger::{
    audit,
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

/// The routes of plans.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_plan, run_plan)).routes(routes!(demand))
}
