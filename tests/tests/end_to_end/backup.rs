//! Backups: taken under load, killed half way, restored; and data that a disk has damaged, which is named and never served.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use harbinger_core::Timestamp;
use harbinger_tests::{
    http::Client,
    postgres::Postgres,
    process::{Process, harbinger_binary},
    server::{SCOPES, Server, harbinger, harbinger_with, until},
    victoria_metrics::VictoriaMetrics,
};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::Value;

use crate::{export::partial_bytes, fleet, gateway::Gateway};

const PATIENCE: Duration = Duration::from_secs(90);
const SETTINGS: [(&str, &str); 1] = [("ANALYTICS__EVERY", "6h")];
const TENANT: &str = "acme";

/// Every value that a tenant has, by device, time and signal.
type Truth = BTreeMap<(String, String, String), f64>;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(ended: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr))
}

#[track_caller]
fn succeed(arguments: &[&str]) -> String {
    let ended = harbinger(arguments).unwrap();
    assert!(ended.status.success(), "{arguments:?}: {}", said(&ended));
    said(&ended)
}

/// What `check` says of a folder, and whether all is well; it always comes to an end of its own.
#[track_caller]
fn check(folder: &Path) -> (bool, String) {
    let ended = harbinger(&["check", "--data", text(folder)]).unwrap();
    let said = said(&ended);
    assert!(matches!(ended.status.code(), Some(0 | 1)) && !said.contains("panicked"), "{:?}: {said}", ended.status);
    (ended.status.success(), said)
}

fn values(client: &Client) -> Truth {
    let mut values = Truth::new();
    for device in client.items("/api/v1/devices").unwrap() {
        let device = device["device"].as_str().unwrap();
        let path = format!("/api/v1/devices/{device}/telemetry?from={}", Timestamp::MIN);
        for reading in client.items(&path).unwrap() {
            let ts = reading["ts"].as_str().unwrap();
            for (signal, value) in reading["values"].as_object().unwrap() {
                values.insert((device.to_owned(), ts.to_owned(), signal.clone()), value.as_f64().unwrap());
            }
        }
    }
    values
}

fn wait_for_predictions(client: &Client) {
    let path = format!("/api/v1/predictions?from={}&limit=1", Timestamp::MIN);
    let some = || Ok((!client.get(&path)?.json()?["items"].as_array().unwrap().is_empty()).then_some(()));
    until(PATIENCE, "a prediction", some).unwrap();
}

/// A backup of a small fleet that was scored, and the truth of it.
struct Saved {
    folder: tempfile::TempDir,
    truth: Truth,
}

impl Saved {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut server = Server::start(&data, &SETTINGS).unwrap();
        fleet::import(&server, &fleet::small(TENANT, 1, 12), TENANT);
        let client = server.client(&server.key(TENANT, SCOPES).unwrap());
        wait_for_predictions(&client);
        let truth = values(&client);
        assert!(truth.len() > 5_000, "{} values", truth.len());
        server.process.terminate(PATIENCE).unwrap();
        let saved = Self { folder, truth };
        succeed(&["backup", text(&saved.backup()), "--data", text(&data)]);
        saved
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    /// A data folder restored from the backup, to be damaged.
    fn restored(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        succeed(&["restore", text(&self.backup()), "--data", text(&folder)]);
        folder
    }
}

#[test]
fn a_backup_of_a_busy_service_holds_all_that_was_acknowledged_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| folder.path().join(name));
    let mut server = Server::start(&data, &SETTINGS).unwrap();
    let mut gateway = Gateway::new(TENANT, 0, 3);
    assert!(gateway.publish(server.mqtt, 3_000));
    let client = server.client(&server.key(TENANT, SCOPES).unwrap());

    let bundle = fleet::small(TENANT, 2, 42);
    let place = (*server).clone();
    let key = server.key(TENANT, "ingest,operate").unwrap();
    let mut load = Process::start(
        Command::new(harbinger_binary().unwrap())
            .args(["replay", bundle.argument(), "--speed", "max", "--key", &key])
            .args(["--api", &format!("http://{}", place.api), "--broker", &format!("mqtt://{}", place.mqtt)]),
    )
    .unwrap();
    wait_for_predictions(&client);
    let said = succeed(&["backup", text(&backup), "--data", text(&data)]);
    eprintln!("{said}");
    server.kill().unwrap();
    load.kill().unwrap();

    let refused = harbinger(&["backup", text(&backup), "--data", text(&data)]).unwrap();
    assert!(!refused.status.success() && self::said(&refused).contains("not empty"), "{}", self::said(&refused));
    succeed(&["check", "--data", text(&backup)]);
    succeed(&["restore", text(&backup), "--data", text(&restored)]);
    let server = Server::start(&restored, &[("ANALYTICS__EVERY", "1000d")]).unwrap();
    assert_eq!(check(&restored), (true, check(&restored).1), "beside the running service");
    let client = server.client(&server.key(TENANT, SCOPES).unwrap());
    gateway.check(&client);

    // What the ledger has made of telemetry, telemetry holds.
    let predictions = client.items(&format!("/api/v1/predictions?from={}", Timestamp::MIN)).unwrap();
    assert!(!predictions.is_empty());
    let time = |item: &Value| item["ts"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let mut scored: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for prediction in &predictions {
        let device = prediction["device"].as_str().unwrap();
        let latest = scored.entry(device).or_insert(Timestamp::MIN);
        *latest = time(prediction).max(*latest);
    }
    let newest = *scored.values().max().unwrap();
    for (device, at) in scored {
        let known = &bundle.bundle.histories.iter().find(|(id, _)| id.as_str() == device);
        let Some((_, known)) = known else { continue };
        let path = format!("/api/v1/devices/{device}/telemetry?from={}", Timestamp::MIN);
        let found: Vec<Timestamp> = client.items(&path).unwrap().iter().map(time).collect();
        let expected: Vec<Timestamp> =
            known.readings.times.iter().copied().filter(|&ts| ts <= at.min(newest)).collect();
        assert!(
            expected.iter().all(|ts| found.binary_search(ts).is_ok()),
            "{device} was scored at {at} on more than there is"
        );
    }
}

/// Kills a command when the hidden folder that it fills in `place` holds `bytes` more than before; whether it still ran.
fn kill_after(arguments: &[&str], place: &Path, bytes: u64) -> bool {
    let before = partial_bytes(place);
    let mut command = Command::new(harbinger_binary().unwrap());
    let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // Looked at without a pause, and killed by one call of the system: the whole command takes some hundredths of a second.
    while partial_bytes(place) <= before + bytes && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "{arguments:?} neither writes nor ends");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

#[test]
fn a_killed_backup_or_restore_leaves_nothing_or_the_whole() {
    let saved = Saved::make();
    let size: u64 =
        harbinger_tests::files(&saved.backup(), "").unwrap().iter().map(|file| file.metadata().unwrap().len()).sum();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    let mut killed = 0;
    for round in 0..5 {
        let bytes = size * round / 5;
        for arguments in [
            ["backup", text(&target), "--data", text(&saved.data())],
            ["restore", text(&saved.backup()), "--data", text(&target)],
        ] {
            killed += usize::from(kill_after(&arguments, place.path(), bytes));
            if target.exists() {
                assert_eq!(check(&target), (true, check(&target).1), "round {round}, {}", arguments[0]);
                fs_err::remove_dir_all(&target).unwrap();
            }
        }
    }
    assert!(killed >= 4, "only {killed} of 10 were killed on their way");
    eprintln!("{killed} of 10 killed on their way");
    succeed(&["restore", text(&saved.backup()), "--data", text(&target)]);
    let server = Server::start(&target, &SETTINGS).unwrap();
    assert!(values(&server.client(&server.key(TENANT, SCOPES).unwrap())) == saved.truth);
}

/// Does damage to a file: flips a bit somewhere, or cuts it somewhere.
fn damage(file: &Path, random: &mut ChaCha8Rng, cut: bool) {
    let mut bytes = fs_err::read(file).unwrap();
    let place = random.random_range(0..bytes.len());
    if cut {
        bytes.truncate(place);
    } else {
        bytes[place] ^= 1 << random.random_range(0..8);
    }
    fs_err::write(file, bytes).unwrap();
}

fn is_part_of(part: &Truth, whole: &Truth) -> bool {
    part.iter().all(|(key, value)| whole.get(key) == Some(value))
}

/// Starts the service on damaged data; `None` where it says in words why it does not.
#[track_caller]
fn start(data: &Path, what: &impl Debug) -> Option<Server> {
    match Server::start(data, &[("ANALYTICS__EVERY", "1000d")]) {
        Ok(server) => Some(server),
        Err(error) => {
            let said = format!("{error:#}");
            assert!(said.contains("harbinger restore") && !said.contains("panicked"), "{what:?}: {said}");
            None
        }
    }
}

#[test]
fn damage_is_named_and_never_served() {
    let saved = Saved::make();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for (round, cut) in [false, false, false, true].into_iter().enumerate() {
        let data = saved.restored(&format!("telemetry-{round}"));
        damage(&data.join("telemetry.db"), &mut random, cut);
        let (well, said) = check(&data);
        let server = start(&data, &round).expect("what can be read of telemetry is served");
        let found = values(&server.client(&server.key(TENANT, SCOPES).unwrap()));
        assert!(is_part_of(&found, &saved.truth), "round {round}: a value that nobody sent is served\n{said}");
        assert!(!well || found == saved.truth, "round {round}: values are gone, and nothing is said of it");
    }
    for (round, cut) in [false, false, false, true, true].into_iter().enumerate() {
        let data = saved.restored(&format!("ledger-{round}"));
        damage(&data.join("ledger.db"), &mut random, cut);
        let (well, said) = check(&data);
        assert!(!well && said.contains("ledger.db"), "{said}");
        drop(start(&data, &said));
    }
    for cut in [false, true] {
        let data = saved.restored(&format!("model-{cut}"));
        let models = harbinger_tests::files(&data.join("models"), "model.json").unwrap();
        damage(&models[0], &mut random, cut);
        let (well, said) = check(&data);
        assert!(!well && said.contains(text(models[0].parent().unwrap())), "{said}");
        assert!(start(&data, &said).is_some(), "the service goes on without a model");
    }

    for file in ["telemetry.db", "ledger.db"] {
        let copy = saved.folder.path().join(format!("copy-{file}"));
        assert!(Command::new("cp").arg("-r").args([&saved.backup(), &copy]).status().unwrap().success());
        damage(&copy.join(file), &mut random, false);
        let (well, said) = check(&copy);
        assert!(!well && said.contains(file), "{said}");
        let nowhere = saved.folder.path().join("nowhere");
        let refused = harbinger(&["restore", text(&copy), "--data", text(&nowhere)]).unwrap();
        assert!(!refused.status.success() && self::said(&refused).contains(file) && !nowhere.exists());
    }
}

/// Goal: what rests on a telemetry server is not in the backup, which says so and with what it is copied; with that copy, made
/// afterwards, nothing is missing. Method: a backup restored beside an empty server, then beside the restored one.
#[test]
fn a_backup_beside_a_telemetry_server_names_what_is_not_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let Some(metrics) = VictoriaMetrics::start(&place("metrics")).unwrap() else { return };
    let data = place("data");
    let started = |data: &Path, metrics: &VictoriaMetrics| {
        let url = format!("http://{}", metrics.address);
        let remote = [("TELEMETRY__REMOTE", "victoriametrics"), ("TELEMETRY__URL", url.as_str())];
        let in_haste = [("TELEMETRY__HOLD", "1s"), ("TELEMETRY__SEND_EVERY", "100ms"), ("ANALYTICS__EVERY", "1000d")];
        let server = Server::start(data, &[&remote[..], &in_haste].concat()).unwrap();
        let client = server.client(&server.key(TENANT, SCOPES).unwrap());
        (server, client)
    };
    let (server, client) = started(&data, &metrics);
    fleet::import(&server, &fleet::small(TENANT, 1, 12), TENANT);
    let truth = values(&client);
    assert!(truth.len() > 5_000, "{} values", truth.len());

    let settings =
        [("HARBINGER__TELEMETRY__REMOTE", "victoriametrics"), ("HARBINGER__TELEMETRY__URL", "http://metrics:8428")];
    let mut round = 0;
    let without_the_server = || {
        round += 1;
        let [backup, alone, empty] = ["backup", "alone", "empty"].map(|name| place(&format!("{name}-{round}")));
        let ended = harbinger_with(&["backup", text(&backup), "--data", text(&data)], &settings).unwrap();
        let told = "not in it: the readings that rest on VictoriaMetrics at http://metrics:8428, database harbinger";
        assert!(
            ended.status.success() && said(&ended).contains(told) && said(&ended).contains("vmbackup"),
            "{ended:?}"
        );
        succeed(&["restore", text(&backup), "--data", text(&alone)]);
        let empty = VictoriaMetrics::start(&empty).unwrap().unwrap();
        let found = values(&started(&alone, &empty).1);
        assert!(is_part_of(&found, &truth));
        Ok((found.len() < truth.len()).then_some(backup))
    };
    // Readings leave the data folder when they were held for a second.
    let backup = until(PATIENCE, "readings that rest on the server alone", without_the_server).unwrap();
    let Some(()) = metrics.back_up(&place("metrics"), &place("copied")).unwrap() else { return };
    drop((server, metrics));

    VictoriaMetrics::restore(&place("copied"), &place("restored")).unwrap();
    let metrics = VictoriaMetrics::start(&place("restored")).unwrap().unwrap();
    let both = place("both");
    succeed(&["restore", text(&backup), "--data", text(&both)]);
    assert!(values(&started(&both, &metrics).1) == truth);
}

#[test]
fn a_backup_moves_a_ledger_into_postgresql() {
    let Some(postgres) = Postgres::start().unwrap() else { return };
    let saved = Saved::make();
    let url = postgres.database("restored").unwrap();
    let data = saved.folder.path().join("beside");
    let backup = saved.backup();
    let arguments = ["restore", text(&backup), "--data", text(&data)];
    let restore = || harbinger_with(&arguments, &[("HARBINGER__LEDGER__URL", &url)]).unwrap();
    let ended = restore();
    assert!(ended.status.success(), "{}", said(&ended));
    assert!(!data.join("ledger.db").exists());
    let server = Server::start(&data, &[("LEDGER__URL", &url), SETTINGS[0]]).unwrap();
    assert!(values(&server.client(&server.key(TENANT, SCOPES).unwrap())) == saved.truth);
    drop(server);

    fs_err::remove_dir_all(&data).unwrap();
    let refused = restore();
    assert!(!refused.status.success() && said(&refused).contains("not empty") && !data.exists(), "{}", said(&refused));
}
