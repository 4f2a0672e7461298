//! Luck: when pieces fail, and what a model says beforehand. The same under every policy.
//!
//! Each slot draws the lives of its pieces from a stream of its own. A piece's age is counted from the failure of the one before,
//! not from its repair, so that failures come on the same days whatever a policy does; a wait of days is nothing to a life of
//! years. What a model says of a piece, and its false alarms, come from further streams: a better model sees all that a
//! worse one sees, and more.

use super::{Network, Quality};
use crate::noise::{Noise, Purpose};

/// Shortest and longest time between alert and failure in days. The model knows this law, not the day.
pub(crate) const LEAD_DAYS: (usize, usize) = (7, 35);
/// Standard deviation of the error, in logits, of the probability that a model reports: its calibration is imperfect.
const PROBABILITY_ERROR: f64 = 0.5;
/// An alert takes at most this share of a piece's life.
const LONGEST_LEAD_SHARE: f64 = 0.6;

/// Something that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Of which device.
    pub device: usize,
    /// Which part.
    pub part: usize,
}

/// What a model says of a slot, from a day on until the failure or until its signs subside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alert {
    /// Of which device.
    pub device: usize,
    /// Which part.
    pub part: usize,
    /// First day.
    pub from: usize,
    /// Day of the failure, or the day on which its signs are gone.
    pub to: usize,
    /// P(it ends in a failure), as the model says.
    pub probability: f64,
}

impl Alert {
    /// P(failure within `days` after `day`), as the model says: its probability, and its law of leads given that nothing came
    /// so far.
    #[must_use]
    pub fn probability_within(&self, day: usize, days: usize) -> f64 {
        let gone = lead_share(day.saturating_sub(self.from));
        let then = lead_share((day + days).saturating_sub(self.from));
        if gone >= 1.0 { self.probability } else { self.probability * (then - gone) / (1.0 - gone) }
    }
}

/// P(lead <= days).
fn lead_share(days: usize) -> f64 {
    let (shortest, longest) = LEAD_DAYS;
    (((days + 1).saturating_sub(shortest)) as f64 / (longest + 1 - shortest) as f64).min(1.0)
}

/// Mean lead in days.
pub(crate) fn mean_lead_days() -> f64 {
    (LEAD_DAYS.0 + LEAD_DAYS.1) as f64 / 2.0
}

/// All that happens under a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Luck {
    /// Failures by day, in order of device and part.
    pub failures: Vec<Vec<Failure>>,
    /// Alerts of each quality, in order of their first day.
    pub alerts: Vec<Vec<Alert>>,
}

/// A piece of a slot that fails in the time that is looked at.
struct Ended {
    number: u64,
    life_days: f64,
    day: usize,
}

impl Luck {
    /// Alerts of a quality; none where none were drawn.
    #[must_use]
    pub fn alerts_of(&self, quality: Quality) -> &[Alert] {
        let place = Quality::ALL.iter().position(|of| *of == quality);
        place.and_then(|place| self.alerts.get(place)).map_or(&[], Vec::as_slice)
    }

    /// Draws so many days.
    #[must_use]
    pub fn draw(network: &Network, seed: u64, days: usize) -> Self {
        let mut failures = vec![Vec::new(); days];
        let mut alerts = vec![Vec::new(); Quality::ALL.len()];
        for (device, number) in (0..network.devices.len()).zip(0_u32..) {
            for (part, place) in (0..network.parts.len()).zip(0_u8..) {
                let slot = Slot { network, seed, device, number, part, place };
                let ended = slot.ended(days);
                for (quality, alerts) in Quality::ALL.into_iter().zip(&mut alerts) {
                    slot.alerts(quality, &ended, days, alerts);
                }
                for piece in ended {
                    failures[piece.day].push(Failure { device, part });
                }
            }
        }
        for alerts in &mut alerts {
            alerts.sort_by_key(|alert| (alert.from, alert.device, alert.part, alert.to));
        }
        Self { failures, alerts }
    }
}

struct Slot<'a> {
    network: &'a Network,
    seed: u64,
    device: usize,
    number: u32,
    part: usize,
    place: u8,
}

impl Slot<'_> {
    fn stress(&self) -> f64 {
        self.network.depots[self.network.devices[self.device].depot].stress
    }

    fn ended(&self, days: usize) -> Vec<Ended> {
        let life = self.network.parts[self.part].life;
        let mut noise = Noise::at(self.seed, self.number, Purpose::Slot(self.place), 0);
        // A grown fleet: pieces are of all ages on the first day.
        let age = noise.uniform() * life.scale_days;
        let mut life_days = (life.draw_beyond(age, &mut noise) - age) / self.stress();
        let (mut ended, mut at, mut number) = (Vec::new(), 0.0, 0);
        loop {
            at += life_days.max(1.0);
            if at >= days as f64 {
                return ended;
            }
            ended.push(Ended { number, life_days, day: at as usize });
            life_days = life.draw_beyond(0.0, &mut noise) / self.stress();
            number += 1;
        }
    }

    fn alerts(&self, quality: Quality, ended: &[Ended], days: usize, alerts: &mut Vec<Alert>) {
        let (recall, precision) = quality.claims();
        if quality != Quality::Worthless {
            for piece in ended {
                let mut noise = Noise::at(self.seed, self.number, Purpose::Alert(self.place), piece.number);
                let seen = noise.uniform() < recall;
                let lead = lead(&mut noise).min((piece.life_days * LONGEST_LEAD_SHARE) as usize);
                let probability = reported(precision, &mut noise);
                if seen && lead > 0 {
                    alerts.push(self.alert(piece.day.saturating_sub(lead), piece.day, probability));
                }
            }
        }
        let mut noise = Noise::at(self.seed, self.number, Purpose::FalseAlarm(self.place), 0);
        let mean_days = 0.893 * self.network.parts[self.part].life.scale_days / self.stress();
        // So many false alarms for each true one that the precision is as said; without any true one all are false.
        let false_share = if quality == Quality::Worthless { 1.0 } else { 1.0 - precision };
        let rate_per_day = recall / mean_days * false_share / precision;
        let mut at = 0.0;
        loop {
            at += -(1.0 - noise.uniform()).ln() / rate_per_day;
            if at >= days as f64 {
                return;
            }
            let from = at as usize;
            let to = from + lead(&mut noise);
            let probability = reported(precision, &mut noise);
            alerts.push(self.alert(from, to, probability));
        }
    }

    fn alert(&self, from: usize, to: usize, probability: f64) -> Alert {
        Alert { device: self.device, part: self.part, from, to, probability }
    }
}

fn lead(noise: &mut Noise) -> usize {
    let (shortest, longest) = LEAD_DAYS;
    shortest + (noise.uniform() * (longest + 1 - shortest) as f64) as usize
}

/// What a model with this precision reports of one alert.
fn reported(precision: f64, noise: &mut Noise) -> f64 {
    let logit = (precision / (1.0 - precision)).ln() + PROBABILITY_ERROR * noise.normal();
    1.0 / (1.0 + (-logit).exp())
}
