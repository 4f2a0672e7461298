//! Goal: a file says here what it said where it was trained, alone or among others, kept or new; and one that does not, or
//! that is none, is refused with the reason. Method: files that scikit-learn and LightGBM were exported to, beside their own
//! probabilities (`fixtures/make.py`), in the place of a ranker that was learnt from thirty simulated pumps.

use std::path::{Path, PathBuf};

use harbinger_core::{ComponentId, Duration, fleet::Fleet};
use harbinger_store::ledger::predictions::PredictionKey;

use super::*;
use crate::failure::{
    ComponentModel, Model, Prediction, explain, recompute, score, score_with_basis, subjects,
    tests::{Histories, every_six_hours, hour, learn, pumps},
};

/// Makes a card wrong.
type Change<'c> = &'c dyn Fn(&mut Card);

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/failure/onnx/fixtures").join(name)).unwrap()
}

/// Tells where ONNX Runtime lies that `scripts/install-test-needs` has set up; says so where it is not there.
fn has_runtime() -> bool {
    let installed = || -> Option<PathBuf> {
        let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-python/lib");
        let folders = std::fs::read_dir(lib).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let libraries =
            folders.filter_map(|python| std::fs::read_dir(python.join("site-packages/onnxruntime/capi")).ok());
        let mut files = libraries.flatten().filter_map(|entry| Some(entry.ok()?.path()));
        files.find(|file| file.to_string_lossy().contains("libonnxruntime.so"))
    };
    match installed() {
        Some(library) => use_library(&library),
        None => println!("left out: there is no ONNX Runtime: run scripts/install-test-needs"),
    }
    installed().is_some()
}

/// What `make.py` wrote down.
#[derive(Deserialize)]
struct Expected {
    rows: Vec<Vec<Option<f64>>>,
    probabilities: std::collections::BTreeMap<String, Vec<f64>>,
}

fn expected() -> Expected {
    serde_json::from_slice(&fixture("expected.json")).unwrap()
}

/// The expected rows as they are scored.
fn rows() -> Vec<Vec<f64>> {
    expected().rows.iter().map(|row| row.iter().map(|value| value.unwrap_or(f64::NAN)).collect()).collect()
}

fn refs(rows: &[Vec<f64>]) -> Vec<&[f64]> {
    rows.iter().map(Vec::as_slice).collect()
}

/// Pumps whose seals fail, and what was learnt of them in twenty days.
fn learnt() -> (Fleet, Histories, Model) {
    let (fleet, histories) = pumps(24);
    let model = learn(&fleet, &histories, hour(24 * 20));
    (fleet, histories, model)
}

/// The card of a file on the pumps' features; its rows are those of `probabilities_of`.
fn card(file: &[u8], model: &Model, probabilities_of: &str) -> Card {
    let Expected { rows, probabilities } = expected();
    let example = |(features, &probability): (Vec<Option<f64>>, &f64)| Example { features, probability };
    Card {
        name: "seals".to_owned(),
        kind: "pump".to_owned(),
        component: "seal".parse().unwrap(),
        horizon: Duration::from_hours(24),
        features_sha256: features_sha256(&model.families[0].space.names()),
        model_sha256: card::file_sha256(file),
        trained_from: hour(0),
        trained_until: hour(24 * 18),
        cohort: "all pumps".to_owned(),
        calibrated: true,
        calibration: "isotonic on devices not seen".to_owned(),
        examples: rows.into_iter().zip(&probabilities[probabilities_of]).map(example).collect(),
    }
}

fn with(model: &Model, name: &str, change: impl FnOnce(&mut Card)) -> Result<Model, Error> {
    let file = fixture(&format!("{name}.onnx"));
    let known = expected().probabilities.contains_key(name);
    let mut card = card(&file, model, if known { name } else { "boosted" });
    change(&mut card);
    model.clone().with_onnx(file, card, None)
}

fn onnx_of(model: &Model) -> &Onnx {
    model.onnx().next().unwrap().2
}

#[test]
fn files_say_here_what_they_said_there_alone_or_among_others() {
    if !has_runtime() {
        return;
    }
    let (_, _, model) = learnt();
    let rows = rows();
    for name in ["boosted", "logistic", "imputed_forest"] {
        let model = with(&model, name, |_| {}).unwrap();
        let onnx = onnx_of(&model);
        let together = onnx.probabilities(&refs(&rows));
        for (n, (row, expected)) in rows.iter().zip(&expected().probabilities[name]).enumerate() {
            let found = together[n].unwrap();
            assert!((found - expected).abs() < 1e-6, "{name} {n}: {found}, not {expected}");
            assert_eq!(onnx.probabilities(&[row]), [together[n]], "{name} {n}");
        }
        let beside: Vec<Option<f64>> = refs(&rows).chunks(7).flat_map(|some| onnx.probabilities(some)).collect();
        assert_eq!(beside, together);
    }
}

/// Forests that were trained with missing values are exported without the way that these take.
#[test]
fn an_export_that_is_not_what_was_trained_is_refused() {
    if !has_runtime() {
        return;
    }
    let (_, _, model) = learnt();
    let said = with(&model, "forest", |_| {}).unwrap_err().to_string();
    assert!(
        said.contains("row") && said.contains("of the card has probability") && said.contains("SimpleImputer"),
        "{said}"
    );
}

#[test]
fn what_is_no_classifier_of_the_features_is_refused_with_the_remedy() {
    if !has_runtime() {
        return;
    }
    let (_, _, model) = learnt();
    let missing_then_whole = |card: &mut Card| {
        // What cannot take missing values has no probability of them to write down.
        for example in &mut card.examples {
            example.features = vec![Some(0.0); 28];
        }
        card.examples[0].features[0] = None;
    };
    let filled = |card: &mut Card| {
        for example in &mut card.examples {
            example.features.iter_mut().for_each(|value| *value = value.or(Some(0.0)));
        }
    };
    let cases: [(&str, Change<'_>, &str); 10] = [
        ("maps", &|_| {}, "zipmap=False"),
        ("cannot_miss", &missing_then_whole, "SimpleImputer"),
        ("elsewhere", &|_| {}, "weights that lie in another file"),
        ("loop", &|_| {}, "the operator Loop"),
        ("boosted", &|card| card.horizon = Duration::from_hours(48), "the model's main horizon is 24h"),
        ("boosted", &|card| card.kind = "fan".to_owned(), "the model knows pump"),
        ("boosted", &|card| card.model_sha256.clear(), "the file's is "),
        ("boosted", &|card| card.features_sha256.clear(), "the 28 features that are served"),
        ("boosted", &|card| card.examples.truncate(4), "it has 4 rows, not 5 to 1000"),
        ("boosted", &filled, "add some"),
    ];
    for (name, change, complaint) in cases {
        let said = with(&model, name, change).unwrap_err().to_string();
        assert!(said.contains(complaint), "{name}: {said}");
    }
    let said = with(&model, "boosted", |card| card.examples[3].probability += 0.01).unwrap_err().to_string();
    assert!(said.starts_with("row 3 of the card has probability"), "{said}");
}

#[test]
fn a_file_of_another_width_and_part_of_a_file_are_refused() {
    if !has_runtime() {
        return;
    }
    let whole = fixture("logistic.onnx");
    let said = Opened::new(&whole, 27).err().unwrap().to_string();
    assert!(said.contains("not [N, 27]"), "{said}");
    // The last field names an operator set for the second time: without it the file is whole.
    for length in 0..whole.len() - 12 {
        let part = &whole[..length];
        let refused = graph::check(part).err().or_else(|| Opened::new(part, 28).err());
        assert!(refused.is_some(), "{length} of {} bytes are taken", whole.len());
    }
}

#[test]
fn bytes_that_are_no_file_are_refused_before_the_library_sees_them() {
    use rand::Rng;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for name in ["logistic.onnx", "boosted.onnx"] {
        let whole = fixture(name);
        assert!(graph::check(&whole).is_ok());
        for _ in 0..500 {
            let mut bytes = whole.clone();
            for _ in 0..8 {
                let place = random.random_range(0..bytes.len());
                bytes[place] = random.random();
            }
            // Refused or not: it neither panics nor runs on.
            let _ = graph::check(&bytes);
        }
    }
    for bytes in [&b""[..], b"PK\x03\x04", &[0xff; 64], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert!(graph::check(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_model_with_a_file_is_kept_and_opened_again_and_scores_as_before() {
    if !has_runtime() {
        return;
    }
    let (fleet, histories, before) = learnt();
    let model = with(&before, "boosted", |_| {}).unwrap();
    assert!(model.version != before.version && model.trained_until == before.trained_until);
    assert_eq!(model.families[0].components.values().next().unwrap().name(), "onnx");
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let opened = Model::open(folder.path()).unwrap();
    assert_eq!(opened, model);
    let subjects = subjects(&fleet, &histories);
    let scored = |model: &Model| score(model, &fleet, &subjects, every_six_hours);
    let (rows, again, own) = (scored(&model), scored(&opened), scored(&before));
    assert_eq!(rows, again);
    assert_ne!(rows, own);
    for (row, own) in rows.iter().zip(&own) {
        assert!(row.probabilities[0] == row.score && row.probabilities.is_sorted(), "{row:?}");
        assert!(row.probabilities[1] == row.score || row.probabilities[1] == own.probabilities[1], "{row:?}");
    }
    for row in rows.iter().filter(|row| !row.features.is_empty()).take(50) {
        let key = PredictionKey { ts: row.ts, device: row.device.clone(), component: row.component.clone() };
        let again = recompute(&model, row.kind.as_deref().unwrap(), &key, &row.features).unwrap();
        assert_eq!((again.probabilities, again.score), (row.probabilities.clone(), row.score));
        assert_eq!((again.top_signals, again.explanation), (row.top_signals.clone(), row.explanation.clone()));
    }
    // A file that was changed where it is kept.
    let text = std::fs::read_to_string(folder.path().join("model.json")).unwrap();
    let changed = text.replacen("\"cohort\":\"all pumps\"", "\"cohort\":\"some pumps\"", 1);
    assert_ne!(changed, text);
    std::fs::write(folder.path().join("model.json"), changed).unwrap();
    let said = Model::open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("its content is not what its version says"), "{said}");
}

/// By definition: what features add sums to the difference from the usual row, and a feature that the model does not look at
/// adds nothing. In a model that adds up log odds, the order of a single pair of moves shows by its sign.
#[test]
fn contributions_sum_to_the_difference_from_the_usual_row() {
    if !has_runtime() {
        return;
    }
    let (_, _, model) = learnt();
    let model = with(&model, "logistic", |_| {}).unwrap();
    let onnx = onnx_of(&model);
    for row in &rows() {
        let mut contributions = Vec::new();
        let base = onnx.contributions(row, &mut contributions);
        let found = onnx.probabilities(&[row])[0].unwrap();
        assert!((base + contributions.iter().sum::<f64>() - found).abs() < 1e-6);
        let mut again = Vec::new();
        onnx.contributions(row, &mut again);
        assert_eq!(again, contributions);
        for (place, contribution) in contributions.iter().enumerate() {
            let mut moved = onnx.usual();
            moved[place] = row[place];
            let alone = onnx.probabilities(&[&moved])[0].unwrap() - base;
            assert!(*contribution == 0.0 || contribution * alone >= -1e-9, "{place}: {contribution}, alone {alone}");
        }
    }
}

#[test]
fn a_row_of_which_the_file_says_nothing_is_judged_by_the_ranker_before() {
    if !has_runtime() {
        return;
    }
    let (fleet, histories, before) = learnt();
    let mut model = with(&before, "boosted", |_| {}).unwrap();
    let seal: ComponentId = "seal".parse().unwrap();
    // A file that cannot be run at all says nothing of any row.
    let Some(ComponentModel::Learnt { horizons, .. }) = model.families[0].components.get_mut(&seal) else {
        panic!("no ranker")
    };
    let Ranker::Onnx(onnx) = &mut horizons[0].ranker else { panic!("no file") };
    (onnx.file, onnx.session) = (File(b"nothing".to_vec()), Lazy::default());
    let subjects = subjects(&fleet, &histories);
    let scored = |model: &Model| {
        let mut rows = score_with_basis(model, &fleet, &subjects, every_six_hours);
        explain(model, &mut rows, |_| true);
        rows
    };
    let rows = scored(&model);
    assert_eq!(rows, scored(&before));
    assert!(rows.iter().any(|row| !row.top_signals.is_empty()));
}

#[test]
fn what_is_not_calibrated_is_calibrated_on_what_came_after_or_refused() {
    if !has_runtime() {
        return;
    }
    let (fleet, histories, model) = learnt();
    let file = fixture("boosted.onnx");
    let mut card = card(&file, &model, "boosted");
    card.calibrated = false;
    let subjects = subjects(&fleet, &histories);
    let later = |until| Some(Later { fleet: &fleet, subjects: &subjects, until });
    let refused = model.clone().with_onnx(file.clone(), card.clone(), None).unwrap_err().to_string();
    assert!(refused.contains("0 failures are known after"), "{refused}");
    let refused = model.clone().with_onnx(file.clone(), card.clone(), later(hour(24 * 19))).unwrap_err().to_string();
    assert!(refused.contains("fewer than 3"), "{refused}");
    let calibrated = model.with_onnx(file, card, later(hour(24 * 30))).unwrap();
    let rows = score(&calibrated, &fleet, &subjects, every_six_hours);
    let late: Vec<_> = rows.iter().filter(|row| row.ts > hour(24 * 18)).collect();
    let fails = |row: &&&Prediction| {
        let failures = &histories[&row.device].failures;
        failures.iter().any(|f| f.ts > row.ts && f.ts <= row.ts + Duration::from_hours(24))
    };
    let (mean, share) = (
        late.iter().map(|row| row.probabilities[0]).sum::<f64>() / late.len() as f64,
        late.iter().filter(fails).count() as f64 / late.len() as f64,
    );
    assert!(share > 0.0 && (mean / share - 1.0).abs() < 0.5, "mean {mean}, share {share}");
}
