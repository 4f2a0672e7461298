//! The registry: models, signals, components, parts, depots, lanes, contracts, devices, maintenance, consumption.
//!
//! One [`Record`] a table; [`upsert`], [`list`] and [`get`] serve all of them. A row that is written again replaces the one
//! with the same key. What a row names - a model, a part, a depot - must be there, else nothing of the call may be kept:
//! drop the transaction.

use std::collections::{BTreeSet, HashMap};

use harbinger_core::{
    DepotId, DeviceId, HardwareModelId, TenantId, Timestamp,
    fleet::{Depot, Device, Echelon, Fleet, HardwareModel, StockLevel},
};
use sqlx::{AssertSqlSafe, any::AnyRow};

use super::{Connection, Error, bulk, column};

mod history;
mod tables;

pub use history::{MaintenanceKey, list_consumption, list_maintenance, record_consumption, record_maintenance};

/// The hardware model of a device that reported before anybody registered it.
pub const UNKNOWN_MODEL: &str = "unknown";
/// The depot of such a device where its tenant has no hub.
pub const UNASSIGNED_DEPOT: &str = "unassigned";

/// A column that must name a row of another table.
pub struct Reference<R> {
    /// What is named, for the error's text.
    pub what: &'static str,
    /// The table it stands in.
    pub table: &'static str,
    /// That table's column.
    pub column: &'static str,
    /// What the row names, if anything.
    pub named: fn(&R) -> Option<&str>,
}

/// A row of the registry: which table it stands in and how it is written and read.
pub trait Record: Sized + Send + Sync + 'static {
    /// What a row is, for the texts of errors.
    const WHAT: &'static str;
    /// The table.
    const TABLE: &'static str;
    /// Its columns after `tenant`, those of the key first.
    const COLUMNS: &'static [&'static str];
    /// How many columns the key has.
    const KEYS: usize;

    /// The key's values.
    fn key(&self) -> Vec<&str>;
    /// What must be there before this row can be.
    fn references() -> Vec<Reference<Self>> {
        Vec::new()
    }
    /// Why the row cannot be taken, whatever else there is.
    ///
    /// # Errors
    /// The reason in words for the caller.
    fn check(&self, _tenant: &TenantId) -> Result<(), String> {
        Ok(())
    }
    /// Whether [`Record::check_table`] looks at all rows together.
    const CHECKS_TABLE: bool = false;
    /// What is wrong with all rows of a tenant together, once some are written.
    ///
    /// # Errors
    /// In words.
    fn check_table(_rows: &[Self]) -> Result<(), String> {
        Ok(())
    }
    /// Writes the columns in their order.
    fn write(&self, values: &mut Values<'_>);
    /// Reads the columns.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Database`].
    fn read(tenant: &TenantId, row: &AnyRow) -> Result<Self, Error>;
}

/// The values of a row that is being written.
pub struct Values<'a>(&'a mut bulk::Values);

impl Values<'_> {
    fn text(&mut self, value: &str) -> &mut Self {
        self.0.add(value.to_owned());
        self
    }
    fn text_optional(&mut self, value: Option<&str>) -> &mut Self {
        self.0.add(value.map(str::to_owned));
        self
    }
    fn number(&mut self, value: impl Into<Option<f64>>) -> &mut Self {
        self.0.add_number(value.into());
        self
    }
    fn count(&mut self, value: impl Into<Option<u32>>) -> &mut Self {
        self.0.add::<Option<i64>>(value.into().map(i64::from));
        self
    }
    fn time(&mut self, value: Option<Timestamp>) -> &mut Self {
        self.0.add::<Option<i64>>(value.map(Timestamp::millis));
        self
    }
}

/// Writes rows; one that is there already is replaced. Where a key comes twice the later row holds.
///
/// # Errors
/// [`Error::Conflict`] that names the row and what it lacks; then the caller drops the transaction.
pub async fn upsert<R: Record>(connection: &mut Connection, tenant: &TenantId, rows: &[R]) -> Result<(), Error> {
    for row in rows {
        row.check(tenant)
            .map_err(|reason| Error::Conflict { reason: format!("{} {:?}: {reason}", R::WHAT, row.key().join("/")) })?;
    }
    let (keys, others) = R::COLUMNS.split_at(R::KEYS.min(R::COLUMNS.len()));
    let replace: Vec<String> = others.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let action = if replace.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", replace.join(", ")) };
    let conflict = format!("ON CONFLICT (tenant, {}) DO {action}", keys.join(", "));
    let rows = last_of_each_key(rows);
    bulk::insert(connection, R::TABLE, R::COLUMNS, &conflict, tenant, &rows, |row, values| {
        row.write(&mut Values(values));
    })
    .await?;
    for reference in R::references() {
        check_reference(connection, tenant, &rows, &reference).await?;
    }
    if R::CHECKS_TABLE {
        let all: Vec<R> = list(connection, tenant, None, usize::MAX).await?;
        R::check_table(&all).map_err(|reason| Error::Conflict { reason })?;
    }
    Ok(())
}

fn last_of_each_key<R: Record>(rows: &[R]) -> Vec<&R> {
    let mut place: HashMap<Vec<&str>, usize> = HashMap::with_capacity(rows.len());
    let mut kept: Vec<&R> = Vec::with_capacity(rows.len());
    for row in rows {
        match place.get(&row.key()).and_then(|&place| kept.get_mut(place)) {
            Some(earlier) => *earlier = row,
            None => {
                place.insert(row.key(), kept.len());
                kept.push(row);
            }
        }
    }
    kept
}

async fn check_reference<R: Record>(
    connection: &mut Connection,
    tenant: &TenantId,
    rows: &[&R],
    reference: &Reference<R>,
) -> Result<(), Error> {
    let Reference { what, table, column, named } = *reference;
    let names = rows.iter().copied().filter_map(named).collect();
    let Some(missing) = first_missing(connection, tenant, table, column, names).await? else { return Ok(()) };
    let row = rows.iter().find(|row| named(row) == Some(missing)).map_or_else(String::new, |row| row.key().join("/"));
    Err(Error::Conflict { reason: format!("{} {row:?} names {what} {missing:?}, which does not exist", R::WHAT) })
}

/// Names up to which each is looked up by its key instead of reading the whole column.
const FEW_NAMES: usize = 64;

/// The first of `names`, by the alphabet, that no row of `table` has in `column`.
async fn first_missing<'n>(
    connection: &mut Connection,
    tenant: &TenantId,
    table: &str,
    column: &str,
    mut names: BTreeSet<&'n str>,
) -> Result<Option<&'n str>, Error> {
    if names.len() > FEW_NAMES {
        let all = format!("SELECT DISTINCT {column} AS name FROM {table} WHERE tenant = $1");
        for row in sqlx::query(AssertSqlSafe(all)).bind(tenant.as_str()).fetch_all(&mut *connection).await? {
            names.remove(column::get::<String>(&row, "name")?.as_str());
        }
        return Ok(names.pop_first());
    }
    let one = format!("SELECT 1 FROM {table} WHERE tenant = $1 AND {column} = $2 LIMIT 1");
    for name in names {
        let query = sqlx::query(AssertSqlSafe(one.as_str())).bind(tenant.as_str()).bind(name);
        if query.fetch_optional(&mut *connection).await?.is_none() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Rows in order of their key, from behind `after` (a whole key) on, at most `limit`.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn list<R: Record>(
    connection: &mut Connection,
    tenant: &TenantId,
    after: Option<&[String]>,
    limit: usize,
) -> Result<Vec<R>, Error> {
    let keys = R::COLUMNS.split_at(R::KEYS.min(R::COLUMNS.len())).0.join(", ");
    let behind = after.filter(|key| key.len() == R::KEYS);
    let place = behind.map_or_else(String::new, |key| {
        let parameters: Vec<String> = (0..key.len()).map(|i| format!("${}", i + 3)).collect();
        format!("AND ({keys}) > ({})", parameters.join(", "))
    });
    let columns = R::COLUMNS.join(", ");
    let text = format!("SELECT {columns} FROM {} WHERE tenant = $1 {place} ORDER BY {keys} LIMIT $2", R::TABLE);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut query = sqlx::query(AssertSqlSafe(text)).bind(tenant.as_str()).bind(limit);
    for part in behind.unwrap_or_default() {
        query = query.bind(part.as_str());
    }
    query.fetch_all(connection).await?.iter().map(|row| R::read(tenant, row)).collect()
}

/// The row with this key.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Damaged`], [`Error::Database`].
pub async fn get<R: Record>(connection: &mut Connection, tenant: &TenantId, key: &[&str]) -> Result<R, Error> {
    let equal: Vec<String> = R::COLUMNS.iter().take(R::KEYS).zip(2..).map(|(c, i)| format!("{c} = ${i}")).collect();
    let columns = R::COLUMNS.join(", ");
    let text = format!("SELECT {columns} FROM {} WHERE tenant = $1 AND {}", R::TABLE, equal.join(" AND "));
    let mut query = sqlx::query(AssertSqlSafe(text)).bind(tenant.as_str());
    for part in key {
        query = query.bind(*part);
    }
    match query.fetch_optional(connection).await? {
        Some(row) => R::read(tenant, &row),
        None => Err(Error::NotFound { what: R::WHAT, id: key.join("/") }),
    }
}

/// Everything of a tenant that is not a stream.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn load_fleet(connection: &mut Connection, tenant: &TenantId) -> Result<Fleet, Error> {
    Ok(Fleet {
        models: list(connection, tenant, None, usize::MAX).await?,
        signals: list(connection, tenant, None, usize::MAX).await?,
        components: list(connection, tenant, None, usize::MAX).await?,
        parts: list(connection, tenant, None, usize::MAX).await?,
        depots: list(connection, tenant, None, usize::MAX).await?,
        lanes: list(connection, tenant, None, usize::MAX).await?,
        contracts: list(connection, tenant, None, usize::MAX).await?,
        devices: list(connection, tenant, None, usize::MAX).await?,
        stock: stock_levels(connection, tenant).await?,
    })
}

async fn stock_levels(connection: &mut Connection, tenant: &TenantId) -> Result<Vec<StockLevel>, Error> {
    sqlx::query("SELECT part, depot, on_hand, in_transit FROM stock WHERE tenant = $1 ORDER BY part, depot")
        .bind(tenant.as_str())
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| {
            Ok(StockLevel {
                part: column::parse(row, "part")?,
                depot: column::parse(row, "depot")?,
                on_hand: column::count(row, "on_hand")?,
                in_transit: column::count(row, "in_transit")?,
            })
        })
        .collect()
}

/// Writes a whole fleet's registry in the order of what leans on what; stock is not the registry's and is left out.
///
/// # Errors
/// As [`upsert`].
pub async fn upsert_fleet(connection: &mut Connection, tenant: &TenantId, fleet: &Fleet) -> Result<(), Error> {
    upsert(connection, tenant, &fleet.models).await?;
    upsert(connection, tenant, &fleet.signals).await?;
    upsert(connection, tenant, &fleet.parts).await?;
    upsert(connection, tenant, &fleet.components).await?;
    upsert(connection, tenant, &fleet.depots).await?;
    upsert(connection, tenant, &fleet.lanes).await?;
    upsert(connection, tenant, &fleet.contracts).await?;
    upsert(connection, tenant, &fleet.devices).await
}

/// Whether the device is in the registry.
///
/// # Errors
/// [`Error::Database`].
pub async fn known_device(connection: &mut Connection, tenant: &TenantId, device: &DeviceId) -> Result<bool, Error> {
    let query = sqlx::query("SELECT 1 FROM devices WHERE tenant = $1 AND device = $2");
    Ok(query.bind(tenant.as_str()).bind(device.as_str()).fetch_optional(connection).await?.is_some())
}

/// Registers a device that reported unannounced, of an unknown model, at the tenant's hub or, where there is none, at a
/// depot named `unassigned`. A device that is known stays as it is. Whether it was new.
///
/// # Errors
/// [`Error::Database`].
pub async fn auto_register(connection: &mut Connection, tenant: &TenantId, device: &DeviceId) -> Result<bool, Error> {
    if known_device(connection, tenant, device).await? {
        return Ok(false);
    }
    let damaged = |column| move |_| Error::Damaged { column, value: String::new() };
    let model = HardwareModelId::parse(UNKNOWN_MODEL).map_err(damaged("hardware_models.model"))?;
    if let Err(Error::NotFound { .. }) = get::<HardwareModel>(connection, tenant, &[UNKNOWN_MODEL]).await {
        let unknown = HardwareModel { model: model.clone(), kind: UNKNOWN_MODEL.to_owned(), description: None };
        upsert(connection, tenant, &[unknown]).await?;
    }
    let row = Device {
        device: device.clone(),
        tenant: tenant.clone(),
        model,
        depot: depot_of_strangers(connection, tenant).await?,
        serial: None,
        site: None,
        contract: None,
        installed_at: None,
        observed_from: None,
        observed_until: None,
        moves_to: None,
        moves_at: None,
    };
    upsert(connection, tenant, &[row]).await?;
    Ok(true)
}

async fn depot_of_strangers(connection: &mut Connection, tenant: &TenantId) -> Result<DepotId, Error> {
    let hub = sqlx::query("SELECT depot FROM depots WHERE tenant = $1 AND echelon = 'hub' ORDER BY depot LIMIT 1")
        .bind(tenant.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = hub {
        return column::parse(&row, "depot");
    }
    let depot = DepotId::parse(UNASSIGNED_DEPOT)
        .map_err(|_| Error::Damaged { column: "depots.depot", value: UNASSIGNED_DEPOT.to_owned() })?;
    let unassigned = Depot {
        depot: depot.clone(),
        echelon: Echelon::Forward,
        region: None,
        latitude: None,
        longitude: None,
        timezone: None,
        capacity: None,
    };
    upsert(connection, tenant, &[unassigned]).await?;
    Ok(depot)
}

/// Notes that a tenant exists.
///
/// # Errors
/// [`Error::Database`].
pub async fn ensure_tenant(connection: &mut Connection, tenant: &TenantId, now_wall: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO tenants (tenant, created_wall) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING")
        .bind(tenant.as_str())
        .bind(now_wall.millis())
        .execute(connection)
        .await?;
    Ok(())
}

/// All tenants, in order of id.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn tenants(connection: &mut Connection) -> Result<Vec<TenantId>, Error> {
    let rows = sqlx::query("SELECT tenant FROM tenants ORDER BY tenant").fetch_all(connection).await?;
    rows.iter().map(|row| column::parse(row, "tenant")).collect()
}

#[cfg(test)]
mod tests;
