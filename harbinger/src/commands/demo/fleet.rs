//! The world of the demonstration: a simulated fleet that wears fast, its network, and the past that a model learns from.

use harbinger_core::{
    DepotId, Duration,
    fleet::{Echelon, Fleet, Maintenance},
};
use harbinger_sim::{History, Options, Simulation};

use crate::commands::replay::feed::Feed;

/// Event time between two readings of a device.
const CADENCE: Duration = Duration::from_secs(30 * 60);
/// Lives are divided by this: some four components of the fleet fail each day, so that a minute shows several.
const WEAR_ACCELERATION: f64 = 24.0;
/// Pieces degrade for this share of the usual days: the simulated lives are short, and so must their last phase be.
const WARNING_SCALE: f64 = 0.5;
/// Event time of the past: long enough for some seventy failures.
const PAST: Duration = Duration::from_days(18);
/// A courier between depots is this much faster than the simulated carriers: half a day to a day and a half.
const LANE_DAYS: f64 = 0.5;
/// What a courier takes for a piece. It makes sending on mere suspicion a loss, so that transfers follow predictions.
const COURIER_COST: f64 = 40.0;
/// Downtime and penalties of the contracts, as a share of the simulated ones.
const CONTRACT_SHARE: f64 = 0.1;

/// A fleet, what it has been through, and how it goes on.
pub(super) struct World {
    /// The registry and network.
    pub(super) fleet: Fleet,
    /// What devices reported in the past.
    pub(super) past: Feed,
    /// What was done to them.
    pub(super) maintenance: Vec<Maintenance>,
    /// The fleet in motion, at the end of its past.
    pub(super) simulation: Simulation,
}

/// Makes the world of a seed; the same seed gives the same.
pub(super) fn world(seed: u64) -> Result<World, harbinger_sim::Error> {
    let options = Options {
        cadence: CADENCE,
        wear_acceleration: WEAR_ACCELERATION,
        warning_scale: WARNING_SCALE,
        ..Options::default()
    };
    let mut simulation = Simulation::new(options, seed)?;
    let fleet = with_couriers(simulation.fleet().clone());
    let History { mut histories, .. } = simulation.record(PAST);
    let mut maintenance: Vec<Maintenance> =
        histories.values_mut().flat_map(|history| std::mem::take(&mut history.maintenance)).collect();
    maintenance.sort_by(|a, b| (a.ts, &a.device, &a.component).cmp(&(b.ts, &b.device, &b.component)));
    Ok(World { fleet, past: Feed::new(histories, Vec::new()), maintenance, simulation })
}

/// The network of the demonstration: all pieces at the hub, short ways, prices at which only a risk moves a piece.
fn with_couriers(mut fleet: Fleet) -> Fleet {
    for lane in &mut fleet.lanes {
        lane.days *= LANE_DAYS;
        lane.days_p95 = lane.days_p95.map(|days| days * LANE_DAYS);
        lane.cost_per_piece = Some(COURIER_COST);
    }
    for contract in &mut fleet.contracts {
        contract.downtime_cost_per_day = contract.downtime_cost_per_day.map(|cost| cost * CONTRACT_SHARE);
        contract.miss_penalty = contract.miss_penalty.map(|cost| cost * CONTRACT_SHARE);
    }
    let forward = |depot: &DepotId| fleet.depots.iter().any(|d| d.depot == *depot && d.echelon != Echelon::Hub);
    for level in fleet.stock.iter_mut().filter(|level| forward(&level.depot)) {
        level.on_hand = 0;
    }
    fleet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_holds_failures_enough_and_pieces_wait_at_the_hub() {
        let World { fleet, past, maintenance, simulation } = world(1).unwrap();
        assert!(maintenance.len() >= 50, "{} replacements", maintenance.len());
        assert!(past.readings() > 90_000, "{} readings", past.readings());
        assert_eq!(simulation.now(), simulation.options().start + PAST);
        let hub = fleet.depots.iter().find(|depot| depot.echelon == Echelon::Hub).unwrap();
        assert!(fleet.stock.iter().all(|level| (level.depot == hub.depot) == (level.on_hand > 0)));
        assert!(fleet.lanes.iter().filter(|lane| lane.from == hub.depot).all(|lane| (0.5..=2.0).contains(&lane.days)));
    }
}
