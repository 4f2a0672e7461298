//! Points a second that are acknowledged, in commits of 10,000 points.
//!
//! Payloads are made before the clock runs; each server gets the same points over the same number of connections, each of
//! which waits for the answer before the next payload. One beat of the whole fleet goes ahead, so that devices, series and
//! tables are known to all. Each measurement has a fresh server on a fresh folder, and is alone on the machine with its
//! client. Ours and PostgreSQL answer when the data is synced; VictoriaMetrics answers before, so it is given something.

use std::{sync::Barrier, time::Instant};

use harbinger_core::Reading;

use crate::{
    Arguments,
    contestant::{Contestant, Dialect, Running, Table, Writer},
    figures::Figure,
    fill::fill,
    fleet::{Fleet, SIGNALS, Values},
    median,
    payload::{self, SAMPLES},
};

/// Ours, in the dialect whose bytes VictoriaMetrics is sent too.
const OURS: Contestant = Contestant::Harbinger(Dialect::LineProtocol);
/// Ours in its own dialect, which is told beside.
const NATIVE: Contestant = Contestant::Harbinger(Dialect::Native);

/// Beside whom, and how many times as fast ours is to be.
const PEERS: [(Contestant, f64); 4] = [
    (Contestant::VictoriaMetrics, 2.0),
    (Contestant::Postgres(Table::Wide), 1.0),
    (Contestant::Postgres(Table::WideIndexed), 1.0),
    (Contestant::Postgres(Table::NarrowIndexed), 1.0),
];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    let (mut ours, mut native) = (Vec::new(), Vec::new());
    let mut theirs: Vec<Vec<f64>> = vec![Vec::new(); PEERS.len()];
    for round in 0..arguments.rounds {
        ours.extend(rate(OURS, arguments, round)?);
        native.extend(rate(NATIVE, arguments, round)?);
        for ((peer, _), rates) in PEERS.iter().zip(&mut theirs) {
            rates.extend(rate(*peer, arguments, round)?);
        }
    }
    let case = "ingest";
    let told = |who: Contestant, rates: &[f64]| {
        Figure::new(case, format!("{who}, median"), median(rates.iter().copied()), "samples/s")
    };
    let mut figures = vec![told(OURS, &ours), told(NATIVE, &native)];
    for ((peer, goal), rates) in PEERS.iter().zip(&theirs).filter(|(_, rates)| !rates.is_empty()) {
        let ratio = median(ours.iter().zip(rates).map(|(ours, theirs)| ours / theirs));
        figures.push(told(*peer, rates));
        figures.push(Figure::new(case, format!("  harbinger beside {peer}"), ratio, "x").at_least(*goal));
    }
    Ok(figures)
}

/// Samples a second of one contestant; `None` where it is not installed.
fn rate(contestant: Contestant, arguments: &Arguments, round: usize) -> anyhow::Result<Option<f64>> {
    let Some(running) = Running::start(contestant, arguments)? else { return Ok(None) };
    let mut fleet = Fleet::new("device", arguments.devices, Values::Walk, 0)?;
    fill(&running, fleet.by_ref().take(arguments.devices), arguments.connections)?;
    let payloads = arguments.samples.div_ceil(SAMPLES);
    let payloads: Vec<Payload> = (0..payloads).map(|_| Payload::next(contestant, &mut fleet)).collect();
    let rate = write_all(&running, payloads, arguments.connections)?;
    running.stop()?;
    eprintln!("round {}: {contestant}: {rate:.0} samples/s", round + 1);
    Ok(Some(rate))
}

struct Payload {
    bytes: Vec<u8>,
    readings: usize,
}

impl Payload {
    fn next(contestant: Contestant, fleet: &mut Fleet) -> Self {
        let readings: Vec<Reading> = fleet.take(SAMPLES / SIGNALS).collect();
        Self { bytes: payload::encode(contestant, &readings), readings: readings.len() }
    }
}

/// Writes payloads over some connections, which take turns in time's order; samples a second.
fn write_all(running: &Running, payloads: Vec<Payload>, connections: usize) -> anyhow::Result<f64> {
    let samples: usize = payloads.iter().map(|payload| payload.readings * SIGNALS).sum();
    let mut shares: Vec<Vec<Payload>> = (0..connections).map(|_| Vec::new()).collect();
    for (place, payload) in payloads.into_iter().enumerate() {
        shares[place % connections].push(payload);
    }
    let begin = Barrier::new(connections + 1);
    let write = |mut writer: Writer, share: Vec<Payload>| {
        begin.wait();
        share.iter().try_for_each(|payload| writer.write(&payload.bytes, payload.readings))
    };
    let writers = running.writers(connections)?;
    std::thread::scope(|scope| {
        let write = &write;
        let pairs = writers.into_iter().zip(shares);
        let writing: Vec<_> = pairs.map(|(writer, share)| scope.spawn(move || write(writer, share))).collect();
        begin.wait();
        let start = Instant::now();
        writing.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))?;
        Ok(samples as f64 / start.elapsed().as_secs_f64())
    })
}
