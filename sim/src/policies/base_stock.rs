//! Base-stock levels by VARI-METRIC from estimated rates, and how a network is kept at its levels.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use harbinger_analytics::base_stock::{Cell, Claim, Goal, Item, Levels as Chosen, Measure, Place, optimise};
use harbinger_core::{DepotId, PartId, ids::InvalidId};

use super::{Error, Network, Order, Part, Stock};

/// Levels of all parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    /// S_j of each cell.
    pub(crate) cells: Vec<u32>,
    /// Of each part what the system holds: hub and depots.
    pub(crate) system: Vec<u32>,
}

/// Levels that avoid a share of all shortage costs for the least money in stock.
///
/// * `rates_per_day`: of each cell.
/// * `service`: the share, below 1. Demand counts by what missing it costs, so that the levels look at the same money as the outcome.
/// * `hub`: the hub's level is raised by so many standard deviations of what it waits for; the levels themselves suppose that a
///   depot waits for the hub, while here it is served by an emergency shipment.
pub(crate) fn levels(
    network: &Network,
    rates_per_day: &[f64],
    service: f64,
    hub: f64,
    known: &Known,
) -> Result<Levels, Error> {
    let items = items(network, rates_per_day)?;
    let chosen = known.chosen(&items, rates_per_day, service)?;
    let mut levels = Levels { cells: vec![0; network.cells()], system: vec![0; network.parts.len()] };
    for ((part, item), of_part) in items.iter().enumerate().zip(chosen.iter()) {
        let deviation = (item.hub_rate_per_day() * item.resupply_days).sqrt();
        let at_hub = (f64::from(of_part.hub) + hub * deviation).round().max(0.0) as u32;
        for (depot, &level) in of_part.cells.iter().enumerate() {
            levels.cells[network.cell(part, depot)] = level;
        }
        levels.system[part] = at_hub + of_part.cells.iter().sum::<u32>();
    }
    Ok(levels)
}

/// Levels of one network that were chosen before: failures are the same under all settings of a policy, so that most are asked for
/// again and again.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<Vec<u64>, Arc<Vec<Chosen>>>>);

impl Known {
    /// Of each part. Threads that ask at the same time may both reckon, and come to the same.
    fn chosen(&self, items: &[Item], rates_per_day: &[f64], service: f64) -> Result<Arc<Vec<Chosen>>, Error> {
        let asked: Vec<u64> = rates_per_day.iter().chain([&service]).map(|number| number.to_bits()).collect();
        // Nothing can be half-way in the map when a thread panics.
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&asked) {
            return Ok(Arc::clone(known));
        }
        let claims = items.iter().flat_map(|item| &item.cells).flat_map(|cell| &cell.claims);
        let all: f64 = claims.map(|claim| claim.weight).sum();
        let chosen = Arc::new(optimise(items, &Goal::Totals(vec![service * all]))?.levels);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, Arc::clone(&chosen));
        Ok(chosen)
    }
}

fn items(network: &Network, rates_per_day: &[f64]) -> Result<Vec<Item>, InvalidId> {
    let costs = network.shortage_costs();
    let cell = |part: usize, depot: usize| {
        let rate_per_day = rates_per_day[network.cell(part, depot)];
        let weight = rate_per_day * costs[depot];
        Ok(Cell {
            depot: DepotId::parse(&format!("depot-{depot:02}"))?,
            rate_per_day,
            place: Place::Depot { order_days: network.depots[depot].ship_days as f64, repair: None },
            claims: vec![Claim { group: 0, weight, measure: Measure::WithinLimit { days: 0.0 } }],
        })
    };
    let item = |(part, of): (usize, &Part)| {
        Ok(Item {
            part: PartId::parse(of.name)?,
            unit_cost: of.unit_cost,
            resupply_days: of.supplier_days as f64,
            pack_size: 1,
            cells: (0..network.depots.len()).map(|depot| cell(part, depot)).collect::<Result<_, InvalidId>>()?,
        })
    };
    network.parts.iter().enumerate().map(item).collect()
}

/// Fills depots up to what is wanted, the emptiest first and of equals the first, as far as the hub has pieces. `sent` is what
/// the same evening's orders took already, by cell.
pub(crate) fn replenish(
    network: &Network,
    stock: &Stock,
    part: usize,
    wanted: &[u32],
    sent: &[u32],
    orders: &mut Vec<Order>,
) {
    let cells = network.cell(part, 0)..network.cell(part + 1, 0);
    let position = |cell: usize| stock.position(cell) + sent[cell];
    let mut left = stock.at_hub(part).saturating_sub(cells.clone().map(|cell| sent[cell]).sum());
    let mut missing: Vec<(u32, usize)> =
        cells.filter(|&cell| position(cell) < wanted[cell]).map(|cell| (position(cell), cell)).collect();
    missing.sort_unstable();
    for (position, cell) in missing {
        let pieces = (wanted[cell] - position).min(left);
        if pieces > 0 {
            orders.push(Order::Send { cell, pieces });
            left -= pieces;
        }
    }
}

/// Buys what the system lacks.
pub(crate) fn buy(stock: &Stock, part: usize, wanted: u32, orders: &mut Vec<Order>) {
    let missing = i64::from(wanted) - stock.system_position(part);
    if let Ok(pieces @ 1..) = u32::try_from(missing) {
        orders.push(Order::Buy { part, pieces });
    }
}
