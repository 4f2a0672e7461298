//! The session by table: what comes in, what goes out.

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{LastWill, SubscribeFilter};

use super::*;

fn connect(client_id: &str, clean_session: bool) -> Packet {
    Packet::Connect(Connect { clean_session, keep_alive: 7, ..Connect::new(client_id) })
}

fn publish(qos: QoS, pkid: u16) -> Packet {
    Packet::Publish(Publish { pkid, ..Publish::from_bytes("harbinger/v1/acme/d1/telemetry", qos, Bytes::new()) })
}

fn open(tenants: Tenants) -> Session {
    let mut session = Session::new(3);
    assert!(matches!(session.receive(connect("c1", true)), Ok(Effect::Authenticate(_))));
    let (connack, verdict) = session.authenticated(Ok(tenants));
    assert_eq!(connack, Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)));
    assert_eq!(verdict, Ok(()));
    session
}

fn acme() -> Tenants {
    Tenants::One("acme".parse().unwrap())
}

/// Feeds one packet to an open session and compares what comes out, in words.
#[track_caller]
fn check(packet: Packet, expected: &str) {
    let mut session = open(acme());
    let found = match session.receive(packet) {
        Ok(Effect::Send(packet) | Effect::Subscribed(packet)) => format!("send {packet:?}"),
        Ok(Effect::Deliver(publish)) => format!("deliver {}", publish.pkid),
        Ok(Effect::Authenticate(_)) => "authenticate".to_owned(),
        Ok(Effect::Nothing) => "nothing".to_owned(),
        Err(close) => format!("close: {close}"),
    };
    assert_eq!(found, expected);
}

#[test]
fn an_open_session_answers_each_packet() {
    check(Packet::PingReq, "send PingResp");
    check(publish(QoS::AtMostOnce, 0), "deliver 0");
    check(publish(QoS::AtLeastOnce, 9), "deliver 9");
    check(publish(QoS::ExactlyOnce, 9), "close: a QoS 2 PUBLISH came; QoS 0 and 1 are spoken here");
    check(connect("c1", true), "close: a second CONNECT came");
    check(Packet::Disconnect, "close: the client disconnected");
    check(Packet::PingResp, "close: a packet came that only a server sends");
    check(Packet::PubAck(PubAck::new(1)), "nothing");
    let wild = Publish::new("harbinger/+/x", QoS::AtMostOnce, "");
    check(Packet::Publish(wild), "close: \"harbinger/+/x\" is no topic name (3.3.2-2)");
}

#[test]
fn subscriptions_are_granted_within_the_tenant_and_up_to_a_number() {
    let filters = ["harbinger/v1/acme/#", "harbinger/v1/other/#", "#", "bad#", "harbinger/v1/acme/d1/commands"];
    let wanted = filters.map(|path| SubscribeFilter::new(path.to_owned(), QoS::AtLeastOnce));
    let mut session = open(acme());
    let granted = SubscribeReasonCode::Success(QoS::AtMostOnce);
    let failed = SubscribeReasonCode::Failure;
    assert_eq!(
        session.receive(Packet::Subscribe(Subscribe { pkid: 4, filters: wanted.to_vec() })),
        Ok(Effect::Subscribed(Packet::SubAck(SubAck::new(4, vec![granted, failed, failed, failed, granted]))))
    );
    let more = ["harbinger/v1/acme/a", "harbinger/v1/acme/b", "harbinger/v1/acme/#"]
        .map(|path| SubscribeFilter::new(path.to_owned(), QoS::AtMostOnce));
    assert_eq!(
        session.receive(Packet::Subscribe(Subscribe { pkid: 5, filters: more.to_vec() })),
        Ok(Effect::Subscribed(Packet::SubAck(SubAck::new(5, vec![granted, failed, granted]))))
    );
    let topics = vec!["harbinger/v1/acme/#".to_owned()];
    assert_eq!(
        session.receive(Packet::Unsubscribe(Unsubscribe { pkid: 6, topics })),
        Ok(Effect::Subscribed(Packet::UnsubAck(UnsubAck::new(6))))
    );
    let left: Vec<&str> = session.filters().iter().map(TopicFilter::as_str).collect();
    assert_eq!(left, ["harbinger/v1/acme/d1/commands", "harbinger/v1/acme/a"]);
}

#[test]
fn acknowledgements_leave_in_the_order_received_and_only_when_durable() {
    let mut session = open(Tenants::All);
    for (qos, pkid) in [(QoS::AtLeastOnce, 5), (QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 3), (QoS::AtLeastOnce, 4)] {
        session.receive(publish(qos, pkid)).unwrap();
    }
    assert_eq!(session.in_flight(), 4);
    assert_eq!(session.durable(3).collect::<Vec<_>>(), [PubAck::new(5), PubAck::new(3)]);
    assert_eq!(session.in_flight(), 1);
    assert_eq!(session.durable(9).collect::<Vec<_>>(), [PubAck::new(4)]);
}

#[test]
fn connect_comes_first_and_a_will_is_no_obstacle() {
    assert!(Session::new(1).receive(Packet::PingReq).is_err());
    let mut session = Session::new(1);
    let will = LastWill::new("a", "gone", QoS::AtMostOnce, false);
    let connect = Connect { last_will: Some(will), ..Connect::new("c") };
    assert!(matches!(session.receive(Packet::Connect(connect)), Ok(Effect::Authenticate(_))));
    assert!(session.receive(Packet::PingReq).is_err(), "nothing is taken before the verdict");
}

#[test]
fn a_verdict_is_a_return_code() {
    let cases = [
        ("c", true, Err(Refused::BadCredentials), ConnectReturnCode::BadUserNamePassword),
        ("c", true, Err(Refused::NotAuthorized { reason: String::new() }), ConnectReturnCode::NotAuthorized),
        ("c", true, Err(Refused::Unavailable { reason: String::new() }), ConnectReturnCode::ServiceUnavailable),
        ("", false, Ok(Tenants::All), ConnectReturnCode::BadClientId),
        ("", true, Ok(Tenants::All), ConnectReturnCode::Success),
        ("c", false, Ok(Tenants::All), ConnectReturnCode::Success),
    ];
    for (client_id, clean, verdict, code) in &cases {
        let mut session = Session::new(1);
        session.receive(connect(client_id, *clean)).unwrap();
        let (packet, outcome) = match verdict {
            Ok(tenants) => session.authenticated(Ok(Tenants::clone(tenants))),
            Err(refused) => session.authenticated(Err(refused)),
        };
        assert_eq!(packet, Packet::ConnAck(ConnAck::new(*code, false)));
        assert_eq!(outcome.is_ok(), *code == ConnectReturnCode::Success);
        assert_eq!(session.keep_alive(), 7);
    }
}

proptest::proptest! {
    /// Whatever bytes come, before CONNECT or after, the codec and the session answer or close; nothing panics.
    #[test]
    fn no_bytes_panic(
        kind in 0u8..=255, body in proptest::collection::vec(proptest::num::u8::ANY, 0..100), opened in proptest::bool::ANY,
    ) {
        let mut stream = bytes::BytesMut::from(&[kind, u8::try_from(body.len()).unwrap()][..]);
        stream.extend_from_slice(&body);
        let mut session = if opened { open(acme()) } else { Session::new(3) };
        while let Ok(packet) = Packet::read(&mut stream, 1_000) {
            if session.receive(packet).is_err() {
                break;
            }
        }
        session.durable(usize::MAX).for_each(drop);
    }
}
