//! The MQTT 3.1.1 listener that devices and gateways connect to.
//!
//! [`session`] is the protocol without a socket: feed packets, read effects. `connection` is the socket without the
//! protocol. [`listener`] accepts, counts and stops connections. It is an intake, not a general broker: clients receive what
//! *we* publish through [`Handle::publish`], and nothing of each other.

mod connection;
pub mod listener;
pub mod session;
mod sessions;

pub use listener::{BindError, Handle, Listener};
