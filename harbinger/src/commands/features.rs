//! `harbinger features BUNDLE --out features.csv`: the rows that training learns from, to train a model elsewhere on them.

use std::{collections::BTreeSet, path::PathBuf};

use harbinger_analytics::failure::{
    LearningTable, Model, TrainOptions, learning_tables, onnx::features_sha256, subjects,
};
use harbinger_bundle::results::{FeatureRow, write_features};
use harbinger_core::{ComponentId, Duration, Timestamp};

use super::{chosen_devices, read_bundle, train::until};
use crate::progress::Step;

/// Arguments of `features`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Use nothing after this time [default: the bundle's last]
    #[arg(long, value_name = "TS")]
    until: Option<Timestamp>,
    /// Rows of devices of this kind only
    #[arg(long)]
    kind: Option<String>,
    /// Rows of this component only
    #[arg(long)]
    component: Option<ComponentId>,
    /// Whether the component fails within this time is the label [default: the main horizon]
    #[arg(long, value_name = "LENGTH")]
    horizon: Option<Duration>,
    /// Time between two rows of a device [default: the model's, or by how often the fleet reports]
    #[arg(long)]
    every: Option<Duration>,
    /// Folder of the model whose columns they are to be [default: what training would choose]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Rows of these devices only: one id a line
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

/// Reads, makes rows, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = arguments.models.as_deref().map(Model::open).transpose()?;
    let bundle = read_bundle(&arguments.bundle)?;
    let mut options = TrainOptions::new(until(&bundle, arguments.until)?);
    options.every = arguments.every;
    options.devices = chosen_devices(&bundle, arguments.devices.as_deref())?;
    let step = Step::begin("making rows");
    let subjects = subjects(&bundle.fleet, &bundle.histories);
    let wanted = |kind: &str, component: &ComponentId| {
        arguments.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && arguments.component.as_ref().is_none_or(|wanted| wanted == component)
    };
    let tables = learning_tables(&bundle.fleet, &subjects, &options, model.as_ref(), arguments.horizon, wanted);
    let names = names(&tables)?;
    let written = write_features(&arguments.out, names, tables.iter().flat_map(rows))?;
    step.done(&format!("wrote {written} rows to {}", arguments.out.display()));
    for LearningTable { kind, component, horizon, rows, .. } in &tables {
        let failing = rows.iter().filter(|row| row.failed).count();
        println!("{kind} {component}: {} rows, a failure within {horizon} after {failing}", rows.len());
    }
    println!("features {}", names.len());
    println!("features_sha256 {}", features_sha256(names));
    Ok(())
}

/// The names of the features, which all tables must share.
fn names(tables: &[LearningTable]) -> anyhow::Result<&[String]> {
    let kinds: BTreeSet<&str> = tables.iter().map(|table| table.kind.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    match (kinds.as_slice(), tables.first()) {
        ([_], Some(first)) => Ok(&first.names),
        ([], _) | (_, None) => anyhow::bail!("there is no such kind, or none of its devices has such a component"),
        (several, _) => {
            anyhow::bail!("each kind has features of its own: choose one of {} with --kind", several.join(", "))
        }
    }
}

fn rows(table: &LearningTable) -> impl Iterator<Item = FeatureRow<'_>> {
    table.rows.iter().map(|row| FeatureRow {
        device: &row.device,
        ts: row.ts,
        component: &table.component,
        label: row.failed,
        known: row.known,
        weight: row.weight,
        features: &row.features,
    })
}
