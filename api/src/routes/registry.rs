//! The registry: hardware models, signals, components, parts, depots, lanes, contracts, devices; and a whole fleet at once.
//!
//! Every kind has the same routes: GET lists in order of key, POST and PUT write a batch, all of it or nothing; in JSON or in CSV.

use axum::{Json as Answer, extract::State, response::Response};
use harbinger_core::{TenantId, fleet};
use harbinger_store::ledger::{self, registry, stock};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commit;
use crate::{
    auth::{Caller, Operate, Read},
    errors::Result,
    extract::{Json, Path, Query},
    guard::uninterrupted,
    page::{Batch, Page, PageQuery, Written},
    state::ApiState,
    table::{Rows, Shape},
    views::{
        ComponentView, ContractView, DepotView, DeviceView, FleetView, HardwareModelView, LaneView, PartView,
        SignalView,
    },
};

async fn list_rows<R: registry::Record, V: From<R>>(
    state: &ApiState,
    tenant: &TenantId,
    page: &PageQuery,
) -> Result<Page<V>> {
    let limit = page.limit()?;
    let after = page.after(R::TABLE, R::KEYS)?;
    let mut connection = state.ledger.read().await?;
    let rows: Vec<R> = registry::list(&mut connection, tenant, after.as_deref(), limit + 1).await?;
    let key = |row: &R| row.key().into_iter().map(str::to_owned).collect();
    Ok(Page::of(rows, limit, R::TABLE, key, V::from))
}

async fn write_rows<R: registry::Record>(state: ApiState, caller: Caller<Operate>, rows: Vec<R>) -> Result<Written> {
    uninterrupted(async move {
        let mut tx = state.ledger.write().await?;
        registry::upsert(&mut tx, &caller.tenant, &rows).await?;
        commit(tx).await?;
        Ok(Written { written: rows.len() as u64 })
    })
    .await
}

/// The routes of one kind.
macro_rules! kind {
    ($path:literal, $row:ty, $view:ident, $list:ident, $write:ident, $put:ident, $list_words:literal, $write_words:literal) => {
        #[doc = $list_words]
        #[utoipa::path(
                    get, path = $path, tag = "registry", params(PageQuery), security(("key" = ["read"])),
                    responses((status = 200, content((Page<$view> = "application/json"), (String = "text/csv"))))
                )]
        async fn $list(
            caller: Caller<Read>,
            State(state): State<ApiState>,
            Query(page): Query<PageQuery>,
            shape: Shape,
        ) -> Result<Response> {
            Ok(shape.answer(list_rows::<$row, $view>(&state, &caller.tenant, &page).await?))
        }

        #[doc = $write_words]
        #[utoipa::path(
                    post, path = $path, tag = "registry", security(("key" = ["operate"])),
                    request_body(content((Batch<$view> = "application/json"), (String = "text/csv"))),
                    responses((status = 200, body = Written))
                )]
        async fn $write(
            caller: Caller<Operate>,
            State(state): State<ApiState>,
            Rows(rows): Rows<$view>,
        ) -> Result<Answer<Written>> {
            let rows: Vec<$row> = rows.into_iter().map(Into::into).collect();
            Ok(Answer(write_rows(state, caller, rows).await?))
        }

        #[doc = $write_words]
        #[utoipa::path(
                    put, path = $path, tag = "registry", security(("key" = ["operate"])),
                    request_body(content((Batch<$view> = "application/json"), (String = "text/csv"))),
                    responses((status = 200, body = Written))
                )]
        async fn $put(
            caller: Caller<Operate>,
            state: State<ApiState>,
            rows: Rows<$view>,
        ) -> Result<Answer<Written>> {
            $write(caller, state, rows).await
        }
    };
}

kind!(
    "/hardware-models",
    fleet::HardwareModel,
    HardwareModelView,
    list_hardware_models,
    write_hardware_models,
    put_hardware_models,
    "Hardware models",
    "Write hardware models: new ones are added, known ones replaced"
);
kind!(
    "/signals",
    fleet::SignalSpec,
    SignalView,
    list_signals,
    write_signals,
    put_signals,
    "Signals of hardware models",
    "Write signals of hardware models"
);
kind!(
    "/components",
    fleet::ComponentSlot,
    ComponentView,
    list_components,
    write_components,
    put_components,
    "Component slots of hardware models and the parts that replace them",
    "Write component slots"
);
kind!("/parts", fleet::Part, PartView, list_parts, write_parts, put_parts, "Spare parts", "Write spare parts");
kind!("/depots", fleet::Depot, DepotView, list_depots, write_depots, put_depots, "Depots", "Write depots");
kind!(
    "/lanes",
    fleet::Lane,
    LaneView,
    list_lanes,
    write_lanes,
    put_lanes,
    "Ways between depots",
    "Write ways between depots"
);
kind!(
    "/contracts",
    fleet::Contract,
    ContractView,
    list_contracts,
    write_contracts,
    put_contracts,
    "Service contracts",
    "Write service contracts"
);

/// Devices
#[utoipa::path(
    get, path = "/devices", tag = "devices", params(PageQuery), security(("key" = ["read"])),
    responses((status = 200, content((Page<DeviceView> = "application/json"), (String = "text/csv"))))
)]
async fn list_devices(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(page): Query<PageQuery>,
    shape: Shape,
) -> Result<Response> {
    Ok(shape.answer(list_rows::<fleet::Device, DeviceView>(&state, &caller.tenant, &page).await?))
}

/// Register devices: new ones are added, known ones replaced
#[utoipa::path(
    post, path = "/devices", tag = "devices", security(("key" = ["operate"])),
    request_body(content((Batch<DeviceView> = "application/json"), (String = "text/csv"))),
    responses((status = 200, body = Written))
)]
async fn write_devices(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Rows(rows): Rows<DeviceView>,
) -> Result<Answer<Written>> {
    let rows: Vec<fleet::Device> = rows.into_iter().map(|view| view.into_device(&caller.tenant)).collect();
    Ok(Answer(write_rows(state, caller, rows).await?))
}

/// Register devices: new ones are added, known ones replaced
#[utoipa::path(
    put, path = "/devices", tag = "devices", security(("key" = ["operate"])),
    request_body(content((Batch<DeviceView> = "application/json"), (String = "text/csv"))),
    responses((status = 200, body = Written))
)]
async fn put_devices(
    caller: Caller<Operate>,
    state: State<ApiState>,
    rows: Rows<DeviceView>,
) -> Result<Answer<Written>> {
    write_devices(caller, state, rows).await
}

/// A device
#[utoipa::path(
    get, path = "/devices/{device}", tag = "devices", params(("device" = String, Path)), security(("key" = ["read"])),
    responses((status = 200, body = DeviceView))
)]
async fn get_device(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Path(device): Path<String>,
) -> Result<Answer<DeviceView>> {
    let mut connection = state.ledger.read().await?;
    let row: fleet::Device = registry::get(&mut connection, &caller.tenant, &[&device]).await?;
    Ok(Answer(row.into()))
}

/// What an import took.
#[derive(Debug, Serialize, ToSchema)]
struct Imported {
    /// Hardware models.
    models: usize,
    /// Signals.
    signals: usize,
    /// Component slots.
    components: usize,
    /// Parts.
    parts: usize,
    /// Depots.
    depots: usize,
    /// Lanes.
    lanes: usize,
    /// Contracts.
    contracts: usize,
    /// Devices.
    devices: usize,
    /// Stock levels set.
    stock: usize,
}

/// Import a fleet: registry and stock as one document, all of it or nothing
#[utoipa::path(
    post, path = "/fleet", tag = "registry", request_body = FleetView, security(("key" = ["operate"])),
    responses((status = 200, body = Imported))
)]
async fn import_fleet(
    caller: Caller<Operate>,
    State(state): State<ApiState>,
    Json(view): Json<FleetView>,
) -> Result<Answer<Imported>> {
    let fleet = view.into_fleet(&caller.tenant);
    uninterrupted(async move {
        let at = state.control.event_time(&caller.tenant);
        let now = state.clock.now();
        let mut tx = state.ledger.write().await?;
        registry::upsert_fleet(&mut tx, &caller.tenant, &fleet).await?;
        super::stock::check_names(&mut tx, &caller.tenant, &fleet.stock).await?;
        stock::import(&mut tx, &caller.tenant, at, &fleet.stock, &harbinger_core::ids::new_id("imp")).await?;
        let what = (caller.actor.as_str(), "fleet.import", "fleet");
        let counts = Imported {
            models: fleet.models.len(),
            signals: fleet.signals.len(),
            components: fleet.components.len(),
            parts: fleet.parts.len(),
            depots: fleet.depots.len(),
            lanes: fleet.lanes.len(),
            contracts: fleet.contracts.len(),
            devices: fleet.devices.len(),
            stock: fleet.stock.len(),
        };
        let detail = serde_json::json!(counts);
        ledger::audit::append(&mut tx, &caller.tenant, now, what, &detail).await?;
        commit(tx).await?;
        Ok(Answer(counts))
    })
    .await
}

/// The routes of the registry.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_hardware_models, write_hardware_models, put_hardware_models))
        .routes(routes!(list_signals, write_signals, put_signals))
        .routes(routes!(list_components, write_components, put_components))
        .routes(routes!(list_parts, write_parts, put_parts))
        .routes(routes!(list_depots, write_depots, put_depots))
        .routes(routes!(list_lanes, write_lanes, put_lanes))
        .routes(routes!(list_contracts, write_contracts, put_contracts))
        .routes(routes!(list_devices, write_devices, put_devices))
        .routes(routes!(get_device))
        .routes(routes!(import_fleet))
}
