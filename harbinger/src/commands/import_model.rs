//! `harbinger import-model --onnx FILE --card card.json --models DIR --out DIR2`: a model with a classifier from elsewhere in it.

use std::path::PathBuf;

use anyhow::Context;
use harbinger_analytics::failure::{
    Model,
    onnx::{Card, Later},
    subjects,
};

use super::{read_bundle, train::until};
use crate::progress::Step;

/// Arguments of `import-model`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The classifier
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// What it was learnt from and promises: see docs/reference/onnx.md
    #[arg(long, value_name = "FILE")]
    card: PathBuf,
    /// Folder of the model to put it into
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// Folder of a bundle that goes on after its training, to learn from what its scores mean
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Folder to write the new model into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Reads, holds the classifier to its card, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = Model::open(&arguments.models)?;
    let text = fs_err::read(&arguments.card)?;
    let card: Card = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not the card of a model", arguments.card.display()))?;
    let file = fs_err::read(&arguments.onnx)?;
    let bundle = arguments.bundle.as_deref().map(read_bundle).transpose()?;
    let step = Step::begin("holding the classifier to its card");
    let subjects = bundle.as_ref().map(|bundle| subjects(&bundle.fleet, &bundle.histories));
    let later = match bundle.as_ref().zip(subjects.as_deref()) {
        Some((bundle, subjects)) => Some(Later { fleet: &bundle.fleet, subjects, until: until(bundle, None)? }),
        None => None,
    };
    let (name, component, before) = (card.name.clone(), card.component.clone(), model.version.clone());
    let imported =
        model.with_onnx(file, card, later).with_context(|| format!("{} is not taken", arguments.onnx.display()))?;
    imported.save(&arguments.out)?;
    step.done(&format!("model {}: {name} ranks {component} in {before}", imported.version));
    Ok(())
}
