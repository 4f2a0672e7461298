//! One gateway connection to the broker: MQTT 3.1.1 QoS 1 with a window of unacknowledged messages, which are sent again
//! after a new connection.
//!
//! A client of our own, since a replay is a flood: packets are written and acknowledgements read in blocks, and nothing is
//! shared between connections. [`Window`] is the protocol without its socket. Writing and reading take turns on purpose: what
//! may be unacknowledged is so little that its acknowledgements always fit the socket's buffers, so neither side can wait
//! for the other for ever.

mod wire;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rumqttc::mqttbytes::{QoS, v4::Publish};
use tokio::time::{Instant, sleep};

pub(crate) use wire::Error;
use wire::Wire;

use super::native::Message;

/// Messages of one connection sent and not acknowledged.
const WINDOW_MESSAGES: usize = 200;
/// Their bytes, above which no further one is sent.
const WINDOW_BYTES: usize = 1 << 20;
/// First pause before connecting anew; it doubles up to the other.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A broker that acknowledges nothing for so long is given up: a restart takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the broker is and who we are there.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    /// `host:port`.
    pub(crate) address: String,
    /// Our key, where we have one: the password.
    pub(crate) key: Option<String>,
}

/// What all connections did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Messages sent, each counted once.
    pub(crate) sent: AtomicU64,
    /// Messages acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Readings and events in acknowledged messages.
    pub(crate) items: AtomicU64,
    /// Messages sent once more after a new connection.
    pub(crate) resent: AtomicU64,
    /// Connections lost.
    pub(crate) lost: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Messages sent and not acknowledged, in the order sent.
#[derive(Debug, Default)]
struct Window {
    last_id: u16,
    bytes: usize,
    waiting: VecDeque<(Publish, u64)>,
}

impl Window {
    fn has_room(&self) -> bool {
        self.waiting.len() < WINDOW_MESSAGES && self.bytes < WINDOW_BYTES
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a message under a packet identifier that no waiting one has; the packet to send.
    fn admit(&mut self, message: Message) -> &Publish {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.waiting.iter().any(|(publish, _)| publish.pkid == self.last_id) {
                break;
            }
        }
        let mut publish = Publish::new(message.topic, QoS::AtLeastOnce, message.payload);
        publish.pkid = self.last_id;
        self.bytes += publish.size();
        self.waiting.push_back((publish, message.items));
        &self.waiting.back().expect("one was put there").0
    }

    /// Lets go of a message; what it held, or `None` where no such message waits.
    fn acknowledge(&mut self, id: u16) -> Option<u64> {
        let place = self.waiting.iter().position(|(publish, _)| publish.pkid == id)?;
        let (publish, items) = self.waiting.remove(place)?;
        self.bytes = self.bytes.saturating_sub(publish.size());
        Some(items)
    }

    /// The packets to send first on a new connection.
    fn again(&mut self) -> impl Iterator<Item = &Publish> {
        self.waiting.iter_mut().map(|(publish, _)| {
            publish.dup = true;
            &*publish
        })
    }
}

/// A gateway: devices speak through its one connection.
pub(crate) struct Gateway {
    broker: Arc<Broker>,
    client_id: String,
    window: Window,
    wire: Option<Wire>,
    tally: Arc<Tally>,
}

impl Gateway {
    /// A gateway, not yet connected.
    pub(crate) fn new(broker: Arc<Broker>, client_id: String, tally: Arc<Tally>) -> Self {
        Self { broker, client_id, window: Window::default(), wire: None, tally }
    }

    /// Connects now, so that a wrong address or key is known before anything is done; one try.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        self.wire = Some(Wire::connect(&self.broker, &self.client_id).await?);
        Ok(())
    }

    /// Sends messages and returns when all are acknowledged. A lost connection is made anew and what was not acknowledged is
    /// sent again; a repeat is success where it arrives.
    ///
    /// # Errors
    /// Where the broker refuses us, or acknowledges nothing for a minute.
    pub(crate) async fn deliver(&mut self, mut messages: impl Iterator<Item = Message>) -> Result<(), Error> {
        let (mut progress, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let before = self.window.waiting.front().map(|(publish, _)| publish.pkid);
            let Err(error) = self.attempt(&mut messages).await else { return Ok(()) };
            self.wire = None;
            add(&self.tally.lost, 1);
            if before != self.window.waiting.front().map(|(publish, _)| publish.pkid) {
                (progress, pause) = (Instant::now(), PAUSE_MIN);
            }
            if error.is_final() || progress.elapsed() > PATIENCE {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&mut self, messages: &mut impl Iterator<Item = Message>) -> Result<(), Error> {
        let wire = match &mut self.wire {
            Some(wire) => wire,
            None => {
                let mut wire = Wire::connect(&self.broker, &self.client_id).await?;
                for publish in self.window.again() {
                    wire.publish(publish)?;
                    add(&self.tally.resent, 1);
                }
                self.wire.insert(wire)
            }
        };
        loop {
            while self.window.has_room()
                && let Some(message) = messages.next()
            {
                add(&self.tally.sent, 1);
                wire.publish(self.window.admit(message))?;
            }
            if self.window.is_empty() {
                return Ok(());
            }
            wire.flush().await?;
            for id in wire.acknowledgements().await? {
                if let Some(items) = self.window.acknowledge(id) {
                    add(&self.tally.items, items);
                    add(&self.tally.acknowledged, 1);
                }
            }
        }
    }

    /// Says goodbye, so that the broker does not take us for lost.
    pub(crate) async fn close(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
