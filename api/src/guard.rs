//! Around every request: count it, shed what is too much, turn a panic into a problem.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    errors::{Code, Error},
    state::ApiState,
};

/// Refuses what comes while too many requests are in the works, and counts what is answered.
pub(crate) async fn shed_and_count(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let start = Instant::now();
    let response = match state.requests.try_acquire() {
        Ok(_permit) => {
            let _in_flight = state.metrics.request_guard();
            next.run(request).await
        }
        Err(_) => {
            state.metrics.refused();
            Error::new(Code::TooManyRequests, "the server is busy with as many requests as it takes").into_response()
        }
    };
    state.metrics.answered(&method, &route, response.status().as_u16(), start.elapsed());
    response
}

/// What a caller is told where a handler panicked; the panic itself is in the log.
pub(crate) fn panicked(cause: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words");
    Error::internal("answer a request", &std::io::Error::other(text.to_owned())).into_response()
}

/// Runs work that writes as a task of its own: a connection that drops does not stop it halfway.
///
/// # Errors
/// The work's own, or [`Code::Internal`] where it panicked.
pub(crate) async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = crate::errors::Result<T>> + Send + 'static,
) -> crate::errors::Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("finish a write", &error)),
    }
}
