//! How much stock covers the time until the next order arrives, at one trade-off for all parts and depots.

use crate::demand::DemandLaw;

use super::Forecast;

/// A law whose far end has less probability than this goes without it, so that sums over many periods stay short.
const FAR_END: f64 = 1e-7;

/// Gains closer together than this are the same.
const SAME_GAIN: f64 = 1e-12;

/// Demand until pieces that are ordered now arrive, and until those of the next order do.
#[derive(Debug, Clone, PartialEq)]
pub struct Cover {
    until_arrival: DemandLaw,
    until_next: DemandLaw,
    periods: f64,
    lot: f64,
}

impl Cover {
    /// Pieces ordered now arrive after `lead` periods, those of the next order `review` periods later; both >= 0, and a
    /// fraction of a period is a whole one with that probability. Demand of different periods is taken as independent.
    #[must_use]
    pub fn of(forecast: &Forecast, lead: f64, review: f64) -> Self {
        let one = without_far_end(&forecast.law);
        Self {
            until_arrival: over(&one, lead),
            until_next: over(&one, lead + review),
            periods: lead + review,
            lot: forecast.lot,
        }
    }

    /// The level to order up to, in pieces on hand and on order less backorders.
    ///
    /// One piece more lies on the shelf when the next order arrives with probability F(lead + review), and is taken between
    /// the two arrivals with probability F(lead) - F(lead + review), F being the distributions of demand until then below
    /// the piece. Most demand is served with least stock where the two stand in the same proportion at every part and depot.
    /// `quantile` sets it: a piece that is there when the order arrives is still there when the next one does with
    /// probability `1 - (1 - quantile) / (lead + review)`, so that the risk of running short is spread over the periods
    /// covered. Over one period without lead that is the quantile of demand. Never lower for a higher `quantile`.
    #[must_use]
    pub fn level(&self, quantile: f64) -> f64 {
        let lasting = 1.0 - (1.0 - quantile) / self.periods.max(1.0);
        let (mut before, mut after, mut gain, mut best) = (0.0, 0.0, 0.0, 0.0);
        let mut level = 0_u32;
        for (pieces, mass) in (1_u32..).zip(self.until_next.pmf()) {
            after += mass;
            before += self.until_arrival.pmf().get(pieces as usize - 1).copied().unwrap_or(0.0);
            gain += lasting * before - after;
            if gain > best + SAME_GAIN {
                (best, level) = (gain, pieces);
            }
        }
        f64::from(level) * self.lot
    }
}

/// The law of demand over `periods` like `one`.
fn over(one: &DemandLaw, periods: f64) -> DemandLaw {
    // At most some hundreds, checked where they are asked for.
    let whole = (0..periods.floor() as u32).fold(DemandLaw::zero(), |sum, _| without_far_end(&sum.convolve(one)));
    let share = periods.fract();
    if share == 0.0 {
        return whole;
    }
    let longer = whole.convolve(one);
    DemandLaw::mixture(&[(1.0 - share, whole), (share, longer)])
}

fn without_far_end(law: &DemandLaw) -> DemandLaw {
    let mut left = law.tail();
    let far = law.pmf().iter().rev().take_while(|&&mass| {
        left += mass;
        left < FAR_END
    });
    let kept = (law.pmf().len() - far.count()).max(1);
    let tail = law.tail() + law.pmf()[kept..].iter().rev().sum::<f64>();
    DemandLaw::new(law.pmf()[..kept].to_vec(), tail)
}
