//! From newest predictions, work orders, stock and the network to the plan's input.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use harbinger_core::{DepotId, DeviceId, Duration, PartId, TenantId, TimeRange, Timestamp, fleet::Consumption};
use harbinger_store::{
    Ledger, ledger,
    ledger::{
        orders::{self, Position},
        registry, returns,
        work_orders::{self, WorkOrder},
    },
};

use super::{Error, blocking, reading::Known};
use crate::{
    failure::Model,
    plan::{InRepair, Newest, Plan, PlanInput, PlanOptions, StockPosition, forecasts, plan, plan_replacements},
};

/// Makes the plan as of `at`.
///
/// * `newest`, `reported`: newest predictions, and the devices that have reported before; one of them without a prediction has gone,
///   and needs no spare. A device that never reported is expected to fail as its class does.
pub(super) async fn plan_at(
    ledger: &Ledger,
    tenant: &TenantId,
    known: &Known,
    model: &Arc<Model>,
    (newest, reported): (Vec<Newest>, HashSet<DeviceId>),
    options: PlanOptions,
    at: Timestamp,
) -> Result<Plan, Error> {
    let Stock { positions, consumption, work_orders } = stock_at(ledger, tenant, at, options.settle).await?;
    let (fleet, model) = (Arc::clone(&known.fleet), Arc::clone(model));
    blocking(move || {
        let forecasts = forecasts(&fleet, &model, &newest, &reported, at);
        let forecasts = plan_replacements(forecasts, &fleet, &work_orders, at);
        plan(&PlanInput {
            as_of: at,
            fleet: &fleet,
            forecasts: &forecasts,
            positions: &positions,
            consumption: &consumption,
            options: &options,
        })
    })
    .await
}

/// What there is of parts, and what takes them beside the forecasts.
struct Stock {
    positions: Vec<StockPosition>,
    consumption: Vec<Consumption>,
    work_orders: Vec<WorkOrder>,
}

async fn stock_at(ledger: &Ledger, tenant: &TenantId, at: Timestamp, settle: Duration) -> Result<Stock, ledger::Error> {
    // One state of all tables: what a work order has reserved is in its positions, too.
    let mut read = ledger.snapshot().await?;
    let work_orders = work_orders::all_open(&mut read, tenant).await?;
    let mut positions = orders::positions(&mut read, tenant).await?;
    let repairs = returns::in_repair(&mut read, tenant).await?;
    for place in repairs.keys() {
        positions.entry(place.clone()).or_default();
    }
    let received: BTreeMap<(PartId, DepotId), Timestamp> =
        orders::received_since(&mut read, tenant, at - settle).await?;
    let until = TimeRange { from: Timestamp::MIN, to: at + Duration::from_millis(1) };
    let consumption = registry::list_consumption(&mut read, tenant, until).await?;
    let position = |((part, depot), position): ((PartId, DepotId), Position)| StockPosition {
        last_received: received.get(&(part.clone(), depot.clone())).copied(),
        in_repair: lots(repairs.get(&(part.clone(), depot.clone()))),
        part,
        depot,
        on_hand: i64::from(position.on_hand),
        in_transit: i64::from(position.in_transit),
        on_order: i64::from(position.on_order),
        reserved: i64::from(position.reserved),
        backorders: 0,
    };
    Ok(Stock { positions: positions.into_iter().map(position).collect(), consumption, work_orders })
}

fn lots(lots: Option<&Vec<(Timestamp, u32)>>) -> Vec<InRepair> {
    lots.into_iter().flatten().map(|&(due_at, quantity)| InRepair { due_at, quantity }).collect()
}
