//! API keys: hashed, scoped, of a tenant.
