//! What the demonstration tells in the terminal: a line for each thing that happened, in order of event time.
//!
//! The service's side comes from the ledger - its change feed, predictions, part uses - as any client could read it; what
//! happens outside its sight comes from the driver. Lines wait until the service has scored the time that they tell of, so
//! that they come in order although two sides tell them.

mod lines;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration as WallDuration, Instant},
};

use harbinger_analytics::failure::TopSignal;
use harbinger_core::{
    ComponentId, DepotId, DeviceId, Duration, PartId, TenantId, TimeRange, Timestamp, fleet::Maintenance,
};
use harbinger_sim::Failed;
use harbinger_store::{
    Ledger,
    ledger::{
        self, Connection, alerts, changes, kpi,
        orders::{self, OrderKind, OrderState, UseFilter, Used},
        predictions,
    },
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::{driver::Happening, scored_until};
use lines::{Lines, percent, reasons};

/// How often the ledger is looked at.
const LOOK_EVERY: WallDuration = WallDuration::from_millis(200);
/// Changes read at once.
const CHANGES: u32 = 1_000;
/// A risk is told from this probability on, and again when it has risen by so much.
const RISK_FROM: f64 = 0.10;
const RISK_STEP: f64 = 0.20;
/// A risk below this is forgotten, so that its next rise is told.
const RISK_OVER: f64 = 0.03;
/// Reasons told with a risk and with an alert.
const RISK_REASONS: usize = 1;
const ALERT_REASONS: usize = 2;
/// Event time between two lines of figures.
const FIGURES_EVERY: Duration = Duration::from_hours(24);

/// A component of a device.
type Slot = (DeviceId, ComponentId);

/// An alert, as the feed tells it.
#[derive(Debug, Clone, Deserialize)]
struct AlertData {
    id: String,
    device: DeviceId,
    component: ComponentId,
    probability: f64,
    #[serde(default)]
    reasons: Vec<TopSignal>,
    raised_at: Timestamp,
    prediction_id: Option<String>,
    /// What a maintenance record that ended it suggests.
    outcome: Option<String>,
}

/// A transfer or purchase, as the feed tells it.
#[derive(Debug, Clone, Deserialize)]
struct OrderData {
    order_id: String,
    part: PartId,
    from: Option<DepotId>,
    to: DepotId,
    quantity: u32,
    reasons: Vec<Why>,
    proposed_at: Timestamp,
    received_at: Option<Timestamp>,
}

/// A device for which a piece is ordered.
#[derive(Debug, Clone, Deserialize)]
struct Why {
    device: DeviceId,
    component: ComponentId,
    probability: f64,
}

impl OrderData {
    fn is_for(&self, (device, component): &Slot) -> bool {
        self.reasons.iter().any(|why| why.device == *device && why.component == *component)
    }

    fn came_before(&self, ts: Timestamp) -> bool {
        self.received_at.is_some_and(|at| at <= ts)
    }
}

/// Why nothing more can be told.
#[derive(Debug, thiserror::Error)]
#[error("the story could not be read from the ledger")]
pub(super) struct CannotTell(#[from] ledger::Error);

/// Follows what happens and tells it.
pub(super) struct Story {
    ledger: Ledger,
    tenant: TenantId,
    happenings: UnboundedReceiver<Happening>,
    url: String,
    began: Instant,
    /// Event time at which the story begins.
    from: Timestamp,
    scored: Timestamp,
    figures_at: Timestamp,
    seen: i64,
    /// The main horizon in words.
    horizon: String,
    lines: Lines,
    /// The probability last told of each slot.
    risks: HashMap<Slot, f64>,
    /// The alert that stands, or stood last, against each slot.
    alerts: HashMap<Slot, AlertData>,
    transfers: HashMap<String, OrderData>,
    /// Components that failed and are not mended.
    failures: HashMap<Slot, Failed>,
    /// How many failed, and how many of them an alert had foreseen.
    failed: usize,
    foreseen: usize,
    resolved: HashSet<String>,
    complete: bool,
}

impl Story {
    /// A story of what happens from event time `from` on.
    ///
    /// * `began`: when the demonstration did.
    pub(super) async fn begin(
        ledger: Ledger,
        tenant: TenantId,
        happenings: UnboundedReceiver<Happening>,
        url: String,
        (from, began): (Timestamp, Instant),
    ) -> Result<Self, CannotTell> {
        let mut read = ledger.read().await?;
        let model = ledger::models::champion(&mut read, &tenant).await?;
        let horizon = model.and_then(|model| model.horizons.first().map(ToString::to_string)).unwrap_or_default();
        let range = TimeRange { from: Timestamp::MIN, to: from };
        let filter = predictions::Filter { range, latest: true, ..predictions::Filter::default() };
        let newest = predictions::list(&mut read, &tenant, &filter, None, usize::MAX).await?;
        let risks = newest.into_iter().map(|p| ((p.device.clone(), p.component.clone()), main_of(&p))).collect();
        let mut standing = alerts::standing(&mut read, &tenant).await?;
        standing.retain(|alert| alert.raised_at < from);
        drop(read);
        let mut story = Self {
            ledger,
            tenant,
            happenings,
            url,
            began,
            from,
            scored: from - Duration::from_millis(1),
            figures_at: from + FIGURES_EVERY,
            seen: 0,
            horizon,
            lines: Lines::default(),
            risks,
            alerts: HashMap::new(),
            transfers: HashMap::new(),
            failures: HashMap::new(),
            failed: 0,
            foreseen: 0,
            resolved: HashSet::new(),
            complete: false,
        };
        story.lines.add(from, "alerts", format!("{} stand from before", standing.len()));
        story.alerts =
            standing.into_iter().map(|alert| ((alert.device.clone(), alert.component.clone()), known(alert))).collect();
        Ok(story)
    }

    /// Tells until `stop`, and then what is left to tell.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), CannotTell> {
        loop {
            let over = stop.is_cancelled();
            self.look().await?;
            if over {
                return Ok(());
            }
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(LOOK_EVERY) => {} }
        }
    }

    async fn look(&mut self) -> Result<(), CannotTell> {
        let scored = scored_until(&self.ledger, &self.tenant).await?.unwrap_or(self.scored);
        let ledger = self.ledger.clone();
        let mut read = ledger.read().await?;
        self.risks(&mut read, scored).await?;
        for change in changes::after(&mut read, &self.tenant, self.seen, CHANGES).await? {
            self.seen = change.seq;
            // What happened in the past is not told.
            if change.at >= self.from {
                self.change(change);
            }
        }
        while let Ok(happening) = self.happenings.try_recv() {
            match happening {
                Happening::Failed(failed) => self.failed(failed),
                Happening::Replaced(record) => self.replaced(&mut read, &record).await?,
            }
        }
        self.scored = scored;
        if scored >= self.figures_at {
            self.figures_at = scored + FIGURES_EVERY;
            self.figures(&mut read).await?;
        }
        self.lines.print_until(scored);
        Ok(())
    }

    /// Something that the service did.
    fn change(&mut self, change: changes::Change) {
        let changes::Change { kind, at, mut body, .. } = change;
        let data = body.get_mut("data").map(Value::take).unwrap_or_default();
        match kind.as_str() {
            "alert.raised" => self.with(data, |story, alert| story.raised(at, alert)),
            "alert.resolved" => self.with(data, |story, alert: AlertData| story.cleared(at, &alert)),
            "transfer.approved" | "transfer.shipped" | "transfer.received" => {
                self.with(data, |story, order| story.transfer(&kind, at, order));
            }
            "purchase.approved" => self.with(data, |story, order| story.purchase(at, "approved by policy: ", &order)),
            "purchase.received" => self.with(data, |story, order| story.purchase(at, "received: ", &order)),
            "model.trained" => self.lines.add(at, "model", format!("trained on {} failures", data["failures"])),
            _ => {}
        }
    }

    /// Reads what the feed holds; a body that was too long for it tells nothing.
    fn with<T: serde::de::DeserializeOwned>(&mut self, data: Value, tell: impl FnOnce(&mut Self, T)) {
        if let Ok(data) = serde_json::from_value(data) {
            tell(self, data);
        }
    }

    fn raised(&mut self, at: Timestamp, alert: AlertData) {
        let AlertData { device, component, probability, .. } = &alert;
        let slot = (device.clone(), component.clone());
        // That a failed component alarms is no news.
        if !self.failures.contains_key(&slot) {
            let text = format!("{component} of {device}: {} within {}", percent(*probability), self.horizon);
            self.lines.explain(at, "alert", text, reasons(&alert.reasons, ALERT_REASONS));
        }
        self.alerts.insert(slot, alert);
    }

    fn cleared(&mut self, at: Timestamp, alert: &AlertData) {
        self.resolved.insert(alert.id.clone());
        let slot = (alert.device.clone(), alert.component.clone());
        // One that was mended is told of as such, where its failure was.
        if !self.failures.contains_key(&slot) {
            let why = if alert.outcome.is_some() { "replaced" } else { "the risk is gone" };
            self.lines.add(at, "cleared", format!("{} of {}: {why}", alert.component, alert.device));
        }
    }

    fn transfer(&mut self, kind: &str, at: Timestamp, order: OrderData) {
        let OrderData { part, to, quantity, .. } = &order;
        match kind {
            "transfer.approved" => {
                let from = order.from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
                let why = order.reasons.first().map(|why| {
                    format!("for {} of {}: {} to need it", why.component, why.device, percent(why.probability))
                });
                let text = format!("proposed, approved by policy: {quantity} {part}{from} to {to}");
                self.lines.explain(at, "transfer", text, why.into_iter().collect());
            }
            "transfer.shipped" => {
                self.lines.gather(at, "transfer", "shipped: ", format!("{quantity} {part} to {to}"));
            }
            _ => self.lines.gather(at, "transfer", "received: ", format!("{quantity} {part} at {to}")),
        }
        self.transfers.insert(order.order_id.clone(), order);
    }

    fn purchase(&mut self, at: Timestamp, head: &str, order: &OrderData) {
        self.lines.gather(at, "purchase", head, format!("{} {}", order.quantity, order.part));
    }

    /// Risks that have risen in the steps since the last look.
    async fn risks(&mut self, read: &mut Connection, until: Timestamp) -> Result<(), CannotTell> {
        let after = Duration::from_millis(1);
        let range = TimeRange { from: self.scored + after, to: until + after };
        let filter = predictions::Filter { range, ..predictions::Filter::default() };
        for row in predictions::list(&mut *read, &self.tenant, &filter, None, usize::MAX).await? {
            let slot = (row.device.clone(), row.component.clone());
            let now = main_of(&row);
            let before = self.risks.entry(slot.clone()).or_insert(now);
            if now < RISK_OVER {
                *before = now;
            }
            let rises = now >= RISK_FROM && now >= *before + RISK_STEP;
            // One that alarms is told of as an alert, and that a failed component is at risk is no news.
            if !rises || row.alarm || self.failures.contains_key(&slot) {
                continue;
            }
            let decision = predictions::decision(&mut *read, &self.tenant, &row.id()).await?;
            let signals: Option<Vec<TopSignal>> =
                decision.and_then(|mut record| serde_json::from_value(record.body["top_signals"].take()).ok());
            let (device, component) = &slot;
            let rise = format!("{} to {} within {}", percent(*before), percent(now), self.horizon);
            *before = now;
            let why = reasons(&signals.unwrap_or_default(), RISK_REASONS);
            self.lines.explain(row.ts, "risk", format!("{component} of {device}: {rise}"), why);
        }
        Ok(())
    }

    fn failed(&mut self, failed: Failed) {
        let slot = (failed.failure.device.clone(), failed.failure.component.clone());
        self.failed += 1;
        let raised_at = self.alert_before(&slot, failed.failure.ts).map(|alert| alert.raised_at);
        let foreseen = match raised_at {
            Some(raised_at) => {
                self.foreseen += 1;
                format!(", foreseen {:.1} d before", failed.failure.ts.days_since(raised_at))
            }
            None if failed.gave_warning => ", not foreseen".to_owned(),
            None => ", without any sign".to_owned(),
        };
        let text = format!("{} of {} at {}{foreseen}", slot.1, slot.0, failed.depot);
        self.lines.add(failed.failure.ts, "failure", text);
        self.failures.insert(slot, failed);
    }

    /// The alert that was raised before a slot failed and stood then.
    fn alert_before(&self, slot: &Slot, failed_at: Timestamp) -> Option<&AlertData> {
        self.alerts.get(slot).filter(|alert| alert.raised_at < failed_at && !self.resolved.contains(&alert.id))
    }

    /// What met a failure.
    async fn replaced(&mut self, read: &mut Connection, record: &Maintenance) -> Result<(), CannotTell> {
        let slot = (record.device.clone(), record.component.clone());
        let Some(failed) = self.failures.get(&slot) else { return Ok(()) };
        let filter = UseFilter { device: Some(slot.0.clone()), ..UseFilter::default() };
        let uses = orders::uses(read, &self.tenant, &filter, None, 10).await?;
        let Some(used) = uses.into_iter().find(|used| used.component == slot.1 && used.ts == record.ts) else {
            return Ok(());
        };
        let transfer = used.transfer_id.as_ref().and_then(|id| self.transfers.get(id)).filter(|_| used.from_stock);
        let text = match transfer {
            Some(order) => {
                let whose = if order.is_for(&slot) { " for this very device" } else { "" };
                let shelf = &used.depot;
                if order.came_before(failed.failure.ts) {
                    let ahead = failed.failure.ts.days_since(order.proposed_at);
                    format!(
                        "met from local stock at {shelf} by a transfer ordered {ahead:.1} d before it failed{whose}"
                    )
                } else {
                    format!("met at {shelf} by a transfer that was on the way{whose}")
                }
            }
            None if used.from_stock => format!("met from local stock at {}", used.depot),
            None => format!("no {} at {}: a courier brought it", used.part, used.depot),
        };
        let hours = record.ts.hours_since(failed.failure.ts);
        self.lines.add(record.ts, "mended", format!("{} of {} after {hours:.0} h, {text}", slot.1, slot.0));
        self.whole_loop(&slot, &used);
        self.failures.remove(&slot);
        Ok(())
    }

    /// Names the links of the first loop that closed: prediction, alert, transfer, use.
    fn whole_loop(&mut self, slot: &Slot, used: &Used) {
        let Some(failed_at) = self.failures.get(slot).map(|failed| failed.failure.ts) else { return };
        let order = used.transfer_id.as_ref().and_then(|id| self.transfers.get(id));
        let order = order.filter(|order| order.is_for(slot) && order.came_before(failed_at));
        let alert = self.alerts.get(slot).filter(|alert| alert.raised_at < failed_at);
        let (Some(order), Some(alert), false) = (order, alert, self.complete) else { return };
        self.complete = true;
        let received = order.received_at.map(lines::minute).unwrap_or_default();
        let prediction = alert.prediction_id.clone().unwrap_or_default();
        let api = format!("{}/api/v1", self.url);
        self.lines.block(
            used.ts,
            &[
                format!(
                    "The loop has closed, {} s after start: {} of {}.",
                    self.began.elapsed().as_secs(),
                    slot.1,
                    slot.0
                ),
                format!("  predicted  {api}/predictions/{prediction}"),
                format!("  alerted    {api}/alerts/{} at {}", alert.id, lines::minute(alert.raised_at)),
                format!("  sent       {api}/transfers/{}, received {received}", order.order_id),
                format!(
                    "  failed     {}, used {} from the shelf of {}",
                    lines::minute(failed_at),
                    used.use_id,
                    used.depot
                ),
            ],
        );
    }

    async fn figures(&mut self, read: &mut Connection) -> Result<(), CannotTell> {
        let range = TimeRange { from: self.from, to: Timestamp::MAX };
        let uses = orders::use_counts(&mut *read, &self.tenant, range).await?;
        if uses.total == 0 {
            return Ok(());
        }
        let standing = alerts::standing(&mut *read, &self.tenant).await?.len();
        let transfers = kpi::orders_by_state(read, &self.tenant, OrderKind::Transfer).await?;
        let on_the_way =
            transfers.iter().find(|(state, _)| *state == OrderState::Shipped).map_or(0, |(_, count)| *count);
        let text = format!(
            "{} of {} failures foreseen, {} of {} replacements from local stock; {standing} alerts stand, {on_the_way} \
             transfers on the way",
            self.foreseen, self.failed, uses.from_stock, uses.total
        );
        self.lines.add(self.scored, "figures", text);
        Ok(())
    }
}

/// The probability within the main horizon.
fn main_of(prediction: &predictions::Prediction) -> f64 {
    prediction.probabilities.first().copied().unwrap_or(0.0)
}

fn known(alert: alerts::Alert) -> AlertData {
    AlertData {
        id: alert.alert_id,
        device: alert.device,
        component: alert.component,
        probability: alert.probability.get(),
        reasons: Vec::new(),
        raised_at: alert.raised_at,
        prediction_id: alert.prediction_id,
        outcome: None,
    }
}
