//! The server is down for an hour under load; it is restarted and has forgotten.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{watched::Watched, *};

const DEVICES: i64 = 20;
const BATCHES: i64 = 1000;

fn name(device: i64) -> String {
    format!("device-{device}")
}

/// A batch of one reading of each device; every fifth has one that is late by some minutes too.
fn batch(number: i64) -> Vec<Reading> {
    let value = |device: i64| ((number * 31 + device * 7) % 1000) as f64 / 8.0;
    let mut batch: Vec<Reading> =
        (0..DEVICES).map(|device| reading(&name(device), 2 * number, &[("x", value(device))])).collect();
    if number % 5 == 4 {
        batch.push(reading(&name(number % DEVICES), 2 * number - 7, &[("x", value(0))]));
    }
    batch
}

fn expected() -> Vec<Readings> {
    let mut all: Vec<BTreeMap<Timestamp, Vec<(SignalId, f64)>>> = vec![BTreeMap::new(); DEVICES as usize];
    for reading in (0..BATCHES).flat_map(batch) {
        let device: usize = reading.key.device.as_str().strip_prefix("device-").unwrap().parse().unwrap();
        all[device].insert(reading.ts, reading.values);
    }
    let readings = |device: &BTreeMap<Timestamp, Vec<(SignalId, f64)>>| {
        let mut readings = Readings::default();
        device.iter().for_each(|(ts, values)| readings.push(*ts, values));
        readings
    };
    all.iter().map(readings).collect()
}

/// Goal: the server is down for most of the load: nothing is lost or doubled, the order is kept, memory stays bounded, progress
/// is seen. Method: small bounds, so that an hour of load is a second; the task ships by itself.
async fn an_outage_under_load_loses_nothing(kind: Kind) {
    outage(kind, false).await;
}

/// The same where both runs of the server begin in one second, by which alone VictoriaMetrics tells them apart.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_without_a_sign_of_a_restart_loses_nothing() {
    outage(Kind::VictoriaMetrics, true).await;
}

async fn outage(kind: Kind, hides_restarts: bool) {
    let Some(mut server) = Server::start(kind) else { return };
    let client = server.client("outage").await;
    let mut watched = Watched::new(client.clone(), |_| false);
    watched.run = hides_restarts.then(AtomicU32::default);
    let watched = Arc::new(watched);
    let remote: Arc<dyn Remote> = watched.clone();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(0)));
    let options = SpoolOptions { interval: std::time::Duration::from_millis(50), ..SpoolOptions::default() };
    let local = Options { log_readings_max: 2000, ..file(&folder) };
    let store = SpooledStore::open(local, remote, clock.clone(), options).await.unwrap();
    let mut in_log_max = 0;
    for number in 0..BATCHES {
        match number {
            100 => {
                until("the first batches are sent", &store, |spool| spool.samples_sent > 0).await;
                server.kill();
            }
            110 => until("the outage is seen", &store, |spool| spool.failing.is_some()).await,
            900 => {
                let spool = store.spool().await.unwrap().unwrap();
                assert!(spool.samples_waiting > 14_000 && spool.failing.is_some(), "{spool:?}");
                // What the new run may have lost is sent again, from the oldest on.
                in_order(&std::mem::take(&mut *watched.written.lock().unwrap()));
                server.restart();
            }
            _ => {}
        }
        let size = batch(number).len() as u64;
        assert_eq!(append(&*store, batch(number)).await.stored, size);
        if number % 50 == 0 {
            in_log_max = in_log_max.max(store.size().await.unwrap().readings_in_log);
            // What has never been sent is read although the server is down.
            let newest = TimeRange { from: at(2 * number), to: Timestamp::MAX };
            assert_eq!(store.scan(&key(&name(3)), newest, None).await.unwrap().len(), 1);
        }
    }
    assert!(in_log_max < 4 * 2000, "{in_log_max} readings in memory");
    until("everything is sent", &store, |spool| spool.failing.is_none() && spool.samples_waiting == 0).await;
    in_order(&watched.written.lock().unwrap());
    clock.advance(Duration::from_secs(601));
    store.compact().await.unwrap();
    let expected = expected();
    // A server that starts after a kill may take a while until it finds all that it has.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(40);
    loop {
        let keys = (0..DEVICES).map(|device| key(&name(device))).collect();
        let found = store.scan_many(keys, TimeRange::ALL).await.unwrap();
        if found == expected || tokio::time::Instant::now() > deadline {
            assert_eq!(found, expected);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // Where no restart was seen, it is now that what the killed server had lost is found missing, and sent again.
    store.compact().await.unwrap();
    for (device, expected) in (0..).zip(&expected) {
        assert_eq!(on_server(&client, &name(device)).await, *expected);
    }
    clock.advance(Duration::from_secs(601));
    store.compact().await.unwrap();
    assert_eq!(rows(folder.path(), "held"), 0);
    let samples: usize = expected.iter().map(Readings::len).sum();
    assert_eq!(store.size().await.unwrap().samples, samples as u64);
    store.close().await.unwrap();
}

/// The load reports in time order, but for readings some minutes late: no run of points begins long before one that was sent
/// earlier ended.
fn in_order(written: &[(DeviceKey, Timestamp, Timestamp)]) {
    let mut newest: BTreeMap<&DeviceKey, Timestamp> = BTreeMap::new();
    for (device, first, last) in written {
        let before = newest.entry(device).or_insert(Timestamp::MIN);
        assert!(*first + Duration::from_secs(60 * 60 * 24) > *before, "{device}: {first} after {before}");
        *before = (*before).max(*last);
    }
}

async fn until(what: &str, store: &SpooledStore, reached: impl Fn(&Spool) -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(40);
    loop {
        let spool = store.spool().await.unwrap().unwrap();
        if reached(&spool) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: {spool:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// While the server is down a repeat of what it has cannot be told from news: it counts as stored, and changes nothing.
async fn a_repeat_during_an_outage_counts_as_stored(kind: Kind) {
    let Some(mut server) = Server::start(kind) else { return };
    let remote = server.client("repeats").await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(0)));
    let store = SpooledStore::open(file(&folder), remote.clone(), clock.clone(), ten_minutes()).await.unwrap();
    let readings = || (0..20).map(|i| reading("a", i, &[("x", i as f64)])).collect::<Vec<_>>();
    append(&*store, readings()).await;
    store.compact().await.unwrap();
    clock.advance(Duration::from_secs(601));
    store.compact().await.unwrap();
    assert_eq!(rows(folder.path(), "held"), 0);
    assert_eq!(append(&*store, readings()[..5].to_vec()).await.duplicate, 5);
    server.stop();
    store.compact().await.unwrap();
    let done = append(&*store, readings()).await;
    assert_eq!((done.stored, done.duplicate), (15, 5));
    assert_eq!(append(&*store, readings()).await.duplicate, 20);
    let unread = store.scan(&key("a"), TimeRange::ALL, None).await;
    assert!(matches!(&unread, Err(error @ Error::Remote { .. }) if error.may_retry()), "{unread:?}");
    server.restart();
    server.answers(&*remote).await;
    store.compact().await.unwrap();
    assert_eq!(scan(&*store, "a").await.len(), 20);
    assert_eq!(store.size().await.unwrap().samples, 20);
    assert_eq!(on_server(&remote, "a").await.len(), 20);
}

/// Goal: what VictoriaMetrics acknowledged and lost when it was killed is sent again. Method: it is killed at once after it
/// answered, as often as it takes to lose something.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_had_not_synced_is_sent_again() {
    let Some(mut server) = Server::start(Kind::VictoriaMetrics) else { return };
    let remote = server.client("restart").await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(0)));
    let store = SpooledStore::open(file(&folder), remote.clone(), clock.clone(), ten_minutes()).await.unwrap();
    let (mut readings, mut lost) = (0, false);
    while !lost {
        assert!(readings < 1000, "the server never loses anything");
        append(&*store, (readings..readings + 100).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
        readings += 100;
        store.compact().await.unwrap();
        server.runs_for_seconds(2).await;
        append(&*store, vec![reading("a", readings, &[("x", -1.0)])]).await;
        readings += 1;
        store.compact().await.unwrap();
        server.kill();
        server.restart();
        server.answers(&*remote).await;
        lost = (on_server(&remote, "a").await.len() as i64) < readings;
        assert_eq!(scan(&*store, "a").await.len() as i64, readings);
    }
    store.compact().await.unwrap();
    assert_eq!(on_server(&remote, "a").await.len() as i64, readings, "sent again");
    assert!(rows(folder.path(), "held") > 0, "and kept, in case it is killed again");
    clock.advance(Duration::from_secs(601));
    store.compact().await.unwrap();
    assert_eq!(rows(folder.path(), "held"), 0);
    assert_eq!(scan(&*store, "a").await.len() as i64, readings);
    assert_eq!(store.size().await.unwrap().samples as i64, readings);
}

/// Goal: what the server took and lost is sent again although no restart was seen, and kept until it is there.
async fn a_loss_without_a_sign_of_a_restart_is_sent_again(kind: Kind) {
    let Some(server) = shared(kind).await else { return };
    let watched = Arc::new(Watched::new(server.clone(), |_| false));
    let remote: Arc<dyn Remote> = watched.clone();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(0)));
    let store = SpooledStore::open(file(&folder), remote, clock.clone(), ten_minutes()).await.unwrap();
    let some = |times: std::ops::Range<i64>| times.map(|i| reading("a", i, &[("x", i as f64)])).collect::<Vec<_>>();
    append(&*store, some(0..20)).await;
    store.compact().await.unwrap();
    watched.forgets.store(true, Ordering::SeqCst);
    // After the first, before them, and among them as a correction.
    append(&*store, [some(20..25), some(-5..0), vec![reading("a", 7, &[("x", 7.0), ("y", 1.0)])]].concat()).await;
    store.compact().await.unwrap();
    watched.forgets.store(false, Ordering::SeqCst);
    let expected = bits(&scan(&*store, "a").await);
    assert_eq!((expected[0].0.len(), on_server(&server, "a").await.len()), (30, 20));

    clock.advance(Duration::from_secs(601));
    store.compact().await.unwrap();
    assert_eq!(store.spool().await.unwrap().unwrap().samples_waiting, 11, "found missing");
    store.compact().await.unwrap();
    assert_eq!(bits(&on_server(&server, "a").await), expected);
    assert!(rows(folder.path(), "held") > 0, "kept, in case it is lost once more");
    assert_eq!(bits(&scan(&*store, "a").await), expected);
    assert_eq!(store.size().await.unwrap().samples, 31);
    clock.advance(Duration::from_secs(601));
    store.compact().await.unwrap();
    assert_eq!(rows(folder.path(), "held"), 0);
    assert_eq!(bits(&scan(&*store, "a").await), expected);
    assert_eq!(store.size().await.unwrap().samples, 31);
}

/// What the server says to have taken and never has is sent twice, not for ever; it stays here.
async fn what_is_lost_every_time_stays_here(kind: Kind) {
    let Some(server) = shared(kind).await else { return };
    let watched = Arc::new(Watched::new(server.clone(), |_| false));
    watched.forgets.store(true, Ordering::SeqCst);
    let remote: Arc<dyn Remote> = watched.clone();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(0)));
    let store = SpooledStore::open(file(&folder), remote, clock.clone(), ten_minutes()).await.unwrap();
    append(&*store, (0..20).map(|i| reading("a", i, &[("x", i as f64)])).collect()).await;
    for _ in 0..5 {
        store.compact().await.unwrap();
        clock.advance(Duration::from_secs(601));
        assert_eq!(scan(&*store, "a").await.len(), 20);
    }
    assert_eq!(watched.written.lock().unwrap().len(), 2);
    let spool = store.spool().await.unwrap().unwrap();
    assert_eq!((rows(folder.path(), "held"), spool.samples_waiting, spool.failing), (1, 0, None));
    assert_eq!(store.size().await.unwrap().samples, 20);
}

on_every_server!(
    an_outage_under_load_loses_nothing,
    a_repeat_during_an_outage_counts_as_stored,
    a_loss_without_a_sign_of_a_restart_is_sent_again,
    what_is_lost_every_time_stays_here,
);
