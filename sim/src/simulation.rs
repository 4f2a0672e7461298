//! The simulation: a fleet that moves forward one step of event time at a time, and is mended by whoever drives it.

use std::collections::HashMap;

use harbinger_core::{
    ComponentId, DepotId, DeviceEvent, DeviceId, PartId, Reading, Timestamp,
    fleet::{Failure, Fleet, Maintenance},
};

use crate::{
    device::{Change, Device},
    life::Weibull,
    network,
    options::{Error, Options},
};

/// A component that failed, and what mends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// Which component of which device, and when.
    pub failure: Failure,
    /// The part that replaces it.
    pub part: PartId,
    /// The depot that serves the device.
    pub depot: DepotId,
    /// Whether it degraded for a while before, so that its signals could have told.
    pub gave_warning: bool,
}

/// What happened in one step of event time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Event time at the end of the step; all readings carry it.
    pub now: Timestamp,
    /// Readings that arrive, in order of device.
    pub readings: Vec<Reading>,
    /// Events that arrive, in order of time within a device.
    pub events: Vec<DeviceEvent>,
    /// Components that failed. They stay failed until the driver answers.
    pub failures: Vec<Failed>,
    /// Replacements that were promised and have been done.
    pub maintenance: Vec<Maintenance>,
}

/// A fleet in motion.
#[derive(Debug, Clone)]
pub struct Simulation {
    options: Options,
    fleet: Fleet,
    devices: Vec<Device>,
    places: HashMap<DeviceId, usize>,
    now: Timestamp,
    steps: u64,
}

impl Simulation {
    /// A fleet as it stands at `options.start`: every piece works.
    ///
    /// # Errors
    /// [`Error::Option`] naming the option that is out of its range.
    pub fn new(options: Options, seed: u64) -> Result<Self, Error> {
        options.check()?;
        let placed = network::devices(&options, seed);
        let devices: Vec<Device> = placed.iter().map(|placed| Device::new(&options, seed, placed)).collect();
        let places = placed.iter().enumerate().map(|(place, placed)| (placed.device.device.clone(), place)).collect();
        let fleet = network::fleet(&options, placed.into_iter().map(|placed| placed.device).collect());
        Ok(Self { now: options.start, options, fleet, devices, places, steps: 0 })
    }

    /// The registry and the network: what a tenant would import.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Event time so far.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Moves on by one cadence and tells what happened.
    pub fn step(&mut self) -> Step {
        self.now = self.now + self.options.cadence;
        self.steps += 1;
        let mut step = Step { now: self.now, ..Step::default() };
        for place in 0..self.devices.len() {
            let changes = self.devices[place].advance(self.now);
            for change in changes {
                match change {
                    Change::Failed { failure, gave_warning } => {
                        step.failures.push(self.failed(place, failure, gave_warning));
                    }
                    Change::Replaced(maintenance) => step.maintenance.push(maintenance),
                }
            }
            let (reading, mut events) = self.devices[place].report(self.now, self.steps, self.options.cadence);
            step.readings.extend(reading);
            step.events.append(&mut events);
        }
        step.maintenance.sort_by(|a, b| (a.ts, &a.device).cmp(&(b.ts, &b.device)));
        step
    }

    fn failed(&self, place: usize, failure: Failure, gave_warning: bool) -> Failed {
        let part = self.devices[place].part(&failure.component).expect("a device fails in a slot that it has").clone();
        Failed { part, depot: self.fleet.devices[place].depot.clone(), gave_warning, failure }
    }

    /// Tells that a piece for this slot is at hand from `at` on (not before now): the slot is mended `repair_time` later.
    /// An earlier promise stands. A slot that has not failed by then is replaced as planned maintenance.
    ///
    /// # Errors
    /// [`Error::Unknown`] where the fleet has no such slot.
    pub fn part_available(&mut self, device: &DeviceId, component: &ComponentId, at: Timestamp) -> Result<(), Error> {
        self.replace(device, component, at.max(self.now) + self.options.repair_time)
    }

    /// Puts a new piece into a slot at `at` (not before now). It is done, and told, in the step that reaches that time.
    ///
    /// # Errors
    /// [`Error::Unknown`] where the fleet has no such slot.
    pub fn replace(&mut self, device: &DeviceId, component: &ComponentId, at: Timestamp) -> Result<(), Error> {
        let at = at.max(self.now);
        let found = self.places.get(device).and_then(|&place| self.devices.get_mut(place));
        match found.map(|found| found.replace_at(component, at)) {
            Some(true) => Ok(()),
            Some(false) | None => Err(Error::Unknown { device: device.to_string(), component: component.to_string() }),
        }
    }

    fn truth(&self, device: &DeviceId, component: &ComponentId) -> Option<(Weibull, crate::life::Piece)> {
        self.devices.get(*self.places.get(device)?)?.truth(component)
    }

    /// The truth that nobody else knows: when the piece that is in this slot now fails, or failed.
    #[must_use]
    pub fn true_failure_time(&self, device: &DeviceId, component: &ComponentId) -> Option<Timestamp> {
        self.truth(device, component).map(|(_, piece)| piece.fails_at)
    }

    /// The truth about wear: from when on the signals of this slot's piece drift; equal to its failure time where it fails
    /// without a sign.
    #[must_use]
    pub fn true_degradation_start(&self, device: &DeviceId, component: &ComponentId) -> Option<Timestamp> {
        self.truth(device, component).map(|(_, piece)| piece.degrades_from)
    }

    /// The law that the lives of this slot's pieces are drawn from, acceleration included.
    #[must_use]
    pub fn true_life(&self, device: &DeviceId, component: &ComponentId) -> Option<Weibull> {
        self.truth(device, component).map(|(life, _)| life)
    }

    /// Every slot of the fleet: device and component.
    pub fn slots(&self) -> impl Iterator<Item = (&DeviceId, &ComponentId)> {
        self.fleet
            .devices
            .iter()
            .zip(&self.devices)
            .flat_map(|(known, device)| device.components().map(move |component| (&known.device, component)))
    }
}
