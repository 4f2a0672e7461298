//! Making endpoints and changing their secrets: what a person asks for, checked before it is written.

use harbinger_core::{Duration, TenantId, Timestamp, ids::new_id};
use harbinger_store::ledger::webhooks::{Secret, Webhook, WebhookState};

use super::{
    guard::{Guard, Refused},
    sign::{InvalidSecret, SigningKey},
};

/// How long the old secret goes on signing beside the new one: a day to bring the new one to every receiver.
pub const ROTATION_OVERLAP: Duration = Duration::from_hours(24);
/// Most event types that an endpoint may name: more than there are.
pub const MAX_EVENT_TYPES: usize = 50;
/// Longest URL in bytes, as most servers and proxies take it.
pub const MAX_URL_BYTES: usize = 2_000;

/// Why an endpoint cannot be made or changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The URL is refused.
    #[error(transparent)]
    Url(#[from] Refused),
    /// The URL is too long.
    #[error("the webhook URL is {bytes} bytes long, at most {MAX_URL_BYTES} are allowed")]
    UrlTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The secret is none.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    /// Not the name of an event type or family.
    #[error("{text:?} is no event type: write subject.verb such as alert.raised, or subject.* for a family")]
    EventType {
        /// What was given.
        text: String,
    },
    /// Too many event types.
    #[error("{count} event types were named, at most {MAX_EVENT_TYPES} are allowed; none means all")]
    TooManyEventTypes {
        /// How many.
        count: usize,
    },
}

/// A new, active endpoint with a secret of its own: the one brought along, or a new random one.
///
/// # Errors
/// [`InvalidEndpoint`].
pub fn new(
    tenant: TenantId,
    url: &str,
    event_types: Vec<String>,
    secret: Option<&str>,
    guard: &Guard,
    now_wall: Timestamp,
) -> Result<Webhook, InvalidEndpoint> {
    check(url, &event_types, guard)?;
    let key = secret.map_or_else(SigningKey::generate, SigningKey::parse)?;
    Ok(Webhook {
        webhook_id: new_id("whk"),
        tenant,
        url: url.to_owned(),
        secret: Secret::new(key.to_secret()),
        previous_secret: None,
        previous_until_wall: None,
        event_types,
        state: WebhookState::Active,
        disabled_reason: None,
        created_wall: now_wall,
    })
}

/// Checks a URL and event types, for a new endpoint or a changed one.
///
/// # Errors
/// [`InvalidEndpoint`].
pub fn check(url: &str, event_types: &[String], guard: &Guard) -> Result<(), InvalidEndpoint> {
    if url.len() > MAX_URL_BYTES {
        return Err(InvalidEndpoint::UrlTooLong { bytes: url.len() });
    }
    guard.check(url)?;
    if event_types.len() > MAX_EVENT_TYPES {
        return Err(InvalidEndpoint::TooManyEventTypes { count: event_types.len() });
    }
    match event_types.iter().find(|event_type| !is_event_type(event_type)) {
        Some(text) => Err(InvalidEndpoint::EventType { text: text.clone() }),
        None => Ok(()),
    }
}

/// Gives an endpoint a new random secret; the old one signs beside it for [`ROTATION_OVERLAP`].
///
/// # Errors
/// [`InvalidSecret::NoRandomness`].
pub fn rotate(endpoint: &Webhook, now_wall: Timestamp) -> Result<Webhook, InvalidSecret> {
    Ok(Webhook {
        secret: Secret::new(SigningKey::generate()?.to_secret()),
        previous_secret: Some(endpoint.secret.clone()),
        previous_until_wall: Some(now_wall + ROTATION_OVERLAP),
        ..endpoint.clone()
    })
}

fn is_event_type(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.len() <= 100
        && text.split_once('.').is_some_and(|(subject, verb)| is_word(subject) && (verb == "*" || is_word(verb)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(url: &str, event_types: &[&str]) -> Result<Webhook, InvalidEndpoint> {
        let event_types = event_types.iter().map(|&text| text.to_owned()).collect();
        let tenant = TenantId::parse("acme").unwrap();
        new(tenant, url, event_types, None, &Guard::default(), Timestamp::from_millis(0))
    }

    #[test]
    fn an_endpoint_is_made_with_a_secret_and_checked() {
        let endpoint = make("https://example.com/", &["alert.raised", "transfer.*"]).unwrap();
        assert!(SigningKey::parse(endpoint.secret.expose()).is_ok());
        assert!(matches!(make("https://10.0.0.1/", &[]), Err(InvalidEndpoint::Url(_))));
        assert!(matches!(
            make(&format!("https://e.com/{}", "x".repeat(2_000)), &[]),
            Err(InvalidEndpoint::UrlTooLong { .. })
        ));
        for wrong in ["*", "alert", "alert.", ".raised", "Alert.raised", "alert.raised.now", "alert.*x"] {
            assert!(
                matches!(make("https://example.com/", &[wrong]), Err(InvalidEndpoint::EventType { .. })),
                "{wrong}"
            );
        }
        assert!(matches!(
            make("https://example.com/", &["alert.*"; 51]),
            Err(InvalidEndpoint::TooManyEventTypes { count: 51 })
        ));
    }

    #[test]
    fn after_a_rotation_both_secrets_sign_for_a_day() {
        let before = make("https://example.com/", &[]).unwrap();
        let now = Timestamp::from_millis(1_000);
        let after = rotate(&before, now).unwrap();
        assert_eq!(after.secrets_at(now), [&after.secret, &before.secret]);
        assert_eq!(after.secrets_at(now + ROTATION_OVERLAP), [&after.secret]);
    }
}
