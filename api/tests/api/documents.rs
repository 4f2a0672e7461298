//! The OpenAPI document, the console, and what stands beside the interface.

use axum::http::{Method, header};
use serde_json::Value;

use crate::world::{World, request};

/// `UPDATE_OPENAPI=1 cargo test -p harbinger-api` writes the committed copy anew.
#[test]
fn the_committed_openapi_document_is_what_the_routes_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let now = harbinger_api::openapi_document();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == now, "api/openapi.json is stale: run the tests once with UPDATE_OPENAPI=1 and commit it");
}

#[test]
fn the_document_is_3_1_with_unique_operations_and_no_dangling_reference() {
    let text = harbinger_api::openapi_document();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{operation}");
            assert!(operation["responses"]["default"].is_object());
        }
    }
    for reference in text.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn document_console_and_health_are_served_without_a_key() {
    let world = World::new().await;
    let open = |path: &str| request(Method::GET, path, None, None);
    let document = world.send(open("/openapi.json")).await;
    assert_eq!(document.text, harbinger_api::openapi_document());
    let console = world.send(open("/")).await;
    assert!(console.text.contains("Harbinger") && console.text.contains("/openapi.json"));
    assert!(console.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert!(console.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    assert_eq!(world.send(open("/livez")).await.text, "ok\n");
    let problem = world.send(open("/problems/too-large")).await;
    assert!(problem.text.contains("64 MiB"));
    world.send(open("/problems/nonsense")).await.problem(404);
}

#[tokio::test]
async fn readiness_says_what_is_not_ready() {
    let world = World::bare().await;
    let ready = |path: &'static str| world.send(request(Method::GET, path, None, None));
    assert_eq!(ready("/readyz").await.expect(200)["parts"], serde_json::json!({}));
    world.readiness.set("store", Err("the disk is full".to_owned()));
    world.readiness.set("listener", Ok(()));
    assert_eq!(ready("/readyz").await.expect(503)["parts"], serde_json::json!({ "store": "the disk is full" }));
    let verbose = ready("/readyz?verbose").await.expect(503);
    assert_eq!(verbose["parts"]["listener"], "ok");
    assert_eq!(verbose["parts"]["ledger"], "ok");
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_never_by_id() {
    let world = World::new().await;
    world.get("/api/v1/devices/acme-d1").await.expect(200);
    let metrics = world.send(request(Method::GET, "/metrics", None, None)).await;
    assert!(metrics.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text"));
    let line = r#"harbinger_api_requests_total{method="GET",route="/api/v1/devices/{device}",status="200"} 1"#;
    assert!(metrics.text.contains(line), "{}", metrics.text);
    assert!(!metrics.text.contains("acme") && metrics.text.ends_with("# EOF\n"));
}
