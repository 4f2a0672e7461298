//! The page of `--report`: a template, and the data of a comparison in it.

use std::path::Path;

use harbinger_sim::policies::{Comparison, Interval, Network, Plan, Policy, Run};
use serde::Serialize;

use super::{mean, quality};
use crate::commands::page;

const TEMPLATE: &str = include_str!("report.html");

#[derive(Serialize)]
struct Data {
    seeds: u32,
    tuning_seeds: u32,
    history_days: usize,
    warm_up_days: usize,
    measured_days: usize,
    network: NetworkView,
    policies: Vec<PolicyView>,
    curves: Vec<PointView>,
}

#[derive(Serialize)]
struct NetworkView {
    devices: usize,
    depots: usize,
    holding_rate_per_year: f64,
    emergency_days: usize,
    ship_days: (usize, usize),
    ship_cost: (f64, f64),
    emergency_cost: (f64, f64),
    parts: Vec<PartView>,
    contracts: Vec<ContractView>,
}

#[derive(Serialize)]
struct PartView {
    name: &'static str,
    unit_cost: f64,
    supplier_days: usize,
    shape: f64,
    scale_days: f64,
}

#[derive(Serialize)]
struct ContractView {
    share: f64,
    limit_hours: f64,
    downtime_cost_per_day: f64,
    penalty: f64,
}

/// Means a year of a policy, and how it differs.
#[derive(Serialize)]
struct PolicyView {
    name: &'static str,
    quality: &'static str,
    stock_value: f64,
    fill_rate: f64,
    within_limit: f64,
    emergencies: f64,
    transports: f64,
    holding: f64,
    transport: f64,
    shipping: f64,
    waiting: f64,
    cost: f64,
    settings: Option<(f64, f64)>,
    difference: Option<[f64; 3]>,
    share: Option<[f64; 3]>,
}

#[derive(Serialize)]
struct PointView {
    name: &'static str,
    quality: &'static str,
    service: f64,
    stock_value: f64,
    fill_rate: f64,
    cost: f64,
}

/// Writes the page, whole or not at all.
pub(super) fn write(path: &Path, plan: &Plan, comparison: &Comparison) -> anyhow::Result<()> {
    page::write(path, TEMPLATE, &data(plan, comparison))
}

fn data(plan: &Plan, comparison: &Comparison) -> Data {
    let point = |point: &harbinger_sim::policies::CurvePoint| PointView {
        name: point.policy.name(),
        quality: quality(point.policy),
        service: point.settings.service,
        stock_value: point.stock_value,
        fill_rate: point.fill_rate,
        cost: point.cost_per_year,
    };
    Data {
        seeds: plan.seeds,
        tuning_seeds: plan.tuning_seeds,
        history_days: plan.span.history,
        warm_up_days: plan.span.warm_up,
        measured_days: plan.span.measured,
        network: network(&plan.network),
        policies: Policy::ALL.into_iter().map(|policy| view(comparison, policy)).collect(),
        curves: comparison.curves.iter().map(point).collect(),
    }
}

/// Least and greatest.
fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
}

fn network(network: &Network) -> NetworkView {
    let days = || network.depots.iter().map(|depot| depot.ship_days);
    NetworkView {
        devices: network.devices.len(),
        depots: network.depots.len(),
        holding_rate_per_year: network.holding_rate_per_year,
        emergency_days: network.emergency_days,
        ship_days: (days().min().unwrap_or(0), days().max().unwrap_or(0)),
        ship_cost: range(network.depots.iter().map(|depot| depot.ship_cost)),
        emergency_cost: range(network.depots.iter().map(|depot| depot.emergency_cost)),
        parts: network
            .parts
            .iter()
            .map(|part| PartView {
                name: part.name,
                unit_cost: part.unit_cost,
                supplier_days: part.supplier_days,
                shape: part.life.shape,
                scale_days: part.life.scale_days,
            })
            .collect(),
        contracts: network
            .contracts
            .iter()
            .map(|contract| ContractView {
                share: contract.share,
                limit_hours: contract.limit_days * 24.0,
                downtime_cost_per_day: contract.downtime_cost_per_day,
                penalty: contract.penalty,
            })
            .collect(),
    }
}

fn view(comparison: &Comparison, policy: Policy) -> PolicyView {
    let mean = |of: &dyn Fn(&Run) -> f64| mean(comparison, policy, of);
    let tuned = comparison.tuned.iter().find(|tuned| tuned.policy == policy);
    let difference = comparison.differences.iter().find(|difference| difference.policy == policy);
    let three = |interval: Interval| [interval.mean, interval.low, interval.high];
    PolicyView {
        name: policy.name(),
        quality: quality(policy),
        stock_value: mean(&Run::stock_value),
        fill_rate: mean(&Run::fill_rate),
        within_limit: mean(&Run::within_limit),
        emergencies: mean(&Run::emergencies_per_year),
        transports: mean(&Run::transports_per_year),
        holding: mean(&|run| run.per_year(run.tally.holding)),
        transport: mean(&|run| run.per_year(run.tally.transport)),
        shipping: mean(&|run| run.per_year(run.tally.shipping)),
        waiting: mean(&|run| run.per_year(run.tally.waiting)),
        cost: mean(&Run::cost_per_year),
        settings: tuned.map(|tuned| (tuned.settings.service, tuned.settings.hub)),
        difference: difference.map(|difference| three(difference.cost_per_year)),
        share: difference.map(|difference| three(difference.share)),
    }
}
