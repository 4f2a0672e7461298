//! Features of a device at a time, from what was known at that time.
