//! The HTTP intake: two routes, two dialects, one way to the store.
//!
//! `POST /api/v1/telemetry` takes native objects that name their device, as NDJSON or a JSON array: readings and, where they
//! have a `code` instead of `values`, events. `POST /write` and `POST /api/v2/write` ([`write`](self::write)) take InfluxDB's
//! line protocol from whatever writes to InfluxDB.
//!
//! 200 and 204 mean durable, exactly as a PUBACK does; what could not be taken is in quarantine by then, and the answer says
//! so. Who may send is decided outside: the binary's authentication puts an [`IngestTenant`] into the request.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    routing::post,
};
use harbinger_core::TenantId;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::{options::HttpOptions, pipeline::Pipeline};

mod body;
mod join;
mod lines;
mod problem;
mod taken;
mod write;

use problem::Problem;
use taken::Taken;
pub(crate) use write::line_protocol_precision;
pub use write::{API_V2_WRITE_PATH, WRITE_PATH, influx_credentials};

/// Path of the native intake; messages that came here carry it as their topic in quarantine.
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

/// The routes, to be merged into the binary's router.
pub fn router(pipeline: Pipeline, options: &HttpOptions) -> Router {
    let budget = Arc::new(Semaphore::new(options.inflight_bytes_max.bytes()));
    Router::new()
        .route(INTAKE_PATH, post(take_telemetry))
        .route(WRITE_PATH, post(write::take_points))
        .route(API_V2_WRITE_PATH, post(write::take_points))
        .layer(DefaultBodyLimit::disable())
        .with_state(Intake { pipeline, options: options.clone(), budget })
}

/// Lines of a body above this size are decoded off the async threads: 500 us of decoding.
const BLOCKING_BYTES: usize = 128 << 10;

impl Intake {
    /// Reads the body of a request, decodes it, and returns when all of it is durable.
    async fn take(
        &self,
        request: Request,
        decode: impl FnOnce(Bytes, &Pipeline) -> Taken + Send + 'static,
    ) -> Result<Report, Problem> {
        let (body, permit) = body::receive(request, &self.options, &self.budget).await?;
        let pipeline = self.pipeline.clone();
        // A client that hangs up drops this handler, and an append is not to be dropped half-way: it runs to its end by itself.
        let task = tokio::spawn(async move {
            let taken = if body.len() <= BLOCKING_BYTES {
                decode(body, &pipeline)
            } else {
                let decoding = pipeline.clone();
                let decoded = tokio::task::spawn_blocking(move || decode(body, &decoding)).await;
                decoded.expect("decoding does not panic and is not aborted")
            };
            let outcome = taken.store(&pipeline).await;
            drop(permit);
            outcome
        });
        let report = task.await.map_err(|_| Problem::internal())?;
        report.map_err(|error| Problem::not_taken(&error))
    }
}

async fn take_telemetry(
    State(intake): State<Intake>,
    tenant: Option<Extension<IngestTenant>>,
    request: Request,
) -> Result<axum::Json<Report>, Problem> {
    let tenant = named(tenant)?;
    let form = form_of(&request)?;
    let decode = move |body: Bytes, pipeline: &Pipeline| lines::decode(body, form, tenant, pipeline);
    intake.take(request, decode).await.map(axum::Json)
}

/// The tenant that authentication named.
fn named(tenant: Option<Extension<IngestTenant>>) -> Result<TenantId, Problem> {
    let missing = || Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "no valid key with the right to ingest");
    tenant.map(|Extension(IngestTenant(tenant))| tenant).ok_or_else(missing)
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
