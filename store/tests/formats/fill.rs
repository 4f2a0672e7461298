//! What the stored samples of every released file format hold. Never changed: samples that exist were filled with it.

use harbinger_core::{DeviceEvent, DeviceId, DeviceKey, Reading, Severity, SignalId, TenantId, Timestamp};
use harbinger_store::telemetry::{Batch, Quarantined, TelemetryStore};

/// The devices: one that reports every 10 s, one every minute, one every hour, one that has come just now.
pub(crate) const DEVICES: [(&str, i64); 4] =
    [("fast", 10_000), ("steady", 60_000), ("slow", 3_600_000), ("new", 1_000)];

/// When the sample begins.
pub(crate) const BEGIN: i64 = 1_420_070_400_000;

/// The tenant.
pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a valid id")
}

/// A device by name.
pub(crate) fn key(device: &str) -> DeviceKey {
    DeviceKey::new(tenant(), DeviceId::parse(device).expect("a valid id"))
}

fn reading(device: &str, cadence: i64, i: i64) -> Reading {
    let signal = |name: &str| SignalId::parse(name).expect("a valid id");
    let mut values = vec![
        (signal("temperature_c"), 20.0 + ((i * 37) % 101) as f64 / 10.0),
        (signal("vibration"), (i as f64 * 0.37).sin()),
    ];
    if i % 7 == 0 {
        values.push((signal("starts"), i as f64));
    }
    Reading { key: key(device), ts: Timestamp::from_millis(BEGIN + i * cadence + i % 3), arrival: i % 50 == 0, values }
}

/// Fills a store: most of it in chunks, the rest in the log; a correction, late readings, events, quarantine.
pub(crate) async fn fill(store: &dyn TelemetryStore) {
    let append = async |batch: Batch| {
        store.append(batch).await.expect("an empty disk takes it");
    };
    for (device, cadence) in DEVICES.iter().take(3) {
        let readings = (0..1500).filter(|i| i % 100 != 3).map(|i| reading(device, *cadence, i)).collect();
        append(Batch { readings, ..Batch::default() }).await;
    }
    store.compact().await.expect("an empty disk takes it");
    for (device, cadence) in DEVICES {
        let late = (0..1500).filter(|i| i % 300 == 3).map(|i| reading(device, cadence, i));
        let corrected = Reading { values: reading(device, cadence, 9).values, ..reading(device, cadence, 8) };
        append(Batch { readings: late.chain([corrected]).collect(), ..Batch::default() }).await;
    }
    let event = |device: &str, i: i64, message: Option<&str>| DeviceEvent {
        key: key(device),
        ts: Timestamp::from_millis(BEGIN + i * 60_000),
        code: format!("E{i}").into(),
        severity: Severity::Warning,
        message: message.map(str::to_owned),
    };
    let events = vec![event("fast", 1, Some("zu heiß")), event("slow", 2, None), event("quiet", 3, Some(""))];
    let quarantined = Quarantined {
        tenant: Some(tenant()),
        received_at: Timestamp::from_millis(BEGIN),
        topic: "harbinger/v1/acme/fast/telemetry".to_owned(),
        payload: vec![0, 159, 146, 150],
        reason: "not JSON".to_owned(),
        readings: 2,
    };
    append(Batch { events, quarantined: vec![quarantined], ..Batch::default() }).await;
}
