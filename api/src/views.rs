//! The fleet's rows as the interface shows and takes them.
//!
//! Each view mirrors a type of `core` field by field; [`mirror`] writes the struct and the conversions both ways, so that a
//! field added there and forgotten here does not compile.

use harbinger_core::{
    ComponentId, ContractId, DepotId, DeviceId, HardwareModelId, PartId, SignalId, TenantId, Timestamp,
    fleet::{self, Echelon, MaintenanceAction, MaintenanceReason},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::table::Row;

/// `View of core::Type { field: Type as SchemaType, }`, documented as it will stand in the OpenAPI document.
macro_rules! mirror {
    ($($(#[$doc:meta])* $view:ident of $source:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
            #[serde(deny_unknown_fields)]
            pub struct $view { $($(#[$field_doc])* pub $field: $kind,)+ }

            impl Row for $view {
                const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];
            }
            impl From<$source> for $view {
                fn from(row: $source) -> Self {
                    let $source { $($field),+ } = row;
                    Self { $($field),+ }
                }
            }
            impl From<$view> for $source {
                fn from(view: $view) -> Self {
                    let $view { $($field),+ } = view;
                    Self { $($field),+ }
                }
            }
        )+
    };
}

fn one() -> u32 {
    1
}

use fleet::{
    ComponentSlot, Consumption, Contract, Depot, HardwareModel, Lane, Maintenance, Part, SignalSpec, StockLevel,
};

mirror! {
    /// A make and type of device.
    HardwareModelView of HardwareModel {
        /// Its id.
        #[schema(value_type = String)]
        model: HardwareModelId,
        /// `server`, `drive`, `refrigerator`, ...: models of one kind are a family.
        kind: String,
        /// Words for a person.
        description: Option<String>,
    }
    /// A signal that devices of a model report.
    SignalView of SignalSpec {
        /// Of which hardware model.
        #[schema(value_type = String)]
        model: HardwareModelId,
        /// The signal's name.
        #[schema(value_type = String)]
        signal: SignalId,
        /// UCUM unit.
        unit: String,
        /// Words for a person.
        description: Option<String>,
        /// Below this a value is out of limits.
        low_limit: Option<f64>,
        /// Above this a value is out of limits.
        high_limit: Option<f64>,
    }
    /// A slot of a hardware model that fails and is replaced by a part.
    ComponentView of ComponentSlot {
        /// Of which hardware model.
        #[schema(value_type = String)]
        model: HardwareModelId,
        /// The slot.
        #[schema(value_type = String)]
        component: ComponentId,
        /// The part that replaces it.
        #[schema(value_type = String)]
        part: PartId,
        /// Pieces per replacement, at least 1.
        #[serde(default = "one")]
        quantity: u32,
        /// Words for a person.
        description: Option<String>,
    }
    /// A spare part.
    PartView of Part {
        /// Its number.
        #[schema(value_type = String)]
        part: PartId,
        /// Cost of a piece, >= 0.
        unit_cost: f64,
        /// Words for a person.
        description: Option<String>,
        /// Supplier lead time to the hub in days.
        supplier_lead_days: Option<f64>,
        /// Whether failed pieces come back to be repaired.
        #[serde(default)]
        repairable: bool,
        /// Repair turnaround time in days.
        repair_days: Option<f64>,
        /// Share of returned pieces that repair succeeds on, 0 to 1.
        repair_yield: Option<f64>,
        /// Pieces are bought in multiples of this.
        pack_size: Option<u32>,
        /// Smallest order in pieces.
        minimum_order: Option<u32>,
        /// The part that replaces this one.
        #[schema(value_type = Option<String>)]
        successor: Option<PartId>,
        /// Days after which a new piece may no longer be used; null where it keeps.
        shelf_life_days: Option<f64>,
        /// 95 % quantile of the supplier lead time in days; null where it is always the same.
        supplier_lead_days_p95: Option<f64>,
        /// Pieces that are repaired at the same time; null where there is no bound.
        repair_places: Option<u32>,
    }
    /// A stock location.
    DepotView of Depot {
        /// Its id.
        #[schema(value_type = String)]
        depot: DepotId,
        /// `hub` or `forward`.
        #[schema(value_type = String, example = "forward")]
        echelon: Echelon,
        /// Sales or service region.
        region: Option<String>,
        /// Degrees north.
        latitude: Option<f64>,
        /// Degrees east.
        longitude: Option<f64>,
        /// IANA time zone.
        timezone: Option<String>,
        /// Most pieces of all parts that it holds; null where there is no bound.
        capacity: Option<u32>,
    }
    /// A way for pieces from one depot to another.
    LaneView of Lane {
        /// Where pieces leave.
        #[schema(value_type = String)]
        from: DepotId,
        /// Where they arrive.
        #[schema(value_type = String)]
        to: DepotId,
        /// Mean days on the way, order to shelf.
        days: f64,
        /// 95 % quantile of the days on the way.
        days_p95: Option<f64>,
        /// Transport cost of one piece.
        cost_per_piece: Option<f64>,
        /// Cost of a shipment however small.
        fixed_cost: Option<f64>,
        /// Most pieces that one day's shipment takes; null where there is no bound.
        capacity: Option<u32>,
    }
    /// What the service promised.
    ContractView of Contract {
        /// Its id.
        #[schema(value_type = String)]
        contract: ContractId,
        /// Hours until somebody responds.
        respond_hours: f64,
        /// Hours until the device works again.
        resolve_hours: f64,
        /// What a day of downtime of one device costs.
        downtime_cost_per_day: Option<f64>,
        /// What one missed promise costs.
        miss_penalty: Option<f64>,
    }
    /// Pieces of a part at a depot.
    StockView of StockLevel {
        /// Which part.
        #[schema(value_type = String)]
        part: PartId,
        /// Where.
        #[schema(value_type = String)]
        depot: DepotId,
        /// Pieces on the shelf.
        on_hand: u32,
        /// Pieces on the way there.
        #[serde(default)]
        in_transit: u32,
    }
    /// Something done to a component of a device.
    MaintenanceView of Maintenance {
        /// When.
        #[schema(value_type = String, format = DateTime)]
        ts: Timestamp,
        /// On which device.
        #[schema(value_type = String)]
        device: DeviceId,
        /// On which component.
        #[schema(value_type = String)]
        component: ComponentId,
        /// `replaced`, `repaired` or `inspected`.
        #[schema(value_type = String, example = "replaced")]
        action: MaintenanceAction,
        /// `failure` or `planned`: a replacement because of failure is what models learn from.
        #[schema(value_type = String, example = "failure")]
        reason: MaintenanceReason,
    }
    /// Spare parts used that no device record explains.
    ConsumptionView of Consumption {
        /// When, or the start of the period.
        #[schema(value_type = String, format = DateTime)]
        ts: Timestamp,
        /// Which part.
        #[schema(value_type = String)]
        part: PartId,
        /// Where it was taken.
        #[schema(value_type = String)]
        depot: DepotId,
        /// How many pieces; zero says "no demand in that period".
        quantity: f64,
    }
}

/// A device and where it belongs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceView {
    /// Its id.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// Who owns it: the key's tenant, which may be left out.
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// What it is: a hardware model.
    #[schema(value_type = String)]
    pub model: HardwareModelId,
    /// The depot that serves it.
    #[schema(value_type = String)]
    pub depot: DepotId,
    /// The depot that will serve it once it has moved; null where it stays.
    #[schema(value_type = Option<String>)]
    pub moves_to: Option<DepotId>,
    /// When it moves: said where `moves_to` is, and nowhere else.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub moves_at: Option<Timestamp>,
    /// Serial number.
    pub serial: Option<String>,
    /// Site.
    pub site: Option<String>,
    /// Service contract.
    #[schema(value_type = Option<String>)]
    pub contract: Option<ContractId>,
    /// When it was installed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub installed_at: Option<Timestamp>,
    /// Before this nothing is known of the device.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub observed_from: Option<Timestamp>,
    /// After this nothing is known of the device.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub observed_until: Option<Timestamp>,
}

impl Row for DeviceView {
    const COLUMNS: &'static [&'static str] = &[
        "device",
        "tenant",
        "model",
        "depot",
        "serial",
        "site",
        "contract",
        "installed_at",
        "observed_from",
        "observed_until",
        "moves_to",
        "moves_at",
    ];
}

impl From<fleet::Device> for DeviceView {
    fn from(row: fleet::Device) -> Self {
        let fleet::Device {
            device,
            tenant,
            model,
            depot,
            moves_to,
            moves_at,
            serial,
            site,
            contract,
            installed_at,
            observed_from,
            observed_until,
        } = row;
        Self {
            device,
            tenant: Some(tenant),
            model,
            depot,
            moves_to,
            moves_at,
            serial,
            site,
            contract,
            installed_at,
            observed_from,
            observed_until,
        }
    }
}

impl DeviceView {
    /// The device, of the tenant it names or else of `tenant`.
    #[must_use]
    pub fn into_device(self, tenant: &TenantId) -> fleet::Device {
        fleet::Device {
            device: self.device,
            tenant: self.tenant.unwrap_or_else(|| tenant.clone()),
            model: self.model,
            depot: self.depot,
            moves_to: self.moves_to,
            moves_at: self.moves_at,
            serial: self.serial,
            site: self.site,
            contract: self.contract,
            installed_at: self.installed_at,
            observed_from: self.observed_from,
            observed_until: self.observed_until,
        }
    }
}

/// A whole fleet's registry and stock as one document.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FleetView {
    /// Hardware models.
    pub models: Vec<HardwareModelView>,
    /// Signals by model.
    pub signals: Vec<SignalView>,
    /// Component slots by model.
    pub components: Vec<ComponentView>,
    /// Parts.
    pub parts: Vec<PartView>,
    /// Depots.
    pub depots: Vec<DepotView>,
    /// Lanes between them.
    pub lanes: Vec<LaneView>,
    /// Contracts.
    pub contracts: Vec<ContractView>,
    /// Devices.
    pub devices: Vec<DeviceView>,
    /// Stock.
    pub stock: Vec<StockView>,
}

impl FleetView {
    /// The fleet, whose devices belong to `tenant` where they do not say.
    #[must_use]
    pub fn into_fleet(self, tenant: &TenantId) -> fleet::Fleet {
        fn each<V: Into<R>, R>(views: Vec<V>) -> Vec<R> {
            views.into_iter().map(Into::into).collect()
        }
        fleet::Fleet {
            models: each(self.models),
            signals: each(self.signals),
            components: each(self.components),
            parts: each(self.parts),
            depots: each(self.depots),
            lanes: each(self.lanes),
            contracts: each(self.contracts),
            devices: self.devices.into_iter().map(|device| device.into_device(tenant)).collect(),
            stock: each(self.stock),
        }
    }
}
