//! A replay against the real listener, with a store in memory.

use std::collections::BTreeMap;

use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, Severity, SignalId, SystemClock, TimeRange, Timestamp,
    history::{DeviceHistory, Readings},
};
use harbinger_ingest::{AnonymousOnLoopback, OpenRegistrar, Options, Pipeline, mqtt::Listener};
use harbinger_store::telemetry::{MemoryStore, SharedStore};
use tokio_util::sync::CancellationToken;

use super::*;

const HOUR: harbinger_core::Duration = harbinger_core::Duration::from_hours(1);

#[test]
fn brokers_are_named_by_url() {
    assert_eq!(broker_address("mqtt://127.0.0.1:1884").as_deref(), Ok("127.0.0.1:1884"));
    assert_eq!(broker_address("mqtt://broker").as_deref(), Ok("broker:1883"));
    assert_eq!(broker_address("mqtt://[::1]/").as_deref(), Ok("[::1]:1883"));
    assert_eq!(broker_address("mqtt://[::1]:1884").as_deref(), Ok("[::1]:1884"));
    for url in ["", "127.0.0.1:1883", "mqtts://broker", "mqtt://", "mqtt://user@broker", "mqtt://broker/x"] {
        assert!(broker_address(url).is_err(), "{url:?}");
    }
}

/// Devices with hourly readings, a burst of readings within an hour, and events.
fn histories(tenant: &TenantId) -> BTreeMap<DeviceId, DeviceHistory> {
    let signal = |name: &str| SignalId::parse(name).unwrap();
    let history = |number: i64| {
        let device = DeviceId::parse(&format!("device {number}")).unwrap();
        let mut readings = Readings::default();
        for hour in 0..48 {
            let ts = Timestamp::from_millis(1_420_070_400_000) + harbinger_core::Duration::from_hours(hour);
            let value = number as f64 + hour as f64 / 3.0;
            readings.push(ts, &[(signal("a"), value), (signal("b c"), -value)]);
        }
        let last = readings.times[47];
        for second in 1..=150 {
            readings.push(last + harbinger_core::Duration::from_secs(second), &[(signal("a"), second as f64)]);
        }
        let event = DeviceEvent {
            key: DeviceKey::new(tenant.clone(), device.clone()),
            ts: readings.times[number as usize % 40],
            code: "E1".into(),
            severity: Severity::Critical,
            message: Some("a \"word\"".to_owned()),
        };
        (device, DeviceHistory { readings, events: vec![event], ..DeviceHistory::default() })
    };
    (0..30).map(history).collect()
}

#[tokio::test]
async fn the_listener_has_everything_bit_for_bit() {
    let mut options = Options::default();
    options.mqtt.address.set_port(0);
    let store: SharedStore = Arc::new(MemoryStore::new());
    let pipeline = Pipeline::new(options.pipeline, Arc::clone(&store), Arc::new(SystemClock), Arc::new(OpenRegistrar));
    let listener = Listener::bind(options.mqtt, pipeline, Arc::new(AnonymousOnLoopback)).await.unwrap();
    let address = listener.address().to_string();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(listener.run(shutdown.clone()));

    let tenant = TenantId::parse("acme").unwrap();
    let expected = histories(&tenant);
    let feed = Feed::new(expected.clone(), Vec::new());
    let mut fan = Fan::new(Broker { address, key: None }, 7, feed, tenant.clone());
    fan.open().await.unwrap();
    let feed = Arc::clone(&fan.feed);
    let mut readings = 0;
    for slice in feed.slices(HOUR) {
        let items: usize = slice.pieces.iter().map(|piece| piece.readings.len() + piece.events.len()).sum();
        fan.publish(slice.pieces).await.unwrap();
        readings += items as u64;
        assert_eq!(fan.tally.items.load(Ordering::Relaxed), readings, "a slice is acknowledged before the next");
    }
    fan.close().await;
    for (device, history) in &expected {
        let key = DeviceKey::new(tenant.clone(), device.clone());
        assert_eq!(store.scan(&key, TimeRange::ALL, None).await.unwrap().times, history.readings.times);
        for (signal, column) in &history.readings.columns {
            let stored = store.scan(&key, TimeRange::ALL, None).await.unwrap();
            let bits = |column: &[f64]| column.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(stored.column(signal).map(bits), Some(bits(column)));
        }
        assert_eq!(store.events(&tenant, Some(device), TimeRange::ALL).await.unwrap(), history.events);
    }
    assert_eq!(
        summary(&fan.tally, 2.0),
        format!(
            "published {readings} readings and events in {0} messages, {0} acknowledged, in 2.0 s: {1} messages/s",
            30 * (50 + 1),
            765
        )
    );
    shutdown.cancel();
    server.await.unwrap();
}
