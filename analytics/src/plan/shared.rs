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
/// where somebody waits for one of them.
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
        let is_free = fixed <= 0.0 || proposal.kind != TransferKind::Forward;
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
    let mut places: BTreeMap<(PartId, DepotId), usize> = BTreeMap::new();
    for (place, Seen { report, .. }) in cells.iter().enumerate() {
        places.insert((report.part.clone(), report.depot.clone()), place);
    }
    for (held, _) in sent.iter().zip(&waiting).filter(|(_, waits)| **waits) {
        let TransferProposal { part, from, to, quantity, substitutes_for, .. } = &held.proposal;
        let at = |part: &PartId, depot: &DepotId| places.get(&(part.clone(), depot.clone())).copied();
        if let Some(place) = at(part, to) {
            cells[place].report.sent -= quantity;
            if substitutes_for.is_some() {
                cells[place].report.substitutes -= quantity;
            } else {
                cells[place].report.verdict = Verdict::ShipmentWaits;
            }
            cells[place].reckon();
        }
        if let Some(place) = substitutes_for.as_ref().and_then(|served| at(served, to)) {
            cells[place].report.substituted -= quantity;
            cells[place].report.verdict = Verdict::ShipmentWaits;
            cells[place].reckon();
        }
        if let Some(place) = at(part, from) {
            cells[place].report.taken -= quantity;
            cells[place].reckon();
        }
    }
    sent.into_iter().zip(waiting).filter(|(_, waits)| !waits).map(|(sent, _)| sent.proposal).collect()
}

/// Transfers that fit into the shipments of their lanes and the depots that they go to. What does not is left out piece by piece,
/// the least worth first, and its cell says so. Pieces for which somebody waits are worth most and go last.
pub(super) fn keep_to_capacity(
    mut sent: Vec<TransferProposal>,
    fleet: &Fleet,
    cells: &mut [Seen],
) -> Vec<TransferProposal> {
    let lanes = fleet.lanes.iter().filter_map(|lane| Some(((&lane.from, &lane.to), i64::from(lane.capacity?))));
    let lanes: BTreeMap<(&DepotId, &DepotId), i64> = lanes.collect();
    let depots = fleet.depots.iter().filter_map(|depot| Some((&depot.depot, i64::from(depot.capacity?))));
    let depots: BTreeMap<&DepotId, i64> = depots.collect();
    if lanes.is_empty() && depots.is_empty() {
        return sent;
    }
    let places: BTreeMap<(PartId, DepotId), usize> = cells
        .iter()
        .enumerate()
        .map(|(place, seen)| ((seen.report.part.clone(), seen.report.depot.clone()), place))
        .collect();
    for (&(from, to), &capacity) in &lanes {
        let on_lane = |one: &TransferProposal| one.from == *from && one.to == *to;
        leave_out(&mut sent, cells, &places, capacity, on_lane);
    }
    for (&depot, &capacity) in &depots {
        let pieces = |seen: &&Seen| seen.report.depot == *depot;
        let here: i64 = cells.iter().filter(pieces).map(|seen| seen.report.position.max(0)).sum();
        let leaving: i64 = cells.iter().filter(pieces).map(|seen| i64::from(seen.report.taken)).sum();
        let arrives = |one: &TransferProposal| one.to == *depot && one.kind != TransferKind::Return;
        leave_out(&mut sent, cells, &places, capacity - here + leaving, arrives);
    }
    sent.retain(|one| one.quantity > 0);
    sent
}

/// Leaves out pieces of the transfers that are meant until no more than `room` are left.
fn leave_out(
    sent: &mut [TransferProposal],
    cells: &mut [Seen],
    places: &BTreeMap<(PartId, DepotId), usize>,
    room: i64,
    is_meant: impl Fn(&TransferProposal) -> bool,
) {
    let served = |one: &TransferProposal| one.substitutes_for.clone().unwrap_or_else(|| one.part.clone());
    let at = |part: PartId, depot: &DepotId| places.get(&(part, depot.clone())).copied();
    let mut pieces: i64 = sent.iter().filter(|one| is_meant(one)).map(|one| i64::from(one.quantity)).sum();
    while pieces > room.max(0) {
        let worth = |one: &TransferProposal| at(served(one), &one.to).map_or(0.0, |place| cells[place].gain_of_last());
        let meant = sent.iter().enumerate().filter(|(_, one)| one.quantity > 0 && is_meant(one));
        let least = meant.map(|(place, one)| (place, worth(one))).min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((place, worth)) = least else { return };
        let one = &mut sent[place];
        let (taker, shelf, giver) =
            (at(served(one), &one.to), at(one.part.clone(), &one.to), at(one.part.clone(), &one.from));
        let piece = one.cost / f64::from(one.quantity);
        // A piece from next door stays where it is worth something, and its way costs nothing.
        let stays = giver.filter(|_| one.kind == TransferKind::Lateral);
        let saved = worth - stays.map_or(0.0, |giver| cells[giver].report.worth_of_next + piece);
        one.quantity -= 1;
        one.cost -= piece;
        one.worth -= saved;
        one.cost_if_sent += saved;
        pieces -= 1;
        if let Some(shelf) = shelf {
            cells[shelf].report.sent -= 1;
        }
        if let Some(taker) = taker {
            if one.substitutes_for.is_some() {
                cells[taker].report.substituted -= 1;
            }
            cells[taker].report.verdict = Verdict::NoRoom;
        }
        if let Some(shelf) = shelf.filter(|_| one.substitutes_for.is_some()) {
            cells[shelf].report.substitutes -= 1;
        }
        if let Some(giver) = giver {
            cells[giver].report.taken -= 1;
        }
        for changed in [taker, shelf, giver].into_iter().flatten() {
            cells[changed].reckon();
        }
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
