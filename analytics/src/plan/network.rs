//! The network as a plan uses it: each depot with its hub, the lanes between them, and which part replaces which.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{
    ContractId, DepotId, PartId,
    fleet::{Contract, Echelon, Fleet, Lane, Part, circles_of_successors},
};

use super::{lead_time::LeadTime, quality::Counter};

/// Lookups over a fleet; everything in them can be calculated with.
pub(super) struct Network<'a> {
    pub(super) parts: BTreeMap<&'a PartId, &'a Part>,
    pub(super) depots: BTreeSet<&'a DepotId>,
    pub(super) contracts: BTreeMap<&'a ContractId, &'a Contract>,
    lanes: BTreeMap<(&'a DepotId, &'a DepotId), &'a Lane>,
    /// Hub of each depot that has one; a hub is its own.
    hubs: BTreeMap<&'a DepotId, &'a DepotId>,
    /// The part that replaces each one that has one; no chain of them leads round in a circle.
    successors: BTreeMap<&'a PartId, &'a PartId>,
}

/// A hub, its depots and the lanes between them, looked up by place: a plan asks for each pair of depots for each part.
pub(super) struct Reach<'a> {
    pub(super) hub: &'a DepotId,
    /// In order, the hub among them.
    pub(super) depots: Vec<&'a DepotId>,
    /// Row by row from each depot to each.
    lanes: Vec<Option<&'a Lane>>,
}

impl<'a> Reach<'a> {
    /// The lane between two depots, by their places.
    pub(super) fn lane(&self, from: usize, to: usize) -> Option<&'a Lane> {
        self.lanes.get(from * self.depots.len() + to).copied().flatten()
    }
}

/// The way from a depot's hub to the depot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Way {
    /// O: order and ship time; none at the hub itself.
    pub(super) lead: LeadTime,
    /// tau_0: transport of a piece there.
    pub(super) cost_out: f64,
    /// tau_r: transport of a piece back; as there where no lane leads back.
    pub(super) cost_back: f64,
}

impl<'a> Network<'a> {
    pub(super) fn new(fleet: &'a Fleet, quality: &mut Counter) -> Self {
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        let amount_or_none = |value: Option<f64>| value.is_none_or(amount);
        let mut parts = BTreeMap::new();
        for part in &fleet.parts {
            let keeps = part.shelf_life_days.is_none_or(|life| life.is_finite() && life > 0.0);
            if amount(part.unit_cost) && amount_or_none(part.supplier_lead_days) && keeps {
                parts.insert(&part.part, part);
                let mean = part.supplier_lead_days.unwrap_or(0.0);
                if part.supplier_lead_days_p95.is_some_and(|late| late.is_nan() || late < mean) {
                    quality.reject("part", "95 % of its lead time is below its mean, planned by the mean", || {
                        part.part.to_string()
                    });
                }
            } else {
                quality
                    .reject("part", "cost, lead time or shelf life is negative or no number", || part.part.to_string());
            }
        }
        let mut lanes = BTreeMap::new();
        for lane in &fleet.lanes {
            if amount(lane.days) && amount_or_none(lane.cost_per_piece) && amount_or_none(lane.fixed_cost) {
                lanes.insert((&lane.from, &lane.to), lane);
                if lane.days_p95.is_some_and(|late| late.is_nan() || late < lane.days) {
                    quality.reject("lane", "95 % of its days is below their mean, planned by the mean", || {
                        format!("{} to {}", lane.from, lane.to)
                    });
                }
            } else {
                quality.reject("lane", "days or cost is negative or no number", || {
                    format!("{} to {}", lane.from, lane.to)
                });
            }
        }
        let mut contracts = BTreeMap::new();
        for contract in &fleet.contracts {
            let priced = amount_or_none(contract.downtime_cost_per_day) && amount_or_none(contract.miss_penalty);
            if priced && amount(contract.resolve_hours) {
                contracts.insert(&contract.contract, contract);
            } else {
                quality.reject("contract", "hours or money is negative or no number", || contract.contract.to_string());
            }
        }
        let depots: BTreeSet<&DepotId> = fleet.depots.iter().map(|depot| &depot.depot).collect();
        let is_hub: BTreeSet<&DepotId> =
            fleet.depots.iter().filter(|depot| depot.echelon == Echelon::Hub).map(|depot| &depot.depot).collect();
        let mut hubs = BTreeMap::new();
        for &depot in &depots {
            // The nearest hub, of equals the first by id.
            let nearest = is_hub
                .iter()
                .filter_map(|&hub| lanes.get(&(hub, depot)).map(|lane| (lane.days, hub)))
                .min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
            match nearest {
                _ if is_hub.contains(depot) => drop(hubs.insert(depot, depot)),
                Some((_, hub)) => drop(hubs.insert(depot, hub)),
                None => quality.reject("depot", "no lane from a hub", || depot.to_string()),
            }
        }
        let successors = successors(fleet, &parts, quality);
        Self { parts, depots, contracts, lanes, hubs, successors }
    }

    /// The part that replaces a part.
    pub(super) fn next(&self, part: &PartId) -> Option<&'a PartId> {
        self.successors.get(part).copied()
    }

    /// The part that replaces a part and whatever replaced it since; the part itself where nothing does.
    pub(super) fn newest(&self, part: &'a PartId) -> &'a PartId {
        self.later(part).last().unwrap_or(part)
    }

    /// The parts that replace a part, the next first.
    pub(super) fn later(&self, part: &'a PartId) -> impl Iterator<Item = &'a PartId> + '_ {
        std::iter::successors(self.next(part), |next| self.next(next))
    }

    /// The hub that serves a depot.
    pub(super) fn hub_of(&self, depot: &DepotId) -> Option<&'a DepotId> {
        self.hubs.get(depot).copied()
    }

    /// All hubs in order.
    pub(super) fn hubs(&self) -> impl Iterator<Item = &'a DepotId> + '_ {
        self.hubs.iter().filter(|(depot, hub)| depot == hub).map(|(_, hub)| *hub)
    }

    /// What each hub serves, in order of hubs.
    pub(super) fn reaches(&self) -> Vec<Reach<'a>> {
        self.hubs().map(|hub| self.reach(hub)).collect()
    }

    fn reach(&self, hub: &'a DepotId) -> Reach<'a> {
        let depots: Vec<&DepotId> = self.hubs.iter().filter(|(_, of)| **of == hub).map(|(depot, _)| *depot).collect();
        let pairs = depots.iter().flat_map(|&from| depots.iter().map(move |&to| (from, to)));
        let lanes = pairs.map(|(from, to)| self.lane(from, to)).collect();
        Reach { hub, depots, lanes }
    }

    /// What it costs that a device under a contract waits so many days: downtime, and the penalty where the promise is missed; nothing
    /// where no contract is known.
    pub(super) fn waiting_cost(&self, contract: Option<&ContractId>, wait_days: f64) -> f64 {
        let Some(contract) = contract.and_then(|contract| self.contracts.get(contract)) else { return 0.0 };
        let missed = wait_days * 24.0 > contract.resolve_hours;
        let penalty = if missed { contract.miss_penalty.unwrap_or(0.0) } else { 0.0 };
        contract.downtime_cost_per_day.unwrap_or(0.0) * wait_days + penalty
    }

    /// The lane from one depot to another.
    pub(super) fn lane(&self, from: &DepotId, to: &DepotId) -> Option<&'a Lane> {
        self.lanes.get(&(from, to)).copied()
    }

    /// The way from a depot's hub; nothing at a hub itself.
    pub(super) fn way(&self, hub: &DepotId, depot: &DepotId) -> Way {
        let cost = |lane: Option<&&Lane>| lane.map(|lane| lane.cost_per_piece.unwrap_or(0.0));
        let out = self.lanes.get(&(hub, depot));
        let cost_out = cost(out).unwrap_or(0.0);
        let cost_back = cost(self.lanes.get(&(depot, hub))).unwrap_or(cost_out);
        Way { lead: out.map_or(LeadTime::NONE, |lane| LeadTime::of(lane)), cost_out, cost_back }
    }
}

/// Which part replaces which, without those that are not there and those whose chain leads round in a circle.
fn successors<'a>(
    fleet: &'a Fleet,
    parts: &BTreeMap<&'a PartId, &'a Part>,
    quality: &mut Counter,
) -> BTreeMap<&'a PartId, &'a PartId> {
    let circles = circles_of_successors(&fleet.parts);
    let mut known = BTreeMap::new();
    for (&part, of) in parts {
        let Some(successor) = &of.successor else { continue };
        if circles.contains(part) {
            quality.reject("part", "its successors lead round in a circle, planned without them", || part.to_string());
        } else if !parts.contains_key(successor) {
            quality.reject("part", "its successor is not known, planned without it", || part.to_string());
        } else {
            known.insert(part, successor);
        }
    }
    known
}
