//! The two stores: telemetry (what devices report) and the ledger (what Harbinger knows, decided and promised).
//!
//! Each is one trait or handle with engines behind it. An append that has returned is durable: that sentence is what the
//! acknowledgement to a device stands on.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod ledger;
pub mod telemetry;

pub use ledger::Ledger;
pub use telemetry::{Appended, Batch, Quarantined, TelemetryStore};
