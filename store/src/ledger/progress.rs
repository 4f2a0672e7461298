//! How far each piece of background work has come.
