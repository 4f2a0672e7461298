//! What the embedded store keeps in memory: the catalogue, what each device has, and the tail - readings that are in the log
//! and not yet in chunks.
//!
//! The tail has two layers. Appends go to the *live* one; a compaction *freezes* it, moves it into chunks while it stays
//! readable, and lets it go after the chunks are committed. A sample in the live layer outweighs one in the frozen layer,
//! which outweighs one in a chunk.
//!
//! **Invariant**: only the writer thread adds readings and numbers, and only after the transaction that holds them has
//! committed; only the compactor thread drops the frozen layer, after its readings are in committed chunks. So a reader who
//! copies the tail first and reads chunks afterwards misses nothing.

use std::sync::Arc;

use super::{chunk::Span, log::GroupReading};
use crate::telemetry::{
    catalog::{Catalog, DeviceNumber, widen},
    rows::{Rows, SignalNumber},
};

/// Earliest and latest event time in milliseconds.
pub(super) type Extent = Option<(i64, i64)>;

/// What is known of a device without reading anything of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    /// Of its readings, in tail and chunks.
    pub(super) readings: Extent,
    /// Of its events.
    pub(super) events: Extent,
    /// The span of its newest chunks.
    pub(super) span: Option<Span>,
    /// Every signal in its chunks.
    pub(super) chunk_signals: Vec<SignalNumber>,
    /// The instant before which its readings are past their retention; summaries may tell of them.
    pub(super) forgotten: Option<i64>,
}

/// Readings by device.
#[derive(Debug, Default)]
pub(super) struct Layer {
    devices: Vec<Option<Box<Rows>>>,
    readings: u64,
    samples: u64,
}

impl Layer {
    /// Readings put in; one that was repeated counts again.
    pub(super) fn readings(&self) -> u64 {
        self.readings
    }

    /// Samples put in; one that was repeated counts again.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    pub(super) fn rows(&self, device: DeviceNumber) -> Option<&Rows> {
        self.devices.get(device as usize)?.as_deref()
    }

    /// The devices that have readings here.
    pub(super) fn devices(&self) -> impl Iterator<Item = (DeviceNumber, &Rows)> {
        (0..).zip(&self.devices).filter_map(|(number, rows)| Some((number, rows.as_deref()?)))
    }

    fn put(&mut self, reading: &GroupReading<'_>) {
        let device = reading.device as usize;
        if self.devices.len() <= device {
            self.devices.resize_with(device + 1, || None);
        }
        if let Some(place) = self.devices.get_mut(device) {
            place.get_or_insert_default().put(reading.ts, reading.signals, reading.values);
        }
        self.readings += 1;
        self.samples += reading.values.len() as u64;
    }
}

/// A layer on its way into chunks.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub(super) layer: Arc<Layer>,
    /// It holds the log rows up to this sequence.
    pub(super) through: i64,
}

/// Everything that is held in memory.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) catalog: Catalog,
    devices: Vec<Device>,
    live: Layer,
    pub(super) frozen: Option<Frozen>,
}

impl Tail {
    pub(super) fn live(&self) -> &Layer {
        &self.live
    }

    pub(super) fn device(&self, number: DeviceNumber) -> Option<&Device> {
        self.devices.get(number as usize)
    }

    /// What is known of a device, made where it is new.
    pub(super) fn device_mut(&mut self, number: DeviceNumber) -> &mut Device {
        let place = number as usize;
        if self.devices.len() <= place {
            self.devices.resize_with(place + 1, Device::default);
        }
        self.devices.get_mut(place).expect("resized above to hold the device")
    }

    /// The layers from newest to oldest.
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        [Some(&self.live), self.frozen.as_ref().map(|frozen| &*frozen.layer)].into_iter().flatten()
    }

    /// Event time of a device's newest reading, in tail and chunks.
    pub(super) fn newest(&self, device: DeviceNumber) -> Option<i64> {
        self.device(device)?.readings.map(|(_, last)| last)
    }

    /// A sample that has not reached a chunk.
    pub(super) fn sample(&self, device: DeviceNumber, ts: i64, signal: SignalNumber) -> Option<f64> {
        self.layers().find_map(|layer| layer.rows(device)?.sample(ts, signal))
    }

    /// A device's readings with `from <= ts < to` that have not reached a chunk.
    pub(super) fn slice(&self, device: DeviceNumber, from: i64, to: i64) -> Rows {
        let mut all = Rows::default();
        for layer in self.layers().rev() {
            let Some(rows) = layer.rows(device) else { continue };
            if all.is_empty() {
                all = rows.slice(from, to);
            } else {
                all.overlay(&rows.slice(from, to));
            }
        }
        all
    }

    /// Earliest and latest reading of a device that has not reached a chunk.
    pub(super) fn extent(&self, device: DeviceNumber) -> Extent {
        let mut all = None;
        for (first, last) in self.layers().filter_map(|layer| layer.rows(device)?.extent()) {
            widen(&mut all, first);
            widen(&mut all, last);
        }
        all
    }

    /// Takes a committed reading.
    pub(super) fn put(&mut self, reading: &GroupReading<'_>) {
        self.live.put(reading);
        widen(&mut self.device_mut(reading.device).readings, reading.ts);
    }

    /// Freezes the live layer, which holds the log up to `through`. What is frozen already stays so.
    pub(super) fn freeze(&mut self, through: i64) {
        if self.frozen.is_none() && self.live.readings > 0 {
            self.frozen = Some(Frozen { layer: Arc::new(std::mem::take(&mut self.live)), through });
        }
    }

    /// Readings in both layers.
    pub(super) fn readings(&self) -> u64 {
        self.layers().map(Layer::readings).sum()
    }

    /// Samples in both layers.
    pub(super) fn samples(&self) -> u64 {
        self.layers().map(Layer::samples).sum()
    }
}
