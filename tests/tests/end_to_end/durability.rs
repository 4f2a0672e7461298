//! `kill -9` in the middle of QoS 1, again and again on one data folder: PUBACK means "on disk", or it means nothing.

use std::{thread, time::Duration};

use harbinger_tests::server::{SCOPES, Server};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::gateway::Gateway;

const ROUNDS: usize = 20;
const GATEWAYS: usize = 4;
const DEVICES: usize = 5;
/// More than a gateway gets rid of before the server is killed.
const ENDLESS: usize = 1_000_000;

#[expect(clippy::disallowed_methods, reason = "the fault's moment, drawn from a seed: nothing is waited for")]
fn kill_after(moment: Duration, mut server: Server) {
    thread::sleep(moment);
    server.kill().unwrap();
}

/// Four gateways publish with 64 messages on their way each; the server is killed up to 300 ms later, while they wait for
/// acknowledgements, and started again on what it left. Unacknowledged readings are sent again, as QoS 1 demands.
#[test]
fn what_was_acknowledged_survives_twenty_kills_and_nothing_is_there_twice() {
    let data = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let mut gateways: Vec<Gateway> = (0..GATEWAYS).map(|number| Gateway::new("acme", number, DEVICES)).collect();
    let mut kills_under_load = 0;
    for round in 0..ROUNDS {
        let server = Server::start(data.path(), &[]).unwrap();
        let moment = Duration::from_micros(random.random_range(1_000..300_000));
        let address = server.mqtt;
        let killer = thread::spawn(move || kill_after(moment, server));
        let cut_off = thread::scope(|scope| {
            let running: Vec<_> =
                gateways.iter_mut().map(|gateway| scope.spawn(move || !gateway.publish(address, ENDLESS))).collect();
            running.into_iter().all(|gateway| gateway.join().unwrap())
        });
        killer.join().unwrap();
        assert!(cut_off, "round {round}: a gateway came to an end of what has none");
        kills_under_load += usize::from(gateways.iter().any(Gateway::owes));
    }
    assert!(kills_under_load > ROUNDS / 2, "the server was killed {kills_under_load} times with messages on their way");

    let mut server = Server::start(data.path(), &[]).unwrap();
    let client = server.client(&server.key("acme", SCOPES).unwrap());
    for gateway in &mut gateways {
        assert!(gateway.publish(server.mqtt, 0), "what was owed is not acknowledged");
        gateway.check(&client);
    }
    let acknowledged: usize = gateways.iter().map(Gateway::acknowledged).sum();
    eprintln!("{acknowledged} readings acknowledged over {ROUNDS} kills");
    assert!(acknowledged > 1_000, "too little was sent to prove anything: {acknowledged}");

    let counted = |outcome: &str| {
        client.metric("harbinger_ingest_readings_total", &format!("outcome=\"{outcome}\"")).unwrap() as usize
    };
    let before = counted("duplicate");
    gateways[0].repeat(server.mqtt, 100);
    assert_eq!(counted("duplicate"), before + 100, "a repeat is a duplicate");
    assert_eq!(counted("corrected"), 0);
    assert_eq!(counted("quarantined"), 0);

    server.kill().unwrap();
    let server = Server::start(data.path(), &[]).unwrap();
    let client = server.client(&server.key("acme", SCOPES).unwrap());
    for gateway in &gateways {
        gateway.check(&client);
    }
    let devices = client.items("/api/v1/devices").unwrap();
    assert_eq!(devices.len(), gateways.iter().map(Gateway::devices).sum::<usize>(), "each device is registered once");
}
