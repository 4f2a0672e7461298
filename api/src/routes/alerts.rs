//! Alerts and what people say to them.

use axum::{Json as Answer, extract::State};
use harbinger_alerts::{AlertChange, apply::Act, lifecycle::Closing};
use harbinger_core::{ComponentId, DeviceId, Severity, Timestamp};
use harbinger_store::ledger::{
    alerts::{self, Alert, AlertFilter, AlertState, HistoryStep, Order, Outcome},
    audit,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::Result,
    extract::{Json, Path, Query},
    guard::uninterrupted,
    page::{Page, PageQuery},
    state::ApiState,
};

/// An alert: what stands, or stood, against one component of one device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertView {
    /// Its id; later alerts sort later.
    alert_id: String,
    /// The device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// The component that is about to fail.
    #[schema(value_type = String)]
    component: ComponentId,
    /// `predicted`, or the id of the rule that raised it.
    failure_mode: String,
    /// `open`, `acknowledged`, `in_progress`, `resolved` or `closed`.
    #[schema(value_type = String, example = "open")]
    state: AlertState,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String, example = "warning")]
    severity: Severity,
    /// One line for a person.
    summary: String,
    /// Why: one object a contribution, strongest first.
    #[schema(value_type = Vec<Object>)]
    reasons: Vec<serde_json::Value>,
    /// Probability of failure at `updated_at`.
    probability: f64,
    /// Greatest probability since it was raised.
    peak_probability: f64,
    /// The prediction that raised it.
    prediction_id: Option<String>,
    /// When it was raised.
    #[schema(value_type = String, format = DateTime)]
    raised_at: Timestamp,
    /// The last observation that it took in.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When somebody first acknowledged it.
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
    /// Who did.
    acknowledged_by: Option<String>,
    /// When its cause went away.
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
    /// When it was closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Timestamp>,
    /// By whom.
    closed_by: Option<String>,
    /// What was found, `confirmed`, `no_fault_found` or `other_component`; while only resolved, what maintenance suggests.
    #[schema(value_type = Option<String>)]
    outcome: Option<Outcome>,
    /// The component that it was, where it was another.
    #[schema(value_type = Option<String>)]
    outcome_component: Option<ComponentId>,
    /// What the person who closed it wrote.
    comment: Option<String>,
}

impl From<Alert> for AlertView {
    fn from(row: Alert) -> Self {
        Self {
            alert_id: row.alert_id,
            device: row.device,
            component: row.component,
            failure_mode: row.failure_mode,
            state: row.state,
            severity: row.severity,
            summary: row.summary,
            reasons: row.reasons,
            probability: row.probability.get(),
            peak_probability: row.peak_probability.get(),
            prediction_id: row.prediction_id,
            raised_at: row.raised_at,
            updated_at: row.updated_at,
            acknowledged_at: row.acknowledged_at,
            acknowledged_by: row.acknowledged_by,
            resolved_at: row.resolved_at,
            closed_at: row.closed_at,
            closed_by: row.closed_by,
            outcome: row.outcome,
            outcome_component: row.outcome_component,
            comment: row.comment,
        }
    }
}

/// Which alerts are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AlertQuery {
    /// Only these states, separated by commas.
    state: Option<String>,
    /// Only this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Only this component.
    #[param(value_type = Option<String>)]
    component: Option<ComponentId>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Alerts, newest first
#[utoipa::path(
    get, path = "/alerts", tag = "alerts", params(AlertQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<AlertView>))
)]
async fn list_alerts(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<AlertQuery>,
) -> Result<Answer<Page<AlertView>>> {
    let states = super::words::<AlertState>(query.state.as_deref(), "state")?;
    let filter = AlertFilter { states, device: query.device, component: query.component };
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let after = page.after_one("alerts")?;
    let (order, more) = (Order::NewestFirst, super::one_more(limit));
    let mut connection = state.ledger.read().await?;
    let rows = alerts::list(&mut connection, &caller.tenant, &filter, order, after.as_deref(), more).await?;
    Ok(Answer(Page::of(rows, limit, "alerts", |row| vec![row.alert_id.clone()], AlertView::from)))
}

/// A step in the life of an alert.
#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    /// 1 for the raise, then counted up.
    step: u32,
    /// Event time.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Wall-clock time.
    #[schema(value_type = String, format = DateTime)]
    at_wall: Timestamp,
    /// The state from then on.
    #[schema(value_type = String)]
    state: AlertState,
    /// Who: a key, or `harbinger`.
    actor: String,
    /// What they wrote.
    comment: Option<String>,
}

impl From<HistoryStep> for StepView {
    fn from(row: HistoryStep) -> Self {
        let HistoryStep { step, at, at_wall, state, actor, comment } = row;
        Self { step, at, at_wall, state, actor, comment }
    }
}

/// An alert and its life so far.
#[derive(Debug, Serialize, ToSchema)]
struct AlertDetail {
    /// The alert.
    #[serde(flatten)]
    alert: AlertView,
    /// Its life, oldest step first.
    history: Vec<StepView>,
}

/// An alert with its history
#[utoipa::path(
    get, path = "/alerts/{alert_id}", tag = "alerts", params(("alert_id" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = AlertDetail))
)]
async fn get_alert(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(alert_id): Path<String>,
) -> Result<Answer<AlertDetail>> {
    let mut connection = state.ledger.read().await?;
    let alert = alerts::get(&mut connection, &caller.tenant, &alert_id).await?;
    let history = alerts::history(&mut connection, &caller.tenant, &alert_id).await?;
    Ok(Answer(AlertDetail { alert: alert.into(), history: history.into_iter().map(StepView::from).collect() }))
}

/// What may be said with a step.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Note {
    /// For the history.
    comment: Option<String>,
    /// Event time of the step; now unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// What was found.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloseNote {
    /// `confirmed`, `no_fault_found` or `other_component`: the label that models learn from.
    #[schema(value_type = String, example = "confirmed")]
    outcome: Outcome,
    /// The component that it was; with `other_component` and only then.
    #[schema(value_type = Option<String>)]
    component: Option<ComponentId>,
    /// For the record.
    comment: Option<String>,
    /// Event time; now unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

enum Step {
    Acknowledge,
    Start,
    Resolve,
    Close(Closing),
}

impl Step {
    fn action(&self) -> &'static str {
        match self {
            Self::Acknowledge => "alert.acknowledge",
            Self::Start => "alert.start",
            Self::Resolve => "alert.resolve",
            Self::Close(_) => "alert.close",
        }
    }
}

async fn take_step(
    state: ApiState,
    caller: Caller<Operate>,
    alert_id: String,
    step: Step,
    note: Note,
) -> Result<Answer<AlertView>> {
    uninterrupted(async move {
        let at = note.at.unwrap_or_else(|| state.control.event_time(&caller.tenant));
        let act = Act { at, by: &caller.actor, comment: note.comment.as_deref() };
        let mut tx = state.ledger.write().await?;
        let (alerts, tenant) = (&state.alerts, &caller.tenant);
        let AlertChange { alert, .. } = match &step {
            Step::Acknowledge => alerts.acknowledge(&mut tx, tenant, &alert_id, act).await?,
            Step::Start => alerts.start(&mut tx, tenant, &alert_id, act).await?,
            Step::Resolve => alerts.resolve(&mut tx, tenant, &alert_id, act).await?,
            Step::Close(closing) => alerts.close(&mut tx, tenant, &alert_id, act, closing).await?,
        };
        let what = (caller.actor.as_str(), step.action(), alert_id.as_str());
        let detail = serde_json::json!({ "comment": note.comment, "outcome": alert.outcome });
        audit::append(&mut tx, tenant, state.clock.now(), what, &detail).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(alert.into()))
    })
    .await
}

/// Say that somebody has seen an alert
#[utoipa::path(
    post, path = "/alerts/{alert_id}/acknowledge", tag = "alerts", params(("alert_id" = String, Path)),
    request_body = Option<Note>, security(("key" = ["operate"])), responses((status = 200, body = AlertView))
)]
async fn acknowledge_alert(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(alert_id): Path<String>,
    note: Option<Json<Note>>,
) -> Result<Answer<AlertView>> {
    take_step(state, caller, alert_id, Step::Acknowledge, note.unwrap_or_default().0).await
}

/// Say that somebody works on an alert
#[utoipa::path(
    post, path = "/alerts/{alert_id}/start", tag = "alerts", params(("alert_id" = String, Path)),
    request_body = Option<Note>, security(("key" = ["operate"])), responses((status = 200, body = AlertView))
)]
async fn start_alert(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(alert_id): Path<String>,
    note: Option<Json<Note>>,
) -> Result<Answer<AlertView>> {
    take_step(state, caller, alert_id, Step::Start, note.unwrap_or_default().0).await
}

/// Say that the cause of an alert is gone
#[utoipa::path(
    post, path = "/alerts/{alert_id}/resolve", tag = "alerts", params(("alert_id" = String, Path)),
    request_body = Option<Note>, security(("key" = ["operate"])), responses((status = 200, body = AlertView))
)]
async fn resolve_alert(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(alert_id): Path<String>,
    note: Option<Json<Note>>,
) -> Result<Answer<AlertView>> {
    take_step(state, caller, alert_id, Step::Resolve, note.unwrap_or_default().0).await
}

/// Say what an alert was: the label that models learn from
#[utoipa::path(
    post, path = "/alerts/{alert_id}/close", tag = "alerts", params(("alert_id" = String, Path)),
    request_body = CloseNote, security(("key" = ["operate"])), responses((status = 200, body = AlertView))
)]
async fn close_alert(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(alert_id): Path<String>,
    Json(close): Json<CloseNote>,
) -> Result<Answer<AlertView>> {
    let CloseNote { outcome, component, comment, at } = close;
    let closing = Closing { outcome, component, comment: comment.clone() };
    take_step(state, caller, alert_id, Step::Close(closing), Note { comment, at }).await
}

/// The routes of alerts.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_alerts))
        .routes(routes!(get_alert))
        .routes(routes!(acknowledge_alert))
        .routes(routes!(start_alert))
        .routes(routes!(resolve_alert))
        .routes(routes!(close_alert))
}
