//! Devices that the lines of a request name: each has a place, so that what belongs to it is found without its name.

use std::collections::HashMap;

use harbinger_core::{DeviceId, DeviceKey, TenantId, ids::InvalidId};

/// Devices of one tenant, in order of first appearance.
#[derive(Debug)]
pub(crate) struct Devices {
    tenant: TenantId,
    keys: Vec<DeviceKey>,
    places: HashMap<DeviceId, usize>,
}

impl Devices {
    pub(crate) fn of(tenant: TenantId) -> Self {
        Self { tenant, keys: Vec::new(), places: HashMap::new() }
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The place of a device, which is a new one where the device is.
    pub(crate) fn place(&mut self, name: &str) -> Result<usize, InvalidId> {
        if let Some(&known) = self.places.get(name) {
            return Ok(known);
        }
        let device = DeviceId::parse(name)?;
        let place = self.keys.len();
        self.keys.push(DeviceKey::new(self.tenant.clone(), device.clone()));
        self.places.insert(device, place);
        Ok(place)
    }

    pub(crate) fn key(&self, place: usize) -> Option<&DeviceKey> {
        self.keys.get(place)
    }
}
