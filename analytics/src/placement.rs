//! Placement: which depot gets the hub's pieces, which parts the budget, and how much to buy.
//!
//! Each cell's cost is discretely convex in its position, so giving pieces one by one to the greatest gain is optimal.
//! Source: maths of pre-positioning, sections 4.3, 4.5, 4.6 and 5.5; Fox (1966).

use crate::{demand::DemandLaw, inventory::CellCost};

pub mod flow;

/// A cell that may get pieces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell<'a> {
    /// Its demand over the protection interval.
    pub demand: &'a DemandLaw,
    /// What a piece too many and one too few cost.
    pub cost: CellCost,
    /// Its position before: on hand + on the way - backorders.
    pub position: i64,
    /// tau: extra cost of giving it one piece now.
    pub transport: f64,
}

/// One piece given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Given {
    /// To which cell, by its place.
    pub cell: usize,
    /// What it is worth: gain less transport.
    pub gain: f64,
}

/// A cell that grows: its next gain is known without summing its law again.
struct Growing<'a> {
    cell: Cell<'a>,
    position: i64,
    /// P(D <= position).
    cdf: f64,
}

impl<'a> Growing<'a> {
    fn new(cell: &Cell<'a>) -> Self {
        Self { cell: *cell, position: cell.position, cdf: cell.demand.cdf(cell.position) }
    }

    fn gain(&self) -> f64 {
        self.cell.cost.gain_at(self.cdf) - self.cell.transport
    }

    fn grow(&mut self) {
        self.position += 1;
        let entry = usize::try_from(self.position).ok().and_then(|n| self.cell.demand.pmf().get(n));
        self.cdf = (self.cdf + entry.copied().unwrap_or(0.0)).min(1.0);
    }
}

/// Gives up to `available` pieces of the hub, each to the cell where it is worth most, while it is worth anything.
/// Ties go to the cell that stands first.
#[must_use]
pub fn allocate_hub(cells: &[Cell<'_>], available: u32) -> Vec<Given> {
    let mut growing: Vec<Growing<'_>> = cells.iter().map(Growing::new).collect();
    let mut given = Vec::new();
    for _ in 0..available {
        let Some((cell, gain)) = best(growing.iter().map(Growing::gain).enumerate()) else { break };
        growing[cell].grow();
        given.push(Given { cell, gain });
    }
    given
}

/// The greatest value above zero, the first of equals.
fn best(values: impl Iterator<Item = (usize, f64)>) -> Option<(usize, f64)> {
    values.filter(|(_, value)| *value > 0.0).fold(None, |best, (place, value)| match best {
        Some((_, most)) if value <= most => best,
        _ => Some((place, value)),
    })
}

/// Spends up to `budget` on pieces of `unit_cost` each, by the greatest gain per money; what no longer fits is passed
/// over. Optimal where it ends exactly at the budget, else at most one piece's gain away. Cells without a cost above zero
/// get nothing. `unit_costs` goes with `cells`, place by place.
#[must_use]
pub fn allocate_budget(cells: &[Cell<'_>], unit_costs: &[f64], budget: f64) -> Vec<Given> {
    let mut growing: Vec<Growing<'_>> = cells.iter().map(Growing::new).collect();
    let mut left = budget;
    let mut given = Vec::new();
    loop {
        let ratios = growing.iter().zip(unit_costs).enumerate().filter(|(_, (_, cost))| **cost > 0.0 && **cost <= left);
        let Some((cell, _)) = best(ratios.map(|(place, (cell, cost))| (place, cell.gain() / cost))) else { break };
        given.push(Given { cell, gain: growing[cell].gain() });
        growing[cell].grow();
        left -= unit_costs[cell];
    }
    given
}

/// Pieces per cell of what was given.
#[must_use]
pub fn pieces_per_cell(given: &[Given], cells: usize) -> Vec<u32> {
    let mut pieces = vec![0; cells];
    for piece in given {
        if let Some(count) = pieces.get_mut(piece.cell) {
            *count += 1;
        }
    }
    pieces
}

/// How much of a part the system should hold, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurchaseNeed {
    /// Quantile of the system's demand over supplier lead time, review and depot time.
    pub demand_quantile: u32,
    /// Positions that the depots want at the end of it: without it pieces lie at the wrong depot.
    pub spatial_reserve: u32,
    /// Hub and depots, open orders and expected returns, less backorders.
    pub system_position: i64,
}

impl PurchaseNeed {
    /// Y: what the system should hold.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.demand_quantile.saturating_add(self.spatial_reserve)
    }

    /// Pieces that are missing to the target.
    #[must_use]
    pub fn need(&self) -> u32 {
        let missing = i64::from(self.target()).saturating_sub(self.system_position).max(0);
        u32::try_from(missing).unwrap_or(u32::MAX)
    }
}

/// Pieces to order for `need`: whole packs, at least the minimum order; nothing where nothing is needed.
#[must_use]
pub fn order_quantity(need: u32, minimum_order: Option<u32>, pack_size: Option<u32>) -> u32 {
    if need == 0 {
        return 0;
    }
    let pack = pack_size.unwrap_or(1).max(1);
    need.div_ceil(pack).saturating_mul(pack).max(minimum_order.unwrap_or(0))
}

#[cfg(test)]
mod tests;
