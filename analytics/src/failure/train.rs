//! Training: rows, rankers on folds of devices, the better kind of them, calibration and threshold on the devices each did
//! not see; remaining life where it is known.

mod lifetimes;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use harbinger_core::{
    ComponentId, DeviceId, Duration, HardwareModelId, SignalId, Timestamp,
    fleet::Fleet,
    history::{Readings, Timeline},
};
use rayon::prelude::*;

use super::{
    AlarmRule, Subject,
    calibration::Scored,
    cases::{Case, Past},
    drift::Reference,
    forest::{Forest, ForestOptions},
    held_out::{Choice, HeldOut, Place, calibrate, choose_threshold, score_held_out},
    kind_of, kinds,
    lead::{in_time, part_lead_time},
    life::{
        Inputs, LifeModel, LifeRow, Remaining, Weights,
        wear::{Seen, Wear},
    },
    model::{ComponentModel, FORMAT, Family, HorizonModel, Kind, Model, Ranker},
    rows::{Row, all_rows, component_rows, failure_times, fill, forest_rows, next_failure, tell},
};
use crate::{
    boosting::{Boosting, BoostingOptions, Table},
    evaluate::average_precision,
    features::{Cohorts, FeatureSpace, Windows, cadence, counters, regimes::Regimes},
};

pub(crate) use lifetimes::{class_rate, prior_rate};

/// Below this many failures a forest would learn single devices by heart; a lifetime serves.
const MIN_FAILURES_FOR_FOREST: usize = 3;
/// From this many failures on boosted trees compete: below, which ranks better on held-out devices is chance, and averages
/// over many trees are the safer.
const MIN_FAILURES_FOR_BOOSTING: usize = 20;
/// Forests of the horizons beside the main one, which no alarm hangs on, have so many times fewer trees: they are most of the
/// time that training takes.
const OTHER_HORIZONS: u16 = 3;
/// Most cells, rows by features, that remaining life is learnt from: 128 MB.
const LIFE_CELLS: usize = 16_000_000;
/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Nothing after this is used.
    pub until: Timestamp,
    /// Horizons, the main one first; chosen by the fleet's cadence where there are none.
    pub horizons: Vec<Duration>,
    /// Time between two scores of a device; chosen by the fleet's cadence where `None`.
    pub every: Option<Duration>,
    /// Where remaining useful life stops counting.
    pub rul_cap: Duration,
    /// Folds of devices for calibration and threshold.
    pub folds: usize,
    /// How forests are grown.
    pub forest: ForestOptions,
    /// How trees are boosted.
    pub boosting: BoostingOptions,
    /// From which probability on to alarm.
    pub alarm_rule: AlarmRule,
    /// Whether alarms are to come early enough for the part: of horizons that nobody chose the shortest that leaves it the time is
    /// the main one, and alarms that come later are no hits where the threshold is chosen.
    pub in_time: bool,
    /// The same data and seed give the same model.
    pub seed: u64,
    /// Devices whose rows and labels are used; all where `None`. The others still stand in their cohorts.
    pub devices: Option<BTreeSet<DeviceId>>,
}

impl TrainOptions {
    /// The usual options for training on everything up to `until`.
    #[must_use]
    pub fn new(until: Timestamp) -> Self {
        Self {
            until,
            horizons: Vec::new(),
            every: None,
            rul_cap: Duration::from_days(3652),
            folds: 5,
            forest: ForestOptions::default(),
            boosting: BoostingOptions {
                trees: 200,
                learning_rate: 0.05,
                leaves: 15,
                rows_in_leaf: 0.0,
                // Failures are few and rows of one device alike: leaves of many rows, and trees that see different features, hold
                // on devices and months not seen (docs/benchmarks.md).
                curvature_in_leaf: 5.0,
                ridge: 1.0,
                feature_share: 0.15,
                row_share: 0.8,
                ..BoostingOptions::default()
            },
            alarm_rule: AlarmRule::Balanced,
            in_time: false,
            seed: 1,
            devices: None,
        }
    }
}

/// Horizons for a fleet that reports once every `cadence`, main one first.
#[must_use]
pub fn default_horizons(cadence: Duration) -> Vec<Duration> {
    if cadence <= Duration::from_hours(2) {
        vec![Duration::from_hours(24), Duration::from_days(3), Duration::from_days(7)]
    } else {
        vec![Duration::from_days(7), Duration::from_days(14)]
    }
}

/// Time between scores for a fleet that reports once every `cadence`.
#[must_use]
pub fn default_every(cadence: Duration) -> Duration {
    if cadence <= Duration::from_hours(2) { Duration::from_hours(3) } else { Duration::from_hours(24) }
}

/// Learns a model from everything at or before `options.until`. Without any failure it holds prior rates.
///
/// * `subjects`: in order of device id; only readings at or before `until` are used, whatever they hold.
#[must_use]
pub fn train(fleet: &Fleet, subjects: &[Subject<'_>], options: &TrainOptions) -> Model {
    let Outset { families, horizons, every } = Outset::of(fleet, subjects, options);
    let families = families
        .iter()
        .map(|(kind, (windows, members))| {
            let job = FamilyJob { fleet, subjects, members, horizons: &horizons, every, options };
            job.train(kind, *windows)
        })
        .collect();
    Model {
        format: FORMAT,
        version: String::new(),
        trained_until: options.until,
        horizons,
        every,
        rul_cap: options.rul_cap,
        families,
    }
    .seal()
}

/// What training sets out with: windows and members of each kind, horizons, and the time between two rows.
pub(super) struct Outset {
    pub(super) families: BTreeMap<String, (Windows, Vec<usize>)>,
    pub(super) horizons: Vec<Duration>,
    pub(super) every: Duration,
}

impl Outset {
    pub(super) fn of(fleet: &Fleet, subjects: &[Subject<'_>], options: &TrainOptions) -> Self {
        let kinds = kinds(fleet);
        let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, subject) in subjects.iter().enumerate() {
            members.entry(kind_of(&kinds, subject.device)).or_default().push(place);
        }
        let mut fastest: Option<Duration> = None;
        let with_windows = |(kind, members): (&str, Vec<usize>)| {
            let cadence = family_cadence(subjects, &members, options.until);
            fastest = Some(fastest.map_or(cadence, |fastest| fastest.min(cadence)));
            (kind.to_owned(), (Windows::for_cadence(cadence), members))
        };
        let families = members.into_iter().map(with_windows).collect();
        let fastest = fastest.unwrap_or(Duration::from_hours(1));
        let horizons = match (options.horizons.is_empty(), options.in_time) {
            (true, true) => in_time(
                default_horizons(fastest),
                part_lead_time(fleet, subjects.iter().map(|subject| subject.device.depot_at(options.until))),
            ),
            (true, false) => default_horizons(fastest),
            (false, _) => options.horizons.clone(),
        };
        Self { families, horizons, every: options.every.unwrap_or_else(|| default_every(fastest)) }
    }
}

/// Signals that the store adds to readings, such as the mark of an arrival time, say nothing of the device.
fn is_reserved(signal: &SignalId) -> bool {
    signal.as_str().starts_with('_')
}

/// Median time between readings; hourly where no device has two (events alone have no cadence, and hours suit them).
fn family_cadence(subjects: &[Subject<'_>], members: &[usize], until: Timestamp) -> Duration {
    let upto = |&place: &usize| {
        let times = &subjects[place].history.readings.times;
        &times[..times.partition_point(|&ts| ts <= until)]
    };
    cadence(members.iter().map(upto)).unwrap_or(Duration::from_hours(1))
}

/// The components of a fleet's devices of some models.
pub(super) fn components_of<'a>(
    fleet: &'a Fleet,
    subjects: &[Subject<'_>],
    members: &[usize],
) -> BTreeMap<&'a ComponentId, BTreeSet<&'a HardwareModelId>> {
    let models: BTreeSet<&HardwareModelId> = members.iter().map(|&place| &subjects[place].device.model).collect();
    let mut components: BTreeMap<&ComponentId, BTreeSet<&HardwareModelId>> = BTreeMap::new();
    for slot in fleet.components.iter().filter(|slot| models.contains(&slot.model)) {
        components.entry(&slot.component).or_default().insert(&slot.model);
    }
    components
}

/// Scores with the places of their rows.
type Placed = Vec<(usize, Scored)>;

/// Scores without them.
fn only_scores(placed: &[(usize, Scored)]) -> Vec<Scored> {
    placed.iter().map(|(_, scored)| *scored).collect()
}

pub(super) struct FamilyJob<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) subjects: &'a [Subject<'a>],
    pub(super) members: &'a [usize],
    pub(super) horizons: &'a [Duration],
    pub(super) every: Duration,
    pub(super) options: &'a TrainOptions,
}

/// What was learnt of a component.
struct Trained {
    component: ComponentId,
    /// One a horizon.
    rankers: Vec<Ranker>,
    held_out: HeldOut,
    life: Option<LifeModel>,
    usual: Vec<Option<(f64, f64)>>,
    reference: Reference,
    cases: Vec<Case>,
}

impl FamilyJob<'_> {
    fn train(&self, kind: &str, windows: Windows) -> Family {
        let (space, cohorts) = self.space(windows);
        let mut components = BTreeMap::new();
        let mut learnt = Vec::new();
        for (component, models) in components_of(self.fleet, self.subjects, self.members) {
            let members = self.learning(&models);
            match self.learn(component, &members, &space, &cohorts) {
                Some(trained) => learnt.push(trained),
                None => {
                    components.insert(component.clone(), self.lifetime(component, &members));
                }
            }
        }
        let held_out: Vec<&HeldOut> = learnt.iter().map(|trained| &trained.held_out).collect();
        let calibrations = calibrate(&held_out, self.horizons.len());
        let choice = Choice {
            rule: self.options.alarm_rule,
            every: self.every,
            devices: self.subjects.len(),
            lead: part_lead_time(
                self.fleet,
                self.members.iter().map(|&place| self.subjects[place].device.depot_at(self.options.until)),
            ),
            in_time: self.options.in_time,
        };
        let (threshold, quality) = choose_threshold(&held_out, &calibrations, choice);
        for (trained, calibrations) in learnt.into_iter().zip(calibrations) {
            let Trained { component, rankers, held_out, life, usual, reference, cases } = trained;
            let horizons = rankers.into_iter().zip(calibrations);
            let horizons = horizons.map(|(ranker, calibration)| HorizonModel { ranker, calibration }).collect();
            let (failures, life) = (held_out.failures, life.map(Box::new));
            components.insert(component, ComponentModel::Learnt { failures, horizons, usual, reference, cases, life });
        }
        let experience = self.experience();
        Family { kind: kind.to_owned(), space, threshold, components, experience, quality }
    }

    /// Failures to be expected of each hardware model in the time that it was watched, if all fail as often.
    fn experience(&self) -> BTreeMap<HardwareModelId, f64> {
        let mut days: BTreeMap<HardwareModelId, f64> = BTreeMap::new();
        let mut failures = 0_usize;
        for &place in self.members {
            let Subject { device, history, observed } = &self.subjects[place];
            let learns = self.options.devices.as_ref().is_none_or(|devices| devices.contains(&device.device));
            let Some(observed) = observed.filter(|_| learns) else { continue };
            let until = observed.until.min(self.options.until);
            *days.entry(device.model.clone()).or_default() += until.days_since(observed.from).max(0.0);
            failures += history.failures.iter().filter(|f| observed.from < f.ts && f.ts <= self.options.until).count();
        }
        let all: f64 = days.values().sum();
        let expected = |days: f64| if all > 0.0 { failures as f64 * days / all } else { 0.0 };
        days.into_iter().map(|(model, days)| (model, expected(days))).collect()
    }

    /// The devices that a component of some models is learnt from.
    pub(super) fn learning(&self, models: &BTreeSet<&HardwareModelId>) -> Vec<usize> {
        let learns = |&place: &usize| {
            let device = &self.subjects[place].device;
            let chosen = self.options.devices.as_ref().is_none_or(|devices| devices.contains(&device.device));
            chosen && models.contains(&device.model)
        };
        self.members.iter().copied().filter(learns).collect()
    }

    /// The feature space of what the family reported until now, and its cohorts.
    pub(super) fn space(&self, windows: Windows) -> (FeatureSpace, BTreeMap<HardwareModelId, Timeline>) {
        let until = self.options.until;
        let mut signals: BTreeSet<SignalId> = BTreeSet::new();
        let mut codes: BTreeMap<String, usize> = BTreeMap::new();
        for &place in self.members {
            let history = self.subjects[place].history;
            let upto = history.readings.times.partition_point(|&ts| ts <= until);
            for (signal, column) in &history.readings.columns {
                if !is_reserved(signal)
                    && !signals.contains(signal)
                    && column[..upto].iter().any(|value| !value.is_nan())
                {
                    signals.insert(signal.clone());
                }
            }
            for event in history.events.iter().filter(|event| event.ts <= until) {
                *codes.entry(event.code.to_string()).or_default() += 1;
            }
        }
        let upto: Vec<Cow<'_, Readings>> = self.members.iter().map(|&place| self.upto(place)).collect();
        let components = components_of(self.fleet, self.subjects, self.members).into_keys().cloned().collect();
        let devices: Vec<&Readings> = upto.iter().map(|readings| &**readings).collect();
        let regimes = Regimes::find(&devices);
        // Told within regimes, no signal only grows.
        let counters = if regimes.is_some() { BTreeSet::new() } else { counters::find(&devices) };
        let space = FeatureSpace::new(windows, signals, counters, &codes, &components).with_regimes(regimes);
        let cohorts = cohorts_of(self.subjects, self.members, &space);
        (space, cohorts)
    }

    /// What a device had reported until now.
    fn upto(&self, place: usize) -> Cow<'_, Readings> {
        let readings = &self.subjects[place].history.readings;
        let count = readings.times.partition_point(|&ts| ts <= self.options.until);
        if count == readings.len() {
            return Cow::Borrowed(readings);
        }
        let columns = readings.columns.iter().map(|(signal, column)| (signal.clone(), column[..count].to_vec()));
        Cow::Owned(Readings { times: readings.times[..count].to_vec(), columns: columns.collect() })
    }

    /// What ranks the failures of a component, or `None` where its failures are too few or on too few devices.
    fn learn(
        &self,
        component: &ComponentId,
        members: &[usize],
        space: &FeatureSpace,
        cohorts: &BTreeMap<HardwareModelId, Timeline>,
    ) -> Option<Trained> {
        let mut rows = component_rows(
            self.subjects,
            members,
            component,
            self.horizons,
            self.every,
            self.options.until,
            space.width(),
        );
        let failing: BTreeSet<usize> = rows.iter().filter(|row| row.failed[0]).map(|row| row.subject).collect();
        let failures = self.observed_failures(component, &failing);
        let meaning_known = |h: usize| rows.iter().any(|row| row.labels[h] == Some(true));
        if failures < MIN_FAILURES_FOR_FOREST || failing.len() < 2 || !(0..self.horizons.len()).all(meaning_known) {
            return None;
        }
        fill(&mut rows, self.subjects, component, space, cohorts);
        let folds = self.folds(members, &failing);
        // Few failures leave much to chance: more trees take some of it out again.
        let (kinds, times) =
            if failures < MIN_FAILURES_FOR_BOOSTING { (&Kind::ALL[..1], 2) } else { (&Kind::ALL[..], 1) };
        let forest = ForestOptions { trees: times * self.options.forest.trees, ..self.options.forest };
        let (kind, scored) = self.champion(&rows, &folds, kinds, forest)?;
        let jobs: Vec<usize> = (0..self.horizons.len()).collect();
        let rankers: Option<Vec<Ranker>> = jobs.par_iter().map(|&h| self.grow(&rows, kind, h, None, forest)).collect();
        let rankers = rankers?;
        let past = Past {
            subjects: self.subjects,
            component,
            horizons: self.horizons,
            until: self.options.until,
            rows: &rows,
            scored: &scored[0],
        };
        let cases = rankers.first().map_or_else(Vec::new, |main| past.choose(main));
        let life = self.life(component, members, &folds, (space, cohorts));
        let usual = usual(&rows, space.width());
        let reference = Reference::new(&only_scores(&scored[0]), &rows, space.width());
        let place = |&(place, scored): &(usize, Scored)| {
            let Row { subject, t, .. } = rows[place];
            let next = || next_failure(self.subjects[subject].history, component, t, self.options.until);
            let failure = scored.failed.then(next).flatten();
            Place { subject, t, failure }
        };
        let places = scored[0].iter().map(place).collect();
        let held_out = HeldOut {
            failures,
            rows: rows.len(),
            scores: scored.iter().map(|placed| only_scores(placed)).collect(),
            places,
        };
        Some(Trained { component: component.clone(), rankers, held_out, life, usual, reference, cases })
    }

    /// The kind of ranker that puts the failures of devices it has not seen highest, with the scores that it gave them by place
    /// of the row, one list a horizon. Kinds compete on the main horizon; the others are left to the winner.
    fn champion(
        &self,
        rows: &[Row],
        folds: &BTreeMap<usize, usize>,
        kinds: &[Kind],
        forest: ForestOptions,
    ) -> Option<(Kind, Vec<Placed>)> {
        let main = self.scores_held_out(rows, folds, kinds.iter().map(|&kind| (kind, 0)).collect(), forest);
        let mut of_kinds = kinds.iter().copied().zip(main);
        let (mut kind, mut scores) = of_kinds.next()?;
        for (other, of_other) in of_kinds {
            if average_precision(&only_scores(&of_other)) > average_precision(&only_scores(&scores)) {
                (kind, scores) = (other, of_other);
            }
        }
        let others = (1..self.horizons.len()).map(|horizon| (kind, horizon)).collect();
        let others = self.scores_held_out(rows, folds, others, forest);
        Some((kind, std::iter::once(scores).chain(others).collect()))
    }

    /// What rankers of a kind for a horizon, one a fold, say of the rows that they have not seen.
    fn scores_held_out(
        &self,
        rows: &[Row],
        folds: &BTreeMap<usize, usize>,
        wanted: Vec<(Kind, usize)>,
        forest: ForestOptions,
    ) -> Vec<Placed> {
        let fold_count = folds.values().copied().max().map_or(0, |last| last + 1);
        // One job a ranker and fold; collected in order, so threads change nothing.
        let jobs: Vec<(Kind, usize, usize)> =
            wanted.iter().flat_map(|&(kind, h)| (0..fold_count).map(move |fold| (kind, h, fold))).collect();
        let grown: Vec<Option<Ranker>> =
            jobs.par_iter().map(|&(kind, h, fold)| self.grow(rows, kind, h, Some((fold, folds)), forest)).collect();
        let of_folds = grown.chunks(fold_count.max(1)).zip(wanted);
        of_folds.map(|(grown, (_, horizon))| score_held_out(rows, horizon, grown, folds)).collect()
    }

    /// A ranker on the rows outside a fold, or on all. The forests of folds only place the held-out rows, for which half the
    /// trees do.
    fn grow(
        &self,
        rows: &[Row],
        kind: Kind,
        horizon: usize,
        outside: Option<(usize, &BTreeMap<usize, usize>)>,
        forest: ForestOptions,
    ) -> Option<Ranker> {
        let used = |row: &&Row| outside.is_none_or(|(fold, folds)| folds[&row.subject] != fold);
        let mut chosen: Vec<&Row> = rows.iter().filter(used).collect();
        if kind == Kind::Forest {
            chosen = forest_rows(&chosen, self.subjects);
        }
        let features: Vec<&[f64]> = chosen.iter().map(|row| row.features.as_slice()).collect();
        let labels: Vec<f64> = chosen.iter().map(|row| f64::from(u8::from(row.failed[horizon]))).collect();
        match kind {
            Kind::Forest => {
                let trees = if horizon == 0 { forest.trees } else { forest.trees.div_ceil(OTHER_HORIZONS) };
                let trees = if outside.is_some() { trees.div_ceil(2) } else { trees };
                let options = ForestOptions { trees, ..forest };
                Some(Ranker::Forest(Forest::fit(&features, &labels, options, self.options.seed).ok()?))
            }
            Kind::Boosting => {
                let weights: Vec<f64> = chosen.iter().map(|row| row.weight).collect();
                let table = Table { rows: &features, labels: &labels, weights: &weights };
                let options = BoostingOptions { seed: self.options.seed, ..self.options.boosting.clone() };
                Some(Ranker::Boosting(Boosting::fit(table, None, &[], &options).ok()?))
            }
        }
    }

    /// Remaining life, where devices are run until they fail.
    fn life(
        &self,
        component: &ComponentId,
        members: &[usize],
        folds: &BTreeMap<usize, usize>,
        (space, cohorts): (&FeatureSpace, &BTreeMap<HardwareModelId, Timeline>),
    ) -> Option<LifeModel> {
        let cap = self.options.rul_cap;
        let until = self.options.until;
        let most = LIFE_CELLS / space.width().max(1);
        let rows = all_rows(self.subjects, members, component, self.every, until, most);
        let remaining = |row: &Row| match next_failure(self.subjects[row.subject].history, component, row.t, until) {
            Some(failed) => Remaining::Known(failed.hours_since(row.t).min(cap.hours())),
            None => {
                let seen = self.subjects[row.subject].observed.map_or(row.t, |observed| observed.until.min(until));
                let watched = seen.hours_since(row.t);
                if watched >= cap.hours() { Remaining::Known(cap.hours()) } else { Remaining::AtLeast(watched) }
            }
        };
        let lives: Vec<Remaining> = rows.iter().map(remaining).collect();
        if !LifeModel::can_learn(&lives) {
            return None;
        }
        let weights = Weights::of(&lives)?;
        let known = rows.into_iter().zip(lives).filter_map(|(row, life)| Some((row, life.known()?)));
        let (mut rows, lives): (Vec<Row>, Vec<f64>) = known.unzip();
        fill(&mut rows, self.subjects, component, space, cohorts);
        let seen = rows.iter().zip(&lives);
        let seen = seen.map(|(row, &hours)| Seen { features: &row.features, device: row.subject, hours });
        let inputs = Inputs::new(space, Wear::fit(space, &seen.collect::<Vec<_>>()));
        tell(&mut rows, self.subjects, &inputs, space, cohorts);
        let rows: Vec<LifeRow<'_>> = rows
            .iter()
            .zip(lives)
            .map(|(row, hours)| LifeRow {
                features: &row.features,
                hours,
                weight: weights.of_row(hours),
                fold: folds[&row.subject],
            })
            .collect();
        LifeModel::fit(inputs, &rows, cap, self.options.seed)
    }

    fn observed_failures(&self, component: &ComponentId, failing: &BTreeSet<usize>) -> usize {
        let of = |&place: &usize| {
            let subject = &self.subjects[place];
            let inside = |ts: &Timestamp| subject.observed.is_some_and(|o| o.from < *ts);
            failure_times(subject.history, component, self.options.until).iter().filter(|ts| inside(ts)).count()
        };
        failing.iter().map(of).sum()
    }

    /// Deals devices to folds, those with failures first, so that every fold has its share of them.
    fn folds(&self, members: &[usize], failing: &BTreeSet<usize>) -> BTreeMap<usize, usize> {
        let folds = self.options.folds.clamp(2, failing.len().max(2));
        let mut order: Vec<usize> = members.to_vec();
        let hash = |place: usize| super::rows::unit_hash(self.subjects[place].device.device.as_str(), 0);
        order.sort_by(|&a, &b| {
            failing.contains(&b).cmp(&failing.contains(&a)).then(hash(a).total_cmp(&hash(b))).then(a.cmp(&b))
        });
        order.into_iter().enumerate().map(|(dealt, place)| (place, dealt % folds)).collect()
    }
}

/// The buckets of a family's devices by hardware model. A chunk of devices is bucketed in parallel and merged in order.
pub(super) fn cohorts_of(
    subjects: &[Subject<'_>],
    members: &[usize],
    space: &FeatureSpace,
) -> BTreeMap<HardwareModelId, Timeline> {
    let mut cohorts = Cohorts::new(space.windows.step);
    let timeline = |place: &usize| Timeline::of(&space.view(&subjects[*place].history.readings), space.windows.step);
    for chunk in members.chunks(1024) {
        let timelines: Vec<Timeline> = chunk.par_iter().map(timeline).collect();
        for (&place, timeline) in chunk.iter().zip(&timelines) {
            cohorts.add(&subjects[place].device.model, timeline);
        }
    }
    cohorts.finish()
}

/// Of each feature the 5 and the 95 % quantile over rows that no failure follows.
fn usual(rows: &[Row], width: usize) -> Vec<Option<(f64, f64)>> {
    let healthy: Vec<&Row> = rows.iter().filter(|row| !row.failed.contains(&true)).collect();
    // Quantiles of some thousand are as good as those of all.
    let step = healthy.len().div_ceil(4_000).max(1);
    (0..width)
        .map(|feature| {
            let present = healthy.iter().step_by(step).map(|row| row.features[feature]).filter(|value| !value.is_nan());
            let mut values: Vec<f64> = present.collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
            (!values.is_empty()).then(|| (at(0.05), at(0.95)))
        })
        .collect()
}
