//! The parameters of a range query: read, filled in and checked.

use harbinger_core::{
    DepotId, Duration, HardwareModelId, SignalId, TenantId, TimeRange, Timestamp,
    calendar::{Step, Zone},
    history::Closed,
};
use harbinger_store::telemetry::{
    TelemetryStore,
    query::{self, Bucket, Buckets, Function, GapAfter, Place, RangeQuery, Row},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::devices::Found;
use crate::{
    errors::{Code, Error, Result},
    page::PageQuery,
};

/// The list that a cursor belongs to.
pub(super) const LIST: &str = "telemetry";
/// The span that is shown where the caller names no start: the last seven days before the end.
const SPAN_DEFAULT: Duration = Duration::from_days(7);
/// Most buckets a signal in an answer that comes in pages.
const BUCKETS_MAX: i64 = 100_000;
/// Most buckets a signal in an answer that comes whole.
const BUCKETS_MAX_WHOLE: i64 = 10_000;

/// Which telemetry is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RangeParameters {
    /// Devices, separated by commas; or repeated, a device each, whose name may then hold commas. All unless told.
    pub(super) device: Option<String>,
    /// Where it is repeated: each.
    #[serde(skip)]
    #[param(ignore)]
    pub(super) devices: Vec<String>,
    /// Only devices of this hardware model.
    #[param(value_type = Option<String>)]
    pub(super) model: Option<HardwareModelId>,
    /// Only devices that this depot serves.
    #[param(value_type = Option<String>)]
    pub(super) depot: Option<DepotId>,
    /// Signals, separated by commas; all unless told.
    signal: Option<String>,
    /// First instant inside; seven days before `to` unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after; behind the newest reading unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Buckets instead of readings: of a length (`15m`, `24h`), or the `day`, `week` or `month` of `timezone`. Buckets are whole
    /// also where they reach beyond `from` and `to`.
    #[param(example = "day")]
    step: Option<String>,
    /// The IANA zone whose days, weeks and months `step` means; UTC unless told.
    #[param(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// What is shown of a bucket, separated by commas: `count`, `min`, `max`, `mean`, `sum`, `first`, `last`, `stddev`, `slope`
    /// (per hour), `p50`, `p95`, `p99`. All but the quantiles unless told.
    #[param(example = "mean,p95")]
    functions: Option<String>,
    /// Which border a bucket holds.
    #[param(inline)]
    #[serde(default)]
    closed: ClosedWord,
    /// Show empty buckets (count 0, the rest null); of readings, mark those that come after a longer pause than usual.
    #[serde(default)]
    gaps: bool,
    /// Of readings: mark those that come after a pause longer than this, instead of three times the device's median interval.
    #[param(value_type = Option<String>, example = "30m")]
    gap_after: Option<Duration>,
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before; the span of time is then that of the first page.
    cursor: Option<String>,
}

/// Which readings of one device are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceParameters {
    /// Signals, separated by commas; all unless told.
    signal: Option<String>,
    /// First instant inside; seven days before `to` unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// First instant after; behind the newest reading unless told.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Summaries in buckets of this length (`15m`, `24h`; or `day`, `week`, `month` of `timezone`) instead of readings. A bucket
    /// holds its end and not its start; those that end after `from` and not after `to` are shown.
    #[param(example = "1h")]
    step: Option<String>,
    /// The IANA zone whose days, weeks and months `step` means; UTC unless told.
    timezone: Option<String>,
    /// Items of a page: 1 to 10,000, 100 unless told. Summaries come whole.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which border a bucket holds.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ClosedWord {
    /// Its start: `[from, to)`.
    Left,
    /// Its end: `(from, to]`.
    #[default]
    Right,
}

/// A checked request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: RangeQuery,
    pub(super) buckets: Option<Buckets>,
    gap_after: GapAfter,
}

/// A row of the answer.
pub(super) enum Item {
    Reading(Row),
    Bucket(Box<Bucket>),
}

impl Item {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Reading(row) => row.place(),
            Self::Bucket(bucket) => bucket.place(),
        }
    }
}

impl Asked {
    pub(super) async fn page(
        &self,
        store: &dyn TelemetryStore,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Item>> {
        match &self.buckets {
            Some(buckets) => {
                let rows = query::buckets(store, &self.query, buckets, after, limit).await?;
                Ok(rows.into_iter().map(|bucket| Item::Bucket(Box::new(bucket))).collect())
            }
            None => {
                let rows = query::readings(store, &self.query, self.gap_after, after, limit).await?;
                Ok(rows.into_iter().map(Item::Reading).collect())
            }
        }
    }

    /// What a cursor holds: a place, and the span of time, which would else move with the newest reading.
    pub(super) fn cursor(&self, place: &Place) -> Vec<String> {
        let millis = |ts: Timestamp| ts.millis().to_string();
        let signal = place.signal.as_ref().map_or_else(String::new, ToString::to_string);
        let TimeRange { from, to } = self.query.range;
        vec![place.device.to_string(), millis(place.at), signal, millis(from), millis(to)]
    }
}

/// The place and the span of time that a cursor holds.
fn read_cursor(page: &PageQuery) -> Result<Option<(Place, TimeRange)>> {
    let Some(key) = page.after(LIST, 5)? else { return Ok(None) };
    let bad = || Error::new(Code::BadCursor, "no cursor of telemetry");
    let [device, at, signal, from, to] = <[String; 5]>::try_from(key).map_err(|_| bad())?;
    let millis = |text: String| text.parse().map(Timestamp::from_millis).map_err(|_| bad());
    let signal = (!signal.is_empty()).then(|| signal.parse()).transpose().map_err(|_| bad())?;
    let place = Place { device: device.parse().map_err(|_| bad())?, at: millis(at)?, signal };
    Ok(Some((place, TimeRange { from: millis(from)?, to: millis(to)? })))
}

fn bad(parameter: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(Code::BadRequest, format!("query: {parameter}: {reason}"))
}

/// From when to when; empty where nothing is said of the end and there is no reading.
fn span(from: Option<Timestamp>, to: Option<Timestamp>, newest: Option<Timestamp>) -> Result<TimeRange> {
    let to = to.or_else(|| newest.map(|newest| newest + Duration::from_millis(1)));
    let to = to.or(from).unwrap_or(Timestamp::MIN);
    let from = from.unwrap_or(to - SPAN_DEFAULT);
    if from > to {
        return Err(bad("from", format!("{from} is after the end of the range, {to}")));
    }
    Ok(TimeRange { from, to })
}

fn read_step(step: Option<&str>, timezone: Option<&str>) -> Result<Option<Step>> {
    let zone = timezone.map_or(Ok(Zone::UTC), str::parse).map_err(|error| bad("timezone", error))?;
    let step = step.map(|text| Step::parse(text, &zone).map_err(|error| bad("step", error))).transpose()?;
    match (timezone, &step) {
        (Some(_), None | Some(Step::Fixed(_))) => {
            Err(bad("timezone", "only days, weeks and months have one: take step=day, week or month"))
        }
        _ => Ok(step),
    }
}

fn check_count(step: &Step, range: TimeRange, most: i64) -> Result<()> {
    let count = step.count(range);
    if count <= most {
        return Ok(());
    }
    Err(bad("step", format!("{step} makes {count} buckets of the range, at most {most} are shown: take a longer one")))
}

fn read_signals(text: Option<&str>) -> Result<Option<Vec<SignalId>>> {
    text.map(|text| super::super::words(Some(text), "signal")).transpose()
}

impl RangeParameters {
    pub(super) fn page(&self) -> PageQuery {
        PageQuery { limit: self.limit, cursor: self.cursor.clone() }
    }

    pub(super) fn read(self, tenant: TenantId, found: Found) -> Result<(Asked, Option<Place>)> {
        let after = read_cursor(&self.page())?;
        let range = after.as_ref().map_or_else(|| span(self.from, self.to, found.newest), |(_, range)| Ok(*range))?;
        let gap_after = match self.gap_after {
            Some(length) => GapAfter::Longer(length),
            None if self.gaps => GapAfter::Usual,
            None => GapAfter::Unmarked,
        };
        let mut functions: Vec<Function> = super::super::words(self.functions.as_deref(), "functions")?;
        if functions.is_empty() {
            functions.extend(Function::ALL.iter().filter(|function| !function.is_quantile()));
        }
        let closed = match self.closed {
            ClosedWord::Left => Closed::Left,
            ClosedWord::Right => Closed::Right,
        };
        let step = read_step(self.step.as_deref(), self.timezone.as_deref())?;
        if step.is_none() && self.functions.is_some() {
            return Err(bad("functions", "they are of buckets: say their length with step"));
        }
        step.as_ref().map_or(Ok(()), |step| check_count(step, range, BUCKETS_MAX))?;
        let buckets = step.map(|step| Buckets { step, closed, functions, gaps: self.gaps });
        let signals = read_signals(self.signal.as_deref())?;
        let query = RangeQuery { tenant, devices: found.devices, signals, range };
        Ok((Asked { query, buckets, gap_after }, after.map(|(place, _)| place)))
    }
}

impl DeviceParameters {
    /// Whether the range says itself where it ends.
    pub(super) fn has_end(&self) -> bool {
        self.to.is_some()
    }

    pub(super) fn page(&self) -> PageQuery {
        PageQuery { limit: self.limit, cursor: self.cursor.clone() }
    }

    pub(super) fn read(self, tenant: TenantId, found: Found) -> Result<(Asked, Option<Place>)> {
        let after = read_cursor(&self.page())?;
        let mut range =
            after.as_ref().map_or_else(|| span(self.from, self.to, found.newest), |(_, range)| Ok(*range))?;
        let step = read_step(self.step.as_deref(), self.timezone.as_deref())?;
        if let Some(step) = &step {
            check_count(step, range, BUCKETS_MAX_WHOLE)?;
            range = TimeRange { from: step.floor(range.from), to: step.floor(range.to) };
        }
        let buckets = step.map(|step| Buckets { step, closed: Closed::Right, functions: Vec::new(), gaps: false });
        let signals = read_signals(self.signal.as_deref())?;
        let query = RangeQuery { tenant, devices: found.devices, signals, range };
        Ok((Asked { query, buckets, gap_after: GapAfter::Unmarked }, after.map(|(place, _)| place)))
    }
}
