//! `[telemetry]`: how long it is kept, and the server that readings are sent on to, where there is one.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use harbinger_core::Duration;
use harbinger_store::{
    ledger::webhooks::Secret,
    telemetry::{DataClass, InfluxDb, Remote, Settings, SpoolOptions, VictoriaMetrics, WriteApi},
};
use serde::{Deserialize, Serialize};

/// Which server readings rest on for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RemoteKind {
    /// None: the data folder.
    #[default]
    None,
    /// InfluxDB 1.x, 2.x or 3.x.
    Influxdb,
    /// VictoriaMetrics.
    Victoriametrics,
}

impl RemoteKind {
    /// What the server is, and what makes a backup of it; `None` where there is no server.
    pub(crate) fn name_and_backup(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Influxdb => Some(("InfluxDB", "influxd backup -portable (2.x: influx backup)")),
            Self::Victoriametrics => Some(("VictoriaMetrics", "vmbackup")),
        }
    }
}

/// Where readings rest for good. The data folder stays in front as a spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// `none`, `influxdb` or `victoriametrics`.
    pub(crate) remote: RemoteKind,
    /// Where the server listens.
    pub(crate) url: String,
    /// InfluxDB: the database (1.x) or bucket (2.x, 3.x). VictoriaMetrics: the label `db` of every series.
    pub(crate) database: String,
    /// How points are written: 1 is `/write` (InfluxDB 1.x, VictoriaMetrics), 2 is `/api/v2/write` (InfluxDB 2.x, 3.x).
    pub(crate) api: u8,
    /// The organization; InfluxDB 2.x asks for it.
    pub(crate) organization: String,
    /// For basic authentication; empty: none.
    pub(crate) user: String,
    /// The file that holds the user's password; the password itself stands in no settings.
    pub(crate) password_file: Option<PathBuf>,
    /// The file that holds the token (InfluxDB 2.x, 3.x).
    pub(crate) token_file: Option<PathBuf>,
    /// How long one request to the server may take.
    pub(crate) request_timeout: Duration,
    /// How long readings stay in the data folder after the server took them: VictoriaMetrics answers before it syncs.
    pub(crate) hold: Duration,
    /// How often what has arrived is sent.
    pub(crate) send_every: Duration,
    /// How long it is kept.
    pub(crate) retention: Retention,
}

impl Default for Telemetry {
    fn default() -> Self {
        let spool = SpoolOptions::default();
        Self {
            remote: RemoteKind::None,
            url: String::new(),
            database: "harbinger".to_owned(),
            api: 1,
            organization: String::new(),
            user: String::new(),
            password_file: None,
            token_file: None,
            request_timeout: Settings::at("", "").request_timeout,
            hold: spool.hold,
            send_every: Duration::from_millis(i64::try_from(spool.interval.as_millis()).unwrap_or(i64::MAX)),
            retention: Retention::default(),
        }
    }
}

impl Telemetry {
    /// A client of the server, where one is named; nothing is asked of it yet.
    ///
    /// # Errors
    /// What is wrong, and the key it stands under.
    pub(crate) fn connect(&self) -> anyhow::Result<Option<Arc<dyn Remote>>> {
        let connected: Arc<dyn Remote> = match self.remote {
            RemoteKind::None => return Ok(None),
            RemoteKind::Influxdb => Arc::new(InfluxDb::new(self.settings()?).context("telemetry.url")?),
            RemoteKind::Victoriametrics => Arc::new(VictoriaMetrics::new(&self.settings()?).context("telemetry.url")?),
        };
        Ok(Some(connected))
    }

    /// How the data folder is kept as its spool.
    pub(crate) fn spool(&self) -> SpoolOptions {
        let interval = std::time::Duration::from_millis(self.send_every.millis().max(1).unsigned_abs());
        SpoolOptions { hold: self.hold, interval, ..SpoolOptions::default() }
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let write_api = match self.api {
            1 => WriteApi::V1,
            2 => WriteApi::V2,
            other => anyhow::bail!("telemetry.api = {other}: expected 1 (/write) or 2 (/api/v2/write)"),
        };
        Ok(Settings {
            url: self.url.clone(),
            database: self.database.clone(),
            write_api,
            organization: self.organization.clone(),
            user: self.user.clone(),
            password: secret("telemetry.password_file", self.password_file.as_ref())?,
            token: secret("telemetry.token_file", self.token_file.as_ref())?,
            request_timeout: self.request_timeout,
        })
    }
}

/// How long each class of data is kept, in event time of its tenant; for ever where left out. It may be kept a little longer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    /// Readings as they came.
    pub(crate) readings: Option<Duration>,
    /// Summaries of each hour: no shorter than readings.
    pub(crate) hourly_summaries: Option<Duration>,
    /// Summaries of each day: no shorter than readings.
    pub(crate) daily_summaries: Option<Duration>,
    /// Device events.
    pub(crate) events: Option<Duration>,
    /// Messages that could not be taken, in wall time since they arrived.
    pub(crate) quarantine: Option<Duration>,
}

impl Retention {
    /// How long a class is kept; `None` for ever.
    pub(crate) fn of(&self, class: DataClass) -> Option<Duration> {
        match class {
            DataClass::Readings => self.readings,
            DataClass::HourlySummaries => self.hourly_summaries,
            DataClass::DailySummaries => self.daily_summaries,
            DataClass::Events => self.events,
            DataClass::Quarantine => self.quarantine,
        }
    }

    /// Summaries are what is left of readings that are gone, so they must not go first.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let words = |kept: Option<Duration>| kept.map_or_else(|| "for ever".to_owned(), |kept| kept.to_string());
        let summaries = [("hourly_summaries", self.hourly_summaries), ("daily_summaries", self.daily_summaries)];
        for (key, kept) in summaries {
            let Some(length) = kept else { continue };
            anyhow::ensure!(
                self.readings.is_some_and(|readings| readings <= length),
                "telemetry.retention.{key} is {length}, shorter than telemetry.retention.readings, which is {}: \
                 keep summaries at least as long as readings",
                words(self.readings)
            );
        }
        Ok(())
    }
}

/// The secret in a file, without the line end that editors add.
fn secret(key: &str, file: Option<&PathBuf>) -> anyhow::Result<Option<Secret>> {
    let Some(file) = file else { return Ok(None) };
    let text = fs_err::read_to_string(file).with_context(|| key.to_owned())?;
    Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(telemetry: &Telemetry, expected: &str) {
        let said = telemetry.connect().map_or_else(|error| format!("{error:#}"), |_| "good".to_owned());
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }

    #[test]
    fn what_cannot_be_right_is_said_with_its_key() {
        let good =
            Telemetry { remote: RemoteKind::Influxdb, url: "http://127.0.0.1:8086".to_owned(), ..Telemetry::default() };
        check(&Telemetry::default(), "good");
        check(&good, "good");
        check(&Telemetry { url: "127.0.0.1:8086".to_owned(), ..good.clone() }, "telemetry.url");
        check(&Telemetry { database: String::new(), ..good.clone() }, "no database is named");
        check(&Telemetry { api: 3, ..good.clone() }, "telemetry.api = 3");
        check(&Telemetry { token_file: Some("/nowhere/token".into()), ..good }, "telemetry.token_file");
    }
}
