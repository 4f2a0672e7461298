//! The worker: reads the stores, runs the pure modules in event time, returns what it found.
