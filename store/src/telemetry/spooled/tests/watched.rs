//! A real server, watched on the way: what is written when, answers that are lost, and writes.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::*;
use crate::telemetry::{Failure, remote::Page};

type OnWrite = Box<dyn Fn(usize) -> bool + Send + Sync>;

/// Passes everything on.
pub(super) struct Watched {
    server: Arc<dyn Remote>,
    /// Device, first and last time of each run of points, in the order in which the server took them.
    pub(super) written: Mutex<Vec<(DeviceKey, Timestamp, Timestamp)>>,
    /// Called after the server has taken a write, with its number; whether its answer is lost.
    after_write: OnWrite,
    /// Whether writes are acknowledged and go nowhere: what is left of one when the server is killed after its answer and runs
    /// again within the second.
    pub(super) forgets: AtomicBool,
    /// The run that is told instead of the server's own: one that never changes hides all restarts.
    pub(super) run: Option<AtomicU32>,
}

impl Watched {
    pub(super) fn new(server: Arc<dyn Remote>, after_write: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        let forgets = AtomicBool::new(false);
        Self { server, written: Mutex::default(), after_write: Box::new(after_write), forgets, run: None }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.server.fmt(f)
    }
}

#[async_trait]
impl Remote for Watched {
    fn server(&self) -> &str {
        self.server.server()
    }

    fn takes(&self, ts: Timestamp, value: f64) -> bool {
        self.server.takes(ts, value)
    }

    fn overwrites(&self) -> bool {
        self.server.overwrites()
    }

    async fn instance(&self) -> Result<String, Failure> {
        let own = self.server.instance().await?;
        Ok(self.run.as_ref().map_or(own, |run| run.load(Ordering::SeqCst).to_string()))
    }

    async fn write(&self, devices: &[(DeviceKey, Readings)]) -> Result<(), Failure> {
        if !self.forgets.load(Ordering::SeqCst) {
            self.server.write(devices).await?;
        }
        let number = {
            let mut written = self.written.lock().unwrap();
            let runs = devices.iter().filter(|(_, readings)| !readings.is_empty());
            written
                .extend(runs.map(|(key, readings)| (key.clone(), readings.times[0], *readings.times.last().unwrap())));
            written.len()
        };
        if !(self.after_write)(number) {
            return Ok(());
        }
        let source = Box::new(std::io::Error::other("the answer was lost"));
        Err(Failure::Unreachable { server: self.server().to_owned(), source })
    }

    async fn settle(&self) -> Result<(), Failure> {
        self.server.settle().await
    }

    async fn page(
        &self,
        key: &DeviceKey,
        range: TimeRange,
        signals: Option<&[SignalId]>,
        readings_max: usize,
    ) -> Result<Page, Failure> {
        self.server.page(key, range, signals, readings_max).await
    }

    async fn latest(&self, key: &DeviceKey, range: TimeRange) -> Result<Vec<Latest>, Failure> {
        self.server.latest(key, range).await
    }

    async fn delete(&self, key: &DeviceKey) -> Result<(), Failure> {
        self.server.delete(key).await
    }

    async fn forget(&self, tenant: &TenantId, before: Timestamp) -> Result<(), Failure> {
        self.server.forget(tenant, before).await
    }

    async fn check(&self) -> Result<String, Failure> {
        self.server.check().await
    }
}
