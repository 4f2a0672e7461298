//! `harbinger plan BUNDLE --at TS --out plan.json`: which pieces to move and to buy, from a fleet bundle as it was known then.

use std::{collections::HashSet, path::PathBuf};

use harbinger_analytics::{
    failure::{Model, Subject, TrainOptions, score, subjects, train},
    plan::{Newest, Plan, PlanInput, PlanOptions, SlotForecast, StockPosition, TransferKind, forecasts, plan},
};
use harbinger_bundle::{Bundle, results::write_text};
use harbinger_core::{DeviceId, Timestamp, fleet::StockLevel};

use super::read_bundle;
use crate::progress::Step;

/// Transfers and purchases that are told on the terminal.
const MOST_TOLD: usize = 10;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the fleet bundle
    bundle: PathBuf,
    /// Plan as of this time: nothing after it is used, stock is that of the bundle
    #[arg(long, value_name = "TS")]
    at: Timestamp,
    /// Folder of the model [default: learn one from the bundle until then]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Most money for purchases [default: no bound]
    #[arg(long, value_name = "MONEY", value_parser = money)]
    budget: Option<f64>,
    /// File to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
}

fn money(text: &str) -> Result<f64, String> {
    let amount = text.parse().ok().filter(|amount: &f64| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| format!("{text:?} is no amount of money: it must be a number of at least 0"))
}

/// Reads, predicts, plans, writes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bundle = read_bundle(&arguments.bundle)?;
    let at = arguments.at;
    let forecasts = slot_forecasts(&bundle, arguments)?;
    let step = Step::begin("planning");
    let positions: Vec<StockPosition> = bundle.fleet.stock.iter().map(position).collect();
    let options = PlanOptions { purchase_budget: arguments.budget, ..PlanOptions::default() };
    let plan = plan(&PlanInput {
        as_of: at,
        fleet: &bundle.fleet,
        forecasts: &forecasts,
        positions: &positions,
        consumption: &bundle.consumption,
        options: &options,
    });
    write_text(&arguments.out, &format!("{}\n", serde_json::to_string_pretty(&plan)?))?;
    step.done(&format!(
        "wrote {} transfers and {} purchases to {}",
        plan.transfers.len(),
        plan.purchases.len(),
        arguments.out.display()
    ));
    tell(&plan);
    Ok(())
}

/// What each slot that is there is likely to need, by the model given or by one that is learnt.
fn slot_forecasts(bundle: &Bundle, arguments: &Arguments) -> anyhow::Result<Vec<SlotForecast>> {
    let at = arguments.at;
    let subjects = subjects(&bundle.fleet, &bundle.histories);
    let model = match &arguments.models {
        Some(folder) => Model::open(folder)?,
        None => {
            let step = Step::begin("training");
            let model = train(&bundle.fleet, &subjects, &TrainOptions::new(at));
            step.done(&format!("model {} of {} failures until {}", model.version, model.failures(), at));
            model
        }
    };
    anyhow::ensure!(
        model.trained_until <= at,
        "the model knows what came until {}, which is after {at}: give one that was trained until then",
        model.trained_until
    );
    // The row of the step at hand: a device that has not reported since the step before is silent.
    let last = |subject: &Subject<'_>| {
        let observed = subject.observed?;
        let time = at.min(observed.until);
        (observed.from <= time && time + model.every >= at).then_some(time)
    };
    let step = Step::begin("scoring");
    let predictions = score(&model, &bundle.fleet, &subjects, |subject| last(subject).into_iter().collect());
    step.done(&format!("{} predictions", predictions.len()));
    let newest: Vec<Newest> = predictions.iter().map(Newest::of).collect();
    let reported: HashSet<DeviceId> = subjects
        .iter()
        .filter(|subject| subject.observed.is_some_and(|observed| observed.from <= at))
        .map(|subject| subject.device.device.clone())
        .collect();
    Ok(forecasts(&bundle.fleet, &model, &newest, &reported, at))
}

fn position(level: &StockLevel) -> StockPosition {
    StockPosition {
        part: level.part.clone(),
        depot: level.depot.clone(),
        on_hand: i64::from(level.on_hand),
        in_transit: i64::from(level.in_transit),
        on_order: 0,
        reserved: 0,
        backorders: 0,
        last_received: None,
        in_repair: Vec::new(),
    }
}

/// The first of the proposals, and what the plan could not use.
fn tell(plan: &Plan) {
    let kind = |kind| match kind {
        TransferKind::Forward => "send",
        TransferKind::Lateral => "move",
        TransferKind::Return => "return",
    };
    for transfer in plan.transfers.iter().take(MOST_TOLD) {
        println!(
            "{:<7}{:>4} {} from {} to {}: saves {:.2}, transport {:.2}",
            kind(transfer.kind),
            transfer.quantity,
            transfer.part,
            transfer.from,
            transfer.to,
            transfer.worth,
            transfer.cost,
        );
    }
    for purchase in plan.purchases.iter().take(MOST_TOLD) {
        println!(
            "buy    {:>4} {} for {}: saves {:.2}, costs {:.2}",
            purchase.quantity, purchase.part, purchase.to, purchase.worth, purchase.cost,
        );
    }
    let told = plan.transfers.len().min(MOST_TOLD) + plan.purchases.len().min(MOST_TOLD);
    let all = plan.transfers.len() + plan.purchases.len();
    if all > told {
        println!("and {} more", all - told);
    }
    let quality = &plan.data_quality;
    for rejected in &quality.rejected {
        println!("not used: {} {} ({}), such as {}", rejected.count, rejected.record, rejected.cause, rejected.example);
    }
    if quality.degraded {
        println!(
            "degraded: {} of {} forecasts were rejected; read the plan with care",
            quality.forecasts_rejected, quality.forecasts
        );
    }
}
