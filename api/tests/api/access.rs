//! Who may do what, and that no tenant sees another's rows: walked over every documented operation.

use axum::http::{Method, header};
use harbinger_core::{Duration, TenantId};
use harbinger_store::ledger::keys::{self, NewKey, Scope};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, at, escaped, request};

/// Every documented operation: method, path with the query that it cannot do without, as its examples say, and the scope
/// that it asks for (none where it is open).
pub(crate) fn operations() -> Vec<(Method, String, Option<Scope>)> {
    let document: Value = serde_json::from_str(&harbinger_api::openapi_document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["key"][0].as_str().map(|scope| scope.parse().unwrap());
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            all.push((method, format!("{path}{}", required_query(operation)), scope));
        }
    }
    assert!(all.len() > 60, "{} operations", all.len());
    all
}

fn required_query(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let required = parameters.filter(|parameter| parameter["in"] == "query" && parameter["required"] == true);
    let pair = |parameter: &Value| {
        let example = parameter["example"].get(0).unwrap_or(&parameter["example"]);
        format!("{}={}", escaped(parameter["name"].as_str().unwrap()), escaped(example.as_str().unwrap()))
    };
    let pairs: Vec<String> = required.map(pair).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Whether it is about an order that is proposed in the test's world.
fn proposed(path: &str) -> bool {
    path.contains("/transfers/") || path.contains("/purchases/")
}

/// A body with which the operation can be done, for those that cannot do without one.
fn body_for(method: &Method, path: &str) -> Option<Value> {
    match (method.as_str(), path) {
        ("POST", "/api/v1/fleet") | ("PATCH", _) => Some(json!({})),
        ("POST", "/api/v1/keys") => Some(json!({ "name": "k", "scopes": ["read"] })),
        ("POST", "/api/v1/models/onnx") => Some(json!({ "file_base64": "", "card": { "name": "acme-v1" } })),
        ("PUT", "/api/v1/part-uses/{use_id}/serials") => Some(json!({ "serials": ["acme-s9"] })),
        ("POST", "/api/v1/work-orders") => {
            Some(json!({ "device": "acme-d2", "component": "fan", "due_at": "2015-01-09T00:00:00Z" }))
        }
        ("POST", "/api/v1/webhooks") => Some(json!({ "url": "https://example.com/" })),
        ("POST", "/api/v1/alerts/{alert_id}/close") => Some(json!({ "outcome": "confirmed" })),
        ("POST" | "PUT", path) if !path.contains('{') && path != "/api/v1/plan" && path != "/api/v1/models" => {
            Some(json!({ "items": [] }))
        }
        _ => None,
    }
}

/// Only the head of an answer: the live stream has no end.
async fn status(world: &World, method: &Method, path: &str, key: Option<&str>) -> u16 {
    let sent = request(method.clone(), &world.filled(path), key, body_for(method, path));
    world.app.clone().oneshot(sent).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_operation_asks_for_its_scope_and_answers_whoever_has_it() {
    for (method, path, scope) in operations() {
        let mut world = World::new().await;
        world.use_a_piece().await;
        let what = format!("{method} {path}");
        let Some(required) = scope else {
            assert_eq!(status(&world, &method, &path, None).await, 200, "{what} is open");
            continue;
        };
        assert_eq!(status(&world, &method, &path, None).await, 401, "{what} without key");
        assert_eq!(status(&world, &method, &path, Some("hbr_wrong")).await, 401, "{what} with a wrong key");
        for held in Scope::ALL.into_iter().filter(|held| !held.allows(required)) {
            let answer = status(&world, &method, &path, Some(world.key("acme", held))).await;
            assert_eq!(answer, 403, "{what} with {held}");
        }
        let answer = status(&world, &method, &path, Some(world.key("acme", required))).await;
        match path.as_str() {
            // What the test's process refuses, on purpose.
            "/api/v1/quarantine/{id}/replay" => assert_eq!(answer, 409, "{what}"),
            "/api/v1/models" if method == Method::POST => assert_eq!(answer, 500, "{what}"),
            "/api/v1/returns/{order_id}/receive" => assert_eq!(answer, 409, "{what}: it has not been sent"),
            path if proposed(path) && ["/pick", "/ship", "/receive"].iter().any(|step| path.ends_with(step)) => {
                assert_eq!(answer, 409, "{what}")
            }
            _ => assert!((200..300).contains(&answer), "{what} with {required}: {answer}"),
        }
    }
}

/// Globex holds the mightiest key and knows acme's ids: it finds nothing of acme, and changes nothing.
#[tokio::test]
async fn no_tenant_sees_changes_or_guesses_what_belongs_to_another() {
    let mut world = World::new().await;
    world.use_a_piece().await;
    let key = world.key("globex", Scope::Admin);
    for (method, path, scope) in operations() {
        if scope.is_none() || path == "/api/v1/stream" {
            continue;
        }
        let what = format!("{method} {path}");
        // A label is nobody's own: asked for its values, each tenant sees those of its own series.
        let own_id = path.contains('{') && !path.starts_with("/prometheus/");
        if !own_id && method != Method::GET {
            continue;
        }
        let sent = request(method.clone(), &world.filled(&path), Some(key), body_for(&method, &path));
        let answer = world.send(sent).await;
        if own_id {
            assert_eq!(answer.problem(404), "not-found", "{what}");
        } else {
            assert!(!answer.text.contains("acme"), "{what} tells of acme: {}", answer.text);
            let seen = world.ids.iter().filter(|(name, _)| !matches!(**name, "code" | "id" | "name"));
            for (_, id) in seen {
                assert!(!answer.text.contains(id.as_str()), "{what} tells {id}");
            }
        }
    }
    let alert = world.get(&world.filled("/api/v1/alerts/{alert_id}")).await.expect(200);
    assert_eq!(alert["state"], "open", "globex changed acme's alert");
    assert_eq!(world.get("/api/v1/quarantine").await.expect(200)["items"].as_array().unwrap().len(), 1);
    let device = json!({ "items": [{ "device": "d", "tenant": "acme", "model": "acme-m", "depot": "hub" }] });
    let foreign = world.send(request(Method::POST, "/api/v1/devices", Some(key), Some(device))).await;
    assert_eq!(foreign.problem(409), "conflict");
}

#[tokio::test]
async fn a_key_ends_by_time_or_by_revocation_and_works_as_a_password_too() {
    let world = World::bare().await;
    let acme = TenantId::parse("acme").unwrap();
    let soon = at(1_700_000_000_000) + Duration::from_hours(1);
    let new = NewKey { name: "short", scopes: &[Scope::Read], expires_wall: Some(soon) };
    let mut tx = world.ledger.write().await.unwrap();
    let (plain, _) = keys::create(&mut tx, &acme, &new, at(1_700_000_000_000)).await.unwrap();
    tx.commit().await.unwrap();
    let parts = || request(Method::GET, "/api/v1/parts", Some(plain.reveal()), None);
    world.send(parts()).await.expect(200);
    world.clock.set(soon);
    let refused = world.send(parts()).await;
    assert_eq!(refused.problem(401), "unauthenticated");
    assert!(refused.headers.contains_key(header::WWW_AUTHENTICATE));

    let request_key = json!({ "name": "ci", "scopes": ["operate", "ingest"] });
    let made = world.post("/api/v1/keys", request_key).await.expect(201);
    let (text, key_id) = (made["key"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    assert_eq!(made["scopes"], json!(["ingest", "operate"]));
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("anyone:{text}"));
    let mut sent = request(Method::GET, "/api/v1/parts", None, None);
    sent.headers_mut().insert(header::AUTHORIZATION, format!("Basic {basic}").parse().unwrap());
    world.send(sent).await.expect(200);
    let listed = world.get("/api/v1/keys").await.text;
    assert!(listed.contains(key_id) && !listed.contains(text), "a key's text is shown once");
    let path = format!("/api/v1/keys/{key_id}");
    world.send(request(Method::DELETE, &path, Some(world.key("acme", Scope::Admin)), None)).await.expect(204);
    world.send(request(Method::GET, "/api/v1/parts", Some(text), None)).await.expect(401);
    let audit = world.get("/api/v1/audit").await.expect(200);
    let actions: Vec<&str> = audit["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.revoke", "key.create"]);
    assert!(!audit.to_string().contains(text));
}

#[tokio::test]
async fn the_intake_beside_the_routes_is_reached_with_its_scope_and_leaves_the_query_its_path() {
    let world = World::new().await;
    for (scope, posted, asked) in [(Scope::Ingest, 200, 403), (Scope::Admin, 200, 200), (Scope::Read, 403, 200)] {
        for (method, expected) in [(Method::POST, posted), (Method::GET, asked)] {
            let sent = request(method.clone(), "/api/v1/telemetry", Some(world.key("acme", scope)), None);
            assert_eq!(world.send(sent).await.status.as_u16(), expected, "{method} with {scope}");
        }
    }
    for method in [Method::POST, Method::GET] {
        let open = request(method, "/api/v1/telemetry", None, None);
        assert_eq!(world.send(open).await.status.as_u16(), 401);
    }
    let wrong = request(Method::PUT, "/api/v1/telemetry", Some(world.key("acme", Scope::Admin)), None);
    assert_eq!(world.send(wrong).await.problem(405), "method-not-allowed");
}
