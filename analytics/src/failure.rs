//! Failure models: fit, calibrate, predict, explain.
