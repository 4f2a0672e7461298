//! `Idempotency-Key` on POST: a repeated request is the same request, and gets the same answer.
//!
//! The answer is kept for 24 hours. What a repeat may mend - 5xx, 429 - is not kept. Making an API key is left out: its
//! answer holds a secret that must not be kept. One key stands for one method, path and body.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use harbinger_core::TenantId;
use harbinger_store::ledger::{
    idempotency::{self, Begun},
    keys::Key,
};
use sha2::{Digest as _, Sha256};

use crate::{
    errors::{Code, Error, Result},
    extract::BODY_BYTES_MAX,
    state::ApiState,
};

/// The longest key.
const KEY_BYTES_MAX: usize = 255;
/// The largest answer that is kept; answers to POST are far smaller.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The key of a request, where it has one: what it books may be named after it, so that it is booked once even where the process
/// died before the answer was kept.
pub(crate) fn key_of(headers: &HeaderMap) -> Option<String> {
    headers.get(&IDEMPOTENCY_KEY)?.to_str().ok().map(str::to_owned)
}

/// Answers a repeated POST with what it was answered with before.
pub(crate) async fn once(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let applies = request.method() == Method::POST && !request.uri().path().ends_with("/keys");
    let Some(key) = request.headers().get(&IDEMPOTENCY_KEY).filter(|_| applies).cloned() else {
        return next.run(request).await;
    };
    // The whole is one task: where the connection drops meanwhile, the answer is still kept.
    let work = tokio::spawn(async move { done_once(state, key, request, next).await });
    match work.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(),
        Err(error) => Error::internal("answer a request once", &error).into_response(),
    }
}

async fn done_once(state: ApiState, key: HeaderValue, request: Request, next: Next) -> Result<Response> {
    let bad = || Error::new(Code::BadRequest, "an Idempotency-Key has 1 to 255 visible ASCII characters");
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX).ok_or_else(bad)?;
    let tenant = match request.extensions().get::<Arc<Key>>() {
        Some(key) => key.tenant.clone(),
        None => return Ok(next.run(request).await),
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| Error::new(Code::TooLarge, format!("the body has more than {BODY_BYTES_MAX} bytes")))?;
    let hash = request_hash(parts.uri.path_and_query().map_or("", |path| path.as_str()), &body);
    let mut tx = state.ledger.write().await?;
    let begun = idempotency::begin(&mut tx, &tenant, key, &hash, state.clock.now()).await?;
    tx.commit().await.map_err(harbinger_store::ledger::Error::from)?;
    match begun {
        Begun::New => {
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            keep(&state, &tenant, key, response).await
        }
        Begun::Answered { status, body } => Ok(replay(status, body)),
        Begun::Busy => {
            Err(Error::new(Code::InProgress, format!("the request with Idempotency-Key {key:?} is being done")))
        }
        Begun::Other => {
            Err(Error::new(Code::KeyReused, format!("Idempotency-Key {key:?} was used for another request")))
        }
    }
}

fn request_hash(path: &str, body: &Bytes) -> String {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update([0]);
    hash.update(body);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn keep(state: &ApiState, tenant: &TenantId, key: &str, response: Response) -> Result<Response> {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|error| Error::internal("read an answer", &error))?;
    let mut tx = state.ledger.write().await?;
    let may_be_mended = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    match std::str::from_utf8(&body) {
        Ok(text) if !may_be_mended => idempotency::finish(&mut tx, tenant, key, status.as_u16(), text).await?,
        _ => idempotency::abandon(&mut tx, tenant, key).await?,
    }
    tx.commit().await.map_err(harbinger_store::ledger::Error::from)?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replay(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}
