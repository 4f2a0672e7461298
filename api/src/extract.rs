//! Reading requests: as axum does, but what cannot be read is a problem of ours.

use axum::{
    body::HttpBody as _,
    extract::{
        FromRequest, FromRequestParts, OptionalFromRequest, Request,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, Uri, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::errors::{Code, Error, Result};

/// The largest body: a batch of about 200,000 devices.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A body of JSON. As `Option<Json<T>>` it may be left out.
#[derive(Debug, Default)]
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        match <axum::Json<T> as FromRequest<S>>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(json_problem(&rejection)),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return <Self as FromRequest<S>>::from_request(request, state).await.map(Some);
        }
        match request.body().size_hint().upper() {
            Some(0) => Ok(None),
            _ => <Self as FromRequest<S>>::from_request(request, state).await.map(Some),
        }
    }
}

fn json_problem(rejection: &JsonRejection) -> Error {
    let cause = std::error::Error::source(rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
    match rejection {
        JsonRejection::JsonDataError(_) => Error::unprocessable(cause),
        JsonRejection::MissingJsonContentType(_) => {
            Error::new(Code::BadRequest, "the body must be sent as Content-Type: application/json")
        }
        _ if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(Code::TooLarge, format!("the body has more than {BODY_BYTES_MAX} bytes"))
        }
        _ => Error::new(Code::BadRequest, cause),
    }
}

/// The query parameters.
#[derive(Debug)]
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::of(&parts.uri)
    }
}

impl<T: DeserializeOwned> Query<T> {
    /// Those of a URL.
    pub(crate) fn of(uri: &Uri) -> Result<Self> {
        match axum::extract::Query::try_from_uri(uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(rejection)) => {
                let cause =
                    std::error::Error::source(&rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
                Err(Error::new(Code::BadRequest, format!("query: {cause}")))
            }
            Err(rejection) => Err(Error::new(Code::BadRequest, rejection.to_string())),
        }
    }
}

/// The parts of the path that are filled in; what cannot be such a part names nothing.
#[derive(Debug)]
pub(crate) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Error::new(Code::NotFound, rejection.body_text())),
        }
    }
}
