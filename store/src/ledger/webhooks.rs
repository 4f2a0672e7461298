//! Webhook endpoints and the outbox of deliveries.
