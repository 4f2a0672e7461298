//! Statistical models by version: which is champion, what it was trained on.
//!
//! A version is a candidate until it scores: in shadow beside the champion as the one challenger, or as the champion itself.
//! Promoting a version retires the champion before it; a challenger that was found no better retires too. The files of a model
//! lie in the data directory; here stands what is known of them.

use std::{fmt, str::FromStr};

use harbinger_core::{Duration, TenantId, Timestamp, fleet::UnknownWord};
use sqlx::any::AnyRow;

use super::{Connection, Error, column, shadow};

/// Where a version stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Trained, not in use.
    Candidate,
    /// Scores in shadow beside the champion, to be compared with it.
    Challenger,
    /// The one that scores.
    Champion,
    /// Was champion, or a challenger that was no better.
    Retired,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Challenger => "challenger",
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
            "challenger" => Ok(Self::Challenger),
            "champion" => Ok(Self::Champion),
            "retired" => Ok(Self::Retired),
            _ => Err(UnknownWord {
                what: "a model's state",
                text: text.to_owned(),
                known: &["candidate", "challenger", "champion", "retired"],
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
/// roll back. What it said in shadow is forgotten.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongState`] where it is champion already.
pub async fn promote(connection: &mut Connection, tenant: &TenantId, version: &str) -> Result<Model, Error> {
    let model = not_champion(connection, tenant, version, "promoted").await?;
    if let Some(before) = champion(connection, tenant).await? {
        set_state(connection, tenant, &before.version, State::Retired).await?;
    }
    shadow::forget(connection, tenant, version).await?;
    set_state(connection, tenant, version, State::Champion).await?;
    Ok(Model { state: State::Champion, ..model })
}

/// Lets a version score in shadow. The challenger before it, where there is another, retires.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongState`] where it is the champion.
pub async fn challenge(connection: &mut Connection, tenant: &TenantId, version: &str) -> Result<Model, Error> {
    let model = not_champion(connection, tenant, version, "put in shadow").await?;
    if model.state == State::Challenger {
        return Ok(model);
    }
    if let Some(before) = challenger(connection, tenant).await? {
        retire(connection, tenant, &before.version).await?;
    }
    set_state(connection, tenant, version, State::Challenger).await?;
    Ok(Model { state: State::Challenger, ..model })
}

/// Takes a version out of shadow, or out of the candidates. What it said in shadow is forgotten.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongState`] where it is the champion: promote another instead.
pub async fn retire(connection: &mut Connection, tenant: &TenantId, version: &str) -> Result<Model, Error> {
    let model = not_champion(connection, tenant, version, "retired").await?;
    shadow::forget(connection, tenant, version).await?;
    set_state(connection, tenant, version, State::Retired).await?;
    Ok(Model { state: State::Retired, ..model })
}

/// Puts a value beside what training told of a version; one under the same name is replaced.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Damaged`], [`Error::Database`].
pub async fn note(
    connection: &mut Connection,
    tenant: &TenantId,
    version: &str,
    (name, value): (&str, serde_json::Value),
) -> Result<(), Error> {
    let mut summary = get(connection, tenant, version).await?.summary;
    let text = summary.to_string();
    let Some(known) = summary.as_object_mut() else {
        return Err(Error::Damaged { column: "statistical_models.summary", value: text });
    };
    known.insert(name.to_owned(), value);
    let query = sqlx::query("UPDATE statistical_models SET summary = $3 WHERE tenant = $1 AND version = $2");
    query.bind(tenant.as_str()).bind(version).bind(summary.to_string()).execute(connection).await?;
    Ok(())
}

async fn not_champion(
    connection: &mut Connection,
    tenant: &TenantId,
    version: &str,
    attempt: &'static str,
) -> Result<Model, Error> {
    let model = get(connection, tenant, version).await?;
    if model.state == State::Champion {
        let (what, id, state) = ("model", version.to_owned(), model.state.to_string());
        return Err(Error::WrongState { what, id, state, attempt });
    }
    Ok(model)
}

async fn set_state(connection: &mut Connection, tenant: &TenantId, version: &str, state: State) -> Result<(), Error> {
    let query = sqlx::query("UPDATE statistical_models SET state = $3 WHERE tenant = $1 AND version = $2");
    query.bind(tenant.as_str()).bind(version).bind(state.as_str()).execute(connection).await?;
    Ok(())
}

/// The version that scores, where there is one.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn champion(connection: &mut Connection, tenant: &TenantId) -> Result<Option<Model>, Error> {
    the(State::Champion, connection, tenant).await
}

/// The version that scores in shadow, where there is one.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn challenger(connection: &mut Connection, tenant: &TenantId) -> Result<Option<Model>, Error> {
    the(State::Challenger, connection, tenant).await
}

async fn the(state: State, connection: &mut Connection, tenant: &TenantId) -> Result<Option<Model>, Error> {
    let query = sqlx::query(
        "SELECT version, state, trained_until, trained_wall, horizons, summary FROM statistical_models \
         WHERE tenant = $1 AND state = $2",
    );
    let query = query.bind(tenant.as_str()).bind(state.as_str());
    query.fetch_optional(connection).await?.as_ref().map(read).transpose()
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

    on_both_engines!(
        promoting_retires_the_champion_and_rolling_back_is_promoting_again,
        one_challenger_stands_beside_the_champion_until_it_is_decided,
    );

    fn model(version: &str) -> Model {
        Model {
            version: version.to_owned(),
            state: State::Candidate,
            trained_until: Timestamp::from_millis(7),
            trained_wall: Timestamp::from_millis(8),
            horizons: vec![Duration::from_hours(24), Duration::from_days(7)],
            summary: serde_json::json!({ "threshold": 0.25 }),
        }
    }

    async fn one_challenger_stands_beside_the_champion_until_it_is_decided(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        for version in ["v1", "v2", "v3"] {
            insert_candidate(&mut tx, &tenant, &model(version)).await.unwrap();
        }
        promote(&mut tx, &tenant, "v1").await.unwrap();
        assert!(matches!(challenge(&mut tx, &tenant, "v1").await, Err(Error::WrongState { .. })));
        assert!(matches!(retire(&mut tx, &tenant, "v1").await, Err(Error::WrongState { .. })));
        let said = shadow::ShadowPrediction {
            ts: Timestamp::from_millis(7),
            device: "a".parse().unwrap(),
            component: "fan".parse().unwrap(),
            probability: 0.5,
            alarm: false,
        };
        let in_shadow = "SELECT COUNT(*) AS rows FROM shadow_predictions";
        for (challenger_now, states) in [
            ("v2", [State::Champion, State::Challenger, State::Candidate]),
            ("v3", [State::Champion, State::Retired, State::Challenger]),
            ("v3", [State::Champion, State::Retired, State::Challenger]),
        ] {
            assert_eq!(challenge(&mut tx, &tenant, challenger_now).await.unwrap().state, State::Challenger);
            shadow::insert_many(&mut tx, &tenant, challenger_now, std::slice::from_ref(&said)).await.unwrap();
            let all = list(&mut tx, &tenant).await.unwrap();
            assert_eq!(all.iter().map(|model| model.state).collect::<Vec<_>>(), states);
            assert_eq!(challenger(&mut tx, &tenant).await.unwrap().unwrap().version, challenger_now);
            let row = sqlx::query(in_shadow).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(column::get::<i64>(&row, "rows").unwrap(), 1, "those of the one before are forgotten");
        }
        note(&mut tx, &tenant, "v3", ("shadow", serde_json::json!({ "rows": 9 }))).await.unwrap();
        promote(&mut tx, &tenant, "v3").await.unwrap();
        let promoted = champion(&mut tx, &tenant).await.unwrap().unwrap();
        assert_eq!(promoted.version, "v3");
        assert_eq!(promoted.summary, serde_json::json!({ "threshold": 0.25, "shadow": { "rows": 9 } }));
        assert_eq!(challenger(&mut tx, &tenant).await.unwrap(), None);
        let row = sqlx::query(in_shadow).fetch_one(&mut *tx).await.unwrap();
        assert_eq!(column::get::<i64>(&row, "rows").unwrap(), 0);
    }

    async fn promoting_retires_the_champion_and_rolling_back_is_promoting_again(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
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
