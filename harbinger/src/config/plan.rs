//! Settings of plans.

use harbinger_analytics::plan::PlanOptions;
use harbinger_core::Duration;
use serde::{Deserialize, Serialize};

/// Plans. Money is in the tenant's currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    /// Plans are made and kept, and nothing is proposed: `GET /api/v1/plan/shadow` tells what they would have done.
    pub(crate) shadow: bool,
    /// Most money that a plan spends on purchases; without bound where left out.
    pub(crate) purchase_budget: Option<f64>,
    /// Share of a piece's cost that a year on the shelf costs.
    pub(crate) holding_rate_per_year: f64,
    /// What it costs to bring one piece to a device from the hub at once, beside the lane's cost for each piece.
    pub(crate) emergency_cost: f64,
    /// Pieces that came to a depot stay at least so long.
    pub(crate) settle: Duration,
    /// A piece that nobody has taken in this time goes back.
    pub(crate) keep: Duration,
    /// A move between depots or back must gain so many times the transport there and back.
    pub(crate) move_margin: f64,
    /// Supplier lead time of parts that have none.
    pub(crate) supplier_lead: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        let PlanOptions {
            purchase_budget,
            holding_rate_per_year,
            emergency_cost,
            settle,
            keep,
            move_margin,
            supplier_lead,
            ..
        } = PlanOptions::default();
        Self {
            shadow: false,
            purchase_budget,
            holding_rate_per_year,
            emergency_cost,
            settle,
            keep,
            move_margin,
            supplier_lead,
        }
    }
}

impl Plan {
    /// As the planner takes them.
    pub(crate) fn options(&self) -> PlanOptions {
        PlanOptions {
            purchase_budget: self.purchase_budget,
            holding_rate_per_year: self.holding_rate_per_year,
            emergency_cost: self.emergency_cost,
            settle: self.settle,
            keep: self.keep,
            move_margin: self.move_margin,
            supplier_lead: self.supplier_lead,
            ..PlanOptions::default()
        }
    }

    /// # Errors
    /// Names the key that makes no sense.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let money = [
            ("purchase_budget", self.purchase_budget.unwrap_or(0.0)),
            ("holding_rate_per_year", self.holding_rate_per_year),
            ("emergency_cost", self.emergency_cost),
            ("move_margin", self.move_margin),
        ];
        for (key, value) in money {
            anyhow::ensure!(value.is_finite() && value >= 0.0, "plan.{key} is {value}, not a number of 0 or more");
        }
        for (key, length) in [("settle", self.settle), ("keep", self.keep), ("supplier_lead", self.supplier_lead)] {
            anyhow::ensure!(length >= Duration::ZERO, "plan.{key} is {length}, not a length of time");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_that_plans_are_made_with_and_nonsense_is_named() {
        assert_eq!(Plan::default().options(), PlanOptions::default());
        let text = "purchase_budget = 5000.0\nsettle = \"7d\"";
        let plan: Plan = toml::from_str(text).unwrap();
        plan.check().unwrap();
        assert_eq!((plan.options().purchase_budget, plan.options().settle), (Some(5000.0), Duration::from_days(7)));
        let negative = Plan { emergency_cost: -1.0, ..Plan::default() };
        assert!(negative.check().unwrap_err().to_string().contains("plan.emergency_cost is -1"));
    }
}
