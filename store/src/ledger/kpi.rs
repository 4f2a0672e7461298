//! Figures over many rows: what alerts turned out to be, what stock is worth, how many orders stand where; and the results that a
//! manager of service parts is judged by.
//!
//! Results come in two steps: [`Facts::read`] reads what there is, each table once, and [`results`] reckons with it, without I/O.

use harbinger_core::{TenantId, TimeRange};

use super::{
    Connection, Error,
    alerts::Outcome,
    column,
    orders::{OrderKind, OrderState},
};

mod churn;
mod classes;
mod dead;
mod facts;
#[cfg(test)]
mod fixture;
mod forecasts;
mod results;
mod service;
mod shadow;
mod shelf;

pub use churn::Churn;
pub use classes::{Abc, Class, Xyz};
pub use dead::DeadStock;
pub use facts::{Expected, Facts, Moved, Shipment, UseFact};
pub use forecasts::Forecast;
pub use results::{By, Group, Results, results};
pub use service::Service;
pub use shadow::{Asked, ShadowPlan, WouldHaveBeen, shadow_plans, would_have_been};
pub use shelf::Stock;

/// `part` over `of`; `None` where there is nothing.
fn share(part: u64, of: u64) -> Option<f64> {
    share_of(part as f64, of as f64)
}

/// `part` over `of`; `None` where that is not above zero.
fn share_of(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}

/// How many alerts raised in `range` were closed with each outcome; outcomes without any are left out.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn alerts_by_outcome(
    connection: &mut Connection,
    tenant: &TenantId,
    range: TimeRange,
) -> Result<Vec<(Outcome, u64)>, Error> {
    sqlx::query(
        "SELECT outcome, count(*) AS alerts FROM alerts WHERE tenant = $1 AND state = 'closed' \
         AND outcome IS NOT NULL AND raised_at >= $2 AND raised_at < $3 GROUP BY outcome ORDER BY outcome",
    )
    .bind(tenant.as_str())
    .bind(range.from.millis())
    .bind(range.to.millis())
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok((column::parse(row, "outcome")?, u64::from(column::count(row, "alerts")?))))
    .collect()
}

/// What the pieces on all shelves cost: on hand times unit cost.
///
/// # Errors
/// [`Error::Database`].
pub async fn stock_value(connection: &mut Connection, tenant: &TenantId) -> Result<f64, Error> {
    // Added up here: a sum has no declared type, which `Any` needs to decode it.
    let rows = sqlx::query(
        "SELECT s.on_hand, p.unit_cost FROM stock s JOIN parts p ON p.tenant = s.tenant AND p.part = s.part \
         WHERE s.tenant = $1 AND s.on_hand > 0 ORDER BY s.part, s.depot",
    )
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    let mut value = 0.0;
    for row in &rows {
        value += f64::from(column::count(row, "on_hand")?) * column::get::<f64>(row, "unit_cost")?;
    }
    Ok(value)
}

/// How many orders of a kind are in each state; states without any are left out.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn orders_by_state(
    connection: &mut Connection,
    tenant: &TenantId,
    kind: OrderKind,
) -> Result<Vec<(OrderState, u64)>, Error> {
    let query = match kind {
        OrderKind::Transfer => {
            "SELECT state, count(*) AS orders FROM transfers WHERE tenant = $1 GROUP BY state ORDER BY state"
        }
        OrderKind::Purchase => {
            "SELECT state, count(*) AS orders FROM purchases WHERE tenant = $1 GROUP BY state ORDER BY state"
        }
    };
    let rows = sqlx::query(query).bind(tenant.as_str()).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((column::parse(row, "state")?, u64::from(column::count(row, "orders")?)))).collect()
}

#[cfg(test)]
mod tests;
