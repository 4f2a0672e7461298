//! The real binary from outside, on free ports and folders of its own: one file a topic.

#[path = "end_to_end/backup.rs"]
mod backup;
#[path = "end_to_end/commands.rs"]
mod commands;
#[path = "end_to_end/demand.rs"]
mod demand;
#[path = "end_to_end/drift.rs"]
mod drift;
#[path = "end_to_end/durability.rs"]
mod durability;
#[path = "end_to_end/export.rs"]
mod export;
#[path = "end_to_end/fleet.rs"]
mod fleet;
#[path = "end_to_end/full_disk.rs"]
mod full_disk;
#[path = "end_to_end/gateway.rs"]
mod gateway;
#[path = "end_to_end/influx_clients.rs"]
mod influx_clients;
#[path = "end_to_end/kill_nine.rs"]
mod kill_nine;
#[path = "end_to_end/no_look_ahead.rs"]
mod no_look_ahead;
#[path = "end_to_end/onnx.rs"]
mod onnx;
#[path = "end_to_end/plan.rs"]
mod plan;
#[path = "end_to_end/quarantine.rs"]
mod quarantine;
#[path = "end_to_end/readme.rs"]
mod readme;
#[path = "end_to_end/shutdown.rs"]
mod shutdown;
#[path = "end_to_end/telemetry.rs"]
mod telemetry;
#[path = "end_to_end/the_loop.rs"]
mod the_loop;
#[path = "end_to_end/two_processes.rs"]
mod two_processes;
#[path = "end_to_end/webhooks.rs"]
mod webhooks;
