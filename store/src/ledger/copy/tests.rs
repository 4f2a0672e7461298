//! Everything is copied, either way, and the copy goes on where the original stood.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{TenantId, Timestamp};
use serde_json::json;

use super::{tables::LEFT_OUT, *};
use crate::ledger::{
    changes::{self, NewChange},
    fixture::{self, Fresh, on_both_engines},
};

on_both_engines!(
    the_list_is_the_schema,
    a_copy_is_the_original_and_goes_on_counting,
    what_is_written_meanwhile_is_not_in_a_copy,
    a_ledger_that_holds_anything_is_left_as_it_is,
);

/// Names of all tables, each with its columns, as the database knows them.
async fn schema(ledger: &Ledger) -> BTreeMap<String, BTreeSet<String>> {
    let text = match ledger.engine() {
        Engine::Sqlite => {
            "SELECT t.name AS table_name, c.name AS column_name FROM sqlite_master t, pragma_table_info(t.name) c \
             WHERE t.type = 'table'"
        }
        Engine::Postgres => {
            "SELECT CAST(table_name AS TEXT) AS table_name, CAST(column_name AS TEXT) AS column_name \
             FROM information_schema.columns WHERE table_schema = current_schema"
        }
    };
    let mut read = ledger.read().await.unwrap();
    let mut schema: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in sqlx::query(text).fetch_all(&mut *read).await.unwrap() {
        schema.entry(row.get("table_name")).or_default().insert(row.get("column_name"));
    }
    schema
}

async fn the_list_is_the_schema(ledger: Ledger) {
    let mut schema = schema(&ledger).await;
    for name in LEFT_OUT {
        schema.remove(*name);
    }
    let listed: BTreeMap<String, BTreeSet<String>> = TABLES
        .iter()
        .map(|table| (table.name.to_owned(), table.columns.iter().map(|&column| column.to_owned()).collect()))
        .collect();
    assert_eq!(listed, schema);
    let mut read = ledger.read().await.unwrap();
    for table in TABLES {
        let columns = table.key().join(", ");
        let conflict =
            format!("INSERT INTO {0} SELECT * FROM {0} WHERE 1 = 0 ON CONFLICT ({columns}) DO NOTHING", table.name);
        sqlx::query(AssertSqlSafe(conflict)).execute(&mut *read).await.unwrap_or_else(|error| {
            panic!("({columns}) is no key of {}: {error}", table.name);
        });
    }
}

/// Fills every column of every table, by its type, with values that are easily lost: missing ones, the ends of their
/// ranges, text of every kind. Two pages of one table.
async fn fill(ledger: &Ledger) {
    let mut tx = ledger.write().await.unwrap();
    let column = |row: usize, name: &str, kind: &str, nullable: bool| match (kind, row) {
        (_, 1) if nullable => "NULL".to_owned(),
        ("bigint", 2) if !matches!(name, "on_hand" | "in_transit" | "quantity") => i64::MIN.to_string(),
        ("bigint", row) => (row + 1).to_string(),
        ("double", 2) => "2.2250738585072014e-308".to_owned(),
        ("double", row) => format!("{row}.1"),
        (_, row) => format!("'{name} ''{row}'' \u{e4}\u{1f527} \"'"),
    };
    for table in TABLES {
        let rows = if table.name == "audit" { ROWS_PER_PAGE + 3 } else { 3 };
        let kinds = kinds(ledger.engine(), &mut tx, table).await;
        for row in 0..rows {
            // The database numbers changes itself.
            let columns: Vec<&str> = table.columns.iter().copied().filter(|&name| name != "seq").collect();
            let values: Vec<String> =
                columns.iter().map(|&name| column(row, name, &kinds[name].0, kinds[name].1)).collect();
            let text = format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), values.join(", "));
            sqlx::query(AssertSqlSafe(text)).execute(&mut *tx).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

/// The kind of each column, and whether a value may be missing.
async fn kinds(engine: Engine, connection: &mut Connection, table: &Table) -> BTreeMap<String, (String, bool)> {
    let text = match engine {
        Engine::Sqlite => {
            "SELECT name, lower(type) AS kind, CASE WHEN \"notnull\" = 0 AND pk = 0 THEN 1 ELSE 0 END AS optional \
             FROM pragma_table_info($1)"
        }
        Engine::Postgres => {
            "SELECT CAST(column_name AS TEXT) AS name, CAST(data_type AS TEXT) AS kind, \
             CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END AS optional \
             FROM information_schema.columns WHERE table_schema = current_schema AND table_name = $1"
        }
    };
    let rows = sqlx::query(text).bind(table.name).fetch_all(connection).await.unwrap();
    let kind = |text: String| match text.split(' ').next().unwrap() {
        "integer" => "bigint".to_owned(),
        other => other.to_owned(),
    };
    rows.iter().map(|row| (row.get("name"), (kind(row.get("kind")), row.get::<i64, _>("optional") == 1))).collect()
}

/// All that a ledger holds, as texts that tell every value from every other.
async fn content(ledger: &Ledger) -> BTreeMap<&'static str, Vec<String>> {
    let mut read = ledger.read().await.unwrap();
    let mut content = BTreeMap::new();
    for table in TABLES {
        let text =
            format!("SELECT {} FROM {} ORDER BY {}", table.columns.join(", "), table.name, table.key().join(", "));
        let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&mut *read).await.unwrap();
        let shown = |row: &AnyRow| {
            let values = (0..table.columns.len()).map(|place| match value(row, place).unwrap() {
                Value::Missing => "missing".to_owned(),
                Value::Integer(integer) => integer.to_string(),
                Value::Number(number) => format!("{:x}", number.to_bits()),
                Value::Text(text) => format!("{text:?}"),
            });
            values.collect::<Vec<_>>().join(", ")
        };
        content.insert(table.name, rows.iter().map(shown).collect());
    }
    content
}

async fn change(ledger: &Ledger) -> i64 {
    let tenant = TenantId::parse("acme").unwrap();
    let at = Timestamp::from_millis(0);
    let body = json!({});
    let new = NewChange { tenant: &tenant, kind: "test.done", subject: "s", at, at_wall: at, body: &body };
    let mut tx = ledger.write().await.unwrap();
    let seq = changes::append(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    seq
}

async fn targets() -> Vec<Fresh> {
    [fixture::sqlite().await, fixture::postgres().await].into_iter().flatten().collect()
}

async fn a_copy_is_the_original_and_goes_on_counting(ledger: Ledger) {
    fill(&ledger).await;
    // The newest changes were pruned; their numbers are never given out again.
    let mut newest = 0;
    for _ in 0..9 {
        newest = change(&ledger).await;
    }
    let mut tx = ledger.write().await.unwrap();
    changes::prune(&mut tx, Timestamp::MAX).await.unwrap();
    tx.commit().await.unwrap();
    let original = content(&ledger).await;
    let rows: usize = original.values().map(Vec::len).sum();
    for target in targets().await {
        let mut seen = Vec::new();
        assert_eq!(copy(&ledger, &target.ledger, |progress| seen.push(progress)).await.unwrap(), rows as u64);
        assert_eq!(content(&target.ledger).await, original);
        assert_eq!(change(&target.ledger).await, newest + 1);
        let pages: Vec<u64> = seen.iter().filter(|page| page.table == "audit").map(|page| page.rows).collect();
        assert_eq!(pages, [ROWS_PER_PAGE as u64, ROWS_PER_PAGE as u64 + 3]);
    }
}

async fn what_is_written_meanwhile_is_not_in_a_copy(ledger: Ledger) {
    fill(&ledger).await;
    let original = content(&ledger).await;
    for target in targets().await {
        // The reading has begun when the first page is told of; then somebody writes into a table that comes later.
        let (began, writing) = tokio::sync::oneshot::channel();
        let mut began = Some(began);
        let writer = tokio::spawn({
            let ledger = ledger.clone();
            async move {
                writing.await.unwrap();
                change(&ledger).await;
            }
        });
        let copied = copy(&ledger, &target.ledger, |_| {
            if let Some(began) = began.take() {
                began.send(()).unwrap();
                // The copy waits here until the write has been committed.
                tokio::task::block_in_place(|| {
                    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
                    while !writer.is_finished() && std::time::Instant::now() < deadline {
                        std::thread::yield_now();
                    }
                });
                assert!(writer.is_finished(), "the copy keeps others from writing");
            }
        });
        copied.await.unwrap();
        assert_eq!(content(&target.ledger).await["changes"], original["changes"]);
        let mut tx = ledger.write().await.unwrap();
        sqlx::query("DELETE FROM changes WHERE kind = 'test.done'").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn a_ledger_that_holds_anything_is_left_as_it_is(ledger: Ledger) {
    fill(&ledger).await;
    for target in targets().await {
        change(&target.ledger).await;
        let before = content(&target.ledger).await;
        let refused = copy(&ledger, &target.ledger, |_| panic!("nothing is copied")).await;
        assert!(matches!(refused, Err(Error::Conflict { reason }) if reason.contains("changes")));
        assert_eq!(content(&target.ledger).await, before);
    }
}
