//! Policy (s, S) by the forecast of Syntetos and Boylan: each cell by its own history and a service factor.

use super::{
    Controller, Error, Evening, Order, Settings,
    base_stock::{buy, replenish},
    history::{Forecast, PERIOD_DAYS},
};

/// Demand of so many days is ordered at once, at least a piece.
const LOT_DAYS: f64 = 7.0;

/// The policy.
#[derive(Debug)]
pub(crate) struct SbaSs {
    settings: Settings,
    /// s and S of each cell.
    cells: Vec<(u32, u32)>,
    /// s and S of each part over the whole system.
    system: Vec<(u32, u32)>,
    reviewed: Option<usize>,
}

impl SbaSs {
    /// `settings.service` and `settings.hub`: standard deviations of the demand over the lead time that are kept above its mean, at depots and
    /// in the system.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, cells: Vec::new(), system: Vec::new(), reviewed: None }
    }

    fn review(&mut self, evening: &Evening<'_>) {
        let network = evening.network;
        self.cells.clear();
        self.system.clear();
        for (part, of) in network.parts.iter().enumerate() {
            let mut at_depots = 0;
            for (depot, at) in network.depots.iter().enumerate() {
                let forecast = evening.history.forecast(network.cell(part, depot));
                let levels = levels(forecast, at.ship_days, self.settings.service);
                at_depots += levels.1;
                self.cells.push(levels);
            }
            let forecast = evening.history.forecast_of_part(part);
            let (reorder, up_to) = levels(forecast, of.supplier_days, self.settings.hub);
            self.system.push((reorder + at_depots, up_to + at_depots));
        }
    }
}

/// s and S of a stock that waits `lead_days`.
fn levels(forecast: Forecast, lead_days: usize, factor: f64) -> (u32, u32) {
    let days = lead_days as f64 + 1.0;
    let wanted = forecast.mean_per_day * days + factor * (forecast.variance_per_day * days).sqrt();
    let up_to = wanted.round().max(0.0) as u32;
    let lot = (forecast.mean_per_day * LOT_DAYS).round().max(1.0) as u32;
    (up_to.saturating_sub(lot), up_to)
}

impl Controller for SbaSs {
    fn decide(&mut self, evening: &Evening<'_>) -> Result<Vec<Order>, Error> {
        let period = evening.day / PERIOD_DAYS;
        if self.reviewed != Some(period) {
            self.review(evening);
            self.reviewed = Some(period);
        }
        let stock = evening.stock;
        // A cell above its reorder point asks for nothing.
        let wanted: Vec<u32> = self
            .cells
            .iter()
            .enumerate()
            .map(|(cell, &(reorder, up_to))| if stock.position(cell) <= reorder { up_to } else { 0 })
            .collect();
        let sent = vec![0; wanted.len()];
        let mut orders = Vec::new();
        for (part, &(reorder, up_to)) in self.system.iter().enumerate() {
            replenish(evening.network, stock, part, &wanted, &sent, &mut orders);
            if stock.system_position(part) <= i64::from(reorder) {
                buy(stock, part, up_to, &mut orders);
            }
        }
        Ok(orders)
    }
}
