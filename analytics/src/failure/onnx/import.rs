//! An ONNX classifier put in the place of a ranker: a new version of the model, everything else as it was.

use std::collections::BTreeSet;

use harbinger_core::{Duration, Timestamp, fleet::Fleet};

use super::{Card, Error, File, Lazy, Onnx};
use crate::{
    failure::{
        Subject,
        calibration::{Calibration, Scored},
        held_out, kind_of, kinds,
        model::{ComponentModel, HorizonModel, Model, Ranker},
        rows::{Row, component_rows, fill, next_failure},
        train::cohorts_of,
    },
    features::FeatureSpace,
};

/// Failures from which on scores of a model can be given a meaning.
const MIN_FAILURES: usize = 3;

/// Too little came after a model's training to calibrate it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the card says that its probabilities are not calibrated, and {failures} failures are known after {trained_until}, fewer \
     than {MIN_FAILURES}: calibrate it before export, or give it a bundle whose past goes on longer"
)]
pub struct TooFew {
    /// Failures that are known.
    pub failures: usize,
    /// Since when.
    pub trained_until: Timestamp,
}

/// What is known from after the training of a model: what its scores mean is learnt from this.
#[derive(Debug, Clone, Copy)]
pub struct Later<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// Its devices, in order of id.
    pub subjects: &'a [Subject<'a>],
    /// Nothing after this is used.
    pub until: Timestamp,
}

impl Model {
    /// The model with an ONNX file in the place of the main horizon's ranker of the card's kind and component. Horizons beside the
    /// main one, remaining life and threshold stay.
    ///
    /// * `later`: what came after the file's training, where that is known.
    ///
    /// # Errors
    /// [`Error`], saying what does not fit and what to do.
    pub fn with_onnx(mut self, file: Vec<u8>, card: Card, later: Option<Later<'_>>) -> Result<Self, Error> {
        let (place, names) = self.place(&card)?;
        let every = self.every;
        let family = &mut self.families[place];
        let Some(ComponentModel::Learnt { horizons, usual, reference, .. }) =
            family.components.get_mut(&card.component)
        else {
            return Err(Error::NoPlace(format!(
                "too few failures of {} of kind {:?} are known for a ranker: there is none that a file could replace",
                card.component, card.kind
            )));
        };
        let Some(main) = horizons.first_mut() else {
            return Err(Error::NoPlace("the model has no horizon".to_owned()));
        };
        let instead = match &main.ranker {
            Ranker::Onnx(before) => before.instead.clone(),
            Ranker::Forest(_) | Ranker::Boosting(_) => Box::new(main.clone()),
        };
        let middle = usual.iter().map(|range| range.map(|(low, high)| low + (high - low) / 2.0)).collect();
        let onnx = Onnx { file: File(file), card, middle, instead, session: Lazy::default() };
        onnx.verify(&names)?;
        let card = onnx.card().clone();
        let scored = match later {
            Some(later) => scored(&onnx, every, &family.space, later),
            None => Scores::default(),
        };
        let calibration = if card.calibrated {
            Calibration::identity()
        } else {
            let failures = scored.failures;
            if failures < MIN_FAILURES {
                return Err(TooFew { failures, trained_until: card.trained_until }.into());
            }
            held_out::fit(&scored.rows, failures)
        };
        *reference = reference.rescored(&scored.rows);
        *main = HorizonModel { ranker: Ranker::Onnx(Box::new(onnx)), calibration };
        self.trained_until = self.trained_until.max(card.trained_until);
        Ok(self.seal())
    }

    /// The family that a card is about, and its features in words.
    fn place(&self, card: &Card) -> Result<(usize, Vec<String>), Error> {
        let wrong = |field: &'static str, reason: String| Error::Card { field, reason };
        if self.horizons.first() != Some(&card.horizon) {
            let main = self.horizons.first().map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(wrong("horizon", format!("the model's main horizon is {main}")));
        }
        let known = |of: Vec<String>| if of.is_empty() { "none".to_owned() } else { of.join(", ") };
        let Some(place) = self.families.iter().position(|family| family.kind == card.kind) else {
            let kinds = self.families.iter().map(|family| family.kind.clone()).collect();
            return Err(wrong("kind", format!("the model knows {}", known(kinds))));
        };
        let family = &self.families[place];
        if !family.components.contains_key(&card.component) {
            let components = family.components.keys().map(ToString::to_string).collect();
            return Err(wrong("component", format!("the model knows {}", known(components))));
        }
        Ok((place, family.space.names()))
    }
}

/// What a file says of rows that came after its training.
#[derive(Default)]
struct Scores {
    rows: Vec<Scored>,
    failures: usize,
}

/// * `every`: between two rows of a device.
fn scored(onnx: &Onnx, every: Duration, space: &FeatureSpace, Later { fleet, subjects, until }: Later<'_>) -> Scores {
    let card = onnx.card();
    let kinds = kinds(fleet);
    let of_kind = |place: &usize| kind_of(&kinds, subjects[*place].device) == card.kind;
    let members: Vec<usize> = (0..subjects.len()).filter(of_kind).collect();
    let has = |place: &usize| {
        let model = &subjects[*place].device.model;
        fleet.components.iter().any(|slot| slot.model == *model && slot.component == card.component)
    };
    let with_component: Vec<usize> = members.iter().copied().filter(has).collect();
    let horizons = [card.horizon];
    let rows = component_rows(subjects, &with_component, &card.component, &horizons, every, until, space.width());
    let later = |row: &Row| row.t > card.trained_until && row.labels[0].is_some();
    let mut rows: Vec<Row> = rows.into_iter().filter(later).collect();
    fill(&mut rows, subjects, &card.component, space, &cohorts_of(subjects, &members, space));
    let features: Vec<&[f64]> = rows.iter().map(|row| row.features.as_slice()).collect();
    let said = onnx.probabilities(&features);
    let known =
        |(row, score): (&Row, Option<f64>)| Some(Scored { score: score?, failed: row.labels[0]?, weight: row.weight });
    // A failure is one, however many rows it follows.
    let failure = |row: &Row| (row.subject, next_failure(subjects[row.subject].history, &card.component, row.t, until));
    let failing = rows.iter().filter(|row| row.labels[0] == Some(true));
    let failures = failing.map(failure).collect::<BTreeSet<_>>().len();
    Scores { rows: rows.iter().zip(said).filter_map(known).collect(), failures }
}
