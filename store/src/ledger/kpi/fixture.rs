//! Short ways to write facts in tests: one part, `fan`, and times in days since 1970.

use harbinger_core::{
    DepotId, PartId, TimeRange, Timestamp,
    fleet::{Part, StockLevel},
    time::MILLIS_PER_DAY,
};

use super::{Expected, Moved, Shipment, UseFact};

pub(super) fn day(day: i64) -> Timestamp {
    Timestamp::from_millis(day * MILLIS_PER_DAY)
}

pub(super) fn days(from: i64, to: i64) -> TimeRange {
    TimeRange { from: day(from), to: day(to) }
}

pub(super) fn part() -> PartId {
    PartId::parse("fan").unwrap()
}

pub(super) fn depot(name: &str) -> DepotId {
    DepotId::parse(name).unwrap()
}

pub(super) fn named_part(name: &str, unit_cost: f64) -> Part {
    Part {
        part: PartId::parse(name).unwrap(),
        unit_cost,
        description: None,
        supplier_lead_days: None,
        repairable: false,
        repair_days: None,
        repair_yield: None,
        pack_size: None,
        minimum_order: None,
        successor: None,
        shelf_life_days: None,
        supplier_lead_days_p95: None,
        repair_places: None,
    }
}

/// Not foreseen, without contract.
pub(super) fn used(at: i64, name: &str, quantity: u32, on_shelf: u32) -> UseFact {
    UseFact { ts: day(at), part: part(), depot: depot(name), quantity, on_shelf, predicted: false, limit_hours: None }
}

pub(super) fn shipment(from: &str, to: &str, quantity: u32, shipped: i64, received: Option<i64>) -> Shipment {
    Shipment {
        part: part(),
        from: Some(depot(from)),
        to: depot(to),
        quantity,
        shipped_at: day(shipped),
        received_at: received.map(day),
    }
}

pub(super) fn moved(at: i64, name: &str, quantity: i64) -> Moved {
    Moved { ts: day(at), part: part(), depot: depot(name), quantity }
}

pub(super) fn level(name: &str, on_hand: u32) -> StockLevel {
    StockLevel { part: part(), depot: depot(name), on_hand, in_transit: 0 }
}

pub(super) fn cell(name: &str, as_of: i64, window_days: f64, mean: f64, p95: u32) -> Expected {
    Expected { part: part(), depot: depot(name), as_of: day(as_of), window_days, mean, p95 }
}
