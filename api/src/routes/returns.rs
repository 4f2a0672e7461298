//! Returns of failed pieces and their repairs: begun by replacements of repairable parts, ended by people.

use axum::{Json as Answer, extract::State};
use harbinger_core::{DepotId, PartId, TenantId, Timestamp};
use harbinger_store::ledger::{
    Connection,
    alerts::Order as Sequence,
    audit,
    orders::OrderState,
    returns::{self, Leg, ReturnFilter, ReturnOrder},
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

/// Failed pieces on their way back to the hub, or in repair there.
#[derive(Debug, Serialize, ToSchema)]
struct ReturnView {
    /// Its id, `ret_...` or `rep_...`; later ones sort later.
    order_id: String,
    /// `return` or `repair`.
    #[schema(example = "return")]
    kind: &'static str,
    /// Which part.
    #[schema(value_type = String)]
    part: PartId,
    /// Where the pieces are when it begins; the hub itself for a repair.
    #[schema(value_type = String)]
    from: DepotId,
    /// The hub.
    #[schema(value_type = String)]
    to: DepotId,
    /// Pieces.
    quantity: u32,
    /// `approved` (returns only), `shipped` (of a repair: under way), `received` or `cancelled` (returns only).
    #[schema(example = "approved")]
    state: &'static str,
    /// The part use that a return comes from, or the return that a repair comes from.
    cause: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// When the pieces left, or their repair began.
    #[schema(value_type = Option<String>, format = DateTime)]
    shipped_at: Option<Timestamp>,
    /// When they should be there, or repaired; null where that is not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Timestamp>,
    /// When they came, or their repair ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    /// How many came; of a repair, how many are usable and lie on the hub's shelf since.
    received_quantity: Option<u32>,
    /// When they were given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancelled_at: Option<Timestamp>,
    /// When `return.overdue` or `repair.overdue` told that it should have come; null where it did not.
    #[schema(value_type = Option<String>, format = DateTime)]
    overdue_told_at: Option<Timestamp>,
}

impl From<ReturnOrder> for ReturnView {
    fn from(row: ReturnOrder) -> Self {
        Self {
            order_id: row.order_id,
            kind: row.leg.as_str(),
            part: row.part,
            from: row.from,
            to: row.to,
            quantity: row.quantity,
            state: row.state.as_str(),
            cause: row.cause,
            opened_at: row.opened_at,
            shipped_at: row.shipped_at,
            due_at: row.due_at,
            received_at: row.received_at,
            received_quantity: row.received_quantity,
            cancelled_at: row.cancelled_at,
            overdue_told_at: row.overdue_told_at,
        }
    }
}

/// Which of them are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ReturnQuery {
    /// Only these states, separated by commas.
    state: Option<String>,
    /// Only this part.
    #[param(value_type = Option<String>)]
    part: Option<PartId>,
    /// Only to this hub.
    #[param(value_type = Option<String>)]
    to: Option<DepotId>,
    /// `true`: only those that are open and were told to be overdue; `false`: only the others.
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
struct ReturnNote {
    /// Event time of the step; now unless told.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    /// On receiving: how many pieces came, or are usable; all unless told. The others are given up.
    quantity: Option<u32>,
    /// On shipping and receiving: serials of the pieces, of a repair those of the usable ones, as far as they are known.
    #[serde(default)]
    serials: Vec<String>,
}

#[derive(Clone, Copy)]
enum Step {
    Ship,
    ReceiveReturn,
    ReceiveRepair,
    Cancel,
}

async fn list_legs(
    state: &ApiState,
    caller: &Caller<Read>,
    leg: Leg,
    query: ReturnQuery,
) -> Result<Answer<Page<ReturnView>>> {
    let states = super::words::<OrderState>(query.state.as_deref(), "state")?;
    let filter = ReturnFilter { states, part: query.part, to: query.to, overdue: query.overdue };
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let after = page.after_one(leg.as_str())?;
    let (sequence, more) = (Sequence::NewestFirst, super::one_more(limit));
    let mut connection = state.ledger.read().await?;
    let rows = returns::list(&mut connection, &caller.tenant, leg, &filter, sequence, after.as_deref(), more).await?;
    Ok(Answer(Page::of(rows, limit, leg.as_str(), |row| vec![row.order_id.clone()], ReturnView::from)))
}

async fn get_leg(state: &ApiState, caller: &Caller<Read>, leg: Leg, order_id: &str) -> Result<Answer<ReturnView>> {
    let mut connection = state.ledger.read().await?;
    Ok(Answer(returns::get(&mut connection, &caller.tenant, leg, order_id).await?.into()))
}

/// Takes a step and returns what it changed: the order that was asked for first, then the repair that it began.
async fn taken(
    connection: &mut Connection,
    tenant: &TenantId,
    step: Step,
    order_id: &str,
    note: &ReturnNote,
    at: Timestamp,
) -> Result<(ReturnOrder, Option<ReturnOrder>)> {
    let ReturnNote { quantity, serials, .. } = note;
    Ok(match step {
        Step::Ship => (returns::ship(connection, tenant, order_id, serials, at).await?, None),
        Step::ReceiveReturn => returns::receive_return(connection, tenant, order_id, *quantity, serials, at).await?,
        Step::ReceiveRepair => {
            (returns::receive_repair(connection, tenant, order_id, *quantity, serials, at).await?, None)
        }
        Step::Cancel => (returns::cancel(connection, tenant, order_id, at).await?, None),
    })
}

async fn take_step(
    state: ApiState,
    caller: Caller<Operate>,
    step: Step,
    order_id: String,
    note: ReturnNote,
) -> Result<Answer<ReturnView>> {
    uninterrupted(async move {
        let tenant = &caller.tenant;
        let at = note.at.unwrap_or_else(|| state.control.event_time(tenant));
        let mut tx = state.ledger.write().await?;
        let (order, begun) = taken(&mut tx, tenant, step, &order_id, &note, at).await?;
        let view = ReturnView::from(order);
        let event = format!("{}.{}", view.kind, view.state);
        state.alerts.publish(&mut tx, tenant, &event, &order_id, at, &serde_json::json!(view)).await?;
        if let Some(repair) = begun.map(ReturnView::from) {
            let data = serde_json::json!(repair);
            state.alerts.publish(&mut tx, tenant, "repair.shipped", &repair.order_id, at, &data).await?;
        }
        let what = (caller.actor.as_str(), event.as_str(), order_id.as_str());
        let detail = serde_json::json!({ "at": at, "quantity": note.quantity, "serials": note.serials });
        audit::append(&mut tx, tenant, state.clock.now(), what, &detail).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(view))
    })
    .await
}

/// The routes of one leg.
macro_rules! leg {
    ($leg:ident, $list_path:literal, $path:literal, $list:ident, $get:ident, $list_words:literal, $get_words:literal,
     $($step:ident $step_path:literal $name:ident $step_words:literal),+) => {
        #[doc = $list_words]
        #[utoipa::path(
            get, path = $list_path, tag = "orders", params(ReturnQuery), security(("key" = ["read"])),
            responses((status = 200, body = Page<ReturnView>))
        )]
        async fn $list(
            caller: Caller<Read>,
            State(state): State<ApiState>,
            Query(query): Query<ReturnQuery>,
        ) -> Result<Answer<Page<ReturnView>>> {
            list_legs(&state, &caller, Leg::$leg, query).await
        }

        #[doc = $get_words]
        #[utoipa::path(
            get, path = $path, tag = "orders", params(("order_id" = String, Path)), security(("key" = ["read"])),
            responses((status = 200, body = ReturnView))
        )]
        async fn $get(
            caller: Caller<Read>,
            State(state): State<ApiState>,
            Path(order_id): Path<String>,
        ) -> Result<Answer<ReturnView>> {
            get_leg(&state, &caller, Leg::$leg, &order_id).await
        }

        $(
            #[doc = $step_words]
            #[utoipa::path(
                post, path = $step_path, tag = "orders", params(("order_id" = String, Path)),
                request_body = Option<ReturnNote>, security(("key" = ["operate"])),
                responses((status = 200, body = ReturnView))
            )]
            async fn $name(
                caller: Caller<Operate>,
                State(state): State<ApiState>,
                Path(order_id): Path<String>,
                note: Option<Json<ReturnNote>>,
            ) -> Result<Answer<ReturnView>> {
                take_step(state, caller, Step::$step, order_id, note.unwrap_or_default().0).await
            }
        )+
    };
}

leg!(
    Return, "/returns", "/returns/{order_id}", list_returns, get_return, "Returns of failed pieces, newest first",
    "A return",
    Ship "/returns/{order_id}/ship" ship_return "Send failed pieces to the hub",
    ReceiveReturn "/returns/{order_id}/receive" receive_return
        "Receive failed pieces at the hub: their repair begins, and what did not come is given up",
    Cancel "/returns/{order_id}/cancel" cancel_return
        "Give up failed pieces that were to be returned: they are lost, or scrapped where they are"
);
leg!(
    Repair, "/repairs", "/repairs/{order_id}", list_repairs, get_repair, "Repairs, newest first", "A repair",
    ReceiveRepair "/repairs/{order_id}/receive" receive_repair
        "End a repair: usable pieces go on the hub's shelf, the others are condemned"
);

/// The routes of returns and repairs.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_returns))
        .routes(routes!(get_return))
        .routes(routes!(ship_return))
        .routes(routes!(receive_return))
        .routes(routes!(cancel_return))
        .routes(routes!(list_repairs))
        .routes(routes!(get_repair))
        .routes(routes!(receive_repair))
}
