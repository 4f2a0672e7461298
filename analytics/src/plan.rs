//! The plan: from probabilities and stock to proposed transfers and purchases, each with its reasons.
