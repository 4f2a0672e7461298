//! How a telemetry server is reached.

use harbinger_core::Duration;

use crate::ledger::webhooks::Secret;

/// Which of the two ways of writing line protocol a server is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteApi {
    /// `/write`: InfluxDB 1.x, VictoriaMetrics.
    #[default]
    V1,
    /// `/api/v2/write`: InfluxDB 2.x and 3.x, VictoriaMetrics.
    V2,
}

/// Where a server is and what it wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `http://host:port` or `https://...`, without a path but the one of a proxy in front.
    pub url: String,
    /// The database (InfluxDB 1.x) or bucket (2.x, 3.x); at VictoriaMetrics the label `db` of every series.
    pub database: String,
    /// How points are written.
    pub write_api: WriteApi,
    /// The organization; InfluxDB 2.x alone asks for it.
    pub organization: String,
    /// For basic authentication; empty: none.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// For `Authorization: Token ...`. Goes before user and password.
    pub token: Option<Secret>,
    /// How long one request may take. 30 s: a page of a busy server's disk.
    pub request_timeout: Duration,
}

impl Settings {
    /// A server without authentication.
    #[must_use]
    pub fn at(url: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            database: database.into(),
            write_api: WriteApi::V1,
            organization: String::new(),
            user: String::new(),
            password: None,
            token: None,
            request_timeout: Duration::from_secs(30),
        }
    }
}
