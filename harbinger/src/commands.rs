//! The commands of the command line.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod demand;
pub(crate) mod demo;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod import;
pub(crate) mod import_model;
pub(crate) mod keys;
pub(crate) mod page;
pub(crate) mod plan;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod screen;
pub(crate) mod simulate_policies;
pub(crate) mod stock;
pub(crate) mod train;

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use harbinger_bundle::Bundle;
use harbinger_core::DeviceId;

use crate::progress::Step;

/// Reads a bundle, saying so, and tells its warnings.
pub(crate) fn read_bundle(folder: &Path) -> anyhow::Result<Bundle> {
    let step = Step::begin(&format!("reading {}", folder.display()));
    let bundle =
        harbinger_bundle::read(folder).with_context(|| format!("failed to read bundle {}", folder.display()))?;
    let readings: usize = bundle.histories.values().map(|history| history.readings.len()).sum();
    step.done(&format!("read {} devices, {readings} readings", bundle.fleet.devices.len()));
    for warning in &bundle.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(bundle)
}

/// The devices of a `--devices` file, which must all be in the bundle.
pub(crate) fn chosen_devices(bundle: &Bundle, file: Option<&Path>) -> anyhow::Result<Option<BTreeSet<DeviceId>>> {
    let Some(file) = file else { return Ok(None) };
    let devices: BTreeSet<DeviceId> = harbinger_bundle::results::read_device_list(file)
        .with_context(|| format!("failed to read device list {}", file.display()))?
        .into_iter()
        .collect();
    match devices.iter().find(|device| !bundle.histories.contains_key(*device)) {
        Some(unknown) => anyhow::bail!("{} names device {unknown:?}, which the bundle does not have", file.display()),
        None => Ok(Some(devices)),
    }
}
