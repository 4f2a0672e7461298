//! How each version of the statistical model did: its predictions beside what came of them.

use axum::{Json as Answer, extract::State};
use harbinger_core::Timestamp;
use harbinger_store::ledger::models;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Caller, Read},
    errors::Result,
    extract::{Path, Query},
    page::Page,
    standing::{Example, Standing},
    state::ApiState,
};

/// A span of event time.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ScoreboardQuery {
    /// First prediction inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First prediction after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// Predictions beside what came of them, by version of the statistical model and by hardware model
#[utoipa::path(
    get, path = "/scoreboard", tag = "models", params(ScoreboardQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<Standing>))
)]
async fn get_scoreboard(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<ScoreboardQuery>,
) -> Result<Answer<Page<Standing>>> {
    let standings = state.control.scoreboard(&caller.tenant, super::range(query.from, query.to)).await?;
    Ok(Answer(Page::whole(standings)))
}

/// Three failures that a version foresaw, three that it missed and three false alarms, the clearest of each, with their curves
#[utoipa::path(
    get, path = "/scoreboard/{version}/examples", tag = "models", params(("version" = String, Path), ScoreboardQuery),
    security(("key" = ["read"])), responses((status = 200, body = Page<Example>))
)]
async fn get_examples(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(version): Path<String>,
    Query(query): Query<ScoreboardQuery>,
) -> Result<Answer<Page<Example>>> {
    let mut connection = state.ledger.read().await?;
    models::get(&mut connection, &caller.tenant, &version).await?;
    // To judge predictions takes a while: no reader of the ledger waits for it.
    drop(connection);
    let range = super::range(query.from, query.to);
    Ok(Answer(Page::whole(state.control.examples(&caller.tenant, range, &version).await?)))
}

/// The routes of the scoreboard.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_scoreboard)).routes(routes!(get_examples))
}
