//! The tables of a fleet bundle as rows of typed cells: what `docs/reference/fleet-bundle.md` says, once for every format.

use std::borrow::Cow;

use harbinger_core::{
    DeviceEvent, Timestamp,
    fleet::{
        ComponentSlot, Consumption, Contract, Depot, Device, Failure, HardwareModel, Lane, Maintenance, Part,
        SignalSpec, StockLevel,
    },
};

/// What the cells of a column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// An instant, to the millisecond.
    Time,
    /// A finite number.
    Number,
    /// A whole number from 0.
    Count,
    /// True or false.
    Flag,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What its cells hold.
    pub kind: Kind,
    /// Whether a cell may be empty: "not known".
    pub optional: bool,
}

/// A cell.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// Not known.
    Empty,
    /// Of a [`Kind::Text`] column.
    Text(&'a str),
    /// Of a [`Kind::Time`] column.
    Time(Timestamp),
    /// Of a [`Kind::Number`] column.
    Number(f64),
    /// Of a [`Kind::Count`] column.
    Count(u32),
    /// Of a [`Kind::Flag`] column.
    Flag(bool),
}

impl<'a, T: AsRef<str> + ?Sized> From<&'a T> for Cell<'a> {
    fn from(text: &'a T) -> Self {
        Self::Text(text.as_ref())
    }
}

impl From<Timestamp> for Cell<'_> {
    fn from(ts: Timestamp) -> Self {
        Self::Time(ts)
    }
}

impl From<f64> for Cell<'_> {
    /// Not a number is no value: the cell is empty.
    fn from(number: f64) -> Self {
        if number.is_nan() { Self::Empty } else { Self::Number(number) }
    }
}

impl From<u32> for Cell<'_> {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(known: Option<T>) -> Self {
        known.map_or(Self::Empty, Into::into)
    }
}

/// A row of a table whose columns are the same in every bundle.
pub trait Record {
    /// The table's name.
    const TABLE: &'static str;
    /// Its columns.
    const COLUMNS: &'static [Column];
    /// Whether it grows with time: such a file is worth zipping.
    const GROWS: bool = false;

    /// A cell a column.
    fn cells(&self) -> Vec<Cell<'_>>;
}

pub(super) const fn required(name: &'static str, kind: Kind) -> Column {
    Column { name: Cow::Borrowed(name), kind, optional: false }
}

const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name: Cow::Borrowed(name), kind, optional: true }
}

/// A table: its name, whether it grows with time, and each column with the cell of a row.
macro_rules! table {
    ($record:ident, $table:literal, grows $grows:literal, |$row:ident| {
        $($presence:ident $name:literal $kind:ident: $cell:expr),+ $(,)?
    }) => {
        impl Record for $record {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [Column] = &[$($presence($name, Kind::$kind)),+];
            const GROWS: bool = $grows;

            fn cells(&self) -> Vec<Cell<'_>> {
                let $row = self;
                vec![$(Cell::from($cell)),+]
            }
        }
    };
}

table!(HardwareModel, "models", grows false, |row| {
    required "model" Text: &row.model,
    required "kind" Text: &row.kind,
    optional "description" Text: row.description.as_ref(),
});

table!(SignalSpec, "signals", grows false, |row| {
    required "model" Text: &row.model,
    required "signal" Text: &row.signal,
    required "unit" Text: &row.unit,
    optional "description" Text: row.description.as_ref(),
    optional "low_limit" Number: row.low_limit,
    optional "high_limit" Number: row.high_limit,
});

table!(ComponentSlot, "components", grows false, |row| {
    required "model" Text: &row.model,
    required "component" Text: &row.component,
    required "part" Text: &row.part,
    required "quantity" Count: row.quantity,
    optional "description" Text: row.description.as_ref(),
});

table!(Part, "parts", grows false, |row| {
    required "part" Text: &row.part,
    required "unit_cost" Number: row.unit_cost,
    optional "description" Text: row.description.as_ref(),
    optional "supplier_lead_days" Number: row.supplier_lead_days,
    required "repairable" Flag: row.repairable,
    optional "repair_days" Number: row.repair_days,
    optional "repair_yield" Number: row.repair_yield,
    optional "pack_size" Count: row.pack_size,
    optional "minimum_order" Count: row.minimum_order,
    optional "successor" Text: row.successor.as_ref(),
    optional "shelf_life_days" Number: row.shelf_life_days,
    optional "supplier_lead_days_p95" Number: row.supplier_lead_days_p95,
    optional "repair_places" Count: row.repair_places,
});

table!(Depot, "depots", grows false, |row| {
    required "depot" Text: &row.depot,
    required "echelon" Text: row.echelon.as_str(),
    optional "region" Text: row.region.as_ref(),
    optional "latitude" Number: row.latitude,
    optional "longitude" Number: row.longitude,
    optional "timezone" Text: row.timezone.as_ref(),
    optional "capacity" Count: row.capacity,
});

table!(Lane, "lanes", grows false, |row| {
    required "from" Text: &row.from,
    required "to" Text: &row.to,
    required "days" Number: row.days,
    optional "days_p95" Number: row.days_p95,
    optional "cost_per_piece" Number: row.cost_per_piece,
    optional "fixed_cost" Number: row.fixed_cost,
    optional "capacity" Count: row.capacity,
});

table!(Contract, "contracts", grows false, |row| {
    required "contract" Text: &row.contract,
    required "respond_hours" Number: row.respond_hours,
    required "resolve_hours" Number: row.resolve_hours,
    optional "downtime_cost_per_day" Number: row.downtime_cost_per_day,
    optional "miss_penalty" Number: row.miss_penalty,
});

table!(Device, "devices", grows false, |row| {
    required "device" Text: &row.device,
    required "tenant" Text: &row.tenant,
    required "model" Text: &row.model,
    required "depot" Text: &row.depot,
    optional "serial" Text: row.serial.as_ref(),
    optional "site" Text: row.site.as_ref(),
    optional "contract" Text: row.contract.as_ref(),
    optional "installed_at" Time: row.installed_at,
    optional "observed_from" Time: row.observed_from,
    optional "observed_until" Time: row.observed_until,
    optional "moves_to" Text: row.moves_to.as_ref(),
    optional "moves_at" Time: row.moves_at,
});

table!(StockLevel, "stock", grows false, |row| {
    required "part" Text: &row.part,
    required "depot" Text: &row.depot,
    required "on_hand" Count: row.on_hand,
    required "in_transit" Count: row.in_transit,
});

table!(DeviceEvent, "events", grows true, |row| {
    required "ts" Time: row.ts,
    required "device" Text: &row.key.device,
    required "code" Text: &row.code,
    required "severity" Text: row.severity.as_str(),
    optional "message" Text: row.message.as_ref(),
});

table!(Maintenance, "maintenance", grows true, |row| {
    required "ts" Time: row.ts,
    required "device" Text: &row.device,
    required "component" Text: &row.component,
    required "action" Text: row.action.as_str(),
    required "reason" Text: row.reason.as_str(),
});

table!(Failure, "failures", grows false, |row| {
    required "ts" Time: row.ts,
    required "device" Text: &row.device,
    required "component" Text: &row.component,
});

table!(Consumption, "consumption", grows true, |row| {
    required "ts" Time: row.ts,
    required "part" Text: &row.part,
    required "depot" Text: &row.depot,
    required "quantity" Number: row.quantity,
});
