//! Transfer and purchase orders and their life: proposed, approved, shipped, received, consumed, cancelled.
