//! Consumption, as quantities per period on one grid for every part at every depot.

use std::collections::{BTreeMap, btree_map::Entry};

use harbinger_core::{DepotId, PartId, Timestamp, calendar::Step, fleet::Consumption};

/// Most periods that a history may have: a century of days.
const MOST_PERIODS: usize = 36_525;

/// Why there is no history to forecast from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No rows.
    #[error("there is no consumption to forecast from: give consumption.csv rows with ts, part, depot and quantity")]
    Empty,
    /// Too many periods between the first row and the last.
    #[error(
        "consumption from {first} to {last} has more than {MOST_PERIODS} periods of a {step}: take a longer --period, or correct the times"
    )]
    TooLong {
        /// The first row.
        first: Timestamp,
        /// The last row.
        last: Timestamp,
        /// The period.
        step: String,
    },
}

/// Quantities per period.
#[derive(Debug, Clone, PartialEq)]
pub struct Histories {
    /// First instants of the periods, from the one of the first row to the one of the last.
    pub periods: Vec<Timestamp>,
    /// Which part at which depot, in order.
    pub places: Vec<(PartId, DepotId)>,
    /// Quantity by place and period; NaN where it is not known.
    pub series: Vec<Vec<f64>>,
}

/// Adds consumption up by period. A series begins with its first row. A period without a row is zero as long as its part has
/// had no zero row at any depot, and not known from then on: parts whose zeros are written down have all their periods
/// written down. So what is known of a period never depends on later rows.
///
/// # Errors
/// [`Error`].
pub fn histories(consumption: &[Consumption], step: &Step) -> Result<Histories, Error> {
    let times = || consumption.iter().map(|row| row.ts);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Err(Error::Empty) };
    let periods: Vec<Timestamp> =
        std::iter::successors(Some(step.floor(first)), |&at| Some(step.after(at)).filter(|&next| next > at))
            .take_while(|&at| at <= last)
            .take(MOST_PERIODS + 1)
            .collect();
    if periods.len() > MOST_PERIODS {
        return Err(Error::TooLong { first, last, step: step.to_string() });
    }
    let mut sums: BTreeMap<(&PartId, &DepotId), BTreeMap<usize, f64>> = BTreeMap::new();
    let mut first_zero: BTreeMap<&PartId, usize> = BTreeMap::new();
    for row in consumption {
        let period = periods.partition_point(|&at| at <= row.ts).saturating_sub(1);
        *sums.entry((&row.part, &row.depot)).or_default().entry(period).or_insert(0.0) += row.quantity;
        if row.quantity == 0.0 {
            match first_zero.entry(&row.part) {
                Entry::Vacant(place) => _ = place.insert(period),
                Entry::Occupied(mut place) => _ = place.insert(period.min(*place.get())),
            }
        }
    }
    let mut histories = Histories { places: Vec::new(), series: Vec::new(), periods };
    for ((part, depot), of_period) in sums {
        let begins = of_period.keys().next().copied().unwrap_or_default();
        let zero_until = first_zero.get(part).copied().unwrap_or(usize::MAX);
        let absent = |period: usize| if period < begins || period >= zero_until { f64::NAN } else { 0.0 };
        let quantity = |period| of_period.get(&period).copied().unwrap_or_else(|| absent(period));
        histories.series.push((0..histories.periods.len()).map(quantity).collect());
        histories.places.push((part.clone(), depot.clone()));
    }
    Ok(histories)
}
