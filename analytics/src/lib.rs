//! Analytics: from readings to failure probabilities, from probabilities to parts.
//!
//! Every module but `worker` is pure: slices in, values out, no clock, no store, no log.

pub mod base_stock;
pub mod boosting;
pub mod demand;
pub mod evaluate;
pub mod failure;
pub mod features;
pub mod forecast;
pub mod inventory;
pub mod lifetime;
#[cfg(test)]
mod oracles;
pub mod placement;
pub mod plan;
pub mod screen;
pub mod survival;
pub mod worker;
