//! Statistical models: which versions there are, which one scores, and changing that.

use axum::{Json as Answer, extract::State, http::StatusCode};
use harbinger_core::{Duration, Timestamp};
use harbinger_store::ledger::{
    audit,
    models::{self, Model},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::Result,
    extract::Path,
    guard::uninterrupted,
    page::Page,
    state::ApiState,
};

/// A version of the statistical model.
#[derive(Debug, Serialize, ToSchema)]
struct ModelView {
    /// Its version.
    version: String,
    /// `candidate`, `champion` or `retired`.
    #[schema(example = "champion")]
    state: &'static str,
    /// It has seen nothing later than this event time.
    #[schema(value_type = String, format = DateTime)]
    trained_until: Timestamp,
    /// When it was trained, wall clock.
    #[schema(value_type = String, format = DateTime)]
    trained_at: Timestamp,
    /// Its horizons, the main one first.
    #[schema(value_type = Vec<String>, example = json!(["7d", "14d"]))]
    horizons: Vec<Duration>,
    /// What training tells of it: families, thresholds, measures.
    #[schema(value_type = Object)]
    summary: serde_json::Value,
}

impl From<Model> for ModelView {
    fn from(row: Model) -> Self {
        Self {
            version: row.version,
            state: row.state.as_str(),
            trained_until: row.trained_until,
            trained_at: row.trained_wall,
            horizons: row.horizons,
            summary: row.summary,
        }
    }
}

/// Statistical models
#[utoipa::path(
    get, path = "/models", tag = "models", security(("key" = ["read"])),
    responses((status = 200, body = Page<ModelView>))
)]
async fn list_models(caller: Caller<Read>, State(state): State<ApiState>) -> Result<Answer<Page<ModelView>>> {
    let mut connection = state.ledger.read().await?;
    let rows = models::list(&mut connection, &caller.tenant).await?;
    Ok(Answer(Page::whole(rows.into_iter().map(ModelView::from).collect())))
}

/// A statistical model
#[utoipa::path(
    get, path = "/models/{version}", tag = "models", params(("version" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = ModelView))
)]
async fn get_model(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(version): Path<String>,
) -> Result<Answer<ModelView>> {
    let mut connection = state.ledger.read().await?;
    Ok(Answer(models::get(&mut connection, &caller.tenant, &version).await?.into()))
}

/// Make a version the one that scores; promoting a retired one rolls back
#[utoipa::path(
    post, path = "/models/{version}/promote", tag = "models", params(("version" = String, Path)),
    security(("key" = ["operate"])), responses((status = 200, body = ModelView))
)]
async fn promote_model(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(version): Path<String>,
) -> Result<Answer<ModelView>> {
    uninterrupted(async move {
        let tenant = &caller.tenant;
        let at = state.control.event_time(tenant);
        let mut tx = state.ledger.write().await?;
        let view = ModelView::from(models::promote(&mut tx, tenant, &version).await?);
        state.alerts.publish(&mut tx, tenant, "model.promoted", &version, at, &serde_json::json!(view)).await?;
        let what = (caller.actor.as_str(), "model.promote", version.as_str());
        audit::append(&mut tx, tenant, state.clock.now(), what, &serde_json::json!({})).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(view))
    })
    .await
}

/// Train now on what is known; the new version
#[utoipa::path(
    post, path = "/models", tag = "models", security(("key" = ["operate"])),
    responses((status = 201, body = ModelView))
)]
async fn train_model(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
) -> Result<(StatusCode, Answer<ModelView>)> {
    uninterrupted(async move {
        let version = state.control.retrain(&caller.tenant).await?;
        let mut tx = state.ledger.write().await?;
        let row = models::get(&mut tx, &caller.tenant, &version).await?;
        let what = (caller.actor.as_str(), "model.train", version.as_str());
        audit::append(&mut tx, &caller.tenant, state.clock.now(), what, &serde_json::json!({})).await?;
        commit(tx).await?;
        state.changed();
        Ok((StatusCode::CREATED, Answer(row.into())))
    })
    .await
}

/// The routes of statistical models.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_models, train_model))
        .routes(routes!(get_model))
        .routes(routes!(promote_model))
}
