//! The catalogue: a small number for every device and every signal, so that readings are kept, compared and logged without
//! their names.

use std::collections::HashMap;

use harbinger_core::{DeviceId, DeviceKey, Reading, SignalId, TenantId};

use super::rows::SignalNumber;

/// Number of a device in the [`Catalog`].
pub(super) type DeviceNumber = u32;

/// The reserved signal that marks a reading whose time is the time of its arrival: such a reading gets one more sample,
/// of this signal, with value 1.
pub const ARRIVAL_SIGNAL: &str = "_arrival";

/// What stands for names that are lost, because their row in a file is damaged: as tenant, and before device and signal
/// numbers. Nobody is served what is kept under it.
const NAMELESS: &str = "_damaged-";

/// Whether a device stands for one whose name is lost.
pub(super) fn is_nameless(key: &DeviceKey) -> bool {
    key.tenant.as_str() == NAMELESS
}

/// Stands for a signal whose name is lost.
pub(super) fn nameless_signal(number: SignalNumber) -> SignalId {
    SignalId::parse(&format!("{NAMELESS}{number}")).expect("a short text without reserved characters is an id")
}

/// Numbers for devices and signals, given in order of first appearance from 0 on and never given twice.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    devices: Vec<DeviceKey>,
    device_numbers: HashMap<DeviceKey, DeviceNumber>,
    signals: Vec<SignalId>,
    signal_numbers: HashMap<SignalId, SignalNumber>,
    arrival: SignalId,
    /// The number at each place of the reading before: most readings have the same signals in the same order, and to compare
    /// one name is quicker than to hash it.
    guesses: Vec<SignalNumber>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            device_numbers: HashMap::new(),
            signals: Vec::new(),
            signal_numbers: HashMap::new(),
            arrival: SignalId::parse(ARRIVAL_SIGNAL).expect("the reserved name is a valid id"),
            guesses: Vec::new(),
        }
    }
}

impl Catalog {
    /// How many devices and signals there are: numbers from these on were given later.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.devices.len(), self.signals.len())
    }

    /// Takes back all numbers given since `mark`: the transaction that was to record them has failed.
    pub(super) fn roll_back(&mut self, (devices, signals): (usize, usize)) {
        for key in self.devices.drain(devices..) {
            self.device_numbers.remove(&key);
        }
        for signal in self.signals.drain(signals..) {
            self.signal_numbers.remove(&signal);
        }
    }

    /// The devices from number `from` on.
    pub(super) fn devices_from(&self, from: usize) -> impl Iterator<Item = (DeviceNumber, &DeviceKey)> {
        (0..).zip(&self.devices).skip(from)
    }

    /// The signals from number `from` on.
    pub(super) fn signals_from(&self, from: usize) -> impl Iterator<Item = (SignalNumber, &SignalId)> {
        (0..).zip(&self.signals).skip(from)
    }

    pub(super) fn device(&self, number: DeviceNumber) -> Option<&DeviceKey> {
        self.devices.get(number as usize)
    }

    /// What a signal's number stands for; nothing where its name is lost.
    pub(super) fn signal(&self, number: SignalNumber) -> Option<&SignalId> {
        self.signals.get(number as usize).filter(|signal| !signal.as_str().starts_with(NAMELESS))
    }

    /// Numbers a device whose name is lost.
    pub(super) fn number_nameless_device(&mut self) -> DeviceNumber {
        let number = self.devices.len() as DeviceNumber;
        let tenant = TenantId::parse(NAMELESS).expect("a short text without reserved characters is an id");
        let device = DeviceId::parse(&format!("{NAMELESS}{number}")).expect("as above");
        self.number_device(&DeviceKey::new(tenant, device))
    }

    /// Numbers devices whose rows are lost, up to `number`; which they are.
    pub(super) fn number_nameless_devices(&mut self, number: DeviceNumber) -> Vec<DeviceNumber> {
        (self.devices.len()..number as usize).map(|_| self.number_nameless_device()).collect()
    }

    /// Numbers a signal whose name is lost.
    pub(super) fn number_nameless_signal(&mut self) -> SignalNumber {
        let signal = nameless_signal(self.signals.len() as SignalNumber);
        self.number_signal(&signal)
    }

    /// Numbers signals whose rows are lost, up to `number`; which they are.
    pub(super) fn number_nameless_signals(&mut self, number: SignalNumber) -> Vec<SignalNumber> {
        (self.signals.len()..number as usize).map(|_| self.number_nameless_signal()).collect()
    }

    /// The number of a device that has one.
    pub(super) fn find_device(&self, key: &DeviceKey) -> Option<DeviceNumber> {
        self.device_numbers.get(key).copied()
    }

    /// The number of a signal that has one.
    pub(super) fn find_signal(&self, signal: &SignalId) -> Option<SignalNumber> {
        self.signal_numbers.get(signal).copied()
    }

    /// The number of a device, given now where it has none.
    pub(super) fn number_device(&mut self, key: &DeviceKey) -> DeviceNumber {
        if let Some(&number) = self.device_numbers.get(key) {
            return number;
        }
        let number = DeviceNumber::try_from(self.devices.len()).expect("four billion devices do not fit into memory");
        self.devices.push(key.clone());
        self.device_numbers.insert(key.clone(), number);
        number
    }

    /// The number of a signal, given now where it has none.
    pub(super) fn number_signal(&mut self, signal: &SignalId) -> SignalNumber {
        if let Some(&number) = self.signal_numbers.get(signal) {
            return number;
        }
        let number = SignalNumber::try_from(self.signals.len()).expect("four billion signals do not fit into memory");
        self.signals.push(signal.clone());
        self.signal_numbers.insert(signal.clone(), number);
        number
    }

    /// The number of the signal at a place of a reading.
    fn number_signal_at(&mut self, place: usize, signal: &SignalId) -> SignalNumber {
        let guess = self.guesses.get(place).copied();
        if let Some(number) = guess.filter(|&number| self.signal(number) == Some(signal)) {
            return number;
        }
        let number = self.number_signal(signal);
        match self.guesses.get_mut(place) {
            Some(guess) => *guess = number,
            None => self.guesses.push(number),
        }
        number
    }

    /// Writes the samples of a reading behind `signals` and `values`, the mark of arrival among them. Not a number is not
    /// a sample and is left out.
    pub(super) fn number_samples(&mut self, reading: &Reading, signals: &mut Vec<SignalNumber>, values: &mut Vec<f64>) {
        for (place, (signal, value)) in reading.values.iter().filter(|(_, value)| !value.is_nan()).enumerate() {
            signals.push(self.number_signal_at(place, signal));
            values.push(*value);
        }
        if reading.arrival {
            let arrival = self.arrival.clone();
            signals.push(self.number_signal(&arrival));
            values.push(1.0);
        }
    }
}

/// Widens `extent`, the earliest and latest of some times, to hold `ts`.
pub(super) fn widen(extent: &mut Option<(i64, i64)>, ts: i64) {
    *extent = Some(extent.map_or((ts, ts), |(first, last)| (first.min(ts), last.max(ts))));
}
