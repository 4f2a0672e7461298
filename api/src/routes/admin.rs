//! Keys and the audit record: for whoever holds an admin key.

use axum::{Json as Answer, extract::State, http::StatusCode};
use harbinger_core::Timestamp;
use harbinger_store::ledger::{
    audit::{self, Entry},
    keys::{self, Key, NewKey, Scope},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Admin, Caller},
    errors::{Error, Result},
    extract::{Json, Path, Query},
    guard::uninterrupted,
    page::{Page, PageQuery},
    state::ApiState,
};

/// An API key, without its text.
#[derive(Debug, Serialize, ToSchema)]
struct KeyView {
    /// Its id, which is no secret.
    key_id: String,
    /// What it is for.
    name: String,
    /// What its holder may do: `ingest`, `read`, `operate` (reads too), `admin` (everything).
    scopes: Vec<&'static str>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when it is no longer taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// The key itself: shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl From<Key> for KeyView {
    fn from(row: Key) -> Self {
        Self {
            key_id: row.key_id,
            name: row.name,
            scopes: row.scopes.iter().map(|scope| scope.as_str()).collect(),
            created_at: row.created_wall,
            expires_at: row.expires_wall,
            last_used_at: row.last_used_wall,
            revoked_at: row.revoked_wall,
            key: None,
        }
    }
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    /// What it is for.
    name: String,
    /// What its holder may do: `ingest`, `read`, `operate`, `admin`.
    #[schema(example = json!(["ingest", "operate"]))]
    scopes: Vec<String>,
    /// From when it is no longer taken; never unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// API keys of the tenant
#[utoipa::path(
    get, path = "/keys", tag = "admin", security(("key" = ["admin"])), responses((status = 200, body = Page<KeyView>))
)]
async fn list_keys(caller: Caller<Admin>, State(state): State<ApiState>) -> Result<Answer<Page<KeyView>>> {
    let mut connection = state.ledger.read().await?;
    let rows = keys::list(&mut connection, &caller.tenant).await?;
    Ok(Answer(Page::whole(rows.into_iter().map(KeyView::from).collect())))
}

/// Make an API key; the answer shows it, once
#[utoipa::path(
    post, path = "/keys", tag = "admin", request_body = KeyRequest, security(("key" = ["admin"])),
    responses((status = 201, body = KeyView))
)]
async fn create_key(
    caller: Caller<Admin>,
    State(state): State<ApiState>,
    Json(request): Json<KeyRequest>,
) -> Result<(StatusCode, Answer<KeyView>)> {
    let parse = |word: &String| word.parse().map_err(|error| Error::unprocessable(format!("scopes: {error}")));
    let scopes: Vec<Scope> = request.scopes.iter().map(parse).collect::<Result<_>>()?;
    if scopes.is_empty() || request.name.trim().is_empty() {
        return Err(Error::unprocessable("a key needs a name and at least one scope"));
    }
    uninterrupted(async move {
        let now = state.clock.now();
        let new = NewKey { name: request.name.trim(), scopes: &scopes, expires_wall: request.expires_at };
        let mut tx = state.ledger.write().await?;
        let (plain, row) = keys::create(&mut tx, &caller.tenant, &new, now).await?;
        let detail = serde_json::json!({ "name": request.name, "scopes": request.scopes });
        let what = (caller.actor.as_str(), "key.create", row.key_id.as_str());
        audit::append(&mut tx, &caller.tenant, now, what, &detail).await?;
        commit(tx).await?;
        let view = KeyView { key: Some(plain.reveal().to_owned()), ..KeyView::from(row) };
        Ok((StatusCode::CREATED, Answer(view)))
    })
    .await
}

/// Revoke an API key
#[utoipa::path(
    delete, path = "/keys/{key_id}", tag = "admin", params(("key_id" = String, Path)),
    security(("key" = ["admin"])), responses((status = 204))
)]
async fn revoke_key(
    caller: Caller<Admin>,
    State(state): State<ApiState>,
    Path(key_id): Path<String>,
) -> Result<StatusCode> {
    uninterrupted(async move {
        let now = state.clock.now();
        let mut tx = state.ledger.write().await?;
        keys::revoke(&mut tx, &caller.tenant, &key_id, now).await?;
        let what = (caller.actor.as_str(), "key.revoke", key_id.as_str());
        audit::append(&mut tx, &caller.tenant, now, what, &serde_json::json!({})).await?;
        commit(tx).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
struct AuditView {
    /// Its id; later entries sort later.
    audit_id: String,
    /// When, wall clock.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who: the id of a key, or `harbinger`.
    actor: String,
    /// What, such as `alert.close`.
    action: String,
    /// To what.
    subject: String,
    /// What was given with it.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl From<Entry> for AuditView {
    fn from(row: Entry) -> Self {
        let Entry { audit_id, at_wall, actor, action, subject, detail } = row;
        Self { audit_id, at: at_wall, actor, action, subject, detail }
    }
}

/// Who did what, newest first
#[utoipa::path(
    get, path = "/audit", tag = "admin", params(PageQuery), security(("key" = ["admin"])),
    responses((status = 200, body = Page<AuditView>))
)]
async fn list_audit(
    caller: Caller<Admin>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> Result<Answer<Page<AuditView>>> {
    let limit = page.limit()?;
    let before = page.after_one("audit")?;
    let mut connection = state.ledger.read().await?;
    let rows = audit::list(&mut connection, &caller.tenant, before.as_deref(), limit + 1).await?;
    Ok(Answer(Page::of(rows, limit, "audit", |row| vec![row.audit_id.clone()], AuditView::from)))
}

/// The routes of keys and audit.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list_keys, create_key)).routes(routes!(revoke_key)).routes(routes!(list_audit))
}
