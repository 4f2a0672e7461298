//! Writes a fleet: as a bundle, which is what `export` gives and what tests and the simulator hand to the command line, or the
//! same tables as Parquet files.
//!
//! Row by row, so that a fleet far larger than memory can be written: readings come device by device, in order of time, and the
//! signals of all of them are said before the first, since they are the columns.

mod csv;
mod parquet;
pub mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use harbinger_core::{DeviceId, SignalId, Timestamp, fleet::Fleet};

use crate::Bundle;
use rows::{Cell, Column, Kind, Record};

/// Why a table was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A row could not be written.
    #[error("failed to write {}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ::csv::Error,
    },
    /// A Parquet file could not be written.
    #[error("failed to write {}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ::parquet::errors::ParquetError,
    },
    /// A reading has a signal that no column was made for.
    #[error("device {device:?} has signal {signal:?}, which was not there when the writing began: begin again")]
    UnknownSignal {
        /// The device.
        device: DeviceId,
        /// Its signal.
        signal: SignalId,
    },
}

/// What the tables are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A fleet bundle: CSV files, those that grow with time gzipped.
    Bundle,
    /// Parquet files.
    Parquet,
}

/// The telemetry table and its columns beside those of the signals.
const TELEMETRY: &str = "telemetry";
const TS: Column = rows::required("ts", Kind::Time);
const DEVICE: Column = rows::required("device", Kind::Text);

/// A folder of tables under way. A table without a row has no file; nothing is whole before [`FleetWriter::finish`].
pub struct FleetWriter {
    folder: PathBuf,
    format: Format,
    facts: Vec<(String, String)>,
    signals: Vec<SignalId>,
    tables: BTreeMap<&'static str, Sink>,
}

enum Sink {
    Csv(Box<csv::Sink>),
    Parquet(Box<parquet::Sink>),
}

impl FleetWriter {
    /// Begins in `folder`, which is made where it is missing.
    ///
    /// * `signals`: all that any reading will have.
    /// * `facts`: what Parquet files say of themselves, by key.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn create(
        folder: &Path,
        format: Format,
        signals: BTreeSet<SignalId>,
        facts: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        fs_err::create_dir_all(folder)?;
        let signals = signals.into_iter().collect();
        Ok(Self { folder: folder.to_owned(), format, facts, signals, tables: BTreeMap::new() })
    }

    /// Writes the registry.
    ///
    /// # Errors
    /// [`Error`] with the path.
    pub fn fleet(&mut self, fleet: &Fleet) -> Result<(), Error> {
        self.records(&fleet.models)?;
        self.records(&fleet.signals)?;
        self.records(&fleet.components)?;
        self.records(&fleet.parts)?;
        self.records(&fleet.depots)?;
        self.records(&fleet.lanes)?;
        self.records(&fleet.contracts)?;
        self.records(&fleet.devices)?;
        self.records(&fleet.stock)
    }

    /// Adds rows to their table.
    ///
    /// # Errors
    /// [`Error`] with the path.
    pub fn records<'a, R: Record + 'a>(&mut self, records: impl IntoIterator<Item = &'a R>) -> Result<(), Error> {
        for record in records {
            self.table(R::TABLE, R::GROWS, |_| R::COLUMNS.to_vec())?.row(&record.cells())?;
        }
        Ok(())
    }

    /// Adds a reading: those of a device come one after the other, rising in time, and devices in order of id.
    ///
    /// # Errors
    /// [`Error`] with the path; [`Error::UnknownSignal`].
    pub fn reading<'a>(
        &mut self,
        device: &DeviceId,
        ts: Timestamp,
        values: impl IntoIterator<Item = (&'a SignalId, f64)>,
    ) -> Result<(), Error> {
        let mut cells = vec![Cell::Empty; self.signals.len() + 2];
        cells[0] = ts.into();
        cells[1] = device.into();
        for (signal, value) in values {
            let Ok(place) = self.signals.binary_search(signal) else {
                return Err(Error::UnknownSignal { device: device.clone(), signal: signal.clone() });
            };
            cells[place + 2] = value.into();
        }
        self.table(TELEMETRY, true, Self::telemetry_columns)?.row(&cells)
    }

    /// In a bundle a column is called as its signal; in Parquet nearly always so.
    fn telemetry_columns(&self) -> Vec<Column> {
        let ids = self.signals.iter().map(SignalId::as_str);
        let names = match self.format {
            Format::Bundle => ids.map(str::to_owned).collect(),
            Format::Parquet => parquet::column_names(&[&TS.name, &DEVICE.name], ids),
        };
        let column = |name: String| Column { name: name.into(), kind: Kind::Number, optional: true };
        [TS, DEVICE].into_iter().chain(names.into_iter().map(column)).collect()
    }

    /// A table, begun where this is its first row.
    fn table(
        &mut self,
        name: &'static str,
        grows: bool,
        columns: impl FnOnce(&Self) -> Vec<Column>,
    ) -> Result<&mut Sink, Error> {
        if !self.tables.contains_key(name) {
            let sink = self.begin(name, grows, &columns(self))?;
            self.tables.insert(name, sink);
        }
        Ok(self.tables.get_mut(name).expect("it is there or was put there"))
    }

    fn begin(&self, name: &str, grows: bool, columns: &[Column]) -> Result<Sink, Error> {
        let path = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        if self.format == Format::Bundle {
            return csv::Sink::create(path(if grows { "csv.gz" } else { "csv" }), columns)
                .map(|sink| Sink::Csv(Box::new(sink)));
        }
        let mut pairs = self.facts.clone();
        let mut sorted_by: &[usize] = &[];
        if name == TELEMETRY {
            let names = columns.iter().skip(2).map(|column| column.name.to_string());
            let ids = self.signals.iter().map(|signal| signal.as_str().into());
            let signals: serde_json::Map<_, _> = names.zip(ids).collect();
            pairs.push(("harbinger.signals".to_owned(), serde_json::Value::Object(signals).to_string()));
            sorted_by = &[1, 0];
        }
        let facts = parquet::Facts { pairs: &pairs, sorted_by };
        parquet::Sink::create(path("parquet"), columns, &facts).map(|sink| Sink::Parquet(Box::new(sink)))
    }

    /// Writes what is still held back.
    ///
    /// # Errors
    /// [`Error`] with the path.
    pub fn finish(self) -> Result<(), Error> {
        self.tables.into_values().try_for_each(|table| match table {
            Sink::Csv(sink) => sink.finish(),
            Sink::Parquet(sink) => sink.finish(),
        })
    }
}

impl Sink {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), Error> {
        match self {
            Self::Csv(sink) => sink.row(cells),
            Self::Parquet(sink) => sink.row(cells),
        }
    }
}

/// Writes a bundle into `folder`, which is made where it is missing. Empty tables are left out.
///
/// # Errors
/// [`Error`] with the path.
pub fn write(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
    let histories = || bundle.histories.values();
    let columns = histories().flat_map(|history| &history.readings.columns);
    let signals = columns.map(|(signal, _)| signal.clone()).collect();
    let mut writer = FleetWriter::create(folder, Format::Bundle, signals, Vec::new())?;
    writer.fleet(&bundle.fleet)?;
    for (device, history) in &bundle.histories {
        let readings = &history.readings;
        for (place, &ts) in readings.times.iter().enumerate() {
            let values = readings.columns.iter().filter_map(|(signal, column)| Some((signal, *column.get(place)?)));
            writer.reading(device, ts, values)?;
        }
    }
    writer.records(histories().flat_map(|history| &history.events))?;
    writer.records(histories().flat_map(|history| &history.maintenance))?;
    if bundle.has_failures_file {
        writer.records(histories().flat_map(|history| &history.failures))?;
    }
    writer.records(&bundle.consumption)?;
    writer.finish()
}
