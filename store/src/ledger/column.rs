//! Columns read back into the types that they were written from.

use std::{fmt::Display, str::FromStr};

use harbinger_core::Timestamp;
use sqlx::{Any, ColumnIndex, Decode, Row, Type, any::AnyRow};

use super::Error;

/// The value of a column.
pub(crate) fn get<'r, T: Decode<'r, Any> + Type<Any>>(row: &'r AnyRow, column: &'static str) -> Result<T, Error>
where
    &'static str: ColumnIndex<AnyRow>,
{
    Ok(row.try_get(column)?)
}

/// A text column that holds an id or a word.
pub(crate) fn parse<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<T, Error>
where
    T::Err: Display,
{
    let text: String = get(row, column)?;
    text.parse().map_err(|_| Error::Damaged { column, value: text })
}

/// The same where the column may be empty.
pub(crate) fn parse_optional<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<Option<T>, Error>
where
    T::Err: Display,
{
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(|_| Error::Damaged { column, value: text })).transpose()
}

/// A time in milliseconds.
pub(crate) fn time(row: &AnyRow, column: &'static str) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_millis(get(row, column)?))
}

/// The same where the column may be empty.
pub(crate) fn time_optional(row: &AnyRow, column: &'static str) -> Result<Option<Timestamp>, Error> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// A count that is never negative.
pub(crate) fn count(row: &AnyRow, column: &'static str) -> Result<u32, Error> {
    let value: i64 = get(row, column)?;
    u32::try_from(value).map_err(|_| Error::Damaged { column, value: value.to_string() })
}

/// The same where the column may be empty.
pub(crate) fn count_optional(row: &AnyRow, column: &'static str) -> Result<Option<u32>, Error> {
    let value: Option<i64> = get(row, column)?;
    value.map(|value| u32::try_from(value).map_err(|_| Error::Damaged { column, value: value.to_string() })).transpose()
}

/// A document in JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, Error> {
    let text: String = get(row, column)?;
    serde_json::from_str(&text).map_err(|_| Error::Damaged { column, value: text })
}
