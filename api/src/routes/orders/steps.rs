//! What another system did with orders, taken in one request: each step by itself, in order, and once.

use axum::{Json as Answer, extract::State};
use harbinger_core::Timestamp;
use harbinger_store::ledger::{
    orders::{self, Order, OrderKind},
    stock::Booked,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{OrderNote, Rest, Step, step_in};
use crate::{
    auth::{Caller, Operate},
    errors::{Error, Result},
    guard::uninterrupted,
    page::{Batch, Page},
    routes::commit,
    state::ApiState,
    table::{Row, Rows},
};

/// Most steps of one request: each is a transaction of its own.
const STEPS_MAX: usize = 1_000;

/// A step that an order has taken elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StepTaken {
    /// Of which order, `trf_...` or `pur_...`.
    order_id: String,
    /// `approve`, `pick`, `ship`, `receive` or `cancel`.
    #[schema(value_type = String, example = "ship")]
    step: Step,
    /// Event time of the step; now unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    /// On receiving: how many pieces arrived; all unless told.
    quantity: Option<u32>,
    /// On receiving: `follows` where the others are still to come, which are written off otherwise.
    #[schema(value_type = Option<String>, example = "follows")]
    rest: Option<Rest>,
    /// On receiving: the delivery note. A receipt of an order is booked once for each; needed where the rest follows.
    reference: Option<String>,
}

impl Row for StepTaken {
    const COLUMNS: &'static [&'static str] = &["order_id", "step", "at", "quantity", "rest", "reference"];
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// The order has taken it by this request.
    Done,
    /// The order had taken it before: nothing changed.
    Already,
    /// The order cannot take it: nothing changed.
    Refused,
}

/// A step and what became of it.
#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    /// Of which order.
    order_id: String,
    /// `done`, `already` (nothing changed) or `refused` (nothing changed).
    #[schema(value_type = String, example = "done")]
    outcome: Outcome,
    /// State of the order after it; null where there is no such order.
    #[schema(example = "shipped")]
    state: Option<&'static str>,
    /// Why it was refused.
    reason: Option<String>,
}

/// Steps that another system took with orders, in order. Each is done or refused by itself, and one that an order has taken
/// before changes nothing, so that the same request may be sent again
#[utoipa::path(
    post, path = "/orders/steps", tag = "orders", security(("key" = ["operate"])),
    request_body(content((Batch<StepTaken> = "application/json"), (String = "text/csv"))),
    responses((status = 200, body = Page<StepView>))
)]
async fn take_steps(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Rows(steps): Rows<StepTaken>,
) -> Result<Answer<Page<StepView>>> {
    if steps.len() > STEPS_MAX {
        let reason = format!("{} steps are more than the {STEPS_MAX} of one request: send them in parts", steps.len());
        return Err(Error::unprocessable(reason));
    }
    uninterrupted(async move {
        let mut views = Vec::with_capacity(steps.len());
        for step in steps {
            views.push(take(&state, &caller, step).await?);
        }
        Ok(Answer(Page::whole(views)))
    })
    .await
}

/// Takes one step in a transaction of its own. Fails only where the server does: what the caller is to blame for is told in
/// the view.
async fn take(state: &ApiState, caller: &Caller<Operate>, taken: StepTaken) -> Result<StepView> {
    let StepTaken { order_id, step, at, quantity, rest, reference } = taken;
    let Some(kind) = kind_of(&order_id) else {
        let reason = Some(format!("no order {order_id:?}: ids begin with trf_ or pur_"));
        return Ok(StepView { order_id, outcome: Outcome::Refused, state: None, reason });
    };
    if rest.is_some() && reference.is_none() {
        let reason = Some("a receipt whose rest follows needs its reference, so that it is booked once".to_owned());
        return Ok(StepView { order_id, outcome: Outcome::Refused, state: None, reason });
    }
    let mut tx = state.ledger.write().await?;
    let order = match orders::get(&mut tx, &caller.tenant, kind, &order_id).await.map_err(Error::from) {
        Ok(order) => order,
        Err(error) => return refused(order_id, None, &error).ok_or(error),
    };
    let before = Some(order.state.as_str());
    if has_taken(&order, step) {
        return Ok(StepView { order_id, outcome: Outcome::Already, state: before, reason: None });
    }
    let note = OrderNote { at, quantity, rest, ..OrderNote::default() };
    let view = match step_in(&mut tx, state, caller, (kind, step), &order_id, (&note, reference.as_deref())).await {
        Ok((Booked::Now, view)) => view,
        Ok((Booked::Before, view)) => {
            return Ok(StepView { order_id, outcome: Outcome::Already, state: Some(view.state), reason: None });
        }
        Err(error) => return refused(order_id, before, &error).ok_or(error),
    };
    commit(tx).await?;
    state.changed();
    Ok(StepView { order_id, outcome: Outcome::Done, state: Some(view.state), reason: None })
}

fn kind_of(order_id: &str) -> Option<OrderKind> {
    match order_id.split_once('_')?.0 {
        "trf" => Some(OrderKind::Transfer),
        "pur" => Some(OrderKind::Purchase),
        _ => None,
    }
}

/// Whether an order has taken a step, however far it has gone since: each step leaves its time.
fn has_taken(order: &Order, step: Step) -> bool {
    match step {
        Step::Approve => order.approved_at,
        Step::Pick => order.picked_at,
        Step::Ship => order.shipped_at,
        Step::Receive => order.received_at,
        Step::Cancel => order.cancelled_at,
    }
    .is_some()
}

/// What is told of a step that the order cannot take; nothing where the server failed.
fn refused(order_id: String, state: Option<&'static str>, error: &Error) -> Option<StepView> {
    let is_refusal = error.code().status().is_client_error();
    let reason = Some(error.detail().to_owned());
    is_refusal.then_some(StepView { order_id, outcome: Outcome::Refused, state, reason })
}

/// The route of steps.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(take_steps))
}
