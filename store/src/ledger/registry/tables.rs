//! How each kind of the fleet stands in its table.

use harbinger_core::{
    TenantId,
    fleet::{ComponentSlot, Contract, Depot, Device, HardwareModel, Lane, Part, SignalSpec, circles_of_successors},
};
use sqlx::any::AnyRow;

use super::{Record, Reference, Values};
use crate::ledger::{
    Error,
    column::{count, count_optional, get, parse, parse_optional, time_optional},
};

fn model_reference<R>(named: fn(&R) -> Option<&str>) -> Reference<R> {
    Reference { what: "model", table: "hardware_models", column: "model", named }
}

fn part_reference<R>(named: fn(&R) -> Option<&str>) -> Reference<R> {
    Reference { what: "part", table: "parts", column: "part", named }
}

fn depot_reference<R>(named: fn(&R) -> Option<&str>) -> Reference<R> {
    Reference { what: "depot", table: "depots", column: "depot", named }
}

fn at_least_zero(what: &str, value: impl Into<Option<f64>>) -> Result<(), String> {
    match value.into() {
        Some(number) if !(number.is_finite() && number >= 0.0) => Err(format!("{what} is {number}, not 0 or more")),
        _ => Ok(()),
    }
}

impl Record for HardwareModel {
    const WHAT: &'static str = "hardware model";
    const TABLE: &'static str = "hardware_models";
    const COLUMNS: &'static [&'static str] = &["model", "kind", "description"];
    const KEYS: usize = 1;

    fn key(&self) -> Vec<&str> {
        vec![self.model.as_str()]
    }
    fn write(&self, values: &mut Values<'_>) {
        values.text(self.model.as_str()).text(&self.kind).text_optional(self.description.as_deref());
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self { model: parse(row, "model")?, kind: get(row, "kind")?, description: get(row, "description")? })
    }
}

impl Record for SignalSpec {
    const WHAT: &'static str = "signal";
    const TABLE: &'static str = "signals";
    const COLUMNS: &'static [&'static str] = &["model", "signal", "unit", "description", "low_limit", "high_limit"];
    const KEYS: usize = 2;

    fn key(&self) -> Vec<&str> {
        vec![self.model.as_str(), self.signal.as_str()]
    }
    fn references() -> Vec<Reference<Self>> {
        vec![model_reference(|signal| Some(signal.model.as_str()))]
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.model.as_str())
            .text(self.signal.as_str())
            .text(&self.unit)
            .text_optional(self.description.as_deref())
            .number(self.low_limit)
            .number(self.high_limit);
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            model: parse(row, "model")?,
            signal: parse(row, "signal")?,
            unit: get(row, "unit")?,
            description: get(row, "description")?,
            low_limit: get(row, "low_limit")?,
            high_limit: get(row, "high_limit")?,
        })
    }
}

impl Record for ComponentSlot {
    const WHAT: &'static str = "component";
    const TABLE: &'static str = "components";
    const COLUMNS: &'static [&'static str] = &["model", "component", "part", "quantity", "description"];
    const KEYS: usize = 2;

    fn key(&self) -> Vec<&str> {
        vec![self.model.as_str(), self.component.as_str()]
    }
    fn references() -> Vec<Reference<Self>> {
        vec![model_reference(|slot: &Self| Some(slot.model.as_str())), part_reference(|slot| Some(slot.part.as_str()))]
    }
    fn check(&self, _tenant: &TenantId) -> Result<(), String> {
        if self.quantity == 0 { Err("quantity is 0, not 1 or more".to_owned()) } else { Ok(()) }
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.model.as_str())
            .text(self.component.as_str())
            .text(self.part.as_str())
            .count(self.quantity)
            .text_optional(self.description.as_deref());
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            model: parse(row, "model")?,
            component: parse(row, "component")?,
            part: parse(row, "part")?,
            quantity: count(row, "quantity")?,
            description: get(row, "description")?,
        })
    }
}

impl Record for Part {
    const WHAT: &'static str = "part";
    const TABLE: &'static str = "parts";
    const COLUMNS: &'static [&'static str] = &[
        "part",
        "unit_cost",
        "description",
        "supplier_lead_days",
        "repairable",
        "repair_days",
        "repair_yield",
        "pack_size",
        "minimum_order",
        "successor",
        "shelf_life_days",
        "supplier_lead_days_p95",
        "repair_places",
    ];
    const KEYS: usize = 1;

    fn key(&self) -> Vec<&str> {
        vec![self.part.as_str()]
    }
    fn references() -> Vec<Reference<Self>> {
        vec![part_reference(|part: &Self| part.successor.as_ref().map(|successor| successor.as_str()))]
    }
    fn check(&self, _tenant: &TenantId) -> Result<(), String> {
        at_least_zero("unit_cost", self.unit_cost)?;
        at_least_zero("supplier_lead_days", self.supplier_lead_days)?;
        at_least_zero("supplier_lead_days_p95", self.supplier_lead_days_p95)?;
        at_least_zero("repair_days", self.repair_days)?;
        if self.repair_places == Some(0) {
            return Err("repair_places is 0, not 1 or more; leave it empty where there is no bound".to_owned());
        }
        if let Some(days) = self.shelf_life_days.filter(|days| !(days.is_finite() && *days > 0.0)) {
            return Err(format!("shelf_life_days is {days}, not a number above zero"));
        }
        match self.repair_yield {
            Some(share) if !(0.0..=1.0).contains(&share) => Err(format!("repair_yield is {share}, not in 0..=1")),
            _ => Ok(()),
        }
    }
    const CHECKS_TABLE: bool = true;
    fn check_table(parts: &[Self]) -> Result<(), String> {
        match circles_of_successors(parts).first() {
            Some(part) => Err(format!(
                "successors lead from part {:?} round in a circle: leave that of the newest part empty",
                part.as_str()
            )),
            None => Ok(()),
        }
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.part.as_str())
            .number(self.unit_cost)
            .text_optional(self.description.as_deref())
            .number(self.supplier_lead_days)
            .count(u32::from(self.repairable))
            .number(self.repair_days)
            .number(self.repair_yield)
            .count(self.pack_size)
            .count(self.minimum_order)
            .text_optional(self.successor.as_ref().map(|successor| successor.as_str()))
            .number(self.shelf_life_days)
            .number(self.supplier_lead_days_p95)
            .count(self.repair_places);
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            part: parse(row, "part")?,
            unit_cost: get(row, "unit_cost")?,
            description: get(row, "description")?,
            supplier_lead_days: get(row, "supplier_lead_days")?,
            repairable: count(row, "repairable")? != 0,
            repair_days: get(row, "repair_days")?,
            repair_yield: get(row, "repair_yield")?,
            pack_size: count_optional(row, "pack_size")?,
            minimum_order: count_optional(row, "minimum_order")?,
            successor: parse_optional(row, "successor")?,
            shelf_life_days: get(row, "shelf_life_days")?,
            supplier_lead_days_p95: get(row, "supplier_lead_days_p95")?,
            repair_places: count_optional(row, "repair_places")?,
        })
    }
}

impl Record for Depot {
    const WHAT: &'static str = "depot";
    const TABLE: &'static str = "depots";
    const COLUMNS: &'static [&'static str] =
        &["depot", "echelon", "region", "latitude", "longitude", "timezone", "capacity"];
    const KEYS: usize = 1;

    fn key(&self) -> Vec<&str> {
        vec![self.depot.as_str()]
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.depot.as_str())
            .text(self.echelon.as_str())
            .text_optional(self.region.as_deref())
            .number(self.latitude)
            .number(self.longitude)
            .text_optional(self.timezone.as_deref())
            .count(self.capacity);
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            depot: parse(row, "depot")?,
            echelon: parse(row, "echelon")?,
            region: get(row, "region")?,
            latitude: get(row, "latitude")?,
            longitude: get(row, "longitude")?,
            timezone: get(row, "timezone")?,
            capacity: count_optional(row, "capacity")?,
        })
    }
}

impl Record for Lane {
    const WHAT: &'static str = "lane";
    const TABLE: &'static str = "lanes";
    const COLUMNS: &'static [&'static str] =
        &["from_depot", "to_depot", "days", "days_p95", "cost_per_piece", "fixed_cost", "capacity"];
    const KEYS: usize = 2;

    fn key(&self) -> Vec<&str> {
        vec![self.from.as_str(), self.to.as_str()]
    }
    fn references() -> Vec<Reference<Self>> {
        vec![depot_reference(|lane: &Self| Some(lane.from.as_str())), depot_reference(|lane| Some(lane.to.as_str()))]
    }
    fn check(&self, _tenant: &TenantId) -> Result<(), String> {
        at_least_zero("days", self.days)?;
        at_least_zero("days_p95", self.days_p95)?;
        at_least_zero("cost_per_piece", self.cost_per_piece)?;
        at_least_zero("fixed_cost", self.fixed_cost)
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.from.as_str())
            .text(self.to.as_str())
            .number(self.days)
            .number(self.days_p95)
            .number(self.cost_per_piece)
            .number(self.fixed_cost)
            .count(self.capacity);
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            from: parse(row, "from_depot")?,
            to: parse(row, "to_depot")?,
            days: get(row, "days")?,
            days_p95: get(row, "days_p95")?,
            cost_per_piece: get(row, "cost_per_piece")?,
            fixed_cost: get(row, "fixed_cost")?,
            capacity: count_optional(row, "capacity")?,
        })
    }
}

impl Record for Contract {
    const WHAT: &'static str = "contract";
    const TABLE: &'static str = "contracts";
    const COLUMNS: &'static [&'static str] =
        &["contract", "respond_hours", "resolve_hours", "downtime_cost_per_day", "miss_penalty"];
    const KEYS: usize = 1;

    fn key(&self) -> Vec<&str> {
        vec![self.contract.as_str()]
    }
    fn check(&self, _tenant: &TenantId) -> Result<(), String> {
        at_least_zero("respond_hours", self.respond_hours)?;
        at_least_zero("resolve_hours", self.resolve_hours)?;
        at_least_zero("downtime_cost_per_day", self.downtime_cost_per_day)?;
        at_least_zero("miss_penalty", self.miss_penalty)
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.contract.as_str())
            .number(self.respond_hours)
            .number(self.resolve_hours)
            .number(self.downtime_cost_per_day)
            .number(self.miss_penalty);
    }
    fn read(_tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            contract: parse(row, "contract")?,
            respond_hours: get(row, "respond_hours")?,
            resolve_hours: get(row, "resolve_hours")?,
            downtime_cost_per_day: get(row, "downtime_cost_per_day")?,
            miss_penalty: get(row, "miss_penalty")?,
        })
    }
}

impl Record for Device {
    const WHAT: &'static str = "device";
    const TABLE: &'static str = "devices";
    const COLUMNS: &'static [&'static str] = &[
        "device",
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
    const KEYS: usize = 1;

    fn key(&self) -> Vec<&str> {
        vec![self.device.as_str()]
    }
    fn references() -> Vec<Reference<Self>> {
        vec![
            model_reference(|device: &Self| Some(device.model.as_str())),
            depot_reference(|device| Some(device.depot.as_str())),
            depot_reference(|device| device.moves_to.as_ref().map(|depot| depot.as_str())),
            Reference {
                what: "contract",
                table: "contracts",
                column: "contract",
                named: |device| device.contract.as_ref().map(|contract| contract.as_str()),
            },
        ]
    }
    fn check(&self, tenant: &TenantId) -> Result<(), String> {
        if self.tenant != *tenant {
            return Err(format!("it belongs to tenant {:?}, not to {:?}", self.tenant.as_str(), tenant.as_str()));
        }
        match self.moves_to.is_some() == self.moves_at.is_some() {
            true => Ok(()),
            false => Err("moves_to and moves_at go together: say both, or none where it stays".to_owned()),
        }
    }
    fn write(&self, values: &mut Values<'_>) {
        values
            .text(self.device.as_str())
            .text(self.model.as_str())
            .text(self.depot.as_str())
            .text_optional(self.serial.as_deref())
            .text_optional(self.site.as_deref())
            .text_optional(self.contract.as_ref().map(|contract| contract.as_str()))
            .time(self.installed_at)
            .time(self.observed_from)
            .time(self.observed_until)
            .text_optional(self.moves_to.as_ref().map(|depot| depot.as_str()))
            .time(self.moves_at);
    }
    fn read(tenant: &TenantId, row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            device: parse(row, "device")?,
            tenant: tenant.clone(),
            model: parse(row, "model")?,
            depot: parse(row, "depot")?,
            serial: get(row, "serial")?,
            site: get(row, "site")?,
            contract: parse_optional(row, "contract")?,
            installed_at: time_optional(row, "installed_at")?,
            observed_from: time_optional(row, "observed_from")?,
            observed_until: time_optional(row, "observed_until")?,
            moves_to: parse_optional(row, "moves_to")?,
            moves_at: time_optional(row, "moves_at")?,
        })
    }
}
