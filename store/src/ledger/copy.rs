//! Copies a whole ledger into an empty one, of the same engine or of the other: a backup, a restore, the way from SQLite to
//! PostgreSQL.
//!
//! All tables are read in one snapshot, in pages in the order of their keys, and written in one transaction: the process may
//! die on any line, and the new ledger is whole or still empty. Values are copied as they are; nothing here knows what they
//! mean. The tables and columns stand in one list ([`tables`]), which a test compares with the schema.

use sqlx::{
    AssertSqlSafe, Column, Row, ValueRef,
    any::{AnyRow, AnyTypeInfoKind},
};

use super::{Connection, Engine, Error, Ledger};

mod tables;

use tables::TABLES;
pub use tables::Table;

/// Rows read at a time.
const ROWS_PER_PAGE: usize = 500;
/// Values written in one statement: within SQLite's and PostgreSQL's bounds, and quick on both.
const VALUES_PER_STATEMENT: usize = 1_000;

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The table that is being copied.
    pub table: &'static str,
    /// Its rows that were copied.
    pub rows: u64,
}

/// Copies everything but leases, which belong to running processes, and returns how many rows there were. `into` must be
/// empty. `progress` is told after every page.
///
/// # Errors
/// [`Error::Conflict`] where `into` holds anything; [`Error`] of either database. Nothing is kept then.
pub async fn copy(from: &Ledger, into: &Ledger, mut progress: impl FnMut(Progress)) -> Result<u64, Error> {
    let mut source = from.snapshot().await?;
    let mut target = into.write().await?;
    for table in TABLES {
        refuse_rows(&mut target, table).await?;
    }
    let mut copied = 0;
    for table in TABLES {
        let mut rows = 0;
        let mut last: Option<AnyRow> = None;
        loop {
            let page = read_page(&mut source, table, last.as_ref()).await?;
            if page.is_empty() {
                break;
            }
            write_page(&mut target, table, &page).await?;
            rows += page.len() as u64;
            progress(Progress { table: table.name, rows });
            last = page.into_iter().next_back();
        }
        copied += rows;
    }
    let counted = last_change(from.engine(), &mut source).await?;
    count_changes_from(into.engine(), &mut target, counted).await?;
    target.commit().await?;
    Ok(copied)
}

async fn refuse_rows(target: &mut Connection, table: &Table) -> Result<(), Error> {
    let any = format!("SELECT 1 FROM {} LIMIT 1", table.name);
    match sqlx::query(AssertSqlSafe(any)).fetch_optional(target).await? {
        None => Ok(()),
        Some(_) => Err(Error::Conflict {
            reason: format!(
                "the ledger to copy into is not empty: table {} holds rows; copy into a new one",
                table.name
            ),
        }),
    }
}

/// A value of a row, as it is handed on.
enum Value {
    Missing,
    Integer(i64),
    Number(f64),
    Text(String),
}

fn value(row: &AnyRow, place: usize) -> Result<Value, Error> {
    let raw = row.try_get_raw(place)?;
    if raw.is_null() {
        return Ok(Value::Missing);
    }
    let kind = raw.type_info().kind();
    Ok(match kind {
        AnyTypeInfoKind::Text => Value::Text(row.try_get(place)?),
        AnyTypeInfoKind::Double => Value::Number(row.try_get(place)?),
        _ => Value::Integer(row.try_get(place)?),
    })
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn bind(query: Query<'_>, value: Value) -> Query<'_> {
    match value {
        // Written as NULL in the statement: a missing value has no type that every column would take.
        Value::Missing => query,
        Value::Integer(integer) => query.bind(integer),
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
    }
}

async fn read_page(source: &mut Connection, table: &Table, after: Option<&AnyRow>) -> Result<Vec<AnyRow>, Error> {
    let (columns, keys) = (table.columns.join(", "), table.key().join(", "));
    let beyond = after.map_or_else(String::new, |_| {
        let parameters: Vec<String> = (1..=table.keys).map(|number| format!("${number}")).collect();
        format!("WHERE ({keys}) > ({})", parameters.join(", "))
    });
    let text = format!("SELECT {columns} FROM {} {beyond} ORDER BY {keys} LIMIT {ROWS_PER_PAGE}", table.name);
    let mut query = sqlx::query(AssertSqlSafe(text));
    if let Some(row) = after {
        for place in 0..table.keys {
            query = bind(query, value(row, place)?);
        }
    }
    Ok(query.fetch_all(source).await?)
}

async fn write_page(target: &mut Connection, table: &Table, page: &[AnyRow]) -> Result<(), Error> {
    for rows in page.chunks((VALUES_PER_STATEMENT / table.columns.len()).max(1)) {
        let (mut places, mut values) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let mut own = Vec::with_capacity(table.columns.len());
            for column in row.columns() {
                match value(row, column.ordinal())? {
                    Value::Missing => own.push("NULL".to_owned()),
                    present => {
                        values.push(present);
                        own.push(format!("${}", values.len()));
                    }
                }
            }
            places.push(format!("({})", own.join(", ")));
        }
        let columns = table.columns.join(", ");
        // The text is made of names in this crate; every value is a parameter. Hardly two are alike: none is kept.
        let text = format!("INSERT INTO {} ({columns}) VALUES {}", table.name, places.join(", "));
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(text)).persistent(false), bind);
        query.execute(&mut *target).await?;
    }
    Ok(())
}

/// The number that the last change got, pruned ones included: a reader that resumes must not be told it is ahead.
async fn last_change(engine: Engine, source: &mut Connection) -> Result<i64, Error> {
    let text = match engine {
        Engine::Sqlite => "SELECT CAST(seq AS BIGINT) AS last FROM sqlite_sequence WHERE name = 'changes'",
        Engine::Postgres => "SELECT last_value AS last FROM changes_seq_seq WHERE is_called",
    };
    let row = sqlx::query(text).fetch_optional(source).await?;
    row.map_or(Ok(0), |row| Ok(row.try_get("last")?))
}

/// Lets the next change get the number after `last`.
async fn count_changes_from(engine: Engine, target: &mut Connection, last: i64) -> Result<(), Error> {
    if last == 0 {
        return Ok(());
    }
    let statements: &[&str] = match engine {
        Engine::Sqlite => &[
            "DELETE FROM sqlite_sequence WHERE name = 'changes' AND seq <= $1",
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'changes', $1 \
             WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'changes')",
        ],
        Engine::Postgres => &["SELECT setval('changes_seq_seq', $1)"],
    };
    for statement in statements {
        sqlx::query(*statement).bind(last).execute(&mut *target).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
