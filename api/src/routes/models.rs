//! Statistical models: which versions there are, which one scores, which one tries to take its place, and changing that.

use axum::{Json as Answer, extract::State, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use harbinger_core::{Duration, Timestamp};
use harbinger_store::ledger::{
    audit,
    models::{self, Model},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Error, Result},
    extract::{Json, Path},
    guard::uninterrupted,
    page::Page,
    standing::ShadowView,
    state::ApiState,
};

/// A version of the statistical model.
#[derive(Debug, Serialize, ToSchema)]
struct ModelView {
    /// Its version.
    version: String,
    /// `candidate`, `challenger` (scores in shadow), `champion` or `retired`.
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

/// Let a version score in shadow beside the champion: nobody acts on what it says. It takes over when the truth of
/// `retrain_every` is known and it told no worse what came, else it retires. The challenger before it retires now
#[utoipa::path(
    post, path = "/models/{version}/challenge", tag = "models", params(("version" = String, Path)),
    security(("key" = ["operate"])), responses((status = 200, body = ModelView))
)]
async fn challenge_model(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(version): Path<String>,
) -> Result<Answer<ModelView>> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let view = ModelView::from(models::challenge(&mut tx, &caller.tenant, &version).await?);
        let what = (caller.actor.as_str(), "model.challenge", version.as_str());
        audit::append(&mut tx, &caller.tenant, state.clock.now(), what, &serde_json::json!({})).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(view))
    })
    .await
}

/// What a version said in shadow beside the champion: so far, or until it was decided which of the two goes on
#[utoipa::path(
    get, path = "/models/{version}/shadow", tag = "models", params(("version" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = ShadowView))
)]
async fn get_shadow(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(version): Path<String>,
) -> Result<Answer<ShadowView>> {
    if let Some(so_far) = state.control.shadow(&caller.tenant, &version).await? {
        return Ok(Answer(so_far));
    }
    let mut connection = state.ledger.read().await?;
    let model = models::get(&mut connection, &caller.tenant, &version).await?;
    let decided = model.summary.get("shadow").and_then(|shadow| ShadowView::deserialize(shadow).ok());
    decided.map(Answer).ok_or_else(|| Error::not_found("time in shadow of model", &version))
}

/// Train now on what is known; the new version, which is the challenger, or the champion where there was nothing to wait for
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

/// A classifier that was trained elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImportModel {
    /// The ONNX file in base64, at most 32 MiB before.
    #[schema(example = "CAgSCHNrbDJvbm54...")]
    file_base64: String,
    /// What it was learnt from and promises: see docs/reference/onnx.md.
    #[schema(value_type = Object)]
    card: serde_json::Value,
}

/// Put a classifier that was trained elsewhere into the version that scores; the new version, which scores in shadow
///
/// The file must do what its card says: the card's rows come out with the card's probabilities, or it is refused.
#[utoipa::path(
    post, path = "/models/onnx", tag = "models", security(("key" = ["operate"])), request_body = ImportModel,
    responses((status = 201, body = ModelView))
)]
async fn import_model(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Json(request): Json<ImportModel>,
) -> Result<(StatusCode, Answer<ModelView>)> {
    let file = STANDARD.decode(request.file_base64.as_bytes());
    let file = file.map_err(|error| Error::unprocessable(format!("file_base64: {error}")))?;
    uninterrupted(async move {
        let version = state.control.import_onnx(&caller.tenant, file, request.card).await?;
        let mut tx = state.ledger.write().await?;
        let row = models::get(&mut tx, &caller.tenant, &version).await?;
        let what = (caller.actor.as_str(), "model.import", version.as_str());
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
        .routes(routes!(import_model))
        .routes(routes!(get_model))
        .routes(routes!(promote_model))
        .routes(routes!(challenge_model))
        .routes(routes!(get_shadow))
}
