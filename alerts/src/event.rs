//! What receivers are told: one JSON shape for webhooks and the live stream, thin, so that a receiver asks the API for
//! the rest.
//!
//! ```json
//! {"type": "alert.raised", "timestamp": "2015-03-01T06:00:00Z", "data": {...}}
//! ```
//!
//! Source of the shape: Standard Webhooks specification, "Payload structure".

use harbinger_core::Timestamp;
use harbinger_store::ledger::alerts::Alert;
use serde_json::{Value, json};

/// Largest body in bytes. Standard Webhooks recommends less than 20 kB.
pub const MAX_BODY_BYTES: usize = 20_000;
/// Reasons told of an alert; the API has them all.
const MAX_REASONS: usize = 5;
/// Longest summary and comment in characters.
const MAX_TEXT_CHARS: usize = 500;

/// Something that happens to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertEvent {
    /// It was raised.
    Raised,
    /// Its severity rose.
    Updated,
    /// Somebody has seen it.
    Acknowledged,
    /// Somebody works on it.
    Started,
    /// Its cause is gone.
    Resolved,
    /// A person said what it was.
    Closed,
}

impl AlertEvent {
    /// The event type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "alert.raised",
            Self::Updated => "alert.updated",
            Self::Acknowledged => "alert.acknowledged",
            Self::Started => "alert.in_progress",
            Self::Resolved => "alert.resolved",
            Self::Closed => "alert.closed",
        }
    }
}

/// The body of an event. Data that would make it longer than [`MAX_BODY_BYTES`] is left out, and `data` then says so with
/// the subject's id: the receiver asks the API.
#[must_use]
pub fn body(event_type: &str, subject: &str, at: Timestamp, data: &Value) -> Value {
    let body = json!({ "type": event_type, "timestamp": at, "data": data });
    if body.to_string().len() <= MAX_BODY_BYTES {
        return body;
    }
    json!({ "type": event_type, "timestamp": at, "data": { "id": subject, "truncated": true } })
}

/// What is told of an alert.
#[must_use]
pub fn alert_data(alert: &Alert) -> Value {
    let mut data = json!({
        "id": alert.alert_id,
        "device": alert.device,
        "component": alert.component,
        "failure_mode": alert.failure_mode,
        "state": alert.state,
        "severity": alert.severity,
        "summary": shortened(&alert.summary),
        "probability": alert.probability,
        "peak_probability": alert.peak_probability,
        "reasons": alert.reasons.iter().take(MAX_REASONS).collect::<Vec<_>>(),
        "raised_at": alert.raised_at,
        "updated_at": alert.updated_at,
    });
    let optional = [
        ("prediction_id", alert.prediction_id.as_ref().map(|id| json!(id))),
        ("acknowledged_by", alert.acknowledged_by.as_ref().map(|by| json!(by))),
        ("resolved_at", alert.resolved_at.map(|at| json!(at))),
        ("closed_at", alert.closed_at.map(|at| json!(at))),
        ("closed_by", alert.closed_by.as_ref().map(|by| json!(by))),
        ("outcome", alert.outcome.map(|outcome| json!(outcome))),
        ("outcome_component", alert.outcome_component.as_ref().map(|component| json!(component))),
        ("comment", alert.comment.as_ref().map(|comment| json!(shortened(comment)))),
    ];
    if let Value::Object(fields) = &mut data {
        fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    data
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_type_time_and_data_and_never_outgrows_the_bound() {
        let at = "2015-03-01T06:00:00Z".parse().unwrap();
        let small = body("model.trained", "v1", at, &json!({ "version": "v1" }));
        let expected = r#"{"data":{"version":"v1"},"timestamp":"2015-03-01T06:00:00Z","type":"model.trained"}"#;
        assert_eq!(serde_json::from_str::<Value>(expected).unwrap(), small);
        let large = body("model.trained", "v1", at, &json!({ "notes": "x".repeat(MAX_BODY_BYTES) }));
        assert_eq!(large["data"], json!({ "id": "v1", "truncated": true }));
    }
}
