//! Configuration: compiled-in defaults, then the file, then the environment, then flags; later wins.
//!
//! One tree of structs; a key that no struct knows is an error that names it. In the environment a key is written
//! `HARBINGER__API__ADDRESS`: two underscores between the levels.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use harbinger_alerts::HysteresisOptions;
use harbinger_analytics::failure::AlarmRule;
use harbinger_core::Duration;
use harbinger_ingest as ingest;
use harbinger_store::ledger::Url;
use serde::{Deserialize, Serialize};

mod plan;
mod telemetry;

pub(crate) use plan::Plan;
pub(crate) use telemetry::{Retention, Telemetry};

/// Prefix of environment variables that are settings.
const PREFIX: &str = "HARBINGER__";

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where data lies: telemetry.db, ledger.db and models. Made where it is missing.
    pub(crate) data: Data,
    /// Where the ledger is.
    pub(crate) ledger: Ledger,
    /// How long telemetry is kept, and the server that readings are sent on to.
    pub(crate) telemetry: Telemetry,
    /// The HTTP interface.
    pub(crate) api: Api,
    /// Intake of telemetry: MQTT listener, HTTP, other brokers.
    pub(crate) ingest: ingest::Options,
    /// Training, scoring and planning.
    pub(crate) analytics: Analytics,
    /// Plans.
    pub(crate) plan: Plan,
    /// Alerts.
    pub(crate) alerts: Alerts,
    /// Webhooks.
    pub(crate) webhooks: Webhooks,
    /// Orders.
    pub(crate) orders: Orders,
}

/// Where data lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Data {
    /// The data folder.
    pub(crate) folder: PathBuf,
}

impl Default for Data {
    fn default() -> Self {
        Self { folder: PathBuf::from("harbinger-data") }
    }
}

/// The ledger: everything that is not telemetry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ledger {
    /// `postgres://user:password@host/database` of a server that several processes may share; `ledger.db` in the data folder
    /// where empty. Printed without its password.
    pub(crate) url: Url,
    /// Where a ledger is shared: how long the work of a process that died - webhooks, scoring, planning - waits for another
    /// to take it over; wall time, 1s or more. Clocks may differ by a quarter of it, and webhook receivers have a third
    /// of it to answer. A minute: longer than a restart of the server, shorter than anybody waits for a part.
    pub(crate) lease: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { url: Url::default(), lease: Duration::from_secs(60) }
    }
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    /// Where to listen; port 0 takes a free one. Loopback unless told otherwise: put a proxy with TLS in front.
    pub(crate) address: SocketAddr,
}

impl Default for Api {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

/// Training, scoring and planning. Lengths are event time unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Analytics {
    /// Between two trainings while failures keep coming. A week: failures are rare, and a model of yesterday is as good.
    pub(crate) retrain_every: Duration,
    /// Whether a new model first scores beside the one in use, without alerts or plans, until the truth of `retrain_every` is known
    /// of both, and takes over only if it told no worse what came.
    pub(crate) shadow: bool,
    /// Between two plans. A day, as parts are shipped daily.
    pub(crate) plan_every: Duration,
    /// Prediction horizons, the main one first; chosen by how often a fleet reports and how long its parts are on the way where
    /// empty.
    pub(crate) horizons: Vec<Duration>,
    /// From which probability on to alarm: `balanced`, `cost=VISIT:FAILURE`, `false_alarms=N` for each 1,000 device-months, or
    /// `visits=N` a day.
    pub(crate) alarms: AlarmRule,
    /// Between two scores of a device; chosen by how often a fleet reports where left out.
    pub(crate) every: Option<Duration>,
    /// Wall time without any reading after which the newest step of a tenant's event time counts as complete.
    pub(crate) quiet_after: Duration,
    /// Library of ONNX Runtime, for models that were trained elsewhere; where left out, `--onnxruntime`, `ORT_DYLIB_PATH` or the
    /// system's loader say where it is. Whoever may import a model has its file read by this library.
    pub(crate) onnxruntime: Option<PathBuf>,
}

impl Default for Analytics {
    fn default() -> Self {
        Self {
            retrain_every: Duration::from_days(7),
            shadow: true,
            plan_every: Duration::from_days(1),
            horizons: Vec::new(),
            alarms: AlarmRule::Balanced,
            every: None,
            quiet_after: Duration::from_secs(3),
            onnxruntime: None,
        }
    }
}

/// Alerts. Lengths are event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Alerts {
    /// An alert clears below this share of the threshold that raised it, 0..=1.
    pub(crate) clear_ratio: f64,
    /// How long the probability must stay there before the alert resolves.
    pub(crate) min_hold: Duration,
    /// How long after an alert resolved by itself no new one is raised for the same component.
    pub(crate) quiet_time: Duration,
    /// The same after somebody serviced the component.
    pub(crate) quiet_time_after_service: Duration,
}

impl Default for Alerts {
    fn default() -> Self {
        let HysteresisOptions { clear_ratio, min_hold, quiet_time, quiet_time_after_service } =
            HysteresisOptions::default();
        Self { clear_ratio, min_hold, quiet_time, quiet_time_after_service }
    }
}

impl Alerts {
    /// As the life cycle takes them.
    pub(crate) fn hysteresis(&self) -> HysteresisOptions {
        HysteresisOptions {
            clear_ratio: self.clear_ratio,
            min_hold: self.min_hold,
            quiet_time: self.quiet_time,
            quiet_time_after_service: self.quiet_time_after_service,
        }
    }
}

/// Webhooks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Webhooks {
    /// Deliver to private, loopback and link-local addresses too. Off: a tenant could make us call our own network.
    pub(crate) allow_private: bool,
    /// Deliver to plain http addresses too. Off: a webhook's body would cross the network in clear.
    pub(crate) allow_http: bool,
}

/// Orders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Orders {
    /// Transfers whose pieces are worth at most this are approved without a person, in the tenant's currency. 0: none is.
    pub(crate) approve_transfers_up_to: f64,
    /// The same for purchases.
    pub(crate) approve_purchases_up_to: f64,
    /// An order that has not come so long after its due time is told to be overdue, once.
    pub(crate) overdue_after: Duration,
    /// How long a failed piece of a repairable part may wait before it is sent back to the hub.
    pub(crate) return_within: Duration,
    /// Pieces of parts that cost so much or more are named by serial when they ship from a shelf; none need be where it is not set.
    pub(crate) serials_from: Option<f64>,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            approve_transfers_up_to: 0.0,
            approve_purchases_up_to: 0.0,
            overdue_after: Duration::from_days(1),
            return_within: Duration::from_days(7),
            serials_from: None,
        }
    }
}

impl Config {
    /// Reads the settings.
    ///
    /// * `file`: a TOML file, where one was named.
    /// * `environment`: names and values; those that do not start with `HARBINGER__` are passed over.
    ///
    /// # Errors
    /// One sentence that names the file or variable and the key.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let mut tree = match file {
            Some(file) => {
                let text = fs_err::read_to_string(file)?;
                text.parse::<toml::Table>().with_context(|| format!("{} is not TOML", file.display()))?
            }
            None => toml::Table::new(),
        };
        let mut variables: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
            insert(&mut tree, &path, &value)
                .with_context(|| format!("environment variable {name} is not a setting"))?;
        }
        let source = file.map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
        let valid = || format!("settings in {source} are not valid");
        let config = Self::deserialize(toml::Value::Table(tree)).with_context(valid)?;
        config.telemetry.retention.check().with_context(valid)?;
        config.plan.check().with_context(valid)?;
        let lease = config.ledger.lease;
        anyhow::ensure!(lease >= Duration::from_secs(1), "ledger.lease in {source} is {lease}, not 1s or more");
        Ok(config)
    }

    /// What is legal and dangerous, in words.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.ingest.mqtt.address.ip().is_loopback() {
            warnings.push(
                "ingest.mqtt.address is not loopback and this listener has no TLS: keys cross the network in clear"
                    .to_owned(),
            );
        }
        if !self.api.address.ip().is_loopback() {
            warnings.push("api.address is not loopback and the interface has no TLS: put a proxy in front".to_owned());
        }
        if self.webhooks.allow_private {
            warnings.push(
                "webhooks.allow_private is on: whoever may set a webhook can make us call the private network"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Puts a value where a path leads: a number, truth value or array where it reads as one, else a text.
fn insert(table: &mut toml::Table, path: &[String], value: &str) -> anyhow::Result<()> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        table.insert(first.clone(), parse(value));
        return Ok(());
    }
    let below = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    match below {
        toml::Value::Table(below) => insert(below, rest, value),
        _ => anyhow::bail!("{first} is a value, not a section"),
    }
}

fn parse(value: &str) -> toml::Value {
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_environment_reaches_every_level() {
        let config = from(&[
            ("HARBINGER__API__ADDRESS", "127.0.0.1:9"),
            ("HARBINGER__ANALYTICS__HORIZONS", "[\"24h\", \"7d\"]"),
            ("HARBINGER__LEDGER__URL", "postgres://eve:s3cret@db/ledger"),
            ("HARBINGER__ORDERS__APPROVE_TRANSFERS_UP_TO", "500.0"),
            ("HARBINGER__ORDERS__OVERDUE_AFTER", "2d"),
            ("HARBINGER__INGEST__MQTT__CONNECTIONS_MAX", "7"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.api.address.port(), 9);
        assert_eq!(config.analytics.horizons.len(), 2);
        assert_eq!(config.ledger.url.expose(), "postgres://eve:s3cret@db/ledger");
        assert!(!toml::to_string_pretty(&config).unwrap().contains("s3cret"), "a password is not printed");
        assert_eq!(config.orders.approve_transfers_up_to, 500.0);
        assert_eq!(config.orders.overdue_after, Duration::from_days(2));
        assert_eq!(config.ingest.mqtt.connections_max, 7);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = format!("{:#}", from(&[("HARBINGER__API__COLOUR", "red")]).unwrap_err());
        assert!(error.contains("colour"), "{error}");
    }

    #[test]
    fn a_lease_too_short_to_be_kept_is_refused() {
        let error = format!("{:#}", from(&[("HARBINGER__LEDGER__LEASE", "10ms")]).unwrap_err());
        assert!(error.contains("ledger.lease") && error.contains("1s or more"), "{error}");
    }

    #[test]
    fn summaries_must_not_be_forgotten_before_their_readings() {
        let retention = |readings: &str, hourly: &str| {
            let readings = Some(("HARBINGER__TELEMETRY__RETENTION__READINGS", readings)).filter(|(_, v)| !v.is_empty());
            let hourly =
                Some(("HARBINGER__TELEMETRY__RETENTION__HOURLY_SUMMARIES", hourly)).filter(|(_, v)| !v.is_empty());
            from(&readings.into_iter().chain(hourly).collect::<Vec<_>>())
        };
        for (readings, hourly) in [("", ""), ("30d", ""), ("30d", "30d"), ("30d", "365d")] {
            retention(readings, hourly).unwrap();
        }
        for (readings, hourly) in [("30d", "7d"), ("", "365d")] {
            let error = format!("{:#}", retention(readings, hourly).unwrap_err());
            let keys = ["telemetry.retention.hourly_summaries", "telemetry.retention.readings"];
            assert!(keys.iter().all(|key| error.contains(key)), "{error}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let text = toml::to_string_pretty(&Config::default()).unwrap();
        let again = Config::deserialize(toml::Value::Table(text.parse().unwrap())).unwrap();
        assert_eq!(again, Config::default());
    }

    /// The commented file that is installed says the defaults, key by key.
    #[test]
    fn the_installed_default_file_says_the_defaults() {
        let text = include_str!("../../deploy/harbinger.toml");
        let installed = Config::deserialize(toml::Value::Table(text.parse().unwrap())).unwrap();
        assert_eq!(installed, Config::default());
    }
}
