//! Load for an MQTT listener or broker: how many messages a second are acknowledged with QoS 1, and how long each takes.
//!
//! ```text
//! mqtt_load compare                 every case, our listener beside mosquitto, as a Markdown table
//! mqtt_load serve [memory|embedded DIRECTORY] [ADDRESS]
//! mqtt_load publish ADDRESS CONNECTIONS WINDOW MESSAGES [subscribe]
//! ```
//!
//! `subscribe` adds one QoS 1 subscriber to everything, and the run ends when it has every message: a broker that nobody
//! listens to has nothing to do. A message is about 190 bytes of JSON with 6 values; no two are the same reading.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use harbinger_core::SystemClock;
use harbinger_ingest::{AnonymousOnLoopback, OpenRegistrar, Options, Pipeline, mqtt::Listener};
use harbinger_store::telemetry::{self, EmbeddedStore, MemoryStore, SharedStore};
use rumqttc::mqttbytes::{
    QoS,
    v4::{Connect, Packet, PubAck, Publish, Subscribe},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The cases that `docs/benchmarks.md` shows: connections, window, messages.
const CASES: [(usize, usize, usize); 2] = [(50, 100, 2_000_000), (1_000, 1, 400_000)];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", rest @ ..] => serve(rest).await,
        ["publish", address, connections, window, messages, rest @ ..] => {
            let load = Load { connections: connections.parse()?, window: window.parse()?, messages: messages.parse()? };
            let report = load.run(address.parse()?, rest.contains(&"subscribe")).await?;
            println!("{report}");
            Ok(())
        }
        ["compare"] => compare().await,
        _ => Err(
            "usage: mqtt_load compare | serve [memory|embedded DIR] [ADDRESS] | publish ADDRESS CONNECTIONS WINDOW \
                  MESSAGES [subscribe]"
                .into(),
        ),
    }
}

/// Runs our listener until Ctrl-C; prints its address on the first line.
async fn serve(arguments: &[&str]) -> Result<(), Failure> {
    let (store, rest) = store(arguments)?;
    let mut options = Options::default();
    options.mqtt.address = rest.first().unwrap_or(&"127.0.0.1:0").parse()?;
    let pipeline = Pipeline::new(options.pipeline, Arc::clone(&store), Arc::new(SystemClock), Arc::new(OpenRegistrar));
    let listener = Listener::bind(options.mqtt, pipeline.clone(), Arc::new(AnonymousOnLoopback)).await?;
    println!("{}", listener.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        // Ends with Ctrl-C, or when whoever started this closes its end.
        let mut input = tokio::io::stdin();
        let mut byte = [0];
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = input.read(&mut byte) => {}
        }
        stop.cancel();
    });
    listener.run(shutdown).await;
    store.close().await?;
    eprintln!("{:?}", pipeline.metrics().snapshot());
    Ok(())
}

fn store<'a>(arguments: &'a [&'a str]) -> Result<(SharedStore, &'a [&'a str]), Failure> {
    match arguments {
        ["embedded", directory, rest @ ..] => {
            let path = std::path::Path::new(directory).join("telemetry.db");
            Ok((EmbeddedStore::open(telemetry::Options::at(path))?, rest))
        }
        ["memory", rest @ ..] | rest => Ok((Arc::new(MemoryStore::new()), rest)),
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
struct Load {
    connections: usize,
    window: usize,
    messages: usize,
}

/// What came of it.
#[derive(Debug)]
struct Report {
    messages: usize,
    seconds: f64,
    /// Milliseconds from writing a PUBLISH to reading its PUBACK, at the middle and at the 99th of a hundred.
    latency_ms: (f64, f64),
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.messages as f64 / self.seconds;
        let (middle, high) = self.latency_ms;
        write!(f, "{rate:>9.0} messages/s, PUBACK after {middle:.2} ms (p50), {high:.2} ms (p99)")
    }
}

impl Load {
    async fn run(self, address: SocketAddr, subscribe: bool) -> Result<Report, Failure> {
        let each = self.messages / self.connections;
        let total = each * self.connections;
        let subscriber = match subscribe {
            true => Some(subscriber(address, total).await?),
            false => None,
        };
        let mut publishers = Vec::new();
        for number in 0..self.connections {
            publishers.push(Publisher::open(address, number, self.window, each).await?);
        }
        let started = Instant::now();
        let running: Vec<_> = publishers.into_iter().map(|publisher| tokio::spawn(publisher.run())).collect();
        let mut latencies = Vec::new();
        for publisher in running {
            latencies.append(&mut publisher.await??);
        }
        if let Some(subscriber) = subscriber {
            subscriber.await??;
        }
        let seconds = started.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        Ok(Report { messages: total, seconds, latency_ms: (at(0.5), at(0.99)) })
    }
}

/// A socket on which CONNECT was accepted.
async fn connect(address: SocketAddr, client_id: &str) -> Result<(TcpStream, BytesMut), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut bytes = BytesMut::new();
    Connect { keep_alive: 600, ..Connect::new(client_id) }.write(&mut bytes)?;
    stream.write_all(&bytes).await?;
    bytes.clear();
    match read_packet(&mut stream, &mut bytes).await? {
        Packet::ConnAck(_) => Ok((stream, bytes)),
        other => Err(format!("{other:?} instead of CONNACK").into()),
    }
}

async fn read_packet(stream: &mut TcpStream, bytes: &mut BytesMut) -> Result<Packet, Failure> {
    loop {
        match Packet::read(bytes, 1 << 20) {
            Ok(packet) => return Ok(packet),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err("the connection was closed".into());
        }
    }
}

/// Subscribes to everything; the task ends when `messages` have arrived.
async fn subscriber(
    address: SocketAddr,
    messages: usize,
) -> Result<tokio::task::JoinHandle<Result<(), Failure>>, Failure> {
    let (mut stream, mut read) = connect(address, "load-subscriber").await?;
    let mut write = BytesMut::new();
    Subscribe { pkid: 1, ..Subscribe::new("harbinger/#", QoS::AtLeastOnce) }.write(&mut write)?;
    stream.write_all_buf(&mut write).await?;
    let Packet::SubAck(_) = read_packet(&mut stream, &mut read).await? else { return Err("no SUBACK".into()) };
    Ok(tokio::spawn(async move {
        let mut left = messages;
        while left > 0 {
            if let Packet::Publish(publish) = read_packet(&mut stream, &mut read).await? {
                left -= 1;
                PubAck::new(publish.pkid).write(&mut write)?;
            }
            if read.is_empty() || write.len() > 4_096 {
                stream.write_all_buf(&mut write).await?;
            }
        }
        Ok(())
    }))
}

/// A gateway that keeps `window` messages unacknowledged.
struct Publisher {
    stream: TcpStream,
    read: BytesMut,
    frames: Vec<Frame>,
    window: usize,
    messages: usize,
}

/// An encoded PUBLISH in which the packet identifier and the time are set anew each time.
struct Frame {
    bytes: Vec<u8>,
    pkid_at: usize,
    ts_at: usize,
}

/// 2026-01-01 in milliseconds, 13 digits as all times up to 2286.
const START: u64 = 1_767_225_600_000;

impl Frame {
    fn new(device: usize, variant: usize) -> Result<Self, Failure> {
        let topic = format!("harbinger/v1/load/gateway-{device:05}/telemetry");
        let payload = format!(
            r#"{{"ts":{START},"values":{{"cpu_package_temperature_c":{}.{},"inlet_temperature_c":24.5,"fan1_speed_rpm":{},"fan2_speed_rpm":{},"power_input_w":{}.5,"memory_corrected_errors":{variant}}}}}"#,
            40 + variant,
            variant % 10,
            8_000 + variant * 7,
            8_100 + variant * 3,
            310 + variant,
        );
        let publish = Publish { pkid: 1, ..Publish::from_bytes(topic, QoS::AtLeastOnce, Bytes::from(payload.clone())) };
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes)?;
        let payload_at = bytes.len() - payload.len();
        Ok(Self { bytes: bytes.to_vec(), pkid_at: payload_at - 2, ts_at: payload_at + r#"{"ts":"#.len() })
    }

    fn write(&mut self, pkid: u16, mut ts: u64, out: &mut Vec<u8>) {
        self.bytes[self.pkid_at..self.pkid_at + 2].copy_from_slice(&pkid.to_be_bytes());
        for digit in self.bytes[self.ts_at..self.ts_at + 13].iter_mut().rev() {
            *digit = b'0' + (ts % 10) as u8;
            ts /= 10;
        }
        out.extend_from_slice(&self.bytes);
    }
}

impl Publisher {
    async fn open(address: SocketAddr, number: usize, window: usize, messages: usize) -> Result<Self, Failure> {
        let (stream, read) = connect(address, &format!("load-{number}")).await?;
        let frames = (0..20).map(|variant| Frame::new(number, variant)).collect::<Result<_, _>>()?;
        Ok(Self { stream, read, frames, window, messages })
    }

    /// Publishes all messages; returns how long each PUBACK took.
    async fn run(mut self) -> Result<Vec<Duration>, Failure> {
        let mut latencies = Vec::with_capacity(self.messages);
        let mut sent_at = vec![Instant::now(); self.window];
        let (mut sent, mut acknowledged) = (0, 0);
        let mut out = Vec::new();
        while acknowledged < self.messages {
            let now = Instant::now();
            while sent < self.messages && sent - acknowledged < self.window {
                let frame = sent % self.frames.len();
                // Packet identifiers go round within 1..=65,000, far above any window.
                self.frames[frame].write((sent % 65_000) as u16 + 1, START + sent as u64 * 1_000, &mut out);
                sent_at[sent % self.window] = now;
                sent += 1;
            }
            self.stream.write_all(&out).await?;
            out.clear();
            if self.read.is_empty() && self.stream.read_buf(&mut self.read).await? == 0 {
                return Err("the connection was closed".into());
            }
            let now = Instant::now();
            while let Ok(packet) = Packet::read(&mut self.read, 1 << 20) {
                let Packet::PubAck(puback) = packet else { continue };
                if usize::from(puback.pkid) != acknowledged % 65_000 + 1 {
                    return Err(format!("PUBACK {} is out of order", puback.pkid).into());
                }
                latencies.push(now - sent_at[acknowledged % self.window]);
                acknowledged += 1;
            }
            if !self.read.is_empty() {
                self.stream.read_buf(&mut self.read).await?;
            }
        }
        Ok(latencies)
    }
}

/// Every case on every server, each server started for it, one after the other on the same machine.
async fn compare() -> Result<(), Failure> {
    println!("| server | connections | window | result |\n|---|---|---|---|");
    for (connections, window, messages) in CASES {
        let load = Load { connections, window, messages };
        for server in [Server::Ours("memory"), Server::Ours("embedded"), Server::Mosquitto] {
            let directory = tempfile::tempdir()?;
            let Some(running) = server.start(directory.path()).await? else { continue };
            let report = load.run(running.address, matches!(server, Server::Mosquitto)).await?;
            println!("| {server} | {connections} | {window} | {report} |");
            running.stop().await?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Server {
    Ours(&'static str),
    Mosquitto,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours(store) => write!(f, "harbinger, {store} store"),
            Self::Mosquitto => f.write_str("mosquitto, QoS 1 to one subscriber"),
        }
    }
}

struct Running {
    address: SocketAddr,
    child: tokio::process::Child,
}

impl Server {
    async fn start(self, directory: &std::path::Path) -> Result<Option<Running>, Failure> {
        match self {
            Self::Ours(store) => {
                let mut command = tokio::process::Command::new(std::env::current_exe()?);
                command.arg("serve").arg(store);
                if store == "embedded" {
                    command.arg(directory);
                }
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
                let output = child.stdout.take().ok_or("no output")?;
                let line = BufReader::new(output).lines().next_line().await?.ok_or("the listener did not start")?;
                Ok(Some(Running { address: line.parse()?, child }))
            }
            Self::Mosquitto => {
                let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let file = directory.join("mosquitto.conf");
                // Without the limits lifted it drops messages that its subscriber is too slow for.
                let limits = "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n";
                std::fs::write(&file, format!("listener {port} 127.0.0.1\nallow_anonymous true\n{limits}"))?;
                let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
                    .into_iter()
                    .find(|program| std::path::Path::new(program).exists());
                let Some(program) = program else {
                    println!("left out: mosquitto is not installed");
                    return Ok(None);
                };
                let mut command = tokio::process::Command::new(program);
                command.arg("-c").arg(&file).stderr(Stdio::null()).kill_on_drop(true);
                let child = command.spawn()?;
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                for _ in 0..500 {
                    if TcpStream::connect(address).await.is_ok() {
                        return Ok(Some(Running { address, child }));
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err("mosquitto did not start".into())
            }
        }
    }
}

impl Running {
    /// Closes the input of ours, which ends it in order; ends mosquitto by its process id.
    async fn stop(mut self) -> Result<(), Failure> {
        match self.child.stdin.take() {
            Some(input) => drop(input),
            None => self.child.start_kill()?,
        }
        self.child.wait().await?;
        Ok(())
    }
}
