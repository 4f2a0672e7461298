//! The service network that policies are compared in: parts, depots, contracts, and what everything costs.
//!
//! The numbers are those of an ordinary service organisation, and are the same for every policy and every seed: a hub that a
//! supplier fills within weeks, twenty depots that it fills within days, devices under two kinds of contract, and slow-moving parts -
//! most cells see a handful of failures a year.

use crate::Weibull;

/// Days in a year.
pub(crate) const DAYS_PER_YEAR: f64 = 365.0;

/// A part that fails and is replaced, one piece a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// c: cost of a piece.
    pub unit_cost: f64,
    /// L: days from the order until a piece is at the hub.
    pub supplier_days: usize,
    /// How long it lives where nothing stresses it.
    pub life: Weibull,
}

/// A forward depot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Depot {
    /// Devices that it serves.
    pub devices: usize,
    /// O: days from the hub.
    pub ship_days: usize,
    /// tau: transport of a piece from the hub, and the same back.
    pub ship_cost: f64,
    /// What it costs to bring one piece to a device of this depot at once.
    pub emergency_cost: f64,
    /// Lives are divided by this: heat, load and dust of the region.
    pub stress: f64,
}

/// What was promised to the owner of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contract {
    /// Share of the devices under it.
    pub share: f64,
    /// Days within which the part must be at hand.
    pub limit_days: f64,
    /// What a day of waiting for the part costs.
    pub downtime_cost_per_day: f64,
    /// What a missed limit costs.
    pub penalty: f64,
}

/// A device: where it stands and what was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Place of its depot.
    pub depot: usize,
    /// Place of its contract.
    pub contract: usize,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Parts; every device has one of each.
    pub parts: Vec<Part>,
    /// Depots.
    pub depots: Vec<Depot>,
    /// Contracts.
    pub contracts: Vec<Contract>,
    /// Devices, depot by depot.
    pub devices: Vec<Device>,
    /// h: share of a piece's cost that a year of holding it costs.
    pub holding_rate_per_year: f64,
    /// e: days that an emergency shipment takes.
    pub emergency_days: usize,
}

impl Network {
    /// The network of `harbinger simulate-policies`: 1,200 devices with six parts of 60 to 2,000 at twenty depots.
    #[must_use]
    pub fn usual() -> Self {
        let part = |name, unit_cost, supplier_days, shape, mean_years: f64| Part {
            name,
            unit_cost,
            supplier_days,
            // The mean of a Weibull law with a shape of 1.5 to 3 is 0.89 to 0.90 of its scale.
            life: Weibull { shape, scale_days: mean_years * DAYS_PER_YEAR / 0.893 },
        };
        let parts = vec![
            part("fan", 60.0, 14, 2.0, 8.0),
            part("disk", 250.0, 21, 1.5, 12.0),
            part("display", 450.0, 28, 1.8, 25.0),
            part("board", 900.0, 35, 1.5, 20.0),
            part("compressor", 1_600.0, 42, 2.5, 25.0),
            part("inverter", 2_000.0, 42, 2.0, 30.0),
        ];
        // Two thirds of the devices stand at eight of the depots.
        let depots = (0..20_u8).map(|n| {
            let far = f64::from(n % 4);
            Depot {
                devices: [120, 75, 40, 35, 30][usize::from(n / 4)],
                ship_days: 2 + usize::from(n % 4),
                ship_cost: 8.0 + 4.0 * far,
                emergency_cost: 160.0 + 60.0 * far,
                stress: [0.9, 1.0, 1.15, 1.0, 0.95][usize::from(n % 5)],
            }
        });
        let contracts = vec![
            // Response within two hours: only a piece at the depot can hold it.
            Contract { share: 0.4, limit_days: 2.0 / 24.0, downtime_cost_per_day: 500.0, penalty: 400.0 },
            // Repair within a day: an emergency shipment holds it.
            Contract { share: 0.6, limit_days: 1.0, downtime_cost_per_day: 150.0, penalty: 250.0 },
        ];
        Self::new(parts, depots.collect(), contracts, 0.25, 1)
    }

    /// A network whose devices are spread over contracts by their shares.
    #[must_use]
    pub fn new(
        parts: Vec<Part>,
        depots: Vec<Depot>,
        contracts: Vec<Contract>,
        holding_rate_per_year: f64,
        emergency_days: usize,
    ) -> Self {
        let mut devices = Vec::new();
        for (depot, of) in depots.iter().enumerate() {
            for place in 0..of.devices {
                let at = (place as f64 + 0.5) / of.devices as f64;
                let mut sum = 0.0;
                let under = contracts.iter().position(|contract| {
                    sum += contract.share;
                    at < sum
                });
                devices.push(Device { depot, contract: under.unwrap_or(contracts.len().saturating_sub(1)) });
            }
        }
        Self { parts, depots, contracts, devices, holding_rate_per_year, emergency_days }
    }

    /// Cells: part by part, of each its depots.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.parts.len() * self.depots.len()
    }

    /// The place of a part at a depot among the cells.
    #[must_use]
    pub fn cell(&self, part: usize, depot: usize) -> usize {
        part * self.depots.len() + depot
    }

    /// What waiting for a part costs a device, penalty included.
    #[must_use]
    pub fn waiting_cost(&self, device: usize, days: usize) -> f64 {
        let contract = &self.contracts[self.devices[device].contract];
        let penalty = if self.within_limit(device, days) { 0.0 } else { contract.penalty };
        contract.downtime_cost_per_day * days as f64 + penalty
    }

    /// Whether a wait of so many days keeps what was promised.
    #[must_use]
    pub fn within_limit(&self, device: usize, days: usize) -> bool {
        days as f64 <= self.contracts[self.devices[device].contract].limit_days
    }

    /// pi: extra cost of a failure of a device that its depot cannot serve, where the hub can (section 4.2).
    #[must_use]
    pub fn shortage_cost(&self, device: usize) -> f64 {
        self.depots[self.devices[device].depot].emergency_cost + self.waiting_cost(device, self.emergency_days)
    }

    /// Mean of [`Network::shortage_cost`] over the devices of each depot.
    #[must_use]
    pub fn shortage_costs(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.depots.len()];
        for (device, of) in self.devices.iter().enumerate() {
            sums[of.depot] += self.shortage_cost(device);
        }
        sums.iter().zip(&self.depots).map(|(sum, depot)| sum / depot.devices.max(1) as f64).collect()
    }
}
