//! One module a resource; each gives its routes with their description.

use std::{fmt::Display, str::FromStr};

use axum::http::{HeaderMap, header};
use harbinger_core::{TimeRange, Timestamp};
use harbinger_store::ledger;

use crate::errors::{Code, Error, Result};

pub(crate) mod admin;
pub(crate) mod alerts;
pub(crate) mod devices;
pub(crate) mod history;
pub(crate) mod kpi;
pub(crate) mod models;
pub(crate) mod orders;
pub(crate) mod part_uses;
pub(crate) mod pieces;
pub(crate) mod plans;
pub(crate) mod predictions;
pub(crate) mod quarantine;
pub(crate) mod registry;
pub(crate) mod returns;
pub(crate) mod scoreboard;
pub(crate) mod service;
pub(crate) mod stock;
pub(crate) mod stream;
pub(crate) mod telemetry;
pub(crate) mod webhooks;
pub(crate) mod work_orders;

/// One row more than the page holds, which tells whether there is a next page.
fn one_more(limit: usize) -> u32 {
    u32::try_from(limit + 1).unwrap_or(u32::MAX)
}

/// Keeps what a transaction wrote.
async fn commit(transaction: ledger::WriteTransaction) -> Result<()> {
    Ok(transaction.commit().await.map_err(ledger::Error::from)?)
}

/// The span between two optional instants.
fn range(from: Option<Timestamp>, to: Option<Timestamp>) -> TimeRange {
    TimeRange { from: from.unwrap_or(TimeRange::ALL.from), to: to.unwrap_or(TimeRange::ALL.to) }
}

/// Words of one kind, separated by commas.
fn words<W: FromStr>(text: Option<&str>, parameter: &str) -> Result<Vec<W>>
where
    W::Err: Display,
{
    text.map_or_else(|| Ok(Vec::new()), |text| text.split(',').map(|text| word(text.trim(), parameter)).collect())
}

/// What a query parameter says.
fn word<W: FromStr>(text: &str, parameter: &str) -> Result<W>
where
    W::Err: Display,
{
    text.parse().map_err(|error| Error::new(Code::BadRequest, format!("query: {parameter}: {error}")))
}

/// Whether the caller asks for a media type that is not JSON.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == media_type))
}

/// What is written as CSV.
pub(crate) fn csv_bytes(write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Vec<u8> {
    let mut out = csv::Writer::from_writer(Vec::new());
    write(&mut out).expect("rows have as many cells as the header, and memory takes them");
    out.into_inner().expect("memory takes what is written")
}
