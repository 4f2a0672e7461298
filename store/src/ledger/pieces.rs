//! Pieces that are known by their serial: where each one is, and that it is at one place only.
//!
//! A piece becomes known when an order that ships or is received names it, or a use. It lies at a depot then, is on the way with an
//! order, in repair perhaps, works in a device, or is gone. What nobody has named is not known here, and is counted in stock all the same.

use std::collections::BTreeSet;

use harbinger_core::{DepotId, DeviceId, PartId, TenantId, Timestamp};
use sqlx::{Acquire, any::AnyRow};

use super::{Connection, Error, column, orders};

/// Where a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the shelf of a depot, or gone into a device from it since, where the use did not name it.
    Depot(DepotId),
    /// In a device.
    Device {
        /// Which one.
        device: DeviceId,
        /// The use that put it there.
        use_id: String,
    },
    /// On the way with an order, or in the repair of this id.
    Order(String),
    /// Lost, written off or condemned.
    Gone,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Depot(depot) => write!(f, "at depot {:?}", depot.as_str()),
            Self::Device { device, .. } => write!(f, "in device {:?}", device.as_str()),
            Self::Order(order_id) => write!(f, "on the way with {order_id:?}"),
            Self::Gone => f.write_str("gone"),
        }
    }
}

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which part it is of.
    pub part: PartId,
    /// Its serial, unique within the part.
    pub serial: String,
    /// Where it is.
    pub place: Place,
    /// Since when.
    pub at: Timestamp,
}

/// Which pieces a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PieceFilter {
    /// Only of this part.
    pub part: Option<PartId>,
    /// Only with this serial.
    pub serial: Option<String>,
    /// Only those in this device.
    pub device: Option<DeviceId>,
}

/// Pieces that leave with an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving<'a> {
    pub(super) part: &'a PartId,
    pub(super) order_id: &'a str,
    /// Most pieces that may be named.
    pub(super) quantity: u32,
    /// Where they may have been until now, if they are known.
    pub(super) from: Option<&'a DepotId>,
    /// Whether they have failed, so that they may come out of a device.
    pub(super) have_failed: bool,
    pub(super) at: Timestamp,
}

/// Pieces that come with an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arriving<'a> {
    pub(super) part: &'a PartId,
    pub(super) order_id: &'a str,
    /// Pieces of the order that had not come before.
    pub(super) outstanding: u32,
    /// Pieces that come now.
    pub(super) quantity: u32,
    /// Whether no more will come.
    pub(super) ends: bool,
    pub(super) into: &'a Place,
    pub(super) at: Timestamp,
}

/// Notes which pieces have left.
///
/// # Errors
/// [`Error::Conflict`] that says where a piece is that cannot leave here, or that a piece is named twice or too many are;
/// [`Error::Database`].
pub(super) async fn leave(
    connection: &mut Connection,
    tenant: &TenantId,
    leaving: Leaving<'_>,
    serials: &[String],
) -> Result<(), Error> {
    refuse_too_many(serials, leaving.quantity, leaving.order_id)?;
    for serial in serials {
        let elsewhere = match find(connection, tenant, leaving.part, serial).await? {
            None => None,
            Some(Place::Depot(depot)) if Some(&depot) == leaving.from => None,
            // Found again, or the wrong one was given up.
            Some(Place::Gone) => None,
            Some(Place::Device { .. }) if leaving.have_failed => None,
            Some(elsewhere) => Some(elsewhere),
        };
        if let Some(elsewhere) = elsewhere {
            return Err(is_elsewhere(leaving.part, serial, &elsewhere));
        }
        put(connection, tenant, leaving.part, serial, &Place::Order(leaving.order_id.to_owned()), leaving.at).await?;
    }
    Ok(())
}

/// Notes which pieces have come. Where no more will, those of the order that nobody named have come too if nothing is short, and are
/// gone else.
///
/// # Errors
/// As [`leave`]; also where a piece is named that did not leave with the order, all of whose pieces are known.
pub(super) async fn arrive(
    connection: &mut Connection,
    tenant: &TenantId,
    arriving: Arriving<'_>,
    serials: &[String],
) -> Result<(), Error> {
    let Arriving { part, order_id, outstanding, quantity, ends, into, at } = arriving;
    refuse_too_many(serials, quantity, order_id)?;
    let mut on_the_way: BTreeSet<String> = with_order(connection, tenant, order_id).await?;
    let known = on_the_way.len();
    let mut unheard_of = 0;
    for serial in serials {
        match find(connection, tenant, part, serial).await? {
            Some(Place::Order(with)) if with == order_id => drop(on_the_way.remove(serial)),
            Some(elsewhere) => return Err(is_elsewhere(part, serial, &elsewhere)),
            None => unheard_of += 1,
        }
        put(connection, tenant, part, serial, into, at).await?;
    }
    if unheard_of > 0 && known + unheard_of > outstanding as usize {
        let reason =
            format!("{unheard_of} of the serials named did not leave with {order_id:?}, which named all its own");
        return Err(Error::Conflict { reason });
    }
    if ends {
        let rest = if quantity == outstanding { into } else { &Place::Gone };
        for serial in on_the_way {
            put(connection, tenant, part, &serial, rest, at).await?;
        }
    }
    Ok(())
}

/// Notes which pieces a use put into its device. What was named of it before is replaced, so that it can be said again; a piece that
/// is named no more lies at the depot again.
///
/// # Errors
/// [`Error::NotFound`] where there is no such use; [`Error::Conflict`] that says where a piece is that cannot have come from the use's depot,
/// or that a piece is named twice or too many are; [`Error::Database`].
pub async fn install(
    connection: &mut Connection,
    tenant: &TenantId,
    use_id: &str,
    serials: &[String],
) -> Result<(), Error> {
    let mut step = connection.begin().await?;
    let used = orders::get_use(&mut step, tenant, use_id).await?;
    refuse_too_many(serials, used.quantity, use_id)?;
    sqlx::query(
        "UPDATE pieces SET place = 'depot', held_by = $3 WHERE tenant = $1 AND place = 'device' AND held_by = $2",
    )
    .bind(tenant.as_str())
    .bind(use_id)
    .bind(used.depot.as_str())
    .execute(&mut *step)
    .await?;
    for serial in serials {
        match find(&mut step, tenant, &used.part, serial).await? {
            None | Some(Place::Gone) => {}
            Some(Place::Depot(depot)) if depot == used.depot => {}
            Some(elsewhere) => return Err(is_elsewhere(&used.part, serial, &elsewhere)),
        }
        let inside = Place::Device { device: used.device.clone(), use_id: use_id.to_owned() };
        put(&mut step, tenant, &used.part, serial, &inside, used.ts).await?;
    }
    step.commit().await?;
    Ok(())
}

/// Notes that the pieces of an order are lost or scrapped.
///
/// # Errors
/// [`Error::Database`].
pub(super) async fn give_up(
    connection: &mut Connection,
    tenant: &TenantId,
    order_id: &str,
    at: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE pieces SET place = 'gone', held_by = '', since = $3 WHERE tenant = $1 AND place = 'order' AND held_by = $2",
    )
    .bind(tenant.as_str())
    .bind(order_id)
    .bind(at.millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// At most `limit` pieces that pass the filter, after the (part, serial) of `after`, in order of part and serial.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub async fn list(
    connection: &mut Connection,
    tenant: &TenantId,
    filter: &PieceFilter,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Vec<Piece>, Error> {
    // Empty texts stand for "no bound".
    let (after_part, after_serial) = after.unwrap_or_default();
    let rows = sqlx::query(
        "SELECT p.part, p.serial, p.place, p.held_by, p.since, u.device FROM pieces p \
         LEFT JOIN part_uses u ON p.place = 'device' AND u.use_id = p.held_by \
         WHERE p.tenant = $1 AND ($2 = '' OR p.part = $2) AND ($3 = '' OR p.serial = $3) AND ($7 = '' OR u.device = $7) \
         AND (p.part > $4 OR (p.part = $4 AND p.serial > $5)) ORDER BY p.part, p.serial LIMIT $6",
    )
    .bind(tenant.as_str())
    .bind(filter.part.as_ref().map_or("", PartId::as_str))
    .bind(filter.serial.as_deref().unwrap_or_default())
    .bind(after_part)
    .bind(after_serial)
    .bind(i64::from(limit))
    .bind(filter.device.as_ref().map_or("", DeviceId::as_str))
    .fetch_all(connection)
    .await?;
    let piece = |row| {
        let (part, serial) = (column::parse(row, "part")?, column::get(row, "serial")?);
        Ok(Piece { part, serial, place: place(row)?, at: column::time(row, "since")? })
    };
    rows.iter().map(piece).collect()
}

fn refuse_too_many(serials: &[String], quantity: u32, order_id: &str) -> Result<(), Error> {
    let different: BTreeSet<&String> = serials.iter().collect();
    let reason = if different.len() < serials.len() {
        "a serial is named twice".to_owned()
    } else if serials.iter().any(String::is_empty) {
        "a serial is empty".to_owned()
    } else if serials.len() > quantity as usize {
        format!("{} serials are named for {quantity} pieces of {order_id:?}", serials.len())
    } else {
        return Ok(());
    };
    Err(Error::Conflict { reason })
}

fn is_elsewhere(part: &PartId, serial: &str, place: &Place) -> Error {
    Error::Conflict { reason: format!("piece {serial:?} of part {:?} is {place}", part.as_str()) }
}

async fn find(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    serial: &str,
) -> Result<Option<Place>, Error> {
    let row = sqlx::query(
        "SELECT p.place, p.held_by, u.device FROM pieces p \
         LEFT JOIN part_uses u ON p.place = 'device' AND u.use_id = p.held_by \
         WHERE p.tenant = $1 AND p.part = $2 AND p.serial = $3",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(serial)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(place).transpose()
}

/// Serials of the pieces that are on the way with an order.
async fn with_order(connection: &mut Connection, tenant: &TenantId, order_id: &str) -> Result<BTreeSet<String>, Error> {
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT serial FROM pieces WHERE tenant = $1 AND place = 'order' AND held_by = $2")
            .bind(tenant.as_str())
            .bind(order_id)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(serial,)| serial).collect())
}

async fn put(
    connection: &mut Connection,
    tenant: &TenantId,
    part: &PartId,
    serial: &str,
    place: &Place,
    at: Timestamp,
) -> Result<(), Error> {
    let (word, held_by) = match place {
        Place::Depot(depot) => ("depot", depot.as_str()),
        Place::Device { use_id, .. } => ("device", use_id.as_str()),
        Place::Order(order_id) => ("order", order_id.as_str()),
        Place::Gone => ("gone", ""),
    };
    sqlx::query(
        "INSERT INTO pieces (tenant, part, serial, place, held_by, since) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant, part, serial) DO UPDATE SET place = excluded.place, held_by = excluded.held_by, \
         since = excluded.since",
    )
    .bind(tenant.as_str())
    .bind(part.as_str())
    .bind(serial)
    .bind(word)
    .bind(held_by)
    .bind(at.millis())
    .execute(connection)
    .await?;
    Ok(())
}

fn place(row: &AnyRow) -> Result<Place, Error> {
    let held_by: String = column::get(row, "held_by")?;
    match column::get::<String>(row, "place")?.as_str() {
        "depot" => Ok(Place::Depot(column::parse(row, "held_by")?)),
        "device" => Ok(Place::Device { device: column::parse(row, "device")?, use_id: held_by }),
        "order" => Ok(Place::Order(held_by)),
        "gone" => Ok(Place::Gone),
        other => Err(Error::Damaged { column: "pieces.place", value: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
