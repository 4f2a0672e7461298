//! Goal: a classifier made elsewhere, on the columns that `features` writes, ranks in a model on the command line and in the
//! service, where it begins in shadow. Method: an ONNX file of three operators whose answer is known by a formula.

use std::{collections::BTreeMap, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harbinger_core::Timestamp;
use harbinger_tests::{
    process::onnxruntime,
    server::{Server, harbinger_with, until},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fleet;

const PATIENCE: Duration = Duration::from_secs(180);
/// Of the first feature in the classifier.
const WEIGHT: f32 = 0.01;

/// Fields of a protocol buffer.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap());
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(u64::try_from(bytes.as_ref().len()).unwrap());
        self.0.extend(bytes.as_ref());
        self
    }

    fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, message.0)
    }
}

/// A tensor of floats, `[None, columns]`, as input or output.
fn matrix(name: &str, columns: usize) -> Message {
    let open = Message::default().bytes(2, "N");
    let fixed = Message::default().number(1, u64::try_from(columns).unwrap());
    let shape = Message::default().message(1, open).message(1, fixed);
    let tensor = Message::default().number(1, 1).message(2, shape);
    Message::default().bytes(1, name).message(2, Message::default().message(1, tensor))
}

fn node(operator: &str, domain: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
    node.bytes(2, output).bytes(4, operator).bytes(7, domain)
}

/// `1 / (1 + exp(-WEIGHT x))` of the first of `width` features, 0 where it is missing.
fn classifier(width: usize) -> Vec<u8> {
    let floats = Message::default().bytes(1, "imputed_value_floats").number(20, 6).float(7, 0.0);
    let replaced = Message::default().bytes(1, "replaced_value_float").number(20, 1).float(2, f32::NAN);
    let imputer = node("Imputer", "ai.onnx.ml", &["features"], "whole").message(5, floats).message(5, replaced);
    let weights: Vec<u8> = (0..width).flat_map(|n| if n == 0 { WEIGHT } else { 0.0 }.to_le_bytes()).collect();
    let dims = Message::default().number(1, u64::try_from(width).unwrap()).number(1, 1);
    let weights = dims.number(2, 1).bytes(8, "weights").bytes(9, weights);
    let graph = Message::default()
        .message(1, imputer)
        .message(1, node("MatMul", "", &["whole", "weights"], "logit"))
        .message(1, node("Sigmoid", "", &["logit"], "probabilities"))
        .bytes(2, "classifier")
        .message(5, weights)
        .message(11, matrix("features", width))
        .message(12, matrix("probabilities", 1));
    let operators = |domain: &str, version: u64| Message::default().bytes(1, domain).number(2, version);
    let model = Message::default().number(1, 8).message(7, graph);
    model.message(8, operators("", 17)).message(8, operators("ai.onnx.ml", 3)).0
}

/// What the formula says.
fn by_hand(first: Option<f64>) -> f64 {
    1.0 / (1.0 + (-f64::from(WEIGHT) * first.unwrap_or(0.0)).exp())
}

/// Runs a command that must succeed; what it printed.
fn run(arguments: &[&str], library: &Path) -> String {
    let ended = harbinger_with(arguments, &[("ORT_DYLIB_PATH", library.to_str().unwrap())]).unwrap();
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// A classifier and its card, on the features that the command wrote.
fn made_of(
    features: &Path,
    printed: &str,
    horizon: &str,
    kind: &str,
    component: &str,
    until: Timestamp,
) -> (Vec<u8>, Value) {
    let mut csv = csv::Reader::from_path(features).unwrap();
    let width = csv.headers().unwrap().len() - 6;
    let file = classifier(width);
    let rows = csv.records().step_by(7).take(12).map(|row| {
        let cells: Vec<Option<f64>> = row.unwrap().iter().skip(6).map(|cell| cell.parse().ok()).collect();
        json!({ "probability": by_hand(cells[0]), "features": cells })
    });
    let sha = printed.lines().find_map(|line| line.strip_prefix("features_sha256 ")).unwrap();
    let digest: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let card = json!({
        "name": "by hand", "kind": kind, "component": component, "horizon": horizon, "features_sha256": sha,
        "model_sha256": digest, "trained_from": until - harbinger_core::Duration::from_days(10), "trained_until": until,
        "cohort": "all", "calibrated": true, "calibration": "none needed", "examples": rows.collect::<Vec<_>>(),
    });
    (file, card)
}

/// The first component of a kind that a model ranks, as the service tells it.
fn ranked(model: &Value) -> Option<(String, String)> {
    let families = model["summary"]["families"].as_array()?;
    families.iter().find_map(|family| {
        let is_ranked = |(_, by): &(&String, &Value)| *by == "forest" || *by == "boosting";
        let (component, _) = family["components"].as_object()?.iter().find(is_ranked)?;
        Some((family["kind"].as_str()?.to_owned(), component.clone()))
    })
}

#[test]
fn a_classifier_from_elsewhere_ranks_on_the_command_line_and_begins_in_shadow_in_the_service() {
    let Some(library) = onnxruntime() else { return };
    let fleet = fleet::small("acme", 2, 30);
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let data = tempfile::tempdir().unwrap();
    let library_text = library.to_str().unwrap();
    let settings =
        [("ANALYTICS__EVERY", "6h"), ("ANALYTICS__HORIZONS", "[\"24h\"]"), ("ANALYTICS__ONNXRUNTIME", library_text)];
    let server = Server::start(data.path(), &settings).unwrap();
    fleet::import(&server, &fleet, "acme");
    let client = server.client(&server.key("acme", "read,operate").unwrap());
    let champion = || -> anyhow::Result<Option<Value>> {
        let models = client.items("/api/v1/models")?;
        Ok(models.into_iter().find(|model| model["state"] == "champion" && ranked(model).is_some()))
    };
    // A training may be due meanwhile: then the next champion is taken.
    let imported = until(PATIENCE, "an import", || {
        let Some(champion) = champion()? else { return Ok(None) };
        let (kind, component) = ranked(&champion).unwrap();
        let version = champion["version"].as_str().unwrap();
        let models = data.path().join("models/acme").join(version);
        let (models, features) = (models.to_str().unwrap(), at("features.csv"));
        let (bundle, horizon) = (fleet.argument(), champion["horizons"][0].as_str().unwrap());
        let wanted = ["--kind", &kind, "--component", &component, "--models", models, "--out", &features];
        let printed = run(&[&["features", bundle][..], &wanted].concat(), &library);
        let trained = champion["trained_until"].as_str().unwrap().parse().unwrap();
        let (file, card) = made_of(Path::new(&features), &printed, horizon, &kind, &component, trained);
        let body = json!({ "file_base64": STANDARD.encode(&file), "card": card });
        let answer = client.post("/api/v1/models/onnx", &body)?;
        if answer.status != 201 {
            anyhow::bail!("{}", answer.text());
        }
        // The same on the command line.
        std::fs::write(at("model.onnx"), &file)?;
        std::fs::write(at("card.json"), card.to_string())?;
        let (onnx, card_file, out) = (at("model.onnx"), at("card.json"), at("out"));
        let arguments = ["import-model", "--onnx", &onnx, "--card", &card_file, "--models", models, "--out", &out];
        run(&arguments, &library);
        Ok(Some((answer.json()?, version.to_owned(), component, horizon.to_owned())))
    });
    let (imported, champion, component, horizon) = imported.unwrap();
    assert_eq!((imported["state"].as_str(), imported["version"] == champion.as_str()), (Some("challenger"), false));
    let card = &imported["summary"]["cards"][0];
    assert!(card["name"] == "by hand" && card["examples"] == json!([]), "{card}");
    let folder = data.path().join("models/acme").join(imported["version"].as_str().unwrap());
    assert!(folder.join("model.json").is_file());

    let predictions = at("predictions.csv");
    run(&["score", fleet.argument(), "--models", &at("out"), "--every", "6h", "--out", &predictions], &library);
    let mut csv = csv::Reader::from_path(&predictions).unwrap();
    let names = csv.headers().unwrap().clone();
    let column = |name: &str| names.iter().position(|known| known == name).unwrap();
    let (of, score, p) = (column("component"), column("score"), column(&format!("p_{horizon}")));
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).filter(|row| row[of] == component).collect();
    let mut csv = csv::Reader::from_path(at("features.csv")).unwrap();
    let formula: BTreeMap<(String, String), f64> = csv
        .records()
        .map(Result::unwrap)
        .map(|row| ((row[1].to_owned(), row[0].to_owned()), by_hand(row[6].parse().ok())))
        .collect();
    let mut compared = 0;
    for row in &rows {
        let Some(expected) = formula.get(&(row[0].to_owned(), row[1].to_owned())) else { continue };
        let found: f64 = row[score].parse().unwrap();
        assert!((found - expected).abs() < 1e-6 && row[score] == row[p], "{row:?}, not {expected}");
        compared += 1;
    }
    assert!(compared > 100, "{compared} of {} rows", rows.len());

    // Without the library: what is missing, and where to name it.
    let out = at("none.csv");
    let arguments = ["--onnxruntime", "/nowhere.so", "score", fleet.argument(), "--models", &at("out"), "--out", &out];
    let ended = harbinger_with(&arguments, &[]).unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("--onnxruntime FILE"), "{said}");
}
