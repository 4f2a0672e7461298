//! Writing a registry and what people recorded.

use harbinger_core::fleet::{
    ComponentSlot, Consumption, Contract, Depot, Device, Fleet, HardwareModel, Lane, Maintenance, Part, SignalSpec,
    StockLevel,
};
use serde::Serialize;

use super::{Api, Error, Written};

/// Devices of one request: some 5 MB, far below the largest body, and short enough not to hold the ledger for long.
const DEVICES_MAX: usize = 20_000;
/// Records of one request.
const RECORDS_MAX: usize = 5_000;

/// A registry, or a part of it, as the API takes it.
#[derive(Default, Serialize)]
struct Document<'a> {
    models: &'a [HardwareModel],
    signals: &'a [SignalSpec],
    components: &'a [ComponentSlot],
    parts: &'a [Part],
    depots: &'a [Depot],
    lanes: &'a [Lane],
    contracts: &'a [Contract],
    devices: &'a [Device],
    stock: &'a [StockLevel],
}

#[derive(Serialize)]
struct Batch<'a, T> {
    items: &'a [T],
}

/// The answer says how many of each; nobody here needs it.
#[derive(serde::Deserialize)]
struct Imported {}

impl Api {
    /// Writes registry and stock: in one piece, or with the devices beyond the first many in further ones.
    pub(crate) async fn write_fleet(&self, fleet: &Fleet) -> Result<(), Error> {
        let (first, rest) = fleet.devices.split_at(fleet.devices.len().min(DEVICES_MAX));
        let document = Document {
            models: &fleet.models,
            signals: &fleet.signals,
            components: &fleet.components,
            parts: &fleet.parts,
            depots: &fleet.depots,
            lanes: &fleet.lanes,
            contracts: &fleet.contracts,
            devices: first,
            stock: &fleet.stock,
        };
        let Imported {} = self.post("/api/v1/fleet", &document).await?;
        for devices in rest.chunks(DEVICES_MAX) {
            let Imported {} = self.post("/api/v1/fleet", &Document { devices, ..Document::default() }).await?;
        }
        Ok(())
    }

    /// Records what was done to devices; a repeat changes nothing.
    pub(crate) async fn write_maintenance(&self, records: &[Maintenance]) -> Result<u64, Error> {
        self.write_batches("/api/v1/maintenance", records).await
    }

    /// Records part use; a repeat changes nothing.
    pub(crate) async fn write_consumption(&self, used: &[Consumption]) -> Result<u64, Error> {
        self.write_batches("/api/v1/consumption", used).await
    }

    async fn write_batches<T: Serialize>(&self, path: &str, rows: &[T]) -> Result<u64, Error> {
        let mut taken = 0;
        for items in rows.chunks(RECORDS_MAX) {
            let Written { written } = self.post(path, &Batch { items }).await?;
            taken += written;
        }
        Ok(taken)
    }
}
