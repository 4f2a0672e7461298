//! The fleet: devices and what they are made of, depots and lanes, contracts, stock, and what was done to devices.
//!
//! One struct a table of the fleet bundle (`docs/reference/fleet-bundle.md`); the ledger keeps the same ones.
//! Times are event times; money is in one currency, the tenant's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ComponentId, ContractId, DepotId, DeviceId, HardwareModelId, PartId, SignalId, TenantId},
    time::Timestamp,
};

/// A make and type of device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardwareModel {
    /// Its id.
    pub model: HardwareModelId,
    /// `server`, `drive`, `refrigerator`, ...: models of one kind are a family.
    pub kind: String,
    /// Words for a person.
    pub description: Option<String>,
}

/// A signal that devices of a model report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalSpec {
    /// Of which hardware model.
    pub model: HardwareModelId,
    /// The signal's name.
    pub signal: SignalId,
    /// UCUM unit.
    pub unit: String,
    /// Words for a person.
    pub description: Option<String>,
    /// Below this a value is out of limits.
    pub low_limit: Option<f64>,
    /// Above this a value is out of limits.
    pub high_limit: Option<f64>,
}

/// A slot of a hardware model that fails and is replaced by a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentSlot {
    /// Of which hardware model.
    pub model: HardwareModelId,
    /// The slot.
    pub component: ComponentId,
    /// The part that replaces it.
    pub part: PartId,
    /// Pieces per replacement, at least 1.
    pub quantity: u32,
    /// Words for a person.
    pub description: Option<String>,
}

/// A spare part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its number.
    pub part: PartId,
    /// Cost of a piece, >= 0.
    pub unit_cost: f64,
    /// Words for a person.
    pub description: Option<String>,
    /// Mean supplier lead time to the hub in days.
    pub supplier_lead_days: Option<f64>,
    /// 95 % quantile of it.
    pub supplier_lead_days_p95: Option<f64>,
    /// Whether failed pieces come back to be repaired.
    pub repairable: bool,
    /// Repair turnaround time in days.
    pub repair_days: Option<f64>,
    /// Share of returned pieces that repair succeeds on, 0..=1.
    pub repair_yield: Option<f64>,
    /// Pieces that are repaired at the same time, at least 1; none where there is no bound.
    pub repair_places: Option<u32>,
    /// Pieces are bought in multiples of this.
    pub pack_size: Option<u32>,
    /// Smallest order in pieces.
    pub minimum_order: Option<u32>,
    /// The part that replaces this one.
    pub successor: Option<PartId>,
    /// Days after which a new piece may no longer be used; none where it keeps.
    pub shelf_life_days: Option<f64>,
}

/// Parts whose successors lead round in a circle, so that none of them is the newest.
#[must_use]
pub fn circles_of_successors(parts: &[Part]) -> BTreeSet<&PartId> {
    let next: BTreeMap<&PartId, &PartId> =
        parts.iter().filter_map(|part| Some((&part.part, part.successor.as_ref()?))).collect();
    let mut circles = BTreeSet::new();
    let mut followed: BTreeSet<&PartId> = BTreeSet::new();
    for part in parts {
        let mut chain: Vec<&PartId> = Vec::new();
        let mut at = Some(&part.part);
        while let Some(here) = at.filter(|here| followed.insert(here)) {
            chain.push(here);
            at = next.get(here).copied();
        }
        // A chain that ends at one of its own closes a circle there; at one followed before, nothing new is found.
        if let Some(begin) = at.and_then(|end| chain.iter().position(|one| *one == end)) {
            circles.extend(chain.split_off(begin));
        }
    }
    circles
}

/// What a depot is in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Echelon {
    /// The central depot, which suppliers deliver to.
    Hub,
    /// A forward stocking location near the devices.
    Forward,
}

impl Echelon {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Forward => "forward",
        }
    }
}

/// A stock location.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Depot {
    /// Its id.
    pub depot: DepotId,
    /// Hub or forward.
    pub echelon: Echelon,
    /// Sales or service region.
    pub region: Option<String>,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// IANA time zone.
    pub timezone: Option<String>,
    /// Most pieces of all parts that it holds; 0 where it may hold none, none where there is no bound.
    pub capacity: Option<u32>,
}

/// A way for pieces from one depot to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// Where pieces leave.
    pub from: DepotId,
    /// Where they arrive.
    pub to: DepotId,
    /// Mean days on the way, order to shelf.
    pub days: f64,
    /// 95 % quantile of the days on the way.
    pub days_p95: Option<f64>,
    /// Transport cost of one piece.
    pub cost_per_piece: Option<f64>,
    /// Cost of a shipment however small.
    pub fixed_cost: Option<f64>,
    /// Most pieces that one day's shipment takes; none where there is no bound.
    pub capacity: Option<u32>,
}

/// What the service promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// Its id.
    pub contract: ContractId,
    /// Hours until somebody responds.
    pub respond_hours: f64,
    /// Hours until the device works again.
    pub resolve_hours: f64,
    /// What a day of downtime of one device costs.
    pub downtime_cost_per_day: Option<f64>,
    /// What one missed promise costs.
    pub miss_penalty: Option<f64>,
}

/// A device and where it belongs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its id.
    pub device: DeviceId,
    /// Who owns it.
    pub tenant: TenantId,
    /// What it is.
    pub model: HardwareModelId,
    /// The depot that serves it.
    pub depot: DepotId,
    /// The depot that will serve it once it has moved; none where it stays.
    pub moves_to: Option<DepotId>,
    /// When it moves: said where `moves_to` is, and nowhere else.
    pub moves_at: Option<Timestamp>,
    /// Serial number.
    pub serial: Option<String>,
    /// Site.
    pub site: Option<String>,
    /// Service contract.
    pub contract: Option<ContractId>,
    /// When it was installed.
    pub installed_at: Option<Timestamp>,
    /// Before this nothing is known of the device.
    pub observed_from: Option<Timestamp>,
    /// After this nothing is known of the device.
    pub observed_until: Option<Timestamp>,
}

impl Device {
    /// The depot that serves it then.
    #[must_use]
    pub fn depot_at(&self, ts: Timestamp) -> &DepotId {
        match (&self.moves_to, self.moves_at) {
            (Some(depot), Some(moves_at)) if moves_at <= ts => depot,
            _ => &self.depot,
        }
    }
}

/// Pieces of a part at a depot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockLevel {
    /// Which part.
    pub part: PartId,
    /// Where.
    pub depot: DepotId,
    /// Pieces on the shelf, >= 0.
    pub on_hand: u32,
    /// Pieces on the way there, >= 0.
    pub in_transit: u32,
}

/// What was done to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaintenanceAction {
    /// A new or repaired piece went in: the slot's age starts again.
    Replaced,
    /// Mended in place.
    Repaired,
    /// Looked at.
    Inspected,
}

/// Why something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaintenanceReason {
    /// The component had failed: the label that models learn from.
    Failure,
    /// It was due.
    Planned,
}

macro_rules! words {
    ($name:ty, $what:literal, $($variant:ident = $word:literal),+) => {
        impl $name {
            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { what: $what, text: text.to_owned(), known: &[$($word),+] }),
                }
            }
        }
    };
}

/// A word outside the few that a column knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: one of {}", known.join(", "))]
pub struct UnknownWord {
    /// What was expected.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// What is allowed.
    pub known: &'static [&'static str],
}

words!(MaintenanceAction, "an action", Replaced = "replaced", Repaired = "repaired", Inspected = "inspected");
words!(MaintenanceReason, "a reason", Failure = "failure", Planned = "planned");

impl std::str::FromStr for Echelon {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "hub" => Ok(Self::Hub),
            "forward" => Ok(Self::Forward),
            _ => Err(UnknownWord { what: "an echelon", text: text.to_owned(), known: &["hub", "forward"] }),
        }
    }
}

/// Something done to a component of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    /// When.
    pub ts: Timestamp,
    /// On which device.
    pub device: DeviceId,
    /// On which component.
    pub component: ComponentId,
    /// What was done.
    pub action: MaintenanceAction,
    /// Why.
    pub reason: MaintenanceReason,
}

/// The truth that models learn from: a component failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub ts: Timestamp,
    /// Which device.
    pub device: DeviceId,
    /// Which component.
    pub component: ComponentId,
}

/// Spare parts used that no device record explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consumption {
    /// When, or the start of the period.
    pub ts: Timestamp,
    /// Which part.
    pub part: PartId,
    /// Where it was taken.
    pub depot: DepotId,
    /// How many pieces; zero says "no demand in that period".
    pub quantity: f64,
}

/// Everything about a tenant that is not a stream: the registry and the network of depots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// Hardware models.
    pub models: Vec<HardwareModel>,
    /// Signals by model.
    pub signals: Vec<SignalSpec>,
    /// Component slots by model.
    pub components: Vec<ComponentSlot>,
    /// Parts.
    pub parts: Vec<Part>,
    /// Depots.
    pub depots: Vec<Depot>,
    /// Lanes between them.
    pub lanes: Vec<Lane>,
    /// Contracts.
    pub contracts: Vec<Contract>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Stock.
    pub stock: Vec<StockLevel>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(chain: &str) -> Part {
        let (name, successor) = chain.split_once('>').unwrap_or((chain, ""));
        Part {
            part: PartId::parse(name).unwrap(),
            unit_cost: 1.0,
            description: None,
            supplier_lead_days: None,
            supplier_lead_days_p95: None,
            repairable: false,
            repair_days: None,
            repair_yield: None,
            repair_places: None,
            pack_size: None,
            minimum_order: None,
            successor: (!successor.is_empty()).then(|| PartId::parse(successor).unwrap()),
            shelf_life_days: None,
        }
    }

    #[test]
    fn circles_are_found_and_what_leads_into_them_is_not_of_them() {
        let of = |chains: &[&str]| {
            let parts: Vec<Part> = chains.iter().map(|chain| part(chain)).collect();
            circles_of_successors(&parts).into_iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&["a>b", "b>c", "c", "d>c", "e>unheard-of"]), [""; 0]);
        assert_eq!(of(&["a>a"]), ["a"]);
        assert_eq!(of(&["x>a", "a>b", "b>c", "c>a", "y>x", "p>q", "q>p"]), ["a", "b", "c", "p", "q"]);
        assert_eq!(of(&["c>a", "b>c", "a>b", "x>a"]), ["a", "b", "c"]);
    }
}
