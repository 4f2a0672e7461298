//! A TCP connection that speaks MQTT: packets in and out of buffers.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::{
    Error as CodecError,
    v4::{Connect, ConnectReturnCode, Packet, Publish},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Broker;

/// Time to connect, and to be let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A broker that neither takes nor acknowledges anything for so long has lost us, or we it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Name beside the key: brokers want one where there is a password, and the key alone says who we are.
const USERNAME: &str = "key";
/// The largest packet a broker has reason to send us.
const PACKET_BYTES_MAX: usize = 1 << 16;

/// Why a connection ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection.
    #[error("failed to connect to the MQTT broker at {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The broker does not let us in.
    #[error("the MQTT broker at {address} refuses the connection: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// The meaning of its return code.
        reason: &'static str,
        /// Whether trying again cannot help.
        for_ever: bool,
    },
    /// The connection broke.
    #[error("the connection to the MQTT broker broke")]
    Lost(#[from] std::io::Error),
    /// Nothing happened for too long.
    #[error("the MQTT broker acknowledges nothing")]
    Stalled,
    /// What came or was to go is no MQTT.
    #[error("the MQTT broker's answer, or a message for it, is not MQTT 3.1.1: {0}")]
    Protocol(CodecError),
}

impl Error {
    /// Whether trying again cannot help.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused { for_ever, .. } => *for_ever,
            Self::Protocol(_) => true,
            Self::Connect { .. } | Self::Lost(_) | Self::Stalled => false,
        }
    }
}

/// An open connection.
pub(super) struct Wire {
    stream: TcpStream,
    read: BytesMut,
    write: BytesMut,
}

impl Wire {
    /// Connects and is let in.
    pub(super) async fn connect(broker: &Broker, client_id: &str) -> Result<Self, Error> {
        let failed = |source| Error::Connect { address: broker.address.clone(), source };
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&broker.address)).await.map_err(late);
        let stream = stream.and_then(|stream| stream).map_err(failed)?;
        // Blocks of packets are written whole, so there is nothing to gain from waiting for more.
        stream.set_nodelay(true).map_err(failed)?;
        let mut wire = Self { stream, read: BytesMut::new(), write: BytesMut::new() };
        let mut connect = Connect::new(client_id);
        // No keep alive: a replay at the pace of life is silent for hours, and a lost connection shows at the next message.
        connect.keep_alive = 0;
        if let Some(key) = &broker.key {
            connect.set_login(USERNAME, key);
        }
        connect.write(&mut wire.write).map_err(Error::Protocol)?;
        wire.flush().await?;
        let answer = timeout(CONNECT_TIMEOUT, wire.packet()).await.map_err(|_| Error::Stalled)??;
        let Packet::ConnAck(answer) = answer else { return Err(Error::Protocol(CodecError::InvalidProtocol)) };
        let (reason, for_ever) = match answer.code {
            ConnectReturnCode::Success => return Ok(wire),
            ConnectReturnCode::ServiceUnavailable => ("it is not available", false),
            ConnectReturnCode::RefusedProtocolVersion => ("it does not speak MQTT 3.1.1", true),
            ConnectReturnCode::BadClientId => ("it does not take our client id", true),
            ConnectReturnCode::BadUserNamePassword => ("the key is not valid", true),
            ConnectReturnCode::NotAuthorized => ("not authorized; a key with scope ingest is needed", true),
        };
        Err(Error::Refused { address: broker.address.clone(), reason, for_ever })
    }

    /// Puts a packet behind those to be written.
    pub(super) fn publish(&mut self, publish: &Publish) -> Result<(), Error> {
        publish.write(&mut self.write).map(drop).map_err(Error::Protocol)
    }

    /// Writes what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        let Self { stream, write, .. } = self;
        timeout(STALL_TIMEOUT, stream.write_all_buf(write)).await.map_err(|_| Error::Stalled)??;
        Ok(())
    }

    /// Waits for acknowledgements and gives all that have come: at least one.
    pub(super) async fn acknowledgements(&mut self) -> Result<Vec<u16>, Error> {
        let mut ids = Vec::new();
        while ids.is_empty() {
            while let Some(packet) = self.next_packet()? {
                if let Packet::PubAck(acknowledgement) = packet {
                    ids.push(acknowledgement.pkid);
                }
            }
            if ids.is_empty() {
                timeout(STALL_TIMEOUT, self.fill()).await.map_err(|_| Error::Stalled)??;
            }
        }
        Ok(ids)
    }

    async fn packet(&mut self) -> Result<Packet, Error> {
        loop {
            match self.next_packet()? {
                Some(packet) => return Ok(packet),
                None => self.fill().await?,
            }
        }
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, Error> {
        match Packet::read(&mut self.read, PACKET_BYTES_MAX) {
            Ok(packet) => Ok(Some(packet)),
            Err(CodecError::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(Error::Protocol(error)),
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        self.read.reserve(4 << 10);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(Error::Lost(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// Sends DISCONNECT and closes; nothing is owed any more, so it does not matter whether it arrives.
    pub(super) async fn close(mut self) {
        if rumqttc::mqttbytes::v4::Disconnect.write(&mut self.write).is_ok() && self.flush().await.is_ok() {
            let _closed_by_the_other_side = self.stream.shutdown().await;
        }
    }
}
