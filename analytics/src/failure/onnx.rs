//! Classifiers that were trained elsewhere and exported to ONNX, as rankers of the main horizon.
//!
//! A file is taken with its [`Card`] and only if it does what the card says: the card's rows must come out with the card's
//! probabilities, each time the model is opened. What can still go wrong with a single row - a probability that is none - is
//! judged by the ranker that the file replaced, which is kept beside it: scoring neither fails nor says what is no
//! probability.
//!
//! What features add to a probability is told by sampling Shapley values (Strumbelj & Kononenko 2014, *Explaining prediction
//! models and individual predictions with feature contributions*, algorithm 1): along a random order of features they are
//! moved, one by one, from their usual value to the row's, and each is given the change that its move made. Orders are drawn
//! from a fixed seed and each is walked forward and backward (antithetic pairs, Mitchell et al. 2022, *Sampling Permutations for
//! Shapley Value Estimation*, section 4.1), and what features add sums to the difference from the usual row exactly.

mod card;
mod graph;
mod import;
mod runtime;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use card::{Card, Example, MIN_EXAMPLES, features_sha256};
pub use import::{Later, TooFew};
use runtime::Opened;
pub(super) use runtime::narrowed;
pub use runtime::use_library;

use super::model::{HorizonModel, Ranker};

/// Largest file in bytes.
pub const MAX_FILE: usize = 32 << 20;
/// Orders of features that contributions are the mean over, each walked in both directions: an explanation costs at most
/// `2 ORDERS (features + 1)` rows.
const ORDERS: usize = 4;
/// Of the orders.
const SEED: u64 = 1;

/// Why a file is not taken as a model, or a model that holds one not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library is not there.
    #[error(
        "ONNX Runtime was not found ({reason}): install it (Debian's libonnxruntime, or libonnxruntime.so inside PyPI's \
         onnxruntime) and say where it lies: --onnxruntime FILE, ORT_DYLIB_PATH, or onnxruntime under [analytics]"
    )]
    NoRuntime {
        /// What the loader said.
        reason: String,
    },
    /// The file is larger than [`MAX_FILE`].
    #[error("the ONNX file has {bytes} bytes, more than {MAX_FILE}: fewer or smaller trees rank as well")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The file holds what is not run.
    #[error("the ONNX file has {0}, which are not run: export a classifier alone, weights inside")]
    Refused(String),
    /// ONNX Runtime cannot read or run it.
    #[error("ONNX Runtime does not take the file: {reason}")]
    NotTaken {
        /// What it said.
        reason: String,
    },
    /// Inputs or outputs are not those of a classifier of these features.
    #[error("the ONNX file is no classifier of these features: {0}")]
    Shape(String),
    /// The card does not fit the file or the model.
    #[error("the card's {field} does not fit: {reason}")]
    Card {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A row of the card did not come out.
    #[error(
        "row {row} of the card has probability {expected} there and {found} here: the export is not the model that was \
         trained (scikit-learn's forests lose the direction of missing values: put SimpleImputer before them)"
    )]
    Differs {
        /// Which row, from 0.
        row: usize,
        /// What came out.
        found: f64,
        /// What the card says.
        expected: f64,
    },
    /// What came out for a row is no probability.
    #[error(
        "{row} does not come out as a probability in 0..=1: put SimpleImputer before what cannot take missing values"
    )]
    NotAProbability {
        /// Which row.
        row: String,
    },
    /// There is nothing that the file could replace.
    #[error("{0}")]
    NoPlace(String),
    /// It has to be calibrated, and cannot be.
    #[error(transparent)]
    TooFew(#[from] TooFew),
}

/// A classifier in an ONNX file, with its card and the ranker that it replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Onnx {
    file: File,
    card: Card,
    /// The middle of each feature's usual range; `None` where it is usually missing.
    middle: Vec<Option<f64>>,
    /// Judges the rows of which the file gives no probability.
    instead: Box<HorizonModel>,
    /// Not part of what is kept.
    #[serde(skip)]
    session: Lazy,
}

/// The bytes of the file; base64 where they are kept.
#[derive(Clone, PartialEq)]
struct File(Vec<u8>);

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({} bytes)", self.0.len())
    }
}

impl Serialize for File {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The session, opened once and shared by all copies; all are equal.
#[derive(Clone, Default)]
struct Lazy(Arc<OnceLock<Mutex<Opened>>>);

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Lazy(opened)" } else { "Lazy" })
    }
}

impl PartialEq for Lazy {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Onnx {
    /// The card.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The ranker that it replaced.
    pub(super) fn instead(&self) -> &HorizonModel {
        &self.instead
    }

    /// Whether the parts fit each other, without opening the file.
    pub(super) fn fits(&self, width: usize) -> bool {
        let Self { middle, instead, .. } = self;
        let replaced = !matches!(instead.ranker, Ranker::Onnx(_)) && instead.is_sound(width);
        middle.len() == width && replaced
    }

    /// Opens the file and holds it to its card; besides, it must give a probability where all or single values are missing.
    ///
    /// * `names`: of the features that rows are made of, in words.
    ///
    /// # Errors
    /// [`Error`], saying what does not fit and what to do.
    pub(super) fn verify(&self, names: &[String]) -> Result<(), Error> {
        let File(file) = &self.file;
        if file.len() > MAX_FILE {
            return Err(Error::TooLarge { bytes: file.len() });
        }
        self.card.check(file, names)?;
        graph::check(file)?;
        let mut opened = Opened::new(file, names.len())?;
        let mut run = |rows: &[Vec<f64>]| opened.probabilities(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        self.card.compare(&run(&self.card.rows())?)?;
        let all_missing = vec![f64::NAN; names.len()];
        let usual = self.usual();
        let one_missing = (0..names.len()).map(|place| {
            let mut row = usual.clone();
            row[place] = f64::NAN;
            row
        });
        let probes: Vec<Vec<f64>> = [all_missing, usual.clone()].into_iter().chain(one_missing).collect();
        if let Some(place) = run(&probes)?.iter().position(Option::is_none) {
            let row = match place {
                0 => "a row without any value".to_owned(),
                1 => "the usual row".to_owned(),
                _ => format!("the usual row without {:?}", names[place - 2]),
            };
            return Err(Error::NotAProbability { row });
        }
        self.session.0.get_or_init(|| Mutex::new(opened));
        Ok(())
    }

    /// The probability of each row; `None` where the file gives none.
    fn probabilities(&self, rows: &[&[f64]]) -> Vec<Option<f64>> {
        let session = match self.session.0.get() {
            Some(session) => session,
            None => match Opened::new(&self.file.0, self.middle.len()) {
                Ok(opened) => self.session.0.get_or_init(|| Mutex::new(opened)),
                Err(_) => return vec![None; rows.len()],
            },
        };
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        session.probabilities(rows).unwrap_or_else(|_| vec![None; rows.len()])
    }

    /// Score and calibrated probability of each row.
    ///
    /// * `judged`: both, from what the file says.
    pub(super) fn judge(&self, rows: &[&[f64]], judged: impl Fn(f64) -> (f64, f64)) -> Vec<(f64, f64)> {
        let said = self.probabilities(rows);
        let unjudged: Vec<&[f64]> = rows.iter().zip(&said).filter(|(_, p)| p.is_none()).map(|(row, _)| *row).collect();
        let mut instead = self.instead.judge(&unjudged).into_iter();
        let of = |p: Option<f64>| p.map(&judged).or_else(|| instead.next()).unwrap_or((0.0, 0.0));
        said.into_iter().map(of).collect()
    }

    /// What each feature added to the probability of the usual row, which is returned. Overwritten.
    pub(super) fn contributions(&self, row: &[f64], contributions: &mut Vec<f64>) -> f64 {
        contributions.clear();
        contributions.resize(row.len(), 0.0);
        let usual = self.usual();
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        let mut order: Vec<usize> = (0..row.len()).filter(|&place| !same(row[place], usual[place])).collect();
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut base = 0.0;
        for _ in 0..ORDERS {
            order.shuffle(&mut random);
            for _ in 0..2 {
                order.reverse();
                let walk = walk(&usual, row, &order);
                let said = self.probabilities(&walk.iter().map(Vec::as_slice).collect::<Vec<_>>());
                let Some(said) = said.into_iter().collect::<Option<Vec<f64>>>() else {
                    return self.instead.ranker.contributions(row, contributions);
                };
                base = said[0];
                for (&place, step) in order.iter().zip(said.windows(2)) {
                    contributions[place] += (step[1] - step[0]) / (2 * ORDERS) as f64;
                }
            }
        }
        base
    }

    fn usual(&self) -> Vec<f64> {
        self.middle.iter().map(|middle| middle.unwrap_or(f64::NAN)).collect()
    }
}

/// The rows from `from` to `to`, the features of `order` moved one after the other.
fn walk(from: &[f64], to: &[f64], order: &[usize]) -> Vec<Vec<f64>> {
    let mut rows = vec![from.to_vec()];
    let mut row = from.to_vec();
    for &place in order {
        row[place] = to[place];
        rows.push(row.clone());
    }
    rows
}
