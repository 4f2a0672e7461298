//! Stock mathematics of one stock point: fill rate, expected backorders, cost of a position.
