//! Plans as they were made, with what they saw.
