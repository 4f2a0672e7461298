//! The interface through its router, without a socket: one file a topic, all on the same small world.

#[path = "api/world.rs"]
mod world;

#[path = "api/access.rs"]
mod access;
#[path = "api/deletion.rs"]
mod deletion;
#[path = "api/documents.rs"]
mod documents;
#[path = "api/interchange.rs"]
mod interchange;
#[path = "api/loop_closed.rs"]
mod loop_closed;
#[path = "api/problems.rs"]
mod problems;
#[path = "api/prometheus.rs"]
mod prometheus;
#[path = "api/prometheus_oracle.rs"]
mod prometheus_oracle;
#[path = "api/reading.rs"]
mod reading;
#[path = "api/registry.rs"]
mod registry;
#[path = "api/results.rs"]
mod results;
#[path = "api/stream.rs"]
mod stream;
#[path = "api/telemetry.rs"]
mod telemetry;
#[path = "api/work_orders.rs"]
mod work_orders;
