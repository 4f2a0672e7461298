//! A full disk: nothing is acknowledged that is not on it, everybody is told, and with room there the work goes on.

use std::{path::Path, process::Command, time::Duration};

use harbinger_tests::{
    http::Client,
    mqtt::Connection,
    server::{SCOPES, Server, until},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system in memory; unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            eprintln!("left out: cannot mount a tmpfs");
            return None;
        }
        Some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_with_the_machine = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Lines of a batch of readings that no codec makes small.
fn noise(number: usize) -> String {
    let value = |n: usize| (n as f64 * 0.754_877_666_246_692_8).fract() * 1e3 + (n as f64).sqrt();
    let line = |n: usize| {
        let values: Vec<String> = (0..20).map(|signal| format!("\"s{signal}\":{:?}", value(n * 20 + signal))).collect();
        format!(
            "{{\"device\":\"d-1\",\"ts\":{},\"values\":{{{}}}}}\n",
            1_767_225_600_000_u64 + n as u64,
            values.join(",")
        )
    };
    (number * 500..(number + 1) * 500).map(line).collect()
}

fn readings(client: &Client) -> usize {
    client.items("/api/v1/devices/d-1/telemetry?signal=s0&from=2025-01-01T00:00:00Z").unwrap().len()
}

#[test]
fn a_full_disk_refuses_and_recovers_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("24m") else { return };
    let data = disk.path().join("data");
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let mut server = Server::start(&data, &[]).unwrap();
    let key = server.key("acme", SCOPES).unwrap();
    let client = server.client(&key);

    let mut accepted = 0;
    let refused = (0..2_000).find_map(|number| {
        let answer = client.telemetry(&noise(number)).unwrap();
        if answer.status == 200 {
            accepted += 500;
        }
        (answer.status != 200).then_some((number, answer))
    });
    let (number, refused) = refused.expect("the disk never became full");
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("room"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert!(accepted > 0);

    // MQTT 3.1.1 cannot refuse a PUBLISH: there is no PUBACK, and the connection ends, so that the client knows.
    let mut connection = Connection::open(server.mqtt, "device", Some(&key)).unwrap();
    let payload = format!("[{}]", noise(number).trim_end().replace('\n', ",").replace("\"device\":\"d-1\",", ""));
    let error = connection.deliver("harbinger/v1/acme/d-1/telemetry", &payload).unwrap_err();
    eprintln!("a PUBLISH on a full disk: {error}");
    assert_eq!(client.metric("harbinger_ingest_mqtt_acknowledged_total", "").unwrap(), 0.0);
    let said = |line: &str| line.contains("no room left on the device that holds").then_some(());
    server.process.wait_for_line(PATIENCE, said).unwrap();

    // Reading goes on, and what was accepted is there, no more and no less.
    assert_eq!(readings(&client), accepted);

    std::fs::remove_file(&ballast).unwrap();
    until(PATIENCE, "intake to go on", || {
        let answer = client.telemetry(&noise(number))?;
        Ok((answer.status == 200).then_some(()))
    })
    .unwrap();
    let mut connection = Connection::open(server.mqtt, "device", Some(&key)).unwrap();
    connection.deliver("harbinger/v1/acme/d-1/telemetry", &payload).unwrap();
    assert_eq!(readings(&client), accepted + 500);

    server.kill().unwrap();
    let server = Server::start(&data, &[]).unwrap();
    assert_eq!(readings(&server.client(&key)), accepted + 500);
}
