//! Webhook endpoints, what they were sent, and what could not be delivered.

use axum::{Json as Answer, extract::State, http::StatusCode};
use harbinger_alerts::webhook::endpoint;
use harbinger_core::Timestamp;
use harbinger_store::ledger::{
    audit,
    webhooks::{
        self, Webhook, WebhookState,
        outbox::{self, Delivery, DeliveryState},
    },
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Error, Result},
    extract::{Json, Path, Query},
    guard::uninterrupted,
    page::{Page, PageQuery},
    state::ApiState,
};

/// An endpoint that is told of events.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookView {
    /// Its id.
    webhook_id: String,
    /// Where requests go.
    url: String,
    /// Event types (`alert.raised`) or families (`alert.*`) that it wants; empty for all.
    event_types: Vec<String>,
    /// `active` or `disabled`.
    #[schema(example = "active")]
    state: &'static str,
    /// Why it is disabled.
    disabled_reason: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Until when the secret before the last rotation signs too.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// The signing secret: shown once, when it is made or rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Webhook> for WebhookView {
    fn from(row: Webhook) -> Self {
        Self {
            webhook_id: row.webhook_id,
            url: row.url,
            event_types: row.event_types,
            state: row.state.as_str(),
            disabled_reason: row.disabled_reason,
            created_at: row.created_wall,
            previous_secret_until: row.previous_until_wall,
            secret: None,
        }
    }
}

fn with_secret(row: Webhook) -> WebhookView {
    let secret = Some(row.secret.expose().to_owned());
    WebhookView { secret, ..WebhookView::from(row) }
}

/// An endpoint to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// Where requests go: https, at a public address.
    #[schema(example = "https://example.com/hooks/harbinger")]
    url: String,
    /// Event types (`alert.raised`) or families (`alert.*`) that it wants; empty for all.
    #[serde(default)]
    event_types: Vec<String>,
    /// A signing secret brought along (`whsec_...`, Standard Webhooks); a random one is made unless told.
    secret: Option<String>,
}

/// What is to be changed of an endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookChange {
    /// Where requests go from now on.
    url: Option<String>,
    /// Event types that it wants from now on.
    event_types: Option<Vec<String>>,
    /// Switch it on or off. What is owed when it is switched off becomes dead letters.
    enabled: Option<bool>,
}

/// Webhook endpoints
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks", params(PageQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<WebhookView>))
)]
async fn list_webhooks(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
) -> Result<Answer<Page<WebhookView>>> {
    let limit = page.limit()?;
    let after = page.after_one("webhooks")?;
    let mut connection = state.ledger.read().await?;
    let rows = webhooks::list(&mut connection, &caller.tenant, after.as_deref(), super::one_more(limit)).await?;
    Ok(Answer(Page::of(rows, limit, "webhooks", |row| vec![row.webhook_id.clone()], WebhookView::from)))
}

/// Make a webhook endpoint; the answer shows its signing secret, once
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks", request_body = NewWebhook, security(("key" = ["operate"])),
    responses((status = 201, body = WebhookView))
)]
async fn create_webhook(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Json(new): Json<NewWebhook>,
) -> Result<(StatusCode, Answer<WebhookView>)> {
    let now = state.clock.now();
    let NewWebhook { url, event_types, secret } = new;
    let guard = &state.webhook_guard;
    let row = endpoint::new(caller.tenant.clone(), &url, event_types, secret.as_deref(), guard, now)
        .map_err(|error| Error::unprocessable(error.to_string()))?;
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        webhooks::insert(&mut tx, &row).await?;
        note(&state, &mut tx, &caller, "webhook.create", &row).await?;
        commit(tx).await?;
        Ok((StatusCode::CREATED, Answer(with_secret(row))))
    })
    .await
}

async fn note(
    state: &ApiState,
    tx: &mut harbinger_store::ledger::Connection,
    caller: &Caller<Operate>,
    action: &str,
    row: &Webhook,
) -> Result<()> {
    let detail = serde_json::json!({ "url": row.url, "event_types": row.event_types });
    let what = (caller.actor.as_str(), action, row.webhook_id.as_str());
    audit::append(tx, &caller.tenant, state.clock.now(), what, &detail).await?;
    Ok(())
}

/// A webhook endpoint
#[utoipa::path(
    get, path = "/webhooks/{webhook_id}", tag = "webhooks", params(("webhook_id" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = WebhookView))
)]
async fn get_webhook(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(webhook_id): Path<String>,
) -> Result<Answer<WebhookView>> {
    let mut connection = state.ledger.read().await?;
    Ok(Answer(webhooks::get(&mut connection, &caller.tenant, &webhook_id).await?.into()))
}

/// Change a webhook endpoint
#[utoipa::path(
    patch, path = "/webhooks/{webhook_id}", tag = "webhooks", params(("webhook_id" = String, Path)),
    request_body = WebhookChange, security(("key" = ["operate"])), responses((status = 200, body = WebhookView))
)]
async fn change_webhook(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(webhook_id): Path<String>,
    Json(change): Json<WebhookChange>,
) -> Result<Answer<WebhookView>> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let tenant = &caller.tenant;
        let mut row = webhooks::get(&mut tx, tenant, &webhook_id).await?;
        row.url = change.url.unwrap_or(row.url);
        row.event_types = change.event_types.unwrap_or(row.event_types);
        endpoint::check(&row.url, &row.event_types, &state.webhook_guard)
            .map_err(|error| Error::unprocessable(error.to_string()))?;
        webhooks::update(&mut tx, &row).await?;
        match change.enabled {
            Some(true) if row.state != WebhookState::Active => webhooks::enable(&mut tx, tenant, &webhook_id).await?,
            Some(false) if row.state == WebhookState::Active => {
                webhooks::disable(&mut tx, tenant, &webhook_id, "switched off through the API").await?;
            }
            _ => {}
        }
        note(&state, &mut tx, &caller, "webhook.change", &row).await?;
        let row = webhooks::get(&mut tx, tenant, &webhook_id).await?;
        commit(tx).await?;
        Ok(Answer(row.into()))
    })
    .await
}

/// Remove a webhook endpoint and what it is owed
#[utoipa::path(
    delete, path = "/webhooks/{webhook_id}", tag = "webhooks", params(("webhook_id" = String, Path)),
    security(("key" = ["operate"])), responses((status = 204))
)]
async fn delete_webhook(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(webhook_id): Path<String>,
) -> Result<StatusCode> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let row = webhooks::get(&mut tx, &caller.tenant, &webhook_id).await?;
        webhooks::delete(&mut tx, &caller.tenant, &webhook_id).await?;
        note(&state, &mut tx, &caller, "webhook.delete", &row).await?;
        commit(tx).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Give a webhook endpoint a new signing secret, shown once; the old one signs beside it for a day
#[utoipa::path(
    post, path = "/webhooks/{webhook_id}/rotate-secret", tag = "webhooks", params(("webhook_id" = String, Path)),
    security(("key" = ["operate"])), responses((status = 200, body = WebhookView))
)]
async fn rotate_secret(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(webhook_id): Path<String>,
) -> Result<Answer<WebhookView>> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let row = webhooks::get(&mut tx, &caller.tenant, &webhook_id).await?;
        let row =
            endpoint::rotate(&row, state.clock.now()).map_err(|error| Error::internal("make a secret", &error))?;
        webhooks::update(&mut tx, &row).await?;
        note(&state, &mut tx, &caller, "webhook.rotate_secret", &row).await?;
        commit(tx).await?;
        Ok(Answer(with_secret(row)))
    })
    .await
}

/// One event owed to one endpoint.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryView {
    /// Its id; later deliveries sort later.
    delivery_id: String,
    /// The endpoint.
    webhook_id: String,
    /// The message: the same for every endpoint and every attempt.
    message_id: String,
    /// What happened.
    event_type: String,
    /// The request body, as it is signed.
    body: String,
    /// `pending`, `delivered` or `dead`.
    #[schema(example = "delivered")]
    state: &'static str,
    /// Attempts made since it was enqueued or last redelivered.
    attempts: u32,
    /// When it may be attempted next; while pending.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// When it was enqueued.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was answered with 2xx.
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    /// HTTP status of the last attempt.
    last_status: Option<u16>,
    /// Why the last attempt failed.
    last_error: Option<String>,
}

impl From<Delivery> for DeliveryView {
    fn from(row: Delivery) -> Self {
        Self {
            delivery_id: row.delivery_id,
            webhook_id: row.webhook_id,
            message_id: row.message_id,
            event_type: row.event_type,
            body: row.body,
            state: row.state.as_str(),
            attempts: row.attempts,
            next_attempt_at: (row.state == DeliveryState::Pending).then_some(row.next_attempt_wall),
            created_at: row.created_wall,
            delivered_at: row.delivered_wall,
            last_status: row.last_status,
            last_error: row.last_error,
        }
    }
}

/// Which deliveries are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DeliveryQuery {
    /// `pending`, `delivered` or `dead` (dead letters) only.
    state: Option<String>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What an endpoint was and is to be sent, newest first; `state=dead` for the dead letters
#[utoipa::path(
    get, path = "/webhooks/{webhook_id}/deliveries", tag = "webhooks",
    params(("webhook_id" = String, Path), DeliveryQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<DeliveryView>))
)]
async fn list_deliveries(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(webhook_id): Path<String>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Answer<Page<DeliveryView>>> {
    let wanted = super::words::<DeliveryState>(query.state.as_deref(), "state")?.into_iter().next();
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let before = page.after_one("deliveries")?;
    let mut connection = state.ledger.read().await?;
    let endpoint = webhooks::get(&mut connection, &caller.tenant, &webhook_id).await?.webhook_id;
    let rows = outbox::list(&mut connection, &endpoint, wanted, before.as_deref(), super::one_more(limit)).await?;
    Ok(Answer(Page::of(rows, limit, "deliveries", |row| vec![row.delivery_id.clone()], DeliveryView::from)))
}

/// Send a delivery again, whatever became of it
#[utoipa::path(
    post, path = "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", tag = "webhooks",
    params(("webhook_id" = String, Path), ("delivery_id" = String, Path)), security(("key" = ["operate"])),
    responses((status = 200, body = DeliveryView))
)]
async fn redeliver(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path((webhook_id, delivery_id)): Path<(String, String)>,
) -> Result<Answer<DeliveryView>> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let row = webhooks::get(&mut tx, &caller.tenant, &webhook_id).await?;
        outbox::redeliver(&mut tx, &row, &delivery_id, state.clock.now()).await?;
        let delivery = outbox::get(&mut tx, &row.webhook_id, &delivery_id).await?;
        note(&state, &mut tx, &caller, "webhook.redeliver", &row).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(delivery.into()))
    })
    .await
}

/// How many were made pending again.
#[derive(Debug, Serialize, ToSchema)]
struct Redelivered {
    /// Dead letters that are pending again.
    redelivered: u64,
}

/// Send all dead letters of an endpoint again
#[utoipa::path(
    post, path = "/webhooks/{webhook_id}/redeliver-dead", tag = "webhooks", params(("webhook_id" = String, Path)),
    security(("key" = ["operate"])), responses((status = 200, body = Redelivered))
)]
async fn redeliver_dead(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(webhook_id): Path<String>,
) -> Result<Answer<Redelivered>> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let row = webhooks::get(&mut tx, &caller.tenant, &webhook_id).await?;
        let redelivered = outbox::redeliver_dead(&mut tx, &row, state.clock.now()).await?;
        note(&state, &mut tx, &caller, "webhook.redeliver_dead", &row).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(Redelivered { redelivered }))
    })
    .await
}

/// The routes of webhooks.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_webhooks, create_webhook))
        .routes(routes!(get_webhook, change_webhook, delete_webhook))
        .routes(routes!(rotate_secret))
        .routes(routes!(list_deliveries))
        .routes(routes!(redeliver))
        .routes(routes!(redeliver_dead))
}
