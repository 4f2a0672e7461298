//! A gateway against brokers that behave badly: scripted ones on real sockets.

use std::collections::BTreeSet;

use bytes::BytesMut;
use rumqttc::mqttbytes::{
    Error as CodecError,
    v4::{ConnAck, ConnectReturnCode, Packet, PubAck},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

fn message(number: usize) -> Message {
    Message { topic: "t".to_owned(), payload: number.to_string().into_bytes(), items: 2 }
}

#[test]
fn identifiers_are_never_zero_and_never_in_use() {
    let mut window = Window::default();
    assert_eq!(window.admit(message(0)).pkid, 1);
    window.last_id = u16::MAX - 1;
    assert_eq!(window.admit(message(1)).pkid, u16::MAX);
    assert_eq!(window.admit(message(2)).pkid, 2, "zero is no identifier, and one still waits");
    assert_eq!((window.acknowledge(1), window.acknowledge(1), window.acknowledge(9)), (Some(2), None, None));
    assert_eq!(
        window.again().map(|publish| (publish.pkid, publish.dup)).collect::<Vec<_>>(),
        [(u16::MAX, true), (2, true)]
    );
    window.acknowledge(2);
    window.acknowledge(u16::MAX);
    assert_eq!((window.is_empty(), window.bytes), (true, 0));
}

#[test]
fn a_window_is_bounded_in_messages_and_bytes() {
    let mut window = Window::default();
    let mut count = 0;
    while window.has_room() {
        window.admit(message(count));
        count += 1;
    }
    assert_eq!(count, WINDOW_MESSAGES);
    let mut window = Window::default();
    window.admit(Message { topic: "t".to_owned(), payload: vec![0; WINDOW_BYTES], items: 1 });
    assert!(!window.has_room());
}

/// The broker's side of one connection.
struct Peer {
    stream: TcpStream,
    read: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener, code: ConnectReturnCode) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self { stream, read: BytesMut::new() };
        assert!(matches!(peer.packet().await, Some(Packet::Connect(_))));
        let mut answer = BytesMut::new();
        ConnAck::new(code, false).write(&mut answer).unwrap();
        peer.stream.write_all(&answer).await.unwrap();
        peer
    }

    async fn packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.read, 1 << 20) {
                Ok(packet) => return Some(packet),
                Err(CodecError::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            if self.stream.read_buf(&mut self.read).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn publish(&mut self) -> Option<Publish> {
        match self.packet().await {
            Some(Packet::Publish(publish)) => Some(publish),
            Some(Packet::Disconnect) | None => None,
            other => panic!("{other:?}"),
        }
    }

    async fn acknowledge(&mut self, id: u16) {
        let mut answer = BytesMut::new();
        PubAck::new(id).write(&mut answer).unwrap();
        self.stream.write_all(&answer).await.unwrap();
    }
}

async fn listen() -> (TcpListener, Gateway) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = Broker { address: listener.local_addr().unwrap().to_string(), key: Some("k".to_owned()) };
    let gateway = Gateway::new(Arc::new(broker), "test".to_owned(), Arc::default());
    (listener, gateway)
}

/// The first connection takes 150 messages, acknowledges every other one and breaks; the second takes what is left.
#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_on_a_new_connection() {
    let (listener, mut gateway) = listen().await;
    let broker = tokio::spawn(async move {
        let mut acknowledged = BTreeSet::new();
        let mut peer = Peer::accept(&listener, ConnectReturnCode::Success).await;
        for number in 0..150 {
            let publish = peer.publish().await.unwrap();
            if number % 2 == 0 {
                peer.acknowledge(publish.pkid).await;
                acknowledged.insert(publish.payload);
            }
        }
        drop(peer);
        let mut peer = Peer::accept(&listener, ConnectReturnCode::Success).await;
        while let Some(publish) = peer.publish().await {
            peer.acknowledge(publish.pkid).await;
            acknowledged.insert(publish.payload);
        }
        acknowledged.len()
    });
    gateway.deliver((0..1_000).map(message)).await.unwrap();
    gateway.close().await;
    assert_eq!(broker.await.unwrap(), 1_000);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let tally = &gateway.tally;
    assert_eq!((count(&tally.sent), count(&tally.acknowledged), count(&tally.items)), (1_000, 1_000, 2_000));
    assert_eq!(count(&tally.lost), 1);
    assert!(count(&tally.resent) >= 75);
}

#[tokio::test]
async fn a_broker_that_refuses_the_key_is_asked_once() {
    let (listener, mut gateway) = listen().await;
    let broker = tokio::spawn(async move { Peer::accept(&listener, ConnectReturnCode::BadUserNamePassword).await });
    let error = gateway.deliver(std::iter::once(message(0))).await.unwrap_err();
    assert!(error.to_string().ends_with("refuses the connection: the key is not valid"), "{error}");
    drop(broker.await.unwrap());
}
