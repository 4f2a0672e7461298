//! What devices measure: the healthy values, and how wear bends them.
//!
//! Each family has eight signals, listed once, in the order in which its function computes them. The shapes are those that
//! the trade knows: worn bearings slow a fan and shake it, a dying drive remaps sectors and retries reads, weak memory is
//! corrected more and more often, a leaking compressor draws more current for less cold and starts more often, an ageing
//! sensor drifts and jitters.

use crate::noise::Noise;

/// Signals of a device of any family.
pub(crate) const SIGNALS: usize = 8;
/// Slots of a device of any family.
pub(crate) const SLOTS: usize = 3;

/// A signal as the registry lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signal {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) description: &'static str,
    pub(crate) low_limit: Option<f64>,
    pub(crate) high_limit: Option<f64>,
}

const fn signal(name: &'static str, unit: &'static str, description: &'static str) -> Signal {
    Signal { name, unit, description, low_limit: None, high_limit: None }
}

impl Signal {
    const fn at_least(self, low: f64) -> Self {
        Self { low_limit: Some(low), ..self }
    }

    const fn at_most(self, high: f64) -> Self {
        Self { high_limit: Some(high), ..self }
    }
}

/// Signals of a server, in the order of [`server`].
pub(crate) const SERVER_SIGNALS: [Signal; SIGNALS] = [
    signal("drive_reallocated_sectors", "{count}", "sectors the drive has remapped since it was new (counter)")
        .at_most(200.0),
    signal("drive_pending_sectors", "{count}", "sectors waiting to be remapped").at_most(30.0),
    signal("drive_read_latency_ms", "ms", "mean latency of a read").at_most(40.0),
    signal("fan1_rpm", "/min", "speed of the fan").at_least(4000.0),
    signal("fan_vibration_mm_s", "mm/s", "vibration at the fan, root mean square").at_most(7.1),
    signal("inlet_c", "Cel", "air temperature at the inlet").at_most(32.0),
    signal("cpu_c", "Cel", "processor temperature").at_most(90.0),
    signal("ecc_corrected_total", "{count}", "memory errors corrected since the module was new (counter)"),
];

/// Signals of a refrigerator or an air conditioner, in the order of [`appliance`].
pub(crate) const APPLIANCE_SIGNALS: [Signal; SIGNALS] = [
    signal("compressor_current_a", "A", "mean current of the compressor while it runs").at_most(9.0),
    signal("evaporator_c", "Cel", "temperature at the evaporator"),
    signal("suction_bar", "bar", "pressure at the suction side, absolute"),
    signal("compressor_starts_total", "{count}", "starts of the compressor since it was new (counter)"),
    signal("fan_rpm", "/min", "speed of the evaporator fan").at_least(400.0),
    signal("temperature_sensor_c", "Cel", "temperature that the controller reads"),
    signal("ambient_c", "Cel", "air temperature around the device").at_most(45.0),
    signal("power_w", "W", "mean electric power"),
];

/// The state of a slot as its signals feel it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Condition {
    /// 0 healthy, 1 at failure.
    pub(crate) severity: f64,
    /// Whether it no longer works.
    pub(crate) failed: bool,
}

/// How a device differs from others of its make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// Factor on speeds, currents and latencies, near 1.
    pub(crate) gain: f64,
    /// Added to temperatures, in degrees.
    pub(crate) warmth_c: f64,
}

/// What surrounds a device during a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    /// Length of the step.
    pub(crate) days: f64,
    /// -1 in the coldest hour of the day, 1 in the warmest.
    pub(crate) daily_wave: f64,
    /// How hard the device works, 0..=1.
    pub(crate) load: f64,
}

/// Running totals; each belongs to the piece in a slot and starts again with a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counters(pub(crate) [f64; SLOTS]);

/// Readings of a server: `[drive, fan, memory]`. A value is absent where the piece that measures it is dead.
pub(crate) fn server(
    [drive, fan, memory]: [Condition; SLOTS],
    counters: &mut Counters,
    traits: Traits,
    around: Surroundings,
    noise: &mut Noise,
) -> [Option<f64>; SIGNALS] {
    let Counters([reallocated, _, corrected]) = counters;
    *reallocated += noise.poisson((0.01 + 25.0 * drive.severity) * around.days);
    *corrected += noise.poisson((0.2 + 80.0 * memory.severity) * around.days);
    let pending = noise.poisson(0.02 + 14.0 * drive.severity * drive.severity);
    let latency = 6.0 * traits.gain * (1.0 + 0.8 * around.load + 2.2 * drive.severity) * (1.0 + 0.08 * noise.normal());
    let demanded_rpm = 7000.0 + 1500.0 * around.load + 200.0 * around.daily_wave;
    let rpm = demanded_rpm * traits.gain * (1.0 - 0.28 * fan.severity) * (1.0 + 0.01 * noise.normal());
    let vibration = 1.3 * traits.gain * (1.0 + 3.5 * fan.severity) * (1.0 + 0.10 * noise.normal()).max(0.1);
    let inlet = 22.0 + traits.warmth_c + 1.5 * around.daily_wave + 0.3 * noise.normal();
    let lost_cooling = if fan.failed { 24.0 } else { 9.0 * fan.severity };
    let cpu = inlet + 26.0 + 22.0 * around.load + lost_cooling + 0.8 * noise.normal();
    let of_drive = |value: f64| (!drive.failed).then_some(value);
    [
        of_drive(*reallocated),
        of_drive(pending),
        of_drive(to_step(latency, 0.01)),
        Some(if fan.failed { 0.0 } else { to_step(rpm, 10.0) }),
        Some(if fan.failed { 0.0 } else { to_step(vibration, 0.01) }),
        Some(to_step(inlet, 0.5)),
        Some(to_step(cpu, 1.0)),
        Some(*corrected),
    ]
}

/// What distinguishes one cooling appliance from another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cooling {
    /// Air around it: mean and half the daily swing.
    pub(crate) ambient_c: (f64, f64),
    /// Temperature that the controller holds.
    pub(crate) target_c: f64,
    /// Evaporator below the target while it cools.
    pub(crate) evaporator_below_c: f64,
    /// Compressor current when healthy.
    pub(crate) current_a: f64,
    /// Suction pressure when healthy.
    pub(crate) suction_bar: f64,
    /// Compressor starts a day when healthy.
    pub(crate) starts_per_day: f64,
    /// Fan speed when healthy.
    pub(crate) fan_rpm: f64,
    /// Power of everything but the compressor.
    pub(crate) base_w: f64,
}

/// Pressure of the circuit with the compressor at rest, and mains voltage.
const RESTING_BAR: f64 = 6.0;
const MAINS_V: f64 = 230.0;

/// Readings of a cooling appliance: `[compressor, fan, sensor]`.
pub(crate) fn appliance(
    cooling: &Cooling,
    [compressor, fan, sensor]: [Condition; SLOTS],
    counters: &mut Counters,
    traits: Traits,
    around: Surroundings,
    noise: &mut Noise,
) -> [Option<f64>; SIGNALS] {
    let Counters([starts, _, _]) = counters;
    let worn = compressor.severity;
    let (ambient_mean, ambient_swing) = cooling.ambient_c;
    let ambient = ambient_mean + 2.0 * traits.warmth_c + ambient_swing * around.daily_wave + 0.3 * noise.normal();
    let work = 0.35 + 0.25 * around.load + 0.012 * (ambient - ambient_mean);
    let short_cycling = 1.0 + 1.8 * worn + 0.5 * sensor.severity;
    let starts_now = noise.poisson(cooling.starts_per_day * (0.7 + 0.6 * around.load) * short_cycling * around.days);
    let current =
        cooling.current_a * traits.gain * (1.0 + 0.15 * around.load + 0.4 * worn) * (1.0 + 0.03 * noise.normal());
    let suction = cooling.suction_bar * (1.0 + 0.3 * worn - 0.12 * fan.severity) * (1.0 + 0.03 * noise.normal());
    let icing_c = 5.0 * fan.severity;
    let cold_evaporator = cooling.target_c - cooling.evaporator_below_c + 6.0 * worn - icing_c + 1.5 * around.load;
    let rpm = cooling.fan_rpm * traits.gain * (1.0 - 0.35 * fan.severity) * (1.0 + 0.012 * noise.normal());
    let room_warming_c = 3.0 * worn + 1.5 * fan.severity + 0.8 * around.load;
    let (evaporator, held) = if compressor.failed {
        (ambient - 1.0, ambient)
    } else {
        *starts += starts_now;
        (cold_evaporator, cooling.target_c + room_warming_c)
    };
    let drift_c = 5.0 * sensor.severity;
    let measured = held + drift_c + (0.25 + 1.2 * sensor.severity) * noise.normal();
    let compressor_w = if compressor.failed { 0.0 } else { MAINS_V * current * work * (1.0 + 0.3 * worn) };
    [
        Some(if compressor.failed { 0.0 } else { to_step(current, 0.01) }),
        Some(to_step(evaporator + 0.5 * noise.normal(), 0.1)),
        Some(to_step(if compressor.failed { RESTING_BAR } else { suction }, 0.01)),
        Some(*starts),
        Some(if fan.failed { 0.0 } else { to_step(rpm, 10.0) }),
        (!sensor.failed).then_some(to_step(measured, 0.1)),
        Some(to_step(ambient, 0.1)),
        Some(to_step(cooling.base_w + compressor_w, 1.0)),
    ]
}

/// Rounds as a sensor of that resolution does.
fn to_step(value: f64, resolution: f64) -> f64 {
    let steps = (value / resolution).round();
    // Dividing by a whole number gives the decimal's nearest double; multiplying by 0.01 would not.
    if resolution < 1.0 { steps / (1.0 / resolution).round() } else { steps * resolution }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Purpose;

    #[test]
    fn values_are_rounded_to_decimals() {
        assert_eq!(to_step(6.123_456, 0.01), 6.12);
        assert_eq!(to_step(22.74, 0.5), 22.5);
        assert_eq!(to_step(7_123.0, 10.0), 7_120.0);
    }

    /// A failed drive no longer answers; the rest of the server does.
    #[test]
    fn what_a_dead_piece_measured_is_absent() {
        let dead = Condition { severity: 1.0, failed: true };
        let fine = Condition::default();
        let around = Surroundings { days: 0.01, daily_wave: 0.0, load: 0.5 };
        let traits = Traits { gain: 1.0, warmth_c: 0.0 };
        let mut noise = Noise::at(1, 1, Purpose::Readings, 1);
        let values = server([dead, fine, fine], &mut Counters::default(), traits, around, &mut noise);
        let absent: Vec<&str> =
            SERVER_SIGNALS.iter().zip(values).filter(|(_, v)| v.is_none()).map(|(s, _)| s.name).collect();
        assert_eq!(absent, ["drive_reallocated_sectors", "drive_pending_sectors", "drive_read_latency_ms"]);
    }
}
