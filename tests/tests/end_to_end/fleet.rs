//! Simulated fleets as bundles on disk, and the command that plays them to a service.

use std::path::Path;

use harbinger_bundle::Bundle;
use harbinger_core::Duration;
use harbinger_sim::{Options, history};
use harbinger_tests::server::{Place, harbinger};
use tempfile::TempDir;

/// A bundle in a folder of its own.
pub(crate) struct Folder {
    /// The bundle that was written.
    pub(crate) bundle: Bundle,
    folder: TempDir,
}

impl Folder {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its path, as an argument.
    pub(crate) fn argument(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }
}

/// A fleet of a tenant with `scale` x 6 servers and `scale` x 3 each of refrigerators and air conditioners, over `days`
/// days, reporting hourly; lives are so short that a component fails every few days in each dozen of devices.
pub(crate) fn small(tenant: &str, scale: u32, days: u32) -> Folder {
    with(tenant, scale, days, Duration::from_hours(1), 11)
}

/// The same with another cadence and seed.
pub(crate) fn with(tenant: &str, scale: u32, days: u32, cadence: Duration, seed: u64) -> Folder {
    let options = Options {
        tenant: tenant.parse().unwrap(),
        servers: 6 * scale,
        refrigerators: 3 * scale,
        air_conditioners: 3 * scale,
        cadence,
        wear_acceleration: 30.0,
        ..Options::default()
    };
    let past = history(options, seed, days).unwrap();
    let bundle = Bundle {
        fleet: past.fleet,
        histories: past.histories,
        has_failures_file: true,
        consumption: Vec::new(),
        warnings: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    harbinger_bundle::write::write(&bundle, folder.path()).unwrap();
    Folder { bundle, folder }
}

/// Plays a bundle over MQTT as fast as it is acknowledged.
pub(crate) fn replay(place: &Place, bundle: &Folder, tenant: &str) {
    send(place, "replay", bundle, tenant);
}

/// Loads a bundle in bulk.
pub(crate) fn import(place: &Place, bundle: &Folder, tenant: &str) {
    send(place, "import", bundle, tenant);
}

fn send(place: &Place, command: &str, bundle: &Folder, tenant: &str) {
    let key = place.key(tenant, "ingest,operate").unwrap();
    let (api, broker) = (format!("http://{}", place.api), format!("mqtt://{}", place.mqtt));
    let mut arguments = vec![command, bundle.argument(), "--api", &api, "--key", &key];
    if command == "replay" {
        arguments.extend(["--speed", "max", "--broker", &broker, "--connections", "4"]);
    }
    let ended = harbinger(&arguments).unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
    eprintln!("{tenant}: {}", String::from_utf8_lossy(&ended.stdout).trim_end().replace('\n', "; "));
}
