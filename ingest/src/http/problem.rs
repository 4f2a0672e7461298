//! What the intake answers where it does not take a request: an error by RFC 9457 with what to do about it.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::pipeline::NotTaken;

/// An error by RFC 9457.
#[derive(Debug)]
pub(super) struct Problem {
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
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_seconds: None }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes; send it in parts");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// A commit takes milliseconds, so a second later there is room.
    pub(super) fn busy() -> Self {
        let detail = "too much is waiting to be stored; nothing of this request was taken";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "intake_full", detail).retry_after(1)
    }

    pub(super) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not arrive in time; nothing was taken")
    }

    /// The same, said as 503 where it passes by itself: a client of InfluxDB 1.x gives up what any 4xx refuses.
    pub(super) fn for_influx(self) -> Self {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                let retry_after_seconds = self.retry_after_seconds.or(Some(1));
                Self { status: StatusCode::SERVICE_UNAVAILABLE, retry_after_seconds, ..self }
            }
            _ => self,
        }
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request failed; nothing is known of its readings")
    }

    pub(super) fn not_taken(error: &NotTaken) -> Self {
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
