//! A day of one signal of one device over the interface: every reading, and in steps of five minutes.
//!
//! Ours answers `GET /api/v1/devices/{device}/telemetry`, VictoriaMetrics `GET /api/v1/query_range`. Both hold the same days
//! of as many devices as the samples suffice for, compacted and merged, are asked over one kept connection, one question
//! after the other, and were warmed. No question comes twice before all series had their turn, so that an answer kept from
//! the time before helps nobody. An answer must hold the points that were asked for; that is looked at when the clock stands.

use std::time::{Duration, Instant};

use anyhow::ensure;
use harbinger_core::Duration as Length;
use harbinger_tests::keep_alive::Connection;
use rand::seq::SliceRandom;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::Value;

use crate::{
    Arguments,
    contestant::{Contestant, Dialect, Running},
    figures::{Figure, Latencies},
    fill::fill,
    fleet::{BEAT_MS, Fleet, SIGNALS, Values},
    median,
};

const DAY: Length = Length::from_hours(24);
const BEAT: Length = Length::from_millis(BEAT_MS);
const DAY_BEATS: usize = (DAY.millis() / BEAT_MS) as usize;
const FIVE_MINUTES: Length = Length::from_millis(5 * 60_000);

/// A device and a signal.
type Series = (String, String);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    let devices = (arguments.stored / (DAY_BEATS * SIGNALS)).max(1);
    let fleet = || Fleet::new("device", devices, Values::Walk, 0);
    let mut contestants = Vec::new();
    for contestant in [Contestant::Harbinger(Dialect::Native), Contestant::VictoriaMetrics] {
        let Some(running) = Running::start(contestant, arguments)? else { continue };
        fill(&running, fleet()?.take(devices * DAY_BEATS), arguments.connections)?;
        contestants.push(running.settle()?.0);
    }
    let series = shuffled(&fleet()?);
    let mut next = series.iter().cycle();
    let mut figures = Vec::new();
    for step in [None, Some(FIVE_MINUTES)] {
        let mut rounds: Vec<Vec<Latencies>> = contestants.iter().map(|_| Vec::new()).collect();
        for _ in 0..arguments.rounds {
            let asked: Vec<&Series> = next.by_ref().take(arguments.queries + arguments.queries / 10).collect();
            for (running, latencies) in contestants.iter().zip(&mut rounds) {
                latencies.push(ask_all(running, &asked, step, arguments.queries / 10)?);
            }
        }
        let who = contestants.iter().map(|running| running.contestant).zip(&rounds);
        figures.extend(told(step, &who.collect::<Vec<_>>()));
    }
    contestants.into_iter().try_for_each(Running::stop)?;
    Ok(figures)
}

/// Medians over the rounds; ours is to be no slower than theirs at the 99th of a hundred.
fn told(step: Option<Length>, rounds: &[(Contestant, &Vec<Latencies>)]) -> Vec<Figure> {
    let case = match step {
        None => "24 h of one signal, every reading".to_owned(),
        Some(step) => format!("24 h of one signal, steps of {step}"),
    };
    let at = |rounds: &[Latencies], share: f64| median(rounds.iter().map(|latencies| latencies.quantile_ms(share)));
    let mut figures = Vec::new();
    for (who, rounds) in rounds {
        figures.push(Figure::new(&case, format!("{who}, p50"), at(rounds, 0.5), "ms"));
        figures.push(Figure::new(&case, format!("{who}, p99"), at(rounds, 0.99), "ms"));
    }
    if let [(_, ours), (_, theirs)] = rounds {
        let ratios =
            ours.iter().zip(theirs.iter()).map(|(ours, theirs)| theirs.quantile_ms(0.99) / ours.quantile_ms(0.99));
        figures.push(Figure::new(&case, "  VictoriaMetrics' p99 by ours", median(ratios), "x").at_least(1.0));
    }
    figures
}

/// Every series of the fleet once, in an order that is random and always the same.
fn shuffled(fleet: &Fleet) -> Vec<Series> {
    let of_device = |device: &str| {
        let signals = fleet.signals().iter().map(|signal| (device.to_owned(), signal.to_string()));
        signals.collect::<Vec<_>>()
    };
    let mut series: Vec<Series> = fleet.keys().iter().flat_map(|key| of_device(key.device.as_str())).collect();
    series.shuffle(&mut ChaCha8Rng::seed_from_u64(24));
    series
}

/// Asks for each series; the first `warming` are not timed.
fn ask_all(running: &Running, series: &[&Series], step: Option<Length>, warming: usize) -> anyhow::Result<Latencies> {
    let mut connection = running.reader()?;
    let mut latencies: Vec<Duration> = Vec::new();
    for (place, series) in series.iter().enumerate() {
        let latency = ask(running.contestant, &mut connection, series, step)?;
        latencies.extend((place >= warming).then_some(latency));
    }
    Ok(Latencies::new(latencies))
}

fn ask(
    contestant: Contestant,
    connection: &mut Connection,
    (device, signal): &Series,
    step: Option<Length>,
) -> anyhow::Result<Duration> {
    let (from, to) = (Fleet::time_of(0), Fleet::time_of(DAY_BEATS as i64));
    let (path, points): (String, fn(&Value) -> Option<usize>) = match contestant {
        Contestant::Harbinger(_) => {
            let step = step.map_or_else(|| "limit=10000".to_owned(), |step| format!("step={step}"));
            let path = format!("/api/v1/devices/{device}/telemetry?signal={signal}&from={from}&to={to}&{step}");
            (path, |answer| Some(answer["items"].as_array()?.len()))
        }
        _ => {
            // Its range holds both its ends. A step's average is that of the readings before it, as ours.
            let series = format!("harbinger_{signal}{{device=\"{device}\"}}");
            let (query, first, last, step) = match step {
                None => (series, from, to - BEAT, BEAT),
                Some(step) => (format!("avg_over_time({series}[{step}])"), from + step, to, step),
            };
            let query = query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
            let seconds = |millis: i64| millis / 1_000;
            let (first, last, step) = (seconds(first.millis()), seconds(last.millis()), seconds(step.millis()));
            let path = format!("/api/v1/query_range?query={query}&start={first}&end={last}&step={step}");
            (path, |answer| Some(answer["data"]["result"][0]["values"].as_array()?.len()))
        }
    };
    let start = Instant::now();
    let answer = connection.get(&path)?;
    let latency = start.elapsed();
    let expected = (DAY.millis() / step.unwrap_or(BEAT).millis()) as usize;
    let found = points(&answer.json()?);
    ensure!(found == Some(expected), "{contestant}: {path}: {found:?} of {expected} points");
    Ok(latency)
}
