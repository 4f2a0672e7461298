//! The network of depots as a plan uses it: each depot with its hub and the lanes between them.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{
    ContractId, DepotId, PartId,
    fleet::{Contract, Echelon, Fleet, Lane, Part},
};

use super::quality::Counter;

/// Lookups over a fleet; everything in them can be calculated with.
pub(super) struct Network<'a> {
    pub(super) parts: BTreeMap<&'a PartId, &'a Part>,
    pub(super) depots: BTreeSet<&'a DepotId>,
    pub(super) contracts: BTreeMap<&'a ContractId, &'a Contract>,
    lanes: BTreeMap<(&'a DepotId, &'a DepotId), &'a Lane>,
    /// Hub of each depot that has one; a hub is its own.
    hubs: BTreeMap<&'a DepotId, &'a DepotId>,
}

/// The way from a depot's hub to the depot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Way {
    /// O: order and ship time in days; 0 at the hub itself.
    pub(super) days: f64,
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
            if amount(part.unit_cost) && amount_or_none(part.supplier_lead_days) {
                parts.insert(&part.part, part);
            } else {
                quality.reject("part", "cost or lead time is negative or no number", || part.part.to_string());
            }
        }
        let mut lanes = BTreeMap::new();
        for lane in &fleet.lanes {
            if amount(lane.days) && amount_or_none(lane.cost_per_piece) && amount_or_none(lane.fixed_cost) {
                lanes.insert((&lane.from, &lane.to), lane);
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
        Self { parts, depots, contracts, lanes, hubs }
    }

    /// The hub that serves a depot.
    pub(super) fn hub_of(&self, depot: &DepotId) -> Option<&'a DepotId> {
        self.hubs.get(depot).copied()
    }

    /// All hubs in order.
    pub(super) fn hubs(&self) -> impl Iterator<Item = &'a DepotId> + '_ {
        self.hubs.iter().filter(|(depot, hub)| depot == hub).map(|(_, hub)| *hub)
    }

    /// Depots of a hub in order, itself included.
    pub(super) fn depots_of<'s>(&'s self, hub: &'s DepotId) -> impl Iterator<Item = &'a DepotId> + 's {
        self.hubs.iter().filter(move |(_, of)| **of == hub).map(|(depot, _)| *depot)
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
        Way { days: out.map_or(0.0, |lane| lane.days), cost_out, cost_back }
    }
}
