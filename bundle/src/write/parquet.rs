//! A table as Parquet: compressed by zstd, in row groups of bounded size, readable by pandas, DuckDB and the like.
//!
//! The file's own column writers are used, without Arrow: a row group is gathered column by column and written when it is full,
//! so that what a file takes of memory does not grow with its rows.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use parquet::{
    basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{WriterProperties, WriterPropertiesBuilder},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{ColumnPath, Type},
};

use super::{
    Error,
    rows::{Cell, Column, Kind},
};

/// Cells of a row group: some 20 MB before they are compressed.
const GROUP_CELLS: usize = 1 << 21;
/// Rows of a row group, however many columns there are. A file has at most 32,768 row groups.
const GROUP_ROWS: std::ops::RangeInclusive<usize> = 1 << 13..=1 << 17;

/// A Parquet file under way.
pub(super) struct Sink {
    path: PathBuf,
    writer: SerializedFileWriter<fs_err::File>,
    group: Vec<Gathered>,
    rows: usize,
    rows_max: usize,
}

/// What a file says of itself beside its rows.
pub(super) struct Facts<'a> {
    /// Key and value.
    pub(super) pairs: &'a [(String, String)],
    /// Positions of the columns that the rows are sorted by.
    pub(super) sorted_by: &'a [usize],
}

/// The cells of a column in the row group under way.
struct Gathered {
    values: Values,
    /// 1 where a row has a value, 0 where its cell is empty; `None` where no cell may be empty.
    present: Option<Vec<i16>>,
}

enum Values {
    Text(Vec<ByteArray>),
    Whole(Vec<i64>),
    Number(Vec<f64>),
    Flag(Vec<bool>),
}

impl Sink {
    /// Begins `path`.
    pub(super) fn create(path: PathBuf, columns: &[Column], facts: &Facts<'_>) -> Result<Self, Error> {
        let at = |source| Error::Parquet { path: path.clone(), source };
        let schema = schema(columns).map_err(at)?;
        let properties = properties(columns, facts).map_err(at)?;
        let file = fs_err::File::create(&path)?;
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(at)?;
        let group = columns.iter().map(Gathered::new).collect();
        let rows_max = (GROUP_CELLS / columns.len().max(1)).clamp(*GROUP_ROWS.start(), *GROUP_ROWS.end());
        Ok(Self { path, writer, group, rows: 0, rows_max })
    }

    /// Takes a row, and writes the row group that it fills.
    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), Error> {
        for (column, cell) in self.group.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.rows += 1;
        if self.rows == self.rows_max { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), Error> {
        self.rows = 0;
        write_group(&mut self.writer, &mut self.group)
            .map_err(|source| Error::Parquet { path: self.path.clone(), source })
    }

    /// Writes the last row group and the footer, without which the file is none.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.writer.close().map_err(|source| Error::Parquet { path: self.path, source })?;
        Ok(())
    }
}

impl Gathered {
    fn new(column: &Column) -> Self {
        let values = match column.kind {
            Kind::Text => Values::Text(Vec::new()),
            Kind::Time | Kind::Count => Values::Whole(Vec::new()),
            Kind::Number => Values::Number(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
        };
        Self { values, present: column.optional.then(Vec::new) }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        match (&mut self.values, *cell) {
            (_, Cell::Empty) => {}
            (Values::Text(values), Cell::Text(text)) => values.push(text.into()),
            (Values::Whole(values), Cell::Time(ts)) => values.push(ts.millis()),
            (Values::Whole(values), Cell::Count(count)) => values.push(count.into()),
            (Values::Number(values), Cell::Number(number)) => values.push(number),
            (Values::Flag(values), Cell::Flag(flag)) => values.push(flag),
            _ => debug_assert!(false, "a row's cells are of its columns' kinds"),
        }
        if let Some(present) = &mut self.present {
            present.push(i16::from(!matches!(cell, Cell::Empty)));
        }
    }

    fn write(&self, out: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = self.present.as_deref();
        match &self.values {
            Values::Text(values) => out.typed::<ByteArrayType>().write_batch(values, present, None),
            Values::Whole(values) => out.typed::<Int64Type>().write_batch(values, present, None),
            Values::Number(values) => out.typed::<DoubleType>().write_batch(values, present, None),
            Values::Flag(values) => out.typed::<BoolType>().write_batch(values, present, None),
        }
        .map(drop)
    }

    fn clear(&mut self) {
        match &mut self.values {
            Values::Text(values) => values.clear(),
            Values::Whole(values) => values.clear(),
            Values::Number(values) => values.clear(),
            Values::Flag(values) => values.clear(),
        }
        self.present.iter_mut().for_each(Vec::clear);
    }
}

fn write_group(writer: &mut SerializedFileWriter<fs_err::File>, columns: &mut [Gathered]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut columns = columns.iter_mut();
    while let (Some(mut out), Some(column)) = (group.next_column()?, columns.next()) {
        column.write(&mut out)?;
        column.clear();
        out.close()?;
    }
    group.close()?;
    Ok(())
}

fn schema(columns: &[Column]) -> Result<Arc<Type>, ParquetError> {
    let field = |column: &Column| {
        let (physical, logical) = match column.kind {
            Kind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Time => (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
            Kind::Number => (PhysicalType::DOUBLE, None),
            Kind::Count => (PhysicalType::INT64, None),
            Kind::Flag => (PhysicalType::BOOLEAN, None),
        };
        let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let field = Type::primitive_type_builder(&column.name, physical);
        field.with_logical_type(logical).with_repetition(repetition).build().map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Result<_, _>>()?;
    Type::group_type_builder("table").with_fields(fields).build().map(Arc::new)
}

fn properties(columns: &[Column], facts: &Facts<'_>) -> Result<WriterProperties, ParquetError> {
    let pairs = facts.pairs.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let ascending = |&column: &usize| {
        let column_idx = i32::try_from(column).map_err(|error| ParquetError::General(error.to_string()))?;
        Ok(SortingColumn { column_idx, descending: false, nulls_first: false })
    };
    let sorted_by: Vec<SortingColumn> = facts.sorted_by.iter().map(ascending).collect::<Result<_, ParquetError>>()?;
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("harbinger ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(pairs))
        .set_sorting_columns((!sorted_by.is_empty()).then_some(sorted_by));
    Ok(columns.iter().filter(|column| column.kind == Kind::Time).fold(builder, as_differences).build())
}

/// Times rise by nearly equal steps: their differences are a fraction of their size, and a dictionary of them is none.
fn as_differences(builder: WriterPropertiesBuilder, column: &Column) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(vec![column.name.to_string()]);
    builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}

/// A column name for each signal, its id wherever that can be one. Readers tell columns apart without regard to case, and a
/// table has one column of a name: an id that is taken in that sense gets underscores at its end.
pub(super) fn column_names<'a>(taken: &[&str], ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut known: HashSet<String> = taken.iter().map(|name| name.to_lowercase()).collect();
    ids.map(|id| {
        let mut name = id.to_owned();
        while !known.insert(name.to_lowercase()) {
            name.push('_');
        }
        name
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_column_of_its_own_whatever_it_is_called() {
        let names = |ids: &[&str]| column_names(&["ts", "device"], ids.iter().copied());
        assert_eq!(names(&["rpm", "fan.rpm", "a b,\"c\""]), ["rpm", "fan.rpm", "a b,\"c\""]);
        assert_eq!(names(&["Device", "TS", "temp", "Temp", "temp_"]), ["Device_", "TS_", "temp", "Temp_", "temp__"]);
    }
}
