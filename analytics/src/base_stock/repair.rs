//! The return loop: how long the hub waits for a piece that is mended or bought (section 3.3).

use super::{Error, amount};

/// Utilisation of a repair shop below which waiting for a place does not count.
const AMPLE: f64 = 0.7;

/// What becomes of a failed piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReturnLoop {
    /// rho: share that comes back and can be mended, 0..=1; 0 for consumables.
    pub mended: f64,
    /// Days from failure to shelf of a piece that is mended, return shipment included.
    pub repair_days: f64,
    /// L: supplier lead time to the hub in days.
    pub lead_days: f64,
}

impl ReturnLoop {
    /// T0 = rho T_rep + (1 - rho) L: only the mean counts (Palm).
    ///
    /// # Errors
    /// [`Error::Share`], [`Error::Amount`] where something is no share or no time.
    pub fn resupply_days(&self) -> Result<f64, Error> {
        if !(0.0..=1.0).contains(&self.mended) {
            return Err(Error::Share { name: "share of pieces that are mended", value: self.mended });
        }
        let of = || "the return loop".to_owned();
        let repair = if self.mended > 0.0 { amount("days of repair", self.repair_days, of)? } else { 0.0 };
        let lead = if self.mended < 1.0 { amount("supplier lead time", self.lead_days, of)? } else { 0.0 };
        Ok(self.mended * repair + (1.0 - self.mended) * lead)
    }

    /// Pieces a day that must be bought for a demand of `hub_rate_per_day`.
    #[must_use]
    pub fn purchases_per_day(&self, hub_rate_per_day: f64) -> f64 {
        hub_rate_per_day * (1.0 - self.mended)
    }
}

/// Mean days of a piece in a repair shop with `servers` places: the repair itself, and above a utilisation of 0.7 the wait for
/// a place (M/M/c).
///
/// * `arrivals_per_day`: pieces that come to be mended    * `repair_days`: days that one takes once begun
///
/// # Errors
/// [`Error::Amount`]; [`Error::Overloaded`] where more comes than can be done.
/// # Source
/// Erlang C: `C = B / (1 - u (1 - B))`, wait = `C repair_days / (servers - load)`.
pub fn repair_sojourn_days(arrivals_per_day: f64, repair_days: f64, servers: u32) -> Result<f64, Error> {
    let of = || "the repair shop".to_owned();
    amount("arrival rate", arrivals_per_day, of)?;
    amount("days of repair", repair_days, of)?;
    let load = arrivals_per_day * repair_days;
    let places = f64::from(servers);
    if load >= places && load > 0.0 {
        return Err(Error::Overloaded { load, servers });
    }
    if load < AMPLE * places || load == 0.0 {
        return Ok(repair_days);
    }
    let lost = erlang_loss(servers, load);
    let waits = lost / (1.0 - load / places * (1.0 - lost));
    Ok(repair_days + waits * repair_days / (places - load))
}

/// Erlang's loss B(S, a): share of demands that find all of `servers` taken, at `load` a.
pub(super) fn erlang_loss(servers: u32, load: f64) -> f64 {
    let mut lost = 1.0;
    for server in 1..=servers {
        lost = load * lost / (f64::from(server) + load * lost);
        // Nothing is left to fall: a million pieces cost no more than these.
        if lost == 0.0 {
            break;
        }
    }
    lost
}
