//! Work orders: replacements that are planned for a date, with the pieces that are kept for them.

use axum::{Json as Answer, extract::State, http::StatusCode};
use harbinger_core::{ComponentId, DepotId, DeviceId, PartId, TenantId, Timestamp};
use harbinger_store::ledger::{
    Connection, audit,
    work_orders::{self, NewWorkOrder, WorkOrder, WorkOrderFilter, WorkOrderState},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Error, Result},
    extract::{Json, Path, Query},
    guard::uninterrupted,
    page::{Page, PageQuery},
    state::ApiState,
};

/// The longest note, in bytes: it travels with every event.
const NOTE_BYTES_MAX: usize = 2_000;

/// A planned replacement.
#[derive(Debug, Serialize, ToSchema)]
struct WorkOrderView {
    /// Its id, `wko_...`; later ones sort later.
    work_order_id: String,
    /// Of which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// Of which component.
    #[schema(value_type = String)]
    component: ComponentId,
    /// With which part.
    #[schema(value_type = String)]
    part: PartId,
    /// From the shelf of which depot: the one that serves the device when it is due, as was known when it was planned.
    #[schema(value_type = String)]
    depot: DepotId,
    /// Pieces that it takes.
    quantity: u32,
    /// When it will be done; one that is open later than this is due now.
    #[schema(value_type = String, format = DateTime)]
    due_at: Timestamp,
    /// `open`, `done` or `cancelled`.
    #[schema(example = "open")]
    state: &'static str,
    /// Pieces on the depot's shelf that are kept for it; 0 unless it is open.
    reserved: u32,
    /// The alert that stood for the component when it was planned.
    alert_id: Option<String>,
    /// Words for whoever does it.
    note: Option<String>,
    /// When it was planned.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// By whom.
    opened_by: String,
    /// When the replacement was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    done_at: Option<Timestamp>,
    /// When it was called off.
    #[schema(value_type = Option<String>, format = DateTime)]
    cancelled_at: Option<Timestamp>,
}

impl From<WorkOrder> for WorkOrderView {
    fn from(row: WorkOrder) -> Self {
        Self {
            work_order_id: row.work_order_id,
            device: row.device,
            component: row.component,
            part: row.part,
            depot: row.depot,
            quantity: row.quantity,
            due_at: row.due_at,
            state: row.state.as_str(),
            reserved: row.reserved,
            alert_id: row.alert_id,
            note: row.note,
            opened_at: row.opened_at,
            opened_by: row.opened_by,
            done_at: row.done_at,
            cancelled_at: row.cancelled_at,
        }
    }
}

/// A replacement to plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Planned {
    /// Of which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// Of which component.
    #[schema(value_type = String)]
    component: ComponentId,
    /// When it will be done.
    #[schema(value_type = String, format = DateTime)]
    due_at: Timestamp,
    /// Words for whoever does it, at most 2,000 bytes.
    note: Option<String>,
}

/// Which work orders are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WorkOrderQuery {
    /// Only these states, separated by commas.
    state: Option<String>,
    /// Only of this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Work orders, newest first
#[utoipa::path(
    get, path = "/work-orders", tag = "work orders", params(WorkOrderQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<WorkOrderView>))
)]
async fn list_work_orders(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<WorkOrderQuery>,
) -> Result<Answer<Page<WorkOrderView>>> {
    let states = super::words::<WorkOrderState>(query.state.as_deref(), "state")?;
    let filter = WorkOrderFilter { states, device: query.device };
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let before = page.after_one("work-orders")?;
    let more = super::one_more(limit);
    let mut connection = state.ledger.read().await?;
    let rows = work_orders::list(&mut connection, &caller.tenant, &filter, before.as_deref(), more).await?;
    Ok(Answer(Page::of(rows, limit, "work-orders", |row| vec![row.work_order_id.clone()], WorkOrderView::from)))
}

/// A work order
#[utoipa::path(
    get, path = "/work-orders/{work_order_id}", tag = "work orders", params(("work_order_id" = String, Path)),
    security(("key" = ["read"])), responses((status = 200, body = WorkOrderView))
)]
async fn get_work_order(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(work_order_id): Path<String>,
) -> Result<Answer<WorkOrderView>> {
    let mut connection = state.ledger.read().await?;
    Ok(Answer(work_orders::get(&mut connection, &caller.tenant, &work_order_id).await?.into()))
}

/// Plan a replacement: the plan counts with it as certain, and pieces on the depot's shelf are reserved for it, now or as they
/// come
#[utoipa::path(
    post, path = "/work-orders", tag = "work orders", request_body = Planned, security(("key" = ["operate"])),
    responses((status = 201, body = WorkOrderView))
)]
async fn open_work_order(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Json(planned): Json<Planned>,
) -> Result<(StatusCode, Answer<WorkOrderView>)> {
    let Planned { device, component, due_at, note } = planned;
    if note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        return Err(Error::unprocessable(format!("note: it has more than {NOTE_BYTES_MAX} bytes")));
    }
    let new = NewWorkOrder { device, component, due_at, note };
    uninterrupted(async move {
        let at = state.control.event_time(&caller.tenant);
        let mut tx = state.ledger.write().await?;
        let opened = work_orders::open(&mut tx, &caller.tenant, &new, &caller.actor, at).await?;
        tell(&mut tx, &state, (&caller.tenant, &caller.actor), "work_order.opened", &opened, at).await?;
        commit(tx).await?;
        state.changed();
        Ok((StatusCode::CREATED, Answer(opened.into())))
    })
    .await
}

/// Call off an open work order: its component is a chance again, its pieces are free for others
#[utoipa::path(
    post, path = "/work-orders/{work_order_id}/cancel", tag = "work orders", params(("work_order_id" = String, Path)),
    security(("key" = ["operate"])), responses((status = 200, body = WorkOrderView))
)]
async fn cancel_work_order(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(work_order_id): Path<String>,
) -> Result<Answer<WorkOrderView>> {
    uninterrupted(async move {
        let at = state.control.event_time(&caller.tenant);
        let mut tx = state.ledger.write().await?;
        let cancelled = work_orders::cancel(&mut tx, &caller.tenant, &work_order_id, at).await?;
        tell(&mut tx, &state, (&caller.tenant, &caller.actor), "work_order.cancelled", &cancelled, at).await?;
        commit(tx).await?;
        state.changed();
        Ok(Answer(cancelled.into()))
    })
    .await
}

/// Tells feed, webhooks and audit what happened to a work order.
async fn tell(
    tx: &mut Connection,
    state: &ApiState,
    (tenant, actor): (&TenantId, &str),
    event: &str,
    order: &WorkOrder,
    at: Timestamp,
) -> Result<()> {
    let id = order.work_order_id.as_str();
    state.alerts.publish(tx, tenant, event, id, at, &serde_json::json!(order)).await?;
    let detail = serde_json::json!({ "at": at, "due_at": order.due_at });
    audit::append(tx, tenant, state.clock.now(), (actor, event, id), &detail).await?;
    Ok(())
}

/// The routes of work orders.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_work_orders, open_work_order))
        .routes(routes!(get_work_order))
        .routes(routes!(cancel_work_order))
}
