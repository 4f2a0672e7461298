//! What is where after shipping, and in what the servers differ: docs/reference/stores.md says the same in words.

use super::*;
use crate::telemetry::{InfluxDb, Settings, WriteApi};

const DIGITS_17: f64 = 0.1 + 0.2;

async fn what_was_shipped_is_on_the_server_alone(kind: Kind) {
    let Some(remote) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    let readings =
        (0..2500).map(|i| reading("a b,c=\"d\"", i, &[("x", i as f64 / 10.0), ("time", 1.0), ("a=b c", 2.0)]));
    let readings: Vec<Reading> = readings.map(|reading| Reading { arrival: true, ..reading }).collect();
    append(&*store, readings).await;
    let expected = scan(&*store, "a b,c=\"d\"").await;
    store.compact().await.unwrap();
    assert_eq!((rows(folder.path(), "log"), rows(folder.path(), "chunks"), rows(folder.path(), "held")), (0, 0, 0));
    assert_eq!(on_server(&remote, "a b,c=\"d\"").await, expected);
    assert_eq!(scan(&*store, "a b,c=\"d\"").await, expected);
    store.close().await.unwrap();
    drop(store);

    let store = open(file(&folder), &remote, at_once()).await;
    assert_eq!(scan(&*store, "a b,c=\"d\"").await, expected);
    assert_eq!(store.extents(&key("a").tenant).await.unwrap()[0].readings, Some((at(0), at(2499))));
    assert_eq!(store.size().await.unwrap().samples, 4 * 2500);
    store.close().await.unwrap();
    drop(store);
    // Without the server the readings would be missing in silence.
    let refused = EmbeddedStore::open(file(&folder));
    assert!(matches!(refused, Err(Error::ServerMissing { devices: 1, .. })), "{refused:?}");
}

/// InfluxDB gives back all bits; VictoriaMetrics some 15 digits, and what it rounds stays here.
async fn a_value_that_the_server_rounds_stays_here(kind: Kind) {
    let Some(remote) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    append(&*store, vec![reading("a", 0, &[("x", DIGITS_17), ("y", 24.5)]), reading("a", 1, &[("x", -0.0)])]).await;
    let expected = scan(&*store, "a").await;
    for _ in 0..2 {
        store.compact().await.unwrap();
        assert_eq!(bits(&scan(&*store, "a").await), bits(&expected));
    }
    let there = on_server(&remote, "a").await;
    let (x, held) = (there.column(&signal("x")).unwrap()[0], rows(folder.path(), "held"));
    match kind {
        Kind::InfluxDb => assert_eq!((x, held), (DIGITS_17, 0)),
        Kind::VictoriaMetrics | Kind::VictoriaMetricsByInfluxdb2 => assert_eq!((x, held), (0.3, 1)),
    }
    assert_eq!(store.size().await.unwrap().samples, 3);
}

/// InfluxDB replaces a sample; VictoriaMetrics would keep both values, so it keeps the first and the correction stays here.
async fn a_correction_outweighs_what_the_server_has(kind: Kind) {
    let Some(remote) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    append(&*store, (0..10).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    store.compact().await.unwrap();
    // There and back: what is kept must not come to light again.
    for value in [50.0, 3.0, 60.0] {
        assert_eq!(append(&*store, vec![reading("a", 3, &[("x", value)])]).await.corrected, 1);
        for _ in 0..2 {
            assert_eq!(scan(&*store, "a").await.column(&signal("x")).unwrap()[3], value);
            store.compact().await.unwrap();
        }
        assert_eq!(append(&*store, vec![reading("a", 3, &[("x", value)])]).await.duplicate, 1);
    }
    store.compact().await.unwrap();
    let there = on_server(&remote, "a").await.column(&signal("x")).unwrap()[3];
    match kind {
        Kind::InfluxDb => assert_eq!((there, rows(folder.path(), "held")), (60.0, 0)),
        Kind::VictoriaMetrics | Kind::VictoriaMetricsByInfluxdb2 => assert_eq!(there, 3.0),
    }
    assert_eq!(store.size().await.unwrap().samples, 10);
}

async fn a_device_deleted_on_the_server_may_come_back(kind: Kind) {
    let Some(remote) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    append(&*store, vec![reading("b", 0, &[("x", 1.0)])]).await;
    for round in 0..2 {
        let value = |i: i64| f64::from(round) + i as f64;
        append(&*store, (0..10).map(|i| reading("a", i, &[("x", value(i))])).collect()).await;
        store.compact().await.unwrap();
        let x = scan(&*store, "a").await.column(&signal("x")).unwrap().to_vec();
        assert_eq!(x, (0..10).map(value).collect::<Vec<_>>());
        assert_eq!(store.delete_device(&key("a")).await.unwrap().samples, 10);
        assert!(scan(&*store, "a").await.is_empty() && on_server(&remote, "a").await.is_empty());
        assert_eq!(store.latest(&key("a")).await.unwrap(), []);
        assert_eq!(store.size().await.unwrap().samples, 1);
    }
    assert_eq!(scan(&*store, "b").await.len(), 1);
}

/// InfluxDB deletes what is old; VictoriaMetrics cannot by time, but reads no longer see it.
async fn what_is_forgotten_stays_forgotten_and_may_arrive_anew(kind: Kind) {
    let Some(remote) = shared(kind).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    append(&*store, (0..100).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    store.compact().await.unwrap();
    store.retain(&key("a").tenant, DataClass::Readings, at(60)).await.unwrap();
    let check = async |store: &SpooledStore, first: i64, readings: usize| {
        let found = scan(store, "a").await;
        assert_eq!((found.times[0], found.len()), (at(first), readings));
        assert_eq!(store.extents(&key("a").tenant).await.unwrap()[0].first, at(first));
        assert_eq!(store.size().await.unwrap().samples, readings as u64);
    };
    check(&store, 60, 40).await;
    let there = on_server(&remote, "a").await.len();
    assert_eq!(there, if kind == Kind::InfluxDb { 40 } else { 100 });
    store.close().await.unwrap();
    drop(store);
    let store = open(file(&folder), &remote, at_once()).await;
    check(&store, 60, 40).await;
    assert_eq!(append(&*store, vec![reading("a", 5, &[("x", 5.0)])]).await.stored, 1);
    store.compact().await.unwrap();
    check(&store, 5, 41).await;
}

/// A field that somebody else made an integer: the server refuses our points of it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn points_that_the_server_refuses_stay_here_and_hold_nothing_up() {
    let Some(server) = Server::start(Kind::InfluxDb) else { return };
    let remote = server.client("shared").await;
    let theirs = format!("{}/write?db=shared&precision=ms", server.settings("shared").url);
    let points = format!("harbinger,tenant=acme,device=a x=1i {}", at(0).millis());
    let answer = reqwest::Client::new().post(theirs).body(points).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");

    let folder = tempfile::tempdir().unwrap();
    let store = open(file(&folder), &remote, at_once()).await;
    append(&*store, vec![reading("a", 1, &[("x", 1.5)]), reading("b", 1, &[("y", 2.5)])]).await;
    for _ in 0..2 {
        store.compact().await.unwrap();
        assert_eq!(scan(&*store, "a").await.column(&signal("x")), Some([1.5].as_slice()));
        assert_eq!(scan(&*store, "b").await.column(&signal("y")), Some([2.5].as_slice()));
    }
    assert_eq!(rows(folder.path(), "held"), 1);
    assert_eq!(on_server(&remote, "b").await.len(), 1);
    assert_eq!(store.spool().await.unwrap().unwrap().failing, None);
}

/// Settings are tried before they are used, and what is wrong is said with its remedy.
#[tokio::test]
async fn a_check_says_what_is_found_or_wrong() {
    let Some(influxdb) = Server::start(Kind::InfluxDb) else { return };
    let found = influxdb.client("there").await.check().await.unwrap();
    assert!(found.contains("1.6") && found.contains("\"there\""), "{found}");
    for (write_api, remedy) in
        [(WriteApi::V1, "CREATE DATABASE \"not there\""), (WriteApi::V2, "influx v1 dbrp create")]
    {
        let settings = Settings { write_api, ..influxdb.settings("not there") };
        let wrong = InfluxDb::new(settings).unwrap().check().await.unwrap_err().to_string();
        assert!(wrong.contains("database not found") && wrong.contains(remedy), "{wrong}");
    }
    let Some(victoria_metrics) = Server::start(Kind::VictoriaMetrics) else { return };
    let found = victoria_metrics.client("any").await.check().await.unwrap();
    assert!(found.contains("keeps readings for 100y"), "{found}");
}

on_every_server!(
    what_was_shipped_is_on_the_server_alone,
    a_value_that_the_server_rounds_stays_here,
    a_correction_outweighs_what_the_server_has,
    a_device_deleted_on_the_server_may_come_back,
    what_is_forgotten_stays_forgotten_and_may_arrive_anew,
);
