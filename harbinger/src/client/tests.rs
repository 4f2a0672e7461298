//! The client against a real server on a socket.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode as Status},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::*;

/// Serves `router` and gives its address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn api(url: &str) -> Api {
    Api::new(url, Some("hbr_test".to_owned()), Duration::from_secs(10)).unwrap()
}

/// Answers 503, then 429, then 200 to whoever holds the key.
async fn busy(State(asked): State<Arc<AtomicUsize>>, headers: HeaderMap) -> Response {
    assert_eq!(headers.get("authorization").unwrap(), "Bearer hbr_test");
    match asked.fetch_add(1, Ordering::SeqCst) {
        0 => (Status::SERVICE_UNAVAILABLE, [("retry-after", "0")], "starting").into_response(),
        1 => (Status::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response(),
        _ => r#"{"written":3}"#.into_response(),
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let url = serve(Router::new().route("/x", post(busy)).with_state(Arc::clone(&asked))).await;
    let Written { written } = api(&url).post("/x", &[1]).await.unwrap();
    assert_eq!((written, asked.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test]
async fn a_wait_beyond_the_patience_is_not_waited_for() {
    let long = || async { (Status::SERVICE_UNAVAILABLE, [("retry-after", "3600")]) };
    let url = serve(Router::new().route("/x", get(long))).await;
    let error = api(&url).get::<Written>("/x", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. }), "{error}");
}

#[tokio::test]
async fn a_problem_is_one_sentence_and_not_tried_again() {
    let problem = || async {
        (
            Status::CONFLICT,
            r#"{"type":"/problems/conflict","title":"It stands in the way","status":409,"detail":"no part p"}"#,
        )
    };
    let url = serve(Router::new().route("/x", get(problem))).await;
    let error = api(&url).get::<Written>("/x", &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "GET /x was answered with 409 Conflict: It stands in the way: no part p");
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let page = |Query(query): Query<std::collections::HashMap<String, String>>| async move {
        assert_eq!((query["limit"].as_str(), query["device"].as_str()), ("10000", "a b&c"));
        match query.get("cursor").map(String::as_str) {
            None => r#"{"items":[1,2],"next_cursor":"x+/="}"#,
            Some("x+/=") => r#"{"items":[3],"next_cursor":null}"#,
            Some(other) => panic!("cursor {other}"),
        }
    };
    let url = serve(Router::new().route("/list", get(page))).await;
    let items: Vec<u32> = api(&url).list("/list", &[("device", "a b&c".to_owned())]).await.unwrap();
    assert_eq!(items, [1, 2, 3]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = Api::new(&format!("http://{address}/"), None, Duration::ZERO).unwrap();
    let error = api.get::<Written>("/x", &[]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from http://{address}/x"));
    for url in ["", "127.0.0.1:8080", "mqtt://127.0.0.1", "http://"] {
        assert!(matches!(Api::new(url, None, Duration::ZERO), Err(Error::NotUrl { .. })), "{url:?}");
    }
}
