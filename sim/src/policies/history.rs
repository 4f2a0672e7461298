//! What is known of past failures: counts by cell and month, and the rates that are estimated from them.

use harbinger_analytics::{
    demand::syntetos_boylan,
    lifetime::{self, RatePrior},
};

use super::{Failure, Network};

/// Days of a period of the series that forecasts are made from.
pub(crate) const PERIOD_DAYS: usize = 30;
/// Smoothing constant of the forecast by Syntetos and Boylan.
const SMOOTHING: f64 = 0.1;
/// A cell's own failures count against those of its part everywhere as much as so many failures would.
const PRIOR_FAILURES: f64 = 5.0;

/// Failures up to a day.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    days: usize,
    /// Failures of each cell in each period.
    periods: Vec<Vec<u32>>,
    slots: Vec<u32>,
    depots: usize,
}

/// Forecast of a cell by Syntetos and Boylan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Pieces a day.
    pub mean_per_day: f64,
    /// Variance of a day's pieces, by the forecast's own errors.
    pub variance_per_day: f64,
}

impl History {
    /// Nothing yet.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let slots = network.parts.iter().flat_map(|_| &network.depots);
        Self {
            days: 0,
            periods: vec![Vec::new(); network.cells()],
            slots: slots.map(|depot| u32::try_from(depot.devices).unwrap_or(u32::MAX)).collect(),
            depots: network.depots.len(),
        }
    }

    /// Adds a day's failures.
    pub fn add(&mut self, network: &Network, failures: &[Failure]) {
        if self.days.is_multiple_of(PERIOD_DAYS) {
            self.periods.iter_mut().for_each(|periods| periods.push(0));
        }
        self.days += 1;
        for failure in failures {
            let cell = network.cell(failure.part, network.devices[failure.device].depot);
            if let Some(count) = self.periods[cell].last_mut() {
                *count += 1;
            }
        }
    }

    /// Rates a day of each cell: its own failures with those of its part at all depots as prior (section 5.7).
    ///
    /// # Errors
    /// [`lifetime::Error`] where no day has passed.
    pub fn rates_per_day(&self) -> Result<Vec<f64>, lifetime::Error> {
        let days = self.days as f64;
        let mut rates = Vec::with_capacity(self.periods.len());
        for (cells, slots) in self.periods.chunks(self.depots.max(1)).zip(self.slots.chunks(self.depots.max(1))) {
            let failures = |cell: &Vec<u32>| cell.iter().sum::<u32>();
            let all = slots.iter().sum::<u32>();
            let prior = RatePrior::of_class(cells.iter().map(failures).sum(), f64::from(all) * days, PRIOR_FAILURES)?;
            for (cell, &slots) in cells.iter().zip(slots) {
                let slots = f64::from(slots);
                rates.push(slots * prior.rate_per_day(failures(cell), slots * days));
            }
        }
        Ok(rates)
    }

    /// Forecast of one cell from its own whole periods.
    #[must_use]
    pub fn forecast(&self, cell: usize) -> Forecast {
        self.forecast_of(&self.series(cell))
    }

    /// Forecast of a part over all depots.
    #[must_use]
    pub fn forecast_of_part(&self, part: usize) -> Forecast {
        let cells: Vec<Vec<f64>> =
            (part * self.depots..(part + 1) * self.depots).map(|cell| self.series(cell)).collect();
        let whole = self.days / PERIOD_DAYS;
        let sums: Vec<f64> = (0..whole).map(|period| cells.iter().map(|cell| cell[period]).sum()).collect();
        self.forecast_of(&sums)
    }

    fn series(&self, cell: usize) -> Vec<f64> {
        self.periods[cell].iter().take(self.days / PERIOD_DAYS).map(|&count| f64::from(count)).collect()
    }

    fn forecast_of(&self, series: &[f64]) -> Forecast {
        let period = PERIOD_DAYS as f64;
        let mean = syntetos_boylan(series, SMOOTHING);
        let errors = series.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / series.len().max(1) as f64;
        Forecast { mean_per_day: mean / period, variance_per_day: errors.max(mean) / period }
    }
}
