//! Stock on hand and the movements that explain it.

use axum::{Json as Answer, extract::State, response::Response};
use harbinger_core::{
    DepotId, PartId, TenantId, Timestamp,
    fleet::{Depot, Part, StockLevel},
};
use harbinger_store::ledger::{Connection, audit, registry, stock};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::{Code, Error, Result},
    extract::Query,
    guard::uninterrupted,
    page::{Batch, Page, PageQuery, Written},
    state::ApiState,
    table::{Rows, Shape},
    views::StockView,
};

/// Which levels are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StockQuery {
    /// Only this part.
    #[param(value_type = Option<String>)]
    part: Option<PartId>,
    /// Only this depot.
    #[param(value_type = Option<String>)]
    depot: Option<DepotId>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl StockQuery {
    fn split(self) -> (stock::StockFilter, PageQuery) {
        let page = PageQuery { limit: self.limit, cursor: self.cursor };
        (stock::StockFilter { part: self.part, depot: self.depot }, page)
    }
}

/// Stock levels
#[utoipa::path(
    get, path = "/stock", tag = "stock", params(StockQuery), security(("key" = ["read"])),
    responses((status = 200, content((Page<StockView> = "application/json"), (String = "text/csv"))))
)]
async fn list_stock(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<StockQuery>,
    shape: Shape,
) -> Result<Response> {
    let (filter, page) = query.split();
    let limit = page.limit()?;
    let after = page.after("stock", 2)?;
    let after = match after.as_deref() {
        Some([part, depot]) => Some((part.as_str(), depot.as_str())),
        _ => None,
    };
    let mut connection = state.ledger.read().await?;
    let rows = stock::list(&mut connection, &caller.tenant, &filter, after, super::one_more(limit)).await?;
    let key = |row: &StockLevel| vec![row.part.to_string(), row.depot.to_string()];
    Ok(shape.answer(Page::of(rows, limit, "stock", key, StockView::from)))
}

/// Set stock levels as another system tells them; the difference to what stood there is booked as a movement
#[utoipa::path(
    put, path = "/stock", tag = "stock", security(("key" = ["operate"])),
    request_body(content((Batch<StockView> = "application/json"), (String = "text/csv"))),
    responses((status = 200, body = Written))
)]
async fn set_stock(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Rows(rows): Rows<StockView>,
) -> Result<Answer<Written>> {
    let levels: Vec<StockLevel> = rows.into_iter().map(Into::into).collect();
    uninterrupted(async move {
        let at = state.control.event_time(&caller.tenant);
        let mut tx = state.ledger.write().await?;
        check_names(&mut tx, &caller.tenant, &levels).await?;
        let reference = harbinger_core::ids::new_id("imp");
        stock::import(&mut tx, &caller.tenant, at, &levels, &reference).await?;
        let detail = serde_json::json!({ "levels": levels.len() });
        let what = (caller.actor.as_str(), "stock.set", reference.as_str());
        audit::append(&mut tx, &caller.tenant, state.clock.now(), what, &detail).await?;
        commit(tx).await?;
        Ok(Answer(Written { written: levels.len() as u64 }))
    })
    .await
}

/// Every part and depot of `levels` must be in the registry, and each pair come once: of two counts of one shelf none is right.
pub(super) async fn check_names(connection: &mut Connection, tenant: &TenantId, levels: &[StockLevel]) -> Result<()> {
    let parts: Vec<Part> = registry::list(connection, tenant, None, usize::MAX).await?;
    let depots: Vec<Depot> = registry::list(connection, tenant, None, usize::MAX).await?;
    let parts: std::collections::HashSet<&str> = parts.iter().map(|part| part.part.as_str()).collect();
    let depots: std::collections::HashSet<&str> = depots.iter().map(|depot| depot.depot.as_str()).collect();
    let missing = |what: &str, name: &str| {
        Error::new(Code::Conflict, format!("stock names {what} {name:?}, which does not exist"))
    };
    let mut seen = std::collections::HashSet::with_capacity(levels.len());
    for level in levels {
        if !seen.insert((&level.part, &level.depot)) {
            let reason = format!("stock of part {:?} at depot {:?} comes twice: send it once", level.part, level.depot);
            return Err(Error::unprocessable(reason));
        }
        if !parts.contains(level.part.as_str()) {
            return Err(missing("part", level.part.as_str()));
        }
        if !depots.contains(level.depot.as_str()) {
            return Err(missing("depot", level.depot.as_str()));
        }
    }
    Ok(())
}

/// A booked change of stock on hand.
#[derive(Debug, Serialize, ToSchema)]
struct MovementView {
    /// Its id; later movements sort later.
    movement_id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    ts: Timestamp,
    /// Which part.
    #[schema(value_type = String)]
    part: PartId,
    /// Where.
    #[schema(value_type = String)]
    depot: DepotId,
    /// Pieces: above zero in, below zero out.
    quantity: i64,
    /// `import`, `ship`, `receive`, `consume` or `adjust`.
    kind: &'static str,
    /// What it belongs to: an order, an import, a use.
    reference: String,
}

impl From<stock::Movement> for MovementView {
    fn from(row: stock::Movement) -> Self {
        let stock::Movement { movement_id, ts, part, depot, quantity, kind, reference } = row;
        Self { movement_id, ts, part, depot, quantity, kind: kind.as_str(), reference }
    }
}

/// Movements of stock, newest first
#[utoipa::path(
    get, path = "/stock/movements", tag = "stock", params(StockQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<MovementView>))
)]
async fn list_movements(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<StockQuery>,
) -> Result<Answer<Page<MovementView>>> {
    let (filter, page) = query.split();
    let limit = page.limit()?;
    let before = page.after_one("movements")?;
    let mut connection = state.ledger.read().await?;
    let rows =
        stock::movements(&mut connection, &caller.tenant, &filter, before.as_deref(), super::one_more(limit)).await?;
    let key = |row: &stock::Movement| vec![row.movement_id.clone()];
    Ok(Answer(Page::of(rows, limit, "movements", key, MovementView::from)))
}

/// The routes of stock.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list_stock, set_stock)).routes(routes!(list_movements))
}
