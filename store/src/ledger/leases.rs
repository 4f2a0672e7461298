//! Work that one process of several does at a time: planning, delivering webhooks.
//!
//! A lease belongs to a holder until a time; whoever wants to go on renews it before. A holder that has died, or was cut
//! off, loses it by the clock, and another takes it under the next token. The token is the fence: what was computed under
//! one is applied in a write transaction that asks [`stands`] first, and there is one writer at a time, so that nothing
//! found before a lease changed hands is written behind it.
//!
//! Wall clocks of the processes may differ by a quarter of the lease's length: a holder counts on three quarters of it
//! ([`keeper`]), the others wait for the whole.

use harbinger_core::{Duration, Timestamp};

use super::{Connection, Error, column};

pub mod keeper;

pub use keeper::{Keeper, Lease, Permit};

/// How often a lease has changed hands; rises with each holder.
pub type Token = i64;

/// Takes a lease that is free, or renews the holder's own, until `length` after `now_wall`. The token under which it is
/// held, or `None` where another holds it.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn acquire(
    connection: &mut Connection,
    name: &str,
    holder: &str,
    now_wall: Timestamp,
    length: Duration,
) -> Result<Option<Token>, Error> {
    let row = sqlx::query(
        "INSERT INTO leases (name, holder, token, expires_wall) VALUES ($1, $2, 1, $3) ON CONFLICT (name) DO UPDATE SET \
         token = CASE WHEN leases.holder = excluded.holder THEN leases.token ELSE leases.token + 1 END, \
         holder = excluded.holder, expires_wall = excluded.expires_wall \
         WHERE leases.holder = excluded.holder OR leases.expires_wall <= $4 RETURNING token",
    )
    .bind(name)
    .bind(holder)
    .bind((now_wall + length).millis())
    .bind(now_wall.millis())
    .fetch_optional(connection)
    .await?;
    row.map(|row| column::get(&row, "token")).transpose()
}

/// Whether a lease is still held under this token. Ask in the write transaction that leans on it.
///
/// # Errors
/// [`Error::Database`].
pub async fn stands(connection: &mut Connection, name: &str, token: Token) -> Result<bool, Error> {
    let query = sqlx::query("SELECT 1 FROM leases WHERE name = $1 AND token = $2 AND holder <> ''");
    Ok(query.bind(name).bind(token).fetch_optional(connection).await?.is_some())
}

/// Gives a lease back, so that nobody has to wait for its end. One that another holds stays as it is.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn release(connection: &mut Connection, name: &str, holder: &str) -> Result<(), Error> {
    // The row stays for its token; no holder is named by the empty text, so the next one gets a new token.
    sqlx::query("UPDATE leases SET holder = '', expires_wall = 0 WHERE name = $1 AND holder = $2")
        .bind(name)
        .bind(holder)
        .execute(connection)
        .await?;
    Ok(())
}

/// Who holds a lease at `now_wall`.
///
/// # Errors
/// [`Error::Database`].
pub async fn holder(connection: &mut Connection, name: &str, now_wall: Timestamp) -> Result<Option<String>, Error> {
    let row = sqlx::query("SELECT holder FROM leases WHERE name = $1 AND holder <> '' AND expires_wall > $2")
        .bind(name)
        .bind(now_wall.millis())
        .fetch_optional(connection)
        .await?;
    row.map(|row| column::get(&row, "holder")).transpose()
}

#[cfg(test)]
mod tests;
