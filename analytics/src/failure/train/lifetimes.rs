//! Components with too few failures for a ranker: a lifetime distribution of their ages, or a rate.

use harbinger_core::{ComponentId, Timestamp, fleet::MaintenanceAction};

use super::FamilyJob;
use crate::{
    failure::{Subject, model::ComponentModel, rows::failure_times},
    lifetime::{self, Lifetime, RatePrior},
};

/// Prior of a component class without a failure: as if half a failure had been seen in ten device-years, an annual failure
/// rate of 5 %, in the middle of what drives, fans and compressors show in their first years.
const PRIOR: RatePrior = RatePrior { failures: 0.5, exposure_days: 3652.5 };

/// Failures a day of a component of which nothing is known.
pub(crate) fn prior_rate() -> f64 {
    PRIOR.rate_per_day(0, 0.0)
}

impl FamilyJob<'_> {
    /// A lifetime from ages at failure and at the end of observation, or a rate where ages are not known.
    pub(super) fn lifetime(&self, component: &ComponentId, members: &[usize]) -> ComponentModel {
        let until = self.options.until;
        let mut lifetimes = Vec::new();
        for &place in members {
            let subject = &self.subjects[place];
            let Some((from, end)) = watched(subject, component, until) else { continue };
            let failed = failure_times(subject.history, component, until);
            lifetimes.extend(slot_lifetimes(subject, component, &failed, (from, end)));
        }
        let (failures, rate_per_day) = class_rate(members.iter().map(|&place| &self.subjects[place]), component, until);
        match lifetime::fit_weibull(&lifetimes) {
            Ok(weibull) => ComponentModel::Lifetime { failures, weibull, rate_per_day },
            Err(_) => ComponentModel::Rate { failures, rate_per_day },
        }
    }
}

/// From when to when a slot was watched, its failures inside.
fn watched(subject: &Subject<'_>, component: &ComponentId, until: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let observed = subject.observed?;
    let failed = failure_times(subject.history, component, until);
    // A device falls silent with its last reading and is found dead a little later.
    Some((observed.from, observed.until.min(until).max(failed.last().copied().unwrap_or(Timestamp::MIN))))
}

/// Failures of a component of a class of devices until a time, and its rate a day: what was seen, joined with a weak prior of
/// all components (section 5.7).
pub(crate) fn class_rate<'a>(
    class: impl Iterator<Item = &'a Subject<'a>>,
    component: &ComponentId,
    until: Timestamp,
) -> (usize, f64) {
    let (mut failures, mut exposure_days) = (0, 0.0);
    for subject in class {
        let Some((from, end)) = watched(subject, component, until) else { continue };
        failures += failure_times(subject.history, component, until).iter().filter(|&&ts| ts > from).count();
        exposure_days += end.days_since(from).max(0.0);
    }
    (failures, PRIOR.rate_per_day(u32::try_from(failures).unwrap_or(u32::MAX), exposure_days))
}

/// Spells of a slot from piece to piece inside `(from, end]`: age at entry, age at exit, whether the exit was a failure.
fn slot_lifetimes(
    subject: &Subject<'_>,
    component: &ComponentId,
    failed: &[Timestamp],
    (from, end): (Timestamp, Timestamp),
) -> Vec<Lifetime> {
    let replaced: Vec<Timestamp> = subject
        .history
        .maintenance
        .iter()
        .filter(|m| m.component == *component && m.action == MaintenanceAction::Replaced && m.ts <= end)
        .map(|m| m.ts)
        .collect();
    let mut births: Vec<Timestamp> = subject.device.installed_at.into_iter().chain(replaced.iter().copied()).collect();
    births.sort();
    births.dedup();
    let mut spells = Vec::new();
    for (n, &birth) in births.iter().enumerate() {
        let death = births.get(n + 1).copied().unwrap_or(end).min(end);
        let failure = failed.iter().copied().find(|&ts| ts > birth && ts <= death);
        let exit = failure.unwrap_or(death);
        let entry = from.max(birth);
        if exit > entry {
            spells.push(Lifetime {
                duration: exit.days_since(birth),
                event_observed: failure.is_some(),
                entry: entry.days_since(birth),
            });
        }
    }
    spells
}
