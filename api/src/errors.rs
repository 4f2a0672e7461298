//! What callers are told when something cannot be done: one table of codes, rendered as RFC 9457 problem details.
//!
//! A problem's `type` is `/problems/{code}`, where the server shows the table's own words on cause and remedy. What goes
//! wrong inside is logged under an id that the answer carries, and not told.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use harbinger_core::ids::new_id;
use harbinger_store::{ledger, telemetry};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::ControlError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident, $code:literal, $status:ident, $title:literal, $help:literal;)+) => {
        /// Every kind of problem that the interface answers with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The code, stable over releases.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
            /// The HTTP status that it is answered with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }
            /// What it is, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
            /// Cause and remedy.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),+ }
            }
        }
    };
}

codes! {
    /// The request is not of the form that HTTP or JSON ask for.
    BadRequest, "bad-request", BAD_REQUEST, "The request cannot be read",
        "A query parameter, a header or the JSON text is malformed. The detail names the place; mend it and send again.";
    /// The cursor is none of this list.
    BadCursor, "bad-cursor", BAD_REQUEST, "The cursor is not one of this list",
        "Cursors are opaque: pass next_cursor of the last page unchanged, to the list that gave it.";
    /// No key, or one that is not taken.
    Unauthenticated, "unauthenticated", UNAUTHORIZED, "No valid key was given",
        "Send Authorization: Bearer hbr_... with a key that is neither revoked nor expired.";
    /// The key lacks the scope.
    Forbidden, "forbidden", FORBIDDEN, "The key may not do this",
        "The operation needs a scope that the key lacks; the detail names it. Ask whoever holds an admin key.";
    /// There is no such thing for this tenant.
    NotFound, "not-found", NOT_FOUND, "There is no such thing",
        "The path or the id is wrong, or what it names belongs to somebody else.";
    /// The path has no such method.
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED, "The path does not take this method",
        "See /openapi.json for the methods of each path.";
    /// The state of things stands in the way.
    Conflict, "conflict", CONFLICT, "The state of things stands in the way",
        "Something that the request leans on is missing, not enough, or in a state that does not allow it. The detail says what.";
    /// The same idempotency key is being worked on.
    InProgress, "in-progress", CONFLICT, "The same request is being done",
        "A request with this Idempotency-Key has begun and not finished. Send it again a little later.";
    /// The body is too large.
    TooLarge, "too-large", PAYLOAD_TOO_LARGE, "The body is too large",
        "A body may have 64 MiB. Send the batch in smaller pieces.";
    /// The body is JSON but not what is asked for.
    Unprocessable, "unprocessable", UNPROCESSABLE_ENTITY, "The content cannot be taken",
        "A field of the JSON or a cell of the CSV is missing, has the wrong type or a value out of range. The detail names it.";
    /// The idempotency key was used for another request.
    KeyReused, "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key belongs to another request",
        "An Idempotency-Key stands for one method, path and body for 24 hours. Use a new key for a new request.";
    /// Too many requests at once.
    TooManyRequests, "too-many-requests", TOO_MANY_REQUESTS, "Too many requests at once",
        "Wait as long as Retry-After says and send again.";
    /// Something failed inside.
    Internal, "internal", INTERNAL_SERVER_ERROR, "Something failed inside",
        "The cause is in the server's log under the error_id of this answer. The request may be sent again.";
    /// Not possible now.
    Unavailable, "unavailable", SERVICE_UNAVAILABLE, "Not possible at this moment",
        "The server starts, stops, or has no room for more streams. Send again after Retry-After.";
    /// The disk is full.
    NoRoom, "no-room", INSUFFICIENT_STORAGE, "The disk is full",
        "Nothing was written. Make room on the server's disk; writing then goes on by itself.";
}

/// A problem as RFC 9457 writes it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// URI of the kind of problem: a page on cause and remedy.
    #[serde(rename = "type")]
    #[schema(example = "/problems/not-found")]
    pub kind: String,
    /// The kind in a few words.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// This one, in words.
    pub detail: String,
    /// The kind, for programs.
    pub code: &'static str,
    /// Where the server's log tells more; on 5xx only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_id: Option<String>,
}

/// What a handler fails with.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Error {
    code: Code,
    detail: String,
    retry_after_seconds: Option<u32>,
    error_id: Option<String>,
}

/// What a handler returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A problem of a kind, in words for the caller.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_seconds = match code {
            Code::TooManyRequests | Code::InProgress => Some(1),
            Code::Unavailable => Some(5),
            Code::NoRoom => Some(30),
            _ => None,
        };
        Self { code, detail: detail.into(), retry_after_seconds, error_id: None }
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(Code::NotFound, format!("no {what} {id:?}"))
    }

    /// A field holds what it may not.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(Code::Unprocessable, detail)
    }

    /// Something failed inside: logged here with its causes, told as an id.
    pub fn internal(attempt: &str, error: &dyn std::error::Error) -> Self {
        let error_id = new_id("err");
        tracing::error!(%error_id, attempt, error = %Chain(error), "a request failed inside");
        let detail = "the server could not do this; its log tells more under the error_id";
        Self { error_id: Some(error_id), ..Self::new(Code::Internal, detail) }
    }

    /// Its kind.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is the matter, in words for the caller.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        match error {
            ledger::Error::NotFound { .. } => Self::new(Code::NotFound, error.to_string()),
            ledger::Error::WrongState { .. } | ledger::Error::Conflict { .. } => {
                Self::new(Code::Conflict, error.to_string())
            }
            ledger::Error::Full => Self::new(Code::NoRoom, error.to_string()),
            ledger::Error::Open { .. } | ledger::Error::Damaged { .. } | ledger::Error::Database(_) => {
                Self::internal("ask the ledger", &error)
            }
        }
    }
}

impl From<telemetry::Error> for Error {
    fn from(error: telemetry::Error) -> Self {
        match error {
            telemetry::Error::Full { .. } => Self::new(Code::NoRoom, "no room left for telemetry: nothing was stored"),
            telemetry::Error::Closed => Self::new(Code::Unavailable, "the telemetry store is shutting down"),
            telemetry::Error::Remote { .. } => Self::new(Code::Unavailable, "the telemetry server does not answer now"),
            telemetry::Error::Poisoned
            | telemetry::Error::ServerMissing { .. }
            | telemetry::Error::Damaged { .. }
            | telemetry::Error::UnknownFormat { .. }
            | telemetry::Error::OldFormat { .. }
            | telemetry::Error::Engine { .. } => Self::internal("ask the telemetry store", &error),
        }
    }
}

impl From<telemetry::query::Error> for Error {
    fn from(error: telemetry::query::Error) -> Self {
        match error {
            telemetry::query::Error::Store(error) => error.into(),
            telemetry::query::Error::TooManySamples { .. } => {
                Self::new(Code::BadRequest, format!("query: step: {error}"))
            }
        }
    }
}

impl From<harbinger_alerts::Error> for Error {
    fn from(error: harbinger_alerts::Error) -> Self {
        match error {
            harbinger_alerts::Error::Ledger(error) => error.into(),
            harbinger_alerts::Error::Refused { alert_id, source } => {
                Self::new(Code::Conflict, format!("alert {alert_id:?}: {source}"))
            }
            harbinger_alerts::Error::Client(_) => Self::internal("tell of an alert", &error),
        }
    }
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unavailable(reason) => Self::new(Code::Unavailable, reason),
            ControlError::Conflict(reason) => Self::new(Code::Conflict, reason),
            ControlError::Refused(reason) => Self::unprocessable(reason),
            ControlError::Ledger(error) => error.into(),
            ControlError::Telemetry(error) => error.into(),
            ControlError::Failed { attempt, .. } => Self::internal(attempt, &error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("/problems/{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: self.detail,
            code: self.code.as_str(),
            error_id: self.error_id,
        };
        let mut response = (self.code.status(), Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic realm=\"harbinger\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_words_and_say_how_to_go_on() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{} twice", code.as_str());
            assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert!(code.status().is_client_error() || code.status().is_server_error());
            assert!(code.help().ends_with('.') && !code.title().is_empty());
        }
    }

    #[test]
    fn what_failed_inside_is_not_told() {
        let error = Error::from(ledger::Error::Damaged { column: "api_keys.scopes", value: "secret".to_owned() });
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("secret"));
    }
}
