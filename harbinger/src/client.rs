//! A small client of the REST API: typed requests, problems as one sentence, and patience with a server that is busy or
//! away for a moment.
//!
//! Only requests that may be repeated are sent from here - reads, and writes for which a repeat changes nothing - so
//! whatever may pass by itself (no connection, 429, 502 to 504, 507) is tried again, until the patience is used up.

mod fleet;
mod pages;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

pub(crate) use pages::{EventItem, ReadingItem};

/// First pause before another try; it doubles up to the other.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Time for the TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one answer: a registry of 100,000 devices is written well within it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The address of the API is no http or https URL.
    #[error("{url:?} is not the address of an API such as http://127.0.0.1:8080")]
    NotUrl {
        /// What was given.
        url: String,
    },
    /// No HTTP client could be made.
    #[error("failed to prepare HTTP requests")]
    Client(#[source] reqwest::Error),
    /// There was no answer.
    #[error("no answer from {url}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The API said no.
    #[error("{method} {path} was answered with {status}: {words}")]
    Refused {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// The answer's status.
        status: StatusCode,
        /// Title and detail of the problem.
        words: String,
    },
    /// The answer is none that the API gives.
    #[error("the answer to {path} is not what this version of harbinger expects")]
    Answer {
        /// What was asked.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What a batch did.
#[derive(Debug, Deserialize)]
pub(crate) struct Written {
    /// Rows taken.
    pub(crate) written: u64,
}

/// What became of lines of telemetry.
#[derive(Debug, Deserialize)]
pub(crate) struct IntakeReport {
    /// Readings and events that are durable.
    pub(crate) accepted: u64,
    /// Lines that were not taken.
    pub(crate) quarantined: Vec<RefusedLine>,
}

/// A line that went to quarantine.
#[derive(Debug, Deserialize)]
pub(crate) struct RefusedLine {
    /// Its number from 1.
    pub(crate) line: usize,
    /// Why.
    pub(crate) reason: String,
}

/// The API of one server, with one key. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    patience: Duration,
}

impl Api {
    /// The API at `url` (`http://host:port`), which tries again for `patience` what may pass by itself.
    pub(crate) fn new(url: &str, key: Option<String>, patience: Duration) -> Result<Self, Error> {
        let base = url.trim_end_matches('/').to_owned();
        let parsed =
            reqwest::Url::parse(&base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if parsed.is_none() {
            return Err(Error::NotUrl { url: url.to_owned() });
        }
        // Whoever installs a provider first wins, and any does.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(REQUEST_TIMEOUT)
                .user_agent(concat!("harbinger/", env!("CARGO_PKG_VERSION")))
        };
        // A machine without root certificates can still speak plain http.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        Ok(Self { http: client.map_err(Error::Client)?, base, key, patience })
    }

    /// The same with another patience.
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Reads.
    pub(crate) async fn get<A: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<A, Error> {
        self.ask(Method::GET, path, |request| request.query(query)).await
    }

    /// Writes a document.
    pub(crate) async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, Error> {
        self.ask(Method::POST, path, |request| request.json(body)).await
    }

    /// Puts a document in the place of what stands there.
    pub(crate) async fn put<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, Error> {
        self.ask(Method::PUT, path, |request| request.json(body)).await
    }

    /// Hands lines of telemetry and events to the intake; what comes back is durable.
    pub(crate) async fn send_lines(&self, lines: bytes::Bytes) -> Result<IntakeReport, Error> {
        let path = harbinger_ingest::http::INTAKE_PATH;
        let prepare =
            |request: RequestBuilder| request.header(header::CONTENT_TYPE, "application/x-ndjson").body(lines.clone());
        self.ask(Method::POST, path, prepare).await
    }

    /// Asks until there is an answer that another try would not change.
    async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<A, Error> {
        let url = format!("{}{path}", self.base);
        let until = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let mut request = self.http.request(method.clone(), &url);
            if let Some(key) = &self.key {
                request = request.bearer_auth(key);
            }
            let (error, wait) = match prepare(request).send().await {
                Ok(answer) if answer.status().is_success() => match answer.bytes().await {
                    Ok(body) => return read(path, &body),
                    Err(source) => (Error::Unreachable { url: url.clone(), source }, Some(pause)),
                },
                Ok(answer) => {
                    let wait = may_pass(answer.status()).then(|| retry_after(&answer).unwrap_or(pause));
                    (refusal(&method, path, answer).await, wait)
                }
                Err(source) => {
                    let wait = (!source.is_builder()).then_some(pause);
                    (Error::Unreachable { url: url.clone(), source }, wait)
                }
            };
            match wait {
                Some(wait) if Instant::now() + wait <= until => sleep(wait).await,
                _ => return Err(error),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn read<A: DeserializeOwned>(path: &str, body: &[u8]) -> Result<A, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Answer { path: path.to_owned(), source })
}

/// Whether the same request may be answered otherwise later.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504 | 507)
}

/// `Retry-After` in seconds; the API sends no dates.
fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The answer's problem (RFC 9457) as one sentence.
async fn refusal(method: &Method, path: &str, answer: reqwest::Response) -> Error {
    #[derive(Deserialize)]
    struct Problem {
        title: String,
        #[serde(default)]
        detail: String,
    }
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    let words = match serde_json::from_slice::<Problem>(&body) {
        Ok(Problem { title, detail }) if detail.is_empty() => title,
        Ok(Problem { title, detail }) => format!("{title}: {detail}"),
        Err(_) => "the server says no more".to_owned(),
    };
    Error::Refused { method: method.clone(), path: path.to_owned(), status, words }
}

#[cfg(test)]
mod tests;
