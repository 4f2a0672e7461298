//! What Prometheus answers, as its clients read it: `{"status":"success","data":…}`, and its errors.

use std::fmt;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::{
    evaluate::{self, Row, Steps},
    labels::Labels,
    place::Refusal,
};
use crate::errors;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request cannot be read, or asks for what is beyond the subset.
    BadData(String),
    /// The request was read and cannot be carried out.
    Execution(String),
    /// It took too long.
    Timeout(String),
    /// As everywhere in the interface.
    Problem(errors::Error),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, kind, text) = match self {
            Self::BadData(text) => (StatusCode::BAD_REQUEST, "bad_data", text),
            Self::Execution(text) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", text),
            Self::Timeout(text) => (StatusCode::SERVICE_UNAVAILABLE, "timeout", text),
            Self::Problem(error) => return error.into_response(),
        };
        (status, Json(json!({ "status": "error", "errorType": kind, "error": text }))).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::BadData(refusal.to_string())
    }
}

impl From<evaluate::Error> for Failure {
    fn from(error: evaluate::Error) -> Self {
        Self::Execution(error.to_string())
    }
}

impl<E: Into<errors::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

/// A success and its data.
pub(super) fn success(data: impl Serialize, warnings: &[&str]) -> Response {
    #[derive(Serialize)]
    struct Success<'a, D> {
        status: &'static str,
        data: D,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        warnings: &'a [&'a str],
    }
    Json(Success { status: "success", data, warnings }).into_response()
}

/// The result of a query.
#[derive(Debug, Serialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Data {
    /// A number at one instant.
    Scalar(Point),
    /// A value a row at one instant.
    Vector(Vec<Instant>),
    /// Values a row over a range.
    Matrix(Vec<Range>),
}

/// A row at one instant.
#[derive(Debug, Serialize)]
pub(super) struct Instant {
    metric: Labels,
    value: Point,
}

/// A row over a range.
#[derive(Debug, Serialize)]
pub(super) struct Range {
    metric: Labels,
    values: Vec<Point>,
}

impl Data {
    /// Of rows with a single step.
    pub(super) fn vector(rows: Vec<Row>, at: i64) -> Self {
        let instant = |row: Row| {
            let value = row.values.into_iter().flatten().next()?;
            Some(Instant { metric: row.labels, value: Point(at, value) })
        };
        Self::Vector(rows.into_iter().filter_map(instant).collect())
    }

    /// Of rows over steps.
    pub(super) fn matrix(rows: Vec<Row>, steps: Steps) -> Self {
        let range = |row: Row| {
            let points = steps.iter().zip(row.values).filter_map(|(ts, value)| Some(Point(ts, value?)));
            Range { metric: row.labels, values: points.collect() }
        };
        Self::Matrix(rows.into_iter().map(range).collect())
    }
}

/// Milliseconds since 1970 and a value: seconds and a text on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point(pub(super) i64, pub(super) f64);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(millis, value) = *self;
        match millis % 1000 {
            0 => (millis / 1000, Shown(value)).serialize(serializer),
            _ => (millis as f64 / 1000.0, Shown(value)).serialize(serializer),
        }
    }
}

/// A value as Prometheus writes it: the shortest text that reads back as the same value, never with an exponent.
struct Shown(f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(f, "{value}"),
        }
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_written_as_prometheus_writes_them() {
        let shown = |millis, value| serde_json::to_string(&Point(millis, value)).unwrap();
        assert_eq!(shown(1_435_781_451_781, 0.1 + 0.2), r#"[1435781451.781,"0.30000000000000004"]"#);
        assert_eq!(shown(1_435_781_430_000, 2.0), r#"[1435781430,"2"]"#);
        assert_eq!(shown(-1500, f64::INFINITY), r#"[-1.5,"+Inf"]"#);
        assert_eq!(shown(0, f64::NEG_INFINITY), r#"[0,"-Inf"]"#);
        assert_eq!(shown(0, f64::NAN), r#"[0,"NaN"]"#);
        assert_eq!(shown(0, 1e21), r#"[0,"1000000000000000000000"]"#);
        assert_eq!(shown(0, -0.0), r#"[0,"-0"]"#);
    }
}
