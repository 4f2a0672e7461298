//! Predictions: in pages of JSON, or the whole as CSV in the columns that `harbinger score` writes.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json as Answer,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use harbinger_core::{ComponentId, DeviceId, Duration, TenantId, Timestamp, time::MILLIS_PER_HOUR};
use harbinger_store::{
    Ledger,
    ledger::{
        models::{self, Model},
        predictions::{self, Filter, Prediction, PredictionKey},
    },
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Caller, Read},
    errors::{Code, Error, Result},
    extract::{Path, Query},
    page::{LIMIT_MAX, Page, PageQuery},
    state::{ApiState, Recomputed},
};

mod explanation;

use explanation::ExplanationView;

/// Which predictions are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PredictionQuery {
    /// First instant inside.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Only this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Only this component.
    #[param(value_type = Option<String>)]
    component: Option<ComponentId>,
    /// Only by this model.
    model_version: Option<String>,
    /// Only the newest of each device and component.
    #[serde(default)]
    latest: bool,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How likely a component fails, and how long it lasts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PredictionView {
    /// Its id.
    #[schema(example = "prd_MTQyMDA3MDQwMDAwMB9kMR9mYW4")]
    prediction_id: String,
    /// Event time: it knows nothing later.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// Which of its components.
    #[schema(value_type = String)]
    component: ComponentId,
    /// P(fails within the horizon after `ts`), calibrated, by horizon in hours: `p_24h`.
    probabilities: BTreeMap<String, f64>,
    /// Uncalibrated rank behind the main horizon, for ties.
    score: f64,
    /// Whether the main horizon's probability is over the model's threshold.
    alarm: bool,
    /// Mean remaining useful life in hours.
    rul_mean: f64,
    /// 5 % quantile of the remaining useful life in hours.
    rul_p05: f64,
    /// Median of the remaining useful life in hours.
    rul_p50: f64,
    /// 95 % quantile of the remaining useful life in hours.
    rul_p95: f64,
    /// What raised the score most, strongest first.
    top_signals: Vec<TopSignalView>,
    /// The model that said so.
    model_version: String,
}

/// A signal or event code and what it added to the score behind the main horizon.
#[derive(Debug, Serialize, ToSchema)]
struct TopSignalView {
    /// Signal name or event code.
    name: String,
    /// What its features added; below 0 where no signal raised the score, and these lowered it most.
    contribution: f64,
}

impl PredictionView {
    /// Shows a prediction with the horizons of its model; where that is not known they are numbered.
    pub(super) fn new(row: Prediction, models: &[Model]) -> Self {
        let labels = labels_of(&row, models);
        Self {
            prediction_id: row.id(),
            ts: row.ts,
            device: row.device,
            component: row.component,
            probabilities: labels.into_iter().zip(row.probabilities).collect(),
            score: row.score,
            alarm: row.alarm,
            rul_mean: row.rul_mean,
            rul_p05: row.rul_p05,
            rul_p50: row.rul_p50,
            rul_p95: row.rul_p95,
            top_signals: row
                .top_signals
                .into_iter()
                .map(|(name, contribution)| TopSignalView { name, contribution })
                .collect(),
            model_version: row.model_version,
        }
    }
}

fn label(horizon: Duration) -> String {
    format!("p_{}h", horizon.millis() / MILLIS_PER_HOUR)
}

fn horizons_of<'m>(row: &Prediction, models: &'m [Model]) -> Option<&'m [Duration]> {
    let of_row = |model: &&Model| model.version == row.model_version && model.horizons.len() == row.probabilities.len();
    models.iter().find(of_row).map(|model| model.horizons.as_slice())
}

fn labels_of(row: &Prediction, models: &[Model]) -> Vec<String> {
    match horizons_of(row, models) {
        Some(horizons) => horizons.iter().copied().map(label).collect(),
        None => (1..=row.probabilities.len()).map(|n| format!("p_{n}")).collect(),
    }
}

impl PredictionQuery {
    fn filter(&self) -> Filter {
        Filter {
            range: super::range(self.from, self.to),
            device: self.device.clone(),
            component: self.component.clone(),
            model_version: self.model_version.clone(),
            latest: self.latest,
        }
    }
}

/// Predictions in order of time, device, component. With `Accept: text/csv` all of them in one answer, in the columns of
/// `predictions.csv`; `limit` and `cursor` are then not used
#[utoipa::path(
    get, path = "/predictions", tag = "predictions", params(PredictionQuery), security(("key" = ["read"])),
    responses((status = 200, content((Page<PredictionView> = "application/json"), (String = "text/csv"))))
)]
async fn list_predictions(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<PredictionQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let filter = query.filter();
    let mut connection = state.ledger.read().await?;
    let models = models::list(&mut connection, &caller.tenant).await?;
    if super::accepts(&headers, "text/csv") {
        drop(connection);
        return Ok(csv_answer(state.ledger, caller.tenant, filter, &models));
    }
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let bad = || Error::new(Code::BadCursor, "no cursor of predictions");
    let after = page.after_one("predictions")?.map(|id| PredictionKey::decode(&id).ok_or_else(bad)).transpose()?;
    let rows = predictions::list(&mut connection, &caller.tenant, &filter, after.as_ref(), limit + 1).await?;
    let view = |row| PredictionView::new(row, &models);
    Ok(Answer(Page::of(rows, limit, "predictions", |row| vec![row.id()], view)).into_response())
}

/// The horizons of the columns: of the one model that is asked for, else of all the tenant's models together.
fn columns(filter: &Filter, models: &[Model]) -> Vec<Duration> {
    let wanted = |model: &&Model| filter.model_version.as_ref().is_none_or(|version| *version == model.version);
    let mut seen = BTreeSet::new();
    let of_all = models.iter().filter(wanted).flat_map(|model| model.horizons.iter().copied());
    of_all.filter(|horizon| seen.insert(*horizon)).collect()
}

/// Streams page after page: memory does not grow with the answer, and no read transaction lives long.
fn csv_answer(ledger: Ledger, tenant: TenantId, filter: Filter, models: &[Model]) -> Response {
    let horizons = columns(&filter, models);
    let models = models.to_vec();
    let header = csv_header(&horizons);
    let pages = stream::try_unfold(Some(None::<PredictionKey>), move |place| {
        let (ledger, tenant, filter) = (ledger.clone(), tenant.clone(), filter.clone());
        let (horizons, models) = (horizons.clone(), models.clone());
        async move {
            let Some(after) = place else { return Ok::<_, Error>(None) };
            let mut connection = ledger.read().await?;
            let rows = predictions::list(&mut connection, &tenant, &filter, after.as_ref(), LIMIT_MAX).await?;
            drop(connection);
            let next = if rows.len() < LIMIT_MAX { None } else { rows.last().map(|last| Some(last.key())) };
            Ok(Some((csv_rows(&rows, &horizons, &models), next)))
        }
    });
    let whole = futures::StreamExt::chain(stream::once(async { Ok::<_, Error>(header) }), pages);
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(whole)).into_response()
}

fn csv_header(horizons: &[Duration]) -> Vec<u8> {
    let mut names: Vec<String> = ["ts", "device", "component"].map(str::to_owned).to_vec();
    names.extend(horizons.iter().copied().map(label));
    names.extend(["score", "alarm", "rul_mean", "rul_p05", "rul_p50", "rul_p95", "model_version"].map(str::to_owned));
    super::csv_bytes(|out| out.write_record(&names))
}

fn csv_rows(rows: &[Prediction], horizons: &[Duration], models: &[Model]) -> Vec<u8> {
    super::csv_bytes(|out| {
        for row in rows {
            let own = horizons_of(row, models).unwrap_or(horizons);
            let probability = |horizon: &Duration| {
                let place = own.iter().position(|own| own == horizon);
                place.and_then(|place| row.probabilities.get(place)).map_or_else(String::new, f64::to_string)
            };
            let mut cells = vec![row.ts.to_string(), row.device.to_string(), row.component.to_string()];
            cells.extend(horizons.iter().map(probability));
            cells.extend([row.score.to_string(), u8::from(row.alarm).to_string()]);
            cells.extend([row.rul_mean, row.rul_p05, row.rul_p50, row.rul_p95].map(|hours| hours.to_string()));
            cells.push(row.model_version.clone());
            out.write_record(&cells)?;
        }
        Ok(())
    })
}

/// A prediction and what it was made from.
#[derive(Debug, Serialize, ToSchema)]
struct PredictionDetail {
    /// The prediction.
    #[serde(flatten)]
    prediction: PredictionView,
    /// What it was made from: feature values, contributions, normal ranges, and what `explanation` tells. Kept for what alarmed or
    /// fed a plan, and never changed.
    #[schema(value_type = Option<Object>)]
    decision: Option<serde_json::Value>,
    /// Past cases like it and what would have to change, as the decision has them; `null` for decisions without.
    explanation: Option<ExplanationView>,
    /// The prediction reckoned again, just now, from the features of the decision and the model that made it; `null` where
    /// either is no longer kept or cannot be read.
    recomputed: Option<RecomputedView>,
}

/// A prediction that was reckoned again.
#[derive(Debug, Serialize, ToSchema)]
struct RecomputedView {
    /// P(fails within the horizon after `ts`), by horizon in hours.
    probabilities: BTreeMap<String, f64>,
    /// The rank behind the main horizon.
    score: f64,
    /// Whether all of it is what the prediction says, to the last digit, and so is what the decision says of why.
    identical: bool,
}

/// A prediction with the record of what it was made from
#[utoipa::path(
    get, path = "/predictions/{prediction_id}", tag = "predictions", params(("prediction_id" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = PredictionDetail))
)]
async fn get_prediction(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(prediction_id): Path<String>,
) -> Result<Answer<PredictionDetail>> {
    let key = PredictionKey::decode(&prediction_id).ok_or_else(|| Error::not_found("prediction", &prediction_id))?;
    let mut connection = state.ledger.read().await?;
    let row = predictions::get(&mut connection, &caller.tenant, &key).await?;
    let models = models::list(&mut connection, &caller.tenant).await?;
    let decision = predictions::decision(&mut connection, &caller.tenant, &prediction_id).await?;
    // To open a model may take a while: no reader of the ledger waits for it.
    drop(connection);
    let again = match &decision {
        Some(decision) => state.control.recompute(&caller.tenant, &key, decision).await?,
        None => None,
    };
    let explained = |again: &Recomputed| {
        let same = |(name, value): (&String, &serde_json::Value)| {
            decision.as_ref().is_some_and(|decision| decision.body.get(name) == Some(value))
        };
        again.reasons.iter().all(same)
    };
    let recomputed = again.map(|again| RecomputedView {
        identical: again.probabilities == row.probabilities && again.score == row.score && explained(&again),
        probabilities: labels_of(&row, &models).into_iter().zip(again.probabilities).collect(),
        score: again.score,
    });
    let prediction = PredictionView::new(row, &models);
    let explanation = decision.as_ref().and_then(|decision| ExplanationView::of(&decision.body));
    let decision = decision.map(|decision| decision.body);
    Ok(Answer(PredictionDetail { prediction, decision, explanation, recomputed }))
}

/// The routes of predictions.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list_predictions)).routes(routes!(get_prediction))
}
