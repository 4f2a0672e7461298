//! Stock against a law of demand: service and backorders of a level, cost of a position, worth of one more piece.
//!
//! Source: maths of pre-positioning, sections 3.1 and 4.2.

use serde::{Deserialize, Serialize};

use crate::demand::DemandLaw;

/// Days in a year, for yearly holding rates.
const DAYS_PER_YEAR: f64 = 365.0;

/// Share of demand served from stock with base-stock level `level` where `pipeline` is the law of pieces on order:
/// P(X <= level - 1).
#[must_use]
pub fn fill_rate(pipeline: &DemandLaw, level: u32) -> f64 {
    pipeline.cdf(i64::from(level) - 1)
}

/// Expected backorders of the levels 0, 1, ..., `most`.
///
/// By the recursion `EBO(S + 1) = EBO(S) - P(X > S)`; where it has fallen below 1e-8 of the mean, cancellation would
/// eat the digits, and the sum from the tail takes over (section 3.1).
#[must_use]
pub fn expected_backorders_up_to(pipeline: &DemandLaw, most: u32) -> Vec<f64> {
    let mean = pipeline.mean();
    let mut result = vec![mean];
    for level in 0..most {
        let next = result[level as usize] - pipeline.exceedance(i64::from(level));
        let safe = next > 1e-8 * mean;
        result.push(if safe { next } else { pipeline.expected_backorders(i64::from(level) + 1) });
    }
    result
}

/// Variance of the backorders with base-stock level `level`.
#[must_use]
pub fn variance_of_backorders(pipeline: &DemandLaw, level: u32) -> f64 {
    let expected = pipeline.expected_backorders(i64::from(level));
    pipeline.expected_backorders_squared(level) - expected * expected
}

/// What one piece too many and one piece too few cost over a protection interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CellCost {
    /// H: holding and, if it must go back, moving one piece that was not needed; >= 0.
    pub holding: f64,
    /// pi: extra cost of one demand that local stock cannot serve; >= 0.
    pub shortage: f64,
}

impl CellCost {
    /// G(y): expected cost of a position.
    #[must_use]
    pub fn of_position(&self, demand: &DemandLaw, position: i64) -> f64 {
        self.holding * demand.expected_excess(position) + self.shortage * demand.expected_backorders(position)
    }

    /// gamma(y) = G(y) - G(y + 1) = pi - (pi + H) P(D <= y): worth of the next piece, falling in `position`.
    #[must_use]
    pub fn gain_of_next(&self, demand: &DemandLaw, position: i64) -> f64 {
        self.gain_at(demand.cdf(position))
    }

    /// The same from `cdf` = P(D <= position).
    #[must_use]
    pub fn gain_at(&self, cdf: f64) -> f64 {
        self.shortage - (self.shortage + self.holding) * cdf
    }

    /// pi / (pi + H); 0 where nothing costs anything.
    #[must_use]
    pub fn critical_ratio(&self) -> f64 {
        let both = self.shortage + self.holding;
        if both > 0.0 { self.shortage / both } else { 0.0 }
    }

    /// Smallest position that no further piece improves: least y with P(D <= y) >= pi / (pi + H).
    #[must_use]
    pub fn best_position(&self, demand: &DemandLaw) -> u32 {
        demand.quantile(self.critical_ratio())
    }

    /// One alert alone: a piece is sent where its probability is above H / (H + pi).
    #[must_use]
    pub fn single_alert_threshold(&self) -> f64 {
        1.0 - self.critical_ratio()
    }
}

/// A law and prices by which positions are compared.
///
/// Pieces that outlive their shelf life add `c E(y - D(0, A])^+` to the cost of a position (section 5.2), so the next piece is worth
/// `pi - (pi + H) P(D <= y) - c P(D(0, A] <= y)`. That is the worth under a holding cost of `H + c` and the mixture of both laws by
/// `pi + H` and `c`: whatever compares positions needs to know of no second law. The costs of positions differ from the true ones by
/// the same amount at each of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Valuation {
    /// The law.
    pub demand: DemandLaw,
    /// The prices.
    pub cost: CellCost,
    /// What is to be added to the cost of any position.
    constant: f64,
}

impl Valuation {
    /// Of pieces that keep.
    #[must_use]
    pub fn new(demand: DemandLaw, cost: CellCost) -> Self {
        Self { demand, cost, constant: 0.0 }
    }

    /// Of pieces that are lost where demand over their life does not take them.
    ///
    /// * `demand_in_life`: law of demand until a piece that is new now may no longer be used.
    /// * `outdated`: what a lost piece costs, >= 0.
    #[must_use]
    pub fn perishable(demand: &DemandLaw, cost: CellCost, demand_in_life: DemandLaw, outdated: f64) -> Self {
        let (both, all) = (cost.shortage + cost.holding, cost.shortage + cost.holding + outdated);
        if all <= 0.0 {
            return Self::new(demand.clone(), cost);
        }
        let mixture = DemandLaw::mixture(&[(both / all, demand.clone()), (outdated / all, demand_in_life)]);
        let constant = cost.shortage * (demand.mean() - mixture.mean());
        Self { demand: mixture, cost: CellCost { holding: cost.holding + outdated, ..cost }, constant }
    }

    /// Expected cost of a position.
    #[must_use]
    pub fn of_position(&self, position: i64) -> f64 {
        self.cost.of_position(&self.demand, position) + self.constant
    }

    /// Worth of the next piece, falling in `position`.
    #[must_use]
    pub fn gain_of_next(&self, position: i64) -> f64 {
        self.cost.gain_of_next(&self.demand, position)
    }

    /// Smallest position that no further piece improves.
    #[must_use]
    pub fn best_position(&self) -> u32 {
        self.cost.best_position(&self.demand)
    }
}

/// H of a cell: holding over a review period, and the way there and back if nobody takes the piece (section 4.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Holding {
    /// c: cost of a piece.
    pub unit_cost: f64,
    /// h: share of it that a year on the shelf costs.
    pub rate_per_year: f64,
    /// R: days between reviews.
    pub review_days: f64,
    /// tau_0: transport of a piece to the depot.
    pub transport_out: f64,
    /// tau_r: transport of a piece back.
    pub transport_back: f64,
    /// theta: P(background demand does not take the piece within the keep time).
    pub unused: f64,
}

impl Holding {
    /// h c R / 365.
    #[must_use]
    pub fn shelf_cost(&self) -> f64 {
        self.rate_per_year * self.unit_cost * self.review_days / DAYS_PER_YEAR
    }

    /// H = h c R / 365 + theta (tau_0 + tau_r).
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.shelf_cost() + self.unused * (self.transport_out + self.transport_back)
    }
}

/// theta = exp(-rate keep): P(background demand does not take a piece within the keep time).
#[must_use]
pub fn probability_unused(background_per_day: f64, keep_days: f64) -> f64 {
    (-background_per_day * keep_days).exp().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        demand::{Trial, poisson, poisson_binomial},
        oracles,
    };

    #[track_caller]
    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-9 * expected.abs() + 1e-15, "{actual} is not {expected}");
    }

    fn cell() -> DemandLaw {
        let trials = [0.9, 0.5, 0.2, 0.1, 0.05].map(Trial::one);
        poisson_binomial(&trials).unwrap().convolve(&poisson(0.4).unwrap())
    }

    /// Worked example 9.6 (`single_alert_threshold`).
    #[test]
    fn example_9_6_single_alert() {
        let holding = Holding {
            unit_cost: 900.0,
            rate_per_year: 0.25,
            review_days: 7.0,
            transport_out: 8.0,
            transport_back: 8.0,
            unused: 1.0,
        };
        close(holding.cost(), 20.315068493150683);
        close(CellCost { holding: holding.cost(), shortage: 380.0 }.single_alert_threshold(), 0.05074769873045203);
    }

    /// Worked example 9.7 (`cell`).
    #[test]
    fn example_9_7_cell_with_alerts_and_background() {
        let (law, cost) = (cell(), CellCost { holding: 1.0, shortage: 9.0 });
        let positions = [
            19.35,
            10.57924945574419,
            4.287543537741984,
            1.9915886013563806,
            2.059294761060176,
            2.8788815774569585,
            3.8531408012070734,
            4.8502790269744045,
        ];
        for (position, expected) in (0..).zip(positions) {
            close(cost.of_position(&law, position), expected);
        }
        let gains = [8.770750544255812, 6.291705918002206, 2.295954936385601, -0.06770615970379801];
        for (position, expected) in (0..).zip(gains) {
            assert!((cost.gain_of_next(&law, position) - expected).abs() < 1e-12, "{position}");
        }
        assert_eq!(cost.best_position(&law), 3);
        close(cost.gain_of_next(&law, -2), 9.0);
    }

    /// By the definition: G and what is lost at the end of a piece's life, for every position.
    #[test]
    fn pieces_that_perish_are_worth_what_is_left_of_them() {
        let (soon, cost) = (cell(), CellCost { holding: 1.0, shortage: 9.0 });
        let in_life = soon.convolve(&poisson(1.7).unwrap());
        let valued = Valuation::perishable(&soon, cost, in_life.clone(), 20.0);
        let by_definition = |y: i64| cost.of_position(&soon, y) + 20.0 * in_life.expected_excess(y);
        for position in -2..12 {
            close(valued.of_position(position), by_definition(position));
            let gain = by_definition(position) - by_definition(position + 1);
            assert!((valued.gain_of_next(position) - gain).abs() < 1e-9, "{position}");
        }
        let best = (0..12).min_by(|&a, &b| by_definition(a).total_cmp(&by_definition(b))).unwrap();
        assert_eq!(i64::from(valued.best_position()), best);
        assert!(valued.best_position() < cost.best_position(&soon), "what may perish is kept shorter");
        let keeps = Valuation::perishable(&soon, cost, in_life, 0.0);
        assert_eq!((keeps.best_position(), keeps.cost), (cost.best_position(&soon), cost));
    }

    /// Worked example 9.1: newsvendor on the small case.
    #[test]
    fn example_9_1_newsvendor() {
        let law = poisson_binomial(&[0.9, 0.5, 0.2, 0.1, 0.05].map(Trial::one)).unwrap();
        let cost = CellCost { holding: 1.0, shortage: 9.0 };
        assert_eq!(cost.best_position(&law), 3);
        close(cost.of_position(&law, 3), 1.408);
    }

    /// Worked example 9.2, and all of `poisson_loss`.
    #[test]
    fn poisson_loss_is_that_of_scipy() {
        close(variance_of_backorders(&poisson(1.0).unwrap(), 1), 0.49678527559);
        let Some(expected) = oracles::json("demand_laws_expected.json") else { return };
        for case in expected["poisson_loss"].as_array().unwrap() {
            let law = poisson(case["mu"].as_f64().unwrap()).unwrap();
            let level = u32::try_from(case["S"].as_u64().unwrap()).unwrap();
            // The oracle's own subtraction leaves 1e-15.
            let near = |actual: f64, name: &str| {
                let expected = case[name].as_f64().unwrap();
                assert!((actual - expected).abs() <= 1e-9 * expected.abs() + 2e-15, "{case} {actual}");
            };
            near(fill_rate(&law, level), "ready_rate");
            near(law.expected_backorders(i64::from(level)), "ebo");
            near(expected_backorders_up_to(&law, level)[level as usize], "ebo");
            near(variance_of_backorders(&law, level), "vbo");
        }
    }

    /// All of `cell` in `prepositioning_expected.json`.
    #[test]
    fn the_cell_law_is_that_of_the_oracle() {
        let Some(expected) = oracles::json("prepositioning_expected.json") else { return };
        close(cell().mean(), expected["cell"]["mean"].as_f64().unwrap());
        for (mass, expected) in cell().pmf().iter().zip(expected["cell"]["pmf_0_to_8"].as_array().unwrap()) {
            close(*mass, expected.as_f64().unwrap());
        }
    }

    #[test]
    fn a_piece_that_background_takes_costs_no_return() {
        close(probability_unused(0.0, 60.0), 1.0);
        close(probability_unused(0.05, 60.0), (-3.0_f64).exp());
    }

    proptest! {
        /// Fill rate never falls and backorders never rise with the level; gains fall, and sum to the difference of costs.
        #[test]
        fn more_stock_never_serves_less(p in prop::collection::vec(0.0..=1.0_f64, 0..20), mean in 0.0..6.0_f64, shortage in 0.1..999.0_f64) {
            let trials: Vec<Trial> = p.into_iter().map(Trial::one).collect();
            let law = poisson_binomial(&trials).unwrap().convolve(&poisson(mean).unwrap());
            let cost = CellCost { holding: 1.0, shortage };
            let backorders = expected_backorders_up_to(&law, 40);
            for level in 0..40_u32 {
                prop_assert!(fill_rate(&law, level + 1) >= fill_rate(&law, level));
                prop_assert!(backorders[level as usize + 1] <= backorders[level as usize]);
                let y = i64::from(level);
                prop_assert!(cost.gain_of_next(&law, y + 1) <= cost.gain_of_next(&law, y) + 1e-9);
                let difference = cost.of_position(&law, y) - cost.of_position(&law, y + 1);
                prop_assert!((cost.gain_of_next(&law, y) - difference).abs() < 1e-8 * shortage.max(1.0));
            }
            let best = i64::from(cost.best_position(&law));
            for y in 0..40 {
                prop_assert!(cost.of_position(&law, best) <= cost.of_position(&law, y) + 1e-8 * shortage.max(1.0));
            }
        }
    }
}
