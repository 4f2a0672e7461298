//! Predictions and the decisions made from them.
//!
//! A prediction is identified by tenant, event time, device and component; scoring the same again replaces it, so a cycle
//! that is repeated after a crash changes nothing. Its public id is those three, encoded: no column, no counter.
//! Every number is read back bit for bit as it was written.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use harbinger_core::{ComponentId, DeviceId, TenantId, TimeRange, Timestamp};
use sqlx::any::AnyRow;

use super::{Connection, Error, bulk, column};

/// What a prediction's public id starts with.
pub const ID_PREFIX: &str = "prd_";

/// How likely a component fails, and how long it lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Event time: it knows nothing later.
    pub ts: Timestamp,
    /// Which device.
    pub device: DeviceId,
    /// Which of its components.
    pub component: ComponentId,
    /// P(fails within the horizon after `ts`), calibrated, one for each horizon of the model, in its order.
    pub probabilities: Vec<f64>,
    /// Uncalibrated rank behind the main horizon, for ties.
    pub score: f64,
    /// Whether the main horizon's probability is over the model's threshold.
    pub alarm: bool,
    /// Mean remaining useful life in hours.
    pub rul_mean: f64,
    /// 5 % quantile of the remaining useful life in hours.
    pub rul_p05: f64,
    /// Median of the remaining useful life in hours.
    pub rul_p50: f64,
    /// 95 % quantile of the remaining useful life in hours.
    pub rul_p95: f64,
    /// What raised the score most: signal or event code and what it added, strongest first.
    pub top_signals: Vec<(String, f64)>,
    /// The model that said so.
    pub model_version: String,
}

/// What identifies a prediction within its tenant, in the order that lists keep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredictionKey {
    /// Event time.
    pub ts: Timestamp,
    /// Which device.
    pub device: DeviceId,
    /// Which of its components.
    pub component: ComponentId,
}

impl PredictionKey {
    /// The public id. Ids hold no control character, so the separator cannot occur in one.
    #[must_use]
    pub fn encode(&self) -> String {
        let plain = format!("{}\u{1f}{}\u{1f}{}", self.ts.millis(), self.device, self.component);
        format!("{ID_PREFIX}{}", URL_SAFE_NO_PAD.encode(plain))
    }

    /// The key behind a public id; `None` where the text is none.
    #[must_use]
    pub fn decode(id: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(id.strip_prefix(ID_PREFIX)?).ok()?;
        let plain = String::from_utf8(bytes).ok()?;
        let mut parts = plain.split('\u{1f}');
        let key = Self {
            ts: Timestamp::from_millis(parts.next()?.parse().ok()?),
            device: parts.next()?.parse().ok()?,
            component: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(key)
    }
}

impl Prediction {
    /// What identifies it.
    #[must_use]
    pub fn key(&self) -> PredictionKey {
        PredictionKey { ts: self.ts, device: self.device.clone(), component: self.component.clone() }
    }

    /// Its public id.
    #[must_use]
    pub fn id(&self) -> String {
        self.key().encode()
    }
}

/// Which predictions are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Event times.
    pub range: TimeRange,
    /// Of one device only.
    pub device: Option<DeviceId>,
    /// Of one component only.
    pub component: Option<ComponentId>,
    /// By one model only.
    pub model_version: Option<String>,
    /// Only the newest of each device and component among those that the rest lets through.
    pub latest: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { range: TimeRange::ALL, device: None, component: None, model_version: None, latest: false }
    }
}

const COLUMNS: &[&str] = &[
    "ts",
    "device",
    "component",
    "probabilities",
    "score",
    "alarm",
    "rul_mean",
    "rul_p05",
    "rul_p50",
    "rul_p95",
    "top_signals",
    "model_version",
];

/// Writes predictions; one with the same time, device and component is replaced. No key may come twice in one call.
///
/// # Errors
/// [`Error::Conflict`] where a number is NaN; [`Error::Database`].
pub async fn insert_many(connection: &mut Connection, tenant: &TenantId, rows: &[Prediction]) -> Result<(), Error> {
    let numbers = |row: &Prediction| [row.score, row.rul_mean, row.rul_p05, row.rul_p50, row.rul_p95];
    let is_nan = |row: &&Prediction| row.probabilities.iter().chain(&numbers(row)).any(|number| number.is_nan());
    if let Some(row) = rows.iter().find(is_nan) {
        let reason = format!("prediction for {} {} at {} holds NaN", row.device, row.component, row.ts);
        return Err(Error::Conflict { reason });
    }
    let conflict = "ON CONFLICT (tenant, ts, device, component) DO UPDATE SET \
        probabilities = excluded.probabilities, score = excluded.score, alarm = excluded.alarm, \
        rul_mean = excluded.rul_mean, rul_p05 = excluded.rul_p05, rul_p50 = excluded.rul_p50, \
        rul_p95 = excluded.rul_p95, top_signals = excluded.top_signals, \
        model_version = excluded.model_version";
    bulk::insert(connection, "predictions", COLUMNS, conflict, tenant, rows, |row, values| {
        values.add(row.ts.millis());
        values.add(row.device.as_str().to_owned());
        values.add(row.component.as_str().to_owned());
        values.add(write_numbers(&row.probabilities));
        values.add(row.score);
        values.add(i64::from(row.alarm));
        for number in [row.rul_mean, row.rul_p05, row.rul_p50, row.rul_p95] {
            values.add(number);
        }
        values.add(serde_json::to_string(&row.top_signals).unwrap_or_default());
        values.add(row.model_version.clone());
    })
    .await?;
    Ok(())
}

/// A JSON array. Rust writes the shortest digits that read back as the same number, and reads them exactly; `serde_json`
/// without its `float_roundtrip` reads some a unit in the last place off.
fn write_numbers(numbers: &[f64]) -> String {
    let mut text = String::with_capacity(2 + numbers.len() * 20);
    text.push('[');
    for (i, number) in numbers.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{number:?}", if i == 0 { "" } else { "," });
    }
    text.push(']');
    text
}

fn read_numbers(text: &str) -> Option<Vec<f64>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|number| number.trim().parse().ok()).collect()
}

const LIST: &str = "SELECT p.ts, p.device, p.component, p.probabilities, p.score, p.alarm, p.rul_mean, p.rul_p05, \
    p.rul_p50, p.rul_p95, p.top_signals, p.model_version FROM predictions p \
    WHERE p.tenant = $1 AND p.ts >= $2 AND p.ts < $3 AND ($4 = '' OR p.device = $4) \
    AND ($5 = '' OR p.component = $5) AND ($6 = '' OR p.model_version = $6) \
    AND (p.ts, p.device, p.component) > ($7, $8, $9) ORDER BY p.ts, p.device, p.component LIMIT $10";

// The same for one device, said so that the index by device serves.
const LIST_OF_DEVICE: &str = "SELECT p.ts, p.device, p.component, p.probabilities, p.score, p.alarm, p.rul_mean, \
    p.rul_p05, p.rul_p50, p.rul_p95, p.top_signals, p.model_version FROM predictions p \
    WHERE p.tenant = $1 AND p.ts >= $2 AND p.ts < $3 AND p.device = $4 \
    AND ($5 = '' OR p.component = $5) AND ($6 = '' OR p.model_version = $6) \
    AND (p.ts, p.device, p.component) > ($7, $8, $9) ORDER BY p.ts, p.device, p.component LIMIT $10";

const LIST_LATEST: &str = "SELECT p.ts, p.device, p.component, p.probabilities, p.score, p.alarm, p.rul_mean, \
    p.rul_p05, p.rul_p50, p.rul_p95, p.top_signals, p.model_version FROM \
    (SELECT q.device AS device, q.component AS component, max(q.ts) AS ts FROM predictions q \
     WHERE q.tenant = $1 AND q.ts >= $2 AND q.ts < $3 AND ($4 = '' OR q.device = $4) \
     AND ($5 = '' OR q.component = $5) AND ($6 = '' OR q.model_version = $6) GROUP BY q.device, q.component) newest \
    JOIN predictions p ON p.tenant = $1 AND p.ts = newest.ts AND p.device = newest.device \
    AND p.component = newest.component \
    WHERE (p.ts, p.device, p.component) > ($7, $8, $9) ORDER BY p.ts, p.device, p.component LIMIT $10";

const LATEST_OF_DEVICE: &str = "SELECT p.ts, p.device, p.component, p.probabilities, p.score, p.alarm, p.rul_mean, \
    p.rul_p05, p.rul_p50, p.rul_p95, p.top_signals, p.model_version FROM \
    (SELECT q.component AS component, max(q.ts) AS ts FROM predictions q \
     WHERE q.tenant = $1 AND q.ts >= $2 AND q.ts < $3 AND q.device = $4 \
     AND ($5 = '' OR q.component = $5) AND ($6 = '' OR q.model_version = $6) GROUP BY q.component) newest \
    JOIN predictions p ON p.tenant = $1 AND p.ts = newest.ts AND p.device = $4 \
    AND p.component = newest.component \
    WHERE (p.ts, p.device, p.component) > ($7, $8, $9) ORDER BY p.ts, p.device, p.component LIMIT $10";

/// Predictions in order of time, device, component, from behind `after` on, at most `limit`.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &Filter,
    after: Option<&PredictionKey>,
    limit: usize,
) -> Result<Vec<Prediction>, Error> {
    let statement = match (filter.latest, filter.device.is_some()) {
        (false, false) => LIST,
        (false, true) => LIST_OF_DEVICE,
        (true, false) => LIST_LATEST,
        (true, true) => LATEST_OF_DEVICE,
    };
    sqlx::query(statement)
        .bind(tenant.as_str())
        .bind(filter.range.from.millis())
        .bind(filter.range.to.millis())
        .bind(filter.device.as_ref().map_or("", DeviceId::as_str))
        .bind(filter.component.as_ref().map_or("", ComponentId::as_str))
        .bind(filter.model_version.as_deref().unwrap_or_default())
        .bind(after.map_or(i64::MIN, |key| key.ts.millis()))
        .bind(after.map_or("", |key| key.device.as_str()))
        .bind(after.map_or("", |key| key.component.as_str()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// One prediction.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Damaged`], [`Error::Database`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, key: &PredictionKey) -> Result<Prediction, Error> {
    let query = sqlx::query(
        "SELECT ts, device, component, probabilities, score, alarm, rul_mean, rul_p05, rul_p50, rul_p95, top_signals, \
         model_version \
         FROM predictions WHERE tenant = $1 AND ts = $2 AND device = $3 AND component = $4",
    )
    .bind(tenant.as_str())
    .bind(key.ts.millis())
    .bind(key.device.as_str())
    .bind(key.component.as_str());
    let row = query.fetch_optional(connection).await?;
    row.as_ref().map_or_else(|| Err(Error::NotFound { what: "prediction", id: key.encode() }), read)
}

fn probabilities(row: &AnyRow) -> Result<Vec<f64>, Error> {
    let text: String = column::get(row, "probabilities")?;
    read_numbers(&text).ok_or(Error::Damaged { column: "predictions.probabilities", value: text })
}

/// The main horizon's probability of a row that has the column `probabilities`.
pub(super) fn main_probability(row: &AnyRow) -> Result<f64, Error> {
    let none = || Error::Damaged { column: "predictions.probabilities", value: "[]".to_owned() };
    probabilities(row)?.first().copied().ok_or_else(none)
}

fn read(row: &AnyRow) -> Result<Prediction, Error> {
    let top_signals: String = column::get(row, "top_signals")?;
    Ok(Prediction {
        ts: column::time(row, "ts")?,
        device: column::parse(row, "device")?,
        component: column::parse(row, "component")?,
        probabilities: probabilities(row)?,
        score: column::get(row, "score")?,
        alarm: column::get::<i64>(row, "alarm")? != 0,
        rul_mean: column::get(row, "rul_mean")?,
        rul_p05: column::get(row, "rul_p05")?,
        rul_p50: column::get(row, "rul_p50")?,
        rul_p95: column::get(row, "rul_p95")?,
        top_signals: serde_json::from_str(&top_signals)
            .map_err(|_| Error::Damaged { column: "predictions.top_signals", value: top_signals })?,
        model_version: column::get(row, "model_version")?,
    })
}

/// What a decision was made from: feature values, contributions, normal ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The prediction it belongs to.
    pub prediction_id: String,
    /// The model that said so.
    pub model_version: String,
    /// The record itself.
    pub body: serde_json::Value,
}

/// Keeps a decision's record; one for the same prediction is replaced.
///
/// # Errors
/// [`Error::Database`].
pub async fn insert_decisions(
    connection: &mut Connection,
    tenant: &TenantId,
    decisions: &[Decision],
) -> Result<(), Error> {
    let conflict = "ON CONFLICT (tenant, prediction_id) DO UPDATE SET model_version = excluded.model_version, \
        body = excluded.body";
    let columns = &["prediction_id", "model_version", "body"];
    bulk::insert(connection, "decisions", columns, conflict, tenant, decisions, |decision, values| {
        values.add(decision.prediction_id.clone());
        values.add(decision.model_version.clone());
        values.add(decision.body.to_string());
    })
    .await?;
    Ok(())
}

/// The record behind a prediction, where one was kept.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn decision(
    connection: &mut Connection,
    tenant: &TenantId,
    prediction_id: &str,
) -> Result<Option<Decision>, Error> {
    let query = sqlx::query("SELECT model_version, body FROM decisions WHERE tenant = $1 AND prediction_id = $2");
    let row = query.bind(tenant.as_str()).bind(prediction_id).fetch_optional(connection).await?;
    row.map(|row| {
        Ok(Decision {
            prediction_id: prediction_id.to_owned(),
            model_version: column::get(&row, "model_version")?,
            body: column::json(&row, "body")?,
        })
    })
    .transpose()
}

#[cfg(test)]
mod tests;
