//! Training and scoring on a small fleet whose failures announce themselves, and on data that are not as they should be.

use harbinger_core::{
    ComponentId, SignalId,
    fleet::{ComponentSlot, Failure, HardwareModel, Maintenance, MaintenanceAction, MaintenanceReason},
};
use harbinger_store::ledger::predictions::PredictionKey;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    forest::{Forest, ForestOptions},
    *,
};
use crate::boosting::BoostingOptions;

mod explained;

pub(super) type Histories = BTreeMap<DeviceId, DeviceHistory>;

const DAYS: i64 = 30;

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub(super) fn hour(n: i64) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000) + Duration::from_hours(n)
}

/// A device of the model.
pub(super) fn pump(device: &str) -> Device {
    Device {
        device: id(device),
        tenant: id("acme"),
        model: id("p1"),
        depot: id("north"),
        serial: None,
        site: None,
        contract: None,
        installed_at: None,
        observed_from: None,
        observed_until: None,
        moves_to: None,
        moves_at: None,
    }
}

/// Thirty pumps for thirty days, hourly: two days before one of the first `failing` fails, its heat begins to rise.
pub(super) fn pumps(failing: i64) -> (Fleet, Histories) {
    let model = HardwareModel { model: id("p1"), kind: "pump".to_owned(), description: None };
    let slot =
        ComponentSlot { model: id("p1"), component: id("seal"), part: id("S-1"), quantity: 1, description: None };
    let (mut devices, mut histories) = (Vec::new(), Histories::new());
    for n in 0..30 {
        let device: DeviceId = id(&format!("pump-{n:02}"));
        devices.push(Device { installed_at: Some(hour(-1_000)), ..pump(device.as_str()) });
        let fails = (n < failing).then_some(24 * (6 + n % 18));
        let mut random = ChaCha8Rng::seed_from_u64(n as u64);
        let mut history = DeviceHistory::default();
        for t in 0..24 * DAYS {
            let ahead = fails.map(|failure| failure - t).filter(|ahead| (0..48).contains(ahead));
            let heat = 40.0 + random.random_range(-1.0..1.0) + ahead.map_or(0.0, |ahead| (48 - ahead) as f64 / 4.0);
            history.readings.push(hour(t), &[(id("heat"), heat), (id("load"), random.random())]);
        }
        if let Some(failure) = fails {
            history.failures.push(Failure { ts: hour(failure), device: device.clone(), component: id("seal") });
            history.maintenance.push(Maintenance {
                ts: hour(failure + 1),
                device: device.clone(),
                component: id("seal"),
                action: MaintenanceAction::Replaced,
                reason: MaintenanceReason::Failure,
            });
        }
        histories.insert(device, history);
    }
    (Fleet { models: vec![model], components: vec![slot], devices, ..Fleet::default() }, histories)
}

pub(super) fn learn(fleet: &Fleet, histories: &Histories, until: Timestamp) -> Model {
    let usual = TrainOptions::new(until);
    let options = TrainOptions {
        horizons: vec![Duration::from_hours(24), Duration::from_hours(48)],
        every: Some(Duration::from_hours(6)),
        forest: ForestOptions { trees: 20, ..ForestOptions::default() },
        boosting: BoostingOptions { trees: 30, ..usual.boosting.clone() },
        ..usual
    };
    train(fleet, &subjects(fleet, histories), &options)
}

pub(super) fn every_six_hours(subject: &Subject<'_>) -> Vec<Timestamp> {
    subject.observed.map_or_else(Vec::new, |o| grid(o.from, o.until, Duration::from_hours(6)).collect())
}

fn predictions(model: &Model, fleet: &Fleet, histories: &Histories) -> Vec<Prediction> {
    score(model, fleet, &subjects(fleet, histories), every_six_hours)
}

#[test]
fn failures_that_announce_themselves_are_foreseen_with_the_signal_that_did() {
    let (fleet, histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * 16));
    let rows = predictions(&model, &fleet, &histories);
    let (mut foreseen, mut late) = (0, 0);
    for history in histories.values().filter(|h| h.failures.iter().any(|f| f.ts > hour(24 * 16))) {
        let failure = &history.failures[0];
        late += 1;
        let before = |row: &&Prediction| {
            row.device == failure.device && row.ts < failure.ts && row.ts >= failure.ts - Duration::from_hours(24)
        };
        let alarm = rows.iter().filter(before).find(|row| row.alarm);
        foreseen += usize::from(alarm.is_some());
        if let Some(first) = alarm.and_then(|row| row.top_signals.first()) {
            let (low, high) = first.usual.unwrap();
            assert!(first.name == "heat" && first.contribution > 0.0 && low <= high, "{first:?}");
        }
    }
    assert!(late >= 4 && foreseen + 1 >= late, "{foreseen} of {late}");
    let reliability = &model.families[0].quality.reliability;
    let stands_for: f64 = reliability.iter().map(|bin| bin.rows).sum();
    assert!(
        stands_for > 1_000.0 && reliability.iter().all(|bin| (0.0..=1.0).contains(&bin.frequency)),
        "{reliability:?}"
    );
}

#[test]
fn what_was_decided_is_reckoned_again_to_the_last_bit() {
    let (fleet, histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * 20));
    let kept: Vec<Prediction> =
        predictions(&model, &fleet, &histories).into_iter().filter(|row| !row.features.is_empty()).collect();
    assert!(kept.len() > 20);
    for row in &kept {
        let kind = row.kind.as_deref().unwrap();
        // As it is kept: through JSON.
        let text = serde_json::to_string(&row.features).unwrap();
        let features: Vec<(String, Option<f64>)> = serde_json::from_str(&text).unwrap();
        let key = PredictionKey { ts: row.ts, device: row.device.clone(), component: row.component.clone() };
        let expected = Recomputed {
            probabilities: row.probabilities.clone(),
            score: row.score,
            top_signals: row.top_signals.clone(),
            explanation: row.explanation.clone(),
        };
        assert_eq!(recompute(&model, kind, &key, &features), Some(expected));
        assert_eq!(recompute(&model, kind, &key, &features[1..]), None);
        assert_eq!(recompute(&model, "drive", &key, &features), None);
    }
}

/// Nothing here may panic, give a probability that is none, or a longer horizon that is less likely.
#[track_caller]
fn is_sensible(fleet: &Fleet, histories: &Histories) -> &'static str {
    let model = learn(fleet, histories, hour(24 * DAYS));
    for row in predictions(&model, fleet, histories) {
        let sensible = row.probabilities.iter().all(|p| (0.0..=1.0).contains(p)) && row.probabilities.is_sorted();
        let life = &row.rul;
        assert!(sensible && life.p05 <= life.p95 && life.mean.is_finite(), "{row:?}");
    }
    let seal: ComponentId = id("seal");
    model.families.iter().find_map(|family| family.components.get(&seal)).map_or("nothing", ComponentModel::name)
}

fn with_signal(histories: &mut Histories, name: &str, value: impl Fn(i64) -> f64) {
    for history in histories.values_mut() {
        let column = (0..history.readings.len()).map(|n| value(n as i64)).collect();
        history.readings.columns.push((id::<SignalId>(name), column));
        history.readings.columns.sort_by(|a, b| a.0.cmp(&b.0));
    }
}

#[test]
fn signals_that_say_nothing_do_no_harm() {
    let (fleet, mut histories) = pumps(24);
    with_signal(&mut histories, "constant", |_| 7.0);
    with_signal(&mut histories, "missing", |_| f64::NAN);
    for history in histories.values_mut() {
        let heat = history.readings.column(&id("heat")).unwrap().to_vec();
        history.readings.columns.insert(0, (id("a-copy-of-heat"), heat));
    }
    assert!(["forest", "boosting"].contains(&is_sensible(&fleet, &histories)));
}

#[test]
fn few_or_no_failures_leave_it_to_lifetimes_and_rates() {
    for (failing, expected) in [(0, "rate"), (1, "lifetime"), (2, "lifetime")] {
        let (fleet, histories) = pumps(failing);
        assert_eq!(is_sensible(&fleet, &histories), expected, "{failing} failures");
    }
    let (fleet, histories) = pumps(3);
    assert_eq!(is_sensible(&fleet, &histories), "forest");
    let (fleet, histories) = pumps(30);
    assert!(["forest", "boosting"].contains(&is_sensible(&fleet, &histories)), "all of them fail");
}

#[test]
fn labels_without_telemetry_and_telemetry_without_labels_are_kept_apart() {
    let (fleet, mut histories) = pumps(24);
    for history in histories.values_mut().take(10) {
        history.readings = Readings::default();
    }
    for history in histories.values_mut().skip(15) {
        (history.failures, history.maintenance) = (Vec::new(), Vec::new());
    }
    is_sensible(&fleet, &histories);
    histories.values_mut().for_each(|history| history.readings = Readings::default());
    // Nobody was seen for any time, so nothing is known of how often it fails.
    assert_eq!(is_sensible(&fleet, &histories), "rate");
}

#[test]
fn a_clock_that_jumps_and_a_device_that_moves_do_no_harm() {
    let (mut fleet, mut histories) = pumps(24);
    let wild = histories.get_mut(&id::<DeviceId>("pump-03")).unwrap();
    wild.readings.times[0] = Timestamp::from_millis(0);
    *wild.readings.times.last_mut().unwrap() = hour(24 * 365);
    fleet.models.push(HardwareModel { model: id("p2"), kind: "pump".to_owned(), description: None });
    fleet.components.push(ComponentSlot { model: id("p2"), ..fleet.components[0].clone() });
    fleet.devices[5].model = id("p2");
    fleet.devices[6].model = id("never-registered");
    assert!(["forest", "boosting"].contains(&is_sensible(&fleet, &histories)));
}

#[test]
fn a_model_that_is_not_as_it_was_written_is_refused_by_name() {
    let (fleet, histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * 20));
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    assert_eq!(Model::open(folder.path()).unwrap(), model);
    let file = folder.path().join("model.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    let format = format!("\"format\":{FORMAT}");
    assert!(whole.contains(&format));
    for (text, complaint) in [
        (whole.replace(&format, "\"format\":1"), "has model format 1"),
        (whole[..whole.len() / 2].to_owned(), "is not a model"),
        (
            whole.replacen("\"mid_mean\":\"heat\"", "\"mid_mean\":\"cold\"", 1),
            "its content is not what its version says",
        ),
        (whole.replacen("\"long_mean\":\"heat\"", "\"x\":\"heat\"", 1), "is not a model"),
        (whole.replacen("\"leaves\":[", "\"leaves\":[0,", 1), "its past cases do not fit its trees"),
        (whole.replacen("{\"mid_spread\":\"heat\"},", "", 1), "its trees do not fit its features"),
    ] {
        assert_ne!(text, whole);
        std::fs::write(&file, text).unwrap();
        let said = Model::open(folder.path()).unwrap_err().to_string();
        assert!(said.contains("model.json") && said.contains(complaint), "{said}");
    }
}

/// What is new to a model is scored as its family, less surely, or as components do on average; nothing is left out.
#[test]
fn a_new_hardware_model_starts_from_its_family_and_a_new_kind_from_all_components() {
    let (mut fleet, mut histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * DAYS));
    assert!((model.families[0].experience["p1"] - 24.0).abs() < 1e-9);
    for (name, kind) in [("p2", "pump"), ("f1", "fan")] {
        let hardware = HardwareModel { model: id(name), kind: kind.to_owned(), description: None };
        fleet.models.push(hardware);
        let slot = fleet.components[0].clone();
        fleet.components.push(ComponentSlot { model: id(name), ..slot });
        // The same readings, so that only the model differs.
        let (known, device): (DeviceId, DeviceId) = (id("pump-03"), id(&format!("new-{name}")));
        let twin = fleet.devices.iter().find(|device| device.device == known).unwrap().clone();
        fleet.devices.push(Device { device: device.clone(), model: id(name), ..twin });
        histories.insert(device, histories[&known].clone());
    }
    // A component that no pump had when the model was trained.
    let slot = fleet.components[0].clone();
    fleet.components.push(ComponentSlot { component: id("rotor"), ..slot });
    let subjects = subjects(&fleet, &histories);
    let at = hour(24 * 9 - 6);
    let scored = score(&model, &fleet, &subjects, |_| vec![at]);
    let of = |device: &str, component: &str| {
        let wanted = |p: &&Prediction| p.device.as_str() == device && p.component.as_str() == component;
        let mut found = scored.iter().filter(wanted);
        (found.next().unwrap(), assert!(found.next().is_none()))
    };
    let (known, new) = (of("pump-03", "seal").0, of("new-p2", "seal").0);
    assert!(known.alarm && new.alarm, "{known:?}");
    assert_eq!(known.probabilities.len(), new.probabilities.len());
    assert!(new.rul.p05 < known.rul.p05 && new.rul.p95 > known.rul.p95, "{new:?}");
    for (device, component) in [("new-f1", "seal"), ("pump-03", "rotor")] {
        let prior = of(device, component).0;
        // Half a failure in ten years, within a day.
        assert!((prior.probabilities[0] - 0.5 / 3652.5).abs() < 1e-6 && !prior.alarm, "{prior:?}");
        assert!(prior.rul.p05 < prior.rul.p50 && prior.rul.p50 <= prior.rul.p95);
    }
    assert_eq!(scored.len(), 31 + 30 + 1);
}

/// Every reading of a signal from `since` on, changed.
fn changed(histories: &Histories, signal: &str, since: Timestamp, change: impl Fn(f64) -> f64) -> Histories {
    let mut histories = histories.clone();
    for history in histories.values_mut() {
        let from = history.readings.times.partition_point(|&t| t < since);
        let (_, column) = history.readings.columns.iter_mut().find(|(known, _)| known.as_str() == signal).unwrap();
        column[from..].iter_mut().for_each(|value| *value = change(*value));
    }
    histories
}

#[test]
fn drift_is_seen_in_the_scores_and_in_signals_that_are_gone() {
    let (fleet, histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * 20));
    let last_days = |subject: &Subject<'_>| -> Vec<Timestamp> {
        every_six_hours(subject).into_iter().filter(|&t| t >= hour(24 * 28)).collect()
    };
    let found = |histories: &Histories| {
        drift(&model, &score_with_basis(&model, &fleet, &subjects(&fleet, histories), last_days), &Outcomes::new())
    };
    assert_eq!(found(&histories), []);
    let hotter = found(&changed(&histories, "heat", hour(24 * 27), |heat| heat + 8.0));
    assert_eq!(hotter.len(), 1);
    assert!(hotter[0].population_stability.unwrap() >= SHIFTED && hotter[0].missing.is_empty(), "{hotter:?}");
    let silent = found(&changed(&histories, "load", hour(24 * 20), |_| f64::NAN));
    assert_eq!(silent.len(), 1);
    assert_eq!(
        (silent[0].kind.as_str(), &silent[0].component, &silent[0].missing),
        ("pump", &id("seal"), &vec![id("load")])
    );
    // Too few rows to tell chance from drift.
    let few = |subject: &Subject<'_>| last_days(subject).into_iter().take(2).collect();
    let hotter = changed(&histories, "heat", hour(24 * 27), |heat| heat + 8.0);
    let few = score_with_basis(&model, &fleet, &subjects(&fleet, &hotter), few);
    assert_eq!(drift(&model, &few, &Outcomes::new()), []);
    // However few report now: that failures come four times as often as was said is known from those that came.
    let mut often = Outcomes::new();
    let (kind, component) = (model.families[0].kind.clone(), few[0].component.clone());
    let outcome = often.entry((kind, component)).or_default();
    (0..100).for_each(|n| outcome.add(0.1, n < 40));
    let off = drift(&model, &few, &often);
    assert_eq!(off.len(), 1, "{off:?}");
    assert_eq!((off[0].population_stability, off[0].calibration.unwrap().observed), (None, 40.0));
}
