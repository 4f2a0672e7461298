//! Stock levels and the movements that made them.
//!
//! `on_hand` changes only together with a row in `stock_movements`, and (reference, kind, part, depot) is booked exactly
//! once: booking it again changes nothing and says so. So a step that is repeated after a crash is harmless.

use harbinger_core::{DepotId, PartId, TenantId, Timestamp, fleet::StockLevel, ids::new_id};
use serde::{Deserialize, Serialize};
use sqlx::{Acquire, AssertSqlSafe, any::AnyRow};

use super::{Connection, Error, column, words::words, work_orders};

/// Why pieces moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// A level was imported; the quantity is the difference to what stood there.
    Import,
    /// Pieces left for another depot.
    Ship,
    /// Pieces arrived.
    Receive,
    /// Pieces went into a device.
    Consume,
    /// A person counted.
    Adjust,
}

words!(
    MovementKind,
    "a kind of stock movement",
    Import = "import",
    Ship = "ship",
    Receive = "receive",
    Consume = "consume",
    Adjust = "adjust"
);

/// A change of `on_hand` to book.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewMovement<'a> {
    /// Event time.
    pub ts: Timestamp,
    /// Which part.
    pub part: &'a PartId,
    /// Where.
    pub depot: &'a DepotId,
    /// Pieces: above zero in, below zero out.
    pub quantity: i64,
    /// Why.
    pub kind: MovementKind,
    /// What it belongs to: an order's id, with more behind it where it comes in parts, an import's, a use's. With kind,
    /// part and depot it is booked once.
    pub reference: &'a str,
}

/// A booked change of `on_hand`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Movement {
    /// `mov_...`; later movements sort later.
    pub movement_id: String,
    /// Event time.
    pub ts: Timestamp,
    /// Which part.
    pub part: PartId,
    /// Where.
    pub depot: DepotId,
    /// Pieces: above zero in, below zero out.
    pub quantity: i64,
    /// Why.
    pub kind: MovementKind,
    /// What it belongs to.
    pub reference: String,
}

/// Whether a call changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Booked {
    /// It was booked by this call.
    Now,
    /// It had been booked before: nothing changed.
    Before,
}

/// Which levels or movements a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StockFilter {
    /// Only this part.
    pub part: Option<PartId>,
    /// Only this depot.
    pub depot: Option<DepotId>,
}

/// Books a movement and changes `on_hand` with it, once, and shares out what is free among work orders.
///
/// # Errors
/// [`Error::Conflict`] where fewer pieces are there than would leave, or those that would be sent away are reserved (nothing is
/// booked then), [`Error::Database`].
pub async fn book(connection: &mut Connection, tenant: &TenantId, movement: NewMovement<'_>) -> Result<Booked, Error> {
    let mut step = connection.begin().await?;
    let written = sqlx::query(
        "INSERT INTO stock_movements (movement_id, tenant, ts, part, depot, quantity, kind, reference) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant, reference, kind, part, depot) DO NOTHING",
    )
    .bind(new_id("mov"))
    .bind(tenant.as_str())
    .bind(movement.ts.millis())
    .bind(movement.part.as_str())
    .bind(movement.depot.as_str())
    .bind(movement.quantity)
    .bind(movement.kind.as_str())
    .bind(movement.reference)
    .execute(&mut *step)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(Booked::Before);
    }
    make_level(&mut step, tenant, movement.part, movement.depot).await?;
    let stays = match movement.kind {
        MovementKind::Ship => work_orders::reserved_at(&mut step, tenant, movement.part, movement.depot).await?,
        _ => 0,
    };
    let changed = sqlx::query(
        "UPDATE stock SET on_hand = on_hand + $4 \
         WHERE tenant = $1 AND part = $2 AND depot = $3 AND on_hand + $4 >= $5",
    )
    .bind(tenant.as_str())
    .bind(movement.part.as_str())
    .bind(movement.depot.as_str())
    .bind(movement.quantity)
    .bind(i64::from(stays))
    .execute(&mut *step)
    .await?;
    if changed.rows_affected() == 0 {
        let there = level(&mut step, tenant, movement.part, movement.depot).await?.on_hand;
        // Dropping the step undoes the movement row, even where the caller goes on with its transaction.
        return Err(Error::Conflict {
            reason: format!(
                "{} pieces of part {:?} cannot leave depot {:?}, which has {there} on hand{}",
                -movement.quantity,
                movement.part.as_str(),
                movement.depot.as_str(),
                if stays == 0 { String::new() } else { format!(", {stays} of them reserved for work orders") },
            ),
        });
    }
    work_orders::share_out(&mut step, tenant, movement.part, movement.depot).await?;
    step.commit().await?;
    Ok(Booked::Now)
}

/// Whether a movement is booked already.
///
/// # Errors
/// [`Error::Database`].
pub(super) async fn is_booked(
    connection: &mut Connection,
    tenant: &TenantId,
    movement: NewMovement<'_>,
) -> Result<bool, Error> {
    let found = sqlx::query(
        "SELECT movement_id FROM stock_movements \
         WHERE tenant = $1 AND reference = $2 AND kind = $3 AND part = $4 AND depot = $5",
    )
    .bind(tenant.as_str())
    .bind(movement.reference)
    .bind(movement.kind.as_str())
    .bind(movement.part.as_str())
    .bind(movement.depot.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Sets levels as another system tells them, each with its movement. The same `reference` again changes nothing.
///
/// Our own shipments stay counted: `in_transit` is what was told, at least what our open orders have on the way.
/// Returns how many levels were set by this call.
///
/// # Errors
/// [`Error::Database`], [`Error::Full`].
pub async fn import(
    connection: &mut Connection,
    tenant: &TenantId,
    ts: Timestamp,
    levels: &[StockLevel],
    reference: &str,
) -> Result<u32, Error> {
    let mut step = connection.begin().await?;
    let mut set = 0;
    for wanted in levels {
        let there = level(&mut step, tenant, &wanted.part, &wanted.depot).await?;
        let movement = NewMovement {
            ts,
            part: &wanted.part,
            depot: &wanted.depot,
            quantity: i64::from(wanted.on_hand) - i64::from(there.on_hand),
            kind: MovementKind::Import,
            reference,
        };
        if book(&mut step, tenant, movement).await? == Booked::Before {
            continue;
        }
        let ours = shipped_to(&mut step, tenant, &wanted.part, &wanted.depot).await?;
        sqlx::query("UPDATE stock SET in_transit = $4 WHERE tenant = $1 AND part = $2 AND depot = $3")
            .bind(tenant.as_str())
            .bind(wanted.part.as_str())
            .bind(wanted.depot.as_str())
            .bind(i64::from(wanted.in_transit).max(ours))
            .execute(&mut *step)
            .await?;
        set += 1;
    }
    step.commit().await?;
    Ok(set)
}

/// Pieces that our open orders have on the way to a depot, less what has come of them.
async fn shipped_to(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<i64, Error> {
    let rows = sqlx::query(
        "SELECT quantity, received_quantity FROM transfers WHERE tenant = $1 AND part = $2 AND to_depot = $3 AND state = 'shipped' \
         UNION ALL \
         SELECT quantity, received_quantity FROM purchases WHERE tenant = $1 AND part = $2 AND depot = $3 AND state = 'shipped'",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(depot.as_str())
    .fetch_all(connection)
    .await?;
    let outstanding = |row| {
        Ok(column::get::<i64>(row, "quantity")? - column::get::<Option<i64>>(row, "received_quantity")?.unwrap_or(0))
    };
    rows.iter().map(outstanding).sum()
}

/// Changes `on_hand` by `difference` because a person counted. The same `reference` again changes nothing.
/// Returns whether it was booked now, and the level after it.
///
/// # Errors
/// [`Error::Conflict`] where fewer pieces are there than would leave, [`Error::Database`].
pub async fn adjust(
    connection: &mut Connection,
    tenant: &TenantId,
    ts: Timestamp,
    part: &PartId,
    depot: &DepotId,
    difference: i64,
    reference: &str,
) -> Result<(Booked, StockLevel), Error> {
    let movement = NewMovement { ts, part, depot, quantity: difference, kind: MovementKind::Adjust, reference };
    let booked = book(connection, tenant, movement).await?;
    Ok((booked, level(connection, tenant, part, depot).await?))
}

/// Changes `in_transit` at a depot by `difference`; it never falls below zero.
pub(super) async fn change_in_transit(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
    difference: i64,
) -> Result<(), Error> {
    make_level(connection, tenant, part, depot).await?;
    sqlx::query(
        "UPDATE stock SET in_transit = CASE WHEN in_transit + $4 >= 0 THEN in_transit + $4 ELSE 0 END \
         WHERE tenant = $1 AND part = $2 AND depot = $3",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(depot.as_str())
    .bind(difference)
    .execute(connection)
    .await?;
    Ok(())
}

async fn make_level(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO stock (tenant, part, depot, on_hand, in_transit) VALUES ($1, $2, $3, 0, 0) \
         ON CONFLICT (tenant, part, depot) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(depot.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// The level of a part at a depot; zeros where nothing was ever booked.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn level(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    depot: &DepotId,
) -> Result<StockLevel, Error> {
    let row = sqlx::query(
        "SELECT part, depot, on_hand, in_transit FROM stock WHERE tenant = $1 AND part = $2 AND depot = $3",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(depot.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(stock_level).transpose().map(|found| {
        found.unwrap_or_else(|| StockLevel { part: part.clone(), depot: depot.clone(), on_hand: 0, in_transit: 0 })
    })
}

/// At most `limit` levels that pass the filter, after the (part, depot) of `after`, in order of part and depot.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &StockFilter,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Vec<StockLevel>, Error> {
    // Empty texts stand for "no bound": no id is empty, and every id sorts after it.
    let (after_part, after_depot) = after.unwrap_or_default();
    let rows = sqlx::query(
        "SELECT part, depot, on_hand, in_transit FROM stock WHERE tenant = $1 AND ($2 = '' OR part = $2) \
         AND ($3 = '' OR depot = $3) AND (part > $4 OR (part = $4 AND depot > $5)) ORDER BY part, depot LIMIT $6",
    )
    .bind(tenant.as_str())
    .bind(filter.part.as_ref().map_or("", PartId::as_str))
    .bind(filter.depot.as_ref().map_or("", DepotId::as_str))
    .bind(after_part)
    .bind(after_depot)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(stock_level).collect()
}

/// All levels of a tenant, in order of part and depot.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn all(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<StockLevel>, Error> {
    list(connection, tenant, &StockFilter::default(), None, u32::MAX).await
}

/// At most `limit` movements that pass the filter, newest first, before the one with id `before`.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn movements(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &StockFilter,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<Movement>, Error> {
    let beyond = if before.is_some() { "movement_id < $4" } else { "$4 = ''" };
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT movement_id, ts, part, depot, quantity, kind, reference FROM stock_movements WHERE tenant = $1 \
         AND ($2 = '' OR part = $2) AND ($3 = '' OR depot = $3) AND {beyond} ORDER BY movement_id DESC LIMIT $5"
    )))
    .bind(tenant.as_str())
    .bind(filter.part.as_ref().map_or("", PartId::as_str))
    .bind(filter.depot.as_ref().map_or("", DepotId::as_str))
    .bind(before.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(movement).collect()
}

fn stock_level(row: &AnyRow) -> Result<StockLevel, Error> {
    Ok(StockLevel {
        part: column::parse(row, "part")?,
        depot: column::parse(row, "depot")?,
        on_hand: column::count(row, "on_hand")?,
        in_transit: column::count(row, "in_transit")?,
    })
}

fn movement(row: &AnyRow) -> Result<Movement, Error> {
    Ok(Movement {
        movement_id: column::get(row, "movement_id")?,
        ts: column::time(row, "ts")?,
        part: column::parse(row, "part")?,
        depot: column::parse(row, "depot")?,
        quantity: column::get(row, "quantity")?,
        kind: column::parse(row, "kind")?,
        reference: column::get(row, "reference")?,
    })
}

#[cfg(test)]
mod tests;
