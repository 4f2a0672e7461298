//! What callers are told when something cannot be done.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, header},
};
use harbinger_store::ledger::keys::Scope;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, acme_fleet, request};

#[tokio::test]
async fn each_kind_of_bad_request_has_its_code_and_names_the_place() {
    let world = World::bare().await;
    let send = |method: Method, path: &str, text: &str| {
        let mut sent = request(method, path, Some(world.key("acme", Scope::Admin)), None);
        sent.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        *sent.body_mut() = Body::from(text.to_owned());
        world.send(sent)
    };
    let malformed = send(Method::POST, "/api/v1/parts", "{\"items\": [").await;
    assert_eq!(malformed.problem(400), "bad-request");
    assert!(malformed.text.contains("line 1"), "{}", malformed.text);
    let wrong = send(Method::POST, "/api/v1/parts", r#"{"items":[{"part":"p","unit_cost":"much"}]}"#).await;
    assert_eq!(wrong.problem(422), "unprocessable");
    assert!(wrong.text.contains("much"), "{}", wrong.text);
    let unknown = send(Method::POST, "/api/v1/parts", r#"{"items":[{"part":"p","unit_cost":1,"colour":"red"}]}"#).await;
    assert!(unknown.problem(422) == "unprocessable" && unknown.text.contains("colour"));
    let id = send(Method::POST, "/api/v1/parts", r#"{"items":[{"part":"a/b","unit_cost":1}]}"#).await;
    assert_eq!(id.problem(422), "unprocessable");
    let missing =
        send(Method::POST, "/api/v1/components", r#"{"items":[{"model":"m","component":"c","part":"p"}]}"#).await;
    assert!(missing.problem(409) == "conflict" && missing.text.contains("does not exist"));
    let large = send(Method::POST, "/api/v1/parts", &" ".repeat(64 * 1024 * 1024 + 1)).await;
    assert_eq!(large.problem(413), "too-large");
    assert_eq!(send(Method::PATCH, "/api/v1/devices", "{}").await.problem(405), "method-not-allowed");
    for (path, status, code) in [
        ("/api/v1/nonsense", 404, "not-found"),
        ("/nonsense", 404, "not-found"),
        ("/api/v1/devices/none", 404, "not-found"),
        ("/api/v1/devices/none/telemetry", 404, "not-found"),
        ("/api/v1/devices/a%2Fb/telemetry", 404, "not-found"),
        ("/api/v1/predictions/prd_nonsense", 404, "not-found"),
        ("/api/v1/plan", 404, "not-found"),
        ("/api/v1/parts?limit=0", 400, "bad-request"),
        ("/api/v1/parts?limit=many", 400, "bad-request"),
        ("/api/v1/parts?cursor=xyz", 400, "bad-cursor"),
        ("/api/v1/predictions?from=yesterday", 400, "bad-request"),
        ("/api/v1/alerts?state=gone", 400, "bad-request"),
    ] {
        assert_eq!(world.get(path).await.problem(status), code, "{path}");
    }
}

#[tokio::test]
async fn a_cursor_of_one_list_is_refused_by_another() {
    let world = World::new().await;
    let page = world.get("/api/v1/depots?limit=1").await.expect(200);
    let path = format!("/api/v1/parts?cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(world.get(&path).await.problem(400), "bad-cursor");
}

#[tokio::test]
async fn an_import_that_fails_anywhere_changes_nothing() {
    let world = World::bare().await;
    let mut fleet = acme_fleet();
    fleet["stock"][0]["part"] = json!("no-such-part");
    let refused = world.post("/api/v1/fleet", fleet).await;
    assert!(refused.problem(409) == "conflict" && refused.text.contains("no-such-part"));
    for list in ["hardware-models", "parts", "depots", "devices", "stock"] {
        let page = world.get(&format!("/api/v1/{list}")).await.expect(200);
        assert_eq!(page["items"], json!([]), "{list}");
    }
}

#[tokio::test]
async fn what_fails_inside_is_told_as_an_id_and_the_server_lives_on() {
    let world = World::new().await;
    let failed = world.post("/api/v1/models", json!({})).await;
    assert_eq!(failed.problem(500), "internal");
    assert!(!failed.text.contains("fell over"), "{}", failed.text);
    assert!(failed.json()["error_id"].as_str().unwrap().starts_with("err_"));
    world.get("/api/v1/models").await.expect(200);
}

fn with_key(path: &str, key: &str, once: &str, body: Value) -> axum::http::Request<Body> {
    let mut sent = request(Method::POST, path, Some(key), Some(body));
    sent.headers_mut().insert("idempotency-key", once.parse().unwrap());
    sent
}

#[tokio::test]
async fn a_repeated_request_is_the_same_request() {
    let world = World::bare().await;
    let key = world.key("acme", Scope::Operate);
    let hook = json!({ "url": "https://example.com/" });
    let first = world.send(with_key("/api/v1/webhooks", key, "k1", hook.clone())).await;
    let again = world.send(with_key("/api/v1/webhooks", key, "k1", hook.clone())).await;
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(world.get("/api/v1/webhooks").await.expect(200)["items"].as_array().unwrap().len(), 1);
    let other = world.send(with_key("/api/v1/webhooks", key, "k1", json!({ "url": "https://example.org/" }))).await;
    assert_eq!(other.problem(422), "idempotency-key-reused");
    let elsewhere = world.key("globex", Scope::Operate);
    world.send(with_key("/api/v1/webhooks", elsewhere, "k1", hook)).await.expect(201);
    let refused = json!({ "items": [{ "model": "m", "component": "c", "part": "p" }] });
    for _ in 0..2 {
        let answer = world.send(with_key("/api/v1/components", key, "k2", refused.clone())).await;
        assert_eq!(answer.problem(409), "conflict");
    }
    // What a key made is shown once and never kept.
    let admin = world.key("acme", Scope::Admin);
    let new = json!({ "name": "n", "scopes": ["read"] });
    let first = world.send(with_key("/api/v1/keys", admin, "k3", new.clone())).await.expect(201);
    let second = world.send(with_key("/api/v1/keys", admin, "k3", new)).await.expect(201);
    assert_ne!(first["key"], second["key"]);
}

/// Plans are held at a gate until the server has all the requests it takes; the next is told to come back.
#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_back() {
    let world = Arc::new(World::new().await);
    world.gate.forget_permits(1_000);
    let key = world.key("acme", Scope::Operate).to_owned();
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..harbinger_api::state::REQUESTS_AT_ONCE {
        let sent = request(Method::POST, "/api/v1/plan", Some(&key), None);
        held.spawn(world.app.clone().oneshot(sent));
    }
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let refused = loop {
        tokio::task::yield_now().await;
        let answer = world.get("/livez").await;
        if answer.status == 429 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing was refused");
    };
    assert_eq!(refused.problem(429), "too-many-requests");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    world.gate.add_permits(1_000);
    while let Some(answer) = held.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 201);
    }
    world.get("/livez").await;
}
