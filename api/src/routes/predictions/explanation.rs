//! Why a prediction is what it is, as the record of its decision has it and in words for people.

use harbinger_core::{DeviceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Past cases like a prediction, and what would have to change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExplanationView {
    /// What would have to change, then each similar case, a sentence each.
    in_words: Vec<String>,
    /// The past cases most like it, the most alike first: other devices, or the same one at another time.
    similar_cases: Vec<SimilarCaseView>,
    /// What would have to change for it not to alarm; null where it does not.
    counterfactual: Option<CounterfactualView>,
}

/// A past case like a prediction.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct SimilarCaseView {
    /// Which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Share of the model's trees that do not tell the two apart: 0 to 1.
    similarity: f64,
    /// Main-horizon probability that a model gave it that had not seen its device.
    probability: f64,
    /// What came of it.
    ended: EndingView,
}

/// How a case ended, in hours after it.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
enum EndingView {
    /// It failed so many hours later.
    #[serde(rename = "failed_after_hours")]
    Failed(f64),
    /// It was replaced so many hours later, and had not failed.
    #[serde(rename = "replaced_after_hours")]
    Replaced(f64),
    /// It did not fail within so many hours, nor was it replaced.
    #[serde(rename = "held_for_hours")]
    Held(f64),
}

/// The fewest signals that, were they as usual, would end the alarm, reckoned by the model itself.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct CounterfactualView {
    /// Signals set back to the nearest end of what is usual, what raised the score most first; empty where that helps nothing.
    changes: Vec<ChangeView>,
    /// The main-horizon probability then.
    probability: f64,
    /// Whether that is no alarm; where it is not, no three signals suffice, and these lower it most.
    suffices: bool,
}

/// A signal that is set back.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct ChangeView {
    /// Signal name or event code.
    name: String,
    /// Of its features that change, all of which are set back, the one that people know it by, in words.
    feature: String,
    /// Its value; null where it is missing.
    value: Option<f64>,
    /// From where to where nine of ten healthy devices have it; null where most have none.
    usual: Option<(f64, f64)>,
}

/// What is read of a decision.
#[derive(Deserialize)]
struct Kept {
    similar_cases: Vec<SimilarCaseView>,
    counterfactual: Option<CounterfactualView>,
    threshold: Option<f64>,
}

impl ExplanationView {
    /// What a decision says; `None` for decisions from before it was kept.
    pub(super) fn of(decision: &Value) -> Option<Self> {
        let Kept { similar_cases, counterfactual, threshold } = Kept::deserialize(decision).ok()?;
        let change = counterfactual.iter().map(|counterfactual| counterfactual.in_words(threshold));
        let in_words = change.chain(similar_cases.iter().map(SimilarCaseView::in_words)).collect();
        Some(Self { in_words, similar_cases, counterfactual })
    }
}

impl CounterfactualView {
    fn in_words(&self, threshold: Option<f64>) -> String {
        let (then, alarm) = (percent(self.probability), threshold.map_or_else(String::new, percent));
        let changes: Vec<String> = self.changes.iter().map(ChangeView::in_words).collect();
        let changes = changes.join(" and ");
        match (changes.is_empty(), self.suffices) {
            (true, _) => format!("it would stay at {then} if its signals were back at their usual values"),
            (false, true) => format!("if {changes}, the probability would be {then} (alarms begin above {alarm})"),
            (false, false) => {
                format!("even if {changes}, the probability would be {then} (alarms begin above {alarm})")
            }
        }
    }
}

impl ChangeView {
    fn in_words(&self) -> String {
        let Self { feature, value, usual, .. } = self;
        let now = value.map_or_else(String::new, |value| format!(" rather than {}", number(value)));
        match usual {
            Some((low, high)) if low == high => format!("{feature} were back at its usual {}{now}", number(*low)),
            Some((low, high)) => format!("{feature} were back at its usual {} to {}{now}", number(*low), number(*high)),
            None => format!("there were no value of {feature}{now}, as usual"),
        }
    }
}

impl SimilarCaseView {
    fn in_words(&self) -> String {
        let came = match self.ended {
            EndingView::Failed(hours) => format!("failed {} h later", number(hours)),
            EndingView::Replaced(hours) => format!("was replaced {} h later", number(hours)),
            EndingView::Held(hours) => format!("did not fail within {} h", number(hours)),
        };
        format!("{} at {} was {} alike and {came}", self.device, self.ts, percent(self.similarity))
    }
}

/// A share in whole percent, below one percent in tenths.
fn percent(share: f64) -> String {
    if share < 0.01 {
        format!("{} %", number((share * 1000.0).round() / 10.0))
    } else {
        format!("{:.0} %", share * 100.0)
    }
}

/// About four digits, without zeros at the end.
fn number(value: f64) -> String {
    let text = match value.abs() {
        large if large >= 1000.0 => return format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn says(counterfactual: Value, expected: &str) {
        let case = json!({
            "device": "pump-03", "ts": "2015-01-07T06:00:00Z", "similarity": 0.874, "probability": 0.5,
            "ended": { "failed_after_hours": 12.0 },
        });
        let decision = json!({ "similar_cases": [case], "counterfactual": counterfactual, "threshold": 0.12 });
        let view = ExplanationView::of(&decision).unwrap();
        let words: Vec<&str> = view.in_words.iter().map(String::as_str).collect();
        let case = "pump-03 at 2015-01-07T06:00:00Z was 87 % alike and failed 12 h later";
        assert_eq!(words.strip_suffix(&[case]).unwrap().concat(), expected);
    }

    #[test]
    fn what_would_have_to_change_is_told_in_words() {
        let heat =
            json!({ "name": "heat", "feature": "mean heat of the last 1d", "value": 60.25, "usual": [41.0, 55.5] });
        let code = json!({ "name": "E12", "feature": "hours since E12", "value": 3.0, "usual": null });
        let with =
            |changes: Value, suffices: bool| json!({ "changes": changes, "probability": 0.004, "suffices": suffices });
        says(
            with(json!([heat, code]), true),
            "if mean heat of the last 1d were back at its usual 41 to 55.5 rather than 60.2 and there were no value of hours since \
             E12 rather than 3, as usual, the probability would be 0.4 % (alarms begin above 12 %)",
        );
        says(with(json!([]), false), "it would stay at 0.4 % if its signals were back at their usual values");
        says(Value::Null, "");
    }

    #[test]
    fn older_decisions_explain_nothing_more() {
        assert!(ExplanationView::of(&json!({ "features": [], "threshold": 0.5 })).is_none());
    }
}
