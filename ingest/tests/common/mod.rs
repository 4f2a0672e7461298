//! What the listener's tests share: a running listener, a raw client, and a store that can be held and filled.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use harbinger_core::{
    DeviceEvent, DeviceId, DeviceKey, SignalId, SystemClock, TenantId, TimeRange, Timestamp,
    history::{Closed, Readings, Timeline},
};
use harbinger_ingest::{
    AnonymousOnLoopback, Authenticator, OpenRegistrar, Options, Pipeline, Snapshot,
    mqtt::{Handle, Listener},
};
use harbinger_store::{
    Appended, Batch,
    telemetry::{
        DataClass, Deleted, DeviceExtent, Error, Latest, MemoryStore, QuarantineEntry, SharedStore, StoreSize,
        TelemetryStore, Windows,
    },
};
use rumqttc::mqttbytes::{
    QoS,
    v4::{Connect, Packet, Publish},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Long enough for the slowest machine, short enough to end a hanging test.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn deadline<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("the deadline passed")
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let until = std::time::Instant::now() + DEADLINE;
        while !condition() {
            assert!(std::time::Instant::now() < until, "never came true: {place}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[track_caller]
pub(crate) fn accounted(snapshot: Snapshot) {
    assert!(snapshot.balances(), "{snapshot:?}");
}

pub(crate) async fn poll_until(events: &mut rumqttc::EventLoop) {
    while events.poll().await.is_ok() {}
}

/// The memory store behind a gate: appends wait until it is open, and fail while the disk is full.
pub(crate) struct Gated {
    inner: MemoryStore,
    gate: watch::Sender<bool>,
    held: watch::Sender<u64>,
    full: AtomicBool,
    pub(crate) appends: AtomicU64,
}

impl Gated {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            gate: watch::Sender::new(false),
            held: watch::Sender::new(0),
            full: AtomicBool::new(false),
            appends: AtomicU64::new(0),
        })
    }

    pub(crate) fn opened() -> Arc<Self> {
        let gated = Self::new();
        gated.open();
        gated
    }

    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }

    pub(crate) fn fill_disk(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Waits until `appends` have come to the gate.
    pub(crate) async fn held(&self, appends: u64) {
        self.held.subscribe().wait_for(|held| *held >= appends).await.unwrap();
    }
}

#[async_trait]
impl TelemetryStore for Gated {
    async fn append(&self, batch: Batch) -> Result<Appended, Error> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.held.send_modify(|held| *held += 1);
        self.gate.subscribe().wait_for(|open| *open).await.map_err(|_| Error::Closed)?;
        if self.full.load(Ordering::SeqCst) {
            return Err(Error::Full { path: "telemetry.db".to_owned() });
        }
        self.inner.append(batch).await
    }
    fn appended(&self) -> watch::Receiver<u64> {
        self.inner.appended()
    }
    async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        self.inner.tenants().await
    }
    async fn extents(&self, tenant: &TenantId) -> Result<Vec<DeviceExtent>, Error> {
        self.inner.extents(tenant).await
    }
    async fn scan(&self, key: &DeviceKey, range: TimeRange, signals: Option<&[SignalId]>) -> Result<Readings, Error> {
        self.inner.scan(key, range, signals).await
    }
    async fn scan_many(&self, keys: Vec<DeviceKey>, range: TimeRange) -> Result<Vec<Readings>, Error> {
        self.inner.scan_many(keys, range).await
    }
    async fn latest(&self, key: &DeviceKey) -> Result<Vec<Latest>, Error> {
        self.inner.latest(key).await
    }
    async fn summaries(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        step: harbinger_core::Duration,
        closed: Closed,
    ) -> Result<Timeline, Error> {
        self.inner.summaries(key, range, signals, step, closed).await
    }
    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        limit: usize,
    ) -> Result<Readings, Error> {
        self.inner.page(key, range, signals, limit).await
    }
    async fn windows(
        &self,
        keys: Vec<DeviceKey>,
        at: Timestamp,
        lengths: &[harbinger_core::Duration],
    ) -> Result<Vec<Windows>, Error> {
        self.inner.windows(keys, at, lengths).await
    }
    async fn events(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        range: TimeRange,
    ) -> Result<Vec<DeviceEvent>, Error> {
        self.inner.events(tenant, device, range).await
    }
    async fn retain(&self, tenant: &TenantId, class: DataClass, before: Timestamp) -> Result<(), Error> {
        self.inner.retain(tenant, class, before).await
    }
    async fn delete_device(&self, key: &DeviceKey) -> Result<Deleted, Error> {
        self.inner.delete_device(key).await
    }
    async fn quarantine(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineEntry>, Error> {
        self.inner.quarantine(tenant, after, limit).await
    }
    async fn remove_quarantined(&self, id: i64) -> Result<bool, Error> {
        self.inner.remove_quarantined(id).await
    }
    async fn compact(&self) -> Result<(), Error> {
        self.inner.compact().await
    }
    async fn size(&self) -> Result<StoreSize, Error> {
        self.inner.size().await
    }
    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// A listener on a free port.
pub(crate) struct Harness {
    pub(crate) store: SharedStore,
    pub(crate) pipeline: Pipeline,
    pub(crate) handle: Handle,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Harness {
    pub(crate) async fn start(options: Options) -> Self {
        Self::start_with(options, Gated::opened()).await
    }

    pub(crate) async fn start_with(options: Options, store: Arc<Gated>) -> Self {
        Self::start_as(options, store, Arc::new(AnonymousOnLoopback)).await
    }

    pub(crate) async fn start_as(mut options: Options, store: Arc<Gated>, who: Arc<dyn Authenticator>) -> Self {
        options.mqtt.address.set_port(0);
        let store: SharedStore = store;
        let pipeline =
            Pipeline::new(options.pipeline, Arc::clone(&store), Arc::new(SystemClock), Arc::new(OpenRegistrar));
        let listener = Listener::bind(options.mqtt, pipeline.clone(), who).await.unwrap();
        let (handle, shutdown) = (listener.handle(), CancellationToken::new());
        let task = tokio::spawn(listener.run(shutdown.clone()));
        Self { store, pipeline, handle, shutdown, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    /// Stops the listener; every connection ends and every reading is accounted for.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        deadline(self.task).await.unwrap();
        let snapshot = self.pipeline.metrics().snapshot();
        accounted(snapshot);
        assert_eq!((snapshot.connections, snapshot.in_flight), (0, 0));
    }
}

/// A client of which each byte is ours.
pub(crate) struct Raw {
    stream: TcpStream,
    read: BytesMut,
}

impl Raw {
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: BytesMut::new() }
    }

    pub(crate) async fn open(address: SocketAddr, client_id: &str) -> Self {
        let mut raw = Self::dial(address).await;
        raw.send(&Packet::Connect(Connect { keep_alive: 60, ..Connect::new(client_id) })).await;
        assert!(matches!(raw.packet().await, Some(Packet::ConnAck(_))));
        raw
    }

    pub(crate) async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The other side may have closed already, which the test sees when it reads.
        let _ = self.stream.write_all(bytes).await;
    }

    pub(crate) async fn publish(&mut self, topic: &str, pkid: u16, payload: &str) {
        let publish = Publish { pkid, ..Publish::new(topic, QoS::AtLeastOnce, payload) };
        self.send(&Packet::Publish(publish)).await;
    }

    /// The next packet; `None` when the connection is closed.
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.read, 1 << 20) {
                return Some(packet);
            }
            match deadline(self.stream.read_buf(&mut self.read)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// All bytes up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = deadline(self.stream.read_to_end(&mut rest)).await;
        rest
    }
}
