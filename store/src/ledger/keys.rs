//! API keys: hashed, scoped, of a tenant.
//!
//! A key is shown once, when it is made. Kept is its SHA-256: a key holds 256 random bits, so a slow hash would add
//! nothing, and a lookup by hash compares no secret text.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use harbinger_core::{TenantId, Timestamp, fleet::UnknownWord, ids::new_id};
use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::{Connection, Error, column};

/// What every plain key starts with, so that a leaked one is recognised.
pub const PREFIX: &str = "hbr_";
/// A key's last use is noted at most this often: a write for every request would make readers wait for the disk.
const LAST_USED_EVERY_MILLIS: i64 = 60_000;

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Send telemetry and events.
    Ingest,
    /// Read everything of the tenant but keys and audit.
    Read,
    /// Read, and change the registry, alerts, orders, webhooks.
    Operate,
    /// Everything, keys too.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Operate, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Whether whoever holds this scope may do what needs `required`: admin may everything, operate may read.
    #[must_use]
    pub fn allows(self, required: Self) -> bool {
        self == required || self == Self::Admin || (self == Self::Operate && required == Self::Read)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| UnknownWord {
            what: "a scope",
            text: text.to_owned(),
            known: &["ingest", "read", "operate", "admin"],
        })
    }
}

/// A key as it is kept: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id, which is no secret.
    pub key_id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is for, in its owner's words.
    pub name: String,
    /// What its holder may do.
    pub scopes: Vec<Scope>,
    /// When it was made, wall clock.
    pub created_wall: Timestamp,
    /// From when it is no longer taken.
    pub expires_wall: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_wall: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_wall: Option<Timestamp>,
}

impl Key {
    /// Whether the key is taken at `now`.
    #[must_use]
    pub fn is_valid(&self, now_wall: Timestamp) -> bool {
        self.revoked_wall.is_none() && self.expires_wall.is_none_or(|expires| now_wall < expires)
    }

    /// Whether its holder may do what needs `required`.
    #[must_use]
    pub fn allows(&self, required: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.allows(required))
    }
}

/// What a new key shall be.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    /// What it is for.
    pub name: &'a str,
    /// What its holder may do.
    pub scopes: &'a [Scope],
    /// From when it is no longer taken.
    pub expires_wall: Option<Timestamp>,
}

/// A key as its owner gets it, once. Its text is not in its `Debug`.
#[derive(Clone)]
pub struct PlainKey(String);

impl PlainKey {
    /// The key's text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey(hidden)")
    }
}

/// The hash under which a plain key is kept: SHA-256 in lower-case hex.
#[must_use]
pub fn hash(plain: &str) -> String {
    Sha256::digest(plain.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a key.
///
/// # Errors
/// [`Error::Conflict`] without scopes or where the system gives no random bytes; [`Error::Database`].
pub async fn create(
    connection: &mut Connection,
    tenant: &TenantId,
    new: &NewKey<'_>,
    now_wall: Timestamp,
) -> Result<(PlainKey, Key), Error> {
    let mut random = [0_u8; 32];
    OsRng
        .try_fill_bytes(&mut random)
        .map_err(|error| Error::Conflict { reason: format!("the system gave no random bytes for a key: {error}") })?;
    let plain = PlainKey(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)));
    let key = insert(connection, tenant, new, plain.reveal(), now_wall).await?;
    Ok((plain, key))
}

/// Keeps a key whose text was chosen elsewhere, for example in a deployment's secret. A text that is kept already is an
/// error.
///
/// # Errors
/// [`Error::Conflict`] without scopes; [`Error::Database`].
pub async fn insert(
    connection: &mut Connection,
    tenant: &TenantId,
    new: &NewKey<'_>,
    plain: &str,
    now_wall: Timestamp,
) -> Result<Key, Error> {
    let mut scopes = new.scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Error::Conflict { reason: format!("key {:?} has no scope, so it could do nothing", new.name) });
    }
    let key = Key {
        key_id: new_id("key"),
        tenant: tenant.clone(),
        name: new.name.to_owned(),
        scopes,
        created_wall: now_wall,
        expires_wall: new.expires_wall,
        last_used_wall: None,
        revoked_wall: None,
    };
    let words: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    super::registry::ensure_tenant(connection, tenant, now_wall).await?;
    sqlx::query(
        "INSERT INTO api_keys (key_id, tenant, name, hash, scopes, created_wall, expires_wall) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(key.key_id.as_str())
    .bind(tenant.as_str())
    .bind(new.name)
    .bind(hash(plain))
    .bind(words.join(" "))
    .bind(now_wall.millis())
    .bind(new.expires_wall.map(Timestamp::millis))
    .execute(connection)
    .await?;
    Ok(key)
}

/// The key of a plain text, valid or not; the tenant is not known before.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn find(connection: &mut Connection, plain: &str) -> Result<Option<Key>, Error> {
    let query = sqlx::query(
        "SELECT key_id, tenant, name, scopes, created_wall, expires_wall, last_used_wall, revoked_wall \
         FROM api_keys WHERE hash = $1",
    );
    query.bind(hash(plain)).fetch_optional(connection).await?.as_ref().map(read).transpose()
}

/// All keys of a tenant in the order they were made.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<Key>, Error> {
    let query = sqlx::query(
        "SELECT key_id, tenant, name, scopes, created_wall, expires_wall, last_used_wall, revoked_wall \
         FROM api_keys WHERE tenant = $1 ORDER BY key_id",
    );
    query.bind(tenant.as_str()).fetch_all(connection).await?.iter().map(read).collect()
}

/// Ends a key. A key that has ended stays ended.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn revoke(
    connection: &mut Connection,
    tenant: &TenantId,
    key_id: &str,
    now_wall: Timestamp,
) -> Result<(), Error> {
    let changed =
        sqlx::query("UPDATE api_keys SET revoked_wall = COALESCE(revoked_wall, $3) WHERE tenant = $1 AND key_id = $2")
            .bind(tenant.as_str())
            .bind(key_id)
            .bind(now_wall.millis())
            .execute(connection)
            .await?
            .rows_affected();
    if changed == 0 { Err(Error::NotFound { what: "key", id: key_id.to_owned() }) } else { Ok(()) }
}

/// Whether the key's last use is long enough ago to be noted again.
#[must_use]
pub fn use_is_worth_noting(key: &Key, now_wall: Timestamp) -> bool {
    key.last_used_wall.is_none_or(|last| now_wall.millis() - last.millis() >= LAST_USED_EVERY_MILLIS)
}

/// Notes that the key was used.
///
/// # Errors
/// [`Error::Database`].
pub async fn note_use(connection: &mut Connection, key_id: &str, now_wall: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE api_keys SET last_used_wall = $2 WHERE key_id = $1 AND COALESCE(last_used_wall, 0) <= $3")
        .bind(key_id)
        .bind(now_wall.millis())
        .bind(now_wall.millis() - LAST_USED_EVERY_MILLIS)
        .execute(connection)
        .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Key, Error> {
    let words: String = column::get(row, "scopes")?;
    let scopes: Result<Vec<Scope>, _> = words.split_whitespace().map(str::parse).collect();
    Ok(Key {
        key_id: column::get(row, "key_id")?,
        tenant: column::parse(row, "tenant")?,
        name: column::get(row, "name")?,
        scopes: scopes.map_err(|_| Error::Damaged { column: "api_keys.scopes", value: words })?,
        created_wall: column::time(row, "created_wall")?,
        expires_wall: column::time_optional(row, "expires_wall")?,
        last_used_wall: column::time_optional(row, "last_used_wall")?,
        revoked_wall: column::time_optional(row, "revoked_wall")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::fixture::on_both_engines;

    on_both_engines!(a_key_is_found_by_its_text_and_never_kept_in_the_clear, the_last_use_is_noted_once_a_minute,);

    async fn a_key_is_found_by_its_text_and_never_kept_in_the_clear(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        let new = NewKey { name: "ci", scopes: &[Scope::Operate, Scope::Ingest], expires_wall: None };
        let (plain, key) = create(&mut tx, &tenant, &new, Timestamp::from_millis(1)).await.unwrap();
        assert!(plain.reveal().starts_with(PREFIX) && plain.reveal().len() == PREFIX.len() + 43);
        assert!(!format!("{plain:?}").contains(plain.reveal()));
        assert_eq!(find(&mut tx, plain.reveal()).await.unwrap(), Some(key.clone()));
        assert_eq!(find(&mut tx, "hbr_other").await.unwrap(), None);
        assert_eq!(list(&mut tx, &tenant).await.unwrap(), std::slice::from_ref(&key));
        revoke(&mut tx, &tenant, &key.key_id, Timestamp::from_millis(9)).await.unwrap();
        assert!(!find(&mut tx, plain.reveal()).await.unwrap().unwrap().is_valid(Timestamp::from_millis(10)));
        let other = TenantId::parse("other").unwrap();
        let elsewhere = revoke(&mut tx, &other, &key.key_id, Timestamp::from_millis(9)).await;
        assert!(matches!(elsewhere, Err(Error::NotFound { .. })));
    }

    #[test]
    fn sha256_of_the_standard_example() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn admin_may_everything_and_operate_may_read() {
        let may = |scope: Scope| -> Vec<bool> { Scope::ALL.iter().map(|&required| scope.allows(required)).collect() };
        assert_eq!(may(Scope::Ingest), [true, false, false, false]);
        assert_eq!(may(Scope::Read), [false, true, false, false]);
        assert_eq!(may(Scope::Operate), [false, true, true, false]);
        assert_eq!(may(Scope::Admin), [true; 4]);
    }

    async fn the_last_use_is_noted_once_a_minute(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        let new = NewKey { name: "ci", scopes: &[Scope::Read], expires_wall: None };
        let (_, key) = create(&mut tx, &tenant, &new, Timestamp::from_millis(1)).await.unwrap();
        for (now, noted) in [(100_000, 100_000), (130_000, 100_000), (160_000, 160_000)] {
            note_use(&mut tx, &key.key_id, Timestamp::from_millis(now)).await.unwrap();
            let last = list(&mut tx, &tenant).await.unwrap()[0].last_used_wall;
            assert_eq!(last, Some(Timestamp::from_millis(noted)));
        }
    }
}
