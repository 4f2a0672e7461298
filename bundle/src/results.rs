//! Result files of the command line: what `score` writes, other tools read.

use std::{collections::BTreeMap, io::Write, path::Path};

use harbinger_core::{ComponentId, DepotId, DeviceId, Duration, PartId, SignalId, Timestamp};

use crate::read::Error;

/// A row of `predictions.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionRow<'a> {
    /// What was known then.
    pub ts: Timestamp,
    /// Of which device.
    pub device: &'a DeviceId,
    /// Of which component.
    pub component: &'a ComponentId,
    /// P(failure in `(ts, ts + horizon]`), one a horizon.
    pub probabilities: &'a [f64],
    /// Uncalibrated rank behind the main horizon.
    pub score: f64,
    /// Whether the main probability is over the model's threshold.
    pub alarm: bool,
    /// Mean, 5 %, 50 % and 95 % quantile of remaining useful life in hours.
    pub rul_hours: [f64; 4],
    /// Which model.
    pub model_version: &'a str,
}

/// The header of `predictions.csv` for horizons.
#[must_use]
pub fn predictions_header(horizons: &[Duration]) -> Vec<String> {
    let mut header: Vec<String> = ["ts", "device", "component"].map(str::to_owned).to_vec();
    header.extend(horizons.iter().map(|h| format!("p_{}h", h.millis() / 3_600_000)));
    header.extend(["score", "alarm", "rul_mean", "rul_p05", "rul_p50", "rul_p95", "model_version"].map(str::to_owned));
    header
}

/// Writes `predictions.csv` into a file that appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_predictions<'a>(
    path: &Path,
    horizons: &[Duration],
    rows: impl Iterator<Item = PredictionRow<'a>>,
) -> Result<usize, Error> {
    write_whole(path, &predictions_header(horizons), rows, |out, row: PredictionRow<'_>| {
        out.write_field(row.ts.to_string())?;
        out.write_field(row.device.as_str())?;
        out.write_field(row.component.as_str())?;
        for p in row.probabilities {
            out.write_field(p.to_string())?;
        }
        out.write_field(row.score.to_string())?;
        out.write_field(if row.alarm { "1" } else { "0" })?;
        for hours in row.rul_hours {
            out.write_field(hours.to_string())?;
        }
        out.write_field(row.model_version)
    })
}

/// A row of `features.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow<'a> {
    /// Of which device.
    pub device: &'a DeviceId,
    /// When.
    pub ts: Timestamp,
    /// Of which component.
    pub component: &'a ComponentId,
    /// Whether it has failed within the horizon, as far as is known.
    pub label: bool,
    /// Whether that is known for certain.
    pub known: bool,
    /// How many rows it stands for.
    pub weight: f64,
    /// NaN where a value is missing.
    pub features: &'a [f32],
}

/// Writes `features.csv` into a file that appears whole or not at all; what is missing is empty.
///
/// * `names`: of the features, in the order of a row.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_features<'a>(
    path: &Path,
    names: &[String],
    rows: impl Iterator<Item = FeatureRow<'a>>,
) -> Result<usize, Error> {
    let mut header = ["device", "ts", "component", "label", "known", "weight"].map(str::to_owned).to_vec();
    header.extend_from_slice(names);
    write_whole(path, &header, rows, |out, row: FeatureRow<'_>| {
        out.write_field(row.device.as_str())?;
        out.write_field(row.ts.to_string())?;
        out.write_field(row.component.as_str())?;
        for holds in [row.label, row.known] {
            out.write_field(if holds { "1" } else { "0" })?;
        }
        out.write_field(row.weight.to_string())?;
        for value in row.features {
            out.write_field(if value.is_nan() { String::new() } else { value.to_string() })?;
        }
        Ok(())
    })
}

/// A row of `anomalies.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyRow<'a> {
    /// Time of the reading.
    pub ts: Timestamp,
    /// Of which device.
    pub device: &'a DeviceId,
    /// How unlike the usual it is.
    pub score: f64,
    /// Whether the device is in alarm.
    pub alarm: bool,
    /// The signals behind an alarm, the strongest first.
    pub top_signals: &'a [SignalId],
}

/// Writes `anomalies.csv` into a file that appears whole or not at all; signals are joined by `+`, which no signal id
/// holds.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_anomalies<'a>(path: &Path, rows: impl Iterator<Item = AnomalyRow<'a>>) -> Result<usize, Error> {
    let header = ["ts", "device", "score", "alarm", "top_signals"].map(str::to_owned);
    write_whole(path, &header, rows, |out, row: AnomalyRow<'_>| {
        out.write_field(row.ts.to_string())?;
        out.write_field(row.device.as_str())?;
        out.write_field(row.score.to_string())?;
        out.write_field(if row.alarm { "1" } else { "0" })?;
        let signals: Vec<&str> = row.top_signals.iter().map(SignalId::as_str).collect();
        out.write_field(signals.join("+"))
    })
}

/// A row of `stock.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct StockRow<'a> {
    /// Which part.
    pub part: &'a PartId,
    /// Where.
    pub depot: &'a DepotId,
    /// Base stock: on hand, and on order beyond what is owed.
    pub target: u32,
    /// Share of the demand that is served at once.
    pub fill_rate: f64,
    /// Pieces owed, in the mean.
    pub expected_backorders: f64,
    /// Share of the demand that is served within its limit.
    pub within_limit: f64,
}

/// Writes `stock.csv` into a file that appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_stock<'a>(path: &Path, rows: impl Iterator<Item = StockRow<'a>>) -> Result<usize, Error> {
    let header = ["part", "depot", "target", "fill_rate", "expected_backorders", "within_limit"].map(str::to_owned);
    write_whole(path, &header, rows, |out, row: StockRow<'_>| {
        out.write_field(row.part.as_str())?;
        out.write_field(row.depot.as_str())?;
        out.write_field(row.target.to_string())?;
        for value in [row.fill_rate, row.expected_backorders, row.within_limit] {
            out.write_field(value.to_string())?;
        }
        Ok(())
    })
}

/// A row of `demand.csv`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemandRow<'a> {
    /// Which part.
    pub part: &'a PartId,
    /// At which depot.
    pub depot: &'a DepotId,
    /// First instant of the period that the forecast is of.
    pub period_start: Timestamp,
    /// Expected pieces.
    pub mean: f64,
    /// 5 %, 50 %, 90 %, 95 % and 99 % quantile in pieces.
    pub quantiles: [f64; 5],
}

/// Writes `demand.csv` into a file that appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_demand<'a>(path: &Path, rows: impl Iterator<Item = DemandRow<'a>>) -> Result<usize, Error> {
    let header = ["part", "depot", "period_start", "mean", "p05", "p50", "p90", "p95", "p99"].map(str::to_owned);
    write_whole(path, &header, rows, |out, row: DemandRow<'_>| {
        out.write_field(row.part.as_str())?;
        out.write_field(row.depot.as_str())?;
        out.write_field(row.period_start.to_string())?;
        out.write_field(row.mean.to_string())?;
        row.quantiles.iter().try_for_each(|pieces| out.write_field(pieces.to_string()))
    })
}

/// A row of `levels.csv`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelRow<'a> {
    /// Which part.
    pub part: &'a PartId,
    /// At which depot.
    pub depot: &'a DepotId,
    /// First instant of the period at whose start is ordered.
    pub period_start: Timestamp,
    /// The service that the level is for.
    pub quantile: f64,
    /// Pieces to order up to: on hand and on order less backorders.
    pub level: f64,
}

/// Writes `levels.csv` into a file that appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_levels<'a>(path: &Path, rows: impl Iterator<Item = LevelRow<'a>>) -> Result<usize, Error> {
    let header = ["part", "depot", "period_start", "quantile", "level"].map(str::to_owned);
    write_whole(path, &header, rows, |out, row: LevelRow<'_>| {
        out.write_field(row.part.as_str())?;
        out.write_field(row.depot.as_str())?;
        out.write_field(row.period_start.to_string())?;
        out.write_field(row.quantile.to_string())?;
        out.write_field(row.level.to_string())
    })
}

/// A row of `policies.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRow<'a> {
    /// Which policy.
    pub policy: &'a str,
    /// Recall and precision of its alerts; empty where it has none.
    pub alert_quality: &'a str,
    /// Which seed.
    pub seed: u64,
    /// Mean value of the stock on hand and on the way.
    pub stock_value: f64,
    /// Share of failures that were served from the depot's shelf.
    pub fill_rate: f64,
    /// Share of failures whose part was at hand within what was promised.
    pub within_limit: f64,
    /// Emergency shipments in the time that counts.
    pub emergency: u32,
    /// Pieces moved between hub and depots in the time that counts.
    pub transports: u32,
    /// Cost of the time that counts.
    pub total_cost: f64,
}

/// Writes `policies.csv` into a file that appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_policies<'a>(path: &Path, rows: impl Iterator<Item = PolicyRow<'a>>) -> Result<usize, Error> {
    let header = [
        "policy",
        "alert_quality",
        "seed",
        "stock_value",
        "fill_rate",
        "within_limit",
        "emergency",
        "transports",
        "total_cost",
    ];
    write_whole(path, &header.map(str::to_owned), rows, |out, row: PolicyRow<'_>| {
        out.write_field(row.policy)?;
        out.write_field(row.alert_quality)?;
        out.write_field(row.seed.to_string())?;
        for value in [row.stock_value, row.fill_rate, row.within_limit] {
            out.write_field(value.to_string())?;
        }
        out.write_field(row.emergency.to_string())?;
        out.write_field(row.transports.to_string())?;
        out.write_field(row.total_cost.to_string())
    })
}

type Out = csv::Writer<std::io::BufWriter<fs_err::File>>;

/// Writes a file beside `path` and puts it in its place when it is whole and on disk.
fn write_whole<R>(
    path: &Path,
    header: &[String],
    rows: impl Iterator<Item = R>,
    fields: impl Fn(&mut Out, R) -> csv::Result<()>,
) -> Result<usize, Error> {
    let part = path.with_extension("part");
    let mut out = csv::Writer::from_writer(std::io::BufWriter::new(fs_err::File::create(&part).map_err(Error::Io)?));
    out.write_record(header).map_err(io)?;
    let mut written = 0;
    for row in rows {
        fields(&mut out, row).and_then(|()| out.write_record(None::<&[u8]>)).map_err(io)?;
        written += 1;
    }
    let mut inner = out.into_inner().map_err(|error| Error::Io(error.into_error()))?;
    inner.flush().map_err(Error::Io)?;
    inner.get_ref().sync_all().map_err(Error::Io)?;
    fs_err::rename(&part, path).map_err(Error::Io)?;
    Ok(written)
}

/// Writes a text into a file that appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    let part = path.with_extension("part");
    fs_err::write(&part, text).map_err(Error::Io)?;
    fs_err::File::open(&part).and_then(|file| file.sync_all()).map_err(Error::Io)?;
    fs_err::rename(&part, path).map_err(Error::Io)
}

/// The times of a file with the columns `device` and `ts`.
///
/// # Errors
/// [`Error`] with the place of what is no id or no time, and of a device that is there twice.
pub fn read_device_times(path: &Path) -> Result<BTreeMap<DeviceId, Timestamp>, Error> {
    let mut reader = csv::Reader::from_reader(fs_err::File::open(path).map_err(Error::Io)?);
    let problem = |line: u64, column: Option<&str>, reason: String| crate::Problem {
        file: path.display().to_string(),
        line,
        column: column.map(str::to_owned),
        reason,
    };
    let header = reader.headers().map_err(io)?.clone();
    let place = |name: &str| {
        let found = header.iter().position(|column| column == name);
        found.ok_or_else(|| problem(1, Some(name), format!("required column {name:?} is missing")))
    };
    let (device_at, ts_at) = (place("device")?, place("ts")?);
    let mut times = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(io)?;
        let line = record.position().map_or(0, csv::Position::line);
        let device: DeviceId =
            record[device_at].parse().map_err(|error| problem(line, Some("device"), format!("{error}")))?;
        let ts: Timestamp = record[ts_at].parse().map_err(|error| problem(line, Some("ts"), format!("{error}")))?;
        if times.insert(device.clone(), ts).is_some() {
            return Err(problem(line, Some("device"), format!("{device} is there twice")).into());
        }
    }
    Ok(times)
}

/// The device ids of a `--devices` file: one a line, empty lines skipped.
///
/// # Errors
/// [`Error`] with the place of a line that is no id.
pub fn read_device_list(path: &Path) -> Result<Vec<DeviceId>, Error> {
    let text = fs_err::read_to_string(path).map_err(Error::Io)?;
    let mut devices = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let device = line.trim().parse().map_err(|error| crate::Problem {
            file: path.display().to_string(),
            line: number as u64 + 1,
            column: None,
            reason: format!("{error}"),
        })?;
        devices.push(device);
    }
    Ok(devices)
}

fn io(error: csv::Error) -> Error {
    Error::Io(std::io::Error::other(error))
}
