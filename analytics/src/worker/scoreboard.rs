//! What was predicted in production and what came of it, read from the ledger.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, HardwareModelId, TenantId, TimeRange, Timestamp};
use harbinger_store::{
    Ledger, ledger,
    ledger::{models, predictions},
};

use super::{Error, blocking, outcomes, reading::Known};
use crate::{
    evaluate::{self, Standing},
    failure::{Prediction, TopSignal},
    survival::RemainingLife,
};

/// Predictions read at a time: between two pages others may read the ledger.
const PAGE: usize = 10_000;
/// Most predictions that are judged at once: about half a gigabyte.
const MOST_PREDICTIONS: usize = 2_000_000;

/// Judges the predictions of a span by the failures that are known at `at`: see [`evaluate::scoreboard`].
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
    let truth = outcomes::truth(ledger, tenant, &known, at).await?;
    let horizon = |model: models::Model| Some((model.version, *model.horizons.first()?));
    let horizons: BTreeMap<String, Duration> =
        models::list(&mut *ledger.read().await?, tenant).await?.into_iter().filter_map(horizon).collect();
    let range = TimeRange { to: range.to.min(at + Duration::from_millis(1)), ..range };
    let predictions = predictions_in(ledger, tenant, range).await?;
    blocking(move || {
        let model_of = |device: &harbinger_core::fleet::Device| (device.device.clone(), device.model.clone());
        let models: BTreeMap<DeviceId, HardwareModelId> = known.fleet.devices.iter().map(model_of).collect();
        evaluate::scoreboard(&predictions, &horizons, &truth, &models, at)
    })
    .await
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
