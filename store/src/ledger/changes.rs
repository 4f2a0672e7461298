//! The feed of everything that happened, in order; the live stream reads it.
