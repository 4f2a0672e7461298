//! Training rows: which device, component and time, with what label for each horizon, standing for how many.

use std::collections::BTreeMap;

use harbinger_core::{
    ComponentId, Duration, HardwareModelId, Timestamp,
    fleet::{Failure, MaintenanceAction},
    history::{DeviceHistory, Readings, Timeline},
};
use rayon::prelude::*;

use super::{Subject, grid, life::Inputs};
use crate::features::{FeatureSpace, Known};

/// Most cells, rows by features, that a component is learnt from: 32 MB. Beyond that the healthy only repeat themselves.
const MAX_CELLS: usize = 4_000_000;
/// Most rows that a forest learns from: it takes a hundred times as long as boosted trees.
const FOREST_ROWS: usize = 8_000;
/// So many negatives for each positive are as good as all of them to a forest, once there are some thousand.
const NEGATIVES_PER_POSITIVE: usize = 10;
/// Negatives that a forest takes however few positives there are: the healthy have more faces than the failing.
const MIN_NEGATIVES: usize = 4_000;

/// A row to learn from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Place of the device among the subjects.
    pub subject: usize,
    /// When.
    pub t: Timestamp,
    /// One a horizon: whether the component failed in `(t, t + horizon]`; `None` where that is not known yet. What scores mean
    /// is learnt from these alone.
    pub labels: Vec<Option<bool>>,
    /// One a horizon: whether it has failed in `(t, t + horizon]` as far as is known. How rows rank is learnt from these: they
    /// are there for failing and healthy devices up to the very end, so that "late" does not stand for "failing".
    pub failed: Vec<bool>,
    /// How many rows it stands for.
    pub weight: f64,
    /// Features.
    pub features: Vec<f64>,
}

/// Times at which a component of a device failed.
pub(super) fn failure_times(history: &DeviceHistory, component: &ComponentId, until: Timestamp) -> Vec<Timestamp> {
    let of = |f: &&Failure| f.component == *component && f.ts <= until;
    history.failures.iter().filter(of).map(|f| f.ts).collect()
}

/// When a component of a device failed next after `t`, as far as is known at `until`.
pub(super) fn next_failure(
    history: &DeviceHistory,
    component: &ComponentId,
    t: Timestamp,
    until: Timestamp,
) -> Option<Timestamp> {
    failure_times(history, component, until).into_iter().find(|&failure| failure > t)
}

/// Whether the component has failed at or before `t` and was not replaced since.
fn is_down(history: &DeviceHistory, component: &ComponentId, failures: &[Timestamp], t: Timestamp) -> bool {
    let Some(&failed) = failures.iter().rev().find(|&&failed| failed <= t) else { return false };
    !history
        .maintenance
        .iter()
        .any(|m| m.component == *component && m.action == MaintenanceAction::Replaced && m.ts >= failed && m.ts <= t)
}

/// The labelled times of one slot, without features.
fn slot_rows(
    place: usize,
    subject: &Subject<'_>,
    component: &ComponentId,
    horizons: &[Duration],
    every: Duration,
    until: Timestamp,
) -> Vec<Row> {
    let Some(observed) = subject.observed else { return Vec::new() };
    let failures = failure_times(subject.history, component, until);
    let fails = |t: Timestamp, horizon: Duration| failures.iter().any(|&failed| t < failed && failed <= t + horizon);
    grid(observed.from, observed.until.min(until), every)
        .filter(|&t| !is_down(subject.history, component, &failures, t))
        .map(|t| {
            let failed: Vec<bool> = horizons.iter().map(|&horizon| fails(t, horizon)).collect();
            let seen = |horizon: Duration| t + horizon <= observed.until;
            let known = |(&horizon, &failed): (&Duration, &bool)| {
                (t + horizon <= until && (failed || seen(horizon))).then_some(failed)
            };
            let labels = horizons.iter().zip(&failed).map(known).collect();
            Row { subject: place, t, labels, failed, weight: 1.0, features: Vec::new() }
        })
        .collect()
}

/// The rows of a component over all devices that have it: all that a failure follows, and of the others as many as fit,
/// chosen evenly by a hash of device and time so that adding a device does not reshuffle the rest.
pub(super) fn component_rows(
    subjects: &[Subject<'_>],
    members: &[usize],
    component: &ComponentId,
    horizons: &[Duration],
    every: Duration,
    until: Timestamp,
    width: usize,
) -> Vec<Row> {
    let rows: Vec<Row> = members
        .par_iter()
        .map(|&place| slot_rows(place, &subjects[place], component, horizons, every, until))
        .collect::<Vec<_>>()
        .concat();
    let positives = rows.iter().filter(|row| positive(row)).count();
    let negatives = rows.len() - positives;
    let room = (MAX_CELLS / width.max(1)).saturating_sub(positives).max(positives);
    if negatives <= room {
        return rows;
    }
    let share = room as f64 / negatives as f64;
    let mut kept: Vec<Row> = rows.into_iter().filter(|row| positive(row) || is_chosen(row, subjects, share)).collect();
    let kept_negatives = kept.len() - positives;
    for row in kept.iter_mut().filter(|row| !positive(row)) {
        row.weight = negatives as f64 / kept_negatives as f64;
    }
    kept
}

/// The rows that a forest learns from: all positives, and negatives as its time allows.
pub(super) fn forest_rows<'a>(rows: &[&'a Row], subjects: &[Subject<'_>]) -> Vec<&'a Row> {
    let positives = rows.iter().filter(|row| positive(row)).count();
    let enough = (NEGATIVES_PER_POSITIVE * positives).max(MIN_NEGATIVES);
    let room = FOREST_ROWS.saturating_sub(positives).max(positives).min(enough);
    let share = room as f64 / (rows.len() - positives).max(1) as f64;
    // Rows that were thinned already are those of a low hash: among them a share of the share that was taken counts.
    let chosen = |row: &&Row| positive(row) || is_chosen(row, subjects, share / row.weight);
    rows.iter().copied().filter(chosen).collect()
}

fn positive(row: &Row) -> bool {
    row.failed.contains(&true)
}

/// Whether a row is among an evenly chosen share of all.
fn is_chosen(row: &Row, subjects: &[Subject<'_>], share: f64) -> bool {
    share >= 1.0 || unit_hash(subjects[row.subject].device.device.as_str(), row.t.millis()) < share
}

/// All rows of a component, thinned evenly to about `most`, without labels.
pub(super) fn all_rows(
    subjects: &[Subject<'_>],
    members: &[usize],
    component: &ComponentId,
    every: Duration,
    until: Timestamp,
    most: usize,
) -> Vec<Row> {
    let of = |&place: &usize| slot_rows(place, &subjects[place], component, &[], every, until);
    let rows: Vec<Row> = members.par_iter().map(of).collect::<Vec<_>>().concat();
    let share = most as f64 / rows.len().max(1) as f64;
    rows.into_iter().filter(|row| is_chosen(row, subjects, share)).collect()
}

/// A number in 0..1 from a device and a time: FNV-1a, then mixed (the tail of MurmurHash3).
pub(super) fn unit_hash(device: &str, millis: i64) -> f64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in device.bytes().chain(millis.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((hash ^ (hash >> 33)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Fills in the features of rows, which are in order of subject.
pub(super) fn fill(
    rows: &mut [Row],
    subjects: &[Subject<'_>],
    component: &ComponentId,
    space: &FeatureSpace,
    cohorts: &BTreeMap<HardwareModelId, Timeline>,
) {
    each_known(rows, subjects, space, cohorts, |row, known| {
        let device_row = space.device_row(known, row.t);
        row.features = space.complete(&device_row, known, component, row.t);
    });
}

/// Turns the features of rows, which are in order of subject, into what remaining life is told by.
pub(super) fn tell(
    rows: &mut [Row],
    subjects: &[Subject<'_>],
    inputs: &Inputs,
    space: &FeatureSpace,
    cohorts: &BTreeMap<HardwareModelId, Timeline>,
) {
    each_known(rows, subjects, space, cohorts, |row, known| {
        row.features = inputs.row(space, &row.features, known, row.t);
    });
}

/// Calls for each row with what is known of its subject.
fn each_known(
    rows: &mut [Row],
    subjects: &[Subject<'_>],
    space: &FeatureSpace,
    cohorts: &BTreeMap<HardwareModelId, Timeline>,
    call: impl Fn(&mut Row, &Known<'_>) + Sync,
) {
    rows.par_chunk_by_mut(|a, b| a.subject == b.subject).for_each(|rows| {
        let Some(first) = rows.first() else { return };
        let subject = &subjects[first.subject];
        let readings = space.view(&subject.history.readings);
        let timeline = Timeline::of(&readings, space.windows.step);
        let known = known(subject, &readings, &timeline, cohorts);
        rows.iter_mut().for_each(|row| call(row, &known));
    });
}

/// What features may know of a subject, its readings as the feature space sees them.
pub(super) fn known<'a>(
    subject: &Subject<'a>,
    readings: &'a Readings,
    timeline: &'a Timeline,
    cohorts: &'a BTreeMap<HardwareModelId, Timeline>,
) -> Known<'a> {
    Known {
        readings,
        timeline,
        cohort: cohorts.get(&subject.device.model),
        events: &subject.history.events,
        maintenance: &subject.history.maintenance,
        installed_at: subject.device.installed_at,
    }
}

#[cfg(test)]
mod tests {
    use harbinger_core::{fleet::Device, history::DeviceHistory};

    use super::*;
    use crate::failure::{Observed, tests::pump};

    /// Thirty devices for a thousand hours, the first of which fails at the end.
    #[test]
    fn what_is_thinned_twice_is_thinned_by_both_shares() {
        let hour = |n: i64| Timestamp::from_millis(n * 3_600_000);
        let devices: Vec<Device> = (0..30).map(|n| pump(&format!("d{n}"))).collect();
        let component: ComponentId = "fan".parse().unwrap();
        let failure = Failure { ts: hour(1_000), device: devices[0].device.clone(), component: component.clone() };
        let failing = DeviceHistory { failures: vec![failure], ..DeviceHistory::default() };
        let healthy = DeviceHistory::default();
        let observed = Some(Observed { from: hour(0), until: hour(1_000) });
        let history = |n: usize| if n == 0 { &failing } else { &healthy };
        let subjects: Vec<Subject<'_>> =
            devices.iter().enumerate().map(|(n, device)| Subject { device, history: history(n), observed }).collect();
        let members: Vec<usize> = (0..30).collect();
        let horizon = Duration::from_hours(24);
        let of_width = |width: usize| {
            let every = Duration::from_hours(1);
            component_rows(&subjects, &members, &component, &[horizon], every, hour(1_000), width)
        };
        let all = of_width(1).len();
        // So wide that about a third of the rows fit.
        let thinned = of_width(MAX_CELLS / 10_000);
        let stand_for: f64 = thinned.iter().map(|row| row.weight).sum();
        assert!((9_000..11_000).contains(&thinned.len()) && (stand_for - all as f64).abs() < 1.0, "{}", thinned.len());
        let rows: Vec<&Row> = thinned.iter().collect();
        let chosen = forest_rows(&rows, &subjects);
        assert!((3_500..4_500).contains(&chosen.len()), "{} rows for a forest", chosen.len());
        assert_eq!(chosen.iter().filter(|row| positive(row)).count(), 24);
    }
}
