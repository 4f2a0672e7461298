//! The pipeline without a door: admission of devices, and the metrics as Prometheus reads them.

mod common;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::{Gated, accounted};
use harbinger_core::{DeviceKey, ManualClock, Timestamp};
use harbinger_ingest::{
    DeviceAdmission, Message, Options, Pipeline, Registrar, Tenants, admission::RegistrarError,
    options::PipelineOptions, pipeline::NotTaken,
};
use harbinger_store::telemetry::TelemetryStore;

/// A registry that can be read, written and broken.
#[derive(Default)]
struct Registry {
    known: Mutex<Vec<String>>,
    asked: Mutex<Vec<String>>,
    broken: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Registrar for Registry {
    async fn known(&self, keys: &[DeviceKey]) -> Result<Vec<bool>, RegistrarError> {
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(RegistrarError { attempt: "read devices", source: "the ledger is away".into() });
        }
        self.asked.lock().unwrap().extend(keys.iter().map(ToString::to_string));
        let known = self.known.lock().unwrap();
        Ok(keys.iter().map(|key| known.contains(&key.to_string())).collect())
    }

    async fn register(&self, keys: &[DeviceKey], _: Timestamp) -> Result<(), RegistrarError> {
        self.known.lock().unwrap().extend(keys.iter().map(ToString::to_string));
        Ok(())
    }
}

struct Room {
    store: Arc<Gated>,
    registry: Arc<Registry>,
    pipeline: Pipeline,
}

fn room(options: PipelineOptions) -> Room {
    let (store, registry) = (Gated::opened(), Arc::new(Registry::default()));
    let clock = Arc::new(ManualClock::new("2026-01-31T10:00:00Z".parse().unwrap()));
    let pipeline = Pipeline::new(options, store.clone(), clock, registry.clone());
    Room { store, registry, pipeline }
}

fn message(tenant: &str, device: &str, ts: i64) -> Message {
    Message {
        topic: format!("harbinger/v1/{tenant}/{device}/telemetry"),
        payload: format!(r#"{{"ts":{ts},"values":{{"a":1}}}}"#).into(),
    }
}

impl Room {
    async fn take(&self, messages: &[Message]) -> Result<(), NotTaken> {
        self.pipeline.intake(Tenants::All).take(messages).await?.append().await.map(|_| ())
    }

    async fn reasons(&self) -> Vec<String> {
        let entries = self.store.quarantine(None, 0, 100).await.unwrap();
        entries.into_iter().map(|entry| entry.message.reason).collect()
    }
}

#[tokio::test]
async fn a_new_device_is_registered_once_and_asked_for_once() {
    let room = room(PipelineOptions::default());
    room.take(&[message("acme", "d1", 1), message("acme", "d1", 2), message("acme", "d2", 1)]).await.unwrap();
    room.take(&[message("acme", "d1", 3)]).await.unwrap();
    assert_eq!(*room.registry.known.lock().unwrap(), ["acme/d1", "acme/d2"]);
    assert_eq!(*room.registry.asked.lock().unwrap(), ["acme/d1", "acme/d2"]);
    assert_eq!(room.pipeline.metrics().snapshot().stored, 4);
}

/// Its connection stays open while a device is deleted.
#[tokio::test]
async fn a_device_that_was_forgotten_is_a_stranger_on_every_connection() {
    let room = room(PipelineOptions::default());
    let mut connection = room.pipeline.intake(Tenants::All);
    let both = [message("acme", "d1", 1), message("acme", "d2", 1)];
    connection.take(&both).await.unwrap().append().await.unwrap();
    room.registry.known.lock().unwrap().retain(|known| known != "acme/d1");
    room.pipeline.forget(&DeviceKey::new("acme".parse().unwrap(), "d1".parse().unwrap()));
    connection.take(&both).await.unwrap().append().await.unwrap();
    assert_eq!(*room.registry.known.lock().unwrap(), ["acme/d2", "acme/d1"]);
    assert_eq!(*room.registry.asked.lock().unwrap(), ["acme/d1", "acme/d2", "acme/d1"]);
}

/// The strict tenant's unknown device waits; once it is registered its next message is stored, and the first is replayed.
#[tokio::test]
async fn a_tenant_may_keep_unknown_devices_out() {
    let mut options = PipelineOptions::default();
    options.unknown_devices_by_tenant.insert("strict".parse().unwrap(), DeviceAdmission::Quarantine);
    let room = room(options);
    room.take(&[message("strict", "d1", 1), message("acme", "d1", 1)]).await.unwrap();
    assert_eq!(room.reasons().await, ["device d1 is not registered; register it and replay this message"]);
    room.registry.known.lock().unwrap().push("strict/d1".to_owned());
    room.take(&[message("strict", "d1", 2)]).await.unwrap();
    let entry = room.store.quarantine(None, 0, 1).await.unwrap().remove(0);
    assert_eq!(room.pipeline.replay(&entry).await.unwrap().stored, 1);
    assert!(room.reasons().await.is_empty());
    let found = room.pipeline.metrics().snapshot();
    accounted(found);
    assert_eq!((found.received, found.stored, found.quarantined), (4, 3, 1));
}

#[tokio::test]
async fn devices_of_a_tenant_are_bounded() {
    let room = room(PipelineOptions { devices_per_tenant_max: 1, ..PipelineOptions::default() });
    room.take(&[message("acme", "d1", 1), message("acme", "d2", 1)]).await.unwrap();
    let expected = "tenant acme has 1 devices that report, the most allowed; raise pipeline.devices_per_tenant_max";
    assert_eq!(room.reasons().await, [expected]);
    accounted(room.pipeline.metrics().snapshot());
}

/// A registry that does not answer costs nothing but time: nothing is stored, nothing may be acknowledged.
#[tokio::test]
async fn a_registry_that_is_away_refuses() {
    let room = room(PipelineOptions::default());
    room.registry.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let refused = room.take(&[message("acme", "d1", 1)]).await.unwrap_err();
    assert!(refused.may_retry());
    room.registry.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    room.take(&[message("acme", "d1", 1)]).await.unwrap();
    let found = room.pipeline.metrics().snapshot();
    accounted(found);
    assert_eq!((found.received, found.refused, found.stored), (2, 1, 1));
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_use() {
    let room = room(Options::default().pipeline);
    room.take(&[message("acme", "d1", 1)]).await.unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    room.pipeline.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "harbinger_ingest_messages_total 1",
        "harbinger_ingest_readings_received_total 1",
        "harbinger_ingest_readings_total{outcome=\"stored\"} 1",
        "harbinger_ingest_readings_total{outcome=\"refused\"} 0",
        "harbinger_ingest_readings_in_flight 0",
        "harbinger_ingest_devices_registered_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
