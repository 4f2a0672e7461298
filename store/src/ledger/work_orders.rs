//! Work orders: replacements that are planned for a date, and the pieces on the shelf that are kept for them.
//!
//! A piece that is reserved lies on the shelf of the device's depot and counts as on hand, but may not be sent away. Whatever
//! changes a level shares out its free pieces anew ([`share_out`]), so a piece that arrives is reserved in the transaction
//! that receives it, for the order that is due first.
//!
//! Source: maths of pre-positioning, 5.11.

use harbinger_core::{
    ComponentId, DepotId, DeviceId, PartId, TenantId, Timestamp,
    fleet::{ComponentSlot, Device},
    ids::new_id,
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{
    Connection, Error,
    alerts::{self, AlertFilter, AlertState, Order as Sequence},
    column, registry,
    words::{in_states, words},
};

mod reservations;

pub(super) use reservations::reserved_at;
pub use reservations::share_out;

/// Where a work order is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkOrderState {
    /// The replacement is to come.
    Open,
    /// The replacement was recorded.
    Done,
    /// It was called off.
    Cancelled,
}

words!(WorkOrderState, "a work order state", Open = "open", Done = "done", Cancelled = "cancelled");

/// A replacement to plan.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWorkOrder {
    /// Of which device.
    pub device: DeviceId,
    /// Of which component.
    pub component: ComponentId,
    /// When it will be done.
    pub due_at: Timestamp,
    /// Words for whoever does it.
    pub note: Option<String>,
}

/// A planned replacement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkOrder {
    /// `wko_...`; later ones sort later.
    pub work_order_id: String,
    /// Of which device.
    pub device: DeviceId,
    /// Of which component.
    pub component: ComponentId,
    /// With which part.
    pub part: PartId,
    /// From the shelf of which depot: the one that serves the device when it is due, as was known when it was planned.
    pub depot: DepotId,
    /// Pieces that it takes.
    pub quantity: u32,
    /// When it will be done; one that is open later than this is due now.
    pub due_at: Timestamp,
    /// Where it is in its life.
    pub state: WorkOrderState,
    /// Pieces on the shelf that are kept for it; 0 unless it is open.
    pub reserved: u32,
    /// The alert that stood for the component when it was planned.
    pub alert_id: Option<String>,
    /// Words for whoever does it.
    pub note: Option<String>,
    /// When it was planned.
    pub opened_at: Timestamp,
    /// By whom.
    pub opened_by: String,
    /// When the replacement was made.
    pub done_at: Option<Timestamp>,
    /// When it was called off.
    pub cancelled_at: Option<Timestamp>,
}

impl WorkOrder {
    /// Pieces that are still to come: those that nothing on the shelf is kept for.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.quantity.saturating_sub(self.reserved)
    }
}

/// Which work orders a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkOrderFilter {
    /// Only these states; all where empty.
    pub states: Vec<WorkOrderState>,
    /// Only of this device.
    pub device: Option<DeviceId>,
}

const COLUMNS: &str = "work_order_id, device, component, part, depot, quantity, due_at, state, reserved, alert_id, note, \
    opened_at, opened_by, done_at, cancelled_at";

/// Plans a replacement and reserves what free pieces the depot has that will serve the device then; `by` is whoever plans it.
///
/// # Errors
/// [`Error::Conflict`] where the device or its component is not registered, or one is open already for it;
/// [`Error::Database`], [`Error::Damaged`], [`Error::Full`].
pub async fn open(
    connection: &mut Connection,
    tenant: &TenantId,
    new: &NewWorkOrder,
    by: &str,
    at: Timestamp,
) -> Result<WorkOrder, Error> {
    let NewWorkOrder { device, component, due_at, note } = new;
    if let Some(before) = open_of(connection, tenant, device, component).await? {
        return Err(Error::Conflict {
            reason: format!(
                "{component} of {device} has work order {:?}, due at {}: cancel it first",
                before.work_order_id, before.due_at
            ),
        });
    }
    let device_row: Device = needed(registry::get(connection, tenant, &[device.as_str()]).await)?;
    let slot: ComponentSlot =
        needed(registry::get(connection, tenant, &[device_row.model.as_str(), component.as_str()]).await)?;
    let depot = device_row.depot_at((*due_at).max(at));
    let alert = standing_alert(connection, tenant, device, component).await?;
    let work_order_id = new_id("wko");
    sqlx::query(
        "INSERT INTO work_orders (work_order_id, tenant, device, component, part, depot, quantity, due_at, state, reserved, \
         alert_id, note, opened_at, opened_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', 0, $9, $10, $11, $12)",
    )
    .bind(&work_order_id)
    .bind(tenant.as_str())
    .bind(device.as_str())
    .bind(component.as_str())
    .bind(slot.part.as_str())
    .bind(depot.as_str())
    .bind(i64::from(slot.quantity))
    .bind(due_at.millis())
    .bind(alert)
    .bind(note.as_deref())
    .bind(at.millis())
    .bind(by)
    .execute(&mut *connection)
    .await?;
    share_out(connection, tenant, &slot.part, depot).await?;
    get(connection, tenant, &work_order_id).await
}

/// The newest alert that stands for a component.
async fn standing_alert(
    connection: &mut Connection,
    tenant: &TenantId,
    device: &DeviceId,
    component: &ComponentId,
) -> Result<Option<String>, Error> {
    let states = AlertState::ALL.into_iter().filter(|state| state.is_standing()).collect();
    let filter = AlertFilter { states, device: Some(device.clone()), component: Some(component.clone()) };
    let mut newest = alerts::list(connection, tenant, &filter, Sequence::NewestFirst, None, 1).await?;
    Ok(newest.pop().map(|alert| alert.alert_id))
}

/// What a work order leans on must be there.
fn needed<T>(found: Result<T, Error>) -> Result<T, Error> {
    found.map_err(|error| match error {
        Error::NotFound { what, id } => Error::Conflict { reason: format!("no {what} {id:?}: register it first") },
        other => other,
    })
}

/// The open work order of a component, if there is one.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn open_of(
    connection: &mut Connection,
    tenant: &TenantId,
    device: &DeviceId,
    component: &ComponentId,
) -> Result<Option<WorkOrder>, Error> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM work_orders WHERE tenant = $1 AND device = $2 AND component = $3 AND state = 'open'"
    )))
    .bind(tenant.as_str())
    .bind(device.as_str())
    .bind(component.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(work_order).transpose()
}

/// The replacement was made: the open work order of the component, if there is one, is done. What was reserved for it is free
/// for whoever takes it in the same transaction: book that, then [`share_out`] what is left.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn complete(
    connection: &mut Connection,
    tenant: &TenantId,
    device: &DeviceId,
    component: &ComponentId,
    at: Timestamp,
) -> Result<Option<WorkOrder>, Error> {
    let Some(open) = open_of(connection, tenant, device, component).await? else { return Ok(None) };
    end(connection, tenant, &open.work_order_id, WorkOrderState::Done, at).await.map(Some)
}

/// Calls off an open work order: its pieces are free for others.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Database`].
pub async fn cancel(
    connection: &mut Connection,
    tenant: &TenantId,
    work_order_id: &str,
    at: Timestamp,
) -> Result<WorkOrder, Error> {
    let order = get(connection, tenant, work_order_id).await?;
    if order.state != WorkOrderState::Open {
        return Err(Error::WrongState {
            what: "work order",
            id: order.work_order_id,
            state: order.state.to_string(),
            attempt: "cancelled",
        });
    }
    let cancelled = end(connection, tenant, work_order_id, WorkOrderState::Cancelled, at).await?;
    share_out(connection, tenant, &order.part, &order.depot).await?;
    Ok(cancelled)
}

async fn end(
    connection: &mut Connection,
    tenant: &TenantId,
    work_order_id: &str,
    state: WorkOrderState,
    at: Timestamp,
) -> Result<WorkOrder, Error> {
    // Either end has a time column named after it.
    sqlx::query(AssertSqlSafe(format!(
        "UPDATE work_orders SET state = $3, {state}_at = $4, reserved = 0 WHERE work_order_id = $1 AND tenant = $2"
    )))
    .bind(work_order_id)
    .bind(tenant.as_str())
    .bind(state.as_str())
    .bind(at.millis())
    .execute(&mut *connection)
    .await?;
    get(connection, tenant, work_order_id).await
}

/// The work order with this id.
///
/// # Errors
/// [`Error::NotFound`], also where it belongs to another tenant; [`Error::Database`], [`Error::Damaged`].
pub async fn get(connection: &mut Connection, tenant: &TenantId, work_order_id: &str) -> Result<WorkOrder, Error> {
    let text = format!("SELECT {COLUMNS} FROM work_orders WHERE work_order_id = $1 AND tenant = $2");
    let row = sqlx::query(AssertSqlSafe(text)).bind(work_order_id).bind(tenant.as_str());
    let missing = || Error::NotFound { what: "work order", id: work_order_id.to_owned() };
    work_order(&row.fetch_optional(connection).await?.ok_or_else(missing)?)
}

/// At most `limit` work orders that pass the filter, newest first, before the one with id `before`.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &WorkOrderFilter,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<WorkOrder>, Error> {
    // Empty texts stand for "no bound".
    let states = in_states(&filter.states);
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM work_orders WHERE tenant = $1 AND ($2 = '' OR device = $2) \
         AND ($3 = '' OR work_order_id < $3) {states} ORDER BY work_order_id DESC LIMIT $4"
    )))
    .bind(tenant.as_str())
    .bind(filter.device.as_ref().map_or("", DeviceId::as_str))
    .bind(before.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(work_order).collect()
}

/// All open work orders of a tenant, newest first.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn all_open(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<WorkOrder>, Error> {
    let open = WorkOrderFilter { states: vec![WorkOrderState::Open], device: None };
    list(connection, tenant, &open, None, u32::MAX).await
}

/// Those of one device.
pub(super) async fn open_of_device(
    connection: &mut Connection,
    tenant: &TenantId,
    device: &DeviceId,
) -> Result<Vec<WorkOrder>, Error> {
    let open = WorkOrderFilter { states: vec![WorkOrderState::Open], device: Some(device.clone()) };
    list(connection, tenant, &open, None, u32::MAX).await
}

fn work_order(row: &AnyRow) -> Result<WorkOrder, Error> {
    Ok(WorkOrder {
        work_order_id: column::get(row, "work_order_id")?,
        device: column::parse(row, "device")?,
        component: column::parse(row, "component")?,
        part: column::parse(row, "part")?,
        depot: column::parse(row, "depot")?,
        quantity: column::count(row, "quantity")?,
        due_at: column::time(row, "due_at")?,
        state: column::parse(row, "state")?,
        reserved: column::count(row, "reserved")?,
        alert_id: column::get(row, "alert_id")?,
        note: column::get(row, "note")?,
        opened_at: column::time(row, "opened_at")?,
        opened_by: column::get(row, "opened_by")?,
        done_at: column::time_optional(row, "done_at")?,
        cancelled_at: column::time_optional(row, "cancelled_at")?,
    })
}

#[cfg(test)]
mod tests;
