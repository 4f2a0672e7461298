//! Fleet bundles (a fleet's history as plain CSV) and the result files of the command line.
//!
//! Reading tells the file, line and column of whatever it cannot take, and takes nothing of a bundle that has such a place:
//! the format is `docs/reference/fleet-bundle.md`, the result files `docs/reference/result-files.md`.

pub mod read;
pub mod results;
pub mod table;
pub mod write;

use std::collections::BTreeMap;

use harbinger_core::{
    DeviceId, TenantId, Timestamp,
    fleet::{Consumption, Device, Fleet},
    history::DeviceHistory,
};

pub use read::{Error, Problem, read};

/// A bundle in memory.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    /// The registry: models, components, parts, depots, devices, ...
    pub fleet: Fleet,
    /// What each registered device reported and what was done to it; a device without any has an empty history.
    pub histories: BTreeMap<DeviceId, DeviceHistory>,
    /// Whether failures come from `failures.csv`; otherwise they are the replacements because of failure.
    pub has_failures_file: bool,
    /// Part use that no device record explains.
    pub consumption: Vec<Consumption>,
    /// Columns that were ignored, and the like: one line each.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// The one tenant of the bundle's devices.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        self.fleet.devices.first().map(|device| &device.tenant)
    }

    /// Puts everything under another tenant.
    pub fn set_tenant(&mut self, tenant: &TenantId) {
        for device in &mut self.fleet.devices {
            device.tenant = tenant.clone();
        }
        for history in self.histories.values_mut() {
            for event in &mut history.events {
                event.key.tenant = tenant.clone();
            }
        }
    }

    /// The registered device of that id.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.fleet.devices.iter().find(|device| device.device == *id)
    }

    /// Event time of the latest reading, event or maintenance record.
    #[must_use]
    pub fn last_time(&self) -> Option<Timestamp> {
        let latest = |h: &DeviceHistory| {
            let reading = h.readings.times.last().copied();
            let event = h.events.last().map(|e| e.ts);
            let maintenance = h.maintenance.last().map(|m| m.ts);
            reading.max(event).max(maintenance)
        };
        self.histories.values().filter_map(latest).max()
    }
}
