//! One client's MQTT 3.1.1 session as a pure state machine: packets in, effects out, no socket and no clock.
//!
//! Section numbers are those of the OASIS specification of MQTT 3.1.1. QoS 0 and 1 are spoken; a QoS 2 PUBLISH closes the
//! connection, since 3.1.1 has no other way to refuse it. No session outlives its connection: CONNACK never says that one
//! was present, and a client subscribes anew.
//!
//! **Invariant**: PUBACKs leave in the order in which their PUBLISH packets came, and only by [`Session::durable`].

use std::collections::VecDeque;

use rumqttc::mqttbytes::{
    QoS,
    v4::{
        ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck,
        Unsubscribe,
    },
};

use crate::{
    admission::{Refused, Tenants},
    decode::{TopicFilter, native},
    metrics::CloseCause,
};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// The client said goodbye or hung up.
    #[error("the client disconnected")]
    ByClient,
    /// We are shutting down.
    #[error("shutting down")]
    Shutdown,
    /// We end it.
    #[error("{reason}")]
    ByUs {
        /// For the counter.
        cause: CloseCause,
        /// For the log.
        reason: String,
    },
}

impl Close {
    /// A close of ours.
    pub(crate) fn because(cause: CloseCause, reason: impl Into<String>) -> Self {
        Self::ByUs { cause, reason: reason.into() }
    }

    fn protocol(reason: impl Into<String>) -> Self {
        Self::because(CloseCause::Protocol, reason)
    }
}

/// What the socket's side is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Find out who this is, then call [`Session::authenticated`].
    Authenticate(Connect),
    /// Hand the message to the pipeline; it is counted as unacknowledged until [`Session::durable`].
    Deliver(Publish),
    /// Send this.
    Send(Packet),
    /// The subscriptions changed; send this.
    Subscribed(Packet),
    /// Nothing.
    Nothing,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// CONNECT must be the first packet (3.1.0-1).
    Expecting,
    /// CONNECT came and is being judged; the client may send on (3.1.4, non-normative), but nothing is read meanwhile.
    Judging { keep_alive: u16, clean: bool, client_id: String },
    /// CONNACK was sent.
    Open { tenants: Tenants },
    /// Nothing more is taken.
    Closed,
}

/// The session of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// One a message handed over and not durable yet, in order: its packet identifier, or 0 for QoS 0.
    unacknowledged: VecDeque<u16>,
    filters: Vec<TopicFilter>,
    subscriptions_max: usize,
    keep_alive: u16,
    client_id: String,
}

impl Session {
    /// A session that waits for CONNECT.
    #[must_use]
    pub fn new(subscriptions_max: usize) -> Self {
        Self {
            state: State::Expecting,
            unacknowledged: VecDeque::new(),
            filters: Vec::new(),
            subscriptions_max,
            keep_alive: 0,
            client_id: String::new(),
        }
    }

    /// Seconds of keep alive that the client asked for; 0 for none.
    #[must_use]
    pub fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// The client id; empty where the client left it to us.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What the client subscribed to.
    #[must_use]
    pub fn filters(&self) -> &[TopicFilter] {
        &self.filters
    }

    /// Messages handed over and not durable yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Takes a packet from the client.
    ///
    /// # Errors
    /// [`Close`]: the connection is to be closed.
    pub fn receive(&mut self, packet: Packet) -> Result<Effect, Close> {
        let outcome = match (&self.state, packet) {
            (State::Expecting, Packet::Connect(connect)) => Ok(self.connect(connect)),
            (State::Expecting, _) => Err(Close::protocol("the first packet is not CONNECT")),
            (State::Judging { .. } | State::Closed, _) => Err(Close::protocol("a packet came out of turn")),
            (State::Open { .. }, Packet::Connect(_)) => Err(Close::protocol("a second CONNECT came")),
            (State::Open { .. }, Packet::Publish(publish)) => self.publish(publish),
            (State::Open { tenants }, Packet::Subscribe(subscribe)) => {
                let tenants = tenants.clone();
                self.subscribe(&subscribe, &tenants)
            }
            (State::Open { .. }, Packet::Unsubscribe(unsubscribe)) => self.unsubscribe(&unsubscribe),
            (State::Open { .. }, Packet::PingReq) => Ok(Effect::Send(Packet::PingResp)),
            // We send QoS 0 only, so nothing waits for this; it does no harm either.
            (State::Open { .. }, Packet::PubAck(_)) => Ok(Effect::Nothing),
            (State::Open { .. }, Packet::Disconnect) => Err(Close::ByClient),
            (State::Open { .. }, Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_)) => {
                Err(Close::protocol("a QoS 2 packet came; QoS 0 and 1 are spoken here"))
            }
            (State::Open { .. }, Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp) => {
                Err(Close::protocol("a packet came that only a server sends"))
            }
        };
        if outcome.is_err() {
            self.state = State::Closed;
        }
        outcome
    }

    fn connect(&mut self, connect: Connect) -> Effect {
        self.keep_alive = connect.keep_alive;
        self.client_id.clone_from(&connect.client_id);
        self.state = State::Judging {
            keep_alive: connect.keep_alive,
            clean: connect.clean_session,
            client_id: connect.client_id.clone(),
        };
        Effect::Authenticate(connect)
    }

    /// Takes the verdict on the client; the packet is to be sent in either case.
    ///
    /// # Errors
    /// [`Close`], after the packet was sent.
    pub fn authenticated(&mut self, verdict: Result<Tenants, &Refused>) -> (Packet, Result<(), Close>) {
        let connack = |code| Packet::ConnAck(ConnAck::new(code, false));
        let State::Judging { clean, client_id, .. } = &self.state else {
            self.state = State::Closed;
            let close = Close::protocol("a verdict came for no CONNECT");
            return (connack(ConnectReturnCode::ServiceUnavailable), Err(close));
        };
        // A client that wants its session kept must name it (3.1.3-8).
        let nameless = client_id.is_empty() && !clean;
        match verdict {
            Ok(_) if nameless => {
                self.state = State::Closed;
                let close = Close::because(CloseCause::Refused, "no client id although the session should be kept");
                (connack(ConnectReturnCode::BadClientId), Err(close))
            }
            Ok(tenants) => {
                self.state = State::Open { tenants };
                (connack(ConnectReturnCode::Success), Ok(()))
            }
            Err(refused) => {
                self.state = State::Closed;
                let code = match refused {
                    Refused::BadCredentials => ConnectReturnCode::BadUserNamePassword,
                    Refused::NotAuthorized { .. } => ConnectReturnCode::NotAuthorized,
                    Refused::Unavailable { .. } => ConnectReturnCode::ServiceUnavailable,
                };
                (connack(code), Err(Close::because(CloseCause::Refused, refused.to_string())))
            }
        }
    }

    fn publish(&mut self, publish: Publish) -> Result<Effect, Close> {
        if publish.topic.is_empty() || publish.topic.contains(['+', '#', '\0']) {
            return Err(Close::protocol(format!("{:?} is no topic name (3.3.2-2)", publish.topic)));
        }
        match publish.qos {
            QoS::AtMostOnce => self.unacknowledged.push_back(0),
            QoS::AtLeastOnce => self.unacknowledged.push_back(publish.pkid),
            QoS::ExactlyOnce => {
                return Err(Close::protocol("a QoS 2 PUBLISH came; QoS 0 and 1 are spoken here"));
            }
        }
        Ok(Effect::Deliver(publish))
    }

    fn subscribe(&mut self, subscribe: &Subscribe, tenants: &Tenants) -> Result<Effect, Close> {
        if subscribe.pkid == 0 {
            return Err(Close::protocol("SUBSCRIBE has packet identifier 0 (2.3.1-1)"));
        }
        let answers = subscribe.filters.iter().map(|wanted| self.subscribe_to(&wanted.path, tenants)).collect();
        Ok(Effect::Subscribed(Packet::SubAck(SubAck::new(subscribe.pkid, answers))))
    }

    /// Grants QoS 0, which the specification allows for any QoS asked for (3.8.4-6).
    fn subscribe_to(&mut self, path: &str, tenants: &Tenants) -> SubscribeReasonCode {
        let Ok(filter) = path.parse::<TopicFilter>() else { return SubscribeReasonCode::Failure };
        let allowed = match tenants {
            Tenants::All => !path.starts_with("$share/"),
            Tenants::One(own) => {
                let [first, second] = native::PREFIX;
                filter.lies_under(&[first, second, own.as_str()])
            }
        };
        let held = self.filters.contains(&filter);
        if !allowed || (!held && self.filters.len() >= self.subscriptions_max) {
            return SubscribeReasonCode::Failure;
        }
        if !held {
            self.filters.push(filter);
        }
        SubscribeReasonCode::Success(QoS::AtMostOnce)
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<Effect, Close> {
        if unsubscribe.pkid == 0 || unsubscribe.topics.is_empty() {
            return Err(Close::protocol("UNSUBSCRIBE has packet identifier 0 or no filter (3.10.3-2)"));
        }
        self.filters.retain(|filter| !unsubscribe.topics.iter().any(|topic| topic == filter.as_str()));
        Ok(Effect::Subscribed(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))))
    }

    /// The oldest `messages` handed over are durable: their acknowledgements, in the order received.
    pub fn durable(&mut self, messages: usize) -> impl Iterator<Item = PubAck> + '_ {
        let messages = messages.min(self.unacknowledged.len());
        self.unacknowledged.drain(..messages).filter(|&pkid| pkid != 0).map(PubAck::new)
    }
}

#[cfg(test)]
mod tests;
