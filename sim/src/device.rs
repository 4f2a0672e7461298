//! One simulated device: its slots, the pieces in them, and what it reports in a step.

use std::sync::Arc;

use harbinger_core::{
    ComponentId, DeviceEvent, DeviceKey, Duration, PartId, Reading, SignalId, Timestamp,
    fleet::{Failure, Maintenance, MaintenanceAction, MaintenanceReason},
    time::MILLIS_PER_HOUR,
};

use crate::{
    blueprint::{BLUEPRINTS, Blueprint, Family, OnFailure},
    life::{Piece, Wear, Weibull},
    network::{Placed, age_days, id},
    noise::{Noise, Purpose},
    options::Options,
    signals::{self, Condition, Counters, SLOTS, Surroundings, Traits},
};

/// What a device is used for changes at most this often.
const REGIME_BLOCK: Duration = Duration::from_hours(6);
/// Warmest hour of the day, local sun time.
const WARMEST_HOUR: f64 = 15.0;
/// What the device is used for: how likely, and how hard it works then.
const REGIMES: [(f64, f64); 3] = [(0.3, 0.1), (0.5, 0.5), (0.2, 0.95)];

/// A slot and the piece in it.
#[derive(Debug, Clone)]
struct Slot {
    component: ComponentId,
    part: PartId,
    wear: Wear,
    piece: Piece,
    /// How many pieces were in this slot before.
    generation: u64,
    /// Whether the failure of this piece has been told.
    told: bool,
    /// When the next piece goes in.
    replacement_at: Option<Timestamp>,
}

/// What became of a slot in a step.
#[derive(Debug)]
pub(crate) enum Change {
    /// Its piece failed, after degrading or without a sign.
    Failed { failure: Failure, gave_warning: bool },
    /// A new piece went in.
    Replaced(Maintenance),
}

/// A simulated device.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    seed: u64,
    stream: u32,
    key: DeviceKey,
    blueprint: &'static Blueprint,
    signals: Vec<SignalId>,
    codes: Vec<Arc<str>>,
    solar_hours: f64,
    traits: Traits,
    slots: [Slot; SLOTS],
    counters: Counters,
    lost_reading_share: f64,
}

impl Device {
    /// A device as it stands at the start. Its first pieces are as old as itself and known to work at the start.
    pub(crate) fn new(options: &Options, seed: u64, placed: &Placed) -> Self {
        let stream = placed.stream;
        let blueprint = &BLUEPRINTS[placed.blueprint];
        let installed_at = placed.device.installed_at.unwrap_or(options.start);
        let age = age_days(Some(installed_at), options.start);
        let mut noise = Noise::at(seed, stream, Purpose::Traits, 0);
        let traits =
            Traits { gain: 1.0 + 0.04 * noise.normal().clamp(-2.5, 2.5), warmth_c: noise.normal().clamp(-2.5, 2.5) };
        let slots = std::array::from_fn(|n| {
            let spec = &blueprint.slots[n];
            let (shortest, longest) = spec.warning_days;
            let wear = Wear {
                life: Weibull { scale_days: spec.life.scale_days / options.wear_acceleration, ..spec.life },
                warning_days: (shortest * options.warning_scale, longest * options.warning_scale),
                silent_share: options.silent_failure_share,
            };
            Slot {
                component: id!(ComponentId, spec.component),
                part: id!(PartId, spec.part),
                wear,
                piece: Piece::draw(&wear, installed_at, age, &mut Noise::at(seed, stream, Purpose::Slot(n as u8), 0)),
                generation: 0,
                told: false,
                replacement_at: None,
            }
        });
        Self {
            seed,
            stream,
            key: DeviceKey::new(placed.device.tenant.clone(), placed.device.device.clone()),
            blueprint,
            signals: blueprint.signals.iter().map(|signal| id!(SignalId, signal.name)).collect(),
            codes: blueprint.codes.iter().map(|code| Arc::from(code.code)).collect(),
            solar_hours: placed.solar_hours,
            traits,
            slots,
            counters: Counters::default(),
            lost_reading_share: options.lost_reading_share,
        }
    }

    /// The components of its slots.
    pub(crate) fn components(&self) -> impl Iterator<Item = &ComponentId> {
        self.slots.iter().map(|slot| &slot.component)
    }

    fn slot(&self, component: &ComponentId) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.component == *component)
    }

    /// The part that fills a slot.
    pub(crate) fn part(&self, component: &ComponentId) -> Option<&PartId> {
        self.slot(component).map(|slot| &slot.part)
    }

    /// The truth about the piece that is in a slot now: law of its life, when it went in, when it fails.
    pub(crate) fn truth(&self, component: &ComponentId) -> Option<(Weibull, Piece)> {
        self.slot(component).map(|slot| (slot.wear.life, slot.piece))
    }

    /// A new piece goes into the slot at `at`; an earlier promise stands. Whether the device has such a slot.
    pub(crate) fn replace_at(&mut self, component: &ComponentId, at: Timestamp) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.component == *component) else { return false };
        slot.replacement_at = Some(slot.replacement_at.map_or(at, |promised| promised.min(at)));
        true
    }

    /// Lets pieces fail and be replaced up to `now`, in the order in which it happens in each slot.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for n in 0..SLOTS {
            loop {
                let slot = &mut self.slots[n];
                let due = slot.replacement_at.filter(|&at| at <= now);
                let fails_at = slot.piece.fails_at;
                if !slot.told && fails_at <= due.unwrap_or(now) {
                    slot.told = true;
                    let (device, component) = (self.key.device.clone(), slot.component.clone());
                    let gave_warning = slot.piece.degrades_from < fails_at;
                    changes.push(Change::Failed { failure: Failure { ts: fails_at, device, component }, gave_warning });
                }
                let Some(at) = due else { break };
                changes.push(Change::Replaced(self.install(n, at)));
            }
        }
        changes
    }

    fn install(&mut self, n: usize, at: Timestamp) -> Maintenance {
        let slot = &mut self.slots[n];
        let reason = if slot.told { MaintenanceReason::Failure } else { MaintenanceReason::Planned };
        slot.generation += 1;
        let mut noise = Noise::at(self.seed, self.stream, Purpose::Slot(n as u8), slot.generation);
        slot.piece = Piece::draw(&slot.wear, at, 0.0, &mut noise);
        slot.told = false;
        slot.replacement_at = None;
        self.counters.0[n] = 0.0;
        Maintenance {
            ts: at,
            device: self.key.device.clone(),
            component: slot.component.clone(),
            action: MaintenanceAction::Replaced,
            reason,
        }
    }

    /// What the device reports at `now`, the end of a step: its reading, where one arrives, and its events.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        step: u64,
        cadence: Duration,
    ) -> (Option<Reading>, Vec<DeviceEvent>) {
        let conditions: [Condition; SLOTS] = std::array::from_fn(|n| {
            let piece = &self.slots[n].piece;
            Condition { severity: piece.severity(now), failed: piece.failed(now) }
        });
        let mut noise = Noise::at(self.seed, self.stream, Purpose::Readings, step);
        let around = self.surroundings(now, cadence);
        let lost = noise.uniform() < self.lost_reading_share;
        let values = match &self.blueprint.family {
            Family::Server => signals::server(conditions, &mut self.counters, self.traits, around, &mut noise),
            Family::Appliance(cooling) => {
                signals::appliance(cooling, conditions, &mut self.counters, self.traits, around, &mut noise)
            }
        };
        let silent = |(slot, condition): (&crate::blueprint::Slot, &Condition)| {
            condition.failed && slot.on_failure == OnFailure::Silent
        };
        if self.blueprint.slots.iter().zip(&conditions).any(silent) {
            return (None, Vec::new());
        }
        let events = self.events(now, cadence, &conditions, &mut noise);
        let values: Vec<(SignalId, f64)> =
            self.signals.iter().zip(values).filter_map(|(signal, value)| Some((signal.clone(), value?))).collect();
        let reading = Reading { key: self.key.clone(), ts: now, arrival: false, values };
        ((!lost).then_some(reading), events)
    }

    fn events(
        &self,
        now: Timestamp,
        cadence: Duration,
        conditions: &[Condition; SLOTS],
        noise: &mut Noise,
    ) -> Vec<DeviceEvent> {
        let mut events = Vec::new();
        for (spec, code) in self.blueprint.codes.iter().zip(&self.codes) {
            let occurs = noise.happens(spec.rate_per_day(conditions), cadence.days());
            let back_millis = (noise.uniform() * cadence.millis() as f64) as i64;
            if occurs {
                events.push(DeviceEvent {
                    key: self.key.clone(),
                    ts: now - Duration::from_millis(back_millis),
                    code: Arc::clone(code),
                    severity: spec.severity,
                    message: Some(spec.message.to_owned()),
                });
            }
        }
        events.sort_by(|a, b| (a.ts, &a.code).cmp(&(b.ts, &b.code)));
        events
    }

    fn surroundings(&self, now: Timestamp, cadence: Duration) -> Surroundings {
        let block = now.floor_to(REGIME_BLOCK).millis() / REGIME_BLOCK.millis();
        let mut left = Noise::at(self.seed, self.stream, Purpose::Regime, block.unsigned_abs()).uniform();
        let mut load = 0.5;
        for (share, hardness) in REGIMES {
            load = hardness;
            left -= share;
            if left < 0.0 {
                break;
            }
        }
        let hour = now.millis() as f64 / MILLIS_PER_HOUR as f64 + self.solar_hours;
        let daily_wave = (std::f64::consts::TAU * (hour - WARMEST_HOUR) / 24.0).cos();
        Surroundings { days: cadence.days(), daily_wave, load }
    }
}
