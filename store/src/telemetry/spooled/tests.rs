//! Remote servers under test: the generic suite on the real servers, then what only a server can put a store through -
//! outages, restarts, lost memory, and crashes of ours in between.

use std::{collections::BTreeMap, path::Path};

use harbinger_core::{ManualClock, Reading};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::telemetry::{
    servers::{Kind, Server, shared},
    suite::{Fixture, append, at, key, reading, scan, signal, telemetry_store_suite},
};

mod crash;
mod differences;
mod model;
mod outage;
mod watched;

/// Ships only when it is told to, and holds nothing back.
fn at_once() -> SpoolOptions {
    SpoolOptions { hold: Duration::from_millis(0), ..ten_minutes() }
}

/// Ships only when it is told to.
fn ten_minutes() -> SpoolOptions {
    SpoolOptions { interval: std::time::Duration::from_secs(3600), ..SpoolOptions::default() }
}

fn file(folder: &TempDir) -> Options {
    Options::at(folder.path().join("telemetry.db"))
}

async fn open(local: Options, remote: &Arc<dyn Remote>, options: SpoolOptions) -> Arc<SpooledStore> {
    SpooledStore::open(local, remote.clone(), Arc::new(ManualClock::default()), options).await.unwrap()
}

/// An empty store on a database of its own; `None` where the server is not installed.
async fn fixture(kind: Kind) -> Option<Fixture> {
    let remote = shared(kind).await?;
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    Some(Fixture { store, _folder: Some(folder) })
}

/// Readings that compare by the bits of their values: NaN is not itself.
fn bits(readings: &Readings) -> Vec<(Vec<Timestamp>, SignalId, Vec<u64>)> {
    let columns = readings.columns.iter();
    columns
        .map(|(signal, column)| (readings.times.clone(), signal.clone(), column.iter().map(|v| v.to_bits()).collect()))
        .collect()
}

/// How many rows a table of the local file has.
fn rows(folder: &Path, table: &str) -> i64 {
    let file = Connection::open(folder.join("telemetry.db")).unwrap();
    file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// What the server by itself has of a device.
async fn on_server(remote: &Arc<dyn Remote>, device: &str) -> Readings {
    remote.settle().await.unwrap();
    let range = TimeRange { from: at(-1_000_000), to: at(1_000_000) };
    let (mut all, mut range) = (Readings::default(), range);
    while range.from < range.to {
        let page = remote.page(&key(device), range, None, 1000).await.unwrap();
        all = overlay(all, page.readings);
        range.from = page.read_to;
    }
    all
}

macro_rules! on_every_server {
    ($($test:ident,)*) => {
        mod influxdb {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() { super::$test($crate::telemetry::servers::Kind::InfluxDb).await })*
        }
        mod victoria_metrics {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() { super::$test($crate::telemetry::servers::Kind::VictoriaMetrics).await })*
        }
    };
}
use on_every_server;

mod suite_on_influxdb {
    use super::*;

    telemetry_store_suite!(match fixture(Kind::InfluxDb).await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod suite_on_victoria_metrics {
    use super::*;

    telemetry_store_suite!(match fixture(Kind::VictoriaMetrics).await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod suite_on_victoria_metrics_by_influxdb2 {
    use super::*;

    telemetry_store_suite!(match fixture(Kind::VictoriaMetricsByInfluxdb2).await {
        Some(fixture) => fixture,
        None => return,
    });
}
