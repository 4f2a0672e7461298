//! An MQTT 3.1.1 client in the hands of a test: it sends what it is told, keeps no state, and says what came back.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{bail, ensure};
use bytes::BytesMut;
use rumqttc::mqttbytes::{
    Error as CodecError, QoS,
    v4::{Connect, ConnectReturnCode, Login, Packet, Publish},
};

/// How long a packet may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection on which CONNECT was accepted.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    read: BytesMut,
}

impl Connection {
    /// Connects; `password` is an API key.
    ///
    /// # Errors
    /// Where the server cannot be reached or does not let the client in.
    pub fn open(address: SocketAddr, client_id: &str, password: Option<&str>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut connection = Self { stream, read: BytesMut::new() };
        let mut connect = Connect { keep_alive: 600, ..Connect::new(client_id) };
        connect.login = password.map(|password| Login::new("test", password));
        let mut bytes = BytesMut::new();
        connect.write(&mut bytes)?;
        connection.stream.write_all(&bytes)?;
        match connection.receive()? {
            Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => Ok(connection),
            other => bail!("{other:?} instead of an accepting CONNACK"),
        }
    }

    /// Encodes a PUBLISH at QoS 1 behind `out`.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub fn publish(out: &mut BytesMut, pkid: u16, topic: &str, payload: &str) -> anyhow::Result<()> {
        let publish = Publish { pkid, ..Publish::new(topic, QoS::AtLeastOnce, payload.as_bytes().to_vec()) };
        publish.write(out)?;
        Ok(())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next packet; waits for it.
    ///
    /// # Errors
    /// Where the connection ends or nothing comes for half a minute.
    pub fn receive(&mut self) -> anyhow::Result<Packet> {
        loop {
            match Packet::read(&mut self.read, 1 << 20) {
                Ok(packet) => return Ok(packet),
                Err(CodecError::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let mut bytes = [0; 16 << 10];
            let count = self.stream.read(&mut bytes)?;
            ensure!(count > 0, "the connection was closed");
            self.read.extend_from_slice(&bytes[..count]);
        }
    }

    /// Whether nothing that was received waits to be looked at.
    #[must_use]
    pub fn has_no_more(&self) -> bool {
        self.read.is_empty()
    }

    /// Publishes one message and waits for its acknowledgement.
    ///
    /// # Errors
    /// Where anything but the PUBACK comes.
    pub fn deliver(&mut self, topic: &str, payload: &str) -> anyhow::Result<()> {
        let mut bytes = BytesMut::new();
        Self::publish(&mut bytes, 1, topic, payload)?;
        self.send(&bytes)?;
        match self.receive()? {
            Packet::PubAck(ack) if ack.pkid == 1 => Ok(()),
            other => bail!("{other:?} instead of PUBACK"),
        }
    }

    /// Whether the other side has closed the connection, or does within half a minute without saying anything more.
    ///
    /// # Errors
    /// Where it says something.
    pub fn is_closed(&mut self) -> anyhow::Result<bool> {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => Ok(true),
            Ok(_) => bail!("something came instead of the end"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(true),
            Err(_) => Ok(false),
        }
    }
}
