//! One request to a receiver, and what its answer means.

use harbinger_core::{Duration, Timestamp};
use harbinger_store::ledger::webhooks::{Webhook, outbox::Delivery};
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect,
};

use super::{
    delivery::Options,
    guard::Guard,
    schedule,
    sign::{self, SigningKey},
};
use crate::Error;

/// What an answer, or its absence, means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// 2xx.
    Accepted {
        /// Which.
        status: u16,
    },
    /// 410: the receiver wants no more.
    Gone,
    /// Anything else: try again.
    Failed {
        /// The answer, where there was one.
        status: Option<u16>,
        /// How long the receiver asked us to wait.
        retry_after: Option<Duration>,
    },
}

/// A verdict and, where it is not success, the reason in words. The receiver's body is never part of it: what an
/// internal service answers must not become readable by pointing a webhook at it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    reason: String,
}

impl Answer {
    pub(super) fn status(&self) -> Option<u16> {
        match self.verdict {
            Verdict::Accepted { status } => Some(status),
            Verdict::Gone => Some(StatusCode::GONE.as_u16()),
            Verdict::Failed { status, .. } => status,
        }
    }

    pub(super) fn reason(&self) -> String {
        self.reason.clone()
    }

    /// Whether any other delivery would have failed as well: the receiver, or what stands before it, was not there or
    /// asked for rest. A plain 500 or 400 may be about this one message.
    pub(super) fn receiver_is_down(&self) -> bool {
        match self.verdict {
            Verdict::Failed { status, .. } => matches!(status, None | Some(429 | 502..=504)),
            Verdict::Accepted { .. } | Verdict::Gone => false,
        }
    }

    fn no_answer(reason: String) -> Self {
        Self { verdict: Verdict::Failed { status: None, retry_after: None }, reason }
    }
}

/// The client that all deliveries share: guarded look-ups, no redirects, no proxy from the environment, which would
/// resolve names behind the guard's back.
pub(super) fn client(options: &Options) -> Result<Client, Error> {
    install_crypto_provider();
    let builder = || {
        Client::builder()
            .dns_resolver(options.guard)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(options.timeout)
            .user_agent(concat!("harbinger/", env!("CARGO_PKG_VERSION")))
    };
    builder().build().or_else(|error| {
        // A machine without root certificates can still send to receivers over plain http, where that is allowed.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "no root certificates on this machine: https webhooks will fail until there are (package ca-certificates)"
        );
        builder().tls_certs_only([]).build().map_err(Error::Client)
    })
}

/// Makes ring the process's cryptography. Whoever comes first wins, and any provider does.
fn install_crypto_provider() {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
}

/// Sends one delivery, signed at `now`.
pub(super) async fn send(
    client: &Client,
    guard: &Guard,
    endpoint: &Webhook,
    delivery: &Delivery,
    now: Timestamp,
) -> Answer {
    let url = match guard.check(&endpoint.url) {
        Ok(url) => url,
        Err(refused) => return Answer::no_answer(refused.to_string()),
    };
    let keys: Result<Vec<SigningKey>, _> =
        endpoint.secrets_at(now).into_iter().map(|secret| SigningKey::parse(secret.expose())).collect();
    let keys = match keys {
        Ok(keys) => keys,
        Err(invalid) => return Answer::no_answer(invalid.to_string()),
    };
    let answer = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(sign::ID_HEADER, &delivery.message_id)
        .header(sign::TIMESTAMP_HEADER, sign::timestamp_header(now))
        .header(sign::SIGNATURE_HEADER, sign::signature_header(&keys, &delivery.message_id, now, &delivery.body))
        .body(delivery.body.clone())
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            judge(answer.status(), header.and_then(|value| schedule::parse_retry_after(value, now)))
        }
        Err(error) => Answer::no_answer(innermost(&error)),
    }
}

fn judge(status: StatusCode, retry_after: Option<Duration>) -> Answer {
    let verdict = if status.is_success() {
        Verdict::Accepted { status: status.as_u16() }
    } else if status == StatusCode::GONE {
        Verdict::Gone
    } else {
        Verdict::Failed { status: Some(status.as_u16()), retry_after }
    };
    Answer { verdict, reason: format!("answered {status}") }
}

/// The reason at the bottom of a chain of errors; the layers above say only that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer within the timeout".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundreds_are_success_gone_is_final_and_all_else_is_tried_again() {
        for (status, expected) in [(200, 'a'), (204, 'a'), (301, 'f'), (400, 'f'), (410, 'g'), (429, 'f'), (500, 'f')] {
            let answer = judge(StatusCode::from_u16(status).unwrap(), None);
            let letter = match answer.verdict {
                Verdict::Accepted { .. } => 'a',
                Verdict::Gone => 'g',
                Verdict::Failed { .. } => 'f',
            };
            assert_eq!((letter, answer.status()), (expected, Some(status)));
        }
    }
}
