//! The daily plan: which pieces move between hub and depots, what to buy, and why.
//!
//! A pure function of what is known at one instant: survival curves, stock, history of background demand, the network.
//! Per part and depot it makes the law of demand over the time until the next decision could arrive, prices a piece too many
//! and one too few, moves pieces where they are worth most, and orders what the system lacks. Parts are
//! independent, but for those that replace one another, which are planned as one: they are planned in parallel and collected in order,
//! so that the same input gives the same bytes. What they share is settled at the end: room in shipments and depots, lanes whose fixed
//! cost must pay, and the money for purchases.
//!
//! **Invariant**: bad records are rejected and counted, never guessed at and never a reason to fail.
//!
//! Source: maths of pre-positioning, sections 2 and 4; 5.12 for bad data.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{
    ComponentId, ContractId, DepotId, DeviceId, Duration, PartId, Timestamp,
    fleet::{Consumption, Fleet},
};
use harbinger_store::ledger::orders::NewOrder;
pub use harbinger_store::ledger::orders::Reason;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::survival::SurvivalCurve;

mod cells;
mod forecasts;
mod lead_time;
mod long_run;
mod moves;
mod network;
mod part;
mod quality;
mod repairs;
mod shared;

pub use forecasts::{Newest, forecasts, plan_replacements};
pub use long_run::{LongRunCell, LongRunInput, LongRunPart, Promise, long_run};
pub use quality::{DataQuality, Rejected};

/// What one installed slot is likely to need.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotForecast {
    /// The device.
    pub device: DeviceId,
    /// Its component slot.
    pub component: ComponentId,
    /// The part that replaces it.
    pub part: PartId,
    /// Pieces per replacement, at least 1.
    pub quantity: u32,
    /// The depot that serves the device.
    pub depot: DepotId,
    /// When it does. A device that moves has a forecast for each of its depots (section 5.9).
    pub served: Served,
    /// Its contract; none where downtime has no price.
    pub contract: Option<ContractId>,
    /// How long it goes without a replacement, counted from `as_of`.
    pub survival: SurvivalCurve,
    /// The prediction behind it; none where it is the prior of its age.
    pub prediction_id: Option<String>,
    /// The work order behind it: the replacement is certain, at its date (section 5.11).
    pub work_order_id: Option<String>,
    /// P(failure within the model's main horizon). One that is no probability marks a broken prediction: the slot is
    /// rejected whatever its curve says.
    pub probability_main: f64,
}

impl SlotForecast {
    /// P(it needs the part of its depot between two days from now).
    fn probability(&self, from: f64, to: f64) -> f64 {
        self.survival.window_probability(from.max(self.served.from_days), to.min(self.served.until_days))
    }
}

/// Days from now between which a depot serves a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// From then on.
    pub from_days: f64,
    /// Until then.
    pub until_days: f64,
}

impl Served {
    /// The device stays where it is.
    pub const ALWAYS: Self = Self { from_days: 0.0, until_days: f64::INFINITY };

    fn is_on(self, days: f64) -> bool {
        (self.from_days..self.until_days).contains(&days)
    }
}

/// Pieces of a part at a depot. Signed, so that a negative count from another system can be told and rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockPosition {
    /// Which part.
    pub part: PartId,
    /// Where.
    pub depot: DepotId,
    /// On the shelf.
    pub on_hand: i64,
    /// Shipped and on the way here, purchases to the hub included.
    pub in_transit: i64,
    /// Approved to come here and not shipped yet, purchases included.
    pub on_order: i64,
    /// On the shelf and approved to leave, or kept for a work order, whose demand for it is left out of the forecasts.
    pub reserved: i64,
    /// Owed.
    pub backorders: i64,
    /// When pieces last came here; none where that is long ago or not known.
    pub last_received: Option<Timestamp>,
    /// Failed pieces that are being repaired here. They are no stock until they are done; a purchase counts on those that will be.
    #[serde(default)]
    pub in_repair: Vec<InRepair>,
}

/// Pieces that are being repaired together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InRepair {
    /// When they should be done.
    pub due_at: Timestamp,
    /// Pieces.
    pub quantity: u32,
}

impl StockPosition {
    /// On hand + on the way + on order - spoken for - owed.
    fn position(&self) -> i64 {
        self.on_hand + self.in_transit + self.on_order - self.reserved - self.backorders
    }

    /// Pieces on the shelf that nobody has spoken for.
    fn available(&self) -> u32 {
        u32::try_from((self.on_hand - self.reserved - self.backorders).max(0)).unwrap_or(u32::MAX)
    }
}

/// How to plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanOptions {
    /// R: time between plans.
    pub review: Duration,
    /// h: share of a piece's cost that a year on the shelf costs.
    pub holding_rate_per_year: f64,
    /// K: a piece that nobody has taken in this time goes back.
    pub keep: Duration,
    /// Pieces that came to a depot stay at least so long (section 4.7).
    pub settle: Duration,
    /// A move between depots or back to the hub must gain so many times the transport there and back (section 4.7).
    pub move_margin: f64,
    /// Most money that a plan spends on purchases; without bound where it is none.
    pub purchase_budget: Option<f64>,
    /// What it costs to bring one piece to a device from the hub at once, beside the lane's cost per piece.
    pub emergency_cost: f64,
    /// Variance of the factor that forecasts of one part share (phi), 0..=0.24. The default is a common relative error of
    /// 20 %, until back-tests say otherwise.
    pub common_factor: f64,
    /// The same of parts for which back-tests have said otherwise.
    pub common_factors: BTreeMap<PartId, f64>,
    /// Supplier lead time of parts that have none.
    pub supplier_lead: Duration,
    /// Period of the background series that consumption is summed into.
    pub background_period: Duration,
    /// Most devices named as reasons of a proposal.
    pub reasons: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            review: Duration::from_days(1),
            holding_rate_per_year: 0.25,
            keep: Duration::from_days(60),
            settle: Duration::from_days(14),
            move_margin: 2.0,
            purchase_budget: None,
            emergency_cost: 100.0,
            common_factor: 0.04,
            common_factors: BTreeMap::new(),
            supplier_lead: Duration::from_days(30),
            background_period: Duration::from_days(30),
            reasons: 20,
        }
    }
}

impl PlanOptions {
    /// Variance of the factor that forecasts of a part share.
    pub(crate) fn common_factor_of(&self, part: &PartId) -> f64 {
        self.common_factors.get(part).copied().unwrap_or(self.common_factor)
    }
}

/// All that a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// Event time that the plan is for.
    pub as_of: Timestamp,
    /// Parts, depots, lanes and contracts. Its devices and its stock are not looked at: forecasts and positions say them.
    pub fleet: &'a Fleet,
    /// One per installed slot.
    pub forecasts: &'a [SlotForecast],
    /// Stock, in transit, on order. What is not named is zero.
    pub positions: &'a [StockPosition],
    /// Consumption that no device record explains; later than `as_of` is not looked at.
    pub consumption: &'a [Consumption],
    /// How to plan.
    pub options: &'a PlanOptions,
}

/// A transfer that pays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferProposal {
    /// Which part.
    pub part: PartId,
    /// Why it moves.
    pub kind: TransferKind,
    /// Where pieces leave.
    pub from: DepotId,
    /// Where they arrive.
    pub to: DepotId,
    /// Pieces.
    pub quantity: u32,
    /// The older part whose devices these pieces are for; none where they are for those of their own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub substitutes_for: Option<PartId>,
    /// Expected cost that it saves.
    pub worth: f64,
    /// Transport.
    pub cost: f64,
    /// The devices behind it, most likely first.
    pub reasons: Vec<Reason>,
    /// Expected cost of both ends if it is sent, transport of pieces that nobody needs included.
    pub cost_if_sent: f64,
    /// Expected cost of both ends if not.
    pub cost_if_not: f64,
    /// The next-best use of one of these pieces; none where it would stay.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub second_best: Option<Alternative>,
}

/// Why pieces move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// From the hub to a depot where they are likely to be needed.
    Forward,
    /// From a depot that can spare them to one that is short.
    Lateral,
    /// From a depot where they would lie too long back to the hub.
    Return,
}

/// Another use of a piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Where it would go.
    pub to: DepotId,
    /// What it would save there, beside the plan as it is.
    pub worth: f64,
}

/// A purchase that the system needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PurchaseProposal {
    /// Which part.
    pub part: PartId,
    /// The hub that it goes to.
    pub to: DepotId,
    /// Pieces, in whole packs.
    pub quantity: u32,
    /// Expected cost that it saves over supplier lead time, depot time and review.
    pub worth: f64,
    /// What the pieces cost.
    pub cost: f64,
    /// The devices behind it, most likely first.
    pub reasons: Vec<Reason>,
    /// Expected cost over that time with the pieces.
    pub cost_if_bought: f64,
    /// Expected cost over that time without them.
    pub cost_if_not: f64,
    /// Quantile of the system's demand over that time.
    pub demand_quantile: u32,
    /// Positions that the depots want at the end of it.
    pub spatial_reserve: u32,
    /// What the system has: hub, depots, open orders, repairs that will be done in time, less backorders.
    pub system_position: i64,
}

/// What the plan saw and decided for a part at a depot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Which part.
    pub part: PartId,
    /// Where.
    pub depot: DepotId,
    /// Slots that the depot serves.
    pub slots: u32,
    /// Days until the next decision could arrive.
    pub window_days: f64,
    /// Expected demand in them.
    pub demand_mean: f64,
    /// 95 % quantile of it.
    pub demand_p95: u32,
    /// Part of the mean that no signal sees.
    pub background_mean: f64,
    /// On hand + on the way + on order - backorders, before the plan.
    pub position: i64,
    /// Position that no further piece improves, if there were enough of them.
    pub target: u32,
    /// Pieces that the plan sends here.
    pub sent: u32,
    /// Pieces that the plan takes from here.
    pub taken: u32,
    /// Pieces of a newer part that serve here.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub substituted: u32,
    /// Pieces that serve an older part here.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub substitutes: u32,
    /// Pieces that lesser contracts leave to the others; empty where nothing lies here or all contracts cost alike.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub critical_levels: Vec<CriticalLevel>,
    /// Why it gets no more.
    pub verdict: Verdict,
    /// What one more piece would save here after the plan; below zero where it would cost.
    pub worth_of_next: f64,
    /// Expected cost after it.
    pub expected_cost: f64,
    /// H: cost of a piece too many.
    pub holding_cost: f64,
    /// pi: cost of a piece too few.
    pub shortage_cost: f64,
}

/// Pieces that devices under a contract leave on the shelf to those whose wait costs more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticalLevel {
    /// The contract; none stands for devices without one.
    pub contract: Option<ContractId>,
    /// A piece goes to its devices only while more than so many lie there.
    pub keep: u32,
}

/// Why a depot gets no more pieces of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// One more would cost more than it saves.
    Enough,
    /// No place that a lane leads from has a piece to spare.
    NothingToSend,
    /// The pieces that could have come are worth more where they go or lie.
    WorthMoreElsewhere,
    /// The shipment does not pay its fixed cost yet.
    ShipmentWaits,
    /// The shipment or the depot is full.
    NoRoom,
}

/// What to do, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Event time that it is for.
    pub as_of: Timestamp,
    /// By part, then depot.
    pub transfers: Vec<TransferProposal>,
    /// By part, then hub.
    pub purchases: Vec<PurchaseProposal>,
    /// By part, then depot.
    pub cells: Vec<CellReport>,
    /// What was rejected.
    pub data_quality: DataQuality,
}

impl Plan {
    /// The proposals as the ledger takes them.
    #[must_use]
    pub fn orders(&self) -> Vec<NewOrder> {
        let transfers = self.transfers.iter().map(|proposal| NewOrder {
            part: proposal.part.clone(),
            from: Some(proposal.from.clone()),
            to: proposal.to.clone(),
            quantity: proposal.quantity,
            worth: proposal.worth,
            cost: proposal.cost,
            reasons: proposal.reasons.clone(),
        });
        let purchases = self.purchases.iter().map(|proposal| NewOrder {
            part: proposal.part.clone(),
            from: None,
            to: proposal.to.clone(),
            quantity: proposal.quantity,
            worth: proposal.worth,
            cost: proposal.cost,
            reasons: proposal.reasons.clone(),
        });
        transfers.chain(purchases).collect()
    }
}

/// Makes the plan.
#[must_use]
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let mut quality = quality::Counter::default();
    let network = network::Network::new(input.fleet, &mut quality);
    let slots = quality::accepted_slots(input, &network, &mut quality);
    let positions = quality::accepted_positions(input, &network, &mut quality);
    let consumption = quality::accepted_consumption(input, &network, &mut quality);
    let parts: BTreeSet<&PartId> =
        slots.keys().copied().chain(consumption.keys().copied()).chain(positions.keys().copied()).collect();
    let known = |part: &PartId| part::Known {
        slots: slots.get(part).map_or(&[][..], Vec::as_slice),
        positions: positions.get(part),
        consumption: consumption.get(part).map_or(&[][..], Vec::as_slice),
    };
    let reaches = network.reaches();
    let planned: Vec<part::Planned> = families(parts, &network)
        .into_par_iter()
        .filter_map(|(newest, parts)| {
            let of = |part: &&PartId| network.parts.get(part).copied();
            let members: Vec<part::Member<'_, '_>> =
                parts.iter().filter_map(of).map(|part| part::Member { part, known: known(&part.part) }).collect();
            Some(part::plan_family(input, (&network, &reaches), &members, of(&newest)?))
        })
        .collect();
    let mut plan = Plan {
        as_of: input.as_of,
        transfers: Vec::new(),
        purchases: Vec::new(),
        cells: Vec::new(),
        data_quality: DataQuality::default(),
    };
    let (mut transfers, mut purchases, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for part in planned {
        transfers.extend(part.transfers);
        purchases.extend(part.purchases);
        cells.extend(part.cells);
        quality.unusable_laws(part.unusable);
    }
    // Families come in order of their newest part.
    transfers.sort_by(|a, b| a.proposal.part.cmp(&b.proposal.part));
    cells.sort_by(|a, b| (&a.report.part, &a.report.depot).cmp(&(&b.report.part, &b.report.depot)));
    // What has no room does not pay for a lane.
    shared::keep_to_capacity(&mut transfers, input.fleet, &mut cells);
    plan.transfers = shared::pay_for_lanes(transfers, &network, &mut cells);
    plan.cells = cells.into_iter().map(|seen| seen.report).collect();
    plan.purchases = shared::keep_to_budget(purchases, input.options.purchase_budget);
    plan.data_quality = quality.finish(input.forecasts.len());
    plan
}

/// Parts that are planned as one, the older before those that replace them, by the newest of them.
fn families<'a>(parts: BTreeSet<&'a PartId>, network: &network::Network<'a>) -> BTreeMap<&'a PartId, Vec<&'a PartId>> {
    let mut families: BTreeMap<&PartId, BTreeSet<&PartId>> = BTreeMap::new();
    for part in parts {
        // Those in between are there even if nothing is known of them: what an older part lacks is bought of the newest.
        families.entry(network.newest(part)).or_default().extend([part].into_iter().chain(network.later(part)));
    }
    let by_age = |(newest, members): (&'a PartId, BTreeSet<&'a PartId>)| {
        let mut members: Vec<&PartId> = members.into_iter().collect();
        members.sort_by_key(|part| std::cmp::Reverse(network.later(part).count()));
        (newest, members)
    };
    families.into_iter().map(by_age).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Records of one part, by depot.
type ByDepot<'a, T> = BTreeMap<&'a DepotId, T>;

#[cfg(test)]
mod tests;
