//! Policies of stock: common luck, books that balance, a trace by hand, the bound.

use super::{base_stock::Known, predictive::Predictive, sba_ss::SbaSs, vari_metric::VariMetric, *};
use crate::Weibull;

/// Two parts at three depots, far more failures than usual.
fn small() -> Network {
    let life = Weibull { shape: 1.5, scale_days: 700.0 };
    let part = |name, unit_cost, supplier_days| Part { name, unit_cost, supplier_days, life };
    let depot = |devices, ship_days| Depot { devices, ship_days, ship_cost: 10.0, emergency_cost: 200.0, stress: 1.0 };
    let contract = |share, limit_days| Contract { share, limit_days, downtime_cost_per_day: 300.0, penalty: 200.0 };
    Network::new(
        vec![part("cheap", 100.0, 10), part("dear", 3_000.0, 20)],
        vec![depot(30, 2), depot(20, 3), depot(10, 4)],
        vec![contract(0.5, 0.1), contract(0.5, 1.0)],
        0.25,
        1,
    )
}

const SPAN: Span = Span { history: 730, warm_up: 730, measured: 730 };
const SETTINGS: Settings = Settings { service: 0.8, hub: 1.0 };

fn controller<'a>(network: &Network, luck: &'a Luck, policy: Policy, known: &'a Known) -> Box<dyn Controller + 'a> {
    match policy {
        Policy::SbaSs => Box::new(SbaSs::new(Settings { service: 2.0, hub: 1.0 })),
        Policy::VariMetric => Box::new(VariMetric::new(SETTINGS, known)),
        Policy::Predictive(quality) => {
            let settings = Settings { service: 0.8, hub: 10.0 };
            Box::new(Predictive::new(network, settings, SETTINGS, luck.alerts_of(quality), known))
        }
        Policy::Perfect => Box::new(perfect::Perfect::new(network, luck)),
    }
}

/// Orders what it is told to.
struct Script(Vec<(usize, Order)>);

impl Controller for Script {
    fn decide(&mut self, evening: &Evening<'_>) -> Result<Vec<Order>, Error> {
        Ok(self.0.iter().filter(|(day, _)| *day == evening.day).map(|(_, order)| *order).collect())
    }
}

/// One part of 365, so that a piece costs a quarter a day to hold; one depot two days away, the supplier three.
///
/// Two pieces to begin with. Day 1: one is sent, and comes on day 3. Day 2: a failure takes the hub's last piece, one day's wait. Day 3: a
/// failure is filled from the shelf; one is ordered, and comes on day 6. Day 4: a failure finds nothing, and waits two days for the supplier
/// and one for the way.
#[test]
fn a_week_by_hand() {
    let network = Network::new(
        vec![Part { name: "part", unit_cost: 365.0, supplier_days: 3, life: Weibull { shape: 1.0, scale_days: 1.0 } }],
        vec![Depot { devices: 3, ship_days: 2, ship_cost: 10.0, emergency_cost: 100.0, stress: 1.0 }],
        vec![Contract { share: 1.0, limit_days: 0.1, downtime_cost_per_day: 50.0, penalty: 30.0 }],
        0.25,
        1,
    );
    let mut failures = vec![Vec::new(); 7];
    for (device, day) in [2, 3, 4].into_iter().enumerate() {
        failures[day].push(Failure { device, part: 0 });
    }
    let luck = Luck { failures, alerts: Vec::new() };
    let mut script = Script(vec![
        (0, Order::Buy { part: 0, pieces: 2 }),
        (1, Order::Send { cell: 0, pieces: 1 }),
        (3, Order::Buy { part: 0, pieces: 1 }),
    ]);
    let span = Span { history: 1, warm_up: 0, measured: 6 };
    let (tally, stock) = simulate(&network, &luck, span, &mut script).unwrap();
    let expected = Tally {
        days: 6,
        failures: 3,
        filled: 1,
        within_limit: 1,
        emergency: 2,
        transports: 1,
        returns: 0,
        // Two pieces in the first night, one in the second, none afterwards.
        stock_value_days: 3.0 * 365.0,
        holding: 0.75,
        transport: 10.0,
        shipping: 200.0,
        waiting: (50.0 + 30.0) + (3.0 * 50.0 + 30.0),
    };
    assert_eq!(tally, expected);
    assert_eq!(stock.pieces(), (3, 3));
    assert!((tally.total_cost() - 470.75).abs() < 1e-9);
}

/// A piece that goes back is at the hub when it arrives, and no sooner; what is not there cannot be sent.
#[test]
fn a_way_back_takes_as_long_as_the_way_there() {
    let network = small();
    let mut stock = Stock::new(&network, 20);
    let mut tally = Tally::default();
    stock.carry_out(&network, 0, Order::Buy { part: 1, pieces: 1 }, true, &mut tally);
    let cell = network.cell(1, 1);
    stock.carry_out(&network, 0, Order::Send { cell, pieces: 5 }, false, &mut tally);
    assert_eq!((stock.at_hub(1), stock.position(cell), stock.on_hand(cell)), (0, 1, 0));
    stock.arrive(&network, 3, &mut tally);
    assert_eq!(stock.on_hand(cell), 1);
    stock.carry_out(&network, 3, Order::Return { cell, pieces: 1 }, false, &mut tally);
    stock.arrive(&network, 5, &mut tally);
    assert_eq!((stock.at_hub(1), stock.system_position(1)), (0, 1));
    stock.arrive(&network, 6, &mut tally);
    assert_eq!((stock.at_hub(1), tally.transports, tally.returns), (1, 2, 1));
}

/// Failures are the same under every policy, and no piece is lost or made.
#[test]
fn every_policy_meets_the_same_failures_and_loses_no_piece() {
    let network = small();
    let (luck, known) = (Luck::draw(&network, 3, SPAN.days()), Known::default());
    let measured = SPAN.history + SPAN.warm_up..SPAN.days();
    let failures: usize = luck.failures[measured].iter().map(Vec::len).sum();
    assert!(failures > 50, "{failures}");
    for policy in Policy::ALL {
        let mut controller = controller(&network, &luck, policy, &known);
        let (tally, stock) = simulate(&network, &luck, SPAN, controller.as_mut()).unwrap();
        assert_eq!(tally.failures as usize, failures, "{policy:?}");
        let (bought, found) = stock.pieces();
        assert!(bought > 0 && bought == found, "{policy:?}: {bought} bought, {found} found");
        assert!(tally.filled <= tally.within_limit && tally.within_limit <= tally.failures, "{policy:?}: {tally:?}");
    }
}

/// Nobody is cheaper than who knows all; nobody who knows all misses a failure.
#[test]
fn perfect_information_is_the_bound() {
    let network = small();
    for seed in 1..=3 {
        let (luck, known) = (Luck::draw(&network, seed, SPAN.days()), Known::default());
        let cost = |policy| {
            let mut controller = controller(&network, &luck, policy, &known);
            simulate(&network, &luck, SPAN, controller.as_mut()).unwrap().0
        };
        let perfect = cost(Policy::Perfect);
        assert_eq!((perfect.filled, perfect.emergency), (perfect.failures, 0));
        for policy in Policy::ALL {
            assert!(perfect.total_cost() <= cost(policy).total_cost(), "{policy:?} under seed {seed}");
        }
    }
}

/// Alerts that mean nothing are never believed: every order is VARI-METRIC's.
#[test]
fn worthless_alerts_change_nothing() {
    let network = small();
    let (luck, known) = (Luck::draw(&network, 5, SPAN.days()), Known::default());
    let run = |policy| {
        let mut controller = controller(&network, &luck, policy, &known);
        simulate(&network, &luck, SPAN, controller.as_mut()).unwrap()
    };
    assert!(luck.alerts_of(Quality::Worthless).len() > 100);
    assert_eq!(run(Policy::Predictive(Quality::Worthless)), run(Policy::VariMetric));
    assert_ne!(run(Policy::Predictive(Quality::VeryGood)), run(Policy::VariMetric));
}

/// Recall and precision are those of the name, within four standard errors; probabilities are true on average within a tenth.
#[test]
fn alerts_are_as_good_as_their_name() {
    let network = small();
    let days = 10_000;
    let luck = Luck::draw(&network, 11, days);
    let failures: Vec<(usize, Failure)> =
        luck.failures.iter().enumerate().flat_map(|(day, of)| of.iter().map(move |&failure| (day, failure))).collect();
    let fails: std::collections::BTreeSet<(usize, usize, usize)> =
        failures.iter().map(|(day, failure)| (*day, failure.device, failure.part)).collect();
    for quality in [Quality::Fair, Quality::Good, Quality::VeryGood] {
        let (recall, precision) = quality.claims();
        let given = luck.alerts_of(quality);
        let right = given.iter().filter(|alert| fails.contains(&(alert.to, alert.device, alert.part))).count() as f64;
        let (all, number) = (failures.len() as f64, given.len() as f64);
        let error = |share: f64, of: f64| 4.0 * (share * (1.0 - share) / of).sqrt() + 0.02;
        assert!((right / all - recall).abs() < error(recall, all), "{quality:?}: recall {}", right / all);
        assert!((right / number - precision).abs() < error(precision, number), "{quality:?}: {}", right / number);
        let said = given.iter().map(|alert| alert.probability).sum::<f64>() / number;
        assert!((said - right / number).abs() < 0.1, "{quality:?}: said {said}");
        assert!(given.is_sorted_by_key(|alert| alert.from));
    }
}

/// P(within) follows the law of leads: nothing before its shortest, all by its longest.
#[test]
fn an_alert_becomes_urgent_with_time() {
    let alert = Alert { device: 0, part: 0, from: 100, to: 120, probability: 0.8 };
    assert_eq!(alert.probability_within(100, 6), 0.0);
    assert!((alert.probability_within(100, 35) - 0.8).abs() < 1e-12);
    // 29 days, 7 to 35, of which the first has passed after day 107; two of the 28 that are left.
    assert!((alert.probability_within(107, 2) - 0.8 * 2.0 / 28.0).abs() < 1e-12);
    assert_eq!(alert.probability_within(140, 5), 0.8);
}

/// The same for any number of threads.
#[test]
fn a_comparison_does_not_depend_on_threads() {
    let plan = Plan { network: small(), span: SPAN, tuning_seeds: 1, seeds: 2, curves: true };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| compare(&plan, &|_, _| ())).unwrap()
    };
    let one = with(1);
    assert_eq!(one, with(4));
    assert_eq!(one.runs.len(), 2 * Policy::ALL.len());
    assert_eq!(one.differences.len(), Policy::ALL.len() - 1);
    assert!(matches!(compare(&Plan { seeds: 1, ..plan.clone() }, &|_, _| ()), Err(Error::Seeds(1))));
}

/// A part without a failure of its own at a depot has the rate of its class there; one with many its own.
#[test]
fn rates_are_estimated_from_what_was_seen() {
    let network = small();
    let mut history = History::new(&network);
    assert!(history.rates_per_day().is_err());
    for day in 0..600 {
        let failed = if day % 10 == 0 { vec![Failure { device: 0, part: 0 }] } else { Vec::new() };
        history.add(&network, &failed);
    }
    let rates = history.rates_per_day().unwrap();
    // 60 failures of 60 slots in 600 days, half a one added: 30 slots have half of it a day.
    let class = 60.5 / (60.0 * 600.0);
    let own = 30.0 * (5.0 + 60.0) / (5.0 / class + 30.0 * 600.0);
    assert!((rates[network.cell(0, 0)] - own).abs() < 1e-12);
    assert!(rates[network.cell(0, 1)] < rates[network.cell(0, 0)] / 3.0);
    let forecast = history.forecast(network.cell(0, 0));
    // Three a period, less the bias of Croston's method.
    assert!((forecast.mean_per_day - 0.95 * 3.0 / 30.0).abs() < 1e-12, "{forecast:?}");
    assert_eq!(history.forecast(network.cell(1, 2)).mean_per_day, 0.0);
}
