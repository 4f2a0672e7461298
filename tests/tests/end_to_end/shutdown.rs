//! SIGTERM under load: the service drains and goes, and what it acknowledged is there when it comes back.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use harbinger_tests::{
    mqtt::Connection,
    server::{SCOPES, Server, until},
};

use crate::gateway::Gateway;

/// Beside the load there is everything that could hold a shutdown up: a live stream that never ends by itself, a keep-alive
/// HTTP connection without a request, and an MQTT connection that says nothing.
#[test]
fn sigterm_under_load_drains_and_exits_within_ten_seconds() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]).unwrap();
    let key = server.key("acme", SCOPES).unwrap();
    let client = server.client(&key);
    let mut stream = client.send("GET", "/api/v1/stream", &[], &[]).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first[9..], b"200", "the live stream is open");
    let _silent_http = std::net::TcpStream::connect(server.api).unwrap();
    let _silent_mqtt = Connection::open(server.mqtt, "silent", None).unwrap();

    let mut gateways: Vec<Gateway> = (0..4).map(|number| Gateway::new("acme", number, 5)).collect();
    let address = server.mqtt;
    let took = thread::scope(|scope| {
        for gateway in &mut gateways {
            scope.spawn(move || gateway.publish(address, 1_000_000));
        }
        let enough = || Ok((client.metric("harbinger_ingest_mqtt_acknowledged_total", "")? > 2_000.0).then_some(()));
        until(Duration::from_secs(60), "2,000 acknowledgements", enough).unwrap();
        let told = Instant::now();
        let status = server.process.terminate(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(0), "{}", server.process.printed().join("\n"));
        told.elapsed()
    });
    assert!(took < Duration::from_secs(10), "stopping took {took:?}");
    eprintln!("stopped in {took:?}");

    let server = Server::start(data.path(), &[]).unwrap();
    let client = server.client(&key);
    for gateway in &mut gateways {
        assert!(gateway.acknowledged() > 0);
        assert!(gateway.publish(server.mqtt, 0), "what was owed is not acknowledged");
        gateway.check(&client);
    }
}
