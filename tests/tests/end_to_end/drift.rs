//! A fleet that begins to fail as nobody foresaw: whoever runs it is told that the model no longer says how often failures come.

use std::{net::TcpListener, time::Duration};

use harbinger_core::{
    Duration as Length, HardwareModelId,
    fleet::{Failure, Maintenance, MaintenanceAction, MaintenanceReason},
};
use harbinger_tests::server::{SCOPES, Server, until};
use serde_json::Value;

use crate::{
    fleet,
    webhooks::{Receiver, create},
};

const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn a_series_of_failures_that_nobody_foresaw_is_told_as_drift() {
    let data = tempfile::tempdir().unwrap();
    let settings = [
        ("WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("WEBHOOKS__ALLOW_HTTP", "true"),
        ("ANALYTICS__EVERY", "12h"),
        // The model of the first few failures stays, so that it can be seen to be wrong.
        ("ANALYTICS__RETRAIN_EVERY", "90d"),
    ];
    let server = Server::start(data.path(), &settings).unwrap();
    let client = server.client(&server.key("acme", SCOPES).unwrap());
    let receiver = Receiver::open(TcpListener::bind("127.0.0.1:0").unwrap(), 204);
    create(&client, receiver.address, &["model.drifted"]);
    let mut bundle = fleet::with("acme", 4, 40, Length::from_hours(3), 3);
    let fleet = &bundle.bundle.fleet;
    let slot = fleet.components[0].clone();
    let has = |model: &HardwareModelId| {
        fleet.components.iter().any(|other| other.model == *model && other.component == slot.component)
    };
    let mut series = 0;
    for device in fleet.devices.iter().filter(|device| has(&device.model)) {
        let history = bundle.bundle.histories.get_mut(&device.device).unwrap();
        let last = *history.readings.times.last().unwrap();
        let (ts, device, component) = (last - Length::from_days(5), device.device.clone(), slot.component.clone());
        history.failures.push(Failure { ts, device: device.clone(), component: component.clone() });
        history.failures.sort_by_key(|failure| failure.ts);
        let (action, reason) = (MaintenanceAction::Replaced, MaintenanceReason::Failure);
        history.maintenance.push(Maintenance { ts, device, component, action, reason });
        history.maintenance.sort_by_key(|record| record.ts);
        series += 1;
    }
    assert!(series >= 20, "{series} devices");
    harbinger_bundle::write::write(&bundle.bundle, bundle.path()).unwrap();
    fleet::import(&server, &bundle, "acme");
    let told = || Ok((!receiver.received().is_empty()).then_some(()));
    until(PATIENCE, "the drift to be told", told).unwrap();
    let message: Value = serde_json::from_str(&receiver.received()[0].body).unwrap();
    let components = message["data"]["components"].as_array().unwrap();
    let of_series = components.iter().find(|drift| drift["component"] == slot.component.as_str());
    let calibration = &of_series.unwrap_or_else(|| panic!("{message}"))["calibration"];
    let number = |name: &str| calibration[name].as_f64().unwrap();
    assert!(number("observed") >= f64::from(series) && number("observed") > 1.5 * number("expected"), "{message}");
}
