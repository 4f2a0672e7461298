//! An endpoint's turn: sends what is due to it, one after another, and writes what became of each attempt.

use std::sync::PoisonError;

use harbinger_store::ledger::{
    self, Connection,
    changes::{self, NewChange},
    webhooks::{
        self, Webhook,
        outbox::{self, Delivery, Recorded},
    },
};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        request::{self, Answer, Verdict},
        schedule,
    },
    Shared,
};
use crate::{Error, event, metrics::AttemptResult};

/// Deliveries that one endpoint may have before it queues again for its place behind the others.
const DELIVERIES_PER_TURN: usize = 50;

impl Shared {
    /// One turn of an endpoint: what is due, oldest first, one after another.
    pub(super) async fn serve(&self, webhook_id: &str, shutdown: &CancellationToken) -> Result<(), Error> {
        for _ in 0..DELIVERIES_PER_TURN {
            if shutdown.is_cancelled() || !self.may_send() {
                break;
            }
            let (endpoint, delivery) = {
                let mut reader = self.ledger.read().await?;
                let Some(endpoint) = webhooks::find(&mut reader, webhook_id).await? else { break };
                let Some(delivery) = outbox::next_due(&mut reader, webhook_id, self.clock.now()).await? else { break };
                (endpoint, delivery)
            };
            let began = tokio::time::Instant::now();
            let answer = request::send(&self.client, &self.options.guard, &endpoint, &delivery, self.clock.now()).await;
            let seconds = began.elapsed().as_secs_f64();
            // What cannot be recorded is recorded later and not sent again meanwhile: a full disk of ours must not
            // become a flood of repeats at the receiver's.
            while let Err(error) = self.settle(&endpoint, &delivery, &answer, seconds).await {
                tracing::warn!(
                    webhook_id,
                    error = &error as &dyn std::error::Error,
                    "failed to record a webhook delivery"
                );
                tokio::select! {
                    () = tokio::time::sleep(self.options.poll_interval) => {}
                    () = shutdown.cancelled() => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Writes what became of an attempt, and switches the endpoint off where that calls for it, in one transaction.
    async fn settle(
        &self,
        endpoint: &Webhook,
        delivery: &Delivery,
        answer: &Answer,
        seconds: f64,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let unit = self.random.lock().unwrap_or_else(PoisonError::into_inner).random::<f64>();
        let recorded = match answer.verdict {
            Verdict::Accepted { status } => Recorded::Delivered { status },
            Verdict::Gone => Recorded::Dead { status: answer.status(), error: answer.reason() },
            Verdict::Failed { retry_after, .. } => {
                match schedule::next_attempt(delivery.attempts + 1, now, retry_after, unit) {
                    Some(next_attempt_wall) => {
                        Recorded::Retry { status: answer.status(), error: answer.reason(), next_attempt_wall }
                    }
                    None => Recorded::Dead { status: answer.status(), error: answer.reason() },
                }
            }
        };
        let result = match recorded {
            Recorded::Delivered { .. } => AttemptResult::Delivered,
            Recorded::Retry { .. } => AttemptResult::Retry,
            Recorded::Dead { .. } => AttemptResult::Dead,
        };
        let mut transaction = self.ledger.write().await?;
        let still_ours = outbox::record(&mut transaction, delivery, &recorded, now).await?;
        if let Recorded::Retry { next_attempt_wall, .. } = recorded
            && answer.receiver_is_down()
        {
            let rest_until = next_attempt_wall.min(now + schedule::MAX_REST);
            outbox::postpone(&mut transaction, &endpoint.webhook_id, rest_until).await?;
        }
        let disabled = if still_ours && result == AttemptResult::Dead {
            self.switch_off(&mut transaction, endpoint, answer).await?
        } else {
            None
        };
        transaction.commit().await.map_err(ledger::Error::from)?;
        self.metrics.attempt(result, seconds);
        self.log(endpoint, delivery, &recorded, disabled.as_deref());
        Ok(())
    }

    /// Switches an endpoint off that is gone or has failed for days; returns the reason where it did.
    async fn switch_off(
        &self,
        connection: &mut Connection,
        endpoint: &Webhook,
        answer: &Answer,
    ) -> Result<Option<String>, Error> {
        let now = self.clock.now();
        let reason = if matches!(answer.verdict, Verdict::Gone) {
            "it answered 410 Gone".to_owned()
        } else {
            match outbox::failing_since(connection, &endpoint.webhook_id).await? {
                Some(since) if since + self.options.disable_after <= now => {
                    format!("nothing has reached it since {since}")
                }
                Some(_) | None => return Ok(None),
            }
        };
        webhooks::disable(connection, &endpoint.tenant, &endpoint.webhook_id, &reason).await?;
        let data = serde_json::json!({ "id": endpoint.webhook_id, "url": endpoint.url, "reason": reason });
        let body = event::body("webhook.disabled", &endpoint.webhook_id, now, &data);
        let change = NewChange {
            tenant: &endpoint.tenant,
            kind: "webhook.disabled",
            subject: &endpoint.webhook_id,
            at: now,
            at_wall: now,
            body: &body,
        };
        changes::append(connection, change).await?;
        Ok(Some(reason))
    }

    fn log(&self, endpoint: &Webhook, delivery: &Delivery, recorded: &Recorded, disabled: Option<&str>) {
        let (webhook_id, delivery_id) = (&endpoint.webhook_id, &delivery.delivery_id);
        match recorded {
            Recorded::Delivered { status } => tracing::debug!(webhook_id, delivery_id, status, "delivered a webhook"),
            Recorded::Retry { error, next_attempt_wall, .. } => {
                tracing::debug!(webhook_id, delivery_id, error, %next_attempt_wall, "a webhook attempt failed");
            }
            Recorded::Dead { error, .. } => {
                tracing::warn!(webhook_id, delivery_id, error, "a webhook is a dead letter")
            }
        }
        if let Some(reason) = disabled {
            self.metrics.endpoint_disabled();
            tracing::warn!(webhook_id, reason, "switched a webhook endpoint off");
        }
    }
}
