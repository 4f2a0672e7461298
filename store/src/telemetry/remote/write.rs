//! Line protocol on its way out: `/write`, or `/api/v2/write`.
//!
//! The second is what crate `influxdb2` does where it is compiled in (feature `influxdb`; docs/adr/006-remote-telemetry-stores.md
//! says why it is not by default). That crate is
//! given plain http only, so https goes out by our own client either way.

use harbinger_core::{DeviceKey, Timestamp, history::Readings};
use reqwest::Method;

use super::{Failure, Settings, WriteApi, http::Http, line_protocol};
#[cfg(any(test, feature = "influxdb"))]
use crate::ledger::webhooks::Secret;

/// Bytes of one request: InfluxDB refuses 25 MB, and a proxy before it often less.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Writes points to one server.
#[derive(Debug)]
pub(super) struct Writer {
    database: String,
    organization: String,
    /// Whether the database is a tag of every point: the server has none of its own.
    database_is_tag: bool,
    way: Way,
}

#[derive(Debug)]
enum Way {
    V1,
    V2,
    #[cfg(any(test, feature = "influxdb"))]
    Influxdb2 {
        client: Box<influxdb2::Client>,
        timeout: std::time::Duration,
    },
}

impl Writer {
    pub(super) fn new(settings: &Settings, database_is_tag: bool) -> Result<Self, Failure> {
        let (database, organization) = (settings.database.clone(), settings.organization.clone());
        Ok(Self { database, organization, database_is_tag, way: way(settings)? })
    }

    /// Writes what the server takes of `devices`.
    pub(super) async fn write(
        &self,
        http: &Http,
        devices: &[(DeviceKey, Readings)],
        takes: impl Fn(Timestamp, f64) -> bool,
    ) -> Result<(), Failure> {
        let database = self.database_is_tag.then_some(self.database.as_str());
        for body in line_protocol::bodies(database, devices, BODY_BYTES_MAX, takes) {
            self.write_body(http, body).await?;
        }
        Ok(())
    }

    async fn write_body(&self, http: &Http, body: String) -> Result<(), Failure> {
        let request = match &self.way {
            Way::V1 => http.request(Method::POST, "/write").query(&[("precision", "ms"), ("db", &self.database)]),
            Way::V2 => {
                let target = [("precision", "ms"), ("org", &self.organization), ("bucket", &self.database)];
                http.request(Method::POST, "/api/v2/write").query(&target)
            }
            #[cfg(any(test, feature = "influxdb"))]
            Way::Influxdb2 { client, timeout } => {
                // The crate's client waits for ever.
                let written = tokio::time::timeout(*timeout, self.write_by_crate(http, client, body)).await;
                return written.unwrap_or_else(|elapsed| Err(http.unreachable(elapsed)));
            }
        };
        http.send(request.body(body)).await.map(drop)
    }

    #[cfg(any(test, feature = "influxdb"))]
    async fn write_by_crate(&self, http: &Http, client: &influxdb2::Client, body: String) -> Result<(), Failure> {
        use influxdb2::{RequestError, api::write::TimestampPrecision::Milliseconds};
        let (organization, bucket) = (&self.organization, &self.database);
        let written = client.write_line_protocol_with_precision(organization, bucket, body, Milliseconds).await;
        written.map_err(|error| match error {
            RequestError::Http { status, text } => http.status(status.as_u16(), &text),
            other => http.unreachable(other),
        })
    }
}

#[cfg(any(test, feature = "influxdb"))]
fn way(settings: &Settings) -> Result<Way, Failure> {
    // The crate puts its own path in the place of a proxy's.
    let plain = settings.url.strip_prefix("http://").is_some_and(|rest| !rest.trim_end_matches('/').contains('/'));
    match settings.write_api {
        WriteApi::V1 => Ok(Way::V1),
        WriteApi::V2 if plain => {
            let token = settings.token.as_ref().map_or("", Secret::expose);
            let client = influxdb2::ClientBuilder::new(&settings.url, &settings.organization, token).build();
            let client = client.map_err(|e| Failure::Settings(format!("no client for {}: {e}", settings.url)))?;
            let timeout = std::time::Duration::from_millis(settings.request_timeout.millis().unsigned_abs());
            Ok(Way::Influxdb2 { client: Box::new(client), timeout })
        }
        WriteApi::V2 => Ok(Way::V2),
    }
}

#[cfg(not(any(test, feature = "influxdb")))]
#[expect(clippy::unnecessary_wraps, reason = "with crate influxdb2 a client may fail to build")]
fn way(settings: &Settings) -> Result<Way, Failure> {
    Ok(match settings.write_api {
        WriteApi::V1 => Way::V1,
        WriteApi::V2 => Way::V2,
    })
}
