//! Pieces that went into devices: the joint between a replacement and the transfer that brought its part.

use axum::{Json as Answer, extract::State};
use harbinger_core::{ComponentId, DepotId, DeviceId, PartId, Timestamp};
use harbinger_store::ledger::{
    audit,
    orders::{self, UseFilter, Used},
    pieces,
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

/// A replacement and where its pieces came from.
#[derive(Debug, Serialize, ToSchema)]
struct PartUseView {
    /// Its id; stock movements refer to it.
    use_id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Into which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// For which component.
    #[schema(value_type = String)]
    component: ComponentId,
    /// Which part.
    #[schema(value_type = String)]
    part: PartId,
    /// The depot that serves the device.
    #[schema(value_type = String)]
    depot: DepotId,
    /// Pieces.
    quantity: u32,
    /// Whether all of them lay on the depot's shelf.
    from_stock: bool,
    /// The transfer that brought them, where one did.
    transfer_id: Option<String>,
    /// Whether an alert or the transfer foresaw it.
    predicted: bool,
}

impl From<Used> for PartUseView {
    fn from(row: Used) -> Self {
        let Used { use_id, ts, device, component, part, depot, quantity, from_stock, transfer_id, predicted } = row;
        Self { use_id, ts, device, component, part, depot, quantity, from_stock, transfer_id, predicted }
    }
}

/// Which uses are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PartUseQuery {
    /// Only of this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Only of this part.
    #[param(value_type = Option<String>)]
    part: Option<PartId>,
    /// Only from this depot.
    #[param(value_type = Option<String>)]
    depot: Option<DepotId>,
    /// Only pieces that this transfer brought.
    transfer_id: Option<String>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Pieces that went into devices, newest record first, each with the transfer that brought it
#[utoipa::path(
    get, path = "/part-uses", tag = "stock", params(PartUseQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<PartUseView>))
)]
async fn list_part_uses(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<PartUseQuery>,
) -> Result<Answer<Page<PartUseView>>> {
    let PartUseQuery { device, part, depot, transfer_id, limit, cursor } = query;
    let page = PageQuery { limit, cursor };
    let limit = page.limit()?;
    let before = page.after_one("part-uses")?;
    let filter = UseFilter { device, part, depot, transfer_id };
    let mut connection = state.ledger.read().await?;
    let more = super::one_more(limit);
    let rows = orders::uses(&mut connection, &caller.tenant, &filter, before.as_deref(), more).await?;
    Ok(Answer(Page::of(rows, limit, "part-uses", |row| vec![row.use_id.clone()], PartUseView::from)))
}

/// Pieces by their serial.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Serials {
    /// As many as the use took, or fewer.
    serials: Vec<String>,
}

/// Name the pieces that went into the device, as far as they are known; what was named of this use before is replaced
#[utoipa::path(
    put, path = "/part-uses/{use_id}/serials", tag = "stock", params(("use_id" = String, Path)), request_body = Serials,
    security(("key" = ["operate"])), responses((status = 200, body = PartUseView))
)]
async fn name_pieces(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Path(use_id): Path<String>,
    Json(Serials { serials }): Json<Serials>,
) -> Result<Answer<PartUseView>> {
    uninterrupted(async move {
        let tenant = &caller.tenant;
        let mut tx = state.ledger.write().await?;
        pieces::install(&mut tx, tenant, &use_id, &serials).await?;
        let used = orders::get_use(&mut tx, tenant, &use_id).await?;
        let what = (caller.actor.as_str(), "part_use.serials", use_id.as_str());
        audit::append(&mut tx, tenant, state.clock.now(), what, &serde_json::json!({ "serials": serials })).await?;
        commit(tx).await?;
        Ok(Answer(used.into()))
    })
    .await
}

/// The routes of uses.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list_part_uses)).routes(routes!(name_pieces))
}
