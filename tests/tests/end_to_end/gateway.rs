//! A gateway that publishes readings at QoS 1 and keeps the books: what it sent, what was acknowledged, what it owes.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use bytes::BytesMut;
use harbinger_core::Timestamp;
use harbinger_tests::{http::Client, mqtt::Connection};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rumqttc::mqttbytes::v4::Packet;

/// Messages on their way at a time.
const WINDOW: usize = 64;
/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;

/// A value with 53 random bits, so that a rounded one is noticed.
#[derive(Debug, Clone, Copy)]
struct Reading {
    device: usize,
    millis: i64,
    value: f64,
}

/// One connection's side of the story.
pub(crate) struct Gateway {
    name: String,
    tenant: &'static str,
    devices: Vec<String>,
    random: ChaCha8Rng,
    made: i64,
    /// Made and not acknowledged, oldest first.
    owed: VecDeque<Reading>,
    /// Value by device and time.
    acknowledged: Vec<BTreeMap<i64, f64>>,
}

impl Gateway {
    /// A gateway with `devices` devices.
    pub(crate) fn new(tenant: &'static str, number: usize, devices: usize) -> Self {
        let name = format!("gateway-{number}");
        Self {
            devices: (0..devices).map(|device| format!("{name}-device-{device}")).collect(),
            name,
            tenant,
            random: ChaCha8Rng::seed_from_u64(number as u64),
            made: 0,
            owed: VecDeque::new(),
            acknowledged: vec![BTreeMap::new(); devices],
        }
    }

    /// Readings acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.iter().map(BTreeMap::len).sum()
    }

    /// Whether something was sent that nobody acknowledged.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Its devices.
    pub(crate) fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Sends what is owed, then new readings, until `fresh` of those are made and all is acknowledged, or until the
    /// connection breaks; whether everything is acknowledged.
    pub(crate) fn publish(&mut self, address: SocketAddr, fresh: usize) -> bool {
        let Ok(mut connection) = Connection::open(address, &self.name, None) else { return false };
        let mut on_the_way: VecDeque<(u16, Reading)> = VecDeque::new();
        let done = self.converse(&mut connection, fresh, &mut on_the_way).is_ok();
        for (_, reading) in on_the_way.into_iter().rev() {
            self.owed.push_front(reading);
        }
        done
    }

    fn converse(
        &mut self,
        connection: &mut Connection,
        mut fresh: usize,
        on_the_way: &mut VecDeque<(u16, Reading)>,
    ) -> anyhow::Result<()> {
        let mut pkid = 0;
        let mut out = BytesMut::new();
        loop {
            while on_the_way.len() < WINDOW
                && let Some(reading) = self.owed.pop_front().or_else(|| self.make(&mut fresh))
            {
                pkid = pkid % 60_000 + 1;
                let topic = format!("harbinger/v1/{}/{}/telemetry", self.tenant, self.devices[reading.device]);
                let payload = serde_json::json!({"ts": reading.millis, "values": {"x": reading.value}}).to_string();
                on_the_way.push_back((pkid, reading));
                Connection::publish(&mut out, pkid, &topic, &payload)?;
            }
            connection.send(&out)?;
            out.clear();
            if on_the_way.is_empty() {
                return Ok(());
            }
            loop {
                let Packet::PubAck(ack) = connection.receive()? else { panic!("something else than PUBACK") };
                let (expected, reading) = on_the_way.pop_front().expect("PUBACK without PUBLISH");
                assert_eq!(ack.pkid, expected, "PUBACKs come in the order of the PUBLISHes [MQTT-4.6.0-2]");
                let before = self.acknowledged[reading.device].insert(reading.millis, reading.value);
                assert_eq!(before, None, "acknowledged twice");
                if connection.has_no_more() || on_the_way.is_empty() {
                    break;
                }
            }
        }
    }

    /// The next reading; each device reports once a second, now and then the later of two readings first.
    fn make(&mut self, fresh: &mut usize) -> Option<Reading> {
        *fresh = fresh.checked_sub(1)?;
        let devices = self.devices.len() as i64;
        let (round, device) = (self.made / devices, self.made % devices);
        let swapped = if round % 10 == 3 {
            round + 1
        } else if round % 10 == 4 {
            round - 1
        } else {
            round
        };
        self.made += 1;
        let value = self.random.random::<f64>() * 200.0 - 100.0;
        Some(Reading { device: device as usize, millis: START + swapped * 1000, value })
    }

    /// Asserts that the service has exactly what was acknowledged: every reading with its value, in order of time, none
    /// twice and none besides. Nothing may be owed.
    pub(crate) fn check(&self, client: &Client) {
        assert!(self.owed.is_empty(), "{} readings are owed: nothing can be said of them", self.owed.len());
        for (device, expected) in self.devices.iter().zip(&self.acknowledged) {
            let found = client.items(&format!("/api/v1/devices/{device}/telemetry?from=2025-01-01T00:00:00Z")).unwrap();
            let found: Vec<(i64, f64)> = found
                .iter()
                .map(|item| {
                    let ts: Timestamp = item["ts"].as_str().unwrap().parse().unwrap();
                    assert_eq!(item["values"].as_object().unwrap().len(), 1, "{item}");
                    (ts.millis(), item["values"]["x"].as_f64().unwrap())
                })
                .collect();
            assert!(found.is_sorted_by(|a, b| a.0 < b.0), "{device}: out of order, or twice");
            let expected: Vec<(i64, f64)> = expected.iter().map(|(&millis, &value)| (millis, value)).collect();
            if found != expected {
                let lost: Vec<_> = expected.iter().filter(|reading| !found.contains(reading)).take(5).collect();
                let made_up: Vec<_> = found.iter().filter(|reading| !expected.contains(reading)).take(5).collect();
                panic!("{device}: {} of {} found; lost {lost:?}, made up {made_up:?}", found.len(), expected.len());
            }
        }
    }

    /// Sends `count` of the acknowledged readings again.
    pub(crate) fn repeat(&self, address: SocketAddr, count: usize) {
        let mut connection = Connection::open(address, &self.name, None).unwrap();
        let acknowledged = self.devices.iter().zip(&self.acknowledged);
        let all = acknowledged.flat_map(|(device, known)| known.iter().map(move |reading| (device, reading)));
        for (device, (millis, value)) in all.take(count) {
            let topic = format!("harbinger/v1/{}/{device}/telemetry", self.tenant);
            let payload = serde_json::json!({"ts": millis, "values": {"x": value}}).to_string();
            connection.deliver(&topic, &payload).unwrap();
        }
    }
}
