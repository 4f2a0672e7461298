//! `Columns`: readings of one device in order of event time, a column a signal: how they lie in chunks, and how they are read.
//!
//! Chunks of a device never overlap, so what is read of them is put behind each other column by column. Where readings have to
//! be laid over others they are turned into [`Rows`] and back.

use harbinger_core::{SignalId, Timestamp, history::Readings, summary::has_missing};

use super::rows::{Rows, SignalNumber};

/// Readings of one device, sorted by event time.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    signals: Vec<SignalNumber>,
    /// Strictly rising.
    times: Vec<Timestamp>,
    /// A column a signal, each as long as `times`; NaN where there is no sample.
    columns: Vec<Vec<f64>>,
}

impl Columns {
    /// `columns[i]` belongs to `signals[i]` and is as long as `times`, which rise strictly.
    pub(super) fn new(signals: Vec<SignalNumber>, times: Vec<Timestamp>, columns: Vec<Vec<f64>>) -> Self {
        debug_assert!(times.is_sorted_by(|a, b| a < b), "times must rise strictly");
        debug_assert!(columns.iter().all(|column| column.len() == times.len()), "columns must be of one length");
        Self { signals, times, columns }
    }

    pub(super) fn of(rows: &Rows) -> Self {
        let times = rows.times().iter().map(|&ts| Timestamp::from_millis(ts)).collect();
        let columns = (0..rows.signals().len()).map(|place| rows.column(place).collect()).collect();
        Self { signals: rows.signals().to_vec(), times, columns }
    }

    pub(super) fn into_rows(self) -> Rows {
        let times = self.times.iter().map(|ts| ts.millis()).collect();
        Rows::from_columns(self.signals, times, &self.columns)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Event time of the earliest and of the latest reading, in milliseconds.
    pub(super) fn extent(&self) -> Option<(i64, i64)> {
        Some((self.times.first()?.millis(), self.times.last()?.millis()))
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        self.columns.iter().flatten().filter(|value| !value.is_nan()).count() as u64
    }

    pub(super) fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// Each signal's number and column.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SignalNumber, &[f64])> {
        self.signals.iter().copied().zip(self.columns.iter().map(Vec::as_slice))
    }

    /// The newest sample of each signal.
    pub(super) fn latest(&self) -> impl Iterator<Item = (SignalNumber, i64, f64)> {
        self.iter().filter_map(|(signal, column)| {
            let newest_first = self.times.iter().zip(column).rev();
            newest_first.filter(|(_, value)| !value.is_nan()).map(|(ts, &value)| (signal, ts.millis(), value)).next()
        })
    }

    /// Puts readings behind these; all of them are later.
    pub(super) fn append(&mut self, mut later: Self) {
        if later.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = later;
            return;
        }
        debug_assert!(self.times.last() < later.times.first(), "what is appended must be later");
        let whole = self.times.len() + later.times.len();
        for (signal, column) in self.signals.iter().zip(&mut self.columns) {
            match later.signals.iter().position(|known| known == signal) {
                Some(place) => {
                    later.signals.swap_remove(place);
                    column.extend(later.columns.swap_remove(place));
                }
                None => column.resize(whole, f64::NAN),
            }
        }
        for (signal, rest) in later.signals.into_iter().zip(later.columns) {
            let mut column = vec![f64::NAN; self.times.len()];
            column.extend(rest);
            self.signals.push(signal);
            self.columns.push(column);
        }
        self.times.append(&mut later.times);
    }

    /// Lays `later` over these readings, sample by sample: what is in `later` holds.
    pub(super) fn overlay(&mut self, later: &Rows) {
        let Some((first, _)) = later.extent() else { return };
        if self.times.last().is_none_or(|last| last.millis() < first) {
            self.append(Self::of(later));
            return;
        }
        let mut rows = std::mem::take(self).into_rows();
        rows.overlay(later);
        *self = Self::of(&rows);
    }

    /// Keeps the readings with `from <= ts < to`.
    pub(super) fn clip(&mut self, from: i64, to: i64) {
        let end = self.times.partition_point(|ts| ts.millis() < to);
        let start = self.times.partition_point(|ts| ts.millis() < from).min(end);
        self.times.truncate(end);
        self.times.drain(..start);
        for column in &mut self.columns {
            column.truncate(end);
            column.drain(..start);
        }
    }

    /// Keeps these signals, and the readings that have a sample of one.
    pub(super) fn select(&mut self, signals: &[SignalNumber]) {
        let kept = self.signals.iter().zip(std::mem::take(&mut self.columns));
        let kept = kept.filter(|(signal, _)| signals.contains(signal)).map(|(&signal, column)| (signal, column));
        (self.signals, self.columns) = kept.unzip();
        self.drop_empty();
    }

    /// Drops the readings that have no sample.
    pub(super) fn drop_empty(&mut self) {
        // Mostly some signal is in every reading.
        if self.columns.iter().any(|column| !has_missing(column)) {
            return;
        }
        let has_sample =
            |place: usize| self.columns.iter().any(|column| column.get(place).is_some_and(|value| !value.is_nan()));
        let kept: Vec<usize> = (0..self.times.len()).filter(|&place| has_sample(place)).collect();
        self.times = kept.iter().filter_map(|&place| self.times.get(place).copied()).collect();
        for column in &mut self.columns {
            *column = kept.iter().filter_map(|&place| column.get(place).copied()).collect();
        }
    }

    /// As the readings that callers get: columns sorted by name; times and columns without any sample are left out. `name`
    /// tells what a number stands for.
    pub(super) fn into_readings(mut self, name: impl Fn(SignalNumber) -> Option<SignalId>) -> Readings {
        self.drop_empty();
        let named =
            self.signals.into_iter().zip(self.columns).filter_map(|(signal, column)| Some((name(signal)?, column)));
        let mut columns: Vec<(SignalId, Vec<f64>)> =
            named.filter(|(_, column)| column.iter().any(|value| !value.is_nan())).collect();
        columns.sort_by(|a, b| a.0.cmp(&b.0));
        Readings { times: self.times, columns }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(samples: &[(i64, u32, i32)]) -> Rows {
        let mut rows = Rows::default();
        for &(ts, signal, value) in samples {
            rows.put(ts, &[signal], &[f64::from(value)]);
        }
        rows
    }

    /// The samples, in order of time and signal.
    fn samples(rows: &Rows) -> Vec<(i64, SignalNumber, u64)> {
        let columns = rows.signals().iter().enumerate();
        let mut all: Vec<_> = columns
            .flat_map(|(place, &signal)| {
                let cells = rows.times().iter().zip(rows.column(place)).filter(|(_, value)| !value.is_nan());
                cells.map(move |(&ts, value)| (ts, signal, value.to_bits())).collect::<Vec<_>>()
            })
            .collect();
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn columns_are_laid_over_each_other_and_clipped_as_rows_are(
            below in proptest::collection::vec((0i64..12, 0u32..4, -3i32..3), 0..30),
            above in proptest::collection::vec((0i64..12, 0u32..4, -3i32..3), 0..30),
            shift in proptest::sample::select(vec![0i64, 20]),
        ) {
            let above: Vec<_> = above.into_iter().map(|(ts, signal, value)| (ts + shift, signal, value)).collect();
            let (mut below, above) = (rows(&below), rows(&above));
            let mut columns = Columns::of(&below);
            columns.overlay(&above);
            below.overlay(&above);
            prop_assert_eq!(samples(&columns.clone().into_rows()), samples(&below));
            columns.clip(3, 25);
            let clipped = below.slice(3, 25);
            prop_assert_eq!(samples(&columns.clone().into_rows()), samples(&clipped));
            let name = |signal: SignalNumber| SignalId::parse(&format!("signal-{}", 9 - signal)).ok();
            let readings = columns.into_readings(name);
            prop_assert!(readings.columns.is_sorted_by(|a, b| a.0 < b.0));
            let width = readings.columns.iter().map(|(_, column)| column.iter().filter(|v| !v.is_nan()).count());
            prop_assert_eq!(width.sum::<usize>(), samples(&clipped).len());
        }
    }
}
