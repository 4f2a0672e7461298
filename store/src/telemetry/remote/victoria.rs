//! VictoriaMetrics: line protocol in, `/api/v1/export` and PromQL out.
//!
//! The signal `inlet_c` is the metric `harbinger_inlet_c` with labels `db`, `tenant`, `device`: what a PromQL user would type.
//! The server answers a write before the points can be read (`/internal/force_flush`) and before they are synced; it keeps
//! values as decimals of some 15 digits, both values where a sample was written twice, and deletes by series, not by time.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::StreamExt;
use harbinger_core::{DeviceKey, SignalId, TenantId, TimeRange, Timestamp, history::Readings};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Failure, Page, Remote, Settings,
    http::Http,
    line_protocol::{MEASUREMENT, decode_name, encode_name},
    write::Writer,
};
use crate::telemetry::Latest;

/// Samples of one page in all, some hundred megabytes of lists at the most: a page with more is asked for in parts.
const SAMPLES_A_PAGE: usize = 1_000_000;

/// Samples of a line of an export: a line is read whole.
const SAMPLES_A_LINE: &str = "5000";

/// Signals that are asked for by name; of more all are read and the others dropped.
const SIGNALS_BY_NAME: usize = 16;

/// Values outside are not sent. One block of a series shares one decimal exponent: an extreme value would cost the others
/// their digits.
const MAGNITUDES: std::ops::Range<f64> = 1e-6..1e15;

/// A single-node VictoriaMetrics.
#[derive(Debug)]
pub struct VictoriaMetrics {
    http: Http,
    writer: Writer,
    database: String,
}

/// A line of an export.
#[derive(Debug, Deserialize)]
struct Line {
    metric: BTreeMap<String, String>,
    values: Vec<Option<f64>>,
    timestamps: Vec<i64>,
}

/// What an instant query answers.
#[derive(Debug, Deserialize)]
struct Instant {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    result: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// Samples by signal, and by time.
type Columns = BTreeMap<SignalId, BTreeMap<Timestamp, f64>>;

impl VictoriaMetrics {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// [`Failure::Settings`] for settings that cannot be right.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let http = Http::new("VictoriaMetrics", settings)?;
        Ok(Self { http, writer: Writer::new(settings, true)?, database: settings.database.clone() })
    }

    /// The labels that single out a device's series, after the metric's name.
    fn labels(&self, key: &DeviceKey) -> String {
        let (tenant, device) = (encode_name(key.tenant.as_str()), encode_name(key.device.as_str()));
        format!("db=\"{}\",tenant=\"{tenant}\",device=\"{device}\"", encode_name(&self.database))
    }

    fn all_signals(&self, key: &DeviceKey) -> String {
        format!("{{__name__=~\"{MEASUREMENT}_.+\",{}}}", self.labels(key))
    }

    fn selectors(&self, key: &DeviceKey, signals: Option<&[SignalId]>) -> Vec<String> {
        let labels = self.labels(key);
        let one =
            |signal: &SignalId| format!("{{__name__=\"{MEASUREMENT}_{}\",{labels}}}", encode_name(signal.as_str()));
        match signals {
            Some(some) if some.len() <= SIGNALS_BY_NAME => some.iter().map(one).collect(),
            _ => vec![self.all_signals(key)],
        }
    }

    fn signal(&self, metric: &BTreeMap<String, String>) -> Result<SignalId, Failure> {
        let name = metric.get("__name__").and_then(|name| name.strip_prefix(MEASUREMENT)?.strip_prefix('_'));
        let name = name.ok_or_else(|| self.http.unreadable("a series of another name than was asked for"))?;
        SignalId::parse(&decode_name(name)).map_err(|e| self.http.unreadable(e))
    }

    /// Everything in `range`; or, where that is too much, the end of a shorter range.
    async fn export(
        &self,
        selectors: &[String],
        range: TimeRange,
        readings_max: usize,
    ) -> Result<Result<Columns, Timestamp>, Failure> {
        let mut request = self.http.request(Method::GET, "/api/v1/export");
        for selector in selectors {
            request = request.query(&[("match[]", selector)]);
        }
        let (from, to) = (whole_seconds(range.from, 0), whole_seconds(range.to, 1));
        request = request.query(&[("start", &*from), ("end", &*to), ("max_rows_per_line", SAMPLES_A_LINE)]);
        let answer = self.http.send(request).await?;
        let (mut columns, mut samples) = (Columns::new(), 0);
        let (mut stream, mut buffer) = (answer.bytes_stream(), Vec::new());
        loop {
            let part = stream.next().await.transpose().map_err(|e| self.http.unreachable(e))?;
            let is_last = part.is_none();
            buffer.extend_from_slice(&part.unwrap_or_default());
            let whole = if is_last {
                buffer.len()
            } else {
                buffer.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
            };
            for line in
                buffer.drain(..whole).collect::<Vec<u8>>().split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
            {
                samples += self.take_line(line, range, &mut columns)?;
            }
            if let Some(shorter) = shorter_end(&columns, samples, range, readings_max) {
                return Ok(Err(shorter));
            }
            if is_last {
                return Ok(Ok(columns));
            }
        }
    }

    /// Adds a line's samples that are in range; how many.
    fn take_line(&self, line: &[u8], range: TimeRange, columns: &mut Columns) -> Result<usize, Failure> {
        let line: Line = serde_json::from_slice(line).map_err(|e| self.http.unreadable(e))?;
        let column = columns.entry(self.signal(&line.metric)?).or_default();
        let times = line.timestamps.iter().map(|&millis| Timestamp::from_millis(millis));
        let samples = times.zip(line.values).filter_map(|(ts, value)| Some((ts, value?)));
        let before = column.len();
        column.extend(samples.filter(|(ts, _)| range.contains(*ts)));
        Ok(column.len() - before)
    }

    async fn instant(&self, question: &str, at: &str) -> Result<Vec<Sample>, Failure> {
        let parameters = [("query", question), ("time", at), ("nocache", "1")];
        let answer: Instant = self.json(self.http.request(Method::GET, "/api/v1/query").query(&parameters)).await?;
        Ok(answer.data.result)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        self.http.send(request).await?.json().await.map_err(|e| self.http.unreadable(e))
    }

    /// The server's own metrics.
    async fn metrics(&self) -> Result<String, Failure> {
        let answer = self.http.send(self.http.request(Method::GET, "/metrics")).await?;
        answer.text().await.map_err(|e| self.http.unreachable(e))
    }
}

/// A time as the server reads it without a rounding of its own.
fn whole_seconds(ts: Timestamp, later: i64) -> String {
    (ts.millis().div_euclid(1000) + later).to_string()
}

/// The end of a range that holds fewer readings, where `range` holds too many and can be made shorter.
fn shorter_end(columns: &Columns, samples: usize, range: TimeRange, readings_max: usize) -> Option<Timestamp> {
    let longest = columns.values().max_by_key(|column| column.len())?;
    if longest.len() <= readings_max && samples <= SAMPLES_A_PAGE {
        return None;
    }
    let keep = readings_max.min(SAMPLES_A_PAGE / columns.len().max(1)).min(longest.len() - 1).max(1);
    let end = *longest.keys().nth(keep)?;
    (range.from < end && end < range.to).then_some(end)
}

/// Columns of readings; times without a sample are not there.
fn to_readings(columns: Columns) -> Readings {
    let mut times: Vec<Timestamp> = columns.values().flat_map(BTreeMap::keys).copied().collect();
    times.sort_unstable();
    times.dedup();
    let filled = |column: BTreeMap<Timestamp, f64>| -> Vec<f64> {
        let mut samples = column.into_iter().peekable();
        let cell = |ts: &Timestamp| samples.next_if(|(known, _)| known == ts).map_or(f64::NAN, |(_, value)| value);
        times.iter().map(cell).collect()
    };
    let columns = columns.into_iter().filter(|(_, column)| !column.is_empty());
    let columns = columns.map(|(signal, column)| (signal, filled(column))).collect();
    Readings { times, columns }
}

#[async_trait]
impl Remote for VictoriaMetrics {
    fn server(&self) -> &str {
        &self.http.server
    }

    fn takes(&self, ts: Timestamp, value: f64) -> bool {
        ts.millis() >= 0 && (value == 0.0 || MAGNITUDES.contains(&value.abs()))
    }

    fn overwrites(&self) -> bool {
        false
    }

    async fn instance(&self) -> Result<String, Failure> {
        let metrics = self.metrics().await?;
        let started = metrics.lines().find_map(|line| line.strip_prefix("vm_app_start_timestamp"));
        let process = metrics.lines().find_map(|line| line.strip_prefix("process_start_time_seconds"));
        let started =
            started.or(process).ok_or_else(|| self.http.unreadable("metrics without the time of its start"))?;
        Ok(started.trim().to_owned())
    }

    async fn write(&self, devices: &[(DeviceKey, Readings)]) -> Result<(), Failure> {
        self.writer.write(&self.http, devices, |ts, value| self.takes(ts, value)).await
    }

    async fn settle(&self) -> Result<(), Failure> {
        self.http.send(self.http.request(Method::GET, "/internal/force_flush")).await.map(drop)
    }

    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        readings_max: usize,
    ) -> Result<Page, Failure> {
        let mut range = TimeRange { from: range.from.max(Timestamp::from_millis(0)), ..range };
        let selectors = self.selectors(key, signals);
        if range.from >= range.to || selectors.is_empty() {
            return Ok(Page { readings: Readings::default(), read_to: range.to });
        }
        loop {
            match self.export(&selectors, range, readings_max.max(1)).await? {
                Ok(mut columns) => {
                    columns.retain(|signal, _| signals.is_none_or(|wanted| wanted.contains(signal)));
                    return Ok(Page { readings: to_readings(columns), read_to: range.to });
                }
                Err(shorter) => range.to = shorter,
            }
        }
    }

    async fn latest(&self, key: &DeviceKey, range: TimeRange) -> Result<Vec<Latest>, Failure> {
        let from = range.from.max(Timestamp::from_millis(0));
        let at = whole_seconds(range.to, 1);
        let seconds = (range.to.millis() - from.millis()).max(0) / 1000 + 2;
        let window = format!("{}[{seconds}s]", self.all_signals(key));
        let values = self.instant(&format!("last_over_time({window}) keep_metric_names"), &at).await?;
        let times = self.instant(&format!("tlast_over_time({window}) keep_metric_names"), &at).await?;
        let mut by_signal = BTreeMap::new();
        for sample in times {
            let seconds: f64 = sample.value.1.parse().map_err(|e| self.http.unreadable(e))?;
            by_signal.insert(self.signal(&sample.metric)?, Timestamp::from_millis((seconds * 1000.0).round() as i64));
        }
        let mut latest = Vec::new();
        for sample in values {
            let signal = self.signal(&sample.metric)?;
            let value: f64 = sample.value.1.parse().map_err(|e| self.http.unreadable(e))?;
            let Some(&ts) = by_signal.get(&signal).filter(|ts| range.contains(**ts)) else { continue };
            latest.push(Latest { signal, ts, value });
        }
        latest.sort_by(|a, b| a.signal.cmp(&b.signal));
        Ok(latest)
    }

    async fn delete(&self, key: &DeviceKey) -> Result<(), Failure> {
        let request = self.http.request(Method::POST, "/api/v1/admin/tsdb/delete_series");
        self.http.send(request.query(&[("match[]", self.all_signals(key))])).await.map(drop)
    }

    /// Its own `-retentionPeriod` frees its disk; it has no deletion by time.
    async fn forget(&self, _tenant: &TenantId, _before: Timestamp) -> Result<(), Failure> {
        Ok(())
    }

    async fn check(&self) -> Result<String, Failure> {
        let metrics = self.metrics().await?;
        let flag = metrics.lines().find(|line| line.starts_with("flag{name=\"retentionPeriod\""));
        let retention = flag.and_then(|line| line.split('"').nth(3)).unwrap_or("unknown");
        self.instant(&format!("count({{db=\"{}\"}})", encode_name(&self.database)), "0").await?;
        let server = &self.http.server;
        Ok(format!(
            "{server} answers PromQL and keeps readings for {retention} (its -retentionPeriod; a bare number: months)"
        ))
    }
}
