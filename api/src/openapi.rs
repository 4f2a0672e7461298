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

/// The description of what the binary mounts beside these routes.
#[must_use]
pub fn intake() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(send_telemetry))]
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
