//! How telemetry is shown: as JSON, a line of JSON a row, or CSV; and one device's in the form it always had.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, SignalId, Timestamp};
use harbinger_store::telemetry::query::{Bucket, Function, Row, Values};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::asked::{Asked, Item};
use crate::routes::csv_bytes;

/// A reading of one device, or with `step` one signal of one device in one bucket.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum RangeItem {
    /// All values of one instant.
    Reading {
        /// Which device.
        #[schema(value_type = String)]
        device: DeviceId,
        /// When.
        #[schema(value_type = String, format = DateTime)]
        ts: Timestamp,
        /// Value by signal.
        #[schema(value_type = BTreeMap<String, f64>)]
        #[serde(serialize_with = "as_map")]
        values: Values,
        /// How long the device was silent before, where gaps are asked for and that is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        gap_seconds: Option<f64>,
    },
    /// What functions make of a bucket.
    Bucket {
        /// Which device.
        #[schema(value_type = String)]
        device: DeviceId,
        /// Which signal.
        #[schema(value_type = String)]
        signal: SignalId,
        /// Where the bucket begins.
        #[schema(value_type = String, format = DateTime)]
        from: Timestamp,
        /// Where it ends.
        #[schema(value_type = String, format = DateTime)]
        to: Timestamp,
        /// Value by function; null where there is none.
        #[schema(value_type = BTreeMap<String, Option<f64>>)]
        values: BTreeMap<&'static str, Value>,
    },
}

/// What a function gives: a number of samples is a whole one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Count(u64),
    Number(Option<f64>),
}

impl Value {
    fn of(bucket: &Bucket, function: Function) -> Self {
        match function {
            Function::Count => Self::Count(bucket.summary.count),
            other => Self::Number(bucket.value(other)),
        }
    }

    /// As a cell of CSV; empty where there is none.
    fn cell(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Number(number) => number.map_or_else(String::new, |number| number.to_string()),
        }
    }
}

fn as_map<S: Serializer>(values: &Values, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter())
}

fn seconds(gap: Duration) -> f64 {
    gap.millis() as f64 / 1e3
}

impl RangeItem {
    pub(super) fn new(item: Item, asked: &Asked) -> Self {
        match item {
            Item::Reading(Row { device, ts, values, gap }) => {
                Self::Reading { device, ts, values, gap_seconds: gap.map(seconds) }
            }
            Item::Bucket(bucket) => {
                let values = functions(asked).iter().map(|&f| (f.as_str(), Value::of(&bucket, f))).collect();
                let Bucket { device, signal, span, .. } = *bucket;
                Self::Bucket { device, signal, from: span.from, to: span.to, values }
            }
        }
    }
}

fn functions(asked: &Asked) -> &[Function] {
    asked.buckets.as_ref().map_or(&[], |buckets| &buckets.functions)
}

/// A line of JSON a row.
pub(super) fn ndjson_rows(items: Vec<Item>, asked: &Asked) -> Vec<u8> {
    let mut text = Vec::new();
    for item in items {
        serde_json::to_writer(&mut text, &RangeItem::new(item, asked)).expect("names and numbers are always JSON");
        text.push(b'\n');
    }
    text
}

/// The names of the columns.
pub(super) fn csv_head(asked: &Asked) -> Vec<u8> {
    let names: &[&str] = match asked.buckets {
        Some(_) => &["device", "signal", "from", "to"],
        None => &["device", "ts", "signal", "value", "gap_seconds"],
    };
    let functions = functions(asked).iter().map(|function| function.as_str());
    csv_bytes(|out| out.write_record(names.iter().copied().chain(functions)))
}

/// A row a bucket, or a row a value of a reading.
pub(super) fn csv_rows(items: Vec<Item>, asked: &Asked) -> Vec<u8> {
    csv_bytes(|out| {
        for item in items {
            match item {
                Item::Reading(Row { device, ts, values, gap }) => {
                    let gap = gap.map_or_else(String::new, |gap| seconds(gap).to_string());
                    for (signal, value) in values.iter() {
                        out.write_record([
                            device.as_str(),
                            &ts.to_string(),
                            signal.as_str(),
                            &value.to_string(),
                            &gap,
                        ])?;
                    }
                }
                Item::Bucket(bucket) => {
                    let Bucket { device, signal, span, .. } = &*bucket;
                    let mut cells =
                        vec![device.to_string(), signal.to_string(), span.from.to_string(), span.to.to_string()];
                    cells.extend(functions(asked).iter().map(|&function| Value::of(&bucket, function).cell()));
                    out.write_record(&cells)?;
                }
            }
        }
        Ok(())
    })
}

/// A reading, or with `step` the summary of one signal in one bucket.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum DeviceItem {
    /// All values of one instant.
    Reading {
        /// When.
        #[schema(value_type = String, format = DateTime)]
        ts: Timestamp,
        /// Value by signal.
        #[schema(value_type = BTreeMap<String, f64>)]
        #[serde(serialize_with = "as_map")]
        values: Values,
    },
    /// One signal in one bucket.
    Bucket(Box<BucketView>),
}

/// One signal in one bucket of time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BucketView {
    /// The bucket's end, which it holds.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Which signal.
    #[schema(value_type = String)]
    signal: SignalId,
    /// Samples.
    count: u64,
    /// Mean of the values.
    mean: f64,
    /// Smallest value.
    min: f64,
    /// Largest value.
    max: f64,
    /// Earliest value.
    first: f64,
    /// Latest value.
    last: f64,
    /// Population standard deviation.
    stddev: f64,
    /// Least-squares slope; null where the samples span no time.
    slope_per_hour: Option<f64>,
}

impl DeviceItem {
    pub(super) fn new(item: Item) -> Self {
        match item {
            Item::Reading(Row { ts, values, .. }) => Self::Reading { ts, values },
            Item::Bucket(bucket) => {
                let Bucket { span, signal, summary, .. } = *bucket;
                Self::Bucket(Box::new(BucketView {
                    ts: span.to,
                    signal,
                    count: summary.count,
                    mean: summary.mean,
                    min: summary.min,
                    max: summary.max,
                    first: summary.first,
                    last: summary.last,
                    stddev: summary.stddev().unwrap_or_default(),
                    slope_per_hour: summary.slope_per_hour(),
                }))
            }
        }
    }
}
