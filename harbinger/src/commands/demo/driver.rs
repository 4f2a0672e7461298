//! What the demonstration plays itself: devices that report, a warehouse that ships and receives, a technician who replaces.
//!
//! All of it goes through the doors that users have: readings and events over MQTT at QoS 1, everything else through the
//! API. Within a step people act first and devices speak last, so that whoever scores the step knows all that came before.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration as WallDuration,
};

use anyhow::Context;
use harbinger_core::{
    ComponentId, DepotId, DeviceId, Duration, PartId, TenantId, Timestamp,
    fleet::{Echelon, Fleet, Maintenance},
    history::DeviceHistory,
    ids::new_id,
};
use harbinger_sim::{Failed, Simulation, Step};
use harbinger_store::Ledger;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{SCORE_EVERY, scored_until};
use crate::{
    client::{Api, Error, Written},
    commands::replay::{
        feed::{Feed, Piece},
        gateway::{Broker, Gateway, Tally},
        native::Messages,
    },
};

/// Event time that passes in a second.
const EVENT_TIME_PER_SECOND: Duration = Duration::from_hours(3);
/// Devices wait where they are ahead of the scored event time by more steps of the grid than this.
const STEPS_AHEAD: i64 = 2;
/// The warehouse looks for orders this often, in event time.
const WAREHOUSE_EVERY: Duration = Duration::from_hours(1);
/// A piece that no plan has brought comes from the hub by the usual way, this much later.
const EMERGENCY_DELAY: Duration = Duration::from_hours(24);

/// What happened outside the service's sight.
#[derive(Debug)]
pub(super) enum Happening {
    /// A component failed.
    Failed(Failed),
    /// It was replaced, and the service has booked the part's use.
    Replaced(Maintenance),
}

/// An order as far as a warehouse needs it.
#[derive(Debug, Deserialize)]
struct OrderItem {
    order_id: String,
    due_at: Option<Timestamp>,
}

/// Pieces of a part at a depot.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct StockItem {
    part: PartId,
    depot: DepotId,
    on_hand: u32,
    in_transit: u32,
}

#[derive(Serialize)]
struct At {
    at: Timestamp,
}

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

/// Nobody here reads the answer.
#[derive(Deserialize)]
struct Done {}

/// A failed component that waits for a piece.
struct Waiting {
    failed: Failed,
    /// When a piece comes from the hub if none is on the shelf before.
    emergency_at: Timestamp,
}

/// The fleet in motion and the people around it.
pub(super) struct Driver {
    simulation: Simulation,
    fleet: Fleet,
    tenant: TenantId,
    api: Api,
    ledger: Ledger,
    gateway: Gateway,
    told: UnboundedSender<Happening>,
    waiting: Vec<Waiting>,
    /// Pieces on a shelf that the technician has taken and whose use is not booked yet.
    taken: HashMap<(DeviceId, ComponentId), (PartId, DepotId)>,
}

impl Driver {
    /// * `broker`: address of the MQTT listener and a key that may send to it.
    pub(super) fn new(
        simulation: Simulation,
        fleet: Fleet,
        api: Api,
        ledger: Ledger,
        (address, key): (String, String),
        told: UnboundedSender<Happening>,
    ) -> Self {
        let broker = Arc::new(Broker { address, key: Some(key) });
        let gateway = Gateway::new(broker, new_id("demo"), Arc::new(Tally::default()));
        let tenant = simulation.options().tenant.clone();
        let (waiting, taken) = (Vec::new(), HashMap::new());
        Self { simulation, fleet, tenant, api, ledger, gateway, told, waiting, taken }
    }

    /// Lets time go on until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let cadence = self.simulation.options().cadence;
        let mut pace = interval(WallDuration::from_secs_f64(cadence.hours() / EVENT_TIME_PER_SECOND.hours()));
        // A pause is not made up for in a rush.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = async {
                pace.tick().await;
                self.wait_for_scores().await?;
                self.step().await
            };
            tokio::select! {
                stepped = step => stepped?,
                () = stop.cancelled() => break,
            }
        }
        self.gateway.close().await;
        Ok(())
    }

    async fn wait_for_scores(&self) -> anyhow::Result<()> {
        let ahead = Duration::from_millis((STEPS_AHEAD + 1) * SCORE_EVERY.millis());
        while scored_until(&self.ledger, &self.tenant)
            .await?
            .is_some_and(|scored| scored + ahead < self.simulation.now())
        {
            sleep(WallDuration::from_millis(20)).await;
        }
        Ok(())
    }

    /// One cadence of event time.
    async fn step(&mut self) -> anyhow::Result<()> {
        let mut step = self.simulation.step();
        if step.now.floor_to(WAREHOUSE_EVERY) == step.now {
            self.warehouse(step.now).await.context("the warehouse failed")?;
        }
        self.replaced(std::mem::take(&mut step.maintenance)).await.context("failed to record maintenance")?;
        self.failed(std::mem::take(&mut step.failures));
        self.mend(step.now).await.context("the technician failed")?;
        self.publish(step).await.context("failed to publish")
    }

    /// Ships what is approved and receives what is due; all that is repaired is usable.
    async fn warehouse(&self, now: Timestamp) -> Result<(), Error> {
        for kind in ["transfers", "purchases", "returns", "repairs"] {
            let of = |state: &str| [("state", state.to_owned())];
            let path = format!("/api/v1/{kind}");
            for order in self.api.list::<OrderItem>(&path, &of("shipped")).await? {
                if order.due_at.is_none_or(|due| due <= now) {
                    self.order_step(&path, &order, "receive", now).await?;
                }
            }
            for order in self.api.list::<OrderItem>(&path, &of("approved")).await? {
                self.order_step(&path, &order, "ship", now).await?;
            }
        }
        Ok(())
    }

    async fn order_step(&self, path: &str, order: &OrderItem, step: &str, at: Timestamp) -> Result<(), Error> {
        match self.api.post::<Done>(&format!("{path}/{}/{step}", order.order_id), &At { at }).await {
            // A hub whose shelf is empty ships when its purchase has come; the order waits.
            Err(Error::Refused { status: reqwest::StatusCode::CONFLICT, .. }) => Ok(()),
            other => other.map(|Done {}| ()),
        }
    }

    /// Tells the service what was replaced; it books the parts.
    async fn replaced(&mut self, records: Vec<Maintenance>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.api.write_maintenance(&records).await?;
        for record in records {
            self.taken.remove(&(record.device.clone(), record.component.clone()));
            self.tell(Happening::Replaced(record));
        }
        Ok(())
    }

    fn failed(&mut self, failures: Vec<Failed>) {
        for failed in failures {
            let emergency_at = self.simulation.now() + self.way_from_hub(&failed.depot) + EMERGENCY_DELAY;
            self.tell(Happening::Failed(failed.clone()));
            self.waiting.push(Waiting { failed, emergency_at });
        }
    }

    fn way_from_hub(&self, depot: &DepotId) -> Duration {
        let hub = self.hub();
        let lane = self.fleet.lanes.iter().find(|lane| Some(&lane.from) == hub && lane.to == *depot);
        lane.map_or(Duration::ZERO, |lane| Duration::from_millis((lane.days * 86_400_000.0) as i64))
    }

    fn hub(&self) -> Option<&DepotId> {
        self.fleet.depots.iter().find(|depot| depot.echelon == Echelon::Hub).map(|depot| &depot.depot)
    }

    /// Mends what waits and can be mended: from the local shelf, or with a piece that a courier has brought.
    async fn mend(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut shelves = self.shelves().await?;
        for waiting in std::mem::take(&mut self.waiting) {
            let Failed { failure, part, depot, .. } = &waiting.failed;
            let shelf = (part.clone(), depot.clone());
            if let Some(pieces) = shelves.get_mut(&shelf).filter(|item| item.on_hand > 0) {
                pieces.on_hand -= 1;
                self.taken.insert((failure.device.clone(), failure.component.clone()), shelf);
            } else if waiting.emergency_at <= now {
                self.take_from_hub(part, &mut shelves).await?;
            } else {
                self.waiting.push(waiting);
                continue;
            }
            self.simulation.part_available(&failure.device, &failure.component, now)?;
        }
        Ok(())
    }

    /// What lies on shelves and nobody has taken.
    async fn shelves(&self) -> Result<HashMap<(PartId, DepotId), StockItem>, Error> {
        let stock = self.api.list::<StockItem>("/api/v1/stock", &[]).await?;
        let mut shelves: HashMap<_, _> =
            stock.into_iter().map(|item| ((item.part.clone(), item.depot.clone()), item)).collect();
        for shelf in self.taken.values() {
            if let Some(item) = shelves.get_mut(shelf) {
                item.on_hand = item.on_hand.saturating_sub(1);
            }
        }
        Ok(shelves)
    }

    /// Books the piece that a courier took from the hub; where the hub has none, the supplier sent it.
    async fn take_from_hub(
        &self,
        part: &PartId,
        shelves: &mut HashMap<(PartId, DepotId), StockItem>,
    ) -> Result<(), Error> {
        let Some(hub) = self.hub() else { return Ok(()) };
        let Some(item) = shelves.get_mut(&(part.clone(), hub.clone())).filter(|item| item.on_hand > 0) else {
            return Ok(());
        };
        item.on_hand -= 1;
        let Written { .. } = self.api.put("/api/v1/stock", &Items { items: vec![item.clone()] }).await?;
        Ok(())
    }

    /// Sends what devices say and returns when all of it is acknowledged.
    async fn publish(&mut self, step: Step) -> anyhow::Result<()> {
        let mut histories: BTreeMap<DeviceId, DeviceHistory> = BTreeMap::new();
        for reading in step.readings {
            histories.entry(reading.key.device).or_default().readings.push(reading.ts, &reading.values);
        }
        for event in step.events {
            histories.entry(event.key.device.clone()).or_default().events.push(event);
        }
        let feed = Arc::new(Feed::new(histories, Vec::new()));
        let pieces = feed.devices.iter().enumerate().map(|(device, (_, history))| Piece {
            device,
            readings: 0..history.readings.len(),
            events: 0..history.events.len(),
        });
        let pieces = pieces.collect();
        Ok(self.gateway.deliver(Messages::new(feed, self.tenant.clone(), pieces)).await?)
    }

    /// A story that has ended is told nothing more.
    fn tell(&self, happening: Happening) {
        let _ = self.told.send(happening);
    }
}
