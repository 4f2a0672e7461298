//! The service that sends what the outbox holds.
//!
//! One task an endpoint that has something due, each sending one delivery at a time in order of id; so a receiver that is
//! slow or down delays nothing but its own. Where a receiver is down, what else it is owed rests with the failed delivery
//! for up to five minutes, so that a long queue does not become a long row of failures. No transaction is open while a request is on its way. What became of an
//! attempt is written after it: a crash in between sends again, with the same message id.
//!
//! **Invariant**: one deliverer a ledger. Processes that share a ledger share a [`Lease`]: only its holder sends, and begins
//! no request that could outlast what it counts on. Since a lease is for the whole outbox, deliveries stay in order when
//! it changes hands.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration as StdDuration,
};

use harbinger_core::{Clock, Duration, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{leases::Lease, webhooks::outbox},
};
use rand::RngCore;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{guard::Guard, request};
use crate::{Error, Metrics};

mod turn;

/// How deliveries are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Which addresses and schemes are allowed.
    pub guard: Guard,
    /// How long a receiver may take to answer. The specification suggests 15 to 30 s.
    pub timeout: StdDuration,
    /// Endpoints that are sent to at the same time: a bound on sockets and memory, above what one fleet has.
    pub endpoints_at_once: usize,
    /// How often the outbox is looked at without being woken; also the wait after the ledger failed.
    pub poll_interval: StdDuration,
    /// An endpoint that nothing has reached for this long is switched off when its next delivery dies.
    pub disable_after: Duration,
    /// How long deliveries that were made or given up stay listed; older ones are forgotten.
    pub keep: Duration,
    /// How long requests that are on their way may go on after shutdown was asked for.
    pub grace: StdDuration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            timeout: StdDuration::from_secs(20),
            endpoints_at_once: 256,
            poll_interval: StdDuration::from_secs(1),
            disable_after: Duration::from_days(5),
            keep: Duration::from_days(30),
            grace: StdDuration::from_secs(3),
        }
    }
}

/// How often old deliveries are looked for: the search reads the whole outbox.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Delivers the outbox of one ledger.
pub struct Deliverer {
    shared: Arc<Shared>,
}

/// Wakes the deliverer; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    ledger: Ledger,
    lease: Lease,
    /// Wall clock.
    clock: Arc<dyn Clock>,
    client: reqwest::Client,
    random: Mutex<Box<dyn RngCore + Send>>,
    metrics: Metrics,
    wake: Notify,
    /// Endpoints that a task is sending to.
    busy: Mutex<HashSet<String>>,
    /// Told whenever an endpoint ceases to be busy.
    idle: Notify,
    places: Arc<Semaphore>,
}

impl Deliverer {
    /// `lease` says whether this process delivers; `clock` is the wall clock; `random` spreads retries.
    ///
    /// # Errors
    /// [`Error::Client`] where the HTTP client cannot be made.
    pub fn build(
        options: Options,
        ledger: Ledger,
        lease: Lease,
        clock: Arc<dyn Clock>,
        random: impl RngCore + Send + 'static,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let client = request::client(&options)?;
        let places = Arc::new(Semaphore::new(options.endpoints_at_once));
        let random: Mutex<Box<dyn RngCore + Send>> = Mutex::new(Box::new(random));
        let (wake, idle, busy) = (Notify::new(), Notify::new(), Mutex::default());
        let shared = Shared { options, ledger, lease, clock, client, random, metrics, wake, busy, idle, places };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A handle on it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Delivers until `shutdown`; then lets requests on their way end within the grace and abandons the rest, which
    /// stay pending.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut turns = JoinSet::new();
        let mut prune_at = self.shared.clock.now();
        loop {
            let mut healthy = match self.shared.look(&mut turns, &mut prune_at, &shutdown).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to look through the webhook outbox"
                    );
                    false
                }
            };
            let timer = tokio::time::sleep(self.shared.options.poll_interval);
            tokio::pin!(timer);
            // Wait for a reason to look again. After a failure of the ledger only the timer is one.
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return self.shared.drain(turns).await,
                    () = &mut timer => break,
                    () = self.shared.wake.notified(), if healthy => break,
                    Some(ended) = turns.join_next(), if !turns.is_empty() => {
                        healthy &= self.shared.note_turn(ended);
                        if healthy { break }
                    }
                }
            }
        }
    }
}

impl Handle {
    /// Says that something was put into the outbox: call it after the transaction was committed. Without it the outbox
    /// is looked at every [`Options::poll_interval`].
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Attempts everything that is due now, whether or not the service runs, and returns when nothing is due and no
    /// request is on its way, or where another process delivers. For tests and for a last delivery by hand.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub async fn dispatch_all_pending(&self) -> Result<(), Error> {
        let (mut turns, never) = (JoinSet::new(), CancellationToken::new());
        loop {
            let idle = self.shared.idle.notified();
            self.shared.begin_turns(&mut turns, &never).await?;
            if let Some(ended) = turns.join_next().await {
                ended.map_err(|_| harbinger_store::ledger::Error::Conflict {
                    reason: "a delivery task was stopped".to_owned(),
                })??;
                continue;
            }
            // Nothing of ours: perhaps the running service is sending.
            if self.shared.busy().is_empty() {
                return Ok(());
            }
            idle.await;
        }
    }
}

type Turn = Result<Result<(), Error>, tokio::task::JoinError>;

impl Shared {
    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is the one that delivers, for as long as a request may take.
    fn may_send(&self) -> bool {
        let timeout = i64::try_from(self.options.timeout.as_millis()).unwrap_or(i64::MAX);
        self.lease.permit(Duration::from_millis(timeout)).is_some()
    }

    async fn look(
        self: &Arc<Self>,
        turns: &mut JoinSet<Result<(), Error>>,
        prune_at: &mut Timestamp,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        self.begin_turns(turns, shutdown).await?;
        let now = self.clock.now();
        if *prune_at <= now {
            let mut transaction = self.ledger.write().await?;
            let forgotten = outbox::prune(&mut transaction, now - self.options.keep).await?;
            transaction.commit().await.map_err(harbinger_store::ledger::Error::from)?;
            tracing::debug!(forgotten, "forgot old webhook deliveries");
            *prune_at = now + PRUNE_EVERY;
        }
        Ok(())
    }

    /// Begins a task for every endpoint that has something due and none yet.
    async fn begin_turns(
        self: &Arc<Self>,
        turns: &mut JoinSet<Result<(), Error>>,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        let due = {
            let mut reader = self.ledger.read().await?;
            let (pending, dead) = outbox::backlog(&mut reader).await?;
            self.metrics.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
            self.metrics.dead.set(i64::try_from(dead).unwrap_or(i64::MAX));
            outbox::endpoints_due(&mut reader, self.clock.now()).await?
        };
        for webhook_id in due {
            if !self.may_send() {
                break;
            }
            if !self.busy().insert(webhook_id.clone()) {
                continue;
            }
            let place = BusyEndpoint { shared: Arc::clone(self), webhook_id };
            let shutdown = shutdown.clone();
            turns.spawn(async move {
                let shared = &place.shared;
                let _permit = shared.places.acquire().await.expect("the semaphore is never closed");
                shared.serve(&place.webhook_id, &shutdown).await
            });
        }
        Ok(())
    }

    /// Whether a turn left the ledger in a state to go on with.
    fn note_turn(&self, ended: Turn) -> bool {
        match ended {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to serve a webhook endpoint");
                false
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a webhook delivery task ended early");
                false
            }
        }
    }

    async fn drain(&self, mut turns: JoinSet<Result<(), Error>>) {
        let all = async {
            while let Some(ended) = turns.join_next().await {
                self.note_turn(ended);
            }
        };
        if tokio::time::timeout(self.options.grace, all).await.is_err() {
            tracing::info!(endpoints = turns.len(), "left requests to slow webhook receivers; they stay pending");
            turns.shutdown().await;
        }
    }
}

/// Holds an endpoint's place among the busy ones, and frees it however its task ends.
struct BusyEndpoint {
    shared: Arc<Shared>,
    webhook_id: String,
}

impl Drop for BusyEndpoint {
    fn drop(&mut self) {
        self.shared.busy().remove(&self.webhook_id);
        self.shared.idle.notify_waiters();
    }
}
