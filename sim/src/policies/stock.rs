//! Where the pieces are: on shelves, on the way, owed; and what moving and missing them cost.

use std::collections::VecDeque;

use super::{Failure, Network};

/// What a policy decides on an evening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Pieces from the hub to a depot. More than the hub has is cut to what it has.
    Send {
        /// Which cell.
        cell: usize,
        /// Pieces.
        pieces: u32,
    },
    /// Pieces from a depot back to the hub. More than the depot has is cut to what it has.
    Return {
        /// Which cell.
        cell: usize,
        /// Pieces.
        pieces: u32,
    },
    /// Pieces from the supplier to the hub.
    Buy {
        /// Which part.
        part: usize,
        /// Pieces.
        pieces: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Arrival {
    AtHub { part: usize, pieces: u32, bought: bool },
    AtDepot { cell: usize, pieces: u32 },
}

/// All pieces of all parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Stock {
    depots: usize,
    /// On the shelf of the hub, by part.
    hub: Vec<u32>,
    /// Ordered from the supplier, by part.
    on_order: Vec<u32>,
    /// On the way back to the hub, by part.
    returning: Vec<u32>,
    /// On the shelf, by cell.
    on_hand: Vec<u32>,
    /// On the way from the hub, by cell.
    in_transit: Vec<u32>,
    /// Day of the last arrival, by cell.
    arrived: Vec<usize>,
    /// Failures that wait for a piece to come to the hub, by part, with the day since.
    waiting: Vec<VecDeque<(usize, Failure)>>,
    /// What arrives on each day.
    due: Vec<Vec<Arrival>>,
    /// Pieces ever bought.
    bought: u64,
    /// Pieces ever used.
    used: u64,
}

/// What was counted over some days.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Days.
    pub days: u32,
    /// Failures.
    pub failures: u32,
    /// Of these served from the depot's shelf.
    pub filled: u32,
    /// Of these served within what was promised.
    pub within_limit: u32,
    /// Emergency shipments.
    pub emergency: u32,
    /// Pieces moved from the hub to a depot or back.
    pub transports: u32,
    /// Of these back.
    pub returns: u32,
    /// Sum over days of the cost of the pieces on hand and on the way.
    pub stock_value_days: f64,
    /// Cost of holding them.
    pub holding: f64,
    /// Cost of transports.
    pub transport: f64,
    /// Cost of emergency shipments.
    pub shipping: f64,
    /// Cost of waiting, penalties included.
    pub waiting: f64,
}

impl Tally {
    /// All costs. Pieces used are not among them: they are the same under every policy.
    #[must_use]
    pub fn total_cost(&self) -> f64 {
        self.holding + self.transport + self.shipping + self.waiting
    }
}

impl Stock {
    /// Empty shelves, for so many days.
    #[must_use]
    pub fn new(network: &Network, days: usize) -> Self {
        let (parts, cells) = (network.parts.len(), network.cells());
        Self {
            depots: network.depots.len(),
            hub: vec![0; parts],
            on_order: vec![0; parts],
            returning: vec![0; parts],
            on_hand: vec![0; cells],
            in_transit: vec![0; cells],
            arrived: vec![0; cells],
            waiting: vec![VecDeque::new(); parts],
            due: vec![Vec::new(); days],
            bought: 0,
            used: 0,
        }
    }

    fn cells_of(&self, part: usize) -> std::ops::Range<usize> {
        part * self.depots..(part + 1) * self.depots
    }

    /// On the shelf of the hub.
    #[must_use]
    pub fn at_hub(&self, part: usize) -> u32 {
        self.hub[part]
    }

    /// On the shelf of a depot.
    #[must_use]
    pub fn on_hand(&self, cell: usize) -> u32 {
        self.on_hand[cell]
    }

    /// Position of a depot: on hand + on the way. A depot owes nothing: what it cannot serve is served from elsewhere.
    #[must_use]
    pub fn position(&self, cell: usize) -> u32 {
        self.on_hand[cell] + self.in_transit[cell]
    }

    /// Day on which the last piece came to a depot.
    #[must_use]
    pub fn last_arrival(&self, cell: usize) -> usize {
        self.arrived[cell]
    }

    /// Position of the whole system: hub, depots, ways and open orders, less what is owed.
    #[must_use]
    pub fn system_position(&self, part: usize) -> i64 {
        let depots: u32 = self.cells_of(part).map(|cell| self.position(cell)).sum();
        let all = self.hub[part] + self.on_order[part] + self.returning[part] + depots;
        i64::from(all) - i64::try_from(self.waiting[part].len()).unwrap_or(i64::MAX)
    }

    /// Pieces ever bought, and those that are used, on shelves, on the way or on order: the same number, always.
    #[must_use]
    pub fn pieces(&self) -> (u64, u64) {
        let places = [&self.hub, &self.on_order, &self.returning, &self.on_hand, &self.in_transit];
        (self.bought, self.used + places.into_iter().flatten().map(|&pieces| u64::from(pieces)).sum::<u64>())
    }

    /// Morning: what is due arrives, and the hub serves who waits, first come first served.
    pub(crate) fn arrive(&mut self, network: &Network, day: usize, tally: &mut Tally) {
        for arrival in std::mem::take(&mut self.due[day]) {
            match arrival {
                Arrival::AtHub { part, pieces, bought } => {
                    *(if bought { &mut self.on_order[part] } else { &mut self.returning[part] }) -= pieces;
                    self.hub[part] += pieces;
                }
                Arrival::AtDepot { cell, pieces } => {
                    self.in_transit[cell] -= pieces;
                    self.on_hand[cell] += pieces;
                    self.arrived[cell] = day;
                }
            }
        }
        for part in 0..self.hub.len() {
            while self.hub[part] > 0 {
                let Some((since, failure)) = self.waiting[part].pop_front() else { break };
                self.hub[part] -= 1;
                self.ship(network, failure, day - since + network.emergency_days, tally);
            }
        }
    }

    /// Day: a failure is served from its depot, else at once from the hub, else from the depot with the most pieces, else it
    /// waits for the hub's next piece.
    pub(crate) fn fail(&mut self, network: &Network, day: usize, failure: Failure, tally: &mut Tally) {
        let part = failure.part;
        let cell = network.cell(part, network.devices[failure.device].depot);
        tally.failures += 1;
        if self.on_hand[cell] > 0 {
            self.on_hand[cell] -= 1;
            self.used += 1;
            tally.filled += 1;
            tally.within_limit += 1;
        } else if self.hub[part] > 0 {
            self.hub[part] -= 1;
            self.ship(network, failure, network.emergency_days, tally);
        } else {
            // The first of equals: the order of depots decides.
            let fullest = self.cells_of(part).rev().max_by_key(|&cell| self.on_hand[cell]);
            match fullest.filter(|&cell| self.on_hand[cell] > 0) {
                Some(other) => {
                    self.on_hand[other] -= 1;
                    self.ship(network, failure, network.emergency_days, tally);
                }
                None => self.waiting[part].push_back((day, failure)),
            }
        }
    }

    fn ship(&mut self, network: &Network, failure: Failure, wait_days: usize, tally: &mut Tally) {
        self.used += 1;
        tally.emergency += 1;
        tally.shipping += network.depots[network.devices[failure.device].depot].emergency_cost;
        tally.waiting += network.waiting_cost(failure.device, wait_days);
        tally.within_limit += u32::from(network.within_limit(failure.device, wait_days));
    }

    /// Evening: orders are carried out. `at_once`: bought pieces are at the hub immediately, as on the day that the network opens.
    pub(crate) fn carry_out(&mut self, network: &Network, day: usize, order: Order, at_once: bool, tally: &mut Tally) {
        match order {
            Order::Send { cell, pieces } => {
                let (part, depot) = (cell / self.depots, &network.depots[cell % self.depots]);
                let pieces = pieces.min(self.hub[part]);
                self.hub[part] -= pieces;
                self.in_transit[cell] += pieces;
                tally.transports += pieces;
                tally.transport += f64::from(pieces) * depot.ship_cost;
                self.schedule(day + depot.ship_days, Arrival::AtDepot { cell, pieces });
            }
            Order::Return { cell, pieces } => {
                let (part, depot) = (cell / self.depots, &network.depots[cell % self.depots]);
                let pieces = pieces.min(self.on_hand[cell]);
                self.on_hand[cell] -= pieces;
                self.returning[part] += pieces;
                tally.transports += pieces;
                tally.returns += pieces;
                tally.transport += f64::from(pieces) * depot.ship_cost;
                self.schedule(day + depot.ship_days, Arrival::AtHub { part, pieces, bought: false });
            }
            Order::Buy { part, pieces } => {
                self.bought += u64::from(pieces);
                if at_once {
                    self.hub[part] += pieces;
                } else {
                    self.on_order[part] += pieces;
                    let day = day + network.parts[part].supplier_days;
                    self.schedule(day, Arrival::AtHub { part, pieces, bought: true });
                }
            }
        }
    }

    /// What arrives after the last day is never seen.
    fn schedule(&mut self, day: usize, arrival: Arrival) {
        if let Some(due) = self.due.get_mut(day) {
            due.push(arrival);
        }
    }

    /// Night: what the day cost to hold.
    pub(crate) fn account(&self, network: &Network, tally: &mut Tally) {
        let value: f64 = (0..self.hub.len())
            .map(|part| {
                let depots: u32 = self.cells_of(part).map(|cell| self.position(cell)).sum();
                network.parts[part].unit_cost * f64::from(self.hub[part] + self.returning[part] + depots)
            })
            .sum();
        tally.days += 1;
        tally.stock_value_days += value;
        tally.holding += value * network.holding_rate_per_year / super::network::DAYS_PER_YEAR;
    }
}
