//! What was predicted in production and what came of it, read from the ledger.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, HardwareModelId, TenantId, TimeRange, Timestamp};
use harbinger_store::{
    Ledger, ledger,
    ledger::{
        alerts::{self, Alert, AlertFilter, AlertState, Order, Outcome},
        models, predictions,
    },
};

use super::{
    Error, blocking,
    reading::{Known, is_failure},
};
use crate::{
    evaluate::{self, Standing, Truth},
    failure::{Prediction, TopSignal},
    survival::RemainingLife,
};

/// Predictions read at a time: between two pages others may read the ledger.
const PAGE: usize = 10_000;
/// Most predictions that are judged at once: about half a gigabyte.
const MOST_PREDICTIONS: usize = 2_000_000;

/// Judges the predictions of a span by the failures that are known at `at`: see [`evaluate::scoreboard`].
///
/// A component has failed where it was replaced for a failure, and where an alert was closed as confirmed without such a
/// record: a piece that was changed in time never fails.
///
/// # Errors
/// [`Error::TooMany`] where the span has more than two million predictions; [`Error::Ledger`].
pub async fn scoreboard(
    ledger: &Ledger,
    tenant: &TenantId,
    range: TimeRange,
    at: Timestamp,
) -> Result<Vec<Standing>, Error> {
    let known = Known::load(ledger, tenant, at).await?;
    let (horizons, confirmed) = {
        let mut read = ledger.read().await?;
        let horizon = |model: models::Model| Some((model.version, *model.horizons.first()?));
        let horizons: BTreeMap<String, Duration> =
            models::list(&mut read, tenant).await?.into_iter().filter_map(horizon).collect();
        let closed = AlertFilter { states: vec![AlertState::Closed], ..AlertFilter::default() };
        let mut closed = alerts::list(&mut read, tenant, &closed, Order::OldestFirst, None, u32::MAX).await?;
        closed.retain(|alert| alert.outcome == Some(Outcome::Confirmed));
        (horizons, closed)
    };
    let range = TimeRange { to: range.to.min(at + Duration::from_millis(1)), ..range };
    let predictions = predictions_in(ledger, tenant, range).await?;
    blocking(move || {
        let mut truth = Truth::new();
        for record in known.maintenance.iter().filter(|record| is_failure(record)) {
            truth.entry((record.device.clone(), record.component.clone())).or_default().push(record.ts);
        }
        add_confirmed(&mut truth, &confirmed, at);
        let model_of = |device: &harbinger_core::fleet::Device| (device.device.clone(), device.model.clone());
        let models: BTreeMap<DeviceId, HardwareModelId> = known.fleet.devices.iter().map(model_of).collect();
        evaluate::scoreboard(&predictions, &horizons, &truth, &models, at)
    })
    .await
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

/// The predictions of a span by the version that made them, each in order of time.
async fn predictions_in(
    ledger: &Ledger,
    tenant: &TenantId,
    range: TimeRange,
) -> Result<BTreeMap<String, Vec<Prediction>>, Error> {
    let filter = predictions::Filter { range, ..predictions::Filter::default() };
    let mut found: BTreeMap<String, Vec<Prediction>> = BTreeMap::new();
    let mut after = None;
    let mut read = 0;
    loop {
        let page = {
            let mut connection = ledger.read().await?;
            predictions::list(&mut connection, tenant, &filter, after.as_ref(), PAGE).await?
        };
        read += page.len();
        if read > MOST_PREDICTIONS {
            return Err(Error::TooMany { most: MOST_PREDICTIONS });
        }
        after = page.last().map(predictions::Prediction::key);
        let last = page.len() < PAGE;
        for row in page {
            found.entry(row.model_version.clone()).or_default().push(judged(row));
        }
        if last {
            return Ok(found);
        }
    }
}

/// What judging needs of a kept prediction.
fn judged(row: ledger::predictions::Prediction) -> Prediction {
    let signal = |(name, contribution): (String, f64)| TopSignal {
        name,
        contribution,
        because: String::new(),
        value: None,
        usual: None,
    };
    Prediction {
        ts: row.ts,
        device: row.device,
        component: row.component,
        probabilities: row.probabilities,
        score: row.score,
        alarm: row.alarm,
        rul: RemainingLife { mean: row.rul_mean, p05: row.rul_p05, p50: row.rul_p50, p95: row.rul_p95 },
        top_signals: row.top_signals.into_iter().map(signal).collect(),
        threshold: None,
        features: Vec::new(),
        kind: None,
        basis: None,
    }
}
