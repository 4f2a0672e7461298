//! The comparison: settings chosen on some seeds, policies judged on others, differences pair by pair.

use rayon::prelude::*;

use super::{
    Controller, Error, Interval, Luck, Network, Policy, Quality, Settings, Span, Tally, base_stock::Known, interval,
    network::DAYS_PER_YEAR, perfect::Perfect, predictive::Predictive, sba_ss::SbaSs, simulate, vari_metric::VariMetric,
};

/// The first seed that settings are chosen on; seeds of the comparison count from 1 and stay below.
const FIRST_TUNING_SEED: u64 = 1_000_001;

/// Candidates of `service` of (s, S).
const SBA_SERVICE: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0];
/// Candidates of `hub` of (s, S).
const SBA_HUB: [f64; 5] = [0.0, 0.5, 1.0, 1.5, 2.0];
/// Candidates of `service` of VARI-METRIC: shares of shortage costs avoided.
const VARI_METRIC_SHARES: [f64; 8] = [0.8, 0.9, 0.94, 0.97, 0.98, 0.985, 0.99, 0.995];
/// Candidates of `service` of the predictive policy: the same, of the failures that no alert names.
const PREDICTIVE_SHARES: [f64; 8] = [0.6, 0.75, 0.85, 0.9, 0.94, 0.97, 0.985, 0.99];
/// Candidates of `hub` of VARI-METRIC.
const VARI_METRIC_HUB: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];
/// Candidates of `hub` of the predictive policy.
const PREDICTIVE_HUB: [f64; 5] = [16.0, 64.0, 160.0, 400.0, 1_000.0];

/// What is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where.
    pub network: Network,
    /// For how long.
    pub span: Span,
    /// Seeds that settings are chosen on.
    pub tuning_seeds: u32,
    /// Seeds that policies are judged on: 1, 2, ...
    pub seeds: u32,
    /// Whether curves of stock against service are made, too.
    pub curves: bool,
}

impl Plan {
    /// The usual network, with five seeds to choose settings on.
    #[must_use]
    pub fn usual(seeds: u32) -> Self {
        Self { network: Network::usual(), span: Span::USUAL, tuning_seeds: 5, seeds, curves: false }
    }
}

/// A policy under a seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Which policy.
    pub policy: Policy,
    /// Which seed.
    pub seed: u64,
    /// What was counted.
    pub tally: Tally,
}

/// The settings that a policy is judged with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuned {
    /// Which policy.
    pub policy: Policy,
    /// Its settings.
    pub settings: Settings,
    /// Mean cost a year on the tuning seeds.
    pub cost_per_year: f64,
}

/// How a policy differs from VARI-METRIC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Which policy.
    pub policy: Policy,
    /// Of the total cost a year, seed by seed.
    pub cost_per_year: Interval,
    /// The same as a share of the mean cost of VARI-METRIC.
    pub share: Interval,
}

/// A policy with other settings than its own, mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Which policy.
    pub policy: Policy,
    /// With which settings.
    pub settings: Settings,
    /// Mean value of the stock.
    pub stock_value: f64,
    /// Share of failures served from the depot's shelf.
    pub fill_rate: f64,
    /// Mean cost a year.
    pub cost_per_year: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// By policy in the order of [`Policy::ALL`], then seed.
    pub runs: Vec<Run>,
    /// Settings, in the same order; nothing for what has none.
    pub tuned: Vec<Tuned>,
    /// Differences, in the same order; nothing for VARI-METRIC itself.
    pub differences: Vec<Difference>,
    /// By policy, then `service`; empty unless asked for.
    pub curves: Vec<CurvePoint>,
}

impl Run {
    /// Total cost a year.
    #[must_use]
    pub fn cost_per_year(&self) -> f64 {
        self.per_year(self.tally.total_cost())
    }

    /// Emergency shipments a year.
    #[must_use]
    pub fn emergencies_per_year(&self) -> f64 {
        self.per_year(f64::from(self.tally.emergency))
    }

    /// Pieces moved between hub and depots a year.
    #[must_use]
    pub fn transports_per_year(&self) -> f64 {
        self.per_year(f64::from(self.tally.transports))
    }

    /// What was counted, as a year of it.
    #[must_use]
    pub fn per_year(&self, counted: f64) -> f64 {
        counted * DAYS_PER_YEAR / f64::from(self.tally.days.max(1))
    }

    /// Mean value of the stock on hand and on the way.
    #[must_use]
    pub fn stock_value(&self) -> f64 {
        self.tally.stock_value_days / f64::from(self.tally.days.max(1))
    }

    /// Share of failures served from the depot's shelf; 1 without failures.
    #[must_use]
    pub fn fill_rate(&self) -> f64 {
        share(self.tally.filled, self.tally.failures)
    }

    /// Share of failures whose part was at hand within what was promised; 1 without failures.
    #[must_use]
    pub fn within_limit(&self) -> f64 {
        share(self.tally.within_limit, self.tally.failures)
    }
}

fn share(part: u32, all: u32) -> f64 {
    if all == 0 { 1.0 } else { f64::from(part) / f64::from(all) }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// One policy with settings under one luck.
struct Job {
    policy: Policy,
    settings: Settings,
    fallback: Settings,
    luck: usize,
}

/// Progress of the whole comparison.
struct Work<'a> {
    plan: &'a Plan,
    known: Known,
    done: std::sync::atomic::AtomicU64,
    total: u64,
    watch: &'a (dyn Fn(u64, u64) + Sync),
}

impl Work<'_> {
    /// Runs jobs in parallel; results in their order.
    fn run(&self, lucks: &[(u64, Luck)], jobs: &[Job]) -> Result<Vec<Run>, Error> {
        let run = |job: &Job| {
            let (seed, luck) = &lucks[job.luck];
            let tally = self.simulate(job, luck)?;
            let done = self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            (self.watch)(done, self.total);
            Ok(Run { policy: job.policy, seed: *seed, tally })
        };
        jobs.par_iter().map(run).collect()
    }

    fn simulate(&self, job: &Job, luck: &Luck) -> Result<Tally, Error> {
        let network = &self.plan.network;
        let mut controller: Box<dyn Controller + '_> = match job.policy {
            Policy::SbaSs => Box::new(SbaSs::new(job.settings)),
            Policy::VariMetric => Box::new(VariMetric::new(job.settings, &self.known)),
            Policy::Predictive(quality) => {
                let alerts = luck.alerts_of(quality);
                Box::new(Predictive::new(network, job.settings, job.fallback, alerts, &self.known))
            }
            Policy::Perfect => Box::new(Perfect::new(network, luck)),
        };
        Ok(simulate(network, luck, self.plan.span, controller.as_mut())?.0)
    }

    fn draw(&self, first: u64, seeds: u32) -> Vec<(u64, Luck)> {
        let seeds: Vec<u64> = (first..first + u64::from(seeds)).collect();
        let days = self.plan.span.days();
        seeds.into_par_iter().map(|seed| (seed, Luck::draw(&self.plan.network, seed, days))).collect()
    }

    /// The best settings of a policy on the tuning seeds; of equals the first.
    fn tune(&self, lucks: &[(u64, Luck)], policy: Policy, fallback: Settings) -> Result<Option<Tuned>, Error> {
        let grid = grid(policy);
        let jobs: Vec<Job> = grid
            .iter()
            .flat_map(|&settings| (0..lucks.len()).map(move |luck| Job { policy, settings, fallback, luck }))
            .collect();
        let runs = self.run(lucks, &jobs)?;
        let costs = runs.chunks(lucks.len().max(1)).map(|runs| mean(runs.iter().map(Run::cost_per_year)));
        let tuned = grid.iter().zip(costs).map(|(&settings, cost_per_year)| Tuned { policy, settings, cost_per_year });
        Ok(tuned.min_by(|a, b| a.cost_per_year.total_cmp(&b.cost_per_year)))
    }
}

/// Candidates of a policy's settings.
fn grid(policy: Policy) -> Vec<Settings> {
    let all = |service: &[f64], hub: &[f64]| {
        service.iter().flat_map(|&service| hub.iter().map(move |&hub| Settings { service, hub })).collect()
    };
    match policy {
        Policy::SbaSs => all(&SBA_SERVICE, &SBA_HUB),
        Policy::VariMetric => all(&VARI_METRIC_SHARES, &VARI_METRIC_HUB),
        Policy::Predictive(Quality::Worthless) | Policy::Perfect => Vec::new(),
        Policy::Predictive(_) => all(&PREDICTIVE_SHARES, &PREDICTIVE_HUB),
    }
}

/// Compares. `watch` is told how many of how many simulations are done, from any thread.
///
/// # Errors
/// [`Error::Seeds`] for fewer than two seeds; others where rates or levels cannot be reckoned.
pub fn compare(plan: &Plan, watch: &(dyn Fn(u64, u64) + Sync)) -> Result<Comparison, Error> {
    if plan.seeds < 2 {
        return Err(Error::Seeds(plan.seeds));
    }
    let of_grids: usize = Policy::ALL.iter().map(|&policy| grid(policy).len()).sum();
    let of_curves: usize = if plan.curves { Policy::ALL.iter().map(|&policy| services(policy).len()).sum() } else { 0 };
    let total =
        of_grids as u64 * u64::from(plan.tuning_seeds) + (Policy::ALL.len() + of_curves) as u64 * u64::from(plan.seeds);
    let work = Work { plan, known: Known::default(), done: std::sync::atomic::AtomicU64::new(0), total, watch };
    let tuned = tune_all(&work)?;
    let lucks = work.draw(1, plan.seeds);
    let fallback = settings_of(&tuned, Policy::VariMetric);
    let jobs: Vec<Job> = Policy::ALL
        .into_iter()
        .flat_map(|policy| {
            let settings = settings_of(&tuned, policy);
            (0..lucks.len()).map(move |luck| Job { policy, settings, fallback, luck })
        })
        .collect();
    let runs = work.run(&lucks, &jobs)?;
    let curves = if plan.curves { curves(&work, &lucks, &tuned)? } else { Vec::new() };
    Ok(Comparison { differences: differences(&runs, lucks.len()), runs, tuned, curves })
}

fn tune_all(work: &Work<'_>) -> Result<Vec<Tuned>, Error> {
    let lucks = work.draw(FIRST_TUNING_SEED, work.plan.tuning_seeds);
    let mut tuned = Vec::new();
    for policy in Policy::ALL {
        let fallback = settings_of(&tuned, Policy::VariMetric);
        tuned.extend(work.tune(&lucks, policy, fallback)?);
    }
    Ok(tuned)
}

/// Settings that a policy is run with; of what has none, any.
fn settings_of(tuned: &[Tuned], policy: Policy) -> Settings {
    let as_ = match policy {
        Policy::Predictive(quality) => Policy::Predictive(quality.tuned_as()),
        other => other,
    };
    tuned.iter().find(|tuned| tuned.policy == as_).map_or(Settings { service: 0.0, hub: 0.0 }, |tuned| tuned.settings)
}

/// Seed by seed against VARI-METRIC.
fn differences(runs: &[Run], seeds: usize) -> Vec<Difference> {
    let of = |policy: Policy| runs.iter().filter(move |run| run.policy == policy).map(Run::cost_per_year);
    let base = mean(of(Policy::VariMetric));
    let difference = |policy: Policy| {
        let each: Vec<f64> = of(policy).zip(of(Policy::VariMetric)).map(|(cost, base)| cost - base).collect();
        debug_assert_eq!(each.len(), seeds);
        let cost_per_year = interval(&each)?;
        let Interval { mean, low, high } = cost_per_year;
        Some(Difference {
            policy,
            cost_per_year,
            share: Interval { mean: mean / base, low: low / base, high: high / base },
        })
    };
    Policy::ALL.into_iter().filter(|&policy| policy != Policy::VariMetric).filter_map(difference).collect()
}

/// Levels of `service` that a policy's curve is made of.
fn services(policy: Policy) -> &'static [f64] {
    match policy {
        Policy::SbaSs => &SBA_SERVICE,
        Policy::VariMetric | Policy::Predictive(Quality::Worthless) => &VARI_METRIC_SHARES,
        Policy::Predictive(_) => &PREDICTIVE_SHARES,
        Policy::Perfect => &[],
    }
}

fn curves(work: &Work<'_>, lucks: &[(u64, Luck)], tuned: &[Tuned]) -> Result<Vec<CurvePoint>, Error> {
    let mut points = Vec::new();
    for policy in Policy::ALL {
        let own = settings_of(tuned, policy);
        for &service in services(policy) {
            let settings = Settings { service, ..own };
            // Where it falls back it is VARI-METRIC at the same point of the curve.
            let fallback = Settings { service, ..settings_of(tuned, Policy::VariMetric) };
            let jobs: Vec<Job> = (0..lucks.len()).map(|luck| Job { policy, settings, fallback, luck }).collect();
            let runs = work.run(lucks, &jobs)?;
            points.push(CurvePoint {
                policy,
                settings,
                stock_value: mean(runs.iter().map(Run::stock_value)),
                fill_rate: mean(runs.iter().map(Run::fill_rate)),
                cost_per_year: mean(runs.iter().map(Run::cost_per_year)),
            });
        }
    }
    Ok(points)
}
