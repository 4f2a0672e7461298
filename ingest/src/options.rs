//! Settings of intake. `Default` is the only source of defaults; each field says its unit and why that value.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

use harbinger_core::{Duration, TenantId};
use serde::{Deserialize, Serialize};

use crate::admission::DeviceAdmission;

/// A text that is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size such as 512, 64KiB, 16MiB or 1GiB")]
pub struct InvalidSize(pub String);

/// A number of bytes, written `512`, `64KiB`, `16MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u32);

const UNITS: [(&str, u32); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0 as usize
    }
}

impl FromStr for ByteSize {
    type Err = InvalidSize;
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let (number, factor) = UNITS
            .iter()
            .find_map(|&(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))
            .unwrap_or((text, 1));
        let number: Option<u32> = number.parse().ok();
        number.and_then(|n| n.checked_mul(factor)).map(Self).ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|&&(_, factor)| self.0 >= factor && self.0.is_multiple_of(factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// All settings of intake.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The room that all doors share.
    pub pipeline: PipelineOptions,
    /// The MQTT listener that devices connect to.
    pub mqtt: ListenerOptions,
    /// The HTTP intake.
    pub http: HttpOptions,
    /// Brokers that we are a client of; none by default.
    pub consumers: Vec<ConsumerOptions>,
}

/// Settings of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineOptions {
    /// A time stamp further ahead of the wall clock than this goes to quarantine. A day lets a device pass whose clock
    /// is in the wrong time zone, and stops one that lives in 2099.
    pub future_tolerance: Duration,
    /// What is done with a device that nobody registered.
    pub unknown_devices: DeviceAdmission,
    /// The same for single tenants, where it differs.
    pub unknown_devices_by_tenant: BTreeMap<TenantId, DeviceAdmission>,
    /// Devices of one tenant that may report; those beyond go to quarantine. A million devices keep about 100 MB of ids in
    /// memory, which is the point of the bound.
    pub devices_per_tenant_max: usize,
    /// Signals in one reading; a reading with more goes to quarantine. The widest device known to us reports some 300.
    pub signals_per_reading_max: usize,
    /// Tags of line protocol that name the device, the first that is there; further tags become part of the signals' names.
    /// `host` before `device`, since agents give their machine as `host` and use `device` for disks and the like: two machines
    /// would become one device `sda1`. Only `device` where a gateway sends for many.
    pub device_tags: Vec<String>,
    /// Largest payload of one message that is decoded; a larger one goes to quarantine and is acknowledged, since MQTT 3.1.1
    /// cannot refuse it and it would come back for ever. About 1,300 readings of 6 values.
    pub payload_bytes_max: ByteSize,
    /// Bytes read from all MQTT connections together and not yet durable; above it they are not read. A commit takes
    /// milliseconds, so 64 MiB is some 300 ms of the fastest intake measured.
    pub inflight_bytes_max: ByteSize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            future_tolerance: Duration::from_hours(24),
            unknown_devices: DeviceAdmission::AutoRegister,
            unknown_devices_by_tenant: BTreeMap::new(),
            devices_per_tenant_max: 1_000_000,
            signals_per_reading_max: 1_000,
            device_tags: vec!["host".to_owned(), "device".to_owned()],
            payload_bytes_max: ByteSize(256 << 10),
            inflight_bytes_max: ByteSize(64 << 20),
        }
    }
}

/// Settings of the MQTT listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerOptions {
    /// Where to listen; port 0 takes a free one. Loopback unless told otherwise, since there is no TLS here yet.
    pub address: SocketAddr,
    /// Open connections; one more is closed at once. Each takes a file descriptor, a task and its buffers.
    pub connections_max: usize,
    /// Largest packet; a larger one closes its connection before it is read.
    pub packet_bytes_max: ByteSize,
    /// Messages of one connection that are not durable yet; above it that connection is not read. Ten times the window of
    /// a usual client, so that a window is never wasted.
    pub inflight_messages_max: usize,
    /// Subscriptions of one connection; more are answered with failure.
    pub subscriptions_max: usize,
    /// Time from the TCP connection to the CONNECT packet and its answer.
    pub connect_timeout: Duration,
    /// A connection that cannot be read for so long because intake is full, or that does not take its acknowledgements
    /// for so long, is closed: its client comes back later and sends again.
    pub stall_timeout: Duration,
    /// Silence after which a client is closed that asked for no keep alive: half-open connections must not pile up.
    pub idle_timeout: Duration,
    /// Time that acknowledgements owed have at shutdown before connections are closed without.
    pub drain_timeout: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 1883)),
            connections_max: 10_000,
            packet_bytes_max: ByteSize(1 << 20),
            inflight_messages_max: 1_000,
            subscriptions_max: 100,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_hours(24),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Settings of the HTTP intake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    /// Largest request body; a larger one is answered with 413. About 80,000 lines.
    pub body_bytes_max: ByteSize,
    /// Bytes of all requests together that are not durable yet; a request beyond is answered with 429. Apart from the
    /// bytes of MQTT, so that slow uploads cannot stop the devices.
    pub inflight_bytes_max: ByteSize,
    /// Time that a body may take to arrive.
    pub body_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: ByteSize(16 << 20),
            inflight_bytes_max: ByteSize(64 << 20),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// Settings of the client of one other broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerOptions {
    /// The broker's host name or address.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// Our client id there. The broker keeps our session under it, so it must be the same after a restart.
    pub client_id: String,
    /// Our name there, where the broker asks for one.
    pub username: Option<String>,
    /// The file that holds our password there; the password itself stands in no settings.
    pub password_file: Option<std::path::PathBuf>,
    /// Topic filters to subscribe to, with QoS 1.
    pub filters: Vec<String>,
    /// Subscribes to `$share/{group}/{filter}`, so that several instances share the stream.
    pub share_group: Option<String>,
    /// The only tenant whose topics are taken; all tenants where it is left out.
    pub tenant: Option<TenantId>,
    /// Keep alive that we promise the broker.
    pub keep_alive: Duration,
    /// Messages received and not yet durable; above it QoS 1 messages are left with the broker and we connect anew.
    pub inflight_messages_max: usize,
    /// Largest packet taken from the broker.
    pub packet_bytes_max: ByteSize,
    /// Longest pause between two tries to connect.
    pub retry_delay_max: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 1883,
            client_id: "harbinger".to_owned(),
            username: None,
            password_file: None,
            filters: vec!["harbinger/v1/#".to_owned()],
            share_group: None,
            tenant: None,
            keep_alive: Duration::from_secs(30),
            inflight_messages_max: 10_000,
            packet_bytes_max: ByteSize(1 << 20),
            retry_delay_max: Duration::from_secs(30),
        }
    }
}

/// A length of time for the runtime's timers.
pub(crate) fn std_time(length: Duration) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(length.millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_users_write_them() {
        for text in ["512", "64KiB", "16MiB", "1GiB", "0", "1025"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["", "KiB", "-1", "1 MiB", "4GiB", "1MB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_unknown_setting_is_an_error_and_an_empty_one_is_the_default() {
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
        assert!(serde_json::from_str::<Options>(r#"{"mqtt":{"adress":"127.0.0.1:1883"}}"#).is_err());
        let written = serde_json::to_string(&Options::default()).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&written).unwrap(), Options::default());
    }
}
