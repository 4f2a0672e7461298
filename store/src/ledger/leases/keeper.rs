//! Keeps a lease while the process lives, and tells those that lean on it how long they may.

use std::sync::Arc;

use harbinger_core::{Clock, Duration, Timestamp};
use tokio::sync::watch;

use super::{Token, acquire, release, stands};
use crate::ledger::{Connection, Error, Ledger};

/// Renewals in a lease's length: one may fail before the holder stops, and a waiting process is a quarter late at most.
const RENEWALS: i64 = 4;

/// Under which token a lease is held, and until when the holder counts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    token: Token,
    until_wall: Timestamp,
}

/// Takes a lease where it is free, renews it, and gives it back in the end.
pub struct Keeper {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    name: &'static str,
    holder: String,
    length: Duration,
    held: watch::Sender<Option<Held>>,
}

/// Whether this process is the one that does what a lease is for. Cheap to clone.
#[derive(Clone)]
pub struct Lease(Option<Shared>);

#[derive(Clone)]
struct Shared {
    clock: Arc<dyn Clock>,
    name: &'static str,
    held: watch::Receiver<Option<Held>>,
}

/// Leave to do work for a while. What it found is applied only where [`Permit::stands`] then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(Option<(&'static str, Token)>);

impl Keeper {
    /// A keeper of the lease `name` for `holder`, which no other process calls itself, and what leans on it. `clock` is the
    /// wall clock.
    #[must_use]
    pub fn build(
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        name: &'static str,
        holder: String,
        length: Duration,
    ) -> (Self, Lease) {
        let (held, receiver) = watch::channel(None);
        let lease = Lease(Some(Shared { clock: Arc::clone(&clock), name, held: receiver }));
        (Self { ledger, clock, name, holder, length, held }, lease)
    }

    /// Keeps the lease, or waits for it, until `stop`.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let pause = Duration::from_millis((self.length.millis() / RENEWALS).max(1));
        let pause = std::time::Duration::from_millis(u64::try_from(pause.millis()).unwrap_or(1));
        tokio::pin!(stop);
        loop {
            self.renew().await;
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if self.held.send_replace(None).is_some()
            && let Err(error) = self.give_back().await
        {
            tracing::debug!(name = self.name, %error, "a lease was not given back; it ends by itself");
        }
    }

    async fn renew(&self) {
        match self.try_renew().await {
            Ok(held) => {
                let before = self.held.send_replace(held);
                if before.map(|held| held.token) != held.map(|held| held.token) {
                    tracing::info!(name = self.name, held = held.is_some(), "a lease changed hands");
                }
            }
            // What is held stands until its end; nobody counts on it for longer.
            Err(error) => {
                tracing::warn!(name = self.name, error = &error as &dyn std::error::Error, "failed to renew a lease");
            }
        }
    }

    async fn try_renew(&self) -> Result<Option<Held>, Error> {
        let mut transaction = self.ledger.write().await?;
        // Read here: the transaction may have waited long for its turn.
        let now = self.clock.now();
        let token = acquire(&mut transaction, self.name, &self.holder, now, self.length).await?;
        transaction.commit().await?;
        let counted_on = Duration::from_millis(self.length.millis() / RENEWALS * (RENEWALS - 1));
        Ok(token.map(|token| Held { token, until_wall: now + counted_on }))
    }

    async fn give_back(&self) -> Result<(), Error> {
        let mut transaction = self.ledger.write().await?;
        release(&mut transaction, self.name, &self.holder).await?;
        Ok(transaction.commit().await?)
    }
}

impl Lease {
    /// Of a process that has its ledger to itself: it may always.
    #[must_use]
    pub fn unshared() -> Self {
        Self(None)
    }

    /// Leave to begin what takes `at_least` that long, where the lease is held for as long.
    #[must_use]
    pub fn permit(&self, at_least: Duration) -> Option<Permit> {
        let Some(shared) = &self.0 else { return Some(Permit(None)) };
        let held = (*shared.held.borrow())?;
        (shared.clock.now() + at_least <= held.until_wall).then_some(Permit(Some((shared.name, held.token))))
    }
}

impl Permit {
    /// Whether the lease has not changed hands since. Ask in the write transaction that applies what was found.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn stands(self, connection: &mut Connection) -> Result<bool, Error> {
        match self.0 {
            None => Ok(true),
            Some((name, token)) => stands(connection, name, token).await,
        }
    }
}
