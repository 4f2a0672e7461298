//! What this process alone does where several share a ledger: it holds a lease for each, and gives it back when it stops.

use std::sync::Arc;

use harbinger_alerts::webhook::{Guard, delivery};
use harbinger_core::{Clock, Duration, ids::new_id};
use harbinger_store::{
    Ledger,
    ledger::{
        Engine,
        leases::{Keeper, Lease},
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Training, scoring and planning.
pub(super) const ANALYTICS: &str = "analytics";
/// Delivery from the webhook outbox.
const WEBHOOKS: &str = "webhooks";

/// The leases of a process, and what keeps them.
pub(super) struct Leases {
    /// Whether it trains, scores and plans.
    pub(super) analytics: Lease,
    /// Whether it delivers webhooks.
    pub(super) webhooks: Lease,
    keepers: Vec<(&'static str, Keeper)>,
}

impl Leases {
    /// A SQLite file belongs to one process, which does everything; on a server the processes take turns.
    pub(super) fn of(ledger: &Ledger, clock: &Arc<dyn Clock>, length: Duration) -> Self {
        match ledger.engine() {
            Engine::Sqlite => Self { analytics: Lease::unshared(), webhooks: Lease::unshared(), keepers: Vec::new() },
            Engine::Postgres => {
                let holder = own_name();
                let build = |name| Keeper::build(ledger.clone(), Arc::clone(clock), name, holder.clone(), length);
                let (analytics, webhooks) = (build(ANALYTICS), build(WEBHOOKS));
                let keepers = vec![(ANALYTICS, analytics.0), (WEBHOOKS, webhooks.0)];
                Self { analytics: analytics.1, webhooks: webhooks.1, keepers }
            }
        }
    }

    /// Starts keeping them until `stop`.
    pub(super) fn keep(self, stop: &CancellationToken) -> Vec<(&'static str, JoinHandle<()>)> {
        let start =
            |(name, keeper): (&'static str, Keeper)| (name, tokio::spawn(keeper.run(stop.clone().cancelled_owned())));
        self.keepers.into_iter().map(start).collect()
    }
}

/// How webhooks are delivered: where a lease is shared, no request may outlast what its holder counts on.
pub(super) fn delivery_options(guard: Guard, engine: Engine, lease: Duration) -> delivery::Options {
    let usual = delivery::Options { guard, ..delivery::Options::default() };
    match engine {
        Engine::Sqlite => usual,
        Engine::Postgres => {
            let third = super::std_duration(Duration::from_millis(lease.millis() / 3));
            delivery::Options { timeout: usual.timeout.min(third), ..usual }
        }
    }
}

/// A name that no other process has, and that tells a person where to look.
fn own_name() -> String {
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}:{}", host.trim(), std::process::id(), new_id("prc"))
}
