//! How replacements were served: at once, after a wait for pieces on their way, or by pieces that had to be sent for.

use std::collections::{HashMap, VecDeque};

use harbinger_core::{DepotId, Duration, PartId, Timestamp};

use super::{Shipment, UseFact, share};

/// Service of some replacements.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Replacements.
    pub uses: u64,
    /// Pieces that they needed.
    pub pieces: u64,
    /// What those pieces cost, at today's cost of a piece.
    pub cost: f64,
    /// Replacements whose pieces all lay on the shelf of the device's own depot.
    pub at_once: u64,
    /// Replacements of which is known whether the pieces were at the depot within the hours that the device's contract
    /// gives to resolve: those of devices under contract, less those that wait still and have not waited that long.
    pub with_limit: u64,
    /// Those of them whose pieces were.
    pub within_limit: u64,
    /// Replacements that had to wait for pieces which have not arrived yet.
    pub waiting: u64,
    /// Replacements for which a piece had to be sent for: it neither lay on the shelf nor was on its way there.
    pub emergencies: u64,
    waited_hours: f64,
}

impl Service {
    /// Share of replacements that were served from the shelf at once; `None` without any.
    #[must_use]
    pub fn fill_rate(&self) -> Option<f64> {
        share(self.at_once, self.uses)
    }

    /// Share within the contract's limit; `None` where none is known.
    #[must_use]
    pub fn limit_kept(&self) -> Option<f64> {
        share(self.within_limit, self.with_limit)
    }

    /// Mean hours until the pieces were at the depot, zero for those that lay there, over replacements that do not wait
    /// still; `None` without any.
    #[must_use]
    pub fn mean_wait_hours(&self) -> Option<f64> {
        let served = self.uses.saturating_sub(self.waiting);
        (served > 0).then(|| self.waited_hours / served as f64)
    }

    pub(super) fn add(&mut self, used: &UseFact, answer: Answer, unit_cost: f64, now: Timestamp) {
        self.uses += 1;
        self.pieces += u64::from(used.quantity);
        self.cost += f64::from(used.quantity) * unit_cost;
        self.at_once += u64::from(used.on_shelf >= used.quantity);
        self.emergencies += u64::from(answer.sent_for);
        let waited = answer.wait.map_or_else(|| now.hours_since(used.ts), Duration::hours);
        match answer.wait {
            Some(_) => self.waited_hours += waited,
            None => self.waiting += 1,
        }
        if let Some(limit) = used.limit_hours {
            let late = waited > limit;
            if answer.wait.is_some() || late {
                self.with_limit += 1;
                self.within_limit += u64::from(!late);
            }
        }
    }
}

/// What answered the need of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// How long until the last of its pieces was at the depot; `None` where it has not arrived.
    pub(super) wait: Option<Duration>,
    /// Whether a piece was neither on the shelf nor on its way.
    pub(super) sent_for: bool,
}

/// An order's pieces on their way to a depot, that nobody there has counted on yet.
struct Arrival {
    at: Option<Timestamp>,
    shipped_at: Timestamp,
    pieces: u32,
}

/// What answered each of `uses`, which come in order of time.
///
/// The ledger knows what a replacement took from the shelf, and when orders left and arrived; which piece went into the
/// device in the end where the shelf lacked it, it does not know. So each missing piece is taken to be answered by the next
/// piece that an order brings to that depot, first come, first served, each piece once.
pub(super) fn answers(uses: &[UseFact], shipments: &[Shipment]) -> Vec<Answer> {
    let mut coming = coming(shipments);
    uses.iter()
        .map(|used| {
            let missing = used.quantity.saturating_sub(used.on_shelf);
            if missing == 0 {
                return Answer { wait: Some(Duration::ZERO), sent_for: false };
            }
            let queue = coming.get_mut(&(&used.part, &used.depot));
            queue.map_or(Answer { wait: None, sent_for: true }, |queue| answer(used.ts, missing, queue))
        })
        .collect()
}

/// What is or was on its way to each depot, in order of arrival; what has not arrived comes last.
fn coming(shipments: &[Shipment]) -> HashMap<(&PartId, &DepotId), VecDeque<Arrival>> {
    let mut sorted: Vec<&Shipment> = shipments.iter().collect();
    sorted.sort_by_key(|shipment| (shipment.received_at.unwrap_or(Timestamp::MAX), shipment.shipped_at));
    let mut coming: HashMap<(&PartId, &DepotId), VecDeque<Arrival>> = HashMap::new();
    for shipment in sorted {
        let Shipment { quantity: pieces, shipped_at, received_at: at, .. } = *shipment;
        coming.entry((&shipment.part, &shipment.to)).or_default().push_back(Arrival { at, shipped_at, pieces });
    }
    coming
}

fn answer(needed_at: Timestamp, mut missing: u32, queue: &mut VecDeque<Arrival>) -> Answer {
    let mut answer = Answer { wait: Some(Duration::ZERO), sent_for: false };
    while missing > 0 {
        let Some(next) = queue.front_mut() else { return Answer { wait: None, sent_for: true } };
        // What arrived earlier lay on the shelf by then.
        if next.pieces == 0 || next.at.is_some_and(|at| at < needed_at) {
            queue.pop_front();
            continue;
        }
        let taken = missing.min(next.pieces);
        next.pieces -= taken;
        missing -= taken;
        answer.wait = next.at.map(|at| Duration::from_millis(at.millis() - needed_at.millis()));
        answer.sent_for |= next.shipped_at > needed_at;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::kpi::fixture::{day, shipment, used};

    fn days(wait: i64) -> Option<Duration> {
        Some(Duration::from_days(wait))
    }

    /// Two pieces come on day 10, on their way since day 6, one on day 15, sent on day 12, and one is on its way since day 20.
    #[test]
    fn missing_pieces_are_answered_by_the_next_to_arrive_each_once() {
        let shipments = [
            shipment("hub", "north", 2, 6, Some(10)),
            shipment("hub", "north", 1, 12, Some(15)),
            shipment("hub", "north", 1, 20, None),
            shipment("hub", "south", 9, 1, Some(30)),
        ];
        let uses = [
            used(5, "north", 1, 1),  // on the shelf
            used(7, "north", 1, 0),  // the first of day 10, on its way
            used(8, "north", 3, 1),  // the second of day 10, and day 15's, which left after the need
            used(16, "north", 1, 0), // the one that left on day 20 and has not arrived
            used(21, "north", 1, 0), // nothing is left
            used(21, "east", 1, 0),  // nothing ever went there
        ];
        let expected = [(days(0), false), (days(3), false), (days(7), true), (None, true), (None, true), (None, true)];
        let found: Vec<_> = answers(&uses, &shipments).iter().map(|answer| (answer.wait, answer.sent_for)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_arrived_before_the_need_answers_nothing() {
        let shipments = [shipment("hub", "north", 5, 1, Some(3)), shipment("hub", "north", 1, 4, Some(9))];
        assert_eq!(answers(&[used(5, "north", 1, 0)], &shipments), [Answer { wait: days(4), sent_for: false }]);
    }

    /// Limits of 48 hours: at once, after one day, after three days, waiting for one day and for five; one without contract.
    #[test]
    fn a_limit_is_judged_once_it_is_known_whether_it_was_kept() {
        let mut service = Service::default();
        let limited = |at: i64, on_shelf| UseFact { limit_hours: Some(48.0), ..used(at, "north", 1, on_shelf) };
        let of = |wait| Answer { wait, sent_for: wait.is_none() };
        service.add(&limited(1, 1), of(days(0)), 10.0, day(20));
        service.add(&limited(2, 0), of(days(1)), 10.0, day(20));
        service.add(&limited(3, 0), of(days(3)), 10.0, day(20));
        service.add(&limited(19, 0), of(None), 10.0, day(20));
        service.add(&limited(15, 0), of(None), 10.0, day(20));
        service.add(&used(4, "north", 2, 2), of(days(0)), 10.0, day(20));
        assert_eq!((service.uses, service.pieces, service.cost), (6, 7, 70.0));
        assert_eq!((service.with_limit, service.within_limit), (4, 2));
        assert_eq!((service.waiting, service.emergencies), (2, 2));
        assert_eq!((service.fill_rate(), service.limit_kept()), (Some(2.0 / 6.0), Some(0.5)));
        assert_eq!(service.mean_wait_hours(), Some((24.0 + 72.0) / 4.0));
        assert_eq!(Service::default().mean_wait_hours(), None);
    }
}
