//! Plan churn: pieces that were moved, and moved back soon after.

use std::collections::HashMap;

use harbinger_core::{DepotId, Duration, PartId};

use super::{Shipment, share};

/// A piece that goes back to where it came from within this time after it arrived need not have moved.
const SOON: Duration = Duration::from_days(30);

/// Pieces moved between depots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Churn {
    /// Pieces of transfers that left.
    pub moved: u64,
    /// How many of them left for where they had come from within 30 days after they arrived.
    pub moved_back: u64,
}

impl Churn {
    /// `moved_back` over `moved`; `None` where nothing moved.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        share(self.moved_back, self.moved)
    }

    pub(super) fn add(&mut self, shipment: &Shipment, back: u32) {
        self.moved += u64::from(shipment.quantity);
        self.moved_back += u64::from(back);
    }
}

/// Each transfer among `shipments` with how many of its pieces were moved back soon.
///
/// Pieces of a part are alike, so a transfer from B to A takes back what came from A to B, the oldest first, each piece once. It
/// is a move of its own that may be taken back in its turn.
pub(super) fn moved_back(shipments: &[Shipment]) -> Vec<(&Shipment, u32)> {
    let mut moves: Vec<(&Shipment, u32)> =
        shipments.iter().filter(|shipment| shipment.from.is_some()).map(|shipment| (shipment, 0)).collect();
    moves.sort_by_key(|(shipment, _)| shipment.shipped_at);
    let mut lanes: HashMap<(&PartId, Option<&DepotId>, &DepotId), Vec<usize>> = HashMap::new();
    for place in 0..moves.len() {
        let Some(&(back, _)) = moves.get(place) else { continue };
        let mut left = back.quantity;
        let forth = back.from.as_ref().and_then(|from| lanes.get(&(&back.part, Some(&back.to), from)));
        for &earlier in forth.into_iter().flatten() {
            let Some((move_there, taken_back)) = moves.get_mut(earlier).filter(|(there, _)| soon(there, back)) else {
                continue;
            };
            let pieces = left.min(move_there.quantity.saturating_sub(*taken_back));
            *taken_back += pieces;
            left -= pieces;
        }
        lanes.entry((&back.part, back.from.as_ref(), &back.to)).or_default().push(place);
    }
    moves
}

/// Whether `back` left soon after `there` had arrived.
fn soon(there: &Shipment, back: &Shipment) -> bool {
    there.received_at.is_some_and(|at| at <= back.shipped_at && back.shipped_at <= at + SOON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::kpi::fixture::shipment;

    #[test]
    fn what_goes_back_within_thirty_days_is_churn() {
        let shipments = [
            shipment("hub", "north", 2, 0, Some(2)), // both back: one on day 10, one on day 32
            shipment("hub", "north", 3, 5, Some(8)), // one back on day 32, the last of the 2
            shipment("hub", "south", 4, 5, Some(8)), // never back
            shipment("north", "hub", 1, 10, Some(12)), // taken back itself: it leaves hub again on day 40
            shipment("north", "hub", 2, 32, Some(34)),
            shipment("north", "hub", 1, 39, Some(41)), // day 39 is 31 after the second arrived
            shipment("hub", "north", 1, 40, None),
        ];
        let found = moved_back(&shipments);
        let back: Vec<u32> = found.iter().map(|(_, back)| *back).collect();
        assert_eq!(back, [2, 1, 0, 1, 0, 0, 0]);
        let mut churn = Churn::default();
        found.iter().for_each(|(shipment, back)| churn.add(shipment, *back));
        assert_eq!((churn.moved, churn.moved_back, churn.share()), (14, 4, Some(4.0 / 14.0)));
        let purchase = Shipment { from: None, ..shipment("hub", "hub", 9, 1, Some(2)) };
        assert!(moved_back(&[purchase]).is_empty());
    }
}
