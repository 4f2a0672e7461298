//! What a challenger says beside the champion, until it is decided which of the two goes on.
//!
//! Nobody acts on these rows: no alert and no plan reads them. They are told again beside the champion's own predictions of the
//! same slots and times, and go with the challenger's time in shadow.

use harbinger_core::{ComponentId, DeviceId, TenantId, Timestamp};
use sqlx::any::AnyRow;

use super::{
    Connection, Error, bulk, column,
    predictions::{PredictionKey, main_probability},
};

/// What a challenger says of a component at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowPrediction {
    /// Event time: it knows nothing later.
    pub ts: Timestamp,
    /// Which device.
    pub device: DeviceId,
    /// Which of its components.
    pub component: ComponentId,
    /// P(fails within the main horizon after `ts`), calibrated.
    pub probability: f64,
    /// Whether it is over the challenger's threshold.
    pub alarm: bool,
}

/// What champion and challenger said of one slot at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// When and of what.
    pub key: PredictionKey,
    /// P(fails within the main horizon), by the champion.
    pub champion: f64,
    /// The same by the challenger.
    pub challenger: f64,
    /// Whether the champion alarmed.
    pub champion_alarm: bool,
    /// Whether the challenger would have.
    pub challenger_alarm: bool,
}

/// Writes what a challenger said; the same time, device and component again is replaced. No key may come twice in one call.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn insert_many(
    connection: &mut Connection,
    tenant: &TenantId,
    version: &str,
    rows: &[ShadowPrediction],
) -> Result<(), Error> {
    let conflict = "ON CONFLICT (tenant, model_version, ts, device, component) DO UPDATE SET \
        probability = excluded.probability, alarm = excluded.alarm";
    let columns = &["model_version", "ts", "device", "component", "probability", "alarm"];
    bulk::insert(connection, "shadow_predictions", columns, conflict, tenant, rows, |row, values| {
        values.add(version.to_owned());
        values.add(row.ts.millis());
        values.add(row.device.as_str().to_owned());
        values.add(row.component.as_str().to_owned());
        values.add(row.probability);
        values.add(i64::from(row.alarm));
    })
    .await?;
    Ok(())
}

/// What both said of the same slots and times, in order of time, device, component: a page.
///
/// * `champion`: predictions by other versions are left out.
/// * `until`: first instant after.
/// * `after`: the last key of the page before.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn pairs(
    connection: &mut Connection,
    tenant: &TenantId,
    (champion, challenger): (&str, &str),
    until: Timestamp,
    after: Option<&PredictionKey>,
    limit: usize,
) -> Result<Vec<Pair>, Error> {
    let query = sqlx::query(
        "SELECT s.ts, s.device, s.component, s.probability, s.alarm, p.probabilities, p.alarm AS champion_alarm \
         FROM shadow_predictions s JOIN predictions p \
         ON p.tenant = s.tenant AND p.ts = s.ts AND p.device = s.device AND p.component = s.component \
         WHERE s.tenant = $1 AND s.model_version = $2 AND p.model_version = $3 AND s.ts < $4 \
         AND (s.ts, s.device, s.component) > ($5, $6, $7) ORDER BY s.ts, s.device, s.component LIMIT $8",
    );
    let (ts, device, component) =
        after.map_or((i64::MIN, "", ""), |key| (key.ts.millis(), key.device.as_str(), key.component.as_str()));
    let query = query.bind(tenant.as_str()).bind(challenger).bind(champion).bind(until.millis());
    let query = query.bind(ts).bind(device).bind(component).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    query.fetch_all(connection).await?.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Pair, Error> {
    Ok(Pair {
        key: PredictionKey {
            ts: column::time(row, "ts")?,
            device: column::parse(row, "device")?,
            component: column::parse(row, "component")?,
        },
        champion: main_probability(row)?,
        challenger: column::get(row, "probability")?,
        champion_alarm: column::get::<i64>(row, "champion_alarm")? != 0,
        challenger_alarm: column::get::<i64>(row, "alarm")? != 0,
    })
}

/// Forgets what a version said in shadow.
///
/// # Errors
/// [`Error::Database`].
pub async fn forget(connection: &mut Connection, tenant: &TenantId, version: &str) -> Result<(), Error> {
    let query = sqlx::query("DELETE FROM shadow_predictions WHERE tenant = $1 AND model_version = $2");
    query.bind(tenant.as_str()).bind(version).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, fixture::on_both_engines, predictions};

    on_both_engines!(pairs_are_what_both_said_of_the_same_slot_and_time,);

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_millis(hour * 3_600_000)
    }

    fn key(at: i64, device: &str) -> PredictionKey {
        PredictionKey { ts: hour(at), device: device.parse().unwrap(), component: "fan".parse().unwrap() }
    }

    fn prediction(at: i64, device: &str, probability: f64, version: &str) -> predictions::Prediction {
        let PredictionKey { ts, device, component } = key(at, device);
        predictions::Prediction {
            ts,
            device,
            component,
            probabilities: vec![probability, 0.9],
            score: 0.5,
            alarm: probability > 0.5,
            rul_mean: 1.0,
            rul_p05: 1.0,
            rul_p50: 1.0,
            rul_p95: 1.0,
            top_signals: Vec::new(),
            model_version: version.to_owned(),
        }
    }

    fn shadow(at: i64, device: &str, probability: f64) -> ShadowPrediction {
        let PredictionKey { ts, device, component } = key(at, device);
        ShadowPrediction { ts, device, component, probability, alarm: probability > 0.5 }
    }

    async fn pairs_are_what_both_said_of_the_same_slot_and_time(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        let said = [
            prediction(1, "a", 0.1, "v1"),
            prediction(1, "b", 0.7, "v1"),
            prediction(2, "a", 0.2, "v0"),
            prediction(3, "a", 0.3, "v1"),
            prediction(4, "a", 0.4, "v1"),
        ];
        predictions::insert_many(&mut tx, &tenant, &said).await.unwrap();
        // Said twice, as a cycle that is repeated does: the last stands.
        for again in [0.9, 0.6] {
            insert_many(&mut tx, &tenant, "v2", &[shadow(1, "a", again), shadow(1, "b", 0.8)]).await.unwrap();
        }
        insert_many(&mut tx, &tenant, "v2", &[shadow(2, "a", 0.1), shadow(4, "a", 0.2)]).await.unwrap();
        insert_many(&mut tx, &tenant, "v3", &[shadow(3, "a", 0.9)]).await.unwrap();
        let pair = |at, device, champion: f64, challenger: f64| Pair {
            key: key(at, device),
            champion,
            challenger,
            champion_alarm: champion > 0.5,
            challenger_alarm: challenger > 0.5,
        };
        let all = [pair(1, "a", 0.1, 0.6), pair(1, "b", 0.7, 0.8), pair(4, "a", 0.4, 0.2)];
        let both = ("v1", "v2");
        assert_eq!(pairs(&mut tx, &tenant, both, hour(5), None, 9).await.unwrap(), all);
        assert_eq!(pairs(&mut tx, &tenant, both, hour(4), None, 9).await.unwrap(), all[..2]);
        assert_eq!(pairs(&mut tx, &tenant, both, hour(5), None, 1).await.unwrap(), all[..1]);
        assert_eq!(pairs(&mut tx, &tenant, both, hour(5), Some(&key(1, "a")), 9).await.unwrap(), all[1..]);
        forget(&mut tx, &tenant, "v2").await.unwrap();
        assert_eq!(pairs(&mut tx, &tenant, both, hour(5), None, 9).await.unwrap(), []);
        assert_eq!(pairs(&mut tx, &tenant, ("v1", "v3"), hour(5), None, 9).await.unwrap().len(), 1);
    }
}
