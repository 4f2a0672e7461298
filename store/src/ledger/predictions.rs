//! Predictions and the decisions made from them.
