//! The OpenAPI document, gathered from the routes.

use std::collections::BTreeMap;

use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::errors::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Harbinger",
        description = "From telemetry to calibrated failure probabilities, to alerts, to the spare part at the right depot \
            before the device fails.\n\nTimes are RFC 3339; lengths of time are written 30s, 15m, 24h, 7d. Lists come in \
            pages with an opaque cursor. POST takes an Idempotency-Key: the same key, path and body within 24 hours is the \
            same request. Problems are RFC 9457."
    ),
    components(schemas(Problem))
)]
struct Base;

/// What the document says before any route.
pub(crate) fn base() -> utoipa::openapi::OpenApi {
    let mut document = Base::openapi();
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description =
        Some("An API key, hbr_... Its scopes are ingest, read, operate (reads too), admin (everything).".to_owned());
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("key", SecurityScheme::Http(scheme));
    document
}

/// `POST /telemetry`, which the binary mounts beside these routes.
#[utoipa::path(
    post, path = "/api/v1/telemetry", tag = "telemetry", operation_id = "send_telemetry",
    summary = "Send readings and events", description = "A JSON array, or a line of JSON a reading or event. 200 means that \
        all of it is on disk; what could not be taken waits in quarantine and is listed line by line.",
    request_body(content(
        (Object = "application/json", example = json!([
            { "device": "fridge-7", "ts": "2026-01-31T10:00:00Z", "values": { "compressor_current_a": 1.2 } }
        ])),
        (String = "application/x-ndjson")
    )),
    security(("key" = ["ingest"])),
    responses((status = 200, description = "How many were taken, and which lines were not", body = Object,
        example = json!({ "accepted": 1, "quarantined": [{ "line": 2, "reason": "values: missing" }] })))
)]
#[expect(dead_code, reason = "carries the description only; the intake answers")]
fn send_telemetry() {}

/// `POST /write`, likewise.
#[utoipa::path(
    post, path = "/write", tag = "telemetry", operation_id = "write_points",
    summary = "Send points as to InfluxDB 1.x",
    description = "Line protocol, gzip or plain. 204 means that all of it is on disk. Lines that cannot be taken wait in \
        quarantine while the others are stored: the answer is then 400 with `partial write`. The key may also stand in the \
        query as `p`, or be the password of Basic; `db`, `rp`, `consistency` and `u` are taken and mean nothing here.",
    params(("precision" = Option<String>, Query, description = "Unit of the times: ns, us, ms, s, m or h; ns unless told.")),
    request_body(content = String, content_type = "text/plain", example = "cpu,host=fridge-7 usage=12.5 1769853600000000000"),
    security(("key" = ["ingest"])),
    responses((status = 204, description = "Everything is on disk"),
        (status = 400, description = "Some lines, or the parameters, could not be taken", body = Object))
)]
#[expect(dead_code, reason = "carries the description only; the intake answers")]
fn write_points() {}

/// `POST /api/v2/write`, likewise.
#[utoipa::path(
    post, path = "/api/v2/write", tag = "telemetry", operation_id = "write_points_v2",
    summary = "Send points as to InfluxDB 2.x or 3.x",
    description = "As `/write`, with the key as `Authorization: Token`. `org`, `orgID` and `bucket` are taken and mean nothing here.",
    params(("precision" = Option<String>, Query, description = "Unit of the times: ns, us, ms, s, m or h; ns unless told.")),
    request_body(content = String, content_type = "text/plain", example = "cpu,host=fridge-7 usage=12.5 1769853600000000000"),
    security(("key" = ["ingest"])),
    responses((status = 204, description = "Everything is on disk"),
        (status = 400, description = "Some lines, or the parameters, could not be taken", body = Object))
)]
#[expect(dead_code, reason = "carries the description only; the intake answers")]
fn write_points_v2() {}

/// The description of what the binary mounts beside these routes.
#[must_use]
pub fn intake() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(send_telemetry, write_points, write_points_v2))]
    struct Intake;
    Intake::openapi()
}

/// Says of every operation that it may answer with a problem.
pub(crate) fn complete(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item).into_values() {
            let problem = RefOr::Ref(Ref::from_schema_name("Problem"));
            let content = ContentBuilder::new().schema(Some(problem)).build();
            let response = ResponseBuilder::new()
                .description("A problem: see its type")
                .content("application/problem+json", content)
                .build();
            operation.responses.responses.entry("default".to_owned()).or_insert(RefOr::T(response));
        }
    }
}

/// The operations of a path, by method.
fn operations(item: &mut PathItem) -> BTreeMap<&'static str, &mut Operation> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation))).collect()
}
