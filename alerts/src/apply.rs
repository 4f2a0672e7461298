//! Runs the life cycle against the ledger: alert row, history, change feed and webhook outbox in one transaction, which
//! is the caller's. Nothing is told of what was rolled back.

use std::{collections::HashMap, sync::Arc};

use harbinger_core::{Clock, DeviceId, TenantId, Timestamp, fleet::Maintenance, ids::new_id};
use harbinger_store::ledger::{
    Connection,
    alerts::{self, Alert, NewStep},
    changes::{self, NewChange},
    webhooks::{self, Webhook, outbox},
};
use serde_json::Value;

use crate::{
    Error, Metrics,
    event::{self, AlertEvent},
    lifecycle::{self, Closing, Ending, HysteresisOptions, Observation, Refused, Transition},
};

/// Who raises and clears alerts, in their history.
pub const BY_ITSELF: &str = "harbinger";
/// Who ends alerts on the word of a maintenance record, in their history.
pub const BY_MAINTENANCE: &str = "maintenance";

/// Something that happened to an alert and was written.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertChange {
    /// What.
    pub event: AlertEvent,
    /// The alert from then on.
    pub alert: Alert,
    /// Its place in the change feed.
    pub seq: i64,
}

/// The life cycle with its options. Every method writes in the caller's transaction and reads no other.
#[derive(Clone)]
pub struct Alerts {
    options: HysteresisOptions,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Alerts {
    /// `clock` is the wall clock: it dates the feed and the outbox, never an alert.
    #[must_use]
    pub fn new(options: HysteresisOptions, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { options, clock, metrics }
    }

    /// Takes in what a cycle of predictions found. Observations of one component come in order of time. Those without
    /// alarm and without a standing alert cost a look-up in memory and no query.
    ///
    /// # Errors
    /// [`Error::Ledger`]; the transaction must then be dropped.
    pub async fn apply(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        observations: &[Observation],
    ) -> Result<Vec<AlertChange>, Error> {
        let mut standing = Standing::of(alerts::standing(&mut *transaction, tenant).await?);
        let mut endings = self.endings(&mut *transaction, tenant, observations, &standing).await?;
        let mut writer = self.writer(transaction, tenant);
        for observation in observations {
            let found = standing.get(observation);
            if found.is_none() && !observation.alarm {
                continue;
            }
            let ending = endings.get(&key(observation)).copied();
            match lifecycle::observe(found, ending, observation, &self.options) {
                Transition::Raise => {
                    let alert = lifecycle::raised(new_id("alr"), observation);
                    standing.put(alert.clone());
                    writer.raise(alert).await?;
                }
                Transition::Update { alert, escalated } => {
                    standing.put((*alert).clone());
                    writer.update(*alert, escalated).await?;
                }
                Transition::Resolve(alert) => {
                    standing.remove(&alert);
                    endings.insert(key(observation), Ending { at: observation.ts, by_service: false });
                    writer.step(AlertEvent::Resolved, *alert, observation.ts, BY_ITSELF, None).await?;
                }
                Transition::Nothing => {}
            }
        }
        Ok(writer.written)
    }

    /// Takes in maintenance records: a replacement, or work because of a failure, resolves the standing alerts of that
    /// component, and a failure suggests the outcome *confirmed*.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub async fn apply_maintenance(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        records: &[Maintenance],
    ) -> Result<Vec<AlertChange>, Error> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut standing = Standing::of(alerts::standing(&mut *transaction, tenant).await?);
        let mut writer = self.writer(transaction, tenant);
        for record in records {
            let of_device = standing.0.get(&record.device).map(Vec::as_slice).unwrap_or_default();
            let ended: Vec<Alert> = of_device
                .iter()
                .filter(|alert| alert.component == record.component)
                .filter_map(|alert| lifecycle::serviced(alert, record.ts, record.action, record.reason))
                .collect();
            for alert in ended {
                standing.remove(&alert);
                let comment = format!("{} because of {}", record.action.as_str(), record.reason.as_str());
                writer.step(AlertEvent::Resolved, alert, record.ts, BY_MAINTENANCE, Some(&comment)).await?;
            }
        }
        Ok(writer.written)
    }

    /// A person acknowledges an alert. `at` is the tenant's present event time.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Ledger`] with `NotFound` where the tenant has no such alert.
    pub async fn acknowledge(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        alert_id: &str,
        act: Act<'_>,
    ) -> Result<AlertChange, Error> {
        let next = |alert: &Alert| lifecycle::acknowledge(alert, act.at, act.by);
        self.act(transaction, tenant, alert_id, AlertEvent::Acknowledged, act, next).await
    }

    /// A person begins to work on an alert.
    ///
    /// # Errors
    /// As [`Alerts::acknowledge`].
    pub async fn start(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        alert_id: &str,
        act: Act<'_>,
    ) -> Result<AlertChange, Error> {
        let next = |alert: &Alert| lifecycle::start(alert, act.at, act.by);
        self.act(transaction, tenant, alert_id, AlertEvent::Started, act, next).await
    }

    /// A person says that the cause of an alert is gone.
    ///
    /// # Errors
    /// As [`Alerts::acknowledge`].
    pub async fn resolve(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        alert_id: &str,
        act: Act<'_>,
    ) -> Result<AlertChange, Error> {
        let next = |alert: &Alert| lifecycle::resolve(alert, act.at);
        self.act(transaction, tenant, alert_id, AlertEvent::Resolved, act, next).await
    }

    /// A person says what an alert was. The comment is that of `closing`.
    ///
    /// # Errors
    /// As [`Alerts::acknowledge`].
    pub async fn close(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        alert_id: &str,
        act: Act<'_>,
        closing: &Closing,
    ) -> Result<AlertChange, Error> {
        let act = Act { comment: closing.comment.as_deref(), ..act };
        let next = |alert: &Alert| lifecycle::close(alert, act.at, act.by, closing);
        self.act(transaction, tenant, alert_id, AlertEvent::Closed, act, next).await
    }

    /// Tells the feed and the webhooks of an event that is not an alert's: `transfer.proposed`, `model.trained`. `at` is
    /// event time. Returns its place in the feed.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub async fn publish(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        event_type: &str,
        subject: &str,
        at: Timestamp,
        data: &Value,
    ) -> Result<i64, Error> {
        self.writer(transaction, tenant).publish(event_type, subject, at, data).await
    }

    async fn act(
        &self,
        transaction: &mut Connection,
        tenant: &TenantId,
        alert_id: &str,
        event: AlertEvent,
        act: Act<'_>,
        next: impl FnOnce(&Alert) -> Result<Alert, Refused>,
    ) -> Result<AlertChange, Error> {
        let alert = alerts::get(&mut *transaction, tenant, alert_id).await?;
        let alert = next(&alert).map_err(|source| Error::Refused { alert_id: alert_id.to_owned(), source })?;
        let at = act.at.max(alert.raised_at);
        self.writer(transaction, tenant).step(event, alert, at, act.by, act.comment).await
    }

    fn writer<'a>(&'a self, connection: &'a mut Connection, tenant: &'a TenantId) -> Writer<'a> {
        let now_wall = self.clock.now();
        Writer { connection, tenant, now_wall, metrics: &self.metrics, endpoints: None, written: Vec::new() }
    }

    /// How the last alerts ended of what might be raised now; one query where there is any such, else none.
    async fn endings(
        &self,
        connection: &mut Connection,
        tenant: &TenantId,
        observations: &[Observation],
        standing: &Standing,
    ) -> Result<HashMap<Key, Ending>, Error> {
        let candidates =
            observations.iter().filter(|observation| observation.alarm && standing.get(observation).is_none());
        let Some(earliest) = candidates.map(|observation| observation.ts).min() else {
            return Ok(HashMap::new());
        };
        let quiet = self.options.quiet_time.max(self.options.quiet_time_after_service);
        let ended = alerts::ended_since(connection, tenant, earliest - quiet).await?;
        let mut endings: HashMap<Key, Ending> = HashMap::with_capacity(ended.len());
        for ended in ended {
            let ending = Ending { at: ended.at, by_service: ended.by != BY_ITSELF };
            let last = endings.entry((ended.device, ended.component, ended.failure_mode.into())).or_insert(ending);
            if last.at < ending.at {
                *last = ending;
            }
        }
        Ok(endings)
    }
}

/// Who does something to an alert, when, and what they write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Act<'a> {
    /// The tenant's present event time.
    pub at: Timestamp,
    /// The person or key.
    pub by: &'a str,
    /// For the history.
    pub comment: Option<&'a str>,
}

type Key = (DeviceId, harbinger_core::ComponentId, Arc<str>);

fn key(observation: &Observation) -> Key {
    (observation.device.clone(), observation.component.clone(), Arc::clone(&observation.failure_mode))
}

/// The standing alerts of a tenant, by device: a device has few.
struct Standing(HashMap<DeviceId, Vec<Alert>>);

impl Standing {
    fn of(alerts: Vec<Alert>) -> Self {
        let mut standing = Self(HashMap::new());
        alerts.into_iter().for_each(|alert| standing.put(alert));
        standing
    }

    fn get(&self, observation: &Observation) -> Option<&Alert> {
        self.0
            .get(&observation.device)?
            .iter()
            .find(|alert| alert.component == observation.component && *alert.failure_mode == *observation.failure_mode)
    }

    fn put(&mut self, alert: Alert) {
        self.remove(&alert);
        self.0.entry(alert.device.clone()).or_default().push(alert);
    }

    fn remove(&mut self, alert: &Alert) {
        if let Some(of_device) = self.0.get_mut(&alert.device) {
            of_device.retain(|known| known.alert_id != alert.alert_id);
        }
    }
}

/// Writes in one transaction and remembers what it wrote.
struct Writer<'a> {
    connection: &'a mut Connection,
    tenant: &'a TenantId,
    now_wall: Timestamp,
    metrics: &'a Metrics,
    /// Active endpoints of the tenant, once something was to be told.
    endpoints: Option<Vec<Webhook>>,
    written: Vec<AlertChange>,
}

impl Writer<'_> {
    async fn raise(&mut self, alert: Alert) -> Result<(), Error> {
        alerts::insert(self.connection, self.tenant, &alert).await?;
        let at = alert.raised_at;
        self.append_history(&alert, at, BY_ITSELF, None).await?;
        let change = self.tell(AlertEvent::Raised, alert, at).await?;
        self.written.push(change);
        Ok(())
    }

    async fn update(&mut self, alert: Alert, escalated: bool) -> Result<(), Error> {
        alerts::update(self.connection, self.tenant, &alert).await?;
        if escalated {
            let at = alert.updated_at;
            let change = self.tell(AlertEvent::Updated, alert, at).await?;
            self.written.push(change);
        }
        Ok(())
    }

    async fn step(
        &mut self,
        event: AlertEvent,
        alert: Alert,
        at: Timestamp,
        actor: &str,
        comment: Option<&str>,
    ) -> Result<AlertChange, Error> {
        alerts::update(self.connection, self.tenant, &alert).await?;
        self.append_history(&alert, at, actor, comment).await?;
        let change = self.tell(event, alert, at).await?;
        self.written.push(change.clone());
        Ok(change)
    }

    async fn append_history(
        &mut self,
        alert: &Alert,
        at: Timestamp,
        actor: &str,
        comment: Option<&str>,
    ) -> Result<(), Error> {
        let step = NewStep { at, at_wall: self.now_wall, state: alert.state, actor, comment };
        Ok(alerts::append_history(self.connection, self.tenant, &alert.alert_id, step).await?)
    }

    async fn tell(&mut self, event: AlertEvent, alert: Alert, at: Timestamp) -> Result<AlertChange, Error> {
        let data = event::alert_data(&alert);
        let seq = self.publish(event.as_str(), &alert.alert_id, at, &data).await?;
        self.metrics.alert_event(event);
        Ok(AlertChange { event, alert, seq })
    }

    async fn publish(&mut self, event_type: &str, subject: &str, at: Timestamp, data: &Value) -> Result<i64, Error> {
        let body = event::body(event_type, subject, at, data);
        let change =
            NewChange { tenant: self.tenant, kind: event_type, subject, at, at_wall: self.now_wall, body: &body };
        let seq = changes::append(self.connection, change).await?;
        let endpoints = match &mut self.endpoints {
            Some(endpoints) => endpoints,
            none => none.insert(webhooks::active(self.connection, self.tenant).await?),
        };
        if !endpoints.is_empty() {
            outbox::enqueue(self.connection, endpoints, event_type, &body.to_string(), self.now_wall).await?;
        }
        Ok(seq)
    }
}

#[cfg(test)]
mod tests;
