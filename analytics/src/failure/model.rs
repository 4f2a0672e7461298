//! The model as it is kept: a versioned JSON document whose version is the hash of what it says.

use std::{collections::BTreeMap, path::Path};

use harbinger_core::{ComponentId, Duration, HardwareModelId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    calibration::Calibration,
    cases::Case,
    drift::Reference,
    forest::Forest,
    life::LifeModel,
    onnx::{self, Onnx},
};
use crate::{boosting::Boosting, evaluate::Bin, features::FeatureSpace, lifetime::Weibull};

/// Format of the model document; another one is refused by name.
pub const FORMAT: u32 = 5;

/// The file of a model in its folder.
const FILE: &str = "model.json";

/// A model that could not be kept or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read or written.
    #[error("failed to {attempt} {path}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The document is not a model.
    #[error("{path} is not a model: {reason}")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The document is of another format.
    #[error("{path} has model format {found}, this program reads format {FORMAT}; train it again")]
    Format {
        /// Which file.
        path: String,
        /// What it says.
        found: u64,
    },
    /// A classifier of the model that was trained elsewhere cannot be opened, or no longer does what its card says.
    #[error("{path}: {place}: {source}")]
    Onnx {
        /// Which file.
        path: String,
        /// Kind and component.
        place: String,
        /// Why.
        source: onnx::Error,
    },
}

/// What was learnt of a tenant's fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// [`FORMAT`].
    pub format: u32,
    /// The first 12 hexadecimal digits of the SHA-256 of everything else.
    pub version: String,
    /// Nothing after this was used.
    pub trained_until: Timestamp,
    /// Horizons; the first is the main one.
    pub horizons: Vec<Duration>,
    /// Between two scores of a device, unless told otherwise.
    pub every: Duration,
    /// Remaining useful life is not counted beyond this.
    pub rul_cap: Duration,
    /// One a kind of device, in order of kind.
    pub families: Vec<Family>,
}

/// Devices of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// The kind of the hardware models.
    pub kind: String,
    /// What rows are made of.
    pub space: FeatureSpace,
    /// Main-horizon probability above which a row alarms; `None` where nothing could choose one.
    pub threshold: Option<f64>,
    /// A predictor for each component.
    pub components: BTreeMap<ComponentId, ComponentModel>,
    /// Failures that were to be expected of each hardware model in the time that it was watched.
    pub experience: BTreeMap<HardwareModelId, f64>,
    /// How well the held-out devices were predicted.
    pub quality: Quality,
}

/// How held-out devices were predicted, main horizon, all components of the family.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Failures among the training rows.
    pub failures: usize,
    /// Rows that stand for all training rows.
    pub rows: usize,
    /// Share of rows that a failure follows.
    pub base_rate: f64,
    /// Brier score of the calibrated probabilities.
    pub brier: f64,
    /// Brier score of the base rate: `b (1 - b)`.
    pub brier_base: f64,
    /// Precision over rows at the threshold.
    pub precision: f64,
    /// Recall over rows at the threshold.
    pub recall: f64,
    /// Hours that a part takes to the depots of nine of ten devices.
    pub lead_hours: f64,
    /// Share of the failures that an alarm told of at least so early.
    pub in_time: f64,
    /// Ten bins of probability; those without rows are left out.
    pub reliability: Vec<Bin>,
}

/// How a component's failures are predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ComponentModel {
    /// A ranker a horizon.
    Learnt {
        /// Failures it learnt from.
        failures: usize,
        /// One a horizon of the model.
        horizons: Vec<HorizonModel>,
        /// For each feature from where to where nine of ten rows have it that no failure follows; `None` where it is missing in
        /// all of them.
        usual: Vec<Option<(f64, f64)>>,
        /// What the rows that it learnt from were like.
        reference: Reference,
        /// Past cases that a prediction is laid beside.
        cases: Vec<Case>,
        /// Remaining life, where devices are run until they fail.
        life: Option<Box<LifeModel>>,
    },
    /// Too few failures to learn from: a lifetime distribution in days of age.
    Lifetime {
        /// Failures it learnt from.
        failures: usize,
        /// The distribution.
        weibull: Weibull,
        /// For a slot whose age is not known.
        rate_per_day: f64,
    },
    /// No failure with an age, or none at all: a rate.
    Rate {
        /// Failures it learnt from.
        failures: usize,
        /// Failures a day of a slot.
        rate_per_day: f64,
    },
}

impl ComponentModel {
    /// What was learnt of remaining life.
    pub(super) fn life(&self) -> Option<&LifeModel> {
        match self {
            Self::Learnt { life, .. } => life.as_deref(),
            Self::Lifetime { .. } | Self::Rate { .. } => None,
        }
    }

    /// The family of the predictor in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Learnt { horizons, .. } => horizons.first().map_or("nothing", |main| main.ranker.name()),
            Self::Lifetime { .. } => "lifetime",
            Self::Rate { .. } => "rate",
        }
    }
}

/// A kind of ranker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Forest,
    Boosting,
}

impl Kind {
    /// All there are, the safest first; of equally good ones the first is taken.
    pub(super) const ALL: [Self; 2] = [Self::Forest, Self::Boosting];

    /// In a word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forest => "forest",
            Self::Boosting => "boosting",
        }
    }
}

/// What ranks rows by how near a failure is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranker {
    /// A random forest.
    Forest(Forest),
    /// Boosted trees.
    Boosting(Boosting),
    /// A classifier that was trained elsewhere.
    Onnx(Box<Onnx>),
}

impl Ranker {
    /// In a word.
    fn name(&self) -> &'static str {
        match self {
            Self::Forest(_) => Kind::Forest.name(),
            Self::Boosting(_) => Kind::Boosting.name(),
            Self::Onnx(_) => "onnx",
        }
    }

    /// The score of each row in 0..=1, not a calibrated probability.
    #[must_use]
    pub fn scores(&self, rows: &[&[f64]]) -> Vec<f64> {
        match self {
            Self::Forest(forest) => forest.scores(rows),
            Self::Boosting(boosting) => boosting.predictions(rows),
            Self::Onnx(onnx) => onnx.judge(rows, |score| (score, score)).into_iter().map(|(score, _)| score).collect(),
        }
    }

    /// What each feature added: to the score of a forest or of a classifier from elsewhere, to the log odds behind that of
    /// boosted trees. Overwritten. Returns what they add up from.
    pub fn contributions(&self, row: &[f64], contributions: &mut Vec<f64>) -> f64 {
        match self {
            Self::Forest(forest) => forest.contributions(row, contributions),
            Self::Boosting(boosting) => boosting.contributions(row, contributions),
            Self::Onnx(onnx) => onnx.contributions(row, contributions),
        }
    }

    /// The leaf of each tree that a row falls into.
    pub(super) fn leaves(&self, row: &[f64]) -> Vec<u32> {
        match self {
            Self::Forest(forest) => forest.leaves(row),
            Self::Boosting(boosting) => boosting.leaves(row),
            // Its operators have no leaves that anybody knows.
            Self::Onnx(_) => Vec::new(),
        }
    }

    /// Whether there is one leaf a tree, and each is one.
    pub(super) fn has_leaves(&self, leaves: &[u32]) -> bool {
        match self {
            Self::Forest(forest) => forest.has_leaves(leaves),
            Self::Boosting(boosting) => boosting.has_leaves(leaves),
            Self::Onnx(_) => leaves.is_empty(),
        }
    }

    fn fits(&self, width: usize) -> bool {
        match self {
            Self::Forest(forest) => forest.width() == width && forest.is_sound(),
            Self::Boosting(boosting) => boosting.width() == width && boosting.is_sound(),
            Self::Onnx(onnx) => onnx.fits(width),
        }
    }
}

/// A ranker and what its score means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizonModel {
    /// Ranks.
    pub ranker: Ranker,
    /// Score to probability.
    pub calibration: Calibration,
}

impl HorizonModel {
    /// Score and probability of each row.
    pub(super) fn judge(&self, rows: &[&[f64]]) -> Vec<(f64, f64)> {
        let judged = |score: f64| (score, self.calibration.probability(score));
        match &self.ranker {
            Ranker::Onnx(onnx) => onnx.judge(rows, judged),
            ranker => ranker.scores(rows).into_iter().map(judged).collect(),
        }
    }

    /// What past cases were scored by and stand in the leaves of: for a classifier from elsewhere, the ranker that it replaced.
    pub(super) fn of_cases(&self) -> &Self {
        match &self.ranker {
            Ranker::Onnx(onnx) => onnx.instead(),
            Ranker::Forest(_) | Ranker::Boosting(_) => self,
        }
    }

    /// Whether it is one for rows of `width` features.
    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.ranker.fits(width) && self.calibration.is_sound()
    }
}

impl Model {
    /// Sets the version to the hash of the content.
    pub(super) fn seal(mut self) -> Self {
        self.version = String::new();
        let content = serde_json::to_vec(&self).expect("a model has no map with keys that JSON cannot write");
        let digest = Sha256::digest(&content);
        self.version = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        self
    }

    /// Writes the model into `folder`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).expect("a model has no map with keys that JSON cannot write");
        let (path, part) = (folder.join(FILE), folder.join("model.json.part"));
        let io = |attempt, path: &Path| {
            let path = path.display().to_string();
            move |source| Error::Io { attempt, path, source }
        };
        std::fs::create_dir_all(folder).map_err(io("make", folder))?;
        std::fs::write(&part, text).map_err(io("write", &part))?;
        std::fs::File::open(&part).and_then(|file| file.sync_all()).map_err(io("sync", &part))?;
        std::fs::rename(&part, &path).map_err(io("rename", &part))
    }

    /// Opens the model in `folder`.
    ///
    /// # Errors
    /// [`Error`], naming the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let name = path.display().to_string();
        let text = std::fs::read(&path).map_err(|source| Error::Io { attempt: "read", path: name.clone(), source })?;
        Self::parse(&text, name)
    }

    fn parse(text: &[u8], path: String) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let head: Head = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if head.format != u64::from(FORMAT) {
            return Err(Error::Format { path, found: head.format });
        }
        let model: Self = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if model.horizons.is_empty() {
            return Err(damaged("it has no horizon".to_owned()));
        }
        for family in &model.families {
            if family.experience.values().any(|failures| !(failures.is_finite() && *failures >= 0.0)) {
                return Err(damaged(format!("{}: its experience is no number of failures", family.kind)));
            }
            for (component, predictor) in &family.components {
                model.check(family, predictor).map_err(|why| damaged(format!("{} {component}: {why}", family.kind)))?;
            }
        }
        let version = model.version.clone();
        let model = model.seal();
        if model.version != version {
            return Err(damaged("its content is not what its version says".to_owned()));
        }
        for (place, names, onnx) in model.onnx() {
            onnx.verify(&names).map_err(|source| Error::Onnx { path: path.clone(), place, source })?;
        }
        Ok(model)
    }

    /// The cards of the classifiers in it that were trained elsewhere, in order of kind and component.
    pub fn cards(&self) -> impl Iterator<Item = &onnx::Card> {
        self.onnx().map(|(_, _, onnx)| onnx.card())
    }

    /// Classifiers that were trained elsewhere, with kind and component, and the names of their features.
    pub(super) fn onnx(&self) -> impl Iterator<Item = (String, Vec<String>, &Onnx)> {
        self.families.iter().flat_map(|family| {
            family.components.iter().filter_map(|(component, predictor)| {
                let ComponentModel::Learnt { horizons, .. } = predictor else { return None };
                let Ranker::Onnx(onnx) = &horizons.first()?.ranker else { return None };
                Some((format!("{} {component}", family.kind), family.space.names(), &**onnx))
            })
        })
    }

    fn check(&self, family: &Family, predictor: &ComponentModel) -> Result<(), &'static str> {
        match predictor {
            ComponentModel::Learnt { horizons, .. } if horizons.len() != self.horizons.len() => {
                Err("it has not one ranker a horizon")
            }
            ComponentModel::Learnt { horizons, life, usual, reference, cases, .. } => {
                let width = family.space.width();
                let fits = usual.len() == width
                    && reference.fits(width)
                    && horizons.iter().all(|h| h.is_sound(width))
                    && life.as_ref().is_none_or(|life| life.is_sound(width));
                let known = |case: &Case| horizons.first().is_some_and(|main| case.is_sound(&main.of_cases().ranker));
                match (fits, cases.iter().all(known)) {
                    (true, true) => Ok(()),
                    (true, false) => Err("its past cases do not fit its trees"),
                    (false, _) => Err("its trees do not fit its features"),
                }
            }
            ComponentModel::Lifetime { rate_per_day, .. } | ComponentModel::Rate { rate_per_day, .. } => {
                if rate_per_day.is_finite() && *rate_per_day >= 0.0 { Ok(()) } else { Err("its rate is not a rate") }
            }
        }
    }

    /// How far before *t* a score at *t* looks.
    #[must_use]
    pub fn lookback(&self) -> Duration {
        let of_life = |family: &Family| {
            let lives = family.components.values().filter_map(ComponentModel::life);
            lives.map(|life| life.lookback(&family.space)).max().unwrap_or_default()
        };
        let of = |family: &Family| family.space.windows.lookback().max(of_life(family));
        self.families.iter().map(of).max().unwrap_or(Duration::from_days(31))
    }

    /// How much from its begin on the baseline of a device takes at most.
    #[must_use]
    pub fn baseline(&self) -> Duration {
        let of = |family: &Family| {
            let windows = &family.space.windows;
            // Its begin may lie inside a bucket, and so may its end.
            Duration::from_millis(windows.baseline.millis() + 2 * windows.step.millis())
        };
        self.families.iter().map(of).max().unwrap_or_default()
    }

    /// The family of a kind of device.
    #[must_use]
    pub fn family(&self, kind: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.kind == kind)
    }

    /// Failures that the model learnt from.
    #[must_use]
    pub fn failures(&self) -> usize {
        let of = |component: &ComponentModel| match component {
            ComponentModel::Learnt { failures, .. }
            | ComponentModel::Lifetime { failures, .. }
            | ComponentModel::Rate { failures, .. } => *failures,
        };
        self.families.iter().flat_map(|family| family.components.values()).map(of).sum()
    }
}
