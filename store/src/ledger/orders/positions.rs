//! What a plan counts with: stock, what approved orders will do to it, and what is kept for work orders.

use std::collections::BTreeMap;

use harbinger_core::{DepotId, PartId, TenantId, Timestamp};
use serde::Serialize;

use super::{Connection, Error, OrderFilter, OrderKind, OrderState, Sequence, list};
use crate::ledger::{column, stock, work_orders};

/// Pieces of a part at a depot, and those that approved orders and work orders have spoken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Position {
    /// On the shelf.
    pub on_hand: u32,
    /// Shipped and on the way here.
    pub in_transit: u32,
    /// Approved to come here, picked perhaps, and not shipped yet.
    pub on_order: u32,
    /// On the shelf, approved to leave, picked perhaps, or kept for work orders.
    pub reserved: u32,
}

/// All positions of a tenant that are not all zero, in order of part and depot.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn positions(
    connection: &mut Connection,
    tenant: &TenantId,
) -> Result<BTreeMap<(PartId, DepotId), Position>, Error> {
    let mut positions: BTreeMap<(PartId, DepotId), Position> = BTreeMap::new();
    for level in stock::all(connection, tenant).await? {
        let position = positions.entry((level.part, level.depot)).or_default();
        position.on_hand = level.on_hand;
        position.in_transit = level.in_transit;
    }
    let approved = OrderFilter { states: vec![OrderState::Approved, OrderState::Picked], ..OrderFilter::default() };
    for kind in [OrderKind::Transfer, OrderKind::Purchase] {
        for order in list(connection, tenant, kind, &approved, Sequence::OldestFirst, None, u32::MAX).await? {
            positions.entry((order.part.clone(), order.to)).or_default().on_order += order.quantity;
            if let Some(from) = order.from {
                positions.entry((order.part, from)).or_default().reserved += order.quantity;
            }
        }
    }
    for order in work_orders::all_open(connection, tenant).await? {
        positions.entry((order.part, order.depot)).or_default().reserved += order.reserved;
    }
    positions.retain(|_, position| *position != Position::default());
    Ok(positions)
}

/// When pieces last came to a depot, by part, where that was not before `since`.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn received_since(
    connection: &mut Connection,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<BTreeMap<(PartId, DepotId), Timestamp>, Error> {
    // Receipts of transfers, of parts of them too: movements refer to orders by ids that tell the kind.
    let rows = sqlx::query(
        "SELECT part, depot, ts FROM stock_movements WHERE tenant = $1 AND reference > 'trf_' AND reference < 'trf`' \
         AND kind = 'receive' AND quantity > 0 AND ts >= $2 ORDER BY ts",
    )
    .bind(tenant.as_str())
    .bind(since.millis())
    .fetch_all(connection)
    .await?;
    let received = |row| Ok(((column::parse(row, "part")?, column::parse(row, "depot")?), column::time(row, "ts")?));
    rows.iter().map(received).collect()
}
