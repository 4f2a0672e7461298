//! What was predicted in production and what came of it, read from the ledger.

use std::collections::BTreeMap;

use harbinger_core::{DeviceId, Duration, HardwareModelId, TenantId, TimeRange, Timestamp, history::DeviceHistory};
use harbinger_store::{
    Ledger, ledger,
    ledger::{models, predictions},
    telemetry::SharedStore,
};
use serde::Deserialize;

use super::{
    Error, blocking, outcomes,
    reading::{self, Known},
};
use crate::{
    evaluate::{
        self, Span, Standing, Truth,
        pictures::{Example, Moment, examples_at, moments_of},
    },
    failure::{Explanation, Prediction, TopSignal, kind_of, kinds},
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
    let Past { known, horizons, truth, predictions, .. } = Past::load(ledger, tenant, range, None, at).await?;
    blocking(move || {
        let model_of = |device: &harbinger_core::fleet::Device| (device.device.clone(), device.model.clone());
        let models: BTreeMap<DeviceId, HardwareModelId> = known.fleet.devices.iter().map(model_of).collect();
        evaluate::scoreboard(&predictions, &horizons, &truth, &models, at)
    })
    .await
}

/// Failures that a version foresaw, failures that it missed and false alarms of it, a few of each, with what was measured
/// around them. Empty where nothing is known yet of what it predicted.
///
/// # Errors
/// [`Error::TooMany`] where the span has more than two million predictions of it; [`Error::Ledger`]; [`Error::Telemetry`].
pub async fn examples(
    ledger: &Ledger,
    store: &SharedStore,
    tenant: &TenantId,
    range: TimeRange,
    version: &str,
    at: Timestamp,
) -> Result<Vec<Example>, Error> {
    let mut past = Past::load(ledger, tenant, range, Some(version), at).await?;
    let rows = past.predictions.remove(version).unwrap_or_default();
    let (Some(first), Some(last), Some(&horizon)) = (rows.first(), rows.last(), past.horizons.get(version)) else {
        return Ok(Vec::new());
    };
    let span = Span::of_version((first.ts, last.ts), horizon, at);
    let Past { known, truth, thresholds, .. } = past;
    let kinds = kinds(&known.fleet);
    let (moments, rows) = blocking(move || (moments_of(&rows, &truth, span), rows)).await?;
    let mut shown: Vec<(Moment, DeviceHistory)> = Vec::new();
    for moment in moments {
        let history = reading::history(store, tenant, &moment.slot.0, moment.from, moment.to).await?;
        shown.push((moment, history));
    }
    let mut examples = blocking(move || examples_at(&shown, &rows, span)).await?;
    let mut read = ledger.read().await?;
    for example in &mut examples {
        let Some(highest) = &example.highest else { continue };
        let decision = predictions::decision(&mut read, tenant, highest).await?;
        let reasons: Option<Reasons> = decision.and_then(|decision| Reasons::deserialize(decision.body).ok());
        example.because = reasons.and_then(|reasons| Some(reasons.top_signals.into_iter().next()?.because));
        let device = known.fleet.devices.iter().find(|device| device.device == example.device);
        example.threshold = device.and_then(|device| thresholds.get(kind_of(&kinds, device)).copied());
    }
    Ok(examples)
}

/// What a decision says of its signals.
#[derive(Deserialize)]
struct Reasons {
    top_signals: Vec<TopSignal>,
}

/// Predictions that were made, and what is known of what came of them.
struct Past {
    known: Known,
    /// Main horizon of each version.
    horizons: BTreeMap<String, Duration>,
    /// Of the wanted version, by kind of device.
    thresholds: BTreeMap<String, f64>,
    truth: Truth,
    /// By version, each in order of time.
    predictions: BTreeMap<String, Vec<Prediction>>,
}

impl Past {
    /// * `version`: the one that is wanted, all where `None`.
    /// * `at`: nothing later is known.
    async fn load(
        ledger: &Ledger,
        tenant: &TenantId,
        range: TimeRange,
        version: Option<&str>,
        at: Timestamp,
    ) -> Result<Self, Error> {
        let known = Known::load(ledger, tenant, at).await?;
        let truth = outcomes::truth(ledger, tenant, &known, at).await?;
        let models = models::list(&mut *ledger.read().await?, tenant).await?;
        let range = TimeRange { to: range.to.min(at + Duration::from_millis(1)), ..range };
        let predictions = predictions_in(ledger, tenant, range, version).await?;
        let wanted = models.iter().find(|model| version == Some(model.version.as_str()));
        let thresholds = wanted.map(thresholds).unwrap_or_default();
        let horizon = |model: models::Model| Some((model.version, *model.horizons.first()?));
        let horizons = models.into_iter().filter_map(horizon).collect();
        Ok(Self { known, horizons, thresholds, truth, predictions })
    }
}

/// The probability above which a model alarms, by kind of device, as its summary says.
fn thresholds(model: &models::Model) -> BTreeMap<String, f64> {
    let families = model.summary["families"].as_array().into_iter().flatten();
    let of = |family: &serde_json::Value| Some((family["kind"].as_str()?.to_owned(), family["threshold"].as_f64()?));
    families.filter_map(of).collect()
}

/// The predictions of a span by the version that made them, each in order of time.
async fn predictions_in(
    ledger: &Ledger,
    tenant: &TenantId,
    range: TimeRange,
    version: Option<&str>,
) -> Result<BTreeMap<String, Vec<Prediction>>, Error> {
    let model_version = version.map(str::to_owned);
    let filter = predictions::Filter { range, model_version, ..predictions::Filter::default() };
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
        explanation: Explanation::default(),
        threshold: None,
        features: Vec::new(),
        kind: None,
        basis: None,
    }
}
