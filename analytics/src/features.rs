//! Features of a device at a time *t*: a pure function of what was known at *t*.
//!
//! Windows are windows in time and end at *t*; missing stays missing (NaN). Beside a device's own windows stand its
//! deviation from the devices of the same hardware model (a drift of one against its cohort is a strong early sign), the
//! change against its own longer past and against its baseline, which is how it was when it was new or had just been
//! repaired, growth of counters, counts and recency of its events, and the age of the component. Signals of devices that change
//! between operating [`regimes`] are told within them.
//!
//! **Invariant**: nothing after *t* is read, so training, scoring a bundle and the live service compute the same bits.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use harbinger_core::{
    ComponentId, DeviceEvent, Duration, HardwareModelId, SignalId, Summary, TimeRange, Timestamp,
    fleet::{Maintenance, MaintenanceAction},
    history::{Readings, Timeline, window},
};
use serde::{Deserialize, Serialize};

pub(crate) mod counters;
mod feature;
pub mod regimes;
#[cfg(test)]
mod tests;

pub use feature::Feature;
use regimes::Regimes;

/// Event codes beyond this many (the most frequent are kept) would make a feature space that no fleet can fill.
const MAX_CODES: usize = 64;
/// Components beyond this many are too many to look for how they wear together.
const MAX_PIECES: usize = 64;

/// Windows over which signals and events are summarised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Length of the buckets that windows are merged from.
    pub step: Duration,
    /// The latest past.
    pub short: Duration,
    /// What is compared with the cohort.
    pub mid: Duration,
    /// What the latest past is compared with; but for the baseline nothing before it is read.
    pub long: Duration,
    /// How long a device is taken for healthy after its first reading, or after a replacement.
    pub baseline: Duration,
}

impl Windows {
    /// Windows for a fleet that reports once every `cadence`: hours for what reports hourly or faster, days otherwise.
    #[must_use]
    pub fn for_cadence(cadence: Duration) -> Self {
        if cadence <= Duration::from_hours(2) {
            Self {
                step: Duration::from_hours(1),
                short: Duration::from_hours(3),
                mid: Duration::from_hours(24),
                long: Duration::from_days(7),
                baseline: Duration::from_days(3),
            }
        } else {
            Self {
                step: Duration::from_hours(24),
                short: Duration::from_hours(24),
                mid: Duration::from_days(7),
                long: Duration::from_days(30),
                baseline: Duration::from_days(10),
            }
        }
    }

    /// How far before *t* a feature may look, the baseline apart.
    #[must_use]
    pub fn lookback(&self) -> Duration {
        Duration::from_millis(self.long.millis() + self.step.millis())
    }
}

/// Median time between readings of one device, over devices; `None` where no device has two readings.
///
/// * `times`: of each device's readings.
#[must_use]
pub fn cadence<'a>(times: impl Iterator<Item = &'a [Timestamp]>) -> Option<Duration> {
    let mut gaps: Vec<i64> = times.filter_map(median_gap).collect();
    let middle = gaps.len() / 2;
    (!gaps.is_empty()).then(|| Duration::from_millis(*gaps.select_nth_unstable(middle).1))
}

fn median_gap(times: &[Timestamp]) -> Option<i64> {
    let mut gaps: Vec<i64> = times.windows(2).map(|pair| pair[1].millis() - pair[0].millis()).collect();
    let middle = gaps.len() / 2;
    (!gaps.is_empty()).then(|| *gaps.select_nth_unstable(middle).1)
}

/// Which numbers make a row, in which order. Chosen from training data and kept with the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpace {
    /// The windows.
    pub windows: Windows,
    /// The numbers of a row.
    pub features: Vec<Feature>,
    signals: Vec<SignalId>,
    /// Those of the signals that only grow.
    counters: BTreeSet<SignalId>,
    codes: Vec<String>,
    /// The components of the devices, where there are several.
    pieces: Vec<ComponentId>,
    /// Where devices change between regimes: signals are told within them.
    regimes: Option<Regimes>,
}

/// What is known of one device; only what lies at or before *t* is used for a row at *t*.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its readings.
    pub readings: &'a Readings,
    /// The same readings in buckets of the space's step.
    pub timeline: &'a Timeline,
    /// The buckets of all devices of its hardware model.
    pub cohort: Option<&'a Timeline>,
    /// Its events in order of time.
    pub events: &'a [DeviceEvent],
    /// What was done to it, in order of time.
    pub maintenance: &'a [Maintenance],
    /// When it was installed.
    pub installed_at: Option<Timestamp>,
}

impl FeatureSpace {
    /// The space for devices that report these signals and event codes and have these components.
    #[must_use]
    pub fn new(
        windows: Windows,
        signals: BTreeSet<SignalId>,
        counters: BTreeSet<SignalId>,
        code_counts: &BTreeMap<String, usize>,
        components: &BTreeSet<ComponentId>,
    ) -> Self {
        let mut frequent: Vec<(&String, &usize)> = code_counts.iter().collect();
        frequent.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut codes: Vec<String> = frequent.into_iter().take(MAX_CODES).map(|(code, _)| code.clone()).collect();
        codes.sort();
        let signals: Vec<SignalId> = signals.into_iter().collect();
        let per_signal: [fn(SignalId) -> Feature; 13] = [
            Feature::Last,
            Feature::ShortMean,
            Feature::MidMean,
            Feature::LongMean,
            Feature::MidSpread,
            Feature::MidMin,
            Feature::MidMax,
            Feature::MidSlope,
            Feature::LongSlope,
            Feature::LongChange,
            Feature::OwnDeviation,
            Feature::CohortDeviation,
            Feature::BaselineChange,
        ];
        let per_code: [fn(String) -> Feature; 3] = [Feature::MidEvents, Feature::LongEvents, Feature::SinceEvent];
        let per_counter: [fn(SignalId) -> Feature; 3] = [Feature::MidGrowth, Feature::LongGrowth, Feature::SinceGrowth];
        let mut features: Vec<Feature> = Vec::new();
        for signal in &signals {
            features.extend(per_signal.map(|of| of(signal.clone())));
            if counters.contains(signal) {
                features.extend(per_counter.map(|of| of(signal.clone())));
            }
        }
        features.extend(codes.iter().flat_map(|code| per_code.map(|of| of(code.clone()))));
        if !signals.is_empty() {
            features.push(Feature::Staleness);
        }
        // Of a single component its own age says it all.
        let pieces: Vec<ComponentId> = match components.len() {
            0 | 1 => Vec::new(),
            _ => components.iter().take(MAX_PIECES).cloned().collect(),
        };
        if !pieces.is_empty() {
            features.push(Feature::DeviceAge);
            features.extend(pieces.iter().cloned().map(Feature::PieceAge));
        }
        features.push(Feature::ComponentAge);
        Self { windows, features, signals, counters, codes, pieces, regimes: None }
    }

    /// The same space, with signals told within regimes.
    #[must_use]
    pub fn with_regimes(self, regimes: Option<Regimes>) -> Self {
        Self { regimes, ..self }
    }

    /// Readings as features see them: [`Known`] and cohorts are made of these.
    #[must_use]
    pub fn view<'a>(&self, readings: &'a Readings) -> Cow<'a, Readings> {
        match &self.regimes {
            Some(regimes) => Cow::Owned(regimes.within(readings)),
            None => Cow::Borrowed(readings),
        }
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.features.len()
    }

    /// What the numbers of a row are, in words.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.features.iter().map(|feature| feature.words(&self.windows)).collect()
    }

    /// The row of a device at `t`, but for the component's age, which [`FeatureSpace::complete`] adds.
    #[must_use]
    pub fn device_row(&self, known: &Known<'_>, t: Timestamp) -> Vec<f64> {
        let mut row = Vec::with_capacity(self.width());
        let baseline = self.baseline(known, t);
        for signal in &self.signals {
            self.signal_features(known, signal, t, baseline, &mut row);
            if self.counters.contains(signal) {
                self.counter_features(known, signal, t, &mut row);
            }
        }
        let from = t - self.windows.long;
        let start = known.events.partition_point(|event| event.ts <= from);
        let end = known.events.partition_point(|event| event.ts <= t);
        let recent = &known.events[start.min(end)..end];
        for code in &self.codes {
            event_features(recent, code, t, t - self.windows.mid, &mut row);
        }
        if !self.signals.is_empty() {
            row.push(self.staleness(known.readings, t));
        }
        if !self.pieces.is_empty() {
            let installed = known.installed_at.filter(|&installed| installed <= t);
            row.push(installed.map_or(f64::NAN, |installed| t.hours_since(installed)));
            let age = |piece| replaced_at(known, piece, t).map_or(f64::NAN, |replaced| t.hours_since(replaced));
            row.extend(self.pieces.iter().map(age));
        }
        row
    }

    /// The row of a component: the device's row and the component's age.
    #[must_use]
    pub fn complete(&self, device_row: &[f64], known: &Known<'_>, component: &ComponentId, t: Timestamp) -> Vec<f64> {
        let mut row = Vec::with_capacity(device_row.len() + 1);
        row.extend_from_slice(device_row);
        row.push(component_age_hours(known, component, t).unwrap_or(f64::NAN));
        row
    }

    fn signal_features(
        &self,
        known: &Known<'_>,
        signal: &SignalId,
        t: Timestamp,
        baseline: Option<TimeRange>,
        row: &mut Vec<f64>,
    ) {
        let Windows { step, short, mid, long, .. } = self.windows;
        let buckets = known.timeline.signal(signal);
        // What came after the last whole bucket, where t lies between two bucket ends.
        let tail = tail_of(known.readings, signal, t.floor_to(step), t);
        let upto = |length: Duration| window(buckets, t - length, t).merge(&tail);
        let (short, mid_summary, long) = (upto(short), upto(mid), upto(long));
        row.push(if long.is_empty() { f64::NAN } else { long.last });
        for summary in [&short, &mid_summary, &long] {
            row.push(summary.mean().unwrap_or(f64::NAN));
        }
        row.push(mid_summary.stddev().unwrap_or(f64::NAN));
        row.push(if mid_summary.is_empty() { f64::NAN } else { mid_summary.min });
        row.push(if mid_summary.is_empty() { f64::NAN } else { mid_summary.max });
        row.push(mid_summary.slope_per_hour().unwrap_or(f64::NAN));
        row.push(long.slope_per_hour().unwrap_or(f64::NAN));
        row.push(if long.is_empty() { f64::NAN } else { long.last - long.first });
        row.push(deviation(&short, &long));
        let cohort = known.cohort.map_or(Summary::EMPTY, |cohort| window(cohort.signal(signal), t - mid, t));
        row.push(deviation(&mid_summary, &cohort));
        let healthy = baseline.map_or(Summary::EMPTY, |range| window(buckets, range.from, range.to));
        row.push(match (mid_summary.mean(), healthy.mean()) {
            (Some(now), Some(healthy)) => now - healthy,
            _ => f64::NAN,
        });
    }

    fn counter_features(&self, known: &Known<'_>, signal: &SignalId, t: Timestamp, row: &mut Vec<f64>) {
        let Windows { step, mid, long, .. } = self.windows;
        let buckets = known.timeline.signal(signal);
        let tail = tail_of(known.readings, signal, t.floor_to(step), t);
        let over = |length: Duration| {
            let inside = &buckets[buckets.partition_point(|(end, _)| *end <= t - length)..];
            let inside = &inside[..inside.partition_point(|(end, _)| *end <= t)];
            counters::growth(inside.iter().map(|(end, bucket)| (*end, bucket)).chain([(t, &tail)]))
        };
        let (mid, long) = (over(mid), over(long));
        row.extend([mid, long].map(|grown| grown.map_or(f64::NAN, |(sum, _)| sum)));
        row.push(long.and_then(|(_, grew)| grew).map_or(f64::NAN, |grew| t.hours_since(grew)));
    }

    /// The whole buckets of the baseline that are over at `t`.
    fn baseline(&self, known: &Known<'_>, t: Timestamp) -> Option<TimeRange> {
        let begin = self.healthy_from(known, t)?;
        let to = (begin + self.windows.baseline).min(t);
        Some(TimeRange { from: begin, to }).filter(|range| range.from < range.to)
    }

    /// After what time buckets show the device since it was new or repaired: the last replacement, or the first reading.
    pub(crate) fn healthy_from(&self, known: &Known<'_>, t: Timestamp) -> Option<Timestamp> {
        let step = self.windows.step;
        Some(match baseline_begin(known.maintenance, t) {
            // The bucket of the replacement holds what was before it.
            Some(replaced) => replaced.ceil_to(step),
            None => known.readings.times.first()?.ceil_to(step) - step,
        })
    }

    /// The signals that show how a device is, and not how it is set.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &SignalId> {
        let is_setting = |signal: &SignalId| self.regimes.as_ref().is_some_and(|regimes| regimes.is_setting(signal));
        self.signals.iter().filter(move |signal| !is_setting(signal))
    }

    fn staleness(&self, readings: &Readings, t: Timestamp) -> f64 {
        let upto = readings.times.partition_point(|&ts| ts <= t);
        match upto.checked_sub(1).map(|last| readings.times[last]) {
            Some(last) if last > t - self.windows.long => t.hours_since(last),
            _ => f64::NAN,
        }
    }
}

/// Samples of a signal in `(from, to]`, straight from the readings.
pub(crate) fn tail_of(readings: &Readings, signal: &SignalId, from: Timestamp, to: Timestamp) -> Summary {
    let start = readings.times.partition_point(|&ts| ts <= from);
    let end = readings.times.partition_point(|&ts| ts <= to);
    if start >= end {
        return Summary::EMPTY;
    }
    let Some(column) = readings.column(signal) else { return Summary::EMPTY };
    Summary::of_samples(&readings.times[start..end], &column[start..end])
}

/// How many standard deviations of `past` the mean of `now` lies from its mean; 0 where the past does not vary and the
/// present is the same, missing where either has no samples or the past does not vary and the present differs.
fn deviation(now: &Summary, past: &Summary) -> f64 {
    match (now.mean(), past.mean(), past.stddev()) {
        (Some(now), Some(mean), Some(spread)) if spread > 0.0 => (now - mean) / spread,
        (Some(now), Some(mean), _) if now == mean => 0.0,
        _ => f64::NAN,
    }
}

fn event_features(recent: &[DeviceEvent], code: &str, t: Timestamp, mid_from: Timestamp, row: &mut Vec<f64>) {
    let of_code = || recent.iter().filter(|event| &*event.code == code);
    row.push(of_code().filter(|event| event.ts > mid_from).count() as f64);
    row.push(of_code().count() as f64);
    row.push(of_code().next_back().map_or(f64::NAN, |event| t.hours_since(event.ts)));
}

/// When the last replacement of any component at or before `t` was: from then on a device's signals are taken for those of a
/// healthy one.
#[must_use]
pub fn baseline_begin(maintenance: &[Maintenance], t: Timestamp) -> Option<Timestamp> {
    let replaced = |m: &&Maintenance| m.ts <= t && m.action == MaintenanceAction::Replaced;
    maintenance.iter().rev().find(replaced).map(|m| m.ts)
}

/// Hours since the component was last replaced at or before `t`, or else since the device was installed.
#[must_use]
pub fn component_age_hours(known: &Known<'_>, component: &ComponentId, t: Timestamp) -> Option<f64> {
    let installed = known.installed_at.filter(|&installed| installed <= t);
    replaced_at(known, component, t).or(installed).map(|since| t.hours_since(since))
}

/// When the component was last replaced at or before `t`.
fn replaced_at(known: &Known<'_>, component: &ComponentId, t: Timestamp) -> Option<Timestamp> {
    let replaced = |m: &&Maintenance| m.ts <= t && m.component == *component && m.action == MaintenanceAction::Replaced;
    known.maintenance.iter().rev().find(replaced).map(|m| m.ts)
}

/// Buckets of all devices of each hardware model, merged in the order in which devices are added.
#[derive(Debug, Clone, Default)]
pub struct Cohorts {
    by_model: BTreeMap<HardwareModelId, BTreeMap<SignalId, BTreeMap<Timestamp, Summary>>>,
    step: Duration,
}

impl Cohorts {
    /// No devices yet, buckets of `step`.
    #[must_use]
    pub fn new(step: Duration) -> Self {
        Self { by_model: BTreeMap::new(), step }
    }

    /// Adds a device. Call in order of device id: rounding depends on the order of merging.
    pub fn add(&mut self, model: &HardwareModelId, timeline: &Timeline) {
        let signals = match self.by_model.get_mut(model) {
            Some(signals) => signals,
            None => self.by_model.entry(model.clone()).or_default(),
        };
        for (signal, buckets) in &timeline.signals {
            let merged = match signals.get_mut(signal) {
                Some(merged) => merged,
                None => signals.entry(signal.clone()).or_default(),
            };
            for (end, bucket) in buckets {
                let all = merged.entry(*end).or_insert(Summary::EMPTY);
                *all = all.merge(bucket);
            }
        }
    }

    /// The cohorts' buckets by hardware model.
    #[must_use]
    pub fn finish(self) -> BTreeMap<HardwareModelId, Timeline> {
        let step = self.step;
        let timeline = |signals: BTreeMap<SignalId, BTreeMap<Timestamp, Summary>>| Timeline {
            step,
            signals: signals.into_iter().map(|(signal, buckets)| (signal, buckets.into_iter().collect())).collect(),
        };
        self.by_model.into_iter().map(|(model, signals)| (model, timeline(signals))).collect()
    }
}
