//! Webhooks: signing, the schedule of attempts, the guard over addresses, and the service that delivers the outbox.

pub mod delivery;
pub mod endpoint;
pub mod guard;
mod request;
pub mod schedule;
pub mod sign;

pub use delivery::{Deliverer, Handle, Options};
pub use endpoint::InvalidEndpoint;
pub use guard::Guard;
pub use sign::SigningKey;
