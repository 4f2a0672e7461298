//! Policy of base stock by VARI-METRIC from estimated rates: one piece ordered for each piece taken.

use super::{
    Controller, Error, Evening, Order, Settings,
    base_stock::{Known, Levels, buy, levels, replenish},
};

/// Days between two reckonings of the levels.
pub(crate) const REVIEW_DAYS: usize = 182;

/// The policy.
#[derive(Debug)]
pub(crate) struct VariMetric<'a> {
    settings: Settings,
    known: &'a Known,
    levels: Option<(usize, Levels)>,
}

impl<'a> VariMetric<'a> {
    /// `settings.service` and `settings.hub` as in [`levels`].
    pub(crate) fn new(settings: Settings, known: &'a Known) -> Self {
        Self { settings, known, levels: None }
    }
}

impl Controller for VariMetric<'_> {
    fn decide(&mut self, evening: &Evening<'_>) -> Result<Vec<Order>, Error> {
        let Evening { day, network, stock, history, .. } = *evening;
        let current = match self.levels.take() {
            Some((since, levels)) if day < since + REVIEW_DAYS => (since, levels),
            _ => {
                (day, levels(network, &history.rates_per_day()?, self.settings.service, self.settings.hub, self.known)?)
            }
        };
        let (_, levels) = self.levels.insert(current);
        let sent = vec![0; network.cells()];
        let mut orders = Vec::new();
        for (part, &system) in levels.system.iter().enumerate() {
            replenish(network, stock, part, &levels.cells, &sent, &mut orders);
            buy(stock, part, system, &mut orders);
        }
        Ok(orders)
    }
}
