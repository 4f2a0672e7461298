//! One connection's task: reads, lets the session decide, hands messages over, sends acknowledgements when appends return.
//!
//! One loop does all of it, so nothing is shared and nothing is locked. Several appends may be under way: what arrived
//! together is one batch, and reading goes on while batches wait for their commit, up to the bounds. Appends are begun in
//! the order received and their acknowledgements leave in that order.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream::FuturesOrdered};
use harbinger_store::Appended;
use rumqttc::mqttbytes::{
    Error as CodecError,
    v4::{Connect, Packet},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    listener::Shared,
    session::{Close, Effect, Session},
    sessions::Seat,
};
use crate::{
    admission::{Principal, Refused},
    metrics::CloseCause,
    options::std_time,
    pipeline::{Intake, Message, NotTaken},
};

/// First size of a read; it doubles up to the other while a connection fills it, so that idle connections stay small.
const READ_BYTES_MIN: usize = 4 << 10;
/// Largest read: some 300 messages of 200 bytes, 200 us of decoding.
const READ_BYTES_MAX: usize = 64 << 10;
/// Bytes that wait to be sent; above it nothing more is read, since the client does not take its acknowledgements.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// Time to hear the client's end of the connection after ours, at shutdown.
const LINGER: Duration = Duration::from_millis(500);

type Append = Pin<Box<dyn Future<Output = (usize, Result<Appended, NotTaken>)> + Send>>;
type Acquire = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// Runs a connection to its end.
pub(super) async fn run(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, shutdown: CancellationToken) {
    let _counted = shared.metrics().connection();
    let mut wire = Wire::new(stream, shared.options.packet_bytes_max.bytes());
    let mut session = Session::new(shared.options.subscriptions_max);
    let limit = std_time(shared.options.connect_timeout);
    let opened = tokio::select! {
        () = shutdown.cancelled() => Err(Close::Shutdown),
        opened = timeout(limit, connect(&mut wire, &mut session, peer, &shared)) => opened
            .unwrap_or_else(|_| Err(Close::because(CloseCause::Timeout, "no CONNECT within the connect timeout"))),
    };
    let close = match opened {
        Ok(principal) => {
            debug!(client_id = session.client_id(), principal = principal.name, "MQTT client connected");
            // A token of its own: thousands of connections that wait on one token would queue at its lock.
            let stop = shutdown.child_token();
            let (seat, outbox) = shared.sessions.seat(principal.tenants.clone(), session.client_id(), stop);
            let intake = shared.pipeline.intake(principal.tenants);
            Open::new(&mut wire, &mut session, &shared, seat, intake).run(outbox, &shutdown).await
        }
        Err(close) => close,
    };
    report(&close, &session, &shared);
    if close == Close::Shutdown {
        wire.linger().await;
    }
}

/// One event that logs and counts together.
fn report(close: &Close, session: &Session, shared: &Shared) {
    let client_id = session.client_id();
    match close {
        Close::ByClient | Close::Shutdown => debug!(client_id, reason = %close, "MQTT connection ended"),
        Close::ByUs { cause: cause @ CloseCause::TakenOver, reason } => {
            shared.metrics().connection_closed(*cause);
            info!(client_id, cause = cause.as_str(), reason, "MQTT connection closed");
        }
        Close::ByUs { cause, reason } => {
            shared.metrics().connection_closed(*cause);
            warn!(client_id, cause = cause.as_str(), reason, "MQTT connection closed");
        }
    }
}

/// Reads CONNECT, has it judged, answers it.
async fn connect(
    wire: &mut Wire,
    session: &mut Session,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<Principal, Close> {
    let packet = loop {
        // Known from the first byte (3.1.1): no waiting for the rest of what is no MQTT.
        if wire.read.first().is_some_and(|&first| first != 0x10) {
            return Err(Close::because(CloseCause::Protocol, "the first packet is not CONNECT"));
        }
        if let Some(refusal) = protocol_refusal(&wire.read) {
            wire.write.extend_from_slice(refusal);
            wire.flush_all().await?;
            return Err(Close::because(CloseCause::Protocol, "a protocol other than MQTT 3.1.1"));
        }
        if let Some(packet) = wire.next_packet()? {
            break packet;
        }
        wire.readable().await?;
        wire.fill(READ_BYTES_MIN)?;
    };
    let Effect::Authenticate(connect) = session.receive(packet)? else {
        return Err(Close::because(CloseCause::Protocol, "the first packet is not CONNECT"));
    };
    let verdict = authenticate(&connect, peer, shared).await;
    let (connack, outcome) = session.authenticated(verdict.as_ref().map(|principal| principal.tenants.clone()));
    wire.send(&connack)?;
    wire.flush_all().await?;
    outcome?;
    verdict.map_err(|refused| Close::because(CloseCause::Refused, refused.to_string()))
}

async fn authenticate(connect: &Connect, peer: SocketAddr, shared: &Shared) -> Result<Principal, Refused> {
    let login = connect.login.as_ref();
    let username = login.map(|login| login.username.as_str()).filter(|name| !name.is_empty());
    let password = login.map(|login| login.password.as_bytes()).filter(|password| !password.is_empty());
    shared.authenticator.authenticate(username, password, peer).await
}

/// The answer to a CONNECT of another protocol version, which the codec cannot read: return code 1 (3.1.2-2), and for
/// MQTT 5 its own reason code 0x84, so that its clients understand.
fn protocol_refusal(read: &[u8]) -> Option<&'static [u8]> {
    if read.first()? >> 4 != 1 {
        return None;
    }
    let header = 2 + read.get(1..5)?.iter().take_while(|&&byte| byte & 0x80 != 0).count();
    match read.get(header..)? {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => None,
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(&[0x20, 3, 0, 0x84, 0]),
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', _, ..] => {
            Some(&[0x20, 2, 0, 1])
        }
        _ => None,
    }
}

/// The socket and its two buffers.
struct Wire {
    stream: TcpStream,
    read: BytesMut,
    write: BytesMut,
    packet_bytes_max: usize,
}

impl Wire {
    fn new(stream: TcpStream, packet_bytes_max: usize) -> Self {
        // Without this a PUBACK may wait for the client's delayed TCP acknowledgement, 40 ms.
        let _ = stream.set_nodelay(true);
        Self { stream, read: BytesMut::new(), write: BytesMut::new(), packet_bytes_max }
    }

    /// The next packet, where all of it is here.
    fn next_packet(&mut self) -> Result<Option<Packet>, Close> {
        match Packet::read(&mut self.read, self.packet_bytes_max) {
            Ok(packet) => Ok(Some(packet)),
            Err(CodecError::InsufficientBytes(_)) => Ok(None),
            Err(CodecError::PayloadSizeLimitExceeded(bytes)) => {
                let reason = format!("a packet of {bytes} bytes, at most {} are taken", self.packet_bytes_max);
                Err(Close::because(CloseCause::TooLarge, reason))
            }
            Err(error) => Err(Close::because(CloseCause::Protocol, format!("malformed packet: {error}"))),
        }
    }

    async fn readable(&self) -> Result<(), Close> {
        self.stream.readable().await.map_err(|_| Close::ByClient)
    }

    /// Reads what is there, at most `bytes`; returns how many came.
    fn fill(&mut self, bytes: usize) -> Result<usize, Close> {
        self.read.reserve(bytes);
        let mut limited = bytes::BufMut::limit(&mut self.read, bytes);
        // Polled once. Unlike `try_read_buf`, this remembers that a short read emptied the socket, which saves the next
        // system call: a third of them for clients that send one message at a time.
        match self.stream.read_buf(&mut limited).now_or_never() {
            Some(Ok(0) | Err(_)) => Err(Close::ByClient),
            Some(Ok(read)) => Ok(read),
            None => Ok(0),
        }
    }

    fn send(&mut self, packet: &Packet) -> Result<(), Close> {
        let written = packet.write(&mut self.write, usize::MAX);
        written.map(|_| ()).map_err(|error| Close::because(CloseCause::Protocol, format!("failed to write: {error}")))
    }

    /// Sends what the socket takes now.
    fn flush(&mut self) -> Result<(), Close> {
        while !self.write.is_empty() {
            match self.stream.try_write(&self.write) {
                Ok(sent) => drop(self.write.split_to(sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Close::ByClient),
            }
        }
        Ok(())
    }

    async fn flush_all(&mut self) -> Result<(), Close> {
        let sent = self.stream.write_all_buf(&mut self.write).await;
        sent.map_err(|_| Close::ByClient)
    }

    /// Ends our side and reads on until the client has seen it: closing with unread bytes would reset the connection, and
    /// the reset would destroy acknowledgements that the client has not read yet.
    async fn linger(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let _ = timeout(LINGER, async {
            loop {
                self.read.clear();
                if self.readable().await.is_err() || self.fill(READ_BYTES_MIN).is_err() {
                    return;
                }
            }
        })
        .await;
    }
}

/// A connection after CONNACK.
struct Open<'a> {
    wire: &'a mut Wire,
    session: &'a mut Session,
    shared: &'a Shared,
    seat: Seat<'a>,
    intake: Intake,
    appends: FuturesOrdered<Append>,
    messages: Vec<Message>,
    /// Permits for what stands in the read buffer.
    held: Option<OwnedSemaphorePermit>,
    /// The wait for permits, where intake is full.
    waiting: Option<Acquire>,
    read_bytes: usize,
    last_read: Instant,
    /// Since when the connection cannot be read because of a bound.
    stalled_since: Option<Instant>,
}

impl<'a> Open<'a> {
    fn new(wire: &'a mut Wire, session: &'a mut Session, shared: &'a Shared, seat: Seat<'a>, intake: Intake) -> Self {
        Self {
            wire,
            session,
            shared,
            seat,
            intake,
            appends: FuturesOrdered::new(),
            messages: Vec::new(),
            held: None,
            waiting: None,
            read_bytes: READ_BYTES_MIN,
            last_read: Instant::now(),
            stalled_since: None,
        }
    }

    /// Runs to the end, and leaves no append behind: what was handed over is settled before this returns.
    async fn run(mut self, mut outbox: mpsc::Receiver<Bytes>, shutdown: &CancellationToken) -> Close {
        let close = match self.serve(&mut outbox, shutdown).await {
            Ok(never) => match never {},
            Err(close) => close,
        };
        if close == Close::Shutdown {
            let limit = std_time(self.shared.options.drain_timeout);
            if timeout(limit, self.acknowledge_rest()).await.is_err() {
                warn!(messages = self.session.in_flight(), "acknowledgements owed were not sent in time");
            }
        }
        while self.appends.next().await.is_some() {}
        close
    }

    async fn serve(
        &mut self,
        outbox: &mut mpsc::Receiver<Bytes>,
        shutdown: &CancellationToken,
    ) -> Result<std::convert::Infallible, Close> {
        let mut alarm = std::pin::pin!(sleep_until(self.last_read));
        let stop = self.seat.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            // A bound may have left packets in the buffer that are allowed by now, and no byte need come to remind us.
            loop {
                let buffer_is_done = self.process().await?;
                self.wire.flush()?;
                if buffer_is_done || !self.may_read() {
                    break;
                }
            }
            let may_read = self.may_read();
            self.note_stall(may_read && self.waiting.is_none(), alarm.as_mut());
            tokio::select! {
                biased;
                () = stopped.as_mut() => {
                    if shutdown.is_cancelled() {
                        return Err(Close::Shutdown);
                    }
                    return Err(Close::because(CloseCause::TakenOver, "the same client id connected again"));
                }
                Some((messages, appended)) = self.appends.next(), if !self.appends.is_empty() => {
                    self.settle(messages, appended)?;
                }
                ready = self.wire.stream.writable(), if !self.wire.write.is_empty() => {
                    ready.map_err(|_| Close::ByClient)?;
                }
                permit = async { self.waiting.as_mut().expect("checked by the branch").await }, if self.waiting.is_some() => {
                    self.waiting = None;
                    self.fill(permit)?;
                }
                readable = self.wire.stream.readable(), if may_read && self.waiting.is_none() => {
                    readable.map_err(|_| Close::ByClient)?;
                    self.begin_fill()?;
                }
                Some(packet) = outbox.recv(), if self.wire.write.len() < WRITE_BYTES_MAX => {
                    self.wire.write.extend_from_slice(&packet);
                }
                () = alarm.as_mut() => self.check_time(alarm.as_mut())?,
            }
        }
    }

    fn may_read(&self) -> bool {
        self.session.in_flight() < self.shared.options.inflight_messages_max && self.wire.write.len() < WRITE_BYTES_MAX
    }

    /// Takes the packets that are here, up to the bounds, and hands their messages over as one batch; whether no complete
    /// packet is left.
    async fn process(&mut self) -> Result<bool, Close> {
        let before = self.wire.read.len();
        let mut outcome = Ok(false);
        while self.may_read() {
            match self.take_packet() {
                Ok(true) => {}
                Ok(false) => {
                    outcome = Ok(true);
                    break;
                }
                Err(close) => {
                    outcome = Err(close);
                    break;
                }
            }
        }
        let consumed = before - self.wire.read.len();
        let permits = self.release(consumed);
        // What came before a bad packet was good, and is stored.
        self.hand_over(permits).await?;
        outcome
    }

    /// Takes one packet; false where none is complete.
    fn take_packet(&mut self) -> Result<bool, Close> {
        let Some(packet) = self.wire.next_packet()? else { return Ok(false) };
        match self.session.receive(packet)? {
            Effect::Deliver(publish) => {
                self.messages.push(Message { topic: publish.topic, payload: publish.payload });
            }
            Effect::Send(packet) => self.wire.send(&packet)?,
            Effect::Subscribed(packet) => {
                self.seat.subscribed(self.session.filters());
                self.wire.send(&packet)?;
            }
            Effect::Nothing => {}
            Effect::Authenticate(_) => return Err(Close::because(CloseCause::Protocol, "a second CONNECT came")),
        }
        Ok(true)
    }

    /// The permits of bytes that left the read buffer; they stay with the messages until these are durable.
    fn release(&mut self, consumed: usize) -> Option<OwnedSemaphorePermit> {
        let held = self.held.as_mut()?;
        // Bytes that came with CONNECT were read before permits were asked for.
        let consumed = consumed.min(held.num_permits());
        held.split(consumed)
    }

    async fn hand_over(&mut self, permits: Option<OwnedSemaphorePermit>) -> Result<(), Close> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let count = self.messages.len();
        let prepared = self.intake.take(&self.messages).await;
        self.messages.clear();
        let prepared = prepared.map_err(|error| not_taken(&error))?;
        let mut append: Append = Box::pin(async move {
            let appended = prepared.append().await;
            drop(permits);
            (count, appended)
        });
        // The first poll is what puts the batch into the store's queue, so it is made here, in the order received.
        match futures::poll!(append.as_mut()) {
            Poll::Ready((messages, appended)) if self.appends.is_empty() => self.settle(messages, appended)?,
            Poll::Ready(done) => self.appends.push_back(std::future::ready(done).boxed()),
            Poll::Pending => self.appends.push_back(append),
        }
        Ok(())
    }

    /// An append returned: its messages are durable and are acknowledged, or the connection ends.
    fn settle(&mut self, messages: usize, appended: Result<Appended, NotTaken>) -> Result<(), Close> {
        appended.map_err(|error| not_taken(&error))?;
        let mut acknowledged = 0;
        for puback in self.session.durable(messages) {
            // PUBACK: fixed header and packet identifier (3.4).
            let [high, low] = puback.pkid.to_be_bytes();
            self.wire.write.extend_from_slice(&[0x40, 2, high, low]);
            acknowledged += 1;
        }
        self.shared.metrics().acknowledged(acknowledged);
        Ok(())
    }

    /// Reads, or begins to wait for room.
    fn begin_fill(&mut self) -> Result<(), Close> {
        let budget = &self.shared.pipeline.0.budget;
        let bytes = self.read_bytes as u32;
        match Arc::clone(budget).try_acquire_many_owned(bytes) {
            Ok(permit) => self.fill(Some(permit)),
            Err(_) => {
                let budget = Arc::clone(budget);
                self.waiting = Some(Box::pin(async move { budget.acquire_many_owned(bytes).await.ok() }));
                Ok(())
            }
        }
    }

    fn fill(&mut self, permit: Option<OwnedSemaphorePermit>) -> Result<(), Close> {
        let Some(mut permit) = permit else { return Err(Close::Shutdown) };
        let bytes = permit.num_permits();
        let read = self.wire.fill(bytes)?;
        if read > 0 {
            self.last_read = Instant::now();
        }
        drop(permit.split(bytes - read));
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        let most = READ_BYTES_MAX.min(self.shared.pipeline.0.inflight_bytes_max());
        self.read_bytes = if read == bytes { (bytes * 2).min(most) } else { bytes.min(most) };
        Ok(())
    }

    /// Remembers since when the connection cannot be read, and sets the alarm for it.
    fn note_stall(&mut self, reads: bool, alarm: Pin<&mut Sleep>) {
        match (reads, self.stalled_since) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => {
                self.stalled_since = None;
                // Silence while we did not listen is not the client's.
                self.last_read = Instant::now();
            }
            (false, None) => {
                let now = Instant::now();
                self.stalled_since = Some(now);
                let due = now + std_time(self.shared.options.stall_timeout);
                if alarm.deadline() > due {
                    alarm.reset(due);
                }
            }
        }
    }

    /// One and a half times the keep alive (3.1.2-24).
    fn silence_max(&self) -> Duration {
        match self.session.keep_alive() {
            0 => std_time(self.shared.options.idle_timeout),
            seconds => Duration::from_millis(u64::from(seconds) * 1_500),
        }
    }

    /// The alarm rang: ends the connection where it is due, sets the alarm anew where it is not.
    fn check_time(&self, alarm: Pin<&mut Sleep>) -> Result<(), Close> {
        let now = Instant::now();
        let (due, cause, reason) = match self.stalled_since {
            Some(since) => {
                let due = since + std_time(self.shared.options.stall_timeout);
                (due, CloseCause::Stalled, "a bound of intake held the connection for too long")
            }
            None => (self.last_read + self.silence_max(), CloseCause::Timeout, "silence beyond the keep alive"),
        };
        if now >= due {
            return Err(Close::because(cause, reason));
        }
        alarm.reset(due);
        Ok(())
    }

    /// Waits for all appends under way and sends their acknowledgements.
    async fn acknowledge_rest(&mut self) {
        while let Some((messages, appended)) = self.appends.next().await {
            if let Err(close) = self.settle(messages, appended) {
                warn!(reason = %close, "messages are not acknowledged");
                break;
            }
        }
        let _ = self.wire.flush_all().await;
    }
}

fn not_taken(error: &NotTaken) -> Close {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Close::because(CloseCause::Store, format!("{error}{cause}"))
}
