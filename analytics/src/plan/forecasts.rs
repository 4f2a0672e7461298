//! From the newest predictions and the work orders to what each installed slot is likely to need.

use std::collections::{BTreeMap, HashMap, HashSet};

use harbinger_core::{
    ComponentId, DeviceId, Duration, HardwareModelId, Timestamp,
    fleet::{ComponentSlot, Device, Fleet},
};
use harbinger_store::ledger::work_orders::WorkOrder;

use super::{Served, SlotForecast};
use crate::{
    failure::{ComponentModel, Model, Prediction, curve},
    survival::SurvivalCurve,
};

/// The newest prediction of a slot, as far as a plan needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// The device.
    pub device: DeviceId,
    /// Its component slot.
    pub component: ComponentId,
    /// P(failure within each of the model's horizons).
    pub probabilities: Vec<f64>,
    /// The id under which the prediction is kept.
    pub prediction_id: String,
}

impl Newest {
    /// Of a prediction that is or will be kept.
    #[must_use]
    pub fn of(prediction: &Prediction) -> Self {
        Self {
            device: prediction.device.clone(),
            component: prediction.component.clone(),
            probabilities: prediction.probabilities.clone(),
            prediction_id: prediction.id(),
        }
    }
}

/// A forecast for each installed slot: from its prediction, or from its class where it never reported.
///
/// * `reported`: devices that have reported before; one of them without a prediction has gone, and needs no spare. A device
///   that never reported is expected to fail as its class does.
/// * `as_of`: now; a device that will move is forecast at the depot that serves it until then, and at the other.
#[must_use]
pub fn forecasts(
    fleet: &Fleet,
    model: &Model,
    newest: &[Newest],
    reported: &HashSet<DeviceId>,
    as_of: Timestamp,
) -> Vec<SlotForecast> {
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
            let forecast = forecast(device, slot, survival, prediction_id, probability_main);
            match (&device.moves_to, device.moves_at) {
                (Some(later), Some(at)) if at > as_of => {
                    let until_days = at.days_since(as_of);
                    let served = Served { from_days: until_days, ..Served::ALWAYS };
                    forecasts.push(SlotForecast { depot: later.clone(), served, ..forecast.clone() });
                    forecasts.push(SlotForecast { served: Served { until_days, ..Served::ALWAYS }, ..forecast });
                }
                _ => forecasts.push(SlotForecast { depot: device.depot_at(as_of).clone(), ..forecast }),
            }
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
        served: Served::ALWAYS,
        contract: device.contract.clone(),
        probability_main: probability_main.unwrap_or_else(|| survival.probability_within(1.0)),
        survival,
        prediction_id,
        work_order_id: None,
    }
}

/// Puts each planned replacement in the place of the chance that its slot fails: certain at its date, or now where that has
/// passed. Pieces that are reserved for it are left out, here as among those that the shelf has for others.
///
/// Source: maths of pre-positioning, section 5.11.
#[must_use]
pub fn plan_replacements(
    mut forecasts: Vec<SlotForecast>,
    fleet: &Fleet,
    open: &[WorkOrder],
    as_of: Timestamp,
) -> Vec<SlotForecast> {
    let planned: HashSet<(&DeviceId, &ComponentId)> =
        open.iter().map(|order| (&order.device, &order.component)).collect();
    if planned.is_empty() {
        return forecasts;
    }
    forecasts.retain(|slot| !planned.contains(&(&slot.device, &slot.component)));
    let devices: HashMap<&DeviceId, &Device> = fleet.devices.iter().map(|device| (&device.device, device)).collect();
    forecasts.extend(open.iter().filter(|order| order.missing() > 0).map(|order| {
        let until_due = Duration::from_millis(order.due_at.millis().saturating_sub(as_of.millis()));
        let survival = SurvivalCurve::certain_at(until_due.days());
        SlotForecast {
            device: order.device.clone(),
            component: order.component.clone(),
            part: order.part.clone(),
            quantity: order.missing(),
            depot: order.depot.clone(),
            served: Served::ALWAYS,
            contract: devices.get(&order.device).and_then(|device| device.contract.clone()),
            probability_main: survival.probability_within(1.0),
            survival,
            prediction_id: None,
            work_order_id: Some(order.work_order_id.clone()),
        }
    }));
    forecasts
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
