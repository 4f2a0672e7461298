//! One CSV file of a bundle: opened (gzipped or not), its header checked, its cells read with their place.

use std::{
    io::{BufReader, Read},
    path::Path,
    str::FromStr,
};

use flate2::read::MultiGzDecoder;

use crate::read::{Error, Problem};

/// Most problems that one reading of a bundle reports: a file in the wrong dialect has one on every line.
pub const MAX_PROBLEMS: usize = 20;

/// A CSV file and where its columns stand.
pub struct Table {
    name: String,
    reader: csv::Reader<Box<dyn Read>>,
    header: Vec<String>,
}

/// The cells of one row, by column name.
pub struct Row<'a> {
    table: &'a str,
    line: u64,
    header: &'a [String],
    cells: &'a csv::StringRecord,
}

impl Table {
    /// Opens `folder/name.csv` or `folder/name.csv.gz`; `None` where neither is there.
    ///
    /// # Errors
    /// [`Error::Io`] with the path; a [`Problem`] for an unreadable header or a missing required column.
    pub fn open(folder: &Path, name: &str, required: &[&str]) -> Result<Option<Self>, Error> {
        let plain = folder.join(format!("{name}.csv"));
        let gzipped = folder.join(format!("{name}.csv.gz"));
        let (path, source): (_, Box<dyn Read>) = if plain.is_file() {
            (plain.clone(), Box::new(BufReader::new(open(&plain)?)))
        } else if gzipped.is_file() {
            (gzipped.clone(), Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(open(&gzipped)?))))
        } else {
            return Ok(None);
        };
        let name = path.file_name().map_or_else(|| name.to_owned(), |file| file.to_string_lossy().into_owned());
        let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(source);
        let header: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(|column| column.trim_start_matches('\u{feff}').to_owned()).collect(),
            Err(error) => return Err(csv_problem(&name, &error).into()),
        };
        if let Some(missing) = required.iter().find(|&&column| !header.iter().any(|known| known == column)) {
            let reason = format!("required column {missing:?} is missing; the header has {}", header.join(", "));
            return Err(Problem { file: name, line: 1, column: Some((*missing).to_owned()), reason }.into());
        }
        Ok(Some(Self { name, reader, header }))
    }

    /// The column names.
    #[must_use]
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands every row to `take`; problems of rows are put to `problems`, up to [`MAX_PROBLEMS`].
    pub fn each(&mut self, problems: &mut Vec<Problem>, mut take: impl FnMut(&Row<'_>) -> Result<(), Problem>) {
        let mut cells = csv::StringRecord::new();
        while problems.len() < MAX_PROBLEMS {
            match self.reader.read_record(&mut cells) {
                Ok(false) => return,
                Ok(true) => {
                    let line = cells.position().map_or(0, csv::Position::line);
                    let row = Row { table: &self.name, line, header: &self.header, cells: &cells };
                    if let Err(problem) = take(&row) {
                        problems.push(problem);
                    }
                }
                Err(error) => {
                    problems.push(csv_problem(&self.name, &error));
                    if error.is_io_error() {
                        return;
                    }
                }
            }
        }
    }
}

impl Row<'_> {
    /// A problem at a column of this row.
    #[must_use]
    pub fn problem(&self, column: &str, reason: impl Into<String>) -> Problem {
        Problem { file: self.table.to_owned(), line: self.line, column: Some(column.to_owned()), reason: reason.into() }
    }

    /// The cell of a column; empty where the column or the cell is not there.
    #[must_use]
    pub fn text(&self, column: &str) -> &str {
        self.header.iter().position(|known| known == column).and_then(|place| self.cells.get(place)).unwrap_or("")
    }

    /// The cell at a position.
    #[must_use]
    pub fn at(&self, place: usize) -> &str {
        self.cells.get(place).unwrap_or("")
    }

    /// A cell that must be there.
    ///
    /// # Errors
    /// A [`Problem`] where it is empty or does not parse.
    pub fn required<T: FromStr>(&self, column: &str) -> Result<T, Problem>
    where
        T::Err: std::fmt::Display,
    {
        match self.text(column) {
            "" => Err(self.problem(column, "the cell is empty, and this column is required")),
            text => text.parse().map_err(|error: T::Err| self.problem(column, error.to_string())),
        }
    }

    /// A cell that may be empty: "not known".
    ///
    /// # Errors
    /// A [`Problem`] where it does not parse.
    pub fn optional<T: FromStr>(&self, column: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        match self.text(column) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|error: T::Err| self.problem(column, error.to_string())),
        }
    }

    /// A finite number in `allowed`.
    ///
    /// # Errors
    /// A [`Problem`] where it does not parse or lies outside.
    pub fn number(&self, column: &str, allowed: std::ops::RangeInclusive<f64>) -> Result<Option<f64>, Problem> {
        let Some(value) = self.optional::<f64>(column)? else { return Ok(None) };
        if value.is_finite() && allowed.contains(&value) {
            Ok(Some(value))
        } else {
            let reason = format!("{value} is not a number from {} to {}", allowed.start(), allowed.end());
            Err(self.problem(column, reason))
        }
    }
}

fn open(path: &Path) -> Result<fs_err::File, Error> {
    fs_err::File::open(path).map_err(Error::Io)
}

fn csv_problem(file: &str, error: &csv::Error) -> Problem {
    let line = error.position().map_or(0, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} cells and the header {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    Problem { file: file.to_owned(), line, column: None, reason }
}
