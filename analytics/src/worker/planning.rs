//! From newest predictions, stock and the network to the plan's input.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use harbinger_core::{
    ComponentId, DeviceId, Duration, HardwareModelId, PartId, TenantId, TimeRange, Timestamp,
    fleet::{ComponentSlot, Consumption, Device, Fleet},
};
use harbinger_store::{
    Ledger, ledger,
    ledger::{
        orders::{self, Position},
        registry,
    },
};

use super::{
    Error, blocking,
    reading::{Known, Newest},
};
use crate::{
    failure::{ComponentModel, Model, curve},
    plan::{Plan, PlanInput, PlanOptions, SlotForecast, StockPosition, plan},
    survival::SurvivalCurve,
};

/// Makes the plan as of `at`.
///
/// * `silent`: devices that have reported before; one of them without a prediction has gone, and needs no spare. A device
///   that never reported is expected to fail as its class does.
pub(super) async fn plan_at(
    ledger: &Ledger,
    tenant: &TenantId,
    known: &Known,
    model: &Arc<Model>,
    newest: Vec<Newest>,
    reported: HashSet<DeviceId>,
    at: Timestamp,
) -> Result<Plan, Error> {
    let (positions, consumption) = stock_at(ledger, tenant, at).await?;
    let (fleet, model) = (Arc::clone(&known.fleet), Arc::clone(model));
    blocking(move || {
        let forecasts = forecasts(&fleet, &model, &newest, &reported);
        let options = PlanOptions::default();
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

async fn stock_at(
    ledger: &Ledger,
    tenant: &TenantId,
    at: Timestamp,
) -> Result<(Vec<StockPosition>, Vec<Consumption>), ledger::Error> {
    let mut read = ledger.read().await?;
    let positions = orders::positions(&mut read, tenant).await?;
    let until = TimeRange { from: Timestamp::MIN, to: at + Duration::from_millis(1) };
    let consumption = registry::list_consumption(&mut read, tenant, until).await?;
    let position = |((part, depot), position): ((PartId, _), Position)| StockPosition {
        part,
        depot,
        on_hand: i64::from(position.on_hand),
        in_transit: i64::from(position.in_transit),
        on_order: i64::from(position.on_order),
        reserved: i64::from(position.reserved),
        backorders: 0,
    };
    Ok((positions.into_iter().map(position).collect(), consumption))
}

/// A forecast for each installed slot: from its prediction, or from its class where it never reported.
fn forecasts(fleet: &Fleet, model: &Model, newest: &[Newest], reported: &HashSet<DeviceId>) -> Vec<SlotForecast> {
    let by_slot: HashMap<(&DeviceId, &ComponentId), &Newest> =
        newest.iter().map(|newest| ((&newest.device, &newest.component), newest)).collect();
    let mut slots: BTreeMap<&HardwareModelId, Vec<&ComponentSlot>> = BTreeMap::new();
    for slot in &fleet.components {
        slots.entry(&slot.model).or_default().push(slot);
    }
    let kinds: HashMap<&HardwareModelId, &str> = fleet.models.iter().map(|m| (&m.model, m.kind.as_str())).collect();
    let mut forecasts = Vec::new();
    for device in &fleet.devices {
        for slot in slots.get(&device.model).into_iter().flatten() {
            let (survival, prediction_id, probability_main) = match by_slot.get(&(&device.device, &slot.component)) {
                Some(newest) => match curve(&model.horizons, &newest.probabilities) {
                    Some(survival) => {
                        (survival, Some(newest.prediction_id.clone()), newest.probabilities.first().copied())
                    }
                    None => continue,
                },
                None if reported.contains(&device.device) => continue,
                None => match prior(model, kinds.get(&device.model).copied(), &slot.component) {
                    Some(survival) => (survival, None, None),
                    None => continue,
                },
            };
            forecasts.push(forecast(device, slot, survival, prediction_id, probability_main));
        }
    }
    forecasts
}

fn forecast(
    device: &Device,
    slot: &ComponentSlot,
    survival: SurvivalCurve,
    prediction_id: Option<String>,
    probability_main: Option<f64>,
) -> SlotForecast {
    SlotForecast {
        device: device.device.clone(),
        component: slot.component.clone(),
        part: slot.part.clone(),
        quantity: slot.quantity,
        depot: device.depot.clone(),
        contract: device.contract.clone(),
        probability_main: probability_main.unwrap_or_else(|| survival.probability_within(1.0)),
        survival,
        prediction_id,
    }
}

/// The rate of a component's class; none where the model is a forest, whose devices all report.
fn prior(model: &Model, kind: Option<&str>, component: &ComponentId) -> Option<SurvivalCurve> {
    match model.family(kind?)?.components.get(component)? {
        ComponentModel::Lifetime { rate_per_day, .. } | ComponentModel::Rate { rate_per_day, .. } => {
            SurvivalCurve::exponential(*rate_per_day).ok()
        }
        ComponentModel::Learnt { .. } => None,
    }
}
