//! Filling a server over several connections, payload by payload, with readings that are made meanwhile.

use std::sync::{Mutex, PoisonError};

use harbinger_core::Reading;

use crate::{
    contestant::{Running, Writer},
    fleet::SIGNALS,
    payload::{self, SAMPLES},
};

/// Writes all readings; how many samples they hold.
pub(crate) fn fill(
    running: &Running,
    readings: impl Iterator<Item = Reading> + Send,
    connections: usize,
) -> anyhow::Result<u64> {
    let (contestant, readings) = (running.contestant, Mutex::new(readings));
    let next = || {
        let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.by_ref().take(SAMPLES / SIGNALS).collect::<Vec<_>>()
    };
    let write = |mut writer: Writer| {
        let mut samples = 0;
        loop {
            let batch = next();
            if batch.is_empty() {
                return Ok(samples);
            }
            writer.write(&payload::encode(contestant, &batch), batch.len())?;
            samples += batch.iter().map(|reading| reading.values.len() as u64).sum::<u64>();
        }
    };
    let writers = running.writers(connections)?;
    std::thread::scope(|scope| {
        let writing: Vec<_> = writers.into_iter().map(|writer| scope.spawn(|| write(writer))).collect();
        writing.into_iter().map(|writer| writer.join().expect("a writer does not panic")).sum()
    })
}
