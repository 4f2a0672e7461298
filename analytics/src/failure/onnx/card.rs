//! The card of a model that was made elsewhere: what it was learnt from, what it promises, and rows to hold it to that.

use harbinger_core::{ComponentId, Duration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;

/// Fewest rows that a card must carry with their probabilities.
pub const MIN_EXAMPLES: usize = 5;
/// Most of them: they are run each time the model is opened.
const MAX_EXAMPLES: usize = 1_000;
/// How far a probability may lie from the card's: rounding of 32-bit floats over some hundred trees stays a hundred times below,
/// and a value that takes another branch goes far beyond.
const TOLERANCE: f64 = 1e-4;

/// What whoever trained a model says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// What it is called, for people.
    pub name: String,
    /// Kind of the devices.
    pub kind: String,
    /// The component whose failure it foretells.
    pub component: ComponentId,
    /// Its probability is that of a failure within this time.
    pub horizon: Duration,
    /// [`features_sha256`] of the columns that it was trained on, in their order.
    pub features_sha256: String,
    /// SHA-256 of the ONNX file in lower-case hexadecimal.
    pub model_sha256: String,
    /// First time of the rows that it learnt from.
    pub trained_from: Timestamp,
    /// It has seen nothing later than this.
    pub trained_until: Timestamp,
    /// Which devices it learnt from, in words.
    pub cohort: String,
    /// Whether its output is a probability that holds; where not, a calibration is fitted on what came after its training.
    pub calibrated: bool,
    /// How it was calibrated, in words.
    pub calibration: String,
    /// Rows with the probabilities that it gave where it was trained.
    pub examples: Vec<Example>,
}

/// A row and its probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The features in order; `None` where a value is missing.
    pub features: Vec<Option<f64>>,
    /// What the model said of it, in 0..=1.
    pub probability: f64,
}

impl Example {
    /// As rows are scored: what is missing is NaN.
    fn row(&self) -> Vec<f64> {
        self.features.iter().map(|value| value.unwrap_or(f64::NAN)).collect()
    }
}

/// SHA-256 of names of features, each followed by a line feed, in lower-case hexadecimal: two models with the same hash are
/// served the same columns in the same order.
#[must_use]
pub fn features_sha256(names: &[String]) -> String {
    let mut digest = Sha256::new();
    for name in names {
        digest.update(name.as_bytes());
        digest.update(b"\n");
    }
    hexadecimal(&digest.finalize())
}

/// SHA-256 of a file in lower-case hexadecimal.
#[must_use]
pub(super) fn file_sha256(file: &[u8]) -> String {
    hexadecimal(&Sha256::digest(file))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Card {
    /// Whether the card is one, and that of this file on these features.
    ///
    /// * `names`: of the features that rows are made of, in words.
    ///
    /// # Errors
    /// [`Error::Card`], naming the field and what it should say.
    pub(super) fn check(&self, file: &[u8], names: &[String]) -> Result<(), Error> {
        let wrong = |field: &'static str, reason: String| Err(Error::Card { field, reason });
        let found = file_sha256(file);
        if self.model_sha256 != found {
            return wrong("model_sha256", format!("the file's is {found}"));
        }
        let served = features_sha256(names);
        if self.features_sha256 != served {
            let width = names.len();
            return wrong("features_sha256", format!("that of the {width} features that are served is {served}"));
        }
        if self.trained_from >= self.trained_until {
            return wrong("trained_from", "it is not before trained_until".to_owned());
        }
        if !(MIN_EXAMPLES..=MAX_EXAMPLES).contains(&self.examples.len()) {
            let found = self.examples.len();
            return wrong("examples", format!("it has {found} rows, not {MIN_EXAMPLES} to {MAX_EXAMPLES}"));
        }
        for (n, example) in self.examples.iter().enumerate() {
            if example.features.len() != names.len() {
                let (found, width) = (example.features.len(), names.len());
                return wrong("examples", format!("row {n} has {found} features, not {width}"));
            }
            if !(0.0..=1.0).contains(&example.probability) {
                return wrong("examples", format!("row {n} has probability {}, not in 0..=1", example.probability));
            }
        }
        if !self.examples.iter().any(|example| example.features.contains(&None)) {
            return wrong(
                "examples",
                "no row has a missing value, which is where exports go wrong: add some".to_owned(),
            );
        }
        Ok(())
    }

    /// The rows of the card.
    pub(super) fn rows(&self) -> Vec<Vec<f64>> {
        self.examples.iter().map(Example::row).collect()
    }

    /// Whether the rows came out as the card says.
    ///
    /// # Errors
    /// [`Error::Differs`] with the first that did not; [`Error::NotAProbability`].
    pub(super) fn compare(&self, found: &[Option<f64>]) -> Result<(), Error> {
        for (row, (example, found)) in self.examples.iter().zip(found).enumerate() {
            let Some(found) = *found else {
                return Err(Error::NotAProbability { row: format!("row {row} of the card") });
            };
            if (found - example.probability).abs() > TOLERANCE {
                return Err(Error::Differs { row, found, expected: example.probability });
            }
        }
        Ok(())
    }
}
