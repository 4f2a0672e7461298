//! Survival curves: from calibrated probabilities on a grid of horizons to any window.
