//! Many rows in few statements, on any database: `INSERT ... VALUES ($1, $2, ...), ($1, ...)` in pieces of one size.
//!
//! SQLite looks a numbered parameter up by name, in time that grows with their number, so a statement carries about 200
//! values and no more; to a server, each statement is a journey, and it carries more. Pieces of one size share one prepared
//! statement. The tenant is `$1` of every row.

use std::fmt::Write as _;

use harbinger_core::TenantId;
use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type, any::AnyArguments};

use super::{Connection, Error};

/// Values bound in one statement. Measured on SQLite: 100 to 250 are equally quick, 1,000 take twice the time a row.
const SQLITE_VALUES: usize = 192;
/// PostgreSQL takes 65,535 at most.
const POSTGRES_VALUES: usize = 3_000;

fn values_per_statement(connection: &Connection) -> usize {
    if connection.backend_name() == "SQLite" { SQLITE_VALUES } else { POSTGRES_VALUES }
}

/// The values of one row, in the order of its columns.
pub(crate) struct Values {
    arguments: AnyArguments,
    failed: Option<sqlx::error::BoxDynError>,
    /// Whether a number is missing among them.
    lacks_number: bool,
}

impl Values {
    fn of(tenant: &TenantId) -> Self {
        let mut values = Self { arguments: AnyArguments::default(), failed: None, lacks_number: false };
        values.add(tenant.as_str().to_owned());
        values
    }

    /// Adds the value of the next column.
    pub(crate) fn add<'t, T: Encode<'t, Any> + Type<Any>>(&mut self, value: T) {
        if let Err(error) = self.arguments.add(value) {
            self.failed.get_or_insert(error);
        }
    }

    /// Adds a number that may be missing.
    pub(crate) fn add_number(&mut self, value: Option<f64>) {
        self.lacks_number |= value.is_none();
        self.add(value);
    }

    fn finish(self) -> Result<AnyArguments, Error> {
        match self.failed {
            Some(error) => Err(Error::Database(sqlx::Error::Encode(error))),
            None => Ok(self.arguments),
        }
    }
}

/// Inserts `rows` into a table whose first column is `tenant`. `columns` are the columns after it, `conflict` is what
/// stands behind the values, such as `ON CONFLICT (tenant, part) DO NOTHING`. Returns how many rows were written.
///
/// # Errors
/// [`Error`] of the database; the caller's transaction then holds a part of the rows and is to be dropped.
pub(crate) async fn insert<T>(
    connection: &mut Connection,
    table: &str,
    columns: &[&str],
    conflict: &str,
    tenant: &TenantId,
    rows: &[T],
    bind: impl Fn(&T, &mut Values),
) -> Result<u64, Error> {
    let rows_per_statement = (values_per_statement(connection) / columns.len().max(1)).max(1);
    let mut written = 0;
    let mut text = (0, String::new());
    for piece in rows.chunks(rows_per_statement) {
        if text.0 != piece.len() {
            text = (piece.len(), statement(table, columns, conflict, piece.len()));
        }
        let mut values = Values::of(tenant);
        for row in piece {
            bind(row, &mut values);
        }
        // The text is made of names in this crate; every value is a parameter.
        // `Any` hands PostgreSQL a missing number as a missing REAL: kept for the next rows, the statement would take their
        // eight bytes for four.
        let keep = !values.lacks_number;
        let query = sqlx::query_with(AssertSqlSafe(text.1.as_str()), values.finish()?).persistent(keep);
        written += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(written)
}

fn statement(table: &str, columns: &[&str], conflict: &str, rows: usize) -> String {
    let mut text = format!("INSERT INTO {table} (tenant, {}) VALUES ", columns.join(", "));
    let mut parameter = 1;
    for row in 0..rows {
        text.push_str(if row == 0 { "($1" } else { ", ($1" });
        for _ in columns {
            parameter += 1;
            // Writing to a String cannot fail.
            let _ = write!(text, ", ${parameter}");
        }
        text.push(')');
    }
    text.push(' ');
    text.push_str(conflict);
    text
}

#[cfg(test)]
mod tests {
    use super::statement;

    #[test]
    fn parameters_are_numbered_through_and_the_tenant_is_bound_once() {
        assert_eq!(
            statement("parts", &["part", "unit_cost"], "ON CONFLICT DO NOTHING", 2),
            "INSERT INTO parts (tenant, part, unit_cost) VALUES ($1, $2, $3), ($1, $4, $5) ON CONFLICT DO NOTHING"
        );
    }
}
