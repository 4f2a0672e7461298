//! `Rows`: readings of one device in order of event time, the one shape in which readings rest and are merged in memory.
//!
//! A row a time, a cell a signal, NaN where there is no sample. Row after row in one vector, so that the usual append - later
//! than all before, same signals as before - is one copy, and a device costs two allocations, not one a signal.

use harbinger_core::{SignalId, TimeRange, Timestamp, history::Readings};

/// Number of a signal in the [`Catalog`](super::catalog::Catalog).
pub(super) type SignalNumber = u32;

/// What became of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A sample was not there, and none differed.
    Stored,
    /// All samples were there with the same values.
    Duplicate,
    /// A sample was there with another value.
    Corrected,
}

/// Compares the samples of one reading with what is held at its event time. Values are the same where their bits are: -0.0
/// corrects 0.0.
pub(super) fn classify(
    signals: &[SignalNumber],
    values: &[f64],
    held: impl Fn(SignalNumber) -> Option<f64>,
) -> Outcome {
    let mut outcome = Outcome::Duplicate;
    for (&signal, value) in signals.iter().zip(values) {
        match held(signal) {
            None => outcome = Outcome::Stored,
            Some(known) if known.to_bits() == value.to_bits() => {}
            Some(_) => return Outcome::Corrected,
        }
    }
    outcome
}

/// Readings of one device, sorted by event time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rows {
    /// The signal of each cell of a row, in order of first appearance.
    signals: Vec<SignalNumber>,
    /// Event times in milliseconds, strictly rising.
    times: Vec<i64>,
    /// `times.len() * signals.len()` cells.
    cells: Vec<f64>,
}

impl Rows {
    /// Rows from whole columns: `columns[i]` belongs to `signals[i]` and is as long as `times`, which rise strictly.
    pub(super) fn from_columns(signals: Vec<SignalNumber>, times: Vec<i64>, columns: &[Vec<f64>]) -> Self {
        debug_assert!(times.is_sorted_by(|a, b| a < b), "times must rise strictly");
        let mut cells = vec![f64::NAN; times.len() * signals.len()];
        for (place, column) in columns.iter().enumerate() {
            for (cell, value) in cells.iter_mut().skip(place).step_by(signals.len().max(1)).zip(column) {
                *cell = *value;
            }
        }
        Self { signals, times, cells }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(super) fn signals(&self) -> &[SignalNumber] {
        &self.signals
    }

    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    /// Event time of the earliest and of the latest reading.
    pub(super) fn extent(&self) -> Option<(i64, i64)> {
        Some((*self.times.first()?, *self.times.last()?))
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        self.cells.iter().filter(|cell| !cell.is_nan()).count() as u64
    }

    /// The cells of the signal at `place` in [`Rows::signals`], one a time.
    pub(super) fn column(&self, place: usize) -> impl Iterator<Item = f64> + '_ {
        self.cells.iter().skip(place).step_by(self.signals.len().max(1)).copied()
    }

    /// The sample of a signal at a time.
    pub(super) fn sample(&self, ts: i64, signal: SignalNumber) -> Option<f64> {
        let row = self.times.binary_search(&ts).ok()?;
        let place = self.place(signal)?;
        self.row(row).get(place).copied().filter(|value| !value.is_nan())
    }

    /// Adds samples at a time; where one is there already, the new value holds.
    pub(super) fn put(&mut self, ts: i64, signals: &[SignalNumber], values: &[f64]) {
        if self.signals.is_empty() {
            // One place a signal, even where a reading breaks its promise and names one twice.
            for &signal in signals {
                if self.place(signal).is_none() {
                    self.add_signal(signal);
                }
            }
        }
        if self.times.last().is_none_or(|&last| last < ts) && self.signals == signals {
            self.times.push(ts);
            self.cells.extend_from_slice(values);
            return;
        }
        for &signal in signals {
            if self.place(signal).is_none() {
                self.add_signal(signal);
            }
        }
        let row = self.row_at(ts);
        for (&signal, &value) in signals.iter().zip(values) {
            let place = self.place(signal).expect("every signal of the reading was added above");
            if let Some(cell) = self.row_mut(row).get_mut(place) {
                *cell = value;
            }
        }
    }

    /// Lays `later` over these rows, sample by sample: what is in `later` holds.
    pub(super) fn overlay(&mut self, later: &Self) {
        let Some((first, _)) = later.extent() else { return };
        for &signal in &later.signals {
            if self.place(signal).is_none() {
                self.add_signal(signal);
            }
        }
        let places: Vec<usize> = later.signals.iter().filter_map(|&signal| self.place(signal)).collect();
        let start = self.times.partition_point(|&ts| ts < first);
        let old_times = self.times.split_off(start);
        let old_cells = self.cells.split_off(start * self.signals.len());
        let mut old = old_times.iter().zip(old_cells.chunks_exact(self.signals.len().max(1))).peekable();
        for (index, &ts) in later.times.iter().enumerate() {
            while let Some((&before, cells)) = old.next_if(|&(&old_ts, _)| old_ts < ts) {
                self.times.push(before);
                self.cells.extend_from_slice(cells);
            }
            self.times.push(ts);
            match old.next_if(|&(&old_ts, _)| old_ts == ts) {
                Some((_, cells)) => self.cells.extend_from_slice(cells),
                None => self.cells.resize(self.times.len() * self.signals.len(), f64::NAN),
            }
            let target = self.times.len() - 1;
            for (&place, &value) in places.iter().zip(later.row(index)) {
                if let (false, Some(cell)) = (value.is_nan(), self.row_mut(target).get_mut(place)) {
                    *cell = value;
                }
            }
        }
        for (&ts, cells) in old {
            self.times.push(ts);
            self.cells.extend_from_slice(cells);
        }
    }

    /// The readings with `from <= ts < to`.
    pub(super) fn slice(&self, from: i64, to: i64) -> Self {
        let start = self.times.partition_point(|&ts| ts < from);
        let end = self.times.partition_point(|&ts| ts < to).max(start);
        let width = self.signals.len();
        Self {
            signals: self.signals.clone(),
            times: self.times.get(start..end).unwrap_or_default().to_vec(),
            cells: self.cells.get(start * width..end * width).unwrap_or_default().to_vec(),
        }
    }

    /// Forgets the readings before `before`; how many there were.
    pub(super) fn drop_before(&mut self, before: i64) -> usize {
        let gone = self.times.partition_point(|&ts| ts < before);
        self.times.drain(..gone);
        self.cells.drain(..gone * self.signals.len());
        gone
    }

    /// The newest sample of each signal.
    pub(super) fn latest(&self) -> impl Iterator<Item = (SignalNumber, i64, f64)> + '_ {
        let width = self.signals.len().max(1);
        self.signals.iter().enumerate().filter_map(move |(place, &signal)| {
            let newest_first = self.times.iter().zip(self.cells.iter().skip(place).step_by(width)).rev();
            newest_first.filter(|(_, value)| !value.is_nan()).map(|(&ts, &value)| (signal, ts, value)).next()
        })
    }

    /// As the readings that callers get: the signals of `wanted` (all where it is `None`), columns sorted by name; times and
    /// columns without any sample are left out. `name` tells what a number stands for.
    pub(super) fn to_readings(
        &self,
        range: TimeRange,
        wanted: Option<&[SignalId]>,
        name: impl Fn(SignalNumber) -> Option<SignalId>,
    ) -> Readings {
        self.first_readings(range, wanted, name, usize::MAX)
    }

    /// The same of the earliest `limit` readings of the range.
    pub(super) fn first_readings(
        &self,
        range: TimeRange,
        wanted: Option<&[SignalId]>,
        name: impl Fn(SignalNumber) -> Option<SignalId>,
        limit: usize,
    ) -> Readings {
        let start = self.times.partition_point(|&ts| ts < range.from.millis());
        let end = self.times.partition_point(|&ts| ts < range.to.millis()).max(start);
        let mut chosen: Vec<(usize, SignalId)> = self
            .signals
            .iter()
            .enumerate()
            .filter_map(|(place, &signal)| Some((place, name(signal)?)))
            .filter(|(_, signal)| wanted.is_none_or(|wanted| wanted.contains(signal)))
            .collect();
        chosen.sort_by(|a, b| a.1.cmp(&b.1));
        let kept: Vec<usize> = (start..end)
            .filter(|&row| {
                let cells = self.row(row);
                chosen.iter().any(|&(place, _)| cells.get(place).is_some_and(|cell| !cell.is_nan()))
            })
            .take(limit)
            .collect();
        let cell = |row: usize, place: usize| self.row(row).get(place).copied().unwrap_or(f64::NAN);
        let times = kept.iter().filter_map(|&row| self.times.get(row)).map(|&ts| Timestamp::from_millis(ts)).collect();
        let columns = chosen
            .into_iter()
            .map(|(place, signal)| (signal, kept.iter().map(|&row| cell(row, place)).collect::<Vec<f64>>()))
            .filter(|(_, column)| column.iter().any(|value| !value.is_nan()))
            .collect();
        Readings { times, columns }
    }

    fn place(&self, signal: SignalNumber) -> Option<usize> {
        self.signals.iter().position(|&known| known == signal)
    }

    fn row(&self, row: usize) -> &[f64] {
        let width = self.signals.len();
        self.cells.get(row * width..(row + 1) * width).unwrap_or_default()
    }

    fn row_mut(&mut self, row: usize) -> &mut [f64] {
        let width = self.signals.len();
        self.cells.get_mut(row * width..(row + 1) * width).unwrap_or_default()
    }

    /// The row of a time, made where there is none.
    fn row_at(&mut self, ts: i64) -> usize {
        match self.times.binary_search(&ts) {
            Ok(row) => row,
            Err(row) => {
                let width = self.signals.len();
                self.times.insert(row, ts);
                let at = row * width;
                self.cells.splice(at..at, std::iter::repeat_n(f64::NAN, width));
                row
            }
        }
    }

    /// Widens every row by one cell.
    fn add_signal(&mut self, signal: SignalNumber) {
        let width = self.signals.len();
        self.signals.push(signal);
        if self.times.is_empty() {
            return;
        }
        let mut cells = Vec::with_capacity(self.times.len() * (width + 1));
        for row in 0..self.times.len() {
            cells.extend_from_slice(self.cells.get(row * width..(row + 1) * width).unwrap_or_default());
            cells.push(f64::NAN);
        }
        self.cells = cells;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Rows as a map from (time, signal) to the bits of the value.
    fn samples(rows: &Rows) -> BTreeMap<(i64, SignalNumber), u64> {
        let mut all = BTreeMap::new();
        for (place, &signal) in rows.signals().iter().enumerate() {
            for (&ts, value) in rows.times().iter().zip(rows.column(place)).filter(|(_, value)| !value.is_nan()) {
                all.insert((ts, signal), value.to_bits());
            }
        }
        all
    }

    type Put = (i64, Vec<(SignalNumber, i32)>);

    fn puts() -> impl Strategy<Value = Vec<Put>> {
        proptest::collection::vec((0i64..12, proptest::collection::vec((0u32..4, -3i32..3), 1..4)), 0..30)
    }

    fn rows_and_model(puts: &[Put]) -> (Rows, BTreeMap<(i64, SignalNumber), u64>) {
        let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
        for (ts, samples) in puts {
            // At most one value a signal, as readings promise.
            let unique: BTreeMap<u32, i32> = samples.iter().copied().collect();
            let signals: Vec<u32> = unique.keys().copied().collect();
            let values: Vec<f64> = unique.values().map(|&value| f64::from(value)).collect();
            rows.put(*ts, &signals, &values);
            model.extend(signals.iter().zip(&values).map(|(&signal, value)| ((*ts, signal), value.to_bits())));
        }
        (rows, model)
    }

    proptest! {
        #[test]
        fn puts_and_overlays_are_those_of_a_map(first in puts(), second in puts()) {
            let (mut below, mut model) = rows_and_model(&first);
            let (above, later) = rows_and_model(&second);
            prop_assert_eq!(&samples(&below), &model);
            below.overlay(&above);
            model.extend(later);
            prop_assert_eq!(&samples(&below), &model);
            prop_assert_eq!(below.samples(), model.len() as u64);
            let part = below.slice(3, 9);
            model.retain(|&(ts, _), _| (3..9).contains(&ts));
            prop_assert_eq!(samples(&part), model);
        }
    }

    #[test]
    fn a_differing_sample_outweighs_a_new_one() {
        let held = |signal| (signal == 1).then_some(5.0);
        assert_eq!(classify(&[1], &[5.0], held), Outcome::Duplicate);
        assert_eq!(classify(&[1, 2], &[5.0, 1.0], held), Outcome::Stored);
        assert_eq!(classify(&[2, 1], &[1.0, 6.0], held), Outcome::Corrected);
        assert_eq!(classify(&[1], &[-0.0], |_| Some(0.0)), Outcome::Corrected);
    }
}
