//! Demand laws: how many pieces of a part a depot will need in a window.
