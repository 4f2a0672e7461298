//! The anomaly screen: readings unlike those that a device gave while it was taken for healthy, without any labels.
//!
//! One device, one screen. Each reading is scaled to what is usual for its signals at that time of day, compared with where the
//! signals are just now ([`states`]: departure from the level, jump, drift), and measured along axes on which signals that move
//! together are one ([`whitening`]). The score is smoothed, because faults last longer than a reading; thresholds come from the
//! part that was learnt from alone, each tenth of it judged by what the other nine taught ([`alarm`]). Constants are the same
//! for all devices; docs/benchmarks.md tells what they were chosen by.
//!
//! **Invariant**: what is said of a reading uses that reading and earlier ones, in order of time.
//!
//! It is a screen, not a prediction: it says that a device is not as it was, and by which signals, not what will fail.

mod alarm;
mod scaling;
mod states;
mod whitening;

use harbinger_core::{Duration, SignalId, Timestamp, history::Readings};

use self::{
    alarm::{Smoothing, Thresholds, score},
    scaling::{Rows, Scaling},
    states::{States, VIEWS, Views},
    whitening::{Moments, Whitener},
};
use crate::features::cadence;

/// Parts of what is learnt from, each judged by a screen of the others.
const PARTS: usize = 10;
/// Readings without which there is no telling what is usual.
const MIN_READINGS: usize = 50;
/// With less than this a threshold would be a guess: scores are given, alarms are not.
const DAYS_FOR_ALARMS: f64 = 3.0;
/// Signals named with an alarm.
const TOP_SIGNALS: usize = 3;

/// What is usual for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Screen {
    signals: Vec<SignalId>,
    cadence: Duration,
    scaling: Scaling,
    whiteners: [Whitener; VIEWS],
    thresholds: Option<Thresholds>,
}

/// What the screen says of a reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Screened {
    /// When it was taken.
    pub ts: Timestamp,
    /// How unlike the usual, 0 and above; comparable within a device.
    pub score: f64,
    /// Whether the device is in alarm.
    pub alarm: bool,
    /// The signals behind an alarm, the strongest first; empty without one.
    pub top_signals: Vec<SignalId>,
}

/// Why a device cannot be screened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unscreened {
    /// It is not known what is usual.
    #[error("it has {0} readings to learn from, at least {MIN_READINGS} are needed")]
    TooFewReadings(usize),
    /// Nothing to compare.
    #[error("none of its signals has a value among the readings to learn from")]
    NoSignals,
    /// The numbers are none that can be reckoned with.
    #[error("its readings vary beyond what can be reckoned with")]
    Unreckonable,
}

impl Screen {
    /// Learns from the readings before `until`, and screens the later ones.
    ///
    /// # Errors
    /// [`Unscreened`], where there is too little to learn from.
    pub fn learn_and_apply(readings: &Readings, until: Timestamp) -> Result<(Self, Vec<Screened>), Unscreened> {
        let learnt = readings.times.partition_point(|&ts| ts < until);
        if learnt < MIN_READINGS {
            return Err(Unscreened::TooFewReadings(learnt));
        }
        let usable = |column: &&(SignalId, Vec<f64>)| column.1[..learnt].iter().any(|value| value.is_finite());
        let columns: Vec<&(SignalId, Vec<f64>)> = readings.columns.iter().filter(usable).collect();
        if columns.is_empty() {
            return Err(Unscreened::NoSignals);
        }
        let width = columns.len();
        let mut cells = vec![f64::NAN; readings.len() * width];
        for (signal, (_, column)) in columns.iter().enumerate() {
            for (row, &value) in cells.chunks_exact_mut(width).zip(column) {
                // An infinite value is no measurement.
                row[signal] = if value.is_finite() { value } else { f64::NAN };
            }
        }
        let rows = Rows { times: &readings.times, cells: &cells, width };
        let signals = columns.iter().map(|(signal, _)| signal.clone()).collect();
        let before = Rows { times: &readings.times[..learnt], cells: &cells[..learnt * width], width };
        let screen = Self::learn(before, signals)?;
        let mut watch = screen.watch();
        let screened = rows.iter().map(|(ts, row)| watch.step(ts, row)).skip(learnt).collect();
        Ok((screen, screened))
    }

    fn learn(rows: Rows<'_>, signals: Vec<SignalId>) -> Result<Self, Unscreened> {
        let cadence = cadence(std::iter::once(rows.times)).unwrap_or_default().max(Duration::from_millis(1));
        let learn = |used: &dyn Fn(usize) -> bool| {
            let scaling = Scaling::fit(rows, used, cadence);
            let whiteners = whiteners(rows, &scaling, used, cadence)?;
            Some(Self { signals: signals.clone(), cadence, scaling, whiteners, thresholds: None })
        };
        let screen = learn(&|_| true).ok_or(Unscreened::Unreckonable)?;
        let count = rows.times.len();
        if count as f64 * cadence.days() < DAYS_FOR_ALARMS {
            return Ok(screen);
        }
        let mut distances = Vec::with_capacity(count);
        for part in 0..PARTS {
            let inside = part * count / PARTS..(part + 1) * count / PARTS;
            let of_others = learn(&|place| !inside.contains(&place)).ok_or(Unscreened::Unreckonable)?;
            let mut watch = of_others.watch();
            for (place, (ts, row)) in rows.iter().enumerate().take(inside.end) {
                watch.view(ts, row);
                if inside.contains(&place) {
                    distances.push(watch.distances());
                }
            }
        }
        let mut smoothing = Smoothing::default();
        let statistics: Vec<_> =
            rows.times.iter().zip(distances).map(|(&ts, distances)| smoothing.step(ts, distances, cadence)).collect();
        Ok(Self { thresholds: Thresholds::choose(&statistics, cadence), ..screen })
    }

    /// Whether there was enough to learn when to alarm.
    #[must_use]
    pub fn can_alarm(&self) -> bool {
        self.thresholds.is_some()
    }

    /// The signals that it looks at, in order: the cells of a row.
    #[must_use]
    pub fn signals(&self) -> &[SignalId] {
        &self.signals
    }

    /// Watches the device from its first reading on.
    #[must_use]
    pub fn watch(&self) -> Watch<'_> {
        let states = States::new(self.signals.len());
        Watch {
            screen: self,
            states,
            smoothing: Smoothing::default(),
            on: [false; VIEWS],
            scaled: Vec::new(),
            views: Views::default(),
            scratch: Vec::new(),
        }
    }
}

/// The axes of each view over the rows that are used; states run through all of them.
fn whiteners(
    rows: Rows<'_>,
    scaling: &Scaling,
    used: &dyn Fn(usize) -> bool,
    cadence: Duration,
) -> Option<[Whitener; VIEWS]> {
    let mut states = States::new(rows.width);
    let mut moments: [Moments; VIEWS] = std::array::from_fn(|_| Moments::new(rows.width));
    let (mut scaled, mut views) = (Vec::new(), Views::default());
    for (place, (ts, row)) in rows.iter().enumerate() {
        scaling.apply(ts, row, &mut scaled);
        states.step(ts, &scaled, cadence, &mut views);
        if used(place) {
            moments.iter_mut().zip(&views.0).for_each(|(moments, view)| moments.add(view));
        }
    }
    let [departure, jump, drift] = moments.map(|moments| Whitener::fit(&moments));
    Some([departure?, jump?, drift?])
}

/// One device as its readings come in.
#[derive(Debug, Clone)]
pub struct Watch<'a> {
    screen: &'a Screen,
    states: States,
    smoothing: Smoothing,
    on: [bool; VIEWS],
    scaled: Vec<f64>,
    views: Views,
    scratch: Vec<f64>,
}

impl Watch<'_> {
    /// Takes in the next reading.
    ///
    /// * `row`: a cell for each of [`Screen::signals`], missing ones NaN.
    pub fn step(&mut self, ts: Timestamp, row: &[f64]) -> Screened {
        self.view(ts, row);
        let distances = self.distances();
        let statistics = self.smoothing.step(ts, distances, self.screen.cadence);
        let alarm = self.screen.thresholds.is_some_and(|thresholds| thresholds.alarm(statistics, &mut self.on));
        let top_signals = if alarm { self.top_signals() } else { Vec::new() };
        Screened { ts, score: score(statistics), alarm, top_signals }
    }

    fn view(&mut self, ts: Timestamp, row: &[f64]) {
        self.screen.scaling.apply(ts, row, &mut self.scaled);
        self.states.step(ts, &self.scaled, self.screen.cadence, &mut self.views);
    }

    fn distances(&mut self) -> [f64; VIEWS] {
        let mut views = self.screen.whiteners.iter().zip(&self.views.0);
        [(); VIEWS].map(|()| views.next().map_or(0.0, |(whitener, view)| whitener.distance(view, &mut self.scratch)))
    }

    /// The signals that add most to departure, jump and drift, each as far as it is in alarm; a short or smoothed alarm stands
    /// for the first two.
    fn top_signals(&self) -> Vec<SignalId> {
        let [short, smoothed, drift] = self.on;
        let counts = [short || smoothed, short || smoothed, drift];
        let mut causes = vec![0.0; self.screen.signals.len()];
        for ((whitener, view), _) in self.screen.whiteners.iter().zip(&self.views.0).zip(counts).filter(|(_, on)| *on) {
            whitener.add_causes(view, &mut causes);
        }
        let mut order: Vec<usize> = (0..causes.len()).filter(|&signal| causes[signal] > 0.0).collect();
        order.sort_by(|&a, &b| causes[b].total_cmp(&causes[a]).then(a.cmp(&b)));
        order.into_iter().take(TOP_SIGNALS).map(|signal| self.screen.signals[signal].clone()).collect()
    }
}

#[cfg(test)]
mod tests;
