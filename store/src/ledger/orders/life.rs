//! The life of an order, apart from the database: which step leads where.

use serde::{Deserialize, Serialize};

use crate::ledger::words::words;

/// Where an order is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// A plan wants it; nobody has decided.
    Proposed,
    /// A person, or a policy, has agreed; pieces are still where they were.
    Approved,
    /// The pieces are set aside on the shelf that they will leave; of transfers only.
    Picked,
    /// The pieces are on the way.
    Shipped,
    /// The pieces are on the shelf.
    Received,
    /// It will not happen.
    Cancelled,
}

words!(
    OrderState,
    "an order state",
    Proposed = "proposed",
    Approved = "approved",
    Picked = "picked",
    Shipped = "shipped",
    Received = "received",
    Cancelled = "cancelled"
);

/// What can happen to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderStep {
    /// Somebody agrees.
    Approve,
    /// The pieces are set aside.
    Pick,
    /// The pieces leave.
    Ship,
    /// The pieces arrive.
    Receive,
    /// It is called off: possible until the pieces leave.
    Cancel,
}

impl OrderStep {
    /// All steps.
    pub const ALL: [Self; 5] = [Self::Approve, Self::Pick, Self::Ship, Self::Receive, Self::Cancel];

    /// The word for an order that it happened to.
    #[must_use]
    pub fn past_participle(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Pick => "picked",
            Self::Ship => "shipped",
            Self::Receive => "received",
            Self::Cancel => "cancelled",
        }
    }
}

impl OrderState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 6] =
        [Self::Proposed, Self::Approved, Self::Picked, Self::Shipped, Self::Received, Self::Cancelled];

    /// The state after a step; `None` where the step is not allowed.
    #[must_use]
    pub fn after(self, step: OrderStep) -> Option<Self> {
        match (self, step) {
            (Self::Proposed, OrderStep::Approve) => Some(Self::Approved),
            (Self::Approved, OrderStep::Pick) => Some(Self::Picked),
            (Self::Approved | Self::Picked, OrderStep::Ship) => Some(Self::Shipped),
            (Self::Shipped, OrderStep::Receive) => Some(Self::Received),
            (Self::Proposed | Self::Approved | Self::Picked, OrderStep::Cancel) => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether nothing can happen to it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        OrderStep::ALL.iter().all(|&step| self.after(step).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: every state against every step.
    #[test]
    fn only_the_listed_steps_are_allowed() {
        use OrderState::{Approved, Cancelled, Picked, Proposed, Received, Shipped};
        let table: [(OrderState, [Option<OrderState>; 5]); 6] = [
            // approve, pick, ship, receive, cancel
            (Proposed, [Some(Approved), None, None, None, Some(Cancelled)]),
            (Approved, [None, Some(Picked), Some(Shipped), None, Some(Cancelled)]),
            (Picked, [None, None, Some(Shipped), None, Some(Cancelled)]),
            (Shipped, [None, None, None, Some(Received), None]),
            (Received, [None; 5]),
            (Cancelled, [None; 5]),
        ];
        for (state, expected) in table {
            assert_eq!(OrderStep::ALL.map(|step| state.after(step)), expected, "{state}");
            assert_eq!(state.is_final(), matches!(state, Received | Cancelled));
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("lost".parse::<OrderState>().is_err());
    }
}
