//! InfluxDB's line protocol over HTTP: `POST /write` as InfluxDB 1.x has it, `POST /api/v2/write` as 2.x and 3.x have it.
//!
//! 204 means durable. Lines that cannot be taken are in quarantine, the others are stored, and the answer is the 400 with
//! `partial write` that InfluxDB gives: its clients then drop the batch instead of sending it for ever. What a line means is told
//! in [`crate::decode::line_protocol::series`]; `db`, `rp`, `org` and `bucket` mean nothing here, since the key names the tenant.

use axum::{
    Extension,
    body::Bytes,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use harbinger_core::TenantId;
use serde::Serialize;

use super::{
    IngestTenant, Intake, Problem, RefusedLine, Report, named,
    taken::{Found, Taken},
};
use crate::{
    decode::{
        line_protocol::{
            Lines,
            series::{Precision, Reader},
        },
        shown,
    },
    pipeline::Pipeline,
};

/// Path of the intake as InfluxDB 1.x has it; also the topic of its messages in quarantine, with their precision behind it.
pub const WRITE_PATH: &str = "/write";

/// Path of the intake as InfluxDB 2.x and 3.x have it.
pub const API_V2_WRITE_PATH: &str = "/api/v2/write";

/// Reasons that an answer tells; quarantine has all of them.
const REASONS_MAX: usize = 5;

/// Names and values of a query.
type Parameters = Query<Vec<(String, String)>>;

pub(super) async fn take_points(
    State(intake): State<Intake>,
    tenant: Option<Extension<IngestTenant>>,
    parameters: Result<Parameters, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let tenant = named(tenant)?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", detail);
    let Query(parameters) = parameters.map_err(|rejection| bad(rejection.body_text()))?;
    let precision = precision(&parameters).map_err(bad)?;
    let decode = move |body: Bytes, pipeline: &Pipeline| decode(body, precision, tenant, pipeline);
    let report = intake.take(request, decode).await.map_err(Problem::for_influx)?;
    Ok(answer(&report))
}

/// The unit of the times, out of what clients of InfluxDB say beside the points; the rest of that means nothing here.
fn precision(parameters: &[(String, String)]) -> Result<Precision, String> {
    let mut precision = Precision::default();
    for (name, value) in parameters {
        match name.as_str() {
            "precision" => precision = value.parse()?,
            "db" | "rp" | "consistency" | "u" | "p" | "org" | "orgID" | "bucket" => {}
            other => return Err(format!("{}: unknown parameter; precision is the one that is read", shown(other))),
        }
    }
    Ok(precision)
}

fn decode(body: Bytes, precision: Precision, tenant: TenantId, pipeline: &Pipeline) -> Taken {
    let context = pipeline.context(pipeline.now());
    let topic = format!("{WRITE_PATH}?precision={}", precision.as_str());
    let mut taken = Taken::nothing(topic, body.clone(), tenant, context.received_at);
    taken.signals_joined_max = Some(context.signals_max);
    let mut reader = Reader::new(pipeline.device_tags(), precision, &context);
    let mut texts = 0;
    for (line, text) in Lines::of(&body) {
        taken.lines += 1;
        match reader.read(text, &mut taken.devices) {
            Ok(point) => {
                texts += point.texts;
                let place = Taken::place_of(&body, text);
                match point.reading {
                    Some((device, content)) => taken.readings.push(Found { line, text: place, device, content }),
                    None => taken.empty += 1,
                }
            }
            Err(reason) => taken.refused.push((RefusedLine { line, reason }, Taken::place_of(&body, text))),
        }
    }
    pipeline.metrics().texts_left_out(texts);
    taken
}

/// What InfluxDB answers, in the words of all its versions.
#[derive(Serialize)]
struct Partial<'a> {
    error: &'a str,
    code: &'a str,
    message: &'a str,
}

fn answer(report: &Report) -> Response {
    if report.quarantined.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let reasons: Vec<String> = report
        .quarantined
        .iter()
        .take(REASONS_MAX)
        .map(|refused| format!("line {}: {}", refused.line, refused.reason))
        .collect();
    let dropped = report.quarantined.len();
    let message = format!(
        "partial write: {}; they wait in quarantine, the others are stored; dropped={dropped}",
        reasons.join("; ")
    );
    let body = Partial { error: &message, code: "invalid", message: &message };
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

/// The precision of a line of line protocol that has this topic in quarantine; `None` where another dialect has it.
pub(crate) fn line_protocol_precision(topic: &str) -> Option<Precision> {
    topic.strip_prefix(WRITE_PATH)?.strip_prefix("?precision=")?.parse().ok()
}

/// Puts the key of a request to either path where authentication looks for it: InfluxDB's clients send `Token KEY`, or a
/// password in the query. A layer for the binary, outside of authentication.
pub async fn influx_credentials(mut request: Request) -> Request {
    if [WRITE_PATH, API_V2_WRITE_PATH].contains(&request.uri().path())
        && let Some(key) = influx_key(&request)
        && let Ok(value) = HeaderValue::try_from(format!("Bearer {key}"))
    {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

fn influx_key(request: &Request) -> Option<String> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        let Query(parameters) = Parameters::try_from_uri(request.uri()).ok()?;
        return parameters.into_iter().find_map(|(name, value)| (name == "p").then_some(value));
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    // A client of 1.x that speaks 2.x sends name and password as its token.
    let key = token.trim().rsplit(':').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("token").then(|| key.to_owned())
}
