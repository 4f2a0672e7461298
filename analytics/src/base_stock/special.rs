//! Special cases: the last buy of a part (section 5.3) and stock kept for the dearer contracts (section 5.6).

use super::{Error, amount};
use crate::{
    demand::{self, DemandLaw, negative_binomial},
    inventory::CellCost,
};

/// The need of a part from its last buy to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastBuy {
    /// N_0: devices now.
    pub installed: f64,
    /// lambda: pieces a device needs a year.
    pub rate_per_device_year: f64,
    /// delta: share of the devices that leave a year.
    pub attrition_per_year: f64,
    /// Y: years that must be covered.
    pub years: f64,
    /// phi: variance of the relative error of the whole.
    pub common_factor: f64,
}

impl LastBuy {
    /// Law of the pieces needed: mean `N_0 lambda (1 - e^(-delta Y)) / delta`, variance `mean + phi mean^2`.
    ///
    /// # Errors
    /// [`Error::Amount`]; [`Error::Demand`] where it is more than a law can hold.
    pub fn demand(&self) -> Result<DemandLaw, Error> {
        let of = || "the last buy".to_owned();
        amount("number of devices", self.installed, of)?;
        amount("rate", self.rate_per_device_year, of)?;
        amount("attrition", self.attrition_per_year, of)?;
        amount("number of years", self.years, of)?;
        amount("common factor", self.common_factor, of)?;
        let fading = self.attrition_per_year * self.years;
        let device_years = if fading > 0.0 { -(-fading).exp_m1() / self.attrition_per_year } else { self.years };
        let mean = self.installed * self.rate_per_device_year * device_years;
        let demand = |source: demand::Error| Error::Demand { of: of(), source };
        negative_binomial(mean, mean + self.common_factor * mean * mean).map_err(demand)
    }

    /// Q: pieces to buy beside `usable` ones, by the critical ratio (pi - c) / (pi - s).
    ///
    /// * `alternative`: pi, what a piece costs that was not bought    * `unit_cost`: c    * `salvage`: s, what one too many brings
    ///
    /// # Errors
    /// Those of [`LastBuy::demand`].
    pub fn quantity(&self, alternative: f64, unit_cost: f64, salvage: f64, usable: u32) -> Result<u32, Error> {
        let of = || "the last buy".to_owned();
        amount("cost of the alternative", alternative, of)?;
        amount("unit cost", unit_cost, of)?;
        amount("salvage value", salvage, of)?;
        if alternative <= unit_cost {
            // Buying now is no cheaper than helping oneself later.
            return Ok(0);
        }
        let ratio = (alternative - unit_cost) / (alternative - salvage.min(unit_cost));
        Ok(self.demand()?.quantile(ratio).saturating_sub(usable))
    }
}

/// k: the last pieces of a stock that are kept for the contracts with the dearer downtime.
///
/// A piece is kept while the next one for them is worth more than a demand of the others costs:
/// `gain_high(k - 1) > shortage_low`. `demand` is that of the dearer contracts until the stock is filled up again.
#[must_use]
pub fn critical_level(demand: &DemandLaw, dearer: CellCost, shortage_low: f64) -> u32 {
    // Gains fall with the level, and are negative beyond the best position.
    let most = dearer.best_position(demand);
    (0..most).take_while(|&level| dearer.gain_of_next(demand, i64::from(level)) > shortage_low).count() as u32
}
