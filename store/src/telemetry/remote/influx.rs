//! InfluxDB: points by line protocol, reads in InfluxQL (`/query`), which 1.x, 2.x and 3.x all answer.
//!
//! A device is one series, so `ORDER BY time LIMIT n` pages through it. The same series, field and time written again is
//! replaced: a correction needs nothing more. 1.x syncs its log before it answers; 2.x and 3.x do too.

use std::collections::BTreeMap;

use async_trait::async_trait;
use harbinger_core::{DeviceKey, Duration, SignalId, TenantId, TimeRange, Timestamp, history::Readings};
use reqwest::Method;
use serde::Deserialize;

use super::{
    Failure, Page, Remote, Settings, WriteApi,
    http::Http,
    line_protocol::{MEASUREMENT, decode_name, encode_name},
    write::Writer,
};
use crate::telemetry::Latest;

/// It counts nanoseconds from 1970 in 64 bits: so many milliseconds either way.
const MILLIS: i64 = i64::MAX / 1_000_000;

/// Readings of one answer: at 100 signals some ten megabytes of JSON.
const READINGS_A_PAGE: usize = 10_000;

/// Signals whose newest sample is asked for in one request: the question is part of its URL.
const SIGNALS_A_QUESTION: usize = 32;

/// An InfluxDB of version 1, 2 or 3.
#[derive(Debug)]
pub struct InfluxDb {
    http: Http,
    writer: Writer,
    settings: Settings,
}

/// What `/query` answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Statement>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    #[serde(default)]
    series: Vec<Series>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Series {
    columns: Vec<String>,
    #[serde(default)]
    values: Vec<Vec<Option<serde_json::Number>>>,
}

impl InfluxDb {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// [`Failure::Settings`] for settings that cannot be right.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        Ok(Self { http: Http::new("InfluxDB", &settings)?, writer: Writer::new(&settings, false)?, settings })
    }

    /// Makes the database where it is missing (1.x; a bucket of 2.x or 3.x is made by its own tools).
    ///
    /// # Errors
    /// [`Failure`], also where the user may not.
    pub async fn create_database(&self) -> Result<(), Failure> {
        self.query(&format!("CREATE DATABASE {}", identifier(&self.settings.database))).await.map(drop)
    }

    async fn query(&self, question: &str) -> Result<Vec<Statement>, Failure> {
        let parameters = [("db", self.settings.database.as_str()), ("epoch", "ms"), ("q", question)];
        let answer = self.http.send(self.http.request(Method::POST, "/query").query(&parameters)).await?;
        let answer: Answer = answer.json().await.map_err(|e| self.http.unreadable(e))?;
        let refused = |message| Failure::Query { server: self.http.server.clone(), message };
        answer.error.map_or(Ok(()), |error| Err(refused(error)))?;
        match answer.results.iter().find_map(|statement| statement.error.clone()) {
            Some(error) => Err(refused(error)),
            None => Ok(answer.results),
        }
    }

    /// The readings of a `SELECT` whose first column is the time.
    fn readings(&self, series: &Series) -> Result<Readings, Failure> {
        let names = series.columns.iter().skip(1);
        let signals = names.map(|name| self.signal(name)).collect::<Result<Vec<_>, _>>()?;
        let mut readings = Readings::default();
        for row in &series.values {
            let (ts, cells) = self.time_and_cells(row)?;
            let samples = signals.iter().zip(cells).filter_map(|(signal, cell)| Some((signal.clone(), number(cell)?)));
            readings.push(ts, &samples.collect::<Vec<_>>());
        }
        Ok(readings)
    }

    fn time_and_cells<'a>(
        &self,
        row: &'a [Option<serde_json::Number>],
    ) -> Result<(Timestamp, &'a [Option<serde_json::Number>]), Failure> {
        let (time, cells) = row.split_first().ok_or_else(|| self.http.unreadable("a row without a time"))?;
        let millis = time.as_ref().and_then(serde_json::Number::as_i64);
        let millis = millis.ok_or_else(|| self.http.unreadable("a row whose time is no number"))?;
        Ok((Timestamp::from_millis(millis), cells))
    }

    fn signal(&self, name: &str) -> Result<SignalId, Failure> {
        SignalId::parse(&decode_name(name)).map_err(|e| self.http.unreadable(e))
    }

    /// What is wrong where a database is not found, and how to mend it.
    fn explain_missing(&self, message: String) -> String {
        let name = &self.settings.database;
        let remedy = match self.settings.write_api {
            WriteApi::V1 => format!("make it: influx -execute 'CREATE DATABASE {}'", identifier(name)),
            WriteApi::V2 => format!(
                "InfluxQL finds a bucket of 2.x by a DBRP mapping; make it: influx v1 dbrp create --db {name} --rp autogen \
                 --default --bucket-id <id of bucket {name}>"
            ),
        };
        format!("{message}; {remedy}")
    }
}

fn number(cell: &Option<serde_json::Number>) -> Option<f64> {
    cell.as_ref()?.as_f64()
}

/// An InfluxQL string. Encoded names hold no backslash.
fn text(encoded: &str) -> String {
    format!("'{}'", encoded.replace('\'', "\\'"))
}

/// An InfluxQL identifier. Encoded names hold no backslash and no double quote.
fn identifier(encoded: &str) -> String {
    format!("\"{encoded}\"")
}

fn of_device(key: &DeviceKey) -> String {
    let (tenant, device) = (encode_name(key.tenant.as_str()), encode_name(key.device.as_str()));
    format!("\"tenant\" = {} AND \"device\" = {}", text(&tenant), text(&device))
}

fn in_range(range: TimeRange) -> String {
    let (from, to) = (representable(range.from), representable(range.to));
    format!("time >= {}ms AND time < {}ms", from.millis(), to.millis())
}

/// A time that a question may name.
fn representable(ts: Timestamp) -> Timestamp {
    Timestamp::from_millis(ts.millis().clamp(-MILLIS, MILLIS))
}

#[async_trait]
impl Remote for InfluxDb {
    fn server(&self) -> &str {
        &self.http.server
    }

    fn takes(&self, ts: Timestamp, value: f64) -> bool {
        value.is_finite() && ts.millis().abs() <= MILLIS
    }

    fn overwrites(&self) -> bool {
        true
    }

    /// It does not say which run answers, and need not: what it acknowledged is on its disk.
    async fn instance(&self) -> Result<String, Failure> {
        self.http.send(self.http.request(Method::GET, "/ping")).await?;
        Ok("durable".to_owned())
    }

    async fn write(&self, devices: &[(DeviceKey, Readings)]) -> Result<(), Failure> {
        self.writer.write(&self.http, devices, |ts, value| self.takes(ts, value)).await
    }

    async fn settle(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        readings_max: usize,
    ) -> Result<Page, Failure> {
        let fields = match signals {
            None => "*::field".to_owned(),
            Some([]) => return Ok(Page { readings: Readings::default(), read_to: range.to }),
            Some(some) => {
                some.iter().map(|signal| identifier(&encode_name(signal.as_str()))).collect::<Vec<_>>().join(", ")
            }
        };
        let limit = readings_max.clamp(1, READINGS_A_PAGE);
        let (device, time) = (of_device(key), in_range(range));
        let question = format!(
            "SELECT {fields} FROM {} WHERE {device} AND {time} ORDER BY time LIMIT {limit}",
            identifier(MEASUREMENT)
        );
        let answer = self.query(&question).await?;
        let series = answer.iter().flat_map(|statement| &statement.series).next();
        let readings = series.map_or_else(|| Ok(Readings::default()), |series| self.readings(series))?;
        let more = readings.times.last().filter(|_| readings.len() >= limit);
        let read_to = more.map_or(range.to, |&last| last + Duration::from_millis(1));
        Ok(Page { readings, read_to })
    }

    /// `last(*)` names the fields there are, but not when each was reported; one `last` a field does.
    async fn latest(&self, key: &DeviceKey, range: TimeRange) -> Result<Vec<Latest>, Failure> {
        let from = format!("FROM {} WHERE {} AND {}", identifier(MEASUREMENT), of_device(key), in_range(range));
        let answer = self.query(&format!("SELECT last(*) {from}")).await?;
        let columns = answer.iter().flat_map(|statement| &statement.series).flat_map(|series| &series.columns);
        let fields: Vec<&str> = columns.filter_map(|column| column.strip_prefix("last_")).collect();
        let mut latest = BTreeMap::new();
        for some in fields.chunks(SIGNALS_A_QUESTION) {
            let question = |field: &&str| format!("SELECT last({}) {from}", identifier(field));
            let answer = self.query(&some.iter().map(question).collect::<Vec<_>>().join("; ")).await?;
            for (field, statement) in some.iter().zip(&answer) {
                for row in statement.series.iter().flat_map(|series| &series.values) {
                    let (ts, cells) = self.time_and_cells(row)?;
                    let signal = self.signal(field)?;
                    if let Some(value) = cells.first().and_then(number) {
                        latest.insert(signal.clone(), Latest { signal, ts, value });
                    }
                }
            }
        }
        Ok(latest.into_values().collect())
    }

    async fn delete(&self, key: &DeviceKey) -> Result<(), Failure> {
        self.query(&format!("DELETE FROM {} WHERE {}", identifier(MEASUREMENT), of_device(key))).await.map(drop)
    }

    async fn forget(&self, tenant: &TenantId, before: Timestamp) -> Result<(), Failure> {
        let tenant = text(&encode_name(tenant.as_str()));
        let before = representable(before).millis();
        let question =
            format!("DELETE FROM {} WHERE \"tenant\" = {tenant} AND time < {before}ms", identifier(MEASUREMENT));
        self.query(&question).await.map(drop)
    }

    async fn check(&self) -> Result<String, Failure> {
        let answer = self.http.send(self.http.request(Method::GET, "/ping")).await?;
        let version = answer.headers().get("X-Influxdb-Version").and_then(|version| version.to_str().ok());
        let version = version.unwrap_or("of unknown version").to_owned();
        let probe = format!("SELECT * FROM {} LIMIT 1", identifier(MEASUREMENT));
        match self.query(&probe).await {
            Ok(_) => Ok(format!("{} {version} answers InfluxQL on {:?}", self.http.server, self.settings.database)),
            Err(Failure::Query { server, message }) if message.contains("not found") => {
                Err(Failure::Query { server, message: self.explain_missing(message) })
            }
            Err(Failure::Status { server, status, message }) if message.contains("not found") => {
                Err(Failure::Status { server, status, message: self.explain_missing(message) })
            }
            Err(other) => Err(other),
        }
    }
}
