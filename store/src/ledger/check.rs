//! `check`: whether a ledger holds together.
//!
//! Reads only, beside a running service too; each rule is a statement of its own, so that no read transaction lasts long. A
//! rule is data: what must never be, as a query for the keys of the rows that are so.

use std::path::Path;

use harbinger_core::TenantId;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row};

use super::{Connection, Contradicted, Engine, Error, Url, page_checksums, page_checksums::State};
use crate::telemetry::Finding;

/// What was found, and which model files there must be.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is not as it should be; empty where all is well.
    pub findings: Vec<Finding>,
    /// Tenant and version of every statistical model: its file lies outside of the ledger.
    pub models: Vec<(TenantId, String)>,
}

/// Something that must never be.
struct Rule {
    table: &'static str,
    problem: &'static str,
    remedy: &'static str,
    /// The keys of the rows that break it.
    broken: &'static str,
}

const RESTORE: &str = "restore a backup with harbinger restore";
const ASK: &str = "correct the order through the API, or restore a backup with harbinger restore";

/// What the state, times and pieces of an order, transfer or purchase, can never be.
macro_rules! no_order {
    () => {
        "state NOT IN ('proposed', 'approved', 'picked', 'shipped', 'received', 'cancelled') \
         OR (state IN ('approved', 'picked', 'shipped', 'received') AND approved_at IS NULL) \
         OR (state IN ('shipped', 'received') AND shipped_at IS NULL) \
         OR (state IN ('proposed', 'approved', 'picked') AND shipped_at IS NOT NULL) \
         OR (state = 'received' AND (received_at IS NULL OR received_quantity IS NULL)) \
         OR (state <> 'received' AND received_at IS NOT NULL) \
         OR (state NOT IN ('shipped', 'received') AND received_quantity IS NOT NULL) \
         OR (state = 'shipped' AND received_quantity >= quantity) \
         OR (state = 'cancelled' AND cancelled_at IS NULL) OR received_quantity > quantity"
    };
}

/// The key of a prediction, in one.
macro_rules! prediction {
    () => {
        "tenant || ', ' || ts || ', ' || device || ', ' || component"
    };
}

const RULES: [Rule; 20] = [
    Rule {
        table: "stock",
        problem: "on_hand is not the sum of its movements",
        remedy: "count the shelf and import the level",
        broken: "SELECT s.tenant || ', ' || s.part || ', ' || s.depot FROM stock s \
                 LEFT JOIN (SELECT tenant, part, depot, SUM(quantity) AS pieces FROM stock_movements \
                 GROUP BY tenant, part, depot) m ON m.tenant = s.tenant AND m.part = s.part AND m.depot = s.depot \
                 WHERE s.on_hand <> COALESCE(m.pieces, 0)",
    },
    Rule {
        table: "stock_movements",
        problem: "it moved pieces of a level that is not there",
        remedy: "count the shelf and import the level",
        broken: "SELECT m.movement_id FROM stock_movements m LEFT JOIN stock s ON s.tenant = m.tenant \
                 AND s.part = m.part AND s.depot = m.depot WHERE s.part IS NULL",
    },
    Rule {
        table: "alerts",
        problem: "another alert stands for the same device, component and failure mode",
        remedy: "close one of them through the API",
        broken: "SELECT MIN(alert_id) FROM alerts WHERE state IN ('open', 'acknowledged', 'in_progress') \
                 GROUP BY tenant, device, component, failure_mode HAVING COUNT(*) > 1",
    },
    Rule {
        table: "alerts",
        problem: "its state is none of an alert, or lacks its time",
        remedy: RESTORE,
        broken: "SELECT alert_id FROM alerts \
                 WHERE state NOT IN ('open', 'acknowledged', 'in_progress', 'resolved', 'closed') \
                 OR (state = 'resolved' AND resolved_at IS NULL) OR (state = 'closed' AND closed_at IS NULL)",
    },
    Rule {
        table: "alert_history",
        problem: "it tells of an alert that is not there",
        remedy: RESTORE,
        broken: "SELECT h.alert_id || ', ' || h.step FROM alert_history h \
                 LEFT JOIN alerts a ON a.alert_id = h.alert_id WHERE a.alert_id IS NULL",
    },
    Rule {
        table: "transfers",
        problem: "its state is none of an order, or its times and pieces do not fit its state",
        remedy: ASK,
        broken: concat!(
            "SELECT transfer_id FROM transfers WHERE consumed > COALESCE(received_quantity, 0) OR consumed < 0 ",
            "OR (state = 'picked' AND picked_at IS NULL) OR ",
            no_order!()
        ),
    },
    Rule {
        table: "purchases",
        problem: "its state is none of an order, or its times and pieces do not fit its state",
        remedy: ASK,
        broken: concat!("SELECT purchase_id FROM purchases WHERE state = 'picked' OR ", no_order!()),
    },
    Rule {
        table: "returns",
        problem: "its state is none of a return or repair, or its times and pieces do not fit its state",
        remedy: RESTORE,
        broken: "SELECT order_id FROM returns WHERE leg NOT IN ('return', 'repair') \
                 OR state NOT IN ('approved', 'shipped', 'received', 'cancelled') \
                 OR (leg = 'repair' AND state NOT IN ('shipped', 'received')) \
                 OR (state IN ('shipped', 'received') AND shipped_at IS NULL) \
                 OR (state = 'received' AND (received_at IS NULL OR received_quantity IS NULL)) \
                 OR (state = 'cancelled' AND cancelled_at IS NULL) OR received_quantity > quantity",
    },
    Rule {
        table: "pieces",
        problem: "it is at no place, or with an order that is not on the way",
        remedy: RESTORE,
        broken: "SELECT p.tenant || ', ' || p.part || ', ' || p.serial FROM pieces p \
                 WHERE p.place NOT IN ('depot', 'order', 'gone') OR (p.place = 'order' AND NOT EXISTS \
                 (SELECT 1 FROM transfers t WHERE t.transfer_id = p.held_by AND t.state = 'shipped') AND NOT EXISTS \
                 (SELECT 1 FROM purchases b WHERE b.purchase_id = p.held_by AND b.state = 'shipped') AND NOT EXISTS \
                 (SELECT 1 FROM returns r WHERE r.order_id = p.held_by AND r.state = 'shipped'))",
    },
    Rule {
        table: "part_uses",
        problem: "it used a piece of a transfer that is not there",
        remedy: RESTORE,
        broken: "SELECT u.use_id FROM part_uses u LEFT JOIN transfers t ON t.transfer_id = u.transfer_id \
                 WHERE u.transfer_id IS NOT NULL AND t.transfer_id IS NULL",
    },
    Rule {
        table: "work_orders",
        problem: "its state is none of a work order, or its times and pieces do not fit its state",
        remedy: "cancel it through the API, or restore a backup with harbinger restore",
        broken: "SELECT work_order_id FROM work_orders WHERE state NOT IN ('open', 'done', 'cancelled') \
                 OR (state = 'done' AND done_at IS NULL) OR (state = 'cancelled' AND cancelled_at IS NULL) \
                 OR reserved < 0 OR reserved > quantity OR (state <> 'open' AND reserved <> 0)",
    },
    Rule {
        table: "work_orders",
        problem: "more pieces are reserved for work orders than lie on the shelf",
        remedy: "count the shelf and import the level",
        broken: "SELECT w.tenant || ', ' || w.part || ', ' || w.depot FROM (SELECT tenant, part, depot, \
                 SUM(reserved) AS pieces FROM work_orders WHERE state = 'open' GROUP BY tenant, part, depot) w \
                 LEFT JOIN stock s ON s.tenant = w.tenant AND s.part = w.part AND s.depot = w.depot \
                 WHERE w.pieces > COALESCE(s.on_hand, 0)",
    },
    Rule {
        table: "statistical_models",
        problem: "its state is none of a model",
        remedy: RESTORE,
        broken: "SELECT tenant || ', ' || version FROM statistical_models \
                 WHERE state NOT IN ('champion', 'challenger', 'candidate', 'retired')",
    },
    Rule {
        table: "statistical_models",
        problem: "the tenant has more than one champion",
        remedy: "promote one of them through the API",
        broken: "SELECT tenant FROM statistical_models WHERE state = 'champion' GROUP BY tenant HAVING COUNT(*) > 1",
    },
    Rule {
        table: "statistical_models",
        problem: "the tenant has more than one challenger",
        remedy: "promote one of them through the API, or train anew",
        broken: "SELECT tenant FROM statistical_models WHERE state = 'challenger' GROUP BY tenant HAVING COUNT(*) > 1",
    },
    Rule {
        table: "shadow_predictions",
        problem: "the model that made them is not in shadow",
        remedy: "promote another model through the API and back",
        broken: "SELECT s.tenant || ', model ' || s.model_version FROM \
                 (SELECT DISTINCT tenant, model_version FROM shadow_predictions) s LEFT JOIN statistical_models m \
                 ON m.tenant = s.tenant AND m.version = s.model_version AND m.state = 'challenger' \
                 WHERE m.version IS NULL",
    },
    Rule {
        table: "predictions",
        problem: "they were made by a model that is not there",
        remedy: RESTORE,
        broken: "SELECT p.tenant || ', model ' || p.model_version FROM \
                 (SELECT DISTINCT tenant, model_version FROM predictions) p LEFT JOIN statistical_models m \
                 ON m.tenant = p.tenant AND m.version = p.model_version WHERE m.version IS NULL",
    },
    Rule {
        table: "predictions",
        problem: "its numbers are no probabilities and lives",
        remedy: RESTORE,
        broken: concat!(
            "SELECT ",
            prediction!(),
            " FROM predictions WHERE rul_p05 < 0 OR rul_p05 > rul_p50 OR rul_p50 > rul_p95 OR alarm NOT IN (0, 1)"
        ),
    },
    Rule {
        table: "deliveries",
        problem: "it goes to a webhook that is not there",
        remedy: RESTORE,
        broken: "SELECT d.delivery_id FROM deliveries d LEFT JOIN webhooks w ON w.webhook_id = d.webhook_id \
                 WHERE w.webhook_id IS NULL",
    },
    Rule {
        table: "deliveries",
        problem: "its state is none of a delivery",
        remedy: RESTORE,
        broken: "SELECT delivery_id FROM deliveries WHERE state NOT IN ('pending', 'delivered', 'dead')",
    },
];

/// Columns that hold JSON, with the key of their table.
const DOCUMENTS: [(&str, &str, &str); 14] = [
    ("transfers", "transfer_id", "reasons"),
    ("purchases", "purchase_id", "reasons"),
    ("statistical_models", "version", "horizons"),
    ("statistical_models", "version", "summary"),
    ("predictions", prediction!(), "probabilities"),
    ("predictions", prediction!(), "top_signals"),
    ("decisions", "prediction_id", "body"),
    ("plans", "plan_id", "body"),
    ("alerts", "alert_id", "reasons"),
    ("webhooks", "webhook_id", "event_types"),
    ("deliveries", "delivery_id", "body"),
    ("changes", "seq", "body"),
    ("idempotency_keys", "idempotency_key", "body"),
    ("audit", "audit_id", "detail"),
];

/// Verifies the SQLite ledger at `path`: the file's structure, its constraints, documents and rules.
pub async fn check_file(path: &Path) -> Checked {
    let name = path.display().to_string();
    match check_sqlite(path, &name).await {
        Ok(checked) => checked,
        Err(error) => Checked { findings: vec![finding(name, &error.to_string(), RESTORE)], ..Checked::default() },
    }
}

async fn check_sqlite(path: &Path, name: &str) -> Result<Checked, Error> {
    let mut connection = super::options(&Url::of_file_to_read(path))?.connect().await?;
    let mut findings = Vec::new();
    match page_checksums::state(&mut connection).await {
        Ok(State::Verified) => {}
        // As an earlier version left it, or on its way: the next start gives it checksums.
        Ok(State::Missing) => {
            sqlx::query("PRAGMA checksum_verification=OFF").fetch_all(&mut connection).await?;
        }
        Ok(State::Contradicted) => findings.push(finding(name, &Contradicted.to_string(), RESTORE)),
        Err(error) => findings.push(finding(name, &error.to_string(), RESTORE)),
    }
    match keys(&mut connection, "PRAGMA integrity_check(100)").await {
        Ok(lines) => {
            let damaged = lines.into_iter().filter(|line| line != "ok");
            findings.extend(damaged.map(|line| finding(name, &line, RESTORE)));
        }
        Err(error) => findings.push(finding(name, &error.to_string(), RESTORE)),
    }
    let checked = check_connection(&mut connection, Engine::Sqlite).await;
    drop(connection.close().await);
    Ok(Checked { findings: findings.into_iter().chain(checked.findings).collect(), models: checked.models })
}

/// Verifies what must hold on every engine, and documents where the engine can.
pub async fn check_connection(connection: &mut Connection, engine: Engine) -> Checked {
    let mut findings = Vec::new();
    for rule in &RULES {
        findings.extend(broken(connection, rule.table, rule.problem, rule.remedy, rule.broken.to_owned()).await);
    }
    if engine == Engine::Sqlite {
        for (table, key, column) in DOCUMENTS {
            let problem = format!("{column} is no JSON");
            let rows = format!("SELECT CAST({key} AS TEXT) FROM {table} WHERE NOT json_valid({column})");
            findings.extend(broken(connection, table, &problem, RESTORE, rows).await);
        }
    }
    match models(connection).await {
        Ok(models) => Checked { findings, models },
        Err(error) => {
            findings.push(finding("statistical_models", &error.to_string(), RESTORE));
            Checked { findings, models: Vec::new() }
        }
    }
}

/// A finding for each row of a query; one for the table where it cannot be read.
async fn broken(connection: &mut Connection, table: &str, problem: &str, remedy: &str, rows: String) -> Vec<Finding> {
    match keys(connection, &rows).await {
        Ok(keys) => keys.into_iter().map(|key| finding(format!("{table} ({key})"), problem, remedy)).collect(),
        Err(error) => vec![finding(table, &error.to_string(), RESTORE)],
    }
}

async fn keys(connection: &mut Connection, query: &str) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn models(connection: &mut Connection) -> Result<Vec<(TenantId, String)>, Error> {
    let rows = sqlx::query("SELECT tenant, version FROM statistical_models ORDER BY tenant, version");
    let rows = rows.fetch_all(connection).await?;
    rows.iter().map(|row| Ok((super::column::parse(row, "tenant")?, row.try_get("version")?))).collect()
}

fn finding(place: impl Into<String>, problem: &str, remedy: &str) -> Finding {
    Finding { place: place.into(), problem: problem.to_owned(), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    /// What a hand or a flipped bit may do, and the place that is named then.
    const DAMAGES: [(&str, &str); 13] = [
        ("INSERT INTO stock VALUES ('acme', 'p', 'hub', 3, 0)", "stock (acme, p, hub)"),
        (
            "INSERT INTO stock_movements VALUES ('mov_1', 'acme', 0, 'p', 'hub', 3, 'import', 'r')",
            "stock_movements (mov_1)",
        ),
        (
            "INSERT INTO transfers (transfer_id, tenant, plan_id, part, from_depot, to_depot, quantity, state, worth, cost, \
             reasons, proposed_at) VALUES ('trf_1', 'acme', 'plan', 'p', 'hub', 'north', 1, 'shipped', 1, 1, '[]', 0)",
            "transfers (trf_1)",
        ),
        (
            "INSERT INTO transfers (transfer_id, tenant, plan_id, part, from_depot, to_depot, quantity, state, worth, cost, \
             reasons, proposed_at, consumed) VALUES ('trf_2', 'acme', 'plan', 'p', 'hub', 'north', 1, 'proposed', 1, 1, \
             '[]', 0, 1)",
            "transfers (trf_2)",
        ),
        (
            "INSERT INTO purchases (purchase_id, tenant, plan_id, part, depot, quantity, state, worth, cost, reasons, \
             proposed_at) VALUES ('pur_1', 'acme', 'plan', 'p', 'hub', 1, 'approved', 1, 1, '[]', 0)",
            "purchases (pur_1)",
        ),
        (
            "INSERT INTO returns (order_id, tenant, leg, part, from_depot, to_depot, quantity, state, cause, opened_at) \
             VALUES ('rep_1', 'acme', 'repair', 'p', 'hub', 'hub', 1, 'shipped', 'ret_1', 0)",
            "returns (rep_1)",
        ),
        ("INSERT INTO pieces VALUES ('acme', 'p', 's1', 'order', 'trf_9', 0)", "pieces (acme, p, s1)"),
        (
            "INSERT INTO work_orders (work_order_id, tenant, device, component, part, depot, quantity, due_at, state, \
             reserved, opened_at, opened_by) VALUES ('wko_1', 'acme', 'd', 'fan', 'p', 'hub', 1, 0, 'done', 0, 0, 'me')",
            "work_orders (wko_1)",
        ),
        (
            "INSERT INTO work_orders (work_order_id, tenant, device, component, part, depot, quantity, due_at, state, \
             reserved, opened_at, opened_by) VALUES ('wko_1', 'acme', 'd', 'fan', 'p', 'hub', 1, 0, 'open', 1, 0, 'me')",
            "work_orders (acme, p, hub)",
        ),
        ("INSERT INTO plans VALUES ('plan_1', 'acme', 0, 0, '{\"a\":', 0)", "plans (plan_1)"),
        (
            "INSERT INTO alert_history VALUES ('acme', 'alr_1', 1, 0, 0, 'open', 'worker', NULL)",
            "alert_history (alr_1, 1)",
        ),
        (
            "INSERT INTO deliveries (delivery_id, tenant, webhook_id, message_id, event_type, body, state, attempts, \
             next_attempt_wall, created_wall) VALUES ('dlv_1', 'acme', 'whk_9', 'm', 'e', '{}', 'pending', 0, 0, 0)",
            "deliveries (dlv_1)",
        ),
        (
            "INSERT INTO predictions VALUES ('acme', 0, 'd', 'fan', '[0.5]', 0.5, 0, 1, 1, 1, 1, '[]', 'v9')",
            "predictions (acme, model v9)",
        ),
    ];

    #[tokio::test]
    async fn each_broken_rule_names_its_row() {
        let folder = tempfile::tempdir().unwrap();
        for (number, (damage, place)) in DAMAGES.into_iter().enumerate() {
            let path = folder.path().join(format!("ledger-{number}.db"));
            let ledger = Ledger::open(&path).await.unwrap();
            assert_eq!(check_file(&path).await.findings, []);
            let mut tx = ledger.write().await.unwrap();
            sqlx::query(damage).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
            let places: Vec<String> = check_file(&path).await.findings.into_iter().map(|found| found.place).collect();
            assert_eq!(places, [place], "beside the open ledger");
            ledger.close().await;
        }
    }

    #[tokio::test]
    async fn a_file_that_is_none_or_is_cut_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.db");
        assert_eq!(check_file(&missing).await.findings.len(), 1);
        assert!(!missing.exists(), "a check makes nothing");

        let path = folder.path().join("ledger.db");
        Ledger::open(&path).await.unwrap().close().await;
        let bytes = fs_err::read(&path).unwrap();
        fs_err::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(!check_file(&path).await.findings.is_empty());
        assert!(Ledger::open(&path).await.unwrap_err().tells_of_damage());
        fs_err::write(&path, "not a database").unwrap();
        assert!(check_file(&path).await.findings[0].place.ends_with("ledger.db"));
        let unreachable = Ledger::open(&folder.path().join("no/ledger.db")).await.unwrap_err();
        assert!(!unreachable.tells_of_damage(), "{unreachable}");
    }
}
