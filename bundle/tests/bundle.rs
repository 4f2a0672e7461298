//! A bundle goes out and comes back the same; a bad one names its place and gives nothing.
use std::path::Path;

use harbinger_bundle::{Error, read, write::write};

fn file(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn small(folder: &Path) {
    file(folder, "models.csv", "model,kind\nm1,server\n");
    file(folder, "components.csv", "model,component,part\nm1,fan,p1\n");
    file(folder, "parts.csv", "part,unit_cost\np1,12.5\n");
    file(folder, "depots.csv", "depot,echelon\nhub,hub\nnorth,forward\n");
    file(folder, "lanes.csv", "from,to,days\nhub,north,2\n");
    file(folder, "devices.csv", "device,tenant,model,depot\nd1,acme,m1,north\nd2,acme,m1,north\n");
    file(
        folder,
        "telemetry.csv",
        "ts,device,rpm,temp\n2026-01-01T01:00:00Z,d1,900,\n2026-01-01T00:00:00Z,d1,800,21.5\n2026-01-01T02:00:00Z,d1,,\n",
    );
    file(
        folder,
        "maintenance.csv",
        "ts,device,component,action,reason\n2026-01-02T00:00:00Z,d1,fan,replaced,failure\n",
    );
}

#[test]
fn a_bundle_goes_out_and_comes_back_the_same() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small(first.path());
    let bundle = read(first.path()).unwrap();
    assert!(bundle.warnings.is_empty(), "{:?}", bundle.warnings);
    let history = bundle.histories.values().next().unwrap();
    assert_eq!(history.readings.len(), 2, "a row without values is no reading");
    assert!(history.readings.times[0] < history.readings.times[1], "rows are put in order of time");
    assert_eq!(history.failures.len(), 1, "a replacement because of failure is the failure");
    write(&bundle, second.path()).unwrap();
    let again = read(second.path()).unwrap();
    assert_eq!(format!("{bundle:?}"), format!("{again:?}"));
}

#[track_caller]
fn check(name: &str, text: &str, place: &str, reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path());
    file(folder.path(), name, text);
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains(place) && error.contains(reason), "{error}");
}

#[test]
fn a_bad_bundle_names_file_line_and_column() {
    check("parts.csv", "part\np1\n", "parts.csv line 1 column unit_cost", "required column");
    check("parts.csv", "part,unit_cost\np1,-3\n", "parts.csv line 2 column unit_cost", "-3 is not a number from 0");
    let circle = "part,unit_cost,successor\np1,1,p2\np2,1,p3\np3,1,p2\n";
    check("parts.csv", circle, "parts.csv line 3 column successor", "round in a circle: leave that of the newest");
    check("depots.csv", "depot,echelon\nhub,centre\n", "depots.csv line 2 column echelon", "hub, forward");
    check("devices.csv", "device,tenant,model,depot\nd1,acme,m9,north\n", "devices.csv line 2 column model", "m9");
    check(
        "devices.csv",
        "device,tenant,model,depot\nd1,a,m1,north\nd2,b,m1,north\n",
        "line 3 column tenant",
        "one tenant",
    );
    check("telemetry.csv", "ts,device,rpm\nyesterday,d1,1\n", "telemetry.csv line 2 column ts", "RFC 3339");
    check("telemetry.csv", "ts,device,rpm\n2026-01-01T00:00:00Z,d1,fast\n", "line 2 column rpm", "finite number");
    check("telemetry.csv", "ts,device,rpm\n2026-01-01T00:00:00Z,d1,NaN\n", "line 2 column rpm", "finite number");
    check("telemetry.csv", "ts,device,rpm\n2026-01-01T00:00:00Z,d7,1\n", "line 2 column device", "devices.csv");
    check("telemetry.csv", "ts,device,rpm\n2026-01-01T00:00:00Z,d1\n", "telemetry.csv line 2", "cells");
    check("maintenance.csv", "ts,device,component\n2026-01-01T00:00:00Z,d1,pump\n", "line 2 column component", "pump");
    check("stock.csv", "part,depot,on_hand\np1,north,-1\n", "stock.csv line 2 column on_hand", "");
}

#[test]
fn what_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read(&folder.path().join("nowhere")), Err(Error::NoFolder(_))));
    assert!(read(folder.path()).unwrap_err().to_string().contains("has no parts.csv"));
    small(folder.path());
    file(folder.path(), "depots.csv", "depot,echelon,colour\nhub,hub,red\nnorth,forward,blue\n");
    assert_eq!(read(folder.path()).unwrap().warnings.len(), 1, "an unknown column is warned of once");
}
