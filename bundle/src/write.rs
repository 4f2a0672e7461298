//! Writes a fleet bundle: what `export` gives and what tests and the simulator hand to the command line.

use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use harbinger_core::Timestamp;

use crate::{Bundle, read::Error};

type Cell = String;

/// Writes a bundle into `folder`, which is made where it is missing. Empty tables are left out.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
    fs_err::create_dir_all(folder).map_err(Error::Io)?;
    let fleet = &bundle.fleet;
    table(
        folder,
        "models",
        &["model", "kind", "description"],
        fleet.models.iter().map(|m| vec![m.model.to_string(), m.kind.clone(), text(&m.description)]),
    )?;
    let header = ["model", "signal", "unit", "description", "low_limit", "high_limit"];
    table(
        folder,
        "signals",
        &header,
        fleet.signals.iter().map(|s| {
            let limits = [number(s.low_limit), number(s.high_limit)];
            [vec![s.model.to_string(), s.signal.to_string(), s.unit.clone(), text(&s.description)], limits.to_vec()]
                .concat()
        }),
    )?;
    table(
        folder,
        "components",
        &["model", "component", "part", "quantity", "description"],
        fleet.components.iter().map(|c| {
            vec![
                c.model.to_string(),
                c.component.to_string(),
                c.part.to_string(),
                c.quantity.to_string(),
                text(&c.description),
            ]
        }),
    )?;
    parts_and_depots(bundle, folder)?;
    let header = [
        "device",
        "tenant",
        "model",
        "depot",
        "serial",
        "site",
        "contract",
        "installed_at",
        "observed_from",
        "observed_until",
    ];
    table(
        folder,
        "devices",
        &header,
        fleet.devices.iter().map(|d| {
            vec![
                d.device.to_string(),
                d.tenant.to_string(),
                d.model.to_string(),
                d.depot.to_string(),
                text(&d.serial),
                text(&d.site),
                text(&d.contract),
                text(&d.installed_at),
                text(&d.observed_from),
                text(&d.observed_until),
            ]
        }),
    )?;
    streams(bundle, folder)
}

fn parts_and_depots(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
    let fleet = &bundle.fleet;
    let header = [
        "part",
        "unit_cost",
        "description",
        "supplier_lead_days",
        "repairable",
        "repair_days",
        "repair_yield",
        "pack_size",
        "minimum_order",
        "successor",
    ];
    table(
        folder,
        "parts",
        &header,
        fleet.parts.iter().map(|p| {
            vec![
                p.part.to_string(),
                p.unit_cost.to_string(),
                text(&p.description),
                number(p.supplier_lead_days),
                p.repairable.to_string(),
                number(p.repair_days),
                number(p.repair_yield),
                text(&p.pack_size),
                text(&p.minimum_order),
                text(&p.successor),
            ]
        }),
    )?;
    table(
        folder,
        "depots",
        &["depot", "echelon", "region", "latitude", "longitude", "timezone"],
        fleet.depots.iter().map(|d| {
            let place = [number(d.latitude), number(d.longitude), text(&d.timezone)];
            [vec![d.depot.to_string(), d.echelon.as_str().to_owned(), text(&d.region)], place.to_vec()].concat()
        }),
    )?;
    table(
        folder,
        "lanes",
        &["from", "to", "days", "days_p95", "cost_per_piece", "fixed_cost"],
        fleet.lanes.iter().map(|l| {
            let costs = [number(l.days_p95), number(l.cost_per_piece), number(l.fixed_cost)];
            [vec![l.from.to_string(), l.to.to_string(), l.days.to_string()], costs.to_vec()].concat()
        }),
    )?;
    let header = ["contract", "respond_hours", "resolve_hours", "downtime_cost_per_day", "miss_penalty"];
    table(
        folder,
        "contracts",
        &header,
        fleet.contracts.iter().map(|c| {
            let costs = [number(c.downtime_cost_per_day), number(c.miss_penalty)];
            [vec![c.contract.to_string(), c.respond_hours.to_string(), c.resolve_hours.to_string()], costs.to_vec()]
                .concat()
        }),
    )?;
    table(
        folder,
        "stock",
        &["part", "depot", "on_hand", "in_transit"],
        fleet
            .stock
            .iter()
            .map(|s| vec![s.part.to_string(), s.depot.to_string(), s.on_hand.to_string(), s.in_transit.to_string()]),
    )
}

fn streams(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
    let mut signals: Vec<&harbinger_core::SignalId> =
        bundle.histories.values().flat_map(|h| h.readings.columns.iter().map(|(signal, _)| signal)).collect();
    signals.sort();
    signals.dedup();
    let mut rows: Vec<(Timestamp, Vec<Cell>)> = Vec::new();
    for (device, history) in &bundle.histories {
        let columns: Vec<_> = signals.iter().map(|signal| history.readings.column(signal)).collect();
        for (place, ts) in history.readings.times.iter().enumerate() {
            let mut row = vec![ts.to_string(), device.to_string()];
            row.extend(columns.iter().map(|column| match column.and_then(|c| c.get(place)) {
                Some(value) if !value.is_nan() => value.to_string(),
                _ => String::new(),
            }));
            rows.push((*ts, row));
        }
    }
    let mut header = vec!["ts", "device"];
    header.extend(signals.iter().map(|signal| signal.as_str()));
    zipped(folder, "telemetry", &header, rows)?;
    let histories = || bundle.histories.values();
    let events = histories().flat_map(|h| &h.events).map(|e| {
        let row =
            [e.ts.to_string(), e.key.device.to_string(), e.code.to_string(), e.severity.to_string(), text(&e.message)];
        (e.ts, row.to_vec())
    });
    zipped(folder, "events", &["ts", "device", "code", "severity", "message"], events.collect())?;
    let maintenance = histories().flat_map(|h| &h.maintenance).map(|m| {
        let what = [m.action.as_str().to_owned(), m.reason.as_str().to_owned()];
        (m.ts, [vec![m.ts.to_string(), m.device.to_string(), m.component.to_string()], what.to_vec()].concat())
    });
    zipped(folder, "maintenance", &["ts", "device", "component", "action", "reason"], maintenance.collect())?;
    if bundle.has_failures_file {
        let failures = histories().flat_map(|h| &h.failures);
        table(
            folder,
            "failures",
            &["ts", "device", "component"],
            failures.map(|f| vec![f.ts.to_string(), f.device.to_string(), f.component.to_string()]),
        )?;
    }
    let consumption = bundle
        .consumption
        .iter()
        .map(|c| (c.ts, vec![c.ts.to_string(), c.part.to_string(), c.depot.to_string(), c.quantity.to_string()]));
    zipped(folder, "consumption", &["ts", "part", "depot", "quantity"], consumption.collect())
}

fn table(folder: &Path, name: &str, header: &[&str], rows: impl Iterator<Item = Vec<Cell>>) -> Result<(), Error> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let file = fs_err::File::create(folder.join(format!("{name}.csv"))).map_err(Error::Io)?;
    records(csv::Writer::from_writer(file), header, rows)
}

/// A stream, in order of time, gzipped.
fn zipped(folder: &Path, name: &str, header: &[&str], mut rows: Vec<(Timestamp, Vec<Cell>)>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by_key(|row| row.0);
    let file = fs_err::File::create(folder.join(format!("{name}.csv.gz"))).map_err(Error::Io)?;
    let writer = csv::Writer::from_writer(GzEncoder::new(file, Compression::default()));
    records(writer, header, rows.into_iter().map(|(_, row)| row))
}

fn records<W: std::io::Write>(
    mut out: csv::Writer<W>,
    header: &[&str],
    rows: impl Iterator<Item = Vec<Cell>>,
) -> Result<(), Error> {
    let io = |error: csv::Error| Error::Io(std::io::Error::other(error));
    out.write_record(header).map_err(io)?;
    for row in rows {
        out.write_record(row).map_err(io)?;
    }
    out.flush().map_err(Error::Io)
}

fn text<T: ToString>(value: &Option<T>) -> Cell {
    value.as_ref().map_or_else(String::new, ToString::to_string)
}

fn number(value: Option<f64>) -> Cell {
    text(&value)
}
