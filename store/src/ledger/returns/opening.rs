//! How a piece sets out on its way back: after a use of a repairable part, and after a return that came.

use harbinger_core::{
    DepotId, Duration, PartId, TenantId, Timestamp,
    fleet::{Echelon, Part},
    ids::new_id,
};

use super::{Connection, Error, Leg, OrderState, ReturnOrder, column, get};
use crate::ledger::{
    orders::{days_between, whole_millis},
    registry,
};

/// A piece that was taken out of a device, or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed<'a> {
    /// The use that put other pieces in: it is followed by one return.
    pub use_id: &'a str,
    /// When.
    pub ts: Timestamp,
    /// Which part.
    pub part: &'a PartId,
    /// The depot that serves the device.
    pub depot: &'a DepotId,
    /// Pieces.
    pub quantity: u32,
}

/// Opens the return of failed pieces to the nearest hub, due `within` and the days of the lane after it; `None` where the part is
/// not repairable, or unknown, or where the use has its return already. A depot without a hub keeps and repairs them itself.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn open(
    connection: &mut Connection,
    tenant: &TenantId,
    failed: &Failed<'_>,
    within: Duration,
) -> Result<Option<ReturnOrder>, Error> {
    if part(connection, tenant, failed.part).await?.is_none_or(|part| !part.repairable) {
        return Ok(None);
    }
    let hub = hub_of(connection, tenant, failed.depot).await?;
    let way = time_back(connection, tenant, failed.depot, &hub).await?;
    let new = Begun {
        leg: Leg::Return,
        part: failed.part,
        from: failed.depot,
        to: &hub,
        quantity: failed.quantity,
        state: OrderState::Approved,
        cause: failed.use_id,
        at: failed.ts,
        due_at: Some(failed.ts + within + way),
    };
    begin(connection, tenant, &new).await
}

/// Begins the repair of the pieces of a return that came, due after the part's days of repair.
pub(super) async fn open_repair(
    connection: &mut Connection,
    tenant: &TenantId,
    came: &ReturnOrder,
    quantity: u32,
    at: Timestamp,
) -> Result<Option<ReturnOrder>, Error> {
    let days = part(connection, tenant, &came.part).await?.and_then(|part| part.repair_days);
    let new = Begun {
        leg: Leg::Repair,
        part: &came.part,
        from: &came.to,
        to: &came.to,
        quantity,
        state: OrderState::Shipped,
        cause: &came.order_id,
        at,
        due_at: days.map(|days| at + whole_millis(days)),
    };
    begin(connection, tenant, &new).await
}

struct Begun<'a> {
    leg: Leg,
    part: &'a PartId,
    from: &'a DepotId,
    to: &'a DepotId,
    quantity: u32,
    state: OrderState,
    cause: &'a str,
    at: Timestamp,
    due_at: Option<Timestamp>,
}

/// Writes it, once a cause.
async fn begin(connection: &mut Connection, tenant: &TenantId, new: &Begun<'_>) -> Result<Option<ReturnOrder>, Error> {
    let order_id = new_id(new.leg.id_prefix());
    let shipped_at = (new.state == OrderState::Shipped).then_some(new.at.millis());
    let written = sqlx::query(
        "INSERT INTO returns (order_id, tenant, leg, part, from_depot, to_depot, quantity, state, cause, opened_at, \
         shipped_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (tenant, leg, cause) DO NOTHING",
    )
    .bind(&order_id)
    .bind(tenant.as_str())
    .bind(new.leg.as_str())
    .bind(new.part.as_str())
    .bind(new.from.as_str())
    .bind(new.to.as_str())
    .bind(i64::from(new.quantity))
    .bind(new.state.as_str())
    .bind(new.cause)
    .bind(new.at.millis())
    .bind(shipped_at)
    .bind(new.due_at.map(Timestamp::millis))
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(None);
    }
    get(connection, tenant, new.leg, &order_id).await.map(Some)
}

async fn part(connection: &mut Connection, tenant: &TenantId, part: &PartId) -> Result<Option<Part>, Error> {
    match registry::get::<Part>(connection, tenant, &[part.as_str()]).await {
        Ok(part) => Ok(Some(part)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The hub that a depot sends failed pieces to: the nearest, which also serves it; the depot itself where it is a hub or has none.
async fn hub_of(connection: &mut Connection, tenant: &TenantId, depot: &DepotId) -> Result<DepotId, Error> {
    let row = sqlx::query(
        "SELECT l.from_depot AS hub FROM lanes l \
         JOIN depots h ON h.tenant = l.tenant AND h.depot = l.from_depot AND h.echelon = $3 \
         WHERE l.tenant = $1 AND l.to_depot = $2 AND NOT EXISTS (SELECT 1 FROM depots s \
         WHERE s.tenant = $1 AND s.depot = $2 AND s.echelon = $3) ORDER BY l.days, l.from_depot LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(depot.as_str())
    .bind(Echelon::Hub.as_str())
    .fetch_optional(connection)
    .await?;
    row.map_or_else(|| Ok(depot.clone()), |row| column::parse(&row, "hub"))
}

/// How long pieces are on the way back: as the lane says that leads there, else the one that leads from there; no time where neither
/// is known.
pub(super) async fn time_back(
    connection: &mut Connection,
    tenant: &TenantId,
    depot: &DepotId,
    hub: &DepotId,
) -> Result<Duration, Error> {
    let there = days_between(connection, tenant, depot, hub).await?;
    let days = match there {
        Some(days) => Some(days),
        None => days_between(connection, tenant, hub, depot).await?,
    };
    Ok(whole_millis(days.unwrap_or(0.0)))
}
