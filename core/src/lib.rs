//! Harbinger's words: ids, time, units, the fleet and what is known of it, samples and their summary.
//!
//! Everything above speaks in these types. No I/O, no async, no clock is read here: a clock is a trait that the
//! outermost crate passes in.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod calendar;
pub mod clock;
pub mod fleet;
pub mod history;
pub mod ids;
pub mod probability;
pub mod sample;
pub mod summary;
pub mod time;

pub use clock::{Clock, ManualClock, SystemClock};
pub use ids::{ComponentId, ContractId, DepotId, DeviceId, DeviceKey, HardwareModelId, PartId, SignalId, TenantId};
pub use probability::Probability;
pub use sample::{DeviceEvent, Reading, Severity};
pub use summary::Summary;
pub use time::{Duration, TimeRange, Timestamp};
