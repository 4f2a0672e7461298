//! Who did what: an append-only record of every change that a person or a key made.
