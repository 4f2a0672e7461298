//! The HTTP intake: `POST /api/v1/telemetry` with NDJSON or a JSON array of native objects that name their device: readings
//! and, where they have a `code` instead of `values`, events.
//!
//! 200 means durable, exactly as a PUBACK does; what could not be taken is in quarantine by then, and the answer lists it
//! line by line. Who may send is decided outside: the binary's authentication puts an [`IngestTenant`] into the request.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use harbinger_core::TenantId;
use serde::Serialize;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    options::{HttpOptions, std_time},
    pipeline::{NotTaken, Pipeline},
};

mod lines;

use lines::Taken;

/// Path of the intake; messages that came here carry it as their topic in quarantine.
pub const INTAKE_PATH: &str = "/api/v1/telemetry";

/// The tenant that a request may send for. The binary's authentication layer inserts it as a request extension, after
/// it found a valid key with the right to ingest; a request without it is answered with 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestTenant(pub TenantId);

/// The answer: every line is accepted or listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Readings and events that are durable.
    pub accepted: u64,
    /// Lines that went to quarantine.
    pub quarantined: Vec<RefusedLine>,
}

/// A line that went to quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedLine {
    /// Its number from 1; in an array, the element's.
    pub line: usize,
    /// The place in it and what is wrong.
    pub reason: String,
}

#[derive(Clone)]
struct Intake {
    pipeline: Pipeline,
    options: HttpOptions,
    /// A permit a byte of a request that is not durable yet.
    budget: Arc<Semaphore>,
}

/// The route, to be merged into the binary's router.
pub fn router(pipeline: Pipeline, options: &HttpOptions) -> Router {
    let budget = Arc::new(Semaphore::new(options.inflight_bytes_max.bytes()));
    Router::new().route(INTAKE_PATH, post(take_telemetry)).layer(DefaultBodyLimit::disable()).with_state(Intake {
        pipeline,
        options: options.clone(),
        budget,
    })
}

/// Lines of a body above this size are decoded off the async threads: 500 us of decoding.
const BLOCKING_BYTES: usize = 128 << 10;

async fn take_telemetry(
    State(intake): State<Intake>,
    tenant: Option<Extension<IngestTenant>>,
    request: Request,
) -> Result<axum::Json<Report>, Problem> {
    let Some(Extension(IngestTenant(tenant))) = tenant else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "no valid key with the right to ingest"));
    };
    let form = form_of(&request)?;
    // Permits stand for the body from before it is read until it is durable.
    let limit = intake.options.body_bytes_max.bytes();
    let claimed = claimed_bytes(&request, limit)?.min(intake.options.inflight_bytes_max.bytes());
    let claimed = u32::try_from(claimed).unwrap_or(u32::MAX);
    let permit = Arc::clone(&intake.budget).try_acquire_many_owned(claimed).map_err(|_| Problem::busy())?;
    let reading = timeout(std_time(intake.options.body_timeout), read_body(request.into_body(), limit));
    let body = reading.await.map_err(|_| Problem::slow())??;
    // A client that hangs up drops this handler, and an append is not to be dropped half-way: it runs to its end by itself.
    let task = tokio::spawn(async move {
        let taken = decode(&intake.pipeline, tenant, form, body).await?;
        let outcome = taken.store(&intake.pipeline).await;
        drop(permit);
        outcome
    });
    let report = task.await.map_err(|_| Problem::internal())?;
    report.map(axum::Json).map_err(|error| Problem::not_taken(&error))
}

async fn decode(pipeline: &Pipeline, tenant: TenantId, form: Form, body: Bytes) -> Result<Taken, NotTaken> {
    let context = pipeline.context(pipeline.now());
    if body.len() <= BLOCKING_BYTES {
        return Ok(lines::decode(&body, form, tenant, &context));
    }
    let decoded = tokio::task::spawn_blocking(move || lines::decode(&body, form, tenant, &context)).await;
    Ok(decoded.expect("decoding does not panic and is not aborted"))
}

/// How a body is cut into readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Array,
}

fn form_of(request: &Request) -> Result<Form, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-ndjson") {
        return Ok(Form::Lines);
    }
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(Form::Array);
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the content type must be application/x-ndjson, or application/json with an array",
    ))
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

/// An error by RFC 9457.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_seconds: Option<u32>,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_seconds: None }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes; send it in parts");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// A commit takes milliseconds, so a second later there is room.
    fn busy() -> Self {
        let detail = "too much is waiting to be stored; nothing of this request was taken";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "intake_full", detail).retry_after(1)
    }

    fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not arrive in time; nothing was taken")
    }

    fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request failed; nothing is known of its readings")
    }

    fn not_taken(error: &NotTaken) -> Self {
        use harbinger_store::telemetry::Error as Store;
        match error {
            NotTaken::Store(Store::Full { .. }) => {
                let detail = "no room to store telemetry; nothing of this request was taken";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail).retry_after(30)
            }
            NotTaken::Store(_) | NotTaken::Registrar(_) => {
                tracing::warn!(%error, cause = ?std::error::Error::source(error), "telemetry by HTTP was refused");
                let detail = "telemetry cannot be stored now; nothing of this request was taken";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", detail).retry_after(10)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("urn:harbinger:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
