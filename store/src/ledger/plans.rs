//! Plans as they were made, so that a decision can be shown and recomputed as of then.

use harbinger_core::{TenantId, Timestamp};
use serde_json::Value;
use sqlx::any::AnyRow;

use super::{Connection, Error, column};

/// A plan as kept.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRow {
    /// `pln_...`; plans made later sort later.
    pub plan_id: String,
    /// Event time that the plan is for.
    pub as_of: Timestamp,
    /// More than 5 % of the forecasts that it should have used were rejected.
    pub degraded: bool,
    /// The plan.
    pub body: Value,
    /// Wall-clock time at which it was made.
    pub created_wall: Timestamp,
}

/// Keeps a plan.
///
/// # Errors
/// [`Error::Database`], also where the id is taken; [`Error::Full`].
pub async fn insert(connection: &mut Connection, tenant: &TenantId, plan: &PlanRow) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO plans (plan_id, tenant, as_of, degraded, body, created_wall) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&plan.plan_id)
    .bind(tenant.as_str())
    .bind(plan.as_of.millis())
    .bind(i64::from(plan.degraded))
    .bind(plan.body.to_string())
    .bind(plan.created_wall.millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// The plan with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, plan_id: &str) -> Result<PlanRow, Error> {
    let row = sqlx::query(
        "SELECT plan_id, as_of, degraded, body, created_wall FROM plans WHERE plan_id = $1 AND tenant = $2",
    )
    .bind(plan_id)
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map_or_else(|| Err(Error::NotFound { what: "plan", id: plan_id.to_owned() }), plan)
}

/// The newest plan of a tenant.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn latest(connection: &mut Connection, tenant: &TenantId) -> Result<Option<PlanRow>, Error> {
    as_of(connection, tenant, Timestamp::MAX).await
}

/// The plan that stood at event time `at`: the newest one made for an instant not after it.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn as_of(connection: &mut Connection, tenant: &TenantId, at: Timestamp) -> Result<Option<PlanRow>, Error> {
    let row = sqlx::query(
        "SELECT plan_id, as_of, degraded, body, created_wall FROM plans WHERE tenant = $1 AND as_of <= $2 \
         ORDER BY as_of DESC, plan_id DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(at.millis())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(plan).transpose()
}

fn plan(row: &AnyRow) -> Result<PlanRow, Error> {
    Ok(PlanRow {
        plan_id: column::get(row, "plan_id")?,
        as_of: column::time(row, "as_of")?,
        degraded: column::get::<i64>(row, "degraded")? != 0,
        body: column::json(row, "body")?,
        created_wall: column::time(row, "created_wall")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Ledger;
    use crate::ledger::fixture::on_both_engines;

    on_both_engines!(the_plan_that_stood_then_is_found,);

    async fn the_plan_that_stood_then_is_found(ledger: Ledger) {
        let tenant = TenantId::parse("acme").unwrap();
        let mut tx = ledger.write().await.unwrap();
        assert_eq!(latest(&mut tx, &tenant).await.unwrap(), None);
        let made = |id: &str, hour: i64| PlanRow {
            plan_id: id.to_owned(),
            as_of: Timestamp::from_millis(hour * 3_600_000),
            degraded: hour == 2,
            body: json!({ "cells": [hour] }),
            created_wall: Timestamp::from_millis(99),
        };
        for (id, hour) in [("pln_1", 1), ("pln_2", 2), ("pln_3", 2)] {
            insert(&mut tx, &tenant, &made(id, hour)).await.unwrap();
        }
        assert_eq!(latest(&mut tx, &tenant).await.unwrap(), Some(made("pln_3", 2)));
        let then = as_of(&mut tx, &tenant, Timestamp::from_millis(3_600_000)).await.unwrap();
        assert_eq!(then, Some(made("pln_1", 1)));
        assert_eq!(get(&mut tx, &tenant, "pln_2").await.unwrap(), made("pln_2", 2));
        let other = TenantId::parse("other").unwrap();
        assert!(matches!(get(&mut tx, &other, "pln_2").await, Err(Error::NotFound { .. })));
        assert!(insert(&mut tx, &tenant, &made("pln_1", 1)).await.is_err());
    }
}
