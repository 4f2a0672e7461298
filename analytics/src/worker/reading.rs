//! What a cycle reads from the stores, in the same types that a fleet bundle gives.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use harbinger_core::{
    DeviceId, DeviceKey, Duration, TenantId, TimeRange, Timestamp,
    fleet::{Failure, Fleet, Maintenance, MaintenanceAction, MaintenanceReason},
    history::DeviceHistory,
};
use harbinger_store::{
    Ledger, ledger,
    ledger::{predictions, registry},
    telemetry::{self, DeviceExtent, SharedStore},
};

use crate::{
    failure::{Observed, Subject},
    features::baseline_begin,
    plan::Newest,
};

/// Devices whose readings tell how often the fleet reports.
const CADENCE_SAMPLE: usize = 200;

/// The registry and what was done to devices at or before a time.
pub(super) struct Known {
    pub(super) fleet: Arc<Fleet>,
    pub(super) maintenance: Vec<Maintenance>,
}

impl Known {
    pub(super) async fn load(ledger: &Ledger, tenant: &TenantId, at: Timestamp) -> Result<Self, ledger::Error> {
        let mut read = ledger.read().await?;
        let mut fleet = registry::load_fleet(&mut read, tenant).await?;
        fleet.devices.sort_by(|a, b| a.device.cmp(&b.device));
        let until = TimeRange { from: Timestamp::MIN, to: at + Duration::from_millis(1) };
        let maintenance = registry::list_maintenance(&mut read, tenant, None, until, None, usize::MAX).await?;
        Ok(Self { fleet: Arc::new(fleet), maintenance })
    }
}

/// Failures known at or before `at`.
pub(super) fn failures_until(known: &Known, at: Timestamp) -> usize {
    known.maintenance.iter().filter(|m| m.ts <= at && is_failure(m)).count()
}

pub(super) fn is_failure(record: &Maintenance) -> bool {
    record.action == MaintenanceAction::Replaced && record.reason == MaintenanceReason::Failure
}

/// Some devices spread over the fleet.
pub(super) fn first_devices(tenant: &TenantId, extents: &[DeviceExtent]) -> Vec<DeviceKey> {
    let stride = (extents.len() / CADENCE_SAMPLE).max(1);
    let some = extents.iter().step_by(stride).take(CADENCE_SAMPLE);
    some.map(|extent| DeviceKey::new(tenant.clone(), extent.device.clone())).collect()
}

/// Histories of all registered devices: readings and events in `(from, at]`, all maintenance until then.
pub(super) async fn histories(
    store: &SharedStore,
    tenant: &TenantId,
    known: &Known,
    from: Timestamp,
    at: Timestamp,
) -> Result<BTreeMap<DeviceId, DeviceHistory>, telemetry::Error> {
    let after = Duration::from_millis(1);
    let range = TimeRange { from: from + after, to: at + after };
    let devices: Vec<DeviceId> = known.fleet.devices.iter().map(|device| device.device.clone()).collect();
    let keys = devices.iter().map(|device| DeviceKey::new(tenant.clone(), device.clone())).collect();
    let readings = store.scan_many(keys, range).await?;
    let mut histories: BTreeMap<DeviceId, DeviceHistory> = devices
        .into_iter()
        .zip(readings)
        .map(|(device, readings)| (device, DeviceHistory { readings, ..DeviceHistory::default() }))
        .collect();
    for event in store.events(tenant, None, range).await? {
        if let Some(history) = histories.get_mut(&event.key.device) {
            history.events.push(event);
        }
    }
    for record in &known.maintenance {
        if let Some(history) = histories.get_mut(&record.device) {
            if is_failure(record) {
                let Maintenance { ts, device, component, .. } = record.clone();
                history.failures.push(Failure { ts, device, component });
            }
            history.maintenance.push(record.clone());
        }
    }
    Ok(histories)
}

/// Readings and events of a device in `[from, to]`.
pub(super) async fn history(
    store: &SharedStore,
    tenant: &TenantId,
    device: &DeviceId,
    from: Timestamp,
    to: Timestamp,
) -> Result<DeviceHistory, telemetry::Error> {
    let range = TimeRange { from, to: to + Duration::from_millis(1) };
    let keys = vec![DeviceKey::new(tenant.clone(), device.clone())];
    let readings = store.scan_many(keys, range).await?.pop().unwrap_or_default();
    let events = store.events(tenant, Some(device), range).await?;
    Ok(DeviceHistory { readings, events, ..DeviceHistory::default() })
}

/// Puts before the readings of histories, which begin behind `from`, those of each device's baseline, as far as they are older:
/// what a feature compares with may lie years back. Between them nothing is read.
///
/// * `length`: of a baseline.
pub(super) async fn prepend_baselines(
    store: &SharedStore,
    tenant: &TenantId,
    histories: &mut BTreeMap<DeviceId, DeviceHistory>,
    extents: &[DeviceExtent],
    from: Timestamp,
    length: Duration,
) -> Result<(), telemetry::Error> {
    let after = Duration::from_millis(1);
    // Most devices of a fleet begin together, and are read together.
    let mut together: BTreeMap<TimeRange, Vec<DeviceId>> = BTreeMap::new();
    for extent in extents {
        let (Some(history), Some((first, _))) = (histories.get(&extent.device), extent.readings) else { continue };
        let begin = baseline_begin(&history.maintenance, from).unwrap_or(first);
        if begin <= from {
            let range = TimeRange { from: begin, to: (begin + length).min(from) + after };
            together.entry(range).or_default().push(extent.device.clone());
        }
    }
    for (range, devices) in together {
        let keys = devices.iter().map(|device| DeviceKey::new(tenant.clone(), device.clone())).collect();
        for (device, earlier) in devices.iter().zip(store.scan_many(keys, range).await?) {
            if let Some(history) = histories.get_mut(device) {
                history.readings = earlier.followed_by(std::mem::take(&mut history.readings));
            }
        }
    }
    Ok(())
}

/// Subjects in order of device id, each observed as the registry or its readings in the store say.
pub(super) fn subjects<'a>(
    fleet: &'a Fleet,
    histories: &'a BTreeMap<DeviceId, DeviceHistory>,
    extents: &[DeviceExtent],
) -> Vec<Subject<'a>> {
    let readings: HashMap<&DeviceId, Option<(Timestamp, Timestamp)>> =
        extents.iter().map(|extent| (&extent.device, extent.readings)).collect();
    fleet
        .devices
        .iter()
        .filter_map(|device| {
            let history = histories.get(&device.device)?;
            let seen = readings.get(&device.device).copied().flatten();
            Some(Subject { device, history, observed: Observed::of(device, seen) })
        })
        .collect()
}

/// The newest predictions at or before `at`, of slots that were scored within the last step.
pub(super) async fn newest_predictions(
    ledger: &Ledger,
    tenant: &TenantId,
    at: Timestamp,
    every: Duration,
) -> Result<Vec<Newest>, ledger::Error> {
    let mut read = ledger.read().await?;
    let filter = predictions::Filter {
        range: TimeRange { from: at - every + Duration::from_millis(1), to: at + Duration::from_millis(1) },
        latest: true,
        ..predictions::Filter::default()
    };
    let rows = predictions::list(&mut read, tenant, &filter, None, usize::MAX).await?;
    let newest = |row: predictions::Prediction| Newest {
        prediction_id: row.id(),
        device: row.device,
        component: row.component,
        probabilities: row.probabilities,
    };
    Ok(rows.into_iter().map(newest).collect())
}
