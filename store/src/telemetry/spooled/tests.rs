//! Remote servers under test: the generic suite on the real servers, then what only a server can put a store through -
//! outages, restarts, lost memory, and crashes of ours in between.

use harbinger_core::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::telemetry::{
    servers::{Kind, shared},
    suite::{Fixture, append, at, key, reading, scan, signal, telemetry_store_suite},
};

/// Ships only when it is told to, and holds nothing back.
fn at_once() -> SpoolOptions {
    let hour = std::time::Duration::from_secs(3600);
    SpoolOptions { hold: Duration::from_millis(0), interval: hour, ..SpoolOptions::default() }
}

fn file(folder: &TempDir) -> Options {
    Options::at(folder.path().join("telemetry.db"))
}

async fn open(folder: &TempDir, remote: Arc<dyn Remote>, options: SpoolOptions) -> Arc<SpooledStore> {
    SpooledStore::open(file(folder), remote, Arc::new(ManualClock::default()), options).await.unwrap()
}

/// An empty store on a database of its own; `None` where the server is not installed.
async fn fixture(kind: Kind) -> Option<Fixture> {
    let remote = shared(kind).await?;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, remote, at_once()).await;
    Some(Fixture { store, _folder: Some(folder) })
}

mod on_influxdb {
    use super::*;

    telemetry_store_suite!(match fixture(Kind::InfluxDb).await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod on_victoria_metrics {
    use super::*;

    telemetry_store_suite!(match fixture(Kind::VictoriaMetrics).await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod on_victoria_metrics_by_influxdb2 {
    use super::*;

    telemetry_store_suite!(match fixture(Kind::VictoriaMetricsByInfluxdb2).await {
        Some(fixture) => fixture,
        None => return,
    });
}
