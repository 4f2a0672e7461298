//! Base stock of a hub and its depots: what to keep of each part where, by long-run rates, for a service target or a budget.
//!
//! Every piece taken is ordered again at once: a depot orders from the hub, the hub from the supplier or the repair shop. What
//! a depot waits for is its order-and-ship time and the hub's backorders, whose mean and variance give the law of its
//! pipeline (VARI-METRIC: Graves 1985, Sherbrooke 1986). Levels are chosen part by part on a frontier of pieces against
//! service, and across parts by greatest gain for the money; the final plan is reckoned again by the exact law.
//!
//! Source: maths of pre-positioning, section 3.

use harbinger_core::{DepotId, PartId};

use crate::demand;

mod frontier;
mod hub;
mod masses;
mod optimise;
mod pooling;
mod repair;
mod service;
mod special;
mod steps;
#[cfg(test)]
mod tests;
mod two_echelon;

pub use frontier::{Efficient, efficient_points};
pub use hub::{Hub, HubBackorders};
pub use optimise::{Goal, Optimised, optimise};
pub use pooling::{PooledDepot, PooledService, pooled_service};
pub use repair::{ReturnLoop, repair_sojourn_days};
pub use service::{Evaluation, Method};
pub use special::{LastBuy, critical_level};
pub use two_echelon::{Pipeline, exact_pipeline, metric, vari_metric};

/// Greatest mean of a pipeline, in pieces, that levels are chosen for: more of one part in one network is an error in its data.
pub const MOST_IN_PIPELINE: f64 = 10_000.0;

/// A part in the network of a hub and its depots.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Which part.
    pub part: PartId,
    /// c: cost of a piece, >= 0.
    pub unit_cost: f64,
    /// T0: mean days until the hub has a piece again that it ordered; see [`ReturnLoop`].
    pub resupply_days: f64,
    /// q: the hub orders in multiples of this, at least 1.
    pub pack_size: u32,
    /// Where it is needed.
    pub cells: Vec<Cell>,
}

/// A part at a place that serves devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Which place.
    pub depot: DepotId,
    /// m: pieces needed a day in the long run, >= 0.
    pub rate_per_day: f64,
    /// How pieces come here.
    pub place: Place,
    /// What is asked of it.
    pub claims: Vec<Claim>,
}

/// Where a cell is in the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// At the hub itself, served from its stock.
    Hub,
    /// At a depot that orders from the hub.
    Depot {
        /// O: order-and-ship time from the hub in days, >= 0.
        order_days: f64,
        /// Share and days of what is mended at the depot itself.
        repair: Option<DepotRepair>,
    },
}

/// Failed pieces that a depot mends itself (section 3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepotRepair {
    /// r: share of the demand, 0..=1.
    pub share: f64,
    /// Days that it takes, >= 0.
    pub days: f64,
}

/// What a group of cells is promised, and how much this cell counts in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Which group, by its place among the targets.
    pub group: usize,
    /// How much this cell counts, >= 0: usually its demand under the contract.
    pub weight: f64,
    /// What is counted.
    pub measure: Measure,
}

/// What is counted of a cell; more of it is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// P(a piece is there within so many days after the demand); 0 days is the fill rate, and what is below 0 is never met.
    WithinLimit {
        /// T = promise less travel.
        days: f64,
    },
    /// Expected backorders, counted negative.
    Backorders,
    /// Logarithm of the share of devices that have this part: `Z ln(1 - EBO / N)`.
    Availability {
        /// N: slots of this part that the depot serves, > 0.
        slots: f64,
        /// Z: slots of it in a device.
        per_device: f64,
    },
}

/// Stock of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// S_0: base stock of the hub; with packs one more than its reorder point.
    pub hub: u32,
    /// S_j: base stock of each cell; 0 for a cell at the hub, whose stock is the hub's.
    pub cells: Vec<u32>,
}

impl Levels {
    /// All pieces.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        u64::from(self.hub) + self.cells.iter().map(|&level| u64::from(level)).sum::<u64>()
    }
}

/// Why there are no levels.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An amount that is negative or no number.
    #[error("{name} of {of} is {value}, not a finite number >= 0")]
    Amount {
        /// Which one.
        name: &'static str,
        /// Of what.
        of: String,
        /// What was given.
        value: f64,
    },
    /// A share outside its range.
    #[error("{name} is {value}, not a share in 0..=1")]
    Share {
        /// Which one.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// More pieces on order than any part has.
    #[error(
        "{of} would have {pieces:.0} pieces on order, more than {MOST_IN_PIPELINE}; check its demand rate and its days of resupply"
    )]
    TooMany {
        /// Part, and depot where it is one.
        of: String,
        /// How many.
        pieces: f64,
    },
    /// A law of demand that cannot be.
    #[error("stock of {of}")]
    Demand {
        /// Part and depot.
        of: String,
        /// Why.
        source: demand::Error,
    },
    /// A claim of a group that has no target.
    #[error("{of} belongs to group {group}, but there are targets for {targets}")]
    Group {
        /// Part and depot.
        of: String,
        /// The group.
        group: usize,
        /// How many targets there are.
        targets: usize,
    },
    /// A target that no stock can meet.
    #[error("no stock can meet target {group}: it asks for {asked:.6}, at most {reachable:.6} can be reached{why}")]
    Unreachable {
        /// Which target.
        group: usize,
        /// What it asks for, over the group.
        asked: f64,
        /// What stock without end would reach.
        reachable: f64,
        /// Where and why, in words that follow.
        why: String,
    },
    /// A budget that buys nothing.
    #[error("a budget of {budget} buys nothing that serves anyone: the cheapest step costs {cheapest}")]
    Budget {
        /// What was given.
        budget: f64,
        /// What it would take.
        cheapest: f64,
    },
    /// A repair shop with more work than it can do.
    #[error(
        "the repair shop gets {load:.3} times the work that its {servers} places can do: its queue grows without end"
    )]
    Overloaded {
        /// Arrivals times repair time.
        load: f64,
        /// Places.
        servers: u32,
    },
    /// Depots that pool in a way that cannot be.
    #[error("depot {depot} is to be helped by depot {helper}, which {why}")]
    Pooling {
        /// Its place.
        depot: usize,
        /// The place of the other.
        helper: usize,
        /// Why not.
        why: &'static str,
    },
}

/// Checks an amount.
fn amount(name: &'static str, value: f64, of: impl FnOnce() -> String) -> Result<f64, Error> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(Error::Amount { name, of: of(), value }) }
}

impl Item {
    /// m_0: pieces a day that are ordered from the hub or taken there.
    #[must_use]
    pub fn hub_rate_per_day(&self) -> f64 {
        self.cells.iter().map(Cell::hub_rate_per_day).sum()
    }

    fn name(&self, cell: &Cell) -> String {
        format!("{} at {}", self.part, cell.depot)
    }

    /// Checks everything that levels are chosen by.
    fn check(&self, groups: usize) -> Result<(), Error> {
        let part = || self.part.to_string();
        amount("unit cost", self.unit_cost, part)?;
        amount("days of resupply", self.resupply_days, part)?;
        for cell in &self.cells {
            let of = || self.name(cell);
            amount("demand rate", cell.rate_per_day, of)?;
            if let Place::Depot { order_days, repair } = cell.place {
                amount("order-and-ship time", order_days, of)?;
                if let Some(DepotRepair { share, days }) = repair {
                    amount("days of repair", days, of)?;
                    if !(0.0..=1.0).contains(&share) {
                        return Err(Error::Share { name: "share of repair at the depot", value: share });
                    }
                }
            }
            for claim in &cell.claims {
                amount("weight", claim.weight, of)?;
                if claim.group >= groups {
                    return Err(Error::Group { of: of(), group: claim.group, targets: groups });
                }
                match claim.measure {
                    Measure::WithinLimit { days } if days.is_nan() => {
                        return Err(Error::Amount { name: "time limit", of: of(), value: days });
                    }
                    Measure::Availability { slots, per_device } => {
                        amount("slots", slots, of)?;
                        amount("slots of a device", per_device, of)?;
                    }
                    _ => {}
                }
            }
            let pieces = cell.own_pipeline(0.0);
            if pieces > MOST_IN_PIPELINE {
                return Err(Error::TooMany { of: of(), pieces });
            }
        }
        let pieces = self.hub_rate_per_day() * self.resupply_days;
        if pieces > MOST_IN_PIPELINE {
            return Err(Error::TooMany { of: self.part.to_string(), pieces });
        }
        Ok(())
    }
}

impl Cell {
    /// Pieces a day that it takes from the hub.
    fn hub_rate_per_day(&self) -> f64 {
        match self.place {
            Place::Depot { repair: Some(DepotRepair { share, .. }), .. } => self.rate_per_day * (1.0 - share),
            _ => self.rate_per_day,
        }
    }

    /// Mean pieces that are on their way or under repair here and come later than `days` from now; what the hub owes comes on
    /// top (sections 3.2 and 3.4). A limit beyond the order-and-ship time counts as that time.
    fn own_pipeline(&self, days: f64) -> f64 {
        match self.place {
            Place::Hub => 0.0,
            Place::Depot { order_days, repair } => {
                let limit = days.min(order_days);
                let mended = repair.map_or(0.0, |r| self.rate_per_day * r.share * (r.days - limit).max(0.0));
                self.hub_rate_per_day() * (order_days - limit) + mended
            }
        }
    }
}
