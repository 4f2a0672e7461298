//! Who is connected: takeover by client id, and delivery of what we publish.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{admission::Tenants, decode::TopicFilter, metrics::Metrics};

/// Messages of ours that wait for a slow client; more are dropped, as QoS 0 allows, and counted.
const OUTBOX_MAX: usize = 64;

/// A client id within the rights it came with: one tenant's client cannot push out another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SessionKey {
    tenants: Tenants,
    client_id: String,
}

struct Entry {
    number: u64,
    stop: CancellationToken,
    outbox: mpsc::Sender<Bytes>,
    filters: Vec<TopicFilter>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<SessionKey, Entry>,
    last_number: u64,
}

/// The connected sessions.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Table>);

/// A connection's place in the table; it leaves when this is dropped.
pub(super) struct Seat<'a> {
    sessions: &'a Sessions,
    key: SessionKey,
    number: u64,
    /// Cancelled when the same client connects again, and at shutdown.
    pub(super) stop: CancellationToken,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats a client. One that sits there under the same id is told to leave (3.1.4-2) by its token.
    pub(super) fn seat(
        &self,
        tenants: Tenants,
        client_id: &str,
        stop: CancellationToken,
    ) -> (Seat<'_>, mpsc::Receiver<Bytes>) {
        let (outbox, receiver) = mpsc::channel(OUTBOX_MAX);
        let mut table = self.lock();
        table.last_number += 1;
        let number = table.last_number;
        // A client that left its id to us gets one that nobody else can ask for: the slash of ours is in no such id.
        let client_id = if client_id.is_empty() { format!("/{number}") } else { client_id.to_owned() };
        let key = SessionKey { tenants, client_id };
        let entry = Entry { number, stop: stop.clone(), outbox, filters: Vec::new() };
        if let Some(old) = table.entries.insert(key.clone(), entry) {
            old.stop.cancel();
        }
        (Seat { sessions: self, key, number, stop }, receiver)
    }

    /// Sends a packet to every client with a matching subscription; returns to how many.
    pub(super) fn deliver(&self, topic: &str, packet: &Bytes, metrics: &Metrics) -> usize {
        let table = self.lock();
        let mut reached = 0;
        for entry in table.entries.values() {
            if entry.filters.iter().any(|filter| filter.matches(topic)) {
                match entry.outbox.try_send(packet.clone()) {
                    Ok(()) => reached += 1,
                    Err(_) => metrics.undelivered(),
                }
            }
        }
        reached
    }
}

impl Seat<'_> {
    /// What the client is subscribed to now.
    pub(super) fn subscribed(&self, filters: &[TopicFilter]) {
        let mut table = self.sessions.lock();
        if let Some(entry) = table.entries.get_mut(&self.key).filter(|entry| entry.number == self.number) {
            entry.filters = filters.to_vec();
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        if table.entries.get(&self.key).is_some_and(|entry| entry.number == self.number) {
            table.entries.remove(&self.key);
        }
    }
}
