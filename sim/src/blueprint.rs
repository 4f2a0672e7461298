//! The hardware models of the simulated fleet: their slots, the parts that fill them, how those wear, what they report.

use harbinger_core::Severity;

use crate::{
    life::Weibull,
    signals::{APPLIANCE_SIGNALS, Condition, Cooling, SERVER_SIGNALS, SIGNALS, SLOTS, Signal},
};

/// What a device does when a slot has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It goes on reporting, short of that piece.
    Degraded,
    /// It reports nothing until the piece is replaced.
    Silent,
}

/// A slot of a hardware model.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) component: &'static str,
    pub(crate) part: &'static str,
    pub(crate) description: &'static str,
    /// Law of life without acceleration.
    pub(crate) life: Weibull,
    /// Shortest and longest degradation phase in days.
    pub(crate) warning_days: (f64, f64),
    pub(crate) on_failure: OnFailure,
}

/// Which function computes a model's signals.
#[derive(Debug)]
pub(crate) enum Family {
    Server,
    Appliance(Cooling),
}

/// A code that devices report at random, more often as a slot degrades.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) message: &'static str,
    /// Times a day while all is well: the false ones.
    pub(crate) background_per_day: f64,
    /// Slot whose wear makes it more frequent, and times a day at full severity.
    pub(crate) worn: Option<(usize, f64)>,
}

impl Code {
    /// Times a day under the given conditions.
    pub(crate) fn rate_per_day(&self, conditions: &[Condition; SLOTS]) -> f64 {
        let wear = self.worn.and_then(|(slot, rate)| conditions.get(slot).map(|c| c.severity * rate));
        self.background_per_day + wear.unwrap_or(0.0)
    }
}

/// A hardware model.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) model: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) description: &'static str,
    /// Devices are named with this and a number.
    pub(crate) prefix: &'static str,
    pub(crate) slots: [Slot; SLOTS],
    pub(crate) signals: &'static [Signal; SIGNALS],
    pub(crate) codes: &'static [Code],
    pub(crate) family: Family,
}

/// A spare part of the simulated fleet.
#[derive(Debug)]
pub(crate) struct PartSpec {
    pub(crate) part: &'static str,
    pub(crate) description: &'static str,
    pub(crate) unit_cost: f64,
    pub(crate) supplier_lead_days: f64,
    /// Repair turnaround in days and share repaired, where failed pieces are worth it.
    pub(crate) repair: Option<(f64, f64)>,
}

const fn code(
    code: &'static str,
    severity: Severity,
    message: &'static str,
    background_per_day: f64,
    worn: Option<(usize, f64)>,
) -> Code {
    Code { code, severity, message, background_per_day, worn }
}

const SERVER_CODES: [Code; 4] = [
    code("SMART_WARNING", Severity::Warning, "drive self test reports read errors", 0.004, Some((0, 1.5))),
    code("FAN_SPEED_LOW", Severity::Warning, "fan does not reach the demanded speed", 0.003, Some((1, 1.2))),
    code("OVER_TEMPERATURE", Severity::Critical, "processor above its warning temperature", 0.006, Some((1, 0.6))),
    code("ECC_BURST", Severity::Warning, "more than 10 corrected memory errors in a minute", 0.01, Some((2, 2.5))),
];

const REFRIGERATOR_CODES: [Code; 5] = [
    code("DOOR_OPEN", Severity::Info, "door open for more than two minutes", 0.8, None),
    code("OVER_TEMPERATURE", Severity::Critical, "compartment above its limit", 0.01, Some((0, 1.2))),
    code("COMPRESSOR_OVERLOAD", Severity::Warning, "motor protector has tripped", 0.003, Some((0, 1.0))),
    code("FAN_SPEED_LOW", Severity::Warning, "fan does not reach the demanded speed", 0.003, Some((1, 1.2))),
    code("SENSOR_IMPLAUSIBLE", Severity::Warning, "temperature sensor jumps", 0.004, Some((2, 1.5))),
];

const AIR_CONDITIONER_CODES: [Code; 5] = [
    code("FILTER_DIRTY", Severity::Info, "filter is due for cleaning", 0.03, None),
    code("HIGH_PRESSURE", Severity::Critical, "pressure switch has opened", 0.006, Some((0, 0.8))),
    code("COMPRESSOR_OVERLOAD", Severity::Warning, "motor protector has tripped", 0.003, Some((0, 1.0))),
    code("FAN_SPEED_LOW", Severity::Warning, "fan does not reach the demanded speed", 0.003, Some((1, 1.2))),
    code("SENSOR_IMPLAUSIBLE", Severity::Warning, "temperature sensor jumps", 0.004, Some((2, 1.5))),
];

// Shapes: electronics fail at a constant rate (shape 1), bearings and compressors by wear (2 and more), drives between. Scales
// are of the order of published annual failure rates: drives 1-2 % would be decades, so a poor batch is simulated.
const DRIVE: Weibull = Weibull { shape: 1.4, scale_days: 1500.0 };
const SERVER_FAN: Weibull = Weibull { shape: 2.2, scale_days: 1400.0 };
const MEMORY: Weibull = Weibull { shape: 1.0, scale_days: 3200.0 };
const COMPRESSOR: Weibull = Weibull { shape: 2.5, scale_days: 2600.0 };
const APPLIANCE_FAN: Weibull = Weibull { shape: 2.0, scale_days: 1800.0 };
const SENSOR: Weibull = Weibull { shape: 1.0, scale_days: 2600.0 };

const fn server_slots(fan_part: &'static str) -> [Slot; SLOTS] {
    use OnFailure::{Degraded, Silent};
    [
        slot("drive", "DRV-8T-SAS", "data drive", DRIVE, (5.0, 16.0), Degraded),
        slot("fan", fan_part, "chassis fan", SERVER_FAN, (4.0, 14.0), Degraded),
        slot("memory", "DIMM-32G-R", "memory module", MEMORY, (2.0, 10.0), Silent),
    ]
}

const fn appliance_slots(compressor_part: &'static str, fan_part: &'static str) -> [Slot; SLOTS] {
    use OnFailure::Degraded;
    [
        slot("compressor", compressor_part, "compressor", COMPRESSOR, (6.0, 20.0), Degraded),
        slot("fan", fan_part, "evaporator fan", APPLIANCE_FAN, (4.0, 14.0), Degraded),
        slot("sensor", "NTC-10K", "temperature sensor", SENSOR, (3.0, 10.0), Degraded),
    ]
}

const fn slot(
    component: &'static str,
    part: &'static str,
    description: &'static str,
    life: Weibull,
    warning_days: (f64, f64),
    on_failure: OnFailure,
) -> Slot {
    Slot { component, part, description, life, warning_days, on_failure }
}

/// Position in [`BLUEPRINTS`] of the two servers, the refrigerator and the air conditioner.
pub(crate) const SERVERS: [usize; 2] = [0, 1];
pub(crate) const REFRIGERATOR: usize = 2;
pub(crate) const AIR_CONDITIONER: usize = 3;

/// All hardware models.
pub(crate) static BLUEPRINTS: [Blueprint; 4] = [
    Blueprint {
        model: "RX-1U",
        kind: "server",
        description: "rack server, one unit",
        prefix: "srv-a",
        slots: server_slots("FAN-40-RX1"),
        signals: &SERVER_SIGNALS,
        codes: &SERVER_CODES,
        family: Family::Server,
    },
    Blueprint {
        model: "RX-2U",
        kind: "server",
        description: "rack server, two units",
        prefix: "srv-b",
        slots: server_slots("FAN-80-RX2"),
        signals: &SERVER_SIGNALS,
        codes: &SERVER_CODES,
        family: Family::Server,
    },
    Blueprint {
        model: "CM-300",
        kind: "refrigerator",
        description: "upright refrigerator, 300 litres",
        prefix: "ref",
        slots: appliance_slots("CMP-R600-12", "FAN-EV-120"),
        signals: &APPLIANCE_SIGNALS,
        codes: &REFRIGERATOR_CODES,
        family: Family::Appliance(Cooling {
            ambient_c: (23.0, 2.0),
            target_c: 4.0,
            evaporator_below_c: 14.0,
            current_a: 1.1,
            suction_bar: 1.3,
            starts_per_day: 30.0,
            fan_rpm: 1300.0,
            base_w: 8.0,
        }),
    },
    Blueprint {
        model: "AS-12",
        kind: "air_conditioner",
        description: "split air conditioner, 3.5 kW",
        prefix: "aco",
        slots: appliance_slots("CMP-R32-35", "FAN-CF-700"),
        signals: &APPLIANCE_SIGNALS,
        codes: &AIR_CONDITIONER_CODES,
        family: Family::Appliance(Cooling {
            ambient_c: (28.0, 5.0),
            target_c: 23.0,
            evaporator_below_c: 14.0,
            current_a: 4.6,
            suction_bar: 8.2,
            starts_per_day: 18.0,
            fan_rpm: 1100.0,
            base_w: 35.0,
        }),
    },
];

const fn part(
    part: &'static str,
    description: &'static str,
    unit_cost: f64,
    supplier_lead_days: f64,
    repair: Option<(f64, f64)>,
) -> PartSpec {
    PartSpec { part, description, unit_cost, supplier_lead_days, repair }
}

/// All spare parts. Six of the nine fit one model only.
pub(crate) static PARTS: [PartSpec; 9] = [
    part("DRV-8T-SAS", "drive 8 TB SAS", 280.0, 21.0, None),
    part("DIMM-32G-R", "memory module 32 GB registered", 190.0, 14.0, None),
    part("FAN-40-RX1", "fan 40 mm for RX-1U", 45.0, 10.0, None),
    part("FAN-80-RX2", "fan 80 mm for RX-2U", 60.0, 10.0, None),
    part("CMP-R600-12", "compressor R600a for CM-300", 165.0, 35.0, Some((20.0, 0.6))),
    part("CMP-R32-35", "compressor R32 for AS-12", 420.0, 35.0, Some((20.0, 0.7))),
    part("FAN-EV-120", "evaporator fan for CM-300", 38.0, 12.0, None),
    part("FAN-CF-700", "cross-flow fan for AS-12", 74.0, 12.0, None),
    part("NTC-10K", "temperature sensor 10 kOhm", 9.0, 14.0, None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_filled_by_a_part_that_is_listed() {
        for blueprint in &BLUEPRINTS {
            for slot in &blueprint.slots {
                assert!(PARTS.iter().any(|p| p.part == slot.part), "{} {}", blueprint.model, slot.part);
            }
            assert!(blueprint.codes.iter().filter_map(|c| c.worn).all(|(slot, _)| slot < SLOTS));
        }
    }
}
