//! Which devices a request means, and how far their readings go.

use std::collections::BTreeSet;

use harbinger_core::{DeviceId, DeviceKey, TenantId, Timestamp, fleet::Device};
use harbinger_store::{ledger::registry, telemetry::DeviceExtent};

use super::asked::RangeParameters;
use crate::{
    errors::{Code, Error, Result},
    state::ApiState,
};

/// Most devices that a request may name.
const NAMED_MAX: usize = 1_000;

/// Devices that exist.
#[derive(Debug)]
pub(super) struct Found {
    /// In rising order.
    pub(super) devices: Vec<DeviceId>,
    /// Event time of the newest reading of any of them.
    pub(super) newest: Option<Timestamp>,
}

impl Found {
    fn new(devices: Vec<DeviceId>, extents: &[DeviceExtent]) -> Self {
        let within = extents.iter().filter(|extent| devices.binary_search(&extent.device).is_ok());
        let newest = within.filter_map(|extent| extent.readings).map(|(_, last)| last).max();
        Self { devices, newest }
    }
}

/// The devices that are named, or all of the tenant, as far as they are of the model and at the depot that are named.
pub(super) async fn find(state: &ApiState, tenant: &TenantId, parameters: &RangeParameters) -> Result<Found> {
    let together = super::super::words(parameters.device.as_deref(), "device")?;
    let each = parameters.devices.iter().map(|device| super::super::word(device, "device"));
    let named: BTreeSet<DeviceId> = together.into_iter().map(Ok).chain(each).collect::<Result<_>>()?;
    if named.len() > NAMED_MAX {
        let detail = format!("query: device: {} are named, at most {NAMED_MAX} may be", named.len());
        return Err(Error::new(Code::BadRequest, detail));
    }
    let extents = state.telemetry.extents(tenant).await?;
    let has_reported = |device: &DeviceId| extents.binary_search_by(|extent| extent.device.cmp(device)).is_ok();
    let mut connection = state.ledger.read().await?;
    for device in named.iter().filter(|device| !has_reported(device)) {
        if !registry::known_device(&mut connection, tenant, device).await? {
            return Err(Error::not_found("device", device.as_str()));
        }
    }
    let filtered = parameters.model.is_some() || parameters.depot.is_some();
    if !named.is_empty() && !filtered {
        return Ok(Found::new(named.into_iter().collect(), &extents));
    }
    let registered: Vec<Device> = registry::list(&mut connection, tenant, None, usize::MAX).await?;
    drop(connection);
    let fits = |row: &&Device| {
        parameters.model.as_ref().is_none_or(|model| row.model == *model)
            && parameters.depot.as_ref().is_none_or(|depot| row.depot == *depot)
    };
    // What reports without being registered has neither model nor depot.
    let unregistered = extents.iter().map(|extent| &extent.device).filter(|_| !filtered);
    let all: BTreeSet<&DeviceId> = registered.iter().filter(fits).map(|row| &row.device).chain(unregistered).collect();
    let wanted = all.into_iter().filter(|device| named.is_empty() || named.contains(*device));
    Ok(Found::new(wanted.cloned().collect(), &extents))
}

/// One device, known to exist.
pub(super) async fn find_one(state: &ApiState, key: DeviceKey) -> Result<Found> {
    let latest = state.telemetry.latest(&key).await?;
    let newest = latest.iter().map(|latest| latest.ts).max();
    if newest.is_none() {
        let mut connection = state.ledger.read().await?;
        if !registry::known_device(&mut connection, &key.tenant, &key.device).await? {
            return Err(Error::not_found("device", key.device.as_str()));
        }
    }
    Ok(Found { devices: vec![key.device], newest })
}

/// One device, which exists if it has readings.
pub(super) fn take(key: DeviceKey) -> Found {
    Found { devices: vec![key.device], newest: None }
}
