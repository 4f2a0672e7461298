//! The record of a decision: what it was made from and why it came out so, as it is written with a prediction and read again.

use harbinger_analytics::{
    failure::{self, Explanation, Model, Recomputed, TopSignal},
    worker::Cycle,
};
use harbinger_store::ledger::predictions::{Decision, Prediction, PredictionKey};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The records of a cycle: of the rows that alarm or might soon, and of those that a plan stands on.
///
/// * `rows`: the predictions of the cycle as they are kept, in its order.
pub(super) fn decisions(cycle: &Cycle, rows: &[Prediction]) -> Vec<Decision> {
    let kept = cycle.predictions.iter().zip(rows).filter(|(prediction, _)| !prediction.features.is_empty());
    kept.map(|(prediction, row)| {
        let features = prediction.features.iter().map(|(name, value)| json!({"name": name, "value": value}));
        let mut body = reasons(&prediction.top_signals, &prediction.explanation);
        body.insert("features".to_owned(), features.collect());
        body.insert("kind".to_owned(), json!(prediction.kind));
        body.insert("probabilities".to_owned(), json!(prediction.probabilities));
        body.insert("threshold".to_owned(), json!(prediction.threshold));
        Decision { prediction_id: row.id(), model_version: row.model_version.clone(), body: Value::Object(body) }
    })
    .collect()
}

/// What the record says of why.
fn reasons(top_signals: &[TopSignal], explanation: &Explanation) -> Map<String, Value> {
    let Explanation { similar_cases, counterfactual } = explanation;
    let fields = [
        ("top_signals", json!(top_signals)),
        ("similar_cases", json!(similar_cases)),
        ("counterfactual", json!(counterfactual)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a decision was made from, as far as reckoning it again needs it.
#[derive(Deserialize)]
pub(super) struct Basis {
    kind: String,
    features: Vec<NamedFeature>,
}

#[derive(Deserialize)]
struct NamedFeature {
    name: String,
    value: Option<f64>,
}

impl Basis {
    /// That of a decision; `None` for those from before kinds were kept.
    pub(super) fn of(decision: &Decision) -> Option<Self> {
        Self::deserialize(&decision.body).ok()
    }

    /// What a model says of it now; `None` where it has other features or no such component.
    pub(super) fn judged_by(self, model: &Model, key: &PredictionKey) -> Option<harbinger_api::Recomputed> {
        let features: Vec<(String, Option<f64>)> = self.features.into_iter().map(|f| (f.name, f.value)).collect();
        let again = failure::recompute(model, &self.kind, key, &features)?;
        let Recomputed { probabilities, score, top_signals, explanation } = again;
        Some(harbinger_api::Recomputed { probabilities, score, reasons: reasons(&top_signals, &explanation) })
    }
}
