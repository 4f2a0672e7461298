//! Messages that could not be taken as telemetry: look, mend, replay or remove.

use axum::{Json as Answer, extract::State, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use harbinger_core::Timestamp;
use harbinger_store::{ledger::audit, telemetry::QuarantineEntry};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Code, Error, Result},
    extract::{Path, Query},
    guard::uninterrupted,
    page::{Page, PageQuery},
    state::ApiState,
};

/// A message that could not be taken.
#[derive(Debug, Serialize, ToSchema)]
struct QuarantinedView {
    /// Its number.
    id: i64,
    /// When it arrived, wall clock.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// MQTT topic name, or the HTTP path.
    topic: String,
    /// Why it was not taken.
    reason: String,
    /// How many readings it was counted as.
    readings: u32,
    /// The payload, where it is text.
    payload: Option<String>,
    /// The payload in base64, where it is not.
    payload_base64: Option<String>,
}

impl From<QuarantineEntry> for QuarantinedView {
    fn from(entry: QuarantineEntry) -> Self {
        let QuarantineEntry { id, message } = entry;
        let (payload, payload_base64) = match String::from_utf8(message.payload) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        let (received_at, topic, reason) = (message.received_at, message.topic, message.reason);
        Self { id, received_at, topic, reason, readings: message.readings, payload, payload_base64 }
    }
}

/// Messages in quarantine, in order of arrival
#[utoipa::path(
    get, path = "/quarantine", tag = "quarantine", params(PageQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<QuarantinedView>))
)]
async fn list_quarantine(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> Result<Answer<Page<QuarantinedView>>> {
    let limit = page.limit()?;
    let bad = |_| Error::new(Code::BadCursor, "no cursor of quarantine");
    let after = page.after_one("quarantine")?.map(|id| id.parse().map_err(bad)).transpose()?.unwrap_or(0);
    let rows = state.telemetry.quarantine(Some(&caller.tenant), after, limit + 1).await?;
    Ok(Answer(Page::of(rows, limit, "quarantine", |row| vec![row.id.to_string()], QuarantinedView::from)))
}

/// A number names a message only for the tenant that it belongs to.
async fn must_be_own(state: &ApiState, caller: &Caller<Operate>, id: i64) -> Result<()> {
    let found = state.telemetry.quarantine(Some(&caller.tenant), id.saturating_sub(1), 1).await?;
    if found.first().is_some_and(|entry| entry.id == id) {
        return Ok(());
    }
    Err(Error::not_found("quarantined message", &id.to_string()))
}

/// Remove a message from quarantine
#[utoipa::path(
    delete, path = "/quarantine/{id}", tag = "quarantine", params(("id" = i64, Path)),
    security(("key" = ["operate"])), responses((status = 204))
)]
async fn remove_quarantined(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(id): Path<i64>,
) -> Result<StatusCode> {
    uninterrupted(async move {
        must_be_own(&state, &caller, id).await?;
        state.telemetry.remove_quarantined(id).await?;
        note(&state, &caller, "quarantine.remove", id).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn note(state: &ApiState, caller: &Caller<Operate>, action: &str, id: i64) -> Result<()> {
    let mut tx = state.ledger.write().await?;
    let what = (caller.actor.as_str(), action, id.to_string());
    let (what, detail) = ((what.0, what.1, what.2.as_str()), serde_json::json!({}));
    audit::append(&mut tx, &caller.tenant, state.clock.now(), what, &detail).await?;
    commit(tx).await
}

/// What a replay stored.
#[derive(Debug, Serialize, ToSchema)]
struct Replayed {
    /// Readings stored.
    stored: u64,
}

/// Decode a message in quarantine again; where that works now, its readings are stored and it is removed
#[utoipa::path(
    post, path = "/quarantine/{id}/replay", tag = "quarantine", params(("id" = i64, Path)),
    security(("key" = ["operate"])), responses((status = 200, body = Replayed))
)]
async fn replay_quarantined(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(id): Path<i64>,
) -> Result<Answer<Replayed>> {
    uninterrupted(async move {
        must_be_own(&state, &caller, id).await?;
        let stored = state.control.replay_quarantined(&caller.tenant, id).await?;
        note(&state, &caller, "quarantine.replay", id).await?;
        Ok(Answer(Replayed { stored }))
    })
    .await
}

/// The routes of quarantine.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_quarantine))
        .routes(routes!(remove_quarantined))
        .routes(routes!(replay_quarantined))
}
