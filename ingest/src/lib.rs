//! Intake: what devices send over MQTT or HTTP becomes readings that are on disk before anybody is told so.
//!
//! Two doors and one room. The doors - the MQTT [`mqtt::Listener`] that devices connect to, the [`consumer::Consumer`] of
//! another broker, the HTTP [`http::router`] - hand their messages to the one [`Pipeline`]: decode, validate, append.
//! A message is acknowledged when the append that holds it has returned, and that is when it is durable.
//!
//! **Invariant**: every reading that a door hands over is counted exactly once as stored, duplicate, corrected,
//! quarantined or refused (see [`metrics`]); nothing is lost in silence.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod admission;
pub mod consumer;
pub mod decode;
pub mod http;
pub mod metrics;
pub mod mqtt;
pub mod options;
pub mod pipeline;

pub use admission::{
    AnonymousOnLoopback, Authenticator, DeviceAdmission, OpenRegistrar, Principal, Refused, Registrar, Tenants,
};
pub use metrics::{Metrics, Snapshot};
pub use options::Options;
pub use pipeline::{Message, Pipeline};
