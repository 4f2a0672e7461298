//! What parts share: lanes that cost a sum for each shipment, room in shipments and depots, and the money for purchases.
//!
//! Source: maths of pre-positioning, section 4.6.

use std::collections::BTreeMap;

use harbinger_core::fleet::Fleet;

use super::{DepotId, PartId, PurchaseProposal, TransferKind, TransferProposal, Verdict, network::Network, part::Seen};
use crate::{
    inventory::Valuation,
    placement::{Cell, allocate_budget, order_quantity, pieces_per_cell},
};

/// A transfer before lanes are paid for.
pub(super) struct Sent {
    pub(super) proposal: TransferProposal,
    /// Share of its worth that would be left a day later.
    pub(super) survives: f64,
    /// Somebody waits for it.
    pub(super) is_owed: bool,
}

/// A purchase before the budget is divided.
pub(super) struct Bought {
    pub(super) proposal: PurchaseProposal,
    /// Demand of the system until the supplier delivers, and its prices.
    pub(super) value: Valuation,
    /// Position of the system less the spatial reserve.
    pub(super) usable: i64,
    pub(super) unit_cost: f64,
    pub(super) minimum: Option<u32>,
    pub(super) pack: Option<u32>,
}

/// Transfers whose lanes are worth their fixed cost today; cells whose shipment waits say so.
///
/// A lane is used today where what its pieces save is more than the part of its cost that a day's wait would not save again, or
/// where somebody waits for one of them. Nobody waits for what goes back: it waits until it pays the whole. A piece between depots pays
/// for its lane by itself before it is moved at all.
pub(super) fn pay_for_lanes(sent: Vec<Sent>, network: &Network<'_>, cells: &mut [Seen]) -> Vec<TransferProposal> {
    #[derive(Default)]
    struct Load {
        worth: f64,
        surviving: f64,
        is_owed: bool,
    }
    let mut loads: BTreeMap<(&DepotId, &DepotId), Load> = BTreeMap::new();
    for Sent { proposal, survives, is_owed } in &sent {
        let load = loads.entry((&proposal.from, &proposal.to)).or_default();
        load.worth += proposal.worth;
        load.surviving += survives * proposal.worth;
        load.is_owed |= is_owed;
    }
    let waits = |proposal: &TransferProposal| {
        let lane = network.lane(&proposal.from, &proposal.to);
        let fixed = lane.and_then(|lane| lane.fixed_cost).unwrap_or(0.0);
        let is_free = fixed <= 0.0 || proposal.kind == TransferKind::Lateral;
        let Some(load) = loads.get(&(&proposal.from, &proposal.to)).filter(|load| !is_free && !load.is_owed) else {
            return false;
        };
        let survives = if load.worth > 0.0 { (load.surviving / load.worth).clamp(0.0, 1.0) } else { 0.0 };
        load.worth <= fixed * (1.0 - survives)
    };
    let waiting: Vec<bool> = sent.iter().map(|sent| waits(&sent.proposal)).collect();
    drop(loads);
    if !waiting.contains(&true) {
        return sent.into_iter().map(|sent| sent.proposal).collect();
    }
    let places = places_of(cells);
    for (held, _) in sent.iter().zip(&waiting).filter(|(_, waits)| **waits) {
        let one = &held.proposal;
        Touched::of(one, &places).stay(one, one.quantity, Verdict::ShipmentWaits, cells);
    }
    sent.into_iter().zip(waiting).filter(|(_, waits)| !waits).map(|(sent, _)| sent.proposal).collect()
}

/// Leaves out of the transfers what does not fit into the shipments of their lanes and the depots that they go to: piece by piece, the
/// least worth first, and its cell says so. Pieces for which somebody waits are worth most and go last.
pub(super) fn keep_to_capacity(sent: &mut Vec<Sent>, fleet: &Fleet, cells: &mut [Seen]) {
    let lanes = fleet.lanes.iter().filter_map(|lane| Some((lane, i64::from(lane.capacity?))));
    let depots = fleet.depots.iter().filter_map(|depot| Some((depot, i64::from(depot.capacity?))));
    let (mut lanes, mut depots) = (lanes.peekable(), depots.peekable());
    if lanes.peek().is_none() && depots.peek().is_none() {
        return;
    }
    let places = places_of(cells);
    for (lane, capacity) in lanes {
        let meant = |one: &TransferProposal| one.from == lane.from && one.to == lane.to;
        leave_out(sent, cells, &places, capacity, meant);
    }
    for (depot, capacity) in depots {
        let here = cells.iter().filter(|seen| seen.report.depot == depot.depot);
        let stays: i64 = here.map(|seen| seen.report.position.max(0) - i64::from(seen.report.taken)).sum();
        let meant = |one: &TransferProposal| one.to == depot.depot && one.kind != TransferKind::Return;
        leave_out(sent, cells, &places, capacity - stays, meant);
    }
    sent.retain(|one| one.proposal.quantity > 0);
}

/// Where the cell of each part and depot stands.
fn places_of(cells: &[Seen]) -> BTreeMap<(PartId, DepotId), usize> {
    let place = |(place, seen): (usize, &Seen)| ((seen.report.part.clone(), seen.report.depot.clone()), place);
    cells.iter().enumerate().map(place).collect()
}

/// The cells that a transfer changes, by their places.
#[derive(Clone, Copy)]
struct Touched {
    /// Whose devices it serves.
    taker: Option<usize>,
    /// Its part's shelf where it goes.
    shelf: Option<usize>,
    /// Its part's shelf where it leaves.
    giver: Option<usize>,
}

impl Touched {
    fn of(one: &TransferProposal, places: &BTreeMap<(PartId, DepotId), usize>) -> Self {
        let at = |part: &PartId, depot: &DepotId| places.get(&(part.clone(), depot.clone())).copied();
        Self {
            taker: at(one.substitutes_for.as_ref().unwrap_or(&one.part), &one.to),
            shelf: at(&one.part, &one.to),
            giver: at(&one.part, &one.from),
        }
    }

    /// So many pieces of the transfer stay where they are, for a reason.
    fn stay(self, one: &TransferProposal, pieces: u32, why: Verdict, cells: &mut [Seen]) {
        if let Some(shelf) = self.shelf {
            cells[shelf].report.sent -= pieces;
            if one.substitutes_for.is_some() {
                cells[shelf].report.substitutes -= pieces;
            }
        }
        if let Some(taker) = self.taker {
            if one.substitutes_for.is_some() {
                cells[taker].report.substituted -= pieces;
            }
            cells[taker].report.verdict = why;
        }
        if let Some(giver) = self.giver {
            cells[giver].report.taken -= pieces;
        }
        for changed in [self.taker, self.shelf, self.giver].into_iter().flatten() {
            cells[changed].reckon();
        }
    }
}

/// Leaves out pieces of the transfers that are meant until no more than `room` are left.
fn leave_out(
    sent: &mut [Sent],
    cells: &mut [Seen],
    places: &BTreeMap<(PartId, DepotId), usize>,
    room: i64,
    is_meant: impl Fn(&TransferProposal) -> bool,
) {
    let mut meant: Vec<(&mut TransferProposal, Touched)> = sent
        .iter_mut()
        .map(|one| &mut one.proposal)
        .filter(|one| is_meant(one))
        .map(|one| {
            let touched = Touched::of(one, places);
            (one, touched)
        })
        .collect();
    let mut pieces: i64 = meant.iter().map(|(one, _)| i64::from(one.quantity)).sum();
    while pieces > room.max(0) {
        let worth = |touched: &Touched| touched.taker.map_or(0.0, |taker| cells[taker].gain_of_last());
        let left = meant.iter().enumerate().filter(|(_, (one, _))| one.quantity > 0);
        let least = left.map(|(place, (_, touched))| (place, worth(touched))).min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((place, worth)) = least else { return };
        let (one, touched) = &mut meant[place];
        let piece = one.cost / f64::from(one.quantity);
        // A piece from next door stays where it is worth something, and its way costs nothing.
        let stays = touched.giver.filter(|_| one.kind == TransferKind::Lateral);
        let saved = worth - stays.map_or(0.0, |giver| cells[giver].report.worth_of_next + piece);
        touched.stay(one, 1, Verdict::NoRoom, cells);
        one.quantity -= 1;
        one.cost -= piece;
        one.worth -= saved;
        one.cost_if_sent += saved;
        pieces -= 1;
    }
}

/// Purchases that fit into the budget, piece by piece by the greatest gain for the money, in whole packs and least orders; all
/// where there is none.
pub(super) fn keep_to_budget(bought: Vec<Bought>, budget: Option<f64>) -> Vec<PurchaseProposal> {
    let total: f64 = bought.iter().map(|bought| bought.proposal.cost).sum();
    let Some(budget) = budget.filter(|budget| total > *budget) else {
        return bought.into_iter().map(|bought| bought.proposal).collect();
    };
    let cells: Vec<Cell<'_>> = bought
        .iter()
        .map(|bought| Cell {
            demand: &bought.value.demand,
            cost: bought.value.cost,
            position: bought.usable,
            transport: 0.0,
        })
        .collect();
    let unit_costs: Vec<f64> = bought.iter().map(|bought| bought.unit_cost).collect();
    let given = allocate_budget(&cells, &unit_costs, budget);
    let pieces = pieces_per_cell(&given, cells.len());
    let mut left = budget;
    let mut kept = Vec::new();
    for (bought, &pieces) in bought.iter().zip(&pieces) {
        // What costs nothing is never short of money.
        let wanted =
            if bought.unit_cost > 0.0 { pieces.min(bought.proposal.quantity) } else { bought.proposal.quantity };
        let mut quantity = order_quantity(wanted, bought.minimum, bought.pack).min(bought.proposal.quantity);
        let pack = bought.pack.unwrap_or(1).max(1);
        while quantity > 0 && f64::from(quantity) * bought.unit_cost > left {
            quantity = quantity.saturating_sub(pack);
        }
        if quantity == 0 || bought.minimum.is_some_and(|minimum| quantity < minimum) {
            continue;
        }
        left -= f64::from(quantity) * bought.unit_cost;
        let cost_if_bought = bought.value.of_position(bought.usable + i64::from(quantity));
        kept.push(PurchaseProposal {
            quantity,
            cost: bought.unit_cost * f64::from(quantity),
            worth: bought.proposal.cost_if_not - cost_if_bought,
            cost_if_bought,
            ..bought.proposal.clone()
        });
    }
    kept
}
