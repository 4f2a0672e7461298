//! Policy of perfect information: every piece comes to its depot in the morning of the day that it is needed. The bound.

use super::{
    Controller, Error, Evening, Luck, Network, Order,
    base_stock::{buy, replenish},
};

/// The policy.
#[derive(Debug)]
pub(crate) struct Perfect {
    /// Failures of each cell before each day.
    before: Vec<Vec<u32>>,
}

impl Perfect {
    pub(crate) fn new(network: &Network, luck: &Luck) -> Self {
        let days = luck.failures.len();
        let mut before = vec![vec![0; days + 1]; network.cells()];
        for (day, failures) in luck.failures.iter().enumerate() {
            for counts in &mut before {
                counts[day + 1] = counts[day];
            }
            for failure in failures {
                before[network.cell(failure.part, network.devices[failure.device].depot)][day + 1] += 1;
            }
        }
        Self { before }
    }

    /// Failures of a cell in the `days` days after `day`.
    fn coming(&self, cell: usize, day: usize, days: usize) -> u32 {
        let before = &self.before[cell];
        let at = |day: usize| before.get(day).or(before.last()).copied().unwrap_or(0);
        at(day + days + 1) - at(day + 1)
    }
}

impl Controller for Perfect {
    fn decide(&mut self, evening: &Evening<'_>) -> Result<Vec<Order>, Error> {
        let Evening { day, network, stock, .. } = *evening;
        let depots = network.depots.len();
        let wanted: Vec<u32> =
            (0..network.cells()).map(|cell| self.coming(cell, day, network.depots[cell % depots].ship_days)).collect();
        let sent = vec![0; network.cells()];
        let mut orders = Vec::new();
        for (part, of) in network.parts.iter().enumerate() {
            replenish(network, stock, part, &wanted, &sent, &mut orders);
            let system = network
                .depots
                .iter()
                .enumerate()
                .map(|(depot, at)| self.coming(network.cell(part, depot), day, of.supplier_days + at.ship_days));
            buy(stock, part, system.sum(), &mut orders);
        }
        Ok(orders)
    }
}
