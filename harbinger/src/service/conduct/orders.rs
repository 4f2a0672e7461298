//! Orders in the loop: what a plan wants is proposed, approved where a policy allows, and told of when it does not come.

use harbinger_analytics::plan::Plan;
use harbinger_core::{Duration, TenantId, Timestamp, fleet::Part, ids::new_id};
use harbinger_store::ledger::{
    Connection,
    orders::{self, Order, OrderKind},
    plans::{self, PlanRow},
    registry,
    returns::{self, Leg},
};
use serde_json::json;

use super::{Conductor, Error};
use crate::config;

/// Who approves an order that nobody had to look at.
const BY_POLICY: &str = "policy";

/// What becomes of what a plan wants: whether it is proposed, which orders need no person, and when one is missed.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct Policy {
    /// Plans are kept, and propose nothing.
    shadow: bool,
    transfers_up_to: f64,
    purchases_up_to: f64,
    overdue_after: Duration,
}

impl Policy {
    pub(in crate::service) fn of(orders: &config::Orders, plan: &config::Plan) -> Self {
        Self {
            shadow: plan.shadow,
            transfers_up_to: orders.approve_transfers_up_to,
            purchases_up_to: orders.approve_purchases_up_to,
            overdue_after: orders.overdue_after,
        }
    }

    /// `value`: what the pieces of the order are worth.
    fn approves(&self, kind: OrderKind, value: f64) -> bool {
        match kind {
            OrderKind::Transfer => value <= self.transfers_up_to,
            OrderKind::Purchase => value <= self.purchases_up_to,
        }
    }
}

impl Conductor {
    pub(super) async fn keep_plan(&self, tx: &mut Connection, tenant: &TenantId, plan: &Plan) -> Result<String, Error> {
        let plan_id = new_id("pln");
        let mut body = serde_json::to_value(plan)?;
        // In shadow what was proposed before is cancelled, too: no plan stands behind it any more.
        let mut wanted = plan.orders();
        if self.policy.shadow {
            body["shadow"] = json!(true);
            wanted.clear();
        }
        let row = PlanRow {
            plan_id: plan_id.clone(),
            as_of: plan.as_of,
            degraded: plan.data_quality.degraded,
            body,
            created_wall: self.clock.now(),
        };
        plans::insert(tx, tenant, &row).await?;
        let proposed = orders::propose(tx, tenant, &plan_id, plan.as_of, &wanted).await?;
        for order in &proposed.added {
            self.tell_order(tx, tenant, order, "proposed", plan.as_of).await?;
        }
        for order in proposed.added.iter().chain(&proposed.kept) {
            let part: Part = registry::get(tx, tenant, &[order.part.as_str()]).await?;
            if self.policy.approves(order.kind, part.unit_cost * f64::from(order.quantity)) {
                let order = orders::approve(tx, tenant, order.kind, &order.order_id, BY_POLICY, plan.as_of).await?;
                self.tell_order(tx, tenant, &order, "approved", plan.as_of).await?;
            }
        }
        Ok(plan_id)
    }

    /// Tells of orders, returns and repairs that should have come by now, once each.
    pub(super) async fn chase(&self, tx: &mut Connection, tenant: &TenantId, at: Timestamp) -> Result<(), Error> {
        for kind in [OrderKind::Transfer, OrderKind::Purchase] {
            for order in orders::chase(tx, tenant, kind, at - self.policy.overdue_after, at).await? {
                self.tell_order(tx, tenant, &order, "overdue", at).await?;
            }
        }
        for leg in Leg::ALL {
            for order in returns::chase(tx, tenant, leg, at - self.policy.overdue_after, at).await? {
                let data = serde_json::to_value(&order)?;
                let event = format!("{leg}.overdue");
                self.alerts.publish(tx, tenant, &event, &order.order_id, at, &data).await?;
            }
        }
        Ok(())
    }

    async fn tell_order(
        &self,
        tx: &mut Connection,
        tenant: &TenantId,
        order: &Order,
        what: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        let event = format!("{}.{what}", order.kind.as_str());
        let data = serde_json::to_value(order)?;
        self.alerts.publish(tx, tenant, &event, &order.order_id, at, &data).await?;
        Ok(())
    }
}
