//! Alerts: their life from raise to outcome, and the webhooks that tell of it.
//!
//! [`lifecycle`] is the rules, pure; [`Alerts`] runs them against the ledger, in the caller's transaction together with
//! history, change feed and webhook outbox; [`webhook`] sends what the outbox holds, at least once.
//!
//! **Invariant**: nothing here waits for a receiver while it holds a transaction, so a receiver that is down or slow delays
//! nothing but itself.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod apply;
pub mod event;
pub mod lifecycle;
pub mod metrics;
pub mod webhook;

pub use apply::{AlertChange, Alerts};
pub use lifecycle::{HysteresisOptions, Observation};
pub use metrics::Metrics;

/// What alerts could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger failed, or has no such row.
    #[error(transparent)]
    Ledger(#[from] harbinger_store::ledger::Error),
    /// The alert is not in a state that allows it, or what was said with it does not fit.
    #[error("failed to change alert {alert_id:?}")]
    Refused {
        /// Which alert.
        alert_id: String,
        /// Why.
        source: lifecycle::Refused,
    },
    /// The HTTP client that sends webhooks could not be made.
    #[error("failed to set up the HTTP client for webhooks")]
    Client(#[source] reqwest::Error),
}
