//! A whole simulated past in memory: for training, for evaluation, and to write as a fleet bundle.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, fleet::Fleet, history::DeviceHistory};

use crate::{
    options::{Error, Options},
    simulation::{Simulation, Step},
};

/// The past of a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Registry and network; every device is observed until the end of this past.
    pub fleet: Fleet,
    /// What is known of each device. Failures carry the true time; maintenance the time of the replacement.
    pub histories: BTreeMap<DeviceId, DeviceHistory>,
}

impl History {
    /// Number of readings of all devices.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.histories.values().map(|known| known.readings.len()).sum()
    }

    fn take(&mut self, step: Step) {
        for reading in step.readings {
            self.histories.entry(reading.key.device).or_default().readings.push(reading.ts, &reading.values);
        }
        for event in step.events {
            self.histories.entry(event.key.device.clone()).or_default().events.push(event);
        }
        for failed in step.failures {
            self.histories.entry(failed.failure.device.clone()).or_default().failures.push(failed.failure);
        }
        for maintenance in step.maintenance {
            self.histories.entry(maintenance.device.clone()).or_default().maintenance.push(maintenance);
        }
    }
}

/// Simulates `days` days from the start.
///
/// # Errors
/// [`Error::Option`] naming the option that is out of its range.
pub fn history(options: Options, seed: u64, days: u32) -> Result<History, Error> {
    Ok(Simulation::new(options, seed)?.record(Duration::from_days(i64::from(days))))
}

impl Simulation {
    /// Moves on by `length` (rounded up to whole steps) and keeps all that happens; the simulation can go on from there. A
    /// piece is at hand at the end of the step in which something fails, so that each failure is mended `repair_time` after that.
    pub fn record(&mut self, length: Duration) -> History {
        let end = self.now() + length;
        let histories = self.fleet().devices.iter().map(|device| (device.device.clone(), DeviceHistory::default()));
        let mut past = History { histories: histories.collect(), fleet: self.fleet().clone() };
        while self.now() < end {
            let step = self.step();
            for failed in &step.failures {
                self.part_available(&failed.failure.device, &failed.failure.component, step.now)
                    .expect("what has failed is a slot of the fleet");
            }
            past.take(step);
        }
        for known in past.histories.values_mut() {
            known.failures.sort_by(|a, b| (a.ts, &a.component).cmp(&(b.ts, &b.component)));
        }
        for device in &mut past.fleet.devices {
            device.observed_until = Some(self.now());
        }
        past
    }
}
