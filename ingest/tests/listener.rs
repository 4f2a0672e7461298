//! The listener with real clients: rumqttc, mosquitto_pub, and raw bytes where a client would not misbehave enough.

mod common;

use std::{process::Stdio, sync::Arc, time::Duration};

use common::{Gated, Harness, Raw, accounted, deadline, eventually, poll_until};
use harbinger_core::{DeviceKey, TimeRange};
use harbinger_ingest::{Authenticator, Options, Principal, Refused, Tenants, metrics::CloseCause, options::ByteSize};
use rumqttc::{
    AsyncClient, Event, MqttOptions, Packet, QoS,
    mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode, Login, Publish},
};

const TOPIC: &str = "harbinger/v1/acme/d1/telemetry";

fn reading(ts: i64) -> String {
    format!(r#"{{"ts":{ts},"values":{{"fan1_rpm":{},"inlet_c":24.5}}}}"#, 8000 + ts)
}

fn d1() -> DeviceKey {
    DeviceKey::new("acme".parse().unwrap(), "d1".parse().unwrap())
}

/// A QoS 1 client's window is used: messages are stored in order and each is acknowledged once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rumqttc_publishes_and_every_message_is_acknowledged() {
    let harness = Harness::start(Options::default()).await;
    let address = harness.address();
    let mut options = MqttOptions::new("gateway", address.ip().to_string(), address.port());
    options.set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 1000);
    for ts in 0..500 {
        client.publish(TOPIC, QoS::AtLeastOnce, false, reading(ts)).await.unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < 500 {
        if let Event::Incoming(Packet::PubAck(_)) = deadline(events.poll()).await.unwrap() {
            acknowledged += 1;
        }
    }
    let stored = harness.store.scan(&d1(), TimeRange::ALL, None).await.unwrap();
    assert_eq!(stored.len(), 500);
    assert_eq!(harness.pipeline.metrics().snapshot().acknowledged, 500);
    client.disconnect().await.unwrap();
    let _ = deadline(poll_until(&mut events)).await;
    harness.stop().await;
}

/// PUBACK after durability: while the append is held, no acknowledgement arrives, and the client's window is still read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puback_is_not_sent_before_the_append_returned() {
    let gated = Gated::new();
    let harness = Harness::start_with(Options::default(), gated.clone()).await;
    let mut raw = Raw::open(harness.address(), "c1").await;
    raw.publish(TOPIC, 7, &reading(1)).await;
    deadline(gated.held(1)).await;
    raw.publish(TOPIC, 3, &reading(2)).await;
    deadline(gated.held(2)).await;
    // Both appends wait. A PINGREQ is answered, which shows that the connection is alive, and no PUBACK came before.
    raw.send(&rumqttc::mqttbytes::v4::Packet::PingReq).await;
    assert_eq!(raw.packet().await, Some(rumqttc::mqttbytes::v4::Packet::PingResp));
    assert_eq!(harness.pipeline.metrics().snapshot().in_flight, 2);
    gated.open();
    for pkid in [7, 3] {
        let expected = rumqttc::mqttbytes::v4::PubAck::new(pkid);
        assert_eq!(raw.packet().await, Some(rumqttc::mqttbytes::v4::Packet::PubAck(expected)));
    }
    harness.stop().await;
}

/// What the store refuses is not acknowledged: the connection is closed, and the client sends again when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_closes_the_connection_without_an_acknowledgement() {
    let gated = Gated::new();
    gated.open();
    gated.fill_disk(true);
    let harness = Harness::start_with(Options::default(), gated.clone()).await;
    let mut raw = Raw::open(harness.address(), "c1").await;
    raw.publish(TOPIC, 1, &reading(1)).await;
    assert_eq!(raw.packet().await, None);
    let metrics = harness.pipeline.metrics();
    eventually(|| metrics.closed(CloseCause::Store) == 1).await;
    assert_eq!((metrics.snapshot().refused, metrics.snapshot().acknowledged), (1, 0));
    gated.fill_disk(false);
    let mut raw = Raw::open(harness.address(), "c1").await;
    raw.publish(TOPIC, 1, &reading(1)).await;
    assert!(raw.packet().await.is_some());
    accounted(metrics.snapshot());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bytes_close_only_their_connection() {
    let harness = Harness::start(Options::default()).await;
    let mut good = Raw::open(harness.address(), "good").await;
    let cases: [&[u8]; 5] = [
        &[0xf0, 0x00],                         // packet type 15
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], // five bytes of remaining length
        &[0x32, 0x05, 0x00, 0x01, b'a', 0, 0], // packet identifier 0
        &[0x30, 0x04, 0x00, 0x09, b'a', b'b'], // topic longer than the packet
        &[0x30, 0x03, 0x00, 0x01, 0xff],       // topic that is no UTF-8
    ];
    for (number, bytes) in cases.into_iter().enumerate() {
        let mut bad = Raw::open(harness.address(), "bad").await;
        bad.send_bytes(bytes).await;
        assert_eq!(bad.packet().await, None, "case {number}");
    }
    let mut mute = Raw::dial(harness.address()).await;
    mute.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(mute.packet().await, None);
    eventually(|| harness.pipeline.metrics().closed(CloseCause::Protocol) == 6).await;
    good.publish(TOPIC, 1, &reading(1)).await;
    assert!(good.packet().await.is_some());
    harness.stop().await;
}

/// What stood before the malformed packet was good, and is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_before_a_malformed_packet_are_stored() {
    let harness = Harness::start(Options::default()).await;
    let mut raw = Raw::open(harness.address(), "c1").await;
    let mut bytes = bytes::BytesMut::new();
    Publish { pkid: 1, ..Publish::new(TOPIC, QOS1, reading(1)) }.write(&mut bytes).unwrap();
    bytes.extend_from_slice(&[0xf0, 0x00]);
    raw.send_bytes(&bytes).await;
    while raw.packet().await.is_some() {}
    eventually(|| harness.pipeline.metrics().snapshot().stored == 1).await;
    harness.stop().await;
}

const QOS1: rumqttc::mqttbytes::QoS = rumqttc::mqttbytes::QoS::AtLeastOnce;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_version_is_told_so() {
    let harness = Harness::start(Options::default()).await;
    let mut v5 = Raw::dial(harness.address()).await;
    v5.send_bytes(&[0x10, 0x0f, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 2, b'c', b'1']).await;
    assert_eq!(v5.rest().await, [0x20, 3, 0, 0x84, 0]);
    let mut v31 = Raw::dial(harness.address()).await;
    v31.send_bytes(&[0x10, 0x10, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60, 0, 2, b'c', b'1']).await;
    assert_eq!(v31.rest().await, [0x20, 2, 0, 1]);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_client_id_takes_over() {
    let harness = Harness::start(Options::default()).await;
    let mut first = Raw::open(harness.address(), "c1").await;
    let mut second = Raw::open(harness.address(), "c1").await;
    assert_eq!(first.packet().await, None);
    second.publish(TOPIC, 1, &reading(1)).await;
    assert!(second.packet().await.is_some());
    eventually(|| harness.pipeline.metrics().closed(CloseCause::TakenOver) == 1).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_packets_and_payloads_are_bounded() {
    let mut options = Options::default();
    options.mqtt.connections_max = 2;
    options.mqtt.packet_bytes_max = ByteSize(2_000);
    options.pipeline.payload_bytes_max = ByteSize(1_000);
    let harness = Harness::start(options).await;
    let mut first = Raw::open(harness.address(), "c1").await;
    let mut second = Raw::open(harness.address(), "c2").await;
    let mut third = Raw::dial(harness.address()).await;
    assert_eq!(third.packet().await, None, "a connection too many");
    first.publish(TOPIC, 1, &"x".repeat(1_500)).await;
    assert!(first.packet().await.is_some(), "a large payload is quarantined and acknowledged");
    let entries = harness.store.quarantine(None, 0, 10).await.unwrap();
    assert_eq!(entries[0].message.reason, "the payload has 1500 bytes, at most 1000 are decoded");
    second.publish(TOPIC, 1, &"x".repeat(3_000)).await;
    assert_eq!(second.packet().await, None, "a packet too large");
    let metrics = harness.pipeline.metrics();
    eventually(|| metrics.closed(CloseCause::TooLarge) == 1 && metrics.closed(CloseCause::TooMany) == 1).await;
    harness.stop().await;
}

/// Above the bound of unacknowledged messages a connection is not read; when appends return, it goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unacknowledged_messages_are_bounded_and_reading_goes_on_afterwards() {
    let gated = Gated::new();
    let mut options = Options::default();
    options.mqtt.inflight_messages_max = 10;
    let harness = Harness::start_with(options, gated.clone()).await;
    let mut raw = Raw::open(harness.address(), "c1").await;
    let mut bytes = bytes::BytesMut::new();
    for pkid in 1..=25 {
        let publish = Publish { pkid, ..Publish::new(TOPIC, QOS1, reading(i64::from(pkid))) };
        publish.write(&mut bytes).unwrap();
    }
    raw.send_bytes(&bytes).await;
    eventually(|| harness.pipeline.metrics().snapshot().in_flight == 10).await;
    gated.open();
    for pkid in 1..=25 {
        let expected = rumqttc::mqttbytes::v4::PubAck::new(pkid);
        assert_eq!(raw.packet().await, Some(rumqttc::mqttbytes::v4::Packet::PubAck(expected)));
    }
    harness.stop().await;
}

/// Above the bytes in flight of all connections nothing is read, and a connection that stalls for too long is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_in_flight_are_bounded_over_all_connections() {
    let gated = Gated::new();
    let mut options = Options::default();
    options.pipeline.inflight_bytes_max = ByteSize(4_100);
    options.mqtt.stall_timeout = harbinger_core::Duration::from_millis(200);
    let harness = Harness::start_with(options, gated.clone()).await;
    let mut first = Raw::open(harness.address(), "c1").await;
    first.publish(TOPIC, 1, &reading(1)).await;
    deadline(gated.held(1)).await;
    let mut second = Raw::open(harness.address(), "c2").await;
    second.publish(TOPIC, 1, &reading(2)).await;
    assert_eq!(second.packet().await, None);
    let metrics = harness.pipeline.metrics();
    eventually(|| metrics.closed(CloseCause::Stalled) >= 1).await;
    assert_eq!(metrics.snapshot().received, 1, "what was not read was not received");
    gated.open();
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_beyond_the_keep_alive_or_before_connect_closes() {
    let mut options = Options::default();
    options.mqtt.connect_timeout = harbinger_core::Duration::from_millis(100);
    let harness = Harness::start(options).await;
    let mut mute = Raw::dial(harness.address()).await;
    assert_eq!(mute.packet().await, None);
    let mut silent = Raw::dial(harness.address()).await;
    let connect = Connect { keep_alive: 1, ..Connect::new("c1") };
    silent.send(&rumqttc::mqttbytes::v4::Packet::Connect(connect)).await;
    assert!(silent.packet().await.is_some());
    let since = std::time::Instant::now();
    assert_eq!(silent.packet().await, None);
    let waited = since.elapsed();
    assert!(waited >= Duration::from_millis(1_400) && waited < Duration::from_secs(3), "{waited:?}");
    eventually(|| harness.pipeline.metrics().closed(CloseCause::Timeout) == 2).await;
    harness.stop().await;
}

/// Acknowledgements owed are sent at shutdown, and the listener ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_appends_and_sends_the_acknowledgements_owed() {
    let gated = Gated::new();
    let harness = Harness::start_with(Options::default(), gated.clone()).await;
    let mut raw = Raw::open(harness.address(), "c1").await;
    raw.publish(TOPIC, 9, &reading(1)).await;
    deadline(gated.held(1)).await;
    harness.shutdown.cancel();
    gated.open();
    let expected = rumqttc::mqttbytes::v4::PubAck::new(9);
    assert_eq!(raw.packet().await, Some(rumqttc::mqttbytes::v4::Packet::PubAck(expected)));
    assert_eq!(raw.packet().await, None);
    harness.stop().await;
}

struct Keys;

#[async_trait::async_trait]
impl Authenticator for Keys {
    async fn authenticate(
        &self,
        username: Option<&str>,
        password: Option<&[u8]>,
        _: std::net::SocketAddr,
    ) -> Result<Principal, Refused> {
        match (username, password) {
            (Some(tenant), Some(b"secret")) => {
                Ok(Principal { name: tenant.to_owned(), tenants: Tenants::One(tenant.parse().unwrap()) })
            }
            _ => Err(Refused::BadCredentials),
        }
    }
}

/// A wrong password is refused by return code; a right one publishes for its tenant, and what it publishes for another is
/// in quarantine, acknowledged, and stays out of the other's telemetry when it is replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_end_at_the_tenant() {
    let harness = Harness::start_as(Options::default(), Gated::opened(), Arc::new(Keys)).await;
    let mut stranger = Raw::dial(harness.address()).await;
    stranger.send(&rumqttc::mqttbytes::v4::Packet::Connect(Connect::new("c1"))).await;
    let refusal = ConnAck::new(ConnectReturnCode::BadUserNamePassword, false);
    assert_eq!(stranger.packet().await, Some(rumqttc::mqttbytes::v4::Packet::ConnAck(refusal)));
    assert_eq!(stranger.packet().await, None);
    let mut own = Raw::dial(harness.address()).await;
    let login = Some(Login::new("acme", "secret"));
    own.send(&rumqttc::mqttbytes::v4::Packet::Connect(Connect { login, ..Connect::new("c1") })).await;
    assert!(own.packet().await.is_some());
    own.publish("harbinger/v1/other/d1/telemetry", 1, &reading(1)).await;
    assert!(own.packet().await.is_some());
    let entries = harness.store.quarantine(None, 0, 10).await.unwrap();
    assert_eq!(entries[0].message.tenant, Some("acme".parse().unwrap()));
    assert!(entries[0].message.reason.contains("may not publish for tenant other"), "{}", entries[0].message.reason);
    assert!(harness.pipeline.replay(&entries[0]).await.is_err());
    assert!(harness.store.tenants().await.unwrap().iter().all(|tenant| tenant.as_str() != "other"));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_publish_reaches_subscribers() {
    let harness = Harness::start(Options::default()).await;
    let address = harness.address();
    let (client, mut events) = AsyncClient::new(MqttOptions::new("d1", address.ip().to_string(), address.port()), 10);
    client.subscribe("harbinger/v1/acme/d1/commands", QoS::AtLeastOnce).await.unwrap();
    while !matches!(deadline(events.poll()).await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    assert_eq!(harness.handle.publish("harbinger/v1/acme/d2/commands", b"no"), 0);
    assert_eq!(harness.handle.publish("harbinger/v1/acme/d1/commands", b"defrost"), 1);
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = deadline(events.poll()).await.unwrap() {
            assert_eq!(
                (publish.topic.as_str(), &publish.payload[..]),
                ("harbinger/v1/acme/d1/commands", &b"defrost"[..])
            );
            break;
        }
    }
    harness.stop().await;
}

/// The client that most people try first, over both qualities of service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_publishes() {
    let harness = Harness::start(Options::default()).await;
    let port = harness.address().port().to_string();
    for (qos, ts) in [("0", 1), ("1", 2)] {
        let started = tokio::process::Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", qos, "-t", TOPIC, "-m", &reading(ts)])
            .stdin(Stdio::null())
            .output();
        match deadline(started).await {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("left out: mosquitto_pub is not installed");
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let metrics = harness.pipeline.metrics();
    eventually(|| metrics.snapshot().stored == 2).await;
    assert_eq!(metrics.snapshot().acknowledged, 1);
    let stored = harness.store.scan(&d1(), TimeRange::ALL, None).await.unwrap();
    assert_eq!(stored.len(), 2);
    harness.stop().await;
}

/// received = stored + duplicate + corrected + quarantined + refused + in flight, after a bit of everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reading_is_accounted_for() {
    let gated = Gated::opened();
    let harness = Harness::start_with(Options::default(), gated.clone()).await;
    let mut raw = Raw::open(harness.address(), "c1").await;
    let payloads = [
        (TOPIC, reading(1)),
        (TOPIC, reading(1)),
        (TOPIC, r#"{"ts":1,"values":{"fan1_rpm":5}}"#.to_owned()),
        (TOPIC, r#"[{"ts":2,"values":{"a":1}},{"ts":3,"values":{"a":"x"}},{"ts":4,"values":{"a":null}}]"#.to_owned()),
        (TOPIC, r#"{"ts":"2999-01-01T00:00:00Z","values":{"a":1}}"#.to_owned()),
        (TOPIC, r#"{"ts":5,"values":{"a":NaN}}"#.to_owned()),
        ("plant/7/temp", "21.5".to_owned()),
        ("harbinger/v1/acme/d1/events", r#"[{"ts":1,"code":"E1"},{"ts":1,"code":"E1"}]"#.to_owned()),
    ];
    for (number, (topic, payload)) in payloads.iter().enumerate() {
        raw.publish(topic, u16::try_from(number).unwrap() + 1, payload).await;
        assert!(raw.packet().await.is_some(), "{payload}");
    }
    gated.fill_disk(true);
    raw.publish(TOPIC, 99, &reading(9)).await;
    assert_eq!(raw.packet().await, None);
    let metrics = harness.pipeline.metrics();
    eventually(|| metrics.closed(CloseCause::Store) == 1).await;
    let found = metrics.snapshot();
    accounted(found);
    assert_eq!(
        (found.received, found.stored, found.duplicate, found.corrected, found.quarantined, found.refused),
        (12, 3, 3, 1, 4, 1),
    );
    assert_eq!((found.messages, found.in_flight, found.acknowledged), (9, 0, 8));
    harness.stop().await;
}
