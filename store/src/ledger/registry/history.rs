//! What was done to devices, and parts used that no device record explains.

use std::collections::{BTreeSet, HashMap};

use harbinger_core::{
    DeviceId, TenantId, TimeRange, Timestamp,
    fleet::{Consumption, Maintenance},
};
use uuid::Uuid;

use super::first_missing;
use crate::ledger::{Connection, Error, bulk, column};

/// Where a page of maintenance ended: time, device, component and action of its last row.
pub type MaintenanceKey = (Timestamp, String, String, String);

/// Writes maintenance records; device, time, component and action are a record's identity, a repeat changes at most the
/// reason. Returns how many were new or changed.
///
/// # Errors
/// [`Error::Conflict`] where a device is not registered or no model has such a component.
pub async fn record_maintenance(
    connection: &mut Connection,
    tenant: &TenantId,
    rows: &[Maintenance],
) -> Result<u64, Error> {
    let mut unique: HashMap<_, &Maintenance> = HashMap::with_capacity(rows.len());
    for row in rows {
        unique.insert((row.ts, &row.device, &row.component, row.action), row);
    }
    let mut rows: Vec<&Maintenance> = unique.into_values().collect();
    rows.sort_by(|a, b| (a.ts, &a.device, &a.component).cmp(&(b.ts, &b.device, &b.component)));
    let devices = rows.iter().map(|row| row.device.as_str()).collect();
    must_exist(connection, tenant, ("maintenance", "device", "devices", "device"), devices).await?;
    let components = rows.iter().map(|row| row.component.as_str()).collect();
    must_exist(connection, tenant, ("maintenance", "component", "components", "component"), components).await?;
    bulk::insert(
        connection,
        "maintenance",
        &["device", "ts", "component", "action", "reason"],
        "ON CONFLICT (tenant, device, ts, component, action) DO UPDATE SET reason = excluded.reason \
         WHERE maintenance.reason <> excluded.reason",
        tenant,
        &rows,
        |row, values| {
            values.add(row.device.as_str().to_owned());
            values.add(row.ts.millis());
            values.add(row.component.as_str().to_owned());
            values.add(row.action.as_str().to_owned());
            values.add(row.reason.as_str().to_owned());
        },
    )
    .await
}

async fn must_exist(
    connection: &mut Connection,
    tenant: &TenantId,
    (record, what, table, column): (&str, &str, &str, &str),
    names: BTreeSet<&str>,
) -> Result<(), Error> {
    match first_missing(connection, tenant, table, column, names).await? {
        None => Ok(()),
        Some(name) => Err(Error::Conflict { reason: format!("{record} names {what} {name:?}, which does not exist") }),
    }
}

/// Maintenance in `range`, of one device or of all, in order of time, device, component, action, behind `after`.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list_maintenance(
    connection: &mut Connection,
    tenant: &TenantId,
    device: Option<&DeviceId>,
    range: TimeRange,
    after: Option<&MaintenanceKey>,
    limit: usize,
) -> Result<Vec<Maintenance>, Error> {
    let (ts, name, component, action) = match after {
        Some((ts, device, component, action)) => (ts.millis(), device.as_str(), component.as_str(), action.as_str()),
        None => (i64::MIN, "", "", ""),
    };
    sqlx::query(
        "SELECT device, ts, component, action, reason FROM maintenance \
         WHERE tenant = $1 AND ts >= $2 AND ts < $3 AND ($4 = '' OR device = $4) \
         AND (ts, device, component, action) > ($5, $6, $7, $8) ORDER BY ts, device, component, action LIMIT $9",
    )
    .bind(tenant.as_str())
    .bind(range.from.millis())
    .bind(range.to.millis())
    .bind(device.map_or("", DeviceId::as_str))
    .bind(ts)
    .bind(name)
    .bind(component)
    .bind(action)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(Maintenance {
            ts: column::time(row, "ts")?,
            device: column::parse(row, "device")?,
            component: column::parse(row, "component")?,
            action: column::parse(row, "action")?,
            reason: column::parse(row, "reason")?,
        })
    })
    .collect()
}

/// Writes consumption records. The n-th record of a part, depot and time within one call is the same record whenever it is
/// sent again, so a repeated call changes nothing.
///
/// # Errors
/// [`Error::Conflict`] where a part or depot does not exist or a quantity is not a number of at least 0.
pub async fn record_consumption(
    connection: &mut Connection,
    tenant: &TenantId,
    rows: &[Consumption],
) -> Result<u64, Error> {
    if let Some(row) = rows.iter().find(|row| !(row.quantity.is_finite() && row.quantity >= 0.0)) {
        let reason = format!("consumption of part {:?} is {}, not 0 or more", row.part.as_str(), row.quantity);
        return Err(Error::Conflict { reason });
    }
    let parts = rows.iter().map(|row| row.part.as_str()).collect();
    must_exist(connection, tenant, ("consumption", "part", "parts", "part"), parts).await?;
    let depots = rows.iter().map(|row| row.depot.as_str()).collect();
    must_exist(connection, tenant, ("consumption", "depot", "depots", "depot"), depots).await?;
    let mut seen: HashMap<(i64, &str, &str), u32> = HashMap::new();
    let rows: Vec<(String, &Consumption)> = rows
        .iter()
        .map(|row| {
            let occurrence = seen.entry((row.ts.millis(), row.part.as_str(), row.depot.as_str())).or_default();
            *occurrence += 1;
            (consumption_id(tenant, row, *occurrence), row)
        })
        .collect();
    bulk::insert(
        connection,
        "consumption",
        &["consumption_id", "ts", "part", "depot", "quantity"],
        "ON CONFLICT (consumption_id) DO UPDATE SET quantity = excluded.quantity",
        tenant,
        &rows,
        |(id, row), values| {
            values.add(id.clone());
            values.add(row.ts.millis());
            values.add(row.part.as_str().to_owned());
            values.add(row.depot.as_str().to_owned());
            values.add(row.quantity);
        },
    )
    .await
}

/// A name-based id (RFC 9562, section 5.5). No id of ours holds a `/`, so the parts cannot run into each other.
fn consumption_id(tenant: &TenantId, row: &Consumption, occurrence: u32) -> String {
    let name = format!("{tenant}/{}/{}/{}/{occurrence}", row.ts.millis(), row.part, row.depot);
    format!("con_{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).simple())
}

/// Consumption in `range` in order of part, depot, time.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list_consumption(
    connection: &mut Connection,
    tenant: &TenantId,
    range: TimeRange,
) -> Result<Vec<Consumption>, Error> {
    sqlx::query(
        "SELECT ts, part, depot, quantity FROM consumption WHERE tenant = $1 AND ts >= $2 AND ts < $3 \
         ORDER BY part, depot, ts, consumption_id",
    )
    .bind(tenant.as_str())
    .bind(range.from.millis())
    .bind(range.to.millis())
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(Consumption {
            ts: column::time(row, "ts")?,
            part: column::parse(row, "part")?,
            depot: column::parse(row, "depot")?,
            quantity: column::get(row, "quantity")?,
        })
    })
    .collect()
}
