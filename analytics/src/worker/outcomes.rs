//! What came of predictions: the failures that are known, and how many were expected of those there were.

use std::collections::{BTreeMap, BTreeSet};

use harbinger_core::{
    ComponentId, DeviceId, Duration, HardwareModelId, PartId, TenantId, TimeRange, Timestamp, fleet::Device,
};
use harbinger_store::{
    Ledger, ledger,
    ledger::{
        alerts::{self, Alert, AlertFilter, AlertState, Order},
        models, predictions,
    },
};

use super::reading::{Known, is_failure};
use crate::{
    demand::{BacktestWindow, updated_common_factor},
    evaluate::{Truth, is_failing},
    failure::{Model, Outcome, Outcomes, kind_of, kinds},
};

/// Windows of a horizon that are looked back at.
const WINDOWS: i64 = 30;
/// Predictions after which no further window is looked at: a large fleet says as much in fewer.
const ENOUGH: usize = 300_000;

/// The failures that are known at `at`. A component has failed where it was replaced for a failure, and where an alert was closed
/// as confirmed without such a record: a piece that was changed in time never fails.
pub(super) async fn truth(
    ledger: &Ledger,
    tenant: &TenantId,
    known: &Known,
    at: Timestamp,
) -> Result<Truth, ledger::Error> {
    let closed = AlertFilter { states: vec![AlertState::Closed], ..AlertFilter::default() };
    let mut read = ledger.read().await?;
    let mut confirmed = alerts::list(&mut read, tenant, &closed, Order::OldestFirst, None, u32::MAX).await?;
    drop(read);
    confirmed.retain(|alert| alert.outcome == Some(alerts::Outcome::Confirmed));
    let mut truth = Truth::new();
    for record in known.maintenance.iter().filter(|record| is_failure(record)) {
        truth.entry((record.device.clone(), record.component.clone())).or_default().push(record.ts);
    }
    add_confirmed(&mut truth, &confirmed, at);
    Ok(truth)
}

/// Adds the failures that only a confirmed alert tells of, at the time when it ended.
fn add_confirmed(truth: &mut Truth, confirmed: &[Alert], at: Timestamp) {
    for alert in confirmed {
        let Some(ended) = alert.ended_at().filter(|&ended| ended <= at) else { continue };
        let failures = truth.entry((alert.device.clone(), alert.component.clone())).or_default();
        if !failures.iter().any(|&failure| alert.raised_at <= failure && failure <= ended) {
            failures.push(ended);
            failures.sort_unstable();
        }
    }
}

/// What came of a model's predictions.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By kind and component, over all windows.
    pub(super) by_component: Outcomes,
    /// By part, one a window.
    pub(super) by_part: BTreeMap<PartId, Vec<Outcome>>,
}

impl Told {
    /// Variance of the factor that the forecasts of each part share, as far as windows tell (maths of pre-positioning, 2.4).
    ///
    /// * `before`: what it is taken for without them.
    pub(super) fn common_factors(&self, before: f64) -> BTreeMap<PartId, f64> {
        let window = |outcome: &Outcome| BacktestWindow {
            mean: outcome.expected,
            variance: outcome.variance,
            sum_p_squared: outcome.expected - outcome.variance,
            outcome: outcome.observed,
        };
        let fitted = |(part, windows): (&PartId, &Vec<Outcome>)| {
            let windows: Vec<BacktestWindow> = windows.iter().map(window).collect();
            (part.clone(), updated_common_factor(before, &windows))
        };
        self.by_part.iter().map(fitted).collect()
    }
}

/// Failures that were expected and those that came, over the windows of a model's main horizon that end at `at` or before and do not
/// overlap: each failure is asked for once. By component what the model itself said; by part what was said by whichever model was
/// in use then, for plans stand on the one after the other.
pub(super) async fn outcomes(
    ledger: &Ledger,
    tenant: &TenantId,
    known: &Known,
    model: &Model,
    at: Timestamp,
) -> Result<Told, ledger::Error> {
    let mut told = Told::default();
    let Some(&horizon) = model.horizons.first() else { return Ok(told) };
    let truth = truth(ledger, tenant, known, at).await?;
    let kinds = kinds(&known.fleet);
    let devices: BTreeMap<&DeviceId, &Device> = known.fleet.devices.iter().map(|d| (&d.device, d)).collect();
    let parts: BTreeMap<(&HardwareModelId, &ComponentId), &PartId> =
        known.fleet.components.iter().map(|slot| ((&slot.model, &slot.component), &slot.part)).collect();
    // Predictions stand on the grid of steps, which need not divide the horizon.
    let window = Duration::from_millis(Timestamp::from_millis(horizon.millis()).ceil_to(model.every).millis());
    let alike = |row: &models::Model| row.horizons.first() == Some(&horizon);
    let versions: BTreeSet<String> = models::list(&mut *ledger.read().await?, tenant)
        .await?
        .into_iter()
        .filter(alike)
        .map(|row| row.version)
        .collect();
    let mut seen = 0;
    for back in 1..=WINDOWS {
        let ts = at - Duration::from_millis(back * window.millis());
        if seen >= ENOUGH {
            break;
        }
        let range = TimeRange { from: ts, to: ts + Duration::from_millis(1) };
        let filter = predictions::Filter { range, ..predictions::Filter::default() };
        let rows = predictions::list(&mut *ledger.read().await?, tenant, &filter, None, usize::MAX).await?;
        seen += rows.len();
        let mut by_part: BTreeMap<&PartId, Outcome> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| versions.contains(&row.model_version)) {
            let own = row.model_version == model.version;
            let Some(device) = devices.get(&row.device) else { continue };
            let part = parts.get(&(&device.model, &row.component)).copied();
            let slot = (row.device, row.component);
            let failed = is_failing(&truth, &slot, ts, horizon);
            let probability = row.probabilities.first().copied().unwrap_or(0.0);
            if let Some(part) = part {
                by_part.entry(part).or_default().add(probability, failed);
            }
            if own {
                let of = (kind_of(&kinds, device).to_owned(), slot.1);
                told.by_component.entry(of).or_default().add(probability, failed);
            }
        }
        for (part, outcome) in by_part {
            told.by_part.entry(part.clone()).or_default().push(outcome);
        }
    }
    Ok(told)
}
