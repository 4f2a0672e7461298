//! Statistical models by version: which is champion, what it was trained on.
//!
//! A version is a candidate until it is promoted; promoting it retires the champion before it. The files of a model lie in
//! the data directory; here stands what is known of them.

use std::{fmt, str::FromStr};

use harbinger_core::{Duration, TenantId, Timestamp, fleet::UnknownWord};
use sqlx::any::AnyRow;

use super::{Connection, Error, column};

/// Where a version stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Trained, not in use.
    Candidate,
    /// The one that scores.
    Champion,
    /// Was champion.
    Retired,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Champion => "champion",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "candidate" => Ok(Self::Candidate),
            "champion" => Ok(Self::Champion),
            "retired" => Ok(Self::Retired),
            _ => Err(UnknownWord {
                what: "a model's state",
                text: text.to_owned(),
                known: &["candidate", "champion", "retired"],
            }),
        }
    }
}

/// A version of a tenant's statistical model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its version.
    pub version: String,
    /// Where it stands.
    pub state: State,
    /// It has seen nothing later than this event time.
    pub trained_until: Timestamp,
    /// When it was trained, wall clock.
    pub trained_wall: Timestamp,
    /// Its horizons, the main one first: a prediction has one probability for each.
    pub horizons: Vec<Duration>,
    /// What training tells of it: families, thresholds, measures.
    pub summary: serde_json::Value,
}

/// Notes a trained version as a candidate. A version that is there already keeps its state and is otherwise replaced.
///
/// # Errors
/// [`Error::Database`].
pub async fn insert_candidate(connection: &mut Connection, tenant: &TenantId, model: &Model) -> Result<(), Error> {
    let horizons: Vec<String> = model.horizons.iter().map(Duration::to_string).collect();
    sqlx::query(
        "INSERT INTO statistical_models (tenant, version, state, trained_until, trained_wall, horizons, summary) \
         VALUES ($1, $2, 'candidate', $3, $4, $5, $6) ON CONFLICT (tenant, version) DO UPDATE SET \
         trained_until = excluded.trained_until, trained_wall = excluded.trained_wall, \
         horizons = excluded.horizons, summary = excluded.summary",
    )
    .bind(tenant.as_str())
    .bind(model.version.as_str())
    .bind(model.trained_until.millis())
    .bind(model.trained_wall.millis())
    .bind(serde_json::Value::from(horizons).to_string())
    .bind(model.summary.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a version the champion and retires the one before. A retired version may be promoted again: that is how to
/// roll back.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongState`] where it is champion already.
pub async fn promote(connection: &mut Connection, tenant: &TenantId, version: &str) -> Result<Model, Error> {
    let model = get(connection, tenant, version).await?;
    if model.state == State::Champion {
        let (what, id, state) = ("model", version.to_owned(), model.state.to_string());
        return Err(Error::WrongState { what, id, state, attempt: "promoted" });
    }
    sqlx::query("UPDATE statistical_models SET state = 'retired' WHERE tenant = $1 AND state = 'champion'")
        .bind(tenant.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE statistical_models SET state = 'champion' WHERE tenant = $1 AND version = $2")
        .bind(tenant.as_str())
        .bind(version)
        .execute(&mut *connection)
        .await?;
    Ok(Model { state: State::Champion, ..model })
}

/// The version that scores, where there is one.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn champion(connection: &mut Connection, tenant: &TenantId) -> Result<Option<Model>, Error> {
    let query = sqlx::query(
        "SELECT version, state, trained_until, trained_wall, horizons, summary FROM statistical_models \
         WHERE tenant = $1 AND state = 'champion'",
    );
    query.bind(tenant.as_str()).fetch_optional(connection).await?.as_ref().map(read).transpose()
}

/// One version.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Damaged`], [`Error::Database`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, version: &str) -> Result<Model, Error> {
    let query = sqlx::query(
        "SELECT version, state, trained_until, trained_wall, horizons, summary FROM statistical_models \
         WHERE tenant = $1 AND version = $2",
    );
    let row = query.bind(tenant.as_str()).bind(version).fetch_optional(connection).await?;
    row.as_ref().map_or_else(|| Err(Error::NotFound { what: "model", id: version.to_owned() }), read)
}

/// All versions, in order of version.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<Model>, Error> {
    let query = sqlx::query(
        "SELECT version, state, trained_until, trained_wall, horizons, summary FROM statistical_models \
         WHERE tenant = $1 ORDER BY version",
    );
    query.bind(tenant.as_str()).fetch_all(connection).await?.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Model, Error> {
    Ok(Model {
        version: column::get(row, "version")?,
        state: column::parse(row, "state")?,
        trained_until: column::time(row, "trained_until")?,
        trained_wall: column::time(row, "trained_wall")?,
        horizons: column::json(row, "horizons")?,
        summary: column::json(row, "summary")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::fixture::on_both_engines;

    on_both_engines!(promoting_retires_the_champion_and_rolling_back_is_promoting_again,);

    async fn promoting_retires_the_champion_and_rolling_back_is_promoting_again(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        let model = |version: &str| Model {
            version: version.to_owned(),
            state: State::Candidate,
            trained_until: Timestamp::from_millis(7),
            trained_wall: Timestamp::from_millis(8),
            horizons: vec![Duration::from_hours(24), Duration::from_days(7)],
            summary: serde_json::json!({ "threshold": 0.25 }),
        };
        for version in ["v1", "v2"] {
            insert_candidate(&mut tx, &tenant, &model(version)).await.unwrap();
        }
        assert_eq!(champion(&mut tx, &tenant).await.unwrap(), None);
        assert_eq!(get(&mut tx, &tenant, "v1").await.unwrap(), model("v1"));
        for (version, states) in [
            ("v1", [State::Champion, State::Candidate]),
            ("v2", [State::Retired, State::Champion]),
            ("v1", [State::Champion, State::Retired]),
        ] {
            promote(&mut tx, &tenant, version).await.unwrap();
            let all = list(&mut tx, &tenant).await.unwrap();
            assert_eq!(all.iter().map(|model| model.state).collect::<Vec<_>>(), states);
            assert_eq!(champion(&mut tx, &tenant).await.unwrap().unwrap().version, version);
        }
        assert!(matches!(promote(&mut tx, &tenant, "v1").await, Err(Error::WrongState { .. })));
        assert!(matches!(promote(&mut tx, &tenant, "v9").await, Err(Error::NotFound { .. })));
    }
}
