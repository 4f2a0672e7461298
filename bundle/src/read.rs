//! Reads a fleet bundle: all of it or nothing, with the place of every problem.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    hash::Hash,
    path::{Path, PathBuf},
    sync::Arc,
};

use harbinger_core::{
    ComponentId, ContractId, DepotId, DeviceEvent, DeviceId, DeviceKey, HardwareModelId, PartId, Severity, SignalId,
    TenantId, Timestamp,
    fleet::{
        ComponentSlot, Consumption, Contract, Depot, Device, Failure, Fleet, HardwareModel, Lane, Maintenance,
        MaintenanceAction, MaintenanceReason, Part, SignalSpec, StockLevel, circles_of_successors,
    },
    history::{DeviceHistory, Readings},
};

use crate::{
    Bundle,
    table::{Row, Table},
};

/// A place in a bundle that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File name.
    pub file: String,
    /// Line in the file, from 1; the header is line 1.
    pub line: u64,
    /// Column name, where one cell is to blame.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(f, " column {column}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why a bundle was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is not there.
    #[error("{} is not a folder", .0.display())]
    NoFolder(PathBuf),
    /// A file could not be read.
    #[error(transparent)]
    Io(std::io::Error),
    /// A file that the bundle needs is not there.
    #[error("the bundle in {} has no {file}", folder.display())]
    MissingFile {
        /// The bundle.
        folder: PathBuf,
        /// What is missing.
        file: &'static str,
    },
    /// Places that cannot be taken; nothing of the bundle was.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the bundle in `folder`.
///
/// # Errors
/// [`Error`], naming file, line and column of up to 20 places.
pub fn read(folder: &Path) -> Result<Bundle, Error> {
    if !folder.is_dir() {
        return Err(Error::NoFolder(folder.to_owned()));
    }
    for file in ["parts", "depots"] {
        if Table::open(folder, file, &[])?.is_none() {
            let file = if file == "parts" { "parts.csv" } else { "depots.csv" };
            return Err(Error::MissingFile { folder: folder.to_owned(), file });
        }
    }
    let mut reader = Reader { folder, problems: Vec::new(), warnings: Vec::new() };
    let fleet = reader.fleet()?;
    reader.stop_at_problems()?;
    let mut histories: BTreeMap<DeviceId, DeviceHistory> =
        fleet.devices.iter().map(|device| (device.device.clone(), DeviceHistory::default())).collect();
    reader.telemetry(&mut histories)?;
    reader.events(&fleet, &mut histories)?;
    reader.maintenance(&fleet, &mut histories)?;
    let has_failures_file = reader.failures(&fleet, &mut histories)?;
    let consumption = reader.consumption(&fleet)?;
    reader.stop_at_problems()?;
    for history in histories.values_mut() {
        finish(history, has_failures_file);
    }
    Ok(Bundle { fleet, histories, has_failures_file, consumption, warnings: reader.warnings })
}

/// Puts a history in order of time; without a failures file the replacements because of failure are the failures.
fn finish(history: &mut DeviceHistory, has_failures_file: bool) {
    history.events.sort_by(|a, b| (a.ts, &a.code).cmp(&(b.ts, &b.code)));
    history.events.dedup_by(|a, b| (a.ts, &a.code) == (b.ts, &b.code));
    history.maintenance.sort_by(|a, b| (a.ts, &a.component).cmp(&(b.ts, &b.component)));
    if !has_failures_file {
        history.failures = failures_of(&history.maintenance);
    }
    history.failures.sort_by(|a, b| (a.ts, &a.component).cmp(&(b.ts, &b.component)));
}

/// The failures that maintenance records tell of: replacements whose reason is failure.
#[must_use]
pub fn failures_of(maintenance: &[Maintenance]) -> Vec<Failure> {
    maintenance
        .iter()
        .filter(|m| m.action == MaintenanceAction::Replaced && m.reason == MaintenanceReason::Failure)
        .map(|m| Failure { ts: m.ts, device: m.device.clone(), component: m.component.clone() })
        .collect()
}

struct Reader<'a> {
    folder: &'a Path,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn stop_at_problems(&mut self) -> Result<(), Error> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Problems(std::mem::take(&mut self.problems))) }
    }

    /// Reads the rows of a file, if it is there, warning once of each column that nobody asked for.
    fn rows<T>(
        &mut self,
        name: &str,
        required: &[&str],
        optional: &[&str],
        mut take: impl FnMut(&Row<'_>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Error> {
        let Some(mut table) = Table::open(self.folder, name, required)? else { return Ok(Vec::new()) };
        for column in table.header() {
            if !required.contains(&column.as_str()) && !optional.contains(&column.as_str()) {
                self.warnings.push(format!("{}: column {column:?} is not known and was ignored", table.name()));
            }
        }
        let mut taken = Vec::new();
        table.each(&mut self.problems, |row| {
            taken.push(take(row)?);
            Ok(())
        });
        Ok(taken)
    }

    fn fleet(&mut self) -> Result<Fleet, Error> {
        let mut seen = HashSet::new();
        let models = self.rows("models", &["model", "kind"], &["description"], |row| {
            let model: HardwareModelId = row.required("model")?;
            once(row, "model", &mut seen, model.clone())?;
            Ok(HardwareModel { model, kind: row.required("kind")?, description: row.optional("description")? })
        })?;
        let known_models: HashSet<_> = models.iter().map(|m| m.model.clone()).collect();
        let parts = self.parts()?;
        let known_parts: HashSet<_> = parts.iter().map(|p| p.part.clone()).collect();
        let depots = self.depots()?;
        let known_depots: HashSet<_> = depots.iter().map(|d| d.depot.clone()).collect();
        let contracts = self.contracts()?;
        let known_contracts: HashSet<_> = contracts.iter().map(|c| c.contract.clone()).collect();
        let signals = self.signals(&known_models)?;
        let components = self.components(&known_models, &known_parts)?;
        let lanes = self.lanes(&known_depots)?;
        let stock = self.stock(&known_parts, &known_depots)?;
        let devices = self.devices(&known_models, &known_depots, &known_contracts)?;
        self.successors(&parts, &known_parts);
        Ok(Fleet { models, signals, components, parts, depots, lanes, contracts, devices, stock })
    }

    fn parts(&mut self) -> Result<Vec<Part>, Error> {
        let optional = [
            "description",
            "supplier_lead_days",
            "repairable",
            "repair_days",
            "repair_yield",
            "pack_size",
            "minimum_order",
            "successor",
            "shelf_life_days",
            "supplier_lead_days_p95",
            "repair_places",
        ];
        let mut seen = HashSet::new();
        self.rows("parts", &["part", "unit_cost"], &optional, |row| {
            let part: PartId = row.required("part")?;
            once(row, "part", &mut seen, part.clone())?;
            let unit_cost = row
                .number("unit_cost", 0.0..=f64::MAX)?
                .ok_or_else(|| row.problem("unit_cost", "the cell is empty, and this column is required"))?;
            Ok(Part {
                part,
                unit_cost,
                description: row.optional("description")?,
                supplier_lead_days: row.number("supplier_lead_days", 0.0..=36_500.0)?,
                repairable: row.optional("repairable")?.unwrap_or(false),
                repair_days: row.number("repair_days", 0.0..=36_500.0)?,
                repair_yield: row.number("repair_yield", 0.0..=1.0)?,
                pack_size: row.optional("pack_size")?,
                minimum_order: row.optional("minimum_order")?,
                successor: row.optional("successor")?,
                shelf_life_days: row.number("shelf_life_days", 0.01..=36_500.0)?,
                supplier_lead_days_p95: row.number("supplier_lead_days_p95", 0.0..=36_500.0)?,
                repair_places: match row.optional("repair_places")? {
                    Some(0) => {
                        return Err(row.problem("repair_places", "0 is not 1 or more; leave it empty for no bound"));
                    }
                    places => places,
                },
            })
        })
    }

    /// A successor must be a part of the same file, and some part the newest; parts may come in any order, so this is checked
    /// after them.
    fn successors(&mut self, parts: &[Part], known: &HashSet<PartId>) {
        let circles = circles_of_successors(parts);
        for (place, part) in parts.iter().enumerate() {
            let Some(successor) = &part.successor else { continue };
            let reason = if !known.contains(successor) {
                format!("part {successor:?} is not in parts.csv")
            } else if circles.contains(&part.part) {
                format!("successors lead from {:?} round in a circle: leave that of the newest part empty", part.part)
            } else {
                continue;
            };
            self.problems.push(Problem {
                file: "parts.csv".to_owned(),
                line: place as u64 + 2,
                column: Some("successor".to_owned()),
                reason,
            });
        }
    }

    fn depots(&mut self) -> Result<Vec<Depot>, Error> {
        let mut seen = HashSet::new();
        self.rows(
            "depots",
            &["depot", "echelon"],
            &["region", "latitude", "longitude", "timezone", "capacity"],
            |row| {
                let depot: DepotId = row.required("depot")?;
                once(row, "depot", &mut seen, depot.clone())?;
                Ok(Depot {
                    depot,
                    echelon: row.required("echelon")?,
                    region: row.optional("region")?,
                    latitude: row.number("latitude", -90.0..=90.0)?,
                    longitude: row.number("longitude", -180.0..=180.0)?,
                    timezone: row.optional("timezone")?,
                    capacity: row.optional("capacity")?,
                })
            },
        )
    }

    fn contracts(&mut self) -> Result<Vec<Contract>, Error> {
        let mut seen = HashSet::new();
        let required = ["contract", "respond_hours", "resolve_hours"];
        self.rows("contracts", &required, &["downtime_cost_per_day", "miss_penalty"], |row| {
            let contract: ContractId = row.required("contract")?;
            once(row, "contract", &mut seen, contract.clone())?;
            let hours = |column| {
                row.number(column, 0.0..=1e6)?
                    .ok_or_else(|| row.problem(column, "the cell is empty, and this column is required"))
            };
            Ok(Contract {
                contract,
                respond_hours: hours("respond_hours")?,
                resolve_hours: hours("resolve_hours")?,
                downtime_cost_per_day: row.number("downtime_cost_per_day", 0.0..=f64::MAX)?,
                miss_penalty: row.number("miss_penalty", 0.0..=f64::MAX)?,
            })
        })
    }

    fn signals(&mut self, models: &HashSet<HardwareModelId>) -> Result<Vec<SignalSpec>, Error> {
        self.rows("signals", &["model", "signal", "unit"], &["description", "low_limit", "high_limit"], |row| {
            Ok(SignalSpec {
                model: reference(row, "model", models, "models.csv")?,
                signal: row.required("signal")?,
                unit: row.required("unit")?,
                description: row.optional("description")?,
                low_limit: row.number("low_limit", f64::MIN..=f64::MAX)?,
                high_limit: row.number("high_limit", f64::MIN..=f64::MAX)?,
            })
        })
    }

    fn components(
        &mut self,
        models: &HashSet<HardwareModelId>,
        parts: &HashSet<PartId>,
    ) -> Result<Vec<ComponentSlot>, Error> {
        self.rows("components", &["model", "component", "part"], &["quantity", "description"], |row| {
            let quantity: u32 = row.optional("quantity")?.unwrap_or(1);
            if quantity == 0 {
                return Err(row.problem("quantity", "a replacement takes at least 1 piece"));
            }
            Ok(ComponentSlot {
                model: reference(row, "model", models, "models.csv")?,
                component: row.required("component")?,
                part: reference(row, "part", parts, "parts.csv")?,
                quantity,
                description: row.optional("description")?,
            })
        })
    }

    fn lanes(&mut self, depots: &HashSet<DepotId>) -> Result<Vec<Lane>, Error> {
        self.rows("lanes", &["from", "to", "days"], &["days_p95", "cost_per_piece", "fixed_cost", "capacity"], |row| {
            Ok(Lane {
                from: reference(row, "from", depots, "depots.csv")?,
                to: reference(row, "to", depots, "depots.csv")?,
                days: row
                    .number("days", 0.0..=36_500.0)?
                    .ok_or_else(|| row.problem("days", "the cell is empty, and this column is required"))?,
                days_p95: row.number("days_p95", 0.0..=36_500.0)?,
                cost_per_piece: row.number("cost_per_piece", 0.0..=f64::MAX)?,
                fixed_cost: row.number("fixed_cost", 0.0..=f64::MAX)?,
                capacity: row.optional("capacity")?,
            })
        })
    }

    fn stock(&mut self, parts: &HashSet<PartId>, depots: &HashSet<DepotId>) -> Result<Vec<StockLevel>, Error> {
        let mut seen = HashSet::new();
        self.rows("stock", &["part", "depot", "on_hand"], &["in_transit"], |row| {
            let part = reference(row, "part", parts, "parts.csv")?;
            let depot = reference(row, "depot", depots, "depots.csv")?;
            once(row, "part", &mut seen, (part.clone(), depot.clone()))?;
            let in_transit = row.optional("in_transit")?.unwrap_or(0);
            Ok(StockLevel { part, depot, on_hand: row.required("on_hand")?, in_transit })
        })
    }

    fn devices(
        &mut self,
        models: &HashSet<HardwareModelId>,
        depots: &HashSet<DepotId>,
        contracts: &HashSet<ContractId>,
    ) -> Result<Vec<Device>, Error> {
        let optional =
            ["serial", "site", "contract", "installed_at", "observed_from", "observed_until", "moves_to", "moves_at"];
        let mut seen = HashSet::new();
        let mut tenant: Option<TenantId> = None;
        let mut devices = self.rows("devices", &["device", "tenant", "model", "depot"], &optional, |row| {
            let device: DeviceId = row.required("device")?;
            once(row, "device", &mut seen, device.clone())?;
            let owner: TenantId = row.required("tenant")?;
            let first = tenant.get_or_insert_with(|| owner.clone());
            if *first != owner {
                return Err(row.problem("tenant", format!("a bundle is of one tenant: this one began with {first:?}")));
            }
            let contract = match row.text("contract") {
                "" => None,
                _ => Some(reference(row, "contract", contracts, "contracts.csv")?),
            };
            let moves_to = match row.text("moves_to") {
                "" => None,
                _ => Some(reference(row, "moves_to", depots, "depots.csv")?),
            };
            let moves_at = row.optional("moves_at")?;
            if moves_to.is_some() != moves_at.is_some() {
                let reason = "moves_to and moves_at go together: fill both, or none where it stays";
                return Err(row.problem("moves_at", reason));
            }
            Ok(Device {
                device,
                tenant: owner,
                model: reference(row, "model", models, "models.csv")?,
                depot: reference(row, "depot", depots, "depots.csv")?,
                serial: row.optional("serial")?,
                site: row.optional("site")?,
                contract,
                installed_at: row.optional("installed_at")?,
                observed_from: row.optional("observed_from")?,
                observed_until: row.optional("observed_until")?,
                moves_to,
                moves_at,
            })
        })?;
        devices.sort_by(|a, b| a.device.cmp(&b.device));
        Ok(devices)
    }

    fn telemetry(&mut self, histories: &mut BTreeMap<DeviceId, DeviceHistory>) -> Result<(), Error> {
        let Some(mut table) = Table::open(self.folder, "telemetry", &["ts", "device"])? else { return Ok(()) };
        let header = table.header().to_vec();
        let ts_place = place_of(&header, "ts");
        let device_place = place_of(&header, "device");
        let mut signals = Vec::new();
        for (place, column) in header.iter().enumerate() {
            if place != ts_place && place != device_place {
                let parsed = column.parse::<SignalId>().map_err(|error| Problem {
                    file: table.name().to_owned(),
                    line: 1,
                    column: Some(column.clone()),
                    reason: error.to_string(),
                })?;
                signals.push((place, parsed));
            }
        }
        // Devices by their text, so that a row costs one look-up and no allocation.
        let names: Vec<DeviceId> = histories.keys().cloned().collect();
        let numbers: HashMap<&str, usize> = names.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect();
        let mut rows: Vec<DeviceRows> = names.iter().map(|_| DeviceRows::default()).collect();
        table.each(&mut self.problems, |row| {
            let ts: Timestamp = row.at(ts_place).parse().map_err(|e| row.problem("ts", format!("{e}")))?;
            let device = row.at(device_place);
            let number = *numbers
                .get(device)
                .ok_or_else(|| row.problem("device", format!("device {device:?} is not in devices.csv")))?;
            let taken = &mut rows[number];
            for (place, signal) in &signals {
                let value = match row.at(*place) {
                    "" => f64::NAN,
                    text => match text.parse::<f64>() {
                        Ok(value) if value.is_finite() => value,
                        _ => return Err(row.problem(signal.as_str(), format!("{text:?} is not a finite number"))),
                    },
                };
                taken.values.push(value);
            }
            taken.times.push(ts);
            Ok(())
        });
        if !self.problems.is_empty() {
            return Ok(());
        }
        let signals: Vec<SignalId> = signals.into_iter().map(|(_, signal)| signal).collect();
        for (history, rows) in histories.values_mut().zip(rows) {
            history.readings = rows.into_readings(&signals);
        }
        Ok(())
    }

    fn events(&mut self, fleet: &Fleet, histories: &mut BTreeMap<DeviceId, DeviceHistory>) -> Result<(), Error> {
        let tenant = fleet.devices.first().map(|device| device.tenant.clone());
        let events = self.rows("events", &["ts", "device", "code"], &["severity", "message"], |row| {
            let device: DeviceId = row.required("device")?;
            let Some(tenant) = tenant.clone().filter(|_| histories.contains_key(&device)) else {
                return Err(row.problem("device", format!("device {:?} is not in devices.csv", device.as_str())));
            };
            let code: String = row.required("code")?;
            Ok(DeviceEvent {
                key: DeviceKey::new(tenant, device),
                ts: row.required("ts")?,
                code: Arc::from(code),
                severity: row.optional("severity")?.unwrap_or(Severity::Info),
                message: row.optional("message")?,
            })
        })?;
        for event in events {
            if let Some(history) = histories.get_mut(&event.key.device) {
                history.events.push(event);
            }
        }
        Ok(())
    }

    fn maintenance(&mut self, fleet: &Fleet, histories: &mut BTreeMap<DeviceId, DeviceHistory>) -> Result<(), Error> {
        let slots = Slots::of(fleet);
        let records = self.rows("maintenance", &["ts", "device", "component"], &["action", "reason"], |row| {
            let (device, component) = slots.check(row)?;
            Ok(Maintenance {
                ts: row.required("ts")?,
                device,
                component,
                action: row.optional("action")?.unwrap_or(MaintenanceAction::Replaced),
                reason: row.optional("reason")?.unwrap_or(MaintenanceReason::Planned),
            })
        })?;
        for record in records {
            if let Some(history) = histories.get_mut(&record.device) {
                history.maintenance.push(record);
            }
        }
        Ok(())
    }

    fn failures(&mut self, fleet: &Fleet, histories: &mut BTreeMap<DeviceId, DeviceHistory>) -> Result<bool, Error> {
        if Table::open(self.folder, "failures", &[])?.is_none() {
            return Ok(false);
        }
        let slots = Slots::of(fleet);
        let failures = self.rows("failures", &["ts", "device", "component"], &[], |row| {
            let (device, component) = slots.check(row)?;
            Ok(Failure { ts: row.required("ts")?, device, component })
        })?;
        for failure in failures {
            if let Some(history) = histories.get_mut(&failure.device) {
                history.failures.push(failure);
            }
        }
        Ok(true)
    }

    fn consumption(&mut self, fleet: &Fleet) -> Result<Vec<Consumption>, Error> {
        let parts: HashSet<_> = fleet.parts.iter().map(|p| p.part.clone()).collect();
        let depots: HashSet<_> = fleet.depots.iter().map(|d| d.depot.clone()).collect();
        self.rows("consumption", &["ts", "part", "depot", "quantity"], &[], |row| {
            Ok(Consumption {
                ts: row.required("ts")?,
                part: reference(row, "part", &parts, "parts.csv")?,
                depot: reference(row, "depot", &depots, "depots.csv")?,
                quantity: row
                    .number("quantity", 0.0..=1e12)?
                    .ok_or_else(|| row.problem("quantity", "the cell is empty, and this column is required"))?,
            })
        })
    }
}

/// Which components each device has.
struct Slots<'a> {
    model_of: HashMap<&'a str, &'a HardwareModelId>,
    slots: HashSet<(&'a HardwareModelId, &'a ComponentId)>,
}

impl<'a> Slots<'a> {
    fn of(fleet: &'a Fleet) -> Self {
        Self {
            model_of: fleet.devices.iter().map(|d| (d.device.as_str(), &d.model)).collect(),
            slots: fleet.components.iter().map(|c| (&c.model, &c.component)).collect(),
        }
    }

    fn check(&self, row: &Row<'_>) -> Result<(DeviceId, ComponentId), Problem> {
        let device: DeviceId = row.required("device")?;
        let component: ComponentId = row.required("component")?;
        let Some(&model) = self.model_of.get(device.as_str()) else {
            return Err(row.problem("device", format!("device {:?} is not in devices.csv", device.as_str())));
        };
        if self.slots.contains(&(model, &component)) {
            Ok((device, component))
        } else {
            let reason = format!("components.csv has no {:?} for model {:?}", component.as_str(), model.as_str());
            Err(row.problem("component", reason))
        }
    }
}

/// Readings of one device as they come in the file: rows of values, one a signal.
#[derive(Default)]
struct DeviceRows {
    times: Vec<Timestamp>,
    values: Vec<f64>,
}

impl DeviceRows {
    /// Columns in order of time; of two rows with one time stamp the later one's values hold, sample by sample; a
    /// signal without a value is left out.
    fn into_readings(self, signals: &[SignalId]) -> Readings {
        let width = signals.len();
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|&row| self.times[row]);
        let mut times: Vec<Timestamp> = Vec::with_capacity(order.len());
        let mut columns: Vec<Vec<f64>> = vec![Vec::with_capacity(order.len()); width];
        for row in order {
            let values = &self.values[row * width..(row + 1) * width];
            // A row without a value is no reading: nothing was measured.
            if values.iter().all(|value| value.is_nan()) {
                continue;
            }
            let repeated = times.last() == Some(&self.times[row]);
            if !repeated {
                times.push(self.times[row]);
            }
            for (column, &value) in columns.iter_mut().zip(values) {
                match column.last_mut() {
                    Some(last) if repeated => {
                        if !value.is_nan() {
                            *last = value;
                        }
                    }
                    _ => column.push(value),
                }
            }
        }
        let mut columns: Vec<(SignalId, Vec<f64>)> = signals
            .iter()
            .cloned()
            .zip(columns)
            .filter(|(_, column)| column.iter().any(|value| !value.is_nan()))
            .collect();
        columns.sort_by(|a, b| a.0.cmp(&b.0));
        Readings { times, columns }
    }
}

fn place_of(header: &[String], column: &str) -> usize {
    header.iter().position(|known| known == column).expect("the table was opened with this column required")
}

fn once<T: Eq + Hash>(row: &Row<'_>, column: &str, seen: &mut HashSet<T>, id: T) -> Result<(), Problem> {
    if seen.insert(id) { Ok(()) } else { Err(row.problem(column, "this row was already given")) }
}

fn reference<T>(row: &Row<'_>, column: &str, known: &HashSet<T>, file: &str) -> Result<T, Problem>
where
    T: std::str::FromStr + Eq + Hash + fmt::Display,
    T::Err: fmt::Display,
{
    let id: T = row.required(column)?;
    if known.contains(&id) {
        Ok(id)
    } else {
        Err(row.problem(column, format!("{:?} is not in {file}", id.to_string())))
    }
}
