//! Pieces that are known by their serial, and where each is.

use axum::{Json as Answer, extract::State};
use harbinger_core::{DepotId, DeviceId, PartId, Timestamp};
use harbinger_store::ledger::pieces::{self, Piece, PieceFilter, Place};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Caller, Read},
    errors::Result,
    extract::Query,
    page::{Page, PageQuery},
    state::ApiState,
};

/// A piece.
#[derive(Debug, Serialize, ToSchema)]
struct PieceView {
    /// Which part it is of.
    #[schema(value_type = String)]
    part: PartId,
    /// Its serial, unique within the part.
    serial: String,
    /// `depot` (on the shelf, or in a device since, where the use did not name it), `device`, `order` (on the way, or in repair) or `gone`
    /// (lost, written off, condemned).
    #[schema(example = "depot")]
    place: &'static str,
    /// The depot; null where it is at none.
    #[schema(value_type = Option<String>)]
    depot: Option<DepotId>,
    /// The device; null where it is in none.
    #[schema(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// The transfer, purchase, return or repair that it is with; null where it is with none.
    order_id: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl From<Piece> for PieceView {
    fn from(row: Piece) -> Self {
        let (place, depot, device, order_id) = match row.place {
            Place::Depot(depot) => ("depot", Some(depot), None, None),
            Place::Device { device, .. } => ("device", None, Some(device), None),
            Place::Order(order_id) => ("order", None, None, Some(order_id)),
            Place::Gone => ("gone", None, None, None),
        };
        Self { part: row.part, serial: row.serial, place, depot, device, order_id, since: row.at }
    }
}

/// Which pieces are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PieceQuery {
    /// Only of this part.
    #[param(value_type = Option<String>)]
    part: Option<PartId>,
    /// Only with this serial.
    serial: Option<String>,
    /// Only those in this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Pieces that orders and uses have named by their serial, in order of part and serial
#[utoipa::path(
    get, path = "/pieces", tag = "stock", params(PieceQuery), security(("key" = ["read"])),
    responses((status = 200, body = Page<PieceView>))
)]
async fn list_pieces(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<PieceQuery>,
) -> Result<Answer<Page<PieceView>>> {
    let filter = PieceFilter { part: query.part, serial: query.serial, device: query.device };
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let after = page.after("pieces", 2)?;
    let after = match after.as_deref() {
        Some([part, serial]) => Some((part.as_str(), serial.as_str())),
        _ => None,
    };
    let mut connection = state.ledger.read().await?;
    let rows = pieces::list(&mut connection, &caller.tenant, &filter, after, super::one_more(limit)).await?;
    let key = |row: &Piece| vec![row.part.to_string(), row.serial.clone()];
    Ok(Answer(Page::of(rows, limit, "pieces", key, PieceView::from)))
}

/// The routes of pieces.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list_pieces))
}
