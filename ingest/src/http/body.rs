//! The body of a request: bounded while it is read, and while it is inflated.

use std::{io::Read, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use flate2::bufread::MultiGzDecoder;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::Problem;
use crate::options::{HttpOptions, std_time};

/// Bytes of an inflated body that are claimed at a time.
const CLAIM_BYTES: usize = 64 << 10;

/// Reads the body of a request. The permits stand for it from before it is read; they are kept until it is durable.
pub(super) async fn receive(
    request: Request,
    options: &HttpOptions,
    budget: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let gzip = is_gzip(request.headers())?;
    let limit = options.body_bytes_max.bytes();
    let inflight_max = options.inflight_bytes_max.bytes();
    let claimed = claimed_bytes(&request, limit)?.min(inflight_max);
    let permit = claim(budget, claimed)?;
    let reading = timeout(std_time(options.body_timeout), read_body(request.into_body(), limit));
    let body = reading.await.map_err(|_| Problem::slow())??;
    if !gzip {
        return Ok((body, permit));
    }
    let budget = Arc::clone(budget);
    let inflating = tokio::task::spawn_blocking(move || inflate(&body, limit, inflight_max, &budget, permit));
    inflating.await.map_err(|_| Problem::internal())?
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(header::CONTENT_ENCODING).map_or(Ok(""), |value| value.to_str()) {
        Ok("" | "identity") => Ok(false),
        Ok("gzip" | "x-gzip") => Ok(true),
        _ => {
            let detail = "the content encoding must be gzip or none";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail))
        }
    }
}

fn claim(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(budget).try_acquire_many_owned(bytes).map_err(|_| Problem::busy())
}

/// Inflates a body. What it grows to is claimed while it grows, since nothing that it says of itself can be believed.
fn inflate(
    body: &[u8],
    limit: usize,
    inflight_max: usize,
    budget: &Arc<Semaphore>,
    mut permit: OwnedSemaphorePermit,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut inflated = Vec::new();
    loop {
        let more = CLAIM_BYTES.min(inflight_max.saturating_sub(permit.num_permits()));
        permit.merge(claim(budget, more)?);
        let read = decoder.by_ref().take(CLAIM_BYTES as u64).read_to_end(&mut inflated).map_err(|error| {
            let detail = format!("the body is no gzip: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_encoding", detail)
        })?;
        if inflated.len() > limit {
            return Err(Problem::too_large(limit));
        }
        if read < CLAIM_BYTES {
            return Ok((inflated.into(), permit));
        }
    }
}

/// The bytes that a request may bring: what it says, or the limit where it does not say.
fn claimed_bytes(request: &Request, limit: usize) -> Result<usize, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > limit => Err(Problem::too_large(limit)),
        Some(length) => Ok(length),
        None => Ok(limit),
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let mut cause = Some(&error as &dyn std::error::Error);
        while let Some(inner) = cause {
            if inner.to_string().contains("length limit exceeded") {
                return Problem::too_large(limit);
            }
            cause = inner.source();
        }
        Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body ended early")
    })
}
