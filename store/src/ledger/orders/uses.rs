//! What met a replacement: from the local shelf or not, and which transfer had brought the piece.

use harbinger_core::{ComponentId, DepotId, DeviceId, PartId, TenantId, TimeRange, Timestamp, ids::new_id};
use serde::Serialize;
use sqlx::{Acquire, AssertSqlSafe, any::AnyRow};

use super::{Connection, Error, OrderKind, column};
use crate::ledger::stock::{self, Booked, MovementKind, NewMovement};

/// A replacement that needs pieces.
#[derive(Debug, Clone, PartialEq)]
pub struct PartUse {
    /// When.
    pub ts: Timestamp,
    /// On which device.
    pub device: DeviceId,
    /// Of which component.
    pub component: ComponentId,
    /// With which part.
    pub part: PartId,
    /// The depot that serves the device.
    pub depot: DepotId,
    /// Pieces.
    pub quantity: u32,
    /// Whether it was foreseen (an alert stood). It also counts as foreseen where the transfer that brought the piece
    /// names this device and component among its reasons.
    pub predicted: bool,
}

/// A use as recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Used {
    /// `use_...`; later records sort later.
    pub use_id: String,
    /// When.
    pub ts: Timestamp,
    /// On which device.
    pub device: DeviceId,
    /// Of which component.
    pub component: ComponentId,
    /// With which part.
    pub part: PartId,
    /// The depot that serves the device.
    pub depot: DepotId,
    /// Pieces.
    pub quantity: u32,
    /// Whether all pieces lay on that depot's shelf.
    pub from_stock: bool,
    /// The transfer that had brought the (first) piece; `None` where it lay there from before, or did not lie there.
    pub transfer_id: Option<String>,
    /// Whether it was foreseen.
    pub predicted: bool,
}

/// Which uses a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UseFilter {
    /// Only of this device.
    pub device: Option<DeviceId>,
    /// Only of this part.
    pub part: Option<PartId>,
    /// Only from this depot.
    pub depot: Option<DepotId>,
    /// Only pieces that this transfer brought.
    pub transfer_id: Option<String>,
}

/// How replacements were met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UseCounts {
    /// Replacements.
    pub total: u64,
    /// Met from the local shelf: over `total` it is the fill rate.
    pub from_stock: u64,
    /// Foreseen.
    pub predicted: u64,
    /// Met from the local shelf by a piece that a transfer had brought.
    pub by_transfer: u64,
}

/// Records a replacement once per device, component and time, and takes its pieces from the local shelf where there are
/// any. Pieces are linked, first in first out, to the oldest received transfers to that depot.
///
/// Returns whether it was recorded now, and the record.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`], [`Error::Full`].
pub async fn use_part(
    connection: &mut Connection,
    tenant: &TenantId,
    wanted: &PartUse,
) -> Result<(Booked, Used), Error> {
    let mut step = connection.begin().await?;
    if let Some(before) = find(&mut step, tenant, wanted).await? {
        return Ok((Booked::Before, before));
    }
    let on_hand = stock::level(&mut step, tenant, &wanted.part, &wanted.depot).await?.on_hand;
    let taken = on_hand.min(wanted.quantity);
    let use_id = new_id("use");
    let source = if taken > 0 {
        let movement = NewMovement {
            ts: wanted.ts,
            part: &wanted.part,
            depot: &wanted.depot,
            quantity: -i64::from(taken),
            kind: MovementKind::Consume,
            reference: &use_id,
        };
        stock::book(&mut step, tenant, movement).await?;
        consume_oldest(&mut step, tenant, wanted, taken).await?
    } else {
        Source::default()
    };
    let used = Used {
        use_id,
        ts: wanted.ts,
        device: wanted.device.clone(),
        component: wanted.component.clone(),
        part: wanted.part.clone(),
        depot: wanted.depot.clone(),
        quantity: wanted.quantity,
        from_stock: taken == wanted.quantity,
        transfer_id: source.transfer_id,
        predicted: wanted.predicted || source.names_the_slot,
    };
    insert(&mut step, tenant, &used).await?;
    step.commit().await?;
    Ok((Booked::Now, used))
}

/// What brought the pieces that were taken.
#[derive(Default)]
struct Source {
    transfer_id: Option<String>,
    names_the_slot: bool,
}

/// Counts `pieces` as consumed from the oldest received transfers that have any left; one whose rest follows counts from when it
/// left.
async fn consume_oldest(
    connection: &mut Connection,
    tenant: &TenantId,
    wanted: &PartUse,
    pieces: u32,
) -> Result<Source, Error> {
    let kind = OrderKind::Transfer;
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {} FROM transfers WHERE tenant = $1 AND part = $2 AND to_depot = $3 \
         AND state IN ('shipped', 'received') AND consumed < received_quantity \
         ORDER BY COALESCE(received_at, shipped_at), transfer_id LIMIT $4",
        kind.columns()
    )))
    .bind(tenant.as_str())
    .bind(wanted.part.as_str())
    .bind(wanted.depot.as_str())
    .bind(i64::from(pieces))
    .fetch_all(&mut *connection)
    .await?;
    let mut source = Source::default();
    let mut left = pieces;
    for row in &rows {
        let transfer = super::order(kind, row)?;
        let here = left.min(transfer.received_quantity.unwrap_or(transfer.quantity).saturating_sub(transfer.consumed));
        if here == 0 {
            continue;
        }
        sqlx::query("UPDATE transfers SET consumed = consumed + $3 WHERE transfer_id = $1 AND tenant = $2")
            .bind(&transfer.order_id)
            .bind(tenant.as_str())
            .bind(i64::from(here))
            .execute(&mut *connection)
            .await?;
        source.names_the_slot |=
            transfer.reasons.iter().any(|why| why.device == wanted.device && why.component == wanted.component);
        source.transfer_id.get_or_insert(transfer.order_id);
        left -= here;
        if left == 0 {
            break;
        }
    }
    Ok(source)
}

async fn insert(connection: &mut Connection, tenant: &TenantId, used: &Used) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO part_uses (use_id, tenant, ts, device, component, part, depot, quantity, from_stock, transfer_id, \
         predicted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&used.use_id)
    .bind(tenant.as_str())
    .bind(used.ts.millis())
    .bind(used.device.as_str())
    .bind(used.component.as_str())
    .bind(used.part.as_str())
    .bind(used.depot.as_str())
    .bind(i64::from(used.quantity))
    .bind(i64::from(used.from_stock))
    .bind(used.transfer_id.as_deref())
    .bind(i64::from(used.predicted))
    .execute(connection)
    .await?;
    Ok(())
}

const COLUMNS: &str = "use_id, ts, device, component, part, depot, quantity, from_stock, transfer_id, predicted";

async fn find(connection: &mut Connection, tenant: &TenantId, wanted: &PartUse) -> Result<Option<Used>, Error> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM part_uses WHERE tenant = $1 AND device = $2 AND component = $3 AND ts = $4"
    )))
    .bind(tenant.as_str())
    .bind(wanted.device.as_str())
    .bind(wanted.component.as_str())
    .bind(wanted.ts.millis())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(used).transpose()
}

/// The use with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get_use(connection: &mut Connection, tenant: &TenantId, use_id: &str) -> Result<Used, Error> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM part_uses WHERE tenant = $1 AND use_id = $2")))
        .bind(tenant.as_str())
        .bind(use_id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Err(Error::NotFound { what: "part use", id: use_id.to_owned() }), used)
}

/// At most `limit` uses that pass the filter, newest record first, before the one with id `before`.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn uses(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &UseFilter,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<Used>, Error> {
    // Empty texts stand for "no bound".
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM part_uses WHERE tenant = $1 AND ($2 = '' OR device = $2) AND ($3 = '' OR part = $3) \
         AND ($4 = '' OR depot = $4) AND ($5 = '' OR transfer_id = $5) AND ($6 = '' OR use_id < $6) \
         ORDER BY use_id DESC LIMIT $7"
    )))
    .bind(tenant.as_str())
    .bind(filter.device.as_ref().map_or("", DeviceId::as_str))
    .bind(filter.part.as_ref().map_or("", PartId::as_str))
    .bind(filter.depot.as_ref().map_or("", DepotId::as_str))
    .bind(filter.transfer_id.as_deref().unwrap_or_default())
    .bind(before.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(used).collect()
}

/// How the replacements of a span of event time were met.
///
/// # Errors
/// [`Error::Database`].
pub async fn use_counts(connection: &mut Connection, tenant: &TenantId, range: TimeRange) -> Result<UseCounts, Error> {
    let rows = sqlx::query(
        "SELECT from_stock, predicted, CASE WHEN transfer_id IS NULL THEN 0 ELSE 1 END AS by_transfer, \
         count(*) AS uses FROM part_uses WHERE tenant = $1 AND ts >= $2 AND ts < $3 \
         GROUP BY from_stock, predicted, CASE WHEN transfer_id IS NULL THEN 0 ELSE 1 END",
    )
    .bind(tenant.as_str())
    .bind(range.from.millis())
    .bind(range.to.millis())
    .fetch_all(connection)
    .await?;
    let mut counts = UseCounts::default();
    for row in &rows {
        let uses = u64::from(column::count(row, "uses")?);
        let local = column::get::<i64>(row, "from_stock")? != 0;
        counts.total += uses;
        counts.from_stock += if local { uses } else { 0 };
        counts.predicted += if column::get::<i64>(row, "predicted")? != 0 { uses } else { 0 };
        counts.by_transfer += if local && column::get::<i64>(row, "by_transfer")? != 0 { uses } else { 0 };
    }
    Ok(counts)
}

fn used(row: &AnyRow) -> Result<Used, Error> {
    Ok(Used {
        use_id: column::get(row, "use_id")?,
        ts: column::time(row, "ts")?,
        device: column::parse(row, "device")?,
        component: column::parse(row, "component")?,
        part: column::parse(row, "part")?,
        depot: column::parse(row, "depot")?,
        quantity: column::count(row, "quantity")?,
        from_stock: column::get::<i64>(row, "from_stock")? != 0,
        transfer_id: column::get(row, "transfer_id")?,
        predicted: column::get::<i64>(row, "predicted")? != 0,
    })
}
