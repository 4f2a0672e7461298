//! What is known of one device: its readings as columns, their buckets of summaries, events, maintenance, failures.
//!
//! The same types come out of a fleet bundle and out of the telemetry store, so features cannot tell which it was.

use std::collections::BTreeMap;

use crate::{
    fleet::{Failure, Maintenance},
    ids::SignalId,
    sample::DeviceEvent,
    summary::Summary,
    time::{Duration, TimeRange, Timestamp},
};

/// Readings of one device in order of event time: one shared time column, one column of values a signal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// Event times, strictly rising.
    pub times: Vec<Timestamp>,
    /// A column per signal, sorted by signal, each as long as `times`; NaN where the reading had no such value.
    pub columns: Vec<(SignalId, Vec<f64>)>,
}

impl Readings {
    /// Number of readings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Adds a reading that is later than all so far.
    ///
    /// # Panics
    /// In debug builds, where `ts` does not rise: the caller sorts.
    pub fn push(&mut self, ts: Timestamp, values: &[(SignalId, f64)]) {
        debug_assert!(self.times.last().is_none_or(|&last| last < ts), "readings must rise in time");
        let before = self.times.len();
        self.times.push(ts);
        for (_, column) in &mut self.columns {
            column.push(f64::NAN);
        }
        for (signal, value) in values {
            let place = match self.columns.binary_search_by(|(known, _)| known.cmp(signal)) {
                Ok(place) => place,
                Err(place) => {
                    self.columns.insert(place, (signal.clone(), vec![f64::NAN; before + 1]));
                    place
                }
            };
            if let Some(cell) = self.columns.get_mut(place).and_then(|(_, column)| column.last_mut()) {
                *cell = *value;
            }
        }
    }

    /// These readings and later ones.
    ///
    /// # Panics
    /// In debug builds, where the others do not begin after the end of these.
    #[must_use]
    pub fn followed_by(mut self, later: Self) -> Self {
        debug_assert!(self.times.last() < later.times.first() || later.is_empty(), "readings must rise in time");
        let (before, more) = (self.len(), later.len());
        self.times.extend(later.times);
        let mut columns: BTreeMap<SignalId, Vec<f64>> = self.columns.into_iter().collect();
        for (signal, column) in later.columns {
            columns.entry(signal).or_insert_with(|| vec![f64::NAN; before]).extend(column);
        }
        self.columns = columns.into_iter().collect();
        self.columns.iter_mut().for_each(|(_, column)| column.resize(before + more, f64::NAN));
        self
    }

    /// Keeps the earliest `limit` readings; columns without a value among them go.
    pub fn truncate(&mut self, limit: usize) {
        if self.times.len() <= limit {
            return;
        }
        self.times.truncate(limit);
        self.columns.iter_mut().for_each(|(_, column)| column.truncate(limit));
        self.columns.retain(|(_, column)| column.iter().any(|value| !value.is_nan()));
    }

    /// The column of a signal.
    #[must_use]
    pub fn column(&self, signal: &SignalId) -> Option<&[f64]> {
        let place = self.columns.binary_search_by(|(known, _)| known.cmp(signal)).ok()?;
        self.columns.get(place).map(|(_, column)| column.as_slice())
    }

    /// The buckets of `step` that readings fall into: each one's end, and the positions of its readings.
    fn runs(&self, step: Duration, closed: Closed) -> Vec<(Timestamp, std::ops::Range<usize>)> {
        let mut runs = Vec::new();
        let mut from = 0;
        while let Some(&ts) = self.times.get(from) {
            let end = closed.bucket_end(ts, step);
            let inside = |&&ts: &&Timestamp| ts < end || ts == end && closed == Closed::Right;
            // Most buckets hold few readings: looking from the front on is quicker than halving the rest.
            let to = from + self.times.iter().skip(from).take_while(inside).count().max(1);
            runs.push((end, from..to));
            from = to;
        }
        runs
    }

    /// Positions of the readings inside `range`.
    #[must_use]
    pub fn positions(&self, range: TimeRange) -> std::ops::Range<usize> {
        let start = self.times.partition_point(|&ts| ts < range.from);
        let end = self.times.partition_point(|&ts| ts < range.to);
        start..end.max(start)
    }
}

/// Which of its two borders a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Closed {
    /// Its start: `[start, end)`, as calendars and most dashboards count.
    Left,
    /// Its end: `(start, end]`, so that the bucket that ends at *t* knows everything up to and at *t*, and nothing later.
    /// What features read.
    #[default]
    Right,
}

impl Closed {
    /// The end of the bucket of `step` that holds `ts`.
    #[must_use]
    pub fn bucket_end(self, ts: Timestamp, step: Duration) -> Timestamp {
        match self {
            Self::Left => ts.floor_to(step) + step,
            Self::Right => ts.ceil_to(step),
        }
    }

    /// The times that lie in the buckets of `step` that end in `(range.from, range.to]`.
    #[must_use]
    pub fn times_of_buckets(self, range: TimeRange, step: Duration) -> TimeRange {
        let (from, to) = (range.from.floor_to(step), range.to.floor_to(step));
        match self {
            Self::Left => TimeRange { from, to },
            // A bucket holds its end and not its start, a range its start and not its end: both move by one millisecond.
            Self::Right => TimeRange { from: from + Duration::from_millis(1), to: to + Duration::from_millis(1) },
        }
    }
}

/// Summaries of one device's signals in buckets of one step, each under its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    /// Length of a bucket; bucket ends are multiples of it since 1970.
    pub step: Duration,
    /// Per signal (sorted by signal): bucket end and summary, rising in time, empty buckets left out.
    pub signals: Vec<(SignalId, Vec<(Timestamp, Summary)>)>,
}

impl Timeline {
    /// Buckets readings; a bucket holds its end. The order of merging is the order of time, so equal readings give equal bits.
    #[must_use]
    pub fn of(readings: &Readings, step: Duration) -> Self {
        Self::closed(readings, step, Closed::Right)
    }

    /// The same with the border of your choice.
    #[must_use]
    pub fn closed(readings: &Readings, step: Duration, closed: Closed) -> Self {
        let runs = readings.runs(step, closed);
        let summaries = |column: &[f64]| {
            let of_run = |(end, run): &(Timestamp, std::ops::Range<usize>)| {
                let samples = column.get(run.clone()).unwrap_or_default();
                let summary = Summary::of_samples(readings.times.get(run.clone()).unwrap_or_default(), samples);
                (!summary.is_empty()).then_some((*end, summary))
            };
            runs.iter().filter_map(of_run).collect()
        };
        let signals = readings.columns.iter().map(|(signal, column)| (signal.clone(), summaries(column))).collect();
        Self { step, signals }
    }

    /// The buckets of a signal.
    #[must_use]
    pub fn signal(&self, signal: &SignalId) -> &[(Timestamp, Summary)] {
        self.signals
            .binary_search_by(|(known, _)| known.cmp(signal))
            .ok()
            .and_then(|place| self.signals.get(place))
            .map_or(&[], |(_, buckets)| buckets.as_slice())
    }
}

/// Merges the buckets that end in `(from, to]`.
#[must_use]
pub fn window(buckets: &[(Timestamp, Summary)], from: Timestamp, to: Timestamp) -> Summary {
    let start = buckets.partition_point(|(end, _)| *end <= from);
    buckets
        .iter()
        .skip(start)
        .take_while(|(end, _)| *end <= to)
        .fold(Summary::EMPTY, |all, (_, bucket)| all.merge(bucket))
}

/// What is known of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceHistory {
    /// Its readings.
    pub readings: Readings,
    /// Its events in order of time.
    pub events: Vec<DeviceEvent>,
    /// What was done to it, in order of time.
    pub maintenance: Vec<Maintenance>,
    /// Which of its components failed when, in order of time.
    pub failures: Vec<Failure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_that_follow_keep_every_value_and_are_missing_where_they_were() {
        let (a, b): (SignalId, SignalId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let at = |n: i64| Timestamp::from_millis(n);
        let (mut earlier, mut later, mut whole) = (Readings::default(), Readings::default(), Readings::default());
        for n in 0..6 {
            let values = if n % 3 == 0 { vec![(a.clone(), n as f64)] } else { vec![(b.clone(), n as f64)] };
            if n < 3 {
                earlier.push(at(n), &values)
            } else {
                later.push(at(n), &values)
            };
            whole.push(at(n), &values);
        }
        let joined = earlier.clone().followed_by(later.clone());
        assert_eq!(joined.times, whole.times);
        assert_eq!(format!("{:?}", joined.columns), format!("{:?}", whole.columns), "NaN equals nothing");
        assert_eq!(Readings::default().followed_by(earlier.clone()).times, earlier.times);
        assert_eq!(later.clone().followed_by(Readings::default()).times, later.times);
    }

    fn signal(name: &str) -> SignalId {
        SignalId::parse(name).unwrap()
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    #[test]
    fn a_signal_that_comes_late_or_pauses_leaves_gaps() {
        let mut readings = Readings::default();
        readings.push(at(0), &[(signal("b"), 1.0)]);
        readings.push(at(1), &[(signal("a"), 2.0)]);
        readings.push(at(2), &[(signal("b"), 3.0), (signal("a"), 4.0)]);
        let a = readings.column(&signal("a")).unwrap();
        let b = readings.column(&signal("b")).unwrap();
        assert!(a[0].is_nan() && a[1..] == [2.0, 4.0]);
        assert!(b[1].is_nan() && b[0] == 1.0 && b[2] == 3.0);
    }

    #[test]
    fn a_bucket_holds_its_end_and_not_its_start() {
        let mut readings = Readings::default();
        for minute in [0, 1, 60, 61, 120] {
            readings.push(at(minute), &[(signal("a"), minute as f64)]);
        }
        let timeline = Timeline::of(&readings, Duration::from_hours(1));
        let counts: Vec<(i64, u64)> =
            timeline.signal(&signal("a")).iter().map(|(end, s)| (end.millis() / 60_000, s.count)).collect();
        assert_eq!(counts, [(0, 1), (60, 2), (120, 2)]);
        let last_hour = window(timeline.signal(&signal("a")), at(60), at(120));
        assert_eq!((last_hour.count, last_hour.first), (2, 61.0));
    }
}
