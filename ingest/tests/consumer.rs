//! The consumer against a real broker: mosquitto on a free loopback port, stopped by its process id.

mod common;

use std::{net::TcpListener, process::Stdio, sync::Arc, time::Duration};

use common::{Gated, accounted, deadline, eventually};
use harbinger_core::{DeviceKey, SystemClock, TimeRange};
use harbinger_ingest::{OpenRegistrar, Options, Pipeline, consumer::Consumer, options::ConsumerOptions};
use harbinger_store::telemetry::TelemetryStore;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::{process::Child, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A mosquitto of our own; it ends with the test.
struct Broker {
    port: u16,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Broker {
    /// `None`, said aloud, where mosquitto is not installed.
    async fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let configuration = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n");
        std::fs::write(directory.path().join("mosquitto.conf"), configuration).unwrap();
        let mut broker = Self { port, directory, child: None };
        broker.spawn().await.then_some(broker)
    }

    async fn spawn(&mut self) -> bool {
        let program =
            if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let started = tokio::process::Command::new(program)
            .arg("-c")
            .arg(self.directory.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = started else {
            println!("left out: mosquitto is not installed");
            return false;
        };
        self.child = Some(child);
        let port = self.port;
        eventually(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        true
    }

    async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Publishes with QoS 1 and returns when the broker has all of it.
    async fn publish(&self, messages: &[(&str, String)]) {
        let (client, mut events) = AsyncClient::new(MqttOptions::new("device", "127.0.0.1", self.port), 1_000);
        for (topic, payload) in messages {
            client.publish(*topic, QoS::AtLeastOnce, false, payload.clone()).await.unwrap();
        }
        let mut left = messages.len();
        while left > 0 {
            if let Event::Incoming(Packet::PubAck(_)) = deadline(events.poll()).await.unwrap() {
                left -= 1;
            }
        }
    }
}

struct Running {
    pipeline: Pipeline,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn consume(broker: &Broker, store: Arc<Gated>, share_group: Option<&str>) -> Running {
    let pipeline = Pipeline::new(Options::default().pipeline, store, Arc::new(SystemClock), Arc::new(OpenRegistrar));
    let options = ConsumerOptions {
        port: broker.port,
        client_id: "harbinger-test".to_owned(),
        share_group: share_group.map(str::to_owned),
        retry_delay_max: harbinger_core::Duration::from_millis(200),
        ..ConsumerOptions::default()
    };
    let shutdown = CancellationToken::new();
    let consumer = Consumer::new(options, pipeline.clone()).unwrap();
    let task = tokio::spawn(consumer.run(shutdown.clone()));
    Running { pipeline, shutdown, task }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        deadline(self.task).await.unwrap();
        accounted(self.pipeline.metrics().snapshot());
    }
}

const TOPIC: &str = "harbinger/v1/acme/d1/telemetry";

fn readings(times: std::ops::Range<i64>) -> Vec<(&'static str, String)> {
    times.map(|ts| (TOPIC, format!(r#"{{"ts":{ts},"values":{{"a":{ts}}}}}"#))).collect()
}

async fn stored(store: &Gated) -> usize {
    let key = DeviceKey::new("acme".parse().unwrap(), "d1".parse().unwrap());
    store.scan(&key, TimeRange::ALL, None).await.unwrap().len()
}

async fn until_stored(store: &Gated, readings: usize) {
    let mut news = store.appended();
    deadline(async {
        while stored(store).await < readings {
            news.changed().await.unwrap();
        }
    })
    .await;
}

/// Waits until the consumer's session stands at the broker: what is published after that is kept for it.
async fn until_subscribed(broker: &Broker, store: &Gated) {
    let mut ts = -1;
    while stored(store).await == 0 {
        broker.publish(&[(TOPIC, format!(r#"{{"ts":{ts},"values":{{"a":1}}}}"#))]).await;
        let _ = tokio::time::timeout(Duration::from_millis(100), until_stored(store, 1)).await;
        ts -= 1;
    }
}

/// The session outlives us: what is published while we are away arrives when we are back, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_we_are_away_arrives_later() {
    let Some(broker) = Broker::start().await else { return };
    let store = Gated::opened();
    let running = consume(&broker, store.clone(), None);
    until_subscribed(&broker, &store).await;
    let before = stored(&store).await;
    broker.publish(&readings(0..300)).await;
    until_stored(&store, before + 300).await;
    running.stop().await;
    broker.publish(&readings(300..400)).await;
    let running = consume(&broker, store.clone(), None);
    until_stored(&store, before + 400).await;
    assert_eq!(running.pipeline.metrics().snapshot().duplicate, 0, "acknowledged messages did not come again");
    running.stop().await;
}

/// What the store refuses is not acknowledged, and the broker sends it again when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_stored_comes_again() {
    let Some(broker) = Broker::start().await else { return };
    let store = Gated::opened();
    let running = consume(&broker, store.clone(), None);
    until_subscribed(&broker, &store).await;
    let before = stored(&store).await;
    store.fill_disk(true);
    broker.publish(&readings(0..50)).await;
    eventually(|| running.pipeline.metrics().snapshot().refused >= 50).await;
    assert_eq!(stored(&store).await, before);
    store.fill_disk(false);
    until_stored(&store, before + 50).await;
    running.stop().await;
}

/// A broker that goes away is found again, and subscribed to anew, since this one forgets its sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_restarted_is_subscribed_to_again() {
    let Some(mut broker) = Broker::start().await else { return };
    let store = Gated::opened();
    let running = consume(&broker, store.clone(), None);
    until_subscribed(&broker, &store).await;
    let before = stored(&store).await;
    broker.stop().await;
    assert!(broker.spawn().await);
    deadline(async {
        let mut ts = 0;
        while stored(&store).await == before {
            broker.publish(&readings(ts..ts + 1)).await;
            ts += 1;
            let _ = tokio::time::timeout(Duration::from_millis(100), until_stored(&store, before + 1)).await;
        }
    })
    .await;
    running.stop().await;
}

/// A shared subscription delivers as a plain one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_subscription_is_consumed() {
    let Some(broker) = Broker::start().await else { return };
    let store = Gated::opened();
    let running = consume(&broker, store.clone(), Some("intake"));
    until_subscribed(&broker, &store).await;
    let before = stored(&store).await;
    broker.publish(&readings(0..20)).await;
    until_stored(&store, before + 20).await;
    running.stop().await;
}

#[test]
fn settings_that_cannot_work_are_named() {
    let pipeline =
        Pipeline::new(Options::default().pipeline, Gated::opened(), Arc::new(SystemClock), Arc::new(OpenRegistrar));
    let refused = |options: ConsumerOptions| Consumer::new(options, pipeline.clone()).err().unwrap().to_string();
    let bad = ConsumerOptions { filters: vec!["a#".to_owned()], ..ConsumerOptions::default() };
    assert_eq!(refused(bad), "consumer setting filters: \"a#\" is not a topic filter: a wildcard must fill its level");
    let nameless = ConsumerOptions { client_id: String::new(), ..ConsumerOptions::default() };
    assert!(refused(nameless).starts_with("consumer setting client_id"));
}
