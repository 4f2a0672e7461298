//! Simulated fleets: devices whose wear is known, so that what Harbinger finds can be compared with the truth.
//!
//! A [`Simulation`] holds a fleet (servers, refrigerators, air conditioners; a hub and forward depots; parts, lanes,
//! contracts, stock) and moves it forward one [`Step`] at a time. Every slot of a device holds a piece whose life is drawn
//! from a Weibull law; most pieces degrade for some days before they fail and their signals show it, some fail without a
//! word. Whoever drives the simulation answers failures with [`Simulation::part_available`] or [`Simulation::replace`].
//!
//! Two properties carry the tests and comparisons that stand on this:
//!
//! - **The same seed gives the same fleet**, reading for reading.
//! - **Common random numbers.** A slot draws the lives of its pieces from a stream of its own, and the noise of a reading is
//!   a function of device and time. So the n-th piece of a slot lives equally long under every policy, and two policies are
//!   compared on the same luck.
//!
//! ```
//! use harbinger_core::Duration;
//! use harbinger_sim::{Options, Simulation};
//!
//! let mut simulation = Simulation::new(Options::default(), 7)?;
//! let past = simulation.record(Duration::from_days(2)); // something to train on
//! assert!(past.readings() > 20_000);
//! let step = simulation.step(); // and on from there, one cadence at a time
//! for failed in &step.failures {
//!     let failure = &failed.failure;
//!     simulation.part_available(&failure.device, &failure.component, step.now + Duration::from_days(1))?;
//! }
//! # Ok::<(), harbinger_sim::Error>(())
//! ```
//!
//! Readings, failures and the fleet come out in the words of `harbinger-core`; nothing here does I/O or reads a clock.

mod blueprint;
mod device;
mod history;
mod life;
mod network;
mod noise;
mod options;
pub mod policies;
mod signals;
mod simulation;

pub use history::{History, history};
pub use life::Weibull;
pub use options::{Error, Options};
pub use simulation::{Failed, Simulation, Step};
