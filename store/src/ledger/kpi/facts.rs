//! What the results are reckoned from: rows of the ledger as they stand, each table read once.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use harbinger_core::{
    DepotId, Duration, PartId, TenantId, TimeRange, Timestamp,
    fleet::{Consumption, Depot, Lane, Part, StockLevel},
};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::dead::YEAR;
use crate::ledger::{
    Connection, Error, column,
    orders::{self, OrderKind, OrderState},
    plans, registry, stock,
};

/// A replacement and what is known of how it was served.
#[derive(Debug, Clone, PartialEq)]
pub struct UseFact {
    /// When the pieces were needed.
    pub ts: Timestamp,
    /// Which part.
    pub part: PartId,
    /// The depot that serves the device.
    pub depot: DepotId,
    /// Pieces needed.
    pub quantity: u32,
    /// How many of them lay on that depot's shelf.
    pub on_shelf: u32,
    /// Whether it was foreseen: an alert stood, or the transfer that brought the piece names device and component.
    pub predicted: bool,
    /// Hours until the device shall work again by its contract; `None` where it has none, or is no longer registered.
    pub limit_hours: Option<f64>,
}

/// Pieces that came to a shelf, above zero, or left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// When.
    pub ts: Timestamp,
    /// Which part.
    pub part: PartId,
    /// Where.
    pub depot: DepotId,
    /// Pieces: above zero in, below zero out.
    pub quantity: i64,
}

/// What has left for one order, a transfer or a purchase, and arrived together or is still on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Shipment {
    /// Which part.
    pub part: PartId,
    /// Where it left; `None` from the supplier.
    pub from: Option<DepotId>,
    /// Where it goes.
    pub to: DepotId,
    /// Pieces: those that arrived then, else those that left and have not arrived.
    pub quantity: u32,
    /// When it left.
    pub shipped_at: Timestamp,
    /// When it arrived; `None` while it is on the way.
    pub received_at: Option<Timestamp>,
}

/// What a plan expected of a part at a depot.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Which part.
    pub part: PartId,
    /// Where.
    pub depot: DepotId,
    /// Instant that the plan was for.
    pub as_of: Timestamp,
    /// How long after it the expectation reaches, in days, above zero.
    pub window_days: f64,
    /// Expected demand in that time, in pieces.
    pub mean: f64,
    /// 95 % quantile of that demand.
    pub p95: u32,
}

impl Expected {
    /// When the expectation ends.
    pub(super) fn ends(&self) -> Timestamp {
        // `as` saturates, and so does the sum.
        self.as_of + Duration::from_millis((self.window_days * 86_400_000.0).round() as i64)
    }
}

/// Everything that the results of a span are reckoned from.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Whose they are.
    pub tenant: TenantId,
    /// The span that was asked for.
    pub range: TimeRange,
    /// Event time up to which is known what happened: the tenant's, or that of the last use if it is later.
    pub now: Timestamp,
    /// All replacements, in order of time.
    pub uses: Vec<UseFact>,
    /// Use that no device record explains, of the span and of the year before `now`.
    pub consumption: Vec<Consumption>,
    /// What moved before the end of the span, in order of time.
    pub movements: Vec<Moved>,
    /// All orders that have left.
    pub shipments: Vec<Shipment>,
    /// What the plans of the span expected, in order of time. A plan that was made again for the same instant counts once.
    pub expected: Vec<Expected>,
    /// What the newest plan of all expects; `None` without a plan, or where it does not say.
    pub latest: Option<Vec<Expected>>,
    /// Pieces on shelves, now.
    pub levels: Vec<StockLevel>,
    /// Parts.
    pub parts: Vec<Part>,
    /// Depots.
    pub depots: Vec<Depot>,
    /// Ways between them.
    pub lanes: Vec<Lane>,
}

impl Facts {
    /// Reads them; `now` is the tenant's event time.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Database`].
    pub async fn read(
        connection: &mut Connection,
        tenant: &TenantId,
        range: TimeRange,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let uses = uses(connection, tenant).await?;
        let now = uses.last().map_or(now, |last| last.ts.max(now));
        let mut movements = in_event_time(movements(connection, tenant).await?, now);
        movements.retain(|moved| moved.ts < range.to);
        let receipts = receipts(connection, tenant).await?;
        let mut shipments = Vec::new();
        for kind in [OrderKind::Transfer, OrderKind::Purchase] {
            shipments.extend(self::shipments(connection, tenant, kind, &receipts).await?);
        }
        let long = TimeRange { from: range.from.min(now - YEAR), to: Timestamp::MAX };
        let latest = plans::latest(connection, tenant).await?;
        Ok(Self {
            tenant: tenant.clone(),
            range,
            now,
            uses,
            consumption: registry::list_consumption(connection, tenant, long).await?,
            movements,
            shipments,
            expected: expected(connection, tenant, range).await?,
            latest: latest.and_then(|plan| PlanBody::deserialize(&plan.body).ok()?.whole(plan.as_of)),
            levels: stock::all(connection, tenant).await?,
            parts: registry::list(connection, tenant, None, usize::MAX).await?,
            depots: registry::list(connection, tenant, None, usize::MAX).await?,
            lanes: registry::list(connection, tenant, None, usize::MAX).await?,
        })
    }
}

/// All replacements, in order of time.
pub(super) async fn uses(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<UseFact>, Error> {
    // What a use took from its shelf is booked under its id.
    let rows = sqlx::query(
        "SELECT u.ts, u.part, u.depot, u.quantity, u.from_stock, u.predicted, m.quantity AS moved, c.resolve_hours \
         FROM part_uses u \
         LEFT JOIN stock_movements m ON m.tenant = u.tenant AND m.reference = u.use_id AND m.kind = 'consume' \
         AND m.part = u.part AND m.depot = u.depot \
         LEFT JOIN devices d ON d.tenant = u.tenant AND d.device = u.device \
         LEFT JOIN contracts c ON c.tenant = d.tenant AND c.contract = d.contract \
         WHERE u.tenant = $1 ORDER BY u.ts, u.use_id",
    )
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(use_fact).collect()
}

fn use_fact(row: &AnyRow) -> Result<UseFact, Error> {
    let quantity = column::count(row, "quantity")?;
    let taken = column::get::<Option<i64>>(row, "moved")?.map_or(0, |moved| u32::try_from(-moved).unwrap_or(0));
    let whole = column::get::<i64>(row, "from_stock")? != 0;
    Ok(UseFact {
        ts: column::time(row, "ts")?,
        part: column::parse(row, "part")?,
        depot: column::parse(row, "depot")?,
        quantity,
        on_shelf: if whole { quantity } else { taken.min(quantity) },
        predicted: column::get::<i64>(row, "predicted")? != 0,
        limit_hours: column::get(row, "resolve_hours")?,
    })
}

/// In the order in which they were booked.
async fn movements(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<Moved>, Error> {
    let rows =
        sqlx::query("SELECT ts, part, depot, quantity FROM stock_movements WHERE tenant = $1 ORDER BY movement_id")
            .bind(tenant.as_str())
            .fetch_all(connection)
            .await?;
    let moved = |row: &AnyRow| {
        Ok(Moved {
            ts: column::time(row, "ts")?,
            part: column::parse(row, "part")?,
            depot: column::parse(row, "depot")?,
            quantity: column::get(row, "quantity")?,
        })
    };
    rows.iter().map(moved).collect()
}

/// Movements in order of event time. Counted stock is booked by the wall clock, which is years beyond the event time of a fleet
/// that is replayed: such a movement came just before what was booked after it.
fn in_event_time(mut booked: Vec<Moved>, now: Timestamp) -> Vec<Moved> {
    let mut following = now;
    for moved in booked.iter_mut().rev() {
        if moved.ts > now {
            moved.ts = following;
        }
        following = moved.ts;
    }
    booked.sort_by_key(|moved| moved.ts);
    booked
}

/// What left, by order, and of each order by arrival; what is still on the way last.
async fn shipments(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
    receipts: &Receipts,
) -> Result<Vec<Shipment>, Error> {
    let (table, id, from, to) = match kind {
        OrderKind::Transfer => ("transfers", "transfer_id", "from_depot, ", "to_depot"),
        OrderKind::Purchase => ("purchases", "purchase_id", "", "depot"),
    };
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {id} AS order_id, part, {from}{to} AS target, quantity, received_quantity, shipped_at, state FROM {table} \
         WHERE tenant = $1 AND shipped_at IS NOT NULL ORDER BY shipped_at, {id}"
    )))
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    let mut shipments = Vec::new();
    for row in &rows {
        let whole = Shipment {
            part: column::parse(row, "part")?,
            from: match kind {
                OrderKind::Transfer => Some(column::parse(row, "from_depot")?),
                OrderKind::Purchase => None,
            },
            to: column::parse(row, "target")?,
            quantity: column::count(row, "quantity")?,
            shipped_at: column::time(row, "shipped_at")?,
            received_at: None,
        };
        let came = receipts.get(&column::get::<String>(row, "order_id")?).into_iter().flatten();
        let arrived = |&(at, quantity)| Shipment { quantity, received_at: Some(at), ..whole.clone() };
        shipments.extend(came.map(arrived));
        if column::parse::<OrderState>(row, "state")? == OrderState::Shipped {
            let received = column::count_optional(row, "received_quantity")?.unwrap_or(0);
            shipments.push(Shipment { quantity: whole.quantity.saturating_sub(received), ..whole });
        }
    }
    Ok(shipments)
}

/// When how many pieces came, by order.
type Receipts = HashMap<String, Vec<(Timestamp, u32)>>;

/// When how many pieces came of each order, in the order in which they were booked.
async fn receipts(connection: &mut Connection, tenant: &TenantId) -> Result<Receipts, Error> {
    let query = "SELECT reference, ts, quantity FROM stock_movements \
                 WHERE tenant = $1 AND kind = 'receive' ORDER BY movement_id";
    let rows = sqlx::query(query).bind(tenant.as_str()).fetch_all(connection).await?;
    let mut receipts = Receipts::new();
    for row in &rows {
        let reference: String = column::get(row, "reference")?;
        let receipt = (column::time(row, "ts")?, column::count(row, "quantity")?);
        receipts.entry(orders::order_of(&reference).to_owned()).or_default().push(receipt);
    }
    Ok(receipts)
}

/// The part of a plan's document that says what it expects; what is more in it is not looked at.
#[derive(Debug, Deserialize)]
struct PlanBody {
    #[serde(default)]
    cells: Vec<CellBody>,
}

#[derive(Debug, Deserialize)]
struct CellBody {
    part: PartId,
    depot: DepotId,
    window_days: Option<f64>,
    demand_mean: Option<f64>,
    demand_p95: Option<u32>,
}

impl PlanBody {
    /// The cells that say what they expect.
    fn expected(self, as_of: Timestamp) -> Vec<Expected> {
        let told = |cell: CellBody| {
            let window_days = cell.window_days.filter(|days| days.is_finite() && *days > 0.0)?;
            let mean = cell.demand_mean.filter(|mean| mean.is_finite())?;
            Some(Expected { part: cell.part, depot: cell.depot, as_of, window_days, mean, p95: cell.demand_p95? })
        };
        self.cells.into_iter().filter_map(told).collect()
    }

    /// All cells; `None` where one does not say what it expects.
    fn whole(self, as_of: Timestamp) -> Option<Vec<Expected>> {
        let cells = self.cells.len();
        Some(self.expected(as_of)).filter(|expected| expected.len() == cells)
    }
}

/// Plans of a span in order of time; of those for the same instant the one made last.
pub(super) const MADE_LAST: &str = "SELECT p.as_of, p.body FROM plans p WHERE p.tenant = $1 AND p.as_of >= $2 \
     AND p.as_of < $3 AND NOT EXISTS (SELECT 1 FROM plans q WHERE q.tenant = p.tenant AND q.as_of = p.as_of \
     AND q.plan_id > p.plan_id) ORDER BY p.as_of";

/// Plans are large documents: they are read one after another, and what they expect is all that is kept.
async fn expected(connection: &mut Connection, tenant: &TenantId, range: TimeRange) -> Result<Vec<Expected>, Error> {
    let mut rows = sqlx::query(MADE_LAST)
        .bind(tenant.as_str())
        .bind(range.from.millis())
        .bind(range.to.millis())
        .fetch(connection);
    let mut expected = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let body: PlanBody = column::json(&row, "body")?;
        expected.extend(body.expected(column::time(&row, "as_of")?));
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted in the year 2026 while the fleet is in 1970: once before all, once after the third day's movement.
    #[test]
    fn what_the_wall_clock_booked_comes_before_what_was_booked_after_it() {
        let day = |n: i64| Timestamp::from_millis(n * 86_400_000);
        let moved = |ts, quantity| Moved {
            ts,
            part: PartId::parse("fan").unwrap(),
            depot: DepotId::parse("hub").unwrap(),
            quantity,
        };
        let booked = vec![moved(day(20_454), 9), moved(day(1), -1), moved(day(3), -2), moved(day(20_455), 5)];
        let expected = vec![moved(day(1), 9), moved(day(1), -1), moved(day(3), -2), moved(day(7), 5)];
        assert_eq!(in_event_time(booked, day(7)), expected);
    }
}
