//! Accepts MQTT connections, bounds their number, and brings them to an end in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{QoS, v4::Publish};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::{connection, sessions::Sessions};
use crate::{
    admission::Authenticator,
    metrics::{CloseCause, Metrics},
    options::{ListenerOptions, std_time},
    pipeline::Pipeline,
};

/// The listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen for MQTT on {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// What connections share.
pub(super) struct Shared {
    pub(super) options: ListenerOptions,
    pub(super) pipeline: Pipeline,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) sessions: Sessions,
}

impl Shared {
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        self.pipeline.metrics()
    }
}

/// The MQTT listener: opened, not yet running.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Speaks to the clients of a listener. Clones are handles on the same one.
#[derive(Clone)]
pub struct Handle {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Handle {
    /// Where the listener listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes a message of ours, QoS 0, to the clients that are connected and subscribed; returns to how many it goes.
    /// A client that is too slow misses it, which is counted. A topic with a wildcard or above 65,535 bytes reaches nobody.
    pub fn publish(&self, topic: &str, payload: &[u8]) -> usize {
        if topic.is_empty() || topic.len() > usize::from(u16::MAX) || topic.contains(['+', '#', '\0']) {
            return 0;
        }
        let publish = Publish::from_bytes(topic, QoS::AtMostOnce, Bytes::copy_from_slice(payload));
        let mut packet = BytesMut::with_capacity(publish.size());
        match publish.write(&mut packet) {
            Ok(_) => self.shared.sessions.deliver(topic, &packet.freeze(), self.shared.metrics()),
            Err(error) => {
                warn!(topic, %error, "message of ours cannot be written as MQTT");
                0
            }
        }
    }
}

/// Pause after the operating system refused to accept: it is mostly out of file descriptors, and trying at once spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Opens the listener's socket; connections wait there until [`Listener::run`].
    ///
    /// # Errors
    /// [`BindError`] with the address.
    pub async fn bind(
        options: ListenerOptions,
        pipeline: Pipeline,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address: options.address, source };
        let socket = TcpListener::bind(options.address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared { options, pipeline, authenticator, sessions: Sessions::default() });
        Ok(Self { socket, address, shared })
    }

    /// Where it listens; with port 0 in the settings, the port that was free.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to speak to the clients.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { address: self.address, shared: Arc::clone(&self.shared) }
    }

    /// Accepts connections until `shutdown`, then: accepts no more, reads no more, waits for appends, sends the
    /// acknowledgements owed, closes. Returns when every connection has ended, at the latest a second after the drain
    /// timeout; what was not acknowledged then comes again.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { socket, address, shared } = self;
        info!(%address, "listening for MQTT");
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => open(&mut connections, stream, peer, &shared, &shutdown),
                    Err(error) => {
                        warn!(%error, "failed to accept an MQTT connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(socket);
        let deadline = Instant::now() + std_time(shared.options.drain_timeout) + Duration::from_secs(1);
        while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
            report(ended);
        }
        if !connections.is_empty() {
            warn!(connections = connections.len(), "MQTT connections did not end in time and are dropped");
            connections.shutdown().await;
        }
        info!(%address, "MQTT listener stopped");
    }
}

/// Starts the task of one connection. Stop policy: it sees `shutdown` and drains; failure policy: logged, others go on.
fn open(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
) {
    if connections.len() >= shared.options.connections_max {
        shared.metrics().connection_closed(CloseCause::TooMany);
        warn!(%peer, connections_max = shared.options.connections_max, "too many MQTT connections, one more is closed");
        return;
    }
    let span = info_span!("mqtt", %peer);
    connections.spawn(connection::run(stream, peer, Arc::clone(shared), shutdown.clone()).instrument(span));
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an MQTT connection's task panicked; its client will connect again");
    }
}
