//! What came of predictions: the failures that are known, and how many were expected of those there were.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, HardwareModelId, TenantId, TimeRange, Timestamp, fleet::Fleet};
use harbinger_store::{
    Ledger, ledger,
    ledger::{
        alerts::{self, Alert, AlertFilter, AlertState, Order, Outcome},
        predictions,
    },
};

use super::reading::{Known, is_failure};
use crate::{
    evaluate::Truth,
    failure::{Model, Outcomes, kind_of, kinds},
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
    confirmed.retain(|alert| alert.outcome == Some(Outcome::Confirmed));
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

/// Failures that a model expected and those that came, by kind and component, over the windows of its main horizon that end at
/// `at` or before and do not overlap: each failure is asked for once.
pub(super) async fn outcomes(
    ledger: &Ledger,
    tenant: &TenantId,
    known: &Known,
    model: &Model,
    at: Timestamp,
) -> Result<Outcomes, ledger::Error> {
    let Some(&horizon) = model.horizons.first() else { return Ok(Outcomes::new()) };
    let truth = truth(ledger, tenant, known, at).await?;
    let kind_of_device = device_kinds(&known.fleet);
    // Predictions stand on the grid of steps, which need not divide the horizon.
    let window = Duration::from_millis(Timestamp::from_millis(horizon.millis()).ceil_to(model.every).millis());
    let mut outcomes = Outcomes::new();
    let mut seen = 0;
    for back in 1..=WINDOWS {
        let ts = at - Duration::from_millis(back * window.millis());
        if ts <= model.trained_until || seen >= ENOUGH {
            break;
        }
        let filter = predictions::Filter {
            range: TimeRange { from: ts, to: ts + Duration::from_millis(1) },
            model_version: Some(model.version.clone()),
            ..predictions::Filter::default()
        };
        let rows = predictions::list(&mut *ledger.read().await?, tenant, &filter, None, usize::MAX).await?;
        seen += rows.len();
        for row in rows {
            let Some(kind) = kind_of_device.get(&row.device) else { continue };
            let slot = (row.device, row.component);
            let failed = truth.get(&slot).is_some_and(|times| times.iter().any(|&t| ts < t && t <= ts + horizon));
            let probability = row.probabilities.first().copied().unwrap_or(0.0);
            outcomes.entry(((*kind).to_owned(), slot.1)).or_default().add(probability, failed);
        }
    }
    Ok(outcomes)
}

fn device_kinds(fleet: &Fleet) -> BTreeMap<DeviceId, &str> {
    let kinds: BTreeMap<&HardwareModelId, &str> = kinds(fleet);
    fleet.devices.iter().map(|device| (device.device.clone(), kind_of(&kinds, device))).collect()
}
