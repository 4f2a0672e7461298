//! A table as CSV, plain or gzipped.

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
};

use flate2::{Compression, write::GzEncoder};

use super::{
    Error,
    rows::{Cell, Column},
};

/// A CSV file under way.
pub(super) struct Sink {
    path: PathBuf,
    out: csv::Writer<Output>,
}

/// Where the bytes go.
enum Output {
    Plain(BufWriter<fs_err::File>),
    Zipped(GzEncoder<BufWriter<fs_err::File>>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Zipped(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Zipped(file) => file.flush(),
        }
    }
}

impl Sink {
    /// Begins `path`, gzipped where the name says so, with a header.
    pub(super) fn create(path: PathBuf, columns: &[Column]) -> Result<Self, Error> {
        let file = BufWriter::new(fs_err::File::create(&path)?);
        let zipped = path.extension().is_some_and(|extension| extension == "gz");
        let output =
            if zipped { Output::Zipped(GzEncoder::new(file, Compression::default())) } else { Output::Plain(file) };
        let mut sink = Self { path, out: csv::Writer::from_writer(output) };
        sink.record(columns.iter().map(|column| column.name.as_bytes()))?;
        Ok(sink)
    }

    /// Writes a row.
    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), Error> {
        self.record(cells.iter().map(|cell| match cell {
            Cell::Empty => String::new(),
            Cell::Text(text) => (*text).to_owned(),
            Cell::Time(ts) => ts.to_string(),
            Cell::Number(number) => number.to_string(),
            Cell::Count(count) => count.to_string(),
            Cell::Flag(flag) => flag.to_string(),
        }))
    }

    fn record<T: AsRef<[u8]>>(&mut self, fields: impl Iterator<Item = T>) -> Result<(), Error> {
        self.out.write_record(fields).map_err(|source| Error::Csv { path: self.path.clone(), source })
    }

    /// Writes what is still held back.
    pub(super) fn finish(self) -> Result<(), Error> {
        let mut file = match self.out.into_inner().map_err(csv::IntoInnerError::into_error)? {
            Output::Plain(file) => file,
            Output::Zipped(zipped) => zipped.finish()?,
        };
        Ok(file.flush()?)
    }
}
