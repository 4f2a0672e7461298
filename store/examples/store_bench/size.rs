//! Size on disk after compaction: the files as they lie, and what they are made of, by table and by column.
//!
//! The parts come from SQLite itself (`dbstat`), so that nothing here knows the store's tables.

use std::path::Path;

use harbinger_store::telemetry::TelemetryStore;
use rusqlite::Connection;

use crate::{Arguments, Failure, figures::Figure, open};

/// Parts below so many bytes a sample are not told.
const SMALL: f64 = 0.005;

pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Figure>, Failure> {
    let store = open(&arguments.file)?;
    store.compact().await?;
    let size = store.size().await?;
    store.close().await?;
    drop(store);
    let samples = size.samples as f64;
    let case = &format!("size, {}", arguments.values);
    let mut figures = vec![
        Figure::new(case, "samples kept", samples, "samples"),
        Figure::new(case, "the files as they lie", size.bytes as f64 / samples, "B/sample").at_most(1.5),
    ];
    let parts = parts(&arguments.file)?.into_iter().map(|(part, bytes)| (part, bytes / samples));
    figures.extend(
        parts.filter(|(_, bytes)| *bytes >= SMALL).map(|(part, bytes)| Figure::new(case, part, bytes, "B/sample")),
    );
    Ok(figures)
}

/// Bytes of each part: free pages, pages by table or index, and within a table the bytes of its columns of blobs.
fn parts(path: &Path) -> Result<Vec<(String, f64)>, Failure> {
    let file = Connection::open(path)?;
    let number = |query: &str| file.query_row(query, [], |row| row.get::<_, Option<f64>>(0));
    let free = number("PRAGMA freelist_count")?.unwrap_or(0.0) * number("PRAGMA page_size")?.unwrap_or(0.0);
    let mut parts = vec![("  free pages".to_owned(), free)];
    let mut tables = file.prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC")?;
    let tables = tables.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?)))?;
    for table in tables.collect::<Result<Vec<_>, _>>()? {
        let (name, bytes) = table;
        parts.push((format!("  pages of {name}"), bytes));
        let mut columns = file.prepare("SELECT name FROM pragma_table_info(?1) WHERE type = 'BLOB'")?;
        let columns = columns.query_map([&name], |row| row.get::<_, String>(0))?;
        for column in columns.collect::<Result<Vec<_>, _>>()? {
            let bytes = number(&format!("SELECT sum(length(\"{column}\")) FROM \"{name}\""))?;
            parts.push((format!("    {name}.{column}"), bytes.unwrap_or(0.0)));
        }
    }
    Ok(parts)
}
