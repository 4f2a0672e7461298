//! A whole simulated past in memory: for training, for evaluation, and to write as a fleet bundle.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, fleet::Fleet, history::DeviceHistory};

use crate::{
    options::{Error, Options},
    simulation::Simulation,
};

/// The past of a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Registry and network; every device is observed from the start to the end of this past.
    pub fleet: Fleet,
    /// What is known of each device. Failures carry the true time; maintenance the time of the replacement.
    pub devices: BTreeMap<DeviceId, DeviceHistory>,
}

impl History {
    /// Number of readings of all devices.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.devices.values().map(|device| device.readings.len()).sum()
    }
}

/// Simulates `days` days. A piece is at hand at the end of the step in which something fails, so that each failure is mended
/// `options.repair_time` after that.
///
/// # Errors
/// [`Error::Option`] naming the option that is out of its range.
pub fn history(options: Options, seed: u64, days: u32) -> Result<History, Error> {
    let mut simulation = Simulation::new(options, seed)?;
    let end = simulation.now() + Duration::from_days(i64::from(days));
    let mut devices: BTreeMap<DeviceId, DeviceHistory> =
        simulation.fleet().devices.iter().map(|device| (device.device.clone(), DeviceHistory::default())).collect();
    while simulation.now() < end {
        let step = simulation.step();
        for failed in &step.failures {
            let failure = &failed.failure;
            simulation.part_available(&failure.device, &failure.component, failure.ts)?;
        }
        for reading in step.readings {
            devices.entry(reading.key.device).or_default().readings.push(reading.ts, &reading.values);
        }
        for event in step.events {
            devices.entry(event.key.device.clone()).or_default().events.push(event);
        }
        for failed in step.failures {
            devices.entry(failed.failure.device.clone()).or_default().failures.push(failed.failure);
        }
        for maintenance in step.maintenance {
            devices.entry(maintenance.device.clone()).or_default().maintenance.push(maintenance);
        }
    }
    for device in devices.values_mut() {
        device.failures.sort_by(|a, b| (a.ts, &a.component).cmp(&(b.ts, &b.component)));
    }
    let mut fleet = simulation.fleet().clone();
    for device in &mut fleet.devices {
        device.observed_until = Some(simulation.now());
    }
    Ok(History { fleet, devices })
}
