//! Transfers and purchases: proposed by plans, then approved, picked, shipped, received or cancelled by people.

use axum::{Json as Answer, extract::State, http::HeaderMap, response::Response};
use harbinger_core::{ComponentId, DepotId, DeviceId, PartId, Timestamp};
use harbinger_store::ledger::{
    Connection,
    alerts::Order as Sequence,
    audit,
    orders::{self, Departure, Order, OrderFilter, OrderKind, OrderState, Receipt},
    stock::Booked,
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
    idempotency,
    page::{Page, PageQuery},
    state::ApiState,
    table::{Row, Shape},
};

mod steps;

/// Why an order is wanted: a device whose component is likely to need the part.
#[derive(Debug, Serialize, ToSchema)]
struct ReasonView {
    /// The device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// Its component.
    #[schema(value_type = String)]
    component: ComponentId,
    /// P(it needs the part before the next order could arrive).
    probability: f64,
    /// The prediction it comes from.
    prediction_id: Option<String>,
    /// The work order that plans to replace it.
    work_order_id: Option<String>,
}

/// A transfer between depots, or a purchase from the supplier.
#[derive(Debug, Serialize, ToSchema)]
struct OrderView {
    /// Its id, `trf_...` or `pur_...`; later orders sort later.
    order_id: String,
    /// `transfer` or `purchase`.
    #[schema(example = "transfer")]
    kind: &'static str,
    /// The plan that last wanted it.
    plan_id: String,
    /// Which part.
    #[schema(value_type = String)]
    part: PartId,
    /// Where the pieces come from; null for a purchase.
    #[schema(value_type = Option<String>)]
    from: Option<DepotId>,
    /// Where they go.
    #[schema(value_type = String)]
    to: DepotId,
    /// Pieces.
    quantity: u32,
    /// `proposed`, `approved`, `picked` (transfers only), `shipped`, `received` or `cancelled`.
    #[schema(example = "proposed")]
    state: &'static str,
    /// Expected cost that it saves.
    worth: f64,
    /// What it costs.
    cost: f64,
    /// The devices behind it, most likely first.
    reasons: Vec<ReasonView>,
    /// When it was first proposed.
    #[schema(value_type = String, format = DateTime)]
    proposed_at: Timestamp,
    /// When it was approved.
    #[schema(value_type = Option<String>, format = DateTime)]
    approved_at: Option<Timestamp>,
    /// By whom, or which policy.
    approved_by: Option<String>,
    /// When the pieces were set aside on the shelf that they leave; null where they were not.
    #[schema(value_type = Option<String>, format = DateTime)]
    picked_at: Option<Timestamp>,
    /// When the pieces left.
    #[schema(value_type = Option<String>, format = DateTime)]
    shipped_at: Option<Timestamp>,
    /// When they should arrive.
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Timestamp>,
    /// When the last of them arrived.
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    /// How many arrived; so far, where the order is still shipped and the rest follows.
    received_quantity: Option<u32>,
    /// When `transfer.overdue` or `purchase.overdue` told that it should have come; null where it did not.
    #[schema(value_type = Option<String>, format = DateTime)]
    overdue_told_at: Option<Timestamp>,
    /// When it was called off.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancelled_at: Option<Timestamp>,
    /// How many of a received transfer have gone into devices.
    consumed: u32,
}

impl Row for OrderView {
    /// The devices behind an order are not one value: they are left out.
    const COLUMNS: &'static [&'static str] = &[
        "order_id",
        "kind",
        "plan_id",
        "part",
        "from",
        "to",
        "quantity",
        "state",
        "worth",
        "cost",
        "proposed_at",
        "approved_at",
        "approved_by",
        "shipped_at",
        "due_at",
        "received_at",
        "received_quantity",
        "cancelled_at",
        "consumed",
        "picked_at",
        "overdue_told_at",
    ];
}

impl From<Order> for OrderView {
    fn from(row: Order) -> Self {
        let reason = |reason: orders::Reason| ReasonView {
            device: reason.device,
            component: reason.component,
            probability: reason.probability.get(),
            prediction_id: reason.prediction_id,
            work_order_id: reason.work_order_id,
        };
        Self {
            order_id: row.order_id,
            kind: row.kind.as_str(),
            plan_id: row.plan_id,
            part: row.part,
            from: row.from,
            to: row.to,
            quantity: row.quantity,
            state: row.state.as_str(),
            worth: row.worth,
            cost: row.cost,
            reasons: row.reasons.into_iter().map(reason).collect(),
            proposed_at: row.proposed_at,
            approved_at: row.approved_at,
            approved_by: row.approved_by,
            picked_at: row.picked_at,
            shipped_at: row.shipped_at,
            due_at: row.due_at,
            received_at: row.received_at,
            received_quantity: row.received_quantity,
            overdue_told_at: row.overdue_told_at,
            cancelled_at: row.cancelled_at,
            consumed: row.consumed,
        }
    }
}

/// Which orders are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OrderQuery {
    /// Only these states, separated by commas.
    state: Option<String>,
    /// Only this part.
    #[param(value_type = Option<String>)]
    part: Option<PartId>,
    /// Only to this depot.
    #[param(value_type = Option<String>)]
    to: Option<DepotId>,
    /// `true`: only those that are on the way and were told to be overdue; `false`: only the others.
    overdue: Option<bool>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What may be said with a step.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderNote {
    /// Event time of the step; now unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    /// On receiving: how many pieces arrived; all that are outstanding unless told.
    quantity: Option<u32>,
    /// On receiving fewer than are outstanding: `follows` where the rest is still on the way, `written_off` (unless told) where it
    /// is not.
    #[schema(value_type = Option<String>, example = "follows")]
    rest: Option<Rest>,
    /// On shipping and receiving: serials of the pieces, as far as they are known. A piece is at one place only.
    #[serde(default)]
    serials: Vec<String>,
}

/// What becomes of pieces that did not arrive with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rest {
    Follows,
    WrittenOff,
}

/// What happens to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Step {
    Approve,
    Pick,
    Ship,
    Receive,
    Cancel,
}

async fn list_orders(
    state: &ApiState,
    caller: &Caller<Read>,
    kind: OrderKind,
    query: OrderQuery,
    shape: Shape,
) -> Result<Response> {
    let states = super::words::<OrderState>(query.state.as_deref(), "state")?;
    let filter = OrderFilter { states, part: query.part, to: query.to, overdue: query.overdue };
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let after = page.after_one(kind.as_str())?;
    let (sequence, more) = (Sequence::NewestFirst, super::one_more(limit));
    let mut connection = state.ledger.read().await?;
    let rows = orders::list(&mut connection, &caller.tenant, kind, &filter, sequence, after.as_deref(), more).await?;
    Ok(shape.answer(Page::of(rows, limit, kind.as_str(), |row| vec![row.order_id.clone()], OrderView::from)))
}

async fn get_order(
    state: &ApiState,
    caller: &Caller<Read>,
    kind: OrderKind,
    order_id: &str,
) -> Result<Answer<OrderView>> {
    let mut connection = state.ledger.read().await?;
    Ok(Answer(orders::get(&mut connection, &caller.tenant, kind, order_id).await?.into()))
}

async fn take_step(
    state: ApiState,
    caller: Caller<Operate>,
    (kind, step): (OrderKind, Step),
    order_id: String,
    note: OrderNote,
    request_key: Option<String>,
) -> Result<Answer<OrderView>> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        let (booked, view) =
            step_in(&mut tx, &state, &caller, (kind, step), &order_id, (&note, request_key.as_deref())).await?;
        if booked == Booked::Before {
            // The same request again, after the answer to the first was lost: what it did is done and told.
            return Ok(Answer(view));
        }
        commit(tx).await?;
        state.changed();
        Ok(Answer(view))
    })
    .await
}

/// Takes a step and tells of it, in the caller's transaction. A receipt that was booked before under the same key changes nothing.
async fn step_in(
    tx: &mut Connection,
    state: &ApiState,
    caller: &Caller<Operate>,
    (kind, step): (OrderKind, Step),
    order_id: &str,
    (note, key): (&OrderNote, Option<&str>),
) -> Result<(Booked, OrderView)> {
    let tenant = &caller.tenant;
    let at = note.at.unwrap_or_else(|| state.control.event_time(tenant));
    let order = match step {
        Step::Approve => orders::approve(tx, tenant, kind, order_id, &caller.actor, at).await?,
        Step::Pick => orders::pick(tx, tenant, kind, order_id, at).await?,
        Step::Ship => {
            let departure = Departure { serials: &note.serials, serials_from: state.serials_from };
            orders::ship(tx, tenant, kind, order_id, departure, at).await?
        }
        Step::Receive => {
            let rest_follows = note.rest == Some(Rest::Follows);
            let receipt = Receipt { quantity: note.quantity, rest_follows, key, serials: &note.serials };
            match orders::receive(tx, tenant, kind, order_id, receipt, at).await? {
                (Booked::Now, order) => order,
                (Booked::Before, order) => return Ok((Booked::Before, order.into())),
            }
        }
        Step::Cancel => orders::cancel(tx, tenant, kind, order_id, at).await?,
    };
    let view = OrderView::from(order);
    let came_in_part = step == Step::Receive && view.received_at.is_none();
    let what = if came_in_part { "partly_received" } else { view.state };
    let event = format!("{}.{what}", view.kind);
    let data = serde_json::json!(view);
    state.alerts.publish(tx, tenant, &event, order_id, at, &data).await?;
    let what = (caller.actor.as_str(), event.as_str(), order_id);
    let detail = serde_json::json!({ "at": at, "quantity": note.quantity, "rest": note.rest, "serials": note.serials });
    audit::append(tx, tenant, state.clock.now(), what, &detail).await?;
    Ok((Booked::Now, view))
}

/// The routes of one kind of order.
macro_rules! kind {
    ($kind:ident, $list_path:literal, $path:literal, $list:ident, $get:ident, $list_words:literal, $get_words:literal,
     $($step:ident $step_path:literal $name:ident $step_words:literal),+) => {
        #[doc = $list_words]
        #[utoipa::path(
            get, path = $list_path, tag = "orders", params(OrderQuery), security(("key" = ["read"])),
            responses((status = 200, content((Page<OrderView> = "application/json"), (String = "text/csv"))))
        )]
        async fn $list(
            caller: Caller<Read>,
            State(state): State<ApiState>,
            Query(query): Query<OrderQuery>,
            shape: Shape,
        ) -> Result<Response> {
            list_orders(&state, &caller, OrderKind::$kind, query, shape).await
        }

        #[doc = $get_words]
        #[utoipa::path(
            get, path = $path, tag = "orders", params(("order_id" = String, Path)), security(("key" = ["read"])),
            responses((status = 200, body = OrderView))
        )]
        async fn $get(
            caller: Caller<Read>,
            State(state): State<ApiState>,
            Path(order_id): Path<String>,
        ) -> Result<Answer<OrderView>> {
            get_order(&state, &caller, OrderKind::$kind, &order_id).await
        }

        $(
            #[doc = $step_words]
            #[utoipa::path(
                post, path = $step_path, tag = "orders", params(("order_id" = String, Path)),
                request_body = Option<OrderNote>, security(("key" = ["operate"])),
                responses((status = 200, body = OrderView))
            )]
            async fn $name(
                caller: Caller<Operate>,
                State(state): State<ApiState>,
                Path(order_id): Path<String>,
                headers: HeaderMap,
                note: Option<Json<OrderNote>>,
            ) -> Result<Answer<OrderView>> {
                let note = note.unwrap_or_default().0;
                let request_key = idempotency::key_of(&headers);
                take_step(state, caller, (OrderKind::$kind, Step::$step), order_id, note, request_key).await
            }
        )+
    };
}

kind!(
    Transfer, "/transfers", "/transfers/{order_id}", list_transfers, get_transfer, "Transfers, newest first",
    "A transfer",
    Approve "/transfers/{order_id}/approve" approve_transfer "Approve a proposed transfer",
    Pick "/transfers/{order_id}/pick" pick_transfer
        "Set the pieces of an approved transfer aside: they stay on the source's shelf, and may still be called off",
    Ship "/transfers/{order_id}/ship" ship_transfer
        "Ship an approved or picked transfer: the pieces leave the source's shelf",
    Receive "/transfers/{order_id}/receive" receive_transfer
        "Receive a shipped transfer, or a part of it: the pieces go on the shelf",
    Cancel "/transfers/{order_id}/cancel" cancel_transfer "Call off a transfer that has not shipped"
);
kind!(
    Purchase, "/purchases", "/purchases/{order_id}", list_purchases, get_purchase, "Purchases, newest first",
    "A purchase",
    Approve "/purchases/{order_id}/approve" approve_purchase "Approve a proposed purchase",
    Ship "/purchases/{order_id}/ship" ship_purchase "Say that the supplier has shipped a purchase",
    Receive "/purchases/{order_id}/receive" receive_purchase
        "Receive a purchase, or a part of it: the pieces go on the shelf",
    Cancel "/purchases/{order_id}/cancel" cancel_purchase "Call off a purchase that has not shipped"
);

/// The routes of orders.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_transfers))
        .routes(routes!(get_transfer))
        .routes(routes!(approve_transfer))
        .routes(routes!(pick_transfer))
        .routes(routes!(ship_transfer))
        .routes(routes!(receive_transfer))
        .routes(routes!(cancel_transfer))
        .routes(routes!(list_purchases))
        .routes(routes!(get_purchase))
        .routes(routes!(approve_purchase))
        .routes(routes!(ship_purchase))
        .routes(routes!(receive_purchase))
        .routes(routes!(cancel_purchase))
        .merge(steps::routes())
}
