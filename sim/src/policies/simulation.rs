//! One policy under one luck, day by day.
//!
//! Events of a day, in this order: in the *morning* what is due arrives and the hub serves who waits; during the *day* slots fail
//! in order of device and part and are served; in the *evening* the policy sees the day's failures, the signals and the stock, and
//! orders; at *night* costs are counted. A piece sent in the evening of day t over a lane of O days is there in the morning
//! of t + O, before that day's failures.

use super::{Error, Failure, History, Luck, Network, Order, Stock, Tally};

/// How long what lasts, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Failures on record before the network opens: rates are estimated from these to begin with.
    pub history: usize,
    /// Simulated and not counted.
    pub warm_up: usize,
    /// Simulated and counted.
    pub measured: usize,
}

impl Span {
    /// Three years of records, two to settle, three counted.
    pub const USUAL: Self = Self { history: 3 * 365, warm_up: 2 * 365, measured: 3 * 365 };

    /// All days.
    #[must_use]
    pub fn days(self) -> usize {
        self.history + self.warm_up + self.measured
    }
}

/// What a policy sees in the evening.
#[derive(Debug, Clone, Copy)]
pub struct Evening<'a> {
    /// Days since the first record.
    pub day: usize,
    /// The network.
    pub network: &'a Network,
    /// Where pieces are.
    pub stock: &'a Stock,
    /// Failures up to today.
    pub history: &'a History,
    /// Those of today.
    pub failures: &'a [Failure],
}

/// Who decides.
pub trait Controller {
    /// Orders of an evening.
    ///
    /// # Errors
    /// [`Error`] where rates or levels cannot be reckoned.
    fn decide(&mut self, evening: &Evening<'_>) -> Result<Vec<Order>, Error>;
}

/// Simulates; returns what was counted, and the stock at the end.
///
/// On the evening that the network opens the hub gets at once what the policy buys: every policy begins with the stock that it wants.
///
/// # Errors
/// Those of the controller.
pub fn simulate(
    network: &Network,
    luck: &Luck,
    span: Span,
    controller: &mut dyn Controller,
) -> Result<(Tally, Stock), Error> {
    let mut history = History::new(network);
    let mut stock = Stock::new(network, span.days());
    let mut tally = Tally::default();
    for (day, failures) in luck.failures.iter().enumerate().take(span.days()) {
        history.add(network, failures);
        if day + 1 < span.history {
            continue;
        }
        if day == span.history + span.warm_up {
            tally = Tally::default();
        }
        let opens = day + 1 == span.history;
        if !opens {
            stock.arrive(network, day, &mut tally);
            for &failure in failures {
                stock.fail(network, day, failure, &mut tally);
            }
        }
        let evening = Evening { day, network, stock: &stock, history: &history, failures };
        for order in controller.decide(&evening)? {
            stock.carry_out(network, day, order, opens, &mut tally);
        }
        stock.account(network, &mut tally);
    }
    Ok((tally, stock))
}
