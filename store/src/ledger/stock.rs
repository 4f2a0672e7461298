//! Stock on hand and the movements that explain it.
