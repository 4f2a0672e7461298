//! Past cases: rows of training whose end is known, kept with a model so that a prediction can be laid beside those most like
//! it.
//!
//! Two rows are as alike as the share of the ranker's trees in which they end in the same leaf: the proximity of random forests
//! (Breiman 2001, *Random forests*; Breiman and Cutler's manual, "proximities"), and the same of boosted trees, whose leaves
//! are as good a description of a row (He et al. 2014, *Practical lessons from predicting clicks on ads at Facebook*, section
//! 3.1). It needs no scale that degrees and event counts would share, and looks only at what foretells failures. A case is
//! therefore kept as its leaves.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp, fleet::MaintenanceAction};
use serde::{Deserialize, Serialize};

use super::{
    Subject,
    calibration::{Calibration, Scored},
    model::Ranker,
    rows::{Row, next_failure, unit_hash},
};

/// Most cases before failures, and of devices that did not fail.
const FAILING: usize = 40;
const HEALTHY: usize = 20;
/// How long before each failure cases are taken, as shares of the horizon: first one a failure, then further ones while there
/// is room.
const LEADS: [f64; 3] = [0.25, 0.75, 0.0];
/// Cases shown beside a prediction.
const SHOWN: usize = 3;

/// A row of training, how it was scored by a ranker that had not seen its device, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Which device.
    pub device: DeviceId,
    /// When.
    pub t: Timestamp,
    /// Of the main horizon, by a ranker that had not seen the device.
    pub score: f64,
    /// What came of it.
    pub ended: Ending,
    /// The leaf of each tree of the main horizon's ranker that the row falls into.
    pub(super) leaves: Vec<u32>,
}

/// How a case ended, in hours after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It failed so many hours later.
    FailedAfterHours(f64),
    /// It was replaced so many hours later, and had not failed.
    ReplacedAfterHours(f64),
    /// It did not fail within so many hours, nor was it replaced.
    HeldForHours(f64),
}

/// A past case like a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimilarCase {
    /// Which device.
    pub device: DeviceId,
    /// When.
    pub ts: Timestamp,
    /// Share of the ranker's trees that do not tell the two apart: 0..=1.
    pub similarity: f64,
    /// Main-horizon probability that a ranker gave it that had not seen its device.
    pub probability: f64,
    /// What came of it.
    pub ended: Ending,
}

impl Case {
    /// Whether it is a case of a ranker: a file may have been damaged or made by hand.
    pub(super) fn is_sound(&self, ranker: &Ranker) -> bool {
        let (Ending::FailedAfterHours(hours) | Ending::ReplacedAfterHours(hours) | Ending::HeldForHours(hours)) =
            self.ended;
        ranker.has_leaves(&self.leaves) && self.score.is_finite() && hours >= 0.0
    }
}

/// Share of the trees in which two rows end in the same leaf; 0 where there is no tree.
///
/// * `a`, `b`: the leaves of rows by the same ranker.
pub(super) fn similarity(a: &[u32], b: &[u32]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
    same as f64 / a.len().max(1) as f64
}

/// The cases most like a row, the most alike first, one a device. What the device itself went through within a horizon is no
/// case beside it: it is the same story.
///
/// * `row`: its device, its time, and its leaves by the main horizon's ranker.
pub(super) fn most_similar(
    cases: &[Case],
    calibration: &Calibration,
    horizon: Duration,
    (device, t, leaves): (&DeviceId, Timestamp, &[u32]),
) -> Vec<SimilarCase> {
    let is_other = |case: &&Case| case.device != *device || case.t + horizon < t || t + horizon < case.t;
    let mut alike: Vec<(f64, &Case)> =
        cases.iter().filter(is_other).map(|case| (similarity(leaves, &case.leaves), case)).collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (&a.1.device, a.1.t).cmp(&(&b.1.device, b.1.t))));
    let mut seen = BTreeSet::new();
    alike
        .into_iter()
        .filter(|(similarity, case)| *similarity > 0.0 && seen.insert(&case.device))
        .take(SHOWN)
        .map(|(similarity, case)| SimilarCase {
            device: case.device.clone(),
            ts: case.t,
            similarity,
            probability: calibration.probability(case.score),
            ended: case.ended,
        })
        .collect()
}

/// A failure by place of its device and time, and the rows before it: places and scores.
type Failing = ((usize, Timestamp), Vec<(usize, f64)>);

/// What cases are chosen from.
pub(super) struct Past<'a> {
    pub subjects: &'a [Subject<'a>],
    pub component: &'a ComponentId,
    /// The main one first.
    pub horizons: &'a [Duration],
    /// Nothing after this is known.
    pub until: Timestamp,
    pub rows: &'a [Row],
    /// Places among the rows, and held-out scores of the main horizon.
    pub scored: &'a [(usize, Scored)],
}

impl Past<'_> {
    /// The cases that are kept: rows before failures, and of devices that did not fail those that looked most like it.
    pub(super) fn choose(&self, ranker: &Ranker) -> Vec<Case> {
        let chosen = self.before_failures().into_iter().chain(self.false_alarms());
        chosen
            .map(|(place, score, ended)| {
                let row = &self.rows[place];
                let device = self.subjects[row.subject].device.device.clone();
                Case { device, t: row.t, score, ended, leaves: ranker.leaves(&row.features) }
            })
            .collect()
    }

    /// Rows before failures, at different lead times; where there are too many failures an even choice by a hash of each.
    fn before_failures(&self) -> Vec<(usize, f64, Ending)> {
        let mut failures: BTreeMap<(usize, Timestamp), Vec<(usize, f64)>> = BTreeMap::new();
        for (place, scored) in self.scored.iter().filter(|(_, scored)| scored.failed) {
            let row = &self.rows[*place];
            let history = self.subjects[row.subject].history;
            if let Some(failure) = next_failure(history, self.component, row.t, self.until) {
                failures.entry((row.subject, failure)).or_default().push((*place, scored.score));
            }
        }
        let mut failures: Vec<Failing> = failures.into_iter().collect();
        let hash = |(subject, failure): (usize, Timestamp)| {
            unit_hash(self.subjects[subject].device.device.as_str(), failure.millis())
        };
        failures.sort_by(|a, b| hash(a.0).total_cmp(&hash(b.0)).then(a.0.cmp(&b.0)));
        let mut chosen = Vec::new();
        for share in LEADS {
            let wanted = self.horizons.first().map_or(0.0, |horizon| share * horizon.hours());
            for ((_, failure), rows) in &mut failures {
                let lead = |&(place, _): &(usize, f64)| failure.hours_since(self.rows[place].t);
                let off = |row: &(usize, f64)| (lead(row) - wanted).abs();
                let nearest = (0..rows.len()).min_by(|&a, &b| off(&rows[a]).total_cmp(&off(&rows[b])));
                if let Some((place, score)) = nearest.map(|nearest| rows.remove(nearest)) {
                    chosen.push((place, score, Ending::FailedAfterHours(failure.hours_since(self.rows[place].t))));
                }
            }
        }
        chosen.truncate(FAILING);
        chosen
    }

    /// Of the devices whose component did not fail within any horizon the highest row of each, the highest first: false alarms
    /// and what came near one.
    fn false_alarms(&self) -> Vec<(usize, f64, Ending)> {
        let mut highest: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
        for (place, scored) in self.scored.iter().filter(|(place, _)| !self.rows[*place].failed.contains(&true)) {
            let best = highest.entry(self.rows[*place].subject).or_insert((*place, scored.score));
            if scored.score > best.1 {
                *best = (*place, scored.score);
            }
        }
        let mut highest: Vec<(usize, f64)> = highest.into_values().collect();
        highest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        highest.into_iter().take(HEALTHY).map(|(place, score)| (place, score, self.held(&self.rows[place]))).collect()
    }

    /// How a row ended that no failure followed within the horizons whose end is known.
    fn held(&self, row: &Row) -> Ending {
        let known = self.horizons.iter().zip(&row.labels).filter(|(_, label)| label.is_some());
        let watched = known.map(|(&horizon, _)| horizon).max().unwrap_or_default();
        let replaced = self.subjects[row.subject].history.maintenance.iter().find(|record| {
            record.component == *self.component
                && record.action == MaintenanceAction::Replaced
                && row.t < record.ts
                && record.ts <= row.t + watched
        });
        match replaced {
            Some(record) => Ending::ReplacedAfterHours(record.ts.hours_since(row.t)),
            None => Ending::HeldForHours(watched.hours()),
        }
    }
}
