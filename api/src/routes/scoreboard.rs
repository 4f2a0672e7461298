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
    extract::Query,
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

/// A version and a span of event time.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExamplesQuery {
    /// Version of the statistical model.
    model_version: String,
    /// First prediction inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First prediction after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// Failures that a version foresaw, failures that it missed and false alarms of it with their curves: the three clearest of
/// each
#[utoipa::path(
    get, path = "/scoreboard/examples", tag = "models", params(ExamplesQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<Example>))
)]
async fn get_examples(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<ExamplesQuery>,
) -> Result<Answer<Page<Example>>> {
    let mut connection = state.ledger.read().await?;
    models::get(&mut connection, &caller.tenant, &query.model_version).await?;
    // To judge predictions takes a while: no reader of the ledger waits for it.
    drop(connection);
    let range = super::range(query.from, query.to);
    Ok(Answer(Page::whole(state.control.examples(&caller.tenant, range, &query.model_version).await?)))
}

/// The routes of the scoreboard.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_scoreboard)).routes(routes!(get_examples))
}
