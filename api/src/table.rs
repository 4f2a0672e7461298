//! Lists and batches as CSV beside JSON, for an ERP, a warehouse system or a spreadsheet (RFC 4180, with a header).
//!
//! A row is the same view that JSON shows: what it is made of and which texts it takes stand there, once. An empty cell is a
//! field that is left out.

use std::{cell::Cell, fmt, str::FromStr};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, MatchedPath, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{
    Deserializer, Serialize,
    de::{
        DeserializeOwned, Error as _, IntoDeserializer, Visitor,
        value::{Error as ValueError, MapDeserializer},
    },
    forward_to_deserialize_any,
};

use crate::{
    errors::{Code, Error, Result},
    extract::{BODY_BYTES_MAX, Json},
    page::{Batch, Page},
    routes::{accepts, csv_bytes},
};

/// The media type of a table.
pub(crate) const CSV: &str = "text/csv";

/// Most places that are told of one table: one in the wrong dialect has one on every line.
const PROBLEMS_MAX: usize = 20;

/// A view that is a row of a table.
pub(crate) trait Row {
    /// Its columns: fields of the view that hold one value.
    const COLUMNS: &'static [&'static str];
}

/// What the caller wants a list as, and how the list was asked for.
pub(crate) struct Shape {
    csv: bool,
    path: String,
    query: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Shape {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Self::Rejection> {
        // The path of the request is cut where routers are nested; that of a list has nothing to fill in.
        let path = parts.extensions.get::<MatchedPath>().map_or(parts.uri.path(), MatchedPath::as_str).to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Ok(Self { csv: accepts(&parts.headers, CSV), path, query })
    }
}

impl Shape {
    /// The page as JSON or as CSV, whose next page is told in the header `Link`.
    pub(crate) fn answer<T: Row + Serialize>(self, page: Page<T>) -> Response {
        if !self.csv {
            return axum::Json(page).into_response();
        }
        let table = csv_bytes(|out| {
            out.write_record(T::COLUMNS)?;
            page.items.iter().try_for_each(|row| out.write_record(cells(row)))
        });
        let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], table).into_response();
        if let Some(link) = page.next_cursor.and_then(|cursor| self.link_to_next(&cursor)) {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }

    /// The same request with the cursor of the next page (RFC 8288).
    fn link_to_next(&self, cursor: &str) -> Option<HeaderValue> {
        let kept = |pair: &&str| !pair.is_empty() && !pair.starts_with("cursor=");
        let mut kept: Vec<&str> = self.query.split('&').filter(kept).collect();
        let next = format!("cursor={cursor}");
        kept.push(&next);
        HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", self.path, kept.join("&"))).ok()
    }
}

fn cells<T: Row + Serialize>(row: &T) -> Vec<String> {
    let shown = serde_json::to_value(row).expect("a view is always JSON");
    let cell = |column: &&str| match shown.get(column) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    T::COLUMNS.iter().map(cell).collect()
}

/// A batch: JSON, or a table where the request says that it is CSV. All of it can be read, or the request is refused.
pub(crate) struct Rows<T>(pub Vec<T>);

impl<T: Row + DeserializeOwned, S: Send + Sync> FromRequest<S> for Rows<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_csv = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(CSV));
        if !is_csv {
            let Json(Batch { items }) = Json::<Batch<T>>::from_request(request, state).await?;
            return Ok(Self(items));
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Error::new(Code::TooLarge, format!("the body has more than {BODY_BYTES_MAX} bytes"))
            }
            _ => Error::new(Code::BadRequest, rejection.body_text()),
        })?;
        match read(&body) {
            Ok(rows) => Ok(Self(rows)),
            Err(problems) => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(Error::unprocessable(told.join("\n")))
            }
        }
    }
}

/// A place of a table that cannot be taken.
#[derive(Debug, PartialEq)]
struct Problem {
    /// From 1; the header is line 1.
    line: u64,
    /// Where one cell is to blame.
    column: Option<String>,
    reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(f, " column {column}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Reads a table: all rows, or the first places that cannot be taken.
fn read<T: Row + DeserializeOwned>(bytes: &[u8]) -> std::result::Result<Vec<T>, Vec<Problem>> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let header = reader.headers().cloned().map_err(|error| vec![malformed(&error)])?;
    let known = |column: &str| T::COLUMNS.contains(&column);
    if let Some(column) = header.iter().find(|column| !known(column)) {
        let reason = format!("this column is not known; a table has {}: take it out", T::COLUMNS.join(","));
        return Err(vec![Problem { line: 1, column: Some(column.to_owned()), reason }]);
    }
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let row = record.map_err(|error| malformed(&error)).and_then(|record| row(&header, &record));
        match row {
            Ok(row) => rows.push(row),
            Err(problem) => problems.push(problem),
        }
        if problems.len() == PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

fn row<T: DeserializeOwned>(header: &csv::StringRecord, record: &csv::StringRecord) -> std::result::Result<T, Problem> {
    let here = Cell::new(None);
    let given = header.iter().zip(record).filter(|(_, cell)| !cell.is_empty());
    let given = given.inspect(|(column, _)| here.set(Some(*column)));
    // Behind the last cell only the whole row can be to blame.
    let whole = std::iter::from_fn(|| {
        here.set(None);
        None
    });
    let cells = given.map(|(column, cell)| (column, Text(cell))).chain(whole);
    T::deserialize(MapDeserializer::<_, ValueError>::new(cells)).map_err(|error| {
        let column: Option<&str> = here.get();
        let reason = match column {
            Some(_) => error.to_string(),
            None => format!("{error}: its cell is empty or its column is not there; give it a value"),
        };
        let line = record.position().map_or(0, csv::Position::line);
        Problem { line, column: column.map(str::to_owned), reason }
    })
}

fn malformed(error: &csv::Error) -> Problem {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} cells and the header {expected_len}; quote cells that hold a comma")
        }
        csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8; write the table in UTF-8".to_owned(),
        _ => error.to_string(),
    };
    Problem { line: error.position().map_or(1, csv::Position::line), column: None, reason }
}

/// The text of a cell, read as whatever the field is.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn parsed<N: FromStr>(&self, what: &str) -> std::result::Result<N, ValueError> {
        self.0.parse().map_err(|_| ValueError::custom(format!("{:?} is not {what}", self.0)))
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, ValueError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, ValueError> {
        visitor.visit_bool(self.parsed("true or false")?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, ValueError> {
        visitor.visit_u32(self.parsed("a whole number from 0")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, ValueError> {
        let number: f64 = self.parsed("a number")?;
        if number.is_finite() {
            visitor.visit_f64(number)
        } else {
            Err(ValueError::custom(format!("{:?} is not a finite number", self.0)))
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, ValueError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
