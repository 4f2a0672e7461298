//! Pooling: depots that help each other by lateral transshipment before the hub sends in an emergency (section 3.5).

use super::{Error, amount, repair::erlang_loss};

/// Changes of the shares below this end the iteration.
const SETTLED: f64 = 1e-8;

/// Rounds after which it ends in any case; 10 to 30 are usual.
const MOST_ROUNDS: u32 = 1_000;

/// A depot of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PooledDepot {
    /// m: demand a day.
    pub rate_per_day: f64,
    /// t: days until a piece taken is replaced.
    pub replenish_days: f64,
    /// S: base stock.
    pub level: u32,
    /// kappa: the main depots that it asks, in order, by their place.
    pub helpers: Vec<usize>,
}

/// How a depot's demand is served.
#[derive(Debug, Clone, PartialEq)]
pub struct PooledService {
    /// beta: share from own stock.
    pub own: f64,
    /// alpha: share from each helper, in its order.
    pub lateral: Vec<f64>,
    /// theta: share that the hub sends in an emergency.
    pub emergency: f64,
    /// Demand a day that the depot's stock sees, that of others included.
    pub total_rate_per_day: f64,
}

/// Service of each depot of a pool, each an Erlang loss system whose overflow is taken as Poisson.
///
/// # Errors
/// [`Error::Amount`]; [`Error::Pooling`] for a helper that is not there, is the depot itself or is named twice.
/// # Source
/// Kranenburg and van Houtum (2009).
pub fn pooled_service(depots: &[PooledDepot]) -> Result<Vec<PooledService>, Error> {
    check(depots)?;
    let mut rates: Vec<f64> = depots.iter().map(|depot| depot.rate_per_day).collect();
    let own = |rates: &[f64]| -> Vec<f64> {
        let share = |(depot, rate): (&PooledDepot, &f64)| 1.0 - erlang_loss(depot.level, rate * depot.replenish_days);
        depots.iter().zip(rates).map(share).collect()
    };
    let mut shares = own(&rates);
    for _ in 0..MOST_ROUNDS {
        rates = depots.iter().map(|depot| depot.rate_per_day).collect();
        for (place, depot) in depots.iter().enumerate() {
            let mut overflow = depot.rate_per_day * (1.0 - shares[place]);
            for &helper in &depot.helpers {
                rates[helper] += overflow;
                overflow *= 1.0 - shares[helper];
            }
        }
        let next = own(&rates);
        let change = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        shares = next;
        if change < SETTLED {
            break;
        }
    }
    Ok(depots.iter().enumerate().map(|(place, depot)| service(place, depot, &shares, rates[place])).collect())
}

fn service(place: usize, depot: &PooledDepot, shares: &[f64], total_rate_per_day: f64) -> PooledService {
    let mut left = 1.0 - shares[place];
    let lateral = depot
        .helpers
        .iter()
        .map(|&helper| {
            let served = left * shares[helper];
            left *= 1.0 - shares[helper];
            served
        })
        .collect();
    PooledService { own: shares[place], lateral, emergency: left, total_rate_per_day }
}

fn check(depots: &[PooledDepot]) -> Result<(), Error> {
    for (place, depot) in depots.iter().enumerate() {
        let of = || format!("depot {place} of the pool");
        amount("demand rate", depot.rate_per_day, of)?;
        amount("replenishment time", depot.replenish_days, of)?;
        for (order, &helper) in depot.helpers.iter().enumerate() {
            let why = if helper >= depots.len() {
                "is not there"
            } else if helper == place {
                "is itself"
            } else if depot.helpers[..order].contains(&helper) {
                "is named twice"
            } else {
                continue;
            };
            return Err(Error::Pooling { depot: place, helper, why });
        }
    }
    Ok(())
}
